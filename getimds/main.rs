//! getimds: prints what an EC2 instance metadata service serves, all of it or the paths named.
//! Here are the flags and the exit status; the protocol is in `imds`, the walk in `walk`.

mod host;
mod http;
mod imds;
mod print;
mod walk;

use std::env;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use host::Host;
use imds::Imds;
use print::{Form, Printer, complain};

const HELP: &str = "\
Usage: getimds [OPTIONS] [HOST]
       getimds [OPTIONS] HOST PATH...

Prints everything an EC2 instance metadata service has below /latest/, or just
the values at the PATHs: raw, each as it is served (of several, each ends its
last line). Speaks IMDSv2, and version 1 where there is no other.

HOST is host, host:port, [IPv6]:port or http://host:port/. Without it:
AWS_EC2_METADATA_SERVICE_ENDPOINT if that is set, else 169.254.169.254.
PATH is like latest/meta-data/instance-id, with or without a slash before it.

Options:
      --json             one JSON object, path -> value; a value that is no
                         UTF-8 is {\"base64\": ...}
      --paths            only the paths; values are not read
      --show-secrets     do not mask the secrets of credentials
      --timeout SECONDS  time for one value in all (default 10); fractions
                         are fine; at most 2 of it for the connection
  -h, --help             this text
  -V, --version          the version

Exit status: 0 all was read; 1 something was not, see standard error;
64 wrong usage; 69 nobody answers at HOST.

Examples:
  getimds                                     in an instance
  getimds 127.0.0.1:8000                      a mock
  getimds 169.254.169.254 latest/user-data    one value
";

const VERSION: &str = concat!("getimds ", env!("CARGO_PKG_VERSION"), "\n");

const USAGE: u8 = 64;
const UNAVAILABLE: u8 = 69;
const ENDPOINT_VARIABLE: &str = "AWS_EC2_METADATA_SERVICE_ENDPOINT";
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
const MIN_TIMEOUT: Duration = Duration::from_millis(1);
const MAX_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// What the command line asks for.
enum Task {
    Say(&'static str),
    Read(Options),
}

struct Options {
    host: Host,
    paths: Vec<String>,
    form: Form,
    mask: bool,
    timeout: Duration,
}

fn main() -> ExitCode {
    match parse() {
        Ok(Task::Read(options)) => ExitCode::from(run(options)),
        Ok(Task::Say(text)) => {
            // A reader that has gone away has had enough of it.
            let _ = io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&format_args!("{error} (try getimds --help)"));
            ExitCode::from(USAGE)
        }
    }
}

fn parse() -> Result<Task, lexopt::Error> {
    use lexopt::prelude::*;
    let (mut host, mut paths, mut timeout) = (None, Vec::new(), DEFAULT_TIMEOUT);
    let (mut json, mut only_paths, mut show_secrets) = (false, false, false);
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Short('h') | Long("help") => return Ok(Task::Say(HELP)),
            Short('V') | Long("version") => return Ok(Task::Say(VERSION)),
            Long("json") => json = true,
            Long("paths") => only_paths = true,
            Long("show-secrets") => show_secrets = true,
            Long("timeout") => timeout = arguments.value()?.parse_with(seconds)?,
            Value(text) if host.is_none() => host = Some(named_host("HOST", &text.string()?)?),
            Value(text) => {
                let text = text.string()?;
                if text.contains(char::is_control) {
                    return Err(format!("PATH {text:?}: control characters").into());
                }
                paths.push(format!("/{}", text.strip_prefix('/').unwrap_or(&text)));
            }
            _ => return Err(argument.unexpected()),
        }
    }
    let form = match (json, only_paths, paths.len()) {
        (true, true, _) => return Err("--json and --paths exclude each other".into()),
        (_, true, 1..) => return Err("--paths is for a walk, without PATHs".into()),
        (_, true, 0) => Form::Paths,
        (true, _, _) => Form::Json,
        (_, _, 0) => Form::Text,
        (_, _, 1) => Form::Raw,
        (_, _, 2..) => Form::RawLines,
    };
    let host = match (host, env::var(ENDPOINT_VARIABLE)) {
        (Some(host), _) => host,
        (None, Ok(endpoint)) if !endpoint.is_empty() => named_host(ENDPOINT_VARIABLE, &endpoint)?,
        _ => named_host("HOST", host::DEFAULT)?,
    };
    let mask = paths.is_empty() && !show_secrets;
    Ok(Task::Read(Options {
        host,
        paths,
        form,
        mask,
        timeout,
    }))
}

fn named_host(what: &str, text: &str) -> Result<Host, String> {
    text.parse()
        .map_err(|error: host::Error| format!("{what} {text:?}: {error}"))
}

/// A number of seconds, fractions allowed.
fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.parse().ok();
    let time = number.and_then(|number| Duration::try_from_secs_f64(number).ok());
    time.filter(|time| (MIN_TIMEOUT..=MAX_TIMEOUT).contains(time))
        .ok_or_else(|| format!("expected seconds, 0.001 to {}", MAX_TIMEOUT.as_secs()))
}

/// Reads and prints; returns the exit status.
fn run(options: Options) -> u8 {
    let mut printer = Printer::new(options.form, options.mask);
    let mut imds = Imds::new(options.host, options.timeout);
    let written = match options.paths.as_slice() {
        [] => walk::walk(&mut imds, &mut printer),
        paths => values(&mut imds, paths, &mut printer),
    };
    match written.and_then(|()| printer.finish()) {
        Ok(()) => {}
        // Nobody reads on, as with `getimds | head`: no failure of ours.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        Err(error) => printer.complain("standard output", &error),
    }
    match (printer.failed(), imds.answered()) {
        (false, _) => 0,
        (true, true) => 1,
        (true, false) => UNAVAILABLE,
    }
}

/// Prints the values at the paths, as far as there are any.
fn values(imds: &mut Imds, paths: &[String], printer: &mut Printer) -> io::Result<()> {
    for path in paths {
        match imds.get(path) {
            Ok(value) => printer.value(path, &value)?,
            Err(error) => printer.complain(path, &error),
        }
        if !imds.answered() {
            break;
        }
    }
    Ok(())
}
