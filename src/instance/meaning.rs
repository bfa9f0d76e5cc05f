//! What a value tells its reader beside its bytes, found out when the tree is built.

use serde_json::Value;

use crate::date::Date;

/// The documents that announce an interruption.
pub const SPOT: &str = "meta-data/spot/instance-action";
pub const TERMINATION: &str = "meta-data/spot/termination-time";

/// What a reader learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    Nothing,
    /// Keys of a role.
    Keys,
    /// The instance is interrupted then.
    Interruption(Date),
}

impl Meaning {
    /// What `value` means at `path` (below a version).
    pub fn of(path: &str, value: &[u8]) -> Meaning {
        let date = match path {
            SPOT => serde_json::from_slice::<Value>(value)
                .ok()
                .and_then(|document| Date::parse(document.get("time")?.as_str()?)),
            TERMINATION => std::str::from_utf8(value)
                .ok()
                .and_then(|text| Date::parse(text.trim())),
            _ => None,
        };
        date.map_or(Meaning::Nothing, Meaning::Interruption)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interruption_is_told_by_the_two_documents_alone() {
        let at = Meaning::Interruption(Date::UNIX_EPOCH);
        let document = "{\"action\": \"stop\", \"time\": \"1970-01-01T00:00:00Z\"}";
        for (path, value, meaning) in [
            (SPOT, document, at),
            (TERMINATION, " 1970-01-01T01:00:00+01:00\n", at),
            (SPOT, "1970-01-01T00:00:00Z", Meaning::Nothing),
            (SPOT, "{}", Meaning::Nothing),
            (TERMINATION, "soon", Meaning::Nothing),
            ("meta-data/mac", "1970-01-01T00:00:00Z", Meaning::Nothing),
        ] {
            assert_eq!(
                Meaning::of(path, value.as_bytes()),
                meaning,
                "{path} {value}"
            );
        }
    }
}
