//! The journal: what was asked of the metadata port lately, a ring of entries that hold no token
//! and no secret. Whoever reads it says with a [`Filter`] which of them.

use std::collections::VecDeque;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::config::PathPattern;
use crate::date::{self, Date};
use serde::{Serialize, Serializer};

use super::outcome::Protocol;
/// Entries that are kept; each further one takes the place of the oldest.
pub const MAX_ENTRIES: usize = 10_000;
/// Bytes that are kept of a text that a client sent.
pub const MAX_TEXT: usize = 256;
/// What every session token begins with, and how many characters of base64url it has before its
/// padding (docs/reference/metadata.md, "Token").
const TOKEN_START: &str = "AQAE";
const TOKEN_LENGTH: usize = 54;

/// One request and what became of it. Serialized it is a line of `GET /requests`.
#[derive(Debug, Serialize)]
pub struct Entry {
    /// When it had come, in real time, UTC.
    #[serde(serialize_with = "date")]
    pub time: Date,
    pub client: IpAddr,
    pub method: &'static str,
    /// Runs of slashes made one, without the query.
    pub path: Text,
    /// 0 where none was sent.
    pub status: u16,
    pub imds: Protocol,
    /// By the instance's clock; `None` without a token and with one that nobody knows any more.
    pub token_age_s: Option<i64>,
    /// Until its answer was ready, what it had to wait included.
    pub duration_ms: f64,
    /// The id of the fault that happened to it.
    pub fault: Option<u64>,
    pub user_agent: Option<Text>,
}

fn date<S: Serializer>(time: &Date, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time.with_milliseconds())
}

/// A text that a client sent, fit to be kept: what looks like a session token taken out, cut at
/// [`MAX_TEXT`] bytes.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Text(Box<str>);

impl Text {
    pub fn new(sent: &str) -> Text {
        let mut kept = String::new();
        let mut rest = sent;
        while kept.len() < MAX_TEXT
            && let Some(at) = find_token(rest)
        {
            kept.push_str(&rest[..at]);
            kept.push_str("[token]");
            rest = &rest[at + TOKEN_LENGTH..];
        }
        kept.push_str(rest);
        let mut end = kept.len().min(MAX_TEXT);
        while !kept.is_char_boundary(end) {
            end -= 1;
        }
        kept.truncate(end);
        Text(kept.into())
    }
}

fn find_token(text: &str) -> Option<usize> {
    let of_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_".contains(byte);
    let is_token = |at: &usize| {
        let token = text.as_bytes().get(*at..at + TOKEN_LENGTH);
        token.is_some_and(|token| token.iter().all(of_token))
    };
    let mut starts = text.match_indices(TOKEN_START).map(|(at, _)| at);
    starts.find(is_token)
}

/// The entries, the oldest first.
#[derive(Default)]
pub struct Journal {
    entries: VecDeque<Arc<Entry>>,
}

impl Journal {
    /// Adds an entry. Returns the one that made room for it, to be dropped where nobody waits.
    #[must_use]
    pub fn push(&mut self, entry: Arc<Entry>) -> Option<Arc<Entry>> {
        let is_full = self.entries.len() == MAX_ENTRIES;
        let oldest = is_full.then(|| self.entries.pop_front()).flatten();
        self.entries.push_back(entry);
        oldest
    }

    /// All entries, the oldest first.
    pub fn entries(&self) -> Vec<Arc<Entry>> {
        self.entries.iter().cloned().collect()
    }

    pub fn clear(&mut self) {
        self.entries = VecDeque::new();
    }
}

/// Which entries are asked for: those that everything given here holds for.
#[derive(Debug, Default)]
pub struct Filter {
    path: Option<PathPattern>,
    client: Option<IpAddr>,
    since: Option<Date>,
}

/// Why a query is no filter.
#[derive(Debug, PartialEq, Eq)]
pub enum BadFilter {
    Unknown(String),
    Twice(&'static str),
    Path(String),
    Client(String),
    Since(String),
}

impl fmt::Display for BadFilter {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            BadFilter::Unknown(name) => {
                write!(f, "{name}: unknown; expected path, client or since")
            }
            BadFilter::Twice(name) => write!(f, "{name}: given twice"),
            BadFilter::Path(found) => write!(
                f,
                "path: expected a path, or a prefix that ends in *, found {found:?}"
            ),
            BadFilter::Client(found) => {
                write!(f, "client: expected an IP address, found {found:?}")
            }
            BadFilter::Since(found) => {
                write!(f, "since: expected {}, found {found:?}", date::EXPECTED)
            }
        }
    }
}

impl Filter {
    /// Reads a query such as `path=/latest/meta-data/*&client=127.0.0.1`. A `+` is a plus, as dates
    /// have one.
    pub fn parse(query: &str) -> Result<Filter, BadFilter> {
        let mut filter = Filter::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_decoded(value);
            match percent_decoded(name).as_str() {
                "path" => {
                    let pattern = PathPattern::parse(&value).ok_or(BadFilter::Path(value))?;
                    once("path", &mut filter.path, pattern)?;
                }
                "client" => {
                    let client: Result<IpAddr, _> = value.parse();
                    let client = client.map_err(|_| BadFilter::Client(value))?;
                    once("client", &mut filter.client, client.to_canonical())?;
                }
                "since" => {
                    let since = Date::parse(&value).ok_or(BadFilter::Since(value))?;
                    once("since", &mut filter.since, since)?;
                }
                unknown => return Err(BadFilter::Unknown(unknown.to_owned())),
            }
        }
        Ok(filter)
    }

    /// Whether `entry` is one of those asked for.
    pub fn admits(&self, entry: &Entry) -> bool {
        let path = |pattern: &PathPattern| pattern.matches(&entry.path.0);
        self.path.as_ref().is_none_or(path)
            && self.client.is_none_or(|client| entry.client == client)
            && self.since.is_none_or(|since| entry.time >= since)
    }
}

fn once<T>(name: &'static str, place: &mut Option<T>, value: T) -> Result<(), BadFilter> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(BadFilter::Twice(name)),
    }
}

/// `text` with `%XX` resolved where that makes UTF-8.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        let code = behind.get(..2).filter(|_| first == b'%');
        let code = code.and_then(|code| std::str::from_utf8(code).ok());
        let code = code.filter(|code| code.bytes().all(|digit| digit.is_ascii_hexdigit()));
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &behind[2..];
            }
            None => {
                bytes.push(first);
                rest = behind;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn entry(path: &str) -> Entry {
        Entry {
            time: Date::from_unix_ms(1_767_323_045_678),
            client: Ipv4Addr::new(10, 0, 0, 1).into(),
            method: "GET",
            path: Text::new(path),
            status: 200,
            imds: Protocol::V2,
            token_age_s: Some(7),
            duration_ms: 0.25,
            fault: None,
            user_agent: Some(Text::new("curl/8")),
        }
    }

    #[test]
    fn a_line_has_the_fields_in_their_order() {
        assert_eq!(
            serde_json::to_string(&entry("/latest/meta-data/mac")).unwrap(),
            "{\"time\":\"2026-01-02T03:04:05.678Z\",\"client\":\"10.0.0.1\",\"method\":\"GET\",\
             \"path\":\"/latest/meta-data/mac\",\"status\":200,\"imds\":\"v2\",\"token_age_s\":7,\
             \"duration_ms\":0.25,\"fault\":null,\"user_agent\":\"curl/8\"}"
        );
    }

    #[test]
    fn the_oldest_entry_makes_room() {
        let mut journal = Journal::default();
        for n in 0..=MAX_ENTRIES {
            let gone = journal.push(entry(&format!("/{n}")).into());
            assert_eq!(gone.is_some(), n == MAX_ENTRIES);
        }
        let entries = journal.entries();
        assert_eq!(entries.len(), MAX_ENTRIES);
        assert_eq!(entries[0].path, Text::new("/1"));
    }

    #[test]
    fn texts_are_cut_between_characters_and_hold_no_token() {
        let token = format!("AQAE{}-_==", "x".repeat(48));
        for (sent, kept) in [
            ("/latest/".into(), "/latest/".into()),
            (format!("/a{token}/b"), "/a[token]==/b".into()),
            (
                format!("AQAE{token}{token}"),
                "[token]xx-_==[token]==".into(),
            ),
            (token[..53].into(), token[..53].into()),
            (
                format!("x{}", "é".repeat(200)),
                format!("x{}", "é".repeat(127)),
            ),
            ("AQAE".repeat(4096), "[token]AE".repeat(29)[..256].into()),
        ] {
            assert_eq!(Text::new(&sent), Text(kept.into()));
        }
    }

    #[test]
    fn a_filter_admits_what_all_its_parts_admit() {
        for (query, admits) in [
            ("", true),
            ("&&", true),
            ("path=/latest/meta-data/mac", true),
            ("path=/latest/meta-data/", false),
            ("path=/latest/*", true),
            ("path=*", true),
            ("path=%2Flatest%2F%2a&client=10.0.0.1", true),
            ("path=/latest/*&client=10.0.0.2", false),
            ("client=::ffff:10.0.0.1", true),
            ("since=2026-01-02T03:04:05Z", true),
            ("since=2026-01-02T03:04:05.678Z", true),
            ("since=2026-01-02T03:04:05.679Z", false),
            ("since=2026-01-02T04:04:05+01:00", true),
            ("since=2026-01-02T02:04:06%2D01:00", false),
        ] {
            let filter = Filter::parse(query).unwrap();
            assert_eq!(
                filter.admits(&entry("/latest/meta-data/mac")),
                admits,
                "{query}"
            );
        }
    }

    #[test]
    fn a_bad_filter_is_named() {
        for (query, name) in [
            ("path", "path: "),
            ("path=latest", "path: "),
            ("client=", "client: "),
            ("client=localhost", "client: "),
            ("client=10.0.0.1:80", "client: "),
            ("since=yesterday", "since: "),
            ("since=2026-01-02", "since: "),
            ("path=/&client=::1&path=/a", "path: given twice"),
            ("status=200", "status: unknown"),
            ("Path=/", "Path: unknown"),
            ("client=%", "client: "),
        ] {
            let said = Filter::parse(query).unwrap_err().to_string();
            assert!(said.starts_with(name), "{query}: {said}");
        }
    }
}
