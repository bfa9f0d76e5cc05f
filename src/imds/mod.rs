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
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use crate::clock::Clock;
use crate::config::{Config, Problem, RoleSource};
use crate::http::Entity;
use crate::role::{Role, Spec};
use crate::version::{self, Version};
use events::{Events, Showing};
use faults::Faults;
use token::Tokens;
use tree::{Conflict, Found, Leaf, Leaves, Tree};

/// Sets of events whose trees are kept.
const MAX_VIEWS: usize = 64;

/// The role that obtains credentials from STS: started after the instance was built and checked.
pub type RoleSlot = Arc<OnceLock<Arc<Role>>>;

/// The instance at one moment: its configuration and the tree made of it. Never changed, only
/// replaced.
pub struct Instance {
    pub config: Arc<Config>,
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
    /// Credentials that STS hands out are read from `role`, once it is there.
    pub fn new(
        config: Config,
        clock: &Arc<Clock>,
        role: &RoleSlot,
    ) -> Result<Instance, Vec<Problem>> {
        let mut leaves = Leaves::default();
        meta_data::add(&config, &mut leaves);
        iam::add(&config, role, clock, &mut leaves);
        dynamic::add(&config, &mut leaves);
        if let Some(bytes) = &config.user_data {
            leaves.put("user-data", Leaf::Bytes(bytes.clone()));
        }
        meta_data::change("meta-data/", &config.metadata_changes, &mut leaves);
        meta_data::change("dynamic/", &config.dynamic_changes, &mut leaves);
        Instance::build(Arc::new(config), leaves, clock).map_err(|conflict| {
            vec![Problem {
                place: "metadata, dynamic".into(),
                what: conflict.to_string(),
            }]
        })
    }

    fn build(config: Arc<Config>, leaves: Leaves, clock: &Clock) -> Result<Instance, Conflict> {
        let produced = clock.now().http();
        let versions = Entity::new(
            "text/plain",
            Some(&produced),
            format!("{}\n{}", version::DATED.join("\n"), version::LATEST),
        );
        Ok(Instance {
            config,
            tree: Arc::new(leaves.build(&produced)?),
            leaves,
            views: Mutex::default(),
            versions: Arc::new(versions),
        })
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
    role: RoleSlot,
    pub events: Events,
    pub faults: Faults,
}

impl Imds {
    /// Serves `instance`, with the events and faults of its configuration from now on.
    pub fn new(instance: Instance, clock: Arc<Clock>, role: RoleSlot) -> Imds {
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
            role,
            faults,
        }
    }

    /// The role whose credentials STS hands out, if there is one.
    pub fn role(&self) -> Option<&Arc<Role>> {
        self.role.get()
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
        let wanted = match &config.role {
            Some(RoleSource::Sts(spec)) => Some(&**spec),
            _ => None,
        };
        let running = self.role().map(|role| role.spec());
        if wanted.map(Spec::arn) != running.map(Spec::arn) {
            return Err(vec![Problem {
                place: "role.arn".into(),
                what: "the role that STS is asked for changes only at a restart".into(),
            }]);
        }
        let waiting = (wanted != running).then(|| Problem {
            place: "role".into(),
            what:
                "what STS is asked with, such as the session's name (by default the instance id) \
                   or the region, changes only at a restart"
                    .into(),
        });
        self.set(Instance::new(config, &self.clock, &self.role)?);
        Ok(waiting)
    }

    fn set(&self, instance: Instance) {
        *self
            .instance
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(instance);
    }
}
