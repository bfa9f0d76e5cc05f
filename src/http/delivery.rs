//! How an answer leaves: whole and in one write, or spoiled on purpose (design, section 1); and how
//! a connection is closed so that the answer arrives.

use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::pool::{Activity, Pool, Seat};
use super::{Delivery, Reply, remaining};

/// What a client may still send after an answer that refuses it, before the close becomes a reset.
const MAX_LINGER_BYTES: usize = 256 * 1024;
/// Pieces a second of a slow answer, where the rate has a byte for each.
const SLOW_PIECES: u32 = 10;
/// How long a request without an answer keeps its connection, unless that has to give way.
const NO_ANSWER: Duration = Duration::from_secs(3600);

/// Sends what is laid out as the reply wants it. Returns whether the connection can go on.
pub(super) fn deliver(pool: &Pool, seat: &Seat, reply: &Reply, head: &[u8], body: &[u8]) -> bool {
    let stream = &seat.stream;
    if let Some(hops) = reply.hop_limit
        && set_hop_limit(stream, hops).is_err()
    {
        return false;
    }
    match reply.delivery {
        Delivery::Whole => write_within(stream, head, body, pool.limits.write).is_ok(),
        Delivery::Truncated { bytes } => {
            let cut = body.len().min(bytes);
            let _ = write_within(stream, head, &body[..cut], pool.limits.write);
            false
        }
        Delivery::Slow { bytes_per_second } => {
            let whole = [head, body].concat();
            let piece = (bytes_per_second / SLOW_PIECES).max(1);
            let step = f64::from(piece) / f64::from(bytes_per_second.max(1));
            let step = Duration::from_secs_f64(step);
            let mut pieces = whole.chunks(piece as usize);
            pieces.all(|piece| {
                let sent = write_within(stream, piece, b"", pool.limits.write).is_ok();
                pool.hold_back(seat, step);
                sent
            })
        }
        Delivery::Reset => {
            let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
            false
        }
        Delivery::NoAnswer => {
            drop_what_comes(pool, seat, NO_ANSWER);
            false
        }
    }
}

/// Writes both parts, as one segment where the kernel takes them, before `limit` has passed.
pub(super) fn write_within(
    stream: &TcpStream,
    head: &[u8],
    body: &[u8],
    limit: Duration,
) -> io::Result<()> {
    let deadline = Instant::now() + limit;
    let mut parts = [IoSlice::new(head), IoSlice::new(body)];
    let mut left = &mut parts[..];
    let mut in_one_write = true;
    loop {
        match (&mut &*stream).write_vectored(left) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => IoSlice::advance_slices(&mut left, n),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
        if left.is_empty() {
            break;
        }
        in_one_write = false;
        let timeout = remaining(deadline).ok_or(io::ErrorKind::TimedOut)?;
        stream.set_write_timeout(Some(timeout))?;
    }
    match in_one_write {
        true => Ok(()),
        false => stream.set_write_timeout(Some(limit)),
    }
}

/// Lowers the hop limit, for a token answer and all that follows on the connection: whoever received
/// the token receives the rest, and what is sent again after a loss goes no further than at first.
fn set_hop_limit(stream: &TcpStream, hops: u8) -> io::Result<()> {
    let socket = SockRef::from(stream);
    match stream.local_addr()?.is_ipv4() {
        true => socket.set_ttl_v4(hops.into()),
        false => socket.set_unicast_hops_v6(hops.into()),
    }
}

/// Ends our side and drops what the client still sends, so that the kernel does not answer it
/// with a reset that would take the answer away.
pub(super) fn linger(pool: &Pool, seat: &Seat) {
    let _ = seat.stream.shutdown(Shutdown::Write);
    drop_what_comes(pool, seat, pool.limits.linger);
}

/// Reads and drops until the client is gone, at most `limit`. The connection may give way
/// meanwhile.
fn drop_what_comes(pool: &Pool, seat: &Seat, limit: Duration) {
    seat.set(pool, Activity::Idle);
    let deadline = Instant::now() + limit;
    let mut dropped = 0;
    let mut sink = [0; 4096];
    while let Some(timeout) = remaining(deadline) {
        if dropped > MAX_LINGER_BYTES || seat.stream.set_read_timeout(Some(timeout)).is_err() {
            return;
        }
        match (&mut &seat.stream).read(&mut sink) {
            Ok(0) => return,
            Ok(n) => dropped += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}
