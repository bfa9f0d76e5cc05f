//! The load generator: one thread, poll(2), and as many clients as asked for. A client has one
//! request under way; it sends the next one when the last answer is complete, on the same
//! connection or, when it closes, on a new one after end of file.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, Protocol, Socket, Type};

/// A client without progress for so long counts as an error and starts anew.
const STALLED: Duration = Duration::from_secs(5);

/// What the clients do.
#[derive(Clone)]
pub struct Load {
    pub address: SocketAddr,
    /// The requests, each complete; every client goes round and round through them.
    pub requests: Vec<Vec<u8>>,
    pub clients: usize,
    /// Whether the connection is used again; the requests ask for it.
    pub keep_alive: bool,
    /// The address that connections come from.
    pub source: Option<Ipv4Addr>,
}

/// What came of it.
#[derive(Default)]
pub struct Tally {
    /// Complete answers with status 200.
    pub answers: u64,
    pub errors: u64,
    pub elapsed: Duration,
    /// From sending (or connecting, where each request has its own connection) to the last byte.
    pub latencies: Vec<Duration>,
}

impl Tally {
    pub fn per_second(&self) -> f64 {
        self.answers as f64 / self.elapsed.as_secs_f64()
    }

    /// The latency that `share` of the answers did not exceed.
    pub fn latency(&mut self, share: f64) -> Duration {
        self.latencies.sort_unstable();
        let at = (self.latencies.len() as f64 * share) as usize;
        let last = self.latencies.len().saturating_sub(1);
        self.latencies
            .get(at.min(last))
            .copied()
            .unwrap_or_default()
    }
}

/// When a run ends.
#[derive(Clone, Copy)]
pub enum Until {
    Elapsed(Duration),
    Answers(u64),
}

struct Client {
    socket: Option<Socket>,
    connecting: bool,
    request: usize,
    received: Vec<u8>,
    since: Instant,
}

impl Load {
    /// Runs it. An error is this side's own, such as no free port.
    pub fn run(&self, until: Until) -> io::Result<Tally> {
        let started = Instant::now();
        let mut tally = Tally::default();
        let mut scratch = vec![0; 64 * 1024];
        let mut clients: Vec<Client> = (0..self.clients)
            .map(|index| Client {
                socket: None,
                connecting: false,
                request: index % self.requests.len(),
                received: Vec::new(),
                since: started,
            })
            .collect();
        for client in &mut clients {
            self.start(client)?;
        }
        let mut ready = Vec::with_capacity(self.clients);
        loop {
            wait(&clients, &mut ready)?;
            let now = Instant::now();
            for &index in &ready {
                match self.advance(&mut clients[index], &mut scratch) {
                    Ok(false) => {}
                    Ok(true) => {
                        tally.answers += 1;
                        let since = clients[index].since;
                        tally.latencies.push(now.duration_since(since));
                        self.start(&mut clients[index])?;
                    }
                    Err(_) => {
                        tally.errors += 1;
                        clients[index].socket = None;
                        self.start(&mut clients[index])?;
                    }
                }
            }
            for client in &mut clients {
                if now.duration_since(client.since) > STALLED {
                    tally.errors += 1;
                    client.socket = None;
                    self.start(client)?;
                }
            }
            tally.elapsed = started.elapsed();
            let over = match until {
                Until::Elapsed(limit) => tally.elapsed >= limit,
                Until::Answers(count) => tally.answers + tally.errors >= count,
            };
            if over {
                return Ok(tally);
            }
        }
    }

    /// Begins a client's next request.
    fn start(&self, client: &mut Client) -> io::Result<()> {
        client.received.clear();
        client.since = Instant::now();
        if !self.keep_alive {
            client.socket = None;
        }
        if client.socket.is_none() {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
            socket.set_nonblocking(true)?;
            socket.set_tcp_nodelay(true)?;
            if let Some(source) = self.source {
                socket.bind(&SocketAddr::new(IpAddr::V4(source), 0).into())?;
            }
            client.connecting = match socket.connect(&self.address.into()) {
                Ok(()) => false,
                Err(e) if e.raw_os_error() == Some(Errno::EINPROGRESS as i32) => true,
                Err(e) => return Err(e),
            };
            client.socket = Some(socket);
        }
        if !client.connecting {
            self.send(client);
        }
        Ok(())
    }

    fn send(&self, client: &mut Client) {
        let Some(socket) = &mut client.socket else {
            return;
        };
        // A request is far smaller than an empty socket buffer. One that fails shows as end of
        // file or as an error where the answer is read.
        let _ = socket.write(&self.requests[client.request]);
    }

    /// Goes on where the socket is ready. Returns whether the answer is complete.
    fn advance(&self, client: &mut Client, scratch: &mut [u8]) -> io::Result<bool> {
        if client.connecting {
            client.connecting = false;
            self.send(client);
            return Ok(false);
        }
        let Some(socket) = &mut client.socket else {
            return Ok(false);
        };
        let read = match socket.read(scratch) {
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(false),
            other => other?,
        };
        let bytes = match client.received.is_empty() {
            true => &scratch[..read],
            false => {
                client.received.extend_from_slice(&scratch[..read]);
                &client.received
            }
        };
        let whole = response_length(bytes)?.is_some_and(|length| bytes.len() >= length);
        let complete = whole && (self.keep_alive || read == 0);
        if complete {
            client.request = (client.request + 1) % self.requests.len();
        } else if read == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        } else if client.received.is_empty() {
            client.received.extend_from_slice(&scratch[..read]);
        }
        Ok(complete)
    }
}

/// Waits until clients can go on, and puts their indexes into `ready`.
fn wait(clients: &[Client], ready: &mut Vec<usize>) -> io::Result<()> {
    let mut sockets: Vec<PollFd> = clients
        .iter()
        .filter_map(|client| {
            let wanted = match client.connecting {
                true => PollFlags::POLLOUT,
                false => PollFlags::POLLIN,
            };
            Some(PollFd::new(client.socket.as_ref()?.as_fd(), wanted))
        })
        .collect();
    match poll(&mut sockets, PollTimeout::from(100_u8)) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(e) => return Err(e.into()),
    }
    ready.clear();
    // Every client has a socket between two rounds, so the indexes agree.
    let events = sockets.iter().enumerate();
    ready.extend(events.filter_map(|(index, socket)| socket.any()?.then_some(index)));
    Ok(())
}

/// The length of the response that `bytes` begin with, once its head is there; an error if it is
/// not a 200.
fn response_length(bytes: &[u8]) -> io::Result<Option<usize>> {
    let mut fields = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut fields);
    let Ok(parsed) = response.parse(bytes) else {
        return Err(ErrorKind::InvalidData.into());
    };
    let httparse::Status::Complete(head) = parsed else {
        return Ok(None);
    };
    if response.code != Some(200) {
        return Err(ErrorKind::InvalidData.into());
    }
    let body = (response.headers.iter())
        .find(|field| field.name.eq_ignore_ascii_case("content-length"))
        .and_then(|field| std::str::from_utf8(field.value).ok()?.parse::<usize>().ok());
    Ok(body.map(|body| head + body))
}
