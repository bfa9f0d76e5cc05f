//! One simulated instance: what it says of itself, and what comes over it.

pub mod changes;
mod dynamic;
pub mod events;
pub mod faults;
mod iam;
pub mod meaning;
mod meta_data;
pub mod token;
pub mod tree;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::clock::Clock;
use crate::config::{Config, Problem};
use crate::http::Entity;
use crate::role::{OtherRole, Role};
use crate::version::{self, Version};
use events::{Events, Showing};
use faults::Faults;
use token::Tokens;
use tree::{Conflict, Found, Leaf, Leaves, Tree};

/// Sets of events whose trees are kept.
const MAX_VIEWS: usize = 64;

/// The instance at one moment: its configuration and the tree made of it. Never changed, only
/// replaced.
pub struct Instance {
    pub config: Arc<Config>,
    pub role: Option<Arc<Role>>,
    leaves: Leaves,
    tree: Arc<Tree>,
    /// The tree with the events that show to some client, for each set of them.
    views: Mutex<HashMap<Showing, Arc<Tree>>>,
    versions: Arc<Entity>,
}

impl Instance {
    /// The versions, as `/` lists them.
    pub fn versions(&self) -> Arc<Entity> {
        self.versions.clone()
    }

    /// Builds the tree. The problems are paths of the configuration that contradict each other.
    /// `role` is the one that the configuration names.
    pub fn new(
        config: Config,
        role: Option<Arc<Role>>,
        clock: &Arc<Clock>,
    ) -> Result<Instance, Vec<Problem>> {
        let mut leaves = Leaves::default();
        meta_data::add(&config, &mut leaves);
        iam::add(&config, role.as_ref(), clock, &mut leaves);
        dynamic::add(&config, &mut leaves);
        if let Some(bytes) = &config.user_data {
            leaves.put("user-data", Leaf::Bytes(bytes.clone()));
        }
        meta_data::change("meta-data/", &config.metadata_changes, &mut leaves);
        meta_data::change("dynamic/", &config.dynamic_changes, &mut leaves);
        Instance::build(Arc::new(config), role, leaves, clock).map_err(|conflict| {
            vec![Problem {
                place: "metadata, dynamic".into(),
                what: conflict.to_string(),
            }]
        })
    }

    fn build(
        config: Arc<Config>,
        role: Option<Arc<Role>>,
        leaves: Leaves,
        clock: &Clock,
    ) -> Result<Instance, Conflict> {
        let produced = clock.now().http();
        let versions = Entity::new(
            "text/plain",
            Some(&produced),
            format!("{}\n{}", version::DATED.join("\n"), version::LATEST),
        );
        Ok(Instance {
            config,
            role,
            tree: Arc::new(leaves.build(&produced)?),
            leaves,
            views: Mutex::default(),
            versions: Arc::new(versions),
        })
    }

    /// The same with other leaves.
    fn with(&self, leaves: Leaves, clock: &Clock) -> Result<Instance, Conflict> {
        Instance::build(self.config.clone(), self.role.clone(), leaves, clock)
    }

    /// The tree in which those events show. An event that has no place in it (a leaf was put where
    /// it needs a directory) does not show.
    fn view(&self, events: &Events, showing: Showing, clock: &Clock) -> Arc<Tree> {
        if showing.is_empty() {
            return self.tree.clone();
        }
        let mut views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tree) = views.get(&showing) {
            return tree.clone();
        }
        let mut leaves = self.leaves.clone();
        events.add_to(&showing, &mut leaves);
        let tree = leaves.build(&clock.now().http());
        let tree = tree.map_or_else(|_| self.tree.clone(), Arc::new);
        if views.len() >= MAX_VIEWS {
            views.clear();
        }
        views.insert(showing, tree.clone());
        tree
    }
}

/// The running service.
pub struct Imds {
    instance: RwLock<Arc<Instance>>,
    /// Held while a changed instance is made of the present one.
    changing: Mutex<()>,
    pub tokens: Tokens,
    pub clock: Arc<Clock>,
    pub events: Events,
    pub faults: Faults,
}

impl Imds {
    /// Serves `instance`, with the events and faults of its configuration from now on.
    pub fn new(instance: Instance, clock: Arc<Clock>) -> Imds {
        let faults = Faults::default();
        for spec in &instance.config.faults {
            faults.add(spec.clone());
        }
        Imds {
            events: events::from_config(&instance.config.events, clock.now()),
            instance: RwLock::new(Arc::new(instance)),
            changing: Mutex::default(),
            tokens: Tokens::default(),
            clock,
            faults,
        }
    }

    /// The role, if there is one.
    pub fn role(&self) -> Option<Arc<Role>> {
        self.instance().role.clone()
    }

    /// The instance as it is now.
    pub fn instance(&self) -> Arc<Instance> {
        let instance = self.instance.read();
        instance.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What `version` has at `path` for a client, or for everyone.
    pub fn get(
        &self,
        instance: &Instance,
        version: Version,
        path: &str,
        client: Option<IpAddr>,
    ) -> Option<Found> {
        let showing = (self.events).showing(&self.clock, client, path.trim_end_matches('/'));
        match showing.is_empty() {
            true => instance.tree.get(version, path),
            false => (instance.view(&self.events, showing, &self.clock)).get(version, path),
        }
    }

    /// Replaces the instance by what `config` says: requests see the old one or the new one, whole.
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
        self.set(Instance::new(config, role, &self.clock)?);
        Ok(waits.then(|| Problem {
            place: "role".into(),
            what:
                "what STS is asked with, such as the session's name (by default the instance id) \
                   or the region, changes only at a restart"
                    .into(),
        }))
    }

    fn set(&self, instance: Instance) {
        *self
            .instance
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(instance);
    }
}
