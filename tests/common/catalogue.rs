//! The catalogue of EC2's categories (tests/data/catalogue.json), and a configuration of the one
//! imaginary instance that its examples describe.

use serde_json::{Value, json};

use super::Mock;

/// One entry of the catalogue.
pub struct Entry {
    /// As in the catalogue, with placeholders.
    pub pattern: String,
    /// It exists in an instance that is configured with `{}`.
    pub always: bool,
    pub is_listing: bool,
    pub example: String,
}

pub struct Catalogue {
    pub entries: Vec<Entry>,
    placeholders: Vec<(String, String)>,
}

impl Catalogue {
    pub fn read() -> Catalogue {
        let catalogue: Value = serde_json::from_str(super::CATALOGUE).expect("JSON");
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let entries = catalogue["entries"].as_array().expect("an array").iter();
        let entries: Vec<Entry> = entries
            .map(|entry| Entry {
                pattern: text(&entry["path"]),
                always: entry["always"] == true || is_met(entry["path"].as_str()),
                is_listing: entry["kind"] == "listing",
                example: text(&entry["example"]),
            })
            // The one entry that is no GET; tests/suite/tokens.rs is about it.
            .filter(|entry| entry.pattern != "api/token")
            .collect();
        let placeholders = catalogue["placeholders"].as_object().expect("an object");
        assert!(entries.len() > 100, "{} entries", entries.len());
        Catalogue {
            entries,
            placeholders: placeholders
                .iter()
                .map(|(k, v)| (k.clone(), text(v)))
                .collect(),
        }
    }

    pub fn always(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.always)
    }

    pub fn conditional(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| !entry.always)
    }

    /// The entry's path on a server whose first interface has that MAC.
    pub fn path(&self, entry: &Entry, mac: &str) -> String {
        let mut path = entry.pattern.replace("{mac}", mac);
        for (name, value) in &self.placeholders {
            path = path.replace(&format!("{{{name}}}"), value);
        }
        match path.as_str() {
            "" => "/".to_owned(),
            "latest/" => "/latest/".to_owned(),
            path => format!("/latest/{path}"),
        }
    }
}

/// Conditions that every instance of ours meets: it has an IPv4 address. And one leaf of which the
/// catalogue does not know what is in it, though its directory is listed.
fn is_met(path: Option<&str>) -> bool {
    let interface = "meta-data/network/interfaces/macs/{mac}";
    let path = path.expect("a text");
    matches!(
        path.strip_prefix(interface).unwrap_or(path),
        "meta-data/local-ipv4"
            | "meta-data/metrics/vhostmd"
            | "/local-hostname"
            | "/local-ipv4s"
            | "/subnet-ipv4-cidr-block"
    ) || [
        "meta-data/identity-credentials/",
        "meta-data/instance-life-cycle",
    ]
    .iter()
    .any(|always| path.starts_with(always))
}

pub fn mac_of(mock: &Mock) -> String {
    mock.text("/latest/meta-data/mac")
}

pub const ROLE_ARN: &str = "arn:aws:iam::123456789012:role/demo-role";

/// The imaginary instance of the examples, with what its listings name.
pub fn imaginary() -> Value {
    json!({
        "instance_id": "i-1234567890abcdef0",
        "ami_id": "ami-0abcdef1234567890",
        "reservation_id": "r-0efghijk987654321",
        "placement_availability_zone_id": "use1-az4",
        "account_id": "123456789012",
        "local_ipv4": "172.31.10.20",
        "public_ipv4": "203.0.113.25",
        "mac": "0e:49:61:0f:c3:11",
        "hibernation_configured": "false",
        "ssh_public_keys": [{
            "name": "my-key",
            "openssh_key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEXAMPLEexampleEXAMPLEexampleEXAMPLEexam my-key",
        }],
        "user_data": "#cloud-config\nhostname: demo\n",
        "network_interfaces": [{
            "interface_id": "eni-0f95d3625f5c521cc",
            "security_group_ids": ["sg-0b07f8f6cb485d4df"],
            "subnet_id": "subnet-0a1b2c3d4e5f60718",
            "vpc_id": "vpc-0123456789abcdef0",
        }],
        "dynamic": {
            "instance-identity/pkcs7": "MIAGCSqGSIb3DQEHAqCAMIACAQExEXAMPLE",
            "instance-identity/rsa2048": "MIAGCSqGSIb3DQEHAqCAMIACAQExEXAMPLE2048",
            "instance-identity/signature":
                "dExamplesignatureExamplesignatureExamplesignature0123456789+/=",
        },
    })
}

/// Everything that has a condition, on `base`: by path, with what turns it on.
pub fn with_every_condition(mut base: Value, catalogue: &Catalogue) -> Value {
    let example = |pattern: &str| {
        let entry = catalogue
            .entries
            .iter()
            .find(|entry| entry.pattern == pattern);
        entry
            .unwrap_or_else(|| panic!("{pattern} is not in the catalogue"))
            .example
            .clone()
    };
    for path in [
        "autoscaling/target-lifecycle-state",
        "events/maintenance/history",
        "events/maintenance/scheduled",
        "events/recommendations/rebalance",
        "ancestor-ami-ids",
        "ipv6",
        "kernel-id",
        "managed-ssh-keys/signer-cert",
        "outpost-arn",
        "placement/group-name",
        "placement/host-id",
        "placement/partition-number",
        "product-codes",
        "ramdisk-id",
        "spot/instance-action",
        "spot/termination-time",
    ] {
        base[path.replace(['/', '-'], "_")] = json!(example(&format!("meta-data/{path}")));
    }
    let below = |directory: &str, name: &str| example(&format!("meta-data/{directory}/{{{name}}}"));
    let egpu = below("elastic-gpus/associations", "elastic-gpu-id");
    base["elastic_gpus_associations"] = json!({"egpu-0123456789abcdef0": egpu});
    let eia = below("elastic-inference/associations", "eia-id");
    base["elastic_inference_associations"] = json!({"eia-bfa21c7904f64a82a21b9f4540169ce1": eia});
    let user = below("managed-ssh-keys/active-keys", "user");
    base["managed_ssh_keys_active_keys"] = json!({"ec2-user": user});
    let ocsp = example("meta-data/managed-ssh-keys/signer-ocsp/");
    base["managed_ssh_keys_signer_ocsp"] = json!({ ocsp: "MIIB" });
    base["dynamic"]["instance-identity/dsa2048"] =
        json!(example("dynamic/instance-identity/dsa2048"));
    base["fws_instance_monitoring"] = json!("disabled");
    base["block_device_mapping"] = json!({"ebs1": "sdf", "ephemeral1": "sdc", "swap": "sda3"});
    base["tags"] = json!({"Name": "MyInstance", "Environment": "test"});
    base["role"] = json!({"arn": ROLE_ARN, "credentials": {
        "access_key_id": "ASIAIOSFODNN7EXAMPLE",
        "secret_access_key": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "token": "IQoJb3JpZ2luX2VjEXAMPLETOKEN",
        "expiration": "2026-01-02T09:24:05Z",
    }});
    let interface = base["network_interfaces"][0]
        .as_object_mut()
        .expect("an object");
    for (key, value) in [
        ("ipv4_prefix", "172.31.12.0/28"),
        ("ipv6_prefix", "2001:db8:1234:1a00:abcd::/80"),
        ("network_card", "0"),
        ("network_card_index", "0"),
    ] {
        interface.insert(key.into(), json!(value));
    }
    base
}
