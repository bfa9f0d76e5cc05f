//! Session tokens over the wire: how they are granted, refused, counted down and asked for
//! (docs/reference/metadata.md, "Token", "With and without a token").

use std::time::{Duration, Instant};

use crate::common::{Answer, Mock, PATIENCE, TOKEN, TOKEN_TTL};
use serde_json::json;

const TTL: &str = "X-Aws-Ec2-Metadata-Token-Ttl-Seconds";
const PATH: &str = "/latest/api/token";

fn put(mock: &Mock, ttl: &str) -> Answer {
    mock.ask("PUT", PATH, &[(TOKEN_TTL, ttl)])
}

fn assert_empty(answer: &Answer, status: u16, what: &str) {
    assert_eq!(answer.status, status, "{what}");
    assert_eq!(answer.text(), "", "{what}");
    assert_eq!(answer.field("Content-Type"), Some("text/plain"), "{what}");
    assert_eq!(answer.field("Content-Length"), Some("0"), "{what}");
}

#[test]
fn a_token_is_granted_as_ec2_does() {
    let mock = Mock::start(&json!({}));
    for ttl in [
        "1", "10", "60", "100", "180", "300", "600", "900", "3600", "21600",
    ] {
        let answer = put(&mock, ttl);
        let status = (
            answer.version.as_str(),
            answer.status,
            answer.reason.as_str(),
        );
        assert_eq!(status, ("HTTP/1.1", 200, "OK"));
        assert_eq!(answer.field(TTL), Some(ttl));
        assert_eq!(answer.field("Content-Type"), Some("text/plain"));
        let token = answer.text();
        assert_eq!(token.len(), 56);
        assert!(
            token.starts_with("AQAE") && token.ends_with("=="),
            "{token}"
        );
        let legal = |b: u8| b.is_ascii_alphanumeric() || b"-_=".contains(&b);
        assert!(token.bytes().all(legal), "{token}");
    }
}

#[test]
fn a_token_answer_has_the_fields_of_ec2_in_their_order() {
    let mock = Mock::start(&json!({}));
    let answer = put(&mock, "60");
    let order = [
        TTL,
        "Content-Length",
        "Date",
        "Server",
        "Connection",
        "Content-Type",
    ];
    assert_eq!(answer.names(), order);
    assert_eq!(answer.field("Server"), Some("EC2ws"));
    assert_eq!(answer.field("Connection"), Some("close"));
}

#[test]
fn two_tokens_differ() {
    let mock = Mock::start(&json!({}));
    assert_ne!(mock.new_token(60), mock.new_token(60));
}

#[test]
fn a_lifetime_outside_0_to_21600_is_400() {
    let mock = Mock::start(&json!({}));
    for ttl in [
        "",
        "-1",
        "-5",
        "21601",
        "99999999999",
        "4294967297",
        "abc",
        "60s",
        "60.5",
        "+60",
        "1_000",
        "0x10",
        "1e2",
        "60 60",
        "60,60",
        "\u{661}",
    ] {
        assert_eq!(put(&mock, ttl).status, 400, "{ttl:?}");
    }
    assert_eq!(mock.ask("PUT", PATH, &[]).status, 400, "no lifetime");
    // Blanks around a field's value are not part of it (RFC 9110, section 5.5).
    assert_eq!(put(&mock, "  60 \t").field(TTL), Some("60"));
}

#[test]
fn field_names_are_taken_in_any_case_and_place() {
    let mock = Mock::start(&json!({}));
    for (ask, show) in [
        (
            "x-aws-ec2-metadata-token-ttl-seconds",
            "x-aws-ec2-metadata-token",
        ),
        (
            "X-AWS-EC2-METADATA-TOKEN-TTL-SECONDS",
            "X-AWS-EC2-METADATA-TOKEN",
        ),
        (
            "X-Aws-Ec2-Metadata-Token-Ttl-Seconds",
            "X-Aws-Ec2-Metadata-Token",
        ),
    ] {
        let fields = [("Accept", "*/*"), (ask, "60"), ("User-Agent", "x")];
        let token = mock.ask("PUT", PATH, &fields);
        assert_eq!(token.status, 200, "{ask}");
        let answer = mock.ask("GET", "/", &[(show, token.text()), ("Accept", "*/*")]);
        assert_eq!(answer.status, 200, "{show}");
    }
}

#[test]
fn a_forwarded_put_is_403_and_a_forwarded_get_is_served() {
    let mock = Mock::start(&json!({}));
    for (name, value) in [
        ("X-Forwarded-For", "203.0.113.7"),
        ("x-forwarded-for", "::1, 10.0.0.1"),
        ("X-FORWARDED-FOR", ""),
    ] {
        let answer = mock.ask("PUT", PATH, &[(TOKEN_TTL, "60"), (name, value)]);
        assert_empty(&answer, 403, name);
        // Also where the lifetime is wrong: there is no token to be had.
        let answer = mock.ask("PUT", PATH, &[(TOKEN_TTL, "0"), (name, value)]);
        assert_empty(&answer, 403, name);
        let fields = [(TOKEN, mock.token()), (name, value)];
        assert_eq!(mock.ask("GET", "/", &fields).status, 200, "{name}");
    }
}

#[test]
fn only_put_and_options_are_methods_of_the_token_path() {
    let mock = Mock::start(&json!({}));
    for method in ["GET", "HEAD", "POST", "DELETE", "PATCH", "TRACE"] {
        for fields in [&[][..], &[(TOKEN, mock.token())], &[(TOKEN, "unknown")]] {
            let answer = mock.ask(method, PATH, fields);
            assert_eq!(answer.reason, "Not Allowed", "{method}");
            assert_eq!(answer.field("Allow"), Some("OPTIONS, PUT"), "{method}");
            assert_empty(&answer, 405, method);
        }
    }
    let answer = mock.ask("OPTIONS", PATH, &[]);
    assert_eq!(answer.field("Allow"), Some("OPTIONS, PUT"));
    assert_empty(&answer, 200, "OPTIONS");
}

#[test]
fn a_dated_path_issues_no_tokens() {
    let mock = Mock::start(&json!({}));
    for target in [
        "/2021-03-23/api/token",
        "/1.0/api/token",
        "/2024-04-11/api/token/",
        "/1999-01-01/api/token",
    ] {
        let ttl = (TOKEN_TTL, "60");
        assert_empty(&mock.ask("PUT", target, &[ttl]), 401, target);
        let fields = [(TOKEN, mock.token()), ttl];
        assert_empty(&mock.ask("PUT", target, &fields), 403, target);
    }
}

#[test]
fn the_token_path_may_have_slashes_before_it_and_a_query_behind_it() {
    let mock = Mock::start(&json!({}));
    for target in [
        "//latest/api/token",
        "/latest//api//token",
        "/latest/api/token?x=1",
        "/latest/api/token/",
    ] {
        let answer = mock.ask("PUT", target, &[(TOKEN_TTL, "60")]);
        assert_eq!((answer.status, answer.body.len()), (200, 56), "{target}");
    }
    assert_eq!(
        mock.ask("PUT", "/LATEST/api/token", &[(TOKEN_TTL, "60")])
            .status,
        401
    );
}

#[test]
fn without_a_live_token_everything_is_401_before_it_is_404() {
    let mock = Mock::start(&json!({}));
    let almost = mock.token().replace("==", "=A");
    for target in [
        "/",
        "//",
        "/latest",
        "/latest/",
        "/latest/meta-data/instance-id",
        "/latest/dynamic/instance-identity/document",
        "/2009-04-04/meta-data/",
        "/1999-01-01/",
        "/nowhere",
        "/latest/meta-data/no-such-thing",
        "/latest/api/",
    ] {
        for fields in [
            &[][..],
            &[(TOKEN, "")],
            &[(TOKEN, "deadbeef")],
            &[(TOKEN, &almost)],
            &[(TOKEN, &"A".repeat(56))],
            &[(TOKEN, &"A".repeat(4000))],
            &[("Authorization", mock.token())],
        ] {
            for method in ["GET", "HEAD", "POST", "DELETE"] {
                let answer = mock.ask(method, target, fields);
                assert_eq!(answer.reason, "Unauthorized", "{method} {target}");
                assert_empty(&answer, 401, target);
            }
        }
    }
}

#[test]
fn the_remaining_life_is_on_every_answer_to_a_live_token() {
    let mock = Mock::start(&json!({}));
    let token = mock.new_token(100);
    for target in [
        "/",
        "/latest/meta-data/instance-id",
        "/latest/dynamic/",
        "/nowhere",
    ] {
        let answer = mock.ask("GET", target, &[(TOKEN, &token)]);
        let left: u32 = answer.field(TTL).expect(target).parse().expect("seconds");
        assert!((90..=100).contains(&left), "{target}: {left}");
        assert_eq!(answer.names()[0], TTL, "{target}");
    }
}

#[test]
fn a_token_counts_down_and_ends_with_its_lifetime() {
    let mock = Mock::start(&json!({}));
    let before = Instant::now();
    let token = mock.new_token(2);
    let after = Instant::now();
    let mut seen = Vec::new();
    loop {
        let asked = Instant::now();
        let answer = mock.ask("GET", "/latest/meta-data/mac", &[(TOKEN, &token)]);
        if answer.status == 401 {
            assert!(before.elapsed() >= Duration::from_secs(2), "died early");
            assert!(asked.duration_since(after) < PATIENCE);
            break;
        }
        assert!(
            asked.duration_since(after) < Duration::from_secs(2),
            "lives too long"
        );
        let left: u32 = answer.field(TTL).expect("v2").parse().expect("seconds");
        if seen.last() != Some(&left) {
            seen.push(left);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(seen == [2, 1] || seen == [2, 1, 0], "{seen:?}");
}

#[test]
fn the_token_of_one_server_is_none_of_another() {
    let (one, other) = (Mock::start(&json!({})), Mock::start(&json!({})));
    let answer = other.ask("GET", "/", &[(TOKEN, one.token())]);
    assert_eq!(answer.status, 401);
}

#[test]
fn optional_tokens_serve_v1_too() {
    let mock = Mock::start(&json!({"http_tokens": "optional", "instance_id": "i-1"}));
    let target = "/latest/meta-data/instance-id";
    let v1 = mock.ask("GET", target, &[]);
    assert_eq!((v1.status, v1.text()), (200, "i-1"));
    assert_eq!(v1.field(TTL), None);
    let v2 = mock.get(target);
    assert_eq!((v2.status, v2.text()), (200, "i-1"));
    assert!(v2.field(TTL).is_some());
    // The field's presence makes it a v2 request.
    for token in ["", "deadbeef"] {
        assert_empty(&mock.ask("GET", target, &[(TOKEN, token)]), 401, token);
    }
    assert_eq!(mock.ask("GET", "/nowhere", &[]).status, 404);
    assert_eq!(mock.ask("GET", "//", &[]).status, 200);
}

#[test]
fn a_disabled_endpoint_is_403_for_everything() {
    let mock = Mock::start(&json!({
        "http_endpoint": "disabled",
        "http_tokens": "optional",
        "force_status": {"/latest/meta-data/mac": 500},
    }));
    for target in [
        "/",
        "/latest/meta-data/mac",
        "/nowhere",
        PATH,
        "/2009-04-04/api/token",
    ] {
        for method in ["GET", "HEAD", "PUT", "OPTIONS", "POST"] {
            let answer = mock.ask(method, target, &[(TOKEN_TTL, "60")]);
            assert_empty(&answer, 403, &format!("{method} {target}"));
        }
    }
}

#[test]
fn a_disabled_endpoint_does_not_wait_for_a_configured_delay() {
    // The order of checks (docs/architecture.md, D3): disabled first, then delay.
    let mock = Mock::start(&json!({"http_endpoint": "disabled", "default_delay_ms": 60_000}));
    assert_eq!(mock.ask("GET", "/", &[]).status, 403);
}
