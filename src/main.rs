//! The daemon: flags, configuration, listeners, then serve until told to stop.

mod cli;

use std::io::{self, IsTerminal, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use imds_mock::config::{Config, Problem, Source};
use imds_mock::http::Limits;
use imds_mock::log::Log;
use imds_mock::service::Mock;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use cli::{Options, Task};

/// Exit statuses of sysexits(3).
const EX_USAGE: u8 = 64;
const EX_UNAVAILABLE: u8 = 69;
const EX_OSERR: u8 = 71;
const EX_CONFIG: u8 = 78;

/// How long requests under way may take when the program is told to stop.
const STOP_LIMIT: Duration = Duration::from_millis(800);
/// How long the last lines may take to be written.
const FLUSH_LIMIT: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    run().unwrap_or_else(|Failure { status, message }| {
        eprintln!("imds_mock: {message}");
        ExitCode::from(status)
    })
}

/// Why the program ends, and with which status.
struct Failure {
    status: u8,
    message: String,
}

fn failure(status: u8) -> impl Fn(String) -> Failure {
    move |message| Failure { status, message }
}

fn run() -> Result<ExitCode, Failure> {
    let options = cli::parse(std::env::args_os().skip(1)).map_err(|what| Failure {
        status: EX_USAGE,
        message: format!("{what}\nTry: imds_mock --help"),
    })?;
    match options.task {
        Task::Help => print(cli::HELP),
        Task::Version => print(concat!("imds_mock ", env!("CARGO_PKG_VERSION"), "\n")),
        Task::Check => {
            instance(load(&options.source)?, &options.source)?;
            print(&format!("{}: ok\n", options.source))
        }
        Task::PrintConfig => {
            let effective = load(&options.source)?.effective();
            print(&format!("{effective:#}\n"))
        }
        Task::Serve => serve(options),
    }
}

/// Prints to stdout; a reader that is gone is no failure.
fn print(text: &str) -> Result<ExitCode, Failure> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(Failure {
            status: EX_OSERR,
            message: format!("cannot write to stdout: {e}"),
        }),
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn load(source: &Source) -> Result<Config, Failure> {
    let (config, warnings) = source.load().map_err(|found| problems(source, &found))?;
    for warning in warnings {
        eprintln!("imds_mock: warning: {source}: {warning}");
    }
    Ok(config)
}

fn problems(source: &Source, found: &[Problem]) -> Failure {
    let lines: Vec<String> = found
        .iter()
        .map(|what| format!("{source}: {what}"))
        .collect();
    failure(EX_CONFIG)(lines.join("\nimds_mock: "))
}

type Parts = (
    imds_mock::imds::Instance,
    std::sync::Arc<imds_mock::clock::Clock>,
);

fn instance(config: Config, source: &Source) -> Result<Parts, Failure> {
    Mock::instance(config).map_err(|found| problems(source, &found))
}

fn serve(options: Options) -> Result<ExitCode, Failure> {
    let os = |what: &str, e: io::Error| failure(EX_OSERR)(format!("{what}: {e}"));
    let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(|e| os("cannot take signals", e))?;
    let parts = instance(load(&options.source)?, &options.source)?;
    let limits = Limits::default().within_descriptors(raise_descriptor_limit());
    let listeners = Mock::bind(&options.addresses, &limits)
        .map_err(|e| failure(EX_UNAVAILABLE)(e.to_string()))?;
    let stdout_is_gone = |e: &io::Error| {
        if e.kind() != io::ErrorKind::BrokenPipe {
            eprintln!("imds_mock: stdout: {e}: no more request lines are written");
        }
    };
    let stdout =
        Log::start(io::stdout(), stdout_is_gone).map_err(|e| os("cannot start a thread", e))?;
    let requests = (!options.quiet).then(|| stdout.clone());
    let complain = |what: &str| {
        let _ = writeln!(io::stderr(), "imds_mock: {what}");
    };
    let mock = Mock::start(parts, listeners, limits, requests, complain)
        .map_err(|e| os("cannot start", e))?;
    announce(&mock, &stdout);

    let signal = signals.forever().next();
    mock.stop(STOP_LIMIT);
    let lost = stdout.finish(FLUSH_LIMIT);
    if lost > 0 {
        let _ = writeln!(io::stderr(), "imds_mock: {lost} lines of output were lost");
    }
    debug_assert!(signal.is_some(), "only a signal ends the loop");
    Ok(ExitCode::SUCCESS)
}

/// Says where the mock runs, a line each listener, and to a person how to use it.
fn announce(mock: &Mock, stdout: &Log) {
    let version = env!("CARGO_PKG_VERSION");
    for address in mock.addresses() {
        let line = format!("IMDSv2 mock v{version} running on http://{address}");
        stdout.line(|out| out.extend(line.bytes()));
    }
    if let (true, Some(first)) = (io::stdout().is_terminal(), mock.addresses().first()) {
        let address = reachable(*first);
        let line = format!("export AWS_EC2_METADATA_SERVICE_ENDPOINT=http://{address}/");
        stdout.line(|out| out.extend(line.bytes()));
    }
}

/// An address that a client can use: the loopback one for a listener on all addresses.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// Raises the soft limit on open files to the hard one. Returns the limit that holds.
fn raise_descriptor_limit() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return 0;
    };
    match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(_) => soft,
    }
}
