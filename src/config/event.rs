//! An event as config.json's `events[]` and the administrative service's `POST /events` describe
//! it: one flat object, the same in both.

use std::net::IpAddr;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::duration;
use super::report::{Problem, Report, Section};
use crate::date::{self, Date};

/// What happens, and to whom it shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventSpec {
    pub kind: EventKind,
    pub notice: Notice,
    /// Only the first so many client addresses that ask see it.
    pub callers: Option<u64>,
    /// Only these see it; empty for everyone.
    pub clients: Vec<IpAddr>,
}

/// When the notice appears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    Now,
    In(Duration),
    At(Date),
}

/// The events that EC2 shows in its metadata (docs/reference/metadata.md, "Events").
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// `time` is two minutes after the notice unless given.
    SpotInterruption {
        action: String,
        time: Option<Date>,
    },
    RebalanceRecommendation,
    ScheduledMaintenance {
        code: String,
        description: String,
        /// From the notice on unless given.
        not_before: Option<Date>,
        /// No end unless given.
        not_after: Option<Date>,
    },
    AutoscalingTargetLifecycleState {
        state: String,
    },
    TerminationTime {
        time: Date,
    },
}

const TYPES: [&str; 5] = [
    "spot-interruption",
    "rebalance-recommendation",
    "scheduled-maintenance",
    "autoscaling-target-lifecycle-state",
    "termination-time",
];
const ACTIONS: [&str; 3] = ["hibernate", "stop", "terminate"];
const CODES: [&str; 5] = [
    "system-reboot",
    "instance-reboot",
    "system-maintenance",
    "instance-retirement",
    "instance-stop",
];
const LIFECYCLE_STATES: [&str; 8] = [
    "Detached",
    "InService",
    "Standby",
    "Terminated",
    "Warmed:Hibernated",
    "Warmed:Running",
    "Warmed:Stopped",
    "Warmed:Terminated",
];

impl EventSpec {
    /// Reads the object that was posted.
    pub fn parse(object: &Map<String, Value>) -> Result<EventSpec, Problem> {
        parse_object(object, EventSpec::read)
    }

    /// Reads one object; `None` with problems noted.
    pub(super) fn read(event: &Section) -> Option<EventSpec> {
        let kind = one_of(event, "type", &TYPES)?;
        let kind = match kind {
            "spot-interruption" => EventKind::SpotInterruption {
                action: one_of(event, "action", &ACTIONS)?.to_owned(),
                time: date(event, "time"),
            },
            "rebalance-recommendation" => EventKind::RebalanceRecommendation,
            "scheduled-maintenance" => {
                let code = one_of(event, "code", &CODES)?;
                let (from, to) = (date(event, "not_before"), date(event, "not_after"));
                if from.zip(to).is_some_and(|(from, to)| to < from) {
                    event.problem("not_after", "it is before not_before");
                }
                EventKind::ScheduledMaintenance {
                    code: code.to_owned(),
                    description: match event.text("description") {
                        Some(text) => text.to_owned(),
                        None => format!("scheduled {}", code.rsplit('-').next().unwrap_or(code)),
                    },
                    not_before: from,
                    not_after: to,
                }
            }
            "autoscaling-target-lifecycle-state" => EventKind::AutoscalingTargetLifecycleState {
                state: one_of(event, "state", &LIFECYCLE_STATES)?.to_owned(),
            },
            _ => EventKind::TerminationTime {
                time: match event.get("time") {
                    None => missing(event, "time", date::EXPECTED)?,
                    Some(_) => date(event, "time")?,
                },
            },
        };
        let spec = EventSpec {
            kind,
            notice: notice(event),
            callers: event.count("callers"),
            clients: clients(event),
        };
        event.refuse_unknown();
        Some(spec)
    }

    /// The object it was read from, in substance.
    pub fn to_json(&self) -> Map<String, Value> {
        let mut object = Map::new();
        let mut put = |key: &str, value: Value| drop(object.insert(key.to_owned(), value));
        let day = |at: &Date| json!(at.to_string());
        match &self.kind {
            EventKind::SpotInterruption { action, time } => {
                put("type", json!(TYPES[0]));
                put("action", json!(action));
                time.iter().for_each(|at| put("time", day(at)));
            }
            EventKind::RebalanceRecommendation => put("type", json!(TYPES[1])),
            EventKind::ScheduledMaintenance {
                code,
                description,
                not_before,
                not_after,
            } => {
                put("type", json!(TYPES[2]));
                put("code", json!(code));
                put("description", json!(description));
                not_before.iter().for_each(|at| put("not_before", day(at)));
                not_after.iter().for_each(|at| put("not_after", day(at)));
            }
            EventKind::AutoscalingTargetLifecycleState { state } => {
                put("type", json!(TYPES[3]));
                put("state", json!(state));
            }
            EventKind::TerminationTime { time } => {
                put("type", json!(TYPES[4]));
                put("time", day(time));
            }
        }
        if let Some(callers) = self.callers {
            put("callers", json!(callers));
        }
        if !self.clients.is_empty() {
            put("clients", json!(self.clients));
        }
        object
    }
}

fn notice(event: &Section) -> Notice {
    if event.get("in").is_some() && event.get("at").is_some() {
        event.problem("at", "\"in\" is set too: at most one of them");
    }
    let after = event.parsed("in", "a duration such as 30s or 1h30m", |text| {
        duration::parse(text).and_then(|ms| u64::try_from(ms).ok())
    });
    match (after, date(event, "at")) {
        (Some(ms), _) => Notice::In(Duration::from_millis(ms)),
        (None, Some(at)) => Notice::At(at),
        (None, None) => Notice::Now,
    }
}

/// Addresses of clients, in an array.
pub(super) fn clients(section: &Section) -> Vec<IpAddr> {
    let mut clients = Vec::new();
    for text in section.lines("clients") {
        match text.parse::<IpAddr>() {
            Ok(address) => clients.push(address.to_canonical()),
            Err(_) => section.problem("clients", format!("expected addresses, found {text:?}")),
        }
    }
    clients
}

/// A text that must be one of `known`, and must be there.
pub(super) fn one_of<'a>(section: &Section<'a>, key: &str, known: &[&str]) -> Option<&'a str> {
    let expected = format!("one of {}", known.join(", "));
    if section.get(key).is_none() {
        return missing(section, key, &expected);
    }
    section.parsed(key, &expected, |text| known.contains(&text).then_some(text))
}

pub(super) fn missing<T>(section: &Section, key: &str, expected: &str) -> Option<T> {
    section.problem(key, format!("missing: expected {expected}"));
    None
}

/// A date at `key`.
pub(super) fn date(section: &Section, key: &str) -> Option<Date> {
    section.parsed(key, date::EXPECTED, Date::parse)
}

/// Reads `object` with `read`; the first problem, if there is any.
pub(super) fn parse_object<T>(
    object: &Map<String, Value>,
    read: impl FnOnce(&Section) -> Option<T>,
) -> Result<T, Problem> {
    let report = Report::default();
    let read = read(&Section::new("", object, &report));
    match (report.problems.into_inner().into_iter().next(), read) {
        (None, Some(value)) => Ok(value),
        (problem, _) => Err(problem.unwrap_or_else(|| Problem {
            place: String::new(),
            what: "cannot be read".to_owned(),
        })),
    }
}
