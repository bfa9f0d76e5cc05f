//! A role's credentials, obtained from STS and kept valid (design D6).

mod arn;
mod endpoint;
mod secret;
pub mod sigv4;
mod spec;
mod text;

pub use arn::{BadArn, RoleArn};
pub use spec::{FieldError, Settings, Spec, Warning};
