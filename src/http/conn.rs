//! The life of one connection: read a head, read its body, wait if told to, answer, close or rest.
//! Nothing here waits: what cannot go on rests in its [`Phase`] until its client or the time has come.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use super::answer::{Layout, Outgoing, Pace};
use super::body::Body;
use super::head::{Head, MAX_HEAD, Refusal, Scan, no_fields};
use super::limits::Limits;
use super::message::{Caller, Delivery, Method, Reply, Request};
use super::phase::{After, Complete, Phase};
use super::service::{Resume, Service, Step};
use super::stream::{Gone, Stream};

/// What a client may still send after an answer that refuses it, before the close becomes a reset.
const MAX_LINGER_BYTES: usize = 256 * 1024;
/// How long a request without an answer keeps its connection, unless that has to give way.
const NO_ANSWER: Duration = Duration::from_secs(3600);
/// Longer than any delay: where a deadline would be beyond what an [`Instant`] can say.
const FOR_EVER: Duration = Duration::from_secs(365 * 86400);
/// Room for a head and, behind it, for the first bytes of a body or of the next request.
const BUFFER: usize = MAX_HEAD + 4 * 1024;

/// What becomes of a connection when all that could be done is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Rest,
    Close,
    /// It could go on at once, and lets others go first.
    Again,
    /// It goes on at once, on a thread that may block.
    Block,
}

/// What a thread reuses from one connection to the next.
pub(super) struct Scratch {
    pub(super) buffer: Box<[u8]>,
    pub(super) layout: Layout,
}

impl Scratch {
    pub(super) fn new() -> Scratch {
        Scratch {
            buffer: vec![0; BUFFER].into_boxed_slice(),
            layout: Layout::new(),
        }
    }
}

/// Under what circumstances a connection is served.
pub(super) struct Context<'a> {
    pub(super) service: &'a dyn Service,
    pub(super) limits: &'a Limits,
    pub(super) now: Instant,
    /// Requests answered in a row before it is the turn of others.
    pub(super) in_a_row: usize,
    pub(super) is_stopping: bool,
    /// Nobody waits for this thread.
    pub(super) may_block: bool,
    pub(super) layout: &'a mut Layout,
}

impl Context<'_> {
    /// Waits for time to pass, unless nobody does any more.
    fn wait(&self) -> Next {
        match self.is_stopping {
            true => Next::Again,
            false => Next::Rest,
        }
    }
}

/// A complete request as it came, and what has come behind it.
struct Arrived<'a> {
    head: &'a [u8],
    body: Zeroizing<Vec<u8>>,
    rest: &'a [u8],
}

/// Why a request is not answered as one.
enum Failure {
    Refused(Refusal),
    Gone,
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Failure {
        Failure::Refused(refusal)
    }
}

impl From<Gone> for Failure {
    fn from(_: Gone) -> Failure {
        Failure::Gone
    }
}

/// One open connection.
pub(super) struct Connection<S> {
    pub(super) stream: S,
    pub(super) caller: Caller,
    /// Where it was accepted.
    pub(super) listener: usize,
    phase: Phase,
    /// Since when it does what it does; while a request arrives, since its beginning.
    since: Instant,
    /// When it is to be served though nothing has happened.
    due: Instant,
}

impl<S: Stream> Connection<S> {
    /// A connection just accepted, which may be idle for that long.
    pub(super) fn new(
        stream: S,
        caller: Caller,
        listener: usize,
        now: Instant,
        idle: Duration,
    ) -> Connection<S> {
        Connection {
            stream,
            caller,
            listener,
            phase: Phase::New,
            since: now,
            due: now + idle,
        }
    }

    pub(super) fn since(&self) -> Instant {
        self.since
    }

    pub(super) fn due(&self) -> Instant {
        self.due
    }

    pub(super) fn phase(&self) -> &Phase {
        &self.phase
    }

    /// Does what can be done now. `is_end`: the client has ended its side, and [`Interest::End`] or
    /// [`Interest::Nothing`] was waited for.
    pub(super) fn serve(&mut self, is_end: bool, cx: &mut Context, buffer: &mut [u8]) -> Next {
        match self.go_on(is_end, cx, buffer) {
            Ok(next) => next,
            Err(Failure::Gone) => Next::Close,
            Err(Failure::Refused(refusal)) => self.refuse(refusal.status(), cx),
        }
    }

    /// Answers what is no request, or cannot be answered, and closes so that the answer arrives.
    pub(super) fn refuse(&mut self, status: u16, cx: &mut Context) -> Next {
        let reply = cx.service.refusal(status);
        let sent = self.send(&reply, true, After::Linger, &[], cx);
        cx.service.answered(None, &reply);
        match sent {
            Ok(Some(next)) => next,
            Ok(None) | Err(Gone) => Next::Close,
        }
    }

    fn go_on(
        &mut self,
        is_end: bool,
        cx: &mut Context,
        buffer: &mut [u8],
    ) -> Result<Next, Failure> {
        let is_due = self.due <= cx.now;
        // What follows, and which part of the buffer lies behind the request.
        let (next, rest) = match &mut self.phase {
            Phase::New | Phase::Idle => return self.read(0, Scan::default(), cx, buffer),
            Phase::Head { begun, scan } => {
                let (begun, scan) = (mem::take(begun), mem::take(scan));
                buffer[..begun.len()].copy_from_slice(&begun);
                return self.read(begun.len(), scan, cx, buffer);
            }
            Phase::Body { head, body } => {
                let filled = self.stream.receive(buffer)?;
                let used = body.take(&buffer[..filled])?;
                match body.is_complete() {
                    false if is_due => return Err(Refusal::TooSlow.into()),
                    false => return Ok(Next::Rest),
                    true => {}
                }
                let (head, body) = (mem::take(head), mem::replace(body, Body::none()));
                let arrived = Arrived {
                    head: &head,
                    body: body.into_kept(),
                    rest: &buffer[used..filled],
                };
                (self.answer_kept(arrived, None, cx)?, used..filled)
            }
            // The second time it has been reset.
            Phase::Delayed { is_forsaken, .. } if !is_due && !cx.is_stopping => {
                return Ok(match is_end && mem::replace(is_forsaken, is_end) {
                    true => Next::Close,
                    false => Next::Rest,
                });
            }
            Phase::Delayed {
                request, resume, ..
            } => {
                let Complete { head, body, rest } = mem::take(request);
                let resume = resume.take();
                buffer[..rest.len()].copy_from_slice(&rest);
                let arrived = Arrived {
                    head: &head,
                    body,
                    rest: &rest,
                };
                (self.answer_kept(arrived, resume, cx)?, 0..rest.len())
            }
            Phase::Writing {
                answer,
                after,
                rest,
            } => {
                if answer.is_between_pieces() {
                    match is_due || cx.is_stopping {
                        _ if is_end => return Ok(Next::Close),
                        false => return Ok(Next::Rest),
                        true => answer.release(cx.is_stopping),
                    }
                    self.due = cx.now + cx.limits.write;
                } else if is_due {
                    return Ok(Next::Close);
                }
                let (parts, is_last) = answer.due();
                let is_last = is_last && *after == After::Close && answer.pace.is_none();
                let sent = self.stream.send(parts, is_last)?;
                answer.advance(sent);
                if !answer.is_between_pieces() {
                    return Ok(Next::Rest);
                }
                // The last piece takes its time, too.
                if let Some(pace) = answer.pace.filter(|_| sent > 0) {
                    self.due = cx.now + pace.step;
                    return Ok(cx.wait());
                }
                let (after, rest) = (*after, mem::take(rest));
                buffer[..rest.len()].copy_from_slice(&rest);
                (self.end_of_answer(after, cx), 0..rest.len())
            }
            Phase::Lingering { dropped } => {
                *dropped += self.stream.receive(buffer)?;
                return Ok(match *dropped > MAX_LINGER_BYTES || is_due {
                    true => Next::Close,
                    false => Next::Rest,
                });
            }
        };
        if let Some(next) = next {
            return Ok(next);
        }
        let filled = rest.len();
        buffer.copy_within(rest, 0);
        self.read(filled, Scan::default(), cx, buffer)
    }

    /// Answers all requests that are complete, the first of which begins with the `filled` bytes in
    /// the buffer. Receives once.
    fn read(
        &mut self,
        mut filled: usize,
        mut scan: Scan,
        cx: &mut Context,
        buffer: &mut [u8],
    ) -> Result<Next, Failure> {
        let mut has_received = false;
        let mut answers = 0;
        loop {
            let Some(head_end) = scan.head_end(&buffer[..filled.min(MAX_HEAD)]) else {
                if filled >= MAX_HEAD {
                    return Err(scan.refusal_when_full().into());
                }
                // A TLS handshake or other noise will not grow into a request; say so at once.
                if filled > 0 && !(buffer[0].is_ascii_graphic() || b"\r\n".contains(&buffer[0])) {
                    return Err(Refusal::Malformed.into());
                }
                if !mem::replace(&mut has_received, true) {
                    let received = self.stream.receive(&mut buffer[filled..])?;
                    filled += received;
                    if received > 0 {
                        continue;
                    }
                }
                return self.await_head(&buffer[..filled], scan, cx);
            };
            if answers == cx.in_a_row {
                self.await_head(&buffer[..filled], Scan::default(), cx)?;
                return Ok(Next::Again);
            }
            // There may be more, but others wait too.
            has_received = true;
            let (head_bytes, behind) = buffer[..filled].split_at(head_end);
            let mut fields = no_fields();
            let head = Head::parse(head_bytes, &mut fields)?;
            let mut body = Body::new(head.framing, cx.service.wants_bodies());
            let used = body.take(behind)?;
            if !body.is_complete() {
                if head.expects_continue && behind.is_empty() {
                    self.send_continue()?;
                }
                let head = head_bytes.to_vec();
                self.enter(Phase::Body { head, body }, cx.limits.body, cx);
                return Ok(Next::Rest);
            }
            let arrived = Arrived {
                head: head_bytes,
                body: body.into_kept(),
                rest: &behind[used..],
            };
            if let Some(next) = self.answer(&head, arrived, None, cx)? {
                return Ok(next);
            }
            answers += 1;
            scan = Scan::default();
            buffer.copy_within(head_end + used..filled, 0);
            filled -= head_end + used;
        }
    }

    /// Rests until more of a head has come, or any of it.
    fn await_head(&mut self, begun: &[u8], scan: Scan, cx: &Context) -> Result<Next, Failure> {
        let is_due = self.due <= cx.now;
        match &mut self.phase {
            Phase::Head { .. } if is_due => return Err(Refusal::TooSlow.into()),
            Phase::Head {
                begun: kept,
                scan: at,
            } => {
                *kept = begun.to_vec();
                *at = scan;
            }
            _ if begun.is_empty() && is_due => return Ok(Next::Close),
            _ if begun.is_empty() => {}
            _ => {
                let begun = begun.to_vec();
                self.enter(Phase::Head { begun, scan }, cx.limits.head, cx);
            }
        }
        Ok(Next::Rest)
    }

    /// A client that did not get it, as it has no room, sends its body all the same (RFC 9110,
    /// section 10.1.1).
    fn send_continue(&self) -> Result<(), Gone> {
        let go_on = b"HTTP/1.1 100 Continue\r\n\r\n";
        match self.stream.send([go_on, b""], false)? {
            0 => Ok(()),
            sent if sent == go_on.len() => Ok(()),
            _ => Err(Gone),
        }
    }

    /// Answers a request whose head has been kept.
    fn answer_kept(
        &mut self,
        arrived: Arrived,
        resume: Option<Resume>,
        cx: &mut Context,
    ) -> Result<Option<Next>, Failure> {
        let mut fields = no_fields();
        let head = Head::parse(arrived.head, &mut fields)?;
        self.answer(&head, arrived, resume, cx)
    }

    /// Answers a request, or has it wait. `None` where the connection goes on with what is behind.
    fn answer(
        &mut self,
        head: &Head,
        arrived: Arrived,
        resume: Option<Resume>,
        cx: &mut Context,
    ) -> Result<Option<Next>, Failure> {
        if cx.service.may_block() && !cx.may_block {
            self.delay(arrived, resume, Duration::ZERO, cx);
            return Ok(Some(Next::Block));
        }
        let request = Request {
            method: head.method,
            target: head.target,
            raw_path: head.raw_path,
            path: &head.path,
            query: head.query,
            fields: head.fields,
            host: head.host,
            body: &arrived.body,
            caller: self.caller,
        };
        let step = catch_unwind(AssertUnwindSafe(|| match resume {
            Some(resume) => Step::Reply(resume(&request)),
            None => cx.service.answer(&request),
        }));
        let reply = match step {
            Ok(Step::Reply(reply)) => reply,
            Ok(Step::Wait(time, resume)) => {
                self.delay(arrived, Some(resume), time, cx);
                return Ok(Some(cx.wait()));
            }
            Err(_) => Reply::empty(500),
        };
        let after = if reply.delivery == Delivery::NoAnswer {
            After::Silence
        } else if head.keep_alive && !cx.is_stopping {
            After::KeepAlive
        } else if arrived.rest.is_empty() {
            After::Close
        } else {
            After::Linger
        };
        let has_body = head.method != Method::Head;
        let sent = self.send(&reply, has_body, after, arrived.rest, cx);
        cx.service.answered(Some(&request), &reply);
        Ok(sent?)
    }

    fn delay(&mut self, arrived: Arrived, resume: Option<Resume>, time: Duration, cx: &Context) {
        let Arrived { head, body, rest } = arrived;
        let phase = Phase::Delayed {
            request: Complete {
                head: head.to_vec(),
                body,
                rest: rest.to_vec(),
            },
            resume,
            is_forsaken: false,
        };
        self.enter(phase, time, cx);
    }

    /// Sends an answer as it wants to be sent, or as much of it as is taken now. `None` where the
    /// connection goes on.
    fn send(
        &mut self,
        reply: &Reply,
        has_body: bool,
        after: After,
        rest: &[u8],
        cx: &mut Context,
    ) -> Result<Option<Next>, Gone> {
        if let Some(hops) = reply.hop_limit {
            self.stream.set_hop_limit(hops)?;
        }
        let whole = reply.entity.body();
        let (body, after_it) = match reply.delivery {
            Delivery::Whole | Delivery::Slow { .. } => (whole, after),
            Delivery::Truncated { bytes } => (&whole[..whole.len().min(bytes)], After::Close),
            Delivery::Reset => {
                self.stream.reset();
                return Ok(Some(Next::Close));
            }
            Delivery::NoAnswer => return Ok(self.end_of_answer(After::Silence, cx)),
        };
        let head = cx.layout.head(reply, cx.service, after == After::KeepAlive);
        let body = if has_body { body } else { b"" };
        let pace = Pace::of(reply.delivery);
        let sent = match pace {
            None => (self.stream).send([head, body], after_it == After::Close)?,
            Some(_) => 0,
        };
        if sent == head.len() + body.len() {
            return Ok(self.end_of_answer(after_it, cx));
        }
        let phase = Phase::Writing {
            answer: Outgoing::new(head, reply.entity.clone(), body.len(), sent, pace),
            after: after_it,
            rest: rest.to_vec(),
        };
        // The first piece leaves at once.
        let limit = pace.map_or(cx.limits.write, |_| Duration::ZERO);
        self.enter(phase, limit, cx);
        Ok(Some(match pace {
            Some(_) => Next::Again,
            None => Next::Rest,
        }))
    }

    /// What comes behind an answer that has left whole. `None` where the connection goes on.
    fn end_of_answer(&mut self, after: After, cx: &Context) -> Option<Next> {
        let limit = match after {
            After::KeepAlive => {
                self.enter(Phase::Idle, cx.limits.idle, cx);
                return None;
            }
            After::Close => return Some(Next::Close),
            // What the client still sends would be answered with a reset, which would take the answer
            // away.
            After::Linger => {
                self.stream.end();
                cx.limits.linger
            }
            After::Silence => NO_ANSWER,
        };
        self.enter(Phase::Lingering { dropped: 0 }, limit, cx);
        Some(Next::Rest)
    }

    fn enter(&mut self, phase: Phase, limit: Duration, cx: &Context) {
        if !(self.phase.is_arriving() && phase.is_arriving()) {
            self.since = cx.now;
        }
        self.due = cx.now.checked_add(limit).unwrap_or(cx.now + FOR_EVER);
        self.phase = phase;
    }
}

#[cfg(test)]
mod tests;
