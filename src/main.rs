//! The daemon: flags, configuration, listeners, privileges, then serve until told to stop.

mod cli;
mod fail_on;
mod run;

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use imds_mock::access::AdminSecret;
use imds_mock::config::{Config, Problem, Source};
use imds_mock::http::{self, Limits};
use imds_mock::log::Log;
use imds_mock::privileges::{self, Identity};
use imds_mock::role::{self, Credentials};
use imds_mock::service::{AdminParts, Mock, Parts, Report};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use cli::{Options, Task};
use run::{Endpoints, Signals};

/// Exit statuses of sysexits(3).
const EX_USAGE: u8 = 64;
const EX_UNAVAILABLE: u8 = 69;
const EX_OSERR: u8 = 71;
const EX_NOPERM: u8 = 77;
const EX_CONFIG: u8 = 78;

/// How long requests under way may take when the program is told to stop.
const STOP_LIMIT: Duration = Duration::from_millis(800);
/// How long the last lines may take to be written.
const FLUSH_LIMIT: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    run().unwrap_or_else(|Failure { status, message }| {
        let _ = writeln!(io::stderr(), "imds_mock: {message}");
        ExitCode::from(status)
    })
}

/// Why the program ends, and with which status.
struct Failure {
    status: u8,
    message: String,
}

fn failure(status: u8, message: impl Display) -> Failure {
    Failure {
        status,
        message: message.to_string(),
    }
}

fn run() -> Result<ExitCode, Failure> {
    let options = cli::parse(std::env::args_os().skip(1))
        .map_err(|what| failure(EX_USAGE, format!("{what}\nTry: imds_mock --help")))?;
    match options.task {
        Task::Help => print(cli::HELP),
        Task::Version => print(concat!("imds_mock ", env!("CARGO_PKG_VERSION"), "\n")),
        Task::Check => {
            Prepared::read(&options)?;
            print(&format!("{}: ok\n", options.source))
        }
        Task::PrintConfig => {
            let effective = load(&options.source)?.effective();
            print(&format!("{effective:#}\n"))
        }
        Task::Serve => serve(&options),
    }
}

/// Prints to stdout; a reader that is gone is no failure.
fn print(text: &str) -> Result<ExitCode, Failure> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            Err(failure(EX_OSERR, format!("cannot write to stdout: {e}")))
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn warn(what: impl Display) {
    let _ = writeln!(io::stderr(), "imds_mock: warning: {what}");
}

fn load(source: &Source) -> Result<Config, Failure> {
    let (config, warnings) = source.load().map_err(|found| problems(source, &found))?;
    warnings
        .iter()
        .for_each(|warning| warn(line(source, warning)));
    Ok(config)
}

/// A problem with its file, or with the flag it comes from.
fn line(source: &Source, problem: &Problem) -> String {
    match problem.place.starts_with("--") {
        true => problem.to_string(),
        false => format!("{source}: {problem}"),
    }
}

fn problems(source: &Source, found: &[Problem]) -> Failure {
    let lines: Vec<String> = found.iter().map(|problem| line(source, problem)).collect();
    let all_flags = found.iter().all(|problem| problem.place.starts_with("--"));
    let status = if all_flags { EX_USAGE } else { EX_CONFIG };
    failure(status, lines.join("\nimds_mock: "))
}

/// Everything that is read before anything is bound.
struct Prepared {
    parts: Parts,
    identity: Option<Identity>,
    bootstrap: Option<Credentials>,
    secret: Option<AdminSecret>,
}

impl Prepared {
    fn read(options: &Options) -> Result<Prepared, Failure> {
        let identity = options.user.as_deref().map(Identity::lookup).transpose();
        let parts = Parts::new(load(&options.source)?)
            .map_err(|found| problems(&options.source, &found))?;
        Ok(Prepared {
            parts,
            identity: identity.map_err(|e| failure(EX_USAGE, e))?,
            bootstrap: from_file(
                "--bootstrap-file",
                options.bootstrap_file.as_deref(),
                |bytes| Credentials::parse(bytes).map_err(|e| e.to_string()),
            )?,
            secret: from_file(
                "--bootstrap-secret-file",
                options.bootstrap_secret_file.as_deref(),
                |bytes| AdminSecret::new(bytes).map_err(str::to_owned),
            )?,
        })
    }
}

/// What `parse` makes of the file that a flag names. The error names both, and no content.
fn from_file<T>(
    flag: &str,
    path: Option<&Path>,
    parse: impl FnOnce(&[u8]) -> Result<T, String>,
) -> Result<Option<T>, Failure> {
    let Some(path) = path else { return Ok(None) };
    let read = std::fs::read(path).map_err(|e| format!("cannot read it: {e}"));
    let parsed = read.and_then(|bytes| parse(&bytes));
    let named = |what| failure(EX_CONFIG, format!("{flag}: {}: {what}", path.display()));
    parsed.map(Some).map_err(named)
}

fn serve(options: &Options) -> Result<ExitCode, Failure> {
    let os = |what: &'static str| move |e: io::Error| failure(EX_OSERR, format!("{what}: {e}"));
    let command = options.command.as_ref();
    if command.is_none() {
        // A command's own memory and environment are no business of ours.
        privileges::save_address_space();
    }
    let mut signals = match command {
        Some(_) => run::take_signals(),
        None => Signals::new([SIGTERM, SIGINT, SIGHUP]),
    }
    .map_err(os("cannot take signals"))?;
    let Prepared {
        mut parts,
        identity,
        bootstrap,
        secret,
    } = Prepared::read(options)?;
    if !options.fail_on.is_empty() {
        parts.watch();
    }
    let descriptors = match command {
        // The limit is the command's too.
        Some(_) => privileges::descriptor_limit(),
        None => privileges::raise_descriptor_limit(),
    };
    let limits = Limits::default().within(descriptors, privileges::address_space_limit());
    let is_sts = (parts.config().role.as_ref()).is_some_and(|role| role.spec().is_some());
    let metadata = bind(&options.addresses)?;
    let admin = match is_sts || options.admin_wanted {
        true => bind(&options.admin_addresses)?,
        false => Vec::new(),
    };
    if parts.config().role.is_some() && command.is_none() {
        privileges::disable_core_dumps().map_err(os("cannot switch core dumps off"))?;
    }
    warn_of_exposure(parts.config(), options);
    if let Some(identity) = &identity {
        identity.assume().map_err(|e| failure(EX_NOPERM, e))?;
        warn_of_lost_access(identity, options);
    }

    let thread = os("cannot start a thread");
    let stderr = Log::start(io::stderr(), |_| {}).map_err(&thread)?;
    let log = stderr.clone();
    let report: Report = Arc::new(move |what: &str| {
        log.line(|out| out.extend(format!("imds_mock: {what}").bytes()));
    });
    let stdout_is_gone = report.clone();
    let output = match command {
        Some(_) => stderr.clone(),
        None => Log::start(io::stdout(), move |e: &io::Error| {
            stdout_is_gone(&format!("stdout: {e}: no more request lines are written"));
        })
        .map_err(&thread)?,
    };
    let endpoints = endpoints(&metadata, &admin).map_err(os("cannot tell the address"))?;
    let person = command.is_none() && io::stdout().is_terminal();

    let role_report = report.clone();
    let role_options = role::Options {
        bootstrap,
        state_file: options.state_file.clone(),
        // Empty is not set, as in the AWS SDKs.
        ca_bundle: std::env::var_os("AWS_CA_BUNDLE")
            .filter(|path| !path.is_empty())
            .map(Into::into),
        limits: role::Limits::default(),
        log: Box::new(move |what| role_report(what)),
    };
    parts
        .start_role(role_options)
        .map_err(|e| failure(EX_CONFIG, e))?;
    let start_lines = start_lines(&metadata, &admin, person.then_some(&endpoints))
        .map_err(os("cannot tell the address"))?;
    let requests = (!options.quiet).then(|| output.clone());
    let source = options.source.clone();
    let admin = (!admin.is_empty()).then(|| AdminParts {
        listeners: admin,
        secret,
        load: Arc::new(move || load_again(&source)),
    });
    let mock = Mock::prepare(parts, metadata, admin, limits, requests, report.clone())
        .map_err(os("cannot start"))?;
    for line in start_lines {
        output.line(|out| out.extend(line.bytes()));
    }
    mock.serve();

    let status = match command {
        None => {
            serve_until_told(&mock, &options.source, &mut signals, &report);
            0
        }
        Some(command) => {
            // The command's own lines come behind those of the start.
            output.finish(FLUSH_LIMIT);
            run::until_it_ends(command, &mock, &endpoints, &mut signals, &report)
        }
    };
    mock.stop(STOP_LIMIT);
    stderr.finish(FLUSH_LIMIT);
    let lost = output.finish(FLUSH_LIMIT);
    if lost > 0 {
        let _ = writeln!(io::stderr(), "imds_mock: {lost} lines of output were lost");
    }
    let is_condemned = fail_on::condemns(&mock, &options.fail_on);
    Ok(ExitCode::from(match status {
        0 if is_condemned => fail_on::STATUS,
        own => own,
    }))
}

fn serve_until_told(mock: &Mock, source: &Source, signals: &mut Signals, report: &Report) {
    let had_terminal = io::stdout().is_terminal();
    for arrived in signals.forever() {
        match arrived.signal {
            // The terminal it was started from is closed: nobody could stop it any more.
            SIGHUP if had_terminal && !io::stdout().is_terminal() => break,
            SIGHUP => reload(mock, source, report),
            _ => break,
        }
    }
}

fn bind(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, Failure> {
    let bind = |&address| http::bind(address).map_err(|e| failure(EX_UNAVAILABLE, e));
    addresses.iter().map(bind).collect()
}

/// Warns where credentials, or root, are within reach of more than they need to be.
fn warn_of_exposure(config: &Config, options: &Options) {
    let open = options
        .addresses
        .iter()
        .any(|address| !address.ip().is_loopback());
    let role = config.role.as_ref();
    if role.is_some_and(|role| role.has_keys()) && open && config.rules.allow_from.is_empty() {
        warn("the configured credentials are for whoever reaches this address");
    }
    if options.user.is_none() && options.command.is_none() && privileges::is_root() {
        warn("running as root; --user NAME gives that up once the ports are bound");
    }
    let is_nobody = |user: &String| user.split(':').next() == Some("nobody");
    if role.is_some_and(|role| role.spec().is_some())
        && options.user.as_ref().is_some_and(is_nobody)
    {
        warn("nobody is shared with other services; a role deserves a user of its own");
    }
}

/// Warns of what `identity` will not be able to read again, or write.
fn warn_of_lost_access(identity: &Identity, options: &Options) {
    let name = identity.name();
    if let Err(found) = options.source.load() {
        let found = line(&options.source, &found[0]);
        warn(format!(
            "a reload will fail, as {name} cannot read everything: {found}"
        ));
    }
    if let Some(path) = &options.state_file
        && let Err(e) = privileges::can_write_beside(path)
    {
        let path = path.display();
        warn(format!(
            "--state-file: {path}: {name} cannot write there: {e}; chown its directory"
        ));
    }
}

/// Reads the configuration for a reload. One that brings a role ends core dumps first.
fn load_again(source: &Source) -> Result<(Config, Vec<Problem>), Vec<Problem>> {
    let loaded = source.load()?;
    if loaded.0.role.is_some()
        && let Err(e) = privileges::disable_core_dumps()
    {
        let place = "role".to_owned();
        let what = format!("cannot switch core dumps off: {e}");
        return Err(vec![Problem { place, what }]);
    }
    Ok(loaded)
}

/// Reads the configuration again; keeps the old one where the new one is wrong.
fn reload(mock: &Mock, source: &Source, report: &Report) {
    let reloaded = load_again(source).and_then(|(config, mut warnings)| {
        warnings.extend(mock.instance.load(config)?);
        Ok(warnings)
    });
    match reloaded {
        Ok(warnings) => {
            for warning in &warnings {
                report(&format!("warning: {}", line(source, warning)));
            }
            report(&format!("{source}: read again"));
        }
        Err(found) => {
            for problem in &found {
                report(&line(source, problem));
            }
            report("the old configuration stays");
        }
    }
}

/// Where the mock runs, a line each listener, and for a person how to use it.
fn start_lines(
    metadata: &[TcpListener],
    admin: &[TcpListener],
    person: Option<&Endpoints>,
) -> io::Result<Vec<String>> {
    let version = env!("CARGO_PKG_VERSION");
    let mut lines = Vec::new();
    for listener in metadata {
        let address = listener.local_addr()?;
        lines.push(format!(
            "IMDSv2 mock v{version} running on http://{address}"
        ));
    }
    for listener in admin {
        let address = listener.local_addr()?;
        lines.push(format!("admin service running on http://{address}"));
    }
    if let Some(Endpoints { metadata, .. }) = person {
        lines.push(format!("export {}=http://{metadata}/", run::ENDPOINT));
    }
    Ok(lines)
}

/// Where a client on this machine finds the mock.
fn endpoints(metadata: &[TcpListener], admin: &[TcpListener]) -> io::Result<Endpoints> {
    let first = |listeners: &[TcpListener]| {
        let address = listeners.first().map(TcpListener::local_addr).transpose()?;
        Ok::<_, io::Error>(address.map(reachable))
    };
    Ok(Endpoints {
        metadata: first(metadata)?.expect("--host has a default"),
        admin: first(admin)?,
    })
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
