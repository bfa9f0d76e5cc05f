//! The categories of metadata, a line each: path, when it was introduced, the shape of its value,
//! what it is when nobody configured it. Configuration key, versions, listing and leaf all follow
//! from the line; the key is the path with `/` and `-` as `_` (docs/architecture.md, D5). Adding a
//! category is adding a line.

use std::collections::BTreeMap;

use super::facts::{Facts, Interface};
use super::paths::check_name;
use super::report::Section;
use crate::region;
use crate::version::Version;

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
    /// The first version that has it.
    since: Version,
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
    /// `introduced` is the date that the documentation gives, or the version that was seen to bring
    /// it; `1.0` where nobody says.
    const fn new(
        path: &'static str,
        introduced: &str,
        shape: Shape,
        default: fn(&F) -> Value,
    ) -> Category<F> {
        Category {
            path,
            since: Version::since(introduced),
            key: None,
            shape,
            default,
        }
    }

    /// Exists only when it is configured.
    const fn optional(path: &'static str, introduced: &str, shape: Shape) -> Category<F> {
        Category::new(path, introduced, shape, |_| Value::NONE)
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

    /// Whether the leaf at `path` is this category's.
    fn has(&self, path: &str) -> bool {
        match path.strip_prefix(self.path) {
            Some("") => true,
            Some(below) => self.shape == Shape::Entries && below.starts_with('/'),
            None => false,
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
                for name in names.filter(|name| check_name(section, key, name)) {
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
    Top::new("ami-id", "1.0", Text, |f| Value::text(f.id("ami"))),
    Top::new("ami-launch-index", "1.0", Number, |_| Value::text("0")),
    Top::new("ami-manifest-path", "1.0", Text, |_| {
        Value::text("(unknown)")
    }),
    Top::optional("ancestor-ami-ids", "2007-10-10", Lines),
    Top::optional("autoscaling/target-lifecycle-state", "2021-07-15", Text),
    Top::new("block-device-mapping", "2007-12-15", Entries, |_| {
        let device = |(name, device): (&str, &str)| (name.to_owned(), device.to_owned());
        Value::Entries([("ami", "xvda"), ("root", "/dev/xvda")].map(device).into())
    }),
    Top::optional("elastic-gpus/associations", "2016-11-30", Entries),
    Top::optional("elastic-inference/associations", "2018-11-29", Entries),
    Top::new("events/maintenance/history", "2018-08-17", Document, |_| {
        Value::text("[]")
    }),
    Top::new(
        "events/maintenance/scheduled",
        "2018-08-17",
        Document,
        |_| Value::text("[]"),
    ),
    Top::optional("events/recommendations/rebalance", "2020-10-27", Document),
    Top::optional("hibernation/configured", "1.0", Text),
    Top::new("hostname", "1.0", Fact, |f| Value::text(&f.hostname)),
    Top::new("instance-action", "2008-09-01", Text, |_| {
        Value::text("none")
    }),
    Top::new("instance-id", "1.0", Fact, |f| Value::text(&f.instance_id)),
    Top::new("instance-life-cycle", "2019-10-01", Text, |_| {
        Value::text("on-demand")
    }),
    Top::new("instance-type", "2007-08-29", Fact, |f| {
        Value::text(&f.instance_type)
    }),
    Top::new("ipv6", "2021-01-03", Fact, |f| {
        Value::some(&f.device_0().ipv6s.first())
    }),
    Top::optional("kernel-id", "2008-02-01", Text),
    Top::new("local-hostname", "2007-01-19", Fact, |f| {
        Value::text(&f.device_0().local_hostname)
    }),
    Top::new("local-ipv4", "1.0", Fact, |f| {
        Value::some(&f.device_0().local_ipv4s.first())
    }),
    Top::new("mac", "2011-01-01", Fact, |f| {
        Value::text(&f.device_0().mac)
    }),
    Top::optional("managed-ssh-keys/active-keys", "1.0", Entries),
    Top::optional("managed-ssh-keys/signer-cert", "1.0", Document),
    Top::optional("managed-ssh-keys/signer-ocsp", "1.0", Entries),
    Top::new("metrics/vhostmd", "2011-05-01", Document, |_| {
        Value::text("<?xml version=\"1.0\" encoding=\"UTF-8\"?>")
    }),
    Top::new("placement/availability-zone", "2008-02-01", Fact, |f| {
        Value::text(&f.zone)
    })
    .keyed("availability_zone"),
    Top::new("placement/availability-zone-id", "2019-10-01", Text, |f| {
        Value::text(region::zone_id(&f.zone))
    }),
    Top::optional("outpost-arn", "1.0", Text),
    Top::optional("placement/group-name", "2020-08-24", Text),
    Top::optional("placement/host-id", "2020-08-24", Text),
    Top::optional("placement/partition-number", "2020-08-24", Number),
    Top::new("placement/region", "2019-10-01", Fact, |f| {
        Value::text(&f.region)
    })
    .keyed("region"),
    Top::optional("product-codes", "2007-03-01", Lines),
    Top::new("profile", "2007-12-15", Text, |_| {
        Value::text("default-hvm")
    }),
    Top::new("public-hostname", "2007-01-19", Fact, |f| {
        Value::some(&f.device_0().public_hostname)
    }),
    Top::new("public-ipv4", "2007-01-19", Fact, |f| {
        Value::some(&f.device_0().public_ipv4s.first())
    }),
    Top::optional("ramdisk-id", "2007-10-10", Text),
    Top::new("reservation-id", "1.0", Text, |f| Value::text(f.id("r"))),
    Top::new("security-groups", "1.0", Fact, |f| {
        Value::Lines(f.device_0().security_groups.clone())
    }),
    Top::new("services/domain", "2014-02-25", Text, |f| {
        Value::text(region::partition(&f.region).domain)
    }),
    Top::new("services/partition", "2015-10-20", Text, |f| {
        Value::text(region::partition(&f.region).name)
    }),
    Top::optional("spot/instance-action", "2016-11-15", Document),
    Top::optional("spot/termination-time", "2014-11-05", Text),
    Top::new("system", "2022-09-24", Text, |_| Value::text("nitro")),
];

/// The one category below `dynamic/` that is not about identity. Instances of today have none
/// (docs/reference/metadata.md, "Dynamic data").
pub const DYNAMIC: &[Top] = &[Top::optional("fws/instance-monitoring", "2009-04-04", Text)];

/// What a room of its own makes, with the version that brought it: a leaf, or all that is below a
/// directory.
const ROOMS: [(&str, &str); 12] = [
    ("meta-data/iam/info", "2012-01-12"),
    ("meta-data/iam/security-credentials/", "2012-01-12"),
    ("meta-data/iam/security-credentials-extended/", "2012-01-12"),
    ("meta-data/identity-credentials/ec2/", "2018-03-28"),
    ("meta-data/public-keys/", "1.0"),
    ("meta-data/tag-sets/instance", "2025-10-04"),
    ("meta-data/tags/instance/", "2021-03-23"),
    ("dynamic/instance-identity/document", "2009-04-04"),
    ("dynamic/instance-identity/dsa2048", "2009-04-04"),
    ("dynamic/instance-identity/pkcs7", "2009-04-04"),
    ("dynamic/instance-identity/rsa2048", "2009-04-04"),
    ("dynamic/instance-identity/signature", "2009-04-04"),
];

/// The directory of the interfaces, one a MAC address.
pub const INTERFACES: &str = "meta-data/network/interfaces/macs/";

/// The first version that has the leaf at `path` (below a version): its category's, or its
/// room's. What only the configuration knows is in all of them.
pub fn since(path: &str) -> Version {
    fn of<F>(table: &[Category<F>], path: &str) -> Option<Version> {
        let category = table.iter().find(|category| category.has(path));
        category.map(|category| category.since)
    }
    let mut rooms = ROOMS.iter();
    let is_of = |room: &str| path == room || (room.ends_with('/') && path.starts_with(room));
    let found = if let Some((_, since)) = rooms.find(|(room, _)| is_of(room)) {
        Some(Version::since(since))
    } else if let Some((_mac, path)) = path
        .strip_prefix(INTERFACES)
        .and_then(|p| p.split_once('/'))
    {
        of(INTERFACE, path)
    } else if let Some(path) = path.strip_prefix("meta-data/") {
        of(META_DATA, path)
    } else {
        of(DYNAMIC, path.strip_prefix("dynamic/").unwrap_or_default())
    };
    found.unwrap_or(Version::FIRST)
}

type Nic = Category<Interface>;

/// The categories below `meta-data/network/interfaces/macs/{mac}/`.
pub const INTERFACE: &[Nic] = &[
    Nic::new("device-number", "2011-01-01", Number, |i| {
        Value::text(i.index.to_string())
    }),
    Nic::new("interface-id", "2011-01-01", Text, |i| {
        Value::text(i.id("eni"))
    }),
    Nic::new("ipv4-associations", "2011-01-01", Entries, |i| {
        Value::Entries(i.associations())
    }),
    Nic::optional("ipv4-prefix", "2011-01-01", Lines),
    Nic::optional("ipv6-prefix", "2011-01-01", Lines),
    Nic::new("ipv6s", "2016-06-30", Fact, |i| {
        Value::Lines(Interface::texts(&i.ipv6s))
    }),
    Nic::new("local-hostname", "2011-01-01", Fact, |i| {
        Value::text(&i.local_hostname)
    }),
    Nic::new("local-ipv4s", "2011-01-01", Fact, |i| {
        Value::Lines(Interface::texts(&i.local_ipv4s))
    }),
    Nic::new("mac", "2011-01-01", Fact, |i| Value::text(&i.mac)),
    Nic::optional("network-card", "2020-11-01", Number),
    Nic::optional("network-card-index", "2020-11-01", Number),
    Nic::new("owner-id", "2011-01-01", Text, |i| {
        Value::text(&i.account_id)
    }),
    Nic::new("public-hostname", "2011-01-01", Fact, |i| {
        Value::some(&i.public_hostname)
    }),
    Nic::new("public-ipv4s", "2011-01-01", Fact, |i| {
        Value::Lines(Interface::texts(&i.public_ipv4s))
    }),
    Nic::new("security-group-ids", "2011-01-01", Lines, |i| {
        Value::Lines(i.security_group_ids())
    }),
    Nic::new("security-groups", "2011-01-01", Fact, |i| {
        Value::Lines(i.security_groups.clone())
    }),
    Nic::new("subnet-id", "2011-01-01", Text, |i| {
        Value::text(i.subnet_id())
    }),
    Nic::new("subnet-ipv4-cidr-block", "2011-01-01", Fact, |i| {
        Value::some(&i.subnet_ipv4_block)
    }),
    Nic::new("subnet-ipv6-cidr-blocks", "2016-06-30", Lines, |i| {
        Value::Lines(i.ipv6_blocks(64))
    }),
    Nic::new("vpc-id", "2011-01-01", Text, |i| Value::text(i.vpc_id())),
    Nic::new("vpc-ipv4-cidr-block", "2011-01-01", Fact, |i| {
        Value::text(&i.vpc_ipv4_block)
    }),
    Nic::new("vpc-ipv4-cidr-blocks", "2016-06-30", Lines, |i| {
        Value::Lines(vec![i.vpc_ipv4_block.clone()])
    }),
    Nic::new("vpc-ipv6-cidr-blocks", "2016-06-30", Lines, |i| {
        Value::Lines(i.ipv6_blocks(56))
    }),
];
