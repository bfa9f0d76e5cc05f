//! The walk of everything below `/latest/`. It follows what a server lists, which may be hostile:
//! depth, number, size and time are bounded, and no name leads anywhere but down.

use std::collections::HashSet;
use std::io;
use std::time::Instant;

use crate::imds::{self, Imds};
use crate::print::Printer;

const ROOT: &str = "/latest/";
/// What `/latest/` lists, and which of it are directories though they carry no slash
/// (docs/reference/metadata.md, "Listings").
const TOP: &[u8] = b"dynamic\nmeta-data\nuser-data";
const DIRECTORIES: [&str; 2] = ["dynamic", "meta-data"];
/// Listed also where there is none of it.
const LISTED_ANYWAY: [&str; 2] = ["/latest/user-data", "/latest/dynamic/"];

/// The deepest directory EC2 documents is the seventh, `ipv4-associations/` of an interface.
const MAX_DEPTH: usize = 12;
const MAX_NAME: usize = 1024;
/// A real instance has about a hundred names and 100 KB.
const MAX_NAMES: usize = 65_536;
const MAX_BYTES: usize = 256 * 1024 * 1024;
/// Values in a row without an answer, after which the server is taken for gone.
const MAX_SILENCE: usize = 8;
/// The whole walk takes at most this many times what a single value may take.
const MAX_TIMEOUTS: u32 = 100;

/// Why a walk ends before its end.
enum Stop {
    Output(io::Error),
    Limit(String),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Stop {
        Stop::Output(error)
    }
}

/// Prints every value below `/latest/`. What cannot be read is told to the printer, and the walk
/// goes on; an error is one of the output.
pub fn walk(imds: &mut Imds, printer: &mut Printer) -> io::Result<()> {
    let until = Instant::now() + imds.timeout() * MAX_TIMEOUTS;
    let mut walk = Walk {
        imds,
        printer,
        until,
        names: 0,
        bytes: 0,
        silence: 0,
    };
    match walk.directory(ROOT, 1) {
        Ok(()) => Ok(()),
        Err(Stop::Output(error)) => Err(error),
        Err(Stop::Limit(what)) => {
            printer.complain(ROOT, &format_args!("gave up: {what}"));
            Ok(())
        }
    }
}

struct Walk<'a> {
    imds: &'a mut Imds,
    printer: &'a mut Printer,
    until: Instant,
    names: usize,
    bytes: usize,
    silence: usize,
}

impl Walk<'_> {
    fn directory(&mut self, path: &str, depth: usize) -> Result<(), Stop> {
        if depth > MAX_DEPTH {
            self.printer
                .complain(path, &"too deep: does a listing name itself?");
            return Ok(());
        }
        let Some(listing) = self.read(path)? else {
            return Ok(());
        };
        let (children, unusable) = children(path, &listing);
        if let Some(name) = unusable.first() {
            let (name, count) = (name[..name.len().min(60)].escape_ascii(), unusable.len());
            let text = format!("lists names that lead nowhere: {count}, first \"{name}\"");
            self.printer.complain(path, &text);
        }
        for child in children {
            self.names += 1;
            if self.names > MAX_NAMES {
                return Err(Stop::Limit(format!("more than {MAX_NAMES} names")));
            }
            if child.ends_with('/') {
                self.directory(&child, depth + 1)?;
            } else if !self.printer.wants_values() {
                self.printer.value(&child, b"")?;
            } else if let Some(value) = self.read(&child)? {
                self.printer.value(&child, &value)?;
            }
        }
        Ok(())
    }

    /// The bytes at a path; `None` when there are none, a failure then being told already.
    fn read(&mut self, path: &str) -> Result<Option<Vec<u8>>, Stop> {
        if Instant::now() >= self.until {
            return Err(Stop::Limit(format!(
                "took {MAX_TIMEOUTS} times the --timeout"
            )));
        }
        let error = match self.imds.get(path) {
            Ok(bytes) => {
                self.silence = 0;
                self.bytes += bytes.len();
                if self.bytes > MAX_BYTES {
                    return Err(Stop::Limit(format!("more than {MAX_BYTES} bytes")));
                }
                return Ok(Some(bytes));
            }
            Err(error) => error,
        };
        let missing = matches!(error, imds::Error::Status(404, _));
        if missing && LISTED_ANYWAY.contains(&path) {
            return Ok(None);
        }
        self.printer.complain(path, &error);
        // Some mocks, imds_mock.py among them, list nothing above `meta-data/`.
        if missing && path == ROOT {
            return Ok(Some(TOP.to_vec()));
        }
        self.silence = if error.is_silence() {
            self.silence + 1
        } else {
            0
        };
        if self.silence == MAX_SILENCE {
            return Err(Stop::Limit(format!(
                "{MAX_SILENCE} times in a row no answer"
            )));
        }
        Ok(None)
    }
}

/// The paths a listing leads to, each once, directories with a slash at the end; and the lines
/// that lead nowhere.
fn children<'a>(directory: &str, listing: &'a [u8]) -> (Vec<String>, Vec<&'a [u8]>) {
    let (mut paths, mut unusable, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
    for line in listing.split(|&b| b == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match str::from_utf8(line)
            .ok()
            .and_then(|line| child(directory, line))
        {
            _ if line.is_empty() => {}
            Some(path) if seen.insert(path.clone()) => paths.push(path),
            Some(_) => {}
            None => unusable.push(line),
        }
    }
    (paths, unusable)
}

/// The path that a line of a directory's listing stands for (docs/reference/metadata.md,
/// "Listings").
fn child(directory: &str, line: &str) -> Option<String> {
    let (name, slash) = match line.strip_suffix('/') {
        Some(name) => (name, "/"),
        None if directory == ROOT && DIRECTORIES.contains(&line) => (line, "/"),
        // `0=my-key` stands for the directory `0/`.
        None if directory.ends_with("/public-keys/") => match line.split_once('=') {
            Some((index, _)) => (index, "/"),
            None => (line, ""),
        },
        None => (line, ""),
    };
    let leads_down = !matches!(name, "" | "." | "..") && name.len() <= MAX_NAME;
    let whole = !name.contains(|c: char| c == '/' || c.is_control());
    (leads_down && whole).then(|| format!("{directory}{name}{slash}"))
}
