//! Watches the metadata port: keeps the journal, judges clients and counts requests. There is one
//! only where somebody can ask for what it saw; without one a request costs nothing here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::journal::{Entry, Journal, Text};
use super::outcome::{Outcome, Protocol};
use super::verdict::Seen;
use super::verdicts::{Findings, Verdicts};
use crate::clock::Clock;
use crate::date::Date;
use crate::http::Request;
use crate::instance::TOKEN;

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

    /// Notes a request and what became of it, before the answer leaves: who has it finds it noted.
    /// `clock` is the instance's.
    pub fn note(&self, clock: &Clock, request: &Request, arrival: &Arrival, outcome: Outcome) {
        let now = Instant::now();
        let token = request
            .has_field(TOKEN)
            .then(|| request.field(TOKEN).unwrap_or_default());
        let seen = Seen {
            client: request.caller.address,
            at: now - self.started,
            instance_ms: clock.unix_ms(),
            path: request.path,
            token,
            outcome,
        };
        let entry = Entry {
            time: arrival.time,
            client: request.caller.address,
            method: request.method.name(),
            path: Text::new(request.path),
            status: outcome.status,
            imds: outcome.protocol,
            token_age_s: outcome.token_age_s,
            duration_ms: milliseconds(now - arrival.at),
            fault: outcome.fault,
            user_agent: request.field("User-Agent").map(Text::new),
        };
        let entry = Arc::new(entry);
        let mut state = self.lock();
        *(state.requests)
            .entry((Some(outcome.protocol), outcome.status))
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

/// Milliseconds, as exact as a microsecond.
fn milliseconds(duration: Duration) -> f64 {
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    micros as f64 / 1000.0
}
