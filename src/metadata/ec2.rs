//! Which request gets which answer, and why: the order of checks (docs/architecture.md, D3), a
//! plain function that knows no socket and never waits.

use std::sync::Arc;

use crate::clock::SECOND_US;
use crate::config::Effect;
use crate::http::{Delivery, Entity, Method, Reply, Request};
use crate::instance::{
    Found, Injection, Instance, Meaning, Reader, Snapshot, TOKEN, Ttl, forced_status,
};
use crate::observe::{Asked, Outcome, Protocol};
use crate::role::RoleDelivery;
use crate::version::Version;

const TOKEN_TTL: &str = "X-aws-ec2-metadata-token-ttl-seconds";
/// The field of answers; EC2 capitalises it so (docs/reference/metadata.md, "Headers").
const TTL_FIELD: &str = "X-Aws-Ec2-Metadata-Token-Ttl-Seconds";
const TOKEN_PATH: &str = "/latest/api/token";
/// What a client gets that is to stumble over its parser.
const WRONG_JSON: &str = "{\n  \"Code\" : \"Success\",\n  \"LastUpdated\" : ";
/// What `Allow` says at the token path, and everywhere else (docs/reference/metadata.md,
/// "Methods").
const TOKEN_METHODS: &str = "OPTIONS, PUT";
const READ_METHODS: &str = "OPTIONS, GET, HEAD";

/// An answer, and why it is this one.
pub struct Answer {
    pub reply: Reply,
    pub outcome: Outcome,
}

/// Whether a request is looked at, or refused whatever it asks.
pub fn admits(snapshot: &Snapshot, request: &Request) -> bool {
    let config = &snapshot.config;
    config.endpoint_enabled
        && (config.rules).admit_request(request.host, request.has_field("Origin"))
}

/// Whether tokens are issued at `path`: a PUT may have a slash behind it
/// (docs/reference/metadata.md, "Token"). What other methods get there nobody saw, so that is a
/// path like any other.
fn issues_tokens(path: &str) -> bool {
    path.strip_suffix('/').unwrap_or(path) == TOKEN_PATH
}

/// Answers a request about `instance`, as it was when the request came. What `injection` had it wait
/// for is over; its effect is the one thing that goes wrong.
pub fn answer(
    instance: &Instance,
    snapshot: &Snapshot,
    request: &Request,
    injection: Injection,
) -> Answer {
    let effect = injection.effect;
    let now_us = instance.clock.monotonic_us();
    let text = request.field(TOKEN);
    let known = text.and_then(|token| instance.tokens.look(token, now_us));
    let protocol = match request.has_field(TOKEN) {
        _ if issues_tokens(request.path) => Protocol::Token,
        true => Protocol::V2,
        false => Protocol::V1,
    };
    let mut exchange = Exchange {
        instance,
        snapshot,
        request,
        remaining_s: known.and_then(|token| token.remaining_s),
        token_is_dead: effect == Some(Effect::ExpiredToken),
        outcome: Outcome {
            status: 0,
            protocol,
            asked: match (protocol, request.method) {
                (Protocol::Token, Method::Put) => Asked::Token,
                (Protocol::V1 | Protocol::V2, Method::Get | Method::Head) => Asked::Read,
                _ => Asked::Other,
            },
            is_forced: false,
            token_age_s: (known.map(|token| token.age_s)).filter(|_| protocol == Protocol::V2),
            fault: injection.fault,
            meaning: Meaning::Nothing,
        },
    };
    let reply = match effect {
        None | Some(Effect::ExpiredToken) => exchange.reply(),
        Some(Effect::Slow { bytes_per_second }) => Reply {
            delivery: Delivery::Slow { bytes_per_second },
            ..exchange.reply()
        },
        Some(Effect::Truncate { bytes }) => Reply {
            delivery: Delivery::Truncated { bytes },
            ..exchange.reply()
        },
        Some(Effect::Status(status)) => Reply::empty(status),
        Some(Effect::WrongJson) => Reply::ok(Arc::new(Entity::new("text/plain", None, WRONG_JSON))),
        Some(Effect::Reset) => Reply {
            delivery: Delivery::Reset,
            ..Reply::empty(0)
        },
        Some(Effect::NoAnswer) => Reply {
            delivery: Delivery::NoAnswer,
            ..Reply::empty(0)
        },
        // Faults turn these into a wait and a status.
        Some(Effect::Delay { .. } | Effect::Throttle { .. }) => exchange.reply(),
    };
    let mut outcome = exchange.outcome;
    outcome.status = reply.status;
    let is_own = matches!(
        effect,
        None | Some(Effect::Slow { .. } | Effect::Truncate { .. })
    );
    outcome.is_forced |= !is_own;
    let arrives = matches!(reply.delivery, Delivery::Whole | Delivery::Slow { .. });
    if request.method != Method::Get || !arrives {
        outcome.meaning = Meaning::Nothing;
    }
    Answer { reply, outcome }
}

/// One request on its way to its answer.
struct Exchange<'a> {
    instance: &'a Instance,
    snapshot: &'a Snapshot,
    request: &'a Request<'a>,
    /// How long the token that came with it still lives.
    remaining_s: Option<u32>,
    /// That token, or the one that is asked for, is taken for expired.
    token_is_dead: bool,
    outcome: Outcome,
}

impl Exchange<'_> {
    /// The order of checks.
    fn reply(&mut self) -> Reply {
        let (config, request) = (&self.snapshot.config, self.request);
        if !admits(self.snapshot, request) {
            return Reply::empty(403);
        }
        if self.outcome.asked == Asked::Token {
            return self.issue_token();
        }
        if let Some(status) = forced_status(config, request) {
            self.outcome.is_forced = true;
            return Reply::empty(status);
        }
        if request.path == TOKEN_PATH {
            return match request.method {
                Method::Options => options(TOKEN_METHODS),
                _ => Reply::not_allowed(TOKEN_METHODS),
            };
        }
        let needs_token = config.tokens_required || request.has_field(TOKEN);
        if self.token_is_dead || (needs_token && self.remaining_s.is_none()) {
            return Reply::empty(401);
        }
        let reply = match request.method {
            Method::Get | Method::Head => match self.find() {
                Some(found) => {
                    self.outcome.meaning = found.meaning;
                    Reply::ok(found.entity)
                }
                None => Reply::page(404),
            },
            Method::Options => options(READ_METHODS),
            // Of all other methods nobody says what they would be allowed for.
            _ => Reply::empty(403),
        };
        Reply {
            first_field: self.remaining_s.map(|seconds| (TTL_FIELD, seconds)),
            ..reply
        }
    }

    /// `PUT /latest/api/token` (docs/reference/metadata.md, "Token").
    fn issue_token(&self) -> Reply {
        let (instance, request) = (self.instance, self.request);
        if request.has_field("X-Forwarded-For") {
            return Reply::empty(403);
        }
        let Some(ttl) = request.field(TOKEN_TTL).and_then(Ttl::parse) else {
            return Reply::empty(400);
        };
        let age_us = match self.token_is_dead {
            true => i64::from(ttl.seconds()) * SECOND_US,
            false => 0,
        };
        let born_us = instance.clock.monotonic_us() - age_us;
        match instance.tokens.issue(request.caller.address, ttl, born_us) {
            Ok(token) => Reply {
                first_field: Some((TTL_FIELD, ttl.seconds())),
                hop_limit: self.snapshot.config.hop_limit,
                ..Reply::ok(Arc::new(Entity::token(token)))
            },
            // The system has no random bytes: a client may try again.
            Err(_) => Reply::empty(503),
        }
    }

    /// What stands at the path, for this caller.
    fn find(&self) -> Option<Found> {
        let path = self.request.path.trim_start_matches('/');
        if path.is_empty() {
            return Some(self.snapshot.versions().into());
        }
        let (version, path) = path.split_once('/').unwrap_or((path, ""));
        let version = Version::parse(version)?;
        let delivery = match self.remaining_s {
            Some(_) => RoleDelivery::V2,
            None => RoleDelivery::V1,
        };
        let reader = Reader { version, delivery };
        let client = Some(self.request.caller.address);
        self.instance.get(self.snapshot, path, reader, client)
    }
}

fn options(allow: &'static str) -> Reply {
    Reply {
        allow: Some(allow),
        ..Reply::empty(200)
    }
}
