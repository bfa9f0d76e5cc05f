//! The command line: flags and `--help`. What comes out of [`parse`] is checked; nobody else sees
//! a raw flag.

use std::ffi::OsString;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use imds_mock::config::Source;
use lexopt::prelude::*;

pub const HELP: &str = "\
A mock EC2 Instance Metadata Service (IMDSv2 and, if configured, v1).

Usage: imds_mock [--config FILE] [--host ADDRESS]... [--port PORT] [OPTIONS]

Options:
      --config FILE    configuration (JSON); without it a built-in example is served
      --host ADDRESS   address to listen on, IPv4 or IPv6; may be given more than once
                       [default: 127.0.0.1]
      --port PORT      port to listen on, 0 for a free one [default: 8000]
  -q, --quiet          print no line for each request
      --check          read the configuration, report what is wrong with it, and exit
      --print-config   print the configuration with every default filled in, and exit
  -h, --help           print this help and exit
  -V, --version        print the version and exit

Exit status: 0 ended by SIGTERM or SIGINT, 64 wrong usage, 69 cannot listen,
78 wrong configuration.
";

/// What the program is asked to do.
pub enum Task {
    Serve,
    Check,
    PrintConfig,
    Help,
    Version,
}

/// The command line, parsed.
pub struct Options {
    pub task: Task,
    pub source: Source,
    pub addresses: Vec<SocketAddr>,
    pub quiet: bool,
}

/// Parses the arguments. The error says which one is wrong and why.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Options, String> {
    let mut task = Task::Serve;
    let mut source = Source::BuiltIn;
    let mut hosts: Vec<String> = Vec::new();
    let mut port = 8000;
    let mut quiet = false;
    let mut parser = lexopt::Parser::from_args(args);
    while let Some(argument) = parser.next().map_err(|e| e.to_string())? {
        match argument {
            Long("config") => source = Source::File(PathBuf::from(value(&mut parser)?)),
            Long("host") => hosts.push(text(&mut parser)?),
            Long("port") => {
                let given = text(&mut parser)?;
                port = given
                    .parse()
                    .map_err(|_| format!("--port: expected 0..65535, found {given:?}"))?;
            }
            Long("quiet") | Short('q') => quiet = true,
            Long("check") => task = Task::Check,
            Long("print-config") => task = Task::PrintConfig,
            Long("help") | Short('h') => task = Task::Help,
            Long("version") | Short('V') => task = Task::Version,
            other => return Err(other.unexpected().to_string()),
        }
        if matches!(task, Task::Help | Task::Version) {
            break;
        }
    }
    if hosts.is_empty() {
        hosts.push("127.0.0.1".to_owned());
    }
    let addresses = hosts.iter().map(|host| resolve(host, port));
    Ok(Options {
        task,
        source,
        addresses: addresses.collect::<Result<_, _>>()?,
        quiet,
    })
}

fn value(parser: &mut lexopt::Parser) -> Result<OsString, String> {
    parser.value().map_err(|e| e.to_string())
}

fn text(parser: &mut lexopt::Parser) -> Result<String, String> {
    value(parser)?
        .into_string()
        .map_err(|found| format!("{found:?} is not UTF-8"))
}

/// An address, with or without the brackets of a URL, or a name; of a name's addresses the first
/// IPv4 one, as imds_mock.py listened.
fn resolve(host: &str, port: u16) -> Result<SocketAddr, String> {
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let found: Vec<SocketAddr> = (bare.unwrap_or(host), port)
        .to_socket_addrs()
        .map_err(|e| format!("--host: {host:?} is no address and no known name: {e}"))?
        .collect();
    (found.iter().find(|address| address.is_ipv4()))
        .or(found.first())
        .copied()
        .ok_or_else(|| format!("--host: {host:?} has no address"))
}
