//! Puts the parts together: a configuration, the role it names, the metadata service over both,
//! the administrative service beside it, and the server that carries them. A test, a bench or
//! another program embeds the mock through [`Mock`].

use std::io;
use std::net::TcpListener;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::access::{AdminSecret, Reported};
use crate::admin::{self, Admin, Loader, UnderWay};
use crate::clock::Clock;
use crate::config::{Config, Problem};
use crate::http::{Caller, Limits, Reply, Request, Server, Service};
use crate::instance::Injection;
use crate::instance::{Instance, Snapshot};
use crate::log::{self, Log};
use crate::metadata::ec2::{self, admits};
use crate::observe::{Arrival, Observer};
use crate::role::{self, Role};

/// What a mock is made of, ready to be served.
pub struct Parts {
    clock: Arc<Clock>,
    snapshot: Snapshot,
    observer: Option<Arc<Observer>>,
}

/// Says something to whoever runs the mock: one line, without its end.
pub type Report = Arc<dyn Fn(&str) + Send + Sync>;

impl Parts {
    /// Builds everything that `config` asks for and checks whether it can be served. A role of STS
    /// is not started.
    pub fn new(config: Config) -> Result<Parts, Vec<Problem>> {
        let clock = Arc::new(Clock::default());
        let role = config.role.clone();
        let role = role.map(|source| Role::new(source, clock.now()));
        Ok(Parts {
            snapshot: Snapshot::new(config, role, &clock)?,
            clock,
            observer: None,
        })
    }

    /// Starts the role, if the configuration names one of STS.
    pub fn start_role(&self, options: role::Options) -> Result<(), role::Error> {
        let role = self.snapshot.role.as_ref();
        role.map_or(Ok(()), |role| role.start(options))
    }

    /// Has clients watched, from the first request on. With an administrative service they are in
    /// any case.
    pub fn watch(&mut self) {
        self.observer.get_or_insert_default();
    }

    /// The configuration behind it.
    pub fn config(&self) -> &Config {
        &self.snapshot.config
    }
}

/// Listeners, already bound.
pub type Listeners = Vec<TcpListener>;

/// The administrative service to be.
pub struct AdminParts {
    pub listeners: Listeners,
    /// What callers must present instead of being local.
    pub secret: Option<AdminSecret>,
    /// What `POST /reload` reads.
    pub load: Loader,
}

/// A mock that serves, or is about to.
pub struct Mock {
    pub instance: Arc<Instance>,
    /// What is known of the clients, if they are watched.
    pub observer: Option<Arc<Observer>>,
    /// Always there once [`Mock::prepare`] has returned.
    server: Arc<OnceLock<Server>>,
}

impl Mock {
    /// A mock that will serve `parts`: all that can fail is done, and what is said before
    /// [`Mock::serve`] comes before every request line. These go to `requests`, and `report` is told
    /// of refused callers and of trouble in the server.
    pub fn prepare(
        mut parts: Parts,
        metadata: Listeners,
        admin: Option<AdminParts>,
        limits: Limits,
        requests: Option<Log>,
        report: Report,
    ) -> io::Result<Mock> {
        if admin.is_some() {
            parts.watch();
        }
        let observer = parts.observer;
        let instance = Arc::new(Instance::new(parts.snapshot, parts.clock));
        let metadata_service: Arc<dyn Service> = Arc::new(MetadataService {
            instance: instance.clone(),
            observer: observer.clone(),
            requests,
            refused: Reported::default(),
            report: report.clone(),
        });
        let with = |service: &Arc<dyn Service>, listeners: Listeners| {
            let service = service.clone();
            (listeners.into_iter()).map(move |listener| (listener, service.clone()))
        };
        let mut listeners: Vec<_> = with(&metadata_service, metadata).collect();
        let server: Arc<OnceLock<Server>> = Arc::default();
        if let (Some(admin), Some(observer)) = (admin, &observer) {
            // The server owns the service, so the service must not own the server.
            let server = Arc::downgrade(&server);
            let admin_service = Admin {
                instance: instance.clone(),
                load: admin.load,
                secret: admin.secret,
                observer: observer.clone(),
                under_way: UnderWay::default(),
                connections: Box::new(move || {
                    let server = server.upgrade();
                    server.map_or(0, |server| server.get().map_or(0, Server::connections))
                }),
            };
            let service: Arc<dyn Service> = Arc::new(AdminService {
                admin: admin_service,
            });
            listeners.extend(with(&service, admin.listeners));
        }
        let prepared = Server::prepare(listeners, limits, move |what| report(what))?;
        server.get_or_init(|| prepared);
        Ok(Mock {
            instance,
            observer,
            server,
        })
    }

    /// From now on it serves.
    pub fn serve(&self) {
        if let Some(server) = self.server.get() {
            server.serve();
        }
    }

    /// Ends it: requests under way are answered, delays cut short, and the role's state is written;
    /// at most `limit`.
    pub fn stop(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        let role = self.instance.role();
        if let Some(role) = &role {
            role.stop();
        }
        if let Some(server) = self.server.get() {
            server.stop(limit);
        }
        if let Some(role) = role {
            role.finish(deadline.saturating_duration_since(Instant::now()));
        }
    }
}

/// [`Imds`] as a server sees it.
struct MetadataService {
    instance: Arc<Instance>,
    observer: Option<Arc<Observer>>,
    requests: Option<Log>,
    refused: Reported,
    report: Report,
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
        let admitted = self.instance.snapshot().config.rules.admit(caller);
        if !admitted && self.refused.first_time(caller.address) {
            let address = caller.address;
            (self.report)(&format!(
                "refused a connection from {address}, which is not this machine; \
                 to let it have the role's credentials, add \"{address}\" to \"allow_from\""
            ));
        }
        admitted
    }

    fn answer(&self, request: &Request, wait: &mut dyn FnMut(Duration)) -> Reply {
        let watched = (self.observer.as_ref()).map(|observer| (observer, Arrival::now()));
        let snapshot = self.instance.snapshot();
        let injection = match admits(&snapshot, request) {
            true => self.instance.faults.inject(&snapshot.config, request),
            // Who is refused is not made to wait.
            false => Injection::default(),
        };
        wait(injection.wait);
        let answer = ec2::answer(&self.instance, &snapshot, request, injection);
        if let Some((observer, arrival)) = watched {
            observer.note(&self.instance.clock, request, &arrival, answer.outcome);
        }
        answer.reply
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
}

impl Service for AdminService {
    fn server_name(&self) -> &'static str {
        "imds_mock"
    }

    /// Real time: the administration is no part of the instance.
    fn unix_ms(&self) -> i64 {
        Clock::default().unix_ms()
    }

    fn judges_callers(&self) -> bool {
        true
    }

    fn may_block(&self) -> bool {
        true
    }

    fn wants_bodies(&self) -> bool {
        true
    }

    fn answer(&self, request: &Request, _wait: &mut dyn FnMut(Duration)) -> Reply {
        self.admin.route(request)
    }

    fn refusal(&self, status: u16) -> Reply {
        admin::error(status, crate::http::reason(status))
    }
}
