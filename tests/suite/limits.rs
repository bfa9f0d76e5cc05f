//! The server's limits of time and number, made small: what is slow, idle or too much ends without
//! harm to others (docs/architecture.md, D1 and D9). The mock is embedded here, as another program
//! would.

use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::common::http::{Connection, End, parse_all, request};
use crate::common::{Mock as Daemon, PATIENCE, imds_mock};
use imds_mock::config::{Config, Source};
use imds_mock::http::Limits;
use imds_mock::mock::{Mock, Parts, Serving};
use serde_json::{Value, json};

const MAC: &str = "/latest/meta-data/mac";
const SHORT: Duration = Duration::from_millis(200);
/// Longer than any limit that a test makes short, by far.
const LONG: Duration = Duration::from_secs(60);

/// Every limit far away.
fn generous() -> Limits {
    Limits {
        head: LONG,
        body: LONG,
        idle: LONG,
        write: LONG,
        linger: LONG,
        connections: 512,
        threads: 512,
    }
}

/// An embedded mock that serves v1 too; ends with the test.
struct Embedded {
    mock: Mock,
    address: SocketAddr,
}

impl Embedded {
    fn start(limits: Limits) -> Embedded {
        Embedded::over(json!({"http_tokens": "optional"}), limits)
    }

    fn over(config: Value, limits: Limits) -> Embedded {
        let text = config.to_string();
        let (config, _) = Config::parse(&text, Path::new(""), &[]).expect("correct");
        let parts = Parts::new(config).expect("no contradictions");
        let any = "127.0.0.1:0".parse().expect("an address");
        let listener = imds_mock::http::bind(any).expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let serving = Serving {
            metadata: vec![listener],
            admin: None,
            limits,
            requests: None,
            report: Arc::new(|what: &str| panic!("{what}")),
            source: Source::default(),
        };
        let mock = Mock::prepare(parts, serving);
        let mock = mock.expect("threads");
        mock.serve();
        Embedded { mock, address }
    }

    fn connect(&self) -> Connection {
        Connection::open(self.address)
    }

    fn serves(&self) -> bool {
        crate::common::http::ask(self.address, "GET", MAC, &[]).status == 200
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        let since = Instant::now();
        self.mock.stop(PATIENCE);
        let took = since.elapsed();
        // Whatever a test leaves behind, a stop does not wait for it.
        assert!(
            took < PATIENCE || thread::panicking(),
            "stopped in {took:?}"
        );
    }
}

#[test]
fn the_limits_are_those_promised() {
    let limits = Limits::default();
    let seconds = [limits.head, limits.idle, limits.write].map(|limit| limit.as_secs());
    assert_eq!(seconds, [10, 30, 5]);
    assert_eq!(limits.connections, 512);
}

#[test]
fn a_head_that_is_not_complete_in_time_is_408() {
    let server = Embedded::start(Limits {
        head: SHORT,
        ..generous()
    });
    let mut client = server.connect();
    let since = Instant::now();
    client.send("GET / HT");
    assert_eq!(client.answer().status, 408);
    assert!(since.elapsed() >= SHORT);
    assert_eq!(client.finish().end(), End::Closed);
}

#[test]
fn a_head_that_trickles_has_no_more_time_than_another() {
    let server = Embedded::start(Limits {
        head: SHORT,
        ..generous()
    });
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\n");
    let mut trickle = client.stream.try_clone().expect("a socket");
    let (ended, end) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // A byte well within every limit, again and again, until the answer has come.
            while end.recv_timeout(SHORT / 20).is_err() {
                trickle.write_all(b"a").expect("the server lingers");
            }
        });
        assert_eq!(client.answer().status, 408);
        ended.send(()).expect("the thread waits for it");
    });
}

#[test]
fn a_body_that_is_not_complete_in_time_is_408() {
    let server = Embedded::start(Limits {
        body: SHORT,
        ..generous()
    });
    for framing in ["Content-Length: 10", "Transfer-Encoding: chunked"] {
        let mut client = server.connect();
        client.send(format!("PUT / HTTP/1.1\r\n{framing}\r\n\r\n1"));
        assert_eq!(client.answer().status, 408, "{framing}");
        assert_eq!(client.finish().end(), End::Closed);
    }
}

#[test]
fn an_idle_connection_is_closed_without_a_word() {
    let server = Embedded::start(Limits {
        idle: SHORT,
        ..generous()
    });
    let mut fresh = server.connect();
    let mut kept = server.connect();
    kept.send(request("GET", MAC, &[("Connection", "keep-alive")]));
    assert_eq!(kept.answer().status, 200);
    assert_eq!(fresh.end(), End::Closed);
    assert_eq!(kept.end(), End::Closed);
}

#[test]
fn a_kept_connection_has_its_idle_time_anew_after_each_request() {
    // A slow head and a body change the socket's timeout; the idle one has to come back.
    let server = Embedded::start(Limits {
        idle: SHORT,
        ..generous()
    });
    let mut client = server.connect();
    let keep = "Connection: keep-alive";
    client.send(format!(
        "GET {MAC} HTTP/1.1\r\n{keep}\r\nContent-Length: 1\r\n\r\n"
    ));
    client.send("x");
    assert_eq!(client.answer().status, 200);
    assert_eq!(client.end(), End::Closed);
}

#[test]
fn a_client_that_takes_no_answer_is_given_up() {
    let user_data = "x".repeat(16384);
    let config = json!({"http_tokens": "optional", "user_data": user_data});
    let server = Embedded::over(
        config,
        Limits {
            write: SHORT,
            ..generous()
        },
    );
    let mut client = server.connect();
    // Far more requests and answers than all buffers between the two hold: writing blocks until
    // the server ends it.
    let filler = "x".repeat(10_000);
    let keep = [("Connection", "keep-alive"), ("Filler", filler.as_str())];
    let requests = request("GET", "/latest/user-data", &keep).repeat(5000);
    let given_up = client.stream.write_all(requests.as_bytes());
    let kind = given_up.expect_err("nobody could answer all this").kind();
    let ends = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
    assert!(ends.contains(&kind), "it was never given up: {kind}");
    assert!(server.serves());
}

#[test]
fn slow_clients_hold_up_nobody() {
    let server = Embedded::start(generous());
    let fifty = || {
        let since = Instant::now();
        (0..50).for_each(|_| assert!(server.serves()));
        since.elapsed()
    };
    let alone = fifty();
    let mut held: Vec<Connection> = (0..100).map(|_| server.connect()).collect();
    for (n, client) in held.iter_mut().enumerate() {
        match n % 4 {
            0 => drop(client.send("GET / HT")),
            1 => drop(client.send("PUT / HTTP/1.1\r\nContent-Length: 9\r\n\r\n1")),
            2 => drop(client.send("PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n")),
            _ => {}
        }
    }
    let took = fifty();
    let allowed = Duration::from_secs(2) + alone * 10;
    assert!(took < allowed, "{took:?}, without them {alone:?}");
}

#[test]
fn past_the_limit_the_one_idle_longest_gives_way() {
    let server = Embedded::start(Limits {
        connections: 4,
        ..generous()
    });
    let mut idle: Vec<Connection> = (0..4).map(|_| server.connect()).collect();
    // The first is used once more: the second is then idle longest.
    for turn in [0, 1, 2, 3, 0] {
        idle[turn].send(request("GET", MAC, &[("Connection", "keep-alive")]));
        assert_eq!(idle[turn].answer().status, 200);
        // Makes it idle for that much longer than the next.
        std::thread::sleep(SHORT / 4);
    }
    assert!(server.serves());
    assert_eq!(idle.remove(1).end(), End::Closed);
    for mut client in idle {
        client.send(request("GET", MAC, &[]));
        assert_eq!(client.answer().status, 200, "one that should have stayed");
    }
}

/// Begins a request and returns once the server waits for its rest.
fn begin(client: &mut Connection) {
    let fields = [("Expect", "100-continue"), ("Content-Length", "1")];
    assert_eq!(
        client.send(request("GET", MAC, &fields)).answer().status,
        100
    );
}

#[test]
fn past_the_limit_unfinished_requests_give_way_too() {
    let server = Embedded::start(Limits {
        connections: 4,
        ..generous()
    });
    let mut unfinished: Vec<Connection> = (0..4).map(|_| server.connect()).collect();
    unfinished.iter_mut().for_each(begin);
    for _ in 0..20 {
        assert!(server.serves(), "held up by unfinished requests");
    }
    assert_eq!(unfinished[0].end(), End::Closed, "the oldest");
}

#[test]
fn unfinished_requests_give_way_to_newcomers_that_come_together() {
    // A newcomer whose request is on its way is not the one idle longest.
    let server = Embedded::start(Limits {
        connections: 16,
        ..generous()
    });
    for _ in 0..10 {
        let mut unfinished: Vec<Connection> = (0..16).map(|_| server.connect()).collect();
        unfinished.iter_mut().for_each(begin);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| assert!(server.serves() && server.serves()));
            }
        });
    }
}

#[test]
#[cfg(target_os = "linux")] // All of 127.0.0.0/8 is ours there without asking.
fn past_the_limit_the_address_that_holds_most_unfinished_requests_gives_way() {
    let server = Embedded::start(Limits {
        connections: 4,
        ..generous()
    });
    let from = |last: u8| {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let socket = socket.expect("a socket");
        let own = SocketAddr::from(([127, 0, 0, last], 0));
        socket.bind(&own.into()).expect("our address");
        socket.connect(&server.address.into()).expect("it listens");
        Connection::over(socket.into())
    };
    let [mut modest, mut oldest, mut second, mut third] = [2, 3, 3, 3].map(from);
    for client in [&mut modest, &mut oldest, &mut second, &mut third] {
        begin(client);
    }
    assert!(server.serves());
    assert_eq!(oldest.end(), End::Closed);
    for client in [&mut modest, &mut second, &mut third] {
        assert_eq!(client.send("x").answer().status, 200);
    }
}

#[test]
fn ten_times_more_connections_than_the_limit_leave_a_server_that_serves() {
    let server = Embedded::start(Limits {
        connections: 16,
        ..generous()
    });
    let held: Vec<Connection> = (0..160).map(|_| server.connect()).collect();
    assert!(server.serves());
    drop(held);
    assert!(server.serves());
}

#[test]
#[cfg(unix)]
fn a_process_that_may_open_few_files_serves_on() {
    let mut command = std::process::Command::new("sh");
    let program = imds_mock().get_program().to_owned();
    command
        .args(["-c", "ulimit -n 24; exec \"$0\" --port 0"])
        .arg(program);
    let daemon = Daemon::spawn(command, 1, None);
    let held: Vec<Connection> = (0..100).map(|_| daemon.connect()).collect();
    assert_eq!(daemon.ask("GET", "/", &[]).status, 401);
    drop(held);
    for _ in 0..100 {
        assert_eq!(daemon.ask("GET", "/", &[]).status, 401);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn short_connections_do_not_cost_a_thread_each() {
    let daemon = Daemon::start(&json!({}));
    let threads = || {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", daemon.pid()));
        tasks.expect("it runs").count()
    };
    for _ in 0..300 {
        daemon.ask("GET", "/", &[]);
    }
    assert!(threads() < 12, "{} threads", threads());
}

#[test]
fn connections_that_end_in_every_way_are_forgotten() {
    let server = Embedded::start(Limits {
        connections: 8,
        ..generous()
    });
    for n in 0..200 {
        let mut client = server.connect();
        match n % 3 {
            0 => drop(client.send("GET / HT")),
            1 => drop(client.send(request("GET", MAC, &[])).answer()),
            _ => {
                let (bytes, _) = client.send("\0").finish().rest();
                assert!(parse_all(&bytes).is_ok());
            }
        }
    }
    assert!(server.serves());
}
