//! The categories of metadata, a line each: path, the shape of its value, what it is when nobody
//! configured it. Configuration key, listing and leaf all follow from the line; the key is the
//! path with `/` and `-` as `_` (design, D5). Adding a category is adding a line.

use std::collections::BTreeMap;

use super::facts::{Facts, Interface};
use super::report::Section;
use crate::region;

/// What a category's configuration looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// A text of one line.
    Text,
    /// A text of any lines: PEM, JSON.
    Document,
    /// A whole number.
    Number,
    /// An array of texts, one line each in the leaf.
    Lines,
    /// An object: a leaf below the path for each entry, whose value is a text or an array of lines.
    Entries,
    /// Configured by a key that [`Facts`] reads, because other values follow from it.
    Fact,
}

/// One line of a table. `F` is what its default derives from.
pub struct Category<F: 'static> {
    /// Below `meta-data/`, or below the interface's directory. [`Shape::Entries`] are a directory.
    pub path: &'static str,
    key: Option<&'static str>,
    shape: Shape,
    default: fn(&F) -> Value,
}

/// What a category holds. Nothing that is empty exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Text(String),
    Lines(Vec<String>),
    Entries(BTreeMap<String, String>),
}

impl Value {
    const NONE: Value = Value::Lines(Vec::new());

    fn text(text: impl Into<String>) -> Value {
        Value::Text(text.into())
    }

    fn some(text: &Option<impl ToString>) -> Value {
        text.as_ref()
            .map_or(Value::NONE, |text| Value::Text(text.to_string()))
    }

    /// The leaves this makes: a path below the category's own (empty for the category itself) and
    /// the body.
    pub fn leaves(&self) -> Vec<(&str, String)> {
        match self {
            Value::Text(text) if text.is_empty() => Vec::new(),
            Value::Text(text) => vec![("", text.clone())],
            Value::Lines(lines) if lines.is_empty() => Vec::new(),
            Value::Lines(lines) => vec![("", lines.join("\n"))],
            Value::Entries(entries) => (entries.iter())
                .map(|(name, text)| (name.as_str(), text.clone()))
                .collect(),
        }
    }

    /// The value as config.json would say it; `None` where there is nothing to say.
    fn to_json(&self) -> Option<serde_json::Value> {
        use serde_json::json;
        match self {
            _ if self.leaves().is_empty() => None,
            Value::Text(text) => Some(json!(text)),
            Value::Lines(lines) => Some(json!(lines)),
            Value::Entries(entries) => Some(json!(entries)),
        }
    }
}

impl<F> Category<F> {
    const fn new(path: &'static str, shape: Shape, default: fn(&F) -> Value) -> Category<F> {
        Category {
            path,
            key: None,
            shape,
            default,
        }
    }

    /// Exists only when it is configured.
    const fn optional(path: &'static str, shape: Shape) -> Category<F> {
        Category::new(path, shape, |_| Value::NONE)
    }

    /// The program we replace named the key before the rule did.
    const fn keyed(self, key: &'static str) -> Category<F> {
        Category {
            key: Some(key),
            ..self
        }
    }

    /// The key in config.json.
    pub fn key(&self) -> String {
        match self.key {
            Some(key) => key.to_owned(),
            None => self.path.replace(['/', '-'], "_"),
        }
    }

    /// What `section` says of it, else its default.
    pub(super) fn read(&self, section: &Section, facts: &F) -> Value {
        let key = &self.key();
        let configured = match self.shape {
            Shape::Fact => None,
            Shape::Text => section.text(key).map(Value::text),
            Shape::Document => section.any_text(key).map(Value::text),
            Shape::Number => section.number(key).map(|n| Value::text(n.to_string())),
            Shape::Lines => Some(section.lines(key))
                .filter(|lines| !lines.is_empty())
                .map(Value::Lines),
            Shape::Entries => section.section(key).map(|entries| {
                // What is configured joins the default entries.
                let mut all = match (self.default)(facts) {
                    Value::Entries(default) => default,
                    Value::Text(_) | Value::Lines(_) => BTreeMap::new(),
                };
                let names = section.entries(key).map(|(name, _)| name);
                for name in names.filter(|name| super::check_name(section, key, name)) {
                    let text = match entries.get(name) {
                        Some(serde_json::Value::Array(_)) => Some(entries.lines(name).join("\n")),
                        _ => entries.any_text(name).map(str::to_owned),
                    };
                    all.extend(text.map(|text| (name.to_owned(), text)));
                }
                Value::Entries(all)
            }),
        };
        configured.unwrap_or_else(|| (self.default)(facts))
    }
}

/// Values in the order of their table, with the category each belongs to.
pub type Values<F> = Vec<(&'static Category<F>, Value)>;

/// Reads every category of a table.
pub(super) fn read_all<F>(
    table: &'static [Category<F>],
    section: &Section,
    facts: &F,
) -> Values<F> {
    (table.iter())
        .map(|category| (category, category.read(section, facts)))
        .collect()
}

/// Adds every value to `object` under its key.
pub(super) fn print_all<F>(
    values: &Values<F>,
    object: &mut serde_json::Map<String, serde_json::Value>,
) {
    for (category, value) in values {
        if let Some(json) = value.to_json() {
            object.insert(category.key(), json);
        }
    }
}

use Shape::{Document, Entries, Fact, Lines, Number, Text};

type Top = Category<Facts>;

/// The categories below `meta-data/`, but for those that a room of their own makes: `iam/`,
/// `identity-credentials/`, `network/`, `public-keys/`, `tags/`.
pub const META_DATA: &[Top] = &[
    Top::new("ami-id", Text, |f| Value::text(f.id("ami"))),
    Top::new("ami-launch-index", Number, |_| Value::text("0")),
    Top::new("ami-manifest-path", Text, |_| Value::text("(unknown)")),
    Top::optional("ancestor-ami-ids", Lines),
    Top::optional("autoscaling/target-lifecycle-state", Text),
    Top::new("block-device-mapping", Entries, |_| {
        let device = |name: &str| (name.to_owned(), "/dev/xvda".to_owned());
        Value::Entries(["ami", "root"].map(device).into())
    }),
    Top::optional("elastic-gpus/associations", Entries),
    Top::optional("elastic-inference/associations", Entries),
    Top::new("events/maintenance/history", Document, |_| {
        Value::text("[]")
    }),
    Top::new("events/maintenance/scheduled", Document, |_| {
        Value::text("[]")
    }),
    Top::optional("events/recommendations/rebalance", Document),
    Top::optional("hibernation/configured", Text),
    Top::new("hostname", Fact, |f| Value::text(&f.hostname)),
    Top::new("instance-action", Text, |_| Value::text("none")),
    Top::new("instance-id", Fact, |f| Value::text(&f.instance_id)),
    Top::new("instance-life-cycle", Text, |_| Value::text("on-demand")),
    Top::new("instance-type", Fact, |f| Value::text(&f.instance_type)),
    Top::new("ipv6", Fact, |f| Value::some(&f.device_0().ipv6s.first())),
    Top::optional("kernel-id", Text),
    Top::new("local-hostname", Fact, |f| {
        Value::text(&f.device_0().local_hostname)
    }),
    Top::new("local-ipv4", Fact, |f| {
        Value::some(&f.device_0().local_ipv4s.first())
    }),
    Top::new("mac", Fact, |f| Value::text(&f.device_0().mac)),
    Top::optional("managed-ssh-keys/active-keys", Entries),
    Top::optional("managed-ssh-keys/signer-cert", Document),
    Top::new("metrics/vhostmd", Document, |_| {
        Value::text("<?xml version=\"1.0\" encoding=\"UTF-8\"?>")
    }),
    Top::new("placement/availability-zone", Fact, |f| {
        Value::text(&f.zone)
    })
    .keyed("availability_zone"),
    Top::new("placement/availability-zone-id", Text, |f| {
        Value::text(region::zone_id(&f.zone))
    }),
    Top::optional("placement/group-name", Text),
    Top::optional("placement/host-id", Text),
    Top::optional("placement/partition-number", Number),
    Top::new("placement/region", Fact, |f| Value::text(&f.region)).keyed("region"),
    Top::optional("product-codes", Lines),
    Top::new("profile", Text, |_| Value::text("default-hvm")),
    Top::new("public-hostname", Fact, |f| {
        Value::some(&f.device_0().public_hostname)
    }),
    Top::new("public-ipv4", Fact, |f| {
        Value::some(&f.device_0().public_ipv4s.first())
    }),
    Top::optional("ramdisk-id", Text),
    Top::new("reservation-id", Text, |f| Value::text(f.id("r"))),
    Top::new("security-groups", Fact, |f| {
        Value::Lines(f.device_0().security_groups.clone())
    }),
    Top::new("services/domain", Text, |f| {
        Value::text(region::partition(&f.region).domain)
    }),
    Top::new("services/partition", Text, |f| {
        Value::text(region::partition(&f.region).name)
    }),
    Top::optional("spot/instance-action", Document),
    Top::optional("spot/termination-time", Text),
    Top::new("system", Text, |_| Value::text("nitro")),
];

/// The one category below `dynamic/` that is not about identity.
pub const DYNAMIC: &[Top] = &[Top::new("fws/instance-monitoring", Text, |_| {
    Value::text("disabled")
})];

type Nic = Category<Interface>;

/// The categories below `meta-data/network/interfaces/macs/{mac}/`.
pub const INTERFACE: &[Nic] = &[
    Nic::new("device-number", Number, |i| {
        Value::text(i.index.to_string())
    }),
    Nic::new("interface-id", Text, |i| Value::text(i.id("eni"))),
    Nic::new("ipv4-associations", Entries, |i| {
        Value::Entries(i.associations())
    }),
    Nic::optional("ipv4-prefix", Lines),
    Nic::optional("ipv6-prefix", Lines),
    Nic::new("ipv6s", Fact, |i| Value::Lines(Interface::texts(&i.ipv6s))),
    Nic::new("local-hostname", Fact, |i| Value::text(&i.local_hostname)),
    Nic::new("local-ipv4s", Fact, |i| {
        Value::Lines(Interface::texts(&i.local_ipv4s))
    }),
    Nic::new("mac", Fact, |i| Value::text(&i.mac)),
    Nic::optional("network-card", Number),
    Nic::optional("network-card-index", Number),
    Nic::new("owner-id", Text, |i| Value::text(&i.account_id)),
    Nic::new("public-hostname", Fact, |i| Value::some(&i.public_hostname)),
    Nic::new("public-ipv4s", Fact, |i| {
        Value::Lines(Interface::texts(&i.public_ipv4s))
    }),
    Nic::new("security-group-ids", Lines, |i| {
        Value::Lines(i.security_group_ids())
    }),
    Nic::new("security-groups", Fact, |i| {
        Value::Lines(i.security_groups.clone())
    }),
    Nic::new("subnet-id", Text, |i| Value::text(i.subnet_id())),
    Nic::new("subnet-ipv4-cidr-block", Fact, |i| {
        Value::some(&i.subnet_ipv4_block)
    }),
    Nic::new("subnet-ipv6-cidr-blocks", Lines, |i| {
        Value::Lines(i.ipv6_blocks(64))
    }),
    Nic::new("vpc-id", Text, |i| Value::text(i.vpc_id())),
    Nic::new("vpc-ipv4-cidr-block", Fact, |i| {
        Value::text(&i.vpc_ipv4_block)
    }),
    Nic::new("vpc-ipv4-cidr-blocks", Lines, |i| {
        Value::Lines(vec![i.vpc_ipv4_block.clone()])
    }),
    Nic::new("vpc-ipv6-cidr-blocks", Lines, |i| {
        Value::Lines(i.ipv6_blocks(56))
    }),
];
