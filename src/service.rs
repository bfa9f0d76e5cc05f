//! Puts the parts together: a configuration, the role it names, the metadata service over both,
//! the administrative service beside it, and the server that carries them. A test, a bench or
//! another program embeds the mock through [`Mock`].

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use crate::access::{AdminSecret, Reported};
use crate::admin::{self, Admin};
use crate::clock::Clock;
use crate::config::{Config, Problem, RoleSource};
use crate::http::{Caller, Limits, Reply, Request, Server, Service};
use crate::imds::{Imds, Instance, RoleSlot};
use crate::log::{self, Log};
use crate::role::{self, Role};

/// What a mock is made of, ready to be served.
pub struct Parts {
    clock: Arc<Clock>,
    role: RoleSlot,
    instance: Instance,
}

/// Says something to whoever runs the mock: one line, without its end.
pub type Report = Arc<dyn Fn(&str) + Send + Sync>;

impl Parts {
    /// Builds everything that `config` asks for and checks whether it can be served. A role of STS
    /// is not started.
    pub fn new(config: Config) -> Result<Parts, Vec<Problem>> {
        let (clock, role) = (Arc::new(Clock::default()), RoleSlot::default());
        Ok(Parts {
            instance: Instance::new(config, &clock, &role)?,
            role,
            clock,
        })
    }

    /// Starts the role, if the configuration names one of STS.
    pub fn start_role(&self, options: role::Options) -> Result<(), role::Error> {
        if let Some(RoleSource::Sts(spec)) = &self.instance.config.role {
            let started = Role::start((**spec).clone(), options)?;
            self.role.get_or_init(|| started);
        }
        Ok(())
    }

    /// The configuration behind it.
    pub fn config(&self) -> &Config {
        &self.instance.config
    }
}

/// The listeners of one service, already bound.
pub type Listeners = Vec<TcpListener>;

/// A mock that runs.
pub struct Mock {
    imds: Arc<Imds>,
    clock: Arc<Clock>,
    role: RoleSlot,
    server: Server,
}

impl Mock {
    /// Serves `parts`: metadata on one set of listeners, administration on another. Request lines go
    /// to `requests`, and `report` is told of refused callers and of trouble in the server.
    pub fn start(
        parts: Parts,
        metadata: Listeners,
        admin: Option<(Listeners, Option<AdminSecret>)>,
        limits: Limits,
        requests: Option<Log>,
        report: Report,
    ) -> io::Result<Mock> {
        let Parts {
            clock,
            role,
            instance,
        } = parts;
        let imds = Arc::new(Imds::new(instance, clock.clone()));
        let metadata_service: Arc<dyn Service> = Arc::new(MetadataService {
            imds: imds.clone(),
            clock: clock.clone(),
            requests,
            refused: Reported::default(),
            report: report.clone(),
        });
        let with = |service: &Arc<dyn Service>, listeners: Listeners| {
            let service = service.clone();
            (listeners.into_iter()).map(move |listener| (listener, service.clone()))
        };
        let mut listeners: Vec<_> = with(&metadata_service, metadata).collect();
        if let Some((admin_listeners, secret)) = admin {
            let service: Arc<dyn Service> = Arc::new(AdminService {
                admin: Admin::new(imds.clone(), role.get().cloned(), secret),
                clock: clock.clone(),
            });
            listeners.extend(with(&service, admin_listeners));
        }
        let server = Server::start(listeners, limits, move |what| report(what))?;
        Ok(Mock {
            imds,
            clock,
            role,
            server,
        })
    }

    /// Replaces the instance by what `config` says; tokens, connections and the role's credentials
    /// stay. The problems are paths that contradict each other; then nothing is changed.
    pub fn reload(&self, config: Config) -> Result<(), Vec<Problem>> {
        let instance = Instance::new(config, &self.clock, &self.role)?;
        self.imds.replace(instance);
        Ok(())
    }

    /// Ends it: requests under way are answered, delays cut short; at most `limit`.
    pub fn stop(&self, limit: Duration) {
        if let Some(role) = self.role.get() {
            role.stop();
        }
        self.server.stop(limit);
    }
}

/// [`Imds`] as a server sees it.
struct MetadataService {
    imds: Arc<Imds>,
    clock: Arc<Clock>,
    requests: Option<Log>,
    refused: Reported,
    report: Report,
}

impl Service for MetadataService {
    fn server_name(&self) -> &'static str {
        "EC2ws"
    }

    fn unix_ms(&self) -> i64 {
        self.clock.unix_ms()
    }

    fn judges_callers(&self) -> bool {
        self.imds.instance().config.rules.judge_callers()
    }

    fn admits(&self, caller: Caller) -> bool {
        let admitted = self.imds.instance().config.rules.admit(caller);
        if !admitted && self.refused.first_time(caller.address) {
            let address = caller.address;
            (self.report)(&format!(
                "refused a connection from {address}, which is not this machine; \
                 to let it have the role's credentials, add \"{address}\" to \"allow_from\""
            ));
        }
        admitted
    }

    fn answer(&self, request: &Request, wait: &dyn Fn(Duration)) -> Reply {
        let verdict = self.imds.judge(request);
        wait(verdict.wait);
        self.imds.route(request, verdict.effect)
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
                let digits = [status / 100, status / 10 % 10, status % 10];
                line.extend_from_slice(b" -> ");
                line.extend(digits.map(|digit| b'0' + digit as u8));
            });
        }
    }
}

/// [`Admin`] as a server sees it.
struct AdminService {
    admin: Admin,
    clock: Arc<Clock>,
}

impl Service for AdminService {
    fn server_name(&self) -> &'static str {
        "imds_mock"
    }

    fn unix_ms(&self) -> i64 {
        self.clock.unix_ms()
    }

    fn judges_callers(&self) -> bool {
        true
    }

    fn answer(&self, request: &Request, _wait: &dyn Fn(Duration)) -> Reply {
        self.admin.route(request)
    }

    fn refusal(&self, status: u16) -> Reply {
        admin::error(status, crate::http::reason(status))
    }
}
