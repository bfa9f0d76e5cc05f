//! `--check` and `--print-config`: what is wrong with a configuration, and what it comes to.

use std::process::ExitCode;

use super::outcome::{Failure, print};
use super::prepare::{Prepared, load};
use crate::cli::Options;

/// Reads everything that serving would read.
pub fn check(options: &Options) -> Result<ExitCode, Failure> {
    Prepared::read(options)?;
    print(&format!("{}: ok\n", options.source))
}

/// Prints the configuration with every default filled in.
pub fn print_config(options: &Options) -> Result<ExitCode, Failure> {
    let effective = load(&options.source)?.effective();
    print(&format!("{effective:#}\n"))
}
