//! `/config` and `/reload`: what is in force, and reading it again.

use serde_json::json;

use super::reply::{json_reply, not_allowed};
use crate::config::Problem;
use crate::http::{Method, Reply, Request};
use crate::instance::Instance;

/// Reads the configuration again: what deserves a warning, or what is wrong.
pub type Reload = Box<dyn Fn() -> Result<Vec<Problem>, Vec<Problem>> + Send + Sync>;

/// `GET /config`: what is in force, as far as it comes from the configuration.
pub fn route(instance: &Instance, request: &Request) -> Reply {
    match request.method {
        Method::Get | Method::Head => json_reply(200, &instance.snapshot().config.effective()),
        _ => not_allowed("GET, HEAD"),
    }
}

/// `POST /reload`, the same as SIGHUP.
pub fn reload(reload: &Reload, request: &Request) -> Reply {
    if request.method != Method::Post {
        return not_allowed("POST");
    }
    let texts = |problems: Vec<Problem>| -> Vec<String> {
        problems.iter().map(Problem::to_string).collect()
    };
    match reload() {
        Ok(warnings) => json_reply(200, &json!({ "warnings": texts(warnings) })),
        Err(problems) => json_reply(422, &json!({ "errors": texts(problems) })),
    }
}
