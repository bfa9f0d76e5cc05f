//! One AssumeRole call: the request built and signed, sent through ureq within limits, the answer
//! handed to `answer`. The only file of the project that knows ureq's calls.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ureq::http::{HeaderValue, Response};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body, Proxy};
use zeroize::Zeroizing;

use super::answer::{self, CallError, Grant};
use super::clock::Clock;
use super::secret::Credentials;
use super::sigv4::{self, percent_encode};
use super::spec::Spec;
use crate::date::Date;

const CONTENT_TYPE: &str = "application/x-www-form-urlencoded; charset=utf-8";

/// How much of time and memory a call may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Until the connection stands, TLS included.
    pub connect: Duration,
    /// From the name lookup to the last byte of the answer.
    pub call: Duration,
    pub answer_bytes: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connect: Duration::from_secs(5),
            call: Duration::from_secs(15),
            answer_bytes: 1024 * 1024,
        }
    }
}

/// Why the certificates in `AWS_CA_BUNDLE` cannot be used.
#[derive(Debug)]
pub struct BadCaBundle {
    path: PathBuf,
    reason: String,
}

impl std::fmt::Display for BadCaBundle {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "AWS_CA_BUNDLE: {}: {}", self.path.display(), self.reason)
    }
}

impl std::error::Error for BadCaBundle {}

/// What an exchange brought.
pub(super) struct Exchange {
    pub(super) outcome: Result<Grant, CallError>,
    /// The clock as it must be from now on, where STS's `Date` showed it to be off.
    pub(super) clock: Option<Clock>,
}

impl Exchange {
    /// No exchange at all: the machine could not even begin one.
    pub(super) fn none(message: &str) -> Exchange {
        Exchange {
            outcome: Err(CallError::unanswered("NoAnswer", message)),
            clock: None,
        }
    }
}

/// A way to STS for one role. Shared by the threads that call.
pub(super) struct Client {
    agent: Agent,
    spec: Spec,
    form: String,
    limits: Limits,
}

impl Client {
    /// Proxies are taken from the environment (`HTTPS_PROXY`, `NO_PROXY`, ...), but never used for
    /// a loopback endpoint. The certificates of `ca_bundle` replace the built-in roots, as in the
    /// AWS SDKs.
    pub(super) fn new(
        spec: &Spec,
        limits: Limits,
        ca_bundle: Option<&Path>,
    ) -> Result<Client, BadCaBundle> {
        let roots = match ca_bundle {
            Some(path) => read_roots(path)?,
            None => RootCerts::WebPki,
        };
        let proxy = match spec.endpoint.is_loopback {
            true => None,
            false => Proxy::try_from_env(),
        };
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(proxy)
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .timeout_connect(Some(limits.connect))
            .timeout_global(Some(limits.call))
            // Calls are half an hour apart: a kept connection would only be found dead.
            .max_idle_connections(0)
            .user_agent(concat!("imds_mock/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Client {
            agent: config.new_agent(),
            form: form(spec),
            spec: spec.clone(),
            limits,
        })
    }

    /// Calls AssumeRole, twice where the first error can come from a clock that is off and the
    /// first answer showed it to be. Blocks for at most twice `Limits::call`.
    pub(super) fn assume_role(&self, signer: &Credentials, clock: Clock) -> Exchange {
        let first = self.exchange(signer, clock);
        match (&first.outcome, first.clock) {
            (Err(error), Some(clock)) if error.may_be_the_clock() => {
                let second = self.exchange(signer, clock);
                Exchange {
                    clock: second.clock.or(first.clock),
                    ..second
                }
            }
            _ => first,
        }
    }

    fn exchange(&self, signer: &Credentials, clock: Clock) -> Exchange {
        let sent = clock.now();
        let (response, body) = match self.post(signer, &sent.basic()) {
            Ok(answered) => answered,
            Err(error) => {
                return Exchange {
                    outcome: Err(self.unanswered(error)),
                    clock: None,
                };
            }
        };
        let answered = clock.now();
        let header = |name| response.headers().get(name)?.to_str().ok();
        let date = header("date").and_then(Date::parse_http);
        let wait = answer::retry_after(
            header("x-amz-retry-after"),
            header("retry-after"),
            date.unwrap_or(answered),
        );
        let mut outcome = answer::read(response.status().as_u16(), &body, wait);
        // Somebody in between who answers in STS's place may have any time.
        let is_from_sts = !matches!(&outcome, Err(error) if error.code == answer::UNUSABLE);
        let corrected = date
            .filter(|_| is_from_sts)
            .and_then(|date| clock.corrected(date, sent, answered));
        let now = corrected.unwrap_or(clock).now();
        if let Ok(grant) = &outcome
            && grant.expires <= now
        {
            outcome = Err(CallError::unanswered(
                answer::UNUSABLE,
                format!(
                    "credentials that expired at {}, and it is {}",
                    grant.expires, now
                ),
            ));
        }
        Exchange {
            outcome,
            clock: corrected,
        }
    }

    fn post(
        &self,
        signer: &Credentials,
        amz_date: &str,
    ) -> Result<(Response<Body>, Zeroizing<Vec<u8>>), ureq::Error> {
        let endpoint = &self.spec.endpoint;
        let mut headers = vec![
            ("host", endpoint.host.as_str()),
            ("content-type", CONTENT_TYPE),
            ("x-amz-date", amz_date),
        ];
        if let Some(token) = &signer.token {
            headers.push(("x-amz-security-token", token.expose()));
        }
        let authorization = sigv4::authorization(
            &sigv4::Request {
                method: "POST",
                target: &endpoint.path,
                headers: &headers,
                body: self.form.as_bytes(),
            },
            &sigv4::Scope {
                amz_date,
                region: &self.spec.signing_region,
                service: "sts",
            },
            &signer.access_key_id,
            signer.secret_access_key.expose(),
        );
        headers.push(("authorization", &authorization));
        let mut request = self.agent.post(&endpoint.url);
        for (name, value) in headers {
            let mut value = HeaderValue::from_str(value).map_err(ureq::http::Error::from)?;
            value.set_sensitive(name == "x-amz-security-token" || name == "authorization");
            request = request.header(name, value);
        }
        let mut response = request.send(self.form.as_str())?;
        // Room for a usual answer, so that none of it is left behind by growing.
        let mut body = Zeroizing::new(Vec::with_capacity(16 * 1024));
        response
            .body_mut()
            .with_config()
            .limit(self.limits.answer_bytes)
            .reader()
            .read_to_end(&mut body)?;
        Ok((response, body))
    }

    /// A failure below HTTP, in words for the person who has to find the reason.
    fn unanswered(&self, error: ureq::Error) -> CallError {
        let host = &self.spec.endpoint.host;
        let (connect, call) = (self.limits.connect, self.limits.call);
        let message = match error {
            ureq::Error::BodyExceedsLimit(limit) => {
                let message = format!("more than {limit} bytes");
                return CallError::unanswered(answer::UNUSABLE, message);
            }
            ureq::Error::Timeout(ureq::Timeout::Connect) => {
                format!("{host}: no connection within {connect:?}")
            }
            ureq::Error::Timeout(_) => format!("{host}: no whole answer within {call:?}"),
            ureq::Error::Io(e) => format!("{host}: {e}"),
            other => format!("{host}: {other}"),
        };
        CallError::unanswered("NoAnswer", message)
    }
}

/// The body of the request (reference/credentials.md, section 2).
fn form(spec: &Spec) -> String {
    let mut form = "Action=AssumeRole&Version=2011-06-15".to_owned();
    let mut add = |name: &str, value: &str| {
        form.push_str(&format!("&{name}={}", percent_encode(value, "")));
    };
    add("RoleArn", spec.arn.as_str());
    add("RoleSessionName", &spec.session_name);
    add("DurationSeconds", &spec.duration.as_secs().to_string());
    if let Some(id) = &spec.external_id {
        add("ExternalId", id);
    }
    if let Some(policy) = &spec.policy {
        add("Policy", policy);
    }
    for (arn, n) in spec.policy_arns.iter().zip(1..) {
        add(&format!("PolicyArns.member.{n}.arn"), arn);
    }
    for ((key, value), n) in spec.session_tags.iter().zip(1..) {
        add(&format!("Tags.member.{n}.Key"), key);
        add(&format!("Tags.member.{n}.Value"), value);
    }
    form
}

fn read_roots(path: &Path) -> Result<RootCerts, BadCaBundle> {
    let bad = |reason: String| BadCaBundle {
        path: path.to_owned(),
        reason,
    };
    let pem = fs::read(path).map_err(|e| bad(e.to_string()))?;
    let items: Result<Vec<PemItem>, _> = parse_pem(&pem).collect();
    let roots: Vec<_> = items
        .map_err(|e| bad(e.to_string()))?
        .into_iter()
        .filter_map(|item| match item {
            PemItem::Certificate(certificate) => Some(certificate),
            _ => None,
        })
        .collect();
    match roots.is_empty() {
        true => Err(bad("no certificate in it".to_owned())),
        false => Ok(RootCerts::new_with_certs(&roots)),
    }
}
