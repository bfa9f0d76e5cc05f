//! `/metadata/PATH`, `/dynamic/PATH` and `/user-data`: reading and changing what the metadata
//! service serves. A body is the value, byte for byte.

use serde_json::Value;

use super::{error, json_object, not_allowed};
use crate::config::MAX_USER_DATA;
use crate::http::{Method, Reply, Request};
use crate::imds::Imds;
use crate::imds::changes::{Change, Refused};

/// Everything below `directory`; `rest` is the path behind it.
pub fn route(imds: &Imds, directory: &str, rest: Option<&str>, request: &Request) -> Reply {
    let rest = rest.filter(|rest| !rest.is_empty());
    match (request.method, rest) {
        (Method::Get | Method::Head, None) => value(imds, directory),
        (Method::Patch, None) => patch(imds, directory, request),
        (_, None) => not_allowed("GET, HEAD, PATCH"),
        (method, Some(rest)) => leaf(imds, method, &format!("{directory}/{rest}"), request),
    }
}

/// `/user-data` itself.
pub fn user_data(imds: &Imds, request: &Request) -> Reply {
    if request.method == Method::Put && request.body.len() > MAX_USER_DATA {
        return error(400, &format!("user data: at most {MAX_USER_DATA} bytes"));
    }
    leaf(imds, request.method, "user-data", request)
}

fn leaf(imds: &Imds, method: Method, path: &str, request: &Request) -> Reply {
    match method {
        Method::Get | Method::Head => value(imds, path),
        Method::Put => done(imds.change(&[(path.to_owned(), Some(request.body.to_vec()))])),
        Method::Delete => done(imds.remove(path)),
        _ => not_allowed("GET, HEAD, PUT, DELETE"),
    }
}

/// A JSON object path -> text or null, applied whole or not at all.
fn patch(imds: &Imds, directory: &str, request: &Request) -> Reply {
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
    done(imds.change(&changes))
}

fn value(imds: &Imds, path: &str) -> Reply {
    imds.value(path).map_or_else(refusal, Reply::ok)
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
