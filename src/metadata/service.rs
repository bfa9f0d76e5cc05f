//! The metadata port as a server sees it: who is let in, how long a request waits, what is noted of
//! its answer.

use std::sync::Arc;

use super::ec2::{self, admits};
use crate::access::Reported;
use crate::http::{Caller, Reply, Request, Service, Step};
use crate::instance::{Injection, Instance, Snapshot};
use crate::log::{self, Log, Report};
use crate::observe::{Arrival, Observer};

/// EC2's service over one instance.
pub struct MetadataService {
    pub instance: Arc<Instance>,
    pub observer: Option<Arc<Observer>>,
    /// Where request lines go.
    pub requests: Option<Log>,
    /// Who was told of as refused.
    pub refused: Reported,
    pub report: Report,
}

impl Service for MetadataService {
    fn server_name(&self) -> &'static str {
        "EC2ws"
    }

    fn unix_ms(&self) -> i64 {
        self.instance.clock.unix_ms()
    }

    fn judges_callers(&self) -> bool {
        self.instance.snapshot().config.rules.judge_callers()
    }

    fn admits(&self, caller: Caller) -> bool {
        let admitted = self
            .instance
            .snapshot()
            .config
            .rules
            .admit(caller.address, caller.is_local);
        if !admitted && self.refused.first_time(caller.address) {
            let address = caller.address;
            (self.report)(&format!(
                "refused a connection from {address}, which is not this machine; \
                 to let it have the role's credentials, add \"{address}\" to \"allow_from\""
            ));
        }
        admitted
    }

    fn answer(&self, request: &Request) -> Step {
        let arrival = self.observer.as_ref().map(|_| Arrival::now());
        let snapshot = self.instance.snapshot();
        let injection = match admits(&snapshot, request) {
            true => self.instance.faults.inject(&snapshot.config, request),
            // Who is refused is not made to wait.
            false => Injection::default(),
        };
        if injection.wait.is_zero() {
            let watch = self.observer.as_deref().zip(arrival);
            return Step::Reply(answer(&self.instance, &snapshot, request, injection, watch));
        }
        let (instance, observer) = (self.instance.clone(), self.observer.clone());
        let resume = move |request: &Request| {
            let watch = observer.as_deref().zip(arrival);
            answer(&instance, &snapshot, request, injection, watch)
        };
        Step::Wait(injection.wait, Box::new(resume))
    }

    fn refusal(&self, status: u16) -> Reply {
        if let Some(observer) = &self.observer {
            observer.note_refusal(status);
        }
        Reply::page(status)
    }

    fn answered(&self, request: Option<&Request>, reply: &Reply) {
        let status = reply.status;
        if let Some(log) = &self.requests {
            log.line(|line| {
                let (method, target) = match request {
                    Some(request) => (request.method.name(), request.target),
                    None => ("-", "-"),
                };
                line.extend_from_slice(method.as_bytes());
                line.push(b' ');
                log::escape(target, line);
                line.extend_from_slice(b" -> ");
                for digit in [status / 100, status / 10, status] {
                    line.push(b"0123456789"[usize::from(digit % 10)]);
                }
            });
        }
    }
}

/// Answers a request whose time has come, and has it noted.
fn answer(
    instance: &Instance,
    snapshot: &Snapshot,
    request: &Request,
    injection: Injection,
    watch: Option<(&Observer, Arrival)>,
) -> Reply {
    let answer = ec2::answer(instance, snapshot, request, injection);
    if let Some((observer, arrival)) = watch {
        observer.note(&instance.clock, request, &arrival, answer.outcome);
    }
    answer.reply
}
