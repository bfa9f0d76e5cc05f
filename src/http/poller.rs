//! The system's list of sockets that something is waited for on: epoll on Linux, kqueue on FreeBSD.
//! Both tell of a socket for as long as it is ready, and forget it when it is closed.

#[cfg(not(target_os = "linux"))]
pub(super) use self::bsd::Poller;
#[cfg(target_os = "linux")]
pub(super) use self::linux::Poller;

/// How many ready sockets one wait tells of.
const AT_ONCE: usize = 64;

/// A socket is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) key: usize,
    /// Its other side has ended, or the connection has been reset. Only told for certain where
    /// nothing else is waited for.
    pub(super) is_end: bool,
}

#[cfg(target_os = "linux")]
mod linux {
    use std::io;
    use std::os::fd::AsFd;
    use std::time::Duration;

    use nix::errno::Errno;
    use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

    use super::Event;
    use crate::http::stream::Interest;

    pub(in crate::http) struct Poller(Epoll);

    fn event(key: usize, interest: Interest) -> EpollEvent {
        let flags = match interest {
            Interest::Read => EpollFlags::EPOLLIN,
            Interest::Write => EpollFlags::EPOLLOUT,
            Interest::End => EpollFlags::EPOLLRDHUP,
            // A reset is told of in any case.
            Interest::Nothing => EpollFlags::empty(),
        };
        EpollEvent::new(flags, key as u64)
    }

    impl Poller {
        pub(in crate::http) fn new() -> io::Result<Poller> {
            Ok(Poller(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?))
        }

        /// Adds a socket: [`Poller::wait`] yields `key` for as long as there is what it waits for.
        pub(in crate::http) fn add(
            &self,
            socket: impl AsFd,
            key: usize,
            interest: Interest,
        ) -> io::Result<()> {
            Ok(self.0.add(socket, event(key, interest))?)
        }

        /// Has a socket wait for something else.
        pub(in crate::http) fn modify(
            &self,
            socket: impl AsFd,
            key: usize,
            _from: Interest,
            to: Interest,
        ) -> io::Result<()> {
            Ok(self.0.modify(socket, &mut event(key, to))?)
        }

        /// Takes a socket out.
        pub(in crate::http) fn delete(&self, socket: impl AsFd, _from: Interest) -> io::Result<()> {
            Ok(self.0.delete(socket)?)
        }

        /// Waits until a socket is ready, at most `limit`, and appends some that are.
        pub(in crate::http) fn wait(
            &self,
            limit: Duration,
            ready: &mut impl Extend<Event>,
        ) -> io::Result<()> {
            let mut events = [EpollEvent::empty(); super::AT_ONCE];
            // Rounded up: to be woken before the time would be in vain.
            let timeout = EpollTimeout::try_from(limit.as_nanos().div_ceil(1_000_000))
                .unwrap_or(EpollTimeout::MAX);
            let count = match self.0.wait(&mut events, timeout) {
                Err(Errno::EINTR) => 0,
                other => other?,
            };
            let end = EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR;
            ready.extend(events[..count].iter().map(|event| Event {
                // It is one that was given as usize.
                key: usize::try_from(event.data()).unwrap_or(usize::MAX),
                is_end: event.events().intersects(end),
            }));
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

    use super::Event;
    use crate::http::stream::Interest;

    pub(in crate::http) struct Poller(Kqueue);

    /// What changes for a socket; `None` where nothing is waited for.
    fn event(socket: usize, interest: Interest, flags: EvFlags, key: usize) -> Option<KEvent> {
        let (filter, fflags, data) = match interest {
            Interest::Read => (EventFilter::EVFILT_READ, FilterFlag::empty(), 0),
            Interest::Write => (EventFilter::EVFILT_WRITE, FilterFlag::empty(), 0),
            // More bytes than any buffer has: only the end is told of.
            Interest::End => {
                let all = i32::MAX as isize;
                (EventFilter::EVFILT_READ, FilterFlag::NOTE_LOWAT, all)
            }
            Interest::Nothing => return None,
        };
        let key = key as isize;
        Some(KEvent::new(socket, filter, flags, fflags, data as _, key))
    }

    impl Poller {
        pub(in crate::http) fn new() -> io::Result<Poller> {
            Ok(Poller(Kqueue::new()?))
        }

        pub(in crate::http) fn add(
            &self,
            socket: impl AsFd,
            key: usize,
            interest: Interest,
        ) -> io::Result<()> {
            self.change(socket, interest, EvFlags::EV_ADD, key)
        }

        pub(in crate::http) fn modify(
            &self,
            socket: impl AsFd,
            key: usize,
            from: Interest,
            to: Interest,
        ) -> io::Result<()> {
            self.delete(&socket, from)?;
            self.add(&socket, key, to)
        }

        pub(in crate::http) fn delete(&self, socket: impl AsFd, from: Interest) -> io::Result<()> {
            self.change(socket, from, EvFlags::EV_DELETE, 0)
        }

        fn change(
            &self,
            socket: impl AsFd,
            interest: Interest,
            flags: EvFlags,
            key: usize,
        ) -> io::Result<()> {
            let socket = socket.as_fd().as_raw_fd() as usize;
            if let Some(change) = event(socket, interest, flags, key) {
                self.0.kevent(&[change], &mut [], None)?;
            }
            Ok(())
        }

        pub(in crate::http) fn wait(
            &self,
            limit: Duration,
            ready: &mut impl Extend<Event>,
        ) -> io::Result<()> {
            let filter = EventFilter::EVFILT_READ;
            let none = KEvent::new(0, filter, EvFlags::empty(), FilterFlag::empty(), 0, 0);
            let mut events = [none; super::AT_ONCE];
            let timeout = timespec {
                tv_sec: limit.as_secs().try_into().unwrap_or(i32::MAX.into()),
                tv_nsec: limit.subsec_nanos().into(),
            };
            let count = match self.0.kevent(&[], &mut events, Some(timeout)) {
                Err(Errno::EINTR) => 0,
                other => other?,
            };
            ready.extend(events[..count].iter().map(|event| Event {
                key: event.udata() as usize,
                is_end: event.flags().contains(EvFlags::EV_EOF),
            }));
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::stream::Interest;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::time::{Duration, Instant};

    const LONG: Duration = Duration::from_secs(10);
    const NONE: [usize; 0] = [];

    fn ready(poller: &Poller, limit: Duration) -> Vec<usize> {
        let mut events = Vec::new();
        poller.wait(limit, &mut events).unwrap();
        let mut keys: Vec<usize> = events.iter().map(|event: &Event| event.key).collect();
        keys.sort_unstable();
        keys
    }

    #[test]
    fn a_socket_is_told_of_as_long_as_it_is_ready_and_waited_for() {
        let poller = Poller::new().unwrap();
        let (mut client, mut server) = UnixStream::pair().unwrap();
        let (other_client, other) = UnixStream::pair().unwrap();
        poller.add(&server, 7, Interest::Read).unwrap();
        poller.add(&other, 8, Interest::Read).unwrap();
        assert_eq!(ready(&poller, Duration::ZERO), NONE);
        client.write_all(b"ab").unwrap();
        for _ in 0..2 {
            assert_eq!(ready(&poller, LONG), [7]);
        }
        server.read_exact(&mut [0]).unwrap();
        assert_eq!(ready(&poller, LONG), [7], "there is another byte");
        server.read_exact(&mut [0]).unwrap();
        assert_eq!(ready(&poller, Duration::ZERO), NONE);
        drop(other_client);
        assert_eq!(ready(&poller, LONG), [8], "an end is something to read");
        drop(other);
        assert_eq!(ready(&poller, Duration::ZERO), NONE);
        poller.delete(&server, Interest::Read).unwrap();
        drop(client);
        assert_eq!(ready(&poller, Duration::ZERO), NONE);
        poller.add(&server, 9, Interest::Read).unwrap();
        assert_eq!(ready(&poller, LONG), [9]);
    }

    #[test]
    fn room_is_told_of_where_it_is_waited_for() {
        let poller = Poller::new().unwrap();
        let (mut client, mut server) = UnixStream::pair().unwrap();
        server.set_nonblocking(true).unwrap();
        let mut filled = 0;
        while let Ok(n) = server.write(&[0; 4096]) {
            filled += n;
        }
        client.write_all(b"a").unwrap();
        poller.add(&server, 1, Interest::Write).unwrap();
        assert_eq!(ready(&poller, Duration::ZERO), NONE);
        client.read_exact(&mut vec![0; filled]).unwrap();
        assert_eq!(ready(&poller, LONG), [1]);
        let (from, to) = (Interest::Write, Interest::Read);
        poller.modify(&server, 2, from, to).unwrap();
        assert_eq!(ready(&poller, LONG), [2]);
    }

    #[test]
    fn an_end_is_told_of_behind_bytes_that_nobody_reads() {
        let poller = Poller::new().unwrap();
        let (mut client, server) = UnixStream::pair().unwrap();
        client.write_all(b"a").unwrap();
        poller.add(&server, 1, Interest::End).unwrap();
        assert_eq!(ready(&poller, Duration::ZERO), NONE);
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let mut events = Vec::new();
        poller.wait(LONG, &mut events).unwrap();
        let end = Event {
            key: 1,
            is_end: true,
        };
        assert_eq!(events, [end]);
        let (from, to) = (Interest::End, Interest::Nothing);
        poller.modify(&server, 1, from, to).unwrap();
        assert_eq!(ready(&poller, Duration::ZERO), NONE);
    }
    #[test]
    fn a_wait_ends_when_its_time_is_over_and_not_before() {
        let poller = Poller::new().unwrap();
        let limit = Duration::from_millis(20);
        let since = Instant::now();
        assert_eq!(ready(&poller, limit), NONE);
        assert!(since.elapsed() >= limit);
    }

    #[test]
    fn another_thread_that_adds_a_socket_is_heard() {
        let poller = Poller::new().unwrap();
        let (client, server) = UnixStream::pair().unwrap();
        drop(client);
        std::thread::scope(|threads| {
            let waiting = threads.spawn(|| ready(&poller, LONG));
            poller.add(&server, 1, Interest::Read).unwrap();
            assert_eq!(waiting.join().unwrap(), [1]);
        });
    }
}
