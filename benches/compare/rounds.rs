//! A case on each contender in turn, round after round, and what came of it.

use std::io;
use std::time::Duration;

use crate::Options;
use crate::case::{Case, Paths, load, paths};
use crate::contender::Contender;
use crate::load::Until;

/// Before a measured run.
const WARM_UP: Duration = Duration::from_millis(50);

/// What one contender did in one case.
#[derive(Default)]
pub struct Results {
    rates: Vec<f64>,
    /// Microseconds of processor time a request.
    costs: Vec<f64>,
    p99: Vec<f64>,
    errors: u64,
}

/// Runs a case on each contender in turn, forwards and backwards, so that a drift of the machine
/// hits all.
pub fn interleave(
    case: &Case,
    contenders: &[(&Contender, &Paths)],
    options: &Options,
) -> io::Result<Vec<Results>> {
    let mut results: Vec<Results> = contenders.iter().map(|_| Results::default()).collect();
    for round in 0..options.rounds {
        let mut order: Vec<usize> = (0..contenders.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for index in order {
            let (contender, known) = contenders[index];
            let paths = paths(case, known);
            if paths.is_empty() {
                continue;
            }
            let load = load(case, contender, &paths)?;
            load.run(Until::Elapsed(WARM_UP))?;
            let before = contender.processor_time();
            let mut tally = load.run(Until::Elapsed(Duration::from_secs_f64(options.seconds)))?;
            let used = contender.processor_time().zip(before);
            let result = &mut results[index];
            result.rates.push(tally.per_second());
            result.errors += tally.errors;
            result.p99.push(tally.latency(0.99).as_secs_f64() * 1e6);
            if let Some((after, before)) = used {
                let used = after.saturating_sub(before).as_secs_f64() * 1e6;
                result.costs.push(used / tally.answers.max(1) as f64);
            }
        }
    }
    Ok(results)
}

pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The median, over the rounds, of one contender's rate over another's in the same round.
fn ratio(results: &Results, base: &Results) -> f64 {
    median(results.rates.iter().zip(&base.rates).map(|(a, b)| a / b))
}

/// [`ratio`] for a table.
pub fn shown(results: &Results, base: &Results) -> String {
    match results.rates.is_empty() || base.rates.is_empty() {
        true => "-".into(),
        false => format!("{:.2}", ratio(results, base)),
    }
}

pub fn cell(results: &Results) -> String {
    if results.rates.is_empty() {
        return "-".into();
    }
    let errors = match results.errors {
        0 => String::new(),
        errors => format!(", {errors} ERRORS"),
    };
    format!(
        "{:.0} ({:.1} µs; {:.0} µs{errors})",
        median(results.rates.iter().copied()),
        mean(&results.costs),
        median(results.p99.iter().copied())
    )
}
