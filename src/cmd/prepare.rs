//! Everything that is read before anything is bound.

use std::path::Path;

use imds_mock::access::AdminSecret;
use imds_mock::config::{Config, Problem, Source};
use imds_mock::mock::Parts;
use imds_mock::privileges::Identity;
use imds_mock::role::Credentials;

use super::outcome::{EX_CONFIG, EX_USAGE, Failure, warn};
use crate::cli::Options;

/// What was read.
pub struct Prepared {
    pub parts: Parts,
    pub identity: Option<Identity>,
    pub bootstrap: Option<Credentials>,
    pub secret: Option<AdminSecret>,
}

impl Prepared {
    pub fn read(options: &Options) -> Result<Prepared, Failure> {
        let identity = options.user.as_deref().map(Identity::lookup).transpose();
        let parts = Parts::new(load(&options.source)?)
            .map_err(|found| problems(&options.source, &found))?;
        Ok(Prepared {
            parts,
            identity: identity.map_err(|e| Failure::new(EX_USAGE, e))?,
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
    let named = |what| Failure::new(EX_CONFIG, format!("{flag}: {}: {what}", path.display()));
    parsed.map(Some).map_err(named)
}

/// Reads the configuration, and warns of what deserves it.
pub fn load(source: &Source) -> Result<Config, Failure> {
    let (config, warnings) = source.load().map_err(|found| problems(source, &found))?;
    warnings
        .iter()
        .for_each(|warning| warn(line(source, warning)));
    Ok(config)
}

/// A problem with its file, or with the flag it comes from.
pub fn line(source: &Source, problem: &Problem) -> String {
    match problem.place.starts_with("--") {
        true => problem.to_string(),
        false => format!("{source}: {problem}"),
    }
}

fn problems(source: &Source, found: &[Problem]) -> Failure {
    let lines: Vec<String> = found.iter().map(|problem| line(source, problem)).collect();
    let all_flags = found.iter().all(|problem| problem.place.starts_with("--"));
    let status = if all_flags { EX_USAGE } else { EX_CONFIG };
    Failure::new(status, lines.join("\nimds_mock: "))
}
