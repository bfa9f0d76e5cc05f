//! config.json: what is wrong is said with place, expectation and finding; what contradicts itself
//! with both places; and `--print-config` prints a configuration that means the same
//! (docs/architecture.md, D5).

use std::path::Path;

use crate::common::crawler::{Tree, crawl};
use crate::common::{Mock, TempFile, run};
use imds_mock::config::Config;
use imds_mock::mock::Parts;
use serde_json::{Value, json};

/// What is wrong with a configuration, a line each.
fn problems(config: &Value) -> Vec<String> {
    let found = match Config::parse(&config.to_string(), Path::new(""), &[]) {
        Err(found) => found,
        Ok((config, _)) => Parts::new(config).err().unwrap_or_default(),
    };
    found.iter().map(ToString::to_string).collect()
}

fn warnings(config: &Value) -> Vec<String> {
    let parsed = Config::parse(&config.to_string(), Path::new(""), &[]);
    let (_, warnings) = parsed
        .map_err(|found| found[0].to_string())
        .expect("correct");
    warnings.iter().map(ToString::to_string).collect()
}

#[test]
#[rustfmt::skip]
fn a_wrong_type_or_an_impossible_value_is_named_with_its_place() {
    let long = "x".repeat(16385);
    for (config, place, said) in [
        (json!({"tags": {"k8s.io/x": "1"}}), "tags", "\"k8s.io/x\""),
        (json!({"faults": [{"path": "/a*b", "effect": "reset"}]}), "faults[0].path", "found \"/a*b\""),
        (json!({"faults": [{"path": "/a**", "effect": "reset"}]}), "faults[0].path", "found \"/a**\""),
        (json!({"faults": [{"path": "/a", "effect": "reset", "requests": 0}]}), "faults[0].requests", "expected a whole number >= 1, found 0"),
        (json!({"events": [{"type": "rebalance-recommendation", "callers": 0}]}), "events[0].callers", "expected a whole number >= 1, found 0"),
        (json!({"instance_id": 7}), "instance_id", "found 7"),
        (json!({"instance_id": "i/1"}), "instance_id", "found \"i/1\""),
        (json!({"instance_id": "i\n1"}), "instance_id", "found \"i\\n1\""),
        (json!({"hostname": ["a"]}), "hostname", "found an array"),
        (json!({"hostname": "a\nb"}), "hostname", "found"),
        (json!({"region": "us/east"}), "region", "found"),
        (json!({"instance_type": true}), "instance_type", "found true"),
        (json!({"mac": "02:00:00:00:00"}), "mac", "02:00:00:00:00:01"),
        (json!({"mac": "02-00-00-00-00-01"}), "mac", "found"),
        (json!({"local_ipv4": "10.0.0.256"}), "local_ipv4", "expected an IPv4 address, found \"10.0.0.256\""),
        (json!({"local_ipv4": "::1"}), "local_ipv4", "expected an IPv4 address"),
        (json!({"public_ipv4": 1}), "public_ipv4", "expected an IPv4 address, found 1"),
        (json!({"ipv6": "10.0.0.1"}), "ipv6", "expected an IPv6 address"),
        (json!({"ssh_public_keys": "ssh-rsa A"}), "ssh_public_keys", "expected an array"),
        (json!({"ssh_public_keys": [7]}), "ssh_public_keys[0]", "expected an object"),
        (json!({"ssh_public_keys": ["ssh-rsa A", {"name": "a=b", "openssh_key": "k"}]}), "ssh_public_keys[1].name", "without ="),
        (json!({"ssh_public_keys": [{"name": "a"}]}), "ssh_public_keys[0].openssh_key", "missing"),
        (json!({"user_data": {"a": 1}}), "user_data", "expected a text, found an object"),
        (json!({"user_data": long}), "user_data", "expected at most 16384 bytes, found 16385"),
        (json!({"user_data_base64": "?"}), "user_data_base64", "expected base64"),
        (json!({"user_data_file": "/no/such/file"}), "user_data_file", "/no/such/file"),
        (json!({"default_delay_ms": "5s"}), "default_delay_ms", "expected milliseconds (a number), found \"5s\""),
        (json!({"default_delay_ms": true}), "default_delay_ms", "found true"),
        (json!({"endpoint_delay_ms": []}), "endpoint_delay_ms", "expected an object, found an array"),
        (json!({"endpoint_delay_ms": {"/latest/user-data": "5s"}}), "endpoint_delay_ms: \"/latest/user-data\"", "expected milliseconds (a number), found \"5s\""),
        (json!({"force_status": {"/a": 99}}), "force_status: \"/a\"", "100..999"),
        (json!({"force_status": {"/a": 1000}}), "force_status: \"/a\"", "found 1000"),
        (json!({"force_status": {"/a": 200.5}}), "force_status: \"/a\"", "found 200.5"),
        (json!({"force_status": {"/a": "503"}}), "force_status: \"/a\"", "found \"503\""),
        (json!({"force_status": {"/a": -1}}), "force_status: \"/a\"", "found -1"),
        (json!({"http_tokens": "maybe"}), "http_tokens", "expected \"required\" or \"optional\", found \"maybe\""),
        (json!({"http_tokens": true}), "http_tokens", "found true"),
        (json!({"http_endpoint": "off"}), "http_endpoint", "expected \"enabled\" or \"disabled\""),
        (json!({"instance_metadata_tags": 1}), "instance_metadata_tags", "found 1"),
        (json!({"http_put_response_hop_limit": 0}), "http_put_response_hop_limit", "expected 1..64, found 0"),
        (json!({"http_put_response_hop_limit": 65}), "http_put_response_hop_limit", "expected 1..64, found 65"),
        (json!({"http_put_response_hop_limit": 300}), "http_put_response_hop_limit", "found 300"),
        (json!({"http_put_response_hop_limit": 1.5}), "http_put_response_hop_limit", "found 1.5"),
        (json!({"ami_launch_index": -1}), "ami_launch_index", "expected a whole number >= 0, found -1"),
        (json!({"placement_partition_number": "x"}), "placement_partition_number", "whole number"),
        (json!({"product_codes": 7}), "product_codes", "found 7"),
        (json!({"product_codes": [7]}), "product_codes", "array of texts"),
        (json!({"block_device_mapping": []}), "block_device_mapping", "expected an object, found an array"),
        (json!({"block_device_mapping": {"a/b": "sda"}}), "block_device_mapping", "cannot be part of a path"),
        (json!({"tags": []}), "tags", "expected an object"),
        (json!({"tags": {"a b": "x"}}), "tags", "letters, digits"),
        (json!({"tags": {"a/b": "x"}}), "tags", "letters, digits"),
        (json!({"tags": {"_index": "x"}}), "tags", "_index"),
        (json!({"tags": {"..": "x"}}), "tags", "letters, digits"),
        (json!({"tags": {"Name": 7}}), "tags: \"Name\"", "expected a text, found 7"),
        (json!({"network_interfaces": {}}), "network_interfaces", "expected an array"),
        (json!({"network_interfaces": [7]}), "network_interfaces[0]", "expected an object"),
        (json!({"network_interfaces": [{}, {"mac": "x"}]}), "network_interfaces[1].mac", "found \"x\""),
        (json!({"network_interfaces": [{"local_ipv4s": ["x"]}]}), "network_interfaces[0].local_ipv4s", "found \"x\""),
        (json!({"network_interfaces": [{"subnet_ipv4_cidr_block": "10.0.0.0/33"}]}), "network_interfaces[0].subnet_ipv4_cidr_block", "found \"10.0.0.0/33\""),
        (json!({"metadata": {"": "x"}}), "metadata", "expected a path"),
        (json!({"metadata": {"a//b": "x"}}), "metadata", "expected a path"),
        (json!({"metadata": {"/a": "x"}}), "metadata", "expected a path"),
        (json!({"metadata": {"a/../b": "x"}}), "metadata", "expected a path"),
        (json!({"metadata": {"a/./b": "x"}}), "metadata", "expected a path"),
        (json!({"metadata": {"a\u{1}": "x"}}), "metadata", "expected a path"),
        (json!({"metadata": {"a": 7}}), "metadata: \"a\"", "found 7"),
        (json!({"metadata": {"iam/security-credentials/x": "x"}}), "metadata", "role"),
        (json!({"metadata": {"iam/security-credentials": null}}), "metadata", "role"),
        (json!({"metadata": {"identity-credentials/ec2/security-credentials/ec2-instance": "x"}}), "metadata", "role"),
        (json!({"dynamic": {"a/..": "x"}}), "dynamic", "expected a path"),
        (json!({"identity_document": 7}), "identity_document", "expected an object"),
    ] {
        let found = problems(&config);
        assert_eq!(found.len(), 1, "{config}: {found:?}");
        assert!(found[0].starts_with(&format!("{place}: ")), "{config}: {found:?}");
        assert!(found[0].contains(said), "{config}: {found:?}");
    }
}

#[test]
fn a_contradiction_names_both_places() {
    for (config, one, other) in [
        (
            json!({"mac": "02:00:00:00:00:01", "network_interfaces": [{"mac": "02:00:00:00:00:02"}]}),
            "network_interfaces[0].mac",
            "mac",
        ),
        (
            json!({"local_ipv4": "10.0.0.1", "network_interfaces": [{"local_ipv4s": ["10.0.0.2"]}]}),
            "network_interfaces[0].local_ipv4s",
            "local_ipv4",
        ),
        (
            json!({"public_ipv4": "192.0.2.1", "network_interfaces": [{"public_ipv4s": "192.0.2.2"}]}),
            "network_interfaces[0].public_ipv4s",
            "public_ipv4",
        ),
        (
            json!({"local_hostname": "a", "network_interfaces": [{"local_hostname": "b"}]}),
            "network_interfaces[0].local_hostname",
            "local_hostname",
        ),
        (
            json!({"public_hostname": "a", "network_interfaces": [{"public_hostname": "b"}]}),
            "network_interfaces[0].public_hostname",
            "public_hostname",
        ),
        (
            json!({"security_groups": ["a"], "network_interfaces": [{"security_groups": ["b"]}]}),
            "network_interfaces[0].security_groups",
            "security_groups",
        ),
        (
            json!({"network_interfaces": [
                {"mac": "02:00:00:00:00:01"}, {}, {"mac": "02:00:00:00:00:01"},
            ]}),
            "network_interfaces[2].mac",
            "network_interfaces[0].mac",
        ),
        (
            json!({"user_data": "x", "user_data_base64": "eA=="}),
            "user_data_base64",
            "user_data ",
        ),
        (
            json!({"user_data": "x", "user_data_file": "x"}),
            "user_data_file",
            "user_data ",
        ),
        (
            json!({"metadata": {"a": "x", "a/b": "y"}}),
            "\"meta-data/a\"",
            "\"meta-data/a/b\"",
        ),
        (
            json!({"metadata": {"instance-id/more": "y"}}),
            "\"meta-data/instance-id\"",
            "\"meta-data/instance-id/more\"",
        ),
        (
            json!({"metadata": {"placement": "x"}}),
            "\"meta-data/placement\"",
            "\"meta-data/placement/",
        ),
        (
            json!({"metadata": {"placement": "x", "placement/": null}}),
            "\"placement/\"",
            "\"placement\"",
        ),
        (
            json!({"dynamic": {"instance-identity": "x"}}),
            "\"dynamic/instance-identity\"",
            "\"dynamic/instance-identity/",
        ),
    ] {
        let found = problems(&config);
        assert_eq!(found.len(), 1, "{config}: {found:?}");
        let text = &found[0];
        let rest = text.replacen(one, "", 1);
        assert!(
            text.contains(one) && rest.contains(other),
            "{config}: {text}"
        );
    }
}

#[test]
fn values_that_agree_in_two_places_are_fine() {
    let config = json!({
        "mac": "02:00:00:00:00:AB", "local_ipv4": "10.0.0.1", "public_ipv4": "192.0.2.1",
        "hostname": "h", "local_hostname": "l", "public_hostname": "p", "security_groups": ["a"],
        "region": "antarctica-1", "availability_zone": "antarc-north-1z",
        "network_interfaces": [{
            "mac": "02:00:00:00:00:ab", "local_ipv4s": ["10.0.0.1", "10.0.0.2"],
            "public_ipv4s": ["192.0.2.1"], "local_hostname": "l", "public_hostname": "p",
            "security_groups": ["a"],
        }, {"local_ipv4s": ["10.9.0.1"]}],
    });
    assert_eq!(problems(&config), [""; 0]);
    assert_eq!(warnings(&config), [""; 0]);
}

#[test]
fn nothing_null_and_empty_mean_the_same() {
    let known = imds_mock::config::keys();
    assert!(known.len() > 60, "{}", known.len());
    for key in known {
        for nothing in [json!(null), json!("")] {
            let config = json!({key.as_str(): nothing});
            assert_eq!(problems(&config), [""; 0], "{config}");
            assert_eq!(warnings(&config), [""; 0], "{config}");
        }
    }
}

#[test]
fn unknown_keys_are_warned_of_with_the_nearest_known() {
    for (config, place, hint) in [
        (
            json!({"instanceid": "x"}),
            "instanceid",
            Some("instance_id"),
        ),
        (
            json!({"instance-id": "x"}),
            "instance-id",
            Some("instance_id"),
        ),
        (json!({"Region": "x"}), "Region", Some("region")),
        (
            json!({"http_token": "x"}),
            "http_token",
            Some("http_tokens"),
        ),
        (json!({"zzzzzzzzzzz": "x"}), "zzzzzzzzzzz", None),
        (
            json!({"network_interfaces": [{"devicenumber": 0}]}),
            "network_interfaces[0].devicenumber",
            Some("device_number"),
        ),
        (
            json!({"ssh_public_keys": [{"name": "a", "key": "b", "openssh_key": "c"}]}),
            "ssh_public_keys[0].key",
            None,
        ),
    ] {
        let found = warnings(&config);
        assert_eq!(found.len(), 1, "{config}: {found:?}");
        assert!(
            found[0].starts_with(&format!("{place}: unknown key")),
            "{found:?}"
        );
        match hint {
            Some(key) => assert!(
                found[0].ends_with(&format!("did you mean {key:?}?")),
                "{found:?}"
            ),
            None => assert!(!found[0].contains("did you mean"), "{found:?}"),
        }
    }
}

#[test]
fn the_numbers_of_old_files_mean_what_they_meant() {
    for config in [
        json!({"default_delay_ms": 0.25}),
        json!({"default_delay_ms": -1}),
        json!({"default_delay_ms": 1e300}),
        json!({"endpoint_delay_ms": {"anything at all": 0, "": null}}),
        json!({"force_status": {"/a": 0, "/b": 100, "/c": 999, "/d": null, "no slash": 404}}),
    ] {
        assert_eq!(problems(&config), [""; 0], "{config}");
    }
}

/// A configuration that uses every shape of value there is.
fn rich() -> Value {
    json!({
        "instance_id": "i-0aaaaaaaaaaaaaaaa", "region": "eu-west-3", "account_id": "111122223333",
        "hostname": "web", "ssh_public_keys": [
            "ssh-ed25519 AAAA admin@example", {"name": "second", "openssh_key": "ssh-rsa BBBB"},
            "ssh-rsa CCCC",
        ],
        "user_data_base64": "/wD+", "tags": {"Name": "x", "Empty": "", "a=b@c": "1 2\n3"},
        "network_interfaces": [
            {"mac": "02:00:00:00:00:01", "local_ipv4s": ["10.0.0.1", "10.0.0.2"],
             "public_ipv4s": ["192.0.2.1", "192.0.2.2"], "ipv6s": ["2001:db8::1"],
             "ipv4_prefix": ["10.0.1.0/28"], "network_card": 0, "security_groups": ["a", "b"]},
            {"local_ipv4s": ["10.9.0.1"], "device_number": 5, "subnet_id": "subnet-1"},
        ],
        "block_device_mapping": {"ami": "sda1", "root": "/dev/sda1", "ebs1": "sdb"},
        "product_codes": ["one", "two"], "placement_partition_number": 3,
        "managed_ssh_keys_signer_cert": "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n",
        "events_maintenance_scheduled": "[ \n  {}\n]", "http_put_response_hop_limit": 2,
        "identity_document": {"billingProducts": ["bp-1"], "extra": null},
        "metadata": {"custom/leaf": "x", "profile": null, "services": null},
        "dynamic": {"instance-identity/pkcs7": "y", "instance-identity/rsa2048": null},
        "endpoint_delay_ms": {"/x": 0.5}, "force_status": {"/y": 418},
    })
}

/// Everything it serves but for the documents that are dated by its start.
fn undated(mock: &Mock) -> Tree {
    let mut tree = crawl(mock, "/latest/");
    tree.retain(|_, body| !String::from_utf8_lossy(body).contains("LastUpdated"));
    tree
}

#[test]
fn what_print_config_prints_means_the_same_and_prints_the_same() {
    let read = |text| serde_json::from_str::<Value>(text).expect("JSON");
    let example = read(include_str!("../../config.json"));
    let recorded = read(crate::common::IMDS_MOCK_PY_CONFIG);
    for config in [json!({}), example, rich(), recorded] {
        let print = |config: &str| {
            let file = TempFile::new(config);
            let path = file.path().to_str().expect("UTF-8");
            let (status, stdout, stderr) = run(&["--print-config", "--config", path]);
            assert_eq!((status, stderr.as_str()), (0, ""), "{config}");
            stdout
        };
        let printed = print(&config.to_string());
        let effective: Value = serde_json::from_str(&printed).expect("JSON");
        for key in ["region", "mac", "local_hostname", "ami_id", "http_tokens"] {
            assert!(effective[key].is_string(), "{key} is missing: {printed}");
        }
        assert_eq!(print(&printed), printed, "fed back");
        let (one, other) = (Mock::start(&config), Mock::start(&effective));
        let (one, other) = (undated(&one), undated(&other));
        for (path, body) in &one {
            assert_eq!(other.get(path), Some(body), "{path} of {config}");
        }
        assert_eq!(one.len(), other.len());
    }
}

#[test]
fn print_config_keeps_what_no_path_shows() {
    let file = TempFile::new(rich().to_string());
    let path = file.path().to_str().expect("UTF-8");
    let (_, printed, _) = run(&["--print-config", "--config", path]);
    let printed: Value = serde_json::from_str(&printed).expect("JSON");
    for key in [
        "endpoint_delay_ms",
        "force_status",
        "http_put_response_hop_limit",
    ] {
        assert_eq!(printed[key], rich()[key], "{key}");
    }
    assert_eq!(printed["http_tokens"], "required");
    assert_eq!(printed["http_endpoint"], "enabled");
    assert_eq!(printed["instance_metadata_tags"], "enabled");
    assert_eq!(printed["default_delay_ms"], 0);
}

#[test]
fn print_config_shows_no_secret_and_loading_it_names_those_missing() {
    let config = json!({"role": {
        "arn": "arn:aws:iam::123456789012:role/demo",
        "credentials": {
            "access_key_id": "ASIAIOSFODNN7EXAMPLE", "secret_access_key": "hidden one",
            "token": "hidden two", "expiration": "2030-01-02T03:04:05Z",
        },
    }});
    let file = TempFile::new(config.to_string());
    let path = file.path().to_str().expect("UTF-8");
    let (status, printed, _) = run(&["--print-config", "--config", path]);
    assert_eq!(status, 0);
    assert!(!printed.contains("hidden"), "{printed}");
    let effective: Value = serde_json::from_str(&printed).expect("JSON");
    let credentials = &effective["role"]["credentials"];
    assert_eq!(credentials["access_key_id"], "ASIAIOSFODNN7EXAMPLE");
    assert_eq!(credentials["expiration"], "2030-01-02T03:04:05Z");
    for secret in ["secret_access_key", "token"] {
        assert!(
            credentials.get(secret).is_some_and(Value::is_null),
            "{printed}"
        );
    }
    let file = TempFile::new(&printed);
    let path = file.path().to_str().expect("UTF-8");
    let (status, _, stderr) = run(&["--check", "--config", path]);
    assert_eq!(status, 78, "{stderr}");
    for secret in ["secret_access_key", "token"] {
        let place = format!("role.credentials.{secret}: missing");
        assert!(stderr.contains(&place), "{stderr}");
    }
}

#[test]
fn an_error_quotes_no_secret() {
    for credentials in [
        json!({"access_key_id": "A", "secret_access_key": ["hidden"], "token": "T"}),
        json!({"access_key_id": "A", "secret_access_key": "hid\nden", "token": "T"}),
        json!({"access_key_id": "A", "secret_access_key": "S", "token": 7_654_321}),
        json!("hidden"),
    ] {
        let role =
            json!({"arn": "arn:aws:iam::123456789012:role/demo", "credentials": credentials});
        let found = problems(&json!({"role": role}));
        assert!(!found.is_empty(), "{credentials}");
        for secret in ["hid", "7654321"] {
            assert!(!found.iter().any(|line| line.contains(secret)), "{found:?}");
        }
    }
}

#[test]
fn every_default_is_the_same_after_a_restart() {
    let config = json!({"instance_id": "i-0bbbbbbbbbbbbbbbb"});
    let (one, other) = (Mock::start(&config), Mock::start(&config));
    assert_eq!(undated(&one), undated(&other));
    let another = Mock::start(&json!({"instance_id": "i-0cccccccccccccccc"}));
    let ami = "/latest/meta-data/ami-id";
    assert_ne!(
        one.text(ami),
        another.text(ami),
        "ids follow from the instance id"
    );
}

#[test]
fn tags_that_are_not_shown_may_have_any_key() {
    let tags = json!({"kubernetes.io/cluster/demo": "owned", "My Team": "a", "_index": "b"});
    let config = json!({"tags": tags, "instance_metadata_tags": "disabled"});
    assert_eq!(problems(&config), Vec::<String>::new());
}

#[test]
fn a_file_of_amazon_ec2_metadata_mock_is_recognised() {
    for config in [
        json!({"metadata": {"values": {"hostname": "h"}}}),
        json!({"imdsv2": true, "metadata": {"paths": {"mac": "/x"}}, "server": {"port": "1"}}),
        json!({"userdata": {"values": {"userdata": "aGk="}}}),
    ] {
        let said = problems(&config);
        assert!(
            said.len() == 1 && said[0].contains("amazon-ec2-metadata-mock"),
            "{said:?}"
        );
        assert!(said[0].contains("imds_mock import"), "{said:?}");
    }
    // These are paths of our own.
    let ours = json!({"metadata": {"values": "x", "paths": null}});
    assert_eq!(problems(&ours), Vec::<String>::new());
}

#[test]
fn dates_are_read_with_any_offset_and_shown_in_utc() {
    let role = |expiration: &str| {
        json!({"arn": "arn:aws:iam::123456789012:role/demo", "credentials": {
            "access_key_id": "ASIAX", "secret_access_key": "s", "token": "t",
            "expiration": expiration}})
    };
    let event = |time: &str| json!([{"type": "termination-time", "time": time}]);
    for (given, shown) in [
        ("2030-01-02T03:04:05Z", "2030-01-02T03:04:05Z"),
        ("2030-01-02T03:04:05.999+02:00", "2030-01-02T01:04:05Z"),
        ("9999-12-31T00:00:59-23:59", "9999-12-31T23:59:59Z"),
        ("0000-01-01T23:59:00+23:59", "0000-01-01T00:00:00Z"),
    ] {
        let mock = Mock::start(&json!({"role": role(given), "events": event(given)}));
        let path = "/latest/meta-data/spot/termination-time";
        assert_eq!(mock.text(path), shown, "{given}");
        let document = mock.text("/latest/meta-data/iam/security-credentials/demo");
        let expiration = format!("\"Expiration\" : \"{shown}\"");
        assert!(document.contains(&expiration), "{given}: {document}");
    }
    for given in [
        "9999-12-31T23:59:59-23:59",
        "0000-01-01T00:00:00+00:01",
        "10000-01-01T00:00:00Z",
        "2030-01-02T03:04:05",
    ] {
        for (config, place) in [
            (json!({"role": role(given)}), "role.credentials.expiration"),
            (json!({"events": event(given)}), "events[0].time"),
        ] {
            let said = problems(&config);
            assert!(
                said.len() == 1 && said[0].starts_with(&format!("{place}: expected a date")),
                "{given}: {said:?}"
            );
        }
    }
}

#[test]
fn a_reload_survives_a_date_that_cannot_be_shown() {
    let file = TempFile::new("{}");
    let mut command = crate::common::imds_mock();
    command
        .arg("--config")
        .arg(file.path())
        .args(["--port", "0"]);
    let mock = Mock::spawn(command, 1, None);
    std::fs::write(
        file.path(),
        json!({"role": {"arn": "arn:aws:iam::123456789012:role/demo", "credentials": {
            "access_key_id": "ASIAX", "secret_access_key": "s", "token": "t",
            "expiration": "9999-12-31T23:59:59-23:59"}}})
        .to_string(),
    )
    .unwrap();
    mock.signal("HUP");
    mock.wait_for("role.credentials.expiration");
    assert_eq!(mock.get("/latest/meta-data/instance-id").status, 200);
}
