//! What is done with a client's socket. Nothing here waits.

use std::io::{self, IoSlice};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{MsgFlags, recv};
use socket2::SockRef;

/// Of send(2), where the end of the connection follows: its FIN goes in the same segment. On Linux
/// that one leaves with shutdown(); left to close(), bytes that arrived meanwhile would turn it into a
/// reset without an answer. On FreeBSD it leaves at once.
#[cfg(target_os = "linux")]
const WITH_THE_END: i32 = libc::MSG_MORE;
#[cfg(not(target_os = "linux"))]
const WITH_THE_END: i32 = libc::MSG_EOF;

/// The client is gone.
#[derive(Debug)]
pub(super) struct Gone;

/// What a connection waits for, beside its deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interest {
    /// Something to read, the end included.
    Read,
    /// Room for an answer.
    Write,
    /// The client's end, not what comes before it.
    End,
    Nothing,
}

/// A client's socket, as far as a connection needs it.
pub(super) trait Stream {
    /// Reads what is there, 0 bytes if there is nothing. [`Gone`] at the end.
    fn receive(&self, buffer: &mut [u8]) -> Result<usize, Gone>;

    /// Sends what there is room for, as one segment. With `is_last` the end of the connection goes
    /// along with the last byte.
    fn send(&self, parts: [&[u8]; 2], is_last: bool) -> Result<usize, Gone>;

    /// Ends our side.
    fn end(&self);

    /// Has the connection end with a reset.
    fn reset(&self);

    /// Lowers the hop limit, for a token answer and all that follows on the connection: whoever
    /// received the token receives the rest, and what is sent again after a loss goes no further than
    /// at first.
    fn set_hop_limit(&self, hops: u8) -> Result<(), Gone>;
}

impl Stream for TcpStream {
    fn receive(&self, buffer: &mut [u8]) -> Result<usize, Gone> {
        match recv(self.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT) {
            Ok(0) => Err(Gone),
            Ok(n) => Ok(n),
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(0),
            Err(_) => Err(Gone),
        }
    }

    fn send(&self, parts: [&[u8]; 2], is_last: bool) -> Result<usize, Gone> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let flags = libc::MSG_DONTWAIT | if is_last { WITH_THE_END } else { 0 };
        let parts = parts.map(IoSlice::new);
        match SockRef::from(self).send_vectored_with_flags(&parts, flags) {
            Ok(sent) if sent == length && is_last && cfg!(target_os = "linux") => {
                (self.shutdown(Shutdown::Write).map(|()| sent)).map_err(|_| Gone)
            }
            Ok(sent) => Ok(sent),
            Err(e) => match e.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(0),
                _ => Err(Gone),
            },
        }
    }

    fn end(&self) {
        let _ = self.shutdown(Shutdown::Write);
    }

    fn reset(&self) {
        let _ = SockRef::from(self).set_linger(Some(Duration::ZERO));
    }

    fn set_hop_limit(&self, hops: u8) -> Result<(), Gone> {
        let socket = SockRef::from(self);
        let set = self.local_addr().and_then(|local| match local.is_ipv4() {
            true => socket.set_ttl_v4(hops.into()),
            false => socket.set_unicast_hops_v6(hops.into()),
        });
        set.map_err(|_| Gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    #[test]
    fn nothing_to_read_and_an_end_are_told_apart() {
        let (mut client, server) = pair();
        let mut buffer = [0; 8];
        assert!(matches!(server.receive(&mut buffer), Ok(0)));
        client.write_all(b"a").unwrap();
        server.peek(&mut [0]).unwrap();
        assert!(matches!(server.receive(&mut buffer), Ok(1)));
        drop(client);
        // Blocks until the end has arrived.
        server.peek(&mut [0]).unwrap();
        assert!(server.receive(&mut buffer).is_err());
    }

    #[test]
    fn the_last_bytes_take_the_end_along() {
        let (mut client, server) = pair();
        assert!(matches!(server.send([b"he", b"llo"], true), Ok(5)));
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
    }

    #[test]
    fn what_there_is_no_room_for_is_not_sent() {
        let (mut client, server) = pair();
        let block = [b'x'; 65536];
        let mut sent = 0;
        loop {
            match server.send([&block, &block], false).unwrap() {
                0 => break,
                n => sent += n,
            }
        }
        server.end();
        assert_eq!(client.read_to_end(&mut Vec::new()).unwrap(), sent);
    }

    #[test]
    fn a_reset_is_one() {
        let (mut client, server) = pair();
        server.reset();
        drop(server);
        let error = client.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
}
