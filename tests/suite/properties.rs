//! What holds for any input: no bytes end the server or get anything but whole answers; in any tree
//! what is listed answers 200 and nothing else does. Seeded, so that a failure comes again.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::SocketAddr;

use crate::common::crawler::{crawl, named};
use crate::common::http::{Connection, ask, parse_all, request};
use crate::common::random::Random;
use crate::common::{Mock, TOKEN, TOKEN_TTL};
use serde_json::{Map, Value, json};

/// Sends `bytes`, says that no more come, and reads to the end: whole answers, none a 500.
fn answers_or_a_close(address: SocketAddr, bytes: &[u8]) -> Vec<u16> {
    let mut client = Connection::open(address);
    // The server may refuse and close before it has read all.
    let _ = client.stream.write_all(bytes);
    let (received, _) = client.finish().rest();
    let shown = String::from_utf8_lossy(bytes);
    let answers = parse_all(&received).unwrap_or_else(|what| panic!("{what}: {shown:?}"));
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    assert!(!statuses.contains(&500), "a panic: {shown:?}");
    statuses
}

/// What requests are made of, and what they should not be made of.
const PIECES: &[&[u8]] = &[
    b"GET",
    b"PUT",
    b"HEAD",
    b"OPTIONS",
    b"BREW",
    b" ",
    b"  ",
    b"\t",
    b"/",
    b"//",
    b"/latest/",
    b"/latest/api/token",
    b"/latest/meta-data/mac",
    b"http://x/",
    b"*",
    b"?",
    b"#",
    b";",
    b"%",
    b"%2e",
    b"%00",
    b"HTTP/1.1",
    b"HTTP/1.0",
    b"HTTP/2.0",
    b"HTTP/",
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b"\n\n",
    b"\0",
    b"\xff",
    b"\xc3\xa9",
    b":",
    b": ",
    b"Host: x",
    b"Host:",
    b"Content-Length: 5",
    b"Content-Length: -1",
    b"Content-Length: 99999999999999999999",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: gzip",
    b"Expect: 100-continue",
    b"Connection: keep-alive",
    b"Connection: close",
    b"X-aws-ec2-metadata-token: x",
    b"X-aws-ec2-metadata-token-ttl-seconds: 60",
    b"X-Forwarded-For: x",
    b" folded",
    b"5\r\nhello\r\n",
    b"0\r\n\r\n",
    b"ffffffffffffffff\r\n",
    b"1;x=y\r\na\r\n",
    b"\x16\x03\x01",
];

#[test]
fn any_bytes_get_whole_answers_or_a_close() {
    let mock = Mock::start(&json!({"http_tokens": "optional"}));
    let mut random = Random(1);
    let mut answered = 0;
    for round in 0..3000 {
        let mut bytes = Vec::new();
        for _ in 0..random.below(30) {
            match round % 3 {
                0 => bytes.push(random.next() as u8),
                _ => bytes.extend_from_slice(random.pick(PIECES)),
            }
        }
        answered += answers_or_a_close(mock.address(), &bytes).len();
    }
    assert!(answered > 1000, "{answered}: the cases test nothing");
    assert_eq!(mock.ask("GET", "/", &[]).status, 200);
}

#[test]
fn a_request_changed_in_any_place_gets_whole_answers_or_a_close() {
    let mock = Mock::start(&json!({"http_tokens": "optional"}));
    let keep = ("Connection", "keep-alive");
    let whole = [
        request("GET", "/latest/meta-data/mac", &[keep, ("Accept", "*/*")]),
        request(
            "PUT",
            "/latest/api/token",
            &[(TOKEN_TTL, "60"), ("Content-Length", "0"), keep],
        ),
        request(
            "PUT",
            "/latest/api/token",
            &[("Transfer-Encoding", "chunked"), keep],
        ) + "5;ext=1\r\nhello\r\n0\r\nTrailer: x\r\n\r\n",
        request(
            "GET",
            "http://169.254.169.254//latest//user-data/?a=b",
            &[(TOKEN, "x")],
        ),
        request("HEAD", "/", &[]),
    ];
    let whole = whole.map(String::into_bytes);
    let mut random = Random(2);
    let (mut served, mut refused) = (0, 0);
    for _ in 0..3000 {
        let mut bytes: Vec<u8> = Vec::new();
        for _ in 0..=random.below(3) {
            let requests: Vec<&[u8]> = whole[..4].iter().map(Vec::as_slice).collect();
            bytes.extend_from_slice(random.pick(&requests));
        }
        for _ in 0..=random.below(3) {
            let at = random.below(bytes.len());
            match random.below(5) {
                0 => bytes[at] = random.next() as u8,
                1 => drop(bytes.remove(at)),
                2 => bytes.insert(at, random.next() as u8),
                3 => drop(bytes.splice(at..at, random.pick(PIECES).iter().copied())),
                _ => bytes.truncate(at.max(1)),
            }
        }
        // A HEAD that the changes made has no body: nothing here could tell where it ends.
        if bytes.windows(5).any(|five| five == b"HEAD ") {
            continue;
        }
        for status in answers_or_a_close(mock.address(), &bytes) {
            match status {
                200 => served += 1,
                _ => refused += 1,
            }
        }
    }
    assert!(
        served > 500 && refused > 500,
        "{served} {refused}: the cases test nothing"
    );
    assert_eq!(mock.ask("GET", "/", &[]).status, 200);
}

#[test]
fn everything_listed_in_every_version_answers_200() {
    let read = |text| serde_json::from_str::<Value>(text).expect("JSON");
    let example = read(include_str!("../../config.json"));
    let recorded = read(crate::common::IMDS_MOCK_PY_CONFIG);
    for config in [json!({}), example, recorded] {
        let mock = Mock::start(&config);
        // Panics at a listed name that does not answer 200.
        let tree = crawl(&mock, "/");
        let latest: Vec<_> = tree
            .keys()
            .filter(|path| path.starts_with("/latest/"))
            .collect();
        assert!(latest.len() > 50, "{} paths", latest.len());
        for path in tree.keys().filter(|path| *path != "/") {
            let (_, below) = path[1..].split_once('/').expect("a version");
            assert!(
                tree.contains_key(&format!("/latest/{below}")),
                "{path}: what a version has, the newest has"
            );
        }
        for (path, body) in tree.iter().filter(|(path, _)| path.starts_with("/latest/")) {
            // With and without its slash, whatever it is.
            let other = match path.strip_suffix('/') {
                Some(bare) => bare.to_owned(),
                None => format!("{path}/"),
            };
            let answer = mock.get(&other);
            assert_eq!((answer.status, &answer.body), (200, body), "{other}");
        }
    }
}

const KEYS: [&str; 3] = ["ssh-rsa A", "ssh-rsa B c=d", "ssh-rsa C e f"];

/// Paths that overlap, hide and contradict each other.
fn random_changes(random: &mut Random) -> Map<String, Value> {
    const NAMES: [&str; 8] = [
        "a",
        "b",
        "a-b",
        "placement",
        "region",
        "public-keys",
        "0",
        "a=1,@$",
    ];
    let mut changes = Map::new();
    for _ in 0..random.below(8) {
        let depth = 1 + random.below(3);
        let names: Vec<&str> = (0..depth).map(|_| random.pick(&NAMES)).collect();
        let value = match random.below(4) {
            0 => Value::Null,
            _ => json!(format!("value {}", random.below(100))),
        };
        changes.insert(names.join("/"), value);
    }
    changes
}

#[test]
fn in_any_tree_what_is_listed_answers_200_and_nothing_else_does() {
    let mut random = Random(3);
    let (mut served, mut refused) = (0, 0);
    for _ in 0..80 {
        let config = json!({
            "metadata": random_changes(&mut random),
            "ssh_public_keys": KEYS[..random.below(4)],
            "tags": {"Name": "x", "a=1,@": "y"},
        });
        let file = crate::common::TempFile::new(config.to_string());
        let path = file.path().to_str().expect("UTF-8");
        match crate::common::run(&["--check", "--config", path]) {
            (0, ..) => served += 1,
            (78, _, stderr) => {
                assert!(stderr.contains("cannot be below it"), "{config}: {stderr}");
                refused += 1;
                continue;
            }
            other => panic!("{config}: {other:?}"),
        }
        let mock = Mock::start(&config);
        let tree = crawl(&mock, "/latest/");
        let found: BTreeSet<&str> = tree.keys().map(|path| path.trim_end_matches('/')).collect();
        for (path, body) in &tree {
            // Names from elsewhere in the tree, put where they are not listed.
            for name in [
                "a",
                "region",
                "0",
                "openssh-key",
                "0=key-0",
                "mac",
                "instance",
            ] {
                let child = format!("{}/{name}", path.trim_end_matches('/'));
                let status = ask(mock.address(), "GET", &child, &[(TOKEN, mock.token())]).status;
                let expected = if found.contains(child.as_str()) {
                    200
                } else {
                    404
                };
                assert_eq!(status, expected, "{child} in {config}");
            }
            if path.ends_with('/') {
                let text = String::from_utf8(body.clone()).expect("a listing");
                assert_eq!(named(path, &text).len(), text.lines().count());
            }
        }
    }
    assert!(
        served > 15 && refused > 15,
        "{served} {refused}: the cases test nothing"
    );
}
