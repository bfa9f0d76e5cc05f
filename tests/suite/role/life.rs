//! Credentials through their life: obtained, renewed, served to their end, by the right clock.

use super::*;

#[test]
fn ten_renewals_never_show_an_expired_empty_or_mixed_credential() {
    let sts = FakeSts::start(SECOND * 2);
    let key = sts.user_key("BOOT");
    let started = start_with(&sts, &key);
    started.lines.wait_for("assumed: ");
    let reader = Reader::start(&started.role);
    started.lines.wait_for_nth("renewed: ", 10);
    let (failures, readings) = reader.finish();
    assert_eq!(failures, 0, "of {readings} readings");
    assert!(readings > 100, "only {readings} readings");

    // The first call is signed by the bootstrap credentials, each later one by the session before.
    let signers: Vec<String> = sts.calls().into_iter().map(|call| call.key_id).collect();
    assert_eq!(signers[0], key.id);
    for (n, signer) in signers[1..].iter().enumerate() {
        assert_eq!(*signer, format!("ASIASESSION{n}"));
    }
    // And no more of them than half of the life asks for.
    let calls = sts.calls();
    for pair in calls.windows(2) {
        let between = pair[1].at - pair[0].at;
        assert!(between >= SECOND * 9 / 10, "{between:?}");
    }
}

#[test]
fn sts_is_asked_for_exactly_what_is_configured() {
    let sts = FakeSts::start(SECOND * 60);
    let started = start_with(&sts, &sts.user_key("BOOT"));
    let line = started.lines.wait_for("assumed: ");
    let asked = sts.calls().remove(0).parameters;
    for (name, value) in [
        ("Action", "AssumeRole"),
        ("Version", "2011-06-15"),
        ("RoleArn", ARN),
        ("RoleSessionName", "i-1234567890abcdef0"),
        ("DurationSeconds", "3600"),
        ("ExternalId", "a+b/c:d=e"),
        ("Policy", "{\"Version\": \"2012-10-17\"}"),
        (
            "PolicyArns.member.1.arn",
            "arn:aws:iam::aws:policy/ReadOnlyAccess",
        ),
        ("Tags.member.1.Key", "team name"),
        ("Tags.member.1.Value", "ä & ö"),
    ] {
        assert_eq!(asked.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert_eq!(asked.len(), 10);
    for part in [
        "role app",
        "session i-1234567890abcdef0",
        "key ASIASESSION0",
        "signed by AKIABOOT",
    ] {
        assert!(line.contains(part), "{line}");
    }
}

#[test]
fn before_bootstrap_there_is_a_failure_and_then_the_first_call_is_immediate() {
    let sts = FakeSts::start(SECOND * 60);
    let started = start(&sts, |_| {});
    assert_eq!(started.role.phase(), Phase::Waiting);
    assert!(!started.is_good());
    let (code, message) = started.now().unwrap_err();
    assert_eq!(code, FailureCode::Failed);
    assert!(message.contains("/bootstrap/creds"), "{message}");
    let ((), time) = timed(|| {
        started.offer(&sts.temporary_key("TEMP"));
        started.lines.wait_for("assumed: ");
    });
    time.assert_within(SECOND);
    assert!(started.is_good());
    assert_eq!(started.role.phase(), Phase::Valid);
    let status = started.verbose();
    assert_eq!(status.access_key_id.as_deref(), Some("ASIASESSION0"));
    assert!(status.expiration.is_some() && status.next_attempt.is_some());
    assert!(status.last_attempt.is_some() && status.last_error.is_none());
}

#[test]
fn an_outage_shorter_than_the_lifetime_is_not_seen_by_readers() {
    let sts = FakeSts::start(SECOND * 4);
    let started = start_with(&sts, &sts.user_key("BOOT"));
    started.lines.wait_for("assumed: ");
    let reader = Reader::start(&started.role);
    sts.always(Fault::error(503, "ServiceUnavailable"));
    let line = started.lines.wait_for("failing: ");
    assert!(
        line.contains("ServiceUnavailable") && line.contains("next try"),
        "{line}"
    );
    assert_eq!(started.role.phase(), Phase::Stale);
    assert!(started.is_good());
    let error = started.verbose().last_error.unwrap();
    assert_eq!(error.code, "ServiceUnavailable");
    sts.always(Fault::None);
    started.lines.wait_for("recovered: ");
    assert_eq!(started.role.phase(), Phase::Valid);
    assert_eq!(reader.finish().0, 0);
}

#[test]
fn in_a_longer_outage_the_session_is_served_to_its_end_and_not_longer() {
    let sts = FakeSts::start(SECOND * 2);
    let key = sts.user_key("BOOT");
    let started = start_with(&sts, &key);
    started.lines.wait_for("assumed: ");
    let Current::Valid(session) = started.role.current(Date::now(), RoleDelivery::V2) else {
        panic!("nothing is served")
    };
    let reader = Reader::start(&started.role);
    sts.always(Fault::Close);
    // Every reading until the expiry gives the session, every one after it the failure.
    loop {
        let before = Date::now();
        let is_valid = matches!(
            started.role.current(Date::now(), RoleDelivery::V2),
            Current::Valid(_)
        );
        let after = Date::now();
        assert!(
            is_valid || after >= session.expires(),
            "withdrawn too early"
        );
        assert!(!is_valid || before < session.expires(), "served too long");
        if !is_valid {
            break;
        }
        thread::sleep(Duration::from_millis(5));
    }
    started.lines.wait_for("expired: ");
    assert_eq!(started.role.phase(), Phase::Failed);
    assert!(!started.is_good());
    let (code, message) = started.now().unwrap_err();
    assert_eq!(code, FailureCode::Failed);
    assert!(message.contains("NoAnswer"), "{message}");
    wait_until(|| reader.failures.load(Ordering::SeqCst) > 0);
    sts.always(Fault::None);
    let (_, mended) = timed(|| started.lines.wait_for("recovered: "));
    // Before the expiry it waits up to 20 s.
    mended.assert_within(SECOND * 8);
    assert_eq!(sts.calls().last().unwrap().key_id, key.id);
    let (failures, readings) = reader.finish();
    assert!(failures < readings);
    assert_eq!(started.lines.count("failing: "), 1, "one line a change");
}

#[test]
fn a_hanging_sts_delays_neither_readers_nor_offers_nor_the_stop() {
    let sts = FakeSts::start(SECOND * 2);
    let started = start(&sts, |options| options.limits = Limits::default());
    started.offer(&sts.user_key("BOOT"));
    started.lines.wait_for("assumed: ");
    sts.script([Fault::Hang]);
    sts.wait_for_calls(2);
    let ((), readings) = timed(|| {
        for _ in 0..200 {
            let _ = (started.now(), started.is_good(), started.verbose());
        }
    });
    readings.assert_within(Duration::from_millis(200));
    // The expiry is noticed while the call hangs, and an offer is tried.
    let line = started.lines.wait_for("expired: ");
    assert!(line.contains("STS has not answered yet"), "{line}");
    let (_, message) = started.now().unwrap_err();
    assert!(message.contains("expired at"), "{message}");
    started.offer(&sts.user_key("OTHER"));
    started.lines.wait_for("signed by AKIAOTHER");
    assert!(started.is_good());
    let ((), stopped) = timed(|| {
        started.role.stop();
        let lines = Arc::downgrade(&started.lines.0);
        drop(started);
        // The thread, and with it the log it was given, is gone although a call still hangs.
        wait_until(|| lines.strong_count() == 0);
    });
    stopped.assert_within(SECOND);
}

#[test]
fn a_session_that_is_refused_falls_back_to_the_bootstrap_credentials() {
    let codes = ["AccessDenied", "ExpiredToken", "InvalidClientTokenId"];
    side_by_side(codes, |code| {
        let sts = FakeSts::start(SECOND * 2);
        sts.refuse_sessions(Some(code));
        let started = start_with(&sts, &sts.user_key("BOOT"));
        started.lines.wait_for("assumed: ");
        let reader = Reader::start(&started.role);
        let line = started.lines.wait_for_nth("renewed: ", 2);
        assert!(
            line.contains("signed by AKIABOOT00000000 because the session was refused"),
            "{line}"
        );
        assert!(line.contains(code), "{line}");
        assert_eq!(reader.finish().0, 0, "{code}");
        assert_eq!(started.lines.count("failing: "), 0, "{code}");
    });
}

#[test]
fn the_clock_of_sts_rules_however_wrong_ours_is() {
    side_by_side([-30, 2, 9000], |hours| {
        let offset = time::Duration::hours(hours);
        let sts = FakeSts::start(SECOND * 3);
        sts.set_clock_offset(offset);
        let started = start_with(&sts, &sts.user_key("BOOT"));
        started.lines.wait_for("clock: ");
        started.lines.wait_for("assumed: ");
        assert_eq!(
            started.lines.count("failing: "),
            0,
            "corrected within the first try"
        );
        let correction = started.verbose().clock_correction_seconds;
        assert!(
            (correction - offset.whole_seconds()).abs() <= 2,
            "{correction}"
        );
        started.lines.wait_for_nth("renewed: ", 2);
        sts.always(Fault::error(500, "InternalFailure"));
        let Current::Valid(session) = started.role.current(Date::now(), RoleDelivery::V2) else {
            panic!("nothing is served")
        };
        started.lines.wait_for("expired: ");
        // By STS's clock, or at most the two seconds earlier that `Date` leaves open.
        let late = Date::from(std::time::SystemTime::from(sts.now())) - session.expires();
        assert!(
            late > time::Duration::seconds(-2) && late < time::Duration::SECOND,
            "{late}"
        );
    });
}

#[test]
fn a_wrong_date_on_a_refusal_withdraws_nothing() {
    side_by_side([-10, 10], |hours| {
        let sts = FakeSts::start(SECOND * 6);
        let started = start_with(&sts, &sts.user_key("BOOT"));
        started.lines.wait_for("assumed: ");
        let reader = Reader::start(&started.role);
        // A proxy that answers in the place of STS.
        sts.always(Fault::error(503, "ServiceUnavailable"));
        sts.set_clock_offset(time::Duration::hours(hours));
        started.lines.wait_for("failing: ");
        assert_eq!(started.role.phase(), Phase::Stale);
        let correction = started.verbose().clock_correction_seconds;
        assert!(correction.abs() <= 2, "{correction}");
        sts.set_clock_offset(time::Duration::ZERO);
        sts.always(Fault::None);
        started.lines.wait_for("recovered: ");
        let (failures, readings) = reader.finish();
        assert_eq!(failures, 0, "of {readings} readings");
    });
}

#[test]
fn what_there_is_stays_the_same_until_it_changes() {
    let sts = FakeSts::start(SECOND * 60);
    let started = start_with(&sts, &sts.user_key("BOOT"));
    started.lines.wait_for("assumed: ");
    let first = started.role.current(Date::now(), RoleDelivery::V2);
    assert!(first.is(&started.role.current(Date::now(), RoleDelivery::V2)));
    started.offer(&sts.user_key("OTHER"));
    started.lines.wait_for("renewed: ");
    assert!(!first.is(&started.role.current(Date::now(), RoleDelivery::V2)));
}
