//! getimds against imds_mock: the walk finds exactly what the daemon serves, whatever the daemon
//! asks for and however it fails.

use std::collections::BTreeMap;
use std::process::Command;

use crate::common::catalogue::{ROLE_ARN, imaginary};
use crate::common::crawler::crawl;
use crate::common::{Mock, run_any};
use serde_json::{Value, json};

/// Status, stdout and stderr of getimds.
fn getimds(arguments: &[&str]) -> (i32, Vec<u8>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_getimds"));
    command
        .args(arguments)
        .env_remove("AWS_EC2_METADATA_SERVICE_ENDPOINT");
    run_any(&mut command)
}

fn with_role() -> Value {
    let mut config = imaginary();
    config["tags"] = json!({"Name": "x"});
    config["user_data"] = Value::Null;
    config["user_data_base64"] = json!("AAH/gA==");
    config["role"] = json!({"arn": ROLE_ARN, "credentials": {
        "access_key_id": "ASIAIOSFODNN7EXAMPLE",
        "secret_access_key": "the secret key",
        "token": "the session token",
    }});
    config
}

/// The values of a crawl as `--json` has them.
fn as_json(value: &[u8]) -> Value {
    match std::str::from_utf8(value) {
        Ok(text) => json!(text),
        Err(_) => json!({"base64": base64::Engine::encode(
            &base64::engine::general_purpose::STANDARD, value)}),
    }
}

#[test]
fn a_walk_finds_every_value_that_is_served_and_no_other() {
    for tokens in ["required", "optional"] {
        let mut config = with_role();
        config["http_tokens"] = json!(tokens);
        let mock = Mock::start(&config);
        let address = mock.address().to_string();
        let expected: BTreeMap<String, Value> = crawl(&mock, "/latest/")
            .iter()
            .filter(|(path, _)| !path.ends_with('/'))
            .map(|(path, value)| (path.clone(), as_json(value)))
            .collect();
        assert!(expected.len() > 50, "{} values", expected.len());
        let (status, stdout, stderr) = getimds(&["--json", "--show-secrets", &address]);
        assert_eq!((status, stderr.as_str()), (0, ""));
        let found: BTreeMap<String, Value> = serde_json::from_slice(&stdout).expect("JSON");
        assert_eq!(found, expected);
        let (status, stdout, _) = getimds(&["--paths", &address]);
        let paths = String::from_utf8(stdout).expect("UTF-8");
        let mut paths: Vec<&str> = paths.lines().collect();
        paths.sort_unstable();
        assert_eq!(
            (status, paths),
            (0, expected.keys().map(String::as_str).collect())
        );
    }
}

#[test]
fn a_walk_shows_no_secret_unless_it_is_told_to() {
    let mock = Mock::start(&with_role());
    let address = mock.address().to_string();
    let identity = "/latest/meta-data/identity-credentials/ec2/security-credentials/ec2-instance";
    let document: Value = serde_json::from_str(&mock.text(identity)).expect("JSON");
    let text = |key: &str| document[key].as_str().expect("a text").to_owned();
    let made_up = [text("SecretAccessKey"), text("Token")];
    let secrets = [
        "the secret key",
        "the session token",
        &made_up[0],
        &made_up[1],
    ];
    for arguments in [&[&*address][..], &["--json", &address]] {
        let (status, stdout, _) = getimds(arguments);
        let stdout = String::from_utf8_lossy(&stdout).into_owned();
        assert_eq!(status, 0);
        assert!(
            stdout.contains("ASIAIOSFODNN7EXAMPLE"),
            "the key id is no secret"
        );
        assert!(
            !secrets.iter().any(|secret| stdout.contains(*secret)),
            "{stdout}"
        );
    }
    let (_, stdout, _) = getimds(&["--show-secrets", &address]);
    let stdout = String::from_utf8_lossy(&stdout).into_owned();
    assert!(
        secrets.iter().all(|secret| stdout.contains(*secret)),
        "{stdout}"
    );
}

#[test]
fn one_value_is_printed_as_it_is_served() {
    let mock = Mock::start(&with_role());
    let address = mock.address().to_string();
    for path in [
        "/latest/meta-data/instance-id",
        "latest/user-data",
        "latest/meta-data/",
        "/2011-01-01/meta-data/mac",
        "/latest/meta-data/iam/security-credentials/demo-role",
    ] {
        let served = mock.get(&format!("/{}", path.trim_start_matches('/'))).body;
        let (status, stdout, stderr) = getimds(&[&address, path]);
        assert_eq!((status, stdout, stderr.as_str()), (0, served, ""), "{path}");
    }
    let (status, _, stderr) = getimds(&[&address, "latest/no-such-thing"]);
    assert_eq!(status, 1);
    assert!(
        stderr.contains("no-such-thing") && stderr.contains("404"),
        "{stderr}"
    );
}

#[test]
fn a_walk_goes_on_past_what_is_made_to_fail() {
    let mut config = with_role();
    config["force_status"] = json!({"/latest/meta-data/ami-id": 500});
    let mock = Mock::start(&config);
    let (status, stdout, stderr) = getimds(&["--json", &mock.address().to_string()]);
    assert_eq!(status, 1);
    assert!(stderr.contains("/latest/meta-data/ami-id"), "{stderr}");
    let found: BTreeMap<String, Value> = serde_json::from_slice(&stdout).expect("JSON");
    let values = crawl(&Mock::start(&with_role()), "/latest/");
    let values = values.keys().filter(|path| !path.ends_with('/')).count();
    assert_eq!(found.len(), values - 1);
}

#[test]
fn a_disabled_endpoint_is_said() {
    let mock = Mock::start(&json!({"http_endpoint": "disabled"}));
    let (status, stdout, stderr) = getimds(&[&mock.address().to_string()]);
    assert_eq!((status, stdout.is_empty()), (1, true), "{stderr}");
    assert!(stderr.contains("403"), "{stderr}");
}

#[test]
fn ipv6_and_the_endpoint_variable_lead_to_the_daemon() {
    let mock = Mock::with(&json!({}), &["--host", "::1"]);
    let url = format!("http://{}/", mock.address());
    let path = "latest/meta-data/instance-id";
    let mut command = Command::new(env!("CARGO_BIN_EXE_getimds"));
    command
        .arg("--paths")
        .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", &url);
    let (status, stdout, stderr) = run_any(&mut command);
    assert_eq!(status, 0, "{stderr}");
    assert!(String::from_utf8_lossy(&stdout).contains(path));
    let (status, stdout, _) = getimds(&[&mock.address().to_string(), path]);
    assert_eq!(
        (status, stdout),
        (0, mock.text(&format!("/{path}")).into_bytes())
    );
}
