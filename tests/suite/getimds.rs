//! getimds as a user runs it: the real binary against small servers on loopback, well-behaved,
//! broken and hostile.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use crate::common::fake_server::{Reply, Server, closing, ok, reply};
use crate::common::machine::timed;
use crate::common::skipped;
use serde_json::Value;
use socket2::{Domain, Socket, Type};

const TOKEN: &str = "AQAEexampletoken==";
const ENDPOINT: &str = "AWS_EC2_METADATA_SERVICE_ENDPOINT";
const ROLE_PATH: &str = "/latest/meta-data/iam/security-credentials/demo";
const ROLE: &str = r#"{
  "Code" : "Success",
  "AccessKeyId" : "ASIAEXAMPLE",
  "SecretAccessKey" : "hidden\"1",
  "Token" : "hidden,2"
}"#;

/// What an instance has below `/latest/`: a path and its value a line, `|` for a line's end.
const TREE: &str = " dynamic|meta-data|user-data
dynamic/ instance-identity/
dynamic/instance-identity/ document
dynamic/instance-identity/document {\"b\":1.50,\"a\":[{}],\"c\":\"\\\"}{\"}
meta-data/ ami-id|iam/|identity-credentials/|public-keys/|tags/|untold
meta-data/ami-id ami-1
meta-data/iam/ security-credentials/
meta-data/iam/security-credentials/ demo|torn
meta-data/iam/security-credentials/torn {\"SecretAccessKey\" : \"hidden
meta-data/identity-credentials/ ec2
meta-data/identity-credentials/ec2 [{\"\\u0074oken\":[\"hidden\"]}]
meta-data/public-keys/ 0=my key
meta-data/public-keys/0/ openssh-key
meta-data/public-keys/0/openssh-key ssh-ed25519 AAAA
meta-data/tags/ instance/
meta-data/tags/instance/ Gr\u{fc}n=x
meta-data/tags/instance/Gr\u{fc}n=x one\r|two \x1b[2J|
meta-data/untold \nuser-data #cloud-config|";

/// Serves the tree to those who have a token; what `except` answers goes before it.
fn instance(except: impl Fn(&str) -> Option<Reply> + Send + Sync + 'static) -> Server {
    let values = TREE.split('\n').filter_map(|line| line.split_once(' '));
    let mut tree: BTreeMap<_, _> = values
        .map(|(path, v)| (path, v.replace('|', "\n")))
        .collect();
    tree.insert(&ROLE_PATH["/latest/".len()..], ROLE.to_owned());
    Server::start(move |line, token| match line.split_once(" /latest/") {
        Some(("PUT", "api/token")) => ok(TOKEN),
        Some(("GET", _)) if token != Some(TOKEN) => reply("401 Unauthorized", ""),
        Some(("GET", path)) => except(path).unwrap_or_else(|| match tree.get(path) {
            Some(body) => ok(body),
            None => reply("404 Not Found", "<html>"),
        }),
        _ => reply("405 Not Allowed", ""),
    })
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_getimds"));
    command.env_remove(ENDPOINT).args(arguments);
    command
}

/// Runs getimds and returns its status, standard output and standard error.
fn finish(command: &mut Command) -> (i32, String, String) {
    let output = command.output().expect("getimds was built");
    let status = output.status.code().expect("no signal");
    let [out, err] = [output.stdout, output.stderr].map(String::from_utf8);
    (status, out.expect("UTF-8"), err.expect("UTF-8"))
}

fn getimds(arguments: &[&str]) -> (i32, String, String) {
    finish(&mut command(arguments))
}

/// Runs getimds; `complaints` are what the lines on standard error have in them.
fn check(arguments: &[&str], status: i32, out: &str, complaints: &[&str]) {
    let ran = getimds(arguments);
    assert_eq!((ran.0, ran.1.as_str()), (status, out), "{}", ran.2);
    assert_eq!(ran.2.lines().count(), complaints.len(), "{}", ran.2);
    for (line, complaint) in ran.2.lines().zip(complaints) {
        assert!(line.contains(complaint), "{line:?}: no {complaint:?}");
    }
}

fn json(text: &str) -> BTreeMap<String, Value> {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

#[test]
fn a_walk_shows_every_value_readably_and_no_secret() {
    let expected = r#"/latest/dynamic/instance-identity/document:
    {
      "b": 1.50,
      "a": [
        {}
      ],
      "c": "\"}{"
    }
/latest/meta-data/ami-id: ami-1
/latest/meta-data/iam/security-credentials/demo:
    {
      "Code": "Success",
      "AccessKeyId": "ASIAEXAMPLE",
      "SecretAccessKey": "********",
      "Token": "********"
    }
/latest/meta-data/iam/security-credentials/torn: ********
/latest/meta-data/identity-credentials/ec2:
    [
      {
        "\u0074oken": "********"
      }
    ]
/latest/meta-data/public-keys/0/openssh-key: ssh-ed25519 AAAA
/latest/meta-data/tags/instance/Grün=x:
    one\r
    two \u{1b}[2J
/latest/meta-data/untold:
/latest/user-data: #cloud-config
"#;
    check(&[&instance(|_| None).host], 0, expected, &[]);
}

#[test]
fn json_holds_exact_values_with_only_the_secrets_replaced() {
    let server = instance(|path| (path == "user-data").then(|| closing(b"\r\n\x1f\x8b\xff")));
    let (status, out, _) = getimds(&["--json", &server.host]);
    assert_eq!(status, 0);
    assert!(out.is_ascii() && !out.contains("hidden"), "{out}");
    let values = json(&out);
    let role = ROLE.replace(r#"hidden\"1"#, "********");
    assert_eq!(values[ROLE_PATH], role.replace("hidden,2", "********"));
    let tag = &values["/latest/meta-data/tags/instance/Gr\u{fc}n=x"];
    assert_eq!(tag, "one\r\ntwo \u{1b}[2J\n");
    assert_eq!(values["/latest/user-data"]["base64"], "H4v/");

    let (_, out, _) = getimds(&["--json", "--show-secrets", &server.host]);
    assert_eq!(json(&out)[ROLE_PATH], ROLE);
}

#[test]
fn paths_are_those_of_the_walk_and_no_value_is_read_for_them() {
    let server = instance(|_| None);
    let (status, paths, _) = getimds(&["--paths", &server.host]);
    assert_eq!(status, 0);
    assert_eq!(server.count("GET /latest/meta-data/ami-id"), 0);
    let values = json(&getimds(&["--json", &server.host]).1);
    let mut paths: Vec<&str> = paths.lines().collect();
    paths.sort();
    assert_eq!(paths, values.keys().collect::<Vec<_>>());
}

#[test]
fn on_a_terminal_paths_are_escaped() {
    let (server, getimds) = (instance(|_| None), env!("CARGO_BIN_EXE_getimds"));
    let line = format!("{getimds} --paths {}", server.host);
    let mut script = Command::new("script");
    match cfg!(target_os = "linux") {
        true => script.args(["-qec", &line, "/dev/null"]),
        false => script.args(["-q", "/dev/null", "sh", "-c", &line]),
    };
    match script.stdin(Stdio::null()).output() {
        Err(error) => skipped(&format!("script(1): {error}")),
        Ok(output) => {
            let out = String::from_utf8_lossy(&output.stdout);
            assert!(out.contains(r"/tags/instance/Gr\xc3\xbcn=x"), "{out}");
        }
    }
}

#[test]
fn one_path_is_raw_bytes_and_several_end_their_lines() {
    let server = instance(|path| (path == "binary").then(|| closing(b"\r\n\x1f\x8b\xff")));
    let (host, ami) = (server.host.as_str(), "latest/meta-data/ami-id");
    let raw = command(&[host, "latest/binary"]).output();
    assert_eq!(raw.expect("getimds was built").stdout, b"\x1f\x8b\xff");
    check(&[host, ami], 0, "ami-1", &[]);
    check(&[host, ROLE_PATH], 0, ROLE, &[]);
    let lines = format!("{ROLE}\n#cloud-config\nami-1\n");
    check(&[host, ROLE_PATH, "latest/user-data", ami], 0, &lines, &[]);
    let complaint = "getimds: /latest/none: 404 Not Found";
    check(&[host, "latest/none", ami], 1, "ami-1\n", &[complaint]);
    let (_, out, _) = getimds(&["--json", host, ROLE_PATH]);
    assert_eq!(json(&out)[ROLE_PATH], ROLE);
}

#[test]
fn a_walk_goes_on_after_a_failure_and_says_which() {
    let server = instance(|path| match path {
        "dynamic/" => Some(reply("500 Broken", "")),
        "meta-data/iam/" => Some(closing("Content-Length: 9\r\n\r\ninfo")),
        "meta-data/tags/" => Some(ok("a/b\nx\x1b\n..\n.\n//\ninstance/")),
        // What an instance answers that was given none.
        "user-data" => Some(reply("404 Not Found", "")),
        _ => None,
    });
    let complaints = [
        "getimds: /latest/dynamic/: 500 Broken",
        "getimds: /latest/meta-data/iam/: the answer is cut short",
        "getimds: /latest/meta-data/tags/: lists names that lead nowhere: 5, first \"a/b\"",
    ];
    let (status, out, err) = getimds(&["--json", &server.host]);
    assert_eq!(err.lines().collect::<Vec<_>>(), complaints);
    assert_eq!((status, json(&out).len()), (1, 5), "{out}");
}

#[test]
fn one_connection_carries_the_walk_and_a_closed_one_is_replaced() {
    let server = instance(|_| None);
    assert_eq!(getimds(&[&server.host]).0, 0);
    assert_eq!(server.count("+"), 1);
    assert_eq!(server.count("PUT /latest/api/token"), 1);

    // It closes without saying so: the next request finds that out.
    let last = "Content-Length: 1\r\n\r\nx";
    let server = instance(move |path| path.ends_with("ami-id").then(|| closing(last)));
    assert_eq!((getimds(&[&server.host]).0, server.count("+")), (0, 2));

    // Bytes behind an answer are not the next one.
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n";
    let twice = Reply::Keep(format!("{answer}good{answer}evil").into());
    let server = instance(move |path| path.ends_with("ami-id").then(|| twice.clone()));
    let (status, out, _) = getimds(&["--json", &server.host]);
    assert_eq!((status, server.count("+")), (0, 2));
    assert!(out.contains("good") && !out.contains("evil"), "{out}");
}

#[test]
fn a_mock_that_lists_nothing_at_the_top_is_walked_all_the_same() {
    let server = instance(|path| path.is_empty().then(|| reply("404 Not Found", "")));
    let (status, out, err) = getimds(&["--json", &server.host]);
    assert_eq!((status, json(&out).len()), (1, 9), "{out}");
    assert_eq!(err, "getimds: /latest/: 404 Not Found\n");
}

#[test]
fn every_framing_of_a_body_is_understood() {
    let chunks = "2;x\r\nam\r\n3\r\ni-1\r\n0\r\nX: y\r\n\r\n";
    let chunked = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
    let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nami-1";
    for answer in [
        closing("\r\nami-1"),
        Reply::Keep(b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nami-1".into()),
        Reply::Keep(b"HTTP/1.1 200 OK\nConnection: close\nContent-Length: 5\n\nami-1".into()),
        Reply::Keep(chunked.into()),
        Reply::Keep(interim.into()),
    ] {
        let server = instance(move |path| path.ends_with("ami-id").then(|| answer.clone()));
        check(&[&server.host, "latest/meta-data/ami-id"], 0, "ami-1", &[]);
    }
}

#[test]
fn a_server_without_tokens_is_read_without_one() {
    for status in [403, 404, 405, 501] {
        let server = Server::start(move |line, token| match (line, token) {
            ("GET /latest/x", None) => ok("v1"),
            _ => reply(&format!("{status} No"), ""),
        });
        check(&[&server.host, "latest/x"], 0, "v1", &[]);
    }
}

#[test]
fn a_refused_token_is_replaced_once() {
    let issued = Mutex::new(0);
    let server = Server::start(move |line, token| match (line, token) {
        ("PUT /latest/api/token", _) => {
            let mut issued = issued.lock().expect("nobody panicked");
            *issued += 1;
            ok(&format!("token{issued}\n"))
        }
        ("GET /value", Some("token2")) => ok("value"),
        _ => reply("401 Unauthorized", ""),
    });
    check(&[&server.host, "value"], 0, "value", &[]);
    check(&[&server.host, "never"], 1, "", &["/never: 401 Unauth"]);
    assert_eq!(server.count("GET /never"), 2);
}

#[test]
fn a_token_that_is_none_is_not_used() {
    for token in ["", "two words", "x\r\nHost: y", &"x".repeat(2000)] {
        let answer = ok(token);
        let server = Server::start(move |_, _| answer.clone());
        check(&[&server.host, "x"], 1, "", &["getimds: /x: no token: "]);
        assert_eq!(server.count("GET /x"), 0);
    }
}

#[test]
fn hostile_answers_end_in_a_clear_error_and_valid_json() {
    let chunks = |text: &str| closing(format!("Transfer-Encoding: chunked\r\n\r\n{text}"));
    let lengths = |one, two| format!("Content-Length: {one}\r\nContent-Length: {two}\r\n\r\n");
    let endless = "x".repeat(5 << 20);
    for (expected, answer) in [
        (
            "body of more than 4194304",
            closing(format!("\r\n{endless}")),
        ),
        (
            "body of more than 4194304",
            closing(lengths(5 << 20, 5 << 20)),
        ),
        ("body of more than 4194304", chunks("ffffffff\r\n")),
        ("head of more than 16384", closing(format!("X: {endless}"))),
        (
            "head cannot be read",
            closing("X: y\r\n".repeat(65) + "\r\n"),
        ),
        ("Content-Length", closing(lengths(1, 2) + "x")),
        ("cut short", chunks("5\r\nami")),
        ("broken chunk", chunks("x\r\n")),
        ("not an HTTP answer", Reply::Close(b"SSH-2.0-x\r\n".into())),
        ("closed the connection", Reply::Close(Vec::new())),
    ] {
        let server = instance(move |path| (path == "dynamic/").then(|| answer.clone()));
        let (status, out, err) = getimds(&["--json", &server.host]);
        assert_eq!((status, json(&out).len()), (1, 8), "{err}");
        assert!(err.starts_with("getimds: /latest/dynamic/: "), "{err}");
        assert!(err.contains(expected), "{expected}: {err}");
    }
}

#[test]
fn a_tree_without_end_is_left() {
    let server = instance(|path| path.starts_with("dynamic/").then(|| ok("a/\na/")));
    let (status, _, err) = getimds(&[&server.host]);
    assert_eq!((status, err.lines().count()), (1, 1), "{err}");
    assert!(err.contains("/a/a/: too deep"), "{err}");

    let names: String = (0..70_000).map(|n| format!("{n}\n")).collect();
    let server = instance(move |path| (path == "dynamic/").then(|| ok(&names)));
    let (status, out, err) = getimds(&["--paths", &server.host]);
    assert_eq!(status, 1);
    assert_eq!(err, "getimds: /latest/: gave up: more than 65536 names\n");
    assert!((65_000..=65_536).contains(&out.lines().count()));
}

#[test]
fn a_server_that_drips_or_falls_silent_takes_bounded_time() {
    let timed_out = || {
        for drip in ["HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 200 OK\r\nX: "] {
            let server = instance(|path| path.is_empty().then_some(Reply::Drip(drip)));
            let complaint = "getimds: /latest/: no complete answer in time (see --timeout)";
            check(&["--timeout", "1", &server.host], 1, "", &[complaint]);
        }
        let names: String = (0..1000).map(|n| format!("{n}\n")).collect();
        let server = instance(move |path| match path {
            "" => Some(ok(&names)),
            _ => Some(Reply::Silence),
        });
        let mut complaints = vec!["no complete answer in time"; 8];
        complaints.push("getimds: /latest/: gave up: 8 times in a row no answer");
        check(&["--timeout", "0.5", &server.host], 1, "", &complaints);
    };
    // Two times one second, nine times half of one.
    timed(timed_out).1.assert_within(Duration::from_secs(30));
}

#[test]
fn nobody_there_is_69() {
    // Connections wait in the backlog of the one, and are refused by the other.
    let mute = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    let closed = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    let hosts = [&mute, &closed].map(|listener| listener.local_addr().expect("bound").to_string());
    drop(closed);
    let complaints = ["no token: no complete", "cannot connect to 127"];
    for (host, complaint) in hosts.iter().zip(complaints) {
        for (paths, out) in [(&[][..], ""), (&["a", "b"], ""), (&["--json"], "{}\n")] {
            let arguments = [&["--timeout", "0.2", host], paths].concat();
            check(&arguments, 69, out, &[complaint]);
        }
    }
}

#[test]
fn a_connection_that_does_not_come_about_is_given_two_seconds() {
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let full = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    full.bind(&loopback.into())
        .expect("loopback has free ports");
    full.listen(0).expect("it is bound");
    let address = full.local_addr().expect("it is bound").as_socket();
    let address = address.expect("an address of IPv4");
    // Nobody accepts these; one that finds the queue full is not answered.
    let wait = Duration::from_millis(200);
    let queue: Vec<_> = (0..3)
        .map(|_| TcpStream::connect_timeout(&address, wait))
        .collect();
    if queue.iter().all(Result::is_ok) {
        return skipped("a full queue does not keep connections waiting here");
    }
    let host = address.to_string();
    let ((), time) = timed(|| check(&[&host], 69, "", &["cannot connect to "]));
    time.assert_within(Duration::from_secs(6));
}

#[test]
fn wrong_usage_is_64_and_names_what_is_wrong() {
    for (arguments, complaint) in [
        (&["--bogus"][..], "--bogus"),
        (&["--timeout"], "--timeout"),
        (&["--timeout", "0"], "expected seconds"),
        (&["--timeout", "-1"], "expected seconds"),
        (&["--timeout", "soon"], "expected seconds"),
        (&["--timeout", "nan"], "expected seconds"),
        (&["--timeout", "1e99"], "expected seconds"),
        (&["--json", "--paths"], "exclude"),
        (&["--paths", "localhost", "latest/"], "--paths"),
        (&["localhost", "latest/\n"], "control"),
        (&["localhost:http"], "port"),
        (&["latest/user-data"], "a host first"),
    ] {
        check(arguments, 64, "", &[complaint]);
    }
    let (status, _, err) = finish(command(&[]).env(ENDPOINT, "https://localhost/"));
    assert_eq!((status, err.contains(ENDPOINT)), (64, true), "{err}");
    let version = concat!("getimds ", env!("CARGO_PKG_VERSION"), "\n");
    check(&["--version"], 0, version, &[]);
    assert!(getimds(&["--help"]).1.contains("--show-secrets"));
}

#[test]
fn the_endpoint_variable_is_used_where_no_host_is_given() {
    let server = instance(|_| None);
    let endpoint = format!("http://{}/", server.host);
    let (status, out, _) = finish(command(&["--paths"]).env(ENDPOINT, endpoint));
    assert_eq!((status, out.lines().count()), (0, 9));
}

#[test]
fn ipv6_is_reached_in_brackets() {
    let Ok(listener) = TcpListener::bind("[::1]:0") else {
        return skipped("no IPv6 on loopback");
    };
    let server = Server::on(listener, |_, _| ok("six"));
    check(&[&server.host, "x"], 0, "six", &[]);
}

#[test]
fn a_reader_that_has_had_enough_ends_it_quietly() {
    let names: String = (0..60_000).map(|n| format!("{n}\n")).collect();
    let server = instance(move |path| (path == "dynamic/").then(|| ok(&names)));
    let mut command = command(&["--paths", &server.host]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("getimds was built");
    let mut start = [0; 17];
    let mut stdout = child.stdout.take().expect("a pipe");
    stdout.read_exact(&mut start).expect("a first path");
    drop(stdout);
    let output = child.wait_with_output().expect("a child");
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stderr.is_empty());
}
