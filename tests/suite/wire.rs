//! HTTP as it is spoken on the socket: keeping and closing, pipelining, bodies, framing that could
//! be read in two ways, limits of size (docs/architecture.md, D1 and D3; RFC 9110 and 9112).

use std::io::Write;
use std::time::{Duration, Instant};

use crate::common::http::{End, parse_all, request};
use crate::common::{Mock, TOKEN, TOKEN_TTL};
use serde_json::json;

const MAC: &str = "/latest/meta-data/mac";

fn v1() -> Mock {
    Mock::start(&json!({"http_tokens": "optional", "mac": "02:00:00:00:00:07"}))
}

#[test]
fn a_connection_is_kept_only_for_who_asks() {
    let mock = v1();
    for (version, connection, kept) in [
        ("HTTP/1.1", "", false),
        ("HTTP/1.1", "Connection: keep-alive\r\n", true),
        ("HTTP/1.1", "connection: Keep-Alive\r\n", true),
        ("HTTP/1.1", "Connection: foo, keep-alive\r\n", true),
        ("HTTP/1.1", "Connection: close\r\n", false),
        ("HTTP/1.1", "Connection: keep-alive, close\r\n", false),
        (
            "HTTP/1.1",
            "Connection: keep-alive\r\nConnection: close\r\n",
            false,
        ),
        ("HTTP/1.1", "Keep-Alive: timeout=5\r\n", false),
        ("HTTP/1.0", "", false),
        ("HTTP/1.0", "Connection: keep-alive\r\n", true),
    ] {
        let mut client = mock.connect();
        for _ in 0..3 {
            client.send(format!(
                "GET {MAC} {version}\r\nHost: x\r\n{connection}\r\n"
            ));
            let answer = client.answer();
            assert_eq!(answer.text(), "02:00:00:00:00:07");
            let said = if kept { "keep-alive" } else { "close" };
            assert_eq!(
                answer.field("Connection"),
                Some(said),
                "{version} {connection:?}"
            );
            if !kept {
                assert_eq!(client.end(), End::Closed);
                break;
            }
        }
    }
}

#[test]
fn a_request_needs_no_host() {
    let mock = v1();
    // As FreeBSD's aws-ec2-imdsv2-get asks, which then reads to the end of file.
    for head in [
        format!("GET {MAC} HTTP/1.1\r\n\r\n"),
        format!("GET {MAC} HTTP/1.0\r\n\r\n"),
        format!("GET {MAC} HTTP/1.1\r\nHost:\r\n\r\n"),
        format!("GET {MAC} HTTP/1.1\nHost: x\n\n"),
        format!("\r\n\r\nGET {MAC} HTTP/1.1\r\n\r\n"),
        format!("GET http://anything:99{MAC} HTTP/1.1\r\nHost: other\r\n\r\n"),
    ] {
        let mut client = mock.connect();
        let answer = client.send(&head).answer();
        assert_eq!(
            (answer.status, answer.text()),
            (200, "02:00:00:00:00:07"),
            "{head:?}"
        );
        assert_eq!(client.end(), End::Closed);
    }
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let mock = v1();
    let mut client = mock.connect();
    let keep = [("Connection", "keep-alive")];
    let targets = [
        MAC,
        "/nowhere",
        "/latest/",
        MAC,
        "/latest/meta-data/services/domain",
    ];
    let together: String = targets.iter().map(|t| request("GET", t, &keep)).collect();
    client.send(together);
    let answers: Vec<_> = targets.iter().map(|_| client.answer()).collect();
    for (target, answer) in targets.iter().zip(&answers) {
        let alone = mock.ask("GET", target, &[]);
        assert_eq!(
            (answer.status, &answer.body),
            (alone.status, &alone.body),
            "{target}"
        );
    }
    client.send(request("HEAD", MAC, &keep) + &request("GET", MAC, &[]));
    assert_eq!(client.answer_to("HEAD").status, 200);
    assert_eq!(client.answer().text(), "02:00:00:00:00:07");
    assert_eq!(client.end(), End::Closed);
}

#[test]
fn a_hundred_pipelined_requests_however_cut_get_a_hundred_answers() {
    let mock = v1();
    let all = request("GET", MAC, &[("Connection", "keep-alive")]).repeat(100);
    for piece in [1, 7, 97, 1000, all.len()] {
        let mut client = mock.connect();
        let mut sender = client.stream.try_clone().expect("a socket");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let pieces = all.as_bytes().chunks(piece);
                pieces.for_each(|p| sender.write_all(p).expect("the server reads"));
            });
            for _ in 0..100 {
                assert_eq!(client.answer().status, 200);
            }
        });
    }
}

#[test]
fn what_follows_a_last_request_does_not_take_its_answer_away() {
    let mock = v1();
    for behind in [request("GET", "/", &[]), "x".repeat(200_000)] {
        let mut client = mock.connect();
        client.send(request("GET", MAC, &[]) + &behind);
        assert_eq!(client.answer().text(), "02:00:00:00:00:07");
        assert_eq!(client.finish().end(), End::Closed);
    }
}

#[test]
fn a_body_is_read_on_any_method_and_never_taken_for_a_request() {
    let mock = v1();
    let smuggled = format!("GET {MAC} HTTP/1.1\r\n\r\n");
    let length = smuggled.len();
    for method in ["GET", "HEAD", "POST", "DELETE", "PUT", "OPTIONS"] {
        for (fields, body) in [
            (format!("Content-Length: {length}\r\n"), smuggled.clone()),
            (
                "Transfer-Encoding: chunked\r\n".into(),
                format!("{length:x};ext=1\r\n{smuggled}\r\n0\r\nTrailer: x\r\n\r\n"),
            ),
        ] {
            let mut client = mock.connect();
            client.send(format!(
                "{method} /latest/ HTTP/1.1\r\nConnection: keep-alive\r\n{fields}\r\n{body}"
            ));
            let first = client.answer_to(method);
            let expected = match method {
                "GET" | "HEAD" | "OPTIONS" => 200,
                _ => 403,
            };
            assert_eq!(first.status, expected, "{method}");
            client.send(request("GET", "/nowhere", &[]));
            assert_eq!(client.answer().status, 404, "{method} {fields}");
            assert_eq!(client.end(), End::Closed);
        }
    }
}

#[test]
fn s3fs_gets_its_token_with_a_chunked_put_that_expects_100_continue() {
    let mock = v1();
    let head = format!(
        "PUT /latest/api/token HTTP/1.1\r\nHost: 169.254.169.254\r\nAccept: */*\r\n\
         {TOKEN_TTL}: 21600\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\
         Expect: 100-continue\r\n\r\n"
    );
    // Waiting for the word to go on, and not waiting.
    for waits in [true, false] {
        let mut client = mock.connect();
        client.send(&head);
        if waits {
            assert_eq!(client.answer().status, 100);
        }
        client.send("0\r\n\r\n");
        let mut answer = client.answer();
        if answer.status == 100 {
            answer = client.answer();
        }
        assert_eq!((answer.status, answer.body.len()), (200, 56));
        client.send(request("GET", MAC, &[(TOKEN, answer.text())]));
        assert_eq!(
            client.answer().text(),
            "02:00:00:00:00:07",
            "on the same connection"
        );
        assert_eq!(client.end(), End::Closed);
    }
    // Nothing is awaited where no body follows, and HTTP/1.0 knows no 100.
    for head in [
        format!("GET {MAC} HTTP/1.1\r\nExpect: 100-continue\r\n\r\n"),
        format!("GET {MAC} HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx"),
    ] {
        assert_eq!(mock.connect().send(head).answer().status, 200);
    }
}

#[test]
fn what_is_no_request_is_refused_and_the_answer_arrives() {
    let mock = v1();
    let get = |fields: &str| format!("GET / HTTP/1.1\r\n{fields}\r\n");
    let chunked = |body: &str| get("Transfer-Encoding: chunked\r\n") + body;
    let long = |n: usize| "a".repeat(n);
    for (bytes, status) in [
        (get("Content-Length: 1\r\nContent-Length: 1\r\n") + "x", 400),
        (
            get("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n") + "0\r\n\r\n",
            400,
        ),
        (get("Content-Length: -1\r\n"), 400),
        (get("Content-Length: 1,1\r\n") + "x", 400),
        (get("Transfer-Encoding: chunked, identity\r\n"), 400),
        (get("Transfer-Encoding: gzip, chunked\r\n"), 501),
        (get("A: b\r\n folded\r\n"), 400),
        (get("A: b\rc\r\n"), 400),
        (get("A: b\0c\r\n"), 400),
        (get("A : b\r\n"), 400),
        (get("no colon\r\n"), 400),
        (get("Host: a\r\nHost: b\r\n"), 400),
        (get("Expect: the-moon\r\n"), 417),
        (get("Content-Length: 65537\r\n"), 413),
        (get("Content-Length: 18446744073709551616\r\n"), 413),
        (chunked("10001\r\n"), 413),
        (chunked("ffffffffffffffff\r\n"), 413),
        (chunked("x\r\n"), 400),
        (chunked("1\r\nab\r\n"), 400),
        (chunked("1\na\n0\n\n"), 400),
        (chunked(&format!("1;{}\r\n", long(20_000))), 413),
        ("GET / HTTP/1.2\r\n\r\n".into(), 505),
        ("GET / HTTP/2.0\r\n\r\n".into(), 505),
        ("GET /\r\n\r\n".into(), 400),
        ("GET  / HTTP/1.1\r\n\r\n".into(), 400),
        ("GET / HTTP/1.1 \r\n\r\n".into(), 400),
        ("GET nowhere HTTP/1.1\r\n\r\n".into(), 400),
        (format!("GET /{} HTTP/1.1\r\n\r\n", long(17_000)), 414),
        (get(&format!("A: {}\r\n", long(17_000))), 431),
        (get(&"A: b\r\n".repeat(65)), 431),
        ("BREW / HTTP/1.1\r\n\r\n".into(), 501),
    ] {
        let mut client = mock.connect();
        // More than a reset would leave unread.
        client.send(bytes.clone() + &" ".repeat(100_000));
        let answer = client.finish().answer();
        let shown: String = bytes.chars().take(60).collect();
        assert_eq!(answer.status, status, "{shown:?}");
        assert_eq!(answer.field("Connection"), Some("close"), "{shown:?}");
        assert_eq!(client.end(), End::Closed, "{shown:?}");
    }
}

#[test]
fn noise_such_as_a_tls_handshake_is_refused_at_once() {
    let mock = v1();
    for noise in [
        &b"\x16\x03\x01\x02\0\x01\0\x01"[..],
        b"\0",
        b"\xff\xfe",
        b" GET / HTTP/1.1",
    ] {
        // Nothing says here that no more bytes come: the server does not wait for them.
        let mut client = mock.connect();
        assert_eq!(client.send(noise).answer().status, 400, "{noise:?}");
        assert_eq!(client.end(), End::Closed);
    }
}

#[test]
fn heads_and_bodies_up_to_the_limits_are_served() {
    let mock = v1();
    let ask = |bytes: String| mock.connect().send(bytes).answer().status;
    let frame = "GET / HTTP/1.1\r\nA: \r\n\r\n".len();
    let filler = |n: usize| "a".repeat(n - frame);
    assert_eq!(
        ask(format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", filler(16384))),
        200
    );
    assert_eq!(
        ask(format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", filler(16385))),
        431
    );
    assert_eq!(
        ask(format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(64))),
        200
    );
    let body = "x".repeat(65536);
    assert_eq!(
        ask(format!(
            "GET / HTTP/1.1\r\nContent-Length: 65536\r\n\r\n{body}"
        )),
        200
    );
    let chunks = format!(
        "8000\r\n{0}\r\n8000\r\n{0}\r\n0\r\n\r\n",
        "x".repeat(0x8000)
    );
    assert_eq!(
        ask(format!(
            "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"
        )),
        200
    );
}

#[test]
fn an_answer_of_any_size_comes_without_a_stall() {
    // Nagle's algorithm against delayed acknowledgements costs 40 ms an answer above one segment.
    let mock = Mock::start(&json!({"http_tokens": "optional", "user_data": "x".repeat(16384)}));
    let hundred = |path: &str, length: usize| {
        let mut client = mock.connect();
        let since = Instant::now();
        for _ in 0..100 {
            client.send(request("GET", path, &[("Connection", "keep-alive")]));
            assert_eq!(client.answer().body.len(), length);
        }
        since.elapsed()
    };
    let small = hundred(MAC, "02:00:00:00:00:07".len());
    let large = hundred("/latest/user-data", 16384);
    let allowed = Duration::from_secs(2) + small * 10;
    assert!(large < allowed, "{large:?}, small ones {small:?}");
}

#[test]
fn a_client_that_leaves_at_any_byte_harms_nobody() {
    let mock = v1();
    let whole = request(
        "PUT",
        "/latest/api/token",
        &[(TOKEN_TTL, "60"), ("Content-Length", "3")],
    ) + "abc";
    for cut in 0..whole.len() {
        let mut client = mock.connect();
        client.send(&whole[..cut]).finish();
        let (bytes, _) = client.rest();
        assert!(
            parse_all(&bytes).is_ok_and(|answers| answers.is_empty()),
            "cut at {cut}"
        );
    }
    assert_eq!(mock.connect().send(&whole).answer().status, 200);
}
