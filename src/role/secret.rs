//! Key material: a text that cannot be printed by accident and is wiped when dropped, and the
//! credentials made of it.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use zeroize::Zeroizing;

/// A secret text: no `Debug`, `Display` or `Clone`, wiped when dropped.
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the text over without a copy.
    pub fn new(text: String) -> Secret {
        Secret(Zeroizing::new(text))
    }

    /// The text itself, for signing and for the documents that hand it out.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// What signs a request: a long-term key (no token) or a session.
pub struct Credentials {
    /// `AKIA...` or `ASIA...`; not a secret.
    pub access_key_id: String,
    pub secret_access_key: Secret,
    pub token: Option<Secret>,
}

/// Why a text is not credentials. Never says a value.
#[derive(Debug, PartialEq, Eq)]
pub enum BadCredentials {
    /// Not JSON; the place, counted from 1.
    Syntax { line: usize, column: usize },
    /// JSON, but not an object with each key once.
    NotAnObject,
    /// Absent, `null` or empty.
    Missing(&'static str),
    /// Not a string.
    NotText(&'static str),
    /// A blank, a control character or anything outside ASCII, which no key has.
    BadCharacter(&'static str),
    /// An `AccessKeyId` that is none.
    BadKeyId,
}

impl fmt::Display for BadCredentials {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Syntax { line, column } => {
                write!(f, "not valid JSON at line {line}, column {column}")
            }
            Self::NotAnObject => f.write_str(
                "expected a JSON object with AccessKeyId, SecretAccessKey and, for temporary \
                 credentials, Token, each once",
            ),
            Self::Missing(field) => write!(f, "{field} is missing or empty"),
            Self::NotText(field) => write!(f, "{field} must be a string"),
            Self::BadCharacter(field) => {
                write!(f, "{field} has a blank, control or non-ASCII character")
            }
            Self::BadKeyId => f.write_str("AccessKeyId must be 16 to 128 letters and digits"),
        }
    }
}

impl std::error::Error for BadCredentials {}

impl From<serde_json::Error> for BadCredentials {
    /// Drops serde_json's own text, which can quote a value where its type is wrong.
    fn from(error: serde_json::Error) -> BadCredentials {
        if error.is_data() {
            return BadCredentials::NotAnObject;
        }
        BadCredentials::Syntax {
            line: error.line(),
            column: error.column(),
        }
    }
}

impl Credentials {
    /// Reads the JSON of `POST /bootstrap/creds` (docs/reference/sts.md, "The earlier Go daemon"):
    /// `AccessKeyId`, `SecretAccessKey` and `Token` or, as `aws configure export-credentials`
    /// writes it, `SessionToken`. A token that is absent, `null` or empty is none; other keys are
    /// ignored.
    pub fn parse(json: &[u8]) -> Result<Credentials, BadCredentials> {
        let fields: Fields = serde_json::from_slice(json)?;
        // serde takes a list for an object with its values in order.
        if !json.trim_ascii_start().starts_with(b"{") {
            return Err(BadCredentials::NotAnObject);
        }
        let credentials = fields.credentials()?;
        // What signs with anything else STS refuses in any case (IAM's API reference, AccessKey).
        let id = &credentials.access_key_id;
        if !(16..=128).contains(&id.len()) || !id.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(BadCredentials::BadKeyId);
        }
        Ok(credentials)
    }

    /// Whether both have the same key, secret and token.
    pub fn same_as(&self, other: &Credentials) -> bool {
        self.access_key_id == other.access_key_id
            && self.secret_access_key.expose() == other.secret_access_key.expose()
            && self.token.as_ref().map(Secret::expose) == other.token.as_ref().map(Secret::expose)
    }

    /// The texts that must not be shown.
    pub(super) fn secrets(&self) -> impl Iterator<Item = &str> {
        [Some(&self.secret_access_key), self.token.as_ref()]
            .into_iter()
            .flatten()
            .map(Secret::expose)
    }
}

/// Credentials as they stand in JSON, their values not yet looked at.
#[derive(serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Fields {
    #[serde(default)]
    access_key_id: Field,
    #[serde(default)]
    secret_access_key: Field,
    #[serde(default)]
    token: Field,
    #[serde(default)]
    session_token: Field,
}

impl Fields {
    /// Checks the values.
    pub(super) fn credentials(self) -> Result<Credentials, BadCredentials> {
        let required = |field: Field, name| field.text(name)?.ok_or(BadCredentials::Missing(name));
        let id = required(self.access_key_id, "AccessKeyId")?;
        let secret_access_key = required(self.secret_access_key, "SecretAccessKey")?;
        let token = self.token.text("Token")?;
        let session_token = self.session_token.text("SessionToken")?;
        Ok(Credentials {
            access_key_id: id.expose().to_owned(),
            secret_access_key,
            token: token.or(session_token),
        })
    }
}

/// One value, whatever its type: a wrong one is reported by the key's name, never by serde, which
/// would quote it.
#[derive(Default)]
enum Field {
    #[default]
    Absent,
    Text(Secret),
    Other,
}

impl Field {
    fn text(self, name: &'static str) -> Result<Option<Secret>, BadCredentials> {
        match self {
            Field::Absent => Ok(None),
            Field::Text(text) if text.expose().is_empty() => Ok(None),
            Field::Text(text) if !text.expose().bytes().all(|b| b.is_ascii_graphic()) => {
                Err(BadCredentials::BadCharacter(name))
            }
            Field::Text(text) => Ok(Some(text)),
            Field::Other => Err(BadCredentials::NotText(name)),
        }
    }
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Field, D::Error> {
        input.deserialize_any(FieldVisitor)
    }
}

struct FieldVisitor;

impl<'de> Visitor<'de> for FieldVisitor {
    type Value = Field;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_str<E>(self, text: &str) -> Result<Field, E> {
        Ok(Field::Text(Secret::new(text.to_owned())))
    }

    fn visit_unit<E>(self) -> Result<Field, E> {
        Ok(Field::Absent)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Field, E> {
        Ok(Field::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Field, E> {
        Ok(Field::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Field, E> {
        Ok(Field::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Field, E> {
        Ok(Field::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Field, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Field::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Field, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Field::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<(String, String, Option<String>), BadCredentials> {
        Credentials::parse(json.as_bytes()).map(|c| {
            let secret = c.secret_access_key.expose().to_owned();
            let token = c.token.map(|t| t.expose().to_owned());
            (c.access_key_id, secret, token)
        })
    }

    #[test]
    fn every_usual_form_of_bootstrap_credentials_is_read() {
        let token = |json: &str| {
            let (id, secret, token) = parse(json).unwrap();
            assert_eq!(
                (id.as_str(), secret.as_str()),
                ("AKIA111111111111", "s/e+c="),
                "{json}"
            );
            token
        };
        let long_term = r#"{"AccessKeyId":"AKIA111111111111","SecretAccessKey":"s/e+c=""#;
        for (rest, expected) in [
            ("}", None),
            (r#","Token":null}"#, None),
            (r#","Token":""}"#, None),
            (r#","Token":"t"}"#, Some("t")),
            (r#","SessionToken":"t"}"#, Some("t")),
            (r#","Token":"","SessionToken":"t"}"#, Some("t")),
            (
                r#","Version":1,"SessionToken":"t","Expiration":"2026-01-01T00:00:00Z"}"#,
                Some("t"),
            ),
            (r#","Signature":"00ff"}"#, None),
        ] {
            assert_eq!(
                token(&format!("{long_term}{rest}")).as_deref(),
                expected,
                "{rest}"
            );
        }
    }

    #[test]
    fn an_error_names_the_field_and_never_its_value() {
        use BadCredentials::*;
        for (json, error) in [
            ("{}", Missing("AccessKeyId")),
            (
                r#"{"AccessKeyId":null,"SecretAccessKey":"hush"}"#,
                Missing("AccessKeyId"),
            ),
            (
                r#"{"AccessKeyId":"A","SecretAccessKey":""}"#,
                Missing("SecretAccessKey"),
            ),
            (
                r#"{"AccessKeyId":"A","SecretAccessKey":4711}"#,
                NotText("SecretAccessKey"),
            ),
            (
                r#"{"AccessKeyId":"A","SecretAccessKey":["hush"]}"#,
                NotText("SecretAccessKey"),
            ),
            (
                r#"{"AccessKeyId":"A","SecretAccessKey":"hush","Token":{"a":1}}"#,
                NotText("Token"),
            ),
            (
                r#"{"AccessKeyId":"A B","SecretAccessKey":"hush"}"#,
                BadCharacter("AccessKeyId"),
            ),
            (
                r#"{"AccessKeyId":"A","SecretAccessKey":"hush\r\n"}"#,
                BadCharacter("SecretAccessKey"),
            ),
            (
                r#"{"AccessKeyId":"A","SecretAccessKey":"hush","SessionToken":"é"}"#,
                BadCharacter("SessionToken"),
            ),
            (
                r#"{"AccessKeyId":"AKIA","SecretAccessKey":"hush"}"#,
                BadKeyId,
            ),
            (
                r#"{"AccessKeyId":"AKIA-11111111111","SecretAccessKey":"hush"}"#,
                BadKeyId,
            ),
            (r#"["hush"]"#, NotAnObject),
            (r#""hush""#, NotAnObject),
            (r#"{"Token":"hush","Token":"hush"}"#, NotAnObject),
            (
                "{\n\"AccessKeyId\":hush}",
                Syntax {
                    line: 2,
                    column: 15,
                },
            ),
            ("", Syntax { line: 1, column: 0 }),
        ] {
            let found = parse(json).unwrap_err();
            assert!(!found.to_string().contains("hush") && !found.to_string().contains("4711"));
            assert_eq!(found, error, "{json}");
        }
    }
}
