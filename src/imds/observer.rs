//! Watches the metadata port: keeps the journal, judges clients and counts requests. There is one
//! only where somebody can ask for what it saw; without one a request costs nothing here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde_json::Value;

use super::journal::{Entry, Journal, Protocol, Text};
use super::verdicts::{Announcement, Asked, Findings, Seen, Verdicts, announcement};
use super::{Imds, TOKEN, faults, issues_tokens};
use crate::config::Effect;
use crate::date::Date;
use crate::http::{Delivery, Method, Reply, Request};

/// When a request came.
pub struct Arrival {
    at: Instant,
    time: Date,
}

impl Arrival {
    /// The request has just come.
    pub fn now() -> Arrival {
        Arrival {
            at: Instant::now(),
            time: Date::now(),
        }
    }
}

/// Requests by protocol (`None`: no request could be read) and status.
pub type Requests = BTreeMap<(Option<Protocol>, u16), u64>;

/// What has been seen since the start.
pub struct Observer {
    started: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    journal: Journal,
    verdicts: Verdicts,
    requests: Requests,
}

impl Default for Observer {
    fn default() -> Observer {
        Observer {
            started: Instant::now(),
            state: Mutex::default(),
        }
    }
}

impl Observer {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a request and its answer, before the answer leaves: who has it finds it noted.
    pub fn note(
        &self,
        imds: &Imds,
        request: &Request,
        arrival: &Arrival,
        fault: &faults::Verdict,
        reply: &Reply,
    ) {
        let now = Instant::now();
        let token = request
            .has_field(TOKEN)
            .then(|| request.field(TOKEN).unwrap_or_default());
        let protocol = match token {
            _ if issues_tokens(request.path) => Protocol::Token,
            Some(_) => Protocol::V2,
            None => Protocol::V1,
        };
        let asked = match (protocol, request.method) {
            (Protocol::Token, Method::Put) => Asked::Token,
            (Protocol::V1 | Protocol::V2, Method::Get | Method::Head) => Asked::Read,
            _ => Asked::Other,
        };
        let seen = Seen {
            client: request.caller.address,
            at: now - self.started,
            instance_ms: imds.clock.unix_ms(),
            protocol,
            asked,
            path: request.path,
            token,
            status: reply.status,
            is_forced: is_forced(imds, request, fault.effect, reply),
            interruption_ms: interruption_ms(request, reply),
        };
        let token = token.filter(|_| protocol == Protocol::V2);
        let entry = Entry {
            time: arrival.time,
            client: request.caller.address,
            method: request.method.name(),
            path: Text::new(request.path),
            status: reply.status,
            imds: protocol,
            token_age_s: token.and_then(|token| imds.tokens.age(token, imds.clock.monotonic_us())),
            duration_ms: (now - arrival.at).as_micros() as u64 as f64 / 1000.0,
            fault: fault.fault,
            user_agent: request.field("User-Agent").map(Text::new),
        };
        let entry = Arc::new(entry);
        let mut state = self.lock();
        *(state.requests)
            .entry((Some(protocol), reply.status))
            .or_default() += 1;
        state.verdicts.note(&seen);
        let gone = state.journal.push(entry);
        drop(state);
        drop(gone);
    }

    /// Counts what was no request, answered with that status.
    pub fn note_refusal(&self, status: u16) {
        *self.lock().requests.entry((None, status)).or_default() += 1;
    }

    /// The journal, the oldest entry first.
    pub fn entries(&self) -> Vec<Arc<Entry>> {
        self.lock().journal.entries()
    }

    /// What is said of the clients since the last [`Observer::clear`].
    pub fn findings(&self) -> Findings {
        self.lock().verdicts.findings()
    }

    /// What is, or once was, said of any client since the start.
    pub fn all_findings(&self) -> Findings {
        self.lock().verdicts.all_findings()
    }

    /// How many requests there were since the start.
    pub fn requests(&self) -> Requests {
        self.lock().requests.clone()
    }

    /// Empties the journal and judges clients anew.
    pub fn clear(&self) {
        let mut state = self.lock();
        state.journal.clear();
        state.verdicts.clear();
    }
}

/// Whether a fault or a forced status decided on the answer.
fn is_forced(imds: &Imds, request: &Request, effect: Option<Effect>, reply: &Reply) -> bool {
    match effect {
        None | Some(Effect::Slow { .. } | Effect::Truncate { .. }) => {
            // With the life of a token in it, as most have, an answer is the service's own.
            reply.first_field.is_none()
                && faults::forced_status(&imds.instance().config, request).is_some()
        }
        Some(_) => true,
    }
}

/// When the instance is interrupted, as an answer that arrives whole says.
fn interruption_ms(request: &Request, reply: &Reply) -> Option<i64> {
    let announced = announcement(request.path);
    let is_read = request.method == Method::Get
        && reply.status == 200
        && matches!(reply.delivery, Delivery::Whole | Delivery::Slow { .. });
    if announced == Announcement::No || !is_read {
        return None;
    }
    let body = reply.entity.body();
    let time = match announced {
        Announcement::Action => {
            let document: Value = serde_json::from_slice(body).ok()?;
            Date::parse(document.get("time")?.as_str()?)
        }
        Announcement::Termination => Date::parse(std::str::from_utf8(body).ok()?.trim()),
        Announcement::Directory | Announcement::No => None,
    };
    Some(time?.unix_ms())
}
