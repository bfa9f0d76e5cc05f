//! The metadata service: which request gets which answer. [`Imds::route`] is the order of checks
//! (design, D3); it knows no socket and never waits.

mod dynamic;
pub mod faults;
mod iam;
mod meta_data;
pub mod token;
pub mod tree;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use crate::clock::{self, Clock};
use crate::config::{Config, Problem};
use crate::http::{Entity, Method, Reply, Request};
use crate::role::Role;
use token::{Tokens, Ttl};
use tree::{Leaf, Leaves, Tree};

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

const TOKEN: &str = "X-aws-ec2-metadata-token";
const TOKEN_TTL: &str = "X-aws-ec2-metadata-token-ttl-seconds";
/// The field of answers; EC2 capitalises it so (reference/imds.md, section 4).
const TTL_FIELD: &str = "X-Aws-Ec2-Metadata-Token-Ttl-Seconds";
const READ: &str = "GET, HEAD";
const TOKEN_METHODS: &str = "OPTIONS, PUT";

/// The instance at one moment: its configuration and the tree made of it. Never changed, only
/// replaced.
pub struct Instance {
    pub config: Config,
    tree: Tree,
    versions: Arc<Entity>,
}

impl Instance {
    /// Builds the tree. The problems are paths of the configuration that contradict each other.
    /// Credentials that STS hands out are read from `role`; without it there are none.
    pub fn new(
        config: Config,
        clock: &Arc<Clock>,
        role: Option<&Arc<Role>>,
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
        let produced = clock::http_date(clock.now());
        let tree = leaves.build(&produced).map_err(|conflict| {
            vec![Problem {
                place: "metadata, dynamic".into(),
                what: conflict.to_string(),
            }]
        })?;
        let versions = Entity::new("text/plain", Some(&produced), VERSIONS.join("\n"));
        Ok(Instance {
            config,
            tree,
            versions: Arc::new(versions),
        })
    }
}

/// The running service.
pub struct Imds {
    instance: RwLock<Arc<Instance>>,
    tokens: Tokens,
    clock: Arc<Clock>,
}

impl Imds {
    pub fn new(instance: Instance, clock: Arc<Clock>) -> Imds {
        Imds {
            instance: RwLock::new(Arc::new(instance)),
            tokens: Tokens::default(),
            clock,
        }
    }

    /// The instance as it is now.
    pub fn instance(&self) -> Arc<Instance> {
        let instance = self.instance.read();
        instance.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the instance: requests see the old one or the new one, whole.
    pub fn replace(&self, instance: Instance) {
        *self
            .instance
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(instance);
    }

    /// How long the request has to wait before [`Imds::route`] is asked.
    pub fn delay(&self, request: &Request) -> Duration {
        faults::delay(&self.instance().config, request)
    }

    /// Answers a request.
    pub fn route(&self, request: &Request) -> Reply {
        let instance = self.instance();
        let config = &instance.config;
        if !config.endpoint_enabled || !config.rules.admit_request(request) {
            return Reply::empty(403);
        }
        let path = request.path.trim_matches('/');
        let (version, rest) = path.split_once('/').unwrap_or((path, ""));
        let known = VERSIONS.contains(&version);
        let is_token_path = request.path == "/latest/api/token";
        if request.method == Method::Put && known && rest == "api/token" {
            return match is_token_path {
                true => self.issue_token(config, request),
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
            Some(token) => match self.tokens.remaining(token, self.clock.monotonic_ms()) {
                None => return Reply::empty(401),
                remaining => remaining,
            },
            None if config.tokens_required || request.has_field(TOKEN) => return Reply::empty(401),
            None => None,
        };
        let found = match path {
            "" => Some(instance.versions.clone()),
            _ => instance.tree.get(rest).filter(|_| known),
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
    fn issue_token(&self, config: &Config, request: &Request) -> Reply {
        if request.has_field("X-Forwarded-For") {
            return Reply::empty(403);
        }
        let Some(ttl) = request.field(TOKEN_TTL).and_then(Ttl::parse) else {
            return Reply::empty(400);
        };
        let now_ms = self.clock.monotonic_ms();
        match self.tokens.issue(request.caller.address, ttl, now_ms) {
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
