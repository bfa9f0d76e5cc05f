//! What STS answers to AssumeRole: the XML taken apart and errors sorted by what helps against them
//! (docs/reference/sts.md, "Response", "Errors"). No sockets, no clock.

use std::time::Duration;

use roxmltree::{Document, Node};

use super::clock::{Clock, Moment};
use super::secret::{Credentials, Secret};
use crate::date::Date;

/// The code of an answer that is not STS's, or not a whole one.
pub(super) const UNUSABLE: &str = "UnusableAnswer";

/// Credentials as STS handed them out.
pub(super) struct Grant {
    pub(super) credentials: Credentials,
    /// Without its fraction, which the documents of the metadata service cannot show.
    pub(super) expires: Date,
}

/// Why a call brought no credentials. The texts are as they came: [`super::text::presentable`]
/// before anyone sees them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CallError {
    /// STS's code, or one of ours where STS did not speak.
    pub(super) code: String,
    pub(super) message: String,
    pub(super) kind: Kind,
    /// How long STS asks to be left alone.
    pub(super) retry_after: Option<Duration>,
}

/// A call from its beginning to its end.
pub(super) struct Exchange {
    pub(super) outcome: Result<Grant, CallError>,
    /// When whoever answered says that was.
    pub(super) date: Option<Date>,
    pub(super) sent: Moment,
    pub(super) answered: Moment,
}

impl Exchange {
    /// No exchange at all: the machine could not even begin one.
    pub(super) fn none(message: &str, at: Moment) -> Exchange {
        Exchange {
            outcome: Err(CallError::unanswered("NoAnswer", message)),
            date: None,
            sent: at,
            answered: at,
        }
    }

    /// `clock`, which dated the call, as it should have been; `None` if it agrees with STS.
    pub(super) fn corrected(&self, clock: Clock) -> Option<Clock> {
        // Somebody in between who answers in STS's place may have any time.
        let is_from_sts = !matches!(&self.outcome, Err(error) if error.code == UNUSABLE);
        let date = self.date.filter(|_| is_from_sts)?;
        clock.corrected(date, self.sent, self.answered)
    }
}

/// What helps against an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Waiting: the network, the load, or somebody in between.
    Transient,
    /// A policy change; other credentials may be allowed.
    Denied,
    /// Other credentials: these are unknown, wrong or expired.
    Dead,
    /// A change of the configuration or on the AWS side.
    Refused,
}

impl CallError {
    /// Nothing that STS said: `code` is ours.
    pub(super) fn unanswered(code: &str, message: impl Into<String>) -> CallError {
        CallError {
            code: code.to_owned(),
            message: message.into(),
            kind: Kind::Transient,
            retry_after: None,
        }
    }

    /// Whether a clock that is off can be the reason (docs/reference/sts.md, "Clocks").
    pub(super) fn may_be_the_clock(&self) -> bool {
        matches!(
            self.code.as_str(),
            "InvalidSignatureException"
                | "SignatureDoesNotMatch"
                | "AuthFailure"
                | "RequestTimeTooSkewed"
                | "AccessDeniedException"
                | "RequestExpired"
                | "RequestInTheFuture"
        )
    }
}

impl Kind {
    /// By code first: the statuses of common codes are not in STS's model.
    fn of(code: &str, status: u16) -> Kind {
        match code {
            "AccessDenied" | "AccessDeniedException" => Kind::Denied,
            "ExpiredToken"
            | "ExpiredTokenException"
            | "InvalidClientTokenId"
            | "SignatureDoesNotMatch" => Kind::Dead,
            "Throttling"
            | "ThrottlingException"
            | "ThrottledException"
            | "RequestThrottled"
            | "RequestThrottledException"
            | "TooManyRequestsException"
            | "RequestLimitExceeded"
            | "SlowDown"
            | "BandwidthLimitExceeded"
            | "RequestTimeout"
            | "RequestTimeoutException"
            | "InternalFailure"
            | "ServiceUnavailable"
            | "RequestExpired"
            | "RequestTimeTooSkewed"
            | "RequestInTheFuture" => Kind::Transient,
            _ if status == 429 || status >= 500 => Kind::Transient,
            _ => Kind::Refused,
        }
    }
}

/// Reads a whole answer. `retry_after` only matters where it is an error.
pub(super) fn read(
    status: u16,
    body: &[u8],
    retry_after: Option<Duration>,
) -> Result<Grant, CallError> {
    let unusable = |what: &str| CallError {
        retry_after,
        ..CallError::unanswered(UNUSABLE, format!("HTTP {status}, {what}"))
    };
    if (300..400).contains(&status) {
        return Err(unusable("a redirect, which is not followed"));
    }
    let text = std::str::from_utf8(body).map_err(|_| unusable("not UTF-8"))?;
    // No DTD is allowed, so no entity can grow.
    let document = Document::parse(text).map_err(|_| unusable("not XML"))?;
    let root = document.root_element();
    let error = root
        .descendants()
        .find(|node| node.tag_name().name() == "Error" && child(*node, "Code").is_some());
    if let Some(error) = error {
        let code = text_of(error, "Code").unwrap_or_default();
        let message = text_of(error, "Message").unwrap_or_default();
        return Err(CallError {
            kind: Kind::of(&code, status),
            code,
            message: format!("HTTP {status}, {message}"),
            retry_after,
        });
    }
    let credentials = Some(root)
        .filter(|root| status == 200 && root.tag_name().name() == "AssumeRoleResponse")
        .and_then(|root| child(child(root, "AssumeRoleResult")?, "Credentials"))
        .ok_or_else(|| unusable("neither credentials nor an error"))?;
    grant(credentials).map_err(|field| unusable(&format!("without a usable {field}")))
}

/// Reads the element `Credentials`; an error is the name of the element that is wrong.
fn grant(credentials: Node) -> Result<Grant, &'static str> {
    let key_material = |name| {
        text_of(credentials, name)
            .filter(|text| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic()))
            .ok_or(name)
    };
    let expires = text_of(credentials, "Expiration")
        .and_then(|text| Date::parse(&text))
        .map(Date::truncate_to_second)
        .ok_or("Expiration")?;
    Ok(Grant {
        credentials: Credentials {
            access_key_id: key_material("AccessKeyId")?,
            secret_access_key: Secret::new(key_material("SecretAccessKey")?),
            token: Some(Secret::new(key_material("SessionToken")?)),
        },
        expires,
    })
}

/// The first child element of that name, in whatever namespace.
fn child<'a, 'i>(parent: Node<'a, 'i>, name: &str) -> Option<Node<'a, 'i>> {
    parent
        .children()
        .find(|node| node.is_element() && node.tag_name().name() == name)
}

/// The trimmed text of that child. An entity or a comment divides a text into several nodes.
fn text_of(parent: Node, name: &str) -> Option<String> {
    let text: String = child(parent, name)?
        .children()
        .filter(Node::is_text)
        .filter_map(|node| node.text())
        .collect();
    Some(text.trim().to_owned())
}

/// How long to wait, from `x-amz-retry-after` (milliseconds) or `Retry-After` (seconds or a date).
pub(super) fn retry_after(
    amz_milliseconds: Option<&str>,
    standard: Option<&str>,
    now: Date,
) -> Option<Duration> {
    if let Some(milliseconds) = amz_milliseconds.and_then(|text| text.trim().parse().ok()) {
        return Some(Duration::from_millis(milliseconds));
    }
    let standard = standard?.trim();
    match standard.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => Some(
            (Date::parse_http(standard)? - now)
                .try_into()
                .unwrap_or_default(),
        ),
    }
}

/// What holds for any bytes that STS could send: no panic, and a grant has all its parts.
#[cfg(any(test, fuzzing))]
pub(super) fn hold_against(bytes: &[u8]) {
    for status in [200, 403, 503] {
        if let Ok(grant) = read(status, bytes, None) {
            assert!(!grant.credentials.access_key_id.is_empty());
            assert!(grant.credentials.token.is_some());
        }
    }
}

/// The door of the fuzz target.
#[cfg(fuzzing)]
pub fn fuzzed_answer(bytes: &[u8]) {
    hold_against(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpus_holds() {
        for file in std::fs::read_dir("fuzz/corpus/answer").unwrap() {
            hold_against(&std::fs::read(file.unwrap().path()).unwrap());
        }
    }

    const NAMESPACE: &str = r#" xmlns="https://sts.amazonaws.com/doc/2011-06-15/""#;

    fn answer(attributes: &str, credentials: &str) -> String {
        format!(
            "<AssumeRoleResponse{attributes}><AssumeRoleResult><AssumedRoleUser><Arn>a</Arn>\
             </AssumedRoleUser><Credentials>{credentials}</Credentials></AssumeRoleResult>\
             <ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></AssumeRoleResponse>"
        )
    }

    fn read_text(status: u16, body: &str) -> Result<Grant, CallError> {
        read(status, body.as_bytes(), None)
    }

    #[test]
    fn every_tolerated_form_of_the_answer_gives_the_same_credentials() {
        let plain = "<AccessKeyId>ASIA1</AccessKeyId><SecretAccessKey>s/+=</SecretAccessKey>\
            <SessionToken>t&amp;t==</SessionToken><Expiration>2026-01-02T03:04:05Z</Expiration>";
        let other_order = "\n <Expiration>\n2026-01-02T03:04:05.987Z </Expiration><!-- c -->\
            <SessionToken>t<!-- c -->&#38;t==</SessionToken><New/>\
            <SecretAccessKey><![CDATA[s/+=]]></SecretAccessKey>\
            <AccessKeyId>\n  ASIA1\n</AccessKeyId>\r\n";
        for body in [
            answer(NAMESPACE, plain),
            answer("", plain),
            answer(NAMESPACE, other_order),
            format!("<?xml version=\"1.0\"?>\n{}\n", answer(NAMESPACE, plain)),
            format!("\u{feff}{}", answer(NAMESPACE, plain)),
            answer(NAMESPACE, plain)
                .replace("</", "</s:")
                .replace('<', "<s:")
                .replace("<s:/s:", "</s:")
                .replace(" xmlns=", " xmlns:s="),
            answer(NAMESPACE, &plain.replace("05Z", "05+00:00")),
        ] {
            let grant = read_text(200, &body).unwrap_or_else(|e| panic!("{e:?}: {body}"));
            let credentials = grant.credentials;
            assert_eq!(credentials.access_key_id, "ASIA1");
            assert_eq!(credentials.secret_access_key.expose(), "s/+=");
            assert_eq!(credentials.token.unwrap().expose(), "t&t==");
            assert_eq!(grant.expires, Date::parse("2026-01-02T03:04:05Z").unwrap());
        }
    }

    #[test]
    fn an_expiration_is_read_with_its_offset_or_is_none() {
        for (text, read_as) in [
            ("2026-01-02T05:04:05+02:00", Some("2026-01-02T03:04:05Z")),
            ("2026-01-02T05:04:05.9-23:59", Some("2026-01-03T05:03:05Z")),
            ("2026-01-02T05:04:05-00:00", Some("2026-01-02T05:04:05Z")),
            ("0000-01-01T00:00:00Z", Some("0000-01-01T00:00:00Z")),
            ("0000-01-01T00:00:00+00:01", None),
            ("9999-12-31T23:59:59.9Z", Some("9999-12-31T23:59:59Z")),
            ("9999-12-31T23:59:59-00:01", None),
            ("9999-12-31T23:59:59-23:59", None),
            ("10000-01-01T00:00:00Z", None),
            ("2026-01-02T05:04:05", None),
            ("2026-02-30T00:00:00Z", None),
            ("1767323045", None),
        ] {
            let credentials = format!(
                "<AccessKeyId>A</AccessKeyId><SecretAccessKey>s</SecretAccessKey>\
                 <SessionToken>t</SessionToken><Expiration>{text}</Expiration>"
            );
            let found = read_text(200, &answer("", &credentials));
            match (found, read_as) {
                (Ok(grant), Some(date)) => assert_eq!(grant.expires.to_string(), date, "{text}"),
                (Err(error), None) => {
                    assert_eq!(error.code, UNUSABLE);
                    assert!(error.message.contains("Expiration"), "{}", error.message);
                }
                (found, _) => panic!("{text}: {:?}", found.err()),
            }
        }
    }

    #[test]
    fn an_answer_that_is_not_whole_gives_no_credentials() {
        let plain = "<AccessKeyId>ASIA1</AccessKeyId><SecretAccessKey>hush</SecretAccessKey>\
            <SessionToken>hush</SessionToken><Expiration>2026-01-02T03:04:05Z</Expiration>";
        let whole = answer(NAMESPACE, plain);
        for (status, body, what) in [
            (200, whole.replace("ASIA1", ""), "AccessKeyId"),
            (200, whole.replace("ASIA1", "A\nB"), "AccessKeyId"),
            (
                200,
                whole.replace("<SessionToken>hush</SessionToken>", ""),
                "SessionToken",
            ),
            (200, whole.replace("2026", "soon"), "Expiration"),
            (200, whole.replace("AssumeRoleResponse", "html"), "neither"),
            (200, whole[..whole.len() / 2].to_owned(), "not XML"),
            (200, String::new(), "not XML"),
            (200, "{\"a\":\"hush\"}".to_owned(), "not XML"),
            (
                200,
                format!("<!DOCTYPE a [<!ENTITY e \"hush\">]>{whole}"),
                "not XML",
            ),
            (200, "<a>".repeat(300_000), "not XML"),
            (500, whole.clone(), "neither"),
            (302, whole.clone(), "redirect"),
        ] {
            let Err(error) = read_text(status, &body) else {
                panic!("{body}")
            };
            assert_eq!(
                (error.code.as_str(), error.kind),
                ("UnusableAnswer", Kind::Transient)
            );
            assert!(error.message.contains(what), "{}", error.message);
            assert!(error.message.contains(&status.to_string()));
            assert!(!error.message.contains("hush"));
        }
        assert!(read(200, b"\xff\xfe<", None).is_err());
        let deep = format!("{}{}", "<a>".repeat(100_000), "</a>".repeat(100_000));
        assert!(read_text(200, &deep).is_err());
    }

    #[test]
    fn errors_are_sorted_by_what_helps_against_them() {
        for (status, code, kind) in [
            (403, "AccessDenied", Kind::Denied),
            (403, "ExpiredToken", Kind::Dead),
            (403, "InvalidClientTokenId", Kind::Dead),
            (403, "SignatureDoesNotMatch", Kind::Dead),
            (400, "Throttling", Kind::Transient),
            (400, "RequestLimitExceeded", Kind::Transient),
            (429, "Whatever", Kind::Transient),
            (503, "SlowDown", Kind::Transient),
            (500, "InternalFailure", Kind::Transient),
            (502, "Whatever", Kind::Transient),
            (400, "RequestExpired", Kind::Transient),
            (400, "ValidationError", Kind::Refused),
            (400, "PackedPolicyTooLarge", Kind::Refused),
            (403, "RegionDisabledException", Kind::Refused),
            (403, "MissingAuthenticationToken", Kind::Refused),
            (418, "Whatever", Kind::Refused),
        ] {
            let error =
                format!("<Type>Sender</Type><Code>{code}</Code><Message>m &lt; n</Message>");
            for body in [
                format!("<ErrorResponse{NAMESPACE}>\n <Error>{error}</Error></ErrorResponse>"),
                format!("<Response><Errors><Error>{error}</Error></Errors></Response>"),
                format!("<Error>{error}</Error>"),
            ] {
                let found = read_text(status, &body).err().unwrap();
                assert_eq!(found.kind, kind, "{code}");
                assert_eq!(found.code, code);
                assert_eq!(found.message, format!("HTTP {status}, m < n"));
            }
        }
    }

    #[test]
    fn the_wish_to_be_left_alone_is_read_in_all_its_forms() {
        let now = Date::parse("2026-01-02T03:04:05Z").unwrap();
        for (amz, standard, wait) in [
            (None, None, None),
            (Some("1500"), Some("60"), Some(1500)),
            (Some("soon"), Some("60"), Some(60_000)),
            (None, Some(" 2 "), Some(2000)),
            (None, Some("Fri, 02 Jan 2026 03:04:35 GMT"), Some(30_000)),
            (None, Some("Fri, 02 Jan 2026 03:00:00 GMT"), Some(0)),
            (None, Some("soon"), None),
            (None, Some("-1"), None),
        ] {
            let found = retry_after(amz, standard, now);
            assert_eq!(
                found,
                wait.map(Duration::from_millis),
                "{amz:?} {standard:?}"
            );
        }
    }
}
