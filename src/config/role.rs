//! The `role` object: a role whose credentials come from STS, are written down here, or fail on
//! purpose.

use std::sync::Arc;

use serde_json::Value;

use super::report::Section;
use crate::role::{Credentials, FailureCode, ForV1, RoleArn, Secret, Settings, Source, Static};

const KEYS: &[&str] = &[
    "arn",
    "code",
    "credentials",
    "duration_seconds",
    "external_id",
    "policy",
    "policy_arns",
    "session_name",
    "session_tags",
    "sts_endpoint",
    "sts_region",
    "v1",
];
const CREDENTIAL_KEYS: &[&str] = &["access_key_id", "secret_access_key", "token", "expiration"];

/// Reads `role.arn` alone: the account of the instance may follow from it.
pub(super) fn arn(top: &Section) -> Option<RoleArn> {
    let role = top.section("role")?;
    let text = role.text("arn")?;
    match RoleArn::parse(text) {
        Ok(arn) => Some(arn),
        Err(e) => {
            role.problem("arn", format!("expected {e}, found {text:?}"));
            None
        }
    }
}

/// Reads the rest of `role`. `region` and `instance_id` are what STS's region and the session's
/// name follow from.
pub(super) fn read(
    top: &Section,
    arn: Option<&RoleArn>,
    region: &str,
    instance_id: &str,
) -> Option<Source> {
    let role = top.section("role")?;
    for key in KEYS {
        role.get(key);
    }
    role.warn_unknown();
    if role.get("arn").is_none() {
        if KEYS.iter().any(|key| role.get(key).is_some()) {
            role.problem("arn", "missing: the role that the rest is about");
        }
        return None;
    }
    let arn = arn?;
    let expected = "Success or a code of EC2's failure documents: Failed, \
                    InstanceProfileNotFound, AssumeRoleUnauthorizedAccess";
    let code = role.parsed("code", expected, |text| {
        let failure = FailureCode::parse(text);
        (text == "Success" || failure.is_some()).then_some(failure)
    });
    let v1 = role.parsed("v1", "same, separate or none", ForV1::parse);
    let v1 = v1.unwrap_or_default();
    let fixed = match (code.flatten(), role.secret_section("credentials")) {
        (Some(code), _) => Static::failing(code, arn.name()),
        (None, Some(section)) => credentials(&section)?,
        (None, None) => return sts(&role, arn, v1, region, instance_id),
    };
    if v1 == ForV1::Separate {
        let what = "expected same or none, found \"separate\": only STS gives a second session";
        role.problem("v1", what);
    }
    Some(Source::fixed(arn.clone(), fixed, v1))
}

fn credentials(section: &Section) -> Option<Static> {
    for key in CREDENTIAL_KEYS {
        section.get(key);
    }
    section.warn_unknown();
    let required = |key: &str| {
        if section.get(key).is_none() {
            section.problem(key, "missing: a secret that has to be filled in");
        }
        section.text(key).map(str::to_owned)
    };
    let keys = CREDENTIAL_KEYS[..3]
        .iter()
        .map(|key| required(key))
        .collect::<Vec<_>>();
    let expiration = super::event::date(section, "expiration");
    let [Some(id), Some(secret), Some(token)] = <[Option<String>; 3]>::try_from(keys).ok()? else {
        return None;
    };
    Some(Static::Valid {
        credentials: Arc::new(Credentials {
            access_key_id: id,
            secret_access_key: Secret::new(secret),
            token: Some(Secret::new(token)),
        }),
        expiration,
    })
}

fn sts(
    role: &Section,
    arn: &RoleArn,
    v1: ForV1,
    region: &str,
    instance_id: &str,
) -> Option<Source> {
    let text = |key: &str| role.text(key).map(str::to_owned);
    let policy = match role.get("policy") {
        // JSON within JSON may be written either way.
        Some(Value::Object(policy)) => Some(Value::Object(policy.clone()).to_string()),
        _ => role.any_text("policy").map(str::to_owned),
    };
    let mut tags = Vec::new();
    for (name, value) in role.entries("session_tags") {
        match value.as_str() {
            Some(value) => tags.push((name.to_owned(), value.to_owned())),
            None if value.is_null() => {}
            None => role.expected_entry("session_tags", name, "a text", value),
        }
    }
    let settings = Settings {
        arn: arn.as_str().to_owned(),
        session_name: text("session_name"),
        default_session_name: instance_id.to_owned(),
        duration_seconds: role
            .number("duration_seconds")
            .map(|n| n.try_into().unwrap_or(i64::MAX)),
        external_id: text("external_id"),
        policy,
        policy_arns: role.lines("policy_arns"),
        session_tags: tags,
        v1,
        sts_endpoint: text("sts_endpoint"),
        sts_region: text("sts_region"),
        region: region.to_owned(),
    };
    match Source::sts(settings) {
        Ok((source, warnings)) => {
            for warning in warnings {
                role.report.warning("", warning.to_string());
            }
            Some(source)
        }
        Err(errors) => {
            for error in errors {
                let what = format!("expected {}, found {:?}", error.expected, error.found);
                role.report.problem(error.key, what);
            }
            None
        }
    }
}

/// The object as it may be shown: every secret is null, and what is ignored, perhaps a secret under
/// a wrong name, is left out.
pub(super) fn without_secrets(role: &mut Value) {
    let Some(role) = role.as_object_mut() else {
        return;
    };
    role.retain(|key, _| KEYS.contains(&key.as_str()));
    if let Some(credentials) = role.get_mut("credentials").and_then(Value::as_object_mut) {
        credentials.retain(|key, _| CREDENTIAL_KEYS.contains(&key.as_str()));
        for key in ["secret_access_key", "token"] {
            credentials
                .entry(key)
                .and_modify(|value| *value = Value::Null);
        }
    }
}
