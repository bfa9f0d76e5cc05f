//! Session tokens of IMDSv2: what they look like, issued with a lifetime, forgotten when it is over.

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;

use super::token_store::{Rest, Store};
use super::ttl::Ttl;
use crate::clock::SECOND_US;

/// The field that carries a token.
pub const TOKEN: &str = "X-aws-ec2-metadata-token";
/// Characters of a token, as on EC2: 40 bytes in padded base64url that begins `AQAE`.
const TOKEN_LENGTH: usize = 56;
const PREFIX: [u8; 3] = [1, 0, 4];
/// How many of them are random: the first 16 are the token's key, the others its rest.
const RANDOM: usize = 16 + size_of::<Rest>();

/// A token at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The whole seconds, rounded up, that it still lives; `None` if it does not.
    pub remaining_s: Option<u32>,
    /// The whole seconds since it was issued.
    pub age_s: i64,
}

/// All tokens of the instance.
#[derive(Default)]
pub struct Tokens {
    store: Mutex<Store>,
}

impl Tokens {
    pub(super) fn lock(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new token for `client`, live until `ttl` after `now_us`; the error is the system's, when
    /// it has no random bytes.
    pub fn issue(&self, client: IpAddr, ttl: Ttl, now_us: i64) -> Result<String, getrandom::Error> {
        let mut bytes = [0; PREFIX.len() + RANDOM];
        bytes[..PREFIX.len()].copy_from_slice(&PREFIX);
        getrandom::fill(&mut bytes[PREFIX.len()..])?;
        let (key, rest) = split(&bytes);
        // One that is dead at once must not take the place of one that lives.
        if ttl.seconds() > 0 {
            self.lock().insert(key, rest, client, ttl, now_us);
        }
        Ok(URL_SAFE.encode(bytes))
    }

    /// How `token`, now used, stands; `None` if it never was issued or is forgotten.
    pub fn look(&self, token: &str, now_us: i64) -> Option<Standing> {
        let (expires_us, ttl_seconds) = self.find(token, |store, index| {
            store.use_now(index);
            let entry = store.entry(index);
            (entry.expires_us, entry.ttl_seconds)
        })?;
        let left_us = expires_us - now_us;
        let issued_us = expires_us - i64::from(ttl_seconds) * SECOND_US;
        Some(Standing {
            remaining_s: u32::try_from((left_us + SECOND_US - 1).div_euclid(SECOND_US))
                .ok()
                .filter(|seconds| *seconds > 0),
            age_s: (now_us - issued_us).div_euclid(SECOND_US),
        })
    }

    /// How many tokens live.
    pub fn live(&self, now_us: i64) -> usize {
        self.lock().live(now_us)
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
        let index = store.find(key, &rest)?;
        bytes.starts_with(&PREFIX).then(|| read(&mut store, index))
    }
}

/// The two parts of a token's random bytes.
fn split(bytes: &[u8; PREFIX.len() + RANDOM]) -> (u128, Rest) {
    let (key, rest) = bytes[PREFIX.len()..].split_at(16);
    let key = u128::from_ne_bytes(key.try_into().expect("split at 16"));
    (key, rest.try_into().expect("what is left of RANDOM"))
}

#[cfg(test)]
impl Tokens {
    pub(super) fn remaining(&self, token: &str, now_us: i64) -> Option<u32> {
        self.look(token, now_us)?.remaining_s
    }

    fn age(&self, token: &str, now_us: i64) -> Option<i64> {
        Some(self.look(token, now_us)?.age_s)
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
    fn a_token_for_0_seconds_is_dead_at_once() {
        let tokens = Tokens::default();
        let token = tokens.issue(A, ttl(0), 0).unwrap();
        assert_eq!(token.len(), TOKEN_LENGTH);
        assert_eq!(tokens.remaining(&token, 0), None);
        assert_eq!(tokens.live(0), 0);
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
}
