//! What a connection can be doing. One of these at a time, with what only that has; its deadline and
//! its age are the connection's.

use zeroize::Zeroizing;

use super::answer::Outgoing;
use super::body::Body;
use super::head::Scan;
use super::service::Resume;
use super::stream::Interest;

/// What a connection does, and what it has of it.
pub(super) enum Phase {
    /// It has just been accepted. Its first request is most likely on the way.
    New,
    Idle,
    Head {
        begun: Vec<u8>,
        scan: Scan,
    },
    Body {
        head: Vec<u8>,
        body: Body,
    },
    /// A request is complete, and answered when its time has come.
    Delayed {
        request: Complete,
        resume: Option<Resume>,
        /// The client has ended its side; most likely it has given up.
        is_forsaken: bool,
    },
    /// An answer has not left whole.
    Writing {
        answer: Outgoing,
        after: After,
        /// What had come behind its request.
        rest: Vec<u8>,
    },
    /// It is over, and what the client still sends is dropped.
    Lingering {
        dropped: usize,
    },
}

/// A request, and what had come behind it.
#[derive(Default)]
pub(super) struct Complete {
    pub(super) head: Vec<u8>,
    pub(super) body: Zeroizing<Vec<u8>>,
    pub(super) rest: Vec<u8>,
}

/// What follows an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    KeepAlive,
    Close,
    /// The client may still be sending: a plain close would become a reset that overtakes the
    /// answer.
    Linger,
    /// There was no answer, on purpose.
    Silence,
}

impl Phase {
    /// Whether the client expects nothing now.
    pub(super) fn is_idle(&self) -> bool {
        match self {
            Phase::Idle | Phase::Lingering { .. } => true,
            Phase::Delayed { is_forsaken, .. } => *is_forsaken,
            _ => false,
        }
    }

    /// Whether a request may be on its way.
    pub(super) fn is_arriving(&self) -> bool {
        matches!(self, Phase::New | Phase::Head { .. } | Phase::Body { .. })
    }

    /// Whether there is a complete request that has not had its whole answer.
    pub(super) fn is_busy(&self) -> bool {
        matches!(self, Phase::Delayed { .. } | Phase::Writing { .. })
    }

    /// What is waited for, beside the deadline.
    pub(super) fn interest(&self) -> Interest {
        match self {
            Phase::Delayed {
                is_forsaken: false, ..
            } => Interest::End,
            Phase::Delayed { .. } => Interest::Nothing,
            Phase::Writing { answer, .. } if answer.is_between_pieces() => Interest::Nothing,
            Phase::Writing { .. } => Interest::Write,
            _ => Interest::Read,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::Framing;

    #[test]
    fn what_is_waited_for_and_who_may_go() {
        let head = Phase::Head {
            begun: Vec::new(),
            scan: Scan::default(),
        };
        let body = Phase::Body {
            head: Vec::new(),
            body: Body::new(Framing::Sized(1), false),
        };
        let delayed = |is_forsaken| Phase::Delayed {
            request: Complete::default(),
            resume: None,
            is_forsaken,
        };
        for (phase, is_idle, is_arriving, is_busy, interest) in [
            (Phase::New, false, true, false, Interest::Read),
            (Phase::Idle, true, false, false, Interest::Read),
            (head, false, true, false, Interest::Read),
            (body, false, true, false, Interest::Read),
            (delayed(false), false, false, true, Interest::End),
            (delayed(true), true, false, true, Interest::Nothing),
            (
                Phase::Lingering { dropped: 0 },
                true,
                false,
                false,
                Interest::Read,
            ),
        ] {
            assert_eq!(phase.is_idle(), is_idle);
            assert_eq!(phase.is_arriving(), is_arriving);
            assert_eq!(phase.is_busy(), is_busy);
            assert_eq!(phase.interest(), interest);
        }
    }
}
