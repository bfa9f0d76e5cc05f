//! Why a request got its answer: told by whoever decided, read by the journal, the verdicts and the
//! metrics, so that none of them has to guess it back from the answer.

use serde::Serialize;

use crate::instance::Meaning;

/// How a request spoke to the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Without a token.
    V1,
    /// With one, whatever it was worth.
    V2,
    /// To the path that issues tokens.
    Token,
}

impl Protocol {
    /// The word for it in the journal and in the metrics.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::V1 => "v1",
            Protocol::V2 => "v2",
            Protocol::Token => "token",
        }
    }
}

/// What a request wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A new token.
    Token,
    /// A GET or HEAD of anything but the token path.
    Read,
    Other,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// 0 where no answer is sent.
    pub status: u16,
    pub protocol: Protocol,
    pub asked: Asked,
    /// Something else than the service decided on the answer: a fault or a forced status.
    pub is_forced: bool,
    /// By the instance's clock; `None` without a token and with one that nobody knows any more.
    pub token_age_s: Option<i64>,
    /// The id of the fault that happened to it.
    pub fault: Option<u64>,
    /// What its client learns beside the value.
    pub meaning: Meaning,
}
