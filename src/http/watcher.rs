//! A thread of the server: how it takes over the watch, what it does with it, and how it hands it on.

use std::io;
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::Duration;

use super::pool::{Duty, Place, Pool, STACK};
use super::seat::Seat;

/// Threads that stay to take over the watch, beside the one that has it.
pub(super) const SPARE: usize = 1;
/// More threads than these do not wait: where the watch changes hands now and then, each of hundreds
/// would be woken in turn and none ever end.
const MAX_PARKED: usize = 32;
/// How long a thread beyond those waits for the watch before it ends.
const PARKED: Duration = Duration::from_secs(5);
/// How long the watch rests where trying again at once would spin.
const PAUSE: Duration = Duration::from_millis(10);

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
        if self.pool.is_stopping() {
            self.pool.stopped.notify_all();
        }
    }
}

impl<'a> Watcher<'a> {
    pub(super) fn new(pool: &'a Arc<Pool>) -> Watcher<'a> {
        Watcher { pool, duty: None }
    }

    /// Waits until the watch is to be had. `false` ends the thread: there are enough others, or the
    /// server has stopped.
    pub(super) fn take_over(&mut self) -> bool {
        let pool = self.pool;
        let mut state = pool.lock();
        let mut is_needed = state.parked < MAX_PARKED;
        state.parked += 1;
        while is_needed && state.duty.is_none() && !pool.is_stopping() {
            let (back, waited) = pool
                .called
                .wait_timeout(state, PARKED)
                .unwrap_or_else(PoisonError::into_inner);
            state = back;
            is_needed = !waited.timed_out() || state.parked <= SPARE;
        }
        state.parked -= 1;
        if !state.is_finished {
            self.duty = state.duty.take();
        }
        self.duty.is_some()
    }

    /// Waits for a socket to be ready. `None` when this thread is no longer on watch, or the server
    /// stops; then what is ready has still to be looked after.
    pub(super) fn next(&mut self) -> Option<usize> {
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
                pool.pause(PAUSE);
            }
        }
        None
    }

    /// A connection that is ready, without waiting for one.
    pub(super) fn last(&mut self) -> Option<Place<'a>> {
        let pool = self.pool;
        let duty = self.duty.as_mut()?;
        loop {
            while let Some(key) = duty.ready.pop_front() {
                if let Some(place) = pool.place(key) {
                    return Some(place);
                }
            }
            pool.watch.wait(Duration::ZERO, &mut duty.ready).ok()?;
            duty.ready.retain(|&key| pool.is_place(key));
            if duty.ready.is_empty() {
                return None;
            }
        }
    }

    /// Leaves the watch to nobody: what had arrived when the server stopped is answered.
    pub(super) fn finish(&mut self) {
        if let Some(duty) = self.duty.take() {
            let mut state = self.pool.lock();
            state.duty = Some(duty);
            state.is_finished = true;
            self.pool.stopped.notify_all();
        }
    }

    /// Whether everybody waits for this thread.
    pub(super) fn is_on_watch(&self) -> bool {
        self.duty.is_some()
    }

    /// How many sockets beside the present one are ready.
    pub(super) fn others(&self) -> usize {
        self.duty.as_ref().map_or(0, |duty| duty.ready.len())
    }

    /// To be called when a connection is accepted: it may soon have waited for too long.
    pub(super) fn look_soon(&mut self) {
        if let Some(duty) = &mut self.duty {
            self.pool.look_soon(duty);
        }
    }

    /// To be called before this thread waits for the client, or for time to pass: another one goes
    /// on watch. An error where there is none and none can be had; then this one must not wait.
    pub(super) fn hand_over(&mut self, seat: &Seat) -> io::Result<()> {
        if self.duty.is_none() {
            return Ok(());
        }
        let pool = self.pool;
        seat.take_from(&pool.watch)?;
        self.release().inspect_err(|e| {
            pool.complain("cannot start a thread for a connection", e);
            // Another one's thread will be there for the next.
            let is_other = |other: &Seat| !std::ptr::eq(other, seat);
            pool.make_room(&mut pool.lock(), |other| {
                !other.is_watched() && is_other(other)
            });
        })
    }

    fn release(&mut self) -> io::Result<()> {
        let pool = self.pool;
        if pool.lock().parked == 0 {
            pool.start_thread()?;
        }
        pool.lock().duty = self.duty.take();
        pool.called.notify_one();
        if pool.is_stopping() {
            pool.stopped.notify_all();
        }
        Ok(())
    }
}

impl Pool {
    /// Starts another thread, if there may be one.
    pub(super) fn start_thread(self: &Arc<Pool>) -> io::Result<()> {
        let mut state = self.lock();
        if state.threads >= self.limits.threads {
            return Err(io::Error::other("there are as many as there may be"));
        }
        let pool = self.clone();
        thread::Builder::new()
            .name("http".into())
            .stack_size(STACK)
            .spawn(move || (pool.work)(&pool))?;
        state.threads += 1;
        Ok(())
    }
}
