//! Puts the parts together: a configuration, the role it names, the metadata service over both,
//! the administrative service beside it, and the server that carries them. A test, a bench or
//! another program embeds the mock through [`Mock`].

use std::io;
use std::net::TcpListener;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::reload::Reload;
use crate::access::{AdminSecret, Reported};
use crate::admin::{Admin, UnderWay};
use crate::clock::Clock;
use crate::config::{Config, Problem, Source};
use crate::http::{Limits, Server, Service};
use crate::instance::{Instance, Snapshot};
use crate::log::{Log, Report};
use crate::metadata::MetadataService;
use crate::observe::Observer;
use crate::role::{self, Role};

/// What a mock is made of, ready to be served.
pub struct Parts {
    clock: Arc<Clock>,
    snapshot: Snapshot,
    observer: Option<Arc<Observer>>,
}

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

/// The administrative service to be.
pub struct AdminParts {
    pub listeners: Vec<TcpListener>,
    /// What callers must present instead of being local.
    pub secret: Option<AdminSecret>,
}

/// Where and how a mock serves.
pub struct Serving {
    /// Of the metadata service, already bound.
    pub metadata: Vec<TcpListener>,
    pub admin: Option<AdminParts>,
    pub limits: Limits,
    /// Where request lines go.
    pub requests: Option<Log>,
    /// Is told of refused callers and of trouble in the server.
    pub report: Report,
    /// What a reload reads.
    pub source: Source,
}

/// A mock that serves, or is about to.
pub struct Mock {
    pub instance: Arc<Instance>,
    /// What is known of the clients, if they are watched.
    pub observer: Option<Arc<Observer>>,
    reload: Reload,
    /// Always there once [`Mock::prepare`] has returned.
    server: Arc<OnceLock<Server>>,
}

impl Mock {
    /// A mock that will serve `parts`: all that can fail is done, and what is said before
    /// [`Mock::serve`] comes before every request line.
    pub fn prepare(mut parts: Parts, serving: Serving) -> io::Result<Mock> {
        if serving.admin.is_some() {
            parts.watch();
        }
        let observer = parts.observer;
        let instance = Arc::new(Instance::new(parts.snapshot, parts.clock));
        let reload = Reload::new(instance.clone(), serving.source);
        let metadata: Arc<dyn Service> = Arc::new(MetadataService {
            instance: instance.clone(),
            observer: observer.clone(),
            requests: serving.requests,
            refused: Reported::default(),
            report: serving.report.clone(),
        });
        let with = |service: &Arc<dyn Service>, listeners: Vec<TcpListener>| {
            let service = service.clone();
            (listeners.into_iter()).map(move |listener| (listener, service.clone()))
        };
        let mut listeners: Vec<_> = with(&metadata, serving.metadata).collect();
        let server: Arc<OnceLock<Server>> = Arc::default();
        if let (Some(parts), Some(observer)) = (serving.admin, &observer) {
            // The server owns the service, so the service must not own the server.
            let server = Arc::downgrade(&server);
            let reload = reload.clone();
            let admin: Arc<dyn Service> = Arc::new(Admin {
                instance: instance.clone(),
                reload: Box::new(move || reload.run()),
                secret: parts.secret,
                observer: observer.clone(),
                under_way: UnderWay::default(),
                connections: Box::new(move || {
                    let server = server.upgrade();
                    server.map_or(0, |server| server.get().map_or(0, Server::connections))
                }),
            });
            listeners.extend(with(&admin, parts.listeners));
        }
        let report = serving.report;
        let prepared = Server::prepare(listeners, serving.limits, move |what| report(what))?;
        server.get_or_init(|| prepared);
        Ok(Mock {
            instance,
            observer,
            reload,
            server,
        })
    }

    /// Reads the configuration again. Returns what deserves a warning, or what is wrong with it:
    /// then the old one stays.
    pub fn reload(&self) -> Result<Vec<Problem>, Vec<Problem>> {
        self.reload.run()
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
