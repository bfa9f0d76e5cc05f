//! A mock under abuse with a normal client beside it: how long that client waits, how much memory
//! the mock takes, and whether it has all threads and descriptors back when the abuse is over.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::common::{Mock, PATIENCE, TOKEN, TOKEN_TTL, http};

/// What a normal client waits for 99 of 100 answers, connecting included, on a machine that has
/// nothing else to do; the abuse itself takes its share of that machine.
const WAIT: Duration = Duration::from_millis(100);
/// What it waits for any of them.
const LONGEST_WAIT: Duration = Duration::from_millis(500);
/// Between two visits of the normal client.
const PAUSE: Duration = Duration::from_millis(5);
/// What the mock may take, in KiB.
const MEMORY: u64 = 96 * 1024;
/// Threads without work end after five seconds, descriptors close at once.
const RECOVERY: Duration = Duration::from_secs(15);

/// One siege at a time: each would slow the others' normal clients.
static ONE: Mutex<()> = Mutex::new(());

/// Lets `abuse` loose on the mock, then checks everything that has to hold.
pub fn survives(mock: Mock, abuse: impl FnOnce(&Mock)) {
    let alone = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    raise_descriptor_limit();
    let before = Footprint::of(mock.pid());
    let bystander = Bystander::start(mock.address());
    abuse(&mock);
    let (mut waits, noise) = bystander.stop();
    drop(alone);
    let peak = peak_memory(mock.pid());
    assert!(peak < MEMORY, "{peak} KiB of memory");
    waits.sort_unstable();
    let worst = *waits.last().expect("the normal client is served");
    let usual = waits[(waits.len() - 1) * 99 / 100];
    assert!(
        usual <= WAIT + noise && worst <= LONGEST_WAIT + noise,
        "the normal client waited {usual:?}, and {worst:?} at worst; a server that only echoes \
         took {noise:?}"
    );
    before.assert_back(mock.pid());
}

/// Threads and descriptors of a process.
#[derive(Debug, PartialEq, Eq)]
struct Footprint {
    threads: usize,
    descriptors: usize,
}

impl Footprint {
    fn of(pid: u32) -> Footprint {
        Footprint {
            threads: threads(pid),
            descriptors: descriptors(pid),
        }
    }

    fn assert_back(&self, pid: u32) {
        let deadline = Instant::now() + RECOVERY;
        loop {
            let now = Footprint::of(pid);
            if now.threads <= self.threads && now.descriptors <= self.descriptors {
                return;
            }
            assert!(Instant::now() < deadline, "{self:?} before, {now:?} after");
            thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Threads of a process.
pub fn threads(pid: u32) -> usize {
    ps("nlwp=", pid) as usize
}

fn ps(column: &str, pid: u32) -> u64 {
    let output = Command::new("ps")
        .args(["-o", column, "-p", &pid.to_string()])
        .output();
    let output = String::from_utf8(output.expect("every system has ps").stdout);
    let number = output.expect("digits").trim().parse();
    number.expect("ps knows the column")
}

/// Open descriptors of a process.
pub fn descriptors(pid: u32) -> usize {
    match std::fs::read_dir(format!("/proc/{pid}/fd")) {
        Ok(entries) => entries.count(),
        Err(_) => {
            let output = Command::new("procstat")
                .args(["-f", &pid.to_string()])
                .output();
            let output = output.expect("a system without /proc has procstat");
            String::from_utf8_lossy(&output.stdout).lines().count()
        }
    }
}

/// The most memory it has had in KiB or, where that is not told, what it has now.
fn peak_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let peak = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    peak.unwrap_or_else(|| ps("rss=", pid))
}

/// A test holds thousands of connections.
fn raise_descriptor_limit() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("every process has it");
    let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
}

/// A client as an SDK is one: a token and a value, each on a connection of its own, again and
/// again. Beside it the same exchange with a server that only echoes: what that one takes is the
/// machine's doing.
struct Bystander {
    over: Arc<AtomicBool>,
    client: JoinHandle<Vec<Duration>>,
    control: JoinHandle<Duration>,
}

impl Bystander {
    fn start(mock: SocketAddr) -> Bystander {
        let over = Arc::new(AtomicBool::new(false));
        let echo = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let echo_address = echo.local_addr().expect("it is bound");
        // Ends with the test program.
        thread::spawn(move || {
            for stream in echo.incoming() {
                let mut request = [0; 256];
                if let Ok(mut stream) = stream {
                    let _ = stream.read(&mut request);
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
                }
            }
        });
        let (client_over, control_over) = (over.clone(), over.clone());
        Bystander {
            over,
            client: thread::spawn(move || {
                let mut waits = Vec::new();
                while !client_over.load(Ordering::Relaxed) {
                    let (waited, token) =
                        visit(mock, "PUT", "/latest/api/token", (TOKEN_TTL, "60"));
                    let path = "/latest/meta-data/instance-id";
                    let (also, value) = visit(mock, "GET", path, (TOKEN, &token));
                    assert!(value.starts_with("i-"), "{value}");
                    waits.extend([waited, also]);
                    thread::sleep(PAUSE);
                }
                waits
            }),
            control: thread::spawn(move || {
                let mut worst = Duration::ZERO;
                while !control_over.load(Ordering::Relaxed) {
                    worst = worst.max(visit(echo_address, "GET", "/", (TOKEN, "none")).0);
                    thread::sleep(PAUSE);
                }
                worst
            }),
        }
    }

    /// How long the client waited for each answer, and for the echo at most.
    fn stop(self) -> (Vec<Duration>, Duration) {
        self.over.store(true, Ordering::Relaxed);
        let waits = self.client.join().expect("the normal client is served");
        (waits, self.control.join().expect("it echoes"))
    }
}

/// One request on its own connection, which has to be answered with 200: how long it took, and the
/// body.
fn visit(to: SocketAddr, method: &str, path: &str, field: (&str, &str)) -> (Duration, String) {
    let since = Instant::now();
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE).expect("it can connect");
    stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
    let request = http::request(method, path, &[field]);
    stream.write_all(request.as_bytes()).expect("it can ask");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it is answered");
    let waited = since.elapsed();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer:?}");
    let body = answer
        .split_once("\r\n\r\n")
        .map(|(_, body)| body.to_owned());
    (waited, body.unwrap_or_default())
}
