//! Session tokens of IMDSv2: issued with a lifetime, forgotten when it is over. Memory is bounded
//! for every client and in all, and neither issuing nor checking slows down with their number.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;

use crate::clock::SECOND_US;

/// The longest life of a token, six hours (reference/imds.md, section 2).
pub const MAX_TTL_SECONDS: u16 = 21600;
/// Live tokens of one client address; beyond them one of its own goes: the oldest that was never
/// used or, where all were, the one that has been unused for longest.
pub const MAX_PER_CLIENT: usize = 16_384;
/// Live tokens in all; beyond them one of whoever issues goes in the same way or, where a client has
/// none, the one that ends first.
pub const MAX_TOKENS: usize = 131_072;
/// Characters of a token, as on EC2: 40 bytes in padded base64url that begins `AQAE`.
const TOKEN_LENGTH: usize = 56;
const PREFIX: [u8; 3] = [1, 0, 4];
const RANDOM: usize = 37;
/// Expired tokens that one issue removes if it needs no room, so that none takes long.
const REMOVED_PER_ISSUE: usize = 64;

/// A token's lifetime, 1..=[`MAX_TTL_SECONDS`] seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ttl(u16);

impl Ttl {
    /// Parses the value of `X-aws-ec2-metadata-token-ttl-seconds`: decimal digits alone.
    pub fn parse(text: &str) -> Option<Ttl> {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let seconds = text.parse().ok().filter(|_| digits)?;
        (1..=MAX_TTL_SECONDS)
            .contains(&seconds)
            .then_some(Ttl(seconds))
    }

    pub fn seconds(self) -> u32 {
        self.0.into()
    }
}

/// No entry, in the lists below.
const NONE: u32 = u32::MAX;

/// A live token. Free entries have no key.
struct Entry {
    /// The random part, cut: the first 16 bytes are its place in the map, the rest is compared.
    key: Option<u128>,
    rest: [u8; RANDOM - 16],
    /// How long it was to live: from its end that tells when it was issued.
    ttl_seconds: u16,
    expires_us: i64,
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
struct Store {
    by_key: HashMap<u128, u32>,
    /// When which entry ends: what has expired is found without looking at what lives.
    by_expiry: BTreeSet<(i64, u32)>,
    clients: HashMap<IpAddr, Client>,
    entries: Vec<Entry>,
    free: Vec<u32>,
}

/// All tokens of the instance.
#[derive(Default)]
pub struct Tokens {
    store: Mutex<Store>,
}

impl Tokens {
    fn lock(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new token for `client`, live until `ttl` after `now_us`; the error is the system's, when
    /// it has no random bytes.
    pub fn issue(&self, client: IpAddr, ttl: Ttl, now_us: i64) -> Result<String, getrandom::Error> {
        let mut bytes = [0; PREFIX.len() + RANDOM];
        bytes[..PREFIX.len()].copy_from_slice(&PREFIX);
        getrandom::fill(&mut bytes[PREFIX.len()..])?;
        let (key, rest) = split(&bytes);
        self.lock().insert(key, rest, client, ttl, now_us);
        Ok(URL_SAFE.encode(bytes))
    }

    /// The whole seconds, rounded up, that `token`, now used, still lives; `None` if it does not.
    pub fn remaining(&self, token: &str, now_us: i64) -> Option<u32> {
        let expires_us = self.find(token, |store, index| {
            store.use_now(index);
            store.entries[index as usize].expires_us
        })?;
        let left_us = expires_us - now_us;
        (left_us > 0)
            .then(|| left_us.div_euclid(SECOND_US) as u32 + u32::from(left_us % SECOND_US > 0))
    }

    /// The whole seconds since `token` was issued; `None` if it never was or is forgotten.
    pub fn age(&self, token: &str, now_us: i64) -> Option<i64> {
        let issued_us = self.find(token, |store, index| {
            let entry = &store.entries[index as usize];
            entry.expires_us - i64::from(entry.ttl_seconds) * SECOND_US
        })?;
        Some((now_us - issued_us).div_euclid(SECOND_US))
    }

    /// How many tokens live.
    pub fn live(&self, now_us: i64) -> usize {
        let store = self.lock();
        let expired = store.by_expiry.range(..(now_us + 1, 0)).count();
        store.by_expiry.len() - expired
    }

    /// What `read` makes of the entry of a token, live or not yet forgotten.
    fn find<T>(&self, token: &str, read: impl FnOnce(&mut Store, u32) -> T) -> Option<T> {
        if token.len() != TOKEN_LENGTH {
            return None;
        }
        let mut bytes = [0; PREFIX.len() + RANDOM + 2];
        let length = URL_SAFE.decode_slice(token, &mut bytes).ok()?;
        let bytes = bytes[..length].try_into().ok()?;
        let (key, rest) = split(bytes);
        let mut store = self.lock();
        let index = *store.by_key.get(&key)?;
        let is_it = bytes.starts_with(&PREFIX) && store.entries[index as usize].rest == rest;
        is_it.then(|| read(&mut store, index))
    }
}

/// The two parts of a token's random bytes.
fn split(bytes: &[u8; PREFIX.len() + RANDOM]) -> (u128, [u8; RANDOM - 16]) {
    let (key, rest) = bytes[PREFIX.len()..].split_at(16);
    let key = u128::from_ne_bytes(key.try_into().expect("split at 16"));
    (key, rest.try_into().expect("what is left of RANDOM"))
}

impl Store {
    fn insert(
        &mut self,
        key: u128,
        rest: [u8; RANDOM - 16],
        client: IpAddr,
        ttl: Ttl,
        now_us: i64,
    ) {
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
                self.entries.push(entry);
                self.entries.len() as u32 - 1
            }
        };
        self.link(index);
        self.by_key.insert(key, index);
        self.by_expiry.insert((expires_us, index));
    }

    /// Makes an entry the youngest of its client's list.
    fn link(&mut self, index: u32) {
        let entry = &self.entries[index as usize];
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
        let entry = &self.entries[index as usize];
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

    /// Notes that a token is of use: it goes after all that are not.
    fn use_now(&mut self, index: u32) {
        let entry = &self.entries[index as usize];
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
    use super::*;
    use std::net::Ipv4Addr;

    const A: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    const B: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));

    fn ttl(seconds: u32) -> Ttl {
        Ttl::parse(&seconds.to_string()).unwrap()
    }

    #[test]
    fn a_lifetime_is_1_to_21600_in_digits() {
        for (text, seconds) in [("1", Some(1)), ("21600", Some(21600)), ("060", Some(60))] {
            assert_eq!(Ttl::parse(text).map(Ttl::seconds), seconds);
        }
        for text in [
            "",
            "0",
            "-5",
            "+60",
            "21601",
            "1_000",
            "60.5",
            " 60",
            "99999999999",
        ] {
            assert_eq!(Ttl::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_token_looks_like_ec2s_and_lives_as_long_as_it_was_granted() {
        let tokens = Tokens::default();
        let token = tokens.issue(A, ttl(60), 0).unwrap();
        assert_eq!(token.len(), TOKEN_LENGTH);
        assert!(token.starts_with("AQAE") && token.ends_with("=="));
        assert_eq!(tokens.remaining(&token, 0), Some(60));
        assert_eq!(tokens.remaining(&token, 1), Some(60));
        assert_eq!(tokens.remaining(&token, 60 * SECOND_US - 1), Some(1));
        assert_eq!(tokens.remaining(&token, 60 * SECOND_US), None);
    }

    #[test]
    fn a_token_ages_with_the_clock_until_it_is_forgotten() {
        let tokens = Tokens::default();
        let born = 1000;
        let end = born + 60 * SECOND_US;
        let token = tokens.issue(A, ttl(60), born).unwrap();
        let second = born + SECOND_US - 1;
        for (now_us, age, live) in [(born, 0, 1), (second, 0, 1), (end - 1, 59, 1), (end, 60, 0)] {
            assert_eq!(tokens.age(&token, now_us), Some(age));
            assert_eq!(tokens.live(now_us), live);
        }
        tokens.issue(B, ttl(60), end).unwrap();
        assert_eq!(tokens.age(&token, end), None);
        assert_eq!(tokens.age("", end), None);
        assert_eq!(tokens.live(end), 1);
    }

    #[test]
    fn a_token_changed_in_any_place_is_no_token() {
        let tokens = Tokens::default();
        let token = tokens.issue(A, ttl(60), 0).unwrap();
        for place in 0..token.len() {
            let mut forged = token.clone().into_bytes();
            forged[place] = if forged[place] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(forged).unwrap();
            assert_eq!(tokens.remaining(&forged, 0), None, "changed at {place}");
        }
        assert_eq!(tokens.remaining("", 0), None);
        assert_eq!(tokens.remaining(&"A".repeat(TOKEN_LENGTH), 0), None);
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
