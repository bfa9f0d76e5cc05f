//! What a role has to hand out at one moment: a session, or the reason why there is none. Both are
//! made whole, never changed, and told apart by who they are.

use std::sync::Arc;

use super::secret::{Credentials, Secret};
use crate::date::Date;

/// Credentials with their dates. Key, secret, token and dates belong together and change together.
pub struct Session {
    pub(super) credentials: Arc<Credentials>,
    pub(super) expires: Date,
    pub(super) last_updated: Date,
}

impl Session {
    /// `credentials` must have a token, as those from STS do.
    pub(super) fn new(
        credentials: impl Into<Arc<Credentials>>,
        expires: Date,
        last_updated: Date,
    ) -> Session {
        Session {
            credentials: credentials.into(),
            expires,
            last_updated,
        }
    }

    pub fn access_key_id(&self) -> &str {
        &self.credentials.access_key_id
    }

    pub fn secret_access_key(&self) -> &str {
        self.credentials.secret_access_key.expose()
    }

    pub fn token(&self) -> &str {
        self.credentials.token.as_ref().map_or("", Secret::expose)
    }

    /// In whole seconds.
    pub fn expires(&self) -> Date {
        self.expires
    }

    /// When they were handed out.
    pub fn last_updated(&self) -> Date {
        self.last_updated
    }
}

/// Why there are no credentials.
pub struct Failure {
    /// The value of `Code` in the failure document.
    pub code: FailureCode,
    /// Fit to be shown: no secret, no control character.
    pub message: String,
    pub last_updated: Date,
}

impl Failure {
    /// One that STS has said nothing about.
    pub(super) fn unexplained(message: &str, at: Date) -> Arc<Failure> {
        Arc::new(Failure {
            code: FailureCode::Failed,
            message: message.to_owned(),
            last_updated: at,
        })
    }

    /// What readers get if the session expires before STS has said anything about the next one.
    pub(super) fn at_expiry(session: &Session) -> Arc<Failure> {
        let at = session.expires;
        let message = format!("The credentials expired at {at}; STS has not answered since");
        Failure::unexplained(&message, at)
    }
}

/// The codes of EC2's failure documents (docs/reference/metadata.md, "Credentials documents").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureCode {
    Failed,
    InstanceProfileNotFound,
    AssumeRoleUnauthorizedAccess,
}

impl FailureCode {
    /// The code of that name.
    pub fn parse(name: &str) -> Option<FailureCode> {
        [
            FailureCode::Failed,
            FailureCode::InstanceProfileNotFound,
            FailureCode::AssumeRoleUnauthorizedAccess,
        ]
        .into_iter()
        .find(|code| code.as_str() == name)
    }

    /// As it stands in the document.
    pub fn as_str(self) -> &'static str {
        match self {
            FailureCode::Failed => "Failed",
            FailureCode::InstanceProfileNotFound => "InstanceProfileNotFound",
            FailureCode::AssumeRoleUnauthorizedAccess => "AssumeRoleUnauthorizedAccess",
        }
    }

    /// What `Message` says of the role of that name.
    pub fn message(self, role: &str) -> String {
        match self {
            FailureCode::Failed => "The credentials of the role could not be had".to_owned(),
            FailureCode::InstanceProfileNotFound => "The instance profile was not found".to_owned(),
            // EC2's own words (docs/reference/metadata.md, "Credentials documents").
            FailureCode::AssumeRoleUnauthorizedAccess => format!(
                "EC2 cannot assume the role {role}.  Please see documentation at \
                 http://docs.amazonwebservices.com/IAM/latest/UserGuide/RolesTroubleshooting.html."
            ),
        }
    }
}

/// What there is now.
#[derive(Clone)]
pub enum Current {
    Valid(Arc<Session>),
    Failed(Arc<Failure>),
}

impl Current {
    /// Whether both are the very same: what was made of the one still holds for the other.
    pub fn is(&self, other: &Current) -> bool {
        match (self, other) {
            (Current::Valid(a), Current::Valid(b)) => Arc::ptr_eq(a, b),
            (Current::Failed(a), Current::Failed(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}
