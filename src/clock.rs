//! The instance's clock: tokens, events and the dates in documents and headers follow it.
//! Real time (sockets, STS, the life of STS credentials) does not pass through here.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use time::SignedDuration;

use crate::date::Date;

/// A second of [`Clock::monotonic_us`].
pub const SECOND_US: i64 = 1_000_000;

/// The times it can be moved to: 1970 to 9999, in milliseconds since 1970.
const SHOWABLE_MS: std::ops::Range<i64> = 0..253_402_300_800_000;

/// A clock that can be moved against real time.
#[derive(Debug)]
pub struct Clock {
    started: Instant,
    offset_ms: AtomicI64,
}

impl Default for Clock {
    fn default() -> Clock {
        Clock {
            started: Instant::now(),
            offset_ms: AtomicI64::new(0),
        }
    }
}

impl Clock {
    /// Milliseconds since 1970 as the instance sees them: for what is shown.
    pub fn unix_ms(&self) -> i64 {
        self.now().unix_ms()
    }

    /// The instance's date, for what is shown. In its last year it stops.
    pub fn now(&self) -> Date {
        Date::now() + SignedDuration::milliseconds(self.offset_ms())
    }

    /// Microseconds of a monotonic clock moved with this one: for what is measured, such as the
    /// life of a token, which in milliseconds would end up to one of them early. Only differences
    /// mean anything.
    pub fn monotonic_us(&self) -> i64 {
        let elapsed_us = i64::try_from(self.started.elapsed().as_micros()).unwrap_or(i64::MAX);
        elapsed_us.saturating_add(self.offset_ms() * 1000)
    }

    /// How far it is ahead of real time, in milliseconds.
    pub fn offset_ms(&self) -> i64 {
        self.offset_ms.load(Ordering::Relaxed)
    }

    /// Moves it by that many milliseconds. Returns false, unmoved, if that leads out of
    /// [`SHOWABLE_MS`].
    pub fn advance(&self, ms: i64) -> bool {
        let showable = self.unix_ms().checked_add(ms);
        let legal = showable.is_some_and(|ms| SHOWABLE_MS.contains(&ms));
        if legal {
            self.offset_ms.fetch_add(ms, Ordering::Relaxed);
        }
        legal
    }

    /// Moves it to that time. Returns false, unmoved, if that is out of [`SHOWABLE_MS`].
    pub fn set(&self, at: Date) -> bool {
        self.advance(at.unix_ms() - self.unix_ms())
    }

    /// Makes it tell real time again.
    pub fn reset(&self) -> bool {
        self.offset_ms.store(0, Ordering::Relaxed);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn no_more_is_measured_than_has_passed() {
        let clock = Clock::default();
        for _ in 0..100 {
            let real = Instant::now();
            let start = clock.monotonic_us();
            while clock.monotonic_us() == start {}
            let measured = Duration::from_micros((clock.monotonic_us() - start) as u64);
            assert!(measured <= real.elapsed() + Duration::from_micros(1));
        }
    }
}
