//! x
/// A role's credentials, obtained from STS and kept valid.
pub mod role;
