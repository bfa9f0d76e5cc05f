//! config.json: what it may say, what is wrong with it, and what follows where it says nothing.
//! Everything else sees the finished [`Config`]; nothing behind this room checks again.

mod category;
pub mod duration;
mod event;
mod facts;
mod fault;
mod file;
mod given;
mod paths;
mod print;
mod report;
mod role;
mod source;

pub use category::{Category, DYNAMIC, INTERFACE, INTERFACES, META_DATA, Values, since};
pub use event::{EventKind, EventSpec, Notice};
pub use facts::{Facts, Interface, stable_id};
pub use fault::{Effect, FaultSpec, PathPattern, Sequence};
pub use file::{Config, Flag, keys};
pub use given::{MAX_USER_DATA, SshKey};
pub use paths::{Changes, is_credential_path, is_segment};
pub use report::Problem;
pub use source::Source;
