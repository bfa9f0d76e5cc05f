//! A role's credentials, obtained from STS and kept valid (design D6).

mod secret;
pub mod sigv4;
mod text;
