//! What a request gets: paths, versions, slashes, methods, the fields and bodies of answers
//! (docs/reference/metadata.md).

use crate::common::{Answer, Mock, TOKEN, TempFile};
use serde_json::{Value, json};

const TTL: &str = "X-Aws-Ec2-Metadata-Token-Ttl-Seconds";

/// The versions in EC2's order (docs/reference/metadata.md, "Versions").
const VERSIONS: &str = "1.0 2007-01-19 2007-03-01 2007-08-29 2007-10-10 2007-12-15 2008-02-01 \
    2008-09-01 2009-04-04 2011-01-01 2011-05-01 2012-01-12 2014-02-25 2014-11-05 2015-10-20 \
    2016-04-19 2016-06-30 2016-09-02 2018-03-28 2018-08-17 2018-09-24 2019-10-01 2020-10-27 \
    2021-01-03 2021-03-23 2021-07-15 2022-09-24 2024-04-11 2025-10-04 2026-04-15 latest";

/// EC2's page for a 404, from its description in docs/reference/metadata.md, "Error bodies".
const NOT_FOUND: &str = concat!(
    "<?xml version=\"1.0\" encoding=\"iso-8859-1\"?>\n",
    "<!DOCTYPE html PUBLIC \"-//W3C//DTD XHTML 1.0 Transitional//EN\"\n",
    "\t\t \"http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd\">\n",
    "<html xmlns=\"http://www.w3.org/1999/xhtml\" xml:lang=\"en\" lang=\"en\">\n",
    " <head>\n",
    "  <title>404 - Not Found</title>\n",
    " </head>\n",
    " <body>\n",
    "  <h1>404 - Not Found</h1>\n",
    " </body>\n",
    "</html>\n",
);

fn example() -> Mock {
    Mock::start(&json!({
        "instance_id": "i-1234567890abcdef0",
        "ssh_public_keys": ["ssh-ed25519 AAAA admin@example"],
        "user_data": "#!/bin/sh\n",
    }))
}

#[test]
fn the_root_lists_the_versions() {
    let mock = example();
    let versions = VERSIONS.split(' ').collect::<Vec<_>>().join("\n");
    for target in [
        "/",
        "//",
        "///",
        "/?x=1",
        "http://169.254.169.254",
        "http://x?y",
    ] {
        assert_eq!(mock.text(target), versions, "{target}");
    }
}

#[test]
fn the_newest_version_answers_as_latest_and_an_unknown_one_not_at_all() {
    let mock = example();
    let targets = [
        "",
        "/",
        "/meta-data/",
        "/meta-data/instance-id",
        "/dynamic",
        "/user-data",
    ];
    for rest in targets {
        let (newest, latest) = (format!("/2026-04-15{rest}"), format!("/latest{rest}"));
        assert_eq!(mock.text(&newest), mock.text(&latest), "{newest}");
    }
    for version in [
        "1999-01-01",
        "2016-11-15",
        "1",
        "1.0.0",
        "LATEST",
        "latest2",
        "2009-04-0",
    ] {
        for rest in targets {
            assert_eq!(
                mock.get(&format!("/{version}{rest}")).status,
                404,
                "{version}"
            );
        }
    }
}

#[test]
fn listings_have_the_forms_of_ec2() {
    let mock = example();
    for (target, listing) in [
        ("/latest/", "dynamic\nmeta-data\nuser-data"),
        ("/latest/dynamic/", "instance-identity/"),
        (
            "/latest/dynamic/instance-identity/",
            "document\npkcs7\nrsa2048\nsignature",
        ),
        ("/latest/meta-data/public-keys/", "0=admin@example"),
        ("/latest/meta-data/public-keys/0/", "openssh-key"),
        ("/latest/meta-data/network/", "interfaces/"),
        ("/latest/meta-data/network/interfaces/", "macs/"),
    ] {
        assert_eq!(mock.text(target), listing, "{target}");
    }
    let mac = mock.text("/latest/meta-data/mac");
    let macs = mock.text("/latest/meta-data/network/interfaces/macs/");
    assert_eq!(macs, format!("{mac}/"));
}

#[test]
fn slashes_before_between_and_behind_change_nothing() {
    let mock = example();
    for (target, same) in [
        ("/latest", "/latest/"),
        ("/2009-04-04", "/2009-04-04/"),
        ("/latest/meta-data", "/latest/meta-data/"),
        (
            "/latest/meta-data/public-keys",
            "/latest/meta-data/public-keys/",
        ),
        (
            "/latest/meta-data/public-keys/0",
            "/latest/meta-data/public-keys/0/",
        ),
        (
            "/latest/dynamic/instance-identity",
            "/latest/dynamic/instance-identity/",
        ),
        (
            "/latest/meta-data/placement/availability-zone/",
            "/latest/meta-data/placement/availability-zone",
        ),
        ("/latest/user-data/", "/latest/user-data"),
        ("//latest/meta-data/mac", "/latest/meta-data/mac"),
        ("/latest//meta-data/mac", "/latest/meta-data/mac"),
        ("///latest//meta-data///mac//", "/latest/meta-data/mac"),
        ("/latest/meta-data/mac?a=b&c", "/latest/meta-data/mac"),
        ("/latest/meta-data/mac#fragment", "/latest/meta-data/mac"),
        (
            "http://169.254.169.254/latest/meta-data/mac",
            "/latest/meta-data/mac",
        ),
        (
            "HTTP://[fd00:ec2::254]:80//latest/meta-data/mac",
            "/latest/meta-data/mac",
        ),
    ] {
        let (answer, plain) = (mock.get(target), mock.get(same));
        assert_eq!((answer.status, plain.status), (200, 200), "{target}");
        assert_eq!(answer.text(), plain.text(), "{target}");
    }
}

#[test]
fn what_is_no_path_of_the_tree_is_404() {
    let mock = example();
    let long = format!("/latest/meta-data/{}", "a".repeat(8192));
    let deep = format!("/latest/meta-data{}", "/a".repeat(4096));
    for target in [
        "/nowhere",
        "/latest/meta-data/no-such-thing",
        "/latest/meta-data/mac/more",
        "/latest/meta-data/MAC",
        "/latest/Meta-Data/mac",
        "/latest/meta-data/public-keys/1/openssh-key",
        "/latest/meta-data/public-keys/0=admin@example",
        "/latest/meta-data/public-keys/00/openssh-key",
        "/latest/meta-data/iam/",
        "/latest/meta-data/iam/security-credentials/",
        "/latest/meta-data/tags/",
        "/latest/meta-data/spot/instance-action",
        "/latest/api",
        "/latest/api/",
        "/latest/meta-data/../mac",
        "/../../../../etc/passwd",
        "/latest/meta-data%2fmac",
        "/latest/meta-data/mac%00",
        "/latest/meta-data/%256dac",
        "/latest/meta-data/mac%",
        "/latest/meta-data/mac%2",
        "/latest/meta-data/mac\\",
        "/latest/meta-data/m\u{e4}c",
        "/\u{1f600}",
        &long,
        &deep,
    ] {
        let answer = mock.get(target);
        assert_eq!(answer.status, 404, "{target}");
        assert_eq!(answer.text(), NOT_FOUND, "{target}");
    }
    assert_eq!(NOT_FOUND.len(), 339);
}

#[test]
fn parameters_behind_the_last_segment_are_cut() {
    // As recorded from imds_mock.py; only the last segment has parameters.
    let mock = example();
    let instance_id = mock.text("/latest/meta-data/instance-id");
    assert_eq!(mock.text("/latest/meta-data/instance-id;p"), instance_id);
    assert_eq!(
        mock.text("/latest/meta-data/instance-id;p=1;q?x"),
        instance_id
    );
    assert_eq!(mock.get("/latest/meta-data;p/instance-id").status, 404);
}

/// The fields of an answer, but for those whose value is the moment's.
fn steady(answer: &Answer) -> Vec<(&str, &str)> {
    let fields = answer.fields.iter().map(|(n, v)| (n.as_str(), v.as_str()));
    fields
        .filter(|(name, _)| !["Date", "Last-Modified", TTL].contains(name))
        .collect()
}

/// The form of RFC 9110's IMF-fixdate: `Fri, 02 Jan 2026 03:04:05 GMT`.
fn is_http_date(text: &str) -> bool {
    let shape = text.bytes().map(|b| match b {
        b'0'..=b'9' => b'0',
        b'a'..=b'z' => b'a',
        b'A'..=b'Z' => b'A',
        other => other,
    });
    shape.eq(*b"Aaa, 00 Aaa 0000 00:00:00 AAA") && text.ends_with(" GMT")
}

#[test]
fn an_answer_has_the_fields_of_ec2_in_their_order() {
    let mock = example();
    let order = [
        TTL,
        "Content-Type",
        "Accept-Ranges",
        "Last-Modified",
        "Content-Length",
        "Date",
        "Server",
        "Connection",
    ];
    for (target, content_type) in [
        ("/", "text/plain"),
        ("/latest/", "text/plain"),
        ("/latest/meta-data/", "text/plain"),
        ("/latest/meta-data/instance-id", "text/plain"),
        ("/latest/dynamic/instance-identity/document", "text/plain"),
        ("/latest/dynamic/instance-identity/signature", "text/plain"),
        ("/latest/user-data", "application/octet-stream"),
    ] {
        let answer = mock.get(target);
        assert_eq!(answer.names(), order, "{target}");
        let length = answer.body.len().to_string();
        let values = [
            ("Content-Type", content_type),
            ("Accept-Ranges", "none"),
            ("Content-Length", length.as_str()),
            ("Server", "EC2ws"),
            ("Connection", "close"),
        ];
        assert_eq!(steady(&answer), values, "{target}");
        for date in ["Date", "Last-Modified"] {
            let date = answer.field(date).expect("in the order above");
            assert!(is_http_date(date), "{target}: {date}");
        }
    }
}

#[test]
fn errors_have_the_type_and_body_of_ec2() {
    let mock = example();
    let token = [(TOKEN, mock.token())];
    for (method, target, fields, status, content_type, length) in [
        ("GET", "/nowhere", &token[..], 404, "text/html", 339),
        ("GET", "/", &[], 401, "text/plain", 0),
        (
            "POST",
            "/latest/meta-data/mac",
            &token,
            403,
            "text/plain",
            0,
        ),
        ("PUT", "/2009-04-04/api/token", &token, 403, "text/plain", 0),
        ("PUT", "/2009-04-04/api/token", &[], 401, "text/plain", 0),
    ] {
        let answer = mock.ask(method, target, fields);
        assert_eq!(answer.status, status, "{method} {target}");
        assert_eq!(answer.field("Content-Type"), Some(content_type), "{target}");
        assert_eq!(answer.body.len(), length, "{target}");
        assert_eq!(answer.field("Server"), Some("EC2ws"), "{target}");
        assert_eq!(answer.field("Connection"), Some("close"), "{target}");
        for absent in ["Transfer-Encoding", "ETag", "Location", "Last-Modified"] {
            assert_eq!(answer.field(absent), None, "{target}");
        }
    }
}

#[test]
fn head_has_the_fields_of_get_and_no_body() {
    let mock = example();
    let fields = [(TOKEN, mock.token())];
    for target in [
        "/",
        "/latest/meta-data/mac",
        "/latest/user-data",
        "/nowhere",
    ] {
        // `ask` fails if a byte follows the fields.
        let head = mock.ask("HEAD", target, &fields);
        let get = mock.ask("GET", target, &fields);
        assert_eq!(head.status, get.status, "{target}");
        assert_eq!(head.names(), get.names(), "{target}");
        assert_eq!(steady(&head), steady(&get), "{target}");
        assert!(!get.body.is_empty(), "{target}: nothing is tested");
    }
}

#[test]
fn other_methods_are_403_whatever_is_asked_for() {
    let mock = example();
    let fields = [(TOKEN, mock.token())];
    for method in ["POST", "PUT", "DELETE", "PATCH", "TRACE"] {
        for target in [
            "/",
            "/latest/",
            "/latest/meta-data/mac",
            "/2009-04-04/user-data",
            "/nowhere",
        ] {
            let answer = mock.ask(method, target, &fields);
            assert_eq!(answer.status, 403, "{method} {target}");
            assert_eq!(answer.field("Allow"), None, "{method} {target}");
        }
    }
    for method in ["BREW", "get", "PROPFIND"] {
        assert_eq!(mock.ask(method, "/", &fields).status, 501, "{method}");
    }
}

#[test]
fn user_data_is_served_byte_for_byte() {
    let bytes: Vec<u8> = (0..=255).chain(*b"\r\n\0\xff\n\n").collect();
    let base64 = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &bytes);
    let file = TempFile::new(&bytes);
    let largest = "x".repeat(16384);
    for (config, expected) in [
        (json!({"user_data": "a\r\nb\n\n"}), &b"a\r\nb\n\n"[..]),
        (
            json!({"user_data": "\u{e4}\u{0}"}),
            "\u{e4}\u{0}".as_bytes(),
        ),
        (json!({"user_data_base64": base64}), &bytes),
        (json!({"user_data_file": file.path()}), &bytes),
        (json!({"user_data": largest}), largest.as_bytes()),
    ] {
        let mock = Mock::start(&config);
        for target in ["/latest/user-data", "/2009-04-04/user-data"] {
            let answer = mock.get(target);
            assert_eq!(answer.status, 200);
            assert_eq!(
                answer.field("Content-Type"),
                Some("application/octet-stream")
            );
            assert!(answer.body == expected, "{config}");
        }
        assert_eq!(mock.text("/latest/"), "dynamic\nmeta-data\nuser-data");
    }
}

#[test]
fn without_user_data_there_is_none_though_it_is_listed() {
    for config in [
        json!({}),
        json!({"user_data": ""}),
        json!({"user_data": null}),
        json!({"user_data_base64": ""}),
    ] {
        let mock = Mock::start(&config);
        assert_eq!(mock.get("/latest/user-data").status, 404, "{config}");
        let listing = mock.text("/latest/");
        assert_eq!(listing, "dynamic\nmeta-data\nuser-data", "{config}");
    }
}

#[test]
fn the_identity_document_has_ec2s_keys_order_spacing_and_nulls() {
    let mock = Mock::start(&json!({
        "instance_id": "i-1", "account_id": "111122223333", "region": "eu-central-1",
        "availability_zone": "eu-central-1b", "instance_type": "m5.large",
        "architecture": "arm64", "local_ipv4": "10.1.2.3", "ami_id": "ami-1",
        "product_codes": ["code1", "code2"], "kernel_id": "aki-1",
    }));
    let document = mock.text("/latest/dynamic/instance-identity/document");
    let expected = concat!(
        "{\n",
        "  \"accountId\" : \"111122223333\",\n",
        "  \"architecture\" : \"arm64\",\n",
        "  \"availabilityZone\" : \"eu-central-1b\",\n",
        "  \"billingProducts\" : null,\n",
        "  \"devpayProductCodes\" : null,\n",
        "  \"marketplaceProductCodes\" : [ \"code1\", \"code2\" ],\n",
        "  \"imageId\" : \"ami-1\",\n",
        "  \"instanceId\" : \"i-1\",\n",
        "  \"instanceType\" : \"m5.large\",\n",
        "  \"kernelId\" : \"aki-1\",\n",
        "  \"pendingTime\" : \"2026-01-02T03:04:05Z\",\n",
        "  \"privateIp\" : \"10.1.2.3\",\n",
        "  \"ramdiskId\" : null,\n",
        "  \"region\" : \"eu-central-1\",\n",
        "  \"version\" : \"2017-09-30\"\n",
        "}",
    );
    assert_eq!(document, expected);
}

#[test]
fn any_value_of_the_identity_document_may_be_set() {
    let mock = Mock::start(&json!({"instance_id": "i-1", "identity_document": {
        "billingProducts": ["bp-1"], "version": "2010-08-31", "kernelId": "aki-2",
        "architecture": null, "zExtra": 7,
    }}));
    let text = mock.text("/latest/dynamic/instance-identity/document");
    let document: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(document["billingProducts"], json!(["bp-1"]));
    assert_eq!(document["version"], "2010-08-31");
    assert_eq!(document["kernelId"], "aki-2");
    assert_eq!(document["architecture"], Value::Null);
    assert_eq!(document["instanceId"], "i-1");
    assert_eq!(document["zExtra"], 7);
    assert!(text.ends_with("\"zExtra\" : 7\n}"), "{text}");
}

#[test]
fn signatures_are_what_is_configured_or_placeholders() {
    let mock = Mock::start(&json!({"dynamic": {
        "instance-identity/pkcs7": "p", "instance-identity/rsa2048": "r",
        "instance-identity/dsa2048": "d", "instance-identity/signature": "s",
    }}));
    let directory = "/latest/dynamic/instance-identity/";
    let listing = "document\ndsa2048\npkcs7\nrsa2048\nsignature";
    assert_eq!(mock.text(directory), listing);
    for (name, value) in [
        ("pkcs7", "p"),
        ("rsa2048", "r"),
        ("dsa2048", "d"),
        ("signature", "s"),
    ] {
        assert_eq!(mock.text(&format!("{directory}{name}")), value);
    }
    let mock = Mock::start(&json!({}));
    for (name, value) in [
        ("pkcs7", "FAKE_PKCS7"),
        ("rsa2048", "FAKE_RSA2048"),
        ("signature", "FAKE_SIGNATURE"),
    ] {
        assert_eq!(mock.text(&format!("{directory}{name}")), value);
    }
}
