//! Delays and forced statuses, as recorded from imds_mock.py (docs/reference/imds_mock_py.md,
//! "Order of checks"), and that a delayed request holds up nobody, not even the end of the program.

use std::time::{Duration, Instant};

use crate::common::http::{Connection, End, request};
use crate::common::{Mock, SECOND, TOKEN, TOKEN_TTL};
use serde_json::json;

const MAC: &str = "/latest/meta-data/mac";
#[test]
fn a_delay_is_waited_before_anything_is_checked() {
    let mock = Mock::start(&json!({
        "default_delay_ms": 300,
        "endpoint_delay_ms": {"/latest/meta-data/instance-type": null},
        "force_status": {"/forced": 418},
    }));
    let v2 = [(TOKEN, mock.token())];
    std::thread::scope(|scope| {
        for (method, target, fields, status) in [
            ("GET", "/latest/meta-data/ami-id", &v2[..], 200),
            ("HEAD", "/latest/meta-data/ami-id", &v2, 200),
            ("GET", "/latest/meta-data/ami-id", &[], 401),
            ("GET", "/latest/meta-data/instance-type", &v2, 200),
            ("GET", "/nowhere", &[], 401),
            ("GET", "/nowhere", &v2, 404),
            ("GET", "/forced", &[], 418),
            ("GET", "/latest/api/token", &[], 405),
        ] {
            let address = mock.address();
            scope.spawn(move || {
                let since = Instant::now();
                let answer = crate::common::http::ask(address, method, target, fields);
                assert_eq!(answer.status, status, "{method} {target}");
                assert!(
                    since.elapsed() >= Duration::from_millis(300),
                    "{method} {target}"
                );
            });
        }
    });
}

#[test]
fn a_paths_own_delay_replaces_the_default_and_a_put_has_none() {
    // Whoever waits for the default here waits too long for this test.
    let mock = Mock::start(&json!({
        "default_delay_ms": 3_600_000,
        "endpoint_delay_ms": {
            "/latest/meta-data/hostname": 200, MAC: 0, "/latest/meta-data/local-hostname": -5,
            "/latest/api/token": 3_600_000, "/latest/meta-data/instance-id": 0.5,
        },
    }));
    let v2 = [(TOKEN, mock.token())];
    for (method, target, fields, status, delay_ms) in [
        ("GET", "/latest/meta-data/hostname", &v2[..], 200, 200),
        ("GET", "/latest/meta-data/hostname?x=1", &[], 401, 200),
        ("GET", MAC, &v2, 200, 0),
        ("GET", "/latest/meta-data/local-hostname", &v2, 200, 0),
        ("GET", "/latest/meta-data/instance-id", &v2, 200, 0),
        ("PUT", "/latest/api/token", &[(TOKEN_TTL, "60")], 200, 0),
        ("PUT", "/nowhere", &v2, 403, 0),
    ] {
        let since = Instant::now();
        assert_eq!(mock.ask(method, target, fields).status, status, "{target}");
        assert!(
            since.elapsed() >= Duration::from_millis(delay_ms),
            "{target}"
        );
    }
}

#[test]
fn a_key_is_the_path_as_it_was_asked() {
    let mock = Mock::start(&json!({"force_status": {MAC: 500, "/latest/meta-data/": 501}}));
    for (target, status) in [
        (MAC, 500),
        ("/latest/meta-data/mac?x=1", 500),
        ("/latest/meta-data/mac#x", 500),
        ("//latest/meta-data/mac", 500),
        ("http://anything/latest/meta-data/mac", 500),
        ("/latest/meta-data/mac/", 200),
        ("/latest//meta-data/mac", 200),
        ("/2011-01-01/meta-data/mac", 200),
        ("/latest/meta-data/", 501),
        ("/latest/meta-data", 200),
    ] {
        assert_eq!(mock.get(target).status, status, "{target}");
    }
}

#[test]
fn a_key_ignores_parameters_as_the_lookup_does() {
    // As recorded: the path is cut at its last segment's `;` before anything looks at it.
    let mock = Mock::start(&json!({"force_status": {MAC: 500}}));
    assert_eq!(mock.get("/latest/meta-data/mac;p").status, 500);
}

#[test]
fn a_forced_status_is_empty_and_needs_no_token() {
    let forced = [
        100, 200, 204, 301, 304, 400, 401, 404, 418, 429, 500, 503, 599, 799, 999,
    ];
    let paths = forced.map(|status| (format!("/status/{status}"), json!(status)));
    let mut table: serde_json::Map<_, _> = paths.into_iter().collect();
    table.insert(MAC.into(), json!(0));
    table.insert("/latest/meta-data/hostname".into(), json!(null));
    table.insert("/latest/meta-data/ami-id".into(), json!(200));
    table.insert("/latest/api/token".into(), json!(500));
    let mock = Mock::start(&json!({"force_status": table}));
    // 100 is an interim answer to any HTTP client: its shape is looked at by nobody here.
    for status in &forced[1..] {
        for method in ["GET", "HEAD", "POST"] {
            let answer = mock.ask(method, &format!("/status/{status}"), &[]);
            assert_eq!(answer.status, *status, "{method}");
            assert_eq!(answer.field("Content-Length"), Some("0"), "{status}");
            assert_eq!(answer.field("Content-Type"), Some("text/plain"), "{status}");
            assert_eq!(answer.text(), "");
        }
    }
    assert_eq!(mock.ask("GET", "/status/799", &[]).reason, "");
    assert_eq!(
        mock.ask("GET", "/status/503", &[]).reason,
        "Service Unavailable"
    );
    let emptied = mock.ask("GET", "/latest/meta-data/ami-id", &[]);
    assert_eq!(
        (emptied.status, emptied.text()),
        (200, ""),
        "the value is not sent"
    );
    assert_eq!(mock.get(MAC).status, 200, "0 is none");
    assert_eq!(
        mock.get("/latest/meta-data/hostname").status,
        200,
        "null is none"
    );
    assert_eq!(mock.ask("GET", "/latest/api/token", &[]).status, 500);
    let token = mock.ask("PUT", "/latest/api/token", &[(TOKEN_TTL, "60")]);
    assert_eq!(token.status, 200, "a PUT is never forced");
}

#[test]
fn two_hundred_requests_delayed_a_second_finish_together() {
    let mock = Mock::start(&json!({"endpoint_delay_ms": {MAC: 1000}, "http_tokens": "optional"}));
    let two_hundred = |path: &str| {
        let since = Instant::now();
        let mut clients: Vec<Connection> = (0..200).map(|_| mock.connect()).collect();
        for client in &mut clients {
            client.send(request("GET", path, &[]));
        }
        for client in &mut clients {
            assert_eq!(client.answer().status, 200);
        }
        since.elapsed()
    };
    let (at_once, took) = (two_hundred("/"), two_hundred(MAC));
    assert!(took >= SECOND, "{took:?}");
    // One after the other takes 200 s, 64 threads take 4 s.
    assert!(
        took < SECOND * 2 + at_once * 4,
        "{took:?}, without delay {at_once:?}"
    );
}

#[test]
fn a_stop_cuts_delays_short_and_the_requests_are_answered() {
    for signal in ["TERM", "INT"] {
        let mock = Mock::start(&json!({"default_delay_ms": 60_000, "http_tokens": "optional"}));
        let mut delayed: Vec<Connection> = (0..100).map(|_| mock.connect()).collect();
        let keep = [("Connection", "keep-alive")];
        for client in &mut delayed {
            // A PUT is never delayed: behind its answer, what was sent with it is under way.
            client.send(request("PUT", "/", &keep) + &request("GET", MAC, &keep));
            assert_eq!(client.answer().status, 403);
        }
        // Held in every other state as well.
        let mut idle = mock.connect();
        let mut head = mock.connect();
        head.send("GET / HT");
        // All this holds up nobody.
        mock.new_token(60);
        mock.stops_within_a_second(signal);
        for client in &mut delayed {
            let answer = client.answer();
            assert_eq!(answer.status, 200, "{signal}");
            assert_eq!(answer.field("Connection"), Some("close"), "{signal}");
            assert_eq!(client.end(), End::Closed, "{signal}");
        }
        idle.rest();
        head.rest();
    }
}

#[test]
fn a_stop_waits_for_nobody_who_reads_no_answer() {
    let user_data = "x".repeat(16384);
    let mock = Mock::start(&json!({"http_tokens": "optional", "user_data": user_data}));
    let mut client = mock.connect();
    let keep = [("Connection", "keep-alive")];
    let requests = request("GET", "/latest/user-data", &keep).repeat(2000);
    client.send(requests);
    mock.new_token(60);
    mock.stops_within_a_second("TERM");
}
