//! The administrative port as a server sees it: who may do what, and which path is whose. Anything
//! but `GET /status` is for callers that [`access`] admits.
//!
//! [`access`]: crate::access

use std::sync::Arc;

use super::config::Reload;
use super::reply::error;
use super::under_way::UnderWay;
use super::{bootstrap, clock, config, events, faults, metrics, requests, status, values};
use crate::access::AdminSecret;
use crate::clock::Clock;
use crate::http::{Reply, Request, Service, Step, reason};
use crate::instance::Instance;
use crate::observe::Observer;

/// How many connections are open now.
pub type Connections = Box<dyn Fn() -> usize + Send + Sync>;

/// What the routes work on.
pub struct Admin {
    pub instance: Arc<Instance>,
    pub reload: Reload,
    /// Replaces the rule that only local callers may do more than ask for the status.
    pub secret: Option<AdminSecret>,
    pub observer: Arc<Observer>,
    pub connections: Connections,
    pub under_way: UnderWay,
}

impl Admin {
    /// Answers a request.
    fn route(&self, request: &Request) -> Reply {
        let path = request.path.trim_matches('/');
        if !(path == "status" && request.query.is_none())
            && let Some(denied) = self.denial(request)
        {
            return denied;
        }
        let (room, rest) = match path.split_once('/') {
            Some((room, rest)) => (room, Some(rest)),
            None => (path, None),
        };
        match (room, rest) {
            ("status", None) => status::route(&self.instance, request),
            // These wait, for STS and for files.
            ("bootstrap", Some("creds")) => bootstrap::route(&self.instance, request),
            ("reload", None) => config::reload(&self.reload, request),
            _ => (self.under_way).add(room == "requests", || self.work(room, rest, request)),
        }
    }

    /// Answers a request that may take much memory, but not its time.
    fn work(&self, room: &str, rest: Option<&str>, request: &Request) -> Reply {
        let instance = &*self.instance;
        match (room, rest) {
            ("config", None) => config::route(instance, request),
            ("metadata", rest) => values::route(instance, "meta-data", rest, request),
            ("dynamic", rest) => values::route(instance, "dynamic", rest, request),
            ("user-data", None) => values::user_data(instance, request),
            ("events", id) => events::route(instance, id, request),
            ("faults", id) => faults::route(instance, id, request),
            ("clock", None) => clock::route(instance, request),
            ("requests", None) => requests::route(&self.observer, request),
            ("verdicts", None) => requests::verdicts(&self.observer, request),
            ("metrics", None) => {
                metrics::route(instance, &self.observer, (self.connections)(), request)
            }
            _ => error(404, "no such path"),
        }
    }

    /// Why the caller may not, if so (docs/architecture.md, D7).
    fn denial(&self, request: &Request) -> Option<Reply> {
        let rules = &self.instance.snapshot().config.rules;
        if !rules.is_no_web_page(request.host, request.has_field("Origin")) {
            let what = "this Host or Origin is not one of ours; add the name to \"allowed_hosts\"";
            return Some(error(403, what));
        }
        match &self.secret {
            Some(secret) if secret.is_presented(request.field("Authorization")) => None,
            Some(_) => Some(error(
                403,
                "present the secret: Authorization: Bearer SECRET",
            )),
            None if request.caller.is_local => None,
            None => Some(error(403, "only for callers on this machine")),
        }
    }
}

impl Service for Admin {
    fn server_name(&self) -> &'static str {
        "imds_mock"
    }

    /// Real time: the administration is no part of the instance.
    fn unix_ms(&self) -> i64 {
        Clock::default().unix_ms()
    }

    fn judges_callers(&self) -> bool {
        true
    }

    fn may_block(&self) -> bool {
        true
    }

    fn wants_bodies(&self) -> bool {
        true
    }

    fn answer(&self, request: &Request) -> Step {
        Step::Reply(self.route(request))
    }

    fn refusal(&self, status: u16) -> Reply {
        error(status, reason(status))
    }
}
