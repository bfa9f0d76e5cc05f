//! What a configuration says about a role, and what there is to say about that.

use std::fmt;

use super::delivery::ForV1;

/// What the configuration says, not yet checked. Missing and `null` are `None`; callers make
/// `None` of empty texts too (docs/architecture.md, D4).
#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub arn: String,
    pub session_name: Option<String>,
    /// The session name where none is configured: the instance id.
    pub default_session_name: String,
    pub duration_seconds: Option<i64>,
    pub external_id: Option<String>,
    /// JSON text.
    pub policy: Option<String>,
    pub policy_arns: Vec<String>,
    pub session_tags: Vec<(String, String)>,
    pub v1: ForV1,
    pub sts_endpoint: Option<String>,
    pub sts_region: Option<String>,
    /// The region shown in the metadata, which is also STS's unless `sts_region` says otherwise.
    pub region: String,
}

/// A value that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// As in config.json: `role.duration_seconds`, `role.policy_arns[2]`.
    pub key: String,
    /// What stands there.
    pub found: String,
    /// What should stand there.
    pub expected: String,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}: expected {}, found ", self.key, self.expected)?;
        match self.found.char_indices().nth(100) {
            Some((end, _)) => write!(f, "{:?}...", &self.found[..end]),
            None => write!(f, "{:?}", self.found),
        }
    }
}

impl std::error::Error for FieldError {}

/// Something that works and is unwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// Requests and session credentials cross a network unencrypted.
    PlainHttp(String),
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::PlainHttp(url) => write!(
                f,
                "role.sts_endpoint: {url} is not encrypted and not on this machine: whoever is on \
                 the way reads the session credentials"
            ),
        }
    }
}
