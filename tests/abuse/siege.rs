//! A mock under abuse with a normal client beside it: how long that client waits, how much memory
//! the mock takes, and whether it has all threads and descriptors back when the abuse is over.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::common::machine::Machine;
use crate::common::{Mock, PATIENCE, TOKEN, TOKEN_TTL, http, wait_until};

/// What a normal client waits for 99 of 100 answers, connecting included, on a machine that has
/// nothing else to do; the abuse itself takes its share of that machine.
const WAIT: Duration = Duration::from_millis(100);
/// What it waits for any of them.
const LONGEST_WAIT: Duration = Duration::from_millis(500);
/// A program without optimisation, on a machine that others use too, is not held to that but to so
/// many times as much.
const SLACK: u32 = if cfg!(debug_assertions) { 10 } else { 1 };
/// Between two visits of the normal client.
const PAUSE: Duration = Duration::from_millis(5);
/// What the mock may take, in KiB.
const MEMORY: u64 = 96 * 1024;

/// One siege at a time: each would slow the others' normal clients.
static ONE: Mutex<()> = Mutex::new(());
/// How often the normal client has been served.
static VISITS: AtomicUsize = AtomicUsize::new(0);

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
        usual <= (WAIT + noise) * SLACK && worst <= (LONGEST_WAIT + noise) * SLACK,
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
        wait_until(&format!("{self:?} is all there is again"), || {
            let now = Footprint::of(pid);
            now.threads <= self.threads && now.descriptors <= self.descriptors
        });
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
/// again.
struct Bystander {
    over: Arc<AtomicBool>,
    client: JoinHandle<Vec<Duration>>,
    machine: Machine,
}

impl Bystander {
    fn start(mock: SocketAddr) -> Bystander {
        let over = Arc::new(AtomicBool::new(false));
        let is_over = over.clone();
        let client = thread::spawn(move || {
            let mut waits = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                let (waited, token) = visit(mock, "PUT", "/latest/api/token", (TOKEN_TTL, "60"));
                let path = "/latest/meta-data/instance-id";
                let (also, value) = visit(mock, "GET", path, (TOKEN, &token));
                assert!(value.starts_with("i-"), "{value}");
                waits.extend([waited, also]);
                VISITS.fetch_add(1, Ordering::Relaxed);
                thread::sleep(PAUSE);
            }
            waits
        });
        let machine = Machine::watch();
        Bystander {
            over,
            client,
            machine,
        }
    }

    /// How long the client waited for each answer, and for an echo at most.
    fn stop(self) -> (Vec<Duration>, Duration) {
        self.over.store(true, Ordering::Relaxed);
        let waits = self.client.join().expect("the normal client is served");
        (waits, self.machine.noise())
    }
}

/// Returns when the normal client has been served that many times more.
pub fn visits(count: usize) {
    let before = VISITS.load(Ordering::Relaxed);
    wait_until("the normal client is served", || {
        VISITS.load(Ordering::Relaxed) >= before + count
    });
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
