//! Nothing is left of what the system has only so many of: descriptors, threads.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::thread;
use std::time::Duration;

use serde_json::json;

use super::siege::{self, survives};
use super::{KEEP, MAC, USER_DATA, dial, dial_many, open_config, open_mock, push, quiet};
use crate::common::http::{Connection, request};
use crate::common::{Mock, TempFile, imds_mock, skipped};

#[test]
fn sixty_four_descriptors_are_enough() {
    let script = "ulimit -n 64; exec \"$0\" \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", script]).arg(imds_mock().get_program());
    command.args(["--port", "0", "--quiet"]);
    survives(Mock::spawn(command, 1, None), |mock| {
        let mut clients = dial_many(mock.address(), 300);
        for (index, client) in clients.iter_mut().enumerate() {
            if index % 2 == 0 {
                push(client, b"GET / HT");
            }
        }
        siege::visits(20);
    });
}

/// A limit below what is open: accept() fails until it is raised again.
#[test]
fn accept_errors_end_when_their_cause_does() {
    let mock = open_mock();
    let pid = mock.pid().to_string();
    let limit = |limit: &str| {
        let nofile = format!("--nofile={limit}");
        let mut prlimit = Command::new("prlimit");
        let output = prlimit.args(["--pid", &pid, &nofile]).output();
        output.is_ok_and(|output| output.status.success())
    };
    if !limit("4096:4096") {
        return skipped("no prlimit");
    }
    assert!(limit("3:4096"));
    let mut waiting = dial(mock.address());
    waiting
        .write_all(request("GET", MAC, &[]).as_bytes())
        .expect("it waits in the queue");
    let while_it_fails = Some(Duration::from_millis(300));
    waiting.set_read_timeout(while_it_fails).expect("not zero");
    assert!(waiting.read(&mut [0]).is_err(), "accept() did not fail");
    assert!(limit("4096:4096"));
    assert_eq!(Connection::over(waiting).answer().status, 200);
    assert_eq!(mock.ask("GET", MAC, &[]).status, 200);
    let (status, _, stderr) = mock.stop("TERM");
    assert!(status.success());
    let complaints = stderr.matches("cannot accept a connection").count();
    assert_eq!(complaints, 1, "{stderr}");
}

/// A newcomer without a descriptor takes the place of one old connection, not of all.
#[test]
fn one_gives_way_to_one_that_has_no_descriptor() {
    let held = "/latest/meta-data/mac";
    let delay = json!({held: 60_000});
    let mock = quiet(&json!({"http_tokens": "optional", "endpoint_delay_ms": delay}));
    let mut clients = dial_many(mock.address(), 50);
    for client in &mut clients {
        push(client, request("GET", held, &[]).as_bytes());
    }
    // Nothing but time makes them older than what was accepted a moment ago.
    thread::sleep(Duration::from_millis(300));
    let pid = mock.pid().to_string();
    let nofile = format!("--nofile={0}:4096", siege::descriptors(mock.pid()));
    let prlimit = Command::new("prlimit")
        .args(["--pid", &pid, &nofile])
        .output();
    if !prlimit.is_ok_and(|output| output.status.success()) {
        return skipped("no prlimit");
    }
    // The first of them may find a descriptor that has been closed.
    let newcomers: Vec<Connection> = (0..5)
        .map(|_| {
            let mut newcomer = Connection::over(dial(mock.address()));
            newcomer.send(request("GET", "/", &[KEEP]));
            assert_eq!(newcomer.answer().status, 200);
            newcomer
        })
        .collect();
    let is_held = |client: &&TcpStream| {
        let mut client = *client;
        let _ = client.set_nonblocking(true);
        client.read(&mut [0]).is_err()
    };
    let still = clients.iter().filter(is_held).count();
    assert!((45..50).contains(&still), "{still} of 50 are left");
    drop(newcomers);
}

/// Little address space: whoever is slow takes none that others need.
#[test]
#[cfg(target_os = "linux")] // FreeBSD counts address space otherwise.
fn little_address_space_is_enough() {
    // With nothing, much and little left beside what the allocator reserves.
    for kib in [
        32_000, 72_000, 76_000, 100_000, 140_000, 150_000, 210_000, 280_000,
    ] {
        nobody_is_in_the_way(kib);
    }
}

#[cfg(target_os = "linux")]
fn nobody_is_in_the_way(kib_of_address_space: u32) {
    let script = format!("ulimit -v {kib_of_address_space}; exec \"$0\" \"$@\"");
    let mut command = Command::new("sh");
    let config = TempFile::new(open_config().to_string());
    command.args(["-c", &script]).arg(imds_mock().get_program());
    command.args(["--port", "0", "--quiet", "--config"]);
    command.arg(config.path());
    let mock = Mock::spawn(command, 1, Some(config));
    let answers = request("GET", USER_DATA, &[KEEP]).repeat(400);
    let mut clients = dial_many(mock.address(), 400);
    for (index, client) in clients.iter_mut().enumerate() {
        match index % 2 {
            0 => push(client, b"GET / HTTP/1.1\r\nContent-Length: 10\r\n\r\n"),
            _ => push(client, answers.as_bytes()),
        }
    }
    let body = "PUT /latest/api/token HTTP/1.1\r\nX-aws-ec2-metadata-token-ttl-seconds: 60\r\n\
                Content-Length: 5\r\nExpect: 100-continue\r\n\r\n";
    for _ in 0..20 {
        let mut client = Connection::open(mock.address());
        assert_eq!(client.send(body).answer().status, 100);
        assert_eq!(client.send("hello").answer_to("PUT").status, 200);
    }
    let mut client = Connection::open(mock.address());
    client.send(request("GET", "/", &[KEEP]).repeat(50));
    for _ in 0..50 {
        assert_eq!(client.answer().status, 200);
    }
    drop(clients);
    let (status, _, stderr) = mock.stop("TERM");
    assert!(status.success() && !stderr.contains("cannot"), "{stderr}");
}
