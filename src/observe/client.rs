//! The rules: what one client did, and when that deserves a verdict. The numbers in them are the
//! constants below.

use std::time::Duration;

use super::verdict::{Seen, Verdict};
use crate::instance::Meaning;

/// Tokens from which on a client can be blamed for asking one a read.
const TOKENS_TO_BLAME: u64 = 5;
/// The use of a dead token that shows that its refusals are ignored.
const DEAD_USES_TO_BLAME: u32 = 3;
/// Reads of one path within [`POLL_WINDOW`] that may be.
const POLLS: usize = 10;
/// Ten seconds, but for what a timer that fires once a second may be early.
const POLL_WINDOW: Duration = Duration::from_millis(9_900);
/// Dead tokens that are remembered of one client; beyond them the oldest goes.
const MAX_DEAD_TOKENS: usize = 32;

/// The documents that announce an interruption, and the directory they are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Announcement {
    Action,
    Termination,
    Directory,
    No,
}

/// What `path` (folded, with its version) announces.
pub(super) fn announcement(path: &str) -> Announcement {
    let below_version = path.trim_matches('/').split_once('/');
    match below_version.map(|(_, path)| path) {
        Some("meta-data/spot") => Announcement::Directory,
        Some("meta-data/spot/instance-action") => Announcement::Action,
        Some("meta-data/spot/termination-time") => Announcement::Termination,
        _ => Announcement::No,
    }
}

/// What is known of one client.
#[derive(Default)]
pub(super) struct Client {
    /// Since the mock was started.
    pub(super) last_seen: Duration,
    counts: [u64; Verdict::ALL.len()],
    /// Tokens it got, but for those that replace a refused one.
    tokens: u64,
    /// Reads that were answered.
    reads: u64,
    /// The token it used last was refused.
    is_refused: bool,
    /// The tokens, as hashes, that were refused, and how often.
    dead: Vec<(u64, u32)>,
    /// What instance-action and termination-time said last.
    interruptions: [Option<i64>; 2],
}

impl Client {
    /// What is said of it, and for how many requests.
    pub(super) fn verdicts(&self) -> impl Iterator<Item = (Verdict, u64)> + '_ {
        let count = |verdict| match verdict {
            Verdict::TokenPerRequest
                if self.tokens >= TOKENS_TO_BLAME && self.tokens >= self.reads =>
            {
                self.tokens
            }
            verdict => self.counts[verdict as usize],
        };
        let counted = Verdict::ALL.map(|verdict| (verdict, count(verdict)));
        counted.into_iter().filter(|(_, count)| *count > 0)
    }

    pub(super) fn count(&mut self, verdict: Verdict) {
        self.counts[verdict as usize] += 1;
    }

    /// It got a token. One that replaces a refused one is no waste.
    pub(super) fn got_token(&mut self) {
        let replaces = std::mem::take(&mut self.is_refused);
        self.tokens += u64::from(!replaces);
    }

    /// It came with a token that was taken.
    pub(super) fn was_answered(&mut self, token: impl FnOnce() -> u64) {
        self.is_refused = false;
        if !self.dead.is_empty() {
            let token = token();
            self.dead.retain(|(dead, _)| *dead != token);
        }
    }

    /// It came with a token that was refused.
    pub(super) fn was_refused(&mut self, token: u64) {
        self.is_refused = true;
        match self.dead.iter_mut().find(|(dead, _)| *dead == token) {
            Some((_, uses)) => {
                *uses += 1;
                if *uses >= DEAD_USES_TO_BLAME {
                    self.count(Verdict::Ignored401);
                }
            }
            None => {
                if self.dead.len() == MAX_DEAD_TOKENS {
                    self.dead.remove(0);
                }
                self.dead.push((token, 1));
            }
        }
    }

    /// It asked for metadata.
    pub(super) fn read(&mut self, seen: &Seen) {
        // A read that was refused is what a token is asked for.
        self.reads += u64::from(!matches!(seen.outcome.status, 401 | 403));
        let announces = match announcement(seen.path) {
            Announcement::No => {
                let over = |at: &i64| seen.instance_ms > *at;
                if self.interruptions.iter().flatten().any(over) {
                    self.count(Verdict::IgnoredSpot);
                }
                return;
            }
            Announcement::Directory => return,
            Announcement::Action => &mut self.interruptions[0],
            Announcement::Termination => &mut self.interruptions[1],
        };
        match (seen.outcome.meaning, seen.outcome.status) {
            (Meaning::Interruption(at), _) => *announces = Some(at.unix_ms()),
            (_, 404) => *announces = None,
            _ => {}
        }
    }
}

/// When one client read one path the last times: a ring, `next` its oldest.
#[derive(Default)]
pub(super) struct Poll {
    times: [Option<Duration>; POLLS],
    next: usize,
}

impl Poll {
    /// Whether this read comes too soon after the one [`POLLS`] before it.
    pub(super) fn is_fast(&mut self, at: Duration) -> bool {
        let before = self.times[self.next].replace(at);
        self.next = (self.next + 1) % POLLS;
        before.is_some_and(|before| at.saturating_sub(before) < POLL_WINDOW)
    }

    /// Whether its reads do not matter any more.
    pub(super) fn is_over(&self, at: Duration) -> bool {
        let last = self.times[(self.next + POLLS - 1) % POLLS];
        last.is_none_or(|last| at.saturating_sub(last) >= POLL_WINDOW)
    }
}
