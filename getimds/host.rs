//! Where the metadata service is: the forms a HOST can be written in, and the addresses behind it.

use std::fmt;
use std::io;
use std::net::{Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::str::FromStr;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// EC2's address, the same on every instance (docs/reference/metadata.md, "Addresses").
pub const DEFAULT: &str = "169.254.169.254";
const HTTP_PORT: u16 = 80;

/// A host and its port. `Display` gives the form for `Host:` and for messages: IPv6 in brackets,
/// port 80 left out.
#[derive(Clone, Debug)]
pub struct Host {
    name: String,
    port: u16,
}

/// Why a text names no host.
#[derive(Debug, PartialEq)]
pub enum Error {
    Form,
    Path,
    Port,
    Scheme,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Error::Form => "expected host, host:port, [IPv6]:port or http://host:port/",
            Error::Path => "expected a host first, as in getimds 169.254.169.254 latest/user-data",
            Error::Port => "expected a port from 1 to 65535",
            Error::Scheme => "expected http://, the service speaks nothing else",
        })
    }
}

impl FromStr for Host {
    type Err = Error;

    /// Takes `host`, `host:port`, `[v6]`, `[v6]:port`, a bare IPv6 address, each also as a URL
    /// without a path, the form of AWS_EC2_METADATA_SERVICE_ENDPOINT.
    fn from_str(text: &str) -> Result<Host, Error> {
        let text = match text.split_once("://") {
            Some(("http" | "HTTP", rest)) => rest.strip_suffix('/').unwrap_or(rest),
            Some(_) => return Err(Error::Scheme),
            None => text,
        };
        if text.contains('/') {
            return Err(Error::Path);
        }
        let (name, port) = match text.strip_prefix('[') {
            Some(rest) => rest.split_once(']').ok_or(Error::Form)?,
            None if text.matches(':').count() > 1 => (text, ""),
            None => text.split_at(text.find(':').unwrap_or(text.len())),
        };
        let valid = if text.starts_with('[') || name.contains(':') {
            // A link-local address carries its interface behind a percent sign.
            let (address, zone) = name.split_once('%').unwrap_or((name, ""));
            address.parse::<Ipv6Addr>().is_ok() && zone.bytes().all(|b| b.is_ascii_alphanumeric())
        } else {
            let allowed = |b: u8| b.is_ascii_alphanumeric() || b".-_".contains(&b);
            !name.is_empty() && name.bytes().all(allowed)
        };
        if !valid {
            return Err(Error::Form);
        }
        let port = match port.strip_prefix(':') {
            Some(number) => number
                .parse()
                .ok()
                .filter(|&port| port != 0)
                .ok_or(Error::Port)?,
            None if port.is_empty() => HTTP_PORT,
            None => return Err(Error::Form),
        };
        Ok(Host {
            name: name.to_owned(),
            port,
        })
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.name.split('%').next() {
            Some(address) if address.contains(':') => write!(f, "[{address}]")?,
            _ => f.write_str(&self.name)?,
        }
        if self.port != HTTP_PORT {
            write!(f, ":{}", self.port)?;
        }
        Ok(())
    }
}

impl Host {
    /// The addresses of the host. The system's resolver takes as long as it likes, so it is asked
    /// in a thread, which is left behind after `patience`.
    pub fn addresses(&self, patience: Duration) -> io::Result<Vec<SocketAddr>> {
        let (sender, receiver) = mpsc::channel();
        let host = self.clone();
        let ask = move || sender.send((host.name.as_str(), host.port).to_socket_addrs());
        thread::Builder::new().spawn(ask)?;
        let answer = receiver
            .recv_timeout(patience)
            .map_err(|_| io::ErrorKind::TimedOut)?;
        Ok(answer?.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_documented_form_of_a_host_is_understood_and_what_is_none_is_refused() {
        for (text, expected) in [
            ("localhost", Ok("localhost")),
            ("127.0.0.1:8000", Ok("127.0.0.1:8000")),
            ("[fd00:ec2::254]", Ok("[fd00:ec2::254]")),
            ("[::1]:8000", Ok("[::1]:8000")),
            ("fd00:ec2::254", Ok("[fd00:ec2::254]")),
            ("fe80::1%em0", Ok("[fe80::1]")),
            ("http://127.0.0.1:8000/", Ok("127.0.0.1:8000")),
            ("http://[::1]", Ok("[::1]")),
            (DEFAULT, Ok(DEFAULT)),
            ("", Err(Error::Form)),
            ("a\r\nX: y", Err(Error::Form)),
            ("[::1", Err(Error::Form)),
            ("[::1]8000", Err(Error::Form)),
            ("[localhost]", Err(Error::Form)),
            ("1:2:3", Err(Error::Form)),
            ("localhost:", Err(Error::Port)),
            ("localhost:0", Err(Error::Port)),
            ("localhost:65536", Err(Error::Port)),
            ("https://localhost/", Err(Error::Scheme)),
            ("/latest/user-data", Err(Error::Path)),
        ] {
            let host = text.parse::<Host>().map(|host| host.to_string());
            assert_eq!(host, expected.map(str::to_owned), "{text}");
        }
    }
}
