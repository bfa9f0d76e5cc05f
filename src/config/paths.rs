//! Paths as the configuration and the administrative service write them: which can be asked for,
//! which are for credentials, and what is set or removed at them.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use super::report::Section;

/// Path to text; `None` removes the leaf or the directory.
pub type Changes = BTreeMap<String, Option<String>>;

/// Whether `name` can be one segment of a path that clients ask for as it stands: the characters
/// of RFC 3986 that need no escape, without `;`, behind which the path is cut.
pub fn is_segment(name: &str) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,=:@".contains(&b);
    !matches!(name, "" | "." | "..") && name.bytes().all(legal)
}

/// Notes a problem with an entry's name that could not be asked for.
pub(super) fn check_name(section: &Section, key: &str, name: &str) -> bool {
    let legal = is_segment(name);
    if !legal {
        let what =
            format!("{name:?} cannot be part of a path: letters, digits and -._~!$&'()*+,=:@ can");
        section.problem(key, what);
    }
    legal
}

/// Paths whose values are credentials: no change may set them.
const CREDENTIAL_PATHS: [&str; 3] = [
    "iam/security-credentials",
    "iam/security-credentials-extended",
    "identity-credentials",
];

/// Whether `path` (below `meta-data/`) is where credentials stand, or below it.
pub fn is_credential_path(path: &str) -> bool {
    CREDENTIAL_PATHS.iter().any(|directory| {
        path.strip_prefix(directory)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

pub(super) fn changes(top: &Section, key: &str) -> Changes {
    let mut changes = Changes::new();
    for (path, value) in top.entries(key) {
        // A directory may be written with its slash.
        let bare = path.strip_suffix('/').unwrap_or(path);
        if !bare.split('/').all(is_segment) {
            let what = format!(
                "{path:?}: expected a path such as placement/region, its segments of letters, digits and -._~!$&'()*+,=:@"
            );
            top.problem(key, what);
        } else if key == "metadata" && is_credential_path(bare) {
            top.problem(
                key,
                format!("{path:?}: credentials are configured by \"role\""),
            );
        } else if changes.contains_key(bare) {
            // The keys of an object are sorted: the one without the slash came first.
            top.problem(key, format!("{path:?} and {bare:?} are the same path"));
        } else {
            match value {
                Value::Null => drop(changes.insert(bare.to_owned(), None)),
                Value::String(text) => {
                    let text = Some(text.clone()).filter(|text| !text.is_empty());
                    changes.insert(bare.to_owned(), text);
                }
                other => top.expected_entry(key, path, "a text, or null to remove it", other),
            }
        }
    }
    changes
}

/// An object from path to something; `null` entries are not configured.
pub(super) fn by_path<T>(
    top: &Section,
    key: &str,
    expected: &str,
    parse: impl Fn(&Value) -> Option<T>,
) -> HashMap<String, T> {
    let mut found = HashMap::new();
    for (path, value) in top.entries(key).filter(|(_, value)| !value.is_null()) {
        match parse(value) {
            Some(value) => drop(found.insert(path.to_owned(), value)),
            None => top.expected_entry(key, path, expected, value),
        }
    }
    found
}
