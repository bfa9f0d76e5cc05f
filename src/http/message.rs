//! What passes between the server and a service: a [`Request`] whose head and body are already read
//! and bounded, and a [`Reply`]. Plain types; no socket and no syntax is known here.

use std::fmt::{self, Write as _};
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use zeroize::Zeroize;

use super::status::reason;

/// The methods of RFC 9110 and PATCH; any other is answered 501 before a handler sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Get,
    Head,
    Put,
    Post,
    Delete,
    Options,
    Patch,
    Trace,
    Connect,
}

impl Method {
    pub(super) fn parse(name: &str) -> Option<Method> {
        Some(match name {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "PUT" => Method::Put,
            "POST" => Method::Post,
            "DELETE" => Method::Delete,
            "OPTIONS" => Method::Options,
            "PATCH" => Method::Patch,
            "TRACE" => Method::Trace,
            "CONNECT" => Method::Connect,
            _ => return None,
        })
    }

    /// The method's name as it stands in a request line.
    pub fn name(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Put => "PUT",
            Method::Post => "POST",
            Method::Delete => "DELETE",
            Method::Options => "OPTIONS",
            Method::Patch => "PATCH",
            Method::Trace => "TRACE",
            Method::Connect => "CONNECT",
        }
    }
}

/// Who sent a request. IPv4-mapped IPv6 addresses are already unmapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The peer's address.
    pub address: IpAddr,
    /// The peer is this machine: its address is the connection's own local one, or both are
    /// loopback (docs/architecture.md, D7). Only looked up for a service that asks for it.
    pub is_local: bool,
}

/// One request, complete and within the limits.
#[derive(Debug)]
pub struct Request<'a> {
    pub method: Method,
    /// The target as it stood in the request line.
    pub target: &'a str,
    /// The target's path without query and fragment, leading slashes made one.
    pub raw_path: &'a str,
    /// `raw_path` with every run of slashes made one.
    pub path: &'a str,
    /// What follows the first `?`, if there is one.
    pub query: Option<&'a str>,
    pub fields: &'a [httparse::Header<'a>],
    /// The authority of an absolute-form target, else the `Host` field.
    pub host: Option<&'a str>,
    pub body: &'a [u8],
    pub caller: Caller,
}

impl Request<'_> {
    /// The value of the first field of that name, ignoring case; `None` too if it is not UTF-8.
    pub fn field(&self, name: &str) -> Option<&str> {
        find(self.fields, name).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// Whether there is a field of that name, whatever its value.
    pub fn has_field(&self, name: &str) -> bool {
        find(self.fields, name).is_some()
    }
}

/// The value of the first field of that name, ignoring case.
pub(super) fn find<'a>(fields: &'a [httparse::Header<'a>], name: &str) -> Option<&'a [u8]> {
    fields
        .iter()
        .find(|field| field.name.eq_ignore_ascii_case(name))
        .map(|field| field.value)
}

/// Bytes of the largest body that may hold a secret. To wipe ten megabytes of journal would hold up
/// everybody else.
const MAX_SECRET: usize = 1024 * 1024;

/// A body and the fields that describe it, laid out once so that a request only copies them. It may
/// hold a secret: it is wiped when dropped and never printed.
pub struct Entity {
    /// Complete field lines, `Content-Length` among them.
    pub(super) fields: String,
    /// A field line that EC2 puts behind all others.
    pub(super) last_field: &'static str,
    body: Vec<u8>,
}

impl Drop for Entity {
    fn drop(&mut self) {
        if self.body.len() <= MAX_SECRET {
            self.body.zeroize();
        }
    }
}

impl fmt::Debug for Entity {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Entity({} bytes)", self.body.len())
    }
}

impl Entity {
    /// Describes `body`. `last_modified` is an HTTP date; with it come the fields of EC2's newer
    /// server, in its order (docs/reference/metadata.md, "Headers").
    pub fn new(
        content_type: &str,
        last_modified: Option<&str>,
        body: impl Into<Vec<u8>>,
    ) -> Entity {
        let body = body.into();
        let mut fields = format!("Content-Type: {content_type}\r\n");
        if let Some(date) = last_modified {
            let _ = write!(fields, "Accept-Ranges: none\r\nLast-Modified: {date}\r\n");
        }
        let _ = write!(fields, "Content-Length: {}\r\n", body.len());
        Entity {
            fields,
            last_field: "",
            body,
        }
    }

    /// A session token, its fields in the order EC2 sends them (docs/reference/metadata.md,
    /// "Headers").
    pub fn token(token: String) -> Entity {
        Entity {
            fields: format!("Content-Length: {}\r\n", token.len()),
            last_field: "Content-Type: text/plain\r\n",
            body: token.into_bytes(),
        }
    }

    /// The bytes of the body.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// EC2's XHTML error page, final newline included; the 404 one has 339 bytes
    /// (docs/reference/metadata.md, "Error bodies").
    fn page(status: u16) -> Entity {
        let title = format!("{status} - {}", reason(status));
        let page = format!(
            "<?xml version=\"1.0\" encoding=\"iso-8859-1\"?>\n\
             <!DOCTYPE html PUBLIC \"-//W3C//DTD XHTML 1.0 Transitional//EN\"\n\
             \t\t \"http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd\">\n\
             <html xmlns=\"http://www.w3.org/1999/xhtml\" xml:lang=\"en\" lang=\"en\">\n \
             <head>\n  <title>{title}</title>\n </head>\n \
             <body>\n  <h1>{title}</h1>\n </body>\n</html>\n"
        );
        Entity::new("text/html", None, page)
    }
}

static EMPTY: LazyLock<Arc<Entity>> =
    LazyLock::new(|| Arc::new(Entity::new("text/plain", None, "")));
static NOT_FOUND: LazyLock<Arc<Entity>> = LazyLock::new(|| Arc::new(Entity::page(404)));

/// How an answer leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    Whole,
    /// In pieces, at that rate.
    Slow {
        bytes_per_second: u32,
    },
    /// The head, and only so much of the body that the head promises.
    Truncated {
        bytes: usize,
    },
    /// Not at all: the connection is reset.
    Reset,
    /// Not at all: the connection stays open.
    NoAnswer,
}

/// An answer. Status, fields and body go out in one write.
#[derive(Debug, Clone)]
pub struct Reply {
    /// 100..=999; 0 where none is sent.
    pub status: u16,
    /// A complete field line that stands before all others, such as the token's remaining life.
    pub first_field: Option<(&'static str, u32)>,
    /// The value of `Allow`.
    pub allow: Option<&'static str>,
    pub entity: Arc<Entity>,
    /// IP TTL (IPv6 hop limit) of the packets that carry the answer.
    pub hop_limit: Option<u8>,
    pub delivery: Delivery,
}

impl Reply {
    /// 200 with that entity.
    pub fn ok(entity: Arc<Entity>) -> Reply {
        Reply {
            status: 200,
            first_field: None,
            allow: None,
            entity,
            hop_limit: None,
            delivery: Delivery::Whole,
        }
    }

    /// That status with an empty text/plain body.
    pub fn empty(status: u16) -> Reply {
        Reply {
            status,
            ..Reply::ok(EMPTY.clone())
        }
    }

    /// That status with EC2's XHTML page.
    pub fn page(status: u16) -> Reply {
        Reply {
            status,
            ..Reply::ok(match status {
                404 => NOT_FOUND.clone(),
                _ => Arc::new(Entity::page(status)),
            })
        }
    }

    /// 405 with what is allowed instead.
    pub fn not_allowed(allow: &'static str) -> Reply {
        Reply {
            allow: Some(allow),
            ..Reply::empty(405)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_is_read_as_it_is_written() {
        for name in [
            "GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT",
        ] {
            assert_eq!(Method::parse(name).map(Method::name), Some(name));
        }
        assert_eq!(Method::parse("get"), None);
    }

    #[test]
    fn the_404_page_has_ec2s_339_bytes() {
        assert_eq!(Entity::page(404).body().len(), 339);
    }

    #[test]
    fn what_an_entity_holds_is_not_printed() {
        let entity = Entity::new("text/plain", None, "secret");
        assert_eq!(format!("{entity:?}"), "Entity(6 bytes)");
    }
}
