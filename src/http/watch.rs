//! The system's list of sockets that something is waited for on: epoll on Linux, kqueue on FreeBSD.
//! Both tell of a socket for as long as it is ready, and forget it when it is closed.

#[cfg(not(target_os = "linux"))]
pub(super) use self::bsd::Watch;
#[cfg(target_os = "linux")]
pub(super) use self::linux::Watch;

/// How many ready sockets one wait tells of.
const AT_ONCE: usize = 64;

#[cfg(target_os = "linux")]
mod linux {
    use std::io;
    use std::os::fd::AsFd;
    use std::time::Duration;

    use nix::errno::Errno;
    use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

    pub(in crate::http) struct Watch(Epoll);

    impl Watch {
        pub(in crate::http) fn new() -> io::Result<Watch> {
            Ok(Watch(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?))
        }

        /// Watches a socket: [`Watch::wait`] yields `key` while it has something to accept or to
        /// read, the end included.
        pub(in crate::http) fn add(&self, socket: impl AsFd, key: usize) -> io::Result<()> {
            let event = EpollEvent::new(EpollFlags::EPOLLIN, key as u64);
            Ok(self.0.add(socket, event)?)
        }

        /// Watches a socket no longer.
        pub(in crate::http) fn remove(&self, socket: impl AsFd) -> io::Result<()> {
            Ok(self.0.delete(socket)?)
        }

        /// Waits until a socket is ready, at most `limit`, and appends the keys of some that are.
        pub(in crate::http) fn wait(
            &self,
            limit: Duration,
            ready: &mut impl Extend<usize>,
        ) -> io::Result<()> {
            let mut events = [EpollEvent::empty(); super::AT_ONCE];
            // A millisecond more: to be woken before the time would be in vain.
            let timeout = EpollTimeout::try_from(limit.as_millis().saturating_add(1))
                .unwrap_or(EpollTimeout::MAX);
            let count = match self.0.wait(&mut events, timeout) {
                Err(Errno::EINTR) => 0,
                other => other?,
            };
            ready.extend(events[..count].iter().map(|event| event.data() as usize));
            Ok(())
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod bsd {
    use std::io;
    use std::os::fd::{AsFd, AsRawFd};
    use std::time::Duration;

    use nix::errno::Errno;
    use nix::libc::timespec;
    use nix::sys::event::{EvFlags, EventFilter, FilterFlag, KEvent, Kqueue};

    pub(in crate::http) struct Watch(Kqueue);

    /// What changes, or is yielded, for a socket.
    fn event(socket: usize, flags: EvFlags, key: usize) -> KEvent {
        KEvent::new(
            socket,
            EventFilter::EVFILT_READ,
            flags,
            FilterFlag::empty(),
            0,
            key as isize,
        )
    }

    impl Watch {
        pub(in crate::http) fn new() -> io::Result<Watch> {
            Ok(Watch(Kqueue::new()?))
        }

        pub(in crate::http) fn add(&self, socket: impl AsFd, key: usize) -> io::Result<()> {
            self.change(socket, EvFlags::EV_ADD, key)
        }

        pub(in crate::http) fn remove(&self, socket: impl AsFd) -> io::Result<()> {
            self.change(socket, EvFlags::EV_DELETE, 0)
        }

        fn change(&self, socket: impl AsFd, flags: EvFlags, key: usize) -> io::Result<()> {
            let socket = socket.as_fd().as_raw_fd() as usize;
            self.0.kevent(&[event(socket, flags, key)], &mut [], None)?;
            Ok(())
        }

        pub(in crate::http) fn wait(
            &self,
            limit: Duration,
            ready: &mut impl Extend<usize>,
        ) -> io::Result<()> {
            let mut events = [event(0, EvFlags::empty(), 0); super::AT_ONCE];
            let timeout = timespec {
                tv_sec: limit.as_secs().try_into().unwrap_or(i32::MAX.into()),
                tv_nsec: limit.subsec_nanos().into(),
            };
            let count = match self.0.kevent(&[], &mut events, Some(timeout)) {
                Err(Errno::EINTR) => 0,
                other => other?,
            };
            ready.extend(events[..count].iter().map(|event| event.udata() as usize));
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::time::{Duration, Instant};

    const LONG: Duration = Duration::from_secs(10);
    const NONE: [usize; 0] = [];

    fn ready(watch: &Watch, limit: Duration) -> Vec<usize> {
        let mut keys = Vec::new();
        watch.wait(limit, &mut keys).unwrap();
        keys.sort_unstable();
        keys
    }

    #[test]
    fn a_socket_is_told_of_as_long_as_it_is_ready_and_watched() {
        let watch = Watch::new().unwrap();
        let (mut client, mut server) = UnixStream::pair().unwrap();
        let (other_client, other) = UnixStream::pair().unwrap();
        watch.add(&server, 7).unwrap();
        watch.add(&other, 8).unwrap();
        assert_eq!(ready(&watch, Duration::ZERO), NONE);
        client.write_all(b"ab").unwrap();
        for _ in 0..2 {
            assert_eq!(ready(&watch, LONG), [7]);
        }
        server.read_exact(&mut [0]).unwrap();
        assert_eq!(ready(&watch, LONG), [7], "there is another byte");
        server.read_exact(&mut [0]).unwrap();
        assert_eq!(ready(&watch, Duration::ZERO), NONE);
        drop(other_client);
        assert_eq!(ready(&watch, LONG), [8], "an end is something to read");
        drop(other);
        assert_eq!(ready(&watch, Duration::ZERO), NONE);
        watch.remove(&server).unwrap();
        drop(client);
        assert_eq!(ready(&watch, Duration::ZERO), NONE);
        watch.add(&server, 9).unwrap();
        assert_eq!(ready(&watch, LONG), [9]);
    }

    #[test]
    fn a_wait_ends_when_its_time_is_over_and_not_before() {
        let watch = Watch::new().unwrap();
        let limit = Duration::from_millis(20);
        let since = Instant::now();
        assert_eq!(ready(&watch, limit), NONE);
        assert!(since.elapsed() >= limit);
    }

    #[test]
    fn another_thread_that_adds_a_socket_is_heard() {
        let watch = Watch::new().unwrap();
        let (client, server) = UnixStream::pair().unwrap();
        drop(client);
        std::thread::scope(|threads| {
            let waiting = threads.spawn(|| ready(&watch, LONG));
            watch.add(&server, 1).unwrap();
            assert_eq!(waiting.join().unwrap(), [1]);
        });
    }
}
