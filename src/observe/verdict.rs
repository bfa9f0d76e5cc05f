//! What can be said of a client, and what is looked at for it.

use std::net::IpAddr;
use std::time::Duration;

use super::outcome::Outcome;

/// Something that a client should not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    V1,
    V1Credentials,
    NoToken,
    TokenPerRequest,
    Ignored401,
    IgnoredSpot,
    FastPoll,
}

impl Verdict {
    pub const ALL: [Verdict; 7] = [
        Verdict::V1,
        Verdict::V1Credentials,
        Verdict::NoToken,
        Verdict::TokenPerRequest,
        Verdict::Ignored401,
        Verdict::IgnoredSpot,
        Verdict::FastPoll,
    ];

    /// Its name for users.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::V1 => "v1",
            Verdict::V1Credentials => "v1-credentials",
            Verdict::NoToken => "no-token",
            Verdict::TokenPerRequest => "token-per-request",
            Verdict::Ignored401 => "ignored-401",
            Verdict::IgnoredSpot => "ignored-spot",
            Verdict::FastPoll => "fast-poll",
        }
    }

    /// What the client did, to be read behind its address.
    pub fn deed(self) -> &'static str {
        match self {
            Verdict::V1 => "was answered without a token",
            Verdict::V1Credentials => "got keys of a role without a token",
            Verdict::NoToken => "was refused for want of a token",
            Verdict::TokenPerRequest => "asked for a token for every read",
            Verdict::Ignored401 => "went on with a token that had been refused",
            Verdict::IgnoredSpot => "kept reading after an interruption it had read of",
            Verdict::FastPoll => "read one path more than once a second",
        }
    }

    /// The verdict of that name.
    pub fn parse(name: &str) -> Option<Verdict> {
        Verdict::ALL.into_iter().find(|known| known.name() == name)
    }
}

/// What a request tells about its client.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    pub client: IpAddr,
    /// Since the mock was started, in real time.
    pub at: Duration,
    /// Milliseconds since 1970 by the instance's clock.
    pub instance_ms: i64,
    /// The path as it was asked, folded.
    pub path: &'a str,
    /// The token it came with.
    pub token: Option<&'a str>,
    pub outcome: Outcome,
}
