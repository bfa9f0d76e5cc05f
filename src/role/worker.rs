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
    Answer(u64, Exchange),
    Stop,
}

/// All that the thread works with.
pub(super) struct Worker {
    client: Arc<Client>,
    form: Arc<str>,
    renewal: Renewal,
    board: Arc<Board>,
    store: Option<Store>,
    save_fails: bool,
    log: Log,
    /// For the answers of the calls.
    sender: Sender<Message>,
}

impl Worker {
    /// Takes over what the state file has; a stored session is served from the first moment on.
    pub(super) fn new(
        spec: &Spec,
        client: Client,
        board: Arc<Board>,
        store: Option<Store>,
        log: Log,
        sender: Sender<Message>,
    ) -> Worker {
        let stored = match store
            .as_ref()
            .map(|store| (store.load(), store.path().display()))
        {
            None => Stored::default(),
            Some((Ok(stored), _)) => stored,
            Some((Err(e), path)) => {
                log(&format!("state file {path} {e}; starting without it"));
                Stored::default()
            }
        };
        let names = (spec.arn().name(), spec.session_name());
        let now = Moment::now();
        let renewal = Renewal::new(names, stored.bootstrap, stored.session, random, now);
        if let (Some(store), Some(session)) = (&store, renewal.state().live(now)) {
            let (id, until) = (session.access_key_id(), session.expires);
            let path = store.path().display();
            log(&format!("restored from {path}: key {id}, expires {until}"));
        }
        board.publish(renewal.state().clone());
        Worker {
            form: client.form(spec.session_name()).into(),
            client: Arc::new(client),
            renewal,
            board,
            store,
            save_fails: false,
            log,
            sender,
        }
    }

    /// Whether a restart found these very bootstrap credentials.
    pub(super) fn knows(&self, credentials: &Credentials) -> bool {
        let known = self.renewal.bootstrap();
        known.is_some_and(|known| known.same_as(credentials))
    }

    /// Works until told to stop.
    pub(super) fn run(mut self, messages: &Receiver<Message>) {
        let mut event = Event::Wake;
        loop {
            self.step(event);
            let pause = self.renewal.pause(Moment::now());
            event = match messages.recv_timeout(pause) {
                Ok(Message::Offer(credentials)) => Event::Offer(Arc::new(credentials)),
                Ok(Message::Answer(id, exchange)) => Event::Answer(id, exchange),
                Err(RecvTimeoutError::Timeout) => Event::Wake,
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            };
        }
    }

    pub(super) fn step(&mut self, event: Event) {
        let actions = self.renewal.step(event, Moment::now());
        self.board.publish(self.renewal.state().clone());
        for action in actions {
            match action {
                Action::Call(call) => self.call(call),
                Action::Log(line) => (self.log)(&line),
                Action::Save => self.save(),
            }
        }
    }

    fn call(&self, Call { id, signer, clock }: Call) {
        let (client, form, sender) = (self.client.clone(), self.form.clone(), self.sender.clone());
        let run = move || {
            let call = || client.assume_role(&form, &signer, clock);
            let exchange = catch_unwind(AssertUnwindSafe(call))
                .unwrap_or_else(|_| Exchange::none("the call ended in a panic", Moment::now()));
            let _ = sender.send(Message::Answer(id, exchange));
        };
        if let Err(e) = thread::Builder::new().name("sts".into()).spawn(run) {
            let what = format!("no thread for the call: {e}");
            let exchange = Exchange::none(&what, Moment::now());
            let _ = self.sender.send(Message::Answer(id, exchange));
        }
    }

    fn save(&mut self) {
        let Some(store) = &self.store else { return };
        let path = store.path().display();
        let saved = store.save(&Stored {
            bootstrap: self.renewal.bootstrap().cloned(),
            session: self.renewal.state().session.clone(),
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
