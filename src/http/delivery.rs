//! How an answer leaves: whole and in one write, or spoiled on purpose (design, section 1).

use std::io::{self, IoSlice, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use nix::libc;
use socket2::SockRef;

use super::seat::{Activity, Seat};
use super::watcher::Watcher;
use super::{Delivery, Reply, remaining};

/// Pieces a second of a slow answer, where the rate has a byte for each.
const SLOW_PIECES: u32 = 10;
/// Of send(2), where the end of the connection follows: its FIN goes in the same segment. On Linux
/// that one leaves with shutdown(); left to close(), bytes that arrived meanwhile would turn it into a
/// reset without an answer. On FreeBSD it leaves at once.
#[cfg(target_os = "linux")]
const WITH_THE_END: i32 = libc::MSG_MORE;
#[cfg(not(target_os = "linux"))]
const WITH_THE_END: i32 = libc::MSG_EOF;

/// Sends what is laid out as the reply wants it; `is_last` where the connection is closed right
/// after. Returns whether the connection can go on.
pub(super) fn deliver(
    watcher: &mut Watcher,
    seat: &Seat,
    reply: &Reply,
    head: &[u8],
    body: &[u8],
    is_last: bool,
) -> bool {
    let stream = &seat.stream;
    if let Some(hops) = reply.hop_limit
        && set_hop_limit(stream, hops).is_err()
    {
        return false;
    }
    match reply.delivery {
        Delivery::Whole => write(watcher, seat, head, body, is_last).is_ok(),
        Delivery::Truncated { bytes } => {
            let cut = body.len().min(bytes);
            let _ = write(watcher, seat, head, &body[..cut], true);
            false
        }
        Delivery::Slow { bytes_per_second } => {
            let whole = [head, body].concat();
            let piece = (bytes_per_second / SLOW_PIECES).max(1);
            let step = f64::from(piece) / f64::from(bytes_per_second.max(1));
            let step = Duration::from_secs_f64(step);
            let mut pieces = whole.chunks(piece as usize);
            watcher.hand_over(seat).is_ok()
                && pieces.all(|piece| {
                    let sent = write(watcher, seat, piece, b"", false).is_ok();
                    watcher.pool.hold_back(seat, step);
                    sent
                })
        }
        Delivery::Reset => {
            let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
            false
        }
        Delivery::NoAnswer => true,
    }
}

/// Writes both parts, as one segment where the kernel takes them, before [`Limits::write`] has
/// passed. With `is_last` the end of the connection goes along.
///
/// [`Limits::write`]: super::Limits::write
pub(super) fn write(
    watcher: &mut Watcher,
    seat: &Seat,
    head: &[u8],
    body: &[u8],
    is_last: bool,
) -> io::Result<()> {
    let stream = &seat.stream;
    let mut parts = [IoSlice::new(head), IoSlice::new(body)];
    let mut left = &mut parts[..];
    let flags = libc::MSG_DONTWAIT | if is_last { WITH_THE_END } else { 0 };
    match SockRef::from(stream).send_vectored_with_flags(left, flags) {
        Ok(n) => IoSlice::advance_slices(&mut left, n),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
        Err(e) => return Err(e),
    }
    if left.is_empty() {
        return match is_last && cfg!(target_os = "linux") {
            true => stream.shutdown(Shutdown::Write),
            false => Ok(()),
        };
    }
    watcher.hand_over(seat)?;
    seat.set(Activity::Waiting, watcher.pool.now_us());
    let deadline = Instant::now() + watcher.pool.limits.write;
    while !left.is_empty() {
        let timeout = remaining(deadline).ok_or(io::ErrorKind::TimedOut)?;
        stream.set_write_timeout(Some(timeout))?;
        match (&mut &*stream).write_vectored(left) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => IoSlice::advance_slices(&mut left, n),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
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
