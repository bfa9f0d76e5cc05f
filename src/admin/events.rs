//! `/events`: making events come over the instance, and ending them.

use serde_json::{Value, json};

use super::reply::{error, json_object, json_reply, not_allowed};
use crate::config::EventSpec;
use crate::http::{Method, Reply, Request};
use crate::instance::{Closed, Instance, MAX_EVENTS, parse_closing};

/// `GET` and `POST /events`, `PATCH` and `DELETE /events/ID`.
pub fn route(instance: &Instance, id: Option<&str>, request: &Request) -> Reply {
    match (request.method, id) {
        (Method::Get | Method::Head, None) => json_reply(
            200,
            &Value::Array(instance.events.list(instance.clock.now())),
        ),
        (Method::Post, None) => post(instance, request),
        (_, None) => not_allowed("GET, HEAD, POST"),
        (Method::Patch, Some(id)) => patch(instance, id, request),
        (Method::Delete, Some(id)) => match instance.events.remove(id) {
            true => Reply::empty(200),
            false => error(404, "no such event"),
        },
        (_, Some(_)) => not_allowed("PATCH, DELETE"),
    }
}

fn post(instance: &Instance, request: &Request) -> Reply {
    let object = match json_object(request) {
        Ok(object) => object,
        Err(reply) => return reply,
    };
    match EventSpec::parse(&object) {
        Err(problem) => error(400, &problem.to_string()),
        Ok(spec) => match instance.events.add(spec, instance.clock.now()) {
            Some(event) => json_reply(201, &event),
            None => error(429, &format!("there are {MAX_EVENTS} events; delete some")),
        },
    }
}

fn patch(instance: &Instance, id: &str, request: &Request) -> Reply {
    let object = match json_object(request) {
        Ok(object) => object,
        Err(reply) => return reply,
    };
    let phase = match parse_closing(&object) {
        Ok(phase) => phase,
        Err(what) => return error(400, &what),
    };
    match instance.events.close(id, phase) {
        Closed::Done => json_reply(200, &json!({ "id": id, "state": phase.name() })),
        Closed::NoSuchEvent => error(404, "no such event"),
        Closed::NotMaintenance => error(
            400,
            "state: only scheduled maintenance is completed or canceled; delete the event",
        ),
    }
}
