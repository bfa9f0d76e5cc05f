//! Listeners and the threads that serve them. Threads call accept() themselves and serve what they
//! accepted, so a short connection costs neither a new thread nor a hand-over; another thread is
//! started only when none is left waiting. Connections are bounded: past the limit the one that
//! has been idle longest gives way.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use socket2::SockRef;

use super::connection::{self, Scratch};
use super::pool::{Activity, Limits, Listener, Place, Pool, Seat, State};
use super::{Caller, Service, remaining};

/// Threads that wait in accept() for each listener: they are there from the start, and threads beyond
/// them leave, so that a flood leaves nothing behind.
const ACCEPTORS: usize = 8;
/// With fewer of them left another thread is called. On a busy machine each one has to wait for its
/// turn before it can accept: were there one at a time, connections in the queue would wait for all
/// those turns together.
const MIN_ACCEPTORS: usize = 4;
/// How long a thread beyond those waits for work before it ends.
const PARKED: Duration = Duration::from_secs(5);
/// A connection's own work is shallow; the standard 2 MiB would only cost address space.
const STACK: usize = 256 * 1024;
/// What a connection must have been idle, or unfinished, to give its descriptor to another.
const OLD: Duration = Duration::from_millis(100);
/// How long accept() rests where trying again at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

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
            state: Mutex::new(State::new(count, ACCEPTORS)),
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
            let is_at_rest = |seat: &&Arc<Seat>| {
                matches!(seat.activity(), Some((Activity::Idle | Activity::Head, _)))
            };
            let at_rest: Vec<_> = state.connections().filter(is_at_rest).cloned().collect();
            at_rest.iter().for_each(|seat| state.dismiss(seat));
            let Some(left) = remaining(deadline) else {
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
    fn start_thread(self: &Arc<Pool>, listener: usize) -> io::Result<()> {
        let pool = self.clone();
        thread::Builder::new()
            .name("http".into())
            .stack_size(STACK)
            .spawn(move || pool.work(listener))
            .map(drop)
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
                // Not those that were accepted a moment ago: then descriptors are there again.
                self.make_room(&mut self.lock(), OLD);
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
        if state.is_full(self.limits.connections) && !self.make_room(&mut state, Duration::ZERO) {
            // Every one is being answered: this one has to try again.
            return None;
        }
        let index = state.add(seat.clone());
        state.acceptors[listener] -= 1;
        let is_missed = state.acceptors[listener] < MIN_ACCEPTORS;
        let is_called = is_missed && state.parked > state.calls.len();
        if is_missed {
            state.acceptors[listener] += 1;
        }
        if is_called {
            state.calls.push(listener);
            self.called.notify_one();
        }
        drop(state);
        let place = Place {
            pool: self.clone(),
            seat,
            index: Some(index),
        };
        if is_missed
            && !is_called
            && let Err(e) = self.start_thread(listener)
        {
            self.complain("cannot start a thread for a connection", &e);
            let mut state = self.lock();
            if state.acceptors[listener] > 1 {
                state.acceptors[listener] -= 1;
            } else if self.make_room(&mut state, Duration::ZERO) {
                // The thread that has become free accepts.
                state.calls.push(listener);
            } else {
                return None;
            }
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
        if state.calls.len() > state.parked {
            return state.calls.pop();
        }
        if state.acceptors[own] < ACCEPTORS {
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
