//! The daemon: what the command line asks for, done.

mod cli;
mod cmd;

use std::io::{self, Write};
use std::process::ExitCode;

use cli::Task;
use cmd::{EX_USAGE, Failure, print};

fn main() -> ExitCode {
    run().unwrap_or_else(|Failure { status, message }| {
        let _ = writeln!(io::stderr(), "imds_mock: {message}");
        ExitCode::from(status)
    })
}

fn run() -> Result<ExitCode, Failure> {
    let options = cli::parse(std::env::args_os().skip(1))
        .map_err(|what| Failure::new(EX_USAGE, format!("{what}\nTry: imds_mock --help")))?;
    match options.task {
        Task::Help => print(cli::HELP),
        Task::Version => print(concat!("imds_mock ", env!("CARGO_PKG_VERSION"), "\n")),
        Task::Check => cmd::check(&options),
        Task::PrintConfig => cmd::print_config(&options),
        Task::Serve => cmd::serve(&options),
    }
}
