//! Everything that is promised of `imds_mock` and `getimds`, a module a concern: the real binaries
//! over real sockets, and what their rooms promise to a program that embeds them. Abuse, whose long
//! cases run alone and in release, is `tests/abuse`.

// A test that cannot go on panics, and says what it skipped.
#![allow(
    clippy::cast_possible_truncation,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used
)]

#[path = "../common/mod.rs"]
mod common;

mod admin;
mod callers;
mod catalogue;
mod clock;
mod config;
mod corpus;
mod delays;
mod derived;
mod documents;
mod ec2_today;
mod effects;
mod events;
mod examples;
mod faults;
mod getimds;
#[cfg(target_os = "linux")]
mod hop_limit;
mod journal;
mod limits;
mod privileges;
mod properties;
mod protocol;
mod role;
mod run;
mod start;
mod together;
mod tokens;
mod transcript;
mod values;
mod verdicts;
mod wire;
