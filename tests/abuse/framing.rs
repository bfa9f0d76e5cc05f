//! What is no request, or promises more than it may, or is one request to some and two to others.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::thread;

use super::siege::{self, survives};
use super::{KEEP, MAC, dial, dial_many, open_mock, push};
use crate::common::http::{Connection, End, parse_all, request};
use crate::common::random::Random;
use crate::common::{Mock, TOKEN_TTL};

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
        siege::visits(20);
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
                    &format!("POST / HTTP/1.1\r\n{fields}{KEEP_LINE}\r\n\r\n"),
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
