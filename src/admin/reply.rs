//! The forms of administrative answers, and of bodies that are JSON.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::http::{Entity, Reply, Request};

/// A one-line JSON error.
pub fn error(status: u16, what: &str) -> Reply {
    json_reply(status, &json!({ "error": what }))
}

/// 405 with what is allowed instead.
pub fn not_allowed(allow: &'static str) -> Reply {
    Reply {
        allow: Some(allow),
        ..error(405, "no such method here")
    }
}

/// A JSON answer on one line.
pub fn json_reply(status: u16, value: &Value) -> Reply {
    let line = format!("{value}\n");
    Reply {
        status,
        ..Reply::ok(Arc::new(Entity::new("application/json", None, line)))
    }
}

/// The body as a JSON object, or the answer that says why it is none.
pub fn json_object(request: &Request) -> Result<Map<String, Value>, Reply> {
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
pub fn is_json(request: &Request) -> bool {
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
