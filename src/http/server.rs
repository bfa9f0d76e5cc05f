//! Listeners and the threads that serve them. Threads call accept() themselves and serve what they
//! accepted, so a short connection costs neither a new thread nor a hand-over; another thread is
//! started only when none is left waiting. Connections are bounded: past the limit the one that
//! has been idle longest gives way.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use socket2::SockRef;

use super::connection::{self, Scratch};
use super::{Caller, Service};

/// Threads that wait in accept() for each listener from the start.
const ACCEPTORS: usize = 2;
/// Threads that go back to accept() after a connection. One more is called only when none is left
/// there, so that a busy listener does not park and call a thread for every connection.
const MAX_ACCEPTORS: usize = 16;
/// How long a thread beyond those waits for work before it ends.
const PARKED: Duration = Duration::from_secs(5);
/// A connection's own work is shallow; the standard 2 MiB would only cost address space.
const STACK: usize = 256 * 1024;
/// How long accept() rests where trying again at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);
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
    activity: AtomicU64,
    dismissed: AtomicBool,
}

impl Seat {
    /// Notes what the connection does from now on, or goes on doing.
    pub(super) fn set(&self, pool: &Pool, activity: Activity) {
        if self.since(activity).is_some() {
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

    /// Since when the connection has been in that state, if it is.
    fn since(&self, activity: Activity) -> Option<u64> {
        let value = self.activity.load(Ordering::Relaxed);
        (value % 4 == activity as u64 && !self.is_dismissed()).then_some(value / 4)
    }

    fn is_dismissed(&self) -> bool {
        self.dismissed.load(Ordering::Relaxed)
    }

    /// Ends the connection from outside; its thread sees end of file.
    fn dismiss(&self) {
        self.dismissed.store(true, Ordering::Relaxed);
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

struct Listener {
    socket: TcpListener,
    service: Arc<dyn Service>,
}

#[derive(Default)]
struct State {
    /// A slab: a connection keeps its index.
    seats: Vec<Option<Arc<Seat>>>,
    free: Vec<usize>,
    /// Threads in accept(), a listener each.
    acceptors: Vec<usize>,
    /// Threads waiting to be called to a listener, and the calls not yet taken.
    parked: usize,
    calls: Vec<usize>,
    complained: Option<Instant>,
}

impl State {
    fn open(&self) -> usize {
        self.seats.len() - self.free.len()
    }

    fn connections(&self) -> impl Iterator<Item = &Arc<Seat>> {
        self.seats.iter().flatten()
    }

    /// Whether there are `limit` connections beside those that have been told to go.
    fn is_full(&self, limit: usize) -> bool {
        let staying = || self.connections().filter(|seat| !seat.is_dismissed());
        self.open() >= limit && staying().count() >= limit
    }

    fn that_are(&self, activity: Activity) -> impl Iterator<Item = (u64, &Arc<Seat>)> {
        self.connections()
            .filter_map(move |seat| Some((seat.since(activity)?, seat)))
    }

    /// The connection that gives way: the one idle longest, else what is older: the oldest
    /// unfinished head of the address that holds most of them, or the answer held back longest,
    /// whose client has most likely given up.
    fn least_deserving(&self) -> Option<&Arc<Seat>> {
        let oldest = |(since, _): &(u64, &Arc<Seat>)| *since;
        let idle = self.that_are(Activity::Idle).min_by_key(oldest);
        let head = || {
            let mut held: HashMap<IpAddr, usize> = HashMap::new();
            for (_, seat) in self.that_are(Activity::Head) {
                *held.entry(seat.caller.address).or_default() += 1;
            }
            let greediest = held.into_iter().max_by_key(|(_, count)| *count)?.0;
            self.that_are(Activity::Head)
                .filter(|(_, seat)| seat.caller.address == greediest)
                .min_by_key(oldest)
        };
        let waiting = || self.that_are(Activity::Waiting).min_by_key(oldest);
        idle.or_else(|| head().into_iter().chain(waiting()).min_by_key(oldest))
            .map(|(_, seat)| seat)
    }
}

/// The threads, listeners and connections of one server.
pub(super) struct Pool {
    pub(super) limits: Limits,
    started: Instant,
    listeners: Vec<Listener>,
    complain: Box<dyn Fn(&str) + Send + Sync>,
    state: Mutex<State>,
    stopping: AtomicBool,
    /// Signalled when work is there for a parked thread.
    called: Condvar,
    /// Signalled when the server stops and when a connection ends while it does, and when one has
    /// to give way.
    stopped: Condvar,
}

/// A running server. Dropping it does not stop it; [`Server::stop`] does.
pub struct Server {
    pool: Arc<Pool>,
}

impl Server {
    /// Serves each listener with its service. `complain` gets a line where something fails that no
    /// single client can be told of.
    pub fn start(
        listeners: Vec<(TcpListener, Arc<dyn Service>)>,
        limits: Limits,
        complain: impl Fn(&str) + Send + Sync + 'static,
    ) -> io::Result<Server> {
        let count = listeners.len();
        let pool = Arc::new(Pool {
            limits,
            started: Instant::now(),
            listeners: listeners
                .into_iter()
                .map(|(socket, service)| Listener { socket, service })
                .collect(),
            complain: Box::new(complain),
            state: Mutex::new(State {
                acceptors: vec![ACCEPTORS; count],
                ..State::default()
            }),
            stopping: AtomicBool::new(false),
            called: Condvar::new(),
            stopped: Condvar::new(),
        });
        for listener in (0..count).cycle().take(count * ACCEPTORS) {
            pool.start_thread(listener)?;
        }
        Ok(Server { pool })
    }

    /// Connections open now.
    pub fn connections(&self) -> usize {
        self.pool.lock().open()
    }

    /// Accepts no more, cuts delays short, lets requests under way be answered and closes the
    /// rest; returns when nothing is open any more, or when `limit` has passed.
    pub fn stop(&self, limit: Duration) {
        let mut state = self.pool.lock();
        self.pool.stopping.store(true, Ordering::Relaxed);
        self.pool.stopped.notify_all();
        self.pool.called.notify_all();
        for listener in &self.pool.listeners {
            // Wakes accept(). FreeBSD may call the socket not connected, and wakes it all the same.
            let _ = SockRef::from(&listener.socket).shutdown(Shutdown::Both);
        }
        let deadline = Instant::now() + limit;
        while state.open() > 0 {
            for seat in state.connections() {
                let at_rest = [Activity::Idle, Activity::Head];
                if at_rest
                    .iter()
                    .any(|&activity| seat.since(activity).is_some())
                {
                    seat.dismiss();
                }
            }
            let Some(left) = connection::remaining(deadline) else {
                return;
            };
            state = self
                .pool
                .stopped
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

impl Pool {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Waits, unless the server stops meanwhile.
    fn pause(&self, duration: Duration) {
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

    /// Ends a connection so that another can be served, if there is one to end.
    fn make_room(&self, state: &State) -> bool {
        let victim = state.least_deserving();
        if let Some(seat) = victim {
            seat.dismiss();
            self.stopped.notify_all();
        }
        victim.is_some()
    }

    fn start_thread(self: &Arc<Pool>, listener: usize) -> io::Result<()> {
        let pool = self.clone();
        thread::Builder::new()
            .name("http".into())
            .stack_size(STACK)
            .spawn(move || pool.work(listener))
            .map(drop)
    }

    fn complain(&self, what: &str, error: &io::Error) {
        let now = Instant::now();
        let mut state = self.lock();
        let recent = |at: Instant| now.duration_since(at) < COMPLAINT_PAUSE;
        if !state.complained.is_some_and(recent) {
            state.complained = Some(now);
            drop(state);
            (self.complain)(&format!("{what}: {error}"));
        }
    }

    /// A thread's whole life: accept, serve, and wait for a call when enough others accept.
    fn work(self: Arc<Pool>, mut listener: usize) {
        let mut scratch = Scratch::new();
        loop {
            let Listener { socket, service } = &self.listeners[listener];
            match socket.accept() {
                Ok((stream, peer)) => {
                    if let Some(place) = self.seat(listener, stream, peer, &**service) {
                        connection::serve(&self, &place.seat, &**service, &mut scratch);
                        match self.leave(place, listener) {
                            Some(next) => listener = next,
                            None => return,
                        }
                    }
                }
                Err(_) if self.is_stopping() => return,
                Err(e) => self.survive(&e),
            }
        }
    }

    /// accept() failed. On FreeBSD a peer that resets in the queue is enough; nothing ends the
    /// loop (freebsd conventions, section 5).
    fn survive(&self, error: &io::Error) {
        match Errno::from_raw(error.raw_os_error().unwrap_or(0)) {
            // The listener's own timeout, or a client that left.
            Errno::EAGAIN
            | Errno::EINTR
            | Errno::ECONNABORTED
            | Errno::ECONNRESET
            | Errno::EPROTO => {}
            Errno::EMFILE | Errno::ENFILE => {
                self.complain("cannot accept a connection", error);
                self.make_room(&self.lock());
                self.pause(ACCEPT_PAUSE);
            }
            _ => {
                self.complain("cannot accept a connection", error);
                self.pause(ACCEPT_PAUSE);
            }
        }
    }

    /// Gives an accepted connection its place and makes sure that another thread accepts
    /// meanwhile. `None`, with the connection closed, where it cannot be served; then this thread
    /// still counts as an acceptor.
    fn seat(
        self: &Arc<Pool>,
        listener: usize,
        stream: TcpStream,
        peer: SocketAddr,
        service: &dyn Service,
    ) -> Option<Place> {
        let address = peer.ip().to_canonical();
        let is_local = service.judges_callers()
            && stream.local_addr().is_ok_and(|local| {
                let local = local.ip().to_canonical();
                local == address || local.is_loopback() && address.is_loopback()
            });
        let caller = Caller { address, is_local };
        if !service.admits(caller) {
            return None;
        }
        let seat = Arc::new(Seat {
            stream,
            caller,
            activity: AtomicU64::new(0),
            dismissed: AtomicBool::new(false),
        });
        // Its request is most likely on the way: it is not the one idle longest.
        seat.set(self, Activity::Head);

        let mut state = self.lock();
        if state.is_full(self.limits.connections) && !self.make_room(&state) {
            // Every one is being answered: this one has to try again.
            return None;
        }
        state.acceptors[listener] -= 1;
        let nobody_accepts = state.acceptors[listener] == 0;
        let called = nobody_accepts && state.parked > state.calls.len();
        if called {
            state.calls.push(listener);
            self.called.notify_one();
        }
        if nobody_accepts {
            state.acceptors[listener] += 1;
        }
        let index = state.free.pop().unwrap_or_else(|| {
            state.seats.push(None);
            state.seats.len() - 1
        });
        state.seats[index] = Some(seat.clone());
        drop(state);
        let place = Place {
            pool: self.clone(),
            seat,
            index: Some(index),
        };
        if nobody_accepts
            && !called
            && let Err(e) = self.start_thread(listener)
        {
            // This thread has to accept in place of the one that could not be made.
            self.complain("cannot start a thread for a connection", &e);
            return None;
        }
        Some(place)
    }

    /// Closes a connection and gives its place back. Returns where this thread accepts next: at its
    /// own listener if few do, else where it is called within a while. `None` ends the thread.
    fn leave(&self, mut place: Place, own: usize) -> Option<usize> {
        let mut state = self.lock();
        place.give_back(&mut state);
        if self.is_stopping() {
            return None;
        }
        if state.acceptors[own] < MAX_ACCEPTORS {
            state.acceptors[own] += 1;
            return Some(own);
        }
        drop(state);
        drop(place);
        let mut state = self.lock();
        state.parked += 1;
        let mut state = self
            .called
            .wait_timeout_while(state, PARKED, |state| {
                state.calls.is_empty() && !self.is_stopping()
            })
            .unwrap_or_else(PoisonError::into_inner)
            .0;
        state.parked -= 1;
        state.calls.pop().filter(|_| !self.is_stopping())
    }
}

/// A connection's place in the pool, given back when it is dropped at the latest.
struct Place {
    pool: Arc<Pool>,
    seat: Arc<Seat>,
    index: Option<usize>,
}

impl Place {
    fn give_back(&mut self, state: &mut State) {
        let Some(index) = self.index.take() else {
            return;
        };
        state.seats[index] = None;
        state.free.push(index);
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
