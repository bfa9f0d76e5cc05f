//! `POST /bootstrap/creds`: the credentials that sign the first AssumeRole, as the Go program took
//! them (reference/credentials.md, section 9). They are never shown again.

use super::error;
use crate::http::{Reply, Request};
use crate::role::{Credentials, Role};

/// Takes credentials and starts the first call at once. 200 with an empty body.
pub fn post(role: &Role, request: &Request) -> Reply {
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

/// Whether the body is JSON: said so, not said at all, or said as curl does by default.
fn is_json(request: &Request) -> bool {
    let content_type = request.field("Content-Type").unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    ["", "application/json", "application/x-www-form-urlencoded"]
        .iter()
        .any(|known| media_type.eq_ignore_ascii_case(known))
}
