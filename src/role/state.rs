//! What a renewal has come to, published whole after each of its steps and read without waiting.
//! Whether a session still lives is judged at each reading.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use serde::Serialize;

use super::clock::{Clock, Moment};
use super::session::{Current, Failure, Session};
use crate::date::Date;

/// What a role is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing: what it hands out is written in the configuration.
    Static,
    /// For bootstrap credentials; nothing is served.
    Waiting,
    /// Serving what STS gave last.
    Valid,
    /// Serving it still, though STS has given nothing since it was asked again.
    Stale,
    /// Serving nothing, and asking STS.
    Failed,
}

impl Phase {
    pub const ALL: [Phase; 5] = [
        Phase::Static,
        Phase::Waiting,
        Phase::Valid,
        Phase::Stale,
        Phase::Failed,
    ];

    /// As `GET /status?verbose` and the metrics show it.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Static => "static",
            Phase::Waiting => "waiting",
            Phase::Valid => "valid",
            Phase::Stale => "stale",
            Phase::Failed => "failed",
        }
    }
}

/// An error of a call, as a person sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LastError {
    /// STS's code, or `NoAnswer`, or `UnusableAnswer`.
    pub code: String,
    pub message: String,
}

impl fmt::Display for LastError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

/// `GET /status?verbose`. Dates are UTC, `YYYY-MM-DDTHH:MM:SSZ`, by STS's clock. Has no secret.
#[derive(Clone, Debug, Serialize)]
pub struct VerboseStatus {
    /// The name of a [`Phase`].
    pub state: &'static str,
    pub role_arn: String,
    pub session_name: String,
    pub access_key_id: Option<String>,
    pub expiration: Option<String>,
    pub last_attempt: Option<String>,
    pub last_error: Option<LastError>,
    pub next_attempt: Option<String>,
    /// What STS's clock is ahead of this machine's.
    pub clock_correction_seconds: i64,
    /// The same of the session for version 1, where it has its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub v1: Option<Box<VerboseStatus>>,
}

/// Everything that is published, as one value.
#[derive(Clone)]
pub(super) struct State {
    /// By which expiries are judged.
    pub(super) clock: Clock,
    /// The latest session, perhaps expired meanwhile.
    pub(super) session: Option<Arc<Session>>,
    /// What holds when there is no session or it has expired.
    pub(super) failure: Arc<Failure>,
    /// No bootstrap credential has come yet.
    pub(super) is_waiting: bool,
    /// STS is being asked, or will be.
    pub(super) is_asking: bool,
    pub(super) last_attempt: Option<Date>,
    pub(super) last_error: Option<LastError>,
    pub(super) next_attempt: Option<Date>,
    /// How often a session took the place of an earlier one.
    pub(super) renewals: u64,
}

impl State {
    /// The session, if it lives at that moment.
    pub(super) fn live(&self, at: Moment) -> Option<&Arc<Session>> {
        let session = self.session.as_ref()?;
        (self.clock.at(at) < session.expires).then_some(session)
    }

    pub(super) fn current(&self, at: Moment) -> Current {
        match self.live(at) {
            Some(session) => Current::Valid(session.clone()),
            None => Current::Failed(self.failure.clone()),
        }
    }

    pub(super) fn phase(&self, at: Moment) -> Phase {
        match (self.live(at), &self.last_error, self.is_waiting) {
            (Some(_), None, _) => Phase::Valid,
            (Some(_), Some(_), _) => Phase::Stale,
            (None, _, true) => Phase::Waiting,
            (None, _, false) => Phase::Failed,
        }
    }

    /// Whether STS has answered, or will not as long as nobody gives it something to answer.
    pub(super) fn is_settled(&self, at: Moment) -> bool {
        self.live(at).is_some() || self.last_error.is_some() || !self.is_asking
    }

    /// Until the credentials expire.
    pub(super) fn seconds_left(&self, at: Moment) -> Option<i64> {
        let left = self.live(at)?.expires - self.clock.at(at);
        Some(left.whole_seconds())
    }

    pub(super) fn verbose(&self, role_arn: &str, session_name: &str, at: Moment) -> VerboseStatus {
        let live = self.live(at);
        let shown = |date: Option<Date>| date.map(|date| date.to_string());
        VerboseStatus {
            state: self.phase(at).name(),
            role_arn: role_arn.to_owned(),
            session_name: session_name.to_owned(),
            access_key_id: live.map(|session| session.access_key_id().to_owned()),
            expiration: shown(live.map(|session| session.expires)),
            last_attempt: shown(self.last_attempt),
            last_error: self.last_error.clone(),
            next_attempt: shown(self.next_attempt),
            clock_correction_seconds: self.clock.correction().whole_seconds(),
            v1: None,
        }
    }
}

/// Where the worker puts what readers take. The lock is held for a pointer's copy only.
pub(super) struct Board(RwLock<Arc<State>>);

impl Board {
    pub(super) fn new(first: State) -> Board {
        Board(RwLock::new(Arc::new(first)))
    }

    pub(super) fn publish(&self, next: State) {
        let next = Arc::new(next);
        let previous = {
            let mut place = self.0.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *place, next)
        };
        // Freed, and wiped, outside the lock.
        drop(previous);
    }

    pub(super) fn read(&self) -> Arc<State> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
