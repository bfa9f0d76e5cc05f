//! When STS is asked, signed by what, and what its answers change (docs/architecture.md, D6): a
//! machine of events and moments that reads no clock, sends nothing and writes nothing.
//! [`Renewal::step`] says what is to be done; `worker` does it.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use super::answer::{CallError, Exchange, Grant, Kind, UNUSABLE};
use super::calls::{Call, Calls, Purpose, UnderWay};
use super::clock::{Clock, Moment};
use super::schedule::{self, Failed};
use super::secret::Credentials;
use super::session::{Failure, FailureCode, Session};
use super::signers::{Offered, Signers};
use super::state::{LastError, State};
use super::text::presentable;
use crate::date::Date;

/// How often the wall clock is looked at: a machine that slept is late by this much at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Offers on trial at once. A further one waits, and of those only the newest.
const MAX_TRIALS: usize = 4;
/// Calls under way that renew. All but one have been overtaken by offers that worked.
const MAX_RENEWALS: usize = 2;

const NO_BOOTSTRAP: &str =
    "No bootstrap credentials yet: POST them to /bootstrap/creds of the admin service";
/// The failure between the first credentials and the first answer.
const NOT_ANSWERED: &str = "The first AssumeRole call has not been answered yet";

/// What happens to a renewal.
pub(super) enum Event {
    /// Bootstrap credentials to be tried.
    Offer(Arc<Credentials>),
    /// What came of the call of that number.
    Answer(u64, Exchange),
    /// The time that [`Renewal::pause`] named has passed, or some of it.
    Wake,
}

/// What is to be done, in that order.
pub(super) enum Action {
    Call(Call),
    /// A line for each change of state.
    Log(String),
    /// [`Renewal::bootstrap`] and the session are worth to be remembered.
    Save,
}

/// A session of the role being kept valid.
pub(super) struct Renewal {
    role: String,
    session_name: String,
    /// In 0..1.
    random: fn() -> f64,
    now: Moment,
    actions: Vec<Action>,

    /// As published. Its clock is one that STS has accepted a call by.
    state: State,
    /// Dates the next call. Measured from any answer, so that one who answers in STS's place with a
    /// wrong `Date` withdraws nothing.
    clock: Clock,
    was_live: bool,
    signers: Signers,
    calls: Calls,
    /// The last one that had started when the session was granted.
    granted_at: u64,
    /// When to renew, if there is something to sign with; `None` while a renewal is under way.
    due: Option<Date>,
    /// Failures in a row.
    failures: u32,
}

impl Renewal {
    /// Takes over what was remembered; a session that still lives is served from now on.
    pub(super) fn new(
        (role, session_name): (&str, &str),
        bootstrap: Option<Arc<Credentials>>,
        session: Option<Arc<Session>>,
        random: fn() -> f64,
        now: Moment,
    ) -> Renewal {
        let clock = Clock::new(now);
        let at = clock.at(now);
        let live = session.as_ref().filter(|session| at < session.expires);
        let failure = match (live, &bootstrap) {
            (Some(session), _) => Failure::at_expiry(session),
            (None, Some(_)) => Failure::unexplained(NOT_ANSWERED, at),
            (None, None) => Failure::unexplained(NO_BOOTSTRAP, at),
        };
        let mut renewal = Renewal {
            role: role.to_owned(),
            session_name: session_name.to_owned(),
            random,
            now,
            actions: Vec::new(),
            was_live: live.is_some(),
            // At once, for nobody has looked yet whether the clock is right.
            due: Some(at),
            state: State {
                clock,
                session,
                failure,
                is_waiting: true,
                is_asking: false,
                last_attempt: None,
                last_error: None,
                next_attempt: None,
                renewals: 0,
            },
            clock,
            signers: Signers::new(bootstrap),
            calls: Calls::default(),
            granted_at: 0,
            failures: 0,
        };
        renewal.derive();
        renewal
    }

    /// What readers are to see after each step, before its actions are done.
    pub(super) fn state(&self) -> &State {
        &self.state
    }

    /// The bootstrap credentials that have worked.
    pub(super) fn bootstrap(&self) -> Option<&Arc<Credentials>> {
        self.signers.proven()
    }

    /// Takes in what has happened and what is due.
    pub(super) fn step(&mut self, event: Event, now: Moment) -> Vec<Action> {
        self.now = now;
        match event {
            Event::Offer(credentials) => self.take_offer(credentials),
            Event::Answer(id, exchange) => self.take_answer(id, exchange),
            Event::Wake => {}
        }
        self.notice_expiry();
        self.start_due_calls();
        self.derive();
        std::mem::take(&mut self.actions)
    }

    /// How long nothing will happen by itself.
    pub(super) fn pause(&self, now: Moment) -> Duration {
        let expiry = self.state.live(now).map(|session| session.expires);
        [self.next_attempt(), expiry]
            .into_iter()
            .flatten()
            .map(|at| Duration::try_from(at - self.state.clock.at(now)).unwrap_or_default())
            .fold(LONGEST_PAUSE, Duration::min)
    }

    fn time(&self) -> Date {
        self.state.clock.at(self.now)
    }

    fn log(&mut self, line: String) {
        self.actions.push(Action::Log(line));
    }

    /// Sets what of the state follows from all else.
    fn derive(&mut self) {
        self.state.is_waiting = self.bootstrap().is_none() && self.state.last_error.is_none();
        self.state.next_attempt = self.next_attempt();
        self.state.is_asking = !self.calls.is_empty() || self.state.next_attempt.is_some();
    }

    fn notice_expiry(&mut self) {
        let is_live = self.state.live(self.now).is_some();
        if self.was_live && !is_live {
            // The tries shortly before the expiry shall not slow down those that matter now.
            self.failures = 0;
            let because = match &self.state.last_error {
                Some(error) => error.to_string(),
                None => "STS has not answered yet".to_owned(),
            };
            self.log(format!(
                "expired: no credentials are served until STS gives new ones ({because})"
            ));
        }
        self.was_live = is_live;
    }

    /// What would sign a renewal now.
    fn renewer(&self) -> Option<(Purpose, &Arc<Credentials>)> {
        if self.calls.renewals() >= MAX_RENEWALS {
            return None;
        }
        let has_other = self.bootstrap().is_some()
            || self.signers.offered().is_some()
            || self.calls.trials() > 0;
        let session = self.state.session.as_ref().filter(|session| {
            // Where nothing else can sign, also one that is over: then nothing is lost by asking,
            // and the clock may be wrong. So it may be where two clocks disagree.
            let now = self.time().min(self.clock.at(self.now));
            !has_other || now < session.expires
        });
        match (session, self.bootstrap()) {
            (Some(session), _) => Some((Purpose::BySession, &session.credentials)),
            (None, Some(bootstrap)) => Some((Purpose::ByBootstrap(None), bootstrap)),
            (None, None) => None,
        }
    }

    /// When the next call starts.
    fn next_attempt(&self) -> Option<Date> {
        let renewal = self.due.filter(|_| self.renewer().is_some());
        let offered = self.signers.offered();
        let offered = offered.filter(|_| self.calls.trials() < MAX_TRIALS);
        let trial = offered.map(|offered| offered.due);
        renewal.into_iter().chain(trial).min()
    }

    fn start_due_calls(&mut self) {
        let now = self.time();
        if self.due.is_some_and(|due| due <= now)
            && let Some((purpose, signer)) = self.renewer()
        {
            let signer = signer.clone();
            self.due = None;
            self.call(purpose, signer, false);
        }
        if self.calls.trials() < MAX_TRIALS
            && let Some(offered) = self.signers.take_due(now)
        {
            let (offer, failures) = (offered.offer, offered.failures);
            let purpose = Purpose::Trial { offer, failures };
            self.call(purpose, offered.credentials, false);
        }
    }

    fn call(&mut self, purpose: Purpose, signer: Arc<Credentials>, is_second: bool) {
        self.state.last_attempt = Some(self.time());
        let call = self.calls.start(purpose, signer, self.clock, is_second);
        self.actions.push(Action::Call(call));
    }

    fn take_offer(&mut self, credentials: Arc<Credentials>) {
        let due = self.time();
        if self.state.session.is_none() && self.state.last_error.is_none() {
            self.state.failure = Failure::unexplained(NOT_ANSWERED, due);
        }
        self.signers.offer(credentials, due);
    }

    fn take_answer(&mut self, id: u64, exchange: Exchange) {
        let Some(under_way) = self.calls.end(id) else {
            return;
        };
        let is_overtaken = match under_way.purpose {
            Purpose::Trial { offer, .. } => self.signers.have_overtaken(offer),
            _ => id <= self.granted_at,
        };
        if is_overtaken {
            return;
        }
        let measured = exchange.corrected(under_way.call.clock);
        let clock = measured.unwrap_or(under_way.call.clock);
        let now = clock.at(self.now);
        let granted = exchange
            .outcome
            .and_then(|grant| match grant.expires > now {
                true => Ok(grant),
                false => {
                    let what = format!(
                        "credentials that expired at {}, and it is {now}",
                        grant.expires
                    );
                    Err(CallError::unanswered(UNUSABLE, what))
                }
            });
        if measured.is_some() || granted.is_ok() {
            self.clock = clock;
        }
        match granted {
            Ok(grant) => {
                self.trust(clock);
                self.granted(under_way, grant);
            }
            Err(error)
                if measured.is_some() && !under_way.is_second && error.may_be_the_clock() =>
            {
                self.call(under_way.purpose, under_way.call.signer, true);
            }
            Err(error) => self.refused(under_way, error, measured.is_some()),
        }
    }

    /// Judges by `clock` from now on, for STS has accepted what it dated.
    fn trust(&mut self, clock: Clock) {
        if clock == self.state.clock {
            return;
        }
        let shift = clock.at(self.now) - self.time();
        self.state.clock = clock;
        // As far away as it was.
        self.signers.shift(shift);
        let seconds = clock.correction().whole_seconds();
        let side = if seconds < 0 { "ahead of" } else { "behind" };
        let seconds = seconds.abs();
        self.log(format!(
            "clock: this machine's is {seconds} s {side} STS's; corrected for"
        ));
    }

    fn granted(&mut self, under_way: UnderWay, grant: Grant) {
        let now = self.time();
        let signer = under_way.call.signer;
        let session = Session::new(grant.credentials, grant.expires, now);
        let change = match (&self.state.session, &self.state.last_error) {
            (None, _) => "assumed",
            (Some(_), Some(_)) => "recovered",
            (Some(_), None) => "renewed",
        };
        let mut line = format!(
            "{change}: role {}, session {}, key {}, expires {}, signed by {}",
            self.role,
            self.session_name,
            self.presentable(session.access_key_id(), &signer),
            session.expires,
            self.presentable(&signer.access_key_id, &signer),
        );
        match under_way.purpose {
            Purpose::Trial { offer, .. } => self.signers.prove(offer, signer),
            Purpose::BySession => {}
            Purpose::ByBootstrap(refusal) => {
                self.signers.set_dead(false);
                if let Some(refusal) = refusal {
                    line.push_str(&format!(" because the session was refused: {refusal}"));
                }
            }
        }
        self.due = Some(schedule::renewal(now, session.expires, (self.random)()));
        self.granted_at = self.calls.last();
        self.failures = 0;
        self.state.last_error = None;
        self.state.failure = Failure::at_expiry(&session);
        self.state.renewals += u64::from(self.state.session.is_some());
        self.state.session = Some(Arc::new(session));
        self.log(line);
        self.actions.push(Action::Save);
    }

    fn refused(&mut self, under_way: UnderWay, error: CallError, was_corrected: bool) {
        let signer = under_way.call.signer;
        let mut shown = LastError {
            code: self.presentable(&error.code, &signer),
            message: self.presentable(&error.message, &signer),
        };
        match (under_way.purpose, self.bootstrap().cloned()) {
            (Purpose::Trial { offer, failures }, _) => {
                let offered = Offered {
                    credentials: signer,
                    offer,
                    failures: failures + 1,
                    due: self.retry(&error, failures + 1),
                };
                return self.trial_failed(offered, &error, shown);
            }
            (Purpose::BySession, Some(bootstrap))
                if matches!(error.kind, Kind::Denied | Kind::Dead) =>
            {
                return self.call(Purpose::ByBootstrap(Some(shown)), bootstrap, false);
            }
            (Purpose::ByBootstrap(refusal), _) => {
                if error.kind == Kind::Dead {
                    self.signers.set_dead(true);
                }
                if let Some(refusal) = refusal {
                    let too = format!("; before that the session was refused: {refusal}");
                    shown.message.push_str(&too);
                }
            }
            _ => {}
        }
        self.failures += 1;
        self.due = Some(match self.failures {
            1 if was_corrected || under_way.is_second => self.time(),
            failures => self.retry(&error, failures),
        });
        self.failed(error.kind, shown);
    }

    /// Offered credentials did not work. They are kept where a later trial may say more, or where
    /// there is nothing better.
    fn trial_failed(&mut self, offered: Offered, error: &CallError, shown: LastError) {
        let key_id = &offered.credentials.access_key_id;
        let key_id = self.presentable(key_id, &offered.credentials);
        let has_better = self.signers.has_working() || self.state.live(self.now).is_some();
        if has_better && error.kind != Kind::Transient {
            return self.log(format!(
                "offered credentials {key_id} are not taken: {shown}"
            ));
        }
        let is_first = offered.failures == 1;
        self.signers.wait(offered);
        if !has_better {
            // What is dead makes room.
            self.signers.forget();
            self.failed(error.kind, shown);
        } else if is_first {
            self.log(format!(
                "offered credentials {key_id} are tried again later: {shown}"
            ));
        }
    }

    fn retry(&self, error: &CallError, failures: u32) -> Date {
        let failed = Failed {
            failures,
            is_refusal: error.kind != Kind::Transient,
            retry_after: error.retry_after,
            live_until: self.state.live(self.now).map(|session| session.expires),
        };
        schedule::retry(self.time(), failed, (self.random)())
    }

    /// Makes an error known; a line only where it is another than before.
    fn failed(&mut self, kind: Kind, error: LastError) {
        let why = format!("AssumeRole failed: {error}");
        let denied = FailureCode::AssumeRoleUnauthorizedAccess;
        // What EC2 says, and behind it what only we know.
        let (code, message) = match kind {
            Kind::Denied => (denied, format!("{} {why}", denied.message(&self.role))),
            _ => (FailureCode::Failed, why),
        };
        self.state.failure = Arc::new(Failure {
            code,
            message,
            last_updated: self.time(),
        });
        let last = self.state.last_error.replace(error.clone());
        if last.is_none_or(|last| last.code != error.code) {
            let next = self.next_attempt();
            let next = next.map_or("unknown".to_owned(), |at| at.to_string());
            let served = match self.state.live(self.now) {
                Some(session) => format!("served until {}", session.expires),
                None => "nothing to serve".to_owned(),
            };
            self.log(format!("failing: {error}; next try {next}, {served}"));
        }
    }

    /// A text of STS without anything we hold or signed with.
    fn presentable(&self, text: &str, signer: &Credentials) -> String {
        let session = self.state.session.as_ref();
        let offered = self.signers.offered();
        let held = [
            session.map(|session| &*session.credentials),
            self.bootstrap().map(|bootstrap| &**bootstrap),
            offered.map(|offered| &*offered.credentials),
            Some(signer),
        ];
        presentable(
            text,
            held.into_iter().flatten().flat_map(Credentials::secrets),
        )
    }
}
