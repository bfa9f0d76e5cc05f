//! config.json: what it may say, what is wrong with it, and what follows where it says nothing.
//! Everything else sees the finished [`Config`]; nothing behind this room checks again.

mod category;
pub mod duration;
mod event;
mod facts;
mod fault;
pub mod region;
mod report;
mod role;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;
use serde_json::{Map, Value, json};

pub use category::{Category, DYNAMIC, INTERFACE, META_DATA, Values};
use event::parse_object;
pub use event::{EventKind, EventSpec, Notice, parse_date};
pub use facts::{Facts, Interface, stable_id};
pub use fault::{Effect, FaultSpec, PathPattern, Sequence};
pub use report::Problem;
use report::{Report, Section};
pub use role::{FailureCode, RoleSource, StaticRole, StaticState};

use crate::access::Rules;
use crate::role::RoleArn;

/// The configuration served without `--config`.
const EXAMPLE: &str = include_str!("../../config.json");
/// EC2's limit on user data, raw (reference/imds.md, section 9).
pub const MAX_USER_DATA: usize = 16384;
/// The longest delay: longer ones, and what is beyond a `Duration`, mean a day.
const MAX_DELAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Keys that no table and no fact names.
const OTHER_KEYS: &[&str] = &[
    "account_id",
    "allow_from",
    "allowed_hosts",
    "architecture",
    "default_delay_ms",
    "dynamic",
    "endpoint_delay_ms",
    "events",
    "faults",
    "force_status",
    "http_endpoint",
    "http_put_response_hop_limit",
    "http_tokens",
    "identity_document",
    "instance_metadata_tags",
    "metadata",
    "network_interfaces",
    "role",
    "ssh_public_keys",
    "tags",
    "user_data",
    "user_data_base64",
    "user_data_file",
];

/// An instance as configured, every default filled in.
pub struct Config {
    pub facts: Facts,
    /// Below `meta-data/`, in the order of [`META_DATA`].
    pub meta_data: Values<Facts>,
    /// Below `dynamic/`, in the order of [`DYNAMIC`].
    pub dynamic: Values<Facts>,
    /// For each of [`Facts::interfaces`], in the order of [`INTERFACE`].
    pub interfaces: Vec<Values<Interface>>,
    pub ssh_public_keys: Vec<SshKey>,
    pub user_data: Option<Vec<u8>>,
    /// Empty when tags are not allowed in metadata.
    pub tags: BTreeMap<String, String>,
    /// IMDSv2 only; otherwise v1 is served too.
    pub tokens_required: bool,
    pub endpoint_enabled: bool,
    /// IP TTL of token answers.
    pub hop_limit: Option<u8>,
    pub default_delay: Duration,
    pub endpoint_delay: HashMap<String, Duration>,
    pub force_status: HashMap<String, u16>,
    /// From the start on.
    pub events: Vec<EventSpec>,
    pub faults: Vec<FaultSpec>,
    /// Replaces or adds keys of the identity document.
    pub identity_document: Map<String, Value>,
    /// Paths below `meta-data/` and `dynamic/` with what is set there; `None` removes.
    pub metadata_changes: Changes,
    pub dynamic_changes: Changes,
    pub role: Option<RoleSource>,
    pub rules: Rules,
    /// As configured, to print; secrets are null.
    raw: Map<String, Value>,
}

/// Path to text; `None` removes the leaf or the directory.
pub type Changes = BTreeMap<String, Option<String>>;

/// One entry of `ssh_public_keys`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshKey {
    pub name: String,
    pub openssh_key: String,
}

/// Where a configuration comes from: a file, or the example compiled in, and the flags that
/// override it.
#[derive(Clone, Debug, Default)]
pub struct Source {
    pub file: Option<PathBuf>,
    pub flags: Vec<Flag>,
}

/// A flag that stands for a key of the object `role`.
#[derive(Clone, Debug)]
pub struct Flag {
    /// As on the command line: `--role-arn`.
    pub name: &'static str,
    pub role_key: &'static str,
    pub value: Value,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match &self.file {
            None => write!(f, "the built-in example configuration"),
            Some(path) => write!(f, "{}", path.display()),
        }
    }
}

impl Source {
    /// Reads and checks the configuration. Returns it with what deserves a warning, or everything
    /// that is wrong with it; the place of a problem with a flag is the flag.
    pub fn load(&self) -> Result<(Config, Vec<Problem>), Vec<Problem>> {
        let problem = |what: String| {
            let place = String::new();
            vec![Problem { place, what }]
        };
        let text = match &self.file {
            None => EXAMPLE.to_owned(),
            Some(path) => {
                let bytes = std::fs::read(path);
                let bytes = bytes.map_err(|e| problem(format!("cannot read it: {e}")))?;
                String::from_utf8(bytes).map_err(|e| {
                    let place = e.utf8_error().valid_up_to() + 1;
                    problem(format!("not UTF-8 (byte {place})"))
                })?
            }
        };
        let directory = self.file.as_ref().and_then(|path| path.parent());
        Config::parse(&text, directory.unwrap_or(Path::new("")), &self.flags)
    }
}

impl Config {
    /// Parses the text of a config.json, then lets `flags` override it. Relative paths in it start
    /// at `directory`.
    pub fn parse(
        text: &str,
        directory: &Path,
        flags: &[Flag],
    ) -> Result<(Config, Vec<Problem>), Vec<Problem>> {
        let report = Report::default();
        let parsed = serde_json::from_str(text.strip_prefix('\u{feff}').unwrap_or(text));
        let mut raw = match parsed {
            Ok(Value::Object(raw)) => raw,
            Ok(_) => {
                report.problem("", "expected a JSON object { ... } at the top");
                return Err(report.problems.into_inner());
            }
            Err(e) => {
                report.problem("", format!("not JSON: {e}"));
                return Err(report.problems.into_inner());
            }
        };
        for flag in flags {
            let role = raw.entry("role").or_insert_with(|| json!({}));
            match role {
                Value::Object(role) => drop(role.insert(flag.role_key.into(), flag.value.clone())),
                // What is wrong with it is said below.
                _ => break,
            }
        }
        let top = Section::new("", &raw, &report);
        let config = Config::read(&top, directory);
        top.warn_unknown(&known_keys());
        let mut problems = report.problems.into_inner();
        // A value that several others follow from is read once for each.
        problems.sort_by(|a, b| (&a.place, &a.what).cmp(&(&b.place, &b.what)));
        problems.dedup();
        for problem in &mut problems {
            let role_key = problem.place.strip_prefix("role.");
            if let Some(flag) = flags.iter().find(|flag| role_key == Some(flag.role_key)) {
                problem.place = flag.name.to_owned();
            }
        }
        match problems.is_empty() {
            true => Ok((config, report.warnings.into_inner())),
            false => Err(problems),
        }
    }

    fn read(top: &Section, directory: &Path) -> Config {
        let arn = role::arn(top);
        let facts = Facts::read(top, arn.as_ref().map(RoleArn::account));
        let role = role::read(top, arn.as_ref(), &facts.region, &facts.instance_id);
        let sections = top.items("network_interfaces");
        let nothing = Map::new();
        let interfaces = (facts.interfaces.iter().enumerate())
            .map(|(index, interface)| {
                let section = (sections.get(index))
                    .and_then(|(place, item)| Section::of(place.clone(), item, top.report));
                let section = section.unwrap_or(Section::new("", &nothing, top.report));
                let keys: Vec<String> = INTERFACE.iter().map(Category::key).collect();
                section.warn_unknown(&keys.iter().map(String::as_str).collect::<Vec<_>>());
                category::read_all(INTERFACE, &section, interface)
            })
            .collect();
        let tags_allowed = top.choice("instance_metadata_tags", "enabled", "disabled", true);
        Config {
            meta_data: category::read_all(META_DATA, top, &facts),
            dynamic: category::read_all(DYNAMIC, top, &facts),
            interfaces,
            ssh_public_keys: ssh_public_keys(top),
            user_data: user_data(top, directory),
            tags: Some(tags(top)).filter(|_| tags_allowed).unwrap_or_default(),
            tokens_required: top.choice("http_tokens", "required", "optional", true),
            endpoint_enabled: top.choice("http_endpoint", "enabled", "disabled", true),
            hop_limit: hop_limit(top),
            default_delay: (top.get("default_delay_ms"))
                .and_then(|value| {
                    let delay = milliseconds(value);
                    if delay.is_none() {
                        let what = format!("expected milliseconds (a number), found {value}");
                        top.problem("default_delay_ms", what);
                    }
                    delay
                })
                .unwrap_or_default(),
            endpoint_delay: by_path(
                top,
                "endpoint_delay_ms",
                "milliseconds (a number)",
                milliseconds,
            ),
            force_status: by_path(
                top,
                "force_status",
                "a status (100..999), or 0 for none",
                |value| {
                    let status = value.as_u64()?;
                    matches!(status, 0 | 100..=999).then_some(status as u16)
                },
            ),
            events: objects(top, "events", EventSpec::read),
            faults: objects(top, "faults", FaultSpec::read),
            identity_document: top
                .entries("identity_document")
                .map(|(key, value)| (key.to_owned(), value.clone()))
                .collect(),
            metadata_changes: changes(top, "metadata"),
            dynamic_changes: changes(top, "dynamic"),
            rules: Rules {
                guarded: matches!(role, Some(RoleSource::Sts(_))),
                allow_from: allow_from(top),
                allowed_hosts: (top.lines("allowed_hosts").iter())
                    .map(|host| host.trim_end_matches('.').to_ascii_lowercase())
                    .collect(),
            },
            role,
            raw: without_secrets(top.values()),
            facts,
        }
    }

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
            ("instance_metadata_tags", json!("enabled")),
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

fn known_keys() -> Vec<&'static str> {
    static KEYS: std::sync::LazyLock<Vec<String>> = std::sync::LazyLock::new(|| {
        let tables = META_DATA.iter().chain(DYNAMIC).map(Category::key);
        tables
            .chain(OTHER_KEYS.iter().map(|key| key.to_string()))
            .collect()
    });
    KEYS.iter().map(String::as_str).collect()
}

/// Every key of config.json, sorted: for the tests that hold the documents to it.
pub fn keys() -> Vec<&'static str> {
    let mut keys = known_keys();
    keys.sort_unstable();
    keys
}

/// Whether `name` can be one segment of a path that clients ask for as it stands: the characters
/// of RFC 3986 that need no escape, without `;`, behind which the path is cut.
pub fn is_segment(name: &str) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,=:@".contains(&b);
    !matches!(name, "" | "." | "..") && name.bytes().all(legal)
}

/// Notes a problem with an entry's name that could not be asked for.
fn check_name(section: &Section, key: &str, name: &str) -> bool {
    let legal = is_segment(name);
    if !legal {
        let what =
            format!("{name:?} cannot be part of a path: letters, digits and -._~!$&'()*+,=:@ can");
        section.problem(key, what);
    }
    legal
}

fn milliseconds(value: &Value) -> Option<Duration> {
    let ms = value.as_f64()?;
    let delay = Duration::try_from_secs_f64(ms.max(0.0) / 1000.0);
    Some(delay.unwrap_or(MAX_DELAY).min(MAX_DELAY))
}

/// An object from path to something; `null` entries are not configured.
fn by_path<T>(
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

/// The object with its secrets made null.
fn without_secrets(raw: &Map<String, Value>) -> Map<String, Value> {
    let mut raw = raw.clone();
    if let Some(role) = raw.get_mut("role") {
        role::without_secrets(role);
    }
    raw
}

/// An array of objects.
fn objects<T>(top: &Section, key: &str, read: fn(&Section) -> Option<T>) -> Vec<T> {
    (top.items(key).into_iter())
        .filter_map(|(place, item)| read(&Section::of(place, item, top.report)?))
        .collect()
}

fn allow_from(top: &Section) -> Vec<IpNet> {
    let mut networks = Vec::new();
    for text in top.lines("allow_from") {
        match facts::parse_network(&text) {
            Some(network) => networks.push(network),
            None => {
                let what =
                    format!("expected a network such as 10.0.0.0/8 or an address, found {text:?}");
                top.problem("allow_from", what);
            }
        }
    }
    networks
}

fn hop_limit(top: &Section) -> Option<u8> {
    let key = "http_put_response_hop_limit";
    let limit = top.number(key)?;
    if !(1..=64).contains(&limit) {
        top.problem(key, format!("expected 1..64, found {limit}"));
    }
    Some(limit as u8)
}

/// The keys of EC2: a plain text has its comment for a name, else `key-N` (design, D5). Clients
/// split `N=NAME` at the `=`.
fn ssh_public_keys(top: &Section) -> Vec<SshKey> {
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
                section.warn_unknown(&["name", "openssh_key"]);
                let name =
                    section.parsed("name", "a name without =", |name| Some(name).filter(legal));
                match section.any_text("openssh_key") {
                    Some(key) => keys.push(SshKey {
                        name: name.map_or(format!("key-{index}"), str::to_owned),
                        openssh_key: key.to_owned(),
                    }),
                    None => section.problem("openssh_key", "missing: the public key's text"),
                }
            }
        }
    }
    keys
}

fn user_data(top: &Section, directory: &Path) -> Option<Vec<u8>> {
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

/// Tags as metadata can show them (reference/imds.md, section 11). A tag's value may be empty.
fn tags(top: &Section) -> BTreeMap<String, String> {
    let mut tags = BTreeMap::new();
    for (name, value) in top.entries("tags") {
        let legal = |b: u8| b.is_ascii_alphanumeric() || b"+-=.,_:@".contains(&b);
        match value.as_str() {
            _ if matches!(name, "" | "." | ".." | "_index") || !name.bytes().all(legal) => {
                let what = format!(
                    "{name:?}: a tag shown in metadata has letters, digits and +-=.,_:@ only, and is not . or .. or _index"
                );
                top.problem("tags", what);
            }
            Some(text) => drop(tags.insert(name.to_owned(), text.to_owned())),
            None if value.is_null() => {}
            None => top.expected_entry("tags", name, "a text", value),
        }
    }
    tags
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

fn changes(top: &Section, key: &str) -> Changes {
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
