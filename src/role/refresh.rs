//! The thread that obtains and renews (design D6). It never blocks on STS: each call has a thread of
//! its own and comes back as an event, so that an expiry is noticed, an offer is tried and a stop is
//! obeyed while STS hangs.

mod outcome;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use super::clock::Clock;
use super::secret::Credentials;
use super::spec::Spec;
use super::state::{Board, Failure, FailureCode, LastError, Session, State};
use super::store::Store;
use super::sts::{Client, Exchange};
use crate::date::Date;

/// How often the wall clock is looked at: a machine that slept is late by this much at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Offers on trial at once. A further one waits, and of those only the newest.
const MAX_TRIALS: usize = 4;

/// The failure between the first credentials and the first answer.
const NOT_ANSWERED: &str = "The first AssumeRole call has not been answered yet";

/// Takes one line for each change of state, without a newline.
pub type Log = Box<dyn Fn(&str) + Send>;

/// What the thread waits for.
pub(super) enum Event {
    Offer(Credentials),
    Answer(u64, Exchange),
    Stop,
}

/// What a call is for.
enum Purpose {
    /// To find out whether offered credentials work, which so many trials could not say.
    Trial(u32),
    /// To renew, signed by the session.
    BySession,
    /// To renew, signed by the bootstrap credentials; with the reason if the session was refused.
    ByBootstrap(Option<LastError>),
}

/// A call under way.
struct Call {
    id: u64,
    purpose: Purpose,
    signer: Arc<Credentials>,
}

/// Bootstrap credentials that have not worked yet.
struct Offered {
    credentials: Arc<Credentials>,
    failures: u32,
    due: Date,
}

/// Bootstrap credentials that have worked.
struct Bootstrap {
    credentials: Arc<Credentials>,
    /// STS does not accept them any more.
    is_dead: bool,
}

/// All that the thread knows.
pub(super) struct Refresher {
    spec: Spec,
    client: Arc<Client>,
    store: Option<Store>,
    save_fails: bool,
    log: Log,
    events: Receiver<Event>,
    /// Kept for the answers of the calls.
    sender: Sender<Event>,
    board: Arc<Board>,

    /// As published, but for what is derived from the fields below.
    state: State,
    was_live: bool,
    bootstrap: Option<Bootstrap>,
    offered: Option<Offered>,
    calls: Vec<Call>,
    /// Calls are numbered in the order they start.
    last_call: u64,
    /// The last one that had started when the session was granted.
    granted_at: u64,
    /// When to renew; `None` while a renewal is under way or nothing could sign one.
    due: Option<Date>,
    /// Failures in a row.
    failures: u32,
}

impl Refresher {
    /// Takes over what the state file has; a stored session is served from the first moment on.
    pub(super) fn new(spec: Spec, client: Client, store: Option<Store>, log: Log) -> Refresher {
        let (sender, events) = channel();
        let clock = Clock::new();
        let failure = failure(
            "No bootstrap credentials yet: POST them to /bootstrap/creds of the admin service",
            clock.now(),
        );
        let state = State {
            clock,
            session: None,
            failure,
            is_waiting: true,
            last_attempt: None,
            last_error: None,
            next_attempt: None,
            renewals: 0,
        };
        let mut refresher = Refresher {
            spec,
            client: Arc::new(client),
            store,
            save_fails: false,
            log,
            events,
            sender,
            board: Arc::new(Board::new(state.clone())),
            state,
            was_live: false,
            bootstrap: None,
            offered: None,
            calls: Vec::new(),
            last_call: 0,
            granted_at: 0,
            due: None,
            failures: 0,
        };
        refresher.restore();
        refresher.publish();
        refresher
    }

    /// Where readers look.
    pub(super) fn board(&self) -> Arc<Board> {
        self.board.clone()
    }

    /// How to reach the thread.
    pub(super) fn sender(&self) -> Sender<Event> {
        self.sender.clone()
    }

    /// Whether a restart found these very bootstrap credentials.
    pub(super) fn knows(&self, credentials: &Credentials) -> bool {
        let known = self.bootstrap.as_ref();
        known.is_some_and(|known| known.credentials.same_as(credentials))
    }

    /// Runs until told to stop.
    pub(super) fn run(mut self) {
        loop {
            self.notice_expiry();
            self.start_due_calls();
            self.publish();
            match self.events.recv_timeout(self.pause()) {
                Ok(Event::Offer(credentials)) => self.offered(credentials),
                Ok(Event::Answer(id, exchange)) => self.answered(id, exchange),
                Err(RecvTimeoutError::Timeout) => {}
                Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn restore(&mut self) {
        let Some(store) = &self.store else { return };
        let path = store.path().display();
        let stored = match store.load() {
            Ok(stored) => stored,
            Err(e) => return (self.log)(&format!("state file {path} {e}; starting without it")),
        };
        let now = self.state.clock.now();
        self.state.session = stored.session.map(Arc::new);
        self.bootstrap = stored.bootstrap.map(|credentials| Bootstrap {
            credentials: Arc::new(credentials),
            is_dead: false,
        });
        if let Some(session) = self.state.live().cloned() {
            let (id, until) = (session.access_key_id(), session.expires.to_string());
            (self.log)(&format!("restored from {path}: key {id}, expires {until}"));
            self.state.failure = unanswered_at_expiry(&session);
        } else if self.bootstrap.is_some() {
            self.state.failure = failure(NOT_ANSWERED, now);
        }
        // At once, for nobody has looked yet whether the clock is right.
        self.due = Some(now);
    }

    fn notice_expiry(&mut self) {
        let is_live = self.state.live().is_some();
        if self.was_live && !is_live {
            // The tries shortly before the expiry shall not slow down those that matter now.
            self.failures = 0;
            let because = match &self.state.last_error {
                Some(error) => error.to_string(),
                None => "STS has not answered yet".to_owned(),
            };
            (self.log)(&format!(
                "expired: no credentials are served until STS gives new ones ({because})"
            ));
        }
        self.was_live = is_live;
    }

    fn trials(&self) -> usize {
        let is_trial = |call: &&Call| matches!(call.purpose, Purpose::Trial(_));
        self.calls.iter().filter(is_trial).count()
    }

    /// When the next call starts.
    fn next_attempt(&self) -> Option<Date> {
        let offered = self.offered.as_ref().filter(|_| self.trials() < MAX_TRIALS);
        [self.due, offered.map(|offered| offered.due)]
            .into_iter()
            .flatten()
            .min()
    }

    fn pause(&self) -> Duration {
        let now = self.state.clock.now();
        let expiry = self.state.live().map(|session| session.expires);
        [self.next_attempt(), expiry]
            .into_iter()
            .flatten()
            .map(|at| Duration::try_from(at - now).unwrap_or_default())
            .fold(LONGEST_PAUSE, Duration::min)
    }

    fn publish(&mut self) {
        self.state.is_waiting = self.bootstrap.is_none() && self.state.last_error.is_none();
        self.state.next_attempt = self.next_attempt();
        self.board.publish(self.state.clone());
    }

    fn start_due_calls(&mut self) {
        let now = self.state.clock.now();
        if self.due.is_some_and(|due| due <= now) {
            self.due = None;
            let has_other = self.bootstrap.is_some() || self.offered.is_some() || self.trials() > 0;
            let session = match has_other {
                true => self.state.live(),
                // Perhaps expired; but then the clock may be wrong, and nothing is lost.
                false => self.state.session.as_ref(),
            };
            if let Some(session) = session {
                self.call(Purpose::BySession, session.credentials.clone());
            } else if let Some(bootstrap) = &self.bootstrap {
                self.call(Purpose::ByBootstrap(None), bootstrap.credentials.clone());
            }
        }
        if self.trials() < MAX_TRIALS
            && let Some(offered) = self.offered.take_if(|offered| offered.due <= now)
        {
            self.call(Purpose::Trial(offered.failures), offered.credentials);
        }
    }

    fn call(&mut self, purpose: Purpose, signer: Arc<Credentials>) {
        self.last_call += 1;
        let id = self.last_call;
        self.state.last_attempt = Some(self.state.clock.now());
        let (client, clock, sender) = (self.client.clone(), self.state.clock, self.sender.clone());
        self.calls.push(Call {
            id,
            purpose,
            signer: signer.clone(),
        });
        let run = move || {
            let exchange = catch_unwind(AssertUnwindSafe(|| client.assume_role(&signer, clock)))
                .unwrap_or_else(|_| Exchange::none("the call ended in a panic"));
            let _ = sender.send(Event::Answer(id, exchange));
        };
        if let Err(e) = thread::Builder::new().name("sts".into()).spawn(run) {
            let exchange = Exchange::none(&format!("no thread for the call: {e}"));
            let _ = self.sender.send(Event::Answer(id, exchange));
        }
    }

    fn offered(&mut self, credentials: Credentials) {
        let now = self.state.clock.now();
        if self.state.session.is_none() && self.state.last_error.is_none() {
            self.state.failure = failure(NOT_ANSWERED, now);
        }
        self.offered = Some(Offered {
            credentials: Arc::new(credentials),
            failures: 0,
            due: now,
        });
    }

    fn answered(&mut self, id: u64, exchange: Exchange) {
        let Some(at) = self.calls.iter().position(|call| call.id == id) else {
            return;
        };
        let call = self.calls.remove(at);
        let was_corrected = exchange.clock.is_some();
        if let Some(clock) = exchange.clock {
            self.state.clock = clock;
            let seconds = clock.correction().whole_seconds();
            let side = if seconds < 0 { "ahead of" } else { "behind" };
            let seconds = seconds.abs();
            (self.log)(&format!(
                "clock: this machine's is {seconds} s {side} STS's; corrected for"
            ));
        }
        match exchange.outcome {
            Ok(grant) => self.granted(call, grant),
            Err(error) => self.refused(call, error, was_corrected),
        }
    }
}

/// A failure that STS has said nothing about.
fn failure(message: &str, at: Date) -> Arc<Failure> {
    Arc::new(Failure::new(FailureCode::Failed, message.to_owned(), at))
}

/// What readers get if the session expires before STS has said anything about the next one.
fn unanswered_at_expiry(session: &Session) -> Arc<Failure> {
    let expires = session.expires;
    failure(
        &format!(
            "The credentials expired at {}; STS has not answered since",
            expires
        ),
        expires,
    )
}
