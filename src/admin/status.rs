//! `/status`: whether valid credentials are being served, as the Go program said it.

use std::sync::Arc;

use serde_json::json;

use super::reply::{json_reply, not_allowed};
use crate::http::{Entity, Method, Reply, Request};
use crate::instance::Instance;

/// `GET /status`: whether valid credentials are being served; true too without a role.
pub fn route(instance: &Instance, request: &Request) -> Reply {
    let role = instance.role();
    let role = role.as_ref();
    match (request.method, request.query) {
        (Method::Get | Method::Head, Some("verbose")) => {
            match role.and_then(|role| role.verbose_status()) {
                Some(status) => json_reply(200, &json!(status)),
                None => json_reply(200, &json!({ "state": "no role" })),
            }
        }
        (Method::Get | Method::Head, _) => {
            let now = instance.clock.now();
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
