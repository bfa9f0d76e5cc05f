//! Listeners, and what is said of them at the start.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use imds_mock::http;

use super::outcome::{EX_UNAVAILABLE, Failure};

/// Where clients look for the metadata service.
pub const ENDPOINT: &str = "AWS_EC2_METADATA_SERVICE_ENDPOINT";

/// Where a client on this machine finds the mock.
pub struct Endpoints {
    pub metadata: SocketAddr,
    pub admin: Option<SocketAddr>,
}

/// Listens on all of them.
pub fn bind(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, Failure> {
    let bind = |&address| http::bind(address).map_err(|e| Failure::new(EX_UNAVAILABLE, e));
    addresses.iter().map(bind).collect()
}

/// Where the mock runs, a line each listener, and for a person how to use it.
pub fn start_lines(
    metadata: &[TcpListener],
    admin: &[TcpListener],
    person: Option<&Endpoints>,
) -> io::Result<Vec<String>> {
    let version = env!("CARGO_PKG_VERSION");
    let mut lines = Vec::new();
    for listener in metadata {
        let address = listener.local_addr()?;
        lines.push(format!(
            "IMDSv2 mock v{version} running on http://{address}"
        ));
    }
    for listener in admin {
        let address = listener.local_addr()?;
        lines.push(format!("admin service running on http://{address}"));
    }
    if let Some(Endpoints { metadata, .. }) = person {
        lines.push(format!("export {ENDPOINT}=http://{metadata}/"));
    }
    Ok(lines)
}

/// Where a client on this machine finds the mock.
pub fn endpoints(metadata: &[TcpListener], admin: &[TcpListener]) -> io::Result<Endpoints> {
    let first = |listeners: &[TcpListener]| {
        let address = listeners.first().map(TcpListener::local_addr).transpose()?;
        Ok::<_, io::Error>(address.map(reachable))
    };
    Ok(Endpoints {
        metadata: first(metadata)?.expect("--host has a default"),
        admin: first(admin)?,
    })
}

/// An address that a client can use: the loopback one for a listener on all addresses.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
