//! What the program does: serve, alone or for a command, and check a configuration.

mod check;
mod exec;
mod fail_on;
mod outcome;
mod prepare;
mod serve;
mod start;
mod warnings;

pub use check::{check, print_config};
pub use outcome::{EX_USAGE, Failure, print};
pub use serve::serve;
