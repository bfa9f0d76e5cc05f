//! What a server needs of the application behind it.

use std::time::Duration;

use super::message::{Caller, Reply, Request};

/// Answers a request that has waited.
pub type Resume = Box<dyn FnOnce(&Request) -> Reply + Send>;

/// What comes of a request.
pub enum Step {
    Reply(Reply),
    /// It is answered that much later; sooner if the server stops.
    Wait(Duration, Resume),
}

/// What a server needs of the application behind it. A panic in it becomes a 500.
pub trait Service: Send + Sync {
    /// The value of the `Server` field.
    fn server_name(&self) -> &'static str;

    /// The time of the `Date` field, milliseconds since 1970.
    fn unix_ms(&self) -> i64;

    /// Whether [`Caller::is_local`] matters; it costs a system call a connection.
    fn judges_callers(&self) -> bool {
        false
    }

    /// Whether the connection may stay; asked once, right after accept().
    fn admits(&self, _caller: Caller) -> bool {
        true
    }

    /// Whether answering may take its time, for files to be read. Each such request has a thread.
    fn may_block(&self) -> bool {
        false
    }

    /// Whether it has a use for bodies; otherwise they are read and dropped.
    fn wants_bodies(&self) -> bool {
        false
    }

    /// Answers a request, at once or later.
    fn answer(&self, request: &Request) -> Step;

    /// Answers what is no request with that status.
    fn refusal(&self, status: u16) -> Reply {
        Reply::page(status)
    }

    /// Called when an answer begins to leave. `request` is `None` where none could be read.
    fn answered(&self, _request: Option<&Request>, _reply: &Reply) {}
}
