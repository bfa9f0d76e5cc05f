//! To whom an event shows: the first clients that ask for it, or given ones.

use crate::common::admin::{ask_as, clients};
use crate::common::{Mock, TOKEN};
use std::net::IpAddr;

use serde_json::json;

const SPOT: &str = "spot/instance-action";
const TERMINATION: &str = "spot/termination-time";
const REBALANCE: &str = "events/recommendations/rebalance";
const SCHEDULED: &str = "events/maintenance/scheduled";
const HISTORY: &str = "events/maintenance/history";

#[test]
fn an_event_for_so_many_callers_is_for_the_first_that_ask() {
    let Some([first, second, third]) = clients() else {
        return;
    };
    let live = Mock::live(json!({}));
    let event = json!({"type": "spot-interruption", "action": "terminate", "callers": 2});
    live.add("/events", event);
    let sees = |client: IpAddr, path: &str| {
        live.read_as(client, &format!("/latest/meta-data/{path}"))
            .status
            == 200
    };
    let lists_spot = |client: IpAddr| {
        let listing = live.read_as(client, "/latest/meta-data/");
        listing.text().lines().any(|name| name == "spot/")
    };
    // To ask for something else is not to ask for it.
    assert!(sees(third, "instance-id") && !lists_spot(third));
    assert!(sees(first, SPOT));
    assert!(sees(second, TERMINATION), "one of its documents is enough");
    for _ in 0..3 {
        assert!(!sees(third, SPOT) && !sees(third, "spot/") && !lists_spot(third));
        for client in [first, second] {
            assert!(sees(client, SPOT) && sees(client, TERMINATION), "{client}");
            assert!(sees(client, "spot/") && lists_spot(client), "{client}");
        }
    }
    // To the administration it is shown as an event, not as a value that everyone has.
    assert_eq!(
        live.call("GET", &format!("/metadata/{SPOT}"), "").status,
        404
    );
    assert_eq!(live.shown("/events")[0]["callers"], 2);
}

#[test]
fn who_asks_for_the_directory_is_a_caller_too() {
    let Some([first, second]) = clients() else {
        return;
    };
    let live = Mock::live(json!({}));
    live.add(
        "/events",
        json!({"type": "rebalance-recommendation", "callers": 1}),
    );
    let listing = |client: IpAddr| {
        let answer = live.read_as(client, "/latest/meta-data/events");
        answer.text().to_owned()
    };
    assert_eq!(listing(first), "maintenance/\nrecommendations/");
    assert_eq!(listing(second), "maintenance/");
    let read = |client| {
        live.read_as(client, &format!("/latest/meta-data/{REBALANCE}"))
            .status
    };
    assert_eq!([read(second), read(first)], [404, 200]);
}

#[test]
fn a_refused_request_is_no_caller() {
    let Some([first, second]) = clients() else {
        return;
    };
    let live = Mock::live(json!({"http_tokens": "required"}));
    live.add(
        "/events",
        json!({"type": "spot-interruption", "action": "stop", "callers": 1}),
    );
    let target = format!("/latest/meta-data/{SPOT}");
    let token = [(TOKEN, live.token())];
    assert_eq!(live.read_as(first, &target).status, 401);
    assert_eq!(live.ask_as(second, "GET", &target, &token).status, 200);
    assert_eq!(live.ask_as(first, "GET", &target, &token).status, 404);
}

#[test]
fn a_notice_still_to_come_has_no_callers() {
    let Some([early, late]) = clients() else {
        return;
    };
    let live = Mock::live(json!({}));
    let event = json!({"type": "spot-interruption", "action": "stop", "callers": 1, "in": "1h"});
    live.add("/events", event);
    let read = |client| {
        live.read_as(client, &format!("/latest/meta-data/{SPOT}"))
            .status
    };
    assert_eq!(read(early), 404);
    live.advance("1h");
    assert_eq!([read(late), read(early)], [200, 404]);
}

#[test]
fn as_many_callers_as_were_asked_for_and_no_more_even_at_once() {
    let Some(clients) = clients::<12>() else {
        return;
    };
    let live = Mock::live(json!({}));
    let event = json!({"type": "spot-interruption", "action": "stop", "callers": 5});
    live.add("/events", event);
    let target = format!("/latest/meta-data/{SPOT}");
    let address = live.address();
    let ask = |client| ask_as(address, client, "GET", &target, &[]).status;
    let seen = |all: &[IpAddr]| {
        std::thread::scope(|scope| {
            let asked: Vec<_> = (all.iter())
                .map(|&client| scope.spawn(move || (client, ask(client))))
                .collect();
            let answers = asked.into_iter().map(|one| one.join().expect("it asks"));
            let seen = answers.filter(|(_, status)| *status == 200);
            seen.map(|(client, _)| client).collect::<Vec<_>>()
        })
    };
    let admitted = seen(&clients);
    assert_eq!(admitted.len(), 5, "{admitted:?}");
    assert_eq!(seen(&clients), admitted);
}

#[test]
fn an_event_for_given_clients_is_for_them_alone() {
    let Some([one, other, third]) = clients() else {
        return;
    };
    let live = Mock::live(json!({}));
    let meant_for = json!([one, format!("::ffff:{other}")]);
    let event = json!({
        "type": "scheduled-maintenance", "code": "instance-stop", "clients": meant_for,
    });
    let shown = live.add("/events", event);
    assert_eq!(shown["clients"], json!([one, other]));
    let id = shown["id"].as_str().expect("an id");
    let list = |client, path: &str| {
        let answer = live.read_as(client, &format!("/latest/meta-data/{path}"));
        answer.text().to_owned()
    };
    assert!(list(one, SCHEDULED).contains(id) && list(other, SCHEDULED).contains(id));
    assert_eq!(list(third, SCHEDULED), "[]");
    assert_eq!(live.meta_data(SCHEDULED).1, "[]");
    live.change(
        "PATCH",
        &format!("/events/{id}"),
        "{\"state\": \"canceled\"}",
    );
    assert_eq!(list(one, SCHEDULED), "[]");
    for (client, seen) in [(one, true), (other, true), (third, false)] {
        assert_eq!(
            list(client, HISTORY).contains("[Canceled] "),
            seen,
            "{client}"
        );
    }
}
