//! What a careful reviewer would say of each client, judged as its requests come: kept as counts,
//! so that a verdict outlives the journal's entries and memory is bounded. The rules are in
//! [`super::client`].

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;

use super::client::{Client, Poll};
use super::outcome::{Asked, Protocol};
use super::verdict::{Seen, Verdict};
use crate::instance::Meaning;
use crate::version::Version;

/// Clients that are judged at once. Beyond them those go who have been silent longest, and of those
/// without a verdict first.
const MAX_CLIENTS: usize = 4096;
/// Paths, of all clients together, whose reads are timed.
const MAX_POLLS: usize = 16_384;
/// Verdicts that are remembered of clients that are not judged any more.
const MAX_PAST: usize = 4096;

/// What is said of a client, and for how many of its requests.
pub type Findings = BTreeMap<(IpAddr, Verdict), u64>;

/// All clients, judged.
#[derive(Default)]
pub struct Verdicts {
    clients: HashMap<IpAddr, Client>,
    polls: HashMap<(IpAddr, u64), Poll>,
    /// Stands for tokens and paths by their hashes, which nobody can turn back.
    hashing: RandomState,
    /// Of clients that were dropped, and of all before [`Verdicts::clear`].
    past: Findings,
}

impl Verdicts {
    /// Takes one answered request into account.
    pub fn note(&mut self, seen: &Seen) {
        let hashing = self.hashing.clone();
        let outcome = &seen.outcome;
        let is_fast = outcome.asked == Asked::Read && self.poll(seen);
        let client = self.client(seen.client);
        client.last_seen = seen.at;
        match (outcome.protocol, seen.token, outcome.status) {
            (Protocol::V1, _, _) if outcome.is_forced || !asks_ec2(seen.path) => {}
            (Protocol::V1, _, 401) => client.count(Verdict::NoToken),
            // The endpoint is disabled, or the host is not one of ours.
            (Protocol::V1, _, 403) => {}
            (Protocol::V1, _, _) => {
                client.count(Verdict::V1);
                if outcome.meaning == Meaning::Keys {
                    client.count(Verdict::V1Credentials);
                }
            }
            (Protocol::V2, Some(token), 401) => client.was_refused(hashing.hash_one(token)),
            (Protocol::V2, Some(token), status) if !outcome.is_forced && status != 403 => {
                client.was_answered(|| hashing.hash_one(token));
            }
            (Protocol::V2 | Protocol::Token, _, _) => {}
        }
        match outcome.asked {
            Asked::Token if outcome.status == 200 => client.got_token(),
            Asked::Read => client.read(seen),
            Asked::Token | Asked::Other => {}
        }
        if is_fast {
            client.count(Verdict::FastPoll);
        }
    }

    fn poll(&mut self, seen: &Seen) -> bool {
        let key = (
            seen.client,
            self.hashing.hash_one(seen.path.trim_end_matches('/')),
        );
        if self.polls.len() >= MAX_POLLS && !self.polls.contains_key(&key) {
            self.polls.retain(|_, poll| !poll.is_over(seen.at));
            if self.polls.len() > MAX_POLLS / 2 {
                // Somebody asks for anything at all: start anew rather than sift each time.
                self.polls.clear();
            }
        }
        self.polls.entry(key).or_default().is_fast(seen.at)
    }

    fn client(&mut self, address: IpAddr) -> &mut Client {
        if self.clients.len() >= MAX_CLIENTS && !self.clients.contains_key(&address) {
            self.drop_some();
        }
        self.clients.entry(address).or_default()
    }

    /// Makes room, for many newcomers at once.
    fn drop_some(&mut self) {
        let rank = |(&address, client): (&IpAddr, &Client)| {
            let is_judged = client.verdicts().next().is_some();
            (is_judged, client.last_seen, address)
        };
        let mut ranked: Vec<_> = self.clients.iter().map(rank).collect();
        ranked.sort_unstable();
        ranked.truncate(MAX_CLIENTS / 4);
        for (_, _, address) in ranked {
            if let Some(client) = self.clients.remove(&address) {
                self.remember(address, &client);
            }
        }
    }

    fn remember(&mut self, address: IpAddr, client: &Client) {
        for (verdict, count) in client.verdicts() {
            let found = (address, verdict);
            let is_first = || !self.past.keys().any(|(_, known)| *known == verdict);
            if self.past.len() < MAX_PAST || self.past.contains_key(&found) || is_first() {
                *self.past.entry(found).or_default() += count;
            }
        }
    }

    /// What is said of the clients since the last [`Verdicts::clear`].
    pub fn findings(&self) -> Findings {
        let of_client = |(&address, client): (&IpAddr, &Client)| {
            let found = client.verdicts();
            found
                .map(|(verdict, count)| ((address, verdict), count))
                .collect::<Vec<_>>()
        };
        self.clients.iter().flat_map(of_client).collect()
    }

    /// What is, or once was, said of any client since the start.
    pub fn all_findings(&self) -> Findings {
        let mut all = self.past.clone();
        for (found, count) in self.findings() {
            *all.entry(found).or_default() += count;
        }
        all
    }

    /// Starts anew with every client, as if it had never asked.
    pub fn clear(&mut self) {
        for (address, client) in std::mem::take(&mut self.clients) {
            self.remember(address, &client);
        }
        self.polls.clear();
    }
}

/// Whether `path` can be meant for EC2's service. Where a client finds out in which cloud it is, it
/// asks for others' (`/computeMetadata/v1/`, `/metadata/instance`, `/opc/v2/`) and needs no token
/// for that.
fn asks_ec2(path: &str) -> bool {
    let first = path.trim_start_matches('/').split('/').next();
    first.is_some_and(|first| first.is_empty() || Version::parse(first).is_some())
}
