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
use std::time::{Duration, Instant};

use nix::errno::Errno;
use socket2::SockRef;

use super::connection::{self, Scratch, Then};
use super::listen::BACKLOG;
use super::pool::{Duty, Limits, Listener, Place, Pool};
use super::seat::Seat;
use super::watch::Watch;
use super::watcher::{SPARE, Watcher};
use super::{Caller, Service, remaining};

/// What a connection must have been idle, or unfinished, to give its descriptor to another.
const OLD: Duration = Duration::from_millis(100);
/// How long accept() rests where trying again at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// A server, serving or about to. Dropping it does not stop it; [`Server::stop`] does.
pub struct Server {
    pool: Arc<Pool>,
}

impl Server {
    /// A server that will serve each listener with its service: all that can fail is done. `complain`
    /// gets a line where something fails that no single client can be told of.
    pub fn prepare(
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
            work,
            complain: Box::new(complain),
            state: Mutex::default(),
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

    /// From now on it serves.
    pub fn serve(&self) {
        self.pool.lock().duty = Some(Duty::default());
        self.pool.called.notify_one();
    }

    /// Connections open now.
    pub fn connections(&self) -> usize {
        self.pool.lock().open()
    }

    /// Cuts delays short, has what has arrived until now answered, accepts no more and closes the rest;
    /// returns when nothing is open any more, or when `limit` has passed.
    pub fn stop(&self, limit: Duration) {
        let mut state = self.pool.lock();
        self.pool.stopping.store(true, Ordering::Relaxed);
        let _ = self.pool.alarm[0].shutdown(Shutdown::Both);
        self.pool.stopped.notify_all();
        self.pool.called.notify_all();
        let deadline = Instant::now() + limit;
        loop {
            state.dismiss_those_at_rest();
            let is_over = state.open() == 0 && (state.is_finished || state.threads == 0);
            let left = remaining(deadline).filter(|_| !is_over);
            let Some(left) = left else { return };
            state = self
                .pool
                .stopped
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

/// A thread's whole life.
fn work(pool: &Arc<Pool>) {
    let mut scratch = Scratch::new();
    let mut watcher = Watcher::new(pool);
    while watcher.take_over() {
        while let Some(key) = watcher.next() {
            match key < pool.listeners.len() {
                true => {
                    // As many as others are ready, so that neither wait for all of the other.
                    let count = 1 + watcher.others();
                    accept(&mut watcher, key, count);
                }
                false => {
                    if let Some(place) = pool.place(key) {
                        serve(&mut watcher, place, &mut scratch);
                    }
                }
            }
        }
        finish(&mut watcher, &mut scratch);
    }
}

/// Serves the connection that is ready.
fn serve(watcher: &mut Watcher, place: Place, scratch: &mut Scratch) {
    let service = &*watcher.pool.listeners[place.seat.listener].service;
    if let Then::Rest = connection::serve(watcher, &place.seat, service, scratch) {
        place.rest();
    }
}

/// If this thread is still on watch, the server stops: answers what has arrived. Newcomers are refused
/// from then on.
fn finish(watcher: &mut Watcher, scratch: &mut Scratch) {
    if !watcher.is_on_watch() {
        return;
    }
    for (key, Listener { socket, .. }) in watcher.pool.listeners.iter().enumerate() {
        accept(watcher, key, BACKLOG as usize);
        // FreeBSD calls the socket not connected.
        let _ = SockRef::from(socket).shutdown(Shutdown::Both);
    }
    while let Some(place) = watcher.last() {
        serve(watcher, place, scratch);
    }
    watcher.finish();
}

/// Accepts connections, at most that many.
fn accept(watcher: &mut Watcher, listener: usize, count: usize) {
    let pool = watcher.pool;
    let Listener { socket, service } = &pool.listeners[listener];
    watcher.look_soon();
    for _ in 0..count {
        match socket.accept() {
            Ok((stream, peer)) => {
                let caller = caller(&stream, peer, &**service);
                if service.admits(caller) {
                    let idle = pool.limits.idle;
                    pool.admit(Seat::new(stream, caller, listener, pool.now_us(), idle));
                }
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
            Err(_) if pool.is_stopping() => return,
            Err(e) => return survive(pool, &e),
        }
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

/// accept() failed. On FreeBSD a peer that resets in the queue is enough; nothing ends the
/// loop (freebsd conventions, section 5).
fn survive(pool: &Pool, error: &io::Error) {
    match Errno::from_raw(error.raw_os_error().unwrap_or(0)) {
        // A client that left.
        Errno::EINTR | Errno::ECONNABORTED | Errno::ECONNRESET | Errno::EPROTO => return,
        Errno::EMFILE | Errno::ENFILE => {
            pool.complain("cannot accept a connection", error);
            // Not those that were accepted a moment ago: then descriptors are there again.
            let now_us = pool.now_us();
            let is_old = |seat: &Seat| {
                let since = seat.activity().map_or(now_us, |(_, since)| since);
                u128::from(now_us.saturating_sub(since)) >= OLD.as_micros()
            };
            let mut state = pool.lock();
            // One at a time: who has been told to go gives its descriptor back in a moment.
            let is_room = !state.is_anyone_leaving()
                && pool.make_room(&mut state, is_old)
                && !state.is_anyone_leaving();
            if is_room {
                return;
            }
        }
        _ => pool.complain("cannot accept a connection", error),
    }
    pool.pause(ACCEPT_PAUSE);
}
