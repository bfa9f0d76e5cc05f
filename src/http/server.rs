//! A server's threads, in the Leader/Followers form: one leads, that is, it serves all connections;
//! the others wait to follow it. Who leads hands the lead over only before it answers a request that
//! may block, and stands in line again behind it. The lead is a lock.

use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::conn::{Next, Scratch};
use super::leader::{Client, Leader, Listener, Shared};
use super::limits::{Limits, STACK};
use super::poller::Poller;
use super::service::Service;
use super::stream::Interest;

/// Threads that stay in line behind the leader.
const SPARE: usize = 1;

/// A server, serving or about to. Dropping it does not stop it; [`Server::stop`] does.
pub struct Server {
    pool: Arc<Pool>,
}

/// What its threads do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Course {
    Prepared,
    Serving,
    Over,
}

struct Pool {
    shared: Shared,
    leader: Mutex<Leader>,
    /// Threads that wait for the lead.
    followers: AtomicUsize,
    threads: AtomicUsize,
    course: Mutex<Course>,
    /// Signalled when the course changes.
    changed: Condvar,
}

impl Server {
    /// A server that will serve each listener with its service: all that can fail is done. `complain`
    /// gets a line where something fails that no single client can be told of.
    pub fn prepare(
        listeners: Vec<(TcpListener, Arc<dyn Service>)>,
        limits: Limits,
        complain: impl Fn(&str) + Send + Sync + 'static,
    ) -> io::Result<Server> {
        let poller = Poller::new()?;
        for (key, (socket, _)) in listeners.iter().enumerate() {
            socket.set_nonblocking(true)?;
            poller.add(socket, key, Interest::Read)?;
        }
        let wake: [UnixStream; 2] = UnixStream::pair()?.into();
        for end in &wake {
            end.set_nonblocking(true)?;
        }
        poller.add(&wake[1], listeners.len(), Interest::Read)?;
        let listeners = listeners.into_iter();
        let pool = Arc::new(Pool {
            shared: Shared {
                limits,
                listeners: listeners
                    .map(|(socket, service)| Listener { socket, service })
                    .collect(),
                poller,
                returned: Mutex::default(),
                wake,
                is_stopping: AtomicBool::new(false),
                open: AtomicUsize::new(0),
                complain: Box::new(complain),
                complained: Mutex::default(),
            },
            leader: Mutex::new(Leader::new()),
            followers: AtomicUsize::new(0),
            threads: AtomicUsize::new(0),
            course: Mutex::new(Course::Prepared),
            changed: Condvar::new(),
        });
        for _ in 0..=SPARE {
            pool.start_thread()?;
        }
        Ok(Server { pool })
    }

    /// From now on it serves.
    pub fn serve(&self) {
        self.pool.set_course(Course::Serving);
    }

    /// Connections open now.
    pub fn connections(&self) -> usize {
        self.pool.shared.open.load(Ordering::Relaxed)
    }

    /// Cuts delays short, has what has arrived until now answered, accepts no more and closes the rest;
    /// returns when nothing is open any more, or when `limit` has passed.
    pub fn stop(&self, limit: Duration) {
        let Pool {
            shared, changed, ..
        } = &*self.pool;
        shared.is_stopping.store(true, Ordering::Relaxed);
        shared.wake();
        let mut course = self.pool.course();
        if *course == Course::Prepared {
            *course = Course::Serving;
            changed.notify_all();
        }
        let _ = changed.wait_timeout_while(course, limit, |course| *course != Course::Over);
    }
}

impl Pool {
    fn course(&self) -> MutexGuard<'_, Course> {
        self.course.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_course(&self, course: Course) {
        *self.course() = course;
        self.changed.notify_all();
    }

    /// Starts another thread, if there may be one.
    fn start_thread(self: &Arc<Pool>) -> io::Result<()> {
        if self.threads.load(Ordering::Relaxed) >= self.shared.limits.threads {
            return Err(io::Error::other("there are as many as there may be"));
        }
        let thread = Thread(self.clone());
        thread::Builder::new()
            .name("http".into())
            .stack_size(STACK)
            .spawn(move || thread.work())?;
        self.threads.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Waits for the lead.
    fn follow(&self) -> MutexGuard<'_, Leader> {
        self.followers.fetch_add(1, Ordering::Relaxed);
        let leader = self.leader.lock().unwrap_or_else(PoisonError::into_inner);
        self.followers.fetch_sub(1, Ordering::Relaxed);
        leader
    }
}

/// A thread of a server.
struct Thread(Arc<Pool>);

impl Drop for Thread {
    fn drop(&mut self) {
        self.0.threads.fetch_sub(1, Ordering::Relaxed);
        // Only a panic ends a leader; it must not leave the server deaf.
        if thread::panicking() && self.0.followers.load(Ordering::Relaxed) == 0 {
            let _ = self.0.start_thread();
        }
    }
}

impl Thread {
    /// A thread's whole life.
    fn work(self) {
        let pool = &self.0;
        let course = pool.course();
        let prepared = |course: &mut Course| *course == Course::Prepared;
        drop(pool.changed.wait_while(course, prepared));
        let mut leader = pool.follow();
        // Not before: a thread that only waits takes no memory.
        let mut scratch = Scratch::new();
        while let Some(index) = leader.lead(&pool.shared, &mut scratch) {
            let follower = match pool.followers.load(Ordering::Relaxed) {
                0 => pool.start_thread(),
                _ => Ok(()),
            };
            if let Err(e) = follower {
                let what = "cannot start a thread for a request";
                pool.shared.complain(what, &e);
                leader.refuse(index, 503, &pool.shared, &mut scratch);
                continue;
            }
            let client = leader.lend(index, &pool.shared);
            drop(leader);
            let lent = Lent {
                pool,
                index,
                client,
            };
            lent.serve(&mut scratch);
            if pool.followers.load(Ordering::Relaxed) >= SPARE {
                return;
            }
            leader = pool.follow();
        }
        drop(leader);
        pool.set_course(Course::Over);
    }
}

/// A connection on a thread that nobody waits for. It is given back when this is dropped.
struct Lent<'a> {
    pool: &'a Pool,
    index: usize,
    client: Option<Client>,
}

impl Lent<'_> {
    fn serve(mut self, scratch: &mut Scratch) {
        if let Some(client) = &mut self.client
            && client.serve(false, 1, true, &self.pool.shared, scratch) == Next::Close
        {
            self.client = None;
        }
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let shared = &self.pool.shared;
        let mut returned = shared
            .returned
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        returned.push((self.index, self.client.take()));
        drop(returned);
        shared.wake();
    }
}
