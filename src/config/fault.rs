//! A fault as config.json's `faults[]` and the administrative service's `POST /faults` describe it:
//! one flat object, the same in both.

use std::net::IpAddr;
use std::time::Duration;

use serde_json::{Map, Value};

use super::event::{clients, missing, one_of, parse_object};
use super::report::{Problem, Section};

/// What goes wrong, where, when and for whom.
#[derive(Clone, Debug, PartialEq)]
pub struct FaultSpec {
    pub path: PathPattern,
    /// What happens where the sequence does not say otherwise.
    pub effect: Effect,
    pub sequence: Option<Sequence>,
    /// The share of requests it happens to, and the seed that decides which.
    pub rate: Option<(f64, u64)>,
    /// Happens to so many requests.
    pub requests: Option<u64>,
    /// Is there for so long, in real time.
    pub lasts: Option<Duration>,
    /// Happens only to these; empty for everyone.
    pub clients: Vec<IpAddr>,
    /// Requests and sequence are counted for each client address by itself.
    pub per_client: bool,
    /// As it was given, to be shown.
    pub given: Map<String, Value>,
}

/// Which paths, folded (runs of slashes made one).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathPattern {
    Exact(String),
    Prefix(String),
}

impl PathPattern {
    /// Reads a path, or a prefix that ends in `*`. `None` if it has no slash in front, or a `*`
    /// anywhere else, which no path of EC2 has.
    pub fn parse(text: &str) -> Option<PathPattern> {
        match text.split_once('*') {
            None if text.starts_with('/') => Some(PathPattern::Exact(text.to_owned())),
            Some((prefix, "")) if prefix.is_empty() || prefix.starts_with('/') => {
                Some(PathPattern::Prefix(prefix.to_owned()))
            }
            _ => None,
        }
    }

    pub fn matches(&self, path: &str) -> bool {
        match self {
            PathPattern::Exact(exact) => path == exact,
            PathPattern::Prefix(prefix) => path.starts_with(prefix.as_str()),
        }
    }
}

/// What can go wrong with one request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Effect {
    Status(u16),
    /// That long, plus up to `jitter`.
    Delay {
        delay: Duration,
        jitter: Duration,
    },
    Slow {
        bytes_per_second: u32,
    },
    Truncate {
        bytes: usize,
    },
    Reset,
    NoAnswer,
    /// More requests than so many a second get 503.
    Throttle {
        requests_per_second: f64,
    },
    /// The token of the request, or the one it asks for, is dead.
    ExpiredToken,
    /// 200 with a body that ends in the middle of a JSON object.
    WrongJson,
}

/// What happens to one request after the other. `None` is nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Sequence {
    pub steps: Vec<Option<Effect>>,
    /// Starts again at its end; otherwise the fault is spent.
    pub repeat: bool,
}

const EFFECTS: [&str; 9] = [
    "status",
    "delay",
    "slow",
    "truncate",
    "reset",
    "no-answer",
    "throttle",
    "expired-token",
    "wrong-json",
];
const EXPECTED_STATUS: &str = "a status (100..999)";
/// The longest delay and the longest life of a fault.
const MAX_TIME: Duration = Duration::from_secs(30 * 24 * 3600);

impl FaultSpec {
    /// Reads the object that was posted.
    pub fn parse(object: &Map<String, Value>) -> Result<FaultSpec, Problem> {
        parse_object(object, FaultSpec::read)
    }

    /// Reads one object; `None` with problems noted.
    pub(super) fn read(fault: &Section) -> Option<FaultSpec> {
        // A sequence of statuses says enough.
        let name = match fault.get("effect") {
            None if fault.get("sequence").is_some() => "status",
            _ => one_of(fault, "effect", &EFFECTS)?,
        };
        let effect = effect(fault, name)?;
        let sequence = sequence(fault, name, effect);
        let expected = "a path such as /latest/user-data, or a prefix that ends in *";
        let path = match fault.get("path") {
            None => missing(fault, "path", expected)?,
            Some(_) => fault.parsed("path", expected, PathPattern::parse)?,
        };
        let rate = fault.fraction("rate", 0.0..=1.0, "a share, 0..1");
        let seed = fault.number("seed");
        if seed.is_some() && rate.is_none() {
            fault.problem("seed", "it needs \"rate\"");
        }
        let spec = FaultSpec {
            path,
            effect,
            sequence,
            rate: rate.map(|rate| (rate, seed.unwrap_or(0))),
            requests: fault.count("requests"),
            lasts: time(fault, "seconds", 1.0),
            clients: clients(fault),
            per_client: fault.flag("per_client"),
            given: fault.values().clone(),
        };
        fault.refuse_unknown();
        Some(spec)
    }
}

fn effect(fault: &Section, name: &str) -> Option<Effect> {
    let count = |key: &str, least: u64, expected: &str| match fault.number(key) {
        None if fault.get(key).is_none() => missing(fault, key, expected),
        Some(number) if number >= least => Some(number),
        Some(number) => {
            fault.problem(key, format!("expected {expected}, found {number}"));
            None
        }
        None => None,
    };
    Some(match name {
        "status" => match fault.get("status") {
            None if fault.get("sequence").is_some() => Effect::Status(503),
            _ => {
                let given = count("status", 0, EXPECTED_STATUS)?;
                let status = as_status(given);
                if status.is_none() {
                    let what = format!("expected {EXPECTED_STATUS}, found {given}");
                    fault.problem("status", what);
                }
                Effect::Status(status?)
            }
        },
        "delay" => Effect::Delay {
            delay: match fault.get("delay_ms") {
                None => missing(fault, "delay_ms", "milliseconds")?,
                Some(_) => time(fault, "delay_ms", 1000.0)?,
            },
            jitter: time(fault, "jitter_ms", 1000.0).unwrap_or_default(),
        },
        "slow" => Effect::Slow {
            bytes_per_second: u32::try_from(count("bytes_per_second", 1, "a number >= 1")?)
                .unwrap_or(u32::MAX),
        },
        "truncate" => Effect::Truncate {
            bytes: usize::try_from(count("bytes", 0, "a number >= 0")?).unwrap_or(usize::MAX),
        },
        "reset" => Effect::Reset,
        "no-answer" => Effect::NoAnswer,
        "throttle" => Effect::Throttle {
            requests_per_second: match fault.get("requests_per_second") {
                None => missing(fault, "requests_per_second", "a number >= 0")?,
                Some(_) => fault.fraction("requests_per_second", 0.0..=1e9, "a number >= 0")?,
            },
        },
        "expired-token" => Effect::ExpiredToken,
        _ => Effect::WrongJson,
    })
}

/// The status that a number is.
pub(super) fn as_status(number: u64) -> Option<u16> {
    let status = u16::try_from(number).ok();
    status.filter(|status| (100..=999).contains(status))
}

/// Steps are a status, `"ok"`, or the name of an effect that needs no number; the fault's own
/// effect may be named too.
fn sequence(fault: &Section, name: &str, effect: Effect) -> Option<Sequence> {
    let repeat = fault.flag("repeat");
    let items = fault.items("sequence");
    if items.is_empty() {
        if fault.get("sequence").is_some() {
            fault.problem("sequence", "expected at least one step");
        } else if repeat {
            fault.problem("repeat", "it needs \"sequence\"");
        }
        return None;
    }
    let mut steps = Vec::new();
    for (place, item) in items {
        let status = item.as_u64().and_then(as_status);
        let step = match (status, item.as_str()) {
            (Some(status), _) => Some(Effect::Status(status)),
            (None, Some("ok")) => None,
            (None, Some("reset")) => Some(Effect::Reset),
            (None, Some("no-answer")) => Some(Effect::NoAnswer),
            (None, Some("expired-token")) => Some(Effect::ExpiredToken),
            (None, Some("wrong-json")) => Some(Effect::WrongJson),
            (None, Some(text)) if text == name => Some(effect),
            _ => {
                let what = format!(
                    "expected a status (100..999), \"ok\", reset, no-answer, expired-token or wrong-json, found {item}"
                );
                fault.report.problem(place, what);
                continue;
            }
        };
        steps.push(step);
    }
    Some(Sequence { steps, repeat })
}

/// A time in units of which a second has `per_second`.
fn time(fault: &Section, key: &str, per_second: f64) -> Option<Duration> {
    let expected = "a number >= 0, a month at most";
    let most = MAX_TIME.as_secs_f64() * per_second;
    let number = fault.fraction(key, 0.0..=most, expected)?;
    Some(Duration::from_secs_f64(number / per_second))
}
