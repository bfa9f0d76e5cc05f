//! The body of a request, sized or chunked, read whole within limits: left in the stream it would
//! be taken for the next request.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};

use super::head::{Framing, MAX_BODY, Refusal};
use super::remaining;
use super::seat::Seat;
use super::watcher::Watcher;

/// Bytes of chunk sizes, extensions and trailers around one body.
const MAX_CHUNK_OVERHEAD: u64 = 16 * 1024;

/// Why no body came of it.
#[derive(Debug)]
pub(super) enum Failure {
    Refused(Refusal),
    /// The client is gone.
    Gone,
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Failure {
        Failure::Refused(refusal)
    }
}

impl From<io::Error> for Failure {
    fn from(_: io::Error) -> Failure {
        Failure::Gone
    }
}

/// Reads what is there, 0 bytes if there is nothing. [`Failure::Gone`] at the end.
pub(super) fn receive(stream: &TcpStream, buffer: &mut [u8]) -> Result<usize, Failure> {
    match recv(stream.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT) {
        Ok(0) => Err(Failure::Gone),
        Ok(n) => Ok(n),
        Err(Errno::EAGAIN | Errno::EINTR) => Ok(0),
        Err(_) => Err(Failure::Gone),
    }
}

/// The bytes behind a head: first what arrived together with it, then the stream.
pub(super) struct BodyReader<'a, 'pool> {
    watcher: &'a mut Watcher<'pool>,
    seat: &'a Seat,
    deadline: Instant,
    buffer: &'a mut [u8],
    start: usize,
    end: usize,
    /// Where it goes, unless it is of no use.
    body: Option<&'a mut Vec<u8>>,
}

impl<'a, 'pool> BodyReader<'a, 'pool> {
    /// Reads from `buffer[..filled]`, then from the connection until [`Limits::body`] has passed.
    /// Hands over the watch before it waits. What it reads goes into `body` if there is one.
    ///
    /// [`Limits::body`]: super::Limits::body
    pub(super) fn new(
        watcher: &'a mut Watcher<'pool>,
        seat: &'a Seat,
        buffer: &'a mut [u8],
        filled: usize,
        body: Option<&'a mut Vec<u8>>,
    ) -> BodyReader<'a, 'pool> {
        let deadline = Instant::now() + watcher.pool.limits.body;
        BodyReader {
            watcher,
            seat,
            deadline,
            buffer,
            start: 0,
            end: filled,
            body,
        }
    }

    /// Reads the body. Returns which part of the buffer lies behind it, the beginning of the next
    /// request.
    pub(super) fn read(
        mut self,
        framing: Framing,
        expects_continue: bool,
    ) -> Result<std::ops::Range<usize>, Failure> {
        let wanted = framing != Framing::Sized(0);
        if wanted && expects_continue && self.start == self.end {
            let go_on = b"HTTP/1.1 100 Continue\r\n\r\n";
            self.watcher.hand_over(self.seat)?;
            let mut stream = &self.seat.stream;
            let timeout = remaining(self.deadline).ok_or(Refusal::TooSlow)?;
            stream.set_write_timeout(Some(timeout))?;
            stream.write_all(go_on)?;
        }
        match framing {
            Framing::Sized(length) => {
                if let Some(body) = &mut self.body {
                    body.reserve_exact(length as usize);
                }
                self.take(length)?;
            }
            Framing::Chunked => self.chunks()?,
        }
        Ok(self.start..self.end)
    }

    fn chunks(&mut self) -> Result<(), Failure> {
        let (mut taken, mut overhead) = (0, 0);
        loop {
            let size = chunk_size(&self.line(&mut overhead)?)?;
            if size == 0 {
                break;
            }
            taken += size;
            if taken > MAX_BODY {
                return Err(Refusal::BodyTooLarge.into());
            }
            self.take(size)?;
            if !self.line(&mut overhead)?.is_empty() {
                return Err(Refusal::Malformed.into());
            }
        }
        // Trailers are dropped; what they could say belongs to no service here.
        while !self.line(&mut overhead)?.is_empty() {}
        Ok(())
    }

    fn take(&mut self, mut length: u64) -> Result<(), Failure> {
        while length > 0 {
            self.fill()?;
            let here = (length as usize).min(self.end - self.start);
            if let Some(body) = &mut self.body {
                body.extend_from_slice(&self.buffer[self.start..self.start + here]);
            }
            self.start += here;
            length -= here as u64;
        }
        Ok(())
    }

    /// A line without its CRLF. A bare LF is refused here: two readers could disagree on where a
    /// chunk begins.
    fn line(&mut self, overhead: &mut u64) -> Result<Vec<u8>, Failure> {
        let mut line = Vec::new();
        loop {
            self.fill()?;
            let byte = self.buffer[self.start];
            self.start += 1;
            *overhead += 1;
            if *overhead > MAX_CHUNK_OVERHEAD {
                return Err(Refusal::BodyTooLarge.into());
            }
            if byte == b'\n' {
                return match line.pop() {
                    Some(b'\r') if !line.iter().any(|&b| b == b'\r' || b == 0) => Ok(line),
                    _ => Err(Refusal::Malformed.into()),
                };
            }
            line.push(byte);
        }
    }

    /// Makes sure that a byte is buffered.
    fn fill(&mut self) -> Result<(), Failure> {
        if self.start < self.end {
            return Ok(());
        }
        let mut stream = &self.seat.stream;
        if self.watcher.is_on_watch() {
            (self.start, self.end) = (0, receive(stream, self.buffer)?);
            if self.end > 0 {
                return Ok(());
            }
            self.watcher.hand_over(self.seat)?;
        }
        if self.watcher.pool.is_stopping() {
            return Err(Failure::Gone);
        }
        let timeout = remaining(self.deadline).ok_or(Refusal::TooSlow)?;
        stream.set_read_timeout(Some(timeout))?;
        loop {
            return match stream.read(self.buffer) {
                Ok(0) => Err(Failure::Gone),
                Ok(n) => {
                    (self.start, self.end) = (0, n);
                    Ok(())
                }
                Err(e) => match e.kind() {
                    io::ErrorKind::Interrupted => continue,
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                        Err(Refusal::TooSlow.into())
                    }
                    _ => Err(Failure::Gone),
                },
            };
        }
    }
}

/// `1*HEXDIG [chunk-ext]`; extensions are dropped.
fn chunk_size(line: &[u8]) -> Result<u64, Refusal> {
    let digits = line
        .iter()
        .position(|b| !b.is_ascii_hexdigit())
        .unwrap_or(line.len());
    let rest = line[digits..].trim_ascii_start();
    if digits == 0 || !(rest.is_empty() || rest[0] == b';') {
        return Err(Refusal::Malformed);
    }
    let digits = std::str::from_utf8(&line[..digits]).map_err(|_| Refusal::Malformed)?;
    u64::from_str_radix(digits, 16)
        .ok()
        .filter(|&size| size <= MAX_BODY)
        .ok_or(Refusal::BodyTooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunk_sizes_are_hexadecimal_and_bounded() {
        for (line, size) in [
            ("0", Ok(0)),
            ("1F", Ok(31)),
            ("a;name=value", Ok(10)),
            ("a ;name", Ok(10)),
            ("00000000000000000001", Ok(1)),
            ("10001", Err(Refusal::BodyTooLarge)),
            ("fffffffffffffffff", Err(Refusal::BodyTooLarge)),
            ("", Err(Refusal::Malformed)),
            ("0x1", Err(Refusal::Malformed)),
            ("-1", Err(Refusal::Malformed)),
            ("1 1", Err(Refusal::Malformed)),
            (" 1", Err(Refusal::Malformed)),
        ] {
            assert_eq!(chunk_size(line.as_bytes()), size, "{line:?}");
        }
    }
}
