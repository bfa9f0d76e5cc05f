//! `/faults`: making requests go wrong, and mending it.

use serde_json::Value;

use super::reply::{error, json_object, json_reply, not_allowed};
use crate::config::FaultSpec;
use crate::http::{Method, Reply, Request};
use crate::instance::{Instance, MAX_FAULTS};

/// `GET`, `POST` and `DELETE /faults`, `DELETE /faults/ID`.
pub fn route(instance: &Instance, id: Option<&str>, request: &Request) -> Reply {
    match (request.method, id) {
        (Method::Get | Method::Head, None) => {
            json_reply(200, &Value::Array(instance.faults.list()))
        }
        (Method::Post, None) => post(instance, request),
        (Method::Delete, None) => {
            instance.faults.clear();
            Reply::empty(200)
        }
        (_, None) => not_allowed("GET, HEAD, POST, DELETE"),
        (Method::Delete, Some(id)) => match id.parse().is_ok_and(|id| instance.faults.remove(id)) {
            true => Reply::empty(200),
            false => error(404, "no such fault"),
        },
        (_, Some(_)) => not_allowed("DELETE"),
    }
}

fn post(instance: &Instance, request: &Request) -> Reply {
    let object = match json_object(request) {
        Ok(object) => object,
        Err(reply) => return reply,
    };
    match FaultSpec::parse(&object) {
        Err(problem) => error(400, &problem.to_string()),
        Ok(spec) => match instance.faults.add(spec) {
            Some(fault) => json_reply(201, &fault),
            None => error(429, &format!("there are {MAX_FAULTS} faults; delete some")),
        },
    }
}
