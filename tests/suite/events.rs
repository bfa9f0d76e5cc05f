//! Events that come over the running instance: EC2's documents byte for byte, the moment they
//! appear, and how maintenance ends. The clock is moved; nothing waits.

use crate::common::{CATALOGUE, Mock, TempFile, run};
use serde_json::{Value, json};

const SPOT: &str = "spot/instance-action";
const TERMINATION: &str = "spot/termination-time";
const REBALANCE: &str = "events/recommendations/rebalance";
const SCHEDULED: &str = "events/maintenance/scheduled";
const HISTORY: &str = "events/maintenance/history";
const LIFECYCLE: &str = "autoscaling/target-lifecycle-state";

/// What there is at each path for everyone; `None` for 404.
fn at<const N: usize>(live: &Mock, paths: [&str; N]) -> [Option<String>; N] {
    paths.map(|path| match live.meta_data(path) {
        (200, text) => Some(text),
        (404, _) => None,
        (status, _) => panic!("{path}: {status}"),
    })
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// A daemon whose clock says that it is that time.
fn at_time(time: &str) -> Mock {
    let live = Mock::live(json!({}));
    live.clock(json!({"set": time}));
    live
}

fn id(shown: &Value) -> String {
    shown["id"].as_str().expect("an id").to_owned()
}

/// One entry of a maintenance list, of the maintenance below.
fn entry(id: &str, prefix: &str, state: &str) -> String {
    format!(
        "{{\n  \"NotBefore\" : \"21 Jan 2026 09:00:43 GMT\",\n  \"Code\" : \"system-reboot\",\n  \
         \"Description\" : \"{prefix}scheduled reboot\",\n  \"EventId\" : \"{id}\",\n  \
         \"NotAfter\" : \"21 Jan 2026 09:17:23 GMT\",\n  \"State\" : \"{state}\"\n}}"
    )
}

fn list(entries: &[String]) -> String {
    format!("[ {} ]", entries.join(", "))
}

fn maintenance() -> Value {
    json!({
        "type": "scheduled-maintenance", "code": "system-reboot", "description": "scheduled reboot",
        "not_before": "2026-01-21T09:00:43Z", "not_after": "2026-01-21T09:17:23Z",
    })
}

/// Well before it, so that it is still to come.
const BEFORE: &str = "2026-01-02T00:00:00Z";

#[test]
fn documents_are_ec2s_byte_for_byte() {
    let live = at_time(BEFORE);
    let spot = json!({
        "type": "spot-interruption", "action": "terminate", "time": "2026-01-02T08:22:00Z",
    });
    live.add("/events", spot);
    let rebalance = json!({"type": "rebalance-recommendation", "at": "2026-01-02T08:22:00Z"});
    live.add("/events", rebalance);
    let id = id(&live.add("/events", maintenance()));
    let state = json!({"type": "autoscaling-target-lifecycle-state", "state": "InService"});
    live.add("/events", state);
    live.clock(json!({"set": "2026-01-02T08:22:00Z"}));
    let documents = [
        (
            SPOT,
            "{\"action\": \"terminate\", \"time\": \"2026-01-02T08:22:00Z\"}".to_owned(),
        ),
        (TERMINATION, "2026-01-02T08:22:00Z".to_owned()),
        (
            REBALANCE,
            "{\"noticeTime\": \"2026-01-02T08:22:00Z\"}".to_owned(),
        ),
        (SCHEDULED, list(&[entry(&id, "", "active")])),
        (LIFECYCLE, "InService".to_owned()),
    ];
    for (path, document) in &documents {
        assert_eq!(at(&live, [path]), [Some(document.clone())]);
        let answer = live.read(&format!("/2021-07-15/meta-data/{path}"));
        assert_eq!(answer.field("Content-Type"), Some("text/plain"), "{path}");
        assert_eq!(answer.text(), document);
        let shown = live.call("GET", &format!("/metadata/{path}"), "");
        assert_eq!(shown.text(), document, "as everyone sees it");
    }
    live.change(
        "PATCH",
        &format!("/events/{id}"),
        "{\"state\": \"completed\"}",
    );
    let history = list(&[entry(&id, "[Completed] ", "completed")]);
    assert_eq!(
        at(&live, [SCHEDULED, HISTORY]),
        [some("[]"), Some(history.clone())]
    );

    // The documents above are the catalogue's own, but for the id.
    let catalogue: Value = serde_json::from_str(CATALOGUE).expect("JSON");
    let entries = catalogue["entries"].as_array().expect("a list");
    for (path, document) in documents.into_iter().chain([(HISTORY, history)]) {
        let path = format!("meta-data/{path}");
        let example = entries.iter().find(|entry| entry["path"] == *path);
        let example = example.and_then(|entry| entry["example"].as_str());
        let document = document.replace(&id, "instance-event-0d59937288b749b32");
        // The lists of its examples have the documentation's older layout.
        let json = |text: &str| serde_json::from_str::<Value>(text).ok();
        match document.starts_with('[') {
            true => assert_eq!(example.and_then(json), json(&document), "{path}"),
            false => assert_eq!(example, Some(&*document), "{path}"),
        }
    }
}

#[test]
fn an_event_appears_in_the_listings_above_it_and_leaves_them() {
    let live = Mock::live(json!({}));
    let names = |directory: &str, name: &str| live.names(directory).contains(&name.to_owned());
    let everything = live.everything();
    assert!(!names("", "spot/") && !names("", "autoscaling/"));
    assert_eq!(live.names("events/"), ["maintenance/"]);
    let ids: Vec<String> = [
        json!({"type": "spot-interruption", "action": "terminate"}),
        json!({"type": "rebalance-recommendation"}),
        json!({"type": "autoscaling-target-lifecycle-state", "state": "Terminated"}),
        maintenance(),
    ]
    .map(|event| id(&live.add("/events", event)))
    .into();
    assert!(names("", "spot/") && names("", "autoscaling/"));
    assert_eq!(live.names("spot/"), ["instance-action", "termination-time"]);
    assert_eq!(live.names("events/"), ["maintenance/", "recommendations/"]);
    assert_eq!(live.names("events/maintenance/"), ["history", "scheduled"]);
    // Whatever is listed answers.
    assert_eq!(live.everything().len(), everything.len() + 7);
    for id in &ids {
        live.change("DELETE", &format!("/events/{id}"), "");
        assert_eq!(
            live.call("DELETE", &format!("/events/{id}"), "").status,
            404
        );
    }
    assert_eq!(live.shown("/events"), json!([]));
    assert!(live.everything() == everything, "as if they had never been");
}

#[test]
fn only_a_termination_has_a_termination_time() {
    for (action, has_time) in [("terminate", true), ("stop", false), ("hibernate", false)] {
        let live = Mock::live(json!({}));
        let event = json!({"type": "spot-interruption", "action": action});
        live.add("/events", event);
        assert!(live.meta_data(SPOT).1.contains(action));
        assert_eq!(live.meta_data(TERMINATION).0 == 200, has_time, "{action}");
        assert_eq!(
            live.names("spot/").len(),
            1 + usize::from(has_time),
            "{action}"
        );
    }
    let live = Mock::live(json!({}));
    live.add(
        "/events",
        json!({"type": "termination-time", "time": "2030-01-01T00:00:00Z"}),
    );
    let found = at(&live, [SPOT, TERMINATION]);
    assert_eq!(found, [None, some("2030-01-01T00:00:00Z")]);
}

#[test]
fn an_interruption_comes_two_minutes_after_its_notice_unless_dated() {
    let live = at_time("2030-01-01T00:00:00Z");
    let spot = json!({"type": "spot-interruption", "action": "stop"});
    let mut dated = spot.clone();
    dated["at"] = json!("2030-01-01T00:30:00Z");
    let shown = live.add("/events", dated.clone());
    assert_eq!(shown["time"], "2030-01-01T00:32:00Z");
    assert_eq!(shown["notice"], "2030-01-01T00:30:00Z");
    assert_eq!(shown["state"], "pending");
    assert_eq!(at(&live, [SPOT]), [None]);
    live.clock(json!({"set": "2030-01-01T00:30:00Z"}));
    let document = "{\"action\": \"stop\", \"time\": \"2030-01-01T00:32:00Z\"}";
    assert_eq!(at(&live, [SPOT]), [some(document)]);
    assert_eq!(live.shown("/events")[0]["state"], "active");
    // It stays, past the interruption, until it is erased.
    live.advance("6h");
    assert_eq!(at(&live, [SPOT]), [some(document)]);
    // Offsets other than UTC are understood.
    let live = at_time("2030-01-01T00:00:00Z");
    dated["at"] = json!("2030-01-01T01:00:00.5+01:00");
    assert_eq!(live.add("/events", dated)["time"], "2030-01-01T00:02:00Z");
}

#[test]
fn a_notice_in_a_while_shows_then_and_not_before() {
    for (within, before, rest) in [
        ("30s", "20s", "10s"),
        ("1h30m", "89m", "1m"),
        ("2d", "47h", "1h"),
    ] {
        let live = Mock::live(json!({}));
        live.add(
            "/events",
            json!({"type": "rebalance-recommendation", "in": within}),
        );
        live.advance(before);
        assert_eq!(at(&live, [REBALANCE]), [None], "{before} of {within}");
        assert_eq!(live.names("events/"), ["maintenance/"]);
        live.advance(rest);
        assert!(at(&live, [REBALANCE])[0].is_some(), "{within}");
        // Time goes back, and the notice is still to come.
        live.advance(&format!("-{rest}"));
        assert_eq!(at(&live, [REBALANCE]), [None], "{within}");
    }
}

#[test]
fn configured_events_count_from_the_start() {
    let live = Mock::live(json!({"events": [
        {"type": "spot-interruption", "action": "terminate", "in": "1h"},
        {"type": "autoscaling-target-lifecycle-state", "state": "InService"},
    ]}));
    assert_eq!(live.shown("/events").as_array().map(Vec::len), Some(2));
    assert_eq!(at(&live, [SPOT, LIFECYCLE]), [None, some("InService")]);
    live.advance("59m");
    assert_eq!(at(&live, [SPOT]), [None]);
    live.advance("1m");
    assert!(at(&live, [SPOT])[0].is_some());
    let id = id(&live.shown("/events")[0]);
    live.change("DELETE", &format!("/events/{id}"), "");
    assert_eq!(at(&live, [SPOT, LIFECYCLE]), [None, some("InService")]);
}

#[test]
fn a_wrong_configured_event_is_named() {
    let config = json!({"events": [
        {"type": "rebalance-recommendation"},
        {"type": "spot-interruption", "action": "explode"},
    ]});
    let file = TempFile::new(config.to_string());
    let path = file.path().to_str().expect("cargo's path");
    let (status, _, stderr) = run(&["--config", path, "--check"]);
    assert_eq!(status, 78);
    assert!(stderr.contains("events[1].action: "), "{stderr}");
}

#[test]
fn an_event_answers_201_and_is_shown_as_it_was_told() {
    let live = at_time("2030-01-01T00:00:00Z");
    let mut ids = Vec::new();
    for mut event in [
        json!({"type": "spot-interruption", "action": "stop", "at": "2030-01-01T01:00:00Z",
               "time": "2030-01-01T02:00:00Z", "callers": 2, "clients": ["127.0.0.2", "::1"]}),
        json!({"type": "rebalance-recommendation", "callers": 1}),
        json!({"type": "termination-time", "time": "2030-01-01T00:00:01Z"}),
        json!({"type": "autoscaling-target-lifecycle-state", "state": "Warmed:Stopped"}),
        maintenance(),
    ] {
        let shown = live.add("/events", event.clone());
        ids.push(id(&shown));
        event.as_object_mut().expect("it is one").remove("at");
        for (key, value) in event.as_object().expect("it is one") {
            assert_eq!(&shown[key], value, "{key} of {shown}");
        }
    }
    let all = live.shown("/events");
    let listed: Vec<String> = all.as_array().expect("a list").iter().map(id).collect();
    assert_eq!(listed, ids);
    assert_eq!(all[4]["state"], "completed", "its not_after is long past");
    let distinct: std::collections::HashSet<_> = ids.iter().collect();
    assert_eq!(distinct.len(), ids.len());
}

#[test]
fn a_bad_event_is_400_and_names_the_field() {
    let live = Mock::live(json!({}));
    live.add("/events", json!({"type": "rebalance-recommendation"}));
    let spot = |key: &str, value: Value| {
        let mut event = json!({"type": "spot-interruption", "action": "stop"});
        event[key] = value;
        event
    };
    let of = |kind: &str, key: &str, value: Value| json!({"type": kind, key: value});
    let late = |from: &str, to: &str| {
        let mut event = maintenance();
        (event["not_before"], event["not_after"]) = (json!(from), json!(to));
        event
    };
    live.refuses(
        "POST",
        "/events",
        "/events",
        &[
            ("type: ", json!({})),
            ("type: ", json!({"type": "earthquake"})),
            ("type: ", json!({"type": 5})),
            ("type: ", json!({"type": null})),
            ("action: ", json!({"type": "spot-interruption"})),
            ("action: ", spot("action", json!("explode"))),
            ("action: ", spot("action", json!(["stop"]))),
            ("time: ", spot("time", json!("tomorrow"))),
            ("time: ", spot("time", json!(5))),
            ("time: ", spot("time", json!("2030-01-01"))),
            ("time: ", spot("time", json!("0000-01-01T00:00:00+10:00"))),
            ("time: ", spot("time", json!("0000-01-01T00:00:00+10:00"))),
            ("time: ", json!({"type": "termination-time"})),
            (
                "time: ",
                of("termination-time", "time", json!("2030-13-01T00:00:00Z")),
            ),
            ("code: ", json!({"type": "scheduled-maintenance"})),
            (
                "code: ",
                of("scheduled-maintenance", "code", json!("lunch")),
            ),
            (
                "not_after: ",
                late("2030-01-01T00:00:01Z", "2030-01-01T00:00:00Z"),
            ),
            ("not_before: ", late("soon", "2030-01-01T00:00:00Z")),
            ("description: ", {
                let mut event = maintenance();
                event["description"] = json!("two\nlines");
                event
            }),
            (
                "state: ",
                json!({"type": "autoscaling-target-lifecycle-state"}),
            ),
            (
                "state: ",
                of(
                    "autoscaling-target-lifecycle-state",
                    "state",
                    json!("Asleep"),
                ),
            ),
            ("in: ", spot("in", json!("soon"))),
            ("in: ", spot("in", json!(30))),
            ("in: ", spot("in", json!("-30s"))),
            ("in: ", spot("in", json!("30"))),
            ("at: ", spot("at", json!("later"))),
            ("at: ", {
                let mut event = spot("in", json!("30s"));
                event["at"] = json!("2030-01-01T00:00:00Z");
                event
            }),
            ("callers: ", spot("callers", json!(-1))),
            ("callers: ", spot("callers", json!("some"))),
            ("callers: ", spot("callers", json!(1.5))),
            ("clients: ", spot("clients", json!(["localhost"]))),
            ("clients: ", spot("clients", json!([5]))),
            ("clients: ", spot("clients", json!({"127.0.0.1": true}))),
            ("actoin: ", spot("actoin", json!("stop"))),
            ("state: ", spot("state", json!("InService"))),
            (
                "action: ",
                of("rebalance-recommendation", "action", json!("stop")),
            ),
            ("id: ", spot("id", json!("instance-event-1"))),
        ],
    );
    for body in [
        "",
        "x",
        "[]",
        "null",
        "\"spot-interruption\"",
        "{\"type\": ",
    ] {
        assert_eq!(live.call("POST", "/events", body).status, 400, "{body:?}");
    }
    assert_eq!(
        at(&live, [SPOT, TERMINATION, LIFECYCLE]),
        [None, None, None]
    );
    assert_eq!(at(&live, [SCHEDULED]), [some("[]")]);
}

#[test]
fn maintenance_is_completed_or_canceled_by_hand() {
    let live = at_time(BEFORE);
    let ids = [(); 3].map(|()| id(&live.add("/events", maintenance())));
    let active = |n: usize| entry(&ids[n], "", "active");
    assert_eq!(
        at(&live, [SCHEDULED, HISTORY]),
        [Some(list(&[active(0), active(1), active(2)])), some("[]")]
    );
    let answer = live.call(
        "PATCH",
        &format!("/events/{}", ids[1]),
        "{\"state\": \"canceled\"}",
    );
    assert_eq!(answer.status, 200);
    assert_eq!(answer.field("Content-Type"), Some("application/json"));
    let canceled = entry(&ids[1], "[Canceled] ", "canceled");
    assert_eq!(
        at(&live, [SCHEDULED, HISTORY]),
        [
            Some(list(&[active(0), active(2)])),
            Some(list(std::slice::from_ref(&canceled)))
        ]
    );
    live.change(
        "PATCH",
        &format!("/events/{}", ids[0]),
        "{\"state\": \"completed\"}",
    );
    let completed = entry(&ids[0], "[Completed] ", "completed");
    assert_eq!(
        at(&live, [SCHEDULED, HISTORY]),
        [
            Some(list(&[active(2)])),
            Some(list(&[completed.clone(), canceled]))
        ]
    );
    let states: Vec<Value> = (live.shown("/events").as_array().expect("a list").iter())
        .map(|event| event["state"].clone())
        .collect();
    assert_eq!(states, ["completed", "canceled", "active"]);
    // Erased, it is not even in the history; the other one stays as it is when its time is over.
    live.change("DELETE", &format!("/events/{}", ids[1]), "");
    live.change("DELETE", &format!("/events/{}", ids[2]), "");
    live.clock(json!({"set": "2031-01-01T00:00:00Z"}));
    assert_eq!(
        at(&live, [SCHEDULED, HISTORY]),
        [some("[]"), Some(list(&[completed]))]
    );
}

#[test]
fn the_clock_completes_maintenance_at_its_not_after() {
    let live = at_time(BEFORE);
    let id = id(&live.add("/events", maintenance()));
    let active = [Some(list(&[entry(&id, "", "active")])), some("[]")];
    for time in ["2026-01-21T09:00:43Z", "2026-01-21T09:17:00Z"] {
        live.clock(json!({"set": time}));
        assert_eq!(at(&live, [SCHEDULED, HISTORY]), active, "{time}");
    }
    let over = [
        some("[]"),
        Some(list(&[entry(&id, "[Completed] ", "completed")])),
    ];
    for time in ["2026-01-21T09:17:23Z", "2030-01-01T00:00:00Z"] {
        live.clock(json!({"set": time}));
        assert_eq!(at(&live, [SCHEDULED, HISTORY]), over, "{time}");
        assert_eq!(live.shown("/events")[0]["state"], "completed");
    }
    live.clock(json!({"set": BEFORE}));
    assert_eq!(
        at(&live, [SCHEDULED, HISTORY]),
        active,
        "the clock went back"
    );
    // Canceled by hand, it is not completed by the clock.
    live.change(
        "PATCH",
        &format!("/events/{id}"),
        "{\"state\": \"canceled\"}",
    );
    live.clock(json!({"set": "2030-01-01T00:00:00Z"}));
    let canceled = list(&[entry(&id, "[Canceled] ", "canceled")]);
    assert_eq!(
        at(&live, [SCHEDULED, HISTORY]),
        [some("[]"), Some(canceled)]
    );
}

#[test]
fn maintenance_can_be_called_off_before_its_notice() {
    let live = at_time(BEFORE);
    let mut event = maintenance();
    event["at"] = json!("2026-01-10T00:00:00Z");
    let id = id(&live.add("/events", event));
    assert_eq!(at(&live, [SCHEDULED, HISTORY]), [some("[]"), some("[]")]);
    live.change(
        "PATCH",
        &format!("/events/{id}"),
        "{\"state\": \"canceled\"}",
    );
    assert_eq!(live.shown("/events")[0]["state"], "canceled");
    let history = list(&[entry(&id, "[Canceled] ", "canceled")]);
    assert_eq!(at(&live, [SCHEDULED, HISTORY]), [some("[]"), Some(history)]);
}

#[test]
fn maintenance_that_nobody_dated_is_from_the_notice_on() {
    let live = at_time("2030-01-31T23:30:00Z");
    let event = json!({
        "type": "scheduled-maintenance", "code": "instance-stop", "at": "2030-01-31T23:30:00Z",
    });
    let shown = live.add("/events", event);
    let from = shown["not_before"].as_str().expect("a date");
    assert_eq!(from, "2030-01-31T23:30:00Z");
    assert_eq!(shown.get("not_after"), None, "{shown}");
    let document = live.meta_data(SCHEDULED).1;
    assert!(
        document.contains("\"31 Jan 2030 23:30:00 GMT\""),
        "{document}"
    );
    assert!(document.contains("\"State\" : \"active\""), "{document}");
    // It has no end, and so it does not come to one by itself.
    assert!(!document.contains("NotAfter"), "{document}");
    live.clock(json!({"set": "9999-12-31T23:59:00Z"}));
    assert_eq!(live.meta_data(SCHEDULED).1, document);
}

#[test]
fn a_bad_end_of_an_event_is_refused() {
    let live = at_time(BEFORE);
    let id_of = |event| id(&live.add("/events", event));
    let maintenance = format!("/events/{}", id_of(maintenance()));
    live.refuses(
        "PATCH",
        &maintenance,
        "/events",
        &[
            ("state: ", json!({})),
            ("state: ", json!({"state": "active"})),
            ("state: ", json!({"state": null})),
            ("state: ", json!({"state": true})),
            (
                "code: ",
                json!({"state": "completed", "code": "instance-stop"}),
            ),
            ("expected a JSON object", json!("completed")),
        ],
    );
    for event in [
        json!({"type": "spot-interruption", "action": "stop"}),
        json!({"type": "rebalance-recommendation"}),
        json!({"type": "termination-time", "time": "2030-01-01T00:00:00Z"}),
        json!({"type": "autoscaling-target-lifecycle-state", "state": "Standby"}),
    ] {
        let path = format!("/events/{}", id_of(event));
        live.refuses(
            "PATCH",
            &path,
            "/events",
            &[("state: ", json!({"state": "completed"}))],
        );
    }
    for id in ["instance-event-0", "1", "instance-event-0/x"] {
        let path = format!("/events/{id}");
        let answer = live.call("PATCH", &path, "{\"state\": \"completed\"}");
        assert_eq!(answer.status, 404, "{id}");
        assert_eq!(live.call("DELETE", &path, "").status, 404, "{id}");
    }
}

#[test]
fn the_later_notice_wins_and_the_configured_value_returns() {
    let live = Mock::live(json!({"autoscaling_target_lifecycle_state": "InService"}));
    live.clock(json!({"set": "2030-01-01T00:00:00Z"}));
    let to = |state: &str, minute: u32| {
        let at = format!("2030-01-01T00:{minute:02}:00Z");
        let kind = "autoscaling-target-lifecycle-state";
        id(&live.add("/events", json!({"type": kind, "state": state, "at": at})))
    };
    let ids = [to("Terminated", 30), to("Standby", 10)];
    for (time, state) in [("00", "InService"), ("10", "Standby"), ("30", "Terminated")] {
        live.clock(json!({"set": format!("2030-01-01T00:{time}:00Z")}));
        assert_eq!(live.meta_data(LIFECYCLE).1, state);
    }
    for (id, state) in ids.iter().zip(["Standby", "InService"]) {
        live.change("DELETE", &format!("/events/{id}"), "");
        assert_eq!(live.meta_data(LIFECYCLE).1, state);
    }
}
