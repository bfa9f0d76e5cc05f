//! What is said of clients: each verdict earned and not earned, and the exit status of `--fail-on`.

use crate::common::http::request;
use crate::common::{Connection, Mock, TOKEN, TOKEN_TTL, run};
use serde_json::{Value, json};

const MAC: &str = "/latest/meta-data/mac";
const SPOT: &str = "/latest/meta-data/spot/instance-action";

/// The verdicts of this test's one client, with their counts.
fn verdicts(mock: &Mock) -> Value {
    let answer = mock.call("GET", "/verdicts", "");
    assert_eq!(answer.status, 200);
    let clients: Value = serde_json::from_slice(&answer.body).expect("JSON");
    let clients = clients.as_object().expect("an object");
    assert!(clients.keys().all(|client| client == "127.0.0.1"));
    let said = clients
        .values()
        .flat_map(|said| said.as_array().expect("a list"));
    let named = said.map(|said| {
        (
            said["verdict"].as_str().unwrap().to_owned(),
            said["count"].clone(),
        )
    });
    named.collect::<serde_json::Map<_, _>>().into()
}

#[test]
fn keys_read_without_a_token_are_told_of() {
    let role = json!({"arn": "arn:aws:iam::123456789012:role/demo", "credentials": {
        "access_key_id": "ASIAX", "secret_access_key": "s", "token": "t"}});
    let mut config = json!({"http_tokens": "optional", "role": role});
    let keys = [
        "/latest/meta-data/iam/security-credentials/demo",
        "/latest/meta-data/iam/security-credentials-extended/demo",
        "/latest/meta-data/identity-credentials/ec2/security-credentials/ec2-instance",
    ];
    let others = [
        "/latest/meta-data/iam/info",
        "/latest/meta-data/iam/security-credentials/",
    ];
    let mock = Mock::with_admin(&config, &[]);
    for path in keys.into_iter().chain(others) {
        assert_eq!(mock.ask("GET", path, &[]).status, 200);
        mock.ask("HEAD", path, &[]);
        mock.get(path);
    }
    assert_eq!(verdicts(&mock), json!({"v1": 10, "v1-credentials": 3}));
    // A document without keys is none of them.
    config["role"]["v1"] = json!("none");
    let mock = Mock::with_admin(&config, &[]);
    mock.ask("GET", keys[0], &[]);
    assert_eq!(verdicts(&mock), json!({"v1": 1}));
}

/// Asks for one path so many times, on one connection.
fn read(mock: &Mock, times: usize, fields: &[(&str, &str)]) {
    let mut connection: Connection = mock.connect();
    let fields = [fields, &[("Connection", "keep-alive")]].concat();
    for _ in 0..times {
        connection.send(request("GET", MAC, &fields));
        connection.answer();
    }
}

#[test]
fn a_client_that_does_everything_right_earns_no_verdict() {
    let mock = Mock::with_admin(&json!({}), &["--fail-on", "v1,no-token,token-per-request"]);
    let interruption = "{\"type\": \"spot-interruption\", \"action\": \"stop\"}";
    assert_eq!(mock.call("POST", "/events", interruption).status, 201);
    for path in [
        "/latest/",
        "/latest/meta-data/",
        MAC,
        SPOT,
        "/latest/meta-data/nothing",
    ] {
        mock.get(path);
    }
    read(&mock, 9, &[(TOKEN, mock.token())]);
    // A token that died is replaced.
    mock.call("POST", "/clock", "{\"advance\": \"6h\"}");
    mock.get(SPOT);
    mock.ask("GET", SPOT, &[(TOKEN, &mock.new_token(60))]);
    assert_eq!(verdicts(&mock), json!({}));
}

#[test]
fn v1_and_no_token_are_told_apart() {
    let mock = Mock::with_admin(&json!({"force_status": {"/forced": 401}}), &[]);
    let fault = "{\"path\": \"/faulty\", \"effect\": \"status\", \"status\": 401}";
    assert_eq!(mock.call("POST", "/faults", fault).status, 201);
    mock.ask("GET", "/forced", &[]);
    mock.ask("GET", "/faulty", &[]);
    assert_eq!(verdicts(&mock), json!({}));
    mock.ask("GET", MAC, &[]);
    mock.ask("GET", "/latest/", &[]);
    assert_eq!(verdicts(&mock), json!({"no-token": 2}));

    let mock = Mock::with_admin(&json!({"http_tokens": "optional"}), &[]);
    mock.get(MAC);
    mock.ask("GET", "/latest/meta-data/", &[(TOKEN, "dead")]);
    assert_eq!(verdicts(&mock), json!({}));
    mock.ask("GET", MAC, &[]);
    assert_eq!(verdicts(&mock), json!({"v1": 1}));
}

#[test]
fn a_token_for_each_read_is_told() {
    let mock = Mock::with_admin(&json!({}), &[]);
    for n in 1..=5 {
        assert_eq!(verdicts(&mock), json!({}));
        let token = mock.new_token(60);
        let path = format!("/latest/meta-data/{n}");
        mock.ask("GET", &path, &[(TOKEN, &token)]);
    }
    assert_eq!(verdicts(&mock), json!({"token-per-request": 5}));
    mock.get(MAC);
    read(&mock, 2, &[(TOKEN, mock.token())]);
    assert_eq!(verdicts(&mock), json!({}));
}

#[test]
fn the_third_refusal_of_one_token_is_told() {
    let mock = Mock::with_admin(&json!({}), &[]);
    let token = mock.new_token(60);
    mock.call("POST", "/clock", "{\"advance\": \"1m\"}");
    for count in [
        json!({}),
        json!({}),
        json!({"ignored-401": 1}),
        json!({"ignored-401": 2}),
    ] {
        assert_eq!(mock.ask("GET", MAC, &[(TOKEN, &token)]).status, 401);
        assert_eq!(verdicts(&mock), count);
    }
    // Also when it is a fault that kills tokens.
    mock.call("DELETE", "/requests", "");
    mock.call(
        "POST",
        "/faults",
        "{\"path\": \"*\", \"effect\": \"expired-token\"}",
    );
    read(&mock, 3, &[(TOKEN, mock.token())]);
    assert_eq!(verdicts(&mock), json!({"ignored-401": 1}));
}

#[test]
fn who_reads_on_after_an_interruption_is_told() {
    let mock = Mock::with_admin(&json!({}), &[]);
    let interruption = "{\"type\": \"spot-interruption\", \"action\": \"terminate\"}";
    let advance = "{\"advance\": \"121s\"}";
    assert_eq!(mock.call("POST", "/events", interruption).status, 201);
    mock.call("POST", "/clock", advance);
    mock.get(MAC);
    // It had not read of it.
    assert_eq!(verdicts(&mock), json!({}));
    mock.call("POST", "/clock", "{\"reset\": true}");
    assert_eq!(mock.get(SPOT).status, 200);
    mock.get(MAC);
    assert_eq!(verdicts(&mock), json!({}));
    mock.call("POST", "/clock", advance);
    mock.get(SPOT);
    mock.get("/latest/meta-data/spot/termination-time");
    assert_eq!(verdicts(&mock), json!({}));
    mock.get(MAC);
    mock.get("/latest/user-data");
    assert_eq!(verdicts(&mock), json!({"ignored-spot": 2}));

    // The older document says it as well.
    mock.call("DELETE", "/requests", "");
    mock.get("/latest/meta-data/spot/termination-time");
    mock.get(MAC);
    assert_eq!(verdicts(&mock), json!({"ignored-spot": 1}));
}

#[test]
fn eleven_reads_of_one_path_in_a_moment_are_told() {
    let mock = Mock::with_admin(&json!({}), &[]);
    read(&mock, 10, &[(TOKEN, mock.token())]);
    (0..20).for_each(|n| drop(mock.get(&format!("/latest/meta-data/{n}"))));
    (0..4).for_each(|_| drop(mock.new_token(60)));
    assert_eq!(verdicts(&mock), json!({}));
    read(&mock, 3, &[(TOKEN, mock.token())]);
    assert_eq!(verdicts(&mock), json!({"fast-poll": 3}));
    mock.call("DELETE", "/requests", "");
    read(&mock, 10, &[(TOKEN, mock.token())]);
    assert_eq!(verdicts(&mock), json!({}));
}

#[test]
fn fail_on_ends_with_3_and_says_who_did_what() {
    let config = json!({"http_tokens": "optional"});
    // Without an admin service too.
    let mock = Mock::with(&config, &["--fail-on", "no-token,v1"]);
    mock.ask("GET", MAC, &[]);
    mock.ask("GET", MAC, &[]);
    let (status, _, stderr) = mock.stop("TERM");
    assert_eq!(status.code(), Some(3), "{stderr}");
    let said = "imds_mock: --fail-on v1: 127.0.0.1 was answered without a token (2 times)\n";
    assert!(stderr.ends_with(said), "{stderr}");
    assert_eq!(stderr.matches("--fail-on").count(), 1, "{stderr}");

    // What happened has happened, whatever is emptied.
    let mock = Mock::with_admin(&config, &["--fail-on", "fast-poll", "--fail-on", "v1"]);
    mock.ask("GET", MAC, &[]);
    mock.call("DELETE", "/requests", "");
    assert_eq!(verdicts(&mock), json!({}));
    let (status, _, stderr) = mock.stop("INT");
    assert_eq!(status.code(), Some(3), "{stderr}");
    assert!(
        stderr.contains("127.0.0.1 was answered without a token (once)\n"),
        "{stderr}"
    );
}

#[test]
fn with_a_command_its_own_failure_wins() {
    let getimds = env!("CARGO_BIN_EXE_getimds");
    let one = "\"$0\" \"$AWS_EC2_METADATA_SERVICE_ENDPOINT\" latest/meta-data/mac";
    for (own, flag, status) in [
        (0, "token-per-request", 3),
        (7, "token-per-request", 7),
        (0, "v1", 0),
    ] {
        let script = format!("for n in 1 2 3 4 5; do {one} || exit 9; done; exit {own}");
        let (found, _, stderr) = run(&["--fail-on", flag, "--", "sh", "-c", &script, getimds]);
        assert_eq!(found, status, "{stderr}");
        let said = "127.0.0.1 asked for a token for every read (5 times)\n";
        assert_eq!(
            stderr.contains(said),
            flag == "token-per-request",
            "{stderr}"
        );
    }
}

#[test]
fn what_fail_on_does_not_name_is_no_failure() {
    let every = "no-token,token-per-request,ignored-401,ignored-spot,fast-poll";
    let mock = Mock::with(&json!({"http_tokens": "optional"}), &["--fail-on", every]);
    mock.ask("GET", MAC, &[]);
    mock.ask("PUT", "/latest/api/token", &[(TOKEN_TTL, "60")]);
    let (status, _, stderr) = mock.stop("TERM");
    assert_eq!(
        (status.code(), stderr.contains("--fail-on")),
        (Some(0), false),
        "{stderr}"
    );
}

#[test]
fn an_unknown_verdict_is_wrong_usage_and_the_known_ones_are_named() {
    for (list, unknown) in [
        ("v3", "v3"),
        ("v1,V1", "V1"),
        ("", ""),
        ("v1,", ""),
        ("all", "all"),
    ] {
        let (status, stdout, stderr) = run(&["--port", "0", "--fail-on", list]);
        assert_eq!((status, stdout.as_str()), (64, ""), "{list}: {stderr}");
        let said = "--fail-on: expected some of v1, v1-credentials, no-token, token-per-request, ignored-401, \
                    ignored-spot, fast-poll, found ";
        assert!(stderr.contains(&format!("{said}{unknown:?}\n")), "{stderr}");
    }
}
