//! What follows from a region's name: its partition, the domain of its services, zone names and
//! ids, host names.

use std::net::Ipv4Addr;

/// A partition of AWS: name as in ARNs, and the DNS domain of its services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    pub name: &'static str,
    pub domain: &'static str,
}

/// Partitions with what their region names begin with (docs/reference/sts.md, "Endpoint"). The
/// commercial one is last: others share its beginnings.
const PARTITIONS: [(Partition, &[&str]); 8] = [
    (Partition::new("aws-cn", "amazonaws.com.cn"), &["cn"]),
    (Partition::new("aws-us-gov", "amazonaws.com"), &["us-gov"]),
    (Partition::new("aws-iso", "c2s.ic.gov"), &["us-iso"]),
    (Partition::new("aws-iso-b", "sc2s.sgov.gov"), &["us-isob"]),
    (Partition::new("aws-iso-e", "cloud.adc-e.uk"), &["eu-isoe"]),
    (Partition::new("aws-iso-f", "csp.hci.ic.gov"), &["us-isof"]),
    (
        Partition::new("aws-eusc", "amazonaws.eu"),
        &["eusc-de", "eusc"],
    ),
    (
        Partition::new("aws", "amazonaws.com"),
        &["us", "eu", "ap", "sa", "ca", "me", "af", "il", "mx"],
    ),
];

impl Partition {
    const fn new(name: &'static str, domain: &'static str) -> Partition {
        Partition { name, domain }
    }
}

/// The partition of a region, also of one that nobody but its user knows: `aws` unless the name
/// says otherwise.
pub fn partition(region: &str) -> Partition {
    let (commercial, others) = PARTITIONS.split_last().expect("there are eight");
    let begins = |start: &str| {
        region
            .strip_prefix(start)
            .is_some_and(|rest| rest.starts_with('-'))
    };
    let named = others
        .iter()
        .find(|(_, starts)| starts.iter().any(|start| begins(start)));
    named.unwrap_or(commercial).0
}

/// The partition of a region of AWS's form, `START-WORD-NUMBER`; `None` for any other name, where
/// no service of AWS can be.
pub fn partition_of_aws_region(region: &str) -> Option<Partition> {
    (PARTITIONS.iter())
        .find(|(_, starts)| starts.iter().any(|start| is_region_of(start, region)))
        .map(|(partition, _)| *partition)
}

/// Whether `region` is `start-WORD-NUMBER`.
fn is_region_of(start: &str, region: &str) -> bool {
    region
        .strip_prefix(start)
        .and_then(|rest| rest.strip_prefix('-')?.split_once('-'))
        .is_some_and(|(word, number)| {
            !word.is_empty()
                && word.bytes().all(|b| b.is_ascii_alphanumeric())
                && !number.is_empty()
                && number.bytes().all(|b| b.is_ascii_digit())
        })
}

/// The region of a zone: up to and with its first number (`us-east-1a`, `us-west-2-lax-1a`).
pub fn region_of(zone: &str) -> String {
    let number = zone.find(|c: char| c.is_ascii_digit());
    let end = number.map_or(zone.len(), |start| {
        let digits = zone[start..].bytes().take_while(u8::is_ascii_digit);
        start + digits.count()
    });
    zone[..end].to_owned()
}

/// The zone's id in EC2's form: `use1-az1`, of a Local Zone `usw2-lax1-az1`, of a Wavelength Zone
/// `use1-wl1-bos-wlz1`. Which zone of an account has which
/// number is not public; the letter's place in the alphabet is taken.
pub fn zone_id(zone: &str) -> String {
    let region = region_of(zone);
    let mut parts = region.split('-');
    let mut short: String = parts.next().unwrap_or_default().chars().take(2).collect();
    for part in parts {
        // `southeast` is `se`, `central` is `c`, `gov` is `g`, `1` stays.
        let second = ["east", "west"].iter().find_map(|half| {
            part.strip_suffix(half)
                .filter(|rest| !rest.is_empty())
                .map(|_| &half[..1])
        });
        match part.bytes().all(|b| b.is_ascii_digit()) {
            true => short.push_str(part),
            false => short.extend(part.chars().take(1).chain(second.unwrap_or("").chars())),
        }
    }
    let rest = &zone[region.len()..];
    if let Some((carrier, number)) = rest.rsplit_once("-wlz-") {
        return format!("{short}{carrier}-wlz{number}");
    }
    let (local, letter) = rest.split_at(
        rest.trim_end_matches(|c: char| c.is_ascii_lowercase())
            .len(),
    );
    let local = local.trim_start_matches('-').replace('-', "");
    let number = letter
        .bytes()
        .next_back()
        .map_or(1, |letter| letter - b'a' + 1);
    match local.as_str() {
        "" => format!("{short}-az{number}"),
        local => format!("{short}-{local}-az{number}"),
    }
}

/// The suffix of private host names (docs/reference/metadata.md, "Host names").
pub fn private_suffix(region: &str) -> String {
    match region {
        "us-east-1" => "ec2.internal".to_owned(),
        _ => format!("{region}.compute.internal"),
    }
}

/// `ip-10-0-0-10` and the like: an address as the label of a host name.
pub fn address_label(prefix: &str, address: Ipv4Addr) -> String {
    let [a, b, c, d] = address.octets();
    format!("{prefix}-{a}-{b}-{c}-{d}")
}

/// The public host name of an address (docs/reference/metadata.md, "Host names").
pub fn public_name(region: &str, address: Ipv4Addr) -> String {
    let label = address_label("ec2", address);
    match region {
        "us-east-1" => format!("{label}.compute-1.amazonaws.com"),
        _ => format!("{label}.{region}.compute.{}", partition(region).domain),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_tell_their_region_and_id() {
        for (zone, region, id) in [
            ("us-east-1a", "us-east-1", "use1-az1"),
            ("us-west-2d", "us-west-2", "usw2-az4"),
            ("eu-central-1b", "eu-central-1", "euc1-az2"),
            ("ap-southeast-2c", "ap-southeast-2", "apse2-az3"),
            ("ap-northeast-1a", "ap-northeast-1", "apne1-az1"),
            ("us-gov-west-1a", "us-gov-west-1", "usgw1-az1"),
            ("us-west-2-lax-1a", "us-west-2", "usw2-lax1-az1"),
            ("us-east-1-wl1-bos-wlz-1", "us-east-1", "use1-wl1-bos-wlz1"),
            ("eu-west-2-wl2-man-wlz-2", "eu-west-2", "euw2-wl2-man-wlz2"),
            ("antarc-north-1z", "antarc-north-1", "ann1-az26"),
            ("nowhere", "nowhere", "no-az1"),
        ] {
            assert_eq!(region_of(zone), region, "{zone}");
            assert_eq!(zone_id(zone), id, "{zone}");
        }
    }

    #[test]
    fn domains_follow_the_partition() {
        for (region, name, domain) in [
            ("us-east-1", "aws", "amazonaws.com"),
            ("cn-north-1", "aws-cn", "amazonaws.com.cn"),
            ("us-gov-west-1", "aws-us-gov", "amazonaws.com"),
            ("eusc-de-east-1", "aws-eusc", "amazonaws.eu"),
            ("antarctica-1", "aws", "amazonaws.com"),
        ] {
            assert_eq!(partition(region), Partition { name, domain });
        }
    }
}
