//! One simulated instance while it runs: its snapshot, the tokens it issued, and what comes over it.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::events::{self, Events};
use super::faults::Faults;
use super::snapshot::Snapshot;
use super::token::Tokens;
use super::tree::{Found, Reader};
use crate::clock::Clock;
use crate::config::{Config, Problem};
use crate::role::{OtherRole, Role};

/// An instance.
pub struct Instance {
    pub(super) snapshot: RwLock<Arc<Snapshot>>,
    /// Held while a changed instance is made of the present one.
    pub(super) changing: Mutex<()>,
    pub tokens: Tokens,
    pub clock: Arc<Clock>,
    pub events: Events,
    pub faults: Faults,
}

impl Instance {
    /// Begins with `snapshot`, and with the events and faults of its configuration from now on.
    pub fn new(snapshot: Snapshot, clock: Arc<Clock>) -> Instance {
        let faults = Faults::default();
        for spec in &snapshot.config.faults {
            faults.add(spec.clone());
        }
        Instance {
            events: events::from_config(&snapshot.config.events, clock.now()),
            snapshot: RwLock::new(Arc::new(snapshot)),
            changing: Mutex::default(),
            tokens: Tokens::default(),
            clock,
            faults,
        }
    }

    /// The role, if there is one.
    pub fn role(&self) -> Option<Arc<Role>> {
        self.snapshot().role.clone()
    }

    /// What it says of itself now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        let snapshot = self.snapshot.read();
        snapshot.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What `snapshot` has at `path` (below a version) for a client, or for everyone.
    pub fn get(
        &self,
        snapshot: &Snapshot,
        path: &str,
        reader: Reader,
        client: Option<IpAddr>,
    ) -> Option<Found> {
        let showing = (self.events).showing(&self.clock, client, path.trim_end_matches('/'));
        match showing.is_empty() {
            true => snapshot.tree.get(path, reader),
            false => (snapshot.view(&self.events, showing, &self.clock)).get(path, reader),
        }
    }

    /// Replaces the snapshot by what `config` says: requests see the old one or the new one, whole.
    /// Tokens, events, faults and the role's credentials stay, changed values do not. Returns what
    /// of it has to wait for a restart. The problems are paths that contradict each other; then
    /// nothing is changed.
    pub fn load(&self, config: Config) -> Result<Option<Problem>, Vec<Problem>> {
        let _changing = self.changing.lock();
        let role = Role::reloaded(self.role(), config.role.as_ref(), self.clock.now());
        let (role, waits) = role.map_err(|OtherRole| {
            vec![Problem {
                place: "role.arn".into(),
                what: "the role that STS is asked for changes only at a restart".into(),
            }]
        })?;
        self.set(Snapshot::new(config, role, &self.clock)?);
        Ok(waits.then(|| Problem {
            place: "role".into(),
            what:
                "what STS is asked with, such as the session's name (by default the instance id) \
                   or the region, and what version 1 gets of it, changes only at a restart"
                    .into(),
        }))
    }

    pub(super) fn set(&self, snapshot: Snapshot) {
        *self
            .snapshot
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(snapshot);
    }
}
