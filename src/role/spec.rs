//! The checks that make a [`Spec`] of [`Settings`], done once (limits: docs/reference/sts.md,
//! "Request").

use std::fmt;
use std::time::Duration;

use super::arn::{RoleArn, is_name_byte};
use super::delivery::ForV1;
use super::endpoint::{EXPECTED_URL, Endpoint};
use super::settings::{FieldError, Settings, Warning};

/// A role as it will be assumed. Made by [`Spec::build`] only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    pub(super) arn: RoleArn,
    pub(super) session_name: String,
    /// That of the session for version 1, where it has its own.
    pub(super) v1_session_name: Option<String>,
    pub(super) v1: ForV1,
    pub(super) duration: Duration,
    pub(super) external_id: Option<String>,
    pub(super) policy: Option<String>,
    pub(super) policy_arns: Vec<String>,
    pub(super) session_tags: Vec<(String, String)>,
    pub(super) endpoint: Endpoint,
    pub(super) signing_region: String,
}

impl Spec {
    /// Checks everything and returns all errors, not only the first.
    pub fn build(settings: Settings) -> Result<(Spec, Vec<Warning>), Vec<FieldError>> {
        let mut checks = Checks::default();
        let arn = checks.arn(&settings.arn);
        let duration = checks.duration(settings.duration_seconds);
        let session_name =
            checks.session_name(settings.session_name, settings.default_session_name);
        let v1_session_name = match settings.v1 {
            ForV1::Separate => checks.v1_session_name(&session_name),
            ForV1::Same | ForV1::Nothing => None,
        };
        checks.external_id(settings.external_id.as_deref());
        checks.policies(settings.policy.as_deref(), &settings.policy_arns);
        checks.tags(&settings.session_tags);
        let region = settings.sts_region.unwrap_or(settings.region);
        let endpoint = checks.endpoint(settings.sts_endpoint.as_deref(), &region, arn.as_ref());
        let (Some(arn), Some(endpoint), true) = (arn, endpoint, checks.errors.is_empty()) else {
            return Err(checks.errors);
        };
        let warnings = match endpoint.is_encrypted || endpoint.is_loopback {
            true => vec![],
            false => vec![Warning::PlainHttp(endpoint.url.clone())],
        };
        let spec = Spec {
            arn,
            session_name,
            v1_session_name,
            v1: settings.v1,
            duration,
            external_id: settings.external_id,
            policy: settings.policy,
            policy_arns: settings.policy_arns,
            session_tags: settings.session_tags,
            endpoint,
            signing_region: region,
        };
        Ok((spec, warnings))
    }

    /// The role.
    pub fn arn(&self) -> &RoleArn {
        &self.arn
    }

    /// The name its sessions have.
    pub fn session_name(&self) -> &str {
        &self.session_name
    }

    /// The names of all that are kept: that one, and that for version 1, where it has its own.
    pub(super) fn session_names(&self) -> impl Iterator<Item = &str> {
        [&self.session_name]
            .into_iter()
            .chain(&self.v1_session_name)
            .map(String::as_str)
    }
}

/// The errors found so far; each check reads one field.
#[derive(Default)]
struct Checks {
    errors: Vec<FieldError>,
}

impl Checks {
    fn refuse(&mut self, key: &str, found: impl fmt::Display, expected: impl fmt::Display) {
        self.errors.push(FieldError {
            key: format!("role.{key}"),
            found: found.to_string(),
            expected: expected.to_string(),
        });
    }

    fn arn(&mut self, text: &str) -> Option<RoleArn> {
        RoleArn::parse(text)
            .map_err(|e| self.refuse("arn", text, e))
            .ok()
    }

    fn duration(&mut self, seconds: Option<i64>) -> Duration {
        let seconds = seconds.unwrap_or(3600);
        if !(900..=3600).contains(&seconds) {
            self.refuse(
                "duration_seconds",
                seconds,
                "900 to 3600 seconds (the role renews itself, and a session made by a role \
                 session is one hour at most)",
            );
        }
        Duration::from_secs(seconds.unsigned_abs())
    }

    fn session_name(&mut self, configured: Option<String>, default: String) -> String {
        let origin = match configured {
            Some(_) => "",
            None => "; this one is the instance id",
        };
        let name = configured.unwrap_or(default);
        if !(2..=64).contains(&name.len()) || !name.bytes().all(is_name_byte) {
            self.refuse(
                "session_name",
                &name,
                format_args!("2 to 64 letters, digits or _+=,.@-{origin}"),
            );
        }
        name
    }

    /// The name of a second session beside `name`, which is legal if that is.
    fn v1_session_name(&mut self, name: &str) -> Option<String> {
        let v1_name = format!("{}-v1", name.get(..name.len().min(61))?);
        if v1_name == name {
            let expected = "another name, for this is the one of the session for version 1";
            self.refuse("session_name", name, expected);
        }
        Some(v1_name)
    }

    fn external_id(&mut self, id: Option<&str>) {
        let is_allowed = |b| is_name_byte(b) || b == b':' || b == b'/';
        if let Some(id) = id
            && !((2..=1224).contains(&id.len()) && id.bytes().all(is_allowed))
        {
            self.refuse("external_id", id, "2 to 1224 letters, digits or _+=,.@-:/");
        }
    }

    fn policies(&mut self, policy: Option<&str>, arns: &[String]) {
        if arns.len() > 10 {
            self.refuse(
                "policy_arns",
                format_args!("{} ARNs", arns.len()),
                "at most 10",
            );
        }
        for (at, arn) in arns.iter().enumerate() {
            let is_arn = (20..=2048).contains(&arn.len())
                && arn.starts_with("arn:")
                && arn.bytes().all(|b| b.is_ascii_graphic());
            if !is_arn {
                self.refuse(
                    &format!("policy_arns[{at}]"),
                    arn,
                    "a policy ARN like arn:aws:iam::aws:policy/ReadOnlyAccess",
                );
            }
        }
        let Some(policy) = policy else { return };
        if !serde_json::from_str::<serde_json::Value>(policy).is_ok_and(|json| json.is_object()) {
            self.refuse("policy", policy, "a policy document (a JSON object)");
        }
        let length = policy.chars().count() + arns.iter().map(String::len).sum::<usize>();
        if length > 2048 {
            self.refuse(
                "policy",
                format_args!("{length} characters"),
                "at most 2048 characters together with policy_arns",
            );
        }
    }

    fn tags(&mut self, tags: &[(String, String)]) {
        if tags.len() > 50 {
            self.refuse(
                "session_tags",
                format_args!("{} tags", tags.len()),
                "at most 50",
            );
        }
        for (name, value) in tags {
            if !(1..=128).contains(&name.chars().count()) {
                self.refuse("session_tags", name, "tag keys of 1 to 128 characters");
            }
            if value.chars().count() > 256 {
                let key = format!("session_tags.{name}");
                self.refuse(&key, value, "a tag value of at most 256 characters");
            }
        }
    }

    fn endpoint(
        &mut self,
        url: Option<&str>,
        region: &str,
        arn: Option<&RoleArn>,
    ) -> Option<Endpoint> {
        if let Some(url) = url {
            let endpoint = Endpoint::parse(url);
            if endpoint.is_none() {
                self.refuse("sts_endpoint", url, EXPECTED_URL);
            }
            if region.is_empty() || !region.bytes().all(|b| b.is_ascii_graphic() && b != b'/') {
                self.refuse("sts_region", region, "the name of a region to sign for");
            }
            return endpoint;
        }
        let Some((endpoint, partition)) = Endpoint::regional(region) else {
            self.refuse(
                "sts_region",
                region,
                "a region of AWS, where STS can be: set sts_region to one, or sts_endpoint to the \
                 URL of your STS",
            );
            return None;
        };
        match arn {
            Some(arn) if arn.partition() != partition => {
                self.refuse(
                    "sts_region",
                    region,
                    format_args!("a region of the role's partition, {}", arn.partition()),
                );
                None
            }
            _ => Some(endpoint),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings {
            arn: "arn:aws:iam::123456789012:role/app".into(),
            default_session_name: "i-1234567890abcdef0".into(),
            region: "us-east-1".into(),
            ..Settings::default()
        }
    }

    #[test]
    fn the_defaults_are_an_hour_the_instance_id_and_the_regional_endpoint() {
        let (spec, warnings) = Spec::build(settings()).unwrap();
        assert_eq!(spec.duration, Duration::from_secs(3600));
        assert_eq!(spec.session_name(), "i-1234567890abcdef0");
        assert_eq!(spec.endpoint.url, "https://sts.us-east-1.amazonaws.com/");
        assert_eq!(spec.signing_region, "us-east-1");
        assert_eq!(warnings, []);
    }

    #[test]
    fn a_separate_session_for_version_1_has_a_name_of_its_own() {
        let long = "n".repeat(64);
        let cut = format!("{}-v1", &long[..61]);
        for (v1, name, expected) in [
            (ForV1::Same, "me", Some(None)),
            (ForV1::Nothing, "me", Some(None)),
            (ForV1::Separate, "me", Some(Some("me-v1"))),
            (ForV1::Separate, &long, Some(Some(&cut))),
            // The cut one would be the same.
            (ForV1::Separate, &cut, None),
        ] {
            let built = Spec::build(Settings {
                v1,
                session_name: Some(name.to_owned()),
                ..settings()
            });
            let found = built.as_ref().ok();
            let found = found.map(|(spec, _)| spec.v1_session_name.as_deref());
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn the_signing_region_is_sts_region_else_region_whatever_its_shape() {
        let url = Some("http://127.0.0.1:5000".to_owned());
        for (sts_endpoint, sts_region, region, signed) in [
            (None, Some("eu-west-1"), "lab-1", "eu-west-1"),
            (url.clone(), None, "lab-1", "lab-1"),
            (url.clone(), Some("rack9"), "lab-1", "rack9"),
        ] {
            let (spec, _) = Spec::build(Settings {
                sts_endpoint,
                sts_region: sts_region.map(str::to_owned),
                region: region.into(),
                ..settings()
            })
            .unwrap();
            assert_eq!(spec.signing_region, signed);
        }
    }

    #[test]
    fn an_unencrypted_endpoint_off_this_machine_earns_a_warning() {
        for (url, warned) in [
            ("http://127.0.0.1:5000", false),
            ("http://localhost:5000", false),
            ("https://sts.example", false),
            ("http://sts.example", true),
            ("http://192.0.2.1", true),
        ] {
            let (_, warnings) = Spec::build(Settings {
                sts_endpoint: Some(url.into()),
                ..settings()
            })
            .unwrap();
            assert_eq!(!warnings.is_empty(), warned, "{url}");
        }
    }

    #[test]
    fn an_unusable_value_is_an_error_naming_key_and_value() {
        type Change = fn(&mut Settings);
        let cases: [(Change, &str, &str); 19] = [
            (|s| s.arn = "app".into(), "role.arn", "app"),
            (
                |s| s.session_name = Some("a".into()),
                "role.session_name",
                "a",
            ),
            (
                |s| s.session_name = Some("a b".into()),
                "role.session_name",
                "a b",
            ),
            (
                |s| s.default_session_name = "my host".into(),
                "role.session_name",
                "my host",
            ),
            (
                |s| s.duration_seconds = Some(899),
                "role.duration_seconds",
                "899",
            ),
            (
                |s| s.duration_seconds = Some(3601),
                "role.duration_seconds",
                "3601",
            ),
            (
                |s| s.duration_seconds = Some(i64::MIN),
                "role.duration_seconds",
                "-9223372036854775808",
            ),
            (
                |s| s.external_id = Some("x".into()),
                "role.external_id",
                "x",
            ),
            (
                |s| s.external_id = Some("x!y".into()),
                "role.external_id",
                "x!y",
            ),
            (|s| s.policy = Some("{".into()), "role.policy", "{"),
            (|s| s.policy = Some("[]".into()), "role.policy", "[]"),
            (
                |s| s.policy = Some(format!("{{\"a\":\"{}\"}}", "x".repeat(2041))),
                "role.policy",
                "2049 characters",
            ),
            (
                |s| s.policy_arns = vec!["nope".into()],
                "role.policy_arns[0]",
                "nope",
            ),
            (
                |s| s.policy_arns = vec!["arn:aws:iam::aws:policy/X".into(); 11],
                "role.policy_arns",
                "11 ARNs",
            ),
            (
                |s| s.session_tags = vec![("k".into(), "v".into()); 51],
                "role.session_tags",
                "51 tags",
            ),
            (
                |s| s.session_tags = vec![("".into(), "v".into())],
                "role.session_tags",
                "",
            ),
            (
                |s| s.sts_endpoint = Some("sts".into()),
                "role.sts_endpoint",
                "sts",
            ),
            (|s| s.region = "mars-1".into(), "role.sts_region", "mars-1"),
            (
                |s| s.sts_region = Some("cn-north-1".into()),
                "role.sts_region",
                "cn-north-1",
            ),
        ];
        for (change, key, found) in cases {
            let mut settings = settings();
            change(&mut settings);
            let errors = Spec::build(settings).unwrap_err();
            let [error] = &errors[..] else {
                panic!("{errors:?}")
            };
            assert_eq!((error.key.as_str(), error.found.as_str()), (key, found));
            assert!(error.to_string().contains(&format!("{found:?}")), "{error}");
        }
    }

    #[test]
    fn every_wrong_value_is_reported_at_once() {
        let errors = Spec::build(Settings {
            arn: "x".into(),
            duration_seconds: Some(7200),
            ..settings()
        })
        .unwrap_err();
        assert_eq!(errors.len(), 2);
        assert!(errors[1].to_string().contains("one hour at most"));
    }
}
