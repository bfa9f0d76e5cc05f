//! The only place that knows sockets and HTTP syntax (RFC 9110, 9112). Arrows point down this list:
//! a file imports only from those named before it.

mod status;

mod message;
mod service;

mod target;

mod head;

mod answer;
mod body;
mod limits;
mod stream;

mod phase;

mod conn;

mod evict;

mod table;

mod listen;
mod poller;

mod leader;

mod server;

pub use limits::Limits;
pub use listen::{BindError, bind};
pub use message::{Caller, Delivery, Entity, Method, Reply, Request};
pub use server::Server;
pub use service::{Resume, Service, Step};
pub use status::reason;

/// The door of the fuzz target.
#[cfg(fuzzing)]
pub use head::hold_against as fuzzed_head;
