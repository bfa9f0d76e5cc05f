//! A role's credentials, written down or obtained from STS and kept valid (docs/architecture.md,
//! D6). [`Role`] is the whole of it for the rooms above, [`Source`] what the configuration makes of
//! it.

mod answer;
mod arn;
mod calls;
mod clock;
mod delivery;
mod endpoint;
mod fixed;
mod handle;
mod renewal;
mod schedule;
mod secret;
mod session;
mod settings;
mod signers;
pub mod sigv4;
mod source;
mod spec;
mod state;
mod store;
mod sts;
mod text;
mod worker;

#[cfg(fuzzing)]
pub use answer::fuzzed_answer;
pub use arn::{BadArn, RoleArn};
pub use delivery::{ForV1, RoleDelivery};
pub use fixed::{Fixed, Static};
pub use handle::{Error, Options, OtherRole, Role};
pub use secret::{BadCredentials, Credentials, Secret};
pub use session::{Current, Failure, FailureCode, Session};
pub use settings::{FieldError, Settings, Warning};
pub use source::Source;
pub use spec::Spec;
pub use state::{LastError, Phase, VerboseStatus};
pub use sts::{BadCaBundle, Limits};
pub use worker::Log;
