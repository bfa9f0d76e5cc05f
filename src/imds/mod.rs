//! The metadata service: which request gets which answer. [`Imds::route`] is the order of checks
//! (design, D3); it knows no socket and never waits.

pub mod changes;
mod dynamic;
pub mod events;
pub mod faults;
mod iam;
pub mod journal;
mod meta_data;
pub mod observer;
pub mod token;
pub mod tree;
pub mod verdicts;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::clock::{Clock, SECOND_US};
use crate::config::{Config, Effect, Problem};
use crate::http::{Delivery, Entity, Method, Reply, Request};
use crate::role::{OtherRole, Role, RoleDelivery};
use events::{Events, Showing};
use faults::{Faults, Verdict};
use token::{Tokens, Ttl};
use tree::{Conflict, Leaf, Leaves, Tree};

/// The versions that EC2 lists (seen in 2024, reference/imds.md, section 1); `latest` comes last.
pub const VERSIONS: [&str; 29] = [
    "1.0",
    "2007-01-19",
    "2007-03-01",
    "2007-08-29",
    "2007-10-10",
    "2007-12-15",
    "2008-02-01",
    "2008-09-01",
    "2009-04-04",
    "2011-01-01",
    "2011-05-01",
    "2012-01-12",
    "2014-02-25",
    "2014-11-05",
    "2015-10-20",
    "2016-04-19",
    "2016-06-30",
    "2016-09-02",
    "2018-03-28",
    "2018-08-17",
    "2018-09-24",
    "2019-10-01",
    "2020-10-27",
    "2021-01-03",
    "2021-03-23",
    "2021-07-15",
    "2022-09-24",
    "2024-04-11",
    "latest",
];

/// The field that carries a token.
pub const TOKEN: &str = "X-aws-ec2-metadata-token";
const TOKEN_TTL: &str = "X-aws-ec2-metadata-token-ttl-seconds";
/// The field of answers; EC2 capitalises it so (reference/imds.md, section 4).
const TTL_FIELD: &str = "X-Aws-Ec2-Metadata-Token-Ttl-Seconds";
/// The one path that tokens are issued at.
pub const TOKEN_PATH: &str = "/latest/api/token";
/// Sets of events whose trees are kept.
const MAX_VIEWS: usize = 64;
/// What a client gets that is to stumble over its parser.
const WRONG_JSON: &str = "{\n  \"Code\" : \"Success\",\n  \"LastUpdated\" : ";
const READ: &str = "GET, HEAD";
const TOKEN_METHODS: &str = "OPTIONS, PUT";

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
        let versions = Entity::new("text/plain", Some(&produced), VERSIONS.join("\n"));
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
                   or the region, and what version 1 gets of it, changes only at a restart"
                    .into(),
        }))
    }

    fn set(&self, instance: Instance) {
        *self
            .instance
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(instance);
    }

    /// What goes wrong with the request, and how long it has to wait before [`Imds::route`] is
    /// asked with the effect.
    pub fn judge(&self, request: &Request) -> Verdict {
        let instance = self.instance();
        let config = &instance.config;
        if !config.endpoint_enabled || !config.rules.admit_request(request) {
            return Verdict::default();
        }
        let verdict = self.faults.judge(request);
        Verdict {
            wait: verdict.wait + faults::delay(config, request),
            ..verdict
        }
    }

    /// Answers a request, with `effect` as the one thing that goes wrong.
    pub fn route(&self, request: &Request, effect: Option<Effect>) -> Reply {
        let spoiled = |delivery, reply| Reply { delivery, ..reply };
        match effect {
            None => self.answer(request, false),
            Some(Effect::ExpiredToken) => self.answer(request, true),
            Some(Effect::Status(status)) => Reply::empty(status),
            Some(Effect::WrongJson) => {
                Reply::ok(Arc::new(Entity::new("text/plain", None, WRONG_JSON)))
            }
            Some(Effect::Slow { bytes_per_second }) => spoiled(
                Delivery::Slow { bytes_per_second },
                self.answer(request, false),
            ),
            Some(Effect::Truncate { bytes }) => {
                spoiled(Delivery::Truncated { bytes }, self.answer(request, false))
            }
            Some(Effect::Reset) => spoiled(Delivery::Reset, Reply::empty(0)),
            Some(Effect::NoAnswer) => spoiled(Delivery::NoAnswer, Reply::empty(0)),
            // Faults turn these into a wait and a status.
            Some(Effect::Delay { .. } | Effect::Throttle { .. }) => self.answer(request, false),
        }
    }

    /// The order of checks. With `token_is_dead` the request's token, or the one it asks for, is
    /// taken for expired.
    fn answer(&self, request: &Request, token_is_dead: bool) -> Reply {
        let instance = self.instance();
        let config = &instance.config;
        if !config.endpoint_enabled || !config.rules.admit_request(request) {
            return Reply::empty(403);
        }
        let path = request.path.trim_matches('/');
        let (version, rest) = path.split_once('/').unwrap_or((path, ""));
        let known = VERSIONS.contains(&version);
        let is_token_path = request.path == TOKEN_PATH;
        if request.method == Method::Put && known && rest == "api/token" {
            return match is_token_path {
                true => self.issue_token(config, request, token_is_dead),
                // A dated path, or a slash behind it (reference/imds.md, section 1).
                false => Reply::empty(403),
            };
        }
        if let Some(status) = faults::forced_status(config, request) {
            return Reply::empty(status);
        }
        if is_token_path {
            return match request.method {
                Method::Options => Reply {
                    allow: Some(TOKEN_METHODS),
                    ..Reply::empty(200)
                },
                _ => Reply::not_allowed(TOKEN_METHODS),
            };
        }
        let remaining = match request.field(TOKEN) {
            Some(token) => match self.tokens.remaining(token, self.clock.monotonic_us()) {
                None => return Reply::empty(401),
                remaining => remaining,
            },
            None if config.tokens_required || request.has_field(TOKEN) => return Reply::empty(401),
            None => None,
        };
        if token_is_dead {
            return Reply::empty(401);
        }
        let found = match path {
            "" => Some(instance.versions.clone()),
            _ if !known => None,
            _ => {
                let client = Some(request.caller.address);
                let showing = self.events.showing(&self.clock, client, rest);
                let delivery = match remaining {
                    Some(_) => RoleDelivery::V2,
                    None => RoleDelivery::V1,
                };
                match showing.is_empty() {
                    true => instance.tree.get_by(rest, delivery),
                    false => {
                        (instance.view(&self.events, showing, &self.clock)).get_by(rest, delivery)
                    }
                }
            }
        };
        let reply = match (found, request.method) {
            (None, _) => Reply::page(404),
            (Some(entity), Method::Get | Method::Head) => Reply::ok(entity),
            (Some(_), _) => Reply::not_allowed(READ),
        };
        Reply {
            first_field: remaining.map(|seconds| (TTL_FIELD, seconds)),
            ..reply
        }
    }

    /// `PUT /latest/api/token` (reference/imds.md, section 2).
    fn issue_token(&self, config: &Config, request: &Request, is_dead: bool) -> Reply {
        if request.has_field("X-Forwarded-For") {
            return Reply::empty(403);
        }
        let Some(ttl) = request.field(TOKEN_TTL).and_then(Ttl::parse) else {
            return Reply::empty(400);
        };
        let born_dead = i64::from(ttl.seconds()) * SECOND_US;
        let now_us = self.clock.monotonic_us() - if is_dead { born_dead } else { 0 };
        match self.tokens.issue(request.caller.address, ttl, now_us) {
            Ok(token) => Reply {
                first_field: Some((TTL_FIELD, ttl.seconds())),
                hop_limit: config.hop_limit,
                ..Reply::ok(Arc::new(Entity::token(token)))
            },
            // The system has no random bytes: a client may try again.
            Err(_) => Reply::empty(503),
        }
    }
}
