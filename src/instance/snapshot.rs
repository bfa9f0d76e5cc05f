//! An instance at one moment: its configuration and the tree made of it. Never changed, only
//! replaced, whole.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::events::{Events, Showing};
use super::tree::{Conflict, Leaf, Leaves, Tree};
use super::{categories, iam, identity};
use crate::clock::Clock;
use crate::config::{Config, Problem};
use crate::http::Entity;
use crate::role::Role;
use crate::version;

/// Sets of events whose trees are kept.
const MAX_VIEWS: usize = 64;

/// What an instance says of itself.
pub struct Snapshot {
    pub config: Arc<Config>,
    pub role: Option<Arc<Role>>,
    pub(super) leaves: Leaves,
    pub(super) tree: Arc<Tree>,
    /// The tree with the events that show to some client, for each set of them.
    views: Mutex<HashMap<Showing, Arc<Tree>>>,
    versions: Arc<Entity>,
}

impl Snapshot {
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
    ) -> Result<Snapshot, Vec<Problem>> {
        let mut leaves = Leaves::default();
        categories::add(&config, &mut leaves);
        iam::add(&config, role.as_ref(), clock, &mut leaves);
        identity::add(&config, &mut leaves);
        if let Some(bytes) = &config.user_data {
            leaves.put("user-data", Leaf::Bytes(bytes.clone()));
        }
        categories::change("meta-data/", &config.metadata_changes, &mut leaves);
        categories::change("dynamic/", &config.dynamic_changes, &mut leaves);
        Snapshot::build(Arc::new(config), role, leaves, clock).map_err(|conflict| {
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
    ) -> Result<Snapshot, Conflict> {
        let produced = clock.now().http();
        let versions = Entity::new(
            "text/plain",
            Some(&produced),
            format!("{}\n{}", version::DATED.join("\n"), version::LATEST),
        );
        Ok(Snapshot {
            config,
            role,
            tree: Arc::new(leaves.build(&produced)?),
            leaves,
            views: Mutex::default(),
            versions: Arc::new(versions),
        })
    }

    /// The same with other leaves.
    pub(super) fn with(&self, leaves: Leaves, clock: &Clock) -> Result<Snapshot, Conflict> {
        Snapshot::build(self.config.clone(), self.role.clone(), leaves, clock)
    }

    /// The tree in which those events show. An event that has no place in it (a leaf was put where
    /// it needs a directory) does not show.
    pub(super) fn view(&self, events: &Events, showing: Showing, clock: &Clock) -> Arc<Tree> {
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
