//! When STS is asked next: plain functions of times and a random number (docs/architecture.md, D6).

use std::time::Duration;

use crate::date::Date;

/// The wait after a first failure; doubled with each further one.
const FIRST_WAIT: Duration = Duration::from_secs(2);
/// The longest wait after a failure that may pass by itself.
const LONGEST_WAIT: Duration = Duration::from_secs(20);
/// The wait after a no of STS, and the longest that its `Retry-After` can make us wait.
const REFUSED_WAIT: Duration = Duration::from_secs(60);
/// Nothing is asked more often than this.
const SHORTEST_WAIT: Duration = Duration::from_millis(100);

/// When to renew a session that begins `now`: at half of its life, by up to a tenth of that
/// earlier. `random` is in 0..1.
pub(super) fn renewal(now: Date, expires: Date, random: f64) -> Date {
    let life: Duration = (expires - now).try_into().unwrap_or_default();
    now + life.mul_f64(0.5 - 0.05 * random).max(SHORTEST_WAIT)
}

/// What is known after a failure.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failed {
    /// How many there were in a row, this one included.
    pub(super) failures: u32,
    /// Whether STS said no, rather than nothing.
    pub(super) is_refusal: bool,
    pub(super) retry_after: Option<Duration>,
    /// When the credentials being served expire.
    pub(super) live_until: Option<Date>,
}

/// When to try again. Without live credentials: after a wait of 1 to 20 s, or 60 s after a refusal,
/// or as long as STS asked, if that is longer. With live ones never later than in half of the time
/// they have left, so that there always is another try before they expire, and at last when they
/// do.
pub(super) fn retry(now: Date, failed: Failed, random: f64) -> Date {
    let wait = match failed.is_refusal {
        true => REFUSED_WAIT,
        false => {
            let doubled = FIRST_WAIT * 2u32.pow(failed.failures.clamp(1, 8) - 1);
            doubled.min(LONGEST_WAIT).mul_f64(0.5 + 0.5 * random)
        }
    };
    let asked = failed.retry_after.unwrap_or_default().min(REFUSED_WAIT);
    let wait = wait.max(asked);
    let left = failed.live_until.map(|until| until - now);
    let wait = match left.and_then(|left| Duration::try_from(left).ok()) {
        Some(left) if left > 2 * SHORTEST_WAIT => wait.min(left / 2),
        Some(left) if !left.is_zero() => wait.min(left).max(SHORTEST_WAIT),
        _ => wait,
    };
    now + wait
}

/// A random number in 0..1; the middle if the system has none, for it only spreads load.
pub(super) fn random() -> f64 {
    getrandom::u32().map_or(0.5, |n| f64::from(n) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Date = Date::UNIX_EPOCH;

    #[test]
    fn a_session_is_renewed_at_half_of_its_life_or_a_little_earlier() {
        for (life, random, wait) in [
            (3600.0, 0.0, 1800.0),
            (3600.0, 1.0, 1620.0),
            (900.0, 0.5, 427.5),
            (2.0, 0.0, 1.0),
            (1.0, 1.0, 0.45),
            // However short; but even that makes no tight loop.
            (0.01, 0.0, 0.1),
            (-5.0, 0.0, 0.1),
        ] {
            let expires = NOW + time::Duration::seconds_f64(life);
            let found = (renewal(NOW, expires, random) - NOW).as_seconds_f64();
            assert!((found - wait).abs() < 1e-6, "{life} {random}: {found}");
        }
    }

    #[test]
    fn failures_are_retried_by_the_rules_of_d6() {
        // failures, refused, Retry-After, seconds left, random -> wait
        for (failures, is_refusal, asked, left, random, wait) in [
            // Back-off from 1 s to 20 s.
            (1, false, None, None, 0.0, 1.0),
            (1, false, None, None, 1.0, 2.0),
            (2, false, None, None, 1.0, 4.0),
            (4, false, None, None, 1.0, 16.0),
            (5, false, None, None, 1.0, 20.0),
            (5, false, None, None, 0.0, 10.0),
            (u32::MAX, false, None, None, 1.0, 20.0),
            // The slow pace of a refusal.
            (1, true, None, None, 0.0, 60.0),
            (9, true, None, None, 1.0, 60.0),
            // What STS asks for counts, within reason.
            (1, false, Some(30), None, 0.0, 30.0),
            (1, false, Some(1), None, 1.0, 2.0),
            (1, false, Some(86_400), None, 0.0, 60.0),
            // Nothing goes past the expiry of what is being served.
            (1, false, Some(30), Some(1.0), 0.0, 0.5),
            (1, true, None, Some(20.0), 0.0, 10.0),
            (9, false, None, Some(0.2), 0.0, 0.2),
            (9, false, None, Some(0.15), 0.0, 0.15),
            (9, false, None, Some(0.01), 0.0, 0.1),
            (1, false, None, Some(1800.0), 1.0, 2.0),
            // What has expired holds nothing back.
            (1, true, None, Some(-3.0), 0.0, 60.0),
            (1, true, None, Some(0.0), 0.0, 60.0),
        ] {
            let failed = Failed {
                failures,
                is_refusal,
                retry_after: asked.map(Duration::from_secs),
                live_until: left.map(|left| NOW + time::Duration::seconds_f64(left)),
            };
            let found = (retry(NOW, failed, random) - NOW).as_seconds_f64();
            assert!((found - wait).abs() < 1e-6, "{failed:?} {random}: {found}");
        }
    }
}
