//! A role's credentials, obtained from STS and kept valid (design D6). [`Role`] is the whole of it
//! for the rooms above: offer bootstrap credentials, read what there is now. No reading ever waits
//! for STS, the disk or a lock held across either.

mod answer;
mod arn;
mod clock;
mod endpoint;
mod refresh;
mod schedule;
mod secret;
mod settings;
pub mod sigv4;
mod spec;
mod state;
mod store;
mod sts;
mod text;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

pub use arn::{BadArn, RoleArn};
pub use refresh::Log;
pub use secret::{BadCredentials, Credentials, Secret};
pub use settings::{FieldError, Settings, Warning};
pub use spec::Spec;
pub use state::{Current, Failure, FailureCode, LastError, Measures, Session, VerboseStatus};
pub use sts::{BadCaBundle, Limits};

use refresh::{Event, Refresher};
use state::Board;
use store::Store;

/// What a role needs beside its configuration.
pub struct Options {
    /// Bootstrap credentials given at start; tried like those offered later.
    pub bootstrap: Option<Credentials>,
    /// Where to remember what works, so that a restart needs nobody. Its directory must be ours.
    pub state_file: Option<PathBuf>,
    /// The value of `AWS_CA_BUNDLE`, if it is set and not empty: root certificates in place of the
    /// built-in ones.
    pub ca_bundle: Option<PathBuf>,
    pub limits: Limits,
    /// Called on the refreshing thread and, for what a state file brings, in [`Role::start`].
    pub log: Log,
}

/// Why a role cannot be started.
#[derive(Debug)]
pub enum Error {
    CaBundle(BadCaBundle),
    Thread(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::CaBundle(e) => e.fmt(f),
            Self::Thread(e) => write!(f, "cannot start the thread that renews credentials: {e}"),
        }
    }
}

impl std::error::Error for Error {}

/// A role being kept valid. Dropping it ends the refreshing.
pub struct Role {
    spec: Spec,
    board: Arc<Board>,
    events: Sender<Event>,
    /// Closed once the refreshing has ended.
    ended: Mutex<Receiver<()>>,
}

impl Role {
    /// Reads the state file, whose session is served at once if it still lives, and starts the
    /// thread that obtains and renews. What is wrong with the state file is only logged.
    pub fn start(spec: Spec, options: Options) -> Result<Arc<Role>, Error> {
        let client = sts::Client::new(&spec, options.limits, options.ca_bundle.as_deref())
            .map_err(Error::CaBundle)?;
        let store = options
            .state_file
            .map(|path| Store::new(path, spec.arn().clone()));
        let refresher = Refresher::new(spec.clone(), client, store, options.log);
        let (running, ended) = channel();
        let role = Role {
            spec,
            board: refresher.board(),
            events: refresher.sender(),
            ended: Mutex::new(ended),
        };
        if let Some(bootstrap) = options.bootstrap
            && !refresher.knows(&bootstrap)
        {
            role.offer(bootstrap);
        }
        thread::Builder::new()
            .name("role".into())
            .spawn(move || {
                let _running: Sender<()> = running;
                refresher.run();
            })
            .map_err(Error::Thread)?;
        Ok(Arc::new(role))
    }

    /// What was configured.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Has `credentials` tried at once. They replace the bootstrap credentials when they can assume
    /// the role; until then, and if they cannot, what works stays. Returns without waiting.
    pub fn offer(&self, credentials: Credentials) {
        // Fails only after `stop`, when nothing is wanted any more.
        let _ = self.events.send(Event::Offer(credentials));
    }

    /// The credentials, if they have not expired by STS's clock, else why there are none. Never
    /// waits and formats nothing.
    pub fn current(&self) -> Current {
        let published = self.board.read();
        match published.live() {
            Some(session) => Current::Valid(session.clone()),
            None => Current::Failed(published.failure.clone()),
        }
    }

    /// Whether valid credentials are being served: the answer of `GET /status`.
    pub fn status(&self) -> bool {
        self.board.read().live().is_some()
    }

    /// The answer of `GET /status?verbose`. Has no secret.
    pub fn verbose_status(&self) -> VerboseStatus {
        let spec = &self.spec;
        self.board
            .read()
            .verbose(spec.arn().as_str(), spec.session_name())
    }

    /// What the metrics tell of it.
    pub fn measures(&self) -> Measures {
        self.board.read().measures()
    }

    /// Ends the refreshing; returns at once. A call under way is left to the end of the process.
    pub fn stop(&self) {
        let _ = self.events.send(Event::Stop);
    }

    /// After [`Role::stop`]: waits until the state file holds what STS gave before, at most `limit`.
    pub fn finish(&self, limit: Duration) {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        // Nothing is ever sent.
        let _ = ended.recv_timeout(limit);
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The door of the fuzz target.
#[cfg(fuzzing)]
pub fn fuzzed_answer(bytes: &[u8]) {
    answer::hold_against(bytes);
}
