//! What other values follow from: names, region, account, and the network interfaces. A value that
//! stands in two places of the configuration must be the same in both.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use sha2::{Digest, Sha256};

use super::report::Section;
use crate::region;

/// Facts about the whole instance.
pub struct Facts {
    pub instance_id: String,
    pub instance_type: String,
    pub architecture: String,
    pub account_id: String,
    pub region: String,
    pub zone: String,
    pub hostname: String,
    /// Never empty.
    pub interfaces: Vec<Interface>,
}

/// Facts about one network interface.
#[derive(Clone)]
pub struct Interface {
    /// Its place in `network_interfaces`.
    pub index: usize,
    pub mac: String,
    pub account_id: String,
    pub local_ipv4s: Vec<Ipv4Addr>,
    pub public_ipv4s: Vec<Ipv4Addr>,
    pub ipv6s: Vec<Ipv6Addr>,
    /// Empty where it has no address: an interface for EFA only.
    pub local_hostname: String,
    pub public_hostname: Option<String>,
    pub security_groups: Vec<String>,
    pub subnet_ipv4_block: Option<String>,
    pub vpc_ipv4_block: String,
}

/// An id in EC2's form, 17 hex digits that `of` alone decides: the same after every restart.
pub fn stable_id(prefix: &str, of: &str) -> String {
    let digest = Sha256::digest(format!("{prefix}:{of}"));
    let hex: String = digest.iter().take(9).map(|b| format!("{b:02x}")).collect();
    format!("{prefix}-{}", &hex[..17])
}

impl Facts {
    /// Reads the facts from the top of a configuration and its `network_interfaces`. `role_account` is the account that a
    /// role's ARN names.
    pub(super) fn read(top: &Section, interfaces: &[Section], role_account: Option<&str>) -> Facts {
        let text = |key: &str| top.text(key).map(str::to_owned);
        let name = |key: &str| {
            top.parsed(key, "a name without slashes", |text| {
                let legal = |c: char| c != '/' && !c.is_control() && !c.is_whitespace();
                text.chars().all(legal).then(|| text.to_owned())
            })
        };
        let (zone, region) = (name("availability_zone"), name("region"));
        let region = match (region, &zone) {
            (Some(region), _) => region,
            (None, Some(zone)) => region::region_of(zone),
            (None, None) => "us-east-1".to_owned(),
        };
        let instance_id = name("instance_id").unwrap_or_else(|| "i-0123456789abcdef0".to_owned());
        let mut facts = Facts {
            instance_type: text("instance_type").unwrap_or_else(|| "t3.micro".to_owned()),
            architecture: text("architecture").unwrap_or_else(|| "x86_64".to_owned()),
            account_id: text("account_id")
                .or_else(|| role_account.map(str::to_owned))
                .unwrap_or_else(|| "123456789012".to_owned()),
            zone: zone.unwrap_or_else(|| format!("{region}a")),
            hostname: String::new(),
            interfaces: Vec::new(),
            instance_id,
            region,
        };
        for (index, section) in interfaces.iter().enumerate() {
            let interface = facts.interface(index, Some(section), top);
            facts.interfaces.push(interface);
        }
        if facts.interfaces.is_empty() {
            facts.interfaces.push(facts.interface(0, None, top));
        }
        facts.refuse_twins(top);
        facts.hostname =
            text("hostname").unwrap_or_else(|| facts.device_0().local_hostname.clone());
        facts
    }

    /// The first interface, whose values the top level repeats.
    pub fn device_0(&self) -> &Interface {
        &self.interfaces[0]
    }

    /// An id that follows from the instance id.
    pub fn id(&self, prefix: &str) -> String {
        stable_id(prefix, &self.instance_id)
    }

    /// Capital letters and digits as in AWS's own ids, that follow from the instance id.
    pub fn letters(&self, of: &str, length: usize) -> String {
        const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
        let block = |n: usize| Sha256::digest(format!("{of}:{n}:{}", self.instance_id));
        (0..length.div_ceil(32))
            .flat_map(block)
            .take(length)
            .map(|byte| char::from(ALPHABET[usize::from(byte % 32)]))
            .collect()
    }

    /// The address of an instance that was given none: in the default VPC's block, in one of its
    /// subnets of 4096, beside the first four and the last that AWS keeps for itself.
    fn private_ipv4(&self) -> Ipv4Addr {
        let digest = Sha256::digest(format!("ipv4:{}", self.instance_id));
        let drawn = u16::from_be_bytes([digest[0], digest[1]]);
        let (subnet, host) = (drawn & 0xf000, 4 + (drawn & 0x0fff) % (4096 - 5));
        let [high, low] = (subnet | host).to_be_bytes();
        Ipv4Addr::new(172, 31, high, low)
    }

    fn interface(&self, index: usize, own: Option<&Section>, top: &Section) -> Interface {
        // The top level speaks of the first interface only.
        let top = (index == 0).then_some(top);
        let mac = both(
            own.map(|s| (s, "mac")),
            top.map(|s| (s, "mac")),
            |section, key| {
                section.parsed(key, "a MAC address such as 02:00:00:00:00:01", parse_mac)
            },
        );
        let mac = mac.unwrap_or_else(|| {
            let digest = Sha256::digest(format!("mac:{}:{index}", self.instance_id));
            let tail: String = digest.iter().take(5).map(|b| format!(":{b:02x}")).collect();
            format!("02{tail}")
        });
        let mut local_ipv4s = addresses(own, "local_ipv4s", top, "local_ipv4", "an IPv4 address");
        let ipv6s = addresses(own, "ipv6s", top, "ipv6", "an IPv6 address");
        let public_ipv4s = addresses(own, "public_ipv4s", top, "public_ipv4", "an IPv4 address");
        // A public address stands for a private one.
        if index == 0 && local_ipv4s.is_empty() && (ipv6s.is_empty() || !public_ipv4s.is_empty()) {
            local_ipv4s.push(self.private_ipv4());
        }
        let text = |section: &Section, key: &str| section.text(key).map(str::to_owned);
        let local_hostname = both(
            own.map(|s| (s, "local_hostname")),
            top.map(|s| (s, "local_hostname")),
            text,
        );
        let label = match local_ipv4s.first() {
            Some(address) => Some(region::address_label("ip", *address)),
            None => ipv6s.first().map(|_| self.instance_id.clone()),
        };
        let local_hostname = local_hostname
            .or_else(|| text(top?, "hostname"))
            .or_else(|| {
                Some(format!(
                    "{}.{}",
                    label?,
                    region::private_suffix(&self.region)
                ))
            });
        let public_hostname = both(
            own.map(|s| (s, "public_hostname")),
            top.map(|s| (s, "public_hostname")),
            text,
        );
        let lines =
            |section: &Section, key: &str| Some(section.lines(key)).filter(|l| !l.is_empty());
        let security_groups = both(
            own.map(|s| (s, "security_groups")),
            top.map(|s| (s, "security_groups")),
            lines,
        );
        let block = |key: &str| {
            own?.parsed(key, "an IPv4 block such as 172.31.0.0/16", |text| {
                text.parse::<Ipv4Net>().ok().map(|_| text.to_owned())
            })
        };
        let around = |bits: u8| {
            let net = Ipv4Net::new(*local_ipv4s.first()?, bits).ok()?;
            Some(net.trunc().to_string())
        };
        Interface {
            index,
            mac,
            account_id: self.account_id.clone(),
            public_hostname: public_hostname
                .or_else(|| Some(region::public_name(&self.region, *public_ipv4s.first()?))),
            ipv6s,
            local_hostname: local_hostname.unwrap_or_default(),
            security_groups: security_groups.unwrap_or_else(|| vec!["default".to_owned()]),
            subnet_ipv4_block: block("subnet_ipv4_cidr_block").or_else(|| around(20)),
            // An instance is in one VPC, whatever its other interfaces' addresses.
            vpc_ipv4_block: block("vpc_ipv4_cidr_block")
                .or_else(|| Some(self.interfaces.first()?.vpc_ipv4_block.clone()))
                .or_else(|| around(16))
                .unwrap_or_else(|| "172.31.0.0/16".to_owned()),
            local_ipv4s,
            public_ipv4s,
        }
    }

    /// Two interfaces with one MAC would be one directory.
    fn refuse_twins(&self, top: &Section) {
        let mut seen = BTreeMap::new();
        for interface in &self.interfaces {
            let place = |index| format!("network_interfaces[{index}].mac");
            if let Some(first) = seen.insert(&interface.mac, interface.index) {
                let what = format!("{:?} is also {}", interface.mac, place(first));
                top.report.problem(place(interface.index), what);
            }
        }
    }
}

impl Interface {
    /// An id that follows from the MAC address.
    pub fn id(&self, prefix: &str) -> String {
        stable_id(prefix, &self.mac)
    }

    /// An id for each group, the same on every interface.
    pub fn security_group_ids(&self) -> Vec<String> {
        let of = |name| stable_id("sg", &format!("{}:{name}", self.account_id));
        self.security_groups.iter().map(of).collect()
    }

    pub fn subnet_id(&self) -> String {
        let block = self.subnet_ipv4_block.as_ref();
        stable_id("subnet", block.unwrap_or(&self.account_id))
    }

    pub fn vpc_id(&self) -> String {
        stable_id(
            "vpc",
            &format!("{}:{}", self.account_id, self.vpc_ipv4_block),
        )
    }

    /// The IPv6 blocks of `bits` that its addresses lie in.
    pub fn ipv6_blocks(&self, bits: u8) -> Vec<String> {
        let block =
            |address: &Ipv6Addr| Ipv6Net::new(*address, bits).map(|net| net.trunc().to_string());
        let mut blocks: Vec<String> = self.ipv6s.iter().flat_map(block).collect();
        blocks.dedup();
        blocks
    }

    /// Public addresses with the private one behind each, in the order given.
    pub fn associations(&self) -> BTreeMap<String, String> {
        let private = self.local_ipv4s.iter().chain(std::iter::repeat_n(
            self.local_ipv4s.first().unwrap_or(&Ipv4Addr::UNSPECIFIED),
            self.public_ipv4s.len(),
        ));
        (self.public_ipv4s.iter().zip(private))
            .filter(|(_, private)| !private.is_unspecified())
            .map(|(public, private)| (public.to_string(), private.to_string()))
            .collect()
    }

    pub fn texts(addresses: &[impl ToString]) -> Vec<String> {
        addresses.iter().map(ToString::to_string).collect()
    }
}

/// A value that may stand in two places: what `read` finds, and a problem naming both places if
/// they differ.
fn both<T: PartialEq>(
    own: Option<(&Section, &str)>,
    top: Option<(&Section, &str)>,
    read: impl Fn(&Section, &str) -> Option<T>,
) -> Option<T> {
    let find = |at: Option<(&Section, &str)>| {
        let (section, key) = at?;
        Some((read(section, key)?, section.place(key)))
    };
    match (find(own), find(top)) {
        (Some((ours, place)), Some((theirs, top))) => {
            if let (false, Some((section, _))) = (ours == theirs, own) {
                let what = format!("differs from {top}: both speak of the first interface");
                section.report.problem(place, what);
            }
            Some(ours)
        }
        (found, other) => found.or(other).map(|(value, _)| value),
    }
}

/// The addresses of an interface; those of the first may be named by a key of the top level, which
/// is then the first of them.
fn addresses<A: std::str::FromStr + PartialEq + Clone + ToString>(
    own: Option<&Section>,
    own_key: &str,
    top: Option<&Section>,
    top_key: &str,
    expected: &str,
) -> Vec<A>
where
    IpAddr: From<A>,
{
    let mut listed: Vec<A> = Vec::new();
    if let Some(own) = own {
        for line in own.lines(own_key) {
            match line.parse() {
                Ok(address) => listed.push(address),
                Err(_) => own.problem(own_key, format!("expected {expected}, found {line:?}")),
            }
        }
    }
    let single: Option<A> = top.and_then(|top| top.parsed(top_key, expected, |t| t.parse().ok()));
    match (listed.first(), single) {
        (Some(first), Some(single)) if *first != single => {
            if let (Some(own), Some(top)) = (own, top) {
                let (first, single) = (first.to_string(), single.to_string());
                own.problem(own_key, format!(
                    "{first} is not {} ({single}): both speak of the first interface's first address",
                    top.place(top_key)
                ));
            }
        }
        (None, Some(single)) => listed.push(single),
        _ => {}
    }
    listed
}

fn parse_mac(text: &str) -> Option<String> {
    let groups: Vec<&str> = text.split(':').collect();
    let legal = |group: &&str| group.len() == 2 && group.bytes().all(|b| b.is_ascii_hexdigit());
    // EC2 shows lower case (tests/data/catalogue.json, meta-data/mac).
    (groups.len() == 6 && groups.iter().all(legal)).then(|| text.to_ascii_lowercase())
}

/// A network such as `10.0.0.0/8`, or one address.
pub(super) fn parse_network(text: &str) -> Option<IpNet> {
    let one = || text.parse::<IpAddr>().ok().map(IpNet::from);
    text.parse().ok().or_else(one)
}
