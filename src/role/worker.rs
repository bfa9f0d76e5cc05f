//! The thread that does what a [`Renewal`] says: calls STS, publishes, writes the state file and the
//! log. It never blocks on STS: each call has a thread of its own and comes back as a message, so
//! that an expiry is noticed, an offer is tried and a stop is obeyed while STS hangs.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::thread;

use super::answer::Exchange;
use super::calls::Call;
use super::clock::Moment;
use super::renewal::{Action, Event, Renewal};
use super::schedule::random;
use super::secret::Credentials;
use super::spec::Spec;
use super::state::Board;
use super::store::{Store, Stored};
use super::sts::Client;

/// Takes one line for each change of state, without a newline.
pub type Log = Box<dyn Fn(&str) + Send>;

/// What the thread waits for.
pub(super) enum Message {
    Offer(Credentials),
    /// For that lane, of the call of that number.
    Answer(usize, u64, Exchange),
    Stop,
}

/// A session of the role and all that is its own.
struct Lane {
    renewal: Renewal,
    board: Arc<Board>,
    form: Arc<str>,
    /// What its lines begin with.
    mark: &'static str,
}

/// All that the thread works with.
pub(super) struct Worker {
    client: Arc<Client>,
    /// The session, then that for version 1, where it has its own. They know nothing of each
    /// other: each tries what is offered.
    lanes: Vec<Lane>,
    store: Option<Store>,
    save_fails: bool,
    log: Log,
    /// For the answers of the calls.
    sender: Sender<Message>,
}

impl Worker {
    /// Takes over what the state file has; a stored session is served from the first moment on.
    /// `boards` are those of the sessions that `spec` asks for.
    pub(super) fn new(
        spec: &Spec,
        client: Client,
        boards: impl IntoIterator<Item = Arc<Board>>,
        store: Option<Store>,
        log: Log,
        sender: Sender<Message>,
    ) -> Worker {
        let path = store
            .as_ref()
            .map(|store| store.path().display().to_string());
        let path = path.unwrap_or_default();
        let stored = store.as_ref().map_or(Ok(Stored::default()), Store::load);
        let stored = stored.unwrap_or_else(|e| {
            log(&format!("state file {path} {e}; starting without it"));
            Stored::default()
        });
        let sessions = [(stored.session, ""), (stored.v1_session, "v1: ")];
        let lane = |((name, board), (session, mark)): ((&str, Arc<Board>), (_, &'static str))| {
            let now = Moment::now();
            let names = (spec.arn().name(), name);
            let renewal = Renewal::new(names, stored.bootstrap.clone(), session, random, now);
            if let Some(session) = renewal.state().live(now) {
                let (id, until) = (session.access_key_id(), session.expires);
                log(&format!(
                    "{mark}restored from {path}: key {id}, expires {until}"
                ));
            }
            board.publish(renewal.state().clone());
            let form = client.form(name).into();
            Lane {
                renewal,
                board,
                form,
                mark,
            }
        };
        let named = spec.session_names().zip(boards);
        Worker {
            lanes: named.zip(sessions).map(lane).collect(),
            client: Arc::new(client),
            store,
            save_fails: false,
            log,
            sender,
        }
    }

    /// Whether a restart found these very bootstrap credentials.
    pub(super) fn knows(&self, credentials: &Credentials) -> bool {
        let mut known = self
            .lanes
            .iter()
            .filter_map(|lane| lane.renewal.bootstrap());
        known.any(|known| known.same_as(credentials))
    }

    /// Works until told to stop.
    pub(super) fn run(mut self, messages: &Receiver<Message>) {
        self.wake();
        loop {
            let now = Moment::now();
            let pauses = self.lanes.iter().map(|lane| lane.renewal.pause(now));
            match messages.recv_timeout(pauses.min().unwrap_or_default()) {
                Ok(Message::Offer(credentials)) => self.offer(credentials),
                Ok(Message::Answer(lane, id, exchange)) => {
                    self.step(lane, Event::Answer(id, exchange));
                }
                Err(RecvTimeoutError::Timeout) => self.wake(),
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    pub(super) fn offer(&mut self, credentials: Credentials) {
        let credentials = Arc::new(credentials);
        for lane in 0..self.lanes.len() {
            self.step(lane, Event::Offer(credentials.clone()));
        }
    }

    fn wake(&mut self) {
        for lane in 0..self.lanes.len() {
            self.step(lane, Event::Wake);
        }
    }

    fn step(&mut self, at: usize, event: Event) {
        let lane = &mut self.lanes[at];
        let actions = lane.renewal.step(event, Moment::now());
        lane.board.publish(lane.renewal.state().clone());
        let mark = lane.mark;
        for action in actions {
            match action {
                Action::Call(call) => self.call(at, call),
                Action::Log(line) => (self.log)(&format!("{mark}{line}")),
                Action::Save => self.save(),
            }
        }
    }

    fn call(&self, lane: usize, Call { id, signer, clock }: Call) {
        let (client, form, sender) = (
            self.client.clone(),
            self.lanes[lane].form.clone(),
            self.sender.clone(),
        );
        let run = move || {
            let call = || client.assume_role(&form, &signer, clock);
            let exchange = catch_unwind(AssertUnwindSafe(call))
                .unwrap_or_else(|_| Exchange::none("the call ended in a panic", Moment::now()));
            let _ = sender.send(Message::Answer(lane, id, exchange));
        };
        if let Err(e) = thread::Builder::new().name("sts".into()).spawn(run) {
            let what = format!("no thread for the call: {e}");
            let exchange = Exchange::none(&what, Moment::now());
            let _ = self.sender.send(Message::Answer(lane, id, exchange));
        }
    }

    fn save(&mut self) {
        let Some(store) = &self.store else { return };
        let path = store.path().display();
        let session = |lane: usize| self.lanes.get(lane)?.renewal.state().session.clone();
        let saved = store.save(&Stored {
            // They have assumed the role, for whichever session.
            bootstrap: (self.lanes.iter()).find_map(|lane| lane.renewal.bootstrap().cloned()),
            session: session(0),
            v1_session: session(1),
        });
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
}
