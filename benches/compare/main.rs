//! Measures imds_mock beside nginx, and beside any other command, on the same work in the same
//! run, interleaved: a busy machine slows all of them, so ratios hold where rates do not.
//!
//! cargo bench --bench compare -- [--also NAME=COMMAND]... [--only TEXT] [--rounds N] [--seconds S]

mod contender;
mod load;

use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use contender::{Contender, nginx, other, ours, token_request};
use lexopt::prelude::*;
use load::{Load, Tally, Until};

const TOKEN: &str = "/latest/api/token";
const TOKEN_LENGTH: usize = 56;
const SMALL: &str = "/latest/meta-data/instance-id";
const USER_DATA: &str = "/latest/user-data";
/// Before a measured run.
const WARM_UP: Duration = Duration::from_millis(50);
/// Times each program is started to see how long that takes.
const STARTS: usize = 15;
/// How much the tree grows, how many tokens and connections are held, to see that it costs nothing.
const LEAVES: usize = 10_000;
const TOKENS_PER_CLIENT: u64 = 16_384;
const TOKEN_CLIENTS: u8 = 16;
const IDLE_CONNECTIONS: usize = 400;

/// Our name in the tables, and that of the instance that writes its request lines to a file.
const OURS: &str = "imds_mock";
const LOGGING: &str = "with request lines";

struct Options {
    also: Vec<(String, String)>,
    only: String,
    rounds: usize,
    seconds: f64,
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
    compare(&options, &directory.0)?;
    flatness(&options, &directory.0)?;
    footprint(&options, &directory.0)?;
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
fn config(directory: &Path, name: &str, extra: &str) -> io::Result<PathBuf> {
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

/// What one client asks for, again and again.
#[derive(Clone, Copy)]
enum Work {
    Small,
    TokenAndGet,
    Credentials,
    UserData,
    Tree,
}

struct Case {
    what: &'static str,
    work: Work,
    keep_alive: bool,
    clients: usize,
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |what, work, keep_alive, clients: &[usize]| {
        cases.extend(clients.iter().map(|&clients| Case {
            what,
            work,
            keep_alive,
            clients,
        }));
    };
    add("instance-id", Work::Small, true, &[1, 16, 64, 256]);
    add("instance-id", Work::Small, false, &[1, 16, 64, 256]);
    add("token PUT, then GET", Work::TokenAndGet, false, &[1, 16]);
    add("credentials, 1.3 KB", Work::Credentials, true, &[1, 16]);
    add("credentials, 1.3 KB", Work::Credentials, false, &[16]);
    add("user data, 16 KB", Work::UserData, true, &[1, 16]);
    add("user data, 16 KB", Work::UserData, false, &[16]);
    add("walk of the tree", Work::Tree, true, &[1]);
    add("walk of the tree", Work::Tree, false, &[1, 16]);
    cases
}

/// What a contender has to ask for.
#[derive(Default)]
struct Paths {
    tree: Vec<String>,
    credentials: Option<String>,
}

impl Paths {
    fn of(contender: &Contender) -> Paths {
        Paths {
            tree: contender.tree(),
            credentials: contender.credentials(),
        }
    }
}

/// What a case asks a contender for: nothing, where it has none of it.
fn paths<'a>(case: &Case, known: &'a Paths) -> Vec<&'a str> {
    match case.work {
        Work::Small | Work::TokenAndGet => vec![SMALL],
        Work::Credentials => known.credentials.as_deref().into_iter().collect(),
        Work::UserData => vec![USER_DATA],
        Work::Tree => known.tree.iter().map(String::as_str).collect(),
    }
}

/// The load of a case for one contender.
fn load(case: &Case, contender: &Contender, paths: &[&str]) -> io::Result<Load> {
    let connection = if case.keep_alive {
        "keep-alive"
    } else {
        "close"
    };
    let mut requests = contender.requests(paths.iter().copied(), connection)?;
    if matches!(case.work, Work::TokenAndGet) {
        requests.insert(0, token_request(connection));
    }
    Ok(Load {
        address: contender.address,
        requests,
        clients: case.clients,
        keep_alive: case.keep_alive,
        source: None,
    })
}

/// What one contender did in one case.
#[derive(Default)]
struct Results {
    rates: Vec<f64>,
    /// Microseconds of processor time a request.
    costs: Vec<f64>,
    p99: Vec<f64>,
    errors: u64,
}

/// Runs a case on each contender in turn, forwards and backwards, so that a drift of the machine
/// hits all.
fn interleave(
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

fn median(values: impl IntoIterator<Item = f64>) -> f64 {
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
fn shown(results: &Results, base: &Results) -> String {
    match results.rates.is_empty() || base.rates.is_empty() {
        true => "-".into(),
        false => format!("{:.2}", ratio(results, base)),
    }
}

/// `imds_mock` first, then those it is compared with.
fn compare(options: &Options, directory: &Path) -> io::Result<()> {
    let file = config(directory, "config.json", "")?;
    let log = directory.join("requests.log");
    let ours_quiet = ours(OURS, &file, None)?;
    let mut sizes: Vec<(String, usize)> = vec![
        ("/".into(), 1),
        (SMALL.into(), 19),
        (TOKEN.into(), TOKEN_LENGTH),
    ];
    for path in ours_quiet.tree().iter().filter(|path| *path != SMALL) {
        sizes.push((path.clone(), ours_quiet.get(path)?.1.len()));
    }
    let mut contenders = vec![ours_quiet, nginx(directory, &sizes)?];
    for (name, command) in &options.also {
        contenders.push(other(name, command)?);
    }
    let logging = ours(LOGGING, &file, Some(&log))?;
    let mut paths: Vec<Paths> = contenders.iter().map(Paths::of).collect();
    // nginx has no listings that lead anywhere: it is asked for what ours has.
    paths[1] = Paths::of(&contenders[0]);
    let all: Vec<(&Contender, &Paths)> = contenders.iter().zip(&paths).collect();

    println!("Requests per second (microseconds of processor time a request; 99 % within):\n");
    let names: Vec<&str> = contenders.iter().map(|c| c.name.as_str()).collect();
    let over = names[1..].iter().map(|name| format!("/ {name}"));
    let over: Vec<String> = over.collect();
    println!(
        "| what | connection | clients | {} | {} |",
        names.join(" | "),
        over.join(" | ")
    );
    println!("|---|---|--:|{}", "--:|".repeat(names.len() + over.len()));
    for case in cases() {
        let title = title(&case);
        if !title.contains(&options.only) {
            continue;
        }
        let results = interleave(&case, &all, options)?;
        let mut cells = vec![title];
        cells.extend(results.iter().map(cell));
        cells.extend(results[1..].iter().map(|other| shown(&results[0], other)));
        println!("| {} |", cells.join(" | "));
    }
    if "request lines to a file".contains(&options.only) {
        println!("\nRequest lines to a file, share of the rate without them:\n");
        for case in cases().iter().filter(|c| matches!(c.work, Work::Small)) {
            let pair = [all[0], (&logging, &paths[0])];
            let results = interleave(case, &pair, options)?;
            let share = shown(&results[1], &results[0]);
            println!("- {}: {share}", title(case).replace(" | ", ", "));
        }
    }
    println!("\nPeak resident memory after all that:");
    for contender in contenders.iter().chain([&logging]) {
        let peak = contender.memory().peak;
        println!("- {}: {:.1} MB", contender.name, peak as f64 / 1024.0);
    }
    Ok(())
}

fn title(case: &Case) -> String {
    let connection = match case.keep_alive {
        true => "kept alive",
        false => "closing",
    };
    format!("{} | {connection} | {}", case.what, case.clients)
}

fn cell(results: &Results) -> String {
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

/// Holds connections open without a request on them.
fn idle_connections(to: &Contender, count: usize) -> io::Result<Vec<std::net::TcpStream>> {
    (0..count)
        .map(|_| std::net::TcpStream::connect(to.address))
        .collect()
}

/// Issues tokens in the name of several clients, as far as the system lets us have their addresses.
/// Returns how many.
fn live_tokens(of: &Contender) -> u64 {
    let mut issued = 0;
    for client in 1..=TOKEN_CLIENTS {
        let load = Load {
            address: of.address,
            requests: vec![token_request("keep-alive")],
            clients: 8,
            keep_alive: true,
            source: Some(Ipv4Addr::new(127, 0, 0, client)),
        };
        match load.run(Until::Answers(TOKENS_PER_CLIENT)) {
            Ok(Tally { answers, .. }) => issued += answers,
            Err(_) => break,
        }
    }
    issued
}

/// What a request costs with a large tree, many tokens, many connections: no more than without.
fn flatness(options: &Options, directory: &Path) -> io::Result<()> {
    if !"cost against size".contains(&options.only) {
        return Ok(());
    }
    let plain = config(directory, "plain.json", "")?;
    let leaves: Vec<String> = (0..LEAVES)
        .map(|n| format!("\"bench/{}/leaf-{n}\": \"value {n}\"", n % 100))
        .collect();
    let large = format!(", \"metadata\": {{{}}}", leaves.join(", "));
    let large = config(directory, "large.json", &large)?;
    let contenders = [
        ours("plain", &plain, None)?,
        ours("leaves in the tree", &large, None)?,
        ours("live tokens", &plain, None)?,
        ours("open connections", &plain, None)?,
    ];
    let tokens = live_tokens(&contenders[2]);
    let connections = idle_connections(&contenders[3], IDLE_CONNECTIONS)?;
    let amounts = [0, LEAVES as u64, tokens, connections.len() as u64];
    println!("\nCost against size, share of the rate without (GET and token PUT, 16 clients):\n");
    println!("| with | GET kept alive | GET closing | token PUT |");
    println!("|---|--:|--:|--:|");
    let case = |work, keep_alive| Case {
        what: "",
        work,
        keep_alive,
        clients: 16,
    };
    let nothing = Paths::default();
    let pairs: Vec<_> = contenders.iter().map(|c| (c, &nothing)).collect();
    let mut columns = Vec::new();
    for (work, keep_alive) in [
        (Work::Small, true),
        (Work::Small, false),
        (Work::TokenAndGet, true),
    ] {
        columns.push(interleave(&case(work, keep_alive), &pairs, options)?);
    }
    for (index, contender) in contenders.iter().enumerate().skip(1) {
        let shares = columns
            .iter()
            .map(|results| shown(&results[index], &results[0]));
        let shares: Vec<String> = shares.collect();
        println!(
            "| {} {} | {} |",
            amounts[index],
            contender.name,
            shares.join(" | ")
        );
    }
    drop(connections);
    Ok(())
}

/// Time to the first answer, memory at rest, and the program's size.
fn footprint(options: &Options, directory: &Path) -> io::Result<()> {
    if !"start, memory, size".contains(&options.only) {
        return Ok(());
    }
    let plain = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/config.json"));
    let sizes = [("/".to_owned(), 1), (TOKEN.to_owned(), TOKEN_LENGTH)];
    type Start<'a> = Box<dyn Fn() -> io::Result<Contender> + 'a>;
    let mut programs: Vec<Start> = vec![
        Box::new(|| ours(OURS, plain, None)),
        Box::new(|| nginx(directory, &sizes)),
    ];
    for (name, command) in &options.also {
        programs.push(Box::new(|| other(name, command)));
    }
    println!("\n| program | exec to first answer | private memory at rest | resident |");
    println!("|---|--:|--:|--:|");
    for program in &programs {
        let mut starts = Vec::new();
        for _ in 0..STARTS {
            starts.push(program()?.start.as_secs_f64() * 1e3);
        }
        let running = program()?;
        let memory = running.memory();
        println!(
            "| {} | {:.1} ms (best {:.1}) | {} KiB | {} KiB |",
            running.name,
            median(starts.iter().copied()),
            starts.iter().copied().fold(f64::INFINITY, f64::min),
            memory.private,
            memory.resident,
        );
    }
    let binary = std::fs::metadata(env!("CARGO_BIN_EXE_imds_mock"))?.len();
    println!("\nimds_mock on disk: {:.2} MB", binary as f64 / 1e6);
    Ok(())
}
