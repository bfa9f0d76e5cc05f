//! EC2 as it answers today: the requests that were sent to a real instance in September 2026, and the
//! facts behind them (docs/reference/metadata.md).

use crate::common::{Answer, Mock, TOKEN, TOKEN_TTL};
use imds_mock::version::{DATED, LATEST};
use serde_json::{Value, json};

const MAC: &str = "02:00:5e:10:00:01";

/// The instance that was asked, with its values made up in the recording as here.
fn instance() -> Value {
    json!({
        "instance_id": "i-0123456789abcdef0",
        "instance_type": "t3.nano",
        "local_ipv4": "10.0.0.16",
        "mac": MAC,
        "security_groups": ["demo"],
        "ssh_public_keys": [{"name": "demo-key", "openssh_key": "ssh-ed25519 AAAA demo-key"}],
        "user_data": "#cloud-config\n",
        "tags": {"suite": "demo"},
        "role": {"arn": "arn:aws:iam::123456789012:role/demo", "credentials": {
            "access_key_id": "ASIAIOSFODNN7EXAMPLE", "secret_access_key": "s", "token": "t"}},
        "network_interfaces": [{
            "interface_id": "eni-0123456789abcdef0",
            "security_group_ids": ["sg-0123456789abcdef0"],
            "subnet_id": "subnet-0123456789abcdef0",
            "subnet_ipv4_cidr_block": "10.0.0.0/27",
            "vpc_id": "vpc-0123456789abcdef0",
            "vpc_ipv4_cidr_block": "10.0.0.0/24",
        }],
    })
}

/// What in a row's answer is not as recorded; empty where everything is.
fn differences(row: &Value, answer: &Answer) -> Vec<String> {
    let mut found = Vec::new();
    let mut compare = |what: &str, recorded: Value, got: Value| {
        if recorded != got {
            found.push(format!("{what}: recorded {recorded}, got {got}"));
        }
    };
    compare("status", row["status"].clone(), json!(answer.status));
    compare(
        "type",
        row["type"].clone(),
        json!(answer.field("Content-Type")),
    );
    compare("allow", row["allow"].clone(), json!(answer.field("Allow")));
    if let Some(length) = row.get("length") {
        compare("length", length.clone(), json!(answer.body.len()));
    }
    if let Some(body) = row.get("body") {
        compare(
            "body",
            body.clone(),
            json!(String::from_utf8_lossy(&answer.body)),
        );
    }
    if let Some(ends) = row.get("ends_with_lf") {
        compare(
            "final LF",
            ends.clone(),
            json!(answer.body.ends_with(b"\n")),
        );
    }
    if row["json"] == true {
        let is_json = serde_json::from_slice::<Value>(&answer.body).is_ok();
        compare("is JSON", json!(true), json!(is_json));
    }
    found
}

#[test]
fn every_recorded_request_gets_the_recorded_answer() {
    let Some(text) = crate::common::reference("ec2-2026-09.json") else {
        return;
    };
    let rows: Vec<Value> = serde_json::from_str(&text).expect("JSON");
    assert_eq!(rows.len(), 275);
    let mock = Mock::start(&instance());
    let mut wrong = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let text = |key: &str| row[key].as_str().expect("a text");
        let recorded = row["headers"].as_object().into_iter().flatten();
        let mut fields: Vec<(&str, &str)> = recorded
            .map(|(name, value)| (name.as_str(), value.as_str().expect("a text")))
            .collect();
        if text("method") == "PUT" && !fields.iter().any(|(name, _)| *name == TOKEN_TTL) {
            fields.push((TOKEN_TTL, "60"));
        }
        if row["token"] == true {
            fields.push((TOKEN, mock.token()));
        }
        let answer = mock.ask(text("method"), text("path"), &fields);
        let found = differences(row, &answer);
        if !found.is_empty() {
            wrong.push(format!(
                "{index} {} {}: {found:?}",
                text("method"),
                text("path")
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} rows:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// What each version adds to `meta-data/` of [`instance`], the oldest first.
#[rustfmt::skip]
const ADDED: &[(&str, &[&str])] = &[
    ("1.0", &["ami-id", "ami-launch-index", "ami-manifest-path", "hostname", "instance-id",
        "local-ipv4", "public-keys/", "reservation-id", "security-groups"]),
    ("2007-01-19", &["local-hostname"]),
    ("2007-08-29", &["instance-type"]),
    ("2007-12-15", &["block-device-mapping/", "profile"]),
    ("2008-02-01", &["placement/"]),
    ("2008-09-01", &["instance-action"]),
    ("2011-01-01", &["mac", "network/"]),
    ("2011-05-01", &["metrics/"]),
    ("2012-01-12", &["iam/"]),
    ("2014-02-25", &["services/"]),
    ("2018-03-28", &["identity-credentials/"]),
    ("2018-08-17", &["events/"]),
    ("2019-10-01", &["instance-life-cycle"]),
    ("2021-03-23", &["tags/"]),
    ("2022-09-24", &["system"]),
    ("2025-10-04", &["tag-sets/"]),
];

#[test]
fn each_version_lists_and_serves_what_existed_then_and_nothing_else() {
    let mock = Mock::start(&instance());
    assert_eq!(mock.text("/"), format!("{}\n{LATEST}", DATED.join("\n")));
    for version in DATED.into_iter().chain([LATEST]) {
        let (old, new): (Vec<_>, Vec<_>) = ADDED.iter().partition(|(since, _)| *since <= version);
        let mut names: Vec<&str> = old
            .into_iter()
            .flat_map(|(_, names)| names.iter())
            .copied()
            .collect();
        names.sort_unstable();
        assert_eq!(
            mock.text(&format!("/{version}/")),
            "dynamic\nmeta-data\nuser-data"
        );
        let listing = mock.text(&format!("/{version}/meta-data/"));
        assert_eq!(listing, names.join("\n"), "{version}");
        for name in names {
            assert_eq!(
                mock.get(&format!("/{version}/meta-data/{name}")).status,
                200,
                "{name}"
            );
        }
        for name in new.iter().flat_map(|(_, names)| names.iter()) {
            let path = format!("/{version}/meta-data/{name}");
            assert_eq!(mock.get(&path).status, 404, "{path}");
        }
        let dynamic = mock.get(&format!("/{version}/dynamic/"));
        assert_eq!(
            dynamic.status,
            if version < "2009-04-04" { 404 } else { 200 },
            "{version}"
        );
    }
}

#[test]
fn a_category_below_the_top_exists_from_the_version_that_brought_it() {
    let mock = Mock::start(&json!({
        "local_ipv4": "10.0.0.9", "public_ipv4": "203.0.113.9", "ipv6": "2001:db8:1:2::9", "mac": MAC,
        "placement_group_name": "g", "spot_instance_action": "{}", "spot_termination_time": "x",
        "network_interfaces": [{"network_card": 0}], "kernel_id": "aki-1", "product_codes": ["x"],
        "elastic_gpus_associations": {"egpu-1": "{}"}, "outpost_arn": "arn:aws:outposts:x",
    }));
    let nic = format!("network/interfaces/macs/{MAC}");
    for (path, first, last_without) in [
        ("public-ipv4", "2007-01-19", "1.0"),
        ("product-codes", "2007-03-01", "2007-01-19"),
        ("kernel-id", "2008-02-01", "2007-12-15"),
        ("placement/availability-zone", "2008-02-01", "2007-12-15"),
        ("placement/region", "2019-10-01", "2018-09-24"),
        ("placement/group-name", "2020-10-27", "2019-10-01"),
        ("services/domain", "2014-02-25", "2012-01-12"),
        ("services/partition", "2015-10-20", "2014-11-05"),
        ("spot/termination-time", "2014-11-05", "2014-02-25"),
        ("spot/instance-action", "2018-03-28", "2016-09-02"),
        (
            "elastic-gpus/associations/egpu-1",
            "2018-03-28",
            "2016-09-02",
        ),
        ("ipv6", "2021-01-03", "2020-10-27"),
        (&format!("{nic}/mac"), "2011-01-01", "2009-04-04"),
        (&format!("{nic}/ipv6s"), "2016-06-30", "2016-04-19"),
        (
            &format!("{nic}/vpc-ipv4-cidr-blocks"),
            "2016-06-30",
            "2016-04-19",
        ),
        (&format!("{nic}/network-card"), "2021-01-03", "2020-10-27"),
    ] {
        let status = |version| mock.get(&format!("/{version}/meta-data/{path}")).status;
        assert_eq!((status(first), status(last_without)), (200, 404), "{path}");
    }
    // Nobody says when it came.
    assert_eq!(mock.get("/1.0/meta-data/outpost-arn").status, 200);
}

#[test]
fn what_only_the_configuration_knows_is_in_every_version() {
    let mock = Mock::with_admin(
        &json!({
            "metadata": {"own/x": "1", "placement/rack": "9", "placement/region": "here"},
            "dynamic": {"own/x": "2", "instance-identity/pkcs7": "3", "instance-identity/own": "5"},
        }),
        &[],
    );
    assert_eq!(mock.call("PUT", "/metadata/put", "4").status, 200);
    for version in DATED.into_iter().chain([LATEST]) {
        for (path, value) in [
            ("meta-data/own/x", "1"),
            ("meta-data/placement/rack", "9"),
            ("dynamic/own/x", "2"),
            ("dynamic/instance-identity/own", "5"),
            ("meta-data/put", "4"),
        ] {
            assert_eq!(mock.text(&format!("/{version}/{path}")), value, "{version}");
        }
    }
    // A category has its version, whoever sets it.
    for (path, status) in [
        ("2018-09-24/meta-data/placement/region", 404),
        ("2019-10-01/meta-data/placement/region", 200),
        ("2008-09-01/dynamic/instance-identity/pkcs7", 404),
        ("2009-04-04/dynamic/instance-identity/pkcs7", 200),
    ] {
        assert_eq!(mock.get(&format!("/{path}")).status, status, "{path}");
    }
}

#[test]
fn an_event_shows_in_the_versions_that_know_its_category() {
    let mock = Mock::start(&json!({"events": [
        {"type": "spot-interruption", "action": "terminate"}, {"type": "rebalance-recommendation"},
    ]}));
    for (path, status) in [
        ("/2014-02-25/meta-data/spot/", 404),
        ("/2014-11-05/meta-data/spot/termination-time", 200),
        ("/2016-09-02/meta-data/spot/instance-action", 404),
        ("/2018-03-28/meta-data/spot/instance-action", 200),
        (
            "/2019-10-01/meta-data/events/recommendations/rebalance",
            404,
        ),
        (
            "/2020-10-27/meta-data/events/recommendations/rebalance",
            200,
        ),
    ] {
        assert_eq!(mock.get(path).status, status, "{path}");
    }
    assert_eq!(mock.text("/2014-11-05/meta-data/spot/"), "termination-time");
    assert_eq!(
        mock.text("/latest/meta-data/spot/"),
        "instance-action\ntermination-time"
    );
}

#[test]
fn each_form_of_a_request_gets_ec2s_status() {
    let required = Mock::start(&instance());
    let optional = Mock::start(&json!({"http_tokens": "optional"}));
    let id = "/latest/meta-data/instance-id";
    for (method, path, without, with, allow) in [
        ("GET", id, 401, 200, None),
        ("HEAD", id, 401, 200, None),
        ("POST", id, 401, 403, None),
        ("DELETE", id, 401, 403, None),
        ("PUT", id, 401, 403, None),
        ("PATCH", id, 401, 403, None),
        ("OPTIONS", id, 401, 200, Some("OPTIONS, GET, HEAD")),
        ("GET", "/latest/meta-data/nowhere", 401, 404, None),
        ("POST", "/latest/meta-data/nowhere", 401, 403, None),
        ("PUT", "/2021-03-23/api/token", 401, 403, None),
        ("PUT", "/1999-01-01/api/token", 401, 403, None),
        ("PUT", "/api/token", 401, 403, None),
        ("GET", "/2021-03-23/api/token", 401, 404, None),
        ("GET", "/latest/api/token", 405, 405, Some("OPTIONS, PUT")),
        ("GET", "/latest/api/token/", 401, 404, None),
        ("PUT", "/latest/api/token", 200, 200, None),
        ("PUT", "/latest/api/token/", 200, 200, None),
        ("PUT", "//latest/./api/%74oken", 200, 200, None),
        // Escapes and dots (docs/reference/metadata.md, "Paths").
        ("GET", "/latest/meta-data/%69nstance-id", 401, 200, None),
        ("GET", "/latest/meta-data/./instance-id", 401, 200, None),
        (
            "GET",
            "/latest/meta-data/placement/../instance-id",
            401,
            200,
            None,
        ),
        (
            "GET",
            "/../../latest/meta-data/%2e%2e/meta-data/instance-id",
            401,
            200,
            None,
        ),
        ("GET", "/latest/meta-data%2Finstance-id", 401, 404, None),
        ("GET", "/latest/meta-data/instance-id%00", 401, 404, None),
        ("GET", "/latest/meta-data/instance-id%0A", 401, 404, None),
        ("GET", "/latest/meta-data/%2569nstance-id", 401, 404, None),
        ("GET", "/latest/meta-data/instance-id%", 401, 404, None),
    ] {
        let ttl = [(TOKEN_TTL, "60")];
        let token = [(TOKEN_TTL, "60"), (TOKEN, required.token())];
        for (fields, status) in [(&ttl[..], without), (&token[..], with)] {
            let answer = required.ask(method, path, fields);
            assert_eq!(answer.status, status, "{method} {path} {fields:?}");
            if !matches!(status, 401 | 404) {
                assert_eq!(answer.field("Allow"), allow, "{method} {path}");
            }
            if matches!(status, 401 | 403 | 405) {
                assert_eq!(answer.field("Content-Type"), Some("text/plain"));
                assert!(answer.body.is_empty(), "{method} {path}");
            }
        }
        // Where no token is needed, it is as with one.
        let answer = optional.ask(method, path, &ttl);
        assert_eq!(
            answer.status, with,
            "{method} {path} without need of a token"
        );
    }
}

#[test]
fn a_lifetime_of_0_is_answered_with_a_dead_token() {
    let mock = Mock::start(&json!({"http_tokens": "optional"}));
    let answer = mock.ask("PUT", "/latest/api/token", &[(TOKEN_TTL, "0")]);
    assert_eq!((answer.status, answer.body.len()), (200, 56));
    assert_eq!(answer.field(TOKEN_TTL), Some("0"));
    let read = mock.ask("GET", "/latest/meta-data/mac", &[(TOKEN, answer.text())]);
    assert_eq!(read.status, 401);
}

#[test]
fn user_data_with_a_slash_is_text() {
    let mock = Mock::start(&instance());
    for version in ["1.0", "latest"] {
        for (slash, content_type) in [("", "application/octet-stream"), ("/", "text/plain")] {
            let answer = mock.get(&format!("/{version}/user-data{slash}"));
            assert_eq!(answer.field("Content-Type"), Some(content_type));
            assert_eq!(answer.text(), "#cloud-config\n");
        }
    }
}

#[test]
fn an_instance_that_was_given_no_address_has_one_all_the_same() {
    let mock = Mock::start(&json!({}));
    let address = mock.text("/latest/meta-data/local-ipv4");
    assert!(address.starts_with("172.31."), "{address}");
    assert_eq!(
        address,
        Mock::start(&json!({})).text("/latest/meta-data/local-ipv4")
    );
    let other = Mock::start(&json!({"instance_id": "i-0fedcba9876543210"}));
    assert_ne!(address, other.text("/latest/meta-data/local-ipv4"));
    let name = format!("ip-{}.ec2.internal", address.replace('.', "-"));
    for path in ["hostname", "local-hostname"] {
        assert_eq!(mock.text(&format!("/latest/meta-data/{path}")), name);
    }
    let mac = mock.text("/latest/meta-data/mac");
    let nic = |name: &str| {
        mock.text(&format!(
            "/latest/meta-data/network/interfaces/macs/{mac}/{name}"
        ))
    };
    assert_eq!(nic("local-ipv4s"), address);
    assert_eq!(nic("local-hostname"), name);
    assert_eq!(nic("vpc-ipv4-cidr-block"), "172.31.0.0/16");
    let subnet: ipnet::Ipv4Net = nic("subnet-ipv4-cidr-block").parse().unwrap();
    assert!(
        subnet.contains(&address.parse::<std::net::Ipv4Addr>().unwrap()),
        "{subnet}"
    );
    assert_eq!(subnet.prefix_len(), 20);
    let document: Value =
        serde_json::from_str(&mock.text("/latest/dynamic/instance-identity/document")).unwrap();
    assert_eq!(document["privateIp"], address);
}

#[test]
fn an_instance_that_has_only_ipv6_has_no_ipv4() {
    let mock = Mock::start(&json!({"ipv6": "2001:db8::9"}));
    assert_eq!(mock.get("/latest/meta-data/local-ipv4").status, 404);
    let document: Value =
        serde_json::from_str(&mock.text("/latest/dynamic/instance-identity/document")).unwrap();
    assert_eq!(document["privateIp"], "2001:db8::9");
}

#[test]
fn an_interface_without_an_address_has_no_host_name() {
    let efa = "02:00:5e:10:00:02";
    let mock = Mock::start(&json!({"network_interfaces": [{"mac": MAC}, {"mac": efa}]}));
    let name = |mac| format!("/latest/meta-data/network/interfaces/macs/{mac}/local-hostname");
    assert_eq!(mock.get(&name(MAC)).status, 200);
    assert_eq!(mock.get(&name(efa)).status, 404);
    let listing = mock.text(&format!("/latest/meta-data/network/interfaces/macs/{efa}/"));
    assert!(!listing.contains("local-hostname"), "{listing}");
}

#[test]
fn values_have_ec2s_form() {
    let mock = Mock::start(&instance());
    for (path, value) in [
        ("meta-data/block-device-mapping/ami", "xvda"),
        ("meta-data/block-device-mapping/root", "/dev/xvda"),
        (
            "meta-data/public-keys/0/openssh-key",
            "ssh-ed25519 AAAA demo-key\n",
        ),
        ("meta-data/tag-sets", "instance"),
        ("meta-data/tag-sets/instance", r#"{"suite":"demo"}"#),
        ("meta-data/tag-sets/instance/", r#"{"suite":"demo"}"#),
        ("dynamic/", "instance-identity/"),
        (
            "dynamic/instance-identity/",
            "document\npkcs7\nrsa2048\nsignature",
        ),
    ] {
        assert_eq!(mock.text(&format!("/latest/{path}")), value, "{path}");
    }
    // One line's end, whatever the key was given with.
    for given in ["ssh-rsa A", "ssh-rsa A\n", "ssh-rsa A \r\n\n"] {
        let mock = Mock::start(&json!({"ssh_public_keys": [given]}));
        let served = mock.text("/latest/meta-data/public-keys/0/openssh-key");
        assert_eq!(served, "ssh-rsa A\n");
    }
}

#[test]
fn tags_and_tag_sets_follow_the_instance_metadata_option() {
    let tags = json!({"Name": "web", "b": "say \"x\""});
    for (config, of_tags, of_sets) in [
        (json!({}), None, None),
        (json!({"tags": {}}), None, None),
        (
            json!({"instance_metadata_tags": "enabled"}),
            None,
            Some("{}"),
        ),
        (
            json!({"tags": tags}),
            Some("Name\nb"),
            Some(r#"{"Name":"web","b":"say \"x\""}"#),
        ),
        (
            json!({"tags": tags, "instance_metadata_tags": "disabled"}),
            None,
            None,
        ),
    ] {
        let mock = Mock::start(&config);
        let body = |path: &str| {
            let answer = mock.get(&format!("/latest/meta-data/{path}"));
            (answer.status == 200).then(|| answer.text().to_owned())
        };
        assert_eq!(body("tags/instance").as_deref(), of_tags, "{config}");
        assert_eq!(body("tag-sets/instance").as_deref(), of_sets, "{config}");
        let listing = mock.text("/latest/meta-data/");
        assert_eq!(listing.contains("tags/"), of_tags.is_some(), "{config}");
        assert_eq!(listing.contains("tag-sets/"), of_sets.is_some(), "{config}");
    }
}
