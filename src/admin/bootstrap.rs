//! `POST /bootstrap/creds`: the credentials that sign the first AssumeRole, as the Go program took
//! them (docs/reference/sts.md, "The earlier Go daemon"). They are never shown again.

use super::reply::{error, is_json, not_allowed};
use crate::http::{Method, Reply, Request};
use crate::instance::Instance;
use crate::role::Credentials;

/// Takes credentials and starts the first call at once. 200 with an empty body.
pub fn route(instance: &Instance, request: &Request) -> Reply {
    if request.method != Method::Post {
        return not_allowed("POST");
    }
    let role = instance.role();
    let Some(role) = role.filter(|role| role.source().spec().is_some()) else {
        return error(404, "no role is configured");
    };
    if !is_json(request) {
        return error(415, "expected Content-Type: application/json");
    }
    match Credentials::parse(request.body) {
        Ok(credentials) => {
            role.offer(credentials);
            Reply::empty(200)
        }
        Err(e) => error(400, &e.to_string()),
    }
}
