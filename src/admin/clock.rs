//! `/clock`: moving the instance's time. Tokens, events, static credentials and dates follow.

use serde_json::json;

use super::reply::{error, json_object, json_reply, not_allowed};
use crate::config::duration;
use crate::date::{self, Date};
use crate::http::{Method, Reply, Request};
use crate::instance::Instance;

/// `GET` and `POST /clock`.
pub fn route(instance: &Instance, request: &Request) -> Reply {
    match request.method {
        Method::Get | Method::Head => shown(instance),
        Method::Post => post(instance, request),
        _ => not_allowed("GET, HEAD, POST"),
    }
}

fn post(instance: &Instance, request: &Request) -> Reply {
    let object = match json_object(request) {
        Ok(object) => object,
        Err(reply) => return reply,
    };
    let mut entries = object.iter();
    let (Some((key, value)), None) = (entries.next(), entries.next()) else {
        return error(400, "expected one of \"advance\", \"set\" and \"reset\"");
    };
    let clock = &instance.clock;
    let moved = match (key.as_str(), value.as_str(), value.as_bool()) {
        ("advance", Some(text), _) => match duration::parse(text) {
            Some(ms) => clock.advance(ms),
            None => return error(400, "advance: expected a duration such as 6h or -30s"),
        },
        ("set", Some(text), _) => match Date::parse(text) {
            Some(at) => clock.set(at),
            None => return error(400, &format!("set: expected {}", date::EXPECTED)),
        },
        ("reset", _, Some(true)) => clock.reset(),
        ("advance" | "set", None, _) => return error(400, &format!("{key}: expected a text")),
        ("reset", _, _) => return error(400, "reset: expected true"),
        _ => {
            let what = format!("{key}: unknown; expected \"advance\", \"set\" or \"reset\"");
            return error(400, &what);
        }
    };
    match moved {
        true => {
            instance.redate();
            shown(instance)
        }
        false => error(
            400,
            &format!("{key}: the time must stay between 1970 and 9999"),
        ),
    }
}

fn shown(instance: &Instance) -> Reply {
    let offset = instance.clock.offset_ms() as f64 / 1000.0;
    let time = instance.clock.now().to_string();
    json_reply(200, &json!({ "time": time, "offset_seconds": offset }))
}
