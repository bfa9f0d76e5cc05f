//! Puts the parts together: a configuration, the metadata service over it, and the server that
//! carries it. A test, a bench or another program embeds the mock through [`Mock`].

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use crate::clock::Clock;
use crate::config::{Config, Problem};
use crate::http::{self, Limits, Reply, Request, Server, Service};
use crate::imds::{Imds, Instance};
use crate::log::{self, Log};

/// Why an address cannot be listened on, and what to do about it.
#[derive(Debug)]
pub struct BindError {
    pub address: SocketAddr,
    pub error: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let BindError { address, error } = self;
        let (ip, port) = (address.ip(), address.port());
        let freebsd = cfg!(target_os = "freebsd");
        write!(f, "cannot listen on {address}: {error}")?;
        match error.kind() {
            io::ErrorKind::AddrNotAvailable => {
                let (family, bits) = match ip.is_ipv4() {
                    true => ("inet", 32),
                    false => ("inet6", 128),
                };
                write!(
                    f,
                    "\nNo interface of this machine has that address. Add it first: "
                )?;
                match freebsd {
                    true => write!(
                        f,
                        "ifconfig lo1 create; ifconfig lo1 {family} {ip}/{bits} alias"
                    ),
                    false => write!(f, "ip addr add {ip}/{bits} dev lo"),
                }
            }
            io::ErrorKind::PermissionDenied => {
                write!(
                    f,
                    "\nPorts below 1024 are for root: start as root with --user NAME, or "
                )?;
                match freebsd {
                    true => write!(f, "lower net.inet.ip.portrange.reservedhigh below {port}"),
                    false => write!(f, "run: setcap cap_net_bind_service=+ep PATH-OF-imds_mock"),
                }
            }
            io::ErrorKind::AddrInUse => {
                write!(f, "\nAnother process listens there; this shows which: ")?;
                match freebsd {
                    true => write!(f, "sockstat -l -p {port}"),
                    false => write!(f, "ss -ltnp 'sport = :{port}'"),
                }
            }
            _ => Ok(()),
        }
    }
}

/// A mock that runs.
pub struct Mock {
    pub imds: Arc<Imds>,
    server: Server,
    addresses: Vec<SocketAddr>,
}

impl Mock {
    /// Opens a listener an address, in order. Port 0 takes a free one.
    pub fn bind(addresses: &[SocketAddr], limits: &Limits) -> Result<Vec<TcpListener>, BindError> {
        let bind =
            |&address| http::bind(address, limits).map_err(|error| BindError { address, error });
        addresses.iter().map(bind).collect()
    }

    /// Builds the instance of a configuration. The problems are paths that contradict each other.
    pub fn instance(config: Config) -> Result<(Instance, Arc<Clock>), Vec<Problem>> {
        let clock = Arc::new(Clock::default());
        Ok((Instance::new(config, &clock)?, clock))
    }

    /// Serves `instance` on the listeners. Request lines go to `requests`, what goes wrong in the
    /// server to `complain`.
    pub fn start(
        (instance, clock): (Instance, Arc<Clock>),
        listeners: Vec<TcpListener>,
        limits: Limits,
        requests: Option<Log>,
        complain: impl Fn(&str) + Send + Sync + 'static,
    ) -> io::Result<Mock> {
        let imds = Arc::new(Imds::new(instance, clock.clone()));
        let addresses = (listeners.iter())
            .map(TcpListener::local_addr)
            .collect::<io::Result<_>>()?;
        let service: Arc<dyn Service> = Arc::new(MetadataService {
            imds: imds.clone(),
            clock,
            requests,
        });
        let listeners = listeners
            .into_iter()
            .map(|l| (l, service.clone()))
            .collect();
        Ok(Mock {
            imds,
            server: Server::start(listeners, limits, complain)?,
            addresses,
        })
    }

    /// Where it listens, with the ports really bound.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Ends it: requests under way are answered, delays cut short; at most `limit`.
    pub fn stop(&self, limit: Duration) {
        self.server.stop(limit);
    }
}

/// [`Imds`] as a server sees it.
struct MetadataService {
    imds: Arc<Imds>,
    clock: Arc<Clock>,
    requests: Option<Log>,
}

impl Service for MetadataService {
    fn server_name(&self) -> &'static str {
        "EC2ws"
    }

    fn unix_ms(&self) -> i64 {
        self.clock.unix_ms()
    }

    fn delay(&self, request: &Request) -> Duration {
        self.imds.delay(request)
    }

    fn answer(&self, request: &Request) -> Reply {
        self.imds.route(request)
    }

    fn answered(&self, request: Option<&Request>, status: u16) {
        if let Some(log) = &self.requests {
            log.line(|line| {
                let (method, target) = match request {
                    Some(request) => (request.method.name(), request.target),
                    None => ("-", "-"),
                };
                line.extend_from_slice(method.as_bytes());
                line.push(b' ');
                log::escape(target, line);
                let [hundreds, tens, ones] = [status / 100, status / 10 % 10, status % 10];
                line.extend_from_slice(b" -> ");
                line.extend([hundreds, tens, ones].map(|digit| b'0' + digit as u8));
            });
        }
    }
}
