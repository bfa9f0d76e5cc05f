//! Who gives way when there are too many connections. A pure function: it is asked by every newcomer
//! to a full house, and looks at each connection once.

use std::net::IpAddr;
use std::time::Instant;

/// What counts of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) key: usize,
    pub(super) address: IpAddr,
    /// Its client expects nothing of it.
    pub(super) is_idle: bool,
    /// Since when it has been idle, or its request or answer has been under way.
    pub(super) since: Instant,
}

/// The key of the one idle longest, else of the address that holds most connections, else of any, the
/// one whose request or answer has been under way for longest: its client has most likely given up.
pub(super) fn choose(
    candidates: impl Iterator<Item = Candidate>,
    greediest: Option<IpAddr>,
) -> Option<usize> {
    let rank = |candidate: &Candidate| {
        let is_modest = Some(candidate.address) != greediest;
        let class = match candidate.is_idle {
            true => 0,
            false => 1 + u8::from(is_modest),
        };
        (class, candidate.since)
    };
    candidates.min_by_key(rank).map(|found| found.key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn idle_ones_go_first_then_those_of_the_greediest_address_the_oldest_of_each() {
        const IDLE: bool = true;
        const BUSY: bool = false;
        let start = Instant::now();
        // Address, what it does, since when; the greediest address; who goes.
        for (connections, greediest, chosen) in [
            (&[][..], 1, None),
            (&[(1, BUSY, 5)], 1, Some(0)),
            (&[(1, IDLE, 9), (1, IDLE, 3), (1, IDLE, 7)], 1, Some(1)),
            (&[(1, BUSY, 1), (1, BUSY, 2), (2, IDLE, 9)], 1, Some(2)),
            (&[(2, BUSY, 1), (1, BUSY, 3), (1, BUSY, 2)], 1, Some(2)),
            (&[(2, BUSY, 4), (2, BUSY, 3), (3, BUSY, 5)], 1, Some(1)),
        ] {
            let connections: &[(u8, bool, u64)] = connections;
            let address = |last| IpAddr::from([127, 0, 0, last]);
            let candidates = connections.iter().enumerate();
            let candidates = candidates.map(|(key, &(last, is_idle, since))| Candidate {
                key,
                address: address(last),
                is_idle,
                since: start + Duration::from_secs(since),
            });
            let found = choose(candidates, Some(address(greediest)));
            assert_eq!(found, chosen, "{connections:?}");
        }
    }
}
