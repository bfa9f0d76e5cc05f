//! Raw HTTP over a socket, as little of it as a test needs to see every byte: status line, fields in
//! their order, body.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use super::PATIENCE;

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// `HTTP/1.1`.
    pub version: String,
    pub status: u16,
    pub reason: String,
    /// Names and values as they came.
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of the first field of that name, ignoring case.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.fields.iter();
        let found = fields.find(|(field, _)| field.eq_ignore_ascii_case(name))?;
        Some(&found.1)
    }

    /// The fields' names in their order.
    pub fn names(&self) -> Vec<&str> {
        self.fields.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// The body, which has to be UTF-8.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body of text")
    }
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Closed,
    Reset,
}

/// A connection that a test holds by hand.
pub struct Connection {
    pub stream: TcpStream,
    received: Vec<u8>,
}

impl Connection {
    pub fn open(address: SocketAddr) -> Connection {
        let stream = TcpStream::connect_timeout(&address, PATIENCE);
        Connection::over(stream.expect("somebody listens"))
    }

    pub fn over(stream: TcpStream) -> Connection {
        stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
        stream.set_write_timeout(Some(PATIENCE)).expect("not zero");
        stream.set_nodelay(true).expect("a TCP socket");
        Connection {
            stream,
            received: Vec::new(),
        }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Connection {
        let sent = self.stream.write_all(bytes.as_ref());
        sent.expect("the server reads");
        self
    }

    /// Reads one answer. A body follows unless the request was a HEAD.
    pub fn answer_to(&mut self, method: &str) -> Answer {
        loop {
            match parse(&self.received, method) {
                Ok(Some((answer, length))) => {
                    self.received.drain(..length);
                    return answer;
                }
                Ok(None) => {}
                Err(what) => panic!("{what}: {:?}", String::from_utf8_lossy(&self.received)),
            }
            let got = self.read_more().expect("an answer comes in time");
            // Made only where it is said: an answer may have megabytes, and its server waits.
            let all = || String::from_utf8_lossy(&self.received[..self.received.len().min(4096)]);
            assert!(
                got > 0,
                "closed before the answer was complete: {:?}",
                all()
            );
        }
    }

    /// Reads one answer to a GET or the like.
    pub fn answer(&mut self) -> Answer {
        self.answer_to("GET")
    }

    /// Waits for the server's end; nothing may come before it.
    pub fn end(&mut self) -> End {
        let (rest, end) = self.rest();
        assert_eq!(String::from_utf8_lossy(&rest), "", "bytes behind an answer");
        end
    }

    /// Everything up to the server's end, and how it ended.
    pub fn rest(&mut self) -> (Vec<u8>, End) {
        let end = loop {
            match self.read_more() {
                Ok(0) => break End::Closed,
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::ConnectionReset => break End::Reset,
                Err(e) => panic!("the server neither answers nor closes: {e}"),
            }
        };
        (std::mem::take(&mut self.received), end)
    }

    /// Says that no more bytes will come.
    pub fn finish(&mut self) -> &mut Connection {
        let _ = self.stream.shutdown(Shutdown::Write);
        self
    }

    fn read_more(&mut self) -> std::io::Result<usize> {
        let mut bytes = [0; 65536];
        loop {
            match self.stream.read(&mut bytes) {
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
                Ok(got) => {
                    self.received.extend_from_slice(&bytes[..got]);
                    return Ok(got);
                }
            }
        }
    }
}

/// A request without a body.
pub fn request(method: &str, target: &str, fields: &[(&str, &str)]) -> String {
    let mut text = format!("{method} {target} HTTP/1.1\r\nHost: 169.254.169.254\r\n");
    for (name, value) in fields {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text + "\r\n"
}

/// Asks on a connection of its own, which the server has to close behind the answer.
pub fn ask(address: SocketAddr, method: &str, target: &str, fields: &[(&str, &str)]) -> Answer {
    let mut connection = Connection::open(address);
    connection.send(request(method, target, fields));
    let answer = connection.answer_to(method);
    assert_eq!(connection.end(), End::Closed);
    answer
}

/// The same with a body and its length, and with a `Host` of the test's own if it has one.
pub fn send(
    address: SocketAddr,
    method: &str,
    target: &str,
    fields: &[(&str, &str)],
    body: impl AsRef<[u8]>,
) -> Answer {
    let body = body.as_ref();
    let (host, length) = (address.to_string(), body.len().to_string());
    let mut head = format!("{method} {target} HTTP/1.1\r\nContent-Length: {length}\r\n");
    let own = fields.iter().any(|(name, _)| *name == "Host");
    let host = (!own).then_some(("Host", host.as_str()));
    for (name, value) in host.iter().chain(fields) {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let mut connection = Connection::open(address);
    connection.send([head.as_bytes(), b"\r\n", body].concat());
    let answer = connection.answer_to(method);
    assert_eq!(connection.end(), End::Closed);
    answer
}

/// The answers that `bytes` consist of, all of them complete.
pub fn parse_all(mut bytes: &[u8]) -> Result<Vec<Answer>, String> {
    let mut answers = Vec::new();
    while !bytes.is_empty() {
        let (answer, length) = parse(bytes, "GET")?.ok_or("an answer is cut off")?;
        answers.push(answer);
        bytes = &bytes[length..];
    }
    Ok(answers)
}

/// The answer that `bytes` begin with and its length, once it is complete.
fn parse(bytes: &[u8], method: &str) -> Result<Option<(Answer, usize)>, String> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = std::str::from_utf8(&bytes[..end]).map_err(|e| e.to_string())?;
    let mut lines = head.split("\r\n");
    let mut status_line = lines.next().unwrap_or_default().splitn(3, ' ');
    let mut part = || status_line.next().ok_or("a status line has three parts");
    let (version, status, reason) = (part()?, part()?, part()?);
    let status: u16 = status.parse().map_err(|_| "a status is a number")?;
    let fields = lines
        .map(|line| {
            let (name, value) = line.split_once(": ").ok_or("a field is NAME: VALUE")?;
            Ok((name.to_owned(), value.to_owned()))
        })
        .collect::<Result<Vec<_>, &str>>()?;
    let mut answer = Answer {
        version: version.to_owned(),
        status,
        reason: reason.to_owned(),
        fields,
        body: Vec::new(),
    };
    let start = end + 4;
    if status == 100 {
        return Ok(Some((answer, start)));
    }
    let length = answer.field("Content-Length").ok_or("no Content-Length")?;
    let length: usize = length.parse().map_err(|_| "a length is a number")?;
    let length = if method == "HEAD" { 0 } else { length };
    let Some(body) = bytes.get(start..start + length) else {
        return Ok(None);
    };
    answer.body = body.to_vec();
    Ok(Some((answer, start + length)))
}
