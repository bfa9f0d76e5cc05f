//! The command line: flags and `--help`. What comes out of [`parse`] is checked; nobody else sees
//! a raw flag.

use std::ffi::OsString;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use imds_mock::config::{Flag, Source};
use lexopt::prelude::*;

pub const HELP: &str = "\
A mock EC2 Instance Metadata Service (IMDSv2 and, if configured, v1).

Usage: imds_mock [--config FILE] [--host ADDRESS]... [--port PORT] [OPTIONS]

Metadata:
      --config FILE    configuration (JSON); without it a built-in example is served
      --host ADDRESS   address to listen on, IPv4 or IPv6; may be given more than once
                       [default: 127.0.0.1]
      --port PORT      port to listen on, 0 for a free one [default: 8000]
  -q, --quiet          print no line for each request
      --user NAME      become this user (or NAME:GROUP) once everything is bound and read

A real role, its credentials obtained from STS and kept valid:
      --role-arn ARN              the role to assume
      --session-duration SECONDS  900..3600 [default: 3600]
      --sts-endpoint URL          [default: the regional endpoint of --sts-region]
      --sts-region REGION         [default: the instance's region]
      --bootstrap-file FILE       credentials for the first call, as POSTed to /bootstrap/creds
      --state-file FILE           where to remember what worked, for the next start

The administrative service (GET /status, POST /bootstrap/creds), on with a role:
      --admin-host ADDRESS        may be given more than once [default: 0.0.0.0]
      --admin-port PORT           [default: 8998]
      --bootstrap-secret-file FILE
                                  callers present the secret in this file, wherever they are:
                                  Authorization: Bearer SECRET

Other:
      --check          read the configuration, report what is wrong with it, and exit
      --print-config   print the configuration with every default filled in, and exit
  -h, --help           print this help and exit
  -V, --version        print the version and exit

SIGHUP reads the configuration again; SIGTERM and SIGINT end the program.
Exit status: 0 ended by a signal, 64 wrong usage, 69 cannot listen, 71 system error,
77 cannot become --user, 78 wrong configuration.
";

/// What the program is asked to do.
#[derive(Clone, Copy, PartialEq, Eq)]
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
    /// `NAME` or `NAME:GROUP`.
    pub user: Option<String>,
    pub bootstrap_file: Option<PathBuf>,
    pub state_file: Option<PathBuf>,
    pub bootstrap_secret_file: Option<PathBuf>,
    pub admin_addresses: Vec<SocketAddr>,
    /// The administrative service is asked for, role or not.
    pub admin_wanted: bool,
}

/// Parses the arguments. The error says which one is wrong and why.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Options, String> {
    let mut task = Task::Serve;
    let mut source = Source::default();
    let (mut hosts, mut port) = (Vec::new(), 8000);
    let (mut admin_hosts, mut admin_port) = (Vec::new(), None);
    let mut quiet = false;
    let mut user = None;
    let [
        mut bootstrap_file,
        mut state_file,
        mut bootstrap_secret_file,
    ] = [None, None, None];
    let mut parser = lexopt::Parser::from_args(args);
    while let Some(argument) = parser.next().map_err(|e| e.to_string())? {
        let mut role_flag = |name, role_key, value: serde_json::Value| {
            // Elsewhere an empty text is one that is not configured (design, D4); whoever gives a
            // flag means to configure something.
            if value == "" {
                return Err(format!("{name}: expected a value, found \"\""));
            }
            source.flags.push(Flag {
                name,
                role_key,
                value,
            });
            Ok(())
        };
        match argument {
            Long("config") => source.file = Some(path(&mut parser)?),
            Long("host") => hosts.push(text(&mut parser)?),
            Long("port") => port = number(&mut parser, "--port", "0..65535")?,
            Long("quiet") | Short('q') => quiet = true,
            Long("user") => user = Some(text(&mut parser)?),
            Long("role-arn") => role_flag("--role-arn", "arn", text(&mut parser)?.into())?,
            Long("session-duration") => {
                let name = "--session-duration";
                let seconds: u32 = number(&mut parser, name, "seconds, 900..3600")?;
                role_flag(name, "duration_seconds", seconds.into())?;
            }
            Long("sts-endpoint") => {
                role_flag("--sts-endpoint", "sts_endpoint", text(&mut parser)?.into())?;
            }
            Long("sts-region") => {
                role_flag("--sts-region", "sts_region", text(&mut parser)?.into())?;
            }
            Long("bootstrap-file") => bootstrap_file = Some(path(&mut parser)?),
            Long("state-file") => state_file = Some(path(&mut parser)?),
            Long("bootstrap-secret-file") => bootstrap_secret_file = Some(path(&mut parser)?),
            Long("admin-host") => admin_hosts.push(text(&mut parser)?),
            Long("admin-port") => {
                admin_port = Some(number(&mut parser, "--admin-port", "0..65535")?);
            }
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
    Ok(Options {
        task,
        source,
        addresses: resolve_all("--host", hosts, "127.0.0.1", port)?,
        quiet,
        user,
        bootstrap_file,
        state_file,
        bootstrap_secret_file,
        admin_wanted: admin_port.is_some(),
        admin_addresses: resolve_all(
            "--admin-host",
            admin_hosts,
            "0.0.0.0",
            admin_port.unwrap_or(8998),
        )?,
    })
}

fn value(parser: &mut lexopt::Parser) -> Result<OsString, String> {
    parser.value().map_err(|e| e.to_string())
}

fn path(parser: &mut lexopt::Parser) -> Result<PathBuf, String> {
    value(parser).map(PathBuf::from)
}

fn text(parser: &mut lexopt::Parser) -> Result<String, String> {
    let not_utf8 = |found| format!("{found:?} is not UTF-8");
    value(parser)?.into_string().map_err(not_utf8)
}

fn number<T: std::str::FromStr>(
    parser: &mut lexopt::Parser,
    flag: &str,
    expected: &str,
) -> Result<T, String> {
    let given = text(parser)?;
    given
        .parse()
        .map_err(|_| format!("{flag}: expected {expected}, found {given:?}"))
}

fn resolve_all(
    flag: &str,
    mut hosts: Vec<String>,
    default: &str,
    port: u16,
) -> Result<Vec<SocketAddr>, String> {
    if hosts.is_empty() {
        hosts.push(default.to_owned());
    }
    hosts.iter().map(|host| resolve(flag, host, port)).collect()
}

/// An address, with or without the brackets of a URL, or a name; of a name's addresses the first
/// IPv4 one, as imds_mock.py listened.
fn resolve(flag: &str, host: &str, port: u16) -> Result<SocketAddr, String> {
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let found: Vec<SocketAddr> = (bare.unwrap_or(host), port)
        .to_socket_addrs()
        .map_err(|e| format!("{flag}: {host:?} is no address and no known name: {e}"))?
        .collect();
    (found.iter().find(|address| address.is_ipv4()))
        .or(found.first())
        .copied()
        .ok_or_else(|| format!("{flag}: {host:?} has no address"))
}
