//! What follows from a region's name: its partition, the domain of its services, zone names and
//! ids, host names.

use std::net::Ipv4Addr;

/// A partition of AWS: name as in ARNs, and the DNS domain of its services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    pub name: &'static str,
    pub domain: &'static str,
}

/// Region prefixes (reference/credentials.md, section 1); `aws` for all others.
const PARTITIONS: [(&str, Partition); 7] = [
    (
        "cn-",
        Partition {
            name: "aws-cn",
            domain: "amazonaws.com.cn",
        },
    ),
    (
        "us-gov-",
        Partition {
            name: "aws-us-gov",
            domain: "amazonaws.com",
        },
    ),
    (
        "us-iso-",
        Partition {
            name: "aws-iso",
            domain: "c2s.ic.gov",
        },
    ),
    (
        "us-isob-",
        Partition {
            name: "aws-iso-b",
            domain: "sc2s.sgov.gov",
        },
    ),
    (
        "eu-isoe-",
        Partition {
            name: "aws-iso-e",
            domain: "cloud.adc-e.uk",
        },
    ),
    (
        "us-isof-",
        Partition {
            name: "aws-iso-f",
            domain: "csp.hci.ic.gov",
        },
    ),
    (
        "eusc-",
        Partition {
            name: "aws-eusc",
            domain: "amazonaws.eu",
        },
    ),
];

/// The partition of a region.
pub fn partition(region: &str) -> Partition {
    let commercial = Partition {
        name: "aws",
        domain: "amazonaws.com",
    };
    PARTITIONS
        .iter()
        .find(|(prefix, _)| region.starts_with(prefix))
        .map_or(commercial, |(_, partition)| *partition)
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

/// The zone's id in EC2's form: `use1-az1`, `usw2-lax1-az1`. Which zone of an account has which
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

/// The suffix of private host names (reference/imds.md, section 11).
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

/// The public host name of an address (reference/imds.md, section 11).
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
        ] {
            assert_eq!(partition(region), Partition { name, domain });
        }
    }
}
