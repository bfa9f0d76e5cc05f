//! What every test of the real binary needs: start it over a configuration, speak raw HTTP to it,
//! stop it. A dropped [`Mock`] is told to stop and has to end with status 0 and without a panic.

// Every test program compiles this room for itself and uses its own part of it.
#![allow(dead_code)]

pub mod admin;
pub mod catalogue;
pub mod crawler;
pub mod fake_server;
pub mod http;
pub mod machine;
pub mod random;
pub mod sts;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

pub use http::{Answer, Connection};

/// Nothing a test waits for takes longer; past it the test fails instead of hanging. Shorter than an
/// idle connection lives, so that one which ends in time was ended for a reason.
pub const PATIENCE: Duration = Duration::from_secs(25);
pub const SECOND: Duration = Duration::from_secs(1);
/// The field that carries a token, and the one that asks for it.
pub const TOKEN: &str = "X-aws-ec2-metadata-token";
pub const TOKEN_TTL: &str = "X-aws-ec2-metadata-token-ttl-seconds";

/// EC2's categories, with an example of each.
pub const CATALOGUE: &str = include_str!("../data/catalogue.json");
/// The configuration that imds_mock.py had when it was recorded.
pub const IMDS_MOCK_PY_CONFIG: &str = include_str!("../data/imds_mock_py-config.json");

/// The program under test with no arguments yet.
pub fn imds_mock() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_imds_mock"));
    command.stdin(Stdio::null());
    command
}

/// A file of the test's own, removed when dropped.
pub struct TempFile(PathBuf);

impl TempFile {
    pub fn new(content: impl AsRef<[u8]>) -> TempFile {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{count}.json", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::write(&path, content).expect("cargo made the directory");
        TempFile(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// What a daemon has said on stderr so far.
#[derive(Clone, Default)]
struct Said(Arc<(Mutex<String>, Condvar)>);

impl Said {
    fn push(&self, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        self.0.0.lock().expect("no reader panics").push_str(&text);
        self.0.1.notify_all();
    }

    fn all(&self) -> String {
        self.0.0.lock().expect("no reader panics").clone()
    }

    /// The first whole line with `part` in it, within [`PATIENCE`].
    fn line_with(&self, part: &str) -> Option<String> {
        let find = |text: &str| {
            let mut lines = text.split_inclusive('\n');
            let line = lines.find(|line| line.ends_with('\n') && line.contains(part));
            line.map(|line| line.trim_end().to_owned())
        };
        let text = self.0.0.lock().expect("no reader panics");
        let waited = self
            .0
            .1
            .wait_timeout_while(text, PATIENCE, |text| find(text).is_none());
        find(&waited.expect("no reader panics").0)
    }
}

/// A running daemon.
pub struct Mock {
    child: Child,
    /// Where it listens, in the order of its start lines.
    pub addresses: Vec<SocketAddr>,
    /// Its lines on stdout, behind the start lines.
    pub stdout: Receiver<String>,
    said: Said,
    stderr: Option<JoinHandle<()>>,
    token: OnceLock<String>,
    config: Option<TempFile>,
}

impl Mock {
    /// Serves `config` on a free port of 127.0.0.1.
    pub fn start(config: &Value) -> Mock {
        Mock::with(config, &[])
    }

    /// Serves `config` with more arguments. There is a start line for each `--host`, and one for the
    /// admin service if `--admin-port` asks for it.
    pub fn with(config: &Value, arguments: &[&str]) -> Mock {
        let file = TempFile::new(config.to_string());
        let mut command = imds_mock();
        command.arg("--config").arg(file.path()).args(arguments);
        if !arguments.contains(&"--port") {
            command.args(["--port", "0"]);
        }
        let hosts = arguments.iter().filter(|a| **a == "--host").count();
        let admin = usize::from(arguments.contains(&"--admin-port"));
        Mock::spawn(command, hosts.max(1) + admin, Some(file))
    }

    /// Starts `command`, which prints that many start lines.
    pub fn spawn(mut command: Command, listeners: usize, config: Option<TempFile>) -> Mock {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary was built for this test");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
        let said = Said::default();
        let hears = said.clone();
        let stderr = std::thread::spawn(move || {
            let mut line = Vec::new();
            while stderr
                .read_until(b'\n', &mut line)
                .is_ok_and(|length| length > 0)
            {
                hears.push(&line);
                line.clear();
            }
        });
        let (lines, received) = mpsc::channel();
        // Ends with the daemon, whose end of the pipe it reads.
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = lines.send(line);
            }
        });
        let mut mock = Mock {
            child,
            addresses: Vec::new(),
            stdout: received,
            said,
            stderr: Some(stderr),
            token: OnceLock::new(),
            config,
        };
        for _ in 0..listeners {
            let Ok(line) = mock.stdout.recv_timeout(PATIENCE) else {
                let stderr = mock.kill();
                panic!("no start line; stderr: {stderr}");
            };
            let (_, url) = line.split_once("running on http://").expect("a start line");
            mock.addresses.push(url.parse().expect("an address"));
        }
        mock
    }

    /// Its first address.
    pub fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn connect(&self) -> Connection {
        Connection::open(self.address())
    }

    /// Asks on a connection of its own, which the server has to close behind the answer.
    pub fn ask(&self, method: &str, target: &str, fields: &[(&str, &str)]) -> Answer {
        http::ask(self.address(), method, target, fields)
    }

    /// A token for the whole test.
    pub fn token(&self) -> &str {
        self.token.get_or_init(|| self.new_token(21600))
    }

    pub fn new_token(&self, ttl_seconds: u32) -> String {
        let ttl = ttl_seconds.to_string();
        let answer = self.ask("PUT", "/latest/api/token", &[(TOKEN_TTL, &ttl)]);
        assert_eq!(answer.status, 200, "no token");
        answer.text().to_owned()
    }

    /// GET with a token.
    pub fn get(&self, target: &str) -> Answer {
        self.ask("GET", target, &[(TOKEN, self.token())])
    }

    /// The text at `target`, which has to exist.
    pub fn text(&self, target: &str) -> String {
        let answer = self.get(target);
        assert_eq!(answer.status, 200, "{target}");
        answer.text().to_owned()
    }

    pub fn signal(&self, name: &str) {
        signal(&self.child, name);
    }

    /// Tells it to stop and waits for its end: the status, how long it took, its stderr.
    pub fn stop(mut self, signal: &str) -> (ExitStatus, Duration, String) {
        let since = Instant::now();
        self.signal(signal);
        let status = self.wait(PATIENCE).expect("it ends when it is told to");
        let took = since.elapsed();
        (status, took, self.collect_stderr())
    }

    /// Tells it to stop: it ends well, and within the second that is promised, by the measure of a
    /// daemon that has nothing to do. Returns its stderr.
    pub fn stops_within_a_second(self, signal: &str) -> String {
        let (status, took, stderr) = self.stop(signal);
        assert_eq!(status.code(), Some(0), "{signal}: {stderr}");
        assert!(!stderr.contains("panicked"), "{stderr}");
        assert_within_a_second(took);
        stderr
    }

    /// Its status once it has ended; `None` if it runs on for `limit`.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        wait(&mut self.child, limit)
    }

    /// What it has said on stderr so far.
    pub fn stderr(&self) -> String {
        self.said.all()
    }

    /// Waits for a line on stderr with `part` in it.
    pub fn wait_for(&self, part: &str) -> String {
        let line = self.said.line_with(part);
        line.unwrap_or_else(|| panic!("no line has {part:?} in it: {}", self.stderr()))
    }

    fn collect_stderr(&mut self) -> String {
        if let Some(reader) = self.stderr.take() {
            reader.join().expect("it only reads");
        }
        self.stderr()
    }

    fn kill(&mut self) -> String {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.collect_stderr()
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        if self.stderr.is_none() {
            return;
        }
        if std::thread::panicking() {
            let stderr = self.kill();
            eprintln!("stderr of imds_mock: {stderr}");
            return;
        }
        if let Ok(None) = self.child.try_wait() {
            self.signal("TERM");
        }
        let status = self.wait(PATIENCE);
        let stderr = self.kill();
        assert_eq!(status.and_then(|s| s.code()), Some(0), "stderr: {stderr}");
        assert!(!stderr.contains("panicked"), "{stderr}");
    }
}

/// Asserts that a daemon which took so long to stop took a second at most, by the measure of one
/// that has nothing to do.
#[track_caller]
pub fn assert_within_a_second(took: Duration) {
    let (_, idle, _) = Mock::start(&json!({})).stop("TERM");
    assert!(took < SECOND + idle * 20, "{took:?}, an idle one {idle:?}");
}

/// Waits until `condition` holds.
#[track_caller]
pub fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Sends a signal, by its name without SIG.
pub fn signal(child: &Child, name: &str) {
    let pid = child.id().to_string();
    let sent = Command::new("kill").args(["-s", name, &pid]).status();
    assert!(sent.expect("every system has kill").success());
}

/// The status of a child that has ended; `None` if it runs on for `limit`.
pub fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + limit;
    loop {
        match child.try_wait().expect("it is our child") {
            None if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(2)),
            ended => return ended,
        }
    }
}

/// Runs the program to its end: status, stdout, stderr. One that serves instead fails the test.
pub fn run(arguments: &[&str]) -> (i32, String, String) {
    let (status, stdout, stderr) = run_any(imds_mock().args(arguments));
    let stdout = String::from_utf8(stdout).expect("it prints UTF-8");
    (status, stdout, stderr)
}

/// Runs any program to its end: status, stdout, stderr.
pub fn run_any(command: &mut Command) -> (i32, Vec<u8>, String) {
    let piped = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().expect("it was built");
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let stdout = std::thread::spawn(move || read_to_end(stdout));
    let stderr = std::thread::spawn(move || read_to_end(stderr));
    let status = wait(&mut child, PATIENCE * 3);
    let _ = child.kill();
    let _ = child.wait();
    let text = |bytes| String::from_utf8(bytes).expect("it prints UTF-8");
    let stdout = stdout.join().expect("it only reads");
    let stderr = text(stderr.join().expect("it only reads"));
    let Some(status) = status else {
        panic!("{command:?} runs on: {}{stderr}", text(stdout));
    };
    let status = status.code().expect("no signal ends it");
    (status, stdout, stderr)
}

fn read_to_end(pipe: Option<impl Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = pipe.expect("piped").read_to_end(&mut bytes);
    bytes
}

/// The text of a recording that is not part of the repository, from the folder beside it; `None`,
/// said on stderr, where that is absent.
pub fn reference(name: &str) -> Option<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/reference");
    let text = std::fs::read_to_string(folder.join(name)).ok();
    if text.is_none() {
        skipped(&format!("../shared/reference/{name} is not here"));
    }
    text
}

/// Says that a test could not run here; past the harness, which shows only failed tests' `eprintln!`.
pub fn skipped(why: &str) {
    let test = std::thread::current();
    let test = test.name().unwrap_or("a test");
    let _ = writeln!(std::io::stderr(), "skipped: {test}: {why}");
}
