//! A real role through the real binary: the administrative service, who may use it, and what the
//! metadata service hands out meanwhile. STS is one on loopback that misbehaves on request.

mod access;
mod bootstrap;
mod flags;
mod life;
mod reload;
mod secrets;
mod service;
mod state_file;
mod v1;

use std::time::Duration;

use crate::common::sts::FakeSts;
use crate::common::{Answer, Mock, SECOND, wait_until};
use serde_json::{Value, json};

const ARN: &str = "arn:aws:iam::123456789012:role/path/app";
const ROLES: &str = "/latest/meta-data/iam/security-credentials/";
const DOCUMENT: &str = "/latest/meta-data/iam/security-credentials/app";
const CREDS: &str = "/bootstrap/creds";
/// Sessions that no test sees renewed.
const HOUR: Duration = Duration::from_secs(3600);

/// A configuration whose role asks `sts`.
fn with_role(sts: &FakeSts) -> Value {
    json!({"region": "rack-9", "role": {"arn": ARN, "sts_endpoint": sts.url()}})
}

/// Starts a daemon that asks `sts`, with more arguments.
fn start(sts: &FakeSts, arguments: &[&str]) -> Mock {
    Mock::with_admin(&with_role(sts), arguments)
}

/// What a role has to say.
impl Mock {
    /// Posts bootstrap credentials with that content type.
    fn post_as(&self, content_type: Option<&str>, body: impl AsRef<[u8]>) -> Answer {
        let fields = content_type.map(|value| ("Content-Type", value));
        self.call_with("POST", CREDS, fields.as_slice(), body)
    }

    /// Posts bootstrap credentials, which must be taken.
    fn bootstrap(&self, key: &crate::common::sts::Key) {
        let answer = self.post_as(Some("application/json"), key.json());
        assert_eq!((answer.status, answer.text()), (200, ""));
    }

    /// Posts `key` and waits until it has assumed the role.
    fn assume_with(&self, key: &crate::common::sts::Key) {
        self.bootstrap(key);
        self.wait_for(&format!("signed by {}", key.id));
    }

    fn status(&self) -> bool {
        let answer = self.call("GET", "/status", "");
        assert_eq!(answer.status, 200);
        assert_eq!(answer.field("Content-Type"), Some("application/json"));
        match answer.text().trim_end() {
            "true" => true,
            "false" => false,
            other => panic!("{other:?}"),
        }
    }

    fn verbose(&self) -> Value {
        let answer = self.call("GET", "/status?verbose", "");
        assert_eq!(answer.status, 200);
        serde_json::from_slice(&answer.body).expect("JSON")
    }

    /// The role document, whatever it says.
    fn document(&self) -> Value {
        serde_json::from_str(&self.text(DOCUMENT)).expect("JSON")
    }

    /// The key id in the role document, which must have one.
    fn served(&self) -> String {
        let document = self.document();
        let id = document["AccessKeyId"].as_str();
        id.unwrap_or_else(|| panic!("{document}")).to_owned()
    }

    /// Writes `config` and has it read.
    fn reload(&self, config: &Value) {
        self.write(config.to_string());
        self.signal("HUP");
    }
}

/// Holds an answer to the form of errors: that status, one line of JSON. Returns what it says.
fn error_of(answer: &Answer, status: u16) -> String {
    assert_eq!(answer.status, status, "{:?}", answer.text());
    assert_eq!(answer.field("Content-Type"), Some("application/json"));
    let text = answer.text();
    assert_eq!(text.matches('\n').count(), 1, "{text:?}");
    assert!(text.ends_with('\n'), "{text:?}");
    let error: Value = serde_json::from_str(text).expect("JSON");
    let what = error["error"].as_str().expect("a text");
    assert_eq!(error, json!({ "error": what }));
    assert!(!what.is_empty());
    what.to_owned()
}
