//! The catalogue of EC2's categories (tests/data/catalogue.json) in both directions: what it says
//! always exists does with `{}`, what has a condition exists exactly when it is configured, and
//! nothing else exists.

use std::collections::BTreeSet;

use crate::common::Mock;
use crate::common::catalogue::{Catalogue, ROLE_ARN, imaginary, mac_of, with_every_condition};
use crate::common::crawler::{crawl, named};
use serde_json::{Value, json};

/// The directory that lists `path`.
fn parent(path: &str) -> &str {
    let bare = path.strip_suffix('/').unwrap_or(path);
    &path[..bare.rfind('/').map_or(0, |slash| slash + 1)]
}

/// Whether the listing of the directory above names `path`, in the form of EC2.
fn is_listed(mock: &Mock, path: &str) -> bool {
    let above = mock.get(parent(path));
    above.status == 200
        && named(parent(path), above.text())
            .iter()
            .any(|name| name == path)
}

/// Served without being listed (docs/architecture.md, D4).
fn is_unlisted(path: &str) -> bool {
    path.ends_with("/iam/security-credentials-extended/")
}

#[test]
fn what_always_exists_does_with_an_empty_configuration() {
    let catalogue = Catalogue::read();
    let mock = Mock::start(&json!({}));
    let mac = mac_of(&mock);
    for entry in catalogue.always() {
        let path = catalogue.path(entry, &mac);
        let answer = mock.get(&path);
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.field("Content-Type"), Some("text/plain"), "{path}");
        assert!(
            path == "/" || is_listed(&mock, &path),
            "{path} is not listed"
        );
        assert!(!answer.body.is_empty(), "{path}");
    }
}

#[test]
fn what_has_a_condition_is_absent_from_an_empty_configuration() {
    let catalogue = Catalogue::read();
    let mock = Mock::start(&json!({}));
    let mac = mac_of(&mock);
    for entry in catalogue.conditional() {
        let path = catalogue.path(entry, &mac);
        assert_eq!(mock.get(&path).status, 404, "{path}");
        assert_eq!(mock.get(path.trim_end_matches('/')).status, 404, "{path}");
        // The one name that is listed whether it exists or not.
        let listed = path == "/latest/user-data";
        assert_eq!(is_listed(&mock, &path), listed, "{path}");
    }
}

#[test]
fn what_has_a_condition_exists_when_it_is_met() {
    let catalogue = Catalogue::read();
    let mock = Mock::start(&with_every_condition(imaginary(), &catalogue));
    let mac = mac_of(&mock);
    for entry in &catalogue.entries {
        let path = catalogue.path(entry, &mac);
        let answer = mock.get(&path);
        assert_eq!(answer.status, 200, "{path}");
        let content_type = match path.ends_with("/user-data") {
            true => "application/octet-stream",
            false => "text/plain",
        };
        assert_eq!(answer.field("Content-Type"), Some(content_type), "{path}");
        // What is below an unlisted directory is listed there, unless the directory names it.
        let listed = path == "/" || is_listed(&mock, &path);
        assert_eq!(listed, !is_unlisted(&path), "{path}");
    }
}

#[test]
fn nothing_exists_that_is_not_in_the_catalogue() {
    let catalogue = Catalogue::read();
    let every = with_every_condition(imaginary(), &catalogue);
    for (config, always_only) in [(json!({}), true), (every, false)] {
        let mock = Mock::start(&config);
        let mac = mac_of(&mock);
        let entries = catalogue.entries.iter();
        let mut expected: BTreeSet<String> = entries
            .filter(|entry| entry.always || !always_only)
            .map(|entry| catalogue.path(entry, &mac))
            .filter(|path| path.starts_with("/latest/"))
            .filter(|path| !path.contains("/security-credentials-extended/"))
            .collect();
        if !always_only {
            // The second tag; the catalogue has a placeholder for one.
            expected.insert("/latest/meta-data/tags/instance/Environment".into());
            // Named by its directory's example alone.
            let ocsp = "/latest/meta-data/managed-ssh-keys/signer-ocsp/";
            expected.insert(format!("{ocsp}{}", "0".repeat(64)));
        }
        let found: BTreeSet<String> = crawl(&mock, "/latest/").into_keys().collect();
        let missing: Vec<_> = expected.difference(&found).collect();
        let invented: Vec<_> = found.difference(&expected).collect();
        assert!(
            missing.is_empty() && invented.is_empty(),
            "{missing:?} {invented:?}"
        );
    }
}

/// A configuration and the paths below `meta-data/` (or from the root) that it alone adds to those
/// of `{}`. `{mac}` stands for the interface.
#[rustfmt::skip]
fn conditions() -> Vec<(Value, Vec<&'static str>)> {
    let nic = |key: &str, value: Value| json!({"network_interfaces": [{key: value}]});
    vec![
        (json!({"user_data": "x"}), vec!["/latest/user-data"]),
        (json!({"ancestor_ami_ids": ["ami-1"]}), vec!["ancestor-ami-ids"]),
        (json!({"autoscaling_target_lifecycle_state": "InService"}),
            vec!["autoscaling/", "autoscaling/target-lifecycle-state"]),
        (json!({"events": [{"type": "autoscaling-target-lifecycle-state", "state": "InService"}]}),
            vec!["autoscaling/", "autoscaling/target-lifecycle-state"]),
        (json!({"block_device_mapping": {"ebs1": "sdb"}}), vec!["block-device-mapping/ebs1"]),
        (json!({"block_device_mapping": {"ephemeral1": "sdb"}}), vec!["block-device-mapping/ephemeral1"]),
        (json!({"block_device_mapping": {"swap": "sdb"}}), vec!["block-device-mapping/swap"]),
        (json!({"elastic_gpus_associations": {"egpu-0123456789abcdef0": "{}"}}), vec![
            "elastic-gpus/", "elastic-gpus/associations/",
            "elastic-gpus/associations/egpu-0123456789abcdef0"]),
        (json!({"elastic_inference_associations": {"eia-bfa21c7904f64a82a21b9f4540169ce1": "{}"}}), vec![
            "elastic-inference/", "elastic-inference/associations/",
            "elastic-inference/associations/eia-bfa21c7904f64a82a21b9f4540169ce1"]),
        (json!({"events_recommendations_rebalance": "{}"}),
            vec!["events/recommendations/", "events/recommendations/rebalance"]),
        (json!({"events": [{"type": "rebalance-recommendation"}]}),
            vec!["events/recommendations/", "events/recommendations/rebalance"]),
        (json!({"hibernation_configured": "true"}), vec!["hibernation/", "hibernation/configured"]),
        (json!({"role": {"arn": ROLE_ARN, "code": "Failed"}}), vec![
            "iam/", "iam/info", "iam/security-credentials/", "iam/security-credentials/demo-role"]),
        (json!({"local_ipv4": "10.0.0.1", "ipv6": "2001:db8::1"}), vec![
            "ipv6", "network/interfaces/macs/{mac}/ipv6s",
            "network/interfaces/macs/{mac}/subnet-ipv6-cidr-blocks",
            "network/interfaces/macs/{mac}/vpc-ipv6-cidr-blocks"]),
        (json!({"kernel_id": "aki-1"}), vec!["kernel-id"]),
        (json!({"fws_instance_monitoring": "enabled"}),
            vec!["/latest/dynamic/fws/", "/latest/dynamic/fws/instance-monitoring"]),
        (json!({"outpost_arn": "arn:aws:outposts:x"}), vec!["outpost-arn"]),
        (json!({"managed_ssh_keys_signer_ocsp": {"00": "MIIB"}}), vec![
            "managed-ssh-keys/", "managed-ssh-keys/signer-ocsp/", "managed-ssh-keys/signer-ocsp/00"]),
        (json!({"managed_ssh_keys_signer_cert": "x"}),
            vec!["managed-ssh-keys/", "managed-ssh-keys/signer-cert"]),
        (json!({"managed_ssh_keys_active_keys": {"ec2-user": "x"}}), vec![
            "managed-ssh-keys/", "managed-ssh-keys/active-keys/",
            "managed-ssh-keys/active-keys/ec2-user"]),
        (json!({"local_ipv4": "10.0.0.1", "public_ipv4": "203.0.113.25"}), vec![
            "public-ipv4", "public-hostname",
            "network/interfaces/macs/{mac}/ipv4-associations/",
            "network/interfaces/macs/{mac}/ipv4-associations/203.0.113.25",
            "network/interfaces/macs/{mac}/public-hostname",
            "network/interfaces/macs/{mac}/public-ipv4s"]),
        (nic("ipv4_prefix", json!(["172.31.12.0/28"])), vec!["network/interfaces/macs/{mac}/ipv4-prefix"]),
        (nic("ipv6_prefix", json!(["2001:db8::/80"])), vec!["network/interfaces/macs/{mac}/ipv6-prefix"]),
        (nic("network_card", json!(0)), vec!["network/interfaces/macs/{mac}/network-card"]),
        (nic("network_card_index", json!(0)), vec!["network/interfaces/macs/{mac}/network-card-index"]),
        (json!({"placement_group_name": "g"}), vec!["placement/group-name"]),
        (json!({"placement_host_id": "h-1"}), vec!["placement/host-id"]),
        (json!({"placement_partition_number": 1}), vec!["placement/partition-number"]),
        (json!({"product_codes": ["x"]}), vec!["product-codes"]),
        (json!({"ssh_public_keys": ["ssh-rsa A"]}), vec![
            "public-keys/", "public-keys/0/", "public-keys/0/openssh-key"]),
        (json!({"ramdisk_id": "ari-1"}), vec!["ramdisk-id"]),
        (json!({"spot_instance_action": "{}"}), vec!["spot/", "spot/instance-action"]),
        (json!({"spot_termination_time": "x"}), vec!["spot/", "spot/termination-time"]),
        (json!({"events": [{"type": "spot-interruption", "action": "stop"}]}),
            vec!["spot/", "spot/instance-action"]),
        (json!({"events": [{"type": "spot-interruption", "action": "terminate"}]}),
            vec!["spot/", "spot/instance-action", "spot/termination-time"]),
        (json!({"tags": {"Name": "x"}}), vec![
            "tag-sets/", "tag-sets/instance", "tags/", "tags/instance/", "tags/instance/Name"]),
        (json!({"instance_metadata_tags": "enabled"}), vec!["tag-sets/", "tag-sets/instance"]),
        (json!({"tags": {"Name": "x"}, "instance_metadata_tags": "disabled"}), vec![]),
        (json!({"dynamic": {"instance-identity/dsa2048": "x"}}), vec!["/latest/dynamic/instance-identity/dsa2048"]),
    ]
}

#[test]
fn each_condition_adds_its_own_paths_and_no_others() {
    let plain: BTreeSet<String> = crawl(&Mock::start(&json!({})), "/latest/")
        .into_keys()
        .collect();
    let mac = "02:c4:56:bc:48:f7";
    let mut covered = BTreeSet::new();
    for (config, paths) in conditions() {
        let mock = Mock::start(&config);
        assert_eq!(
            mac_of(&mock),
            mac,
            "the MAC of an instance that is not configured"
        );
        let found: BTreeSet<String> = crawl(&mock, "/latest/").into_keys().collect();
        let added: BTreeSet<String> = found.difference(&plain).cloned().collect();
        let expected = paths.iter().map(|path| match path.starts_with('/') {
            true => (*path).to_owned(),
            false => format!("/latest/meta-data/{}", path.replace("{mac}", mac)),
        });
        assert_eq!(added, expected.collect(), "{config}");
        assert!(plain.is_subset(&found), "{config} takes something away");
        covered.extend(added);
    }
    let catalogue = Catalogue::read();
    for entry in catalogue.conditional() {
        let path = catalogue.path(entry, mac);
        let unlisted = path.contains("/security-credentials-extended/");
        assert!(
            unlisted || covered.contains(&path),
            "no row is about {path}"
        );
    }
}
