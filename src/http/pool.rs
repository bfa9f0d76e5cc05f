//! What the threads of a server share: the connections and who of them gives way when there are too
//! many, the limits, and the news that the server stops.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Service;
use super::seat::{Activity, Seat};
use super::watch::Watch;

/// The least time between two complaints about the same trouble.
const COMPLAINT_PAUSE: Duration = Duration::from_secs(10);
/// How often the thread on watch wakes while there are no connections.
const NOBODY_THERE: Duration = Duration::from_secs(3600);
/// Descriptors kept for listeners, files and calls to STS when the limit is low.
const RESERVED_DESCRIPTORS: u64 = 16;
/// A connection's own work is shallow; the standard 2 MiB would only cost address space.
pub(super) const STACK: usize = 256 * 1024;

/// Every bound on a connection's time, and how many there may be, of connections and threads.
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
    /// Each of which serves a connection that has to be waited for: its body, its answer's time, or
    /// room for an answer. All other connections share one.
    pub threads: usize,
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
            // One for each connection, and for those that have just been told to go.
            threads: 1024,
        }
    }
}

impl Limits {
    /// Lowers the number of connections to what `descriptors` open files allow, and that of threads
    /// to what a quarter of `address_space` bytes has room for: where threads take all of it, the next
    /// allocation ends the process.
    pub fn within(mut self, descriptors: u64, address_space: u64) -> Limits {
        let connections = descriptors.saturating_sub(RESERVED_DESCRIPTORS).max(8);
        self.connections = self
            .connections
            .min(connections.try_into().unwrap_or(usize::MAX));
        let threads = (address_space / 4 / STACK as u64).max(8);
        self.threads = self.threads.min(threads.try_into().unwrap_or(usize::MAX));
        self
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
    /// There while nobody is on watch, once the server serves.
    pub(super) duty: Option<Duty>,
    /// The server stops, and what had arrived is answered.
    pub(super) is_finished: bool,
    pub(super) threads: usize,
    /// Those of them that wait to take over the watch.
    pub(super) parked: usize,
    complained: Option<Instant>,
}

/// What goes from one thread on watch to the next.
#[derive(Default)]
pub(super) struct Duty {
    /// Keys of sockets that are ready and still have to be looked after.
    pub(super) ready: VecDeque<usize>,
    /// When to look for connections that have rested for too long, in microseconds since the server
    /// started.
    pub(super) next_look_us: u64,
}

impl State {
    pub(super) fn open(&self) -> usize {
        self.seats.len() - self.free.len()
    }

    /// The connections with their indexes.
    fn seats(&self) -> impl Iterator<Item = (usize, &Arc<Seat>)> {
        let seats = self.seats.iter().enumerate();
        seats.filter_map(|(index, seat)| Some((index, seat.as_ref()?)))
    }

    /// Whether there are `limit` connections beside those that have been told to go.
    pub(super) fn is_full(&self, limit: usize) -> bool {
        self.open() >= limit + self.leaving
    }

    /// Whether a connection has been told to go and is still there.
    pub(super) fn is_anyone_leaving(&self) -> bool {
        self.leaving > 0
    }

    /// Takes a connection in. Returns its index.
    fn add(&mut self, seat: Arc<Seat>) -> usize {
        *self.held.entry(seat.caller.address).or_default() += 1;
        let index = self.free.pop().unwrap_or_else(|| {
            self.seats.push(None);
            self.seats.len() - 1
        });
        self.seats[index] = Some(seat);
        index
    }

    /// The connection with that index.
    fn seat(&self, index: usize) -> Option<&Arc<Seat>> {
        self.seats.get(index)?.as_ref()
    }

    /// Takes a connection out, unless it is out already and its index another's.
    fn remove(&mut self, index: usize, seat: &Arc<Seat>) {
        if !self.seat(index).is_some_and(|here| Arc::ptr_eq(here, seat)) {
            return;
        }
        self.seats[index] = None;
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

    /// Ends a connection: one that rests is closed, of any other the thread that has it sees end of
    /// file.
    fn dismiss(&mut self, index: usize, seat: &Arc<Seat>) {
        if seat.is_watched() {
            self.remove(index, seat);
        } else if seat.dismiss() {
            self.leaving += 1;
        }
    }

    /// Ends the connections without a request under way. Before the server has finished, the requests
    /// of the watched ones may have arrived.
    pub(super) fn dismiss_those_at_rest(&mut self) {
        let is_finished = self.is_finished || self.threads == 0;
        let at_rest = |seat: &Seat| {
            (is_finished || !seat.is_watched())
                && matches!(seat.activity(), Some((Activity::Idle | Activity::Head, _)))
        };
        for index in 0..self.seats.len() {
            if let Some(seat) = self.seats[index].clone().filter(|seat| at_rest(seat)) {
                self.dismiss(index, &seat);
            }
        }
    }

    /// The connection that gives way: the one idle longest, else of the address that holds most
    /// connections, else of any, the one whose head is unfinished, or whose answer is held back or not
    /// taken, for longest: its client has most likely given up. It is asked for by every newcomer to a
    /// full house, so it looks at each connection once.
    fn least_deserving(&self, among: impl Fn(&Seat) -> bool) -> Option<(usize, &Arc<Seat>)> {
        let greediest = self.held.iter().max_by_key(|(_, held)| **held)?.0;
        let rank = |seat: &Seat| {
            let (activity, since) = seat.activity()?;
            match activity {
                Activity::Idle => Some((0, since)),
                Activity::Busy => None,
                _ if seat.caller.address == *greediest => Some((1, since)),
                _ => Some((2, since)),
            }
        };
        self.seats()
            .filter(|(_, seat)| among(seat))
            .filter_map(|(index, seat)| Some((rank(seat)?, (index, seat))))
            .min_by_key(|(rank, _)| *rank)
            .map(|(_, found)| found)
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
    pub(super) watch: Watch,
    /// A thread's whole life.
    pub(super) work: fn(&Arc<Pool>),
    /// Wakes whoever is on watch once it is shut down: its other end is watched.
    pub(super) alarm: [UnixStream; 2],
    /// Signalled when the watch is there to be taken over.
    pub(super) called: Condvar,
    /// Signalled when the server stops and when a connection ends while it does, and when one has
    /// to give way.
    pub(super) stopped: Condvar,
}

impl Pool {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Microseconds since the server started.
    pub(super) fn now_us(&self) -> u64 {
        self.started.elapsed().as_micros() as u64
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
        seat.set(Activity::Waiting, self.now_us());
        let goes_on = || !self.is_stopping() && !seat.is_dismissed();
        let _ = self
            .stopped
            .wait_timeout_while(self.lock(), duration, |_| goes_on());
    }

    /// Gives a connection its place and has it watched. It is closed where there is no room, as
    /// every one is being answered: it has to try again.
    pub(super) fn admit(&self, seat: Seat) {
        let seat = Arc::new(seat);
        let mut state = self.lock();
        if state.is_full(self.limits.connections) && !self.make_room(&mut state, |_| true) {
            return;
        }
        let index = state.add(seat.clone());
        if seat.leave_to(&self.watch, self.key(index)).is_err() {
            state.remove(index, &seat);
        }
    }

    /// The place of the connection that the watch knows as `key`, if it is there and rests.
    pub(super) fn place(&self, key: usize) -> Option<Place<'_>> {
        let (index, seat) = self.find(key)?;
        Some(Place {
            pool: self,
            seat,
            index: Some(index),
        })
    }

    /// Whether [`Pool::place`] would find one.
    pub(super) fn is_place(&self, key: usize) -> bool {
        self.find(key).is_some()
    }

    fn find(&self, key: usize) -> Option<(usize, Arc<Seat>)> {
        let index = key.checked_sub(self.key(0))?;
        let state = self.lock();
        let seat = state.seat(index).filter(|seat| seat.is_watched())?;
        Some((index, seat.clone()))
    }

    /// What [`Watch::wait`] yields for the connection with that index: listeners have the first
    /// keys, then comes the alarm.
    fn key(&self, index: usize) -> usize {
        self.listeners.len() + 1 + index
    }

    /// Ends a connection so that another can be served, the least deserving one `among` some.
    /// Returns whether there is one.
    pub(super) fn make_room(&self, state: &mut State, among: impl Fn(&Seat) -> bool) -> bool {
        let Some((index, seat)) = state.least_deserving(among) else {
            return false;
        };
        let seat = seat.clone();
        if !seat.is_watched() {
            // Its thread may be holding an answer back.
            self.stopped.notify_all();
        }
        state.dismiss(index, &seat);
        true
    }

    /// Lines up the connections that have rested for too long, and notes when to look again.
    pub(super) fn look_for_overdue(&self, duty: &mut Duty) {
        let now_us = self.now_us();
        let state = self.lock();
        duty.next_look_us = now_us + NOBODY_THERE.as_micros() as u64;
        if state.open() > 0 {
            self.look_soon(duty);
        }
        for (index, seat) in state.seats().filter(|(_, seat)| seat.is_watched()) {
            match seat.due_us() {
                due_us if due_us <= now_us => duty.ready.push_back(self.key(index)),
                due_us => duty.next_look_us = duty.next_look_us.min(due_us),
            }
        }
    }

    /// Sees to it that a connection that begins to rest now is not looked for too late, whatever it
    /// waits for.
    pub(super) fn look_soon(&self, duty: &mut Duty) {
        let Limits {
            head, idle, linger, ..
        } = self.limits;
        let next_look_us = self.now_us() + head.min(idle).min(linger).as_micros() as u64;
        duty.next_look_us = duty.next_look_us.min(next_look_us);
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

/// A connection's place in the pool, given back when it is dropped.
pub(super) struct Place<'a> {
    pub(super) pool: &'a Pool,
    pub(super) seat: Arc<Seat>,
    pub(super) index: Option<usize>,
}

impl Place<'_> {
    /// Leaves the connection to whoever is on watch; it is closed where it cannot be.
    pub(super) fn rest(mut self) {
        let Some(index) = self.index.filter(|_| !self.pool.is_stopping()) else {
            return;
        };
        if !self.seat.is_watched() {
            let _state = self.pool.lock();
            let (watch, key) = (&self.pool.watch, self.pool.key(index));
            if self.pool.is_stopping() || self.seat.leave_to(watch, key).is_err() {
                return;
            }
        }
        self.index = None;
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let Some(index) = self.index else { return };
        self.pool.lock().remove(index, &self.seat);
        if self.pool.is_stopping() {
            self.pool.stopped.notify_all();
        }
    }
}
