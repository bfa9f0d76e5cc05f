//! The administrative service on a port of its own: is the mock in a good state, and here are
//! credentials to start from. Anything but `GET /status` is for callers that [`access`] admits.
//!
//! [`access`]: crate::access

mod bootstrap;

use std::sync::Arc;

use serde_json::{Value, json};

use crate::access::AdminSecret;
use crate::http::{Entity, Method, Reply, Request};
use crate::imds::Imds;
use crate::role::Role;

/// What the routes work on.
pub struct Admin {
    imds: Arc<Imds>,
    role: Option<Arc<Role>>,
    secret: Option<AdminSecret>,
}

impl Admin {
    /// `secret` replaces the rule that only local callers may do more than ask for the status.
    pub fn new(imds: Arc<Imds>, role: Option<Arc<Role>>, secret: Option<AdminSecret>) -> Admin {
        Admin { imds, role, secret }
    }

    /// Answers a request.
    pub fn route(&self, request: &Request) -> Reply {
        let path = request.path.trim_end_matches('/');
        let is_open = path == "/status" && request.query.is_none();
        if !is_open && let Some(denied) = self.denial(request) {
            return denied;
        }
        match (path, request.method) {
            ("/status", Method::Get | Method::Head) => self.status(request),
            ("/status", _) => not_allowed("GET, HEAD"),
            ("/bootstrap/creds", Method::Post) => match &self.role {
                Some(role) => bootstrap::post(role, request),
                None => error(404, "no role is configured"),
            },
            ("/bootstrap/creds", _) => not_allowed("POST"),
            _ => error(404, "no such path"),
        }
    }

    /// `GET /status`: whether valid credentials are being served; true too without a role.
    fn status(&self, request: &Request) -> Reply {
        match (request.query, &self.role) {
            (Some("verbose"), Some(role)) => json_reply(200, &json!(role.verbose_status())),
            (Some("verbose"), None) => json_reply(200, &json!({ "state": "no role" })),
            (_, role) => {
                let good = role.as_ref().is_none_or(|role| role.status());
                Reply::ok(Arc::new(Entity::new(
                    "application/json",
                    None,
                    good.to_string(),
                )))
            }
        }
    }

    /// Why the caller may not, if so (design, D7).
    fn denial(&self, request: &Request) -> Option<Reply> {
        let rules = &self.imds.instance().config.rules;
        if !rules.is_no_web_page(request) {
            let what = "this Host or Origin is not one of ours; add the name to \"allowed_hosts\"";
            return Some(error(403, what));
        }
        match &self.secret {
            Some(secret) if secret.is_presented(request) => None,
            Some(_) => Some(error(
                403,
                "present the secret: Authorization: Bearer SECRET",
            )),
            None if request.caller.is_local => None,
            None => Some(error(403, "only for callers on this machine")),
        }
    }
}

/// A one-line JSON error.
pub fn error(status: u16, what: &str) -> Reply {
    json_reply(status, &json!({ "error": what }))
}

fn not_allowed(allow: &'static str) -> Reply {
    Reply {
        allow: Some(allow),
        ..error(405, "no such method here")
    }
}

/// A JSON answer on one line.
fn json_reply(status: u16, value: &Value) -> Reply {
    Reply {
        status,
        ..Reply::ok(Arc::new(Entity::new(
            "application/json",
            None,
            format!("{value}\n"),
        )))
    }
}
