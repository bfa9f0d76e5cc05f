//! Every bound on a connection's time, and on how many there may be.

use std::time::Duration;

/// Descriptors kept for listeners, files and calls to STS when the limit is low.
const RESERVED_DESCRIPTORS: u64 = 16;
/// A thread's own work is shallow; the standard 2 MiB would only cost address space.
pub(super) const STACK: usize = 256 * 1024;

/// Every bound on a connection's time, and how many there may be, of connections and threads.
#[derive(Clone, Debug)]
pub struct Limits {
    /// From the first byte of a head to its end.
    pub head: Duration,
    /// From the end of a head to the end of its body.
    pub body: Duration,
    /// Without a request, before and between them.
    pub idle: Duration,
    /// For one answer to be taken.
    pub write: Duration,
    /// For a refused client to stop sending.
    pub linger: Duration,
    /// Open at once, all listeners together.
    pub connections: usize,
    /// One serves all connections; each of the others answers a request that may block.
    pub threads: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            head: Duration::from_secs(10),
            body: Duration::from_secs(10),
            idle: Duration::from_secs(30),
            write: Duration::from_secs(5),
            linger: Duration::from_secs(1),
            connections: 512,
            // One for each connection, and those that wait for their turn.
            threads: 516,
        }
    }
}

impl Limits {
    /// Lowers the number of connections to what `descriptors` open files allow, and that of threads
    /// to what a quarter of `address_space` bytes has room for: where threads take all of it, the next
    /// allocation ends the process.
    pub fn within(mut self, descriptors: u64, address_space: u64) -> Limits {
        let connections = descriptors.saturating_sub(RESERVED_DESCRIPTORS).max(8);
        self.connections = self
            .connections
            .min(connections.try_into().unwrap_or(usize::MAX));
        let threads = (address_space / 4 / STACK as u64).max(8);
        self.threads = self.threads.min(threads.try_into().unwrap_or(usize::MAX));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_gives_lowers_them_and_never_raises_them() {
        for (descriptors, address_space, expected) in [
            (u64::MAX, u64::MAX, (512, 516)),
            (1024, 64 << 20, (512, 64)),
            (64, 0, (48, 8)),
            (0, 0, (8, 8)),
        ] {
            let limits = Limits::default().within(descriptors, address_space);
            assert_eq!((limits.connections, limits.threads), expected);
        }
    }
}
