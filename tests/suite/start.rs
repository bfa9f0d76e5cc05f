//! Starting and ending: flags, exit statuses, messages, listeners, and an output that stalls, closes
//! or is a terminal.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::http::{Connection, ask, request};
use crate::common::{
    Mock, PATIENCE, TempFile, assert_within_a_second, imds_mock, run, signal, skipped, wait,
    wait_until,
};
use serde_json::json;

#[test]
fn help_and_version_are_printed_whatever_else_is_said() {
    for arguments in [
        &["--help"][..],
        &["-h"],
        &["--port", "0", "--help", "--nonsense"],
    ] {
        let (status, stdout, stderr) = run(arguments);
        assert_eq!((status, stderr.as_str()), (0, ""), "{arguments:?}");
        for flag in [
            "--config",
            "--host",
            "--port",
            "--quiet",
            "--check",
            "--print-config",
        ] {
            assert!(stdout.contains(flag), "{flag} is not explained");
        }
        assert!(
            stdout.contains("127.0.0.1") && stdout.contains("8000"),
            "defaults"
        );
    }
    for flag in ["--version", "-V"] {
        let version = format!("imds_mock {}\n", env!("CARGO_PKG_VERSION"));
        assert_eq!(run(&[flag]), (0, version, String::new()));
    }
}

#[test]
fn wrong_usage_is_64_and_says_what_is_wrong() {
    for (arguments, named) in [
        (&["--nonsense"][..], "--nonsense"),
        (&["--conf", "x"], "--conf"),
        (&["file.json"], "file.json"),
        (&["--port"], "--port"),
        (&["--port", "http"], "http"),
        (&["--port", "65536"], "65536"),
        (&["--port", "-1"], "-1"),
        (&["--port="], "--port"),
        (&["--host"], "--host"),
        (&["--host", ""], "--host"),
        (&["--host", "no such host"], "no such host"),
        (&["--host", "256.0.0.1"], "256.0.0.1"),
        (&["--config"], "--config"),
        (&["--quiet=yes"], "--quiet"),
        (&["-x"], "-x"),
    ] {
        let (status, stdout, stderr) = run(arguments);
        assert_eq!(
            (status, stdout.as_str()),
            (64, ""),
            "{arguments:?}: {stderr}"
        );
        assert!(
            stderr.starts_with("imds_mock: ") && stderr.contains(named),
            "{stderr}"
        );
        assert!(stderr.contains("--help"), "{stderr}");
    }
}

#[test]
fn a_configuration_that_cannot_be_used_is_78_and_says_where() {
    let cases: [(&[u8], &str); 8] = [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[]", "object"),
        (b"null", "object"),
        (b"{\"instance_id\": 7}", "instance_id: expected "),
        (b"{\"a\": \"\xff\"}", "not UTF-8"),
        (b"{\"mac\": \"x\"} trailing", "not JSON"),
        (b"{\"default_delay_ms\": \"5s\"}", "default_delay_ms"),
    ];
    for (text, said) in cases {
        let file = TempFile::new(text);
        let path = file.path().to_str().expect("UTF-8");
        for task in [&["--port", "0"][..], &["--check"], &["--print-config"]] {
            let arguments = [&["--config", path], task].concat();
            let (status, stdout, stderr) = run(&arguments);
            assert_eq!((status, stdout.as_str()), (78, ""), "{stderr}");
            assert!(
                stderr.contains(path) && stderr.contains(said),
                "{said}: {stderr}"
            );
        }
    }
    for missing in ["/no/such/file.json", "/"] {
        let (status, _, stderr) = run(&["--config", missing]);
        assert_eq!(status, 78, "{stderr}");
        assert!(
            stderr.contains(missing) && stderr.contains("cannot read"),
            "{stderr}"
        );
    }
}

#[test]
fn every_problem_is_reported_not_just_the_first() {
    let file = TempFile::new(r#"{"instance_id": 7, "mac": "zz", "http_tokens": "maybe"}"#);
    let path = file.path().to_str().expect("UTF-8");
    let (status, _, stderr) = run(&["--check", "--config", path]);
    assert_eq!((status, stderr.lines().count()), (78, 3), "{stderr}");
    for (line, key) in stderr.lines().zip(["http_tokens", "instance_id", "mac"]) {
        assert!(
            line.starts_with(&format!("imds_mock: {path}: {key}: expected ")),
            "{line}"
        );
        assert!(line.contains(", found "), "{line}");
    }
}

#[test]
fn check_reads_the_configuration_and_ends() {
    let file = TempFile::new("\u{feff}{\"region\": \"us-west-2\"}");
    let path = file.path().to_str().expect("UTF-8");
    let (status, stdout, stderr) = run(&["--check", "--config", path]);
    assert_eq!((status, stderr.as_str()), (0, ""));
    assert!(stdout.contains(path), "{stdout}");
    let (status, stdout, _) = run(&["--check"]);
    assert_eq!(status, 0);
    assert!(stdout.contains("built-in"), "{stdout}");
}

#[test]
fn an_unknown_key_is_a_warning_with_the_nearest_known_one() {
    let file = TempFile::new(r#"{"instance_idd": "i-1", "comment": "x"}"#);
    let path = file.path().to_str().expect("UTF-8");
    let (status, _, stderr) = run(&["--check", "--config", path]);
    assert_eq!(status, 0, "{stderr}");
    let line = |key: &str| {
        let mut lines = stderr.lines();
        lines
            .find(|line| line.contains(key))
            .unwrap_or_else(|| panic!("{key}: {stderr}"))
    };
    assert!(line("instance_idd").contains("warning"), "{stderr}");
    assert!(
        line("instance_idd").contains("did you mean \"instance_id\"?"),
        "{stderr}"
    );
    assert!(!line("comment").contains("did you mean"), "{stderr}");
}

#[test]
fn a_start_without_arguments_serves_the_example_on_port_8000() {
    // On a port of its own; that 8000 is the default, --help says.
    let mut command = imds_mock();
    command.args(["--port", "0"]);
    let mock = Mock::spawn(command, 1, None);
    assert_eq!(mock.address().ip().to_string(), "127.0.0.1");
    let example: serde_json::Value =
        serde_json::from_str(include_str!("../../config.json")).expect("JSON");
    for (key, path) in [
        ("instance_id", "instance-id"),
        ("hostname", "hostname"),
        ("public_ipv4", "public-ipv4"),
        ("region", "placement/region"),
        ("instance_type", "instance-type"),
    ] {
        let value = mock.text(&format!("/latest/meta-data/{path}"));
        assert_eq!(value, example[key].as_str().expect("a text"), "{key}");
    }
}

#[test]
fn each_host_gets_a_listener_and_a_line() {
    let mock = Mock::with(
        &json!({}),
        &["--host", "127.0.0.1", "--host", "::1", "--host", "[::1]"],
    );
    let hosts: Vec<String> = mock.addresses.iter().map(|a| a.ip().to_string()).collect();
    assert_eq!(hosts, ["127.0.0.1", "::1", "::1"]);
    for address in &mock.addresses {
        assert_ne!(address.port(), 0, "the port really bound");
        assert_eq!(ask(*address, "GET", "/", &[]).status, 401, "{address}");
    }
    // One instance behind them all: a token of one is good at the other.
    let fields = [(crate::common::TOKEN, mock.token())];
    assert_eq!(ask(mock.addresses[1], "GET", "/", &fields).status, 200);
    let named = Mock::with(&json!({}), &["--host=localhost"]);
    assert_eq!(named.address().ip().to_string(), "127.0.0.1");
}

#[test]
fn an_ipv6_listener_leaves_ipv4_alone() {
    let mock = Mock::with(&json!({}), &["--host", "::"]);
    let port = mock.address().port();
    let v6: SocketAddr = (std::net::Ipv6Addr::LOCALHOST, port).into();
    assert_eq!(ask(v6, "GET", "/", &[]).status, 401);
    let v4: SocketAddr = (std::net::Ipv4Addr::LOCALHOST, port).into();
    assert!(
        TcpListener::bind(v4).is_ok(),
        "as FreeBSD has it by default"
    );
}

#[test]
fn an_address_in_use_is_69_and_says_so() {
    let mock = Mock::start(&json!({}));
    let port = mock.address().port().to_string();
    let (status, stdout, stderr) = run(&["--port", &port]);
    assert_eq!((status, stdout.as_str()), (69, ""), "{stderr}");
    assert!(stderr.contains(&format!("127.0.0.1:{port}")), "{stderr}");
    assert!(stderr.contains("Another process"), "{stderr}");
    // One address that fails is enough.
    let (status, ..) = run(&["--host", "::1", "--host", "127.0.0.1", "--port", &port]);
    assert_eq!(status, 69);
    // The port is free again at once, though it has been used.
    mock.ask("GET", "/", &[]);
    drop(mock);
    let mut command = imds_mock();
    command.args(["--port", &port]);
    assert_eq!(
        Mock::spawn(command, 1, None).address().port().to_string(),
        port
    );
}

#[test]
fn an_address_this_machine_lacks_is_69_with_the_command_that_adds_it() {
    for (host, family) in [("192.0.2.1", "inet"), ("2001:db8::1", "inet6")] {
        let (status, _, stderr) = run(&["--host", host, "--port", "0"]);
        assert_eq!(status, 69, "{stderr}");
        assert!(stderr.contains(host), "{stderr}");
        let command = match cfg!(target_os = "freebsd") {
            true => format!("ifconfig lo1 {family} {host}/"),
            false => format!("ip addr add {host}/"),
        };
        assert!(stderr.contains(&command), "{stderr}");
    }
}

#[test]
fn a_port_that_needs_root_is_69_and_says_what_lets_others_bind_it() {
    use std::os::unix::process::CommandExt;
    if !nix::unistd::geteuid().is_root() {
        let (status, _, stderr) = run(&["--port", "80"]);
        return assert_says_how_to_bind(status, &stderr);
    }
    let mut command = imds_mock();
    match command
        .args(["--port", "80"])
        .uid(65534)
        .gid(65534)
        .output()
    {
        Err(e) => skipped(&format!("another user cannot start the program: {e}")),
        Ok(output) => {
            let stderr = String::from_utf8(output.stderr).expect("UTF-8");
            assert_says_how_to_bind(output.status.code().expect("no signal"), &stderr);
        }
    }
}

fn assert_says_how_to_bind(status: i32, stderr: &str) {
    assert_eq!(status, 69, "{stderr}");
    assert!(
        stderr.contains("127.0.0.1:80") && stderr.contains("root"),
        "{stderr}"
    );
}

#[test]
fn a_request_line_is_printed_for_each_request() {
    let mock = Mock::start(&json!({"force_status": {"/forced": 799}}));
    let ask = |method: &str, target: &str| mock.ask(method, target, &[]).status;
    for (method, target, line) in [
        (
            "GET",
            "/latest/meta-data/mac?x=1",
            "GET /latest/meta-data/mac?x=1 -> 401",
        ),
        ("PUT", "/latest/api/token", "PUT /latest/api/token -> 400"),
        ("HEAD", "/", "HEAD / -> 401"),
        ("GET", "/forced", "GET /forced -> 799"),
        ("GET", "/\u{1b}[2J", "- - -> 400"),
        ("GET", "/\u{e9}", "GET /\\xc3\\xa9 -> 401"),
    ] {
        let status = ask(method, target);
        assert!(line.ends_with(&format!(" -> {status}")), "{line}: {status}");
        assert_eq!(mock.stdout.recv_timeout(PATIENCE).expect("a line"), line);
    }
}

#[test]
fn quiet_prints_the_start_line_alone() {
    for flag in ["--quiet", "-q"] {
        let mock = Mock::with(&json!({}), &[flag]);
        assert_eq!(mock.ask("GET", "/", &[]).status, 401);
        mock.signal("TERM");
        // The output ends without a line.
        assert!(mock.stdout.recv_timeout(PATIENCE).is_err());
    }
}

/// Starts with stdout a pipe that the test holds. Returns its reader behind the start line.
fn with_stdout() -> (std::process::Child, BufReader<impl Read>, SocketAddr) {
    let mut child = imds_mock()
        .args(["--port", "0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it was built");
    let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
    let mut line = String::new();
    stdout.read_line(&mut line).expect("a line");
    let (_, address) = line.trim_end().split_once("http://").expect("a start line");
    let address = address.parse().expect("an address");
    (child, stdout, address)
}

fn end(mut child: std::process::Child) -> (i32, Duration, String) {
    let since = Instant::now();
    signal(&child, "TERM");
    let status = wait(&mut child, PATIENCE).expect("it ends");
    let took = since.elapsed();
    let mut stderr = String::new();
    let reader = child.stderr.take();
    reader
        .expect("piped")
        .read_to_string(&mut stderr)
        .expect("UTF-8");
    (status.code().expect("no signal ends it"), took, stderr)
}

/// Sends that many requests, each of which makes a line of 8 KiB, on the connection it returns.
fn make_long_lines(address: SocketAddr, count: usize) -> Connection {
    let target = format!("/{}", "x".repeat(8192));
    let mut client = Connection::open(address);
    for _ in 0..count {
        client.send(request("GET", &target, &[("Connection", "keep-alive")]));
        assert_eq!(client.answer().status, 401);
    }
    client
}

#[test]
fn a_stalled_stdout_blocks_nothing_and_the_lost_lines_are_counted() {
    let (child, stdout, address) = with_stdout();
    // Twice what the queue and the pipe hold.
    make_long_lines(address, 300);
    let (status, took, stderr) = end(child);
    assert_eq!(status, 0, "{stderr}");
    assert_within_a_second(took);
    assert!(stderr.contains("lines of output were lost"), "{stderr}");
    drop(stdout);
}

#[test]
fn a_stdout_that_goes_on_says_how_many_lines_it_missed() {
    let (child, stdout, address) = with_stdout();
    let mut client = make_long_lines(address, 300);
    // Read on: the lines that fitted, then how many did not.
    let mut lines = stdout.lines().map_while(Result::ok);
    let (mut kept, mut lost) = (0, 0);
    loop {
        let line = lines.next().expect("a line");
        if line.starts_with("GET /x") {
            assert!(line.ends_with(" -> 401"), "a torn line");
            kept += 1;
        } else if line.starts_with("GET /end") {
            break;
        } else {
            let (count, rest) = line.split_once(' ').expect("N lines lost");
            assert!(rest.starts_with("lines lost"), "{line}");
            if lost == 0 {
                // Behind it, on the same connection, all 300 have been counted one way or another.
                client.send(request("GET", "/end", &[]));
            }
            lost += count.parse::<usize>().expect("a number");
        }
    }
    assert_eq!(kept + lost, 300);
    assert_eq!(end(child).0, 0);
}

#[test]
fn a_closed_stdout_ends_nothing() {
    let (child, stdout, address) = with_stdout();
    drop(stdout);
    for _ in 0..3 {
        make_long_lines(address, 100);
    }
    let (status, took, stderr) = end(child);
    assert_eq!(status, 0, "{stderr}");
    assert_within_a_second(took);
    assert!(!stderr.contains("panicked"), "{stderr}");
}

#[test]
fn a_start_without_stdout_serves() {
    // Nobody can read the port there: one that was free a moment ago is taken.
    let free = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr());
    let address = free.expect("a port");
    for redirect in [">&-", ">/dev/full", "2>&- >&-", "<&- >&- 2>&-"] {
        let script = format!("exec \"$0\" --port {} {redirect}", address.port());
        let program = imds_mock().get_program().to_owned();
        let mut child = Command::new("sh")
            .args(["-c", &script])
            .arg(program)
            .spawn()
            .expect("sh");
        wait_until("it listens", || {
            std::net::TcpStream::connect(address).is_ok()
        });
        make_long_lines(address, 10);
        signal(&child, "TERM");
        let status = wait(&mut child, PATIENCE).expect("it ends");
        assert_eq!(status.code(), Some(0), "{redirect}");
    }
}

#[test]
fn what_cannot_be_started_is_not_said_to_run() {
    // Each number of descriptors fails elsewhere, until there are enough.
    let mut failed = 0;
    for descriptors in 4..16 {
        let script = format!("ulimit -n {descriptors}; exec \"$0\" --port 0");
        let mut child = Command::new("sh")
            .args(["-c", &script])
            .arg(imds_mock().get_program())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh");
        let mut said = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        stdout.read_line(&mut said).expect("ASCII");
        let started = said.contains(" running on ");
        if started {
            signal(&child, "TERM");
        }
        let status = wait(&mut child, PATIENCE).expect("it ends");
        assert_eq!(status.success(), started, "{descriptors} descriptors");
        failed += usize::from(!started);
    }
    assert!((1..12).contains(&failed), "{failed} of 12 failed");
}

#[test]
fn a_stop_answers_what_has_arrived() {
    let delay = json!({"/latest/meta-data/mac": 60_000});
    let mock = Mock::start(&json!({"http_tokens": "optional", "endpoint_delay_ms": delay}));
    let address = mock.address();
    let keep = [("Connection", "keep-alive")];
    let mut kept: Vec<Connection> = (0..100).map(|_| Connection::open(address)).collect();
    for client in &mut kept {
        client.send(request("GET", "/latest/meta-data/instance-id", &keep));
        assert_eq!(client.answer().status, 200);
    }
    // While it sleeps, requests arrive, and the end with them.
    mock.signal("STOP");
    let newcomers = (0..200).map(|_| Connection::open(address));
    let mut clients: Vec<Connection> = kept.into_iter().chain(newcomers).collect();
    let with_body = "GET / HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi".to_owned();
    let delayed = request("GET", "/latest/meta-data/mac", &keep);
    let requests = [request("GET", "/", &keep), delayed, with_body];
    for (client, request) in clients.iter_mut().zip(requests.iter().cycle()) {
        client.send(request);
    }
    mock.signal("TERM");
    let (status, took, _) = mock.stop("CONT");
    assert!(status.success());
    // With three hundred answers on top.
    assert_within_a_second(took / 2);
    for client in &mut clients {
        assert_eq!(client.answer().status, 200);
    }
    assert!(std::net::TcpStream::connect(address).is_err());
}

#[test]
fn a_terminal_gets_the_line_to_paste_and_nothing_else_does() {
    let mut mock = Mock::start(&json!({}));
    mock.signal("TERM");
    assert!(
        mock.stdout.recv_timeout(PATIENCE).is_err(),
        "a line more on a pipe"
    );
    assert!(mock.wait(PATIENCE).expect("it ends").success());

    // script(1) gives a terminal; its arguments differ.
    let program = imds_mock().get_program().to_owned();
    let mut command = Command::new("script");
    match cfg!(target_os = "linux") {
        true => command.args(["-qec", "\"$PROGRAM\" --port 0", "/dev/null"]),
        false => command.args(["-q", "/dev/null", "sh", "-c", "\"$PROGRAM\" --port 0"]),
    };
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let Ok(mut script) = piped.env("PROGRAM", program).spawn() else {
        return skipped("script(1) is not here");
    };
    let mut keyboard = script.stdin.take().expect("piped");
    let screen = BufReader::new(script.stdout.take().expect("piped"));
    let mut lines = screen.lines().map_while(Result::ok);
    let start = lines.find(|line| line.contains(" running on "));
    let paste = lines.next();
    // Control-C, typed.
    keyboard.write_all(b"\x03").expect("script reads");
    assert!(
        wait(&mut script, PATIENCE).is_some(),
        "SIGINT does not end it"
    );
    let (start, paste) = (start.expect("a start line"), paste.expect("one more"));
    let (_, address) = start.trim_end().split_once("http://").expect("an address");
    let expected = format!("export AWS_EC2_METADATA_SERVICE_ENDPOINT=http://{address}/");
    assert_eq!(paste.trim_end(), expected);
}
