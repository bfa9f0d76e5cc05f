//! Events that come over the instance: spot interruptions, rebalance recommendations, maintenance,
//! auto scaling. Each shows from its notice on, to whom it is meant for, in EC2's documents
//! (docs/reference/metadata.md, "Events").

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::identity::object;
use super::meaning::{SPOT, TERMINATION};
use super::tree::Leaves;
use crate::clock::Clock;
use crate::config::{EventKind, EventSpec, Notice, stable_id};
use crate::date::Date;

/// EC2's notice before an interruption.
const SPOT_NOTICE: Duration = Duration::from_secs(120);
/// Events that may exist at once.
pub const MAX_EVENTS: usize = 1000;

const REBALANCE: &str = "meta-data/events/recommendations/rebalance";
const SCHEDULED: &str = "meta-data/events/maintenance/scheduled";
const HISTORY: &str = "meta-data/events/maintenance/history";
const AUTOSCALING: &str = "meta-data/autoscaling/target-lifecycle-state";

/// Where an event is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    Pending,
    Active,
    Completed,
    Canceled,
}

impl Phase {
    /// The word for it in EC2's documents and in ours.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Pending => "pending",
            Phase::Active => "active",
            Phase::Completed => "completed",
            Phase::Canceled => "canceled",
        }
    }
}

struct Event {
    id: String,
    spec: EventSpec,
    notice: Date,
    /// Set by hand; otherwise the clock decides.
    closed: Option<Phase>,
    /// The addresses that asked first, of an event for so many callers.
    admitted: Vec<IpAddr>,
}

impl Event {
    /// When maintenance begins, and when it ends if anybody said.
    fn maintenance_times(&self) -> Option<(Date, Option<Date>)> {
        let EventKind::ScheduledMaintenance {
            not_before,
            not_after,
            ..
        } = self.spec.kind
        else {
            return None;
        };
        let from = not_before.unwrap_or(not_after.map_or(self.notice, |to| self.notice.min(to)));
        Some((from, not_after))
    }

    fn phase(&self, now: Date) -> Phase {
        match (self.closed, self.maintenance_times()) {
            // Whoever was told of it may be told of its end before its notice.
            (Some(phase), _) => phase,
            (None, _) if now < self.notice => Phase::Pending,
            // Over at the second that its document says.
            (None, Some((_, Some(not_after)))) if now >= not_after.truncate_to_second() => {
                Phase::Completed
            }
            (None, _) => Phase::Active,
        }
    }

    /// The leaves it changes.
    fn paths(&self) -> &'static [&'static str] {
        match self.spec.kind {
            EventKind::SpotInterruption { .. } => &[SPOT, TERMINATION],
            EventKind::RebalanceRecommendation => &[REBALANCE],
            EventKind::ScheduledMaintenance { .. } => &[SCHEDULED, HISTORY],
            EventKind::AutoscalingTargetLifecycleState { .. } => &[AUTOSCALING],
            EventKind::TerminationTime { .. } => &[TERMINATION],
        }
    }

    /// Whether `client`, who asks for `path`, sees it. Asking for one of its leaves, or for a
    /// directory right above, makes a client one of the first callers.
    fn shows_to(&mut self, client: Option<IpAddr>, path: &str) -> bool {
        let Some(client) = client else {
            return self.spec.clients.is_empty() && self.spec.callers.is_none();
        };
        if !self.spec.clients.is_empty() && !self.spec.clients.contains(&client) {
            return false;
        }
        let Some(callers) = self.spec.callers else {
            return true;
        };
        if self.admitted.contains(&client) {
            return true;
        }
        let is_above = |leaf: &str| {
            leaf.strip_prefix(path)
                .is_some_and(|rest| rest.starts_with('/'))
        };
        let asks = path != "meta-data"
            && (self.paths().iter()).any(|leaf| *leaf == path || is_above(leaf));
        let has_room = (self.admitted.len() as u64) < callers;
        if asks && has_room {
            self.admitted.push(client);
        }
        asks && has_room
    }

    fn to_json(&self, now: Date) -> Value {
        let mut object = self.spec.to_json();
        object.insert("id".into(), json!(self.id));
        // Of an auto scaling event `state` is the one it was given.
        let phase = self.phase(now).name();
        object.entry("state").or_insert_with(|| json!(phase));
        object.insert("notice".into(), json!(self.notice.to_string()));
        if let Some((from, to)) = self.maintenance_times() {
            object.insert("not_before".into(), json!(from.to_string()));
            if let Some(to) = to {
                object.insert("not_after".into(), json!(to.to_string()));
            }
        }
        if let EventKind::SpotInterruption { time, .. } = self.spec.kind {
            object.insert("time".into(), json!(self.interruption(time).to_string()));
        }
        Value::Object(object)
    }

    fn interruption(&self, time: Option<Date>) -> Date {
        time.unwrap_or(self.notice + SPOT_NOTICE)
    }
}

/// Which events show, and in which phase: what decides how the tree looks.
pub type Showing = Vec<(String, Phase)>;

/// What became of a change of an event's state.
pub enum Closed {
    Done,
    NoSuchEvent,
    /// Only maintenance is completed or canceled.
    NotMaintenance,
}

/// All events of the instance.
#[derive(Default)]
pub struct Events {
    list: Mutex<List>,
    /// How many there are: without any, a request takes no lock.
    count: AtomicUsize,
}

#[derive(Default)]
struct List {
    events: Vec<Event>,
    issued: u64,
}

impl Events {
    fn lock(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an event and returns it as it is shown; `None` when there are too many.
    pub fn add(&self, spec: EventSpec, now: Date) -> Option<Value> {
        let mut list = self.lock();
        if list.events.len() >= MAX_EVENTS {
            return None;
        }
        list.issued += 1;
        let notice = match spec.notice {
            // As it is shown: a clock set back to that second finds it there.
            Notice::Now => now.truncate_to_second(),
            Notice::In(after) => now + after,
            Notice::At(at) => at,
        };
        let event = Event {
            id: stable_id("instance-event", &list.issued.to_string()),
            spec,
            notice,
            closed: None,
            admitted: Vec::new(),
        };
        let shown = event.to_json(now);
        list.events.push(event);
        self.count.store(list.events.len(), Ordering::Relaxed);
        Some(shown)
    }

    /// Every event, as it is shown.
    pub fn list(&self, now: Date) -> Vec<Value> {
        self.lock()
            .events
            .iter()
            .map(|event| event.to_json(now))
            .collect()
    }

    /// Completes or cancels maintenance.
    pub fn close(&self, id: &str, phase: Phase) -> Closed {
        let mut list = self.lock();
        match list.events.iter_mut().find(|event| event.id == id) {
            None => Closed::NoSuchEvent,
            Some(event) if event.maintenance_times().is_none() => Closed::NotMaintenance,
            Some(event) => {
                event.closed = Some(phase);
                Closed::Done
            }
        }
    }

    /// Erases an event. Whether there was one.
    pub fn remove(&self, id: &str) -> bool {
        let mut list = self.lock();
        let before = list.events.len();
        list.events.retain(|event| event.id != id);
        self.count.store(list.events.len(), Ordering::Relaxed);
        list.events.len() < before
    }

    /// What shows to `client`, who asks for `path`, in the order of the notices: where two events
    /// have the same document, the later one is in it. Without a client, what shows to everyone.
    pub fn showing(&self, clock: &Clock, client: Option<IpAddr>, path: &str) -> Showing {
        if self.count.load(Ordering::Relaxed) == 0 {
            return Showing::new();
        }
        let now = clock.now();
        let mut list = self.lock();
        let visible = list.events.iter_mut().filter_map(|event| {
            let phase = event.phase(now);
            let shows = phase != Phase::Pending && event.shows_to(client, path);
            shows.then(|| (event.notice, event.id.clone(), phase))
        });
        let mut visible: Vec<_> = visible.collect();
        visible.sort_by_key(|(notice, ..)| *notice);
        (visible.into_iter())
            .map(|(_, id, phase)| (id, phase))
            .collect()
    }

    /// Adds the documents of what shows.
    pub fn add_to(&self, showing: &Showing, leaves: &mut Leaves) {
        let list = self.lock();
        let (mut scheduled, mut history) = (Vec::new(), Vec::new());
        for (id, phase) in showing {
            let Some(event) = list.events.iter().find(|event| event.id == *id) else {
                continue;
            };
            match &event.spec.kind {
                EventKind::SpotInterruption { action, time } => {
                    let time = event.interruption(*time).to_string();
                    leaves.text(
                        SPOT,
                        format!("{{\"action\": \"{action}\", \"time\": \"{time}\"}}"),
                    );
                    if action == "terminate" {
                        leaves.text(TERMINATION, time);
                    }
                }
                EventKind::RebalanceRecommendation => {
                    let notice = event.notice;
                    leaves.text(REBALANCE, format!("{{\"noticeTime\": \"{notice}\"}}"));
                }
                EventKind::ScheduledMaintenance { .. } => {
                    let document = maintenance(event, *phase);
                    match phase {
                        Phase::Active => scheduled.push(document),
                        _ => history.push(document),
                    }
                }
                EventKind::AutoscalingTargetLifecycleState { state } => {
                    leaves.text(AUTOSCALING, state.as_str());
                }
                EventKind::TerminationTime { time } => leaves.text(TERMINATION, time.to_string()),
            }
        }
        for (path, documents) in [(SCHEDULED, scheduled), (HISTORY, history)] {
            if !documents.is_empty() {
                leaves.text(path, format!("[ {} ]", documents.join(", ")));
            }
        }
    }
}

/// One object of the maintenance lists (docs/reference/metadata.md, "Events").
fn maintenance(event: &Event, phase: Phase) -> String {
    let EventKind::ScheduledMaintenance {
        code, description, ..
    } = &event.spec.kind
    else {
        return String::new();
    };
    let (from, to) = event.maintenance_times().unwrap_or((event.notice, None));
    let prefix = match phase {
        Phase::Completed => "[Completed] ",
        Phase::Canceled => "[Canceled] ",
        Phase::Pending | Phase::Active => "",
    };
    let fields = [
        ("NotBefore", Some(from.maintenance())),
        ("Code", Some(code.clone())),
        ("Description", Some(format!("{prefix}{description}"))),
        ("EventId", Some(event.id.clone())),
        ("NotAfter", to.map(Date::maintenance)),
        ("State", Some(phase.name().to_owned())),
    ];
    let fields = fields
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), json!(value?))));
    object(fields)
}

/// The events of a configuration, from the start on.
pub fn from_config(specs: &[EventSpec], now: Date) -> Events {
    let events = Events::default();
    for spec in specs {
        events.add(spec.clone(), now);
    }
    events
}

/// What [`Events::close`] is told by: one key, `state`. The error names the key that is wrong.
pub fn parse_closing(object: &Map<String, Value>) -> Result<Phase, String> {
    if let Some(key) = object.keys().find(|key| *key != "state") {
        return Err(format!("{key}: unknown here"));
    }
    match object.get("state").and_then(Value::as_str) {
        Some("completed") => Ok(Phase::Completed),
        Some("canceled") => Ok(Phase::Canceled),
        _ => Err("state: expected \"completed\" or \"canceled\"".to_owned()),
    }
}
