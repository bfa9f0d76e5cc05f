//! Watching the metadata port: why a request got its answer, what was asked lately, what is to be
//! said of the clients.

mod client;
mod journal;
mod observer;
mod outcome;
mod verdict;
mod verdicts;

pub use journal::{BadFilter, Entry, Filter, MAX_ENTRIES};
pub use observer::{Arrival, Observer, Requests};
pub use outcome::{Asked, Outcome, Protocol};
pub use verdict::Verdict;
pub use verdicts::Findings;
