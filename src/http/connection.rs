//! The life of one connection: read a head, read its body, wait if told to, answer, close or rest.
//! [`answer_one`] reads from top to bottom.

use std::mem;
use std::net::Shutdown;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use zeroize::Zeroize;

use super::body::{BodyReader, Failure, receive};
use super::delivery::{deliver, write};
use super::head::{Framing, Head, MAX_HEAD, Refusal, Scan, no_fields};
use super::pool::Pool;
use super::seat::{Activity, Awaited, Seat};
use super::watcher::Watcher;
use super::{Delivery, Entity, Method, Reply, Request, Service, reason};
use crate::date::Date;

/// What a client may still send after an answer that refuses it, before the close becomes a reset.
const MAX_LINGER_BYTES: usize = 256 * 1024;
/// How long a request without an answer keeps its connection, unless that has to give way.
const NO_ANSWER: Duration = Duration::from_secs(3600);
/// Requests of one connection that are answered in a row before others must not wait for it any more.
const IN_A_ROW: usize = 8;
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
    /// There was no answer, on purpose.
    Silence,
}

/// What becomes of a connection once all that has arrived is dealt with.
pub(super) enum Then {
    Rest,
    Close,
}

/// Serves what has arrived on `seat`'s connection, or ends it where that took too long.
pub(super) fn serve(
    watcher: &mut Watcher,
    seat: &Seat,
    service: &dyn Service,
    scratch: &mut Scratch,
) -> Then {
    let awaited = mem::take(&mut *seat.awaited());
    let then = match awaited {
        Awaited::Request => answer_all(watcher, seat, service, scratch, 0, Scan::default()),
        Awaited::Head { begun, scan } => {
            scratch.buffer[..begun.len()].copy_from_slice(&begun);
            answer_all(watcher, seat, service, scratch, begun.len(), scan)
        }
        Awaited::End { dropped } => {
            drop_what_comes(watcher.pool, seat, dropped, &mut scratch.buffer)
        }
    };
    match then {
        Ok(then) => then,
        Err(Failure::Gone) => Then::Close,
        Err(Failure::Refused(refusal)) => {
            refuse(watcher, seat, service, refusal, &mut scratch.head)
        }
    }
}

/// Reads on behind the `filled` bytes of a head that are in the buffer, and answers all requests
/// that are complete.
fn answer_all(
    watcher: &mut Watcher,
    seat: &Seat,
    service: &dyn Service,
    scratch: &mut Scratch,
    mut filled: usize,
    mut scan: Scan,
) -> Result<Then, Failure> {
    let mut is_begun = filled > 0;
    let pool = watcher.pool;
    let limits = &pool.limits;
    filled += receive(&seat.stream, &mut scratch.buffer[filled..])?;
    if filled == 0 {
        return match seat.due_us() <= pool.now_us() {
            true => Ok(Then::Close),
            false => Ok(Then::Rest),
        };
    }
    let mut answers = 0;
    while filled > 0 {
        if answers == IN_A_ROW {
            // Without another thread it goes on: there is nothing to wait for.
            let _ = watcher.hand_over(seat);
        }
        let read = &scratch.buffer[..filled.min(MAX_HEAD)];
        let Some(head_end) = scan.head_end(read) else {
            if filled >= MAX_HEAD {
                return Err(scan.refusal_when_full().into());
            }
            // A TLS handshake or other noise will not grow into a request; say so at once.
            if !(read[0].is_ascii_graphic() || b"\r\n".contains(&read[0])) {
                return Err(Refusal::Malformed.into());
            }
            if is_begun && seat.due_us() <= pool.now_us() {
                return Err(Refusal::TooSlow.into());
            }
            let begun = read.to_vec();
            let awaited = Awaited::Head { begun, scan };
            match is_begun {
                true => *seat.awaited() = awaited,
                false => seat.expect(awaited, Activity::Head, pool.now_us(), limits.head),
            }
            return Ok(Then::Rest);
        };
        let answered = answer_one(watcher, seat, service, scratch, head_end, filled);
        if !scratch.body.is_empty() {
            // It may have held a secret, and takes much memory.
            scratch.body.zeroize();
            scratch.body = Vec::new();
        }
        let (after, rest) = answered?;
        answers += 1;
        match after {
            After::KeepAlive => {}
            After::Close => return Ok(Then::Close),
            After::LingeringClose => return Ok(linger(pool, seat)),
            After::Silence => {
                return Ok(wait_for_the_end(pool, seat, NO_ANSWER));
            }
        }
        filled = rest.len();
        scratch.buffer.copy_within(rest, 0);
        scan = Scan::default();
        is_begun = false;
    }
    seat.expect(Awaited::Request, Activity::Idle, pool.now_us(), limits.idle);
    Ok(Then::Rest)
}

/// Answers the request whose head ends at `head_end` of the buffer, after its body has been read.
/// Returns what follows, and which part of the buffer lies behind the request.
fn answer_one(
    watcher: &mut Watcher,
    seat: &Seat,
    service: &dyn Service,
    scratch: &mut Scratch,
    head_end: usize,
    filled: usize,
) -> Result<(After, Range<usize>), Failure> {
    let pool = watcher.pool;
    let (head_bytes, behind) = scratch.buffer.split_at_mut(head_end);
    let mut fields = no_fields();
    let head = Head::parse(head_bytes, &mut fields)?;
    let mut rest = head_end..filled;
    if head.framing != Framing::Sized(0) {
        seat.set(Activity::Head, pool.now_us());
        let body = service.wants_bodies().then_some(&mut scratch.body);
        let reader = BodyReader::new(watcher, seat, behind, filled - head_end, body);
        let behind = reader.read(head.framing, head.expects_continue)?;
        rest = head_end + behind.start..head_end + behind.end;
    }

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
    if service.may_block() {
        watcher.hand_over(seat)?;
    }
    let mut handed_over = Ok(());
    let mut wait = |delay: Duration| {
        if !delay.is_zero() && handed_over.is_ok() {
            handed_over = watcher.hand_over(seat);
            if handed_over.is_ok() {
                pool.hold_back(seat, delay);
                seat.set_busy();
            }
        }
    };
    let reply = catch_unwind(AssertUnwindSafe(|| service.answer(&request, &mut wait)))
        .unwrap_or_else(|_| Reply::empty(500));
    handed_over?;
    let after = if reply.delivery == Delivery::NoAnswer {
        After::Silence
    } else if head.keep_alive && !pool.is_stopping() {
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
    let is_last = after == After::Close;
    let goes_on = deliver(watcher, seat, &reply, &scratch.head, body, is_last);
    service.answered(Some(&request), &reply);
    match goes_on {
        true => Ok((after, rest)),
        false => Err(Failure::Gone),
    }
}

/// Answers what is no request, and closes so that the answer arrives.
fn refuse(
    watcher: &mut Watcher,
    seat: &Seat,
    service: &dyn Service,
    refusal: Refusal,
    head: &mut Vec<u8>,
) -> Then {
    let reply = service.refusal(refusal.status());
    let mut date = (i64::MIN, String::new());
    lay_out(&reply, After::LingeringClose, service, head, &mut date);
    let written = write(watcher, seat, head, reply.entity.body(), false);
    service.answered(None, &reply);
    match written {
        Ok(()) => linger(watcher.pool, seat),
        Err(_) => Then::Close,
    }
}

/// Ends our side and drops what the client still sends, so that the kernel does not answer it
/// with a reset that would take the answer away.
fn linger(pool: &Pool, seat: &Seat) -> Then {
    let _ = seat.stream.shutdown(Shutdown::Write);
    wait_for_the_end(pool, seat, pool.limits.linger)
}

fn wait_for_the_end(pool: &Pool, seat: &Seat, limit: Duration) -> Then {
    let end = Awaited::End { dropped: 0 };
    seat.expect(end, Activity::Idle, pool.now_us(), limit);
    Then::Rest
}

/// Reads and drops until the client is gone, has sent too much or taken too long. The connection
/// may give way meanwhile.
fn drop_what_comes(
    pool: &Pool,
    seat: &Seat,
    dropped: usize,
    buffer: &mut [u8],
) -> Result<Then, Failure> {
    let dropped = dropped + receive(&seat.stream, buffer)?;
    if dropped > MAX_LINGER_BYTES || seat.due_us() <= pool.now_us() {
        return Ok(Then::Close);
    }
    *seat.awaited() = Awaited::End { dropped };
    Ok(Then::Rest)
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
        *date = (second, Date::from_unix_ms(second * 1000).http());
    }
    head.clear();
    let connection = match after {
        After::KeepAlive => "keep-alive",
        After::Close | After::LingeringClose | After::Silence => "close",
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
