//! What an instance was given at launch: SSH keys, user data, tags.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::report::Section;

/// EC2's limit on user data, raw (docs/reference/metadata.md, "User data").
pub const MAX_USER_DATA: usize = 16384;

/// One entry of `ssh_public_keys`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshKey {
    pub name: String,
    pub openssh_key: String,
}

/// The keys of EC2: a plain text has its comment for a name, else `key-N` (docs/architecture.md,
/// D5). Clients split `N=NAME` at the `=`.
pub(super) fn ssh_public_keys(top: &Section) -> Vec<SshKey> {
    let mut keys: Vec<SshKey> = Vec::new();
    for (place, item) in top.items("ssh_public_keys") {
        let legal = |name: &&str| !name.is_empty() && !name.contains(['=', '\n', '\r']);
        let index = keys.len();
        match item {
            Value::Null => {}
            Value::String(key) if key.is_empty() => {}
            Value::String(key) => {
                let comment = key.trim_end().splitn(3, ' ').nth(2);
                let name = comment.map(str::trim).filter(legal);
                keys.push(SshKey {
                    name: name.map_or(format!("key-{index}"), str::to_owned),
                    openssh_key: key.clone(),
                });
            }
            _ => {
                let Some(section) = Section::of(place, item, top.report) else {
                    continue;
                };
                let name =
                    section.parsed("name", "a name without =", |name| Some(name).filter(legal));
                match section.any_text("openssh_key") {
                    Some(key) => keys.push(SshKey {
                        name: name.map_or(format!("key-{index}"), str::to_owned),
                        openssh_key: key.to_owned(),
                    }),
                    None => section.problem("openssh_key", "missing: the public key's text"),
                }
                section.warn_unknown();
            }
        }
    }
    keys
}

pub(super) fn user_data(top: &Section, directory: &Path) -> Option<Vec<u8>> {
    let given: Vec<&str> = ["user_data", "user_data_base64", "user_data_file"]
        .into_iter()
        .filter(|key| top.get(key).is_some())
        .collect();
    if given.len() > 1 {
        top.problem(
            given[1],
            format!("{} is set too: at most one of them", given[0]),
        );
    }
    let key = *given.first()?;
    let bytes = match key {
        "user_data" => top.any_text(key)?.as_bytes().to_vec(),
        "user_data_base64" => top.parsed(key, "base64", |text| {
            let text: String = text.split_ascii_whitespace().collect();
            STANDARD.decode(text).ok()
        })?,
        _ => {
            let path = directory.join(top.text(key)?);
            match std::fs::read(&path) {
                Ok(bytes) => bytes,
                Err(e) => {
                    top.problem(key, format!("cannot read {}: {e}", path.display()));
                    return None;
                }
            }
        }
    };
    if bytes.len() > MAX_USER_DATA {
        let what = format!(
            "expected at most {MAX_USER_DATA} bytes, found {}",
            bytes.len()
        );
        top.problem(key, what);
    }
    Some(bytes).filter(|bytes| !bytes.is_empty())
}

/// The tags, if metadata shows them: by default it shows those that are configured. A tag's value
/// may be empty.
pub(super) fn tags(top: &Section) -> Option<BTreeMap<String, String>> {
    let is_configured = top.entries("tags").next().is_some();
    let shown = top.choice(
        "instance_metadata_tags",
        "enabled",
        "disabled",
        is_configured,
    );
    let mut tags = BTreeMap::new();
    for (name, value) in top.entries("tags") {
        match value.as_str() {
            _ if shown && !can_be_shown(name) => {
                let what = format!(
                    "{name:?}: a tag shown in metadata has letters, digits and +-=.,_:@ only, and is not . or .. or _index; \"instance_metadata_tags\": \"disabled\" shows none"
                );
                top.problem("tags", what);
            }
            Some(text) => drop(tags.insert(name.to_owned(), text.to_owned())),
            None if value.is_null() => {}
            None => top.expected_entry("tags", name, "a text", value),
        }
    }
    shown.then_some(tags)
}

/// Whether metadata can show a tag of that name (docs/reference/metadata.md, "Tags").
fn can_be_shown(name: &str) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"+-=.,_:@".contains(&b);
    !matches!(name, "" | "." | ".." | "_index") && name.bytes().all(legal)
}
