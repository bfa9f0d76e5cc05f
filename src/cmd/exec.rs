//! `imds_mock -- COMMAND`: runs a command against the mock and ends as the command did. Here is
//! what the command finds in its environment, which signals it is sent, and what its end means;
//! the mock is started and stopped as ever.

use std::ffi::OsString;
use std::net::IpAddr;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;
use std::{env, fs, io, process, thread};

use imds_mock::log::Report;
use imds_mock::mock::Mock;
use imds_mock::privileges;
use imds_mock::role::Role;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use signal_hook::consts::{SIGALRM, SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::low_level::siginfo::{Cause, Origin};

use super::start::{ENDPOINT, Endpoints};
use crate::cli::CommandLine;

/// Exit statuses that shells use for a command that cannot be run.
const CANNOT_RUN: u8 = 126;
const NOT_FOUND: u8 = 127;
/// Added by shells to the number of the signal that ended a command.
const BY_SIGNAL: u8 = 128;

/// What would end the mock and is meant for the command.
const FORWARDED: [i32; 7] = [SIGHUP, SIGINT, SIGQUIT, SIGALRM, SIGTERM, SIGUSR1, SIGUSR2];

/// How often the role is looked at until STS has answered.
const ROLE_PAUSE: Duration = Duration::from_millis(5);

/// What wins over the instance's credentials in one SDK or another, or keeps it from asking for
/// them.
const TAKEN_OUT: [&str; 25] = [
    // Keys: of all SDKs, the other names of Go and Java, those of Ruby, the old files of Python.
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_SECURITY_TOKEN",
    "AWS_CREDENTIAL_EXPIRATION",
    "AWS_ACCESS_KEY",
    "AWS_SECRET_KEY",
    "AMAZON_ACCESS_KEY_ID",
    "AMAZON_SECRET_ACCESS_KEY",
    "AMAZON_SESSION_TOKEN",
    "AWS_CREDENTIAL_FILE",
    "BOTO_CONFIG",
    // A profile, which an empty configuration does not have.
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    // Web identity.
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    // Containers.
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    // The metadata service itself.
    "AWS_EC2_METADATA_DISABLED",
    "AWS_EC2_METADATA_V1_DISABLED",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE",
    "AWS_EC2_INSTANCE_PROFILE_NAME",
];

/// Files that hold credentials, profiles and endpoints, in `~/.aws` unless the variable is set.
const SHARED_FILES: [&str; 2] = ["AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"];

/// Where a test that runs as the command finds the administrative service.
const ADMIN_ENDPOINT: &str = "IMDS_MOCK_ADMIN_ENDPOINT";

/// The signals that arrive, each with where it came from.
pub type Signals = SignalsInfo<WithOrigin>;

/// Takes the signals that are forwarded to a command, and the one of its end. What the process was
/// started ignoring, as by `nohup`, it goes on ignoring: so does the command then.
pub fn take_signals() -> io::Result<Signals> {
    let ignored = ignored_signals();
    let taken = FORWARDED
        .into_iter()
        .filter(|signal| ignored >> (signal - 1) & 1 == 0);
    Signals::new(taken.chain([SIGCHLD]))
}

/// The signals that this process ignores: bit 0 is signal 1. None, where that cannot be learnt.
fn ignored_signals() -> u64 {
    // sigaction() would answer, but only to unsafe code.
    ignored_by_proc().or_else(ignored_by_ps).unwrap_or_default()
}

/// As Linux tells it.
fn ignored_by_proc() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let mut lines = status.lines();
    hexadecimal(lines.find_map(|line| line.strip_prefix("SigIgn:"))?)
}

/// As FreeBSD tells it.
fn ignored_by_ps() -> Option<u64> {
    let pid = process::id().to_string();
    let ps = Command::new("/bin/ps")
        .args(["-o", "sigignore=", "-p", &pid])
        .stdin(Stdio::null())
        .output();
    hexadecimal(&String::from_utf8(ps.ok()?.stdout).ok()?)
}

fn hexadecimal(text: &str) -> Option<u64> {
    u64::from_str_radix(text.trim(), 16).ok()
}

/// Runs the command against `mock`, which serves, and waits for its end, whatever signals arrive.
/// Returns the exit status: the command's own, 128 + N for a signal, 127 or 126 if it was not found
/// or cannot be run, which is reported.
pub fn until_it_ends(
    line: &CommandLine,
    mock: &Mock,
    endpoints: &Endpoints,
    signals: &mut Signals,
    report: &Report,
) -> u8 {
    if let Some(signal) = wait_for_role(mock.instance.role().as_deref(), signals) {
        return by_signal(signal);
    }
    let mut child = match process(line, endpoints).spawn() {
        Ok(child) => child,
        Err(e) => {
            report(&format!("{}: {e}", line.program.display()));
            return match e.kind() {
                io::ErrorKind::NotFound => NOT_FOUND,
                _ => CANNOT_RUN,
            };
        }
    };
    // Not earlier: the command would inherit it.
    if mock.instance.snapshot().config.role.is_some()
        && let Err(e) = privileges::disable_core_dumps()
    {
        report(&format!("warning: cannot switch core dumps off: {e}"));
    }
    wait(&mut child, signals)
}

/// Waits until STS has answered for the first time, if there is something to ask it with: programs
/// on EC2 find the role's credentials there from the start. That a call is bounded bounds it.
/// Returns a signal that arrived meanwhile, with or without a role: then nothing shall be run.
fn wait_for_role(role: Option<&Role>, signals: &mut Signals) -> Option<i32> {
    loop {
        let mut arrived = signals.pending().map(|arrived| arrived.signal);
        if let Some(signal) = arrived.find(|signal| *signal != SIGCHLD) {
            return Some(signal);
        }
        if role.is_none_or(Role::is_settled) {
            return None;
        }
        thread::sleep(ROLE_PAUSE);
    }
}

/// The command in its environment. Standard input, output and error are its own.
fn process(line: &CommandLine, endpoints: &Endpoints) -> Command {
    let mut command = Command::new(&line.program);
    command.args(&line.arguments);
    for name in TAKEN_OUT {
        command.env_remove(name);
    }
    for name in SHARED_FILES {
        command.env(name, "/dev/null");
    }
    let ip = endpoints.metadata.ip();
    // Some programs read one, some the other, some both: each ends up with what it would have seen.
    for (name, other) in [("NO_PROXY", "no_proxy"), ("no_proxy", "NO_PROXY")] {
        let given = env::var_os(name).or_else(|| env::var_os(other));
        command.env(name, without_proxy(given.unwrap_or_default(), ip));
    }
    command.env(ENDPOINT, format!("http://{}/", endpoints.metadata));
    match endpoints.admin {
        Some(address) => command.env(ADMIN_ENDPOINT, format!("http://{address}/")),
        None => command.env_remove(ADMIN_ENDPOINT),
    };
    command
}

/// `list`, the value of `NO_PROXY`, with the address of the mock.
fn without_proxy(mut list: OsString, ip: IpAddr) -> OsString {
    // Nothing goes through a proxy, as long as it stands alone (curl).
    if list == "*" {
        return list;
    }
    if !list.is_empty() {
        list.push(",");
    }
    list.push(ip.to_string());
    if ip.is_ipv6() {
        // As Python's urllib compares it.
        list.push(format!(",[{ip}]"));
    }
    list
}

/// Waits for the end of the command and hands it the signals that arrive until then.
fn wait(child: &mut Child, signals: &mut Signals) -> u8 {
    let pid = Pid::from_raw(child.id().cast_signed());
    loop {
        for Origin { signal, cause, .. } in signals.wait() {
            match (signal, cause) {
                // Looked for below: one may stand for several things that happened.
                (SIGCHLD, _) => {}
                // A key pressed at the terminal: the command has got it too, and to many programs
                // a second one means to drop everything.
                (SIGINT | SIGQUIT, Cause::Kernel) => {}
                // The pid is the command's until it was waited for. A command that has become
                // another user may be out of reach, as it would be without the mock.
                _ => {
                    let _ = Signal::try_from(signal).and_then(|signal| kill(pid, signal));
                }
            }
        }
        let ended = child.try_wait().expect("nobody else waits for our child");
        if let Some(status) = ended {
            return exit_status(status);
        }
    }
}

fn by_signal(signal: i32) -> u8 {
    // No system has more than 127.
    BY_SIGNAL.saturating_add(u8::try_from(signal).unwrap_or(u8::MAX))
}

fn exit_status(status: ExitStatus) -> u8 {
    match (status.code(), status.signal()) {
        (_, Some(signal)) => by_signal(signal),
        // Of eight bits, and there is one where no signal is.
        (code, None) => u8::try_from(code.unwrap_or_default()).unwrap_or(u8::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_to_learn_what_is_ignored_agree() {
        if let (Some(by_proc), Some(by_ps)) = (ignored_by_proc(), ignored_by_ps()) {
            assert_eq!(by_proc, by_ps);
            // Rust programs ignore it.
            let sigpipe = 1 << (signal_hook::consts::SIGPIPE - 1);
            assert_eq!(by_proc & sigpipe, sigpipe);
        }
    }
}
