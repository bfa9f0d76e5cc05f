//! The tables: rates beside others, cost against size, and what it takes to start and to be there.

use std::io;
use std::net::Ipv4Addr;
use std::path::Path;

use crate::case::{Case, Paths, SMALL, Work, cases, title};
use crate::contender::{Contender, nginx, other, ours, token_request};
use crate::load::{Load, Tally, Until};
use crate::rounds::{cell, interleave, median, shown};
use crate::{Options, config};

const TOKEN: &str = "/latest/api/token";
const TOKEN_LENGTH: usize = 56;
/// Times each program is started to see how long that takes.
const STARTS: usize = 15;
/// How much the tree grows, how many tokens and connections are held, to see that it costs nothing.
const LEAVES: usize = 10_000;
const TOKENS_PER_CLIENT: u64 = 16_384;
const TOKEN_CLIENTS: u8 = 8;
const IDLE_CONNECTIONS: usize = 400;

/// Our name in the tables, and that of the instance that writes its request lines to a file.
const OURS: &str = "imds_mock";
const LOGGING: &str = "with request lines";

/// `imds_mock` first, then those it is compared with.
pub fn compare(options: &Options, directory: &Path) -> io::Result<()> {
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
pub fn flatness(options: &Options, directory: &Path) -> io::Result<()> {
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
pub fn footprint(options: &Options, directory: &Path) -> io::Result<()> {
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
