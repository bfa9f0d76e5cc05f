//! What the metadata service shows of a role's life, and that nothing waits for STS.

use std::time::Instant;

use serde_json::json;

use super::{DOCUMENT, HOUR, SECOND, start, wait_until};
use crate::common::sts::{FakeSts, Fault};
use crate::common::{TOKEN, http};

#[test]
fn access_denied_is_the_document_of_a_role_that_may_not_be_assumed() {
    let sts = FakeSts::start(HOUR);
    sts.always(Fault::error(403, "AccessDenied"));
    let daemon = start(&sts, &[]);
    daemon.bootstrap(&sts.user_key("BOOT"));
    daemon.wait_for("failing: AccessDenied");
    let document = daemon.document();
    assert_eq!(document["Code"], "AssumeRoleUnauthorizedAccess");
    let message = document["Message"].as_str().expect("a text");
    let said = "AccessDenied: HTTP 403, as the test wanted";
    assert!(message.contains(said), "{message}");
    assert!(document["LastUpdated"].is_string());
    assert_eq!(document.as_object().expect("an object").len(), 3);
    assert!(!daemon.status());
    let verbose = daemon.verbose();
    assert_eq!(verbose["state"], "failed");
    let error = json!({"code": "AccessDenied", "message": "HTTP 403, as the test wanted"});
    assert_eq!(verbose["last_error"], error);
    assert!(verbose["next_attempt"].is_string());

    // Any other no is a plain failure.
    sts.always(Fault::error(400, "ValidationError"));
    daemon.bootstrap(&sts.user_key("AGAIN"));
    daemon.wait_for("failing: ValidationError");
    assert_eq!(daemon.document()["Code"], "Failed");
    assert_eq!(daemon.get(DOCUMENT).status, 200);
}

#[test]
fn credentials_are_served_through_an_outage_until_they_expire_and_no_longer() {
    let sts = FakeSts::start(SECOND * 3);
    let daemon = start(&sts, &[]);
    daemon.assume_with(&sts.user_key("BOOT"));
    let first = sts.issued()[0].clone();
    sts.always(Fault::error(503, "ServiceUnavailable"));
    daemon.wait_for("failing: ServiceUnavailable");
    assert_eq!(daemon.verbose()["state"], "stale");
    let expires = first.expires.expect("sessions expire");
    loop {
        let asked = time::OffsetDateTime::now_utc();
        let document = daemon.document();
        let answered = time::OffsetDateTime::now_utc();
        if document["Code"] == "Success" {
            assert!(asked < expires, "served {} after its end", asked - expires);
            assert_eq!(document["SecretAccessKey"], first.secret.as_str());
        } else {
            assert!(
                answered >= expires,
                "withdrawn {} early",
                expires - answered
            );
            assert_eq!(document["Code"], "Failed");
            break;
        }
    }
    daemon.wait_for("expired: ");
    assert!(!daemon.status());
    sts.always(Fault::None);
    daemon.wait_for("recovered: ");
    assert!(daemon.status());
    assert_ne!(daemon.served(), first.id);
}

#[test]
fn each_document_read_through_renewals_is_whole() {
    let sts = FakeSts::start(SECOND * 2);
    let daemon = start(&sts, &[]);
    daemon.assume_with(&sts.user_key("BOOT"));
    let request = http::request(
        "GET",
        DOCUMENT,
        &[(TOKEN, daemon.token()), ("Connection", "keep-alive")],
    );
    let mut connection = daemon.connect();
    let mut seen = std::collections::BTreeSet::new();
    let mut last_updated = String::new();
    while seen.len() < 5 {
        let before = time::OffsetDateTime::now_utc();
        let answer = connection.send(&request).answer();
        let document: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
        let text = |key: &str| document[key].as_str().expect("a text").to_owned();
        assert_eq!(text("Code"), "Success", "{document}");
        let id = text("AccessKeyId");
        let n = id.strip_prefix("ASIASESSION").expect("a session's");
        assert!(text("SecretAccessKey").contains(&format!("/{n}/")));
        assert!(text("Token").contains(&format!("/{n}/")));
        let key = &sts.issued()[n.parse::<usize>().expect("a number")];
        let expires = key.expires.expect("sessions expire");
        assert!(expires > before, "an expired one");
        let format = &time::format_description::well_known::Rfc3339;
        assert_eq!(text("Expiration"), expires.format(format).expect("a date"));
        assert!(text("LastUpdated") >= last_updated, "back in time");
        last_updated = text("LastUpdated");
        seen.insert(id);
    }
}

#[test]
fn while_sts_hangs_every_answer_is_as_fast_as_ever() {
    let sts = FakeSts::start(HOUR);
    sts.always(Fault::Hang);
    let daemon = start(&sts, &[]);
    let token = daemon.token().to_owned();
    let answers = |offer: &dyn Fn()| {
        let since = Instant::now();
        for _ in 0..50 {
            assert!(!daemon.status());
            assert_eq!(daemon.verbose()["state"], "waiting");
            assert_eq!(daemon.document()["Code"], "Failed");
            assert_eq!(daemon.ask("GET", "/", &[(TOKEN, &token)]).status, 200);
            offer();
        }
        since.elapsed()
    };
    let before = answers(&|| {});
    daemon.bootstrap(&sts.user_key("BOOT"));
    sts.wait_for_calls(1);
    // Nor does an offer wait for the one before.
    let took = answers(&|| daemon.bootstrap(&sts.user_key("MORE")));
    assert!(took < SECOND + before * 5, "{before:?}, then {took:?}");
    // Less than the time that a call may take, so it was still hanging.
    assert!(daemon.document()["Message"].as_str().is_some());
    let message = daemon.document()["Message"].to_string();
    assert!(message.contains("not been answered"), "{message}");
}

#[test]
fn told_to_stop_while_sts_hangs_it_ends_within_a_second() {
    for fault in [Fault::Hang, Fault::Drip] {
        let sts = FakeSts::start(HOUR);
        sts.always(fault);
        let daemon = start(&sts, &[]);
        daemon.bootstrap(&sts.user_key("BOOT"));
        sts.wait_for_calls(1);
        daemon.stops_within_a_second("TERM");
    }
}

#[test]
fn a_session_that_may_not_renew_itself_is_renewed_by_the_bootstrap_credentials() {
    let sts = FakeSts::start(SECOND * 2);
    sts.refuse_sessions(Some("AccessDenied"));
    let daemon = start(&sts, &[]);
    let key = sts.user_key("BOOT");
    daemon.assume_with(&key);
    let line = daemon.wait_for("renewed: ");
    assert!(line.contains("signed by AKIABOOT"), "{line}");
    assert!(
        line.contains("the session was refused: AccessDenied"),
        "{line}"
    );
    let state = daemon.verbose();
    assert_eq!(state["state"], "valid", "{state}");
}

#[test]
fn each_change_of_state_is_one_line() {
    let sts = FakeSts::start(SECOND * 2);
    let daemon = start(&sts, &[]);
    daemon.assume_with(&sts.user_key("BOOT"));
    daemon.wait_for("renewed: ");
    sts.always(Fault::error(500, "InternalFailure"));
    daemon.wait_for("expired: ");
    sts.always(Fault::None);
    daemon.wait_for("recovered: ");
    wait_until("credentials are served", || daemon.status());
    let said = daemon.stderr();
    let count = |part: &str| said.matches(part).count();
    for once in ["assumed: ", "failing: ", "expired: ", "recovered: "] {
        assert_eq!(count(&format!("imds_mock: {once}")), 1, "{once}: {said}");
    }
    let failing = daemon.wait_for("failing: ");
    for part in ["InternalFailure", "next try 2", "served until 2"] {
        assert!(failing.contains(part), "{part}: {failing}");
    }
}
