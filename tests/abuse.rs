//! Clients that mean harm, or do it: whatever they do, a normal client beside them is answered at
//! once, memory stays bounded, nothing panics, and afterwards everything is as it was before. The
//! long cases run with `--ignored`.

mod common;
mod siege;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use common::http::{Connection, End, parse_all, request};
use common::random::Random;
use common::{Mock, PATIENCE, TOKEN_TTL, imds_mock, skipped};
use serde_json::{Value, json};
use siege::survives;
use socket2::SockRef;

const MAC: &str = "/latest/meta-data/mac";
const USER_DATA: &str = "/latest/user-data";
const KEEP: (&str, &str) = ("Connection", "keep-alive");

/// Without request lines: a flood of them is a test of its own.
fn quiet(config: &Value) -> Mock {
    Mock::with(config, &["--quiet"])
}

/// Serves v1 too, with 16 KB of user data.
fn open_mock() -> Mock {
    quiet(&json!({"http_tokens": "optional", "user_data": "x".repeat(16384)}))
}

/// A connection whose end, at any moment and in any way, is no failure.
fn dial(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&to, PATIENCE).expect("somebody accepts");
    stream.set_nodelay(true).expect("a TCP socket");
    stream.set_write_timeout(Some(PATIENCE)).expect("not zero");
    stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
    stream
}

fn dial_many(to: SocketAddr, count: usize) -> Vec<TcpStream> {
    (0..count).map(|_| dial(to)).collect()
}

/// Writes without waiting: what does not fit any more is left.
fn push(stream: &mut TcpStream, bytes: &[u8]) {
    let _ = stream.set_nonblocking(true);
    let _ = stream.write(bytes);
    let _ = stream.set_nonblocking(false);
}

/// Ends a connection with a reset.
fn reset(stream: TcpStream) {
    let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
}

fn idle_connections(mock: &Mock, count: usize, hold: Duration) {
    let held = dial_many(mock.address(), count);
    thread::sleep(hold);
    drop(held);
}

#[test]
fn idle_connections_keep_nobody_out() {
    survives(open_mock(), |mock| {
        idle_connections(mock, 1500, Duration::from_millis(500));
    });
}

#[test]
#[ignore = "takes longer than all idle connections live"]
fn thousands_of_idle_connections_keep_nobody_out() {
    survives(open_mock(), |mock| {
        idle_connections(mock, 5000, Duration::from_secs(35));
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
#[ignore = "takes longer than an answer may"]
fn slow_readers_hold_up_nobody_until_they_are_given_up() {
    survives(open_mock(), |mock| {
        slow_readers(mock, 400, Duration::from_secs(12));
    });
}

/// Sends `head`, then `more` again and again until the server has had enough, at most 64 MiB of
/// it. Returns the status it answered with.
fn endless(to: SocketAddr, head: &str, more: &[u8]) -> u16 {
    let mut client = Connection::over(dial(to));
    let mut writer = client.stream.try_clone().expect("a socket");
    let head = head.as_bytes().to_vec();
    let block = more.repeat(1 + 65536 / more.len());
    let sender = thread::spawn(move || {
        let mut sent = writer.write_all(&head);
        for _ in 0..1024 {
            sent = sent.and_then(|()| writer.write_all(&block));
        }
        sent.is_err()
    });
    let status = client.answer().status;
    // The server has answered. It reads a little longer, and ends it.
    client.rest();
    let gave_up = sender.join().expect("it only writes");
    assert!(gave_up, "64 MiB were read");
    status
}

#[test]
fn what_does_not_end_is_ended() {
    survives(open_mock(), |mock| {
        let get = "GET / HTTP/1.1\r\n";
        let chunked = "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        let trailers = format!("{chunked}0\r\n");
        let extension = format!("{chunked}1;");
        let chunks = b"400\r\n".iter().chain(&[b'x'; 1024]).chain(b"\r\n");
        let chunks: Vec<u8> = chunks.copied().collect();
        for (head, more, statuses) in [
            ("GET /", &b"a"[..], [414, 414]),
            (get, b"A", [431, 431]),
            (get, b"A: b\r\n", [431, 431]),
            (&format!("{get}A: "), b"b", [431, 431]),
            ("", b"\r\n", [414, 400]),
            (chunked, &chunks, [413, 413]),
            (chunked, b"1\r\nx\r\n", [413, 413]),
            (chunked, b"0", [413, 400]),
            (&extension, b"e", [413, 400]),
            (&trailers, b"A: b\r\n", [413, 431]),
        ] {
            let status = endless(mock.address(), head, more);
            assert!(statuses.contains(&status), "{head:?}: {status}");
        }
    });
}

#[test]
fn what_promises_too_much_is_refused_and_costs_nothing() {
    survives(open_mock(), |mock| {
        for framing in [
            "Content-Length: 65537",
            "Content-Length: 2147483648",
            "Content-Length: 1099511627776",
            "Content-Length: 9223372036854775807",
            "Content-Length: 18446744073709551615",
            "Content-Length: 18446744073709551616",
            "Content-Length: 99999999999999999999999999999999999999",
            "Transfer-Encoding: chunked\r\n\r\n10001",
            "Transfer-Encoding: chunked\r\n\r\nffffffff",
            "Transfer-Encoding: chunked\r\n\r\n7fffffffffffffff",
            "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff",
            "Transfer-Encoding: chunked\r\n\r\n10000000000000000000000",
        ] {
            for expect in ["", "Expect: 100-continue\r\n"] {
                let mut client = Connection::over(dial(mock.address()));
                let path = "/latest/api/token";
                client.send(format!("PUT {path} HTTP/1.1\r\n{expect}{framing}\r\n\r\n"));
                let mut answer = client.answer();
                if answer.status == 100 {
                    answer = client.answer();
                }
                assert_eq!(answer.status, 413, "{expect}{framing}");
                assert_eq!(client.finish().end(), End::Closed, "{expect}{framing}");
            }
        }
        // What is promised within the limit, and never comes.
        let mut clients = dial_many(mock.address(), 500);
        for client in &mut clients {
            push(client, b"PUT / HTTP/1.1\r\nContent-Length: 65536\r\n\r\n");
        }
        thread::sleep(Duration::from_millis(500));
    });
}

/// Requests that two parsers could cut at different places, and what a second one would make of
/// their rest.
const SMUGGLED: &str = "GET /latest/meta-data/mac HTTP/1.1\r\nHost: b\r\n\r\n";
const SMUGGLING: [&str; 36] = [
    "Content-Length: 5\r\nContent-Length: 6\r\n",
    "Content-Length: 0\r\nContent-Length: 0\r\n",
    "Content-Length: 0\r\ncontent-length: 48\r\n",
    "Content-Length: 0, 48\r\n",
    "Content-Length: +0\r\n",
    "Content-Length: -0\r\n",
    "Content-Length: 0x0\r\n",
    "Content-Length: 0 0\r\n",
    "Content-Length: 0\x0b\r\n",
    "Content-Length: \r\n",
    "Content-Length : 0\r\n",
    " Content-Length: 0\r\n",
    "Content-Length\t: 0\r\n",
    "Content-Length\r\n",
    "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
    "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
    "Transfer-Encoding: chunked, chunked\r\n",
    "Transfer-Encoding: chunked, identity\r\n",
    "Transfer-Encoding: identity, chunked\r\n",
    "Transfer-Encoding: xchunked\r\n",
    "Transfer-Encoding: chunkedx\r\n",
    "Transfer-Encoding: \"chunked\"\r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    "Transfer-Encoding:\x0bchunked\r\n",
    "Transfer-Encoding\t: chunked\r\n",
    "Transfer-Encoding : chunked\r\n",
    "X: y\r\n Transfer-Encoding: chunked\r\n",
    "X: y\rTransfer-Encoding: chunked\r\n",
    "X: y\0z\r\n",
    "X\0: y\r\n",
    "X y\r\n",
    ": y\r\n",
    "Host: a\r\nHost: b\r\n",
    "Host: a@b, c\0\r\n",
];

#[test]
fn what_could_smuggle_a_request_is_refused_and_the_connection_closed() {
    survives(open_mock(), |mock| {
        let bodies = ["", "0\r\n\r\n", "0\n\n", "0;\n\n", "1\r\nx0\r\n\r\n"];
        for fields in SMUGGLING {
            for body in bodies {
                refuses(
                    mock,
                    &format!("POST / HTTP/1.1\r\n{fields}{}\r\n\r\n", KEEP_LINE),
                    body,
                );
            }
        }
        // Chunks that are cut wrongly.
        let head = format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n{KEEP_LINE}\r\n\r\n");
        for body in [
            "0\n\r\n",
            "0\r\r\n",
            "0x0\r\n\r\n",
            "-0\r\n\r\n",
            "+0\r\n\r\n",
            " 0\r\n\r\n",
            "\r\n0\r\n\r\n",
            "1\r\nxx\r\n0\r\n\r\n",
            "1\r\nx\n0\r\n\r\n",
            "1 1\r\nx\r\n0\r\n\r\n",
            "0;\r\0\r\n\r\n",
        ] {
            refuses(mock, &head, body);
        }
        refuses(
            mock,
            "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
            "0\r\n\r\n",
        );
    });
}

const KEEP_LINE: &str = "Connection: keep-alive";

/// The first request is refused and nothing behind it is answered.
fn refuses(mock: &Mock, head: &str, body: &str) {
    let mut client = Connection::over(dial(mock.address()));
    client.send(format!("{head}{body}{SMUGGLED}")).finish();
    let (bytes, _) = client.rest();
    let shape = format!("{head}{body}");
    let answers = parse_all(&bytes).unwrap_or_else(|what| panic!("{shape:?}: {what}"));
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    assert!(
        matches!(statuses[..], [400 | 501 | 505]),
        "{shape:?}: {statuses:?}"
    );
}

#[test]
fn resets_at_every_stage_are_survived() {
    survives(open_mock(), |mock| {
        let get = request("GET", USER_DATA, &[KEEP]);
        let put = "PUT /latest/api/token HTTP/1.1\r\nContent-Length: 10\r\n\r\n12345";
        let chunked = "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n123";
        for _ in 0..100 {
            reset(dial(mock.address()));
            for (sent, read) in [
                ("GE", 0),
                ("GET / HTTP/1.1\r\nHost: ", 0),
                (put, 0),
                (chunked, 0),
                (&get, 0),
                (&get, 1),
                (&get, 9000),
                (&get.repeat(50), 9000),
                ("\x16\x03\x01 no TLS here", 1),
                ("GET / HTTP/9.9\r\n\r\n", 1),
            ] {
                let mut client = dial(mock.address());
                let _ = client.write_all(sent.as_bytes());
                if read > 0 {
                    let _ = client.read(&mut vec![0; read]);
                }
                reset(client);
            }
        }
    });
}

/// Bytes behind a request that closes its connection are not read; they must not take its answer away.
#[test]
fn what_follows_the_last_request_costs_no_answer() {
    let mock = open_mock();
    for _ in 0..2000 {
        let mut client = dial(mock.address());
        client
            .write_all(request("GET", MAC, &[]).as_bytes())
            .expect("it is read");
        let _ = client.write_all(b"\r\n");
        let mut start = [0; 15];
        client.read_exact(&mut start).expect("an answer");
        assert_eq!(&start, b"HTTP/1.1 200 OK");
    }
}

#[test]
fn ends_of_one_direction_are_survived() {
    survives(open_mock(), |mock| {
        for _ in 0..200 {
            for end in [Shutdown::Read, Shutdown::Write, Shutdown::Both] {
                for sent in ["", "GET / HT", "GET / HTTP/1.1\r\n\r\n"] {
                    let mut client = dial(mock.address());
                    let _ = client.write_all(sent.as_bytes());
                    let _ = client.shutdown(end);
                }
            }
        }
    });
}

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
        thread::sleep(Duration::from_millis(500));
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
    // Older than what is accepted a moment ago.
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

/// No address space for another thread's stack; each of these bodies is waited for by a thread.
#[test]
#[cfg(target_os = "linux")] // FreeBSD counts address space otherwise.
fn when_no_thread_can_be_made_others_give_way() {
    let script = "ulimit -v 32000; exec \"$0\" \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", script]).arg(imds_mock().get_program());
    command.args(["--port", "0", "--quiet"]);
    let mock = Mock::spawn(command, 1, None);
    let mut clients = dial_many(mock.address(), 300);
    for client in &mut clients {
        push(client, b"GET / HTTP/1.1\r\nContent-Length: 10\r\n\r\n");
    }
    for _ in 0..20 {
        mock.new_token(60);
    }
    // One that sends a body takes the thread of somebody slow, sooner or later.
    let deadline = Instant::now() + PATIENCE;
    let body = "PUT /latest/api/token HTTP/1.1\r\nX-aws-ec2-metadata-token-ttl-seconds: 60\r\n\
                Content-Length: 5\r\n\r\nhello";
    loop {
        let mut client = dial(mock.address());
        client
            .write_all(request("GET", "/", &[KEEP]).as_bytes())
            .expect("it is read");
        let mut client = Connection::over(client);
        client.answer();
        client.send(body);
        if client.rest().0.starts_with(b"HTTP/1.1 200 OK\r\n") {
            break;
        }
        assert!(
            Instant::now() < deadline,
            "no request with a body is answered"
        );
    }
    drop(clients);
    let (status, _, stderr) = mock.stop("TERM");
    assert!(status.success());
    assert!(stderr.contains("cannot start a thread"), "{stderr}");
}

/// Clients that each ask on, connected at the same moment.
#[test]
fn sixty_four_clients_at_once_are_all_served() {
    survives(open_mock(), |mock| {
        let to = mock.address();
        let client = move || {
            let since = Instant::now();
            let mut client = Connection::over(dial(to));
            for _ in 0..200 {
                client.send(request("GET", MAC, &[KEEP]));
                assert_eq!(client.answer().status, 200);
            }
            since.elapsed()
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

/// A good request with some bytes replaced, left out or doubled, or no request at all.
fn garbage(random: &mut Random) -> Vec<u8> {
    let good = [
        request("GET", MAC, &[KEEP, ("Host", "a")]),
        request("PUT", "/latest/api/token", &[(TOKEN_TTL, "60")]),
        "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n0\r\n\r\n".to_owned(),
        "POST / HTTP/1.1\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n12345".to_owned(),
    ];
    let kind = random.below(good.len() + 1);
    let Some(good) = good.get(kind) else {
        let length = random.below(2000);
        return (0..length).map(|_| random.next() as u8).collect();
    };
    let mut bytes = good.clone().into_bytes();
    for _ in 0..=random.below(5) {
        let at = random.below(bytes.len());
        let special = b"\r\n\0 :;,/%?#\t\x7f\xff09af";
        match random.below(4) {
            0 => bytes[at] = special[random.below(special.len())],
            1 => bytes[at] = random.next() as u8,
            2 if bytes.len() > 1 => drop(bytes.remove(at)),
            _ => bytes.insert(at, bytes[at]),
        }
    }
    bytes
}

fn random_bytes(mock: &Mock, count: usize) {
    let mut random = Random(1);
    for _ in 0..count {
        let mut client = dial(mock.address());
        let _ = client.write_all(&garbage(&mut random));
        if random.below(2) == 0 {
            let _ = client.shutdown(Shutdown::Write);
            let _ = client.read_to_end(&mut Vec::new());
        }
    }
}

#[test]
fn random_bytes_are_survived() {
    survives(open_mock(), |mock| random_bytes(mock, 2000));
}

#[test]
#[ignore = "a hundred thousand connections"]
fn many_random_bytes_are_survived() {
    survives(open_mock(), |mock| random_bytes(mock, 100_000));
}
