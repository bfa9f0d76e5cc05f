//! Who may do what, on both ports (docs/architecture.md, D7): while credentials of a real role are
//! handed out, the machine itself and the networks that the configuration names; and no web page,
//! whatever name it made the browser resolve to us.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use ipnet::IpNet;
use sha2::{Digest, Sha256};

/// Host names that are ours without being configured.
const OWN_NAMES: [&str; 2] = ["localhost", "instance-data"];
/// Refused addresses that are remembered, so that each is reported once.
const MAX_REPORTED: usize = 1024;

/// The rules of one configuration.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Credentials come from STS.
    pub guarded: bool,
    pub allow_from: Vec<IpNet>,
    /// Lower case.
    pub allowed_hosts: Vec<String>,
}

impl Rules {
    /// Whether connections to the metadata port are judged at all.
    pub fn judge_callers(&self) -> bool {
        self.guarded || !self.allow_from.is_empty()
    }

    /// Whether a caller may connect to the metadata port. `is_local`: it is this machine.
    pub fn admit(&self, address: IpAddr, is_local: bool) -> bool {
        !self.judge_callers()
            || is_local
            || self.allow_from.iter().any(|net| net.contains(&address))
    }

    /// Whether a request to the metadata port may come from where its fields say.
    pub fn admit_request(&self, host: Option<&str>, has_origin: bool) -> bool {
        let open = !self.guarded && self.allowed_hosts.is_empty();
        open || self.is_no_web_page(host, has_origin)
    }

    /// A browser sends the name it resolved, and for most requests `Origin`: after DNS rebinding
    /// that name is the attacker's. Addresses and missing names are fine.
    pub fn is_no_web_page(&self, host: Option<&str>, has_origin: bool) -> bool {
        let known = host.map(name_of).is_none_or(|host| {
            let host = host.trim_end_matches('.').to_ascii_lowercase();
            OWN_NAMES.contains(&host.as_str())
                || self.allowed_hosts.contains(&host)
                || host.parse::<IpAddr>().is_ok()
        });
        known && !has_origin
    }
}

/// The host of an authority, without port and without an IPv6 address's brackets.
fn name_of(authority: &str) -> &str {
    match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    }
}

/// The secret of `--bootstrap-secret-file`, kept as its digest.
pub struct AdminSecret([u8; 32]);

impl AdminSecret {
    /// Takes the file's content; blanks around it do not count. The error says why no caller could
    /// ever present it.
    pub fn new(content: &[u8]) -> Result<AdminSecret, &'static str> {
        let secret = content.trim_ascii();
        if secret.is_empty() {
            return Err("it is empty");
        }
        // As two lines of `openssl rand -base64 64` are.
        let is_line = str::from_utf8(secret).is_ok_and(|text| !text.contains(char::is_control));
        match is_line {
            true => Ok(AdminSecret(Sha256::digest(secret).into())),
            false => Err("expected one line of text"),
        }
    }

    /// Whether the value of `Authorization` is `Bearer SECRET`. Digests are compared, so that the
    /// time it takes tells nothing about the secret.
    pub fn is_presented(&self, authorization: Option<&str>) -> bool {
        let credentials = authorization.unwrap_or_default();
        let (scheme, secret) = credentials.split_once(' ').unwrap_or_default();
        let digest: [u8; 32] = Sha256::digest(secret.trim().as_bytes()).into();
        scheme.eq_ignore_ascii_case("Bearer") && digest == self.0
    }
}

/// Remembers which refused addresses have been reported.
#[derive(Default)]
pub struct Reported(Mutex<HashSet<IpAddr>>);

impl Reported {
    /// Whether `address` is new, and shall be reported.
    pub fn first_time(&self, address: IpAddr) -> bool {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.len() < MAX_REPORTED && seen.insert(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn with_a_role_only_local_and_named_callers_connect() {
        let open = Rules::default();
        assert!(open.admit(address("203.0.113.7"), false));
        let guarded = Rules {
            guarded: true,
            allow_from: vec!["10.1.0.0/16".parse().unwrap()],
            ..Rules::default()
        };
        assert!(guarded.admit(address("203.0.113.7"), true));
        assert!(guarded.admit(address("10.1.2.3"), false));
        assert!(!guarded.admit(address("10.2.0.1"), false));
    }

    #[test]
    fn a_rebound_name_is_refused_and_an_address_is_not() {
        let rules = Rules {
            guarded: true,
            allowed_hosts: vec!["metadata.test".into()],
            ..Rules::default()
        };
        for (host, admitted) in [
            (None, true),
            (Some("169.254.169.254"), true),
            (Some("127.0.0.1:8000"), true),
            (Some("[fd00:ec2::254]:80"), true),
            (Some("localhost:8000"), true),
            (Some("LocalHost."), true),
            (Some("instance-data"), true),
            (Some("Metadata.Test:1"), true),
            (Some("evil.example"), false),
            (Some("localhost.evil.example"), false),
            (Some("127.0.0.1.evil.example"), false),
        ] {
            assert_eq!(rules.admit_request(host, false), admitted, "{host:?}");
        }
        assert!(!rules.admit_request(None, true));
        assert!(Rules::default().admit_request(Some("evil.example"), true));
    }

    #[test]
    fn the_secret_must_be_presented_whole() {
        for no_secret in [&b""[..], b" \n", b"two\nlines", b"\xff", b"a\0b"] {
            assert!(AdminSecret::new(no_secret).is_err(), "{no_secret:?}");
        }
        let secret = AdminSecret::new(b"hunter2\n").unwrap();
        for (value, presented) in [
            ("Bearer hunter2", true),
            ("bearer hunter2", true),
            ("Bearer hunter", false),
            ("Bearer hunter22", false),
            ("Bearer", false),
            ("Basic hunter2", false),
        ] {
            assert_eq!(secret.is_presented(Some(value)), presented, "{value}");
        }
        assert!(!secret.is_presented(None));
    }
}
