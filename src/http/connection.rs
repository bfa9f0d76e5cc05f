//! The life of one connection: read a head, read its body, wait if told to, answer, close or go
//! on. [`serve`] reads from top to bottom.

use std::io::{self, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use zeroize::Zeroize;

use super::body::{BodyReader, Failure};
use super::delivery::{deliver, linger, write_within};
use super::head::{Framing, Head, MAX_HEAD, Refusal, Scan, no_fields};
use super::pool::{Activity, Pool, Seat};
use super::{Entity, Method, Reply, Request, Service, reason, remaining};
use crate::clock;

/// Room for a head and, behind it, for the first bytes of a body or of the next request.
const BUFFER: usize = MAX_HEAD + 4 * 1024;

/// What a thread reuses from one connection to the next.
pub(super) struct Scratch {
    buffer: Box<[u8]>,
    body: Vec<u8>,
    head: Vec<u8>,
    date: (i64, String),
}

impl Scratch {
    pub(super) fn new() -> Scratch {
        Scratch {
            buffer: vec![0; BUFFER].into_boxed_slice(),
            body: Vec::new(),
            head: Vec::with_capacity(512),
            date: (i64::MIN, String::new()),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum After {
    KeepAlive,
    Close,
    /// The client may still be sending: a plain close would become a reset that overtakes the
    /// answer.
    LingeringClose,
}

/// Serves `seat`'s connection until it is closed.
pub(super) fn serve(pool: &Pool, seat: &Seat, service: &dyn Service, scratch: &mut Scratch) {
    let stream = &seat.stream;
    let mut filled = 0;
    // The listener's timeouts are inherited: until one is changed, none needs to be set.
    let mut timeout_is_idle = true;
    loop {
        if !timeout_is_idle && stream.set_read_timeout(Some(pool.limits.idle)).is_err() {
            return;
        }
        let (head_end, timed) = match read_head(pool, seat, &mut scratch.buffer, &mut filled) {
            Ok(found) => found,
            Err(Failure::Gone) => return,
            Err(Failure::Refused(refusal)) => {
                refuse(pool, seat, service, refusal, &mut scratch.head);
                return;
            }
        };
        let (head_bytes, behind) = scratch.buffer.split_at_mut(head_end);
        let mut fields = no_fields();
        let head = match Head::parse(head_bytes, &mut fields) {
            Ok(head) => head,
            Err(refusal) => {
                refuse(pool, seat, service, refusal, &mut scratch.head);
                return;
            }
        };
        scratch.body.clear();
        let has_body = head.framing != Framing::Sized(0);
        let mut rest = head_end..filled;
        if has_body {
            seat.set(pool, Activity::Head);
            let deadline = Instant::now() + pool.limits.body;
            let reader = BodyReader::new(stream, deadline, behind, filled - head_end);
            match reader.read(head.framing, head.expects_continue, &mut scratch.body) {
                Ok(behind) => rest = head_end + behind.start..head_end + behind.end,
                Err(Failure::Gone) => return,
                Err(Failure::Refused(refusal)) => {
                    refuse(pool, seat, service, refusal, &mut scratch.head);
                    return;
                }
            }
        }
        timeout_is_idle = !timed && !has_body;

        seat.set_busy();
        let request = Request {
            method: head.method,
            target: head.target,
            raw_path: head.raw_path,
            path: &head.path,
            query: head.query,
            fields: head.fields,
            host: head.host,
            body: &scratch.body,
            caller: seat.caller,
        };
        let wait = |delay: Duration| {
            if !delay.is_zero() {
                pool.hold_back(seat, delay);
                seat.set_busy();
            }
        };
        let reply = catch_unwind(AssertUnwindSafe(|| service.answer(&request, &wait)))
            .unwrap_or_else(|_| Reply::empty(500));
        let after = if head.keep_alive && !pool.is_stopping() {
            After::KeepAlive
        } else if rest.is_empty() {
            After::Close
        } else {
            After::LingeringClose
        };
        lay_out(&reply, after, service, &mut scratch.head, &mut scratch.date);
        let body = match head.method {
            Method::Head => &[][..],
            _ => reply.entity.body(),
        };
        let goes_on = deliver(pool, seat, &reply, &scratch.head, body);
        service.answered(Some(&request), &reply);
        if has_body {
            // It may have held a secret.
            scratch.body.zeroize();
        }
        match after {
            After::KeepAlive if goes_on => {}
            After::LingeringClose if goes_on => return linger(pool, seat),
            _ => return,
        }
        scratch.buffer.copy_within(rest.clone(), 0);
        filled = rest.len();
        seat.set(pool, Activity::Idle);
    }
}

/// Reads until the buffer begins with a complete head. Returns its length, and whether the socket's
/// timeout had to be changed for it.
fn read_head(
    pool: &Pool,
    seat: &Seat,
    buffer: &mut [u8],
    filled: &mut usize,
) -> Result<(usize, bool), Failure> {
    let mut scan = Scan::default();
    let mut deadline = None;
    loop {
        let within = (*filled).min(MAX_HEAD);
        if let Some(end) = scan.head_end(&buffer[..within]) {
            return Ok((end, deadline.is_some()));
        }
        if *filled >= MAX_HEAD {
            return Err(scan.refusal_when_full().into());
        }
        if *filled > 0 {
            // A TLS handshake or other noise will not grow into a request; say so at once.
            if !(buffer[0].is_ascii_graphic() || b"\r\n".contains(&buffer[0])) {
                return Err(Refusal::Malformed.into());
            }
            let deadline = *deadline.get_or_insert_with(|| {
                seat.set(pool, Activity::Head);
                Instant::now() + pool.limits.head
            });
            let timeout = remaining(deadline).ok_or(Refusal::TooSlow)?;
            seat.stream
                .set_read_timeout(Some(timeout))
                .map_err(|_| Failure::Gone)?;
        }
        match (&mut &seat.stream).read(&mut buffer[*filled..]) {
            Ok(0) => return Err(Failure::Gone),
            Ok(n) => *filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if is_timeout(&e) && *filled > 0 => return Err(Refusal::TooSlow.into()),
            Err(_) => return Err(Failure::Gone),
        }
    }
}

fn is_timeout(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

/// Answers what is no request, and closes so that the answer arrives.
fn refuse(pool: &Pool, seat: &Seat, service: &dyn Service, refusal: Refusal, head: &mut Vec<u8>) {
    let reply = service.refusal(refusal.status());
    let mut date = (i64::MIN, String::new());
    lay_out(&reply, After::LingeringClose, service, head, &mut date);
    let written = write_within(&seat.stream, head, reply.entity.body(), pool.limits.write);
    service.answered(None, &reply);
    if written.is_ok() {
        linger(pool, seat);
    }
}

/// Writes the status line and the fields, in the order of EC2's newer server
/// (reference/imds.md, section 4).
fn lay_out(
    reply: &Reply,
    after: After,
    service: &dyn Service,
    head: &mut Vec<u8>,
    date: &mut (i64, String),
) {
    let second = service.unix_ms().div_euclid(1000);
    if date.0 != second {
        *date = (second, clock::http_date(clock::from_unix_ms(second * 1000)));
    }
    head.clear();
    let connection = match after {
        After::KeepAlive => "keep-alive",
        After::Close | After::LingeringClose => "close",
    };
    let mut add = |parts: &[&str]| {
        for part in parts {
            head.extend_from_slice(part.as_bytes());
        }
    };
    let mut digits = [0; 10];
    let status = decimal(reply.status.into(), &mut digits);
    add(&["HTTP/1.1 ", status, " ", reason(reply.status), "\r\n"]);
    if let Some((name, value)) = reply.first_field {
        add(&[name, ": ", decimal(value, &mut digits), "\r\n"]);
    }
    if let Some(allow) = reply.allow {
        add(&["Allow: ", allow, "\r\n"]);
    }
    let Entity {
        fields, last_field, ..
    } = &*reply.entity;
    add(&[fields, "Date: ", &date.1]);
    add(&["\r\nServer: ", service.server_name()]);
    add(&["\r\nConnection: ", connection, "\r\n", last_field, "\r\n"]);
}

/// `number` in digits: `write!` takes longer than all the rest of a head.
fn decimal(mut number: u32, digits: &mut [u8; 10]) -> &str {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return std::str::from_utf8(&digits[at..]).expect("digits are ASCII");
        }
    }
}
