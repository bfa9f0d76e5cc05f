//! Serving: until it is told to stop, or until the command it serves ends.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use imds_mock::config::Source;
use imds_mock::http::Limits;
use imds_mock::log::{Log, Report};
use imds_mock::mock::{AdminParts, Mock, Serving};
use imds_mock::{privileges, role};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::exec::{self, Signals};
use super::fail_on;
use super::outcome::{EX_CONFIG, EX_NOPERM, EX_OSERR, Failure};
use super::prepare::{Prepared, line};
use super::start::{bind, endpoints, start_lines};
use super::warnings::{warn_of_exposure, warn_of_lost_access};
use crate::cli::Options;

/// How long requests under way may take when the program is told to stop.
const STOP_LIMIT: Duration = Duration::from_millis(800);
/// How long all of the end may take, the last lines included: they have what requests leave of it.
const END_LIMIT: Duration = Duration::from_millis(950);
/// How long the lines of the start may take to be written before a command's own.
const FLUSH_LIMIT: Duration = Duration::from_millis(100);

/// Does what the command line says, to the end.
pub fn serve(options: &Options) -> Result<ExitCode, Failure> {
    let os =
        |what: &'static str| move |e: io::Error| Failure::new(EX_OSERR, format!("{what}: {e}"));
    let command = options.command.as_ref();
    let mut signals = match command {
        Some(_) => exec::take_signals(),
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
        // The limits are the command's too.
        Some(_) => privileges::descriptor_limit(),
        None => {
            privileges::share_address_space();
            privileges::raise_descriptor_limit()
        }
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
        identity.assume().map_err(|e| Failure::new(EX_NOPERM, e))?;
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
        .map_err(|e| Failure::new(EX_CONFIG, e))?;
    let start_lines = start_lines(&metadata, &admin, person.then_some(&endpoints))
        .map_err(os("cannot tell the address"))?;
    let requests = (!options.quiet).then(|| output.clone());
    let admin = (!admin.is_empty()).then_some(AdminParts {
        listeners: admin,
        secret,
    });
    let serving = Serving {
        metadata,
        admin,
        limits,
        requests,
        report: report.clone(),
        source: options.source.clone(),
    };
    let mock = Mock::prepare(parts, serving).map_err(os("cannot start"))?;
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
            exec::until_it_ends(command, &mock, &endpoints, &mut signals, &report)
        }
    };
    let end = Instant::now() + END_LIMIT;
    let left = || end.saturating_duration_since(Instant::now());
    mock.stop(STOP_LIMIT);
    stderr.finish(left());
    let lost = output.finish(left());
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

/// Reads the configuration again; keeps the old one where the new one is wrong.
fn reload(mock: &Mock, source: &Source, report: &Report) {
    match mock.reload() {
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
