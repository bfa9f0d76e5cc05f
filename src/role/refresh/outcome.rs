//! What an answer of STS changes: the session, the bootstrap credentials, the time of the next
//! call, and what readers, the state file and the log get to see of it.

use std::sync::Arc;

use super::{Bootstrap, Call, Offered, Purpose, Refresher, unanswered_at_expiry};
use crate::date::Date;
use crate::role::answer::{CallError, Grant, Kind};
use crate::role::schedule::{self, Failed, random};
use crate::role::secret::Credentials;
use crate::role::state::{Failure, FailureCode, LastError, Session};
use crate::role::text::presentable;

impl Refresher {
    pub(super) fn granted(&mut self, call: Call, grant: Grant) {
        let now = self.state.clock.now();
        let session = Session::new(grant.credentials, grant.expires, now);
        let change = match (&self.state.session, &self.state.last_error) {
            (None, _) => "assumed",
            (Some(_), Some(_)) => "recovered",
            (Some(_), None) => "renewed",
        };
        let mut line = format!(
            "{change}: role {}, session {}, key {}, expires {}, signed by {}",
            self.spec.arn().name(),
            self.spec.session_name(),
            self.presentable(session.access_key_id(), &call.signer),
            session.expires,
            self.presentable(&call.signer.access_key_id, &call.signer),
        );
        match (call.purpose, &mut self.bootstrap) {
            (Purpose::Trial(_), bootstrap) => {
                *bootstrap = Some(Bootstrap {
                    credentials: call.signer,
                    is_dead: false,
                });
            }
            (Purpose::BySession, _) => {}
            (Purpose::ByBootstrap(refusal), bootstrap) => {
                if let Some(bootstrap) = bootstrap {
                    bootstrap.is_dead = false;
                }
                if let Some(refusal) = refusal {
                    line.push_str(&format!(" because the session was refused: {refusal}"));
                }
            }
        }
        self.due = Some(schedule::renewal(now, session.expires, random()));
        self.granted_at = self.last_call;
        self.failures = 0;
        self.state.last_error = None;
        self.state.failure = unanswered_at_expiry(&session);
        self.state.renewals += u64::from(self.state.session.is_some());
        self.state.session = Some(Arc::new(session));
        self.publish();
        (self.log)(&line);
        self.save();
    }

    pub(super) fn refused(&mut self, call: Call, error: CallError, was_corrected: bool) {
        let mut shown = LastError {
            code: self.presentable(&error.code, &call.signer),
            message: self.presentable(&error.message, &call.signer),
        };
        if let Purpose::Trial(failures) = call.purpose {
            return self.trial_failed(call.signer, failures + 1, error, shown);
        }
        // Offered credentials have worked meanwhile.
        if call.id <= self.granted_at {
            return;
        }
        match (call.purpose, &mut self.bootstrap) {
            (Purpose::BySession, Some(bootstrap))
                if matches!(error.kind, Kind::Denied | Kind::Dead) =>
            {
                let signer = bootstrap.credentials.clone();
                return self.call(Purpose::ByBootstrap(Some(shown)), signer);
            }
            (Purpose::ByBootstrap(refusal), Some(bootstrap)) => {
                bootstrap.is_dead |= error.kind == Kind::Dead;
                if let Some(refusal) = refusal {
                    let too = format!("; before that the session was refused: {refusal}");
                    shown.message.push_str(&too);
                }
            }
            _ => {}
        }
        self.failures += 1;
        let next = match was_corrected && self.failures == 1 {
            true => self.state.clock.now(),
            false => self.retry(&error, self.failures),
        };
        self.due = Some(next);
        self.failed(error.kind, shown);
    }

    /// Offered credentials did not work. They are kept where a later trial may say more, or where
    /// there is nothing better.
    fn trial_failed(
        &mut self,
        credentials: Arc<Credentials>,
        failures: u32,
        error: CallError,
        shown: LastError,
    ) {
        let key_id = self.presentable(&credentials.access_key_id, &credentials);
        let has_working = self
            .bootstrap
            .as_ref()
            .is_some_and(|bootstrap| !bootstrap.is_dead);
        let has_better = has_working || self.state.live().is_some();
        if has_better && error.kind != Kind::Transient {
            return (self.log)(&format!(
                "offered credentials {key_id} are not taken: {shown}"
            ));
        }
        if self.offered.is_none() {
            self.offered = Some(Offered {
                credentials,
                failures,
                due: self.retry(&error, failures),
            });
        }
        if !has_better {
            // What is dead makes room.
            self.bootstrap = None;
            self.failed(error.kind, shown);
        } else if failures == 1 {
            (self.log)(&format!(
                "offered credentials {key_id} are tried again later: {shown}"
            ));
        }
    }

    fn retry(&self, error: &CallError, failures: u32) -> Date {
        let failed = Failed {
            failures,
            is_refusal: error.kind != Kind::Transient,
            retry_after: error.retry_after,
            live_until: self.state.live().map(|session| session.expires),
        };
        schedule::retry(self.state.clock.now(), failed, random())
    }

    /// Makes an error known; a line only where it is another than before.
    fn failed(&mut self, kind: Kind, error: LastError) {
        let code = match kind {
            Kind::Denied => FailureCode::AssumeRoleUnauthorizedAccess,
            _ => FailureCode::Failed,
        };
        let message = format!("AssumeRole failed: {error}");
        self.state.failure = Arc::new(Failure::new(code, message, self.state.clock.now()));
        let is_news = self
            .state
            .last_error
            .as_ref()
            .is_none_or(|last| last.code != error.code);
        self.state.last_error = Some(error.clone());
        self.publish();
        if is_news {
            let next = self
                .next_attempt()
                .map_or("unknown".to_owned(), |at| at.to_string());
            let served = match self.state.live() {
                Some(session) => format!("served until {}", session.expires),
                None => "nothing to serve".to_owned(),
            };
            (self.log)(&format!("failing: {error}; next try {next}, {served}"));
        }
    }

    fn save(&mut self) {
        let Some(store) = &self.store else { return };
        let path = store.path().display();
        let bootstrap = self.bootstrap.as_ref().map(|b| &*b.credentials);
        let saved = store.save(bootstrap, self.state.session.as_deref());
        if saved.is_err() != self.save_fails {
            self.save_fails = saved.is_err();
            (self.log)(&match saved {
                Ok(()) => format!("state file {path} is written again"),
                Err(e) => format!(
                    "state file {path} cannot be written: {e}; a restart will need new bootstrap \
                     credentials"
                ),
            });
        }
    }

    /// A text of STS without anything we hold or signed with.
    fn presentable(&self, text: &str, signer: &Credentials) -> String {
        let held = [
            self.state
                .session
                .as_ref()
                .map(|session| &*session.credentials),
            self.bootstrap
                .as_ref()
                .map(|bootstrap| &*bootstrap.credentials),
            self.offered.as_ref().map(|offered| &*offered.credentials),
            Some(signer),
        ];
        presentable(
            text,
            held.into_iter().flatten().flat_map(Credentials::secrets),
        )
    }
}
