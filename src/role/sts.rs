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

use super::answer::{self, CallError, Exchange};
use super::clock::{Clock, Moment};
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

/// A way to STS for one role. Shared by the threads that call.
pub(super) struct Client {
    agent: Agent,
    spec: Spec,
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
            spec: spec.clone(),
            limits,
        })
    }

    /// The body of the request for a session of that name (docs/reference/sts.md, "Request").
    pub(super) fn form(&self, session_name: &str) -> String {
        let spec = &self.spec;
        let mut form = "Action=AssumeRole&Version=2011-06-15".to_owned();
        let mut add = |name: &str, value: &str| {
            form.push_str(&format!("&{name}={}", percent_encode(value, "")));
        };
        add("RoleArn", spec.arn.as_str());
        add("RoleSessionName", session_name);
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

    /// Calls AssumeRole with the body `form`, dated by `clock`. Blocks for at most `Limits::call`.
    pub(super) fn assume_role(&self, form: &str, signer: &Credentials, clock: Clock) -> Exchange {
        let sent = Moment::now();
        let posted = self.post(form, signer, &clock.at(sent).basic());
        let answered = Moment::now();
        let (outcome, date) = match posted {
            Err(error) => (Err(self.unanswered(error)), None),
            Ok((response, body)) => {
                let header = |name| response.headers().get(name)?.to_str().ok();
                let date = header("date").and_then(Date::parse_http);
                let wait = answer::retry_after(
                    header("x-amz-retry-after"),
                    header("retry-after"),
                    date.unwrap_or(clock.at(answered)),
                );
                (answer::read(response.status().as_u16(), &body, wait), date)
            }
        };
        Exchange {
            outcome,
            date,
            sent,
            answered,
        }
    }

    fn post(
        &self,
        form: &str,
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
                body: form.as_bytes(),
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
        let mut response = request.send(form)?;
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
