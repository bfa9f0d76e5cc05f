//! Watching the metadata port: why a request got its answer, what was asked lately, what is to be
//! said of the clients.

pub mod journal;
pub mod observer;
pub mod outcome;
pub mod verdicts;
