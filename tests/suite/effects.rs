//! What each fault does on the wire, seen by a client that looks at every byte; and that a request
//! gone wrong holds up nobody, not even the end of the program.

use crate::common::http::{Connection, End, request};
use crate::common::machine::timed;
use crate::common::{Mock, PATIENCE, SECOND, TOKEN, TOKEN_TTL, wait_until};
use std::io::{ErrorKind, Read};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const MAC: &str = "/latest/meta-data/mac";
const USER_DATA: &str = "/latest/user-data";
const TOKEN_PATH: &str = "/latest/api/token";
/// Longer than a request takes on a busy machine, shorter than what is asserted to be slow.
const AT_ONCE: Duration = Duration::from_millis(250);

fn fault(path: &str, effect: &str) -> Value {
    json!({"path": path, "effect": effect})
}

fn with(mut fault: Value, key: &str, value: impl Into<Value>) -> Value {
    fault[key] = value.into();
    fault
}

/// Everything that comes back for one request, and how the connection ends.
fn raw(live: &Mock, method: &str, path: &str, fields: &[(&str, &str)]) -> (Vec<u8>, End) {
    let mut connection = live.connect();
    connection.send(request(method, path, fields));
    connection.rest()
}

#[test]
fn a_forced_status_is_empty_and_comes_before_the_token_check() {
    let live = Mock::live(json!({"http_tokens": "required"}));
    let add = |path: &str, status: u16| {
        live.add("/faults", with(fault(path, "status"), "status", status));
    };
    for (path, status) in [
        (MAC, 503),
        ("/nowhere", 418),
        ("/latest/a", 200),
        ("/latest/b", 799),
    ] {
        add(path, status);
        for method in ["GET", "HEAD", "POST", "PUT"] {
            let answer = live.ask(method, path, &[]);
            assert_eq!(answer.status, status, "{method} {path}");
            assert_eq!(answer.field("Content-Length"), Some("0"), "{path}");
            assert_eq!(answer.field("Content-Type"), Some("text/plain"), "{path}");
        }
    }
    add(TOKEN_PATH, 500);
    let asked = live.ask("PUT", TOKEN_PATH, &[(TOKEN_TTL, "60")]);
    assert_eq!((asked.status, asked.text()), (500, ""));
    live.change("DELETE", "/faults", "");
    assert_eq!(live.get(MAC).status, 200);
}

#[test]
fn a_delay_is_its_milliseconds_and_at_most_the_jitter_more() {
    let live = Mock::live(json!({"http_tokens": "required"}));
    let slow = with(with(fault(MAC, "delay"), "delay_ms", 300), "jitter_ms", 200);
    live.add("/faults", slow);
    live.add(
        "/faults",
        with(fault(TOKEN_PATH, "delay"), "delay_ms", 300.5),
    );
    for _ in 0..4 {
        let (answer, time) = timed(|| live.read(MAC));
        assert_eq!(answer.status, 401, "the token check comes behind it");
        assert!(time.took >= Duration::from_millis(300), "{:?}", time.took);
        time.assert_within(Duration::from_millis(500) + AT_ONCE);
    }
    let since = Instant::now();
    live.new_token(60);
    assert!(
        since.elapsed() >= Duration::from_millis(300),
        "a token PUT too"
    );
    let (answer, time) = timed(|| live.read("/latest/meta-data/hostname"));
    assert_eq!(answer.status, 401);
    time.assert_within(AT_ONCE);
}

#[test]
fn a_slow_answer_comes_at_its_rate_and_whole() {
    let text = "0123456789".repeat(400);
    let live = Mock::live(json!({"user_data": text}));
    for rate in [8000, 16_000] {
        live.change("DELETE", "/faults", "");
        live.add(
            "/faults",
            with(fault(USER_DATA, "slow"), "bytes_per_second", rate),
        );
        let mut connection = live.connect();
        let mut first = [0];
        let ((), begun) = timed(|| {
            connection.send(request("GET", USER_DATA, &[]));
            let begins = connection.stream.read_exact(&mut first);
            begins.expect("it begins");
        });
        begun.assert_within(AT_ONCE);
        let ((rest, end), behind) = timed(|| connection.rest());
        let took = begun.took + behind.took;
        assert_eq!(end, End::Closed);
        let answer = [&first[..], &rest].concat();
        assert!(answer.ends_with(text.as_bytes()));
        let expected = Duration::from_secs_f64(answer.len() as f64 / f64::from(rate));
        // The first piece goes without a pause before it, and the last one may be short. What is
        // said of the machine in between is of no account.
        assert!(took + AT_ONCE > expected, "{took:?}, expected {expected:?}");
        behind.assert_within(expected + SECOND);
    }
}

#[test]
fn a_slow_trickle_is_as_fast_as_it_was_asked_for() {
    let live = Mock::live(json!({}));
    live.add("/faults", with(fault("*", "slow"), "bytes_per_second", 19));
    let mut connection = live.connect();
    connection.send(request("GET", MAC, &[]));
    let (twenty, time) = timed(|| connection.stream.read_exact(&mut [0; 20]));
    twenty.expect("it trickles");
    assert!(time.took >= Duration::from_millis(900), "{:?}", time.took);
    time.assert_within(Duration::from_millis(1600));
}

#[test]
fn a_truncated_answer_promises_more_than_it_has() {
    let live = Mock::live(json!({"user_data": "0123456789"}));
    for (bytes, body) in [(0, ""), (4, "0123"), (10, "0123456789"), (99, "0123456789")] {
        live.change("DELETE", "/faults", "");
        live.add(
            "/faults",
            with(fault(USER_DATA, "truncate"), "bytes", bytes),
        );
        let keep = [("Connection", "keep-alive")];
        let (answer, end) = raw(&live, "GET", USER_DATA, &keep);
        assert_eq!(end, End::Closed);
        let answer = String::from_utf8(answer).expect("text");
        let (head, rest) = answer.split_once("\r\n\r\n").expect("a whole head");
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.contains("\r\nContent-Length: 10\r\n"), "{head}");
        assert_eq!(rest, body);
    }
    // What is cut is the answer that would have been given, whatever it is.
    live.change("DELETE", "/faults", "");
    live.add("/faults", with(fault("/nowhere", "truncate"), "bytes", 5));
    let (answer, _) = raw(&live, "GET", "/nowhere", &[]);
    let answer = String::from_utf8(answer).expect("text");
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    assert!(answer.ends_with("\r\n\r\n<?xml"), "{answer}");
}

#[test]
fn a_reset_is_a_reset_without_a_byte() {
    let live = Mock::live(json!({}));
    live.add("/faults", fault("/latest/*", "reset"));
    for (method, path) in [
        ("GET", MAC),
        ("PUT", TOKEN_PATH),
        ("HEAD", "/latest/nowhere"),
    ] {
        let (answer, end) = raw(&live, method, path, &[(TOKEN_TTL, "60")]);
        assert_eq!((answer.len(), end), (0, End::Reset), "{method} {path}");
    }
    // On a connection that has already carried an answer, too.
    let mut kept = live.connect();
    kept.send(request("GET", "/", &[("Connection", "keep-alive")]));
    assert_eq!(kept.answer().status, 200);
    kept.send(request("GET", MAC, &[]));
    assert_eq!(kept.end(), End::Reset);
}

#[test]
fn no_answer_ends_when_the_client_leaves() {
    let live = Mock::live(json!({}));
    live.add("/faults", fault(MAC, "no-answer"));
    let mut connection = live.connect();
    connection.send(request("GET", MAC, &[]));
    let silence = Some(Duration::from_millis(300));
    connection
        .stream
        .set_read_timeout(silence)
        .expect("not zero");
    let error = connection.stream.read(&mut [0]).expect_err("nothing comes");
    assert!(
        matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        "{error}"
    );
    let line = live.stdout.recv_timeout(PATIENCE);
    assert_eq!(line.as_deref(), Ok("GET /latest/meta-data/mac -> 000"));
    assert_eq!(live.read("/").status, 200, "others are answered meanwhile");
    let is_alone = || {
        let metrics = live.call("GET", "/metrics", "");
        metrics.text().contains("\nimds_mock_connections 1\n")
    };
    assert!(!is_alone());
    drop(connection);
    wait_until("its connection is gone", is_alone);
}

#[test]
fn more_requests_gone_wrong_than_connections_hold_up_nobody() {
    for (effect, key, value) in [
        ("no-answer", "requests", 1000),
        ("delay", "delay_ms", 3_600_000),
        ("slow", "bytes_per_second", 1),
    ] {
        let live = Mock::live_with(json!({}), &["--quiet"]);
        live.add("/faults", with(fault(MAC, effect), key, value));
        let mut held: Vec<Connection> = Vec::new();
        for _ in 0..600 {
            let mut connection = live.connect();
            connection.send(request("GET", MAC, &[]));
            held.push(connection);
        }
        // They are held for an hour, or nearly; nobody else waits for that.
        assert_eq!(live.read("/").status, 200, "{effect}");
        live.change("DELETE", "/faults", "");
        assert_eq!(live.read(MAC).status, 200, "{effect}");
        // Those that came last were let be: the oldest gave way.
        let last = held.pop().expect("there are many").stream;
        last.set_nonblocking(true).expect("a socket");
        let silent = (&last).read(&mut [0]);
        let is_open = match &silent {
            Ok(bytes) => *bytes > 0,
            Err(e) => e.kind() == ErrorKind::WouldBlock,
        };
        assert!(is_open, "{effect}: {silent:?}");
        live.stops_within_a_second("TERM");
    }
}

#[test]
fn a_stop_waits_for_no_fault() {
    for (effect, key, value) in [
        ("no-answer", "requests", 1000),
        ("slow", "bytes_per_second", 1),
        ("delay", "delay_ms", 60_000),
    ] {
        let live = Mock::live(json!({"user_data": "0123456789"}));
        live.add("/faults", with(fault(USER_DATA, effect), key, value));
        let mut clients: Vec<Connection> = (0..20).map(|_| live.connect()).collect();
        let keep = [("Connection", "keep-alive")];
        for client in &mut clients {
            client.send(request("GET", USER_DATA, &keep));
        }
        wait_until("all are under way", || {
            live.shown("/faults")[0]["applied"] == 20
        });
        live.stops_within_a_second("TERM");
        for client in &mut clients {
            let (answer, _) = client.rest();
            let whole = answer.ends_with(b"\r\n\r\n0123456789");
            assert_eq!(whole, effect != "no-answer", "{effect}: {}", answer.len());
        }
    }
}

#[test]
fn throttled_requests_are_answered_503() {
    let live = Mock::live(json!({"http_tokens": "required"}));
    let throttle = |rate: f64| with(fault(MAC, "throttle"), "requests_per_second", rate);
    live.add("/faults", throttle(10.0));
    let token = live.token();
    let since = Instant::now();
    let statuses: Vec<u16> = (0..60).map(|_| live.get(MAC).status).collect();
    let within = 10.0 + since.elapsed().as_secs_f64() * 10.0;
    let passed = statuses.iter().filter(|&&status| status == 200).count();
    assert!(
        statuses.iter().all(|status| [200, 503].contains(status)),
        "{statuses:?}"
    );
    assert_eq!(
        statuses[..10],
        [200; 10],
        "a second's worth may come at once"
    );
    assert!(
        passed as f64 <= within + 1.0,
        "{passed} of 60 passed, expected {within}"
    );
    assert!(passed < 60, "{:?}", since.elapsed());
    assert_eq!(
        live.get("/latest/meta-data/hostname").status,
        200,
        "elsewhere"
    );
    // Some time later they pass again.
    wait_until("they pass", || live.get(MAC).status == 200);
    // Every one, if none is allowed; the token is not looked at.
    live.change("DELETE", "/faults", "");
    live.add("/faults", throttle(0.0));
    for fields in [&[(TOKEN, token)][..], &[]] {
        let answer = live.ask("GET", MAC, fields);
        assert_eq!((answer.status, answer.text()), (503, ""));
    }
}

#[test]
fn an_expired_token_is_one_for_that_request_alone() {
    for tokens in ["required", "optional"] {
        let live = Mock::live(json!({"http_tokens": tokens}));
        live.add("/faults", with(fault(MAC, "expired-token"), "requests", 2));
        let answer = live.get(MAC);
        assert_eq!((answer.status, answer.text()), (401, ""), "{tokens}");
        assert_eq!(
            live.get("/latest/meta-data/hostname").status,
            200,
            "the same token"
        );
        assert_eq!(live.get(MAC).status, 401, "{tokens}");
        assert_eq!(live.get(MAC).status, 200, "{tokens}: it was meant for two");
    }
}

#[test]
fn a_token_can_be_born_expired() {
    let live = Mock::live(json!({"http_tokens": "required"}));
    live.add(
        "/faults",
        with(fault(TOKEN_PATH, "expired-token"), "requests", 1),
    );
    let dead = live.ask("PUT", TOKEN_PATH, &[(TOKEN_TTL, "60")]);
    assert_eq!(
        (dead.status, dead.text().len()),
        (200, 56),
        "it looks like any"
    );
    assert_eq!(dead.field(TOKEN_TTL), Some("60"));
    assert_eq!(live.ask("GET", MAC, &[(TOKEN, dead.text())]).status, 401);
    let next = live.new_token(60);
    assert_eq!(live.ask("GET", MAC, &[(TOKEN, &next)]).status, 200);
    assert_eq!(live.ask("GET", MAC, &[(TOKEN, dead.text())]).status, 401);
}

#[test]
fn wrong_json_is_a_good_answer_with_a_bad_body() {
    let live = Mock::live(json!({"http_tokens": "required"}));
    live.add("/faults", fault("/latest/*", "wrong-json"));
    for path in [
        MAC,
        "/latest/dynamic/instance-identity/document",
        "/latest/nowhere",
    ] {
        let answer = live.ask("GET", path, &[]);
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.field("Content-Type"), Some("text/plain"), "{path}");
        // Complete as HTTP: it is the JSON that breaks off.
        let parsed: Result<Value, _> = serde_json::from_str(answer.text());
        assert!(
            parsed.is_err_and(|e| e.is_eof()),
            "{path}: {}",
            answer.text()
        );
        assert!(answer.text().starts_with('{'), "{path}");
    }
}
