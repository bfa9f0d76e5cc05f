//! `--print-config`: a configuration with every default filled in.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::category;
use super::file::Config;

impl Config {
    /// The whole configuration, defaults and derived values included, as a config.json that means
    /// the same; secrets are null.
    pub fn effective(&self) -> Value {
        let mut all = self.raw.clone();
        category::print_all(&self.meta_data, &mut all);
        category::print_all(&self.dynamic, &mut all);
        let interfaces = self.interfaces.iter().map(|values| {
            let mut object = Map::new();
            category::print_all(values, &mut object);
            Value::Object(object)
        });
        all.insert("network_interfaces".into(), interfaces.collect());
        let facts = &self.facts;
        let keys = self.ssh_public_keys.iter();
        let onoff = |on: bool| if on { "enabled" } else { "disabled" };
        for (key, value) in [
            ("account_id", json!(facts.account_id)),
            ("architecture", json!(facts.architecture)),
            ("http_endpoint", json!(onoff(self.endpoint_enabled))),
            (
                "http_tokens",
                json!(if self.tokens_required {
                    "required"
                } else {
                    "optional"
                }),
            ),
            (
                "ssh_public_keys",
                keys.map(|key| json!({"name": key.name, "openssh_key": key.openssh_key}))
                    .collect(),
            ),
        ] {
            all.insert(key.into(), value);
        }
        for (key, value) in [
            ("default_delay_ms", json!(0)),
            ("endpoint_delay_ms", json!({})),
            ("force_status", json!({})),
            ("instance_metadata_tags", json!(onoff(self.tags.is_some()))),
            ("tags", json!({})),
        ] {
            all.entry(key).or_insert(value);
        }
        for key in ["user_data", "user_data_base64", "user_data_file"] {
            all.remove(key);
        }
        if let Some(bytes) = &self.user_data {
            match std::str::from_utf8(bytes) {
                Ok(text) => all.insert("user_data".into(), json!(text)),
                Err(_) => all.insert("user_data_base64".into(), json!(STANDARD.encode(bytes))),
            };
        }
        Value::Object(all)
    }
}
