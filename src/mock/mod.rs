//! The whole mock, assembled: what tests, benches and other programs embed.

mod assembly;
mod reload;

pub use assembly::{AdminParts, Mock, Parts, Serving};
