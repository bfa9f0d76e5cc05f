//! What readers see: the session or the failure, published whole by the refreshing thread and read
//! without waiting. Whether a session still lives is judged at each reading.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use serde::Serialize;

use super::clock::Clock;
use super::secret::{Credentials, Secret};
use crate::date::Date;

/// Credentials that STS handed out. Key, secret, token and dates belong together and change
/// together.
pub struct Session {
    pub(super) credentials: Arc<Credentials>,
    pub(super) expires: Date,
    pub(super) last_updated: Date,
    documents: Slot,
}

impl Session {
    /// `credentials` must have a token, as those from STS do.
    pub(super) fn new(credentials: Credentials, expires: Date, last_updated: Date) -> Session {
        Session {
            credentials: Arc::new(credentials),
            expires,
            last_updated,
            documents: Slot::default(),
        }
    }

    pub fn access_key_id(&self) -> &str {
        &self.credentials.access_key_id
    }

    pub fn secret_access_key(&self) -> &str {
        self.credentials.secret_access_key.expose()
    }

    pub fn token(&self) -> &str {
        self.credentials.token.as_ref().map_or("", Secret::expose)
    }

    /// In whole seconds.
    pub fn expires(&self) -> Date {
        self.expires
    }

    /// When STS handed them out.
    pub fn last_updated(&self) -> Date {
        self.last_updated
    }

    /// What `render` makes of this session: called the first time, remembered afterwards. All
    /// callers must ask for the same type.
    pub fn documents<T: Any + Send + Sync>(&self, render: impl FnOnce(&Session) -> T) -> Arc<T> {
        self.documents.get(|| render(self))
    }
}

/// Why there are no credentials.
pub struct Failure {
    /// The value of `Code` in the failure document.
    pub code: FailureCode,
    /// Fit to be shown: no secret, no control character.
    pub message: String,
    pub last_updated: Date,
    documents: Slot,
}

/// The codes of EC2's failure documents that apply (design D6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureCode {
    AssumeRoleUnauthorizedAccess,
    Failed,
}

impl FailureCode {
    /// As it stands in the document.
    pub fn as_str(self) -> &'static str {
        match self {
            FailureCode::AssumeRoleUnauthorizedAccess => "AssumeRoleUnauthorizedAccess",
            FailureCode::Failed => "Failed",
        }
    }
}

impl Failure {
    pub(super) fn new(code: FailureCode, message: String, at: Date) -> Failure {
        Failure {
            code,
            message,
            last_updated: at,
            documents: Slot::default(),
        }
    }

    /// As [`Session::documents`].
    pub fn documents<T: Any + Send + Sync>(&self, render: impl FnOnce(&Failure) -> T) -> Arc<T> {
        self.documents.get(|| render(self))
    }
}

/// A place for what a caller makes of a published value, so that it is made once.
#[derive(Default)]
struct Slot(OnceLock<Arc<dyn Any + Send + Sync>>);

impl Slot {
    fn get<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> Arc<T> {
        let made = self.0.get_or_init(|| Arc::new(make()));
        Arc::downcast(made.clone()).expect("all callers ask for the same type")
    }
}

/// What there is now.
#[derive(Clone)]
pub enum Current {
    Valid(Arc<Session>),
    Failed(Arc<Failure>),
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

/// `GET /status?verbose`. Dates are UTC, `YYYY-MM-DDTHH:MM:SSZ`, by STS's clock.
#[derive(Clone, Debug, Serialize)]
pub struct VerboseStatus {
    /// `waiting`, `valid`, `stale` or `failed`.
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
}

/// The role in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measures {
    /// As in [`VerboseStatus`].
    pub state: &'static str,
    /// Until the credentials expire, by STS's clock; `None` when there are none.
    pub seconds_left: Option<i64>,
    /// How often a session took the place of an earlier one.
    pub renewals: u64,
}

/// Everything that is published, as one value.
#[derive(Clone)]
pub(super) struct State {
    pub(super) clock: Clock,
    /// The latest session, perhaps expired meanwhile.
    pub(super) session: Option<Arc<Session>>,
    /// What holds when there is no session or it has expired.
    pub(super) failure: Arc<Failure>,
    /// No bootstrap credential has come yet.
    pub(super) is_waiting: bool,
    pub(super) last_attempt: Option<Date>,
    pub(super) last_error: Option<LastError>,
    pub(super) next_attempt: Option<Date>,
    /// How often a session took the place of an earlier one.
    pub(super) renewals: u64,
}

impl State {
    /// The session, if it lives now.
    pub(super) fn live(&self) -> Option<&Arc<Session>> {
        self.session
            .as_ref()
            .filter(|session| self.clock.now() < session.expires)
    }

    fn name(&self) -> &'static str {
        match (self.live(), &self.last_error, self.is_waiting) {
            (Some(_), None, _) => "valid",
            (Some(_), Some(_), _) => "stale",
            (None, _, true) => "waiting",
            (None, _, false) => "failed",
        }
    }

    pub(super) fn measures(&self) -> Measures {
        let left = |session: &Arc<Session>| (session.expires - self.clock.now()).whole_seconds();
        Measures {
            state: self.name(),
            seconds_left: self.live().map(left),
            renewals: self.renewals,
        }
    }

    pub(super) fn verbose(&self, role_arn: &str, session_name: &str) -> VerboseStatus {
        let live = self.live();
        VerboseStatus {
            state: self.name(),
            role_arn: role_arn.to_owned(),
            session_name: session_name.to_owned(),
            access_key_id: live.map(|session| session.access_key_id().to_owned()),
            expiration: live.map(|session| session.expires.to_string()),
            last_attempt: self.last_attempt.map(|at| at.to_string()),
            last_error: self.last_error.clone(),
            next_attempt: self.next_attempt.map(|at| at.to_string()),
            clock_correction_seconds: self.clock.correction().whole_seconds(),
        }
    }
}

/// Where the refreshing thread puts what readers take. The lock is held for a pointer's copy only.
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
