//! The time as STS sees it (design D9): the wall clock plus a correction measured from STS's
//! `Date`. Everything in this room that signs, schedules or judges an expiry asks here.

use std::time::{Duration, Instant};

use crate::date::Date;

/// `Date` has whole seconds, and servers are known to keep it for another second.
const DATE_IS_OLD_BY: Duration = Duration::from_secs(2);

/// A clock that is read without waiting; corrected by making a new one.
#[derive(Clone, Copy)]
pub(super) struct Clock {
    /// STS's time minus the wall clock's.
    correction: time::Duration,
    /// The time when the clock was set, by itself and by the monotonic clock.
    set: (Date, Instant),
}

impl Clock {
    /// A clock that believes the wall clock until told otherwise.
    pub(super) fn new() -> Clock {
        Clock {
            correction: time::Duration::ZERO,
            set: (Date::now(), Instant::now()),
        }
    }

    /// The time now. The wall clock alone may be set back, the monotonic one alone stands still in
    /// a suspended machine (Linux): the later of both is never behind the true time.
    pub(super) fn now(&self) -> Date {
        let wall = Date::now() + self.correction;
        let (time, instant) = self.set;
        let measured = time + instant.elapsed();
        wall.max(measured)
    }

    /// What must be added to the wall clock.
    pub(super) fn correction(&self) -> time::Duration {
        self.correction
    }

    /// The clock corrected by an exchange that was sent and answered at these times of this clock
    /// and dated `date` by STS; `None` if it agrees as far as can be measured. A long exchange
    /// measures little and so corrects little. Set to the end of STS's second rather than its
    /// beginning: credentials expire early rather than late.
    pub(super) fn corrected(&self, date: Date, sent: Date, answered: Date) -> Option<Clock> {
        let earliest = date - answered;
        let latest = date + DATE_IS_OLD_BY - sent;
        if earliest <= time::Duration::ZERO && latest >= time::Duration::ZERO {
            return None;
        }
        let now = self.now() + (earliest + latest) / 2;
        Some(Clock {
            correction: now - Date::now(),
            set: (now, Instant::now()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: time::Duration = time::Duration::SECOND;

    /// A `Date` `offset` ahead of the clock, in whole seconds.
    fn date(at: Date, offset: time::Duration) -> Date {
        (at + offset).truncate_to_second()
    }

    #[test]
    fn a_clock_that_agrees_with_sts_is_left_alone() {
        let clock = Clock::new();
        let sent = clock.now();
        for (offset, took) in [
            (time::Duration::ZERO, time::Duration::ZERO),
            (-SECOND, time::Duration::ZERO),
            (time::Duration::ZERO, SECOND * 15),
            (SECOND * 14, SECOND * 15),
            // The machine slept during the exchange, which so measured nothing.
            (time::Duration::ZERO, SECOND * 7200),
        ] {
            let corrected = clock.corrected(date(sent, offset), sent, sent + took);
            assert!(corrected.is_none(), "{offset} {took}");
        }
    }

    #[test]
    fn a_clock_that_is_off_is_corrected_to_within_sts_second() {
        let clock = Clock::new();
        for hours in [-9000, -1, 1, 9000] {
            let offset = time::Duration::hours(hours);
            let sent = clock.now();
            let true_time = sent + offset;
            let corrected = clock.corrected(date(sent, offset), sent, sent).unwrap();
            let error = corrected.now() - true_time;
            assert!(
                error >= time::Duration::ZERO && error < SECOND * 2,
                "{error}"
            );
            assert!((corrected.correction() - offset).abs() < SECOND * 2);
            let sent = corrected.now();
            assert!(
                corrected
                    .corrected(date(sent, -SECOND), sent, sent)
                    .is_none()
            );
        }
    }

    #[test]
    fn the_wildest_dates_do_not_end_the_clock() {
        let clock = Clock::new();
        let sent = clock.now();
        for date in [Date::MIN, Date::UNIX_EPOCH, Date::MAX] {
            let corrected = clock.corrected(date, sent, sent).unwrap();
            assert_eq!(corrected.now() > sent, date > sent);
        }
    }
}
