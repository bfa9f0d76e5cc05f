//! AWS Signature Version 4, header form (docs/reference/sts.md, "Signing"). Knows nothing of
//! STS or sockets: it signs exactly the headers it is given.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// What is signed. Every header given is signed, so `host` and `x-amz-date` must be among them and
/// what a proxy may change must not.
pub struct Request<'a> {
    pub method: &'a str,
    /// The request target as sent: path and, behind a `?`, the query.
    pub target: &'a str,
    pub headers: &'a [(&'a str, &'a str)],
    pub body: &'a [u8],
}

/// Where and when a signature holds.
pub struct Scope<'a> {
    /// As in the header `x-amz-date`, see [`Date::basic`].
    ///
    /// [`Date::basic`]: crate::date::Date::basic
    pub amz_date: &'a str,
    pub region: &'a str,
    pub service: &'a str,
}

impl Scope<'_> {
    fn date(&self) -> &str {
        self.amz_date.get(..8).unwrap_or(self.amz_date)
    }

    fn text(&self) -> String {
        format!(
            "{}/{}/{}/aws4_request",
            self.date(),
            self.region,
            self.service
        )
    }
}

/// The value of the header `Authorization` for `request`.
pub fn authorization(request: &Request, scope: &Scope, key_id: &str, secret: &str) -> String {
    let (canonical, signed) = canonical(request);
    let signature = hmac(
        signing_key(secret, scope).as_slice(),
        string_to_sign(&canonical, scope).as_bytes(),
    );
    let signature = hex(signature.as_slice());
    format!(
        "AWS4-HMAC-SHA256 Credential={key_id}/{}, SignedHeaders={signed}, Signature={signature}",
        scope.text()
    )
}

/// The canonical request and the names of the signed headers.
fn canonical(request: &Request) -> (String, String) {
    let (path, query) = request
        .target
        .split_once('?')
        .unwrap_or((request.target, ""));
    let mut parameters: Vec<(String, String)> = query
        .split('&')
        .filter(|parameter| !parameter.is_empty())
        .map(|parameter| parameter.split_once('=').unwrap_or((parameter, "")))
        .map(|(name, value)| (percent_encode(name, "%"), percent_encode(value, "%")))
        .collect();
    parameters.sort();
    let query: Vec<String> = parameters
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();

    let mut headers: Vec<(String, String)> = Vec::new();
    for (name, value) in request.headers {
        let name = name.to_ascii_lowercase();
        let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
        match headers.iter_mut().find(|(known, _)| *known == name) {
            // Repeated headers are one, their values in the order sent.
            Some((_, values)) => *values = format!("{values},{value}"),
            None => headers.push((name, value)),
        }
    }
    headers.sort();
    let lines: String = headers
        .iter()
        .map(|(name, value)| format!("{name}:{value}\n"))
        .collect();
    let signed: Vec<&str> = headers.iter().map(|(name, _)| name.as_str()).collect();
    let signed = signed.join(";");
    let canonical = format!(
        "{}\n{}\n{}\n{lines}\n{signed}\n{}",
        request.method,
        // What is encoded already, stays so.
        percent_encode(path, "/%"),
        query.join("&"),
        hex(&Sha256::digest(request.body))
    );
    (canonical, signed)
}

fn string_to_sign(canonical: &str, scope: &Scope) -> String {
    format!(
        "AWS4-HMAC-SHA256\n{}\n{}\n{}",
        scope.amz_date,
        scope.text(),
        hex(&Sha256::digest(canonical))
    )
}

fn signing_key(secret: &str, scope: &Scope) -> Zeroizing<[u8; 32]> {
    let start = Zeroizing::new(format!("AWS4{secret}"));
    let date = hmac(start.as_bytes(), scope.date().as_bytes());
    let region = hmac(date.as_slice(), scope.region.as_bytes());
    let service = hmac(region.as_slice(), scope.service.as_bytes());
    hmac(service.as_slice(), b"aws4_request")
}

fn hmac(key: &[u8], message: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(message);
    Zeroizing::new(mac.finalize().into_bytes().into())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `text` with everything as `%XX` but letters, digits, `-_.~` and the characters of `kept`.
pub(super) fn percent_encode(text: &str, kept: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match char::from(byte) {
            c if c.is_ascii_alphanumeric() || "-_.~".contains(c) || kept.contains(c) => {
                encoded.push(c);
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    const BODY: &str = "Action=AssumeRole&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A\
        123456789012%3Arole%2Fdemo-role&RoleSessionName=mock&DurationSeconds=3600&ExternalId=\
        a%2Bb%2Fc%3Ad%3De";

    #[test]
    fn signatures_match_published_and_derived_ones() {
        let post = |headers| Request {
            method: "POST",
            target: "/",
            headers,
            body: b"",
        };
        let scope = |amz_date, region, service| Scope {
            amz_date,
            region,
            service,
        };
        let key = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
        for (request, scope, id, key, signature) in [
            // The AWS suite's post-vanilla.
            (
                post(&[
                    ("Host", "example.amazonaws.com\n"),
                    ("X-Amz-Date", "20150830T123600Z"),
                ]),
                scope("20150830T123600Z", "us-east-1", "service"),
                "AKIDEXAMPLE",
                key,
                "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
            ),
            // The AWS suite's get-vanilla-query-order-key-case.
            (
                Request {
                    method: "GET",
                    target: "/?Param2=value2&Param1=value1",
                    ..post(&[
                        ("Host", "example.amazonaws.com"),
                        ("X-Amz-Date", "20150830T123600Z"),
                    ])
                },
                scope("20150830T123600Z", "us-east-1", "service"),
                "AKIDEXAMPLE",
                key,
                "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            ),
            // An AssumeRole on the global endpoint, as botocore signs it.
            (
                Request {
                    body: BODY.as_bytes(),
                    ..post(&[
                        ("host", "sts.amazonaws.com"),
                        (
                            "content-type",
                            "application/x-www-form-urlencoded; charset=utf-8",
                        ),
                        ("x-amz-date", "20260630T000000Z"),
                    ])
                },
                scope("20260630T000000Z", "us-east-1", "sts"),
                "AKIAIOSFODNN7EXAMPLE",
                "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
                "37b92a604ae0dd0bb8271c6141c90bddaf40c01e118bf31d5ec8b53563089b84",
            ),
        ] {
            let found = authorization(&request, &scope, id, key);
            assert!(
                found.ends_with(&format!("Signature={signature}")),
                "{found}"
            );
        }
    }

    /// AWS's own, and more; each says where it is from.
    #[test]
    fn every_vector_matches_at_every_step() {
        let text = include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/data/sigv4-vectors.json"
        ));
        let file: Value = serde_json::from_str(text).unwrap();
        let vectors = file["vectors"].as_array().unwrap();
        assert!(vectors.len() >= 19);
        for vector in vectors {
            let text = |key: &str| vector[key].as_str().unwrap_or_default();
            let content_hash = hex(&Sha256::digest(text("body")));
            let mut headers: Vec<(&str, &str)> = vector["headers"]
                .as_array()
                .unwrap()
                .iter()
                .map(|pair| (pair[0].as_str().unwrap(), pair[1].as_str().unwrap()))
                .collect();
            headers.push(("X-Amz-Date", text("amz_date")));
            if vector["session_token"].is_string()
                && vector["omit_session_token_from_signature"] == false
            {
                headers.push(("X-Amz-Security-Token", text("session_token")));
            }
            if vector["content_sha256_header_signed"] == true {
                headers.push(("X-Amz-Content-Sha256", &content_hash));
            }
            let request = Request {
                method: text("method"),
                target: text("target"),
                headers: &headers,
                body: text("body").as_bytes(),
            };
            let scope = Scope {
                amz_date: text("amz_date"),
                region: text("region"),
                service: text("service"),
            };
            let (id, secret) = (text("access_key_id"), text("secret_access_key"));
            let name = text("name");
            let (canonical, _) = canonical(&request);
            assert_eq!(canonical, text("canonical_request"), "{name}");
            assert_eq!(
                string_to_sign(&canonical, &scope),
                text("string_to_sign"),
                "{name}"
            );
            assert_eq!(
                hex(signing_key(secret, &scope).as_slice()),
                text("signing_key_hex")
            );
            assert_eq!(
                authorization(&request, &scope, id, secret),
                text("authorization"),
                "{name}"
            );
        }
    }
}
