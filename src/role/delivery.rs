//! The two versions of the protocol as far as credentials are concerned: EC2 hands out others to
//! who asks without a token, so that the cloud can tell them apart (docs/reference/metadata.md,
//! "Credentials documents").

/// How credentials are asked for; IAM's `ec2:RoleDelivery` says `1.0` or `2.0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleDelivery {
    /// Without a token.
    V1,
    /// With one.
    V2,
}

/// What version 1 gets: `role.v1`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForV1 {
    /// The same as version 2.
    #[default]
    Same,
    /// A session of its own.
    Separate,
    /// A failure.
    Nothing,
}

impl ForV1 {
    /// As the configuration names it.
    pub fn parse(name: &str) -> Option<ForV1> {
        match name {
            "same" => Some(ForV1::Same),
            "separate" => Some(ForV1::Separate),
            "none" => Some(ForV1::Nothing),
            _ => None,
        }
    }
}
