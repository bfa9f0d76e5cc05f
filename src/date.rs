//! Dates: instants in UTC, from the year 0 to the end of 9999, which every form that is written
//! here can show. Reading accepts any offset, writing cannot be handed one, arithmetic stops at the
//! first and the last date (docs/architecture.md, D11).

use std::fmt;
use std::ops::{Add, Sub};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use time::format_description::BorrowedFormatItem;
use time::format_description::well_known::{Rfc2822, Rfc3339};
use time::macros::{format_description, utc_datetime};
use time::{OffsetDateTime, SignedDuration, UtcDateTime, UtcOffset};

/// A date, as exact as what it was made of. It shows as `YYYY-MM-DDTHH:MM:SSZ`, the form of EC2's
/// documents (docs/reference/metadata.md, "Credentials documents"); what is shown are whole
/// seconds, the rest cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date(UtcDateTime);

/// What errors say that they expected.
pub const EXPECTED: &str = "a date such as 2026-01-02T03:04:05Z";

type Format = [BorrowedFormatItem<'static>];

const ISO: &Format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
const ISO_MS: &Format =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
const BASIC: &Format = format_description!("[year][month][day]T[hour][minute][second]Z");
const HTTP: &Format = format_description!(
    "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
);
const MAINTENANCE: &Format =
    format_description!("[day] [month repr:short] [year] [hour]:[minute]:[second] GMT");

impl Date {
    pub const MIN: Date = Date(utc_datetime!(0000-01-01 00:00:00));
    pub const MAX: Date = Date(utc_datetime!(9999-12-31 23:59:59.999_999_999));
    pub const UNIX_EPOCH: Date = Date(UtcDateTime::UNIX_EPOCH);

    /// The wall clock's.
    pub fn now() -> Date {
        Date(UtcDateTime::now())
    }

    /// That many milliseconds after 1970.
    pub fn from_unix_ms(ms: i64) -> Date {
        Date::UNIX_EPOCH + SignedDuration::milliseconds(ms)
    }

    /// Whole milliseconds since 1970, the rest cut.
    pub fn unix_ms(self) -> i64 {
        let second = self.0.unix_timestamp();
        second * 1000 + i64::from(self.0.millisecond())
    }

    /// Reads a date of RFC 3339, whatever its offset.
    pub fn parse(text: &str) -> Option<Date> {
        Date::in_utc(OffsetDateTime::parse(text, &Rfc3339).ok()?)
    }

    /// Reads a date of an HTTP field.
    pub fn parse_http(text: &str) -> Option<Date> {
        Date::in_utc(OffsetDateTime::parse(text.trim(), &Rfc2822).ok()?)
    }

    /// `None` where the date is beyond the years that can be written.
    fn in_utc(date: OffsetDateTime) -> Option<Date> {
        let date = date.checked_to_offset(UtcOffset::UTC)?;
        let date = Date(UtcDateTime::new(date.date(), date.time()));
        (Date::MIN..=Date::MAX).contains(&date).then_some(date)
    }

    /// The full second it lies in.
    pub fn truncate_to_second(self) -> Date {
        Date(self.0.truncate_to_second())
    }

    /// The IMF-fixdate of RFC 9110, for `Date` and `Last-Modified`.
    pub fn http(self) -> String {
        self.format(HTTP)
    }

    /// The form of EC2's maintenance documents: RFC 1123 without the weekday
    /// (docs/reference/metadata.md, "Events").
    pub fn maintenance(self) -> String {
        self.format(MAINTENANCE)
    }

    /// `YYYY-MM-DDTHH:MM:SS.mmmZ`.
    pub fn with_milliseconds(self) -> String {
        self.format(ISO_MS)
    }

    /// `YYYYMMDDTHHMMSSZ`, the basic form of ISO 8601 that SigV4 wants.
    pub fn basic(self) -> String {
        self.format(BASIC)
    }

    fn format(self, format: &Format) -> String {
        let text = self.0.format(format);
        text.expect("every field of the format is a date's, and the year has four digits")
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.format(ISO))
    }
}

impl From<SystemTime> for Date {
    fn from(time: SystemTime) -> Date {
        match time.duration_since(UNIX_EPOCH) {
            Ok(since) => Date::UNIX_EPOCH + since,
            Err(before) => {
                Date::UNIX_EPOCH
                    + SignedDuration::try_from(before.duration())
                        .map_or(SignedDuration::MIN, |d| -d)
            }
        }
    }
}

/// Stops at [`Date::MIN`] and [`Date::MAX`].
impl Add<SignedDuration> for Date {
    type Output = Date;

    fn add(self, by: SignedDuration) -> Date {
        Date(self.0.saturating_add(by)).clamp(Date::MIN, Date::MAX)
    }
}

/// Stops at [`Date::MAX`].
impl Add<Duration> for Date {
    type Output = Date;

    fn add(self, by: Duration) -> Date {
        self + SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX)
    }
}

/// The time from the one to the other, negative where it is the earlier.
impl Sub for Date {
    type Output = SignedDuration;

    fn sub(self, earlier: Date) -> SignedDuration {
        self.0 - earlier.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_offset_is_read_and_only_utc_is_shown() {
        for (text, shown) in [
            ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z"),
            ("2026-01-02T03:04:05.999Z", "2026-01-02T03:04:05Z"),
            ("2026-01-02T03:04:05+02:00", "2026-01-02T01:04:05Z"),
            ("2026-01-02T03:04:05-23:59", "2026-01-03T03:03:05Z"),
            ("0000-01-01T00:00:00Z", "0000-01-01T00:00:00Z"),
            ("0000-01-01T23:59:00+23:59", "0000-01-01T00:00:00Z"),
            ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z"),
            ("9999-12-31T00:00:59-23:59", "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(
                Date::parse(text).map(|date| date.to_string()).as_deref(),
                Some(shown)
            );
        }
        for text in [
            "0000-01-01T00:00:00+00:01",
            "9999-12-31T23:59:59-00:01",
            "9999-12-31T23:59:59-23:59",
            "10000-01-01T00:00:00Z",
            "-001-01-01T00:00:00Z",
            "2026-02-30T00:00:00Z",
            "2026-01-02T03:04:05+24:00",
            "2026-01-02T03:04:05",
            "2026-01-02",
            "",
        ] {
            assert_eq!(Date::parse(text), None, "{text}");
        }
    }

    #[test]
    fn every_form_is_that_of_its_reader() {
        let date = Date::from_unix_ms(1_767_323_045_999);
        assert_eq!(date.to_string(), "2026-01-02T03:04:05Z");
        assert_eq!(date.with_milliseconds(), "2026-01-02T03:04:05.999Z");
        assert_eq!(date.http(), "Fri, 02 Jan 2026 03:04:05 GMT");
        assert_eq!(date.maintenance(), "02 Jan 2026 03:04:05 GMT");
        assert_eq!(date.basic(), "20260102T030405Z");
        assert_eq!(
            Date::parse_http(&format!(" {} ", date.http())),
            Some(date.truncate_to_second())
        );
        assert_eq!(Date::parse_http("Fri, 31 Dec 9999 23:59:59 -0100"), None);
    }

    #[test]
    fn arithmetic_stops_at_the_first_and_the_last_date() {
        assert_eq!(Date::from_unix_ms(i64::MAX), Date::MAX);
        assert_eq!(Date::from_unix_ms(i64::MIN), Date::MIN);
        assert_eq!(Date::MAX + Duration::MAX, Date::MAX);
        assert_eq!(Date::MIN + SignedDuration::MIN, Date::MIN);
        assert_eq!(Date::MIN + SignedDuration::MAX, Date::MAX);
        assert_eq!(Date::MIN + (Date::MAX - Date::MIN), Date::MAX);
        assert_eq!(
            Date::UNIX_EPOCH + Duration::from_millis(1),
            Date::from_unix_ms(1)
        );
        for date in [
            Date::MIN,
            Date::MAX,
            Date::UNIX_EPOCH,
            Date::from_unix_ms(-1),
        ] {
            assert_eq!(Date::from_unix_ms(date.unix_ms()).unix_ms(), date.unix_ms());
            assert_eq!(
                Date::parse(&date.to_string()),
                Some(date.truncate_to_second())
            );
        }
    }
}
