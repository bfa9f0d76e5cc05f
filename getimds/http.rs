//! An HTTP/1.1 client of the size this job needs: one reused connection, bounded heads and bodies,
//! and one deadline over all that an exchange does. It knows nothing of metadata.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::host::Host;

/// Time for a connection to come about, name resolution included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// The metadata service's own heads are below 400 bytes.
const MAX_HEAD: u64 = 16 * 1024;
const MAX_FIELDS: usize = 64;
/// User data, the largest value of a real instance, has at most 16 KiB; a listing of a made-up
/// tree may be longer.
const MAX_BODY: u64 = 4 * 1024 * 1024;

/// A complete answer; `reason` is what the server wrote behind the status.
pub struct Answer {
    pub status: u16,
    pub reason: String,
    pub body: Vec<u8>,
}

/// Why an exchange gave no answer, or none that can be used.
#[derive(Debug)]
pub enum Error {
    Connect(Host, io::Error),
    Socket(io::Error),
    TimedOut,
    Closed,
    CutShort,
    TooLarge(&'static str, u64),
    NotHttp(&'static str),
}

impl Error {
    /// Whether the server stayed silent, rather than said something useless.
    pub fn is_silence(&self) -> bool {
        matches!(
            self,
            Error::Connect(..) | Error::Socket(_) | Error::TimedOut | Error::Closed
        )
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Error::TimedOut,
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe => Error::Closed,
            io::ErrorKind::UnexpectedEof => Error::CutShort,
            _ => Error::Socket(error),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Error::Connect(host, error) => write!(f, "cannot connect to {host}: {error}"),
            Error::Socket(error) => error.fmt(f),
            Error::TimedOut => f.write_str("no complete answer in time (see --timeout)"),
            Error::Closed => f.write_str("the server closed the connection"),
            Error::CutShort => f.write_str("the answer is cut short"),
            Error::TooLarge(part, max) => write!(f, "a {part} of more than {max} bytes"),
            Error::NotHttp(what) => write!(f, "not an HTTP answer: {what}"),
        }
    }
}

/// A client of one server. The connection is kept while the server keeps it.
pub struct Client {
    host: Host,
    addresses: Vec<SocketAddr>,
    connection: Option<Connection>,
    /// When the exchanges to come must have ended.
    pub deadline: Instant,
    /// Whether the server ever gave an answer.
    pub answered: bool,
}

impl Client {
    pub fn new(host: Host) -> Client {
        Client {
            host,
            addresses: Vec::new(),
            connection: None,
            deadline: Instant::now(),
            answered: false,
        }
    }

    /// Sends a request without a body and reads the answer. `fields` are whole header lines. A
    /// kept connection that the server closed meanwhile is replaced.
    pub fn exchange(&mut self, method: &str, path: &str, fields: &str) -> Result<Answer, Error> {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: getimds/{version}\r\n\
             Accept: */*\r\nConnection: keep-alive\r\n{fields}\r\n",
            path = path.replace(' ', "%20"),
            host = self.host,
            version = env!("CARGO_PKG_VERSION"),
        );
        loop {
            let (mut connection, fresh) = match self.connection.take() {
                Some(kept) => (kept, false),
                None => (self.connect()?, true),
            };
            connection.get_mut().deadline = self.deadline;
            match exchange(&mut connection, &request) {
                Err(Error::Closed) if !fresh => {}
                Err(error) => return Err(error),
                Ok((answer, reusable)) => {
                    self.connection = reusable.then_some(connection);
                    self.answered = true;
                    return Ok(answer);
                }
            }
        }
    }

    /// Tries the host's addresses in turn, each for its share of the time, and stays with the one
    /// that answered.
    fn connect(&mut self) -> Result<Connection, Error> {
        let until = self.deadline.min(Instant::now() + CONNECT_TIMEOUT);
        let left = || until.saturating_duration_since(Instant::now());
        let failed = |error| Error::Connect(self.host.clone(), error);
        if self.addresses.is_empty() {
            self.addresses = self.host.addresses(left()).map_err(failed)?;
        }
        let mut last = io::ErrorKind::TimedOut.into();
        for (index, &address) in self.addresses.iter().enumerate() {
            // A share of zero is an error that would hide the one before it.
            let others = u32::try_from(self.addresses.len() - index).unwrap_or(u32::MAX);
            let share = left() / others;
            match TcpStream::connect_timeout(&address, share.max(Duration::from_millis(1))) {
                Ok(stream) => {
                    self.addresses = vec![address];
                    let deadline = self.deadline;
                    return Ok(BufReader::new(Timed { stream, deadline }));
                }
                Err(error) => last = error,
            }
        }
        Err(failed(last))
    }
}

type Connection = BufReader<Timed>;

/// A socket that reads and writes until a deadline.
struct Timed {
    stream: TcpStream,
    deadline: Instant,
}

impl Timed {
    fn left(&self) -> io::Result<Option<Duration>> {
        match self.deadline.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Err(io::ErrorKind::TimedOut.into()),
            left => Ok(Some(left)),
        }
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.set_write_timeout(self.left()?)?;
        self.stream.write_all(bytes)
    }
}

impl Read for Timed {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.left()?)?;
        self.stream.read(bytes)
    }
}

/// The answer to a request, and whether the connection can carry another one.
fn exchange(connection: &mut Connection, request: &str) -> Result<(Answer, bool), Error> {
    connection.get_mut().send(request.as_bytes())?;
    let Head {
        mut answer,
        keep,
        framing,
    } = loop {
        match connection.fill_buf()? {
            [] => return Err(Error::Closed),
            start if start.iter().zip(b"HTTP/1.").all(|(a, b)| a == b) => {}
            _ => return Err(Error::NotHttp("it does not begin like one")),
        }
        let head = Head::parse(&section(connection)?)?;
        // An interim answer; the real one follows (RFC 9110, section 15.2).
        if !(100..200).contains(&head.answer.status) {
            break head;
        }
    };
    match framing {
        Framing::Length(length) => append(connection, length, &mut answer.body)?,
        Framing::Chunked => chunked(connection, &mut answer.body)?,
        Framing::ToClose => {
            let length = connection
                .take(MAX_BODY + 1)
                .read_to_end(&mut answer.body)?;
            if length as u64 > MAX_BODY {
                return Err(Error::TooLarge("body", MAX_BODY));
            }
        }
    }
    // Bytes behind the answer would be taken for the next one.
    Ok((answer, keep && connection.buffer().is_empty()))
}

/// The lines up to an empty one, that one included.
fn section(connection: &mut Connection) -> Result<Vec<u8>, Error> {
    let mut limited = connection.take(MAX_HEAD);
    let mut bytes = Vec::new();
    loop {
        let start = bytes.len();
        limited.read_until(b'\n', &mut bytes)?;
        match &bytes[start..] {
            b"\r\n" | b"\n" => return Ok(bytes),
            [.., b'\n'] => {}
            _ if limited.limit() == 0 => return Err(Error::TooLarge("head", MAX_HEAD)),
            _ => return Err(Error::CutShort),
        }
    }
}

/// Appends the next `length` bytes to the body, as long as it does not get too large.
fn append(connection: &mut Connection, length: u64, body: &mut Vec<u8>) -> Result<(), Error> {
    if length > MAX_BODY - body.len() as u64 {
        return Err(Error::TooLarge("body", MAX_BODY));
    }
    match connection.take(length).read_to_end(body)? as u64 == length {
        true => Ok(()),
        false => Err(Error::CutShort),
    }
}

/// A chunked body (RFC 9112, section 7.1); its trailer fields tell us nothing.
fn chunked(connection: &mut Connection, body: &mut Vec<u8>) -> Result<(), Error> {
    loop {
        let mut line = Vec::new();
        connection.take(MAX_HEAD).read_until(b'\n', &mut line)?;
        match httparse::parse_chunk_size(&line) {
            Ok(httparse::Status::Complete((_, 0))) => return section(connection).map(drop),
            Ok(httparse::Status::Complete((_, size))) => append(connection, size, body)?,
            _ if line.is_empty() => return Err(Error::CutShort),
            _ => return Err(Error::NotHttp("a broken chunk")),
        }
        let mut end = [0; 2];
        connection.read_exact(&mut end)?;
        if end != *b"\r\n" {
            return Err(Error::NotHttp("a broken chunk"));
        }
    }
}

/// How a body ends.
enum Framing {
    Length(u64),
    Chunked,
    ToClose,
}

/// An answer's head, and how to go on after it.
struct Head {
    /// Its body is still to come.
    answer: Answer,
    keep: bool,
    framing: Framing,
}

impl Head {
    /// Framing is that of RFC 9112, section 6.3.
    fn parse(bytes: &[u8]) -> Result<Head, Error> {
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut response = httparse::Response::new(&mut fields);
        let Ok(httparse::Status::Complete(_)) = response.parse(bytes) else {
            return Err(Error::NotHttp("its head cannot be read"));
        };
        let status = response.code.unwrap_or_default();
        let mut keep = response.version == Some(1);
        let (mut length, mut chunked) = (None, false);
        for field in response.headers.iter() {
            let value = field.value.trim_ascii().to_ascii_lowercase();
            match field.name.to_ascii_lowercase().as_str() {
                "content-length" => {
                    let number = str::from_utf8(&value)
                        .ok()
                        .and_then(|text| text.parse().ok());
                    if number.is_none() || length.is_some() && length != number {
                        return Err(Error::NotHttp("its Content-Length is no number"));
                    }
                    length = number;
                }
                "transfer-encoding" if value == b"chunked" => chunked = true,
                "transfer-encoding" => return Err(Error::NotHttp("an unknown transfer coding")),
                "connection" if value == b"close" => keep = false,
                "connection" if value == b"keep-alive" => keep = true,
                _ => {}
            }
        }
        let framing = match (status, chunked, length) {
            (100..200 | 204 | 304, _, _) => Framing::Length(0),
            (_, true, _) => Framing::Chunked,
            (_, false, Some(length)) => Framing::Length(length),
            (_, false, None) => Framing::ToClose,
        };
        keep &= !matches!(framing, Framing::ToClose);
        let reason = response.reason.unwrap_or_default().to_owned();
        let answer = Answer {
            status,
            reason,
            body: Vec::new(),
        };
        Ok(Head {
            answer,
            keep,
            framing,
        })
    }
}
