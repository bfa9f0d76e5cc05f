//! What the threads of a server share: the connections and who of them gives way when there are too
//! many, the limits, and the news that the server stops.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Caller, Service};

/// The least time between two complaints about the same trouble.
const COMPLAINT_PAUSE: Duration = Duration::from_secs(10);
/// Descriptors kept for listeners, files and calls to STS when the limit is low.
const RESERVED_DESCRIPTORS: u64 = 16;

/// Every bound on a connection's time, and how many there may be.
#[derive(Clone, Debug)]
pub struct Limits {
    /// From the first byte of a head to its end.
    pub head: Duration,
    /// From the end of a head to the end of its body.
    pub body: Duration,
    /// Without a request, before and between them.
    pub idle: Duration,
    /// For one answer to be taken.
    pub write: Duration,
    /// For a refused client to stop sending.
    pub linger: Duration,
    /// Open at once, all listeners together.
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            head: Duration::from_secs(10),
            body: Duration::from_secs(10),
            idle: Duration::from_secs(30),
            write: Duration::from_secs(5),
            linger: Duration::from_secs(1),
            connections: 512,
        }
    }
}

impl Limits {
    /// Lowers the number of connections to what `descriptors` open files allow.
    pub fn within_descriptors(mut self, descriptors: u64) -> Limits {
        let room = descriptors.saturating_sub(RESERVED_DESCRIPTORS).max(8);
        self.connections = self.connections.min(room.try_into().unwrap_or(usize::MAX));
        self
    }
}

/// What a connection is doing; decides who gives way when there are too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Activity {
    Idle = 0,
    /// A request is on its way: a connection's first one from the start, others from their first
    /// byte.
    Head = 1,
    Busy = 2,
    /// The answer is held back, as it was wanted late or slow.
    Waiting = 3,
}

/// One open connection.
pub(super) struct Seat {
    pub(super) stream: TcpStream,
    pub(super) caller: Caller,
    /// Microseconds since the server started, times four, plus the [`Activity`].
    pub(super) activity: AtomicU64,
    pub(super) dismissed: AtomicBool,
}

impl Seat {
    /// Notes what the connection does from now on, or goes on doing.
    pub(super) fn set(&self, pool: &Pool, activity: Activity) {
        if self
            .activity()
            .is_some_and(|(present, _)| present == activity)
        {
            return;
        }
        let now = pool.started.elapsed().as_micros() as u64;
        self.activity
            .store(now * 4 + activity as u64, Ordering::Relaxed);
    }

    /// A request is being answered. Since when does not matter: such a connection never gives way.
    pub(super) fn set_busy(&self) {
        self.activity
            .store(Activity::Busy as u64, Ordering::Relaxed);
    }

    /// What the connection does and since when, unless it has been told to go.
    pub(super) fn activity(&self) -> Option<(Activity, u64)> {
        let value = self.activity.load(Ordering::Relaxed);
        let activity = match value % 4 {
            0 => Activity::Idle,
            1 => Activity::Head,
            2 => Activity::Busy,
            _ => Activity::Waiting,
        };
        (!self.is_dismissed()).then_some((activity, value / 4))
    }

    fn is_dismissed(&self) -> bool {
        self.dismissed.load(Ordering::Relaxed)
    }
}

pub(super) struct Listener {
    pub(super) socket: TcpListener,
    pub(super) service: Arc<dyn Service>,
}

#[derive(Default)]
pub(super) struct State {
    /// A slab: a connection keeps its index.
    seats: Vec<Option<Arc<Seat>>>,
    free: Vec<usize>,
    /// How many have been told to go and are still there.
    leaving: usize,
    /// Connections of each address.
    held: HashMap<IpAddr, usize>,
    /// Threads in accept(), a listener each.
    pub(super) acceptors: Vec<usize>,
    /// Threads waiting to be called to a listener, and the calls not yet taken.
    pub(super) parked: usize,
    pub(super) calls: Vec<usize>,
    pub(super) complained: Option<Instant>,
}

impl State {
    /// Of a server with that many listeners, each of which has as many acceptors.
    pub(super) fn new(listeners: usize, acceptors: usize) -> State {
        State {
            acceptors: vec![acceptors; listeners],
            ..State::default()
        }
    }

    pub(super) fn open(&self) -> usize {
        self.seats.len() - self.free.len()
    }

    pub(super) fn connections(&self) -> impl Iterator<Item = &Arc<Seat>> {
        self.seats.iter().flatten()
    }

    /// Whether there are `limit` connections beside those that have been told to go.
    pub(super) fn is_full(&self, limit: usize) -> bool {
        self.open() >= limit + self.leaving
    }

    /// Takes a connection in. Returns its index.
    pub(super) fn add(&mut self, seat: Arc<Seat>) -> usize {
        *self.held.entry(seat.caller.address).or_default() += 1;
        let index = self.free.pop().unwrap_or_else(|| {
            self.seats.push(None);
            self.seats.len() - 1
        });
        self.seats[index] = Some(seat);
        index
    }

    fn remove(&mut self, index: usize) {
        let Some(seat) = self.seats[index].take() else {
            return;
        };
        self.free.push(index);
        self.leaving -= usize::from(seat.is_dismissed());
        let address = seat.caller.address;
        if let Some(held) = self.held.get_mut(&address) {
            *held -= 1;
            if *held == 0 {
                self.held.remove(&address);
            }
        }
    }

    /// Ends a connection from outside; its thread sees end of file.
    pub(super) fn dismiss(&mut self, seat: &Seat) {
        if !seat.dismissed.swap(true, Ordering::Relaxed) {
            self.leaving += 1;
            let _ = seat.stream.shutdown(Shutdown::Both);
        }
    }

    /// The connection that gives way: the one idle longest, else what is older: the oldest
    /// unfinished head of the address that holds most connections, or the answer held back longest,
    /// whose client has most likely given up. It is asked for by every newcomer to a full house, so
    /// it looks at each connection once.
    fn least_deserving(&self) -> Option<&Arc<Seat>> {
        let greediest = self.held.iter().max_by_key(|(_, held)| **held)?.0;
        let rank = |seat: &Seat| {
            let (activity, since) = seat.activity()?;
            match activity {
                Activity::Idle => Some((0, since)),
                Activity::Head if seat.caller.address != *greediest => Some((2, since)),
                Activity::Head | Activity::Waiting => Some((1, since)),
                Activity::Busy => None,
            }
        };
        self.connections()
            .filter_map(|seat| Some((rank(seat)?, seat)))
            .min_by_key(|(rank, _)| *rank)
            .map(|(_, seat)| seat)
    }
}

/// The threads, listeners and connections of one server.
pub(super) struct Pool {
    pub(super) limits: Limits,
    pub(super) started: Instant,
    pub(super) listeners: Vec<Listener>,
    pub(super) complain: Box<dyn Fn(&str) + Send + Sync>,
    pub(super) state: Mutex<State>,
    pub(super) stopping: AtomicBool,
    /// Signalled when work is there for a parked thread.
    pub(super) called: Condvar,
    /// Signalled when the server stops and when a connection ends while it does, and when one has
    /// to give way.
    pub(super) stopped: Condvar,
}

impl Pool {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Waits, unless the server stops meanwhile.
    pub(super) fn pause(&self, duration: Duration) {
        let _ = self
            .stopped
            .wait_timeout_while(self.lock(), duration, |_| !self.is_stopping());
    }

    /// Holds an answer back, unless the server stops or the connection has to give way meanwhile.
    pub(super) fn hold_back(&self, seat: &Seat, duration: Duration) {
        seat.set(self, Activity::Waiting);
        let goes_on = || !self.is_stopping() && !seat.is_dismissed();
        let _ = self
            .stopped
            .wait_timeout_while(self.lock(), duration, |_| goes_on());
    }

    /// Ends a connection so that another can be served, if there is one to end that has been doing
    /// what it does for `least` or longer.
    pub(super) fn make_room(&self, state: &mut State, least: Duration) -> bool {
        let now = self.started.elapsed().as_micros() as u64;
        let victim = state.least_deserving().filter(|seat| {
            let since = seat.activity.load(Ordering::Relaxed) / 4;
            u128::from(now.saturating_sub(since)) >= least.as_micros()
        });
        let victim = victim.cloned();
        if let Some(seat) = &victim {
            state.dismiss(seat);
            self.stopped.notify_all();
        }
        victim.is_some()
    }

    pub(super) fn complain(&self, what: &str, error: &io::Error) {
        let now = Instant::now();
        let mut state = self.lock();
        let recent = |at: Instant| now.duration_since(at) < COMPLAINT_PAUSE;
        if !state.complained.is_some_and(recent) {
            state.complained = Some(now);
            drop(state);
            (self.complain)(&format!("{what}: {error}"));
        }
    }
}

/// A connection's place in the pool, given back when it is dropped at the latest.
pub(super) struct Place {
    pub(super) pool: Arc<Pool>,
    pub(super) seat: Arc<Seat>,
    pub(super) index: Option<usize>,
}

impl Place {
    pub(super) fn give_back(&mut self, state: &mut State) {
        let Some(index) = self.index.take() else {
            return;
        };
        state.remove(index);
        if self.pool.is_stopping() {
            self.pool.stopped.notify_all();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.index.is_some() {
            let pool = self.pool.clone();
            self.give_back(&mut pool.lock());
        }
    }
}
