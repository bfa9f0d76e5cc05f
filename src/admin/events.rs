//! `/events`: making events come over the instance, and ending them.

use serde_json::{Value, json};

use super::{error, json_object, json_reply, not_allowed};
use crate::config::EventSpec;
use crate::http::{Method, Reply, Request};
use crate::imds::Imds;
use crate::imds::events::{Closed, MAX_EVENTS, parse_closing};

/// `GET` and `POST /events`, `PATCH` and `DELETE /events/ID`.
pub fn route(imds: &Imds, id: Option<&str>, request: &Request) -> Reply {
    match (request.method, id) {
        (Method::Get | Method::Head, None) => {
            json_reply(200, &Value::Array(imds.events.list(imds.clock.now())))
        }
        (Method::Post, None) => post(imds, request),
        (_, None) => not_allowed("GET, HEAD, POST"),
        (Method::Patch, Some(id)) => patch(imds, id, request),
        (Method::Delete, Some(id)) => match imds.events.remove(id) {
            true => Reply::empty(200),
            false => error(404, "no such event"),
        },
        (_, Some(_)) => not_allowed("PATCH, DELETE"),
    }
}

fn post(imds: &Imds, request: &Request) -> Reply {
    let object = match json_object(request) {
        Ok(object) => object,
        Err(reply) => return reply,
    };
    match EventSpec::parse(&object) {
        Err(problem) => error(400, &problem.to_string()),
        Ok(spec) => match imds.events.add(spec, imds.clock.now()) {
            Some(event) => json_reply(201, &event),
            None => error(429, &format!("there are {MAX_EVENTS} events; delete some")),
        },
    }
}

fn patch(imds: &Imds, id: &str, request: &Request) -> Reply {
    let object = match json_object(request) {
        Ok(object) => object,
        Err(reply) => return reply,
    };
    let phase = match parse_closing(&object) {
        Ok(phase) => phase,
        Err(what) => return error(400, &what),
    };
    match imds.events.close(id, phase) {
        Closed::Done => json_reply(200, &json!({ "id": id, "state": phase.name() })),
        Closed::NoSuchEvent => error(404, "no such event"),
        Closed::NotMaintenance => error(
            400,
            "state: only scheduled maintenance is completed or canceled; delete the event",
        ),
    }
}
