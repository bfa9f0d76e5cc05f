//! `/metadata/PATH`, `/dynamic/PATH` and `/user-data`: reading and changing what the metadata
//! service serves. A body is the value, byte for byte.

use serde_json::Value;

use super::reply::{error, json_object, not_allowed};
use crate::config::MAX_USER_DATA;
use crate::http::{Method, Reply, Request};
use crate::instance::{Change, Instance, Refused};

/// Everything below `directory`; `rest` is the path behind it.
pub fn route(instance: &Instance, directory: &str, rest: Option<&str>, request: &Request) -> Reply {
    let rest = rest.filter(|rest| !rest.is_empty());
    match (request.method, rest) {
        (Method::Get | Method::Head, None) => value(instance, directory),
        (Method::Patch, None) => patch(instance, directory, request),
        (_, None) => not_allowed("GET, HEAD, PATCH"),
        (method, Some(rest)) => leaf(instance, method, &format!("{directory}/{rest}"), request),
    }
}

/// `/user-data` itself.
pub fn user_data(instance: &Instance, request: &Request) -> Reply {
    if request.method == Method::Put && request.body.len() > MAX_USER_DATA {
        return error(400, &format!("user data: at most {MAX_USER_DATA} bytes"));
    }
    leaf(instance, request.method, "user-data", request)
}

fn leaf(instance: &Instance, method: Method, path: &str, request: &Request) -> Reply {
    match method {
        Method::Get | Method::Head => value(instance, path),
        Method::Put => done(instance.change(&[(path.to_owned(), Some(request.body.to_vec()))])),
        Method::Delete => done(instance.remove(path)),
        _ => not_allowed("GET, HEAD, PUT, DELETE"),
    }
}

/// A JSON object path -> text or null, applied whole or not at all.
fn patch(instance: &Instance, directory: &str, request: &Request) -> Reply {
    let object = match json_object(request) {
        Ok(object) => object,
        Err(reply) => return reply,
    };
    let mut changes: Vec<Change> = Vec::new();
    for (path, value) in object {
        let path = format!("{directory}/{}", path.trim_matches('/'));
        changes.push(match value {
            Value::Null => (path, None),
            Value::String(text) => (path, Some(text.into_bytes())),
            other => {
                let what =
                    format!("{path:?}: expected a text, or null to remove it, found {other}");
                return error(400, &what);
            }
        });
    }
    done(instance.change(&changes))
}

fn value(instance: &Instance, path: &str) -> Reply {
    instance.value(path).map_or_else(refusal, Reply::ok)
}

fn done(changed: Result<(), Refused>) -> Reply {
    changed.map_or_else(refusal, |()| Reply::empty(200))
}

fn refusal(refused: Refused) -> Reply {
    let status = match refused {
        Refused::Credentials => 403,
        Refused::NotThere => 404,
        Refused::BadPath(_) | Refused::Conflict(_) => 400,
        Refused::TooMuch => 429,
    };
    error(status, &refused.to_string())
}
