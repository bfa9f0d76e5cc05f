//! The command line: flags and `--help`. What comes out of [`parse`] is checked; nobody else sees
//! a raw flag.

use std::ffi::OsString;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use imds_mock::config::{Flag, Source};
use imds_mock::observe::Verdict;
use lexopt::prelude::*;

pub const HELP: &str = "\
A mock EC2 Instance Metadata Service (IMDSv2 and, if configured, v1).

Usage: imds_mock [--config FILE] [--host ADDRESS]... [--port PORT] [OPTIONS]
       imds_mock [OPTIONS] -- COMMAND [ARGUMENT]...

Metadata:
      --config FILE    configuration (JSON); without it a built-in example is served
      --host ADDRESS   address to listen on, IPv4 or IPv6; may be given more than once
                       [default: 127.0.0.1]
      --port PORT      port to listen on, 0 for a free one [default: 8000; with COMMAND 0]
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

What clients do wrong:
      --fail-on VERDICT,...  end with status 3 if a client earned one of them: v1, v1-credentials,
                             no-token, token-per-request, ignored-401, ignored-spot, fast-poll

Other:
      --check          read the configuration, report what is wrong with it, and exit
      --print-config   print the configuration with every default filled in, and exit
  -h, --help           print this help and exit
  -V, --version        print the version and exit

With a COMMAND the mock serves on a free port, runs it with an environment in which it is on
EC2 (AWS_EC2_METADATA_SERVICE_ENDPOINT; nothing that wins over it), and ends when it does.
Stdout is the command's, the lines of the mock go to stderr, signals go to the command.

SIGHUP reads the configuration again; SIGTERM and SIGINT end the program.
Exit status: 0 ended by a signal, 3 if --fail-on turned that into a failure, 64 wrong usage,
69 cannot listen, 71 system error, 77 cannot become --user, 78 wrong configuration. With a COMMAND
its own, in place of 0 and 3: 128+N if signal N ended it, 126 if it cannot be run, 127 if it was not
found.
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

/// What is run. `program` is looked for in `PATH` if it has no slash.
pub struct CommandLine {
    pub program: OsString,
    pub arguments: Vec<OsString>,
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
    /// What no client may do.
    pub fail_on: Vec<Verdict>,
    /// What to run, and to end with.
    pub command: Option<CommandLine>,
}

/// Parses the arguments. The error says which one is wrong and why.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Options, String> {
    let mut task = Task::Serve;
    let mut source = Source::default();
    let (mut hosts, mut port) = (Vec::new(), None);
    let mut command = None;
    let (mut admin_hosts, mut admin_port) = (Vec::new(), None);
    let mut quiet = false;
    let mut user = None;
    let mut verdicts = Vec::new();
    let [
        mut bootstrap_file,
        mut state_file,
        mut bootstrap_secret_file,
    ] = [None, None, None];
    let mut parser = lexopt::Parser::from_args(args);
    loop {
        if let Some(found) = command_line(&mut parser)? {
            command = Some(found);
            break;
        }
        let Some(argument) = parser.next().map_err(|e| e.to_string())? else {
            break;
        };
        let mut role_flag = |name, role_key, value: serde_json::Value| {
            // Elsewhere an empty text is one that is not configured (docs/architecture.md, D4);
            // whoever gives a flag means to configure something.
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
            Long("port") => port = Some(number(&mut parser, "--port", "0..65535")?),
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
            Long("fail-on") => verdicts.extend(verdicts_of(&text(&mut parser)?)?),
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
    if command.is_some() && matches!(task, Task::Check | Task::PrintConfig) {
        return Err("--check and --print-config run no command".to_owned());
    }
    // A free one, so that several can run side by side.
    let port = port.unwrap_or(if command.is_some() { 0 } else { 8000 });
    Ok(Options {
        task,
        source,
        addresses: resolve_all("--host", hosts, "127.0.0.1", port)?,
        quiet,
        user,
        bootstrap_file,
        state_file,
        bootstrap_secret_file,
        command,
        admin_wanted: admin_port.is_some(),
        fail_on: verdicts,
        admin_addresses: resolve_all(
            "--admin-host",
            admin_hosts,
            "0.0.0.0",
            admin_port.unwrap_or(8998),
        )?,
    })
}

/// What stands behind `--`, if that comes next.
fn command_line(parser: &mut lexopt::Parser) -> Result<Option<CommandLine>, String> {
    let Some(mut rest) = parser.try_raw_args() else {
        return Ok(None);
    };
    if rest.next_if(|argument| argument == "--").is_none() {
        return Ok(None);
    }
    let program = rest.next().ok_or("-- is followed by the command to run")?;
    let arguments = rest.collect();
    Ok(Some(CommandLine { program, arguments }))
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

/// Reads a list with commas. The error names what is known.
fn verdicts_of(list: &str) -> Result<Vec<Verdict>, String> {
    let named = |name| {
        Verdict::parse(name).ok_or_else(|| {
            let known = Verdict::ALL.map(Verdict::name).join(", ");
            format!("--fail-on: expected some of {known}, found {name:?}")
        })
    };
    list.split(',').map(named).collect()
}
