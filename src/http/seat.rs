//! One connection: what it is doing, what it waits for and who has it. Times are microseconds since the
//! server started.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Caller;
use super::head::Scan;
use super::watch::Watch;

/// What a connection is doing; decides who gives way when there are too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Activity {
    Idle = 0,
    /// A request is on its way: a connection's first one from the start, others from their first
    /// byte.
    Head = 1,
    Busy = 2,
    /// The answer is held back, as it was wanted late or slow, or its client does not take it.
    Waiting = 3,
}

/// What a connection at rest waits for.
#[derive(Default)]
pub(super) enum Awaited {
    #[default]
    Request,
    /// The rest of a head.
    Head { begun: Vec<u8>, scan: Scan },
    /// The client's end: all that comes before it is dropped.
    End { dropped: usize },
}

/// One open connection.
pub(super) struct Seat {
    pub(super) stream: TcpStream,
    pub(super) caller: Caller,
    /// Where it was accepted.
    pub(super) listener: usize,
    /// Since when, times four, plus the [`Activity`].
    activity: AtomicU64,
    /// For the thread that serves it alone.
    awaited: Mutex<Awaited>,
    /// Until when it may wait for that.
    due_us: AtomicU64,
    dismissed: AtomicBool,
    /// Whoever is on watch serves it when something arrives. Otherwise a thread has taken it along
    /// when it handed over the watch.
    watched: AtomicBool,
}

impl Seat {
    /// A connection just accepted, which may be idle for that long. Its request is most likely on the
    /// way: it is not the one idle longest.
    pub(super) fn new(
        stream: TcpStream,
        caller: Caller,
        listener: usize,
        now_us: u64,
        idle: Duration,
    ) -> Seat {
        let seat = Seat {
            stream,
            caller,
            listener,
            activity: AtomicU64::new(0),
            awaited: Mutex::default(),
            due_us: AtomicU64::new(0),
            dismissed: AtomicBool::new(false),
            watched: AtomicBool::new(false),
        };
        seat.expect(Awaited::Request, Activity::Head, now_us, idle);
        seat
    }

    /// Notes what the connection waits for from now on, and for how long it may do so.
    pub(super) fn expect(&self, what: Awaited, activity: Activity, now_us: u64, limit: Duration) {
        *self.awaited() = what;
        let due_us = now_us + limit.as_micros() as u64;
        self.due_us.store(due_us, Ordering::Relaxed);
        self.set(activity, now_us);
    }

    /// What the connection waits for.
    pub(super) fn awaited(&self) -> MutexGuard<'_, Awaited> {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until when it may wait for that.
    pub(super) fn due_us(&self) -> u64 {
        self.due_us.load(Ordering::Relaxed)
    }

    /// Notes what the connection does from now on, or goes on doing.
    pub(super) fn set(&self, activity: Activity, now_us: u64) {
        if !(self.activity()).is_some_and(|(present, _)| present == activity) {
            self.activity
                .store(now_us * 4 + activity as u64, Ordering::Relaxed);
        }
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

    /// Whether it rests: whoever is on watch serves it when something arrives.
    pub(super) fn is_watched(&self) -> bool {
        self.watched.load(Ordering::Relaxed)
    }

    /// Has the connection watched under `key`, by whoever is on watch.
    pub(super) fn leave_to(&self, watch: &Watch, key: usize) -> io::Result<()> {
        watch.add(&self.stream, key)?;
        self.watched.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Takes the connection along: whoever is on watch next shall not serve it too.
    pub(super) fn take_from(&self, watch: &Watch) -> io::Result<()> {
        self.watched.store(false, Ordering::Relaxed);
        watch.remove(&self.stream)
    }

    /// Whether it has been told to go.
    pub(super) fn is_dismissed(&self) -> bool {
        self.dismissed.load(Ordering::Relaxed)
    }

    /// Tells it to go: its thread sees end of file. `false` if it has been told before.
    pub(super) fn dismiss(&self) -> bool {
        let is_news = !self.dismissed.swap(true, Ordering::Relaxed);
        if is_news {
            let _ = self.stream.shutdown(Shutdown::Both);
        }
        is_news
    }
}
