//! [`Role`]: the whole of this room for those above. What there is now, what is being done about
//! it, and bootstrap credentials to be tried; no reading ever waits for STS, the disk or a lock held
//! across either.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::clock::Moment;
use super::delivery::{ForV1, RoleDelivery};
use super::fixed::{Fixed, Static};
use super::renewal::Renewal;
use super::schedule::random;
use super::secret::Credentials;
use super::session::Current;
use super::source::{Kind, Source};
use super::spec::Spec;
use super::state::{Board, Phase, VerboseStatus};
use super::store::Store;
use super::sts::{BadCaBundle, Client, Limits};
use super::worker::{Log, Message, Worker};
use crate::date::Date;

/// What a role of STS needs beside its configuration.
pub struct Options {
    /// Bootstrap credentials given at start; tried like those offered later.
    pub bootstrap: Option<Credentials>,
    /// Where to remember what works, so that a restart needs nobody. Its directory must be ours.
    pub state_file: Option<PathBuf>,
    /// The value of `AWS_CA_BUNDLE`, if it is set and not empty: root certificates in place of the
    /// built-in ones.
    pub ca_bundle: Option<PathBuf>,
    pub limits: Limits,
    /// Called on the worker's thread and, for what a state file brings, in [`Role::start`].
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

/// That a reload asks for another role of STS than the one that runs.
#[derive(Debug)]
pub struct OtherRole;

/// A role, whatever its source. Dropping it ends what it does.
pub struct Role {
    source: Source,
    supply: Supply,
    /// What version 1 gets where that is nothing.
    nothing: Option<Fixed>,
}

enum Supply {
    Static(Fixed),
    Sts(Renewed),
}

/// Kept valid by a [`Worker`], once it has been started.
struct Renewed {
    board: Arc<Board>,
    /// Of the session for version 1, where it has its own.
    v1_board: Option<Arc<Board>>,
    messages: Sender<Message>,
    to_start: Mutex<Option<ToStart>>,
    /// Closed once the worker has ended.
    ended: Mutex<Receiver<()>>,
}

/// What the worker's thread will own.
struct ToStart {
    messages: Receiver<Message>,
    running: Sender<()>,
}

impl Renewed {
    fn new(spec: &Spec) -> Renewed {
        let board = |name| {
            let idle = Renewal::new((spec.arn().name(), name), None, None, random, Moment::now());
            Arc::new(Board::new(idle.state().clone()))
        };
        let (sender, messages) = channel();
        let (running, ended) = channel();
        Renewed {
            board: board(spec.session_name()),
            v1_board: spec.v1_session_name.as_deref().map(board),
            messages: sender,
            to_start: Mutex::new(Some(ToStart { messages, running })),
            ended: Mutex::new(ended),
        }
    }

    fn boards(&self) -> impl Iterator<Item = &Arc<Board>> {
        [&self.board].into_iter().chain(&self.v1_board)
    }

    fn take_start(&self) -> Option<ToStart> {
        let mut to_start = self.to_start.lock().unwrap_or_else(PoisonError::into_inner);
        to_start.take()
    }
}

impl Role {
    /// A role that asks nobody yet. `now` is the instance's time.
    pub fn new(source: Source, now: Date) -> Arc<Role> {
        let supply = match &source.0 {
            Kind::Static(_, what, _) => Supply::Static(Fixed::new(what.clone(), now)),
            Kind::Sts(spec) => Supply::Sts(Renewed::new(spec)),
        };
        let is_nothing = source.v1() == ForV1::Nothing;
        Arc::new(Role {
            nothing: is_nothing.then(|| Fixed::new(Static::nothing_for_v1(), now)),
            source,
            supply,
        })
    }

    /// The role after a reload: the one that runs where it is STS's, and whether some of what is
    /// wanted has to wait for a restart.
    pub fn reloaded(
        running: Option<Arc<Role>>,
        wanted: Option<&Source>,
        now: Date,
    ) -> Result<(Option<Arc<Role>>, bool), OtherRole> {
        let asked = running.as_ref().and_then(|role| role.source.spec());
        match (asked, wanted.and_then(Source::spec)) {
            (None, None) => Ok((wanted.map(|source| Role::new(source.clone(), now)), false)),
            (Some(asked), Some(wanted)) if asked.arn() == wanted.arn() => {
                let waits = asked != wanted;
                Ok((running, waits))
            }
            _ => Err(OtherRole),
        }
    }

    /// For a role of STS: reads the state file, whose session is served at once if it still lives,
    /// tries the bootstrap credentials, and starts the thread that obtains and renews. What is wrong
    /// with the state file is only logged.
    pub fn start(&self, options: Options) -> Result<(), Error> {
        let (Supply::Sts(renewed), Some(spec)) = (&self.supply, self.source.spec()) else {
            return Ok(());
        };
        let client = Client::new(spec, options.limits, options.ca_bundle.as_deref())
            .map_err(Error::CaBundle)?;
        let Some(ToStart { messages, running }) = renewed.take_start() else {
            return Ok(());
        };
        let store = options
            .state_file
            .map(|path| Store::new(path, spec.arn().clone()));
        let (boards, sender) = (renewed.boards().cloned(), renewed.messages.clone());
        let mut worker = Worker::new(spec, client, boards, store, options.log, sender);
        if let Some(bootstrap) = options.bootstrap
            && !worker.knows(&bootstrap)
        {
            worker.offer(bootstrap);
        }
        thread::Builder::new()
            .name("role".into())
            .spawn(move || {
                let _running: Sender<()> = running;
                worker.run(&messages);
            })
            .map_err(Error::Thread)?;
        Ok(())
    }

    /// What was configured.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Has `credentials` tried at once, where STS is asked. They replace the bootstrap credentials
    /// when they can assume the role; until then, and if they cannot, what works stays. Returns
    /// without waiting.
    pub fn offer(&self, credentials: Credentials) {
        if let Supply::Sts(renewed) = &self.supply {
            // Fails only after `stop`, when nothing is wanted any more.
            let _ = renewed.messages.send(Message::Offer(credentials));
        }
    }

    /// What to hand out at that time of the instance's clock, by which static credentials are dated;
    /// those of STS end by STS's clock. Never waits and formats nothing.
    pub fn current(&self, now: Date, delivery: RoleDelivery) -> Current {
        match (&self.supply, &self.nothing, delivery) {
            (_, Some(nothing), RoleDelivery::V1) => nothing.current(now),
            (Supply::Static(fixed), ..) => fixed.current(now),
            (Supply::Sts(renewed), _, delivery) => {
                let v1_board = renewed.v1_board.as_ref();
                let v1_board = v1_board.filter(|_| delivery == RoleDelivery::V1);
                let board = v1_board.unwrap_or(&renewed.board);
                board.read().current(Moment::now())
            }
        }
    }

    /// Whether what version 2 gets are credentials that are good: the answer of `GET /status`.
    pub fn is_good(&self, now: Date) -> bool {
        match self.current(now, RoleDelivery::V2) {
            // Those of STS would be none if they had expired, whatever the instance's clock says.
            Current::Valid(session) => self.source.spec().is_some() || now < session.expires,
            Current::Failed(_) => false,
        }
    }

    /// What it is doing.
    pub fn phase(&self) -> Phase {
        match &self.supply {
            Supply::Static(_) => Phase::Static,
            Supply::Sts(renewed) => renewed.board.read().phase(Moment::now()),
        }
    }

    /// Whether STS has answered, or is not being asked.
    pub fn is_settled(&self) -> bool {
        match &self.supply {
            Supply::Static(_) => true,
            Supply::Sts(renewed) => {
                let now = Moment::now();
                renewed.boards().all(|board| board.read().is_settled(now))
            }
        }
    }

    /// The answer of `GET /status?verbose`, of a role of STS.
    pub fn verbose_status(&self) -> Option<VerboseStatus> {
        let (Supply::Sts(renewed), Some(spec)) = (&self.supply, self.source.spec()) else {
            return None;
        };
        let (arn, now) = (spec.arn().as_str(), Moment::now());
        let verbose = |(board, name): (&Arc<Board>, _)| board.read().verbose(arn, name, now);
        let mut all = renewed.boards().zip(spec.session_names()).map(verbose);
        let status = all.next()?;
        let v1 = all.next().map(Box::new);
        Some(VerboseStatus { v1, ..status })
    }

    /// Until the credentials that STS gave expire; `None` when there are none.
    pub fn seconds_left(&self) -> Option<i64> {
        match &self.supply {
            Supply::Static(_) => None,
            Supply::Sts(renewed) => renewed.board.read().seconds_left(Moment::now()),
        }
    }

    /// How often a session of STS took the place of an earlier one.
    pub fn renewals(&self) -> u64 {
        match &self.supply {
            Supply::Static(_) => 0,
            Supply::Sts(renewed) => renewed.board.read().renewals,
        }
    }

    /// Ends the renewing; returns at once. A call under way is left to the end of the process.
    pub fn stop(&self) {
        if let Supply::Sts(renewed) = &self.supply {
            drop(renewed.take_start());
            let _ = renewed.messages.send(Message::Stop);
        }
    }

    /// After [`Role::stop`]: waits until the state file holds what STS gave before, at most `limit`.
    pub fn finish(&self, limit: Duration) {
        if let Supply::Sts(renewed) = &self.supply {
            let ended = renewed.ended.lock().unwrap_or_else(PoisonError::into_inner);
            // Nothing is ever sent.
            let _ = ended.recv_timeout(limit);
        }
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        self.stop();
    }
}
