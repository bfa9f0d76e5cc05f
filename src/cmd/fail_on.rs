//! `--fail-on`: the verdicts on clients that make the program end with a failure.

use std::io::{self, Write};

use imds_mock::mock::Mock;
use imds_mock::observe::Verdict;

/// The exit status when a client earned a verdict that is named.
pub const STATUS: u8 = 3;
/// Lines that say which client did what; further ones are only counted.
const MAX_LINES: usize = 20;

/// Whether a client of `mock` ever earned one of `verdicts`; says on stderr which one did what.
pub fn condemns(mock: &Mock, verdicts: &[Verdict]) -> bool {
    let findings = mock.observer.as_ref().map(|seen| seen.all_findings());
    let mut found = findings.unwrap_or_default();
    found.retain(|(_, verdict), _| verdicts.contains(verdict));
    let mut stderr = io::stderr();
    for ((client, verdict), count) in found.iter().take(MAX_LINES) {
        let (name, deed) = (verdict.name(), verdict.deed());
        let times = match count {
            1 => "once".to_owned(),
            count => format!("{count} times"),
        };
        let line = format!("--fail-on {name}: {client} {deed} ({times})");
        let _ = writeln!(stderr, "imds_mock: {line}");
    }
    if found.len() > MAX_LINES {
        let more = found.len() - MAX_LINES;
        let _ = writeln!(stderr, "imds_mock: --fail-on: and {more} more");
    }
    !found.is_empty()
}
