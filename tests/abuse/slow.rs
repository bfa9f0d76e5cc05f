//! Clients that do nothing, or next to nothing, for as long as they are let.

use std::io::{ErrorKind, Read};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use socket2::SockRef;

use super::siege::{self, survives};
use super::{KEEP, MAC, USER_DATA, dial_many, open_config, open_mock, push};
use crate::common::http::{Connection, request};
use crate::common::{Mock, PATIENCE, wait_until};

#[test]
fn idle_connections_keep_nobody_out() {
    survives(open_mock(), |mock| {
        let held = dial_many(mock.address(), 1500);
        siege::visits(20);
        drop(held);
    });
}

#[test]
#[ignore = "takes longer than all idle connections live"]
fn thousands_of_idle_connections_keep_nobody_out() {
    survives(open_mock(), |mock| {
        for mut idle in dial_many(mock.address(), 5000) {
            let longest = Some(PATIENCE * 2);
            idle.set_read_timeout(longest).expect("not zero");
            let end = idle.read(&mut [0]).map_err(|e| e.kind());
            let is_closed = matches!(end, Ok(0) | Err(ErrorKind::ConnectionReset));
            assert!(is_closed, "{end:?}");
        }
    });
}

/// Requests that come byte by byte, and never come to their end.
fn slow_requests(mock: &Mock, count: usize, hold: Duration) {
    let beginnings: [&[u8]; 4] = [
        b"GET /latest/meta-data/",
        b"GET / HTTP/1.1\r\nHost: a\r\nX-Field: ",
        b"PUT / HTTP/1.1\r\nContent-Length: 60000\r\n\r\n",
        b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nea60\r\n",
    ];
    let mut clients = dial_many(mock.address(), count);
    for (client, beginning) in clients.iter_mut().zip(beginnings.iter().cycle()) {
        push(client, beginning);
    }
    let since = Instant::now();
    while since.elapsed() < hold {
        clients.iter_mut().for_each(|client| push(client, b"a"));
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn slow_requests_hold_up_nobody() {
    survives(open_mock(), |mock| {
        slow_requests(mock, 600, Duration::from_secs(1));
    });
}

#[test]
#[ignore = "takes longer than a slow request may"]
fn slow_requests_hold_up_nobody_until_their_time_is_over() {
    survives(open_mock(), |mock| {
        slow_requests(mock, 600, Duration::from_secs(14));
    });
}

/// Each takes the place of the one that has rested longest, and comes back when it has lost its own.
#[test]
fn slow_readers_that_come_back_at_once_hold_up_nobody() {
    survives(open_mock(), |mock| {
        let since = Instant::now();
        while since.elapsed() < Duration::from_secs(2) {
            slow_readers(mock, 700, Duration::ZERO);
        }
    });
}

#[test]
fn connections_that_have_nothing_to_be_answered_take_no_thread() {
    let mock = open_mock();
    assert_eq!(mock.ask("GET", MAC, &[]).status, 200);
    let before = siege::threads(mock.pid());
    let mut clients = dial_many(mock.address(), 300);
    for (index, client) in clients.iter_mut().enumerate() {
        match index % 3 {
            0 => {}
            1 => push(client, b"GET / HT"),
            _ => push(client, b"no request\r\n\r\n"),
        }
    }
    let refused = clients.pop().expect("there are 300");
    assert_eq!(Connection::over(refused).answer().status, 400);
    assert_eq!(mock.ask("GET", MAC, &[]).status, 200);
    assert_eq!(siege::threads(mock.pid()), before);
}

/// Clients that ask for much and read nothing, or a byte now and then.
fn slow_readers(mock: &Mock, count: usize, hold: Duration) {
    // A megabyte of answers for each, once: more would only measure how fast memory is copied.
    let requests = request("GET", USER_DATA, &[KEEP]).repeat(64);
    let mut clients = dial_many(mock.address(), count);
    for client in &mut clients {
        // The smaller the window, the sooner the server has to wait.
        let _ = SockRef::from(&*client).set_recv_buffer_size(4096);
        push(client, requests.as_bytes());
    }
    let since = Instant::now();
    while since.elapsed() < hold {
        for client in clients.iter_mut().step_by(2) {
            let _ = client.set_nonblocking(true);
            let _ = client.read(&mut [0]);
        }
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn slow_readers_hold_up_nobody() {
    survives(open_mock(), |mock| {
        slow_readers(mock, 200, Duration::from_secs(1));
    });
}

#[test]
fn more_slow_readers_than_there_is_room_for_keep_nobody_out() {
    survives(open_mock(), |mock| {
        slow_readers(mock, 700, Duration::from_secs(1));
    });
}

#[test]
#[ignore = "without optimisation, printing the journal so often takes a minute"]
fn slow_readers_of_the_journal_take_their_share_of_memory_and_no_more() {
    survives(Mock::with_admin(&open_config(), &["--quiet"]), |mock| {
        // Each byte that is kept of them becomes two in JSON.
        let (path, agent) = (format!("/{}", "\"".repeat(300)), "\\".repeat(300));
        let one = request("GET", &path, &[KEEP, ("User-Agent", &agent)]);
        let mut client = Connection::open(mock.address());
        for _ in 0..100 {
            client.send(one.repeat(100));
            (0..100).for_each(|_| drop(client.answer()));
        }
        let admin = mock.admin();
        let mut readers = dial_many(admin, 100);
        for reader in &mut readers {
            let _ = SockRef::from(&*reader).set_recv_buffer_size(4096);
            push(reader, request("GET", "/requests", &[]).as_bytes());
        }
        // Small answers still have room, and so has a large one when the others are gone.
        assert_eq!(mock.call("GET", "/clock", "").status, 200);
        drop(readers);
        wait_until("there is room", || {
            mock.call("GET", "/requests", "").status == 200
        });
    });
}

/// Whoever waits, or is waited for, rests: for its time, for its body, for room.
#[test]
fn nobody_who_waits_takes_a_thread() {
    let slow = "/latest/meta-data/hostname";
    let config = json!({
        "endpoint_delay_ms": {MAC: 60_000}, "http_tokens": "optional", "user_data": "x".repeat(16384),
    });
    let mock = Mock::with_admin(&config, &["--quiet"]);
    let fault = json!({"path": slow, "effect": "slow", "bytes_per_second": 1});
    assert_eq!(mock.call("POST", "/faults", fault.to_string()).status, 201);
    let before = siege::threads(mock.pid());
    let requests = [
        request("GET", MAC, &[]),
        request("GET", slow, &[]),
        request("GET", USER_DATA, &[KEEP]).repeat(64),
        "PUT / HTTP/1.1\r\nContent-Length: 10\r\n\r\n1".to_owned(),
    ];
    let mut clients = dial_many(mock.address(), 500);
    for (client, request) in clients.iter_mut().zip(requests.iter().cycle()) {
        push(client, request.as_bytes());
    }
    // Behind all of them.
    assert_eq!(mock.ask("GET", "/", &[]).status, 200);
    let now = siege::threads(mock.pid());
    assert!(now <= before, "{before} threads before, {now} now");
}

#[test]
#[ignore = "takes longer than an answer may"]
fn slow_readers_hold_up_nobody_until_they_are_given_up() {
    survives(open_mock(), |mock| {
        slow_readers(mock, 400, Duration::from_secs(12));
    });
}
