//! Too many at once: of clients, of token requests, of requests sent in advance.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::siege::survives;
use super::{KEEP, MAC, dial, dial_many, open_mock, push, quiet};
use crate::common::http::{Connection, request};
use crate::common::{Mock, TOKEN_TTL};

/// Clients that each ask on, connected at the same moment.
#[test]
fn sixty_four_clients_at_once_are_all_served() {
    survives(open_mock(), |mock| {
        let to = mock.address();
        let client = move || {
            let mut client = Connection::over(dial(to));
            for _ in 0..200 {
                client.send(request("GET", MAC, &[KEEP]));
                assert_eq!(client.answer().status, 200);
            }
        };
        for _ in 0..5 {
            let clients: Vec<_> = (0..64).map(|_| thread::spawn(client)).collect();
            for client in clients {
                client.join().expect("every client is served");
            }
        }
    });
}

#[test]
fn hundreds_that_connect_together_all_get_an_answer() {
    survives(open_mock(), |mock| {
        let to = mock.address();
        for _ in 0..5 {
            let mut clients: Vec<Connection> =
                (0..400).map(|_| Connection::over(dial(to))).collect();
            for client in &mut clients {
                client.send(request("GET", MAC, &[]));
            }
            for client in &mut clients {
                assert_eq!(client.answer().status, 200);
            }
        }
    });
}

/// That many token requests over eight kept connections.
fn token_flood(mock: &Mock, count: usize) {
    let to = mock.address();
    let batch = 100;
    let flood = move || {
        let mut client = Connection::over(dial(to));
        let one = request("PUT", "/latest/api/token", &[(TOKEN_TTL, "21600"), KEEP]);
        let requests = one.repeat(batch);
        for _ in 0..count / 8 / batch {
            client.send(&requests);
            for _ in 0..batch {
                assert_eq!(client.answer_to("PUT").status, 200);
            }
        }
    };
    let clients: Vec<_> = (0..8).map(|_| thread::spawn(flood)).collect();
    for client in clients {
        client.join().expect("tokens are issued");
    }
}

#[test]
fn a_flood_of_token_requests_is_survived() {
    survives(quiet(&json!({})), |mock| token_flood(mock, 40_000));
}

#[test]
#[ignore = "a million requests"]
fn a_million_token_requests_are_survived() {
    survives(quiet(&json!({})), |mock| token_flood(mock, 1_000_000));
}

/// Requests one after the other without reading a single answer.
#[test]
fn a_pipeline_without_end_is_survived() {
    survives(open_mock(), |mock| {
        let requests = request("GET", MAC, &[KEEP]).repeat(1000);
        let mut clients = dial_many(mock.address(), 20);
        let since = Instant::now();
        while since.elapsed() < Duration::from_secs(1) {
            for client in &mut clients {
                push(client, requests.as_bytes());
            }
        }
    });
}
