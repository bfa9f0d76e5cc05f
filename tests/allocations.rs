//! A request that reads a value allocates nothing: what it needs was prepared when the
//! configuration was loaded. Alone in its process, since it counts every allocation.

use std::alloc::System;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use imds_mock::config::{Config, Source};
use imds_mock::http::{self, Limits};
use imds_mock::mock::{Mock, Parts, Serving};
use serde_json::{Value, json};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Allocations since the start, also those that grew one.
fn allocations() -> usize {
    let stats = INSTRUMENTED_SYSTEM.stats();
    stats.allocations + stats.reallocations
}

/// Requests before counting, so that buffers have their size and the date is formatted.
const WARM_UP: usize = 100;
const REQUESTS: usize = 1000;
/// The date is formatted anew each second; this much may happen while a thousand requests pass.
const DATES: usize = 20;

fn exchange(stream: &mut TcpStream, request: &[u8], answer: &mut [u8]) -> usize {
    stream.write_all(request).expect("it takes a request");
    let mut filled = 0;
    loop {
        filled += stream.read(&mut answer[filled..]).expect("it answers");
        let whole = answer[..filled]
            .windows(4)
            .position(|end| end == b"\r\n\r\n")
            .map(|head| head + 4 + length(&answer[..head]));
        if whole == Some(filled) {
            return filled;
        }
    }
}

/// The value of `Content-Length`, found without allocating.
fn length(head: &[u8]) -> usize {
    let name = b"Content-Length: ";
    let at = head.windows(name.len()).position(|field| field == name);
    let digits = &head[at.expect("every answer has one") + name.len()..];
    digits
        .iter()
        .take_while(|b| b.is_ascii_digit())
        .fold(0, |number, b| number * 10 + usize::from(b - b'0'))
}

#[test]
fn a_request_on_a_kept_connection_allocates_nothing() {
    let mut example: Value = serde_json::from_str(include_str!("../config.json")).expect("JSON");
    example["role"] = json!({"arn": "arn:aws:iam::123456789012:role/app", "credentials": {
        "access_key_id": "ASIAX", "secret_access_key": "s", "token": "t"}});
    let config = Config::parse(&example.to_string(), Path::new(""), &[]);
    let (config, _) = config.unwrap_or_else(|_| panic!("the example is right"));
    let parts = Parts::new(config).expect("it fits together");
    let limits = Limits::default();
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listener = http::bind(any_port).expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let serving = Serving {
        metadata: vec![listener],
        admin: None,
        limits,
        requests: None,
        report: Arc::new(|what: &str| panic!("{what}")),
        source: Source::default(),
    };
    let mock = Mock::prepare(parts, serving).expect("threads");
    mock.serve();

    let mut stream = TcpStream::connect(address).expect("it listens");
    let mut answer = vec![0; 64 * 1024];
    let put = b"PUT /latest/api/token HTTP/1.1\r\nConnection: keep-alive\r\n\
        X-aws-ec2-metadata-token-ttl-seconds: 60\r\n\r\n";
    let length = exchange(&mut stream, put, &mut answer);
    let token = String::from_utf8_lossy(&answer[length - 56..length]).into_owned();
    for path in [
        "/latest/meta-data/instance-id",
        "/latest/meta-data/",
        "/latest/user-data",
        "/latest/meta-data/no-such-category",
        "/latest/meta-data/iam/info",
        "/latest/meta-data/iam/security-credentials/app",
        "/latest/meta-data/identity-credentials/ec2/security-credentials/ec2-instance",
    ] {
        let get = format!(
            "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: keep-alive\r\n\
             X-aws-ec2-metadata-token: {token}\r\n\r\n"
        );
        for _ in 0..WARM_UP {
            exchange(&mut stream, get.as_bytes(), &mut answer);
        }
        let before = allocations();
        for _ in 0..REQUESTS {
            exchange(&mut stream, get.as_bytes(), &mut answer);
        }
        let made = allocations() - before;
        assert!(
            made <= DATES,
            "{path}: {made} allocations in {REQUESTS} requests"
        );
    }
    mock.stop(Duration::from_secs(1));
}
