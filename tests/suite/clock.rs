//! The instance's clock, moved by hand: tokens, credentials and dates follow, so that six hours
//! are tested in a millisecond; real time stays real.

use crate::common::admin::role;
use crate::common::{Answer, Mock, TOKEN, TOKEN_TTL};
use serde_json::{Value, json};
use time::format_description::well_known::{Rfc2822, Rfc3339};
use time::{Duration, OffsetDateTime};

const ROLE: &str = "/latest/meta-data/iam/security-credentials/demo";
const EXTENDED: &str = "/latest/meta-data/iam/security-credentials-extended/demo";
const INFO: &str = "/latest/meta-data/iam/info";
const IDENTITY: &str =
    "/latest/meta-data/identity-credentials/ec2/security-credentials/ec2-instance";
const IDENTITY_INFO: &str = "/latest/meta-data/identity-credentials/ec2/info";
/// What a busy machine may need between two steps of a test.
const SLACK: Duration = Duration::seconds(10);

fn rfc3339(text: &str) -> OffsetDateTime {
    OffsetDateTime::parse(text, &Rfc3339).unwrap_or_else(|e| panic!("{text}: {e}"))
}

/// A date of a header.
fn header(answer: &Answer, name: &str) -> OffsetDateTime {
    let text = answer.field(name).unwrap_or_else(|| panic!("no {name}"));
    let (rest, zone) = text.rsplit_once(' ').expect("a date");
    assert_eq!(zone, "GMT", "{text}");
    OffsetDateTime::parse(&format!("{rest} +0000"), &Rfc2822)
        .unwrap_or_else(|e| panic!("{text}: {e}"))
}

/// `found` is `expected`, or that little later which the test itself took.
fn assert_near(found: OffsetDateTime, expected: OffsetDateTime, what: &str) {
    let late = found - expected;
    assert!(
        late > -Duration::SECOND && late < SLACK,
        "{what}: {found}, expected {expected}"
    );
}

fn now(live: &Mock) -> OffsetDateTime {
    rfc3339(live.shown("/clock")["time"].as_str().expect("a date"))
}

fn date_of(answer: &Answer, key: &str) -> OffsetDateTime {
    let document: Value = serde_json::from_str(answer.text()).expect("JSON");
    rfc3339(
        document[key]
            .as_str()
            .unwrap_or_else(|| panic!("{key} in {document}")),
    )
}

#[test]
fn the_clock_is_advanced_set_and_reset() {
    let live = Mock::live(json!({}));
    let real = OffsetDateTime::now_utc();
    assert_eq!(live.shown("/clock")["offset_seconds"], 0.0);
    assert_near(now(&live), real, "at the start");
    for (by, seconds) in [
        ("6h", 21_600.0),
        ("-7h", -3600.0),
        ("1h30m", 1800.0),
        ("1500ms", 1801.5),
        ("2d", 174_601.5),
        ("-0s", 174_601.5),
    ] {
        let shown = live.clock(json!({"advance": by}));
        assert_eq!(shown["offset_seconds"], seconds, "{by}");
        assert_eq!(live.shown("/clock")["offset_seconds"], seconds, "{by}");
    }
    assert_near(now(&live), real + Duration::seconds(174_601), "moved");
    for time in [
        "2030-01-01T00:00:00Z",
        "1999-12-31T23:59:59Z",
        "2030-01-01T01:00:00+01:00",
    ] {
        let shown = live.clock(json!({"set": time}));
        let shown = rfc3339(shown["time"].as_str().expect("a date"));
        assert_near(shown, rfc3339(time), time);
        assert_near(now(&live), rfc3339(time), "it runs on from there");
    }
    let shown = live.clock(json!({"reset": true}));
    assert_eq!(shown["offset_seconds"], 0.0);
    assert_near(now(&live), real, "real time again");
}

#[test]
fn a_bad_move_is_400_and_names_the_field() {
    let live = Mock::live(json!({}));
    live.clock(json!({"advance": "1h"}));
    let offset = live.shown("/clock")["offset_seconds"].clone();
    for (field, body) in [
        ("advance", json!({"advance": "6 hours"})),
        ("advance", json!({"advance": "6"})),
        ("advance", json!({"advance": 6})),
        ("advance", json!({"advance": ""})),
        ("advance", json!({"advance": null})),
        ("advance", json!({"advance": "9999999d"})),
        ("advance", json!({"advance": "-999999d"})),
        ("advance", json!({"advance": "99999999999999999999s"})),
        ("set", json!({"set": "tomorrow"})),
        ("set", json!({"set": "2030-01-01"})),
        ("set", json!({"set": 1_893_456_000})),
        ("set", json!({"set": "1969-12-31T23:59:59Z"})),
        ("reset", json!({"reset": false})),
        ("reset", json!({"reset": "true"})),
        ("reset", json!({"reset": 1})),
        ("", json!({})),
        ("", json!({"advance": "1h", "reset": true})),
        ("", json!({"advance": "1h", "set": "2030-01-01T00:00:00Z"})),
        ("", json!({"advance": "1h", "extra": 1})),
        ("forward", json!({"forward": "1h"})),
    ] {
        let answer = live.call("POST", "/clock", body.to_string());
        assert_eq!(answer.status, 400, "{body}: {}", answer.text());
        let said: Value = serde_json::from_str(answer.text()).expect("JSON");
        let what = said["error"].as_str().expect("it says what is wrong");
        assert!(what.starts_with(field), "{body}: {what}");
        assert_eq!(live.shown("/clock")["offset_seconds"], offset, "{body}");
    }
    for body in ["", "6h", "[]", "null"] {
        assert_eq!(live.call("POST", "/clock", body).status, 400, "{body:?}");
    }
}

#[test]
fn everything_is_served_at_either_end_of_time() {
    let live = Mock::live(json!({"role": role()}));
    for time in ["1970-01-01T00:00:00Z", "9999-12-31T23:00:00Z"] {
        live.clock(json!({"set": time}));
        live.add(
            "/events",
            json!({"type": "spot-interruption", "action": "stop"}),
        );
        let event = json!({"type": "scheduled-maintenance", "code": "instance-stop"});
        live.add("/events", event);
        for path in [ROLE, EXTENDED, INFO, IDENTITY, IDENTITY_INFO] {
            assert_eq!(live.read(path).status, 200, "{time}: {path}");
        }
        for path in [
            "mac",
            "",
            "spot/instance-action",
            "events/maintenance/scheduled",
        ] {
            assert_eq!(live.meta_data(path).0, 200, "{time}: {path}");
        }
    }
    assert_eq!(date_of(&live.read(ROLE), "Expiration").year(), 9999);
}

#[test]
fn a_token_of_six_hours_expires_in_a_millisecond() {
    let live = Mock::live(json!({"http_tokens": "required"}));
    let token = live.new_token(21600);
    let ask = || live.ask("GET", "/latest/meta-data/mac", &[(TOKEN, &token)]);
    let left = || {
        let answer = ask();
        assert_eq!(answer.status, 200);
        let left = answer.field(TOKEN_TTL).expect("what is left of it");
        left.parse::<i64>().expect("seconds")
    };
    for (by, expected) in [("1s", 21599), ("2h", 14399), ("3h59m", 59)] {
        live.advance(by);
        let left = left();
        assert!(
            left <= expected && left > expected - SLACK.whole_seconds(),
            "{by}: {left}"
        );
    }
    live.advance("59s");
    assert_eq!(ask().status, 401);
    live.advance("-1h");
    assert_eq!(ask().status, 200, "time went back");
    live.clock(json!({"reset": true}));
    assert!(left() > 21600 - SLACK.whole_seconds());
    // One that is asked for now lives from now on.
    live.advance("5d");
    assert_eq!(ask().status, 401);
    let next = live.new_token(60);
    assert_eq!(live.ask("GET", "/", &[(TOKEN, &next)]).status, 200);
    live.advance("60s");
    assert_eq!(live.ask("GET", "/", &[(TOKEN, &next)]).status, 401);
}

#[test]
fn credentials_are_dated_anew_as_the_hours_pass() {
    let live = Mock::live(json!({"role": role()}));
    let life = |path: &str| {
        let answer = live.read(path);
        let updated = date_of(&answer, "LastUpdated");
        let expires = date_of(&answer, "Expiration");
        assert_eq!(expires - updated, Duration::hours(6), "{path}");
        assert_eq!(header(&answer, "Last-Modified"), updated, "{path}");
        updated
    };
    let started = life(ROLE);
    let documents =
        || [ROLE, EXTENDED, INFO, IDENTITY, IDENTITY_INFO].map(|path| live.read(path).body);
    let first = documents();
    live.advance("59m");
    assert!(documents() == first, "an hour has not passed");
    for (advance, hours) in [
        ("1m", 1),
        ("6h", 7),
        ("30d", 727),
        ("-30d", 7),
        ("-10h", -3),
    ] {
        live.advance(advance);
        for path in [ROLE, EXTENDED, IDENTITY] {
            let updated = life(path);
            assert_eq!(
                updated,
                started + Duration::hours(hours),
                "{advance}: {path}"
            );
            let age = now(&live) - updated;
            assert!(
                age >= Duration::ZERO && age < Duration::HOUR + SLACK,
                "{path}: {age}"
            );
        }
        for path in [INFO, IDENTITY_INFO] {
            let updated = date_of(&live.read(path), "LastUpdated");
            assert_eq!(
                updated,
                started + Duration::hours(hours),
                "{advance}: {path}"
            );
        }
    }
}

#[test]
fn credentials_with_a_date_of_their_own_keep_it() {
    let mut role = role();
    role["credentials"]["expiration"] = json!("2030-01-01T00:00:00Z");
    let live = Mock::live(json!({"role": role}));
    let expires = || date_of(&live.read(ROLE), "Expiration");
    assert_eq!(expires(), rfc3339("2030-01-01T00:00:00Z"));
    for time in ["2029-12-31T23:59:00Z", "2031-01-01T00:00:00Z"] {
        live.clock(json!({"set": time}));
        assert_eq!(expires(), rfc3339("2030-01-01T00:00:00Z"));
        let age = now(&live) - date_of(&live.read(ROLE), "LastUpdated");
        assert!(
            age >= Duration::ZERO && age < Duration::HOUR + SLACK,
            "{time}: {age}"
        );
    }
}

#[test]
fn the_date_of_every_answer_follows() {
    let live = Mock::live(json!({"http_tokens": "required"}));
    let real = OffsetDateTime::now_utc();
    // Kept open, it is told as well.
    let mut kept = live.connect();
    let keep = crate::common::http::request("GET", "/", &[("Connection", "keep-alive")]);
    assert_near(header(&kept.send(&keep).answer(), "Date"), real, "before");
    for time in ["2035-06-07T08:09:10Z", "1999-12-31T23:59:00Z"] {
        live.clock(json!({"set": time}));
        let expected = rfc3339(time);
        let token = live.new_token(60);
        let with_token = [(TOKEN, token.as_str())];
        for (method, path, fields, status) in [
            ("GET", "/latest/meta-data/mac", &with_token[..], 200),
            ("HEAD", "/latest/meta-data/", &with_token, 200),
            ("GET", "/latest/meta-data/mac", &[], 401),
            ("GET", "/nowhere", &with_token, 404),
            ("PUT", "/latest/api/token", &[(TOKEN_TTL, "60")], 200),
            ("PUT", "/latest/api/token", &[], 400),
        ] {
            let answer = live.ask(method, path, fields);
            assert_eq!(answer.status, status, "{method} {path}");
            assert_near(header(&answer, "Date"), expected, path);
        }
        assert_near(
            header(&kept.send(&keep).answer(), "Date"),
            expected,
            "kept open",
        );
        // The administration is no part of the instance.
        assert_near(
            header(&live.call("GET", "/status", ""), "Date"),
            real,
            "/status",
        );
    }
}

#[test]
fn nothing_is_modified_in_the_future() {
    let live = Mock::live(json!({"role": role(), "user_data": "x"}));
    let paths: Vec<String> = (live.everything().into_keys())
        .chain([ROLE, INFO, IDENTITY].map(str::to_owned))
        .collect();
    assert!(paths.len() > 50, "{}", paths.len());
    let modified = |path: &str| {
        let answer = live.read(path);
        assert_eq!(answer.status, 200, "{path}");
        let modified = header(&answer, "Last-Modified");
        assert!(modified <= header(&answer, "Date"), "{path}: {modified}");
        modified
    };
    for time in ["2035-06-07T08:09:10Z", "1999-12-31T23:59:00Z"] {
        live.clock(json!({"set": time}));
        for path in &paths {
            modified(path);
        }
        assert_near(modified("/latest/meta-data/mac"), rfc3339(time), time);
    }
    // What an event brings is as old as its notice, what was changed as its change.
    live.clock(json!({"set": "2035-06-07T08:00:00Z"}));
    let event =
        json!({"type": "spot-interruption", "action": "stop", "at": "2035-06-07T09:00:00Z"});
    live.add("/events", event);
    live.clock(json!({"set": "2035-06-07T09:00:00Z"}));
    let notice = rfc3339("2035-06-07T09:00:00Z");
    assert_near(
        modified("/latest/meta-data/spot/instance-action"),
        notice,
        "an event",
    );
    live.advance("1h");
    live.change("PUT", "/metadata/mac", "x");
    assert_near(
        modified("/latest/meta-data/mac"),
        notice + Duration::HOUR,
        "a change",
    );
}

#[test]
fn a_reload_keeps_the_clock_and_dates_by_it() {
    let live = Mock::live(json!({"role": role()}));
    live.clock(json!({"set": "2035-06-07T08:00:00Z"}));
    let expected = rfc3339("2035-06-07T08:00:00Z");
    live.change("POST", "/reload", "");
    assert_near(now(&live), expected, "the clock");
    assert_near(
        date_of(&live.read(ROLE), "LastUpdated"),
        expected,
        "credentials",
    );
    let mac = live.read("/latest/meta-data/mac");
    assert_near(header(&mac, "Last-Modified"), expected, "values");
}
