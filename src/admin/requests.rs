//! `/requests` and `/verdicts`: what clients did, and what is to be said of it.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::reply::{error, json_reply, not_allowed};
use crate::http::{Entity, Method, Reply, Request};
use crate::observe::Filter;
use crate::observe::Observer;

/// `GET` and `DELETE /requests`.
pub fn route(observer: &Observer, request: &Request) -> Reply {
    match request.method {
        Method::Get | Method::Head => listed(observer, request),
        Method::Delete => {
            observer.clear();
            Reply::empty(200)
        }
        _ => not_allowed("GET, HEAD, DELETE"),
    }
}

/// The entries that the query asks for, a line of JSON each.
fn listed(observer: &Observer, request: &Request) -> Reply {
    let filter = match Filter::parse(request.query.unwrap_or_default()) {
        Ok(filter) => filter,
        Err(bad) => return error(400, &bad.to_string()),
    };
    let mut lines = Vec::new();
    for entry in observer.entries() {
        if filter.admits(&entry) {
            serde_json::to_writer(&mut lines, &*entry)
                .expect("its date is formatted by our own format");
            lines.push(b'\n');
        }
    }
    Reply::ok(Arc::new(Entity::new("application/x-ndjson", None, lines)))
}

/// `GET /verdicts`: for each client of whom there is something to say, what and how often.
pub fn verdicts(observer: &Observer, request: &Request) -> Reply {
    if !matches!(request.method, Method::Get | Method::Head) {
        return not_allowed("GET, HEAD");
    }
    let mut clients: Map<String, Value> = Map::new();
    for ((client, verdict), count) in observer.findings() {
        let said = clients.entry(client.to_string());
        if let Value::Array(said) = said.or_insert_with(|| json!([])) {
            said.push(json!({ "verdict": verdict.name(), "count": count }));
        }
    }
    json_reply(200, &Value::Object(clients))
}
