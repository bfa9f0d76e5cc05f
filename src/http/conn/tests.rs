//! A connection's whole life without a socket and without a sleep: a client that is bytes in and bytes
//! out, and a time that is told.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::super::message::Entity;
use super::super::stream::Interest;
use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// The other side of a connection.
#[derive(Default)]
struct Client {
    sends: RefCell<Vec<u8>>,
    is_gone: Cell<bool>,
    /// Bytes that it does not take.
    is_full: Cell<bool>,
    room: Cell<usize>,
    got: RefCell<Vec<u8>>,
    saw_end: Cell<bool>,
    saw_reset: Cell<bool>,
}

impl Stream for Client {
    fn receive(&self, buffer: &mut [u8]) -> Result<usize, Gone> {
        let mut sends = self.sends.borrow_mut();
        let length = sends.len().min(buffer.len());
        buffer[..length].copy_from_slice(&sends[..length]);
        sends.drain(..length);
        match length {
            0 if self.is_gone.get() => Err(Gone),
            _ => Ok(length),
        }
    }

    fn send(&self, parts: [&[u8]; 2], is_last: bool) -> Result<usize, Gone> {
        let bytes = parts.concat();
        let taken = match self.is_full.get() {
            true => bytes.len().min(self.room.replace(0)),
            false => bytes.len(),
        };
        self.got.borrow_mut().extend(&bytes[..taken]);
        if is_last && taken == bytes.len() {
            self.end();
        }
        Ok(taken)
    }

    fn end(&self) {
        self.saw_end.set(true);
    }

    fn reset(&self) {
        self.saw_reset.set(true);
    }

    fn set_hop_limit(&self, _hops: u8) -> Result<(), Gone> {
        Ok(())
    }
}

/// Answers with what the last segment of the path names.
struct Named {
    may_block: bool,
}

impl Service for Named {
    fn server_name(&self) -> &'static str {
        "test"
    }

    fn unix_ms(&self) -> i64 {
        0
    }

    fn may_block(&self) -> bool {
        self.may_block
    }

    fn wants_bodies(&self) -> bool {
        true
    }

    fn answer(&self, request: &Request) -> Step {
        let body = format!("{} {}", request.path, String::from_utf8_lossy(request.body));
        let reply = Reply::ok(Arc::new(Entity::new("text/plain", None, body)));
        let delivery = match request.path {
            "/late" => return Step::Wait(SECOND, Box::new(move |_| reply)),
            "/panic" => panic!("on purpose"),
            "/slow" => Delivery::Slow {
                bytes_per_second: 10,
            },
            "/cut" => Delivery::Truncated { bytes: 2 },
            "/reset" => Delivery::Reset,
            "/none" => Delivery::NoAnswer,
            _ => Delivery::Whole,
        };
        Step::Reply(Reply { delivery, ..reply })
    }
}

/// A connection, its client and the time.
struct Scene {
    connection: Connection<Client>,
    scratch: Scratch,
    limits: Limits,
    service: Named,
    now: Instant,
    is_stopping: bool,
}

impl Scene {
    fn new() -> Scene {
        let (limits, now) = (Limits::default(), Instant::now());
        let caller = Caller {
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            is_local: true,
        };
        let client = Client::default();
        Scene {
            connection: Connection::new(client, caller, 0, now, limits.idle),
            scratch: Scratch::new(),
            limits,
            service: Named { may_block: false },
            now,
            is_stopping: false,
        }
    }

    fn client(&self) -> &Client {
        &self.connection.stream
    }

    fn served(&mut self, is_end: bool, may_block: bool) -> Next {
        let mut cx = Context {
            service: &self.service,
            limits: &self.limits,
            now: self.now,
            in_a_row: 2,
            is_stopping: self.is_stopping,
            may_block,
            layout: &mut self.scratch.layout,
        };
        (self.connection).serve(is_end, &mut cx, &mut self.scratch.buffer)
    }

    fn serve(&mut self) -> Next {
        self.served(false, false)
    }

    fn send(&mut self, bytes: impl AsRef<[u8]>) -> Next {
        self.client().sends.borrow_mut().extend(bytes.as_ref());
        self.serve()
    }

    /// Its deadline passes.
    fn wait(&mut self) -> Next {
        self.now = self.connection.due();
        self.serve()
    }

    /// What the client has got since it was last asked.
    fn got(&self) -> String {
        String::from_utf8(self.client().got.take()).expect("ASCII")
    }

    fn status(&self) -> String {
        self.got().split(' ').nth(1).unwrap_or_default().to_owned()
    }
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nConnection: keep-alive\r\n\r\n")
}

#[test]
fn a_request_is_answered_however_it_is_cut() {
    let whole = "PUT /x HTTP/1.1\r\nConnection: keep-alive\r\nContent-Length: 4\r\n\r\nbody";
    for cut in 0..=whole.len() {
        let mut scene = Scene::new();
        assert_eq!(scene.send(&whole[..cut]), Next::Rest, "cut at {cut}");
        assert_eq!(scene.send(&whole[cut..]), Next::Rest, "cut at {cut}");
        assert!(scene.got().ends_with("\r\n\r\n/x body"), "cut at {cut}");
        assert!(scene.connection.phase.is_idle());
    }
}

#[test]
fn a_connection_closes_unless_it_is_to_be_kept() {
    let mut scene = Scene::new();
    assert_eq!(scene.send("GET /x HTTP/1.1\r\n\r\n"), Next::Close);
    assert!(scene.client().saw_end.get(), "the end goes with the answer");
    let mut scene = Scene::new();
    assert_eq!(scene.send("GET /x HTTP/1.1\r\n\r\nmore"), Next::Rest);
    assert!(matches!(scene.connection.phase, Phase::Lingering { .. }));
    assert_eq!(scene.send("and more"), Next::Rest);
    assert_eq!(scene.send(vec![b'x'; MAX_LINGER_BYTES]), Next::Rest);
    while scene.serve() == Next::Rest {}
    assert!(scene.client().sends.borrow().len() < BUFFER, "and no more");
}

#[test]
fn every_phase_has_its_own_deadline() {
    let limits = Limits::default();
    for (sent, limit, next, status) in [
        ("", limits.idle, Next::Close, ""),
        (&*get("/x"), limits.idle, Next::Close, "200"),
        ("GET", limits.head, Next::Rest, "408"),
        (
            "PUT / HTTP/1.1\r\nContent-Length: 9\r\n\r\n1",
            limits.body,
            Next::Rest,
            "408",
        ),
        ("\x16\x03\x01", limits.linger, Next::Close, "400"),
        (&*get("/late"), SECOND, Next::Rest, "200"),
        (&*get("/none"), NO_ANSWER, Next::Close, ""),
    ] {
        let mut scene = Scene::new();
        scene.send(sent);
        assert_eq!(scene.connection.due() - scene.now, limit, "{sent:?}");
        scene.now = scene.connection.due() - Duration::from_nanos(1);
        assert_eq!(scene.serve(), Next::Rest, "{sent:?}: too early");
        assert_eq!(scene.wait(), next, "{sent:?}");
        assert_eq!(scene.status(), status, "{sent:?}");
    }
}

#[test]
fn what_trickles_has_no_more_time_than_what_does_not_come() {
    for begun in [
        "GET / HTTP/1.1\r\nA: ",
        "PUT / HTTP/1.1\r\nContent-Length: 99\r\n\r\n",
    ] {
        let mut scene = Scene::new();
        scene.send(begun);
        for _ in 0..9 {
            scene.now += SECOND;
            assert_eq!(scene.send("b"), Next::Rest);
        }
        scene.now += SECOND;
        scene.send("b");
        assert_eq!(scene.status(), "408");
    }
}

#[test]
fn a_client_that_waits_to_send_its_body_is_told_to_go_on() {
    let mut scene = Scene::new();
    scene.send("PUT /x HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n");
    assert_eq!(scene.got(), "HTTP/1.1 100 Continue\r\n\r\n");
    scene.send("1");
    assert_eq!(scene.status(), "200");
}

#[test]
fn requests_in_a_row_let_others_go_first_and_none_is_lost() {
    let mut scene = Scene::new();
    scene.client().is_gone.set(true);
    let mut next = scene.send([get("/1"), get("/2"), get("/3"), get("/4"), get("/5")].concat());
    let mut bodies = Vec::new();
    while next == Next::Again {
        bodies.extend(scene.got().matches('/').map(|_| ()));
        next = scene.serve();
    }
    // Each answer names itself once, its content type and its version once.
    assert_eq!(bodies.len() + scene.got().matches('/').count(), 5 * 3);
    assert_eq!(next, Next::Rest);
    assert_eq!(scene.serve(), Next::Close, "its end comes behind them");
}

#[test]
fn what_is_behind_a_delayed_request_is_answered_behind_it() {
    let mut scene = Scene::new();
    assert_eq!(scene.send(get("/late") + &get("/x")), Next::Rest);
    assert_eq!(scene.got(), "");
    assert_eq!(scene.connection.phase.interest(), Interest::End);
    assert_eq!(scene.wait(), Next::Rest);
    let got = scene.got();
    assert!(
        got.contains("\r\n\r\n/late ") && got.ends_with("\r\n\r\n/x "),
        "{got}"
    );
}

#[test]
fn a_delayed_client_that_ends_gives_way_first_and_one_that_resets_is_gone() {
    let mut scene = Scene::new();
    scene.send(get("/late"));
    assert!(!scene.connection.phase.is_idle() && scene.connection.phase.is_busy());
    assert_eq!(scene.served(true, false), Next::Rest);
    assert!(scene.connection.phase.is_idle());
    assert_eq!(scene.connection.phase.interest(), Interest::Nothing);
    assert_eq!(scene.serve(), Next::Rest);
    assert_eq!(scene.served(true, false), Next::Close);
    // It may have ended only its own side.
    let mut scene = Scene::new();
    scene.send(get("/late"));
    scene.served(true, false);
    scene.wait();
    assert_eq!(scene.status(), "200");
}

#[test]
fn an_answer_that_is_not_taken_waits_for_room_and_what_is_behind_it_too() {
    let mut scene = Scene::new();
    scene.client().is_full.set(true);
    scene.client().room.set(10);
    assert_eq!(scene.send(get("/x") + &get("/y")), Next::Rest);
    assert_eq!(scene.connection.phase.interest(), Interest::Write);
    let due = scene.connection.due();
    scene.now += SECOND;
    scene.client().room.set(10);
    assert_eq!(scene.serve(), Next::Rest);
    assert_eq!(scene.connection.due(), due, "no more time for a byte taken");
    scene.client().is_full.set(false);
    assert_eq!(scene.serve(), Next::Rest);
    assert!(scene.got().ends_with("\r\n\r\n/y "));
    scene.client().is_full.set(true);
    scene.send(get("/x"));
    assert_eq!(scene.wait(), Next::Close, "it is given up");
}

#[test]
fn a_slow_answer_leaves_a_piece_at_a_time() {
    let mut scene = Scene::new();
    assert_eq!(scene.send(get("/slow")), Next::Again);
    let mut got = String::new();
    let start = scene.now;
    loop {
        scene.serve();
        if scene.connection.phase.is_idle() {
            break;
        }
        assert_eq!(scene.connection.phase.interest(), Interest::Nothing);
        got += &scene.got();
        assert_eq!(scene.serve(), Next::Rest, "not before its time");
        scene.now = scene.connection.due();
    }
    assert!(got.ends_with("\r\n\r\n/slow "), "{got}");
    assert_eq!(
        scene.now - start,
        Duration::from_millis(100) * got.len() as u32
    );
}

#[test]
fn answers_are_spoiled_as_wanted() {
    for (path, next, got, is_reset) in [
        ("/cut", Next::Close, "\r\n\r\n/c", false),
        ("/reset", Next::Close, "", true),
        ("/none", Next::Rest, "", false),
    ] {
        let mut scene = Scene::new();
        assert_eq!(scene.send(get(path)), next, "{path}");
        assert!(scene.got().ends_with(got), "{path}");
        assert_eq!(scene.client().saw_reset.get(), is_reset, "{path}");
    }
}

#[test]
fn a_panic_is_answered_with_500() {
    let mut scene = Scene::new();
    assert_eq!(scene.send(get("/panic")), Next::Rest);
    assert_eq!(scene.status(), "500");
}

#[test]
fn only_a_thread_that_may_block_answers_what_may_block() {
    let mut scene = Scene::new();
    scene.service.may_block = true;
    assert_eq!(scene.send(get("/x") + &get("/y")), Next::Block);
    assert_eq!(scene.got(), "");
    assert!(scene.connection.phase.is_busy());
    assert_eq!(scene.served(false, true), Next::Rest);
    assert!(scene.got().ends_with("\r\n\r\n/y "));
}

#[test]
fn a_stop_cuts_every_wait_short() {
    for path in ["/late", "/slow"] {
        let mut scene = Scene::new();
        scene.send(get(path));
        scene.is_stopping = true;
        while scene.serve() == Next::Again {}
        assert!(scene.got().ends_with(&format!("\r\n\r\n{path} ")), "{path}");
        let mut scene = Scene::new();
        scene.is_stopping = true;
        let mut next = scene.send(get(path));
        while next == Next::Again {
            next = scene.serve();
        }
        let got = scene.got();
        assert!(got.contains("Connection: close") && got.ends_with(&format!("{path} ")));
        assert_eq!(next, Next::Close);
    }
}

#[test]
fn a_request_that_arrives_keeps_its_age_and_a_new_phase_has_its_own() {
    let mut scene = Scene::new();
    let start = scene.connection.since();
    scene.now += SECOND;
    scene.send("PUT / HTTP/1.1\r\nConnection: keep-alive\r\n");
    scene.now += SECOND;
    scene.send("Content-Length: 1\r\n\r\n");
    assert_eq!(scene.connection.since(), start);
    scene.now += SECOND;
    scene.send("1");
    assert_eq!(scene.connection.since(), scene.now);
}
