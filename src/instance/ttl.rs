//! How long a session token may live.

/// The longest life of a token, six hours (docs/reference/metadata.md, "Token").
const MAX_TTL_SECONDS: u16 = 21600;

/// A token's lifetime, 0..=[`MAX_TTL_SECONDS`] seconds. With 0 it is dead at once, as on EC2
/// (docs/reference/metadata.md, "Token").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ttl(pub(super) u16);

impl Ttl {
    /// Parses the value of `X-aws-ec2-metadata-token-ttl-seconds`: decimal digits alone.
    pub fn parse(text: &str) -> Option<Ttl> {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let seconds = text.parse().ok().filter(|_| digits)?;
        (seconds <= MAX_TTL_SECONDS).then_some(Ttl(seconds))
    }

    pub fn seconds(self) -> u32 {
        self.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_is_0_to_21600_in_digits() {
        for (text, seconds) in [
            ("0", Some(0)),
            ("1", Some(1)),
            ("21600", Some(21600)),
            ("060", Some(60)),
        ] {
            assert_eq!(Ttl::parse(text).map(Ttl::seconds), seconds);
        }
        for text in [
            "",
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
}
