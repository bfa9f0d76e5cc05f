//! Clients that mean harm, or do it: whatever they do, a normal client beside them is answered at
//! once, memory stays bounded, nothing panics, and afterwards everything is as it was before. The
//! long cases run with `--include-ignored`, and in release the promised times are held to.

// A test that cannot go on panics, and says what it skipped.
#![allow(
    clippy::cast_possible_truncation,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used
)]

mod crowds;
mod ends;
mod exhaustion;
mod framing;
mod siege;
mod slow;

#[path = "../common/mod.rs"]
mod common;

use std::io::Write;
use std::net::{SocketAddr, TcpStream};

use common::{Mock, PATIENCE};
use serde_json::{Value, json};

const MAC: &str = "/latest/meta-data/mac";
const USER_DATA: &str = "/latest/user-data";
const KEEP: (&str, &str) = ("Connection", "keep-alive");

/// Without request lines: a flood of them is a test of its own.
fn quiet(config: &Value) -> Mock {
    Mock::with(config, &["--quiet"])
}

/// Serves v1 too, with 16 KB of user data.
fn open_mock() -> Mock {
    quiet(&open_config())
}

fn open_config() -> Value {
    json!({"http_tokens": "optional", "user_data": "x".repeat(16384)})
}

/// A connection whose end, at any moment and in any way, is no failure.
fn dial(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&to, PATIENCE).expect("somebody accepts");
    stream.set_nodelay(true).expect("a TCP socket");
    stream.set_write_timeout(Some(PATIENCE)).expect("not zero");
    stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
    stream
}

fn dial_many(to: SocketAddr, count: usize) -> Vec<TcpStream> {
    (0..count).map(|_| dial(to)).collect()
}

/// Writes without waiting: what does not fit any more is left.
fn push(stream: &mut TcpStream, bytes: &[u8]) {
    let _ = stream.set_nonblocking(true);
    let _ = stream.write(bytes);
    let _ = stream.set_nonblocking(false);
}
