//! Who may do what (docs/architecture.md, D7), as far as one machine can show it; neighbours are in
//! tests/clients/test_neighbours.py.

use crate::common::http::send;
use crate::common::sts::FakeSts;
use crate::common::{Mock, TOKEN, TOKEN_TTL, TempFile};
use serde_json::json;

use super::{CREDS, DOCUMENT, HOUR, error_of, start, with_role};

/// `Host` values with whether they are no name of an attacker's.
const HOSTS: [(&str, bool); 20] = [
    ("127.0.0.1", true),
    ("127.0.0.1:8000", true),
    ("169.254.169.254", true),
    ("10.1.2.3:80", true),
    ("[fd00:ec2::254]", true),
    ("[::1]:8998", true),
    ("localhost", true),
    ("LOCALHOST:8000", true),
    ("localhost.:8000", true),
    ("instance-data", true),
    ("metadata.test", true),
    ("Metadata.Test.:80", true),
    ("rebound.attacker.example", false),
    ("rebound.attacker.example:8000", false),
    ("127.0.0.1.attacker.example", false),
    ("localhost.attacker.example", false),
    ("attacker-localhost", false),
    ("xmetadata.test", false),
    ("sub.metadata.test", false),
    ("instance-data.ec2.internal", false),
];

fn guarded(sts: &FakeSts) -> serde_json::Value {
    let mut config = with_role(sts);
    config["allowed_hosts"] = json!(["Metadata.test"]);
    config
}

#[test]
fn a_web_page_reads_nothing_after_dns_rebinding() {
    let sts = FakeSts::start(HOUR);
    let daemon = Mock::with_admin(&guarded(&sts), &[]);
    daemon.assume_with(&sts.user_key("BOOT"));
    let token = daemon.token().to_owned();
    let secret = sts.issued()[0].secret.clone();
    // What a browser sends of a page at the name that now leads to us.
    let page: [&[(&str, &str)]; 4] = [
        &[("Host", "rebound.attacker.example:8000")],
        &[("Origin", "http://rebound.attacker.example:8000")],
        &[("Origin", "null")],
        &[("Host", "127.0.0.1"), ("origin", "http://127.0.0.1")],
    ];
    for fields in page {
        let with = |more: (&'static str, &str)| -> Vec<(String, String)> {
            let all = fields.iter().chain(std::slice::from_ref(&more));
            all.map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
                .collect()
        };
        for (method, target, more) in [
            ("PUT", "/latest/api/token", (TOKEN_TTL, "60")),
            ("GET", DOCUMENT, (TOKEN, token.as_str())),
            ("GET", "/", (TOKEN, token.as_str())),
            ("GET", "/latest/user-data", (TOKEN, token.as_str())),
        ] {
            let fields = with(more);
            let fields: Vec<_> = fields.iter().map(|(n, v)| (&**n, &**v)).collect();
            let answer = send(daemon.address(), method, target, &fields, "");
            assert_eq!((answer.status, answer.text()), (403, ""), "{fields:?}");
        }
        for (method, target) in [
            ("GET", "/status?verbose"),
            ("GET", "/config"),
            ("POST", CREDS),
            ("POST", "/reload"),
            ("PUT", "/user-data"),
            ("GET", "/nothing"),
        ] {
            let answer = daemon.call_with(method, target, fields, "");
            let what = error_of(&answer, 403);
            assert!(what.contains("allowed_hosts"), "{what}");
            assert!(answer.field("Access-Control-Allow-Origin").is_none());
        }
        // Says nothing worth having, and a health check may come through a proxy.
        let answer = daemon.call_with("GET", "/status", fields, "");
        assert_eq!((answer.status, answer.text()), (200, "true"));
    }
    assert!(daemon.text(DOCUMENT).contains(&secret));
    assert_eq!(sts.calls().len(), 1);
}

#[test]
fn hosts_are_told_from_an_attackers_on_both_ports() {
    let sts = FakeSts::start(HOUR);
    let daemon = Mock::with_admin(&guarded(&sts), &[]);
    let token = daemon.token().to_owned();
    for (host, is_ours) in HOSTS {
        let (metadata, admin) = if is_ours { (200, 200) } else { (403, 403) };
        let fields = [("Host", host), (TOKEN, &token)];
        let answer = send(daemon.address(), "GET", "/latest/", &fields, "");
        assert_eq!(answer.status, metadata, "{host}");
        let answer = daemon.call_with("GET", "/status?verbose", &fields, "");
        assert_eq!(answer.status, admin, "{host}");
    }
    // An absolute target's authority counts, not the field that contradicts it.
    let fields = [("Host", "127.0.0.1"), (TOKEN, &*token)];
    let target = "http://rebound.attacker.example/latest/";
    assert_eq!(
        send(daemon.address(), "GET", target, &fields, "").status,
        403
    );
    let target = "http://rebound.attacker.example/status?verbose";
    assert_eq!(daemon.call_with("GET", target, &fields, "").status, 403);
    // Clients older than the field have none.
    let mut connection = crate::common::Connection::open(daemon.address());
    connection.send(format!("GET / HTTP/1.0\r\n{TOKEN}: {token}\r\n\r\n"));
    assert_eq!(connection.answer().status, 200);
}

#[test]
fn without_a_role_of_sts_the_metadata_service_asks_for_no_name() {
    let fixed = json!({"role": {"arn": super::ARN, "credentials": {
        "access_key_id": "ASIA1", "secret_access_key": "s", "token": "t"}}});
    for config in [json!({}), fixed] {
        let daemon = Mock::with_admin(&config, &[]);
        let fields = [
            ("Host", "ci.example"),
            ("Origin", "http://ci.example"),
            (TOKEN, daemon.token()),
        ];
        let answer = send(daemon.address(), "GET", "/latest/", &fields, "");
        assert_eq!(answer.status, 200);
        // What changes the instance is guarded all the same.
        let fields = &fields[..2];
        error_of(&daemon.call_with("GET", "/config", fields, ""), 403);
        error_of(&daemon.call_with("PUT", "/user-data", fields, "x"), 403);
    }
}

#[test]
fn the_secret_is_asked_of_every_caller() {
    let sts = FakeSts::start(HOUR);
    // As `openssl rand > file` and an editor leave it.
    let file = TempFile::new("  open-Sesame/7+8=\n");
    let path = file.path().to_str().expect("UTF-8");
    let daemon = start(&sts, &["--bootstrap-secret-file", path]);
    let json = sts.user_key("BOOT").json();
    let with = |value: &str| {
        let fields = [("Authorization", value)];
        daemon.call_with("POST", CREDS, &fields, &json)
    };
    for wrong in [
        "",
        "Bearer",
        "Bearer ",
        "Bearer open-Sesame/7+8",
        "Bearer open-Sesame/7+8=x",
        "Bearer OPEN-SESAME/7+8=",
        "Bearer open-Sesame/7+8= x",
        "Basic open-Sesame/7+8=",
        "open-Sesame/7+8=",
    ] {
        let what = error_of(&with(wrong), 403);
        assert!(what.contains("Authorization: Bearer"), "{wrong:?}: {what}");
    }
    for (method, target) in [
        ("POST", CREDS),
        ("GET", CREDS),
        ("GET", "/status?verbose"),
        ("GET", "/config"),
        ("GET", "/metadata/"),
        ("POST", "/reload"),
        ("GET", "/nothing"),
    ] {
        error_of(&daemon.call(method, target, ""), 403);
    }
    assert!(!daemon.status(), "open to all");
    assert_eq!(sts.calls().len(), 0);
    // It takes the place of being local, not of the name.
    let rebound = [
        ("Host", "attacker.example"),
        ("Authorization", "Bearer open-Sesame/7+8="),
    ];
    error_of(&daemon.call_with("POST", CREDS, &rebound, &json), 403);

    let answer = with("bearer open-Sesame/7+8=");
    assert_eq!(answer.status, 200);
    daemon.wait_for("signed by AKIABOOT");
    let fields = [("Authorization", "Bearer open-Sesame/7+8=")];
    let verbose = daemon.call_with("GET", "/status?verbose", &fields, "");
    assert_eq!(verbose.status, 200);
    // The metadata service has tokens of its own.
    assert_eq!(daemon.served(), "ASIASESSION0");
}

#[test]
fn a_secret_that_is_none_is_an_error_at_start() {
    let empty = TempFile::new("");
    let blank = TempFile::new(" \r\n\t\n");
    // No field of a request could hold it.
    let lines = TempFile::new("c2VzYW1lIG9wZW4=\nc2VzYW1lIG9wZW4=\n");
    for (path, said) in [
        (empty.path().to_str().expect("UTF-8"), "empty"),
        (blank.path().to_str().expect("UTF-8"), "empty"),
        (lines.path().to_str().expect("UTF-8"), "one line"),
        ("/no/such/file", "cannot read"),
    ] {
        for role in [&["--role-arn", super::ARN][..], &["--admin-port", "0"]] {
            let arguments = [&["--port", "0", "--bootstrap-secret-file", path], role].concat();
            let (status, stdout, stderr) = crate::common::run(&arguments);
            assert_eq!((status, stdout.as_str()), (78, ""), "{stderr}");
            for part in ["--bootstrap-secret-file", path, said] {
                assert!(stderr.contains(part), "{part}: {stderr}");
            }
        }
    }
}

#[test]
fn without_a_role_there_is_an_admin_service_only_when_it_is_asked_for() {
    let daemon = Mock::with_admin(&json!({}), &[]);
    assert!(daemon.status());
    assert_eq!(daemon.verbose(), json!({"state": "no role"}));
    let what = error_of(&daemon.post_as(None, "{}"), 404);
    assert!(what.contains("no role"), "{what}");
    assert_eq!(daemon.call("GET", "/config", "").status, 200);

    let mut alone = crate::common::Mock::start(&json!({}));
    alone.signal("TERM");
    assert!(
        alone
            .wait(crate::common::PATIENCE)
            .expect("it ends")
            .success()
    );
    let lines: Vec<String> = alone.stdout.iter().collect();
    assert_eq!(lines, [""; 0], "no second listener");
}

#[test]
fn a_role_that_is_to_fail_is_not_called_good() {
    let daemon = Mock::with_admin(&json!({"role": {"arn": super::ARN, "code": "Failed"}}), &[]);
    assert_eq!(daemon.document()["Code"], "Failed");
    assert!(!daemon.status());
    let credentials = |expiration: &str| {
        json!({"role": {"arn": super::ARN, "credentials": {"access_key_id": "ASIA1",
            "secret_access_key": "s", "token": "t", "expiration": expiration}}})
    };
    assert!(!Mock::with_admin(&credentials("2020-01-01T00:00:00Z"), &[]).status());
    assert!(Mock::with_admin(&credentials("2099-01-01T00:00:00Z"), &[]).status());
}
