//! The configured categories as leaves: every table's values, keys, tags, interfaces, and what the
//! configuration sets or removes beyond them.

use serde_json::json;

use super::tree::Leaves;
use crate::config::{Category, Changes, Config, INTERFACES, Values};

/// Adds everything below `meta-data/` that is configured or derived, but for `iam/` and
/// `identity-credentials/`.
pub fn add(config: &Config, leaves: &mut Leaves) {
    add_table("meta-data/", &config.meta_data, leaves);
    for (interface, values) in config.facts.interfaces.iter().zip(&config.interfaces) {
        let directory = format!("{INTERFACES}{}/", interface.mac);
        add_table(&directory, values, leaves);
    }
    for (index, key) in config.ssh_public_keys.iter().enumerate() {
        let directory = format!("meta-data/public-keys/{index}");
        // The one leaf that ends with a line's end (docs/reference/metadata.md, "Listings").
        let line = format!("{}\n", key.openssh_key.trim_end());
        leaves.text(format!("{directory}/openssh-key"), line);
        leaves.rank(&directory, index);
        leaves.label(directory, format!("{index}={}", key.name));
    }
    if let Some(tags) = &config.tags {
        for (name, value) in tags {
            leaves.text(format!("meta-data/tags/instance/{name}"), value.as_str());
        }
        leaves.text("meta-data/tag-sets/instance", json!(tags).to_string());
    }
}

/// Adds the leaves of a table's values below `directory`.
pub fn add_table<F>(directory: &str, values: &Values<F>, leaves: &mut Leaves) {
    for (category, value) in values {
        let Category { path, .. } = category;
        for (below, text) in value.leaves() {
            let slash = if below.is_empty() { "" } else { "/" };
            leaves.text(format!("{directory}{path}{slash}{below}"), text);
        }
    }
}

/// Applies the paths that the configuration sets or removes below `directory`: removals first, so
/// that a directory can make way for a leaf.
pub fn change(directory: &str, changes: &Changes, leaves: &mut Leaves) {
    for path in changes
        .iter()
        .filter(|(_, text)| text.is_none())
        .map(|(path, _)| path)
    {
        leaves.remove(&format!("{directory}{path}"));
    }
    for (path, text) in changes {
        if let Some(text) = text {
            put(&format!("{directory}{path}"), text.as_str(), leaves);
        }
    }
}

/// Sets one leaf by its path below a version.
pub fn put(path: &str, bytes: impl Into<Vec<u8>>, leaves: &mut Leaves) {
    leaves.text(path, bytes);
    // Clients split each line of this listing at a `=`.
    if let Some(below) = path.strip_prefix("meta-data/public-keys/")
        && let Some((name, _)) = below.split_once('/')
        && let Ok(index) = name.parse::<usize>()
        && let key = format!("meta-data/public-keys/{name}")
        && !leaves.has_label(&key)
    {
        leaves.rank(&key, index);
        leaves.label(key, format!("{name}=key-{index}"));
    }
}
