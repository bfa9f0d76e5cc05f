//! Credentials that nobody has to obtain, because they are written down or made up: dated as EC2
//! dates its own, anew every hour of the instance's clock, or failing on purpose.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use super::secret::Credentials;
use super::session::{Current, Failure, FailureCode, Session};
use crate::date::Date;

/// Credentials without a date of their own are dated that far ahead, as on EC2.
const LIFETIME: Duration = Duration::from_secs(6 * 3600);
/// How often they are dated anew.
const REDATED_MS: i64 = 3600 * 1000;

/// What is handed out.
#[derive(Clone)]
pub enum Static {
    Valid {
        credentials: Arc<Credentials>,
        expiration: Option<Date>,
    },
    Failing {
        code: FailureCode,
        message: String,
    },
}

impl Static {
    /// A failure on purpose, of the role of that name.
    pub fn failing(code: FailureCode, role: &str) -> Static {
        let message = code.message(role);
        Static::Failing { code, message }
    }

    /// What version 1 gets where it gets nothing. `Failed`, since the other codes would send a
    /// person to the instance profile or to the trust policy, and neither is the reason.
    pub(super) fn nothing_for_v1() -> Static {
        Static::Failing {
            code: FailureCode::Failed,
            message: "Without a session token there are no credentials here: role.v1 is none"
                .to_owned(),
        }
    }
}

/// It, with its dates.
pub struct Fixed {
    what: Static,
    first_ms: i64,
    /// The hours since then, and what was made in the last of them.
    latest: RwLock<(i64, Current)>,
}

impl Fixed {
    /// `now` is the instance's time; full hours are counted from it.
    pub fn new(what: Static, now: Date) -> Fixed {
        let latest = RwLock::new((0, dated(&what, now)));
        Fixed {
            what,
            first_ms: now.unix_ms(),
            latest,
        }
    }

    /// What there is at that time of the instance's clock, whether or not it has expired by then.
    pub fn current(&self, now: Date) -> Current {
        let hour = (now.unix_ms() - self.first_ms).div_euclid(REDATED_MS);
        let latest = self.latest.read().unwrap_or_else(PoisonError::into_inner);
        if latest.0 == hour {
            return latest.1.clone();
        }
        drop(latest);
        let at = Date::from_unix_ms(self.first_ms + hour * REDATED_MS);
        let mut latest = self.latest.write().unwrap_or_else(PoisonError::into_inner);
        // All readers of an hour get the same.
        if latest.0 != hour {
            *latest = (hour, dated(&self.what, at));
        }
        latest.1.clone()
    }
}

fn dated(what: &Static, at: Date) -> Current {
    match what {
        Static::Valid {
            credentials,
            expiration,
        } => {
            let expires = expiration.unwrap_or(at + LIFETIME);
            Current::Valid(Arc::new(Session::new(credentials.clone(), expires, at)))
        }
        Static::Failing { code, message } => Current::Failed(Arc::new(Failure {
            code: *code,
            message: message.clone(),
            last_updated: at,
        })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_readers_of_an_hour_get_the_same_and_its_dates_are_those_of_its_begin() {
        let start = Date::parse("2026-01-02T03:04:05.678Z").unwrap();
        let fixed = Fixed::new(Static::nothing_for_v1(), start);
        let at = |ms| fixed.current(start + time::Duration::milliseconds(ms));
        for (first, last, updated) in [
            (0, 3_599_999, "2026-01-02T03:04:05Z"),
            (3_600_000, 7_199_999, "2026-01-02T04:04:05Z"),
            (-3_600_000, -1, "2026-01-02T02:04:05Z"),
        ] {
            let Current::Failed(failure) = at(first) else {
                panic!("it fails on purpose")
            };
            assert_eq!(failure.last_updated.to_string(), updated);
            assert!(at(last).is(&Current::Failed(failure)));
        }
        assert!(!at(0).is(&at(3_600_000)));
    }
}
