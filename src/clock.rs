//! The instance's clock: tokens, events and the dates in documents and headers follow it.
//! Real time (sockets, STS, the life of STS credentials) does not pass through here.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

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
        let real = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or(Duration::ZERO);
        real.as_millis() as i64 + self.offset_ms()
    }

    /// The instance's time of day, UTC, for what is shown.
    pub fn now(&self) -> OffsetDateTime {
        from_unix_ms(self.unix_ms())
    }

    /// Microseconds of a monotonic clock moved with this one: for what is measured, such as the
    /// life of a token, which in milliseconds would end up to one of them early. Only differences
    /// mean anything.
    pub fn monotonic_us(&self) -> i64 {
        self.started.elapsed().as_micros() as i64 + self.offset_ms() * 1000
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
    pub fn set(&self, at: OffsetDateTime) -> bool {
        let ms = (at.unix_timestamp_nanos() / 1_000_000) as i64;
        self.advance(ms - self.unix_ms())
    }

    /// Makes it tell real time again.
    pub fn reset(&self) -> bool {
        self.offset_ms.store(0, Ordering::Relaxed);
        true
    }
}

/// The date `ms` milliseconds after 1970, kept within the years that can be written (1..=9999). It
/// is as exact as `ms`; what is shown of it are whole seconds, the rest cut.
pub fn from_unix_ms(ms: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

const ISO: &[BorrowedFormatItem] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
const HTTP: &[BorrowedFormatItem] = format_description!(
    "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
);

/// `YYYY-MM-DDTHH:MM:SSZ`, the form of every date in EC2's documents
/// (reference/imds.md, section 7).
pub fn iso(at: OffsetDateTime) -> String {
    at.format(&ISO)
        .expect("every field of the format is a date's")
}

/// The IMF-fixdate of RFC 9110, for `Date` and `Last-Modified`.
pub fn http_date(at: OffsetDateTime) -> String {
    at.format(&HTTP)
        .expect("every field of the format is a date's")
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn dates_have_the_forms_of_ec2_and_http() {
        let at = from_unix_ms(1_767_323_045_999);
        assert_eq!(at.millisecond(), 999, "cut only where it is shown");
        assert_eq!(iso(at), "2026-01-02T03:04:05Z");
        assert_eq!(http_date(at), "Fri, 02 Jan 2026 03:04:05 GMT");
    }
}
