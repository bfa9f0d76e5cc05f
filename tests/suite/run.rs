//! `imds_mock -- COMMAND`: what the command finds around it, what reaches it, and what its end
//! means. Commands are shells that do what `/bin/sh` does on any system.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use crate::common::PATIENCE;
use crate::common::sts::FakeSts;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::{Pid, geteuid};

const IMDS_MOCK: &str = env!("CARGO_BIN_EXE_imds_mock");
const GETIMDS: &str = env!("CARGO_BIN_EXE_getimds");
const ENDPOINT: &str = "AWS_EC2_METADATA_SERVICE_ENDPOINT";
const ADMIN_ENDPOINT: &str = "IMDS_MOCK_ADMIN_ENDPOINT";

/// A process with lines on its standard output, and an input that stays open. It is
/// killed if it outlives the test.
struct Running {
    pid: Pid,
    stdin: ChildStdin,
    stdout: Receiver<String>,
    ended: Receiver<(ExitStatus, String)>,
}

impl Running {
    fn start(command: &mut Command) -> Running {
        let piped = || Stdio::piped();
        let mut child = (command.stdin(piped()).stdout(piped()).stderr(piped()))
            .spawn()
            .expect("the program is there");
        let (lines, stdout) = mpsc::channel();
        let output = BufReader::new(child.stdout.take().expect("piped"));
        thread::spawn(move || {
            let mut lines_of_it = output.lines().map_while(Result::ok);
            lines_of_it.try_for_each(|line| lines.send(line))
        });
        let pid = pid_of(&child);
        let stdin = child.stdin.take().expect("piped");
        let (end, ended) = mpsc::channel();
        thread::spawn(move || {
            let mut stderr = child.stderr.take().expect("piped");
            let status = child.wait().expect("it is our child");
            let mut said = String::new();
            // Nothing that the tests start keeps it open.
            let _ = stderr.read_to_string(&mut said);
            end.send((status, said))
        });
        Running {
            pid,
            stdin,
            stdout,
            ended,
        }
    }

    fn line(&self) -> String {
        let line = self.stdout.recv_timeout(PATIENCE);
        line.unwrap_or_else(|e| panic!("no line on stdout: {e}"))
    }

    fn signal(&self, signal: Signal) {
        kill(self.pid, signal).expect("it still runs");
    }

    /// Its exit status, the rest of its standard output, and its standard error.
    fn end(self) -> (i32, Vec<String>, String) {
        let ended = self.ended.recv_timeout(PATIENCE);
        let (status, stderr) = ended.expect("it ends");
        let status = status
            .code()
            .unwrap_or_else(|| panic!("{status}: {stderr}"));
        (status, self.stdout.iter().collect(), stderr)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Err(mpsc::TryRecvError::Empty) = self.ended.try_recv() {
            let _ = kill(self.pid, Signal::SIGKILL);
        }
    }
}

/// Whether this test was itself started ignoring `signal`, as in the background of a script. Then
/// no shell can trap it.
fn is_ignored_here(signal: Signal) -> bool {
    let script = format!("ulimit -c 0; kill -{} $$", signal as i32);
    let status = Command::new("/bin/sh").args(["-c", &script]).status();
    status.expect("every system has a shell").success()
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(child.id().try_into().expect("a pid is positive"))
}

fn imds_mock(arguments: &[&str]) -> Command {
    let mut command = Command::new(IMDS_MOCK);
    command.args(arguments);
    command
}

/// `imds_mock FLAGS -- sh -c SCRIPT`.
fn with_flags(flags: &[&str], script: &str) -> Command {
    let mut command = imds_mock(flags);
    command.args(["--", "/bin/sh", "-c", script]);
    command
}

fn shell(script: &str) -> Command {
    with_flags(&[], script)
}

fn finish(command: &mut Command) -> (i32, Vec<String>, String) {
    Running::start(command).end()
}

/// The environment that `env` prints as the command.
fn environment(command: &mut Command) -> BTreeMap<String, String> {
    let (status, lines, stderr) = finish(command);
    assert_eq!(status, 0, "{stderr}");
    let split = |line: &String| {
        let (name, value) = line.split_once('=').expect("a variable");
        (name.to_owned(), value.to_owned())
    };
    lines.iter().map(split).collect()
}

/// A file of this test alone.
fn file(name: &str, content: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("run-{name}"));
    fs::write(&path, content).expect("cargo made the directory");
    path
}

fn utf8(path: &Path) -> &str {
    path.to_str()
        .expect("cargo's directories have such names here")
}

/// What a script does until a signal comes. In small steps, for shells look after their traps between
/// commands (one that comes just before a `read` waits for the line), and not for ever.
const DOZE: &str = "n=0; while [ $n -lt 600 ]; do n=$((n + 1)); sleep 0.05; done";

const STATIC_ROLE: &str = r#"{"role": {
  "arn": "arn:aws:iam::123456789012:role/demo",
  "credentials": {"access_key_id": "ASIADEMO", "secret_access_key": "s", "token": "t"}
}}"#;

#[test]
fn the_command_sees_an_instance_and_nothing_that_wins_over_it() {
    let taken_out = "AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN \
        AWS_SECURITY_TOKEN AWS_CREDENTIAL_EXPIRATION AWS_ACCESS_KEY AWS_SECRET_KEY \
        AMAZON_ACCESS_KEY_ID AMAZON_SECRET_ACCESS_KEY AMAZON_SESSION_TOKEN AWS_CREDENTIAL_FILE \
        BOTO_CONFIG AWS_PROFILE AWS_DEFAULT_PROFILE AWS_WEB_IDENTITY_TOKEN_FILE AWS_ROLE_ARN \
        AWS_ROLE_SESSION_NAME AWS_CONTAINER_CREDENTIALS_RELATIVE_URI \
        AWS_CONTAINER_CREDENTIALS_FULL_URI AWS_CONTAINER_AUTHORIZATION_TOKEN \
        AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE AWS_EC2_METADATA_DISABLED \
        AWS_EC2_METADATA_V1_DISABLED AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE \
        AWS_EC2_INSTANCE_PROFILE_NAME";
    let replaced = "AWS_EC2_METADATA_SERVICE_ENDPOINT AWS_SHARED_CREDENTIALS_FILE AWS_CONFIG_FILE";
    let kept = "AWS_REGION AWS_DEFAULT_REGION AWS_CA_BUNDLE AWS_ENDPOINT_URL HTTP_PROXY HOME X";
    let mut command = imds_mock(&["--", "env"]);
    command.env_clear().env("PATH", "/usr/bin:/bin");
    command.env(ADMIN_ENDPOINT, "of another one");
    for name in [taken_out, replaced, kept]
        .map(str::split_whitespace)
        .into_iter()
        .flatten()
    {
        command.env(name, "outside");
    }

    let mut seen = environment(&mut command);
    let endpoint = seen.remove(ENDPOINT).expect("it is set");
    let address: SocketAddr = (endpoint.strip_prefix("http://"))
        .and_then(|rest| rest.strip_suffix('/')?.parse().ok())
        .unwrap_or_else(|| panic!("{endpoint}"));
    assert!(
        address.ip().is_loopback() && address.port() > 0,
        "{address}"
    );
    let mut expected: BTreeMap<String, String> = BTreeMap::new();
    let mut expect = |name: &str, value: &str| expected.insert(name.to_owned(), value.to_owned());
    expect("PATH", "/usr/bin:/bin");
    expect("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
    expect("AWS_CONFIG_FILE", "/dev/null");
    expect("NO_PROXY", "127.0.0.1");
    expect("no_proxy", "127.0.0.1");
    for name in kept.split_whitespace() {
        expect(name, "outside");
    }
    assert_eq!(seen, expected);
}

#[test]
fn the_address_is_asked_without_a_proxy_and_what_was_excepted_stays() {
    for (upper, lower, expected_upper, expected_lower) in [
        (Some(""), None, "127.0.0.1", "127.0.0.1"),
        (Some("a,.b"), None, "a,.b,127.0.0.1", "a,.b,127.0.0.1"),
        (None, Some("c"), "c,127.0.0.1", "c,127.0.0.1"),
        (Some("a"), Some("c"), "a,127.0.0.1", "c,127.0.0.1"),
        (Some("*"), None, "*", "*"),
    ] {
        let mut command = imds_mock(&["--", "env"]);
        for (name, value) in [("NO_PROXY", upper), ("no_proxy", lower)] {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let seen = environment(&mut command);
        assert_eq!(seen["NO_PROXY"], expected_upper, "{upper:?} {lower:?}");
        assert_eq!(seen["no_proxy"], expected_lower, "{upper:?} {lower:?}");
    }
}

#[test]
fn host_and_port_are_the_flags_if_they_say_so() {
    for (host, endpoint, excepted) in [
        ("127.0.0.1", "http://127.0.0.1:", "127.0.0.1"),
        ("0.0.0.0", "http://127.0.0.1:", "127.0.0.1"),
        ("::1", "http://[::1]:", "::1,[::1]"),
    ] {
        let Ok(free) = TcpListener::bind((host, 0)) else {
            println!("skipped: this machine has no {host}");
            continue;
        };
        let port = free.local_addr().expect("it is bound").port().to_string();
        drop(free);
        let mut command = imds_mock(&["--host", host, "--port", &port, "--", "env"]);
        let seen = environment(command.env_remove("NO_PROXY").env_remove("no_proxy"));
        assert_eq!(seen[ENDPOINT], format!("{endpoint}{port}/"));
        assert_eq!(seen["NO_PROXY"], excepted);
    }
}

#[test]
fn the_exit_status_is_the_commands_or_says_why_there_is_none() {
    let plain = file("plain", "exit 0\n");
    let below_a_file = plain.join("x");
    for (command, status, complaint) in [
        (&["sh", "-c", "exit 0"][..], 0, ""),
        (&["sh", "-c", "exit 7"], 7, ""),
        (&["sh", "-c", "exit 255"], 255, ""),
        (&["sh", "-c", "kill -TERM $$"], 143, ""),
        (&["sh", "-c", "kill -KILL $$"], 137, ""),
        (&["no-such-command"], 127, "no-such-command: "),
        (&["/no/such/command", "x"], 127, "/no/such/command: "),
        (&[""], 127, ": "),
        (&[utf8(&plain)], 126, "run-plain: "),
        (&["/"], 126, "/: "),
        (&[utf8(&below_a_file)], 126, "run-plain/x: "),
    ] {
        let ended = finish(imds_mock(&["-q", "--"]).args(command));
        assert_eq!((ended.0, ended.1), (status, vec![]), "{command:?}");
        let said = ended.2.lines().last().unwrap_or_default();
        if !complaint.is_empty() {
            assert!(
                said.starts_with("imds_mock: ") && said.contains(complaint),
                "{said}"
            );
        }
    }
}

#[test]
fn wrong_usage_runs_nothing() {
    for (arguments, complaint) in [
        (&["--"][..], "-- is followed by the command to run"),
        (&["-q", "--"], "-- is followed by the command to run"),
        (&["echo", "run"], "unexpected argument \"echo\""),
        (&["echo", "--", "echo"], "unexpected argument \"echo\""),
        (&["--port", "x", "--", "echo"], "--port: expected"),
        (&["--check", "--", "echo"], "run no command"),
        (&["--print-config", "--", "echo"], "run no command"),
    ] {
        let (status, stdout, stderr) = finish(&mut imds_mock(arguments));
        assert_eq!((status, stdout), (64, vec![]), "{arguments:?}");
        assert!(stderr.contains(complaint), "{arguments:?}: {stderr}");
    }
    let taken = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let port = taken.local_addr().expect("it is bound").port().to_string();
    let (status, stdout, stderr) = finish(&mut with_flags(&["--port", &port], "echo run"));
    assert_eq!((status, stdout), (69, vec![]), "{stderr}");
}

#[test]
fn what_stands_behind_the_dashes_is_the_commands_alone() {
    let mut command = imds_mock(&["-q", "--", "printf", "%s|", "--port", "--", "-V", "a b", ""]);
    assert_eq!(finish(&mut command).1, ["--port|--|-V|a b||"]);
}

#[test]
fn standard_input_and_output_are_the_commands_and_the_mock_writes_to_standard_error() {
    let bytes: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
    let mut child = shell("cat; echo end >&2")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program is there");
    let mut stdin = child.stdin.take().expect("piped");
    let sent = bytes.clone();
    thread::spawn(move || stdin.write_all(&sent));
    let ended = child.wait_with_output().expect("it ends");
    assert!(ended.status.success());
    assert!(ended.stdout == bytes, "{} bytes", ended.stdout.len());
    let stderr = String::from_utf8(ended.stderr).expect("UTF-8");
    // What the mock says at its start, and the command only then.
    assert!(stderr.contains(" running on http://127.0.0.1:"), "{stderr}");
    assert!(stderr.ends_with("\nend\n"), "{stderr}");
}

#[test]
fn requests_are_answered_and_logged_on_standard_error_unless_quiet() {
    let script = format!("{GETIMDS} ${ENDPOINT} latest/meta-data/instance-id");
    let expected = [
        "PUT /latest/api/token -> 200",
        "GET /latest/meta-data/instance-id -> 200",
    ];
    for (flags, requests) in [(&[][..], &expected[..]), (&["--quiet"], &[])] {
        let (status, stdout, stderr) = finish(&mut with_flags(flags, &script));
        assert_eq!(
            (status, stdout),
            (0, vec!["i-1234567890abcdef0".to_owned()])
        );
        let logged = stderr.lines().filter(|line| line.contains(" -> "));
        assert_eq!(logged.collect::<Vec<_>>(), requests, "{stderr}");
    }
}

#[test]
fn signals_go_to_the_command() {
    for signal in [
        Signal::SIGHUP,
        Signal::SIGINT,
        Signal::SIGQUIT,
        Signal::SIGALRM,
        Signal::SIGTERM,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
    ] {
        if is_ignored_here(signal) {
            println!("skipped: {signal} is ignored here");
            continue;
        }
        let name = &signal.as_str()["SIG".len()..];
        let script = format!("trap 'echo got {name}; exit 5' {name}; echo ready; {DOZE}");
        let running = Running::start(&mut shell(&script));
        assert_eq!(running.line(), "ready");
        running.signal(signal);
        assert_eq!(running.line(), format!("got {name}"));
        assert_eq!(running.end().0, 5, "{name}");

        let running = Running::start(&mut shell("ulimit -c 0; echo ready; exec cat"));
        assert_eq!(running.line(), "ready");
        running.signal(signal);
        assert_eq!(running.end().0, 128 + signal as i32, "{name}");
    }
}

#[test]
fn a_command_that_ignores_signals_is_waited_for_and_served() {
    let ask = format!("{GETIMDS} ${ENDPOINT} latest/meta-data/ami-launch-index; echo");
    let script =
        format!("trap '' TERM; trap '{ask}; exit 9' USR2; trap 'echo here' USR1; echo ready");
    let running = Running::start(&mut shell(&format!("{script}; {DOZE}")));
    assert_eq!(running.line(), "ready");
    for _ in 0..2 {
        running.signal(Signal::SIGTERM);
        running.signal(Signal::SIGUSR1);
        assert_eq!(running.line(), "here");
    }
    running.signal(Signal::SIGUSR2);
    assert_eq!(running.line(), "0");
    assert_eq!(running.end().0, 9);
}

#[test]
fn what_the_command_leaves_behind_is_not_waited_for() {
    let script = "sleep 600 </dev/null >/dev/null 2>&1 & echo $!; exit 3";
    let running = Running::start(&mut shell(script));
    let left: i32 = running.line().parse().expect("a pid");
    let (status, ..) = running.end();
    // It was there for all the time.
    kill(Pid::from_raw(left), Signal::SIGKILL).expect("it still runs");
    assert_eq!(status, 3);
}

#[test]
fn the_mock_ends_with_the_command() {
    let script = format!("echo ${ENDPOINT}");
    let (_, stdout, _) = finish(&mut shell(&script));
    let address = stdout[0]
        .trim_start_matches("http://")
        .trim_end_matches('/');
    let refused = TcpStream::connect(address).expect_err("nobody listens there any more");
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
}

/// What `script` prints as the command, and what it prints when it is run without the mock, both
/// from a shell that first does `before`.
fn with_and_without(before: &str, flags: &str, script: &str) -> [(i32, Vec<String>); 2] {
    [format!("{IMDS_MOCK} {flags} --"), String::new()].map(|mock| {
        let mut command = Command::new("/bin/sh");
        command.args([
            "-c",
            &format!("{before}; exec {mock} /bin/sh -c '{script}'"),
        ]);
        let (status, stdout, _) = finish(&mut command);
        (status, stdout)
    })
}

#[test]
fn limits_are_those_that_the_command_would_have_had() {
    let role = file("limits.json", STATIC_ROLE);
    let flags = format!("--config {}", utf8(&role));
    let script = "ulimit -Sn; ulimit -Hn; ulimit -Sc; ulimit -Hc";
    let [with, without] = with_and_without("ulimit -Sn 100", &flags, script);
    assert_eq!(with, without);
    assert_eq!(with.1[0], "100");
    if with.1[3] == "0" {
        println!("half a test: core dumps are off on this machine");
    }
}

#[test]
fn signals_are_ignored_where_the_command_would_have_ignored_them() {
    // The last one ends the shell.
    let script = "for s in HUP INT QUIT USR1; do kill -$s $$; done; echo alive; kill -TERM $$";
    let mut command = Command::new("/bin/sh");
    let mocked = format!("trap \"\" HUP INT QUIT USR1; exec {IMDS_MOCK} -- /bin/sh -c '{script}'");
    let (status, stdout, _) = finish(command.args(["-c", &mocked]));
    assert_eq!((status, stdout), (143, vec!["alive".to_owned()]));
    // A broken pipe ends it, whatever Rust programs do about that themselves.
    let (status, stdout, _) = finish(&mut shell("kill -PIPE $$; echo alive"));
    assert_eq!((status, stdout), (141, vec![]));
}

#[test]
fn signals_are_blocked_where_the_command_would_have_blocked_them() {
    let usr2: SigSet = [Signal::SIGUSR2].into_iter().collect();
    usr2.thread_block().expect("a thread may");
    let ended = finish(&mut shell("kill -USR2 $$; echo alive; kill -TERM $$"));
    usr2.thread_unblock().expect("a thread may");
    assert_eq!((ended.0, ended.1), (143, vec!["alive".to_owned()]));
}

#[test]
fn the_command_has_no_descriptor_of_the_mock() {
    let script = "for n in 3 4 5 6 7 8 9; do if (: >&$n) 2>/dev/null; then echo $n; fi; done";
    let [with, without] = with_and_without(":", "--admin-port 0", script);
    assert_eq!(with, without);
}

#[test]
fn a_key_pressed_at_the_terminal_interrupts_the_command_once() {
    // Python's pty module gives it a terminal of its own and passes on what is typed.
    let in_terminal = "import pty, sys; pty.spawn(sys.argv[1:])";
    let traps = "trap 'echo interrupted' INT; trap 'echo quit' QUIT; trap 'echo end; exit' TERM";
    let script = &format!("ulimit -c 0; {traps}; echo $PPID is the mock; {DOZE}");
    let mut command = Command::new("python3");
    command.args(["-c", in_terminal, IMDS_MOCK, "--", "/bin/sh", "-c", script]);
    if Command::new("python3")
        .args(["-c", "import pty"])
        .output()
        .is_err()
    {
        println!("skipped: no python3");
        return;
    }
    if is_ignored_here(Signal::SIGINT) || is_ignored_here(Signal::SIGQUIT) {
        println!("skipped: the keys' signals are ignored here");
        return;
    }
    let mut running = Running::start(&mut command);
    let mut shown = Vec::new();
    // What is typed is shown too, before what the script says.
    let mut wait_for = |running: &Running, end: &str| {
        loop {
            let line = running.line().trim().to_owned();
            shown.push(line.clone());
            if line.ends_with(end) {
                return line;
            }
        }
    };
    let ready = wait_for(&running, " is the mock");
    let mock = ready.split(' ').next().and_then(|pid| pid.parse().ok());
    for (key, end) in [(b"\x03", "interrupted"), (b"\x1c", "quit")] {
        running.stdin.write_all(key).expect("python reads it");
        wait_for(&running, end);
    }
    // Forwarded behind anything that was forwarded before.
    kill(Pid::from_raw(mock.expect("a pid")), Signal::SIGTERM).expect("it still runs");
    wait_for(&running, "end");
    for once in ["interrupted", "quit"] {
        let count = shown.iter().filter(|line| line.ends_with(once)).count();
        assert_eq!(count, 1, "{shown:?}");
    }
}

#[test]
fn the_command_is_told_where_the_administrative_service_is() {
    let script = format!("echo ${ADMIN_ENDPOINT}; read line");
    let running = Running::start(&mut with_flags(&["--admin-port", "0"], &script));
    let url = running.line();
    let address = url.trim_start_matches("http://").trim_end_matches('/');
    let mut stream = TcpStream::connect(address).expect("it serves");
    let request = b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n";
    stream.write_all(request).expect("it reads");
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .expect("it answers and closes");
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("true"),
        "{answer}"
    );
    drop(running);
}

#[test]
fn the_command_is_run_by_the_user_that_is_asked_for() {
    if !geteuid().is_root() {
        println!("skipped: only root can become somebody else");
        return;
    }
    let nobody = nix::unistd::User::from_name("nobody").expect("the database can be read");
    let nobody = nobody.expect("every system has this user");
    let (status, stdout, stderr) = finish(&mut with_flags(&["--user", "nobody"], "id -u; id -G"));
    assert_eq!(status, 0, "{stderr}");
    assert_eq!(stdout, [nobody.uid.to_string(), nobody.gid.to_string()]);
}

/// Between the mock and an STS: holds each call until it is let through.
struct Gate {
    url: String,
    called: Receiver<()>,
    open: Sender<()>,
}

impl Gate {
    fn before(sts: &FakeSts) -> Gate {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound");
        let target = sts.url().trim_start_matches("http://").to_owned();
        let (call, called) = mpsc::channel();
        let (open, opened) = mpsc::channel();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if call.send(()).is_err() || opened.recv().is_err() {
                    return;
                }
                let server = TcpStream::connect(&target).expect("the STS listens");
                let there = (client.try_clone(), server.try_clone());
                thread::spawn(move || pass(there.0, there.1));
                thread::spawn(move || pass(Ok(server), Ok(client)));
            }
        });
        let url = format!("http://{address}");
        Gate { url, called, open }
    }
}

fn pass(from: io::Result<TcpStream>, to: io::Result<TcpStream>) -> io::Result<()> {
    let (mut from, mut to) = (from?, to?);
    io::copy(&mut from, &mut to)?;
    to.shutdown(Shutdown::Write)
}

/// Runs `script` with a role that `gate` leads to.
fn with_role(name: &str, sts: &FakeSts, gate: &Gate, script: &str) -> Running {
    let bootstrap = file(name, &sts.user_key("BOOT").json());
    let flags = [
        "--role-arn",
        "arn:aws:iam::123456789012:role/app",
        "--sts-endpoint",
        &gate.url,
        "--bootstrap-file",
        utf8(&bootstrap),
        "--admin-port",
        "0",
    ];
    Running::start(&mut with_flags(&flags, script))
}

#[test]
fn a_role_has_its_credentials_before_the_command_starts() {
    let sts = FakeSts::start(Duration::from_secs(900));
    let gate = Gate::before(&sts);
    let path = "latest/meta-data/iam/security-credentials/app";
    let script = format!("echo started; {GETIMDS} ${ENDPOINT} {path}");
    let running = with_role("before.json", &sts, &gate, &script);
    gate.called.recv_timeout(PATIENCE).expect("STS is asked");
    // That nothing happens cannot be waited for; what must not happen takes a few milliseconds.
    let early = running.stdout.recv_timeout(Duration::from_millis(300));
    assert_eq!(early, Err(RecvTimeoutError::Timeout));
    gate.open.send(()).expect("the gate stands");
    assert_eq!(running.line(), "started");
    let (status, document, stderr) = running.end();
    assert_eq!(status, 0, "{stderr}");
    assert!(document.concat().contains("ASIASESSION0"), "{document:?}");
}

#[test]
fn a_signal_before_the_command_starts_ends_it_all() {
    let sts = FakeSts::start(Duration::from_secs(900));
    let gate = Gate::before(&sts);
    let running = with_role("early.json", &sts, &gate, "echo started");
    gate.called.recv_timeout(PATIENCE).expect("STS is asked");
    running.signal(Signal::SIGTERM);
    let (status, stdout, _) = running.end();
    assert_eq!((status, stdout), (143, vec![]));
}

#[test]
fn a_role_that_cannot_be_had_holds_no_command_up() {
    let role = [
        "--role-arn",
        "arn:aws:iam::123456789012:role/app",
        "--admin-port",
        "0",
    ];
    let closed = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let nobody = format!("http://{}", closed.local_addr().expect("it is bound"));
    drop(closed);
    let bootstrap = file(
        "nobody.json",
        r#"{"AccessKeyId": "AKIABOOTBOOTBOOT", "SecretAccessKey": "hiddenhidden"}"#,
    );
    let refused = [
        "--sts-endpoint",
        &nobody,
        "--bootstrap-file",
        utf8(&bootstrap),
    ];
    // Nothing to ask STS with, and nobody who answers.
    for flags in [role.to_vec(), [&role[..], &refused].concat()] {
        let (status, stdout, stderr) = finish(&mut with_flags(&flags, "echo started"));
        assert_eq!(
            (status, stdout),
            (0, vec!["started".to_owned()]),
            "{stderr}"
        );
    }
}
