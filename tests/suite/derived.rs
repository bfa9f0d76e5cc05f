//! What follows from what is configured: names, blocks and ids of interfaces, the domain of a
//! partition, zone and region from each other (docs/reference/metadata.md, "Host
//! names").

use crate::common::Mock;
use serde_json::{Value, json};

/// The values at `paths` below `meta-data/`, a missing one as the empty text.
fn values(config: &Value, paths: &[&str]) -> Vec<String> {
    let mock = Mock::start(config);
    let value = |path: &&str| {
        let answer = mock.get(&format!("/latest/meta-data/{path}"));
        match answer.status {
            200 => answer.text().to_owned(),
            status => {
                assert_eq!(status, 404, "{path}");
                String::new()
            }
        }
    };
    paths.iter().map(value).collect()
}

#[test]
fn host_names_follow_from_addresses_and_region() {
    let paths = ["hostname", "local-hostname", "public-hostname"];
    for (config, expected) in [
        (
            json!({"local_ipv4": "10.24.34.0", "public_ipv4": "203.0.113.25"}),
            [
                "ip-10-24-34-0.ec2.internal",
                "ec2-203-0-113-25.compute-1.amazonaws.com",
            ],
        ),
        (
            json!({"local_ipv4": "10.24.34.0", "public_ipv4": "203.0.113.25", "region": "eu-west-3"}),
            [
                "ip-10-24-34-0.eu-west-3.compute.internal",
                "ec2-203-0-113-25.eu-west-3.compute.amazonaws.com",
            ],
        ),
        (
            json!({"instance_id": "i-1", "ipv6": "2001:db8::1", "region": "us-west-2"}),
            ["i-1.us-west-2.compute.internal", ""],
        ),
    ] {
        let [private, public] = expected;
        assert_eq!(
            values(&config, &paths),
            [private, private, public],
            "{config}"
        );
    }
}

#[test]
fn zone_and_region_follow_from_each_other_and_may_disagree() {
    let paths = ["placement/region", "placement/availability-zone"];
    for (config, expected) in [
        (json!({}), ["us-east-1", "us-east-1a"]),
        (json!({"region": "eu-west-3"}), ["eu-west-3", "eu-west-3a"]),
        (
            json!({"availability_zone": "ap-southeast-2c"}),
            ["ap-southeast-2", "ap-southeast-2c"],
        ),
        (
            json!({"region": "antarctica-1", "availability_zone": "antarc-north-1z"}),
            ["antarctica-1", "antarc-north-1z"],
        ),
    ] {
        assert_eq!(values(&config, &paths), expected, "{config}");
    }
}

#[test]
fn domain_and_partition_follow_from_the_region() {
    for (region, partition, domain) in [
        ("us-east-1", "aws", "amazonaws.com"),
        ("cn-north-1", "aws-cn", "amazonaws.com.cn"),
        ("us-gov-west-1", "aws-us-gov", "amazonaws.com"),
        ("us-iso-east-1", "aws-iso", "c2s.ic.gov"),
        ("us-isob-east-1", "aws-iso-b", "sc2s.sgov.gov"),
        ("antarctica-1", "aws", "amazonaws.com"),
    ] {
        let found = values(
            &json!({"region": region}),
            &["services/partition", "services/domain"],
        );
        assert_eq!(found, [partition, domain], "{region}");
    }
}

#[test]
fn every_interface_has_its_directory_and_its_values() {
    let config = json!({
        "account_id": "111122223333",
        "network_interfaces": [
            {
                "mac": "02:00:00:00:00:0A",
                "local_ipv4s": ["10.1.2.3", "10.1.2.4"],
                "public_ipv4s": ["192.0.2.1", "192.0.2.2"],
                "ipv6s": ["2001:db8:1:2::1", "2001:db8:1:2::2"],
                "security_groups": ["web", "ssh"],
            },
            {
                "mac": "02:00:00:00:00:0b", "device_number": 4, "network_card": 1,
                "local_ipv4s": ["10.1.99.9"], "subnet_ipv4_cidr_block": "10.1.99.0/24",
                "vpc_ipv4_cidr_blocks": ["10.1.0.0/16", "10.2.0.0/16"],
                "ipv4_prefix": ["10.1.99.16/28"],
            },
            {"mac": "02:00:00:00:00:0c"},
        ],
    });
    let mock = Mock::start(&config);
    let root = "/latest/meta-data/network/interfaces/macs/";
    assert_eq!(
        mock.text(root),
        "02:00:00:00:00:0a/\n02:00:00:00:00:0b/\n02:00:00:00:00:0c/"
    );
    let text = |nic: char, name: &str| mock.text(&format!("{root}02:00:00:00:00:0{nic}/{name}"));
    for (nic, name, value) in [
        ('a', "mac", "02:00:00:00:00:0a"),
        ('a', "device-number", "0"),
        ('a', "local-ipv4s", "10.1.2.3\n10.1.2.4"),
        ('a', "public-ipv4s", "192.0.2.1\n192.0.2.2"),
        ('a', "ipv4-associations/", "192.0.2.1\n192.0.2.2"),
        ('a', "ipv4-associations/192.0.2.1", "10.1.2.3"),
        ('a', "ipv4-associations/192.0.2.2", "10.1.2.4"),
        ('a', "ipv6s", "2001:db8:1:2::1\n2001:db8:1:2::2"),
        ('a', "subnet-ipv6-cidr-blocks", "2001:db8:1:2::/64"),
        ('a', "vpc-ipv6-cidr-blocks", "2001:db8:1::/56"),
        ('a', "security-groups", "web\nssh"),
        ('a', "owner-id", "111122223333"),
        ('a', "subnet-ipv4-cidr-block", "10.1.0.0/20"),
        ('a', "vpc-ipv4-cidr-block", "10.1.0.0/16"),
        ('a', "local-hostname", "ip-10-1-2-3.ec2.internal"),
        (
            'a',
            "public-hostname",
            "ec2-192-0-2-1.compute-1.amazonaws.com",
        ),
        ('b', "device-number", "4"),
        ('b', "network-card", "1"),
        ('b', "subnet-ipv4-cidr-block", "10.1.99.0/24"),
        ('b', "vpc-ipv4-cidr-block", "10.1.0.0/16"),
        ('b', "vpc-ipv4-cidr-blocks", "10.1.0.0/16\n10.2.0.0/16"),
        ('b', "ipv4-prefix", "10.1.99.16/28"),
        ('b', "local-hostname", "ip-10-1-99-9.ec2.internal"),
        ('c', "device-number", "2"),
    ] {
        assert_eq!(text(nic, name), value, "{nic} {name}");
    }
    assert_eq!(text('a', "security-group-ids").lines().count(), 2);
    assert_ne!(text('a', "interface-id"), text('b', "interface-id"));
    assert_eq!(
        text('a', "vpc-id"),
        text('b', "vpc-id"),
        "one instance is in one VPC"
    );
    for absent in [
        "local-ipv4s",
        "ipv4-associations",
        "public-hostname",
        "ipv6s",
    ] {
        let path = format!("{root}02:00:00:00:00:0c/{absent}");
        assert_eq!(mock.get(&path).status, 404, "{absent}");
    }
    // The first one is what the top speaks of.
    for (name, value) in [
        ("mac", "02:00:00:00:00:0a"),
        ("local-ipv4", "10.1.2.3"),
        ("public-ipv4", "192.0.2.1"),
        ("ipv6", "2001:db8:1:2::1"),
        ("security-groups", "web\nssh"),
        ("local-hostname", "ip-10-1-2-3.ec2.internal"),
        ("public-hostname", "ec2-192-0-2-1.compute-1.amazonaws.com"),
    ] {
        assert_eq!(
            mock.text(&format!("/latest/meta-data/{name}")),
            value,
            "{name}"
        );
    }
}

#[test]
fn keys_are_named_by_their_comment_or_their_index() {
    let mock = Mock::start(&json!({"ssh_public_keys": [
        "ssh-ed25519 AAAA admin@example",
        "ssh-rsa BBBB",
        "ssh-rsa CCCC a=b",
        {"openssh_key": "ssh-rsa DDDD comment"},
        {"name": "named", "openssh_key": "ssh-rsa EEEE\n"},
        "ssh-rsa FFFF two words",
    ]}));
    let listing = mock.text("/latest/meta-data/public-keys/");
    let mut lines = listing.lines();
    assert_eq!(lines.next(), Some("0=admin@example"));
    assert_eq!(lines.next(), Some("1=key-1"));
    assert_eq!(
        lines.next(),
        Some("2=key-2"),
        "clients split at the first ="
    );
    assert!(lines.next().is_some_and(|line| line.starts_with("3=")));
    assert_eq!(lines.next(), Some("4=named"));
    assert!(lines.next().is_some_and(|line| line.starts_with("5=")));
    // Clients split each line in two at its `=`.
    assert!(
        listing.lines().all(|line| line.matches('=').count() == 1),
        "{listing}"
    );
    for (index, key) in [
        (0, "ssh-ed25519 AAAA admin@example\n"),
        (2, "ssh-rsa CCCC a=b\n"),
    ] {
        let path = format!("/latest/meta-data/public-keys/{index}/openssh-key");
        assert_eq!(mock.text(&path), key);
    }
    assert_eq!(mock.text("/latest/meta-data/public-keys/5/"), "openssh-key");
}

#[test]
fn more_than_ten_keys_are_listed_in_their_order() {
    let keys: Vec<String> = (0..12).map(|n| format!("ssh-rsa A{n}")).collect();
    let mock = Mock::start(&json!({"ssh_public_keys": keys}));
    let expected: Vec<String> = (0..12).map(|n| format!("{n}=key-{n}")).collect();
    assert_eq!(
        mock.text("/latest/meta-data/public-keys/"),
        expected.join("\n")
    );
}

#[test]
fn paths_are_set_and_removed_beyond_the_categories() {
    let mock = Mock::start(&json!({
        "metadata": {
            "instance-id": "i-other", "custom/deep/leaf": "x", "profile": null,
            "services": null, "fleet/": null,
            "metrics/vhostmd": null, "metrics": "a leaf now",
            "public-keys/7/openssh-key": "ssh-rsa Z", "absent/already": null,
        },
        "dynamic": {"instance-identity/pkcs7": null, "more/of/it": "y"},
    }));
    for (path, value) in [
        ("meta-data/instance-id", "i-other"),
        ("meta-data/custom", "deep/"),
        ("meta-data/custom/deep/leaf", "x"),
        ("meta-data/metrics", "a leaf now"),
        ("meta-data/public-keys", "7=key-7"),
        ("dynamic", "instance-identity/\nmore/"),
    ] {
        assert_eq!(mock.text(&format!("/latest/{path}")), value, "{path}");
    }
    for path in [
        "meta-data/profile",
        "meta-data/services",
        "meta-data/services/domain",
        "meta-data/metrics/vhostmd",
        "dynamic/instance-identity/pkcs7",
        "meta-data/absent",
    ] {
        assert_eq!(mock.get(&format!("/latest/{path}")).status, 404, "{path}");
    }
    let names = mock.text("/latest/meta-data/");
    for gone in ["profile", "services/", "metrics/", "absent/"] {
        assert!(!names.lines().any(|name| name == gone), "{gone}");
    }
}
