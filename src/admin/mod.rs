//! The administrative service on a port of its own: the mock's state, credentials to start from,
//! and everything that changes the instance while it runs. A file for each path.

mod bootstrap;
mod clock;
mod config;
mod events;
mod faults;
mod metrics;
mod reply;
mod requests;
mod service;
mod status;
mod under_way;
mod values;

pub use service::Admin;
pub use under_way::UnderWay;
