//! What stands below `dynamic/`: the instance identity document in EC2's bytes, its signatures, and
//! the monitoring state where one is configured.

use serde_json::{Map, Value, json};

use super::categories;
use super::tree::Leaves;
use crate::config::Config;

/// What stands for a signature until a real one is configured: imds_mock.py's constant
/// (docs/architecture.md, D2), and two like it, for every instance has all three
/// (docs/reference/metadata.md, "Listings").
const PLACEHOLDERS: [(&str, &str); 3] = [
    ("pkcs7", "FAKE_PKCS7"),
    ("rsa2048", "FAKE_RSA2048"),
    ("signature", "FAKE_SIGNATURE"),
];
/// The launch time of an instance that nobody dated: the same after every restart.
const PENDING_TIME: &str = "2026-01-02T03:04:05Z";

/// Adds everything below `dynamic/`.
pub fn add(config: &Config, leaves: &mut Leaves) {
    categories::add_table("dynamic/", &config.dynamic, leaves);
    leaves.text("dynamic/instance-identity/document", document(config));
    for (name, placeholder) in PLACEHOLDERS {
        leaves.text(format!("dynamic/instance-identity/{name}"), placeholder);
    }
}

/// The identity document: EC2's 15 keys in its order, which is sorted but for
/// `marketplaceProductCodes` (docs/reference/metadata.md, "Dynamic data"), then any others.
fn document(config: &Config) -> String {
    let facts = &config.facts;
    let value = |path: &str| {
        let found = config
            .meta_data
            .iter()
            .find(|(category, _)| category.path == path);
        let leaf = found.and_then(|(_, value)| value.leaves().pop());
        leaf.map_or(Value::Null, |(_, text)| Value::String(text))
    };
    let codes = match value("product-codes") {
        Value::String(lines) => json!(lines.lines().collect::<Vec<_>>()),
        other => other,
    };
    let mut others = config.identity_document.clone();
    let known = [
        ("accountId", json!(facts.account_id)),
        ("architecture", json!(facts.architecture)),
        ("availabilityZone", json!(facts.zone)),
        ("billingProducts", Value::Null),
        ("devpayProductCodes", Value::Null),
        ("marketplaceProductCodes", codes),
        ("imageId", value("ami-id")),
        ("instanceId", json!(facts.instance_id)),
        ("instanceType", json!(facts.instance_type)),
        ("kernelId", value("kernel-id")),
        ("pendingTime", json!(PENDING_TIME)),
        // Of an instance that has only IPv6, that (docs/reference/metadata.md, "Dynamic data").
        (
            "privateIp",
            match value("local-ipv4") {
                Value::Null => value("ipv6"),
                ipv4 => ipv4,
            },
        ),
        ("ramdiskId", value("ramdisk-id")),
        ("region", json!(facts.region)),
        ("version", json!("2017-09-30")),
    ];
    let known = known.map(|(key, value)| (key.to_owned(), others.remove(key).unwrap_or(value)));
    object(known.into_iter().chain(others))
}

/// A JSON object as EC2 lays it out: two blanks of indent, `"key" : value`, no final newline
/// (docs/reference/metadata.md, "Credentials documents", "Dynamic data").
pub fn object(entries: impl IntoIterator<Item = (String, Value)>) -> String {
    let lines: Vec<String> = entries
        .into_iter()
        .map(|(key, value)| format!("  {} : {}", json!(key), layout(&value)))
        .collect();
    match lines.is_empty() {
        true => "{ }".to_owned(),
        false => format!("{{\n{}\n}}", lines.join(",\n")),
    }
}

/// A value on one line, arrays spaced as EC2 does: `[ "a", "b" ]`.
fn layout(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(layout).collect();
            format!("[ {} ]", items.join(", "))
        }
        Value::Object(entries) => {
            let entries: Map<String, Value> = entries.clone();
            let pairs: Vec<String> = (entries.iter())
                .map(|(key, value)| format!("{} : {}", json!(key), layout(value)))
                .collect();
            format!("{{ {} }}", pairs.join(", "))
        }
        plain => plain.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_has_ec2s_spacing() {
        let entries = [
            ("a", json!("x")),
            ("b", Value::Null),
            ("c", json!(["y", "z"])),
        ];
        let text = object(entries.map(|(key, value)| (key.to_owned(), value)));
        assert_eq!(
            text,
            "{\n  \"a\" : \"x\",\n  \"b\" : null,\n  \"c\" : [ \"y\", \"z\" ]\n}"
        );
    }
}
