//! The administrative service itself: what a reload keeps, what it shows of the configuration, who
//! may use it and how it is spoken to.

use crate::common::admin::{SECRET, rich, role};
use crate::common::http::{Connection, End, request};
use crate::common::{Mock, TOKEN, TempFile, imds_mock, run};
use serde_json::{Value, json};

#[test]
fn a_reload_drops_changed_values_and_keeps_what_happens() {
    let live = Mock::live(json!({"instance_id": "i-old", "user_data": "old"}));
    live.clock(json!({"set": "2030-01-01T00:00:00Z"}));
    let token = live.new_token(21600);
    let event = json!({"type": "rebalance-recommendation", "at": "2030-01-01T00:00:00Z"});
    live.add("/events", event);
    live.add(
        "/faults",
        json!({"path": "/latest/meta-data/mac", "effect": "status", "status": 503}),
    );
    let change = |live: &Mock| {
        live.change("PUT", "/metadata/instance-id", "i-changed");
        live.change("PUT", "/metadata/extra", "x");
        live.change("DELETE", "/user-data", "");
    };
    let kept = |live: &Mock| {
        assert_eq!(live.shown("/events").as_array().map(Vec::len), Some(1));
        assert_eq!(live.shown("/faults").as_array().map(Vec::len), Some(1));
        let year = live.shown("/clock")["time"].to_string();
        assert!(year.starts_with("\"2030-01-01T00:"), "{year}");
        assert_eq!(live.meta_data("mac").0, 503);
        assert_eq!(
            live.meta_data("events/recommendations/rebalance").1,
            "{\"noticeTime\": \"2030-01-01T00:00:00Z\"}"
        );
        assert_eq!(live.ask("GET", "/", &[(TOKEN, &token)]).status, 200);
    };
    change(&live);
    let answer = live.call("POST", "/reload", "");
    assert_eq!((answer.status, answer.text()), (200, "{\"warnings\":[]}\n"));
    assert_eq!(live.meta_data("instance-id").1, "i-old");
    assert_eq!(live.meta_data("extra").0, 404);
    assert_eq!(live.read("/latest/user-data").text(), "old");
    kept(&live);

    live.rewrite(json!({
        "instance_id": "i-new", "hostnme": "x",
        "events": [{"type": "spot-interruption", "action": "stop"}],
        "faults": [{"path": "/*", "effect": "reset"}],
    }));
    let answer = live.call("POST", "/reload", "");
    assert_eq!(answer.status, 200);
    assert!(answer.text().contains("hostnme"), "{}", answer.text());
    assert_eq!(live.meta_data("instance-id").1, "i-new");
    assert_eq!(live.read("/latest/user-data").status, 404);
    assert_eq!(
        live.meta_data("spot/instance-action").0,
        404,
        "events stay as they are"
    );
    kept(&live);
}

#[test]
fn a_wrong_file_is_422_with_its_errors_and_changes_nothing() {
    let live = Mock::live(json!({"instance_id": "i-old"}));
    live.change("PUT", "/metadata/extra", "x");
    for (content, expected) in [
        (
            "{\"instance_id\": 5, \"http_tokens\": \"x\"}",
            &["http_tokens: ", "instance_id: "][..],
        ),
        ("{\"instance_id\": \"i-new\"", &["not JSON: "]),
        ("[]", &["expected a JSON object"]),
        ("{\"events\": [{\"type\": \"x\"}]}", &["events[0].type: "]),
        (
            "{\"faults\": [{\"path\": \"/x\"}]}",
            &["faults[0].effect: "],
        ),
        (
            "{\"metadata\": {\"mac/x\": \"y\"}}",
            &["metadata, dynamic: "],
        ),
        (
            "{\"role\": {\"arn\": \"arn:aws:iam::123456789012:role/demo\"}}",
            &["role.arn: "],
        ),
    ] {
        live.write(content);
        let answer = live.call("POST", "/reload", "");
        assert_eq!(answer.status, 422, "{content}");
        let said: Value = serde_json::from_str(answer.text()).expect("JSON");
        let errors = said["errors"].as_array().expect("a list");
        assert_eq!(errors.len(), expected.len(), "{said}");
        for (error, expected) in errors.iter().zip(expected) {
            assert!(
                error.as_str().expect("a text").starts_with(expected),
                "{said}"
            );
        }
        assert_eq!(live.meta_data("instance-id").1, "i-old", "{content}");
        assert_eq!(live.meta_data("extra").1, "x", "{content}");
    }
}

#[test]
fn the_configuration_in_force_is_shown_without_secrets_and_can_be_fed_back() {
    let live = Mock::live(rich());
    let shown = live.shown("/config");
    assert_eq!(shown["instance_id"], "i-0aaaaaaaaaaaaaaaa");
    assert_eq!(shown["instance_type"], "t3.micro", "a default");
    assert_eq!(shown["account_id"], "123456789012", "a derived value");
    assert_eq!(shown["role"]["arn"], role()["arn"]);
    for secret in ["secret_access_key", "token"] {
        assert_eq!(shown["role"]["credentials"].get(secret), Some(&Value::Null));
    }
    assert!(!shown.to_string().contains(SECRET));
    let served = live.everything();
    live.change("PUT", "/metadata/instance-id", "i-changed");
    assert_eq!(
        live.shown("/config"),
        shown,
        "it is not what was configured"
    );
    let mut fed_back = shown;
    fed_back["role"]["credentials"] = role()["credentials"].clone();
    assert!(Mock::live(fed_back).everything() == served);
}

#[test]
fn every_endpoint_says_which_methods_it_has() {
    let live = Mock::live(json!({}));
    let methods = [
        "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE",
    ];
    for (path, allowed) in [
        ("/status", "GET, HEAD"),
        ("/config", "GET, HEAD"),
        ("/reload", "POST"),
        ("/bootstrap/creds", "POST"),
        ("/metadata", "GET, HEAD, PATCH"),
        ("/metadata/", "GET, HEAD, PATCH"),
        ("/dynamic", "GET, HEAD, PATCH"),
        ("/metadata/mac", "GET, HEAD, PUT, DELETE"),
        ("/dynamic/fws/instance-monitoring", "GET, HEAD, PUT, DELETE"),
        ("/user-data", "GET, HEAD, PUT, DELETE"),
        ("/events", "GET, HEAD, POST"),
        ("/events/instance-event-1", "PATCH, DELETE"),
        ("/faults", "GET, HEAD, POST, DELETE"),
        ("/faults/1", "DELETE"),
        ("/clock", "GET, HEAD, POST"),
    ] {
        for method in methods {
            let answer = live.call(method, path, "");
            let is_allowed = allowed.split(", ").any(|one| one == method);
            assert_eq!(
                answer.status == 405,
                !is_allowed,
                "{method} {path}: {}",
                answer.status
            );
            if !is_allowed {
                assert_eq!(answer.field("Allow"), Some(allowed), "{method} {path}");
            }
        }
    }
    for path in [
        "/",
        "/nowhere",
        "/metadata2",
        "/clock/x",
        "/config/x",
        "/reload/x",
        "/latest/",
    ] {
        assert_eq!(live.call("GET", path, "").status, 404, "{path}");
    }
}

#[test]
fn json_is_taken_as_json_as_curl_sends_it_or_unsaid() {
    let live = Mock::live(json!({}));
    for (path, method, body, good) in [
        ("/clock", "POST", "{\"reset\": true}", 200),
        ("/metadata", "PATCH", "{}", 200),
        (
            "/faults",
            "POST",
            "{\"path\": \"/x\", \"effect\": \"reset\"}",
            201,
        ),
        (
            "/events",
            "POST",
            "{\"type\": \"rebalance-recommendation\", \"in\": \"1d\"}",
            201,
        ),
    ] {
        for (kind, status) in [
            (None, good),
            (Some("application/json"), good),
            (Some("application/json; charset=utf-8"), good),
            (Some("Application/JSON"), good),
            (Some("application/x-www-form-urlencoded"), good),
            (Some("text/plain"), 415),
            (Some("application/xml"), 415),
        ] {
            let fields: Vec<_> = kind
                .map(|kind| ("Content-Type", kind))
                .into_iter()
                .collect();
            let answer = live.call_with(method, path, &fields, body);
            assert_eq!(answer.status, status, "{path} {kind:?}: {}", answer.text());
            assert_eq!(
                answer.field("Content-Type"),
                Some(if path == "/metadata" && status == 200 {
                    "text/plain"
                } else {
                    "application/json"
                }),
                "{path}"
            );
        }
    }
    assert_eq!(live.shown("/faults").as_array().map(Vec::len), Some(5));
}

#[test]
fn without_a_role_the_administration_is_there_when_it_is_asked_for() {
    let live = Mock::live(json!({}));
    assert_eq!(live.call("GET", "/status", "").text(), "true");
    let creds = live.call("POST", "/bootstrap/creds", "{}");
    assert_eq!(creds.status, 404, "nothing to start: {}", creds.text());
    // Not asked for, it is not there: there is one start line, and the next line is a request's.
    let mock = Mock::start(&json!({}));
    mock.ask("GET", "/", &[]);
    let line = mock.stdout.recv_timeout(crate::common::PATIENCE);
    assert_eq!(line.as_deref(), Ok("GET / -> 401"));
    // No administrative request is in the log of the metadata port.
    live.read("/latest/meta-data/mac");
    let line = live.stdout.recv_timeout(crate::common::PATIENCE);
    assert_eq!(line.as_deref(), Ok("GET /latest/meta-data/mac -> 200"));
    for (arguments, status) in [
        (&["--admin-port", "x"][..], 64),
        (&["--admin-port", "65536"], 64),
        (&["--admin-port"], 64),
    ] {
        assert_eq!(run(arguments).0, status, "{arguments:?}");
    }
}

#[test]
fn a_secret_guards_everything_but_the_status() {
    let secret = TempFile::new("hunter2\n");
    let path = secret.path().to_str().expect("cargo's path");
    let live = Mock::live_with(json!({}), &["--bootstrap-secret-file", path]);
    assert_eq!(live.call("GET", "/status", "").text(), "true");
    let presented = [("Authorization", "Bearer hunter2")];
    let wrong = [("Authorization", "Bearer hunter3")];
    for (method, path, body) in [
        ("GET", "/config", ""),
        ("GET", "/metadata/mac", ""),
        ("PUT", "/metadata/mac", "x"),
        ("GET", "/events", ""),
        ("GET", "/faults", ""),
        ("DELETE", "/faults", ""),
        ("GET", "/clock", ""),
        ("POST", "/clock", "{\"advance\": \"1h\"}"),
        ("POST", "/reload", ""),
        ("GET", "/nowhere", ""),
    ] {
        for fields in [&[][..], &wrong] {
            let answer = live.call_with(method, path, fields, body);
            assert_eq!(answer.status, 403, "{method} {path}");
        }
        let answer = live.call_with(method, path, &presented, body);
        let expected = if path == "/nowhere" { 404 } else { 200 };
        assert_eq!(answer.status, expected, "{method} {path}");
    }
}

#[test]
fn no_web_page_changes_the_instance() {
    let live = Mock::live(json!({}));
    let body = "{\"advance\": \"1h\"}";
    for fields in [
        &[("Origin", "http://evil.example")][..],
        &[("Origin", "null")],
    ] {
        let answer = live.call_with("POST", "/clock", fields, body);
        assert_eq!(answer.status, 403, "{fields:?}");
    }
    let mut rebound = Connection::open(live.admin());
    rebound.send(format!(
        "POST /clock HTTP/1.1\r\nHost: evil.example\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    assert_eq!(rebound.answer().status, 403);
    assert_eq!(rebound.end(), End::Closed);
    assert_eq!(live.shown("/clock")["offset_seconds"], 0.0);
}

#[test]
fn the_built_in_example_can_be_changed_and_read_again() {
    let mut command = imds_mock();
    command.args([
        "--port",
        "0",
        "--admin-port",
        "0",
        "--admin-host",
        "127.0.0.1",
    ]);
    let mock = Mock::spawn(command, 2, None);
    let admin = |method: &str, path: &str, body: &str| {
        let mut connection = Connection::open(mock.addresses[1]);
        let fields = [("Content-Length", &*body.len().to_string())];
        connection.send(request(method, path, &fields) + body);
        connection.answer().status
    };
    // The README's examples.
    assert_eq!(
        admin("PUT", "/metadata/instance-id", "i-0fedcba9876543210"),
        200
    );
    let patch = "{\"placement/group-name\": \"web\", \"product-codes\": null}";
    assert_eq!(admin("PATCH", "/metadata", patch), 200);
    assert_eq!(mock.text("/latest/meta-data/placement/group-name"), "web");
    assert_eq!(admin("POST", "/reload", ""), 200);
    assert_eq!(
        mock.text("/latest/meta-data/instance-id"),
        "i-1234567890abcdef0"
    );
}
