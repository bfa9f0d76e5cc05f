//! config.json as a whole: read section by section, with the flags that override it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::time::Duration;

use ipnet::IpNet;
use serde_json::{Map, Value, json};

use super::category::{self, DYNAMIC, INTERFACE, META_DATA, Values};
use super::event::EventSpec;
use super::facts::{self, Facts, Interface};
use super::fault::{FaultSpec, as_status};
use super::given::{SshKey, ssh_public_keys, tags, user_data};
use super::paths::{Changes, by_path, changes};
use super::report::{Problem, Report, Section};
use super::role;
use crate::access::Rules;
use crate::role::{RoleArn, Source as RoleSource};

/// A flag that stands for a key of the object `role`.
#[derive(Clone, Debug)]
pub struct Flag {
    /// As on the command line: `--role-arn`.
    pub name: &'static str,
    pub role_key: &'static str,
    pub value: Value,
}

/// The longest delay: longer ones, and what is beyond a `Duration`, mean a day.
const MAX_DELAY: Duration = Duration::from_secs(24 * 60 * 60);

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
    /// `None` when tags are not allowed in metadata.
    pub tags: Option<BTreeMap<String, String>>,
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
    pub(super) raw: Map<String, Value>,
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
        if is_aemm(&raw) {
            report.problem("", "a file of amazon-ec2-metadata-mock (AEMM), whose format is another; \"imds_mock import FILE\", which makes a configuration of it, comes with a later version");
            return Err(report.problems.into_inner());
        }
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
        top.warn_unknown();
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
        let section = top.section("role");
        let arn = section.as_ref().and_then(role::arn);
        let sections = top.sections("network_interfaces");
        let facts = Facts::read(top, &sections, arn.as_ref().map(RoleArn::account));
        let role = section.as_ref().and_then(|section| {
            role::read(section, arn.as_ref(), &facts.region, &facts.instance_id)
        });
        let nothing = Map::new();
        let nothing = Section::new("", &nothing, top.report);
        let interfaces = (facts.interfaces.iter())
            .map(|interface| {
                let section = sections.get(interface.index).unwrap_or(&nothing);
                let values = category::read_all(INTERFACE, section, interface);
                section.warn_unknown();
                values
            })
            .collect();
        Config {
            meta_data: category::read_all(META_DATA, top, &facts),
            dynamic: category::read_all(DYNAMIC, top, &facts),
            interfaces,
            ssh_public_keys: ssh_public_keys(top),
            user_data: user_data(top, directory),
            tags: tags(top),
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
                |value| match value.as_u64()? {
                    0 => Some(0),
                    number => as_status(number),
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
                guarded: role.as_ref().is_some_and(|role| role.spec().is_some()),
                allow_from: allow_from(top),
                allowed_hosts: (top.lines("allowed_hosts").iter())
                    .map(|host| host.trim_end_matches('.').to_ascii_lowercase())
                    .collect(),
            },
            role,
            raw: without_secrets(top, section.as_ref()),
            facts,
        }
    }
}

/// Every key of config.json, sorted: for the tests that hold the documents to it.
pub fn keys() -> BTreeSet<String> {
    let (nothing, report) = (Map::new(), Report::default());
    let top = Section::new("", &nothing, &report);
    Config::read(&top, Path::new(""));
    top.asked()
}

/// Whether it is a configuration of amazon-ec2-metadata-mock.
fn is_aemm(raw: &Map<String, Value>) -> bool {
    let has = |key: &str, inner: &str| raw.get(key).is_some_and(|value| value[inner].is_object());
    has("metadata", "values") || has("metadata", "paths") || has("userdata", "values")
}

fn milliseconds(value: &Value) -> Option<Duration> {
    let ms = value.as_f64()?;
    let delay = Duration::try_from_secs_f64(ms.max(0.0) / 1000.0);
    Some(delay.unwrap_or(MAX_DELAY).min(MAX_DELAY))
}

/// The object with its secrets made null, and without what is ignored.
fn without_secrets(top: &Section, role: Option<&Section>) -> Map<String, Value> {
    let mut raw = top.values().clone();
    let known = top.asked();
    raw.retain(|key, _| known.contains(key));
    if let Some(role) = role {
        raw.insert("role".into(), role::without_secrets(role).into());
    }
    raw
}

/// An array of objects.
fn objects<T>(top: &Section, key: &str, read: fn(&Section) -> Option<T>) -> Vec<T> {
    top.sections(key).iter().filter_map(read).collect()
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
    let hops = u8::try_from(limit)
        .ok()
        .filter(|hops| (1..=64).contains(hops));
    if hops.is_none() {
        top.problem(key, format!("expected 1..64, found {limit}"));
    }
    hops
}
