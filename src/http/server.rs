//! Listeners and the threads that serve them. One thread is on watch: it waits for all sockets
//! together, accepts, reads what has arrived and answers it, so that a request costs neither a thread
//! nor a hand-over. Before it has to wait for one client, or for time to pass, it hands over the watch
//! and goes on with that client alone. Connections are bounded: past the limit the one that has been
//! idle longest gives way.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use socket2::SockRef;

use super::connection::{self, Scratch, Then};
use super::pool::{Duty, Limits, Listener, Pool, STACK, Seat, State};
use super::watch::Watch;
use super::{Caller, Service, remaining};

/// Threads that stay to take over the watch, beside the one that has it.
const SPARE: usize = 1;
/// How long a thread beyond those waits for the watch before it ends.
const PARKED: Duration = Duration::from_secs(5);
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
        let watch = Watch::new()?;
        for (key, (socket, _)) in listeners.iter().enumerate() {
            socket.set_nonblocking(true)?;
            watch.add(socket, key)?;
        }
        let alarm: [UnixStream; 2] = UnixStream::pair()?.into();
        watch.add(&alarm[1], listeners.len())?;
        let pool = Arc::new(Pool {
            limits,
            started: Instant::now(),
            listeners: listeners
                .into_iter()
                .map(|(socket, service)| Listener { socket, service })
                .collect(),
            complain: Box::new(complain),
            state: Mutex::new(State::new()),
            stopping: AtomicBool::new(false),
            watch,
            alarm,
            called: Condvar::new(),
            stopped: Condvar::new(),
        });
        for _ in 0..=SPARE {
            pool.start_thread()?;
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
        let _ = self.pool.alarm[0].shutdown(Shutdown::Both);
        self.pool.stopped.notify_all();
        self.pool.called.notify_all();
        for listener in &self.pool.listeners {
            // Newcomers are refused at once. FreeBSD calls the socket not connected.
            let _ = SockRef::from(&listener.socket).shutdown(Shutdown::Both);
        }
        let deadline = Instant::now() + limit;
        while state.open() > 0 {
            state.dismiss_those_at_rest();
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
    fn start_thread(self: &Arc<Pool>) -> io::Result<()> {
        let mut state = self.lock();
        if state.threads >= self.limits.threads {
            return Err(io::Error::other("there are as many as there may be"));
        }
        let pool = self.clone();
        thread::Builder::new()
            .name("http".into())
            .stack_size(STACK)
            .spawn(move || work(&pool))?;
        state.threads += 1;
        Ok(())
    }

    /// accept() failed. On FreeBSD a peer that resets in the queue is enough; nothing ends the
    /// loop (freebsd conventions, section 5).
    fn survive(&self, error: &io::Error) {
        match Errno::from_raw(error.raw_os_error().unwrap_or(0)) {
            // A client that left.
            Errno::EINTR | Errno::ECONNABORTED | Errno::ECONNRESET | Errno::EPROTO => return,
            Errno::EMFILE | Errno::ENFILE => {
                self.complain("cannot accept a connection", error);
                // Not those that were accepted a moment ago: then descriptors are there again.
                let now_us = self.now_us();
                let is_old = |seat: &Seat| {
                    let since = seat.activity().map_or(now_us, |(_, since)| since);
                    u128::from(now_us.saturating_sub(since)) >= OLD.as_micros()
                };
                if self.make_room(&mut self.lock(), is_old) {
                    return;
                }
            }
            _ => self.complain("cannot accept a connection", error),
        }
        self.pause(ACCEPT_PAUSE);
    }
}

/// A thread's whole life.
fn work(pool: &Arc<Pool>) {
    let mut scratch = Scratch::new();
    let mut watcher = Watcher { pool, duty: None };
    while watcher.take_over() {
        while let Some(key) = watcher.next() {
            watcher.look_after(key, &mut scratch);
        }
    }
}

/// A thread of the server, on watch or not.
pub(super) struct Watcher<'a> {
    pub(super) pool: &'a Arc<Pool>,
    /// There while this thread is on watch.
    duty: Option<Duty>,
}

impl Drop for Watcher<'_> {
    fn drop(&mut self) {
        // Only a panic ends a thread on watch; it must not leave the server deaf.
        if self.duty.is_some() && self.release().is_err() {
            self.pool.lock().duty = self.duty.take();
        }
        self.pool.lock().threads -= 1;
    }
}

impl Watcher<'_> {
    /// Waits until the watch is to be had. `false` ends the thread: there are enough others, or the
    /// server stops.
    fn take_over(&mut self) -> bool {
        let pool = self.pool;
        let mut state = pool.lock();
        state.parked += 1;
        let mut is_needed = true;
        while is_needed && state.duty.is_none() && !pool.is_stopping() {
            let (back, waited) = pool
                .called
                .wait_timeout(state, PARKED)
                .unwrap_or_else(PoisonError::into_inner);
            state = back;
            is_needed = !waited.timed_out() || state.parked <= SPARE;
        }
        state.parked -= 1;
        self.duty = state.duty.take().filter(|_| !pool.is_stopping());
        self.duty.is_some()
    }

    /// Waits for a socket to be ready. `None` when this thread is no longer on watch, or the server
    /// stops.
    fn next(&mut self) -> Option<usize> {
        let pool = self.pool;
        let duty = self.duty.as_mut()?;
        while !pool.is_stopping() {
            if let Some(key) = duty.ready.pop_front() {
                return Some(key);
            }
            let now_us = pool.now_us();
            if duty.next_look_us <= now_us {
                pool.look_for_overdue(duty);
                continue;
            }
            let limit = Duration::from_micros(duty.next_look_us - now_us);
            if let Err(e) = pool.watch.wait(limit, &mut duty.ready) {
                pool.complain("cannot wait for connections", &e);
                pool.pause(ACCEPT_PAUSE);
            }
        }
        self.duty = None;
        pool.lock().dismiss_those_at_rest();
        pool.stopped.notify_all();
        None
    }

    /// Does what a ready socket is for.
    fn look_after(&mut self, key: usize, scratch: &mut Scratch) {
        let pool = self.pool;
        if key < pool.listeners.len() {
            return self.accept(key);
        }
        let Some(place) = pool.place(key) else { return };
        let service = &*pool.listeners[place.seat.listener].service;
        if let Then::Rest = connection::serve(self, &place.seat, service, scratch) {
            place.rest();
        }
    }

    /// Accepts connections, as many as others are ready, so that neither wait for all of the other.
    fn accept(&mut self, listener: usize) {
        let pool = self.pool;
        let Some(duty) = &mut self.duty else { return };
        pool.look_soon(duty);
        let Listener { socket, service } = &pool.listeners[listener];
        for _ in 0..=duty.ready.len() {
            match socket.accept() {
                Ok((stream, peer)) => {
                    let caller = caller(&stream, peer, &**service);
                    if service.admits(caller) {
                        pool.admit(Seat::new(stream, caller, listener, pool));
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) if pool.is_stopping() => return,
                Err(e) => return pool.survive(&e),
            }
        }
    }

    /// To be called before this thread waits for the client, or for time to pass: another one goes
    /// on watch. An error where there is none and none can be had; then this one must not wait.
    pub(super) fn hand_over(&mut self, seat: &Seat) -> io::Result<()> {
        if self.duty.is_none() {
            return Ok(());
        }
        let pool = self.pool;
        seat.take_along(pool)?;
        self.release().inspect_err(|e| {
            pool.complain("cannot start a thread for a connection", e);
            // Its thread will be there for the next.
            pool.make_room(&mut pool.lock(), |seat| !seat.is_watched());
        })
    }

    fn release(&mut self) -> io::Result<()> {
        let pool = self.pool;
        if pool.lock().parked == 0 {
            pool.start_thread()?;
        }
        pool.lock().duty = self.duty.take();
        pool.called.notify_one();
        Ok(())
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
