//! How the program ends, and what it says on the way there.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

/// Exit statuses of sysexits(3).
pub const EX_USAGE: u8 = 64;
pub const EX_UNAVAILABLE: u8 = 69;
pub const EX_OSERR: u8 = 71;
pub const EX_NOPERM: u8 = 77;
pub const EX_CONFIG: u8 = 78;

/// Why the program ends, and with which status.
pub struct Failure {
    pub status: u8,
    pub message: String,
}

impl Failure {
    pub fn new(status: u8, message: impl Display) -> Failure {
        Failure {
            status,
            message: message.to_string(),
        }
    }
}

/// Prints to stdout; a reader that is gone is no failure.
pub fn print(text: &str) -> Result<ExitCode, Failure> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(Failure::new(
            EX_OSERR,
            format!("cannot write to stdout: {e}"),
        )),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Says what deserves a warning on stderr.
pub fn warn(what: impl Display) {
    let _ = writeln!(io::stderr(), "imds_mock: warning: {what}");
}
