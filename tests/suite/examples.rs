//! The bytes of what is served: every example of the catalogue, and the documents of a role
//! (docs/reference/metadata.md, "Credentials documents", "Dynamic data").

use crate::common::catalogue::{Catalogue, ROLE_ARN, imaginary, mac_of, with_every_condition};
use crate::common::{Mock, TOKEN};
use serde_json::{Value, json};

/// A document of dates and made-up keys with those blanked, and each checked for its form.
fn blanked(document: &str, keys: &[&str]) -> String {
    let lines = document.split('\n').map(|line| {
        let Some((key, value)) = line.split_once(" : ") else {
            return line.to_owned();
        };
        let name = key.trim().trim_matches('"');
        if !keys.contains(&name) {
            return line.to_owned();
        }
        let (value, comma) = match value.strip_suffix(',') {
            Some(value) => (value, ","),
            None => (value, ""),
        };
        let text = value.trim_matches('"');
        assert_eq!(value.len(), text.len() + 2, "{line}");
        let legal = match name {
            "LastUpdated" | "Expiration" => {
                let shape = text
                    .bytes()
                    .map(|b| if b.is_ascii_digit() { b'0' } else { b });
                shape.eq(*b"0000-00-00T00:00:00Z")
            }
            "InstanceProfileId" => text.len() == 21 && text.starts_with("AIPA"),
            "AccessKeyId" => text.len() == 20 && text.starts_with("ASIA"),
            "SecretAccessKey" => text.len() == 40,
            _ => !text.is_empty(),
        };
        assert!(legal, "{line}");
        format!("{key} : \"\"{comma}")
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn every_example_is_served_byte_for_byte() {
    let catalogue = Catalogue::read();
    let plain = Mock::start(&imaginary());
    let every = Mock::start(&with_every_condition(imaginary(), &catalogue));
    let mac = mac_of(&plain);
    for entry in &catalogue.entries {
        let path = catalogue.path(entry, &mac);
        // A listing, and the document that sums up others, is compared where nothing more than its
        // example names is on.
        let sums_up = entry.is_listing || path.ends_with("/document");
        let mock = match sums_up && plain.get(&path).status == 200 {
            true => &plain,
            false => &every,
        };
        let dated: &[&str] = match entry.pattern.as_str() {
            // The versions of the example are a selection; tests/suite/protocol.rs has them all.
            "" => continue,
            // Of another instance; tests/suite/ec2_today.rs has it.
            "meta-data/" => continue,
            "meta-data/managed-ssh-keys/" => {
                assert_eq!(mock.text(&path), "active-keys/\nsigner-cert\nsigner-ocsp/");
                continue;
            }
            p if p.ends_with("/ec2-instance") => &[
                "LastUpdated",
                "AccessKeyId",
                "SecretAccessKey",
                "Token",
                "Expiration",
            ],
            _ => &["LastUpdated", "InstanceProfileId"],
        };
        let text = mock.text(&path);
        match text.contains("LastUpdated") {
            true => assert_eq!(
                blanked(&text, dated),
                blanked(&entry.example, dated),
                "{path}"
            ),
            false => assert_eq!(text, entry.example, "{path}"),
        }
    }
}

#[test]
fn a_role_has_the_documents_of_ec2_for_each_code() {
    let directory = "/latest/meta-data/iam";
    for (code, info, keys) in [
        ("Success", "Success", true),
        ("Failed", "Success", false),
        ("AssumeRoleUnauthorizedAccess", "Success", false),
        ("InstanceProfileNotFound", "InstanceProfileNotFound", false),
    ] {
        let mock = Mock::start(
            &json!({"role": {"arn": ROLE_ARN, "code": code, "credentials": {
                "access_key_id": "A", "secret_access_key": "S", "token": "T",
            }}}),
        );
        let parse = |path: &str| -> Value {
            serde_json::from_str(&mock.text(&format!("{directory}/{path}"))).expect("JSON")
        };
        assert_eq!(parse("info")["Code"], info, "{code}");
        // The name is listed also where credentials cannot be had.
        for path in ["security-credentials", "security-credentials-extended"] {
            for slash in ["", "/"] {
                let listing = mock.text(&format!("{directory}/{path}{slash}"));
                assert_eq!(listing, "demo-role", "{code}");
            }
            let document = parse(&format!("{path}/demo-role"));
            assert_eq!(document["Code"], code);
            assert_eq!(document["AccessKeyId"].is_string(), keys, "{code}");
            assert_eq!(document["Message"].is_string(), !keys, "{code}");
            assert_eq!(
                document["LastUpdated"].as_str().map(str::len),
                Some(20),
                "{code}"
            );
            let other = mock.get(&format!("{directory}/{path}/demo-role2"));
            assert_eq!(other.status, 404, "any other role");
            let is_extended = path.ends_with("extended");
            assert_eq!(
                document["AccountId"] == "123456789012",
                is_extended,
                "{code}"
            );
        }
    }
}

#[test]
fn credentials_without_a_date_are_dated_six_hours_ahead() {
    let mock = Mock::start(&json!({"role": {"arn": ROLE_ARN, "credentials": {
        "access_key_id": "A", "secret_access_key": "S", "token": "T",
    }}}));
    let path = "/latest/meta-data/iam/security-credentials/demo-role";
    let document: Value = serde_json::from_str(&mock.text(path)).expect("JSON");
    let date = |key: &str| {
        let format = &time::format_description::well_known::Rfc3339;
        let text = document[key].as_str().expect("a date");
        time::OffsetDateTime::parse(text, format).expect("RFC 3339")
    };
    assert_eq!(
        date("Expiration") - date("LastUpdated"),
        time::Duration::hours(6)
    );
    let age = time::OffsetDateTime::now_utc() - date("LastUpdated");
    assert!(age < time::Duration::minutes(1), "{age}");
    // The field of the head agrees.
    let last_modified = mock
        .get(path)
        .field("Last-Modified")
        .expect("a date")
        .to_owned();
    let clock = document["LastUpdated"].as_str().expect("a date")[11..19].to_owned();
    assert!(
        last_modified.contains(&clock),
        "{last_modified} and {clock}"
    );
}

#[test]
fn an_old_client_sees_the_role_too() {
    // s3fs asks for the role's name without a token.
    let mock = Mock::start(&json!({
        "http_tokens": "optional", "role": {"arn": ROLE_ARN, "code": "Failed"},
    }));
    let path = "/latest/meta-data/iam/security-credentials/";
    assert_eq!(mock.ask("GET", path, &[]).text(), "demo-role");
    assert_eq!(mock.ask("GET", path, &[(TOKEN, "")]).status, 401);
}
