//! What the admin service tells of clients: the journal of their requests, and the metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::common::http::request;
use crate::common::{Mock, TOKEN, TOKEN_TTL, TempFile, wait_until};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

const MAC: &str = "/latest/meta-data/mac";

fn journal(mock: &Mock, query: &str) -> Vec<Value> {
    let answer = mock.call("GET", &format!("/requests{query}"), "");
    assert_eq!(answer.status, 200, "{query}: {}", answer.text());
    assert_eq!(answer.field("Content-Type"), Some("application/x-ndjson"));
    let text = answer.text();
    assert!(text.is_empty() || text.ends_with('\n'));
    let entry = |line| serde_json::from_str(line).expect("a JSON object a line");
    text.lines().map(entry).collect()
}

fn texts<'a>(entries: &'a [Value], key: &str) -> Vec<&'a str> {
    let text = |entry: &'a Value| entry[key].as_str().expect("a text");
    entries.iter().map(text).collect()
}

fn date(entry: &Value) -> OffsetDateTime {
    OffsetDateTime::parse(entry["time"].as_str().unwrap(), &Rfc3339).unwrap()
}

#[test]
fn the_journal_has_a_line_for_each_request_with_what_became_of_it() {
    let mock = Mock::with_admin(&json!({"force_status": {"/forced": 418}}), &[]);
    let before = OffsetDateTime::now_utc() - Duration::from_millis(1);
    let token = mock.token();
    let v2 = [(TOKEN, token), ("User-Agent", "a \"client\"/1.0")];
    let fault = |what: &str| {
        let path = "\"path\": \"/latest/meta-data/hostname\", \"requests\": 1";
        let posted = mock.call("POST", "/faults", format!("{{{path}, {what}}}"));
        let fault: Value = serde_json::from_slice(&posted.body).unwrap();
        fault["id"].as_u64().expect("an id")
    };
    mock.ask("GET", "//latest//meta-data/mac?x=1", &v2);
    mock.ask("HEAD", MAC, &[]);
    mock.ask("GET", "/latest/meta-data/nothing", &v2);
    mock.ask("GET", "/forced", &[]);
    mock.ask("PUT", "/latest/api/token", &[(TOKEN_TTL, "x")]);
    mock.ask("POST", MAC, &v2);
    mock.call("POST", "/clock", "{\"advance\": \"1h\"}");
    let delayed = fault("\"effect\": \"delay\", \"delay_ms\": 30");
    mock.ask("GET", "/latest/meta-data/hostname", &v2);
    let unavailable = fault("\"effect\": \"status\", \"status\": 503");
    mock.ask("GET", "/latest/meta-data/hostname", &[]);
    mock.ask("GET", MAC, &[(TOKEN, "dead")]);
    let entries = journal(&mock, "");
    let after = OffsetDateTime::now_utc();

    let found: Vec<_> = entries
        .iter()
        .map(|entry| {
            let keys = [
                "method",
                "path",
                "status",
                "imds",
                "token_age_s",
                "fault",
                "user_agent",
            ];
            keys.map(|key| entry[key].clone())
        })
        .collect();
    let agent = "a \"client\"/1.0";
    let hostname = "/latest/meta-data/hostname";
    let put = "/latest/api/token";
    let expected = json!([
        ["PUT", put, 200, "token", null, null, null],
        ["GET", MAC, 200, "v2", 0, null, agent],
        ["HEAD", MAC, 401, "v1", null, null, null],
        [
            "GET",
            "/latest/meta-data/nothing",
            404,
            "v2",
            0,
            null,
            agent
        ],
        ["GET", "/forced", 418, "v1", null, null, null],
        ["PUT", put, 400, "token", null, null, null],
        ["POST", MAC, 403, "v2", 0, null, agent],
        ["GET", hostname, 200, "v2", 3600, delayed, agent],
        ["GET", hostname, 503, "v1", null, unavailable, null],
        ["GET", MAC, 401, "v2", null, null, null],
    ]);
    assert_eq!(json!(found), expected);
    let mut last = before;
    for entry in &entries {
        let keys: BTreeSet<_> = entry.as_object().unwrap().keys().collect();
        assert_eq!(keys.len(), 10, "{keys:?}");
        assert_eq!(entry["client"], "127.0.0.1");
        // Real time, though the instance's is an hour ahead.
        assert!(last <= date(entry) && date(entry) <= after, "{entry}");
        last = date(entry);
        let waited = entry["duration_ms"].as_f64().expect("a number");
        assert!(
            waited >= if entry["fault"] == delayed { 30.0 } else { 0.0 },
            "{entry}"
        );
    }
}

#[test]
fn a_request_that_gets_no_answer_is_in_the_journal() {
    let mock = Mock::with_admin(&json!({}), &[]);
    mock.call(
        "POST",
        "/faults",
        "{\"path\": \"*\", \"effect\": \"no-answer\"}",
    );
    let mut waiting = mock.connect();
    waiting.send(request("GET", MAC, &[]));
    wait_until("an entry", || !journal(&mock, "").is_empty());
    let entries = journal(&mock, "");
    assert_eq!(
        (&entries[0]["path"], &entries[0]["status"]),
        (&json!(MAC), &json!(0))
    );
}

#[test]
fn filters_choose_by_path_client_and_time() {
    let mock = Mock::with_admin(&json!({}), &[]);
    let token = mock.token();
    for path in [
        "/latest/meta-data/",
        "/latest/meta-data/mac",
        "/latest/user-data",
    ] {
        mock.ask("GET", path, &[(TOKEN, token)]);
    }
    let all = journal(&mock, "");
    let times = texts(&all, "time");
    assert_eq!(all.len(), 4);
    for (query, from, to) in [
        ("?path=/latest/meta-data/mac".into(), 2, 3),
        ("?path=/latest/meta-data/".into(), 1, 2),
        ("?path=/latest/meta-data".into(), 0, 0),
        ("?path=/latest/meta-data/*".into(), 1, 3),
        ("?path=%2flatest/m*&client=127.0.0.1".into(), 1, 3),
        ("?client=127.0.0.1".into(), 0, 4),
        ("?client=127.0.0.2".into(), 0, 0),
        ("?since=1999-12-31T23:59:59Z".into(), 0, 4),
        ("?since=9999-12-31T23:59:59Z&path=*".into(), 0, 0),
        (format!("?since={}", times[0]), 0, 4),
    ] {
        assert_eq!(journal(&mock, &query), all[from..to], "{query}");
    }
    let since = journal(&mock, &format!("?since={}", times[3]));
    assert_eq!(since.last(), all.last());
    assert!(
        since
            .iter()
            .all(|entry| entry["time"].as_str() >= Some(times[3]))
    );
    for (query, field) in [
        ("path=mac", "path: "),
        ("client=somebody", "client: "),
        ("since=1700000000", "since: "),
        ("until=2026-01-02T03:04:05Z", "until: "),
        ("path=*&path=*", "path: "),
    ] {
        let answer = mock.call("GET", &format!("/requests?{query}"), "");
        assert_eq!(answer.status, 400, "{query}");
        let said: Value = serde_json::from_slice(&answer.body).unwrap();
        assert!(said["error"].as_str().unwrap().starts_with(field), "{said}");
    }
}

#[test]
fn the_journal_keeps_the_last_10_000_requests() {
    let mock = Mock::with_admin(&json!({}), &["--quiet"]);
    let mut connection = mock.connect();
    for n in 0..=10_000 {
        let asked = request("GET", &format!("/{n}"), &[("Connection", "keep-alive")]);
        connection.send(asked);
        assert_eq!(connection.answer().status, 401);
    }
    let entries = journal(&mock, "");
    assert_eq!(entries.len(), 10_000);
    assert_eq!(entries[0]["path"], "/1");
    assert_eq!(entries[9_999]["path"], "/10000");
    assert_eq!(journal(&mock, "?path=/99*").len(), 111);
}

#[test]
fn an_emptied_journal_starts_anew_and_a_reload_keeps_it() {
    let mock = Mock::with_admin(&json!({}), &[]);
    mock.get(MAC);
    assert_eq!(mock.call("POST", "/reload", "").status, 200);
    assert_eq!(journal(&mock, "").len(), 2);
    assert_eq!(mock.call("DELETE", "/requests", "").status, 200);
    assert_eq!(journal(&mock, "").len(), 0);
    mock.get(MAC);
    assert_eq!(texts(&journal(&mock, ""), "path"), [MAC]);
}

#[test]
fn nothing_that_is_told_of_clients_has_a_token_or_a_secret_in_it() {
    let secret = TempFile::new("of-the-administrator");
    let secret_file = secret.path().to_str().unwrap();
    let role = json!({"role": {
        "arn": "arn:aws:iam::123456789012:role/app",
        "credentials": {"access_key_id": "AKIASTATIC", "secret_access_key": "STATICSECRET",
            "token": "STATICTOKEN"},
    }});
    let mock = Mock::with_admin(&role, &["--bootstrap-secret-file", secret_file]);
    let token = mock.token();
    let credentials = mock.text("/latest/meta-data/iam/security-credentials/app");
    assert!(credentials.contains("STATICSECRET"));
    // Clients that put their token where none belongs.
    let misplaced = format!("/latest/api/token/{token}?{token}");
    mock.ask("GET", &misplaced, &[("User-Agent", token), (TOKEN, token)]);
    mock.ask("GET", &format!("/{}{token}", "x".repeat(240)), &[]);
    for target in ["/requests", "/verdicts", "/metrics"] {
        let bearer = [("Authorization", "Bearer of-the-administrator")];
        let answer = mock.call_with("GET", target, &bearer, "");
        assert_eq!(answer.status, 200);
        assert!(!answer.text().is_empty());
        for secret in [&token[..20], "STATICSECRET", "STATICTOKEN", "administrator"] {
            assert!(
                !answer.text().contains(secret),
                "{target}: {}",
                answer.text()
            );
        }
        // No request of the admin port is told of, not even this one.
        assert!(!answer.text().contains("/requests"));
        // And only to whom it concerns (docs/architecture.md, D7).
        assert_eq!(mock.call("GET", target, "").status, 403, "{target}");
    }
}

#[test]
fn a_web_page_is_told_nothing_and_other_methods_are_named() {
    let mock = Mock::with_admin(&json!({}), &[]);
    for (target, allowed) in [
        ("/requests", "GET, HEAD, DELETE"),
        ("/verdicts", "GET, HEAD"),
        ("/metrics", "GET, HEAD"),
    ] {
        let origin = [("Origin", "http://attacker.example")];
        assert_eq!(mock.call_with("GET", target, &origin, "").status, 403);
        assert_eq!(mock.call("HEAD", target, "").status, 200);
        let refused = mock.call("PUT", target, "");
        assert_eq!(
            (refused.status, refused.field("Allow")),
            (405, Some(allowed))
        );
        assert_eq!(mock.call("GET", &format!("{target}/x"), "").status, 404);
    }
}

/// The samples, each line of the text understood: every sample stands behind the HELP and TYPE of
/// its family, and none comes twice.
fn metrics(mock: &Mock) -> BTreeMap<String, f64> {
    let answer = mock.call("GET", "/metrics", "");
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.field("Content-Type"),
        Some("text/plain; version=0.0.4")
    );
    assert!(answer.text().ends_with('\n'));
    let mut samples = BTreeMap::new();
    let mut families = BTreeSet::new();
    let (mut helped, mut family, mut kind) = ("", "", "");
    for line in answer.text().lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, text) = help.split_once(' ').expect("a name and a text");
            assert!(!text.is_empty() && families.insert(name), "{line}");
            helped = name;
        } else if let Some(of_type) = line.strip_prefix("# TYPE ") {
            (family, kind) = of_type.split_once(' ').expect("a name and a type");
            assert_eq!(family, helped);
            assert_eq!(family.ends_with("_total"), kind == "counter", "{line}");
        } else {
            let (sample, value) = line.rsplit_once(' ').expect("a sample and a value");
            let name = sample.split('{').next().unwrap();
            assert_eq!(name, family, "{line}");
            assert!(["counter", "gauge"].contains(&kind));
            let labels = &sample[name.len()..];
            if !labels.is_empty() {
                let labels = labels
                    .strip_prefix('{')
                    .and_then(|rest| rest.strip_suffix("\"}"));
                for label in labels.expect("braces").split("\",") {
                    let (key, value) = label.split_once("=\"").expect("KEY=\"VALUE\"");
                    assert!(!key.is_empty() && !value.is_empty() && !value.contains('"'));
                }
            }
            let name = sample.strip_prefix("imds_mock_").expect("our prefix");
            let value = value.parse().expect("a number");
            assert_eq!(samples.insert(name.to_owned(), value), None, "{line}");
        }
    }
    samples
}

#[test]
fn metrics_count_what_happens() {
    let mock = Mock::with_admin(&json!({}), &[]);
    let requests =
        |status: u16, imds: &str| format!("requests_total{{status=\"{status}\",imds=\"{imds}\"}}");
    let fresh = metrics(&mock);
    assert_eq!(fresh["tokens_live"], 0.0);
    assert_eq!(fresh["connections"], 1.0);
    assert_eq!(fresh["faults_applied_total"], 0.0);
    assert_eq!(fresh["role_state{state=\"none\"}"], 1.0);
    assert_eq!(fresh["role_renewals_total"], 0.0);
    assert!(!fresh.contains_key("role_expiry_seconds"));

    let token = mock.new_token(3600);
    mock.new_token(60);
    let fault = "{\"path\": \"/f\", \"effect\": \"status\", \"status\": 503, \"requests\": 2}";
    mock.call("POST", "/faults", fault);
    for _ in 0..3 {
        mock.ask("GET", MAC, &[(TOKEN, &token)]);
        mock.ask("GET", "/f", &[]);
    }
    let mut noise = mock.connect();
    assert_eq!(noise.send("\x16\x03\x01\r\n\r\n").answer().status, 400);
    drop(noise);
    let held = mock.connect();
    let found = metrics(&mock);
    for (name, value) in [
        (requests(200, "token"), 2.0),
        (requests(200, "v2"), 3.0),
        (requests(503, "v1"), 2.0),
        (requests(401, "v1"), 1.0),
        (requests(400, "none"), 1.0),
        ("tokens_live".into(), 2.0),
        ("faults_applied_total".into(), 2.0),
    ] {
        assert_eq!(found.get(&name), Some(&value), "{name}: {found:?}");
    }
    assert!(found["connections"] >= 2.0, "{found:?}");
    drop(held);
    mock.call("POST", "/clock", "{\"advance\": \"2m\"}");
    assert_eq!(metrics(&mock)["tokens_live"], 1.0);
    mock.call("POST", "/clock", "{\"advance\": \"6h\"}");
    assert_eq!(metrics(&mock)["tokens_live"], 0.0);
    // Totals are those since the start.
    mock.call("DELETE", "/requests", "");
    assert_eq!(metrics(&mock)[&requests(200, "v2")], 3.0);
}

#[test]
fn metrics_show_the_role() {
    let state = |found: &BTreeMap<String, f64>| {
        let states = found
            .iter()
            .filter(|(name, _)| name.starts_with("role_state{"));
        let set: Vec<_> = states.filter(|(_, value)| **value == 1.0).collect();
        assert_eq!(set.len(), 1, "{found:?}");
        set[0].0.split('"').nth(1).unwrap().to_owned()
    };
    let arn = "arn:aws:iam::123456789012:role/app";
    let keys = json!({"access_key_id": "AKIASTATIC", "secret_access_key": "x", "token": "y"});
    let fixed = json!({"role": {"arn": arn, "credentials": keys}});
    let found = metrics(&Mock::with_admin(&fixed, &[]));
    assert_eq!(state(&found), "static");
    assert!(!found.contains_key("role_expiry_seconds"));

    // Sessions of two seconds are renewed after one.
    let sts = crate::common::sts::FakeSts::start(Duration::from_secs(2));
    let role = json!({"role": {"arn": arn, "sts_endpoint": sts.url()}});
    let mock = Mock::with_admin(&role, &[]);
    let found = metrics(&mock);
    assert_eq!(state(&found), "waiting");
    assert!(!found.contains_key("role_expiry_seconds"));
    assert_eq!(found["role_renewals_total"], 0.0);
    let key = sts.user_key("METRICS");
    assert_eq!(
        mock.call("POST", "/bootstrap/creds", key.json()).status,
        200
    );
    wait_until("two renewals", || {
        let found = metrics(&mock);
        found["role_renewals_total"] >= 2.0 && state(&found) == "valid"
    });
    let found = metrics(&mock);
    assert!(
        (0.0..=3.0).contains(&found["role_expiry_seconds"]),
        "{found:?}"
    );
}
