//! Measures imds_mock beside nginx, and beside any other command, on the same work in the same
//! run, interleaved: a busy machine slows all of them, so ratios hold where rates do not.
//!
//! cargo bench --bench compare -- [--also NAME=COMMAND]... [--only TEXT] [--rounds N] [--seconds S]

// It prints tables, of numbers that are no longer exact.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::print_stdout
)]

mod case;
mod contender;
mod load;
mod rounds;
mod tables;

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use lexopt::prelude::*;

pub struct Options {
    pub also: Vec<(String, String)>,
    pub only: String,
    pub rounds: usize,
    pub seconds: f64,
}

/// `None` where cargo did not ask for a benchmark: `cargo test --all-targets` runs this too.
fn parse() -> Result<Option<Options>, lexopt::Error> {
    let mut options = Options {
        also: Vec::new(),
        only: String::new(),
        rounds: 9,
        seconds: 0.4,
    };
    let mut asked = false;
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("bench") => asked = true,
            Long("also") => {
                let given = parser.value()?.string()?;
                let (name, command) = given.split_once('=').ok_or("--also NAME=COMMAND")?;
                options.also.push((name.to_owned(), command.to_owned()));
            }
            Long("only") => options.only = parser.value()?.string()?,
            Long("rounds") => options.rounds = parser.value()?.parse()?,
            Long("seconds") => options.seconds = parser.value()?.parse()?,
            other => return Err(other.unexpected()),
        }
    }
    Ok(asked.then_some(options))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Some(options) = parse()? else {
        println!("nothing measured: run cargo bench --bench compare");
        return Ok(());
    };
    let directory = Directory::new()?;
    println!("{}\n", machine());
    tables::compare(&options, &directory.0)?;
    tables::flatness(&options, &directory.0)?;
    tables::footprint(&options, &directory.0)?;
    Ok(())
}

/// A temporary directory, removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn new() -> io::Result<Directory> {
        let name = format!("imds_mock-bench-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path)?;
        Ok(Directory(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// When and where this was measured.
fn machine() -> String {
    let output = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output();
        let text = output.map(|output| [output.stdout, output.stderr].concat());
        let text = text.unwrap_or_default();
        String::from_utf8_lossy(&text).trim().to_owned()
    };
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| {
        let value = line.strip_prefix("model name")?;
        Some(value.trim_start_matches([' ', '\t', ':']).to_owned())
    });
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "{}; {cores} cores, {}; {}; {}; {}",
        output("date", &["-u", "+%F"]),
        model.unwrap_or_default(),
        output("uname", &["-sr"]),
        output("rustc", &["--version"]),
        output("sh", &["-c", "PATH=$PATH:/usr/sbin nginx -v"]),
    )
}

/// The configuration for the comparison: a role's document of 1.3 KB, 16 KB of user data, and what
/// `extra` adds.
pub fn config(directory: &Path, name: &str, extra: &str) -> io::Result<PathBuf> {
    let token = "t".repeat(980);
    let user_data = "u".repeat(16384);
    let text = format!(
        r#"{{"instance_id": "i-1234567890abcdef0", "local_ipv4": "10.0.0.10",
            "region": "us-east-1", "ssh_public_keys": ["ssh-ed25519 AAAA bench"],
            "user_data": "{user_data}",
            "role": {{"arn": "arn:aws:iam::123456789012:role/bench", "credentials": {{
                "access_key_id": "ASIAIOSFODNN7EXAMPLE",
                "secret_access_key": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
                "token": "{token}"}}}}{extra}}}"#
    );
    let path = directory.join(name);
    std::fs::write(&path, text)?;
    Ok(path)
}
