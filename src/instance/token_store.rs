//! Where tokens are kept, by what they are, by when they end and by whose they are. Memory is bounded
//! for every client and in all, and neither issuing nor checking slows down with their number.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use super::ttl::Ttl;
use crate::clock::SECOND_US;

/// Live tokens of one client address; beyond them one of its own goes: the oldest that was never
/// used or, where all were, the one that has been unused for longest.
const MAX_PER_CLIENT: usize = 16_384;
/// Live tokens in all; beyond them one of whoever issues goes in the same way or, where a client has
/// none, the one that ends first.
const MAX_TOKENS: usize = 131_072;
/// Expired tokens that one issue removes if it needs no room, so that none takes long.
const REMOVED_PER_ISSUE: usize = 64;

/// What a token has behind its key.
pub(super) type Rest = [u8; 21];

/// No entry, in the lists below.
const NONE: u32 = u32::MAX;

/// A live token. Free entries have no key.
pub(super) struct Entry {
    /// The random part, cut: the first 16 bytes are its place in the map, the rest is compared.
    key: Option<u128>,
    rest: Rest,
    /// How long it was to live: from its end that tells when it was issued.
    pub(super) ttl_seconds: u16,
    pub(super) expires_us: i64,
    client: IpAddr,
    /// Its neighbours in the client's list of those that were used, or of those that were not.
    older: u32,
    younger: u32,
    is_used: bool,
}

/// All tokens together shall stay within 32 MiB, their maps included.
const _: () = assert!(size_of::<Entry>() <= 96);

/// A list of tokens by age.
#[derive(Clone, Copy)]
struct List {
    oldest: u32,
    youngest: u32,
}

const EMPTY: List = List {
    oldest: NONE,
    youngest: NONE,
};

#[derive(Clone, Copy)]
struct Client {
    /// Since their issue.
    unused: List,
    /// Since their last use.
    used: List,
    count: u32,
}

impl Client {
    fn list(&mut self, is_used: bool) -> &mut List {
        match is_used {
            false => &mut self.unused,
            true => &mut self.used,
        }
    }

    /// The token to do without.
    fn first_to_go(&self) -> u32 {
        match self.unused.oldest {
            NONE => self.used.oldest,
            unused => unused,
        }
    }
}

/// Tokens by random part and by client. An entry is in `by_key` and in `by_expiry` exactly
/// while it has a key.
#[derive(Default)]
pub(super) struct Store {
    by_key: HashMap<u128, u32>,
    /// When which entry ends: what has expired is found without looking at what lives.
    by_expiry: BTreeSet<(i64, u32)>,
    clients: HashMap<IpAddr, Client>,
    entries: Vec<Entry>,
    free: Vec<u32>,
}

impl Store {
    /// Adds a token of `client`, live until `ttl` after `now_us`, and makes room for it.
    pub(super) fn insert(&mut self, key: u128, rest: Rest, client: IpAddr, ttl: Ttl, now_us: i64) {
        self.make_room(client, now_us);
        let expires_us = now_us + i64::from(ttl.0) * SECOND_US;
        let entry = Entry {
            key: Some(key),
            rest,
            ttl_seconds: ttl.0,
            expires_us,
            client,
            older: NONE,
            younger: NONE,
            is_used: false,
        };
        let index = match self.free.pop() {
            Some(index) => {
                self.entries[index as usize] = entry;
                index
            }
            None => {
                let index = u32::try_from(self.entries.len()).unwrap_or(NONE);
                self.entries.push(entry);
                index
            }
        };
        self.link(index);
        self.by_key.insert(key, index);
        self.by_expiry.insert((expires_us, index));
    }

    /// Makes an entry the youngest of its client's list.
    fn link(&mut self, index: u32) {
        let entry = self.entry(index);
        let (client, is_used) = (entry.client, entry.is_used);
        let of_client = self.clients.entry(client).or_insert(Client {
            unused: EMPTY,
            used: EMPTY,
            count: 0,
        });
        of_client.count += 1;
        let list = of_client.list(is_used);
        let older = std::mem::replace(&mut list.youngest, index);
        match older {
            NONE => list.oldest = index,
            older => self.entries[older as usize].younger = index,
        }
        let entry = &mut self.entries[index as usize];
        (entry.older, entry.younger) = (older, NONE);
    }

    /// Takes an entry out of its client's list.
    fn unlink(&mut self, index: u32) {
        let entry = self.entry(index);
        let (client, is_used) = (entry.client, entry.is_used);
        let (older, younger) = (entry.older, entry.younger);
        if older != NONE {
            self.entries[older as usize].younger = younger;
        }
        if younger != NONE {
            self.entries[younger as usize].older = older;
        }
        let Some(of_client) = self.clients.get_mut(&client) else {
            return;
        };
        of_client.count -= 1;
        let list = of_client.list(is_used);
        if list.oldest == index {
            list.oldest = younger;
        }
        if list.youngest == index {
            list.youngest = older;
        }
        if of_client.count == 0 {
            self.clients.remove(&client);
        }
    }

    /// The index of a token, live or not yet forgotten.
    pub(super) fn find(&self, key: u128, rest: &Rest) -> Option<u32> {
        let index = *self.by_key.get(&key)?;
        (self.entry(index).rest == *rest).then_some(index)
    }

    pub(super) fn entry(&self, index: u32) -> &Entry {
        &self.entries[index as usize]
    }

    /// How many tokens live.
    pub(super) fn live(&self, now_us: i64) -> usize {
        let expired = self.by_expiry.range(..(now_us + 1, 0)).count();
        self.by_expiry.len() - expired
    }

    /// Notes that a token is of use: it goes after all that are not.
    pub(super) fn use_now(&mut self, index: u32) {
        let entry = self.entry(index);
        if entry.is_used && entry.younger == NONE {
            return;
        }
        self.unlink(index);
        self.entries[index as usize].is_used = true;
        self.link(index);
    }

    /// Makes room for one more token of `client`: what has expired goes before what lives.
    fn make_room(&mut self, client: IpAddr, now_us: i64) {
        let mut removed = 0;
        while let Some(&(expires_us, index)) = self.by_expiry.first()
            && expires_us <= now_us
            && (removed < REMOVED_PER_ISSUE || self.is_full_for(client))
        {
            self.remove(index);
            removed += 1;
        }
        if self.by_key.is_empty() && self.entries.len() > MAX_PER_CLIENT {
            // A flood is over: give its memory back.
            *self = Store::default();
        }
        if self.is_full_for(client) {
            let own = self.clients.get(&client).map(Client::first_to_go);
            let first = self.by_expiry.first().map(|(_, index)| *index);
            if let Some(index) = own.or(first) {
                self.remove(index);
            }
        }
    }

    fn is_full_for(&self, client: IpAddr) -> bool {
        let held = self.clients.get(&client).map_or(0, |own| own.count);
        self.by_key.len() >= MAX_TOKENS || held as usize >= MAX_PER_CLIENT
    }

    fn remove(&mut self, index: u32) {
        let entry = &mut self.entries[index as usize];
        let Some(key) = entry.key.take() else { return };
        self.by_expiry.remove(&(entry.expires_us, index));
        self.by_key.remove(&key);
        self.unlink(index);
        self.free.push(index);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Tokens;
    use super::*;
    use std::net::Ipv4Addr;

    const A: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    const B: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));

    fn ttl(seconds: u32) -> Ttl {
        Ttl::parse(&seconds.to_string()).unwrap()
    }

    #[test]
    fn a_flood_hurts_its_author_alone() {
        let tokens = Tokens::default();
        let bystander = tokens.issue(B, ttl(60), 0).unwrap();
        let first = tokens.issue(A, ttl(60), 0).unwrap();
        let second = tokens.issue(A, ttl(60), 0).unwrap();
        (2..=MAX_PER_CLIENT).for_each(|_| drop(tokens.issue(A, ttl(60), 0).unwrap()));
        assert_eq!(tokens.remaining(&first, 0), None);
        assert_eq!(tokens.remaining(&second, 0), Some(60));
        assert_eq!(tokens.remaining(&bystander, 0), Some(60));
    }

    #[test]
    fn a_token_in_use_outlives_a_flood_from_its_own_address() {
        let tokens = Tokens::default();
        let (used, unused) = (
            tokens.issue(A, ttl(60), 0).unwrap(),
            tokens.issue(A, ttl(60), 0).unwrap(),
        );
        assert_eq!(tokens.remaining(&used, 0), Some(60));
        let flood = || tokens.issue(A, ttl(60), 0).unwrap();
        (0..2 * MAX_PER_CLIENT).for_each(|_| drop(flood()));
        assert_eq!(tokens.remaining(&used, 0), Some(60));
        assert_eq!(tokens.remaining(&unused, 0), None);
        // The flood uses its tokens, too: whoever goes on using his keeps it.
        let mut first = None;
        for n in 0..2 * MAX_PER_CLIENT {
            let other = flood();
            assert_eq!(tokens.remaining(&other, 0), Some(60));
            first.get_or_insert(other);
            if n % 1000 == 0 {
                assert_eq!(tokens.remaining(&used, 0), Some(60));
            }
        }
        assert_eq!(tokens.remaining(&first.unwrap(), 0), None);
        let store = tokens.lock();
        assert_eq!(store.by_key.len(), MAX_PER_CLIENT);
        assert_eq!(store.clients[&A].count as usize, MAX_PER_CLIENT);
    }

    #[test]
    fn the_expired_leave_before_the_living() {
        let tokens = Tokens::default();
        let long = tokens.issue(A, ttl(600), 0).unwrap();
        (1..MAX_PER_CLIENT).for_each(|_| drop(tokens.issue(A, ttl(1), 0).unwrap()));
        tokens.issue(A, ttl(600), 2 * SECOND_US).unwrap();
        assert_eq!(tokens.remaining(&long, 2 * SECOND_US), Some(598));
    }

    #[test]
    fn there_is_a_limit_in_all_and_newcomers_still_get_a_token() {
        let tokens = Tokens::default();
        let client = |n: usize| IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + n as u32));
        for n in 0..MAX_TOKENS {
            tokens.issue(client(n / 1000), ttl(60), 0).unwrap();
        }
        let late = tokens.issue(client(MAX_TOKENS), ttl(60), 0).unwrap();
        assert_eq!(tokens.remaining(&late, 0), Some(60));
        let store = tokens.lock();
        assert_eq!(store.by_key.len(), MAX_TOKENS);
        assert_eq!(store.by_expiry.len(), MAX_TOKENS);
        let counted: u32 = store.clients.values().map(|client| client.count).sum();
        assert_eq!(counted as usize, MAX_TOKENS);
    }

    #[test]
    fn expired_tokens_leave_as_others_are_issued() {
        let tokens = Tokens::default();
        (0..1000).for_each(|_| drop(tokens.issue(A, ttl(1), 0).unwrap()));
        (0..1000).for_each(|_| drop(tokens.issue(B, ttl(60), 2 * SECOND_US).unwrap()));
        assert_eq!(tokens.lock().by_key.len(), 1000);
        assert!(tokens.lock().entries.len() < 1500);
    }
}
