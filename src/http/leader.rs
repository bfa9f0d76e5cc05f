//! The one thread that waits for all sockets together: it accepts, reads what has arrived, answers it
//! and looks after every deadline, so that a request costs neither a thread nor a hand-over.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::answer::Layout;
use super::conn::{Connection, Context, Next, Scratch};
use super::evict::{self, Candidate};
use super::limits::Limits;
use super::listen::{AcceptError, BACKLOG};
use super::message::Caller;
use super::poller::{Event, Poller};
use super::service::Service;
use super::stream::Interest;
use super::table::Table;

/// What a connection must have been idle, or unfinished, to give its descriptor to another: those
/// accepted a moment ago will give theirs back soon.
const OLD: Duration = Duration::from_millis(100);
/// How long what fails rests where trying again at once would spin.
const PAUSE: Duration = Duration::from_millis(10);
/// The least time between two complaints about the same trouble.
const COMPLAINT_PAUSE: Duration = Duration::from_secs(10);
/// How often deadlines are looked at while there are none.
const NOBODY_THERE: Duration = Duration::from_secs(3600);
/// Requests of one connection that are answered in a row while nobody else waits.
const IN_A_ROW: usize = 8;

pub(super) struct Listener {
    pub(super) socket: TcpListener,
    pub(super) service: Arc<dyn Service>,
}

/// What all threads of a server see.
pub(super) struct Shared {
    pub(super) limits: Limits,
    pub(super) listeners: Vec<Listener>,
    pub(super) poller: Poller,
    /// Connections that other threads give back, or that they have closed.
    pub(super) returned: Mutex<Vec<(usize, Option<Client>)>>,
    /// A byte written to the first wakes the leader, which waits for the second.
    pub(super) wake: [UnixStream; 2],
    pub(super) is_stopping: AtomicBool,
    /// Connections open now.
    pub(super) open: AtomicUsize,
    pub(super) complain: Box<dyn Fn(&str) + Send + Sync>,
    pub(super) complained: Mutex<Option<Instant>>,
}

impl Shared {
    /// Has the leader look at what is new.
    pub(super) fn wake(&self) {
        // If there is no room the bytes before it wake it.
        let _ = (&self.wake[0]).write(&[0]);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Relaxed)
    }

    pub(super) fn complain(&self, what: &str, error: &io::Error) {
        let now = Instant::now();
        let mut complained = self
            .complained
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let recent = |at: Instant| now.duration_since(at) < COMPLAINT_PAUSE;
        if !complained.is_some_and(recent) {
            *complained = Some(now);
            drop(complained);
            (self.complain)(&format!("{what}: {error}"));
        }
    }

    /// What [`Poller::wait`] yields for the connection with that index: listeners have the first
    /// keys, then comes the end that wakes the leader.
    fn key(&self, index: usize) -> usize {
        self.listeners.len() + 1 + index
    }
}

/// A connection, and what the poller waits for on it.
pub(super) struct Client {
    connection: Connection<TcpStream>,
    registered: Option<Interest>,
}

impl Client {
    /// Does what can be done now; on a thread that nobody waits for if it `may_block`.
    pub(super) fn serve(
        &mut self,
        is_end: bool,
        in_a_row: usize,
        may_block: bool,
        shared: &Shared,
        scratch: &mut Scratch,
    ) -> Next {
        let Scratch { buffer, layout } = scratch;
        let mut cx = self.context(in_a_row, may_block, shared, layout);
        let serve = || self.connection.serve(is_end, &mut cx, buffer);
        catch_unwind(AssertUnwindSafe(serve)).unwrap_or(Next::Close)
    }

    fn context<'a>(
        &self,
        in_a_row: usize,
        may_block: bool,
        shared: &'a Shared,
        layout: &'a mut Layout,
    ) -> Context<'a> {
        Context {
            service: &*shared.listeners[self.connection.listener].service,
            limits: &shared.limits,
            now: Instant::now(),
            in_a_row,
            is_stopping: shared.is_stopping(),
            may_block,
            layout,
        }
    }
}

/// How far a stop has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Course {
    Serving,
    /// What has arrived is answered.
    Draining,
    /// Answers that are not taken yet, or not ready, are all that is left.
    Drained,
    Over,
}

/// What whoever leads needs. It goes from one leader to the next.
pub(super) struct Leader {
    table: Table<Client>,
    ready: VecDeque<Event>,
    /// How many of them have their turn before others are waited for.
    round: usize,
    /// No deadline is earlier.
    next_due: Instant,
    /// Until then nobody is accepted, as that failed.
    accept_again: Option<Instant>,
    course: Course,
}

impl Leader {
    pub(super) fn new() -> Leader {
        Leader {
            table: Table::new(),
            ready: VecDeque::new(),
            round: 0,
            next_due: Instant::now(),
            accept_again: None,
            course: Course::Serving,
        }
    }

    /// Serves all connections until one has a request that may block: its index. `None` when the
    /// server has stopped.
    pub(super) fn lead(&mut self, shared: &Shared, scratch: &mut Scratch) -> Option<usize> {
        while self.course != Course::Over {
            if self.course == Course::Serving && shared.is_stopping() {
                self.drain(shared);
            }
            let is_urgent = !self.ready.is_empty() || self.course == Course::Draining;
            let limit = match is_urgent {
                true => Duration::ZERO,
                false => self.next_due.saturating_duration_since(Instant::now()),
            };
            if let Err(e) = shared.poller.wait(limit, &mut self.ready) {
                shared.complain("cannot wait for connections", &e);
                thread::sleep(PAUSE);
            }
            if self.course == Course::Draining && self.ready.is_empty() {
                self.course = Course::Drained;
                self.close_those_at_rest(shared);
            }
            if self.course == Course::Drained && self.table.len() == 0 {
                self.course = Course::Over;
            }
            if self.next_due <= Instant::now() {
                self.look_at_deadlines(shared);
            }
            self.round = self.ready.len();
            for _ in 0..self.round {
                let Some(event) = self.ready.pop_front() else {
                    break;
                };
                if let Some(blocking) = self.on_event(event, shared, scratch) {
                    return Some(blocking);
                }
            }
        }
        None
    }

    fn on_event(&mut self, event: Event, shared: &Shared, scratch: &mut Scratch) -> Option<usize> {
        let Some(index) = event.key.checked_sub(shared.key(0)) else {
            match event.key < shared.listeners.len() {
                // As many as others have a turn, so that neither wait for all of the other; and not so
                // many that one gives way before it has had its turn.
                true => {
                    let count = self.round.min(shared.limits.connections / 2);
                    self.accept(event.key, count.max(1), shared);
                }
                false => self.on_wake(shared),
            }
            return None;
        };
        let client = self.table.get_mut(index)?;
        let is_end =
            event.is_end && matches!(client.registered, Some(Interest::End | Interest::Nothing));
        let in_a_row = if self.ready.is_empty() { IN_A_ROW } else { 1 };
        match client.serve(is_end, in_a_row, false, shared, scratch) {
            Next::Rest => self.settle(index, shared),
            Next::Again => self.ready.push_back(event),
            Next::Close => self.close(index, shared),
            Next::Block => return Some(index),
        }
        None
    }

    /// Leaves a connection to the poller and its deadline.
    fn settle(&mut self, index: usize, shared: &Shared) {
        let Some(Client {
            connection,
            registered,
        }) = self.table.get_mut(index)
        else {
            return;
        };
        let (socket, wanted) = (&connection.stream, connection.phase().interest());
        let key = shared.key(index);
        let done = match *registered {
            None => shared.poller.add(socket, key, wanted),
            Some(present) if present == wanted => Ok(()),
            Some(present) => shared.poller.modify(socket, key, present, wanted),
        };
        *registered = Some(wanted);
        self.next_due = self.next_due.min(connection.due());
        if done.is_err() || self.course == Course::Drained && !connection.phase().is_busy() {
            self.close(index, shared);
        }
    }

    fn close(&mut self, index: usize, shared: &Shared) {
        let key = shared.key(index);
        self.ready.retain(|event| event.key != key);
        if let Some(client) = self.table.get_mut(index) {
            let address = client.connection.caller.address;
            self.table.remove(index, address);
        }
        shared.open.store(self.table.len(), Ordering::Relaxed);
    }

    /// Lends a connection to a thread that nobody waits for.
    pub(super) fn lend(&mut self, index: usize, shared: &Shared) -> Option<Client> {
        let address = self.table.get_mut(index)?.connection.caller.address;
        let mut client = self.table.lend(index, address)?;
        if let Some(registered) = client.registered.take() {
            let _ = shared.poller.delete(&client.connection.stream, registered);
        }
        Some(client)
    }

    /// Answers a request that may block, and for which there is no thread, with that status.
    pub(super) fn refuse(
        &mut self,
        index: usize,
        status: u16,
        shared: &Shared,
        scratch: &mut Scratch,
    ) {
        let Some(client) = self.table.get_mut(index) else {
            return;
        };
        let mut cx = client.context(1, false, shared, &mut scratch.layout);
        match client.connection.refuse(status, &mut cx) {
            Next::Close => self.close(index, shared),
            _ => self.settle(index, shared),
        }
    }

    /// Takes back what other threads have returned.
    fn on_wake(&mut self, shared: &Shared) {
        while let Ok(1..) = (&shared.wake[1]).read(&mut [0; 64]) {}
        let mut returned = shared
            .returned
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for (index, client) in returned.drain(..) {
            let key = shared.key(index);
            if client.is_some() {
                self.ready.push_back(Event { key, is_end: false });
            }
            self.table.give_back(index, client);
        }
        shared.open.store(self.table.len(), Ordering::Relaxed);
    }

    /// Lines up the connections whose deadline has passed, and notes when to look again.
    fn look_at_deadlines(&mut self, shared: &Shared) {
        let now = Instant::now();
        if self.accept_again.is_some_and(|at| at <= now) {
            self.accept_again = None;
            for (key, Listener { socket, .. }) in shared.listeners.iter().enumerate() {
                let _ = shared.poller.add(socket, key, Interest::Read);
            }
        }
        self.next_due = self.accept_again.unwrap_or(now + NOBODY_THERE);
        for (index, Client { connection, .. }) in self.table.iter() {
            match connection.due() {
                due if due <= now => self.ready.push_back(Event {
                    key: shared.key(index),
                    is_end: false,
                }),
                due => self.next_due = self.next_due.min(due),
            }
        }
    }

    /// Accepts connections, at most that many.
    fn accept(&mut self, listener: usize, count: usize, shared: &Shared) {
        let Listener { socket, service } = &shared.listeners[listener];
        for _ in 0..count {
            match socket.accept() {
                Ok((stream, peer)) => {
                    let caller = caller(&stream, peer, &**service);
                    if service.admits(caller) {
                        self.admit(stream, caller, listener, shared);
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) if shared.is_stopping() => return,
                Err(e) => return self.on_accept_error(&e, shared),
            }
        }
    }

    /// Takes a connection in. It is closed where there is no room, as every one is being answered: it
    /// has to try again.
    fn admit(&mut self, stream: TcpStream, caller: Caller, listener: usize, shared: &Shared) {
        let is_full = self.table.len() >= shared.limits.connections;
        if is_full && !self.evict(Duration::ZERO, shared) {
            return;
        }
        let now = Instant::now();
        let connection = Connection::new(stream, caller, listener, now, shared.limits.idle);
        let client = Client {
            connection,
            registered: None,
        };
        let index = self.table.add(caller.address, client);
        shared.open.store(self.table.len(), Ordering::Relaxed);
        // Its request has most likely come with it.
        let key = shared.key(index);
        self.ready.push_back(Event { key, is_end: false });
    }

    /// Closes the least deserving connection of those that do what they do for that long. Whether
    /// there is one.
    fn evict(&mut self, age: Duration, shared: &Shared) -> bool {
        let now = Instant::now();
        let candidates = self
            .table
            .iter()
            .map(|(key, Client { connection, .. })| Candidate {
                key,
                address: connection.caller.address,
                is_idle: connection.phase().is_idle(),
                since: connection.since(),
            });
        let old = candidates.filter(|candidate| now - candidate.since >= age);
        let chosen = evict::choose(old, self.table.greediest());
        if let Some(index) = chosen {
            self.close(index, shared);
        }
        chosen.is_some()
    }

    /// accept() failed: nothing ends the loop.
    fn on_accept_error(&mut self, error: &io::Error, shared: &Shared) {
        let meaning = AcceptError::of(error);
        if meaning == AcceptError::ClientLeft {
            return;
        }
        shared.complain("cannot accept a connection", error);
        if meaning == AcceptError::NoDescriptor && self.evict(OLD, shared) {
            return;
        }
        for Listener { socket, .. } in &shared.listeners {
            let _ = shared.poller.delete(socket, Interest::Read);
        }
        let again = Instant::now() + PAUSE;
        self.accept_again = Some(again);
        self.next_due = self.next_due.min(again);
    }

    /// The server stops: takes in who has come until now and refuses newcomers, and has what waits for
    /// its time answered.
    fn drain(&mut self, shared: &Shared) {
        self.course = Course::Draining;
        for (key, Listener { socket, .. }) in shared.listeners.iter().enumerate() {
            self.accept(key, BACKLOG as usize, shared);
            let _ = shared.poller.delete(socket, Interest::Read);
            // FreeBSD calls the socket not connected.
            let _ = SockRef::from(socket).shutdown(Shutdown::Both);
        }
        self.accept_again = None;
        let waiting = self
            .table
            .iter()
            .filter(|(_, client)| client.connection.phase().is_busy());
        self.ready.extend(waiting.map(|(index, _)| Event {
            key: shared.key(index),
            is_end: false,
        }));
    }

    /// Ends the connections that have no complete request.
    fn close_those_at_rest(&mut self, shared: &Shared) {
        let at_rest = self
            .table
            .iter()
            .filter(|(_, client)| !client.connection.phase().is_busy());
        let at_rest: Vec<usize> = at_rest.map(|(index, _)| index).collect();
        at_rest
            .into_iter()
            .for_each(|index| self.close(index, shared));
    }
}

/// Whose connection it is.
fn caller(stream: &TcpStream, peer: SocketAddr, service: &dyn Service) -> Caller {
    let address = peer.ip().to_canonical();
    let is_local = service.judges_callers()
        && stream.local_addr().is_ok_and(|local| {
            let local = local.ip().to_canonical();
            local == address || local.is_loopback() && address.is_loopback()
        });
    Caller { address, is_local }
}
