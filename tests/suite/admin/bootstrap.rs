//! `POST /bootstrap/creds`: what is taken, what is refused and how, and that a refusal changes
//! nothing.

use crate::common::http::send;
use crate::common::machine::timed;
use crate::common::sts::FakeSts;
use serde_json::json;

use super::{CREDS, DOCUMENT, HOUR, ROLES, SECOND, error_of, start, wait_until};

const JSON: Option<&str> = Some("application/json");
const FORM: Option<&str> = Some("application/x-www-form-urlencoded");

#[test]
fn posted_credentials_turn_the_failure_into_the_roles_own_keys() {
    let sts = FakeSts::start(HOUR);
    let key = sts.user_key("BOOT");
    let daemon = start(&sts, &[]);

    // Before: the role is there, its document says what to do, all else is served.
    assert!(!daemon.status());
    assert_eq!(daemon.verbose()["state"], "waiting");
    assert_eq!(daemon.text(ROLES), "app");
    let failure = daemon.document();
    assert_eq!(failure["Code"], "Failed");
    let message = failure["Message"].as_str().expect("a text");
    assert!(message.contains("/bootstrap/creds"), "{message}");
    assert!(failure["LastUpdated"].is_string() && failure["AccessKeyId"].is_null());
    let info = daemon.text("/latest/meta-data/iam/info");
    assert!(info.contains("123456789012:instance-profile/app"), "{info}");
    assert_eq!(daemon.text("/latest/meta-data/placement/region"), "rack-9");
    assert_eq!(sts.calls().len(), 0, "nobody to sign for, nobody asked");

    daemon.bootstrap(&key);
    sts.wait_for_calls(1);
    wait_until("credentials are served", || daemon.status());
    let issued = &sts.issued()[0];
    let document = daemon.document();
    for (field, value) in [
        ("Code", "Success"),
        ("Type", "AWS-HMAC"),
        ("AccessKeyId", &issued.id),
        ("SecretAccessKey", &issued.secret),
        ("Token", issued.token.as_deref().expect("sessions have one")),
    ] {
        assert_eq!(document[field], value, "{field}");
    }
    let verbose = daemon.verbose();
    assert_eq!(verbose["state"], "valid");
    assert_eq!(verbose["role_arn"], super::ARN);
    assert_eq!(verbose["access_key_id"], issued.id.as_str());
    assert_eq!(verbose["expiration"], document["Expiration"]);
    assert_eq!(verbose["last_error"], json!(null));
    for date in ["last_attempt", "next_attempt"] {
        let date = verbose[date].as_str().expect("a date");
        assert!(date.len() == 20 && date.ends_with('Z'), "{date}");
    }
    let line = daemon.wait_for("assumed: ");
    for part in ["role app", &issued.id, "AKIABOOT"] {
        assert!(line.contains(part), "{part}: {line}");
    }
}

#[test]
fn credentials_are_taken_in_every_usual_form() {
    let sts = FakeSts::start(HOUR);
    let daemon = start(&sts, &[]);
    let mut n = 0;
    let mut take = |content_type, is_temporary, rest: &dyn Fn(&str) -> String| {
        n += 1;
        let key = match is_temporary {
            true => sts.temporary_key(&format!("N{n}X")),
            false => sts.user_key(&format!("N{n}X")),
        };
        let rest = rest(key.token.as_deref().unwrap_or_default());
        let body = format!(
            "{{\"AccessKeyId\": \"{}\", \"SecretAccessKey\": \"{}\"{rest}}}",
            key.id, key.secret
        );
        let answer = daemon.post_as(content_type, &body);
        assert_eq!((answer.status, answer.text()), (200, ""), "{rest}");
        // Signed by it and with its token, or STS had refused.
        daemon.wait_for(&format!("signed by {}", key.id));
    };
    for content_type in [
        JSON,
        FORM,
        None,
        Some(""),
        Some("application/json; charset=utf-8"),
        Some("Application/JSON;charset=UTF-8"),
    ] {
        take(content_type, false, &|_| String::new());
    }
    for none in [
        "",
        r#", "Token": null"#,
        r#", "Token": """#,
        r#", "SessionToken": null"#,
        r#", "Token": null, "SessionToken": """#,
    ] {
        take(JSON, false, &|_| none.to_owned());
    }
    take(JSON, true, &|token| format!(", \"Token\": \"{token}\""));
    take(FORM, true, &|token| {
        format!(", \"SessionToken\": \"{token}\"")
    });
    take(JSON, true, &|token| {
        format!(", \"Token\": \"\", \"SessionToken\": \"{token}\"")
    });
    // What `aws configure export-credentials` prints, and what the later Go version wanted.
    take(FORM, true, &|token| {
        format!(
            ",\n  \"SessionToken\": \"{token}\",\n  \"Version\": 1,\n  \
             \"Expiration\": \"2030-01-01T00:00:00+00:00\"\n"
        )
    });
    take(JSON, false, &|_| {
        ", \"Signature\": \"not even hexadecimal\"".to_owned()
    });
    take(JSON, false, &|_| ", \"Signature\": [7]".to_owned());
}

#[test]
fn a_chunked_body_and_a_hesitant_client_are_served() {
    let sts = FakeSts::start(HOUR);
    let daemon = start(&sts, &[]);
    let json = sts.user_key("BOOT").json();
    let (first, second) = json.split_at(20);
    let mut connection = crate::common::Connection::open(daemon.admin());
    connection.send(format!(
        "POST {CREDS} HTTP/1.1\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"
    ));
    assert_eq!(connection.answer_to("POST").status, 100);
    for part in [first, second, ""] {
        connection.send(format!("{:x}\r\n{part}\r\n", part.len()));
    }
    assert_eq!(connection.answer_to("POST").status, 200);
    daemon.wait_for("signed by AKIABOOT");
}

#[test]
fn what_is_wrong_is_named_and_changes_nothing() {
    let sts = FakeSts::start(HOUR);
    let daemon = start(&sts, &[]);
    let (key, other) = (sts.user_key("BOOT"), sts.user_key("OTHER"));
    daemon.assume_with(&key);
    let before = (daemon.verbose(), daemon.document());

    let good = other.json();
    let two = |id: &str, secret: &str| {
        format!("{{\"AccessKeyId\": {id}, \"SecretAccessKey\": {secret}}}").into_bytes()
    };
    let with_token = |token: &str| {
        let body = two("\"AKIAOTHER\"", "\"x\"");
        [&body[..body.len() - 1], b", ", token.as_bytes(), b"}"].concat()
    };
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (vec![], "JSON"),
        (b"{".into(), "JSON"),
        (b"AccessKeyId=AKIAOTHER&SecretAccessKey=x".into(), "JSON"),
        (format!("{good}{good}").into(), "JSON"),
        (format!("{good},").into(), "JSON"),
        (b"\xff".into(), "JSON"),
        (two("\"AKIA\u{e9}\"", "\"x\""), "AccessKeyId"),
        ([&b"{\"AccessKeyId\": \"\xff"[..], b"\"}"].concat(), "JSON"),
        (b"[]".into(), "object"),
        (b"null".into(), "object"),
        (b"\"AKIAOTHER\"".into(), "object"),
        (format!("[{good}]").into(), "object"),
        (b"[\"AKIAOTHER\", \"x\", null, null]".into(), "object"),
        (b"{}".into(), "AccessKeyId is missing or empty"),
        (b"{\"accesskeyid\": \"A\"}".into(), "AccessKeyId"),
        (
            b"{\"SecretAccessKey\": \"x\"}".into(),
            "AccessKeyId is missing",
        ),
        (
            b"{\"AccessKeyId\": \"A\"}".into(),
            "SecretAccessKey is missing",
        ),
        (two("\"\"", "\"x\""), "AccessKeyId is missing or empty"),
        (two("null", "\"x\""), "AccessKeyId is missing or empty"),
        (
            two("\"AKIAOTHER\"", "\"\""),
            "SecretAccessKey is missing or empty",
        ),
        (
            two("\"AKIAOTHER\"", "null"),
            "SecretAccessKey is missing or empty",
        ),
        (two("7", "\"x\""), "AccessKeyId must be a string"),
        (
            two("\"AKIAOTHER\"", "[\"x\"]"),
            "SecretAccessKey must be a string",
        ),
        (two("\"AKIA OTHER\"", "\"x\""), "AccessKeyId has a blank"),
        (
            two("\"AKIAOTHER\"", "\"x\\r\\nX: y\""),
            "SecretAccessKey has",
        ),
        (with_token("\"Token\": true"), "Token must be a string"),
        (with_token("\"Token\": {}"), "Token must be a string"),
        (
            with_token("\"SessionToken\": 1.5"),
            "SessionToken must be a string",
        ),
        (with_token("\"Token\": \"a\\u0000b\""), "Token has"),
        (with_token("\"AccessKeyId\": \"AKIABOOT\""), "once"),
        (
            two("\"AKIAOTHER\"", "\"x\""),
            "AccessKeyId must be 16 to 128",
        ),
        (
            two("\"AKIA-OTHER-OTHER\"", "\"x\""),
            "AccessKeyId must be 16",
        ),
        (
            two("\"AKIA_OTHER_OTHER\"", "\"x\""),
            "AccessKeyId must be 16",
        ),
        (
            two(&format!("\"{}\"", "A".repeat(129)), "\"x\""),
            "AccessKeyId must be 16",
        ),
        (b"[".repeat(60_000), "JSON"),
    ];
    for (body, said) in cases {
        let text = String::from_utf8_lossy(&body[..body.len().min(80)]).into_owned();
        let what = error_of(&daemon.post_as(JSON, body), 400);
        assert!(what.contains(said), "{text}: {what}");
    }
    for content_type in [
        "text/plain",
        "text/json",
        "application/xml",
        "application/jsonp",
        "multipart/form-data; boundary=x",
        "application/json, text/plain",
        "*/*",
    ] {
        let what = error_of(&daemon.post_as(Some(content_type), &good), 415);
        assert!(what.contains("application/json"), "{content_type}: {what}");
    }
    let long = format!("{good}{}", " ".repeat(64 * 1024));
    error_of(&daemon.post_as(JSON, long), 413);

    // None of it got as far as STS, and nothing else is another.
    assert_eq!(sts.calls().len(), 1);
    assert_eq!((daemon.verbose(), daemon.document()), before);
    daemon.bootstrap(&other);
    sts.wait_for_calls(2);
}

#[test]
fn a_content_type_of_bytes_that_are_no_text_is_refused() {
    let sts = FakeSts::start(HOUR);
    let daemon = start(&sts, &[]);
    let json = sts.user_key("BOOT").json();
    let mut connection = crate::common::Connection::open(daemon.admin());
    let head = format!(
        "POST {CREDS} HTTP/1.1\r\nContent-Length: {}\r\n",
        json.len()
    );
    let content_type = b"Content-Type: application/xml\xff\r\n\r\n";
    connection.send([head.as_bytes(), content_type, json.as_bytes()].concat());
    error_of(&connection.answer_to("POST"), 415);
    assert_eq!(daemon.verbose()["state"], "waiting");
}

#[test]
fn other_methods_and_paths_are_405_and_404() {
    let sts = FakeSts::start(HOUR);
    let daemon = start(&sts, &[]);
    for (path, allow) in [
        (CREDS, "POST"),
        ("/bootstrap/creds/", "POST"),
        ("/status", "GET, HEAD"),
        ("/status?verbose", "GET, HEAD"),
        ("/reload", "POST"),
        ("/config", "GET, HEAD"),
    ] {
        let allowed: Vec<&str> = allow.split(", ").collect();
        for method in ["GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "TRACE"] {
            if allowed.contains(&method) {
                continue;
            }
            let answer = daemon.call(method, path, "");
            error_of(&answer, 405);
            assert_eq!(answer.field("Allow"), Some(allow), "{method} {path}");
        }
    }
    for path in [
        "/",
        "/bootstrap",
        "/bootstrap/",
        "/bootstrap/creds/x",
        "/Status",
        "/statuses",
        "/status/verbose",
        "/latest/meta-data/",
    ] {
        error_of(&daemon.call("GET", path, ""), 404);
        error_of(&daemon.call("POST", path, ""), 404);
    }
    error_of(&daemon.call("BREW", "/status", ""), 501);
    // The admin service's paths are not the metadata service's.
    for path in ["/status", CREDS, "/config"] {
        assert_eq!(daemon.get(path).status, 404, "{path}");
        let fields = [(crate::common::TOKEN, daemon.token())];
        let answer = send(daemon.address(), "POST", path, &fields, "{}");
        assert_eq!(answer.status, 403, "{path}");
    }
}

#[test]
fn credentials_can_be_given_but_not_taken_back() {
    let sts = FakeSts::start(HOUR);
    let daemon = start(&sts, &[]);
    daemon.assume_with(&sts.user_key("BOOT"));
    let below = DOCUMENT.strip_prefix("/latest/meta-data/").expect("is so");
    for path in [
        below,
        "iam/security-credentials-extended/app",
        "identity-credentials/ec2/security-credentials/ec2-instance",
    ] {
        assert_eq!(daemon.get(&format!("/latest/meta-data/{path}")).status, 200);
        let path = format!("/metadata/{path}");
        for target in [
            path.clone(),
            format!("{path}/"),
            path.replace("iam/", "iam//"),
        ] {
            error_of(&daemon.call("GET", &target, ""), 403);
        }
        for method in ["PUT", "DELETE"] {
            error_of(&daemon.call_with(method, &path, &[], "{}"), 403);
        }
    }
    let patch = format!("{{\"{below}\": \"x\", \"instance-id\": \"i-1\"}}");
    error_of(&daemon.call_with("PATCH", "/metadata", &[], patch), 403);
    assert_ne!(daemon.text("/latest/meta-data/instance-id"), "i-1");
    assert!(daemon.status());
}

#[test]
fn a_newly_posted_credential_replaces_what_works_only_when_it_works() {
    let sts = FakeSts::start(HOUR);
    let daemon = start(&sts, &[]);
    daemon.assume_with(&sts.user_key("FIRST"));
    let stranger = crate::common::sts::Key {
        id: "AKIASTRANGER0000".to_owned(),
        secret: "nobody/knows/this/one".to_owned(),
        token: None,
        expires: None,
    };
    daemon.bootstrap(&stranger);
    let line = daemon.wait_for("AKIASTRANGER0000 are not taken");
    assert!(line.contains("InvalidClientTokenId"), "{line}");
    assert_eq!(daemon.served(), "ASIASESSION0");
    assert_eq!(daemon.verbose()["state"], "valid");
    daemon.assume_with(&sts.user_key("SECOND"));
    assert_eq!(daemon.served(), "ASIASESSION1");
    let ((), tried) = timed(|| {
        daemon.bootstrap(&sts.user_key("THIRD"));
        sts.wait_for_calls(4);
    });
    tried.assert_within(SECOND);
}
