//! Bootstrap credentials offered while a role runs.

use super::*;

#[test]
fn an_offer_replaces_what_works_only_when_it_works_itself() {
    let sts = FakeSts::start(SECOND * 60);
    let (first, second) = (sts.user_key("FIRST"), sts.user_key("SECOND"));
    let started = start_with(&sts, &first);
    started.lines.wait_for("assumed: ");
    let stranger = Key {
        id: "AKIASTRANGER0000".to_owned(),
        ..first.clone()
    };
    started.offer(&stranger);
    let line = started.lines.wait_for("AKIASTRANGER0000 are not taken");
    assert!(line.contains("InvalidClientTokenId"), "{line}");
    assert_eq!(
        started.role.phase(),
        Phase::Valid,
        "a refused offer is no failure of what works"
    );
    started.offer(&second);
    started.lines.wait_for("signed by AKIASECOND");
    assert_eq!(started.now().unwrap(), "ASIASESSION1");
}

#[test]
fn an_offer_made_during_an_outage_is_tried_again_until_sts_answers() {
    let sts = FakeSts::start(SECOND * 60);
    let started = start_with(&sts, &sts.user_key("FIRST"));
    started.lines.wait_for("assumed: ");
    sts.script([Fault::Close, Fault::error(500, "InternalFailure")]);
    started.offer(&sts.user_key("SECOND"));
    started
        .lines
        .wait_for("AKIASECOND000000 are tried again later");
    assert_eq!(started.role.phase(), Phase::Valid);
    started.lines.wait_for("signed by AKIASECOND");
    assert_eq!(sts.calls().len(), 4);
}

#[test]
fn a_flood_of_wrong_offers_stops_neither_renewals_nor_a_right_offer() {
    let sts = FakeSts::start(SECOND * 2);
    let started = start_with(&sts, &sts.user_key("FIRST"));
    started.lines.wait_for("assumed: ");
    let reader = Reader::start(&started.role);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                let json = br#"{"AccessKeyId":"AKIASTRANGER0000","SecretAccessKey":"wrong"}"#;
                started.role.offer(Credentials::parse(json).unwrap());
                thread::sleep(Duration::from_millis(1));
            }
        });
        started.lines.wait_for_nth("renewed: ", 3);
        stop.store(true, Ordering::SeqCst);
    });
    assert_eq!(reader.finish().0, 0);
    started.offer(&sts.user_key("SECOND"));
    started.lines.wait_for("signed by AKIASECOND");
}

#[test]
fn an_offer_that_may_work_later_makes_a_dead_one_go() {
    let sts = FakeSts::start(SECOND * 3);
    let (first, second) = (sts.temporary_key("FIRST"), sts.user_key("SECOND"));
    let started = start_with(&sts, &first);
    started.lines.wait_for("assumed: ");
    sts.refuse_sessions(Some("AccessDenied"));
    sts.expire(&first);
    started.lines.wait_for("failing: ExpiredToken");
    // From now on the dead one is tried at the pace of an outage, not of a refusal.
    sts.always(Fault::error(503, "ServiceUnavailable"));
    started.lines.wait_for("expired: ");
    started.offer(&second);
    let calls_of = |key: &Key| {
        let calls = sts.calls().into_iter().enumerate();
        let by_key = calls.filter(|(_, call)| call.key_id == key.id);
        by_key.map(|(at, _)| at).collect::<Vec<usize>>()
    };
    wait_until(|| calls_of(&second).len() >= 3);
    let last_of_first = calls_of(&first).pop();
    assert!(
        last_of_first < Some(calls_of(&second)[1]),
        "the dead one is still tried"
    );
    sts.always(Fault::None);
    let line = started.lines.wait_for("recovered: ");
    assert!(line.contains("signed by AKIASECOND"), "{line}");
}
