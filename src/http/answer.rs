//! The bytes of an answer: how its head is laid out, and how much of an answer that was not taken at
//! once has left.

use std::sync::Arc;
use std::time::Duration;

use super::message::{Delivery, Entity, Reply};
use super::service::Service;
use super::status::reason;
use crate::date::Date;

/// Pieces a second of a slow answer, where the rate has a byte for each.
const SLOW_PIECES: u32 = 10;

/// Room for a head, and the date that stands in it for a second.
pub(super) struct Layout {
    head: Vec<u8>,
    second: i64,
    date: String,
}

impl Layout {
    pub(super) fn new() -> Layout {
        Layout {
            head: Vec::with_capacity(512),
            second: i64::MIN,
            date: String::new(),
        }
    }

    /// The status line and the fields, in the order of EC2's newer server
    /// (docs/reference/metadata.md, "Headers").
    pub(super) fn head(&mut self, reply: &Reply, service: &dyn Service, keep_alive: bool) -> &[u8] {
        let second = service.unix_ms().div_euclid(1000);
        if self.second != second {
            self.second = second;
            self.date = Date::from_unix_ms(second * 1000).http();
        }
        let head = &mut self.head;
        head.clear();
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
        let connection = if keep_alive { "keep-alive" } else { "close" };
        add(&[fields, "Date: ", &self.date]);
        add(&["\r\nServer: ", service.server_name()]);
        add(&["\r\nConnection: ", connection, "\r\n", last_field, "\r\n"]);
        head
    }
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

/// At what rate an answer leaves that is slow on purpose.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Pace {
    piece: usize,
    /// From one piece to the next.
    pub(super) step: Duration,
}

impl Pace {
    pub(super) fn of(delivery: Delivery) -> Option<Pace> {
        let Delivery::Slow { bytes_per_second } = delivery else {
            return None;
        };
        let piece = (bytes_per_second / SLOW_PIECES).max(1);
        let step = f64::from(piece) / f64::from(bytes_per_second.max(1));
        Some(Pace {
            piece: piece as usize,
            step: Duration::from_secs_f64(step),
        })
    }
}

/// An answer that has not left whole.
pub(super) struct Outgoing {
    head: Vec<u8>,
    entity: Arc<Entity>,
    total: usize,
    sent: usize,
    /// How many bytes may leave for now.
    released: usize,
    pub(super) pace: Option<Pace>,
}

impl Outgoing {
    /// An answer of `head` and the first `body` bytes of the entity, `sent` of which have left.
    pub(super) fn new(
        head: &[u8],
        entity: Arc<Entity>,
        body: usize,
        sent: usize,
        pace: Option<Pace>,
    ) -> Outgoing {
        let total = head.len() + body;
        Outgoing {
            head: head.to_vec(),
            entity,
            total,
            sent,
            released: if pace.is_some() { sent } else { total },
            pace,
        }
    }

    /// What may leave now, and whether that is the last of it.
    pub(super) fn due(&self) -> ([&[u8]; 2], bool) {
        let head = self.head.len();
        let body = &self.entity.body()[self.sent.max(head) - head..self.released.max(head) - head];
        let head = &self.head[self.sent.min(head)..self.released.min(head)];
        ([head, body], self.released == self.total)
    }

    pub(super) fn advance(&mut self, bytes: usize) {
        self.sent += bytes;
    }

    /// Lets the next piece leave; all of them if nobody waits any more.
    pub(super) fn release(&mut self, all: bool) {
        self.released = match self.pace {
            Some(Pace { piece, .. }) if !all => self.total.min(self.released + piece),
            _ => self.total,
        };
    }

    /// Whether all that may leave now has left: it waits for time to pass, not for its client.
    pub(super) fn is_between_pieces(&self) -> bool {
        self.sent == self.released
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nobody;

    impl Service for Nobody {
        fn server_name(&self) -> &'static str {
            "nobody"
        }

        fn unix_ms(&self) -> i64 {
            784_111_777_999
        }

        fn answer(&self, _request: &super::super::message::Request) -> super::super::service::Step {
            unreachable!("nobody asks")
        }
    }

    #[test]
    fn a_head_has_its_fields_in_the_order_of_ec2() {
        let mut layout = Layout::new();
        let reply = Reply {
            first_field: Some(("X-aws-ec2-metadata-token-ttl-seconds", 21600)),
            ..Reply::ok(Arc::new(Entity::token("t".into())))
        };
        assert_eq!(
            String::from_utf8_lossy(layout.head(&reply, &Nobody, true)),
            "HTTP/1.1 200 OK\r\nX-aws-ec2-metadata-token-ttl-seconds: 21600\r\nContent-Length: 1\r\n\
             Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nServer: nobody\r\nConnection: keep-alive\r\n\
             Content-Type: text/plain\r\n\r\n"
        );
        let refused = layout.head(&Reply::not_allowed("GET"), &Nobody, false);
        assert_eq!(
            String::from_utf8_lossy(refused),
            "HTTP/1.1 405 Not Allowed\r\nAllow: GET\r\nContent-Type: text/plain\r\n\
             Content-Length: 0\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nServer: nobody\r\n\
             Connection: close\r\n\r\n"
        );
    }

    #[test]
    fn numbers_are_decimal() {
        for number in [0, 7, 10, 404, u32::MAX] {
            assert_eq!(decimal(number, &mut [0; 10]), number.to_string());
        }
    }

    #[test]
    fn a_rate_becomes_pieces() {
        for (bytes_per_second, piece, step_ms) in [(1, 1, 1000), (5, 1, 200), (1000, 100, 100)] {
            let pace = Pace::of(Delivery::Slow { bytes_per_second }).unwrap();
            assert_eq!(
                (pace.piece, pace.step),
                (piece, Duration::from_millis(step_ms))
            );
        }
        assert_eq!(Pace::of(Delivery::Whole), None);
    }

    /// Everything that leaves if `room` bytes are taken at a time.
    fn sent(mut outgoing: Outgoing, room: usize) -> String {
        let mut bytes = Vec::new();
        while outgoing.sent < outgoing.total {
            if outgoing.is_between_pieces() {
                outgoing.release(false);
            }
            let taken: Vec<u8> = outgoing.due().0.concat().into_iter().take(room).collect();
            outgoing.advance(taken.len());
            bytes.extend(taken);
        }
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn an_answer_leaves_whole_however_little_is_taken_at_a_time() {
        let entity = Arc::new(Entity::new("text/plain", None, "body"));
        let pace = Pace::of(Delivery::Slow {
            bytes_per_second: 30,
        });
        for room in 1..10 {
            let whole = |pace| Outgoing::new(b"head ", entity.clone(), 4, 0, pace);
            assert_eq!(sent(whole(None), room), "head body");
            assert_eq!(sent(whole(pace), room), "head body");
            let truncated = Outgoing::new(b"head ", entity.clone(), 1, 2, None);
            assert_eq!(sent(truncated, room), "ad b");
        }
    }

    #[test]
    fn a_slow_answer_is_whole_at_once_when_nobody_waits_any_more() {
        let entity = Arc::new(Entity::new("text/plain", None, "body"));
        let pace = Pace::of(Delivery::Slow {
            bytes_per_second: 1,
        });
        let mut slow = Outgoing::new(b"", entity, 4, 0, pace);
        assert!(slow.is_between_pieces());
        slow.release(false);
        assert_eq!(slow.due(), ([&b""[..], b"b"], false));
        slow.release(true);
        assert_eq!(slow.due(), ([&b""[..], b"body"], true));
    }
}
