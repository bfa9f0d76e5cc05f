//! The flags and keys of a role: what STS is asked for, which wins, and what is wrong with them.

use crate::common::http::send;
use crate::common::sts::FakeSts;
use crate::common::{Mock, TempFile, imds_mock, run, run_any};
use std::net::TcpListener;

use serde_json::{Value, json};

use super::{ARN, HOUR, start, wait_until, with_role};

#[test]
fn sts_is_asked_for_what_the_keys_say_and_flags_override_them() {
    let sts = FakeSts::start(HOUR);
    let mut config = with_role(&sts);
    for (key, value) in [
        ("session_name", json!("from.the@file")),
        ("duration_seconds", json!(1200)),
        ("external_id", json!("a+b/c:d=e")),
        ("policy", json!({"Version": "2012-10-17", "Statement": []})),
        (
            "policy_arns",
            json!(["arn:aws:iam::aws:policy/ReadOnlyAccess"]),
        ),
        (
            "session_tags",
            json!({"team name": "\u{e4} & \u{f6}", "gone": null}),
        ),
    ] {
        config["role"][key] = value;
    }
    let daemon = Mock::with_admin(&config, &[]);
    daemon.assume_with(&sts.user_key("FILE"));
    let asked = sts.calls()[0].parameters.clone();
    for (parameter, value) in [
        ("Action", "AssumeRole"),
        ("RoleArn", ARN),
        ("RoleSessionName", "from.the@file"),
        ("DurationSeconds", "1200"),
        ("ExternalId", "a+b/c:d=e"),
        ("Policy", r#"{"Version":"2012-10-17","Statement":[]}"#),
        (
            "PolicyArns.member.1.arn",
            "arn:aws:iam::aws:policy/ReadOnlyAccess",
        ),
        ("Tags.member.1.Key", "team name"),
        ("Tags.member.1.Value", "\u{e4} & \u{f6}"),
    ] {
        let found = &asked[parameter];
        match (serde_json::from_str::<Value>(found), parameter) {
            (Ok(policy), "Policy") => assert_eq!(policy, config["role"]["policy"]),
            _ => assert_eq!(found, value, "{parameter}"),
        }
    }
    assert_eq!(asked.len(), 10, "{asked:?}");

    let other = "arn:aws:iam::210987654321:role/other";
    let elsewhere = FakeSts::start(HOUR);
    let daemon = Mock::with_admin(
        &config,
        &[
            "--role-arn",
            other,
            "--session-duration",
            "900",
            "--sts-endpoint",
            &elsewhere.url(),
            "--sts-region",
            "rack-10",
        ],
    );
    daemon.assume_with(&elsewhere.user_key("FLAG"));
    let asked = elsewhere.calls()[0].parameters.clone();
    assert_eq!(asked["RoleArn"], other);
    assert_eq!(asked["DurationSeconds"], "900");
    assert_eq!(asked["RoleSessionName"], "from.the@file");
    assert_eq!(sts.calls().len(), 1);
    // All else that follows from the ARN follows from the one that counts.
    assert_eq!(
        daemon.text("/latest/meta-data/iam/security-credentials/"),
        "other"
    );
    assert!(
        daemon
            .text("/latest/dynamic/instance-identity/document")
            .contains("210987654321")
    );
}

#[test]
fn a_flag_is_enough_and_the_session_is_named_after_the_instance() {
    let sts = FakeSts::start(HOUR);
    let config = json!({"instance_id": "i-0abc", "region": "rack-9"});
    let arguments = ["--role-arn", ARN, "--sts-endpoint", &sts.url()];
    let daemon = Mock::with_admin(&config, &arguments);
    daemon.assume_with(&sts.user_key("BOOT"));
    let asked = sts.calls()[0].parameters.clone();
    assert_eq!(asked["RoleSessionName"], "i-0abc");
    assert_eq!(asked["DurationSeconds"], "3600");
    assert_eq!(daemon.verbose()["session_name"], "i-0abc");
}

/// Runs a daemon to its end over `config`; returns its status and what it said.
fn fails(config: &Value, arguments: &[&str]) -> (i32, String) {
    let file = TempFile::new(config.to_string());
    let path = file.path().to_str().expect("UTF-8");
    let all = [
        &["--config", path, "--port", "0", "--admin-port", "0"],
        arguments,
    ]
    .concat();
    let (status, stdout, stderr) = run(&all);
    assert_eq!(stdout, "", "announced, and then ended: {stderr}");
    assert!(stderr.starts_with("imds_mock: "), "{stderr}");
    // What the configuration alone shows, a check says too.
    let check = [&["--check"], &all[..]].concat();
    assert_eq!(run(&check), (status, String::new(), stderr.clone()));
    (status, stderr)
}

#[test]
fn a_wrong_flag_is_64_and_named_with_its_value() {
    let role = json!({"role": {"arn": ARN}});
    for (arguments, value) in [
        (["--role-arn", "app"], "\"app\""),
        (["--role-arn", "arn:aws:iam::123456789012:user/a"], "user/a"),
        (["--role-arn", "arn:aws:iam::12345:role/app-app"], "12345"),
        (["--role-arn", ""], "\"\""),
        (["--session-duration", "899"], "899"),
        (["--session-duration", "3601"], "3601"),
        (["--session-duration", "43200"], "one hour"),
        (["--session-duration", "1h"], "\"1h\""),
        (["--session-duration", "-900"], "-900"),
        (["--session-duration", ""], "\"\""),
        (["--sts-endpoint", "sts.example"], "sts.example"),
        (["--sts-endpoint", "ftp://sts.example/"], "ftp://"),
        (["--sts-endpoint", "http://sts.example/?a=b"], "?a=b"),
        (["--sts-endpoint", ""], "\"\""),
        (["--sts-region", "mars-1"], "mars-1"),
        (["--sts-region", "cn-north-1"], "partition"),
        (["--sts-region", ""], "\"\""),
        (["--admin-port", "65536"], "65536"),
        (["--admin-host", "no such host"], "no such host"),
    ] {
        let (status, stderr) = fails(&role, &arguments);
        assert_eq!(status, 64, "{arguments:?}: {stderr}");
        let named = stderr.starts_with(&format!("imds_mock: {}: ", arguments[0]));
        assert!(named && stderr.contains(value), "{arguments:?}: {stderr}");
    }
}

#[test]
fn a_wrong_key_is_78_and_named_with_file_and_value() {
    let role = |more: Value| {
        let mut role = json!({"arn": ARN});
        role.as_object_mut()
            .expect("an object")
            .extend(more.as_object().expect("an object").clone());
        json!({ "role": role })
    };
    for (config, key, value) in [
        (json!({"role": ARN}), "role", ARN),
        (json!({"role": {"arn": "app"}}), "role.arn", "\"app\""),
        (json!({"role": {"arn": 7}}), "role.arn", "7"),
        (
            json!({"role": {"session_name": "me"}}),
            "role.arn",
            "missing",
        ),
        (
            role(json!({"session_name": "a b"})),
            "role.session_name",
            "\"a b\"",
        ),
        (
            role(json!({"session_name": "a"})),
            "role.session_name",
            "\"a\"",
        ),
        (
            role(json!({"duration_seconds": 7200})),
            "role.duration_seconds",
            "7200",
        ),
        (
            role(json!({"duration_seconds": "1h"})),
            "role.duration_seconds",
            "\"1h\"",
        ),
        (
            role(json!({"external_id": "x"})),
            "role.external_id",
            "\"x\"",
        ),
        (role(json!({"policy": "{"})), "role.policy", "\"{\""),
        (
            role(json!({"policy_arns": ["nope"]})),
            "role.policy_arns",
            "nope",
        ),
        (
            role(json!({"session_tags": {"a": 7}})),
            "role.session_tags",
            "7",
        ),
        (
            role(json!({"sts_endpoint": "sts"})),
            "role.sts_endpoint",
            "\"sts\"",
        ),
        (
            role(json!({"sts_region": "mars-1"})),
            "role.sts_region",
            "\"mars-1\"",
        ),
    ] {
        let (status, stderr) = fails(&config, &[]);
        assert_eq!(status, 78, "{config}: {stderr}");
        assert!(stderr.contains(".json: "), "{stderr}");
        assert!(stderr.contains(&format!(": {key}")), "{key}: {stderr}");
        assert!(stderr.contains(value), "{value}: {stderr}");
    }
    // An instance id that is the session's name has to be fit for it.
    let config = json!({"instance_id": "i(1)", "role": {"arn": ARN}});
    let (status, stderr) = fails(&config, &[]);
    assert_eq!(status, 78);
    assert!(
        stderr.contains("role.session_name") && stderr.contains("instance id"),
        "{stderr}"
    );
}

#[test]
fn a_region_where_sts_cannot_be_says_to_set_one_of_two_keys() {
    let config = json!({"region": "rack-9", "role": {"arn": ARN}});
    let (status, stderr) = fails(&config, &[]);
    assert_eq!(status, 78);
    for part in ["rack-9", "sts_region", "sts_endpoint"] {
        assert!(stderr.contains(part), "{part}: {stderr}");
    }
    for arguments in [
        ["--sts-region", "eu-west-1"],
        ["--sts-endpoint", "http://127.0.0.1:1"],
    ] {
        Mock::with_admin(&config, &arguments);
    }
}

#[test]
fn a_port_that_is_taken_is_69_for_the_admin_service_too() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("bound").port().to_string();
    let host = ["--admin-host", "127.0.0.1", "--admin-port", &port];
    let arguments = [&["--port", "0", "--role-arn", ARN][..], &host].concat();
    let (status, stdout, stderr) = run(&arguments);
    assert_eq!((status, stdout.as_str()), (69, ""), "{stderr}");
    assert!(stderr.contains(&format!("127.0.0.1:{port}")), "{stderr}");
}

#[test]
fn the_admin_service_listens_where_it_is_told() {
    let mut command = imds_mock();
    command.args(["--port", "0", "--admin-port", "0"]);
    let everywhere = Mock::spawn(command, 2, None);
    assert_eq!(everywhere.addresses[1].ip().to_string(), "0.0.0.0");

    let mut command = imds_mock();
    command.args(["--port", "0", "--admin-port", "0"]);
    command.args(["--admin-host", "127.0.0.1", "--admin-host", "::1"]);
    let both = Mock::spawn(command, 3, None);
    for (address, host) in both.addresses[1..].iter().zip(["127.0.0.1", "::1"]) {
        assert_eq!(address.ip().to_string(), host);
        let answer = send(*address, "GET", "/status?verbose", &[], "");
        assert_eq!(answer.status, 200, "{address}");
    }
}

#[test]
fn plain_http_to_another_machine_earns_a_warning() {
    let config = json!({"role": {"arn": ARN, "sts_endpoint": "http://192.0.2.1:5000"}});
    let daemon = Mock::with_admin(&config, &[]);
    let line = daemon.wait_for("warning: ");
    let line = match line.contains("--user") {
        true => daemon.wait_for("not encrypted"),
        false => line,
    };
    assert!(line.contains("http://192.0.2.1:5000"), "{line}");
    let sts = FakeSts::start(HOUR);
    assert!(!start(&sts, &[]).stderr().contains("not encrypted"));
}

#[test]
fn root_certificates_are_asked_for_by_a_variable_that_is_set() {
    let with_bundle = |bundle: &str| {
        let mut command = imds_mock();
        command.env("AWS_CA_BUNDLE", bundle);
        command.args(["--port", "0", "--admin-port", "0", "--role-arn", ARN]);
        command
    };
    // As in every AWS SDK, empty is not set.
    Mock::spawn(with_bundle(""), 2, None);
    for (bundle, said) in [
        ("/no/such/bundle", "No such file"),
        ("/dev/null", "no certificate"),
    ] {
        let (status, stdout, stderr) = run_any(&mut with_bundle(bundle));
        assert_eq!(status, 78, "{stderr}");
        assert_eq!(stdout, b"", "announced, and then ended");
        for part in ["AWS_CA_BUNDLE", bundle, said] {
            assert!(stderr.contains(part), "{part}: {stderr}");
        }
    }
}

#[test]
fn a_bootstrap_file_is_read_at_start_and_never_written() {
    let sts = FakeSts::start(HOUR);
    let key = sts.temporary_key("FILE");
    let file = TempFile::new(key.json());
    let path = file.path().to_str().expect("UTF-8");
    let daemon = start(&sts, &["--bootstrap-file", path]);
    daemon.wait_for("signed by ASIAFILE");
    wait_until("credentials are served", || daemon.status());
    daemon.assume_with(&sts.user_key("POSTED"));
    drop(daemon);
    let content = std::fs::read_to_string(file.path()).expect("still there");
    assert_eq!(content, key.json());
}

#[test]
fn a_bootstrap_file_that_is_of_no_use_is_an_error_at_start() {
    for (content, said) in [
        (&b""[..], "JSON"),
        (b"{}", "AccessKeyId"),
        (b"{\"AccessKeyId\": \"AKIAHUSH\"}", "SecretAccessKey"),
        (
            b"{\"AccessKeyId\": \"AKIAHUSH\", \"SecretAccessKey\": [\"hush-hush\"]}",
            "SecretAccessKey",
        ),
        (b"AKIAHUSH:hush-hush", "JSON"),
        (
            b"{\"AccessKeyId\": \"AKIAHUSH\", \"SecretAccessKey\": \"hush-hush\"}",
            "AccessKeyId must be 16 to 128 letters and digits",
        ),
    ] {
        let file = TempFile::new(content);
        let path = file.path().to_str().expect("UTF-8");
        let (status, stderr) = fails(&json!({"role": {"arn": ARN}}), &["--bootstrap-file", path]);
        assert_eq!(status, 78, "{stderr}");
        for part in ["--bootstrap-file", path, said] {
            assert!(stderr.contains(part), "{part}: {stderr}");
        }
        assert!(!stderr.to_lowercase().contains("hush"), "{stderr}");
    }
    let (status, stderr) = fails(
        &json!({"role": {"arn": ARN}}),
        &["--bootstrap-file", "/no/such/file"],
    );
    assert_eq!(status, 78);
    assert!(stderr.contains("cannot read"), "{stderr}");
}
