//! Opening listeners: the options that accepted sockets inherit, and errors that say what to do.

use std::net::{SocketAddr, TcpListener};
use std::{fmt, io};

use nix::errno::Errno;
use socket2::{Domain, Protocol, Socket, Type};

/// std's 128 overflowed under load (docs/architecture.md, D1).
pub(super) const BACKLOG: i32 = 1024;
/// What the system keeps of answers that a client does not take; left to itself it would be megabytes
/// for each client.
const SEND_BUFFER: usize = 64 * 1024;

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
                write!(f, "\nNo interface of this machine has it. Add it first: ")?;
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
                    "\nLow ports are for root: start as root with --user NAME, or "
                )?;
                match freebsd {
                    true => write!(
                        f,
                        "let others bind them: sysctl net.inet.ip.portrange.reservedhigh={}",
                        port.saturating_sub(1)
                    ),
                    false => write!(
                        f,
                        "let the program bind them: setcap cap_net_bind_service=+ep PROGRAM"
                    ),
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

/// Opens a listener. Port 0 takes a free one. Accepted sockets inherit its options, on FreeBSD and
/// Linux alike, so that a connection needs no system call for them.
pub fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    listen(address).map_err(|error| BindError { address, error })
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        // FreeBSD's default; Linux would take IPv4 too.
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// What a failed accept() means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum AcceptError {
    /// A client left while it waited. On FreeBSD a reset in the queue is enough (freebsd conventions,
    /// section 5).
    ClientLeft,
    NoDescriptor,
    Other,
}

impl AcceptError {
    pub(super) fn of(error: &io::Error) -> AcceptError {
        match Errno::from_raw(error.raw_os_error().unwrap_or(0)) {
            Errno::EINTR | Errno::ECONNABORTED | Errno::ECONNRESET | Errno::EPROTO => {
                AcceptError::ClientLeft
            }
            Errno::EMFILE | Errno::ENFILE => AcceptError::NoDescriptor,
            _ => AcceptError::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_to_do() {
        let taken = bind(([127, 0, 0, 1], 0).into()).unwrap();
        let address = taken.local_addr().unwrap();
        let error = bind(address).unwrap_err();
        assert_eq!(error.address, address);
        let said = error.to_string();
        let port = format!("{}", address.port());
        assert!(
            said.contains("this shows which: ") && said.contains(&port),
            "{said}"
        );
        for (kind, advice) in [
            (io::ErrorKind::AddrNotAvailable, "Add it first: "),
            (io::ErrorKind::PermissionDenied, "Low ports are for root"),
        ] {
            let error = kind.into();
            let said = BindError { address, error }.to_string();
            assert!(said.contains(advice), "{said}");
        }
    }

    #[test]
    fn a_client_that_left_is_no_trouble() {
        for (errno, meaning) in [
            (Errno::ECONNABORTED, AcceptError::ClientLeft),
            (Errno::EINTR, AcceptError::ClientLeft),
            (Errno::EMFILE, AcceptError::NoDescriptor),
            (Errno::ENOMEM, AcceptError::Other),
        ] {
            assert_eq!(AcceptError::of(&errno.into()), meaning, "{errno}");
        }
    }
}
