//! `role.v1` through the real binary: which documents a reader without a token gets.

use crate::common::http::send;
use crate::common::sts::FakeSts;
use crate::common::{Mock, TempFile, run};
use serde_json::{Value, json};

use super::{ARN, DOCUMENT, HOUR, wait_until, with_role};

const EXTENDED: &str = "/latest/meta-data/iam/security-credentials-extended/app";
const IDENTITY: &str =
    "/latest/meta-data/identity-credentials/ec2/security-credentials/ec2-instance";

/// What a reader without a token gets.
fn by_v1(daemon: &Mock, path: &str) -> Value {
    let answer = send(daemon.address(), "GET", path, &[], "");
    assert_eq!(answer.status, 200, "{path}");
    serde_json::from_slice(&answer.body).expect("JSON")
}

fn by_v2(daemon: &Mock, path: &str) -> Value {
    serde_json::from_str(&daemon.text(path)).expect("JSON")
}

fn fixed() -> Value {
    json!({"arn": ARN, "credentials": {
        "access_key_id": "ASIAX", "secret_access_key": "s", "token": "t"}})
}

#[test]
fn a_separate_session_is_for_whoever_reads_without_a_token() {
    let sts = FakeSts::start(HOUR);
    let mut config = with_role(&sts);
    config["role"]["v1"] = json!("separate");
    config["http_tokens"] = json!("optional");
    config["instance_id"] = json!("i-0abc");
    let daemon = Mock::with_admin(&config, &[]);
    for path in [DOCUMENT, EXTENDED] {
        assert_eq!(by_v1(&daemon, path)["Code"], "Failed");
    }
    daemon.bootstrap(&sts.user_key("BOOT"));
    wait_until("both are served", || {
        daemon.status() && by_v1(&daemon, DOCUMENT)["Code"] == "Success"
    });
    for (served, name) in [
        (by_v2(&daemon, DOCUMENT), "i-0abc"),
        (by_v1(&daemon, DOCUMENT), "i-0abc-v1"),
    ] {
        let id = served["AccessKeyId"].as_str().expect("a key");
        daemon.wait_for(&format!("session {name}, key {id}"));
        let issued = sts.issued();
        let key = issued.iter().find(|key| key.id == id);
        let secret = &key.expect("a session of STS").secret;
        assert_eq!(served["SecretAccessKey"], secret.as_str());
    }
    for key in ["AccessKeyId", "SecretAccessKey", "Token"] {
        let (v1, v2) = (by_v1(&daemon, EXTENDED), by_v2(&daemon, EXTENDED));
        assert_eq!(v1[key], by_v1(&daemon, DOCUMENT)[key]);
        assert_ne!(v1[key], v2[key]);
    }
    let verbose = daemon.verbose();
    assert_eq!(verbose["v1"]["state"], "valid");
    assert_eq!(verbose["v1"]["session_name"], "i-0abc-v1");
    assert_eq!(
        verbose["v1"]["access_key_id"],
        by_v1(&daemon, DOCUMENT)["AccessKeyId"]
    );
}

#[test]
fn nothing_for_version_1_is_a_failure_with_200() {
    let sts = FakeSts::start(HOUR);
    let of_sts = with_role(&sts)["role"].clone();
    for mut role in [of_sts, fixed()] {
        role["v1"] = json!("none");
        let is_sts = role["credentials"].is_null();
        let config = json!({"http_tokens": "optional", "region": "rack-9", "role": role});
        let daemon = Mock::with_admin(&config, &[]);
        if is_sts {
            daemon.assume_with(&sts.user_key("BOOT"));
        }
        for path in [DOCUMENT, EXTENDED] {
            let document = by_v1(&daemon, path);
            assert_eq!(document["Code"], "Failed");
            let message = document["Message"].as_str().expect("a text");
            assert!(message.contains("token"), "{message}");
            assert!(document["AccessKeyId"].is_null());
            assert_eq!(by_v2(&daemon, path)["Code"], "Success");
        }
        assert!(daemon.status());
        assert!(daemon.verbose()["v1"].is_null());
        let info = "/latest/meta-data/iam/info";
        assert_eq!(by_v1(&daemon, info), by_v2(&daemon, info));
    }
}

#[test]
fn the_identity_roles_keys_differ_by_version_and_all_else_by_none() {
    let daemon = Mock::with_admin(&json!({"http_tokens": "optional", "role": fixed()}), &[]);
    let (v1, v2) = (by_v1(&daemon, IDENTITY), by_v2(&daemon, IDENTITY));
    for key in ["AccessKeyId", "SecretAccessKey", "Token"] {
        assert_ne!(v1[key], v2[key], "{key}");
        assert_eq!(
            v1[key].as_str().map(str::len),
            v2[key].as_str().map(str::len)
        );
    }
    for key in ["Code", "Type", "LastUpdated", "Expiration"] {
        assert_eq!(v1[key], v2[key], "{key}");
    }
    for path in [DOCUMENT, EXTENDED, "/latest/meta-data/iam/info"] {
        assert_eq!(by_v1(&daemon, path), by_v2(&daemon, path), "{path}");
    }
}

#[test]
fn a_second_session_of_what_is_written_down_is_an_error() {
    let mut separate = fixed();
    separate["v1"] = json!("separate");
    let failing = json!({"arn": ARN, "code": "Failed", "v1": "separate"});
    let mut wrong = fixed();
    wrong["v1"] = json!("v2");
    for (role, found) in [
        (separate, "\"separate\""),
        (failing, "\"separate\""),
        (wrong, "\"v2\""),
    ] {
        let file = TempFile::new(json!({"role": role}).to_string());
        let path = file.path().to_str().expect("UTF-8");
        let (status, _, stderr) = run(&["--config", path, "--check"]);
        assert_eq!(status, 78, "{stderr}");
        let named = stderr.contains("role.v1: expected same") && stderr.contains(found);
        assert!(named, "{stderr}");
    }
}
