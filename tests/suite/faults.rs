//! When faults happen, and to whom: paths, sequences, rates, counts, clients; what the
//! administrative service shows of them; and how they go with one another and with the old keys.

use crate::common::admin::clients;
use crate::common::http::{End, request};
use crate::common::machine::timed;
use crate::common::{Mock, TOKEN_TTL, TempFile, run, wait_until};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const MAC: &str = "/latest/meta-data/mac";
const TOKEN_PATH: &str = "/latest/api/token";

/// A fault that answers 503 at `path`, changed by `more`.
fn unavailable(path: &str, more: Value) -> Value {
    let mut fault = json!({"path": path, "effect": "status", "status": 503});
    let fields = fault.as_object_mut().expect("it is one");
    fields.extend(more.as_object().expect("it is one").clone());
    fault
}

fn statuses(live: &Mock, path: &str, requests: usize) -> Vec<u16> {
    (0..requests).map(|_| live.read(path).status).collect()
}

fn shown(live: &Mock) -> usize {
    live.shown("/faults").as_array().expect("a list").len()
}

#[test]
fn a_path_is_exact_or_a_prefix_and_folded() {
    let live = Mock::live(json!({}));
    let hit = |live: &Mock, method: &str, target: &str| {
        let mut connection = live.connect();
        connection.send(request(method, target, &[(TOKEN_TTL, "60")]));
        connection.answer_to(method).status == 503
    };
    for (path, hits, misses) in [
        (
            MAC,
            &[
                "/latest/meta-data/mac",
                "//latest///meta-data//mac",
                "/latest/meta-data/mac?x=1",
            ][..],
            &[
                "/latest/meta-data/mac/",
                "/latest/meta-data",
                "/2021-03-23/meta-data/mac",
                "/",
            ][..],
        ),
        (
            "/latest/meta-data/placement/*",
            &[
                "/latest/meta-data/placement/",
                "/latest//meta-data/placement/region",
            ],
            &["/latest/meta-data/placement", "/latest/meta-data/mac"],
        ),
        (
            "/latest/meta-data/m*",
            &[MAC, "/latest/meta-data/metrics/"],
            &["/latest/meta-data/"],
        ),
        (
            "/latest*",
            &["/latest", "/latest/", "/latest/user-data"],
            &["/", "/1.0/meta-data/mac"],
        ),
        ("/*", &["/", "/nowhere", MAC], &[]),
        ("*", &["/", "/nowhere", MAC], &[]),
        ("/", &["/", "//"], &[MAC]),
    ] {
        live.change("DELETE", "/faults", "");
        live.add("/faults", unavailable(path, json!({})));
        for target in hits {
            assert!(hit(&live, "GET", target), "{path}: {target}");
        }
        for target in misses {
            assert!(!hit(&live, "GET", target), "{path}: {target}");
        }
        let of_tokens = ["/latest*", "/*", "*"].contains(&path);
        assert_eq!(hit(&live, "PUT", TOKEN_PATH), of_tokens, "{path}");
    }
}

#[test]
fn a_sequence_is_spent_after_its_end() {
    let live = Mock::live(json!({}));
    live.add(
        "/faults",
        json!({"path": MAC, "sequence": [503, 503, "ok"]}),
    );
    assert_eq!(
        live.read("/latest/meta-data/hostname").status,
        200,
        "not counted"
    );
    assert_eq!(statuses(&live, MAC, 2), [503, 503]);
    assert_eq!(shown(&live), 1, "its third step is to come");
    assert_eq!(statuses(&live, MAC, 1), [200]);
    assert_eq!(shown(&live), 0);
    assert_eq!(statuses(&live, MAC, 3), [200; 3]);
    // Spent, it is not there to be removed.
    assert_eq!(live.call("DELETE", "/faults/1", "").status, 404);
}

#[test]
fn a_repeated_sequence_begins_again() {
    let live = Mock::live(json!({}));
    live.add(
        "/faults",
        json!({"path": MAC, "sequence": [500, "ok", 429], "repeat": true}),
    );
    let round = [500, 200, 429];
    assert_eq!(statuses(&live, MAC, 9), [round, round, round].concat());
    assert_eq!(shown(&live), 1);
}

#[test]
fn a_sequence_names_other_effects_and_its_own() {
    let live = Mock::live(json!({}));
    let sequence = json!([
        "wrong-json",
        "reset",
        "truncate",
        "expired-token",
        "ok",
        404
    ]);
    live.add(
        "/faults",
        json!({
            "path": MAC, "effect": "truncate", "bytes": 2, "sequence": sequence,
        }),
    );
    let ask = || {
        let mut connection = live.connect();
        connection.send(request(
            "GET",
            MAC,
            &[("X-aws-ec2-metadata-token", live.token())],
        ));
        connection.rest()
    };
    let starts = |bytes: &[u8], with: &str| String::from_utf8_lossy(bytes).starts_with(with);
    let (answer, _) = ask();
    assert!(String::from_utf8_lossy(&answer).contains("\r\n\r\n{"));
    assert_eq!(ask(), (Vec::new(), End::Reset));
    let (answer, _) = ask();
    let body = String::from_utf8_lossy(&answer)
        .split("\r\n\r\n")
        .nth(1)
        .map(str::len);
    assert_eq!(body, Some(2));
    for status in [
        "HTTP/1.1 401 ",
        "HTTP/1.1 200 ",
        "HTTP/1.1 404 ",
        "HTTP/1.1 200 ",
    ] {
        let (answer, _) = ask();
        assert!(
            starts(&answer, status),
            "{status}: {}",
            String::from_utf8_lossy(&answer)
        );
    }
    assert_eq!(shown(&live), 0);
}

#[test]
fn so_many_requests_and_no_more() {
    let live = Mock::live(json!({}));
    live.add("/faults", unavailable(MAC, json!({"requests": 3})));
    assert_eq!(statuses(&live, MAC, 5), [503, 503, 503, 200, 200]);
    assert_eq!(shown(&live), 0);
    // As many even when they come together.
    live.add("/faults", unavailable(MAC, json!({"requests": 7})));
    let address = live.address();
    let answers = std::thread::scope(|scope| {
        let ask = || crate::common::http::ask(address, "GET", MAC, &[]).status;
        let asked: Vec<_> = (0..30).map(|_| scope.spawn(ask)).collect();
        asked
            .into_iter()
            .map(|one| one.join().expect("it asks"))
            .collect::<Vec<_>>()
    });
    assert_eq!(answers.iter().filter(|&&status| status == 503).count(), 7);
}

#[test]
fn so_many_seconds_of_real_time() {
    let live = Mock::live(json!({}));
    let since = Instant::now();
    live.add("/faults", unavailable(MAC, json!({"seconds": 1.5})));
    live.add(
        "/faults",
        unavailable("/latest/user-data", json!({"seconds": 3600})),
    );
    assert_eq!(live.read(MAC).status, 503);
    live.advance("2h");
    assert_eq!(
        live.read("/latest/user-data").status,
        503,
        "not of the instance's time"
    );
    wait_until("they are over", || live.read(MAC).status != 503);
    assert!(
        since.elapsed() >= Duration::from_millis(1500),
        "{:?}",
        since.elapsed()
    );
    assert_eq!(shown(&live), 1);
}

#[test]
fn the_same_seed_is_the_same_pattern() {
    let pattern = |rate: f64, seed: Option<u64>| {
        let live = Mock::live_with(json!({}), &["--quiet"]);
        let mut fault = unavailable(MAC, json!({"rate": rate}));
        if let Some(seed) = seed {
            fault["seed"] = json!(seed);
        }
        live.add("/faults", fault);
        statuses(&live, MAC, 200)
    };
    let first = pattern(0.3, Some(7));
    assert_eq!(pattern(0.3, Some(7)), first);
    assert_ne!(pattern(0.3, Some(8)), first);
    let hit = first.iter().filter(|&&status| status == 503).count();
    assert!((35..=85).contains(&hit), "{hit} of 200 at 0.3");
    assert_eq!(pattern(0.0, Some(7)), [200; 200]);
    assert_eq!(pattern(1.0, None), [503; 200]);
}

#[test]
fn a_rate_with_a_count_is_counted_by_what_happened() {
    let live = Mock::live(json!({}));
    live.add(
        "/faults",
        unavailable(MAC, json!({"rate": 0.5, "seed": 1, "requests": 5})),
    );
    let answers = statuses(&live, MAC, 60);
    assert_eq!(answers.iter().filter(|&&status| status == 503).count(), 5);
    assert_ne!(answers[..5], [503; 5], "the rate held");
    assert_eq!(shown(&live), 0);
}

fn read(live: &Mock, client: IpAddr) -> u16 {
    live.read_as(client, MAC).status
}

#[test]
fn a_fault_for_given_clients_is_for_them_alone() {
    let Some([one, other, third]) = clients() else {
        return;
    };
    let live = Mock::live(json!({}));
    let mapped = format!("::ffff:{other}");
    live.add(
        "/faults",
        unavailable(MAC, json!({"clients": [one, mapped], "requests": 3})),
    );
    assert_eq!(
        [one, other, third, one].map(|c| read(&live, c)),
        [503, 503, 200, 503]
    );
    assert_eq!(
        [one, other, third].map(|c| read(&live, c)),
        [200; 3],
        "counted together"
    );
}

#[test]
fn per_client_every_address_has_its_own_count() {
    let Some([one, other, third]) = clients() else {
        return;
    };
    let live = Mock::live(json!({}));
    live.add(
        "/faults",
        json!({"path": MAC, "sequence": [503, 429], "per_client": true}),
    );
    assert_eq!([one, other].map(|c| read(&live, c)), [503, 503]);
    assert_eq!([one, one].map(|c| read(&live, c)), [429, 200]);
    assert_eq!(
        [other, other, third].map(|c| read(&live, c)),
        [429, 200, 503]
    );
    assert_eq!(shown(&live), 1, "somebody new may come");
    live.change("DELETE", "/faults", "");

    let more = json!({"per_client": true, "requests": 1, "clients": [one, other]});
    live.add("/faults", unavailable(MAC, more));
    assert_eq!([one, one, third].map(|c| read(&live, c)), [503, 200, 200]);
    assert_eq!(shown(&live), 1);
    assert_eq!(read(&live, other), 503);
    assert_eq!(shown(&live), 0, "all it was meant for have had it");

    // The same pattern for each.
    let more = json!({"per_client": true, "rate": 0.5, "seed": 3});
    live.add("/faults", unavailable(MAC, more));
    let patterns = [one, other].map(|client| [(); 40].map(|()| read(&live, client)));
    assert_eq!(patterns[0], patterns[1]);
    assert!(patterns[0].contains(&200) && patterns[0].contains(&503));
}

#[test]
fn faults_are_shown_with_their_use_until_they_are_spent_or_removed() {
    let live = Mock::live(json!({}));
    let first = unavailable(MAC, json!({"requests": 5}));
    let second = json!({
        "path": "/latest/*", "effect": "delay", "delay_ms": 1, "jitter_ms": 0.5, "rate": 1.0,
        "seed": 4, "seconds": 60, "clients": ["127.0.0.1"], "per_client": true,
    });
    let ids = [first.clone(), second.clone()].map(|fault| {
        let shown = live.add("/faults", fault.clone());
        for (key, value) in fault.as_object().expect("it is one") {
            assert_eq!(&shown[key], value, "{key}");
        }
        shown["id"].clone()
    });
    assert_ne!(ids[0], ids[1]);
    statuses(&live, MAC, 2);
    statuses(&live, "/latest/user-data", 3);
    let all = live.shown("/faults");
    assert_eq!([&all[0]["id"], &all[1]["id"]], [&ids[0], &ids[1]]);
    assert_eq!([&all[0]["applied"], &all[1]["applied"]], [2, 3]);

    for path in ["/faults/0", "/faults/99", "/faults/x", "/faults/-1"] {
        assert_eq!(live.call("DELETE", path, "").status, 404, "{path}");
    }
    live.change("DELETE", &format!("/faults/{}", ids[0]), "");
    assert_eq!(
        live.call("DELETE", &format!("/faults/{}", ids[0]), "")
            .status,
        404
    );
    assert_eq!(live.read(MAC).status, 200);
    assert_eq!(live.shown("/faults")[0]["id"], ids[1]);
    live.change("DELETE", "/faults", "");
    assert_eq!(live.shown("/faults"), json!([]));
    live.change("DELETE", "/faults", "");
    let next = live.add("/faults", first);
    assert!(!ids.contains(&next["id"]), "an id is not used again");
}

#[test]
fn configured_faults_are_there_from_the_start() {
    let live = Mock::live(json!({"faults": [
        {"path": MAC, "sequence": [503, "ok"]},
        {"path": "/latest/user-data", "effect": "reset"},
    ]}));
    assert_eq!(shown(&live), 2);
    assert_eq!(statuses(&live, MAC, 3), [503, 200, 200]);
    let config = json!({"faults": [{"path": "/a", "effect": "delay"}]});
    let file = TempFile::new(config.to_string());
    let path = file.path().to_str().expect("cargo's path");
    let (status, _, stderr) = run(&["--config", path, "--check"]);
    assert_eq!(status, 78);
    assert!(stderr.contains("faults[0].delay_ms: "), "{stderr}");
}

#[test]
fn a_bad_fault_is_400_and_names_the_field() {
    let live = Mock::live(json!({}));
    live.add("/faults", unavailable("/x", json!({})));
    let of =
        |effect: &str, key: &str, value: Value| json!({"path": MAC, "effect": effect, key: value});
    let on = |key: &str, value: Value| unavailable(MAC, json!({key: value}));
    live.refuses(
        "POST",
        "/faults",
        "/faults",
        &[
            ("effect: ", json!({})),
            ("effect: ", json!({"path": MAC})),
            ("effect: ", json!({"path": MAC, "effect": "explode"})),
            ("effect: ", json!({"path": MAC, "effect": 503})),
            ("path: ", json!({"effect": "reset"})),
            (
                "path: ",
                json!({"effect": "reset", "path": "latest/meta-data/mac"}),
            ),
            ("path: ", json!({"effect": "reset", "path": ""})),
            ("path: ", json!({"effect": "reset", "path": ["/"]})),
            ("status: ", json!({"path": MAC, "effect": "status"})),
            ("status: ", of("status", "status", json!(99))),
            ("status: ", of("status", "status", json!(1000))),
            ("status: ", of("status", "status", json!(-1))),
            ("status: ", of("status", "status", json!("ok"))),
            ("status: ", of("status", "status", json!(503.5))),
            ("delay_ms: ", json!({"path": MAC, "effect": "delay"})),
            ("delay_ms: ", of("delay", "delay_ms", json!(-1))),
            ("delay_ms: ", of("delay", "delay_ms", json!("1s"))),
            ("delay_ms: ", of("delay", "delay_ms", json!(1e300))),
            (
                "jitter_ms: ",
                json!({"path": MAC, "effect": "delay", "delay_ms": 1, "jitter_ms": -1}),
            ),
            ("bytes_per_second: ", json!({"path": MAC, "effect": "slow"})),
            (
                "bytes_per_second: ",
                of("slow", "bytes_per_second", json!(0)),
            ),
            (
                "bytes_per_second: ",
                of("slow", "bytes_per_second", json!(true)),
            ),
            ("bytes: ", json!({"path": MAC, "effect": "truncate"})),
            ("bytes: ", of("truncate", "bytes", json!(-1))),
            (
                "requests_per_second: ",
                json!({"path": MAC, "effect": "throttle"}),
            ),
            (
                "requests_per_second: ",
                of("throttle", "requests_per_second", json!(-0.1)),
            ),
            (
                "requests_per_second: ",
                of("throttle", "requests_per_second", json!("few")),
            ),
            ("sequence: ", on("sequence", json!([]))),
            ("sequence: ", on("sequence", json!(503))),
            ("sequence[0]: ", on("sequence", json!(["often"]))),
            ("sequence[1]: ", on("sequence", json!([503, 99]))),
            ("sequence[1]: ", on("sequence", json!([503, null]))),
            ("sequence[0]: ", on("sequence", json!([[503]]))),
            ("repeat: ", on("repeat", json!(true))),
            (
                "repeat: ",
                json!({"path": MAC, "sequence": [503], "repeat": "yes"}),
            ),
            ("rate: ", on("rate", json!(1.1))),
            ("rate: ", on("rate", json!(-0.1))),
            ("rate: ", on("rate", json!("half"))),
            ("seed: ", on("seed", json!(1))),
            ("seed: ", unavailable(MAC, json!({"rate": 0.5, "seed": -1}))),
            ("requests: ", on("requests", json!(-1))),
            ("requests: ", on("requests", json!("many"))),
            ("seconds: ", on("seconds", json!(-1))),
            ("seconds: ", on("seconds", json!("30s"))),
            ("clients: ", on("clients", json!(["localhost"]))),
            ("clients: ", on("clients", json!(5))),
            ("per_client: ", on("per_client", json!("yes"))),
            ("per_client: ", on("per_client", json!(1))),
            // What another effect has, and what nobody has.
            ("status: ", of("reset", "status", json!(503))),
            ("delay_ms: ", on("delay_ms", json!(5))),
            ("pth: ", on("pth", json!("/"))),
            ("id: ", on("id", json!(1))),
        ],
    );
    for body in ["", "x", "[]", "null", "503", "{\"path\": \"/\""] {
        assert_eq!(live.call("POST", "/faults", body).status, 400, "{body:?}");
    }
    assert_eq!(live.read(MAC).status, 200);
}

#[test]
fn delays_add_up_and_of_the_rest_the_first_wins() {
    let live = Mock::live(json!({
        "default_delay_ms": 250, "endpoint_delay_ms": {"/latest/user-data": 0},
    }));
    let delay = |path: &str| json!({"path": path, "effect": "delay", "delay_ms": 250});
    live.add("/faults", delay("/latest/*"));
    live.add("/faults", delay(MAC));
    live.add("/faults", json!({"path": MAC, "sequence": ["ok", 503]}));
    live.add(
        "/faults",
        json!({"path": "/latest/*", "sequence": [429, 500]}),
    );
    let one = Duration::from_millis(250);
    for (path, status, delays, why) in [
        (MAC, 429, 3, "the first one let it pass"),
        (MAC, 503, 3, "the first one's second"),
        (MAC, 500, 3, "the later one was not counted meanwhile"),
        (MAC, 200, 3, "both are spent"),
        (
            "/latest/user-data",
            404,
            1,
            "the old key's delay is its own",
        ),
        ("/", 200, 1, "the default"),
    ] {
        let (answer, time) = timed(|| live.read(path));
        assert_eq!(answer.status, status, "{path}: {why}");
        assert!(time.took >= one * delays, "{path}: {:?}", time.took);
        time.assert_within(one * (delays + 1));
    }
}

#[test]
fn the_old_keys_mean_what_they_meant() {
    let live = Mock::live(json!({
        "force_status": {MAC: 500, TOKEN_PATH: 500}, "endpoint_delay_ms": {TOKEN_PATH: 60_000},
    }));
    live.add("/faults", unavailable("/latest/*", json!({"requests": 2})));
    let token = || live.ask("PUT", TOKEN_PATH, &[(TOKEN_TTL, "60")]).status;
    assert_eq!(
        [live.read(MAC).status, token()],
        [503, 503],
        "faults come first"
    );
    assert_eq!(
        [live.read(MAC).status, token()],
        [500, 200],
        "a PUT is neither forced nor delayed"
    );
    assert_eq!(
        live.read("/latest//meta-data/mac").status,
        200,
        "by the path as it was asked"
    );
    // What spoils an answer spoils a forced one.
    live.add(
        "/faults",
        json!({"path": MAC, "effect": "wrong-json", "requests": 1}),
    );
    assert_eq!(live.read(MAC).status, 200);
    live.add(
        "/faults",
        json!({"path": MAC, "effect": "expired-token", "requests": 1}),
    );
    assert_eq!(live.read(MAC).status, 500, "it is no answer to a token");
    assert_eq!(live.read(MAC).status, 500);
}

#[test]
fn faults_are_of_the_metadata_port_alone() {
    let live = Mock::live(json!({}));
    live.add("/faults", json!({"path": "*", "effect": "reset"}));
    assert_eq!(live.call("GET", "/metadata/mac", "").status, 200);
    assert_eq!(live.call("GET", "/status", "").text(), "true");
    assert_eq!(live.shown("/faults")[0]["applied"], 0);
}
