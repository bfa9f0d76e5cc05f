//! `/faults`: making requests go wrong, and mending it.

use serde_json::Value;

use super::{error, json_object, json_reply, not_allowed};
use crate::config::FaultSpec;
use crate::http::{Method, Reply, Request};
use crate::imds::Imds;
use crate::imds::faults::MAX_FAULTS;

/// `GET`, `POST` and `DELETE /faults`, `DELETE /faults/ID`.
pub fn route(imds: &Imds, id: Option<&str>, request: &Request) -> Reply {
    match (request.method, id) {
        (Method::Get | Method::Head, None) => json_reply(200, &Value::Array(imds.faults.list())),
        (Method::Post, None) => post(imds, request),
        (Method::Delete, None) => {
            imds.faults.clear();
            Reply::empty(200)
        }
        (_, None) => not_allowed("GET, HEAD, POST, DELETE"),
        (Method::Delete, Some(id)) => match id.parse().is_ok_and(|id| imds.faults.remove(id)) {
            true => Reply::empty(200),
            false => error(404, "no such fault"),
        },
        (_, Some(_)) => not_allowed("DELETE"),
    }
}

fn post(imds: &Imds, request: &Request) -> Reply {
    let object = match json_object(request) {
        Ok(object) => object,
        Err(reply) => return reply,
    };
    match FaultSpec::parse(&object) {
        Err(problem) => error(400, &problem.to_string()),
        Ok(spec) => match imds.faults.add(spec) {
            Some(fault) => json_reply(201, &fault),
            None => error(429, &format!("there are {MAX_FAULTS} faults; delete some")),
        },
    }
}
