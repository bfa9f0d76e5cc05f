//! The time as STS sees it (docs/architecture.md, D9): the wall clock plus a correction measured
//! from STS's `Date`. Everything in this room that signs, schedules or judges an expiry asks here,
//! and says itself at which [`Moment`].

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use crate::date::Date;

/// `Date` has whole seconds, and servers are known to keep it for another second.
const DATE_IS_OLD_BY: Duration = Duration::from_secs(2);

/// What this machine's two clocks say at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    pub(super) wall: Date,
    /// Of the monotonic clock; only differences mean anything.
    pub(super) monotonic: Duration,
}

impl Moment {
    pub(super) fn now() -> Moment {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        Moment {
            wall: Date::now(),
            monotonic: START.elapsed(),
        }
    }
}

/// A clock that is read without waiting; corrected by making a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Clock {
    /// STS's time minus the wall clock's.
    correction: time::Duration,
    /// The time when the clock was set, by itself and by the monotonic clock.
    set: (Date, Duration),
}

impl Clock {
    /// A clock that believes the wall clock until told otherwise.
    pub(super) fn new(now: Moment) -> Clock {
        Clock {
            correction: time::Duration::ZERO,
            set: (now.wall, now.monotonic),
        }
    }

    /// The time at that moment. The wall clock alone may be set back, the monotonic one alone
    /// stands still in a suspended machine (Linux): the later of both is never behind the true
    /// time.
    pub(super) fn at(&self, moment: Moment) -> Date {
        let (time, monotonic) = self.set;
        let measured = time + moment.monotonic.saturating_sub(monotonic);
        measured.max(moment.wall + self.correction)
    }

    /// What must be added to the wall clock.
    pub(super) fn correction(&self) -> time::Duration {
        self.correction
    }

    /// The clock corrected by an exchange that was sent and answered at these moments and dated
    /// `date` by STS; `None` if it agrees as far as can be measured. A long exchange measures
    /// little and so corrects little. Set to the end of STS's second rather than its beginning:
    /// credentials expire early rather than late.
    pub(super) fn corrected(&self, date: Date, sent: Moment, answered: Moment) -> Option<Clock> {
        let earliest = date - self.at(answered);
        let latest = date + DATE_IS_OLD_BY - self.at(sent);
        if earliest <= time::Duration::ZERO && latest >= time::Duration::ZERO {
            return None;
        }
        let now = self.at(answered) + (earliest + latest) / 2;
        Some(Clock {
            correction: now - answered.wall,
            set: (now, answered.monotonic),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: time::Duration = time::Duration::SECOND;
    const SENT: Moment = Moment {
        wall: Date::UNIX_EPOCH,
        monotonic: Duration::ZERO,
    };

    /// So many seconds later, if nobody sets the wall clock and the machine does not sleep.
    fn after(seconds: u64) -> Moment {
        Moment {
            wall: SENT.wall + Duration::from_secs(seconds),
            monotonic: Duration::from_secs(seconds),
        }
    }

    #[test]
    fn a_clock_that_agrees_with_sts_is_left_alone() {
        let clock = Clock::new(SENT);
        for (offset, took) in [(0, 0), (-1, 0), (0, 15), (14, 15), (0, 7200)] {
            let date = SENT.wall + SECOND * offset;
            let corrected = clock.corrected(date, SENT, after(took));
            assert!(corrected.is_none(), "{offset} {took}");
        }
    }

    #[test]
    fn a_clock_that_is_off_is_corrected_to_within_sts_second() {
        let clock = Clock::new(SENT);
        for hours in [-9000, -1, 1, 9000] {
            let offset = time::Duration::hours(hours);
            let date = SENT.wall + offset;
            let corrected = clock.corrected(date, SENT, SENT).unwrap();
            let error = corrected.at(SENT) - date;
            assert!(error >= time::Duration::ZERO && error < SECOND * 2);
            assert!((corrected.correction() - offset).abs() < SECOND * 2);
            assert_eq!(corrected.corrected(date, SENT, SENT), None);
        }
    }

    #[test]
    fn neither_a_clock_set_back_nor_a_sleep_makes_it_late() {
        let clock = Clock::new(SENT);
        let set_back = Moment {
            wall: SENT.wall + time::Duration::HOUR * -1,
            ..after(60)
        };
        let slept = Moment {
            monotonic: Duration::ZERO,
            ..after(60)
        };
        assert_eq!(clock.at(set_back), after(60).wall);
        assert_eq!(clock.at(slept), after(60).wall);
    }

    #[test]
    fn the_wildest_dates_do_not_end_the_clock() {
        let clock = Clock::new(SENT);
        for date in [Date::MIN, Date::MAX] {
            let corrected = clock.corrected(date, SENT, SENT).unwrap();
            assert_eq!(corrected.at(SENT) > SENT.wall, date > SENT.wall);
        }
    }
}
