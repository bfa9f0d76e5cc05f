//! The administrative service on a port of its own: the mock's state, credentials to start from,
//! and everything that changes the instance while it runs. Anything but `GET /status` is for
//! callers that [`access`] admits.
//!
//! [`access`]: crate::access

mod bootstrap;
mod clock;
mod events;
mod faults;
mod metrics;
mod requests;
mod values;

use std::sync::{Arc, Mutex, PoisonError, Weak};

use serde_json::{Map, Value, json};

use crate::access::AdminSecret;
use crate::config::{Config, Problem};
use crate::http::{Entity, Method, Reply, Request};
use crate::instance::Instance;
use crate::observe::Observer;

/// Reads the configuration again: the new one with what deserves a warning, or what is wrong.
pub type Loader = Arc<dyn Fn() -> Result<(Config, Vec<Problem>), Vec<Problem>> + Send + Sync>;

/// How many connections are open now.
pub type Connections = Box<dyn Fn() -> usize + Send + Sync>;

/// Bytes of answers on their way at which the journal is not listed once more: that alone takes ten
/// megabytes, and a client may read slowly.
const MAX_UNDER_WAY: usize = 32 * 1024 * 1024;

/// What the routes work on.
pub struct Admin {
    pub instance: Arc<Instance>,
    pub load: Loader,
    /// Replaces the rule that only local callers may do more than ask for the status.
    pub secret: Option<AdminSecret>,
    pub observer: Arc<Observer>,
    pub connections: Connections,
    pub under_way: UnderWay,
}

/// Answers that may not have been sent yet. Whoever makes one holds the lock, so that what requests
/// take while they are worked on is bounded, too.
#[derive(Default)]
pub struct UnderWay(Mutex<Vec<Weak<Entity>>>);

impl UnderWay {
    /// The answer that `make` makes or, for one that may be large, that there is no room for it.
    fn add(&self, may_be_large: bool, make: impl FnOnce() -> Reply) -> Reply {
        let mut answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        answers.retain(|answer| answer.strong_count() > 0);
        let entities = answers.iter().filter_map(Weak::upgrade);
        let bytes: usize = entities.map(|entity| entity.body().len()).sum();
        if may_be_large && bytes >= MAX_UNDER_WAY {
            let what = "too many large answers are on their way; try again, or ask for less";
            return error(503, what);
        }
        let reply = make();
        // A value of the instance is there in any case.
        if Arc::strong_count(&reply.entity) == 1 {
            answers.push(Arc::downgrade(&reply.entity));
        }
        reply
    }
}

impl Admin {
    /// Answers a request.
    pub fn route(&self, request: &Request) -> Reply {
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
            ("status", None) => self.status(request),
            // These wait, for STS and for files.
            ("bootstrap", Some("creds")) => bootstrap::route(&self.instance, request),
            ("reload", None) => self.reload(request),
            _ => (self.under_way).add(room == "requests", || self.work(room, rest, request)),
        }
    }

    /// Answers a request that may take much memory, but not its time.
    fn work(&self, room: &str, rest: Option<&str>, request: &Request) -> Reply {
        let instance = &*self.instance;
        match (room, rest) {
            ("config", None) => self.config(request),
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

    /// `GET /status`: whether valid credentials are being served; true too without a role.
    fn status(&self, request: &Request) -> Reply {
        let role = self.instance.role();
        let role = role.as_ref();
        match (request.method, request.query) {
            (Method::Get | Method::Head, Some("verbose")) => {
                match role.and_then(|role| role.verbose_status()) {
                    Some(status) => json_reply(200, &json!(status)),
                    None => json_reply(200, &json!({ "state": "no role" })),
                }
            }
            (Method::Get | Method::Head, _) => {
                let now = self.instance.clock.now();
                let good = role.is_none_or(|role| role.is_good(now));
                Reply::ok(Arc::new(Entity::new(
                    "application/json",
                    None,
                    good.to_string(),
                )))
            }
            _ => not_allowed("GET, HEAD"),
        }
    }

    /// `GET /config`: what is in force, as far as it comes from the configuration.
    fn config(&self, request: &Request) -> Reply {
        match request.method {
            Method::Get | Method::Head => {
                json_reply(200, &self.instance.snapshot().config.effective())
            }
            _ => not_allowed("GET, HEAD"),
        }
    }

    /// `POST /reload`, the same as SIGHUP.
    fn reload(&self, request: &Request) -> Reply {
        if request.method != Method::Post {
            return not_allowed("POST");
        }
        let texts = |problems: Vec<Problem>| -> Vec<String> {
            problems.iter().map(Problem::to_string).collect()
        };
        let loaded = (self.load)().and_then(|(config, mut warnings)| {
            warnings.extend(self.instance.load(config)?);
            Ok(warnings)
        });
        match loaded {
            Ok(warnings) => json_reply(200, &json!({ "warnings": texts(warnings) })),
            Err(problems) => json_reply(422, &json!({ "errors": texts(problems) })),
        }
    }

    /// Why the caller may not, if so (design, D7).
    fn denial(&self, request: &Request) -> Option<Reply> {
        let rules = &self.instance.snapshot().config.rules;
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
    let line = format!("{value}\n");
    Reply {
        status,
        ..Reply::ok(Arc::new(Entity::new("application/json", None, line)))
    }
}

/// The body as a JSON object, or the answer that says why it is none.
fn json_object(request: &Request) -> Result<Map<String, Value>, Reply> {
    if !is_json(request) {
        return Err(error(415, "expected Content-Type: application/json"));
    }
    match serde_json::from_slice(request.body) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(error(400, "expected a JSON object")),
        Err(e) => Err(error(400, &format!("not JSON: {e}"))),
    }
}

/// Whether the body is JSON: said so, not said at all, or said as curl does by default.
fn is_json(request: &Request) -> bool {
    let content_type = match request.field("Content-Type") {
        Some(content_type) => content_type,
        None if request.has_field("Content-Type") => return false,
        None => "",
    };
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    ["", "application/json", "application/x-www-form-urlencoded"]
        .iter()
        .any(|known| media_type.eq_ignore_ascii_case(known))
}
