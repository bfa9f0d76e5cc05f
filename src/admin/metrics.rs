//! `/metrics` in the Prometheus text format, version 0.0.4: one family after the other, made anew
//! for each scrape.

use std::fmt::{Display, Write};
use std::sync::Arc;

use super::reply::not_allowed;
use crate::http::{Entity, Method, Reply, Request};
use crate::instance::Instance;
use crate::observe::Observer;
use crate::role::Phase;

const CONTENT_TYPE: &str = "text/plain; version=0.0.4";

/// `GET /metrics`. `connections` is how many are open now.
pub fn route(
    instance: &Instance,
    observer: &Observer,
    connections: usize,
    request: &Request,
) -> Reply {
    match request.method {
        Method::Get | Method::Head => {
            let text = text(instance, observer, connections);
            Reply::ok(Arc::new(Entity::new(CONTENT_TYPE, None, text)))
        }
        _ => not_allowed("GET, HEAD"),
    }
}

fn text(instance: &Instance, observer: &Observer, connections: usize) -> String {
    let mut out = String::new();
    family(
        &mut out,
        "requests_total",
        "counter",
        "Requests to the metadata service by status (0: no answer) and kind: v1, v2, token, or none where no request could be read.",
        observer
            .requests()
            .iter()
            .map(|((protocol, status), count)| {
                let imds = protocol.map_or("none", |protocol| protocol.name());
                (format!("{{status=\"{status}\",imds=\"{imds}\"}}"), count)
            }),
    );
    family(
        &mut out,
        "tokens_live",
        "gauge",
        "Session tokens that have been issued and have not expired.",
        alone(instance.tokens.live(instance.clock.monotonic_us())),
    );
    family(
        &mut out,
        "connections",
        "gauge",
        "Open connections to both services, this one included.",
        alone(connections),
    );
    let role = instance.role();
    let phase = role.as_ref().map(|role| role.phase());
    let phases = [None].into_iter().chain(Phase::ALL.map(Some));
    family(
        &mut out,
        "role_state",
        "gauge",
        "1 for the state that the role is in, 0 for the others.",
        phases.map(|known| {
            let name = known.map_or("none", Phase::name);
            (format!("{{state=\"{name}\"}}"), u8::from(known == phase))
        }),
    );
    family(
        &mut out,
        "role_expiry_seconds",
        "gauge",
        "How long the credentials that STS handed out are still good; absent without any.",
        role.iter()
            .filter_map(|role| role.seconds_left())
            .flat_map(alone),
    );
    family(
        &mut out,
        "role_renewals_total",
        "counter",
        "Times that credentials of STS took the place of earlier ones.",
        alone(role.map_or(0, |role| role.renewals())),
    );
    family(
        &mut out,
        "faults_applied_total",
        "counter",
        "Requests to which a fault happened.",
        alone(instance.faults.applied()),
    );
    out
}

/// A sample without labels.
fn alone<T>(value: T) -> [(String, T); 1] {
    [(String::new(), value)]
}

/// One family: what it is, and its samples as labels and value.
fn family<T: Display>(
    out: &mut String,
    name: &str,
    kind: &str,
    help: &str,
    samples: impl IntoIterator<Item = (String, T)>,
) {
    let _ = write!(
        out,
        "# HELP imds_mock_{name} {help}\n# TYPE imds_mock_{name} {kind}\n"
    );
    for (labels, value) in samples {
        let _ = writeln!(out, "imds_mock_{name}{labels} {value}");
    }
}
