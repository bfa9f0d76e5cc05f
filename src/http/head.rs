//! The head of a request: where it ends, what it says, and how its body is framed. Anything a
//! second parser could read otherwise is refused (RFC 9112, sections 2.2, 3 and 6.3).

use std::borrow::Cow;
use std::fmt;
use std::mem::MaybeUninit;

use httparse::Header;

use super::message::{Method, find};
use super::status::reason;
use super::target::Target;

/// Bytes of a request line and its fields together.
pub(super) const MAX_HEAD: usize = 16 * 1024;
/// Fields of one head.
pub(super) const MAX_FIELDS: usize = 64;
/// Bytes of a body, sized or chunked.
pub(super) const MAX_BODY: u64 = 64 * 1024;

/// Why a request is refused before any handler sees it; always followed by a close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Syntax, or framing that could be read in two ways.
    Malformed,
    /// The head or the body did not arrive in time.
    TooSlow,
    BodyTooLarge,
    TargetTooLong,
    FieldsTooLarge,
    /// `Expect` asks for something other than `100-continue`.
    Expectation,
    /// A method or a transfer coding that nobody here knows.
    NotImplemented,
    Version,
}

impl Refusal {
    pub(super) fn status(self) -> u16 {
        match self {
            Refusal::Malformed => 400,
            Refusal::TooSlow => 408,
            Refusal::BodyTooLarge => 413,
            Refusal::TargetTooLong => 414,
            Refusal::Expectation => 417,
            Refusal::FieldsTooLarge => 431,
            Refusal::NotImplemented => 501,
            Refusal::Version => 505,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}", reason(self.status()))
    }
}

/// Finds the empty line that ends a head in bytes that arrive piece by piece, looking at each
/// byte once.
#[derive(Debug, Default)]
pub(super) struct Scan {
    looked_at: usize,
    line_start: usize,
    lines: usize,
}

impl Scan {
    /// The length of the head that `bytes` begin with, once it is complete. A bare LF ends a line;
    /// empty lines before the request line are passed over (RFC 9112, section 2.2).
    pub(super) fn head_end(&mut self, bytes: &[u8]) -> Option<usize> {
        while let Some(at) = bytes[self.looked_at..].iter().position(|&b| b == b'\n') {
            let end = self.looked_at + at;
            let line = &bytes[self.line_start..end];
            self.looked_at = end + 1;
            self.line_start = end + 1;
            match line {
                b"" | b"\r" if self.lines > 0 => return Some(end + 1),
                b"" | b"\r" => {}
                _ => self.lines += 1,
            }
        }
        self.looked_at = bytes.len();
        None
    }

    /// What to answer when `MAX_HEAD` bytes hold no complete head.
    pub(super) fn refusal_when_full(&self) -> Refusal {
        match self.lines {
            0 => Refusal::TargetTooLong,
            _ => Refusal::FieldsTooLarge,
        }
    }
}

/// How the body that follows a head is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Sized(u64),
    Chunked,
}

/// A parsed head. Borrows from the bytes it was read from.
#[derive(Debug)]
pub(super) struct Head<'a> {
    pub(super) method: Method,
    pub(super) target: &'a str,
    pub(super) raw_path: &'a str,
    pub(super) path: Cow<'a, str>,
    pub(super) query: Option<&'a str>,
    pub(super) host: Option<&'a str>,
    pub(super) framing: Framing,
    /// The client waits for `100 Continue` before it sends the body.
    pub(super) expects_continue: bool,
    /// The client asked to keep the connection (EC2 closes it otherwise,
    /// docs/reference/metadata.md, "Headers").
    pub(super) keep_alive: bool,
    pub(super) fields: &'a [Header<'a>],
}

/// Room for the fields of a head. It is not initialized: most heads have few.
pub(super) type Fields<'a> = [MaybeUninit<Header<'a>>; MAX_FIELDS];

/// Room for the fields of one head.
pub(super) const fn no_fields<'a>() -> Fields<'a> {
    [const { MaybeUninit::uninit() }; MAX_FIELDS]
}

impl<'a> Head<'a> {
    /// Parses the complete head `bytes`.
    pub(super) fn parse(bytes: &'a [u8], room: &'a mut Fields<'a>) -> Result<Head<'a>, Refusal> {
        let mut request = httparse::Request::new(&mut []);
        match request.parse_with_uninit_headers(bytes, room) {
            Ok(httparse::Status::Complete(_)) => {}
            Ok(httparse::Status::Partial) => return Err(Refusal::Malformed),
            Err(httparse::Error::TooManyHeaders) => return Err(Refusal::FieldsTooLarge),
            Err(httparse::Error::Version) => return Err(version_refusal(bytes)),
            Err(_) => return Err(Refusal::Malformed),
        }
        let (Some(method), Some(target), Some(minor)) =
            (request.method, request.path, request.version)
        else {
            return Err(Refusal::Malformed);
        };
        let fields: &[Header] = request.headers;
        let method = Method::parse(method).ok_or(Refusal::NotImplemented)?;
        let Target {
            authority,
            raw_path,
            path,
            query,
        } = Target::parse(method, target).ok_or(Refusal::Malformed)?;
        // A bad field is refused, whether it counts or not.
        let host = host(fields)?;
        Ok(Head {
            method,
            target,
            raw_path,
            path,
            query,
            host: authority.or(host),
            framing: framing(fields, minor)?,
            expects_continue: expects_continue(fields, minor)?,
            keep_alive: keep_alive(fields),
            fields,
        })
    }
}

/// 505 for a well-formed version that is not 1.0 or 1.1, else 400.
fn version_refusal(head: &[u8]) -> Refusal {
    let line = head
        .split(|&b| b == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .find(|line| !line.is_empty())
        .unwrap_or_default();
    match line.splitn(3, |&b| b == b' ').nth(2) {
        Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor])
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            Refusal::Version
        }
        _ => Refusal::Malformed,
    }
}

fn all<'a, 'h>(
    fields: &'h [Header<'a>],
    name: &'static str,
) -> impl Iterator<Item = &'a [u8]> + use<'a, 'h> {
    fields
        .iter()
        .filter(move |field| field.name.eq_ignore_ascii_case(name))
        .map(|field| field.value)
}

/// The `Host` field: at most one, and only the characters of an authority. HTTP/1.1 without it is
/// served (FreeBSD's aws-ec2-imdsv2-get sends none).
fn host<'a>(fields: &[Header<'a>]) -> Result<Option<&'a str>, Refusal> {
    let mut hosts = all(fields, "host");
    let first = hosts.next();
    if hosts.next().is_some() {
        return Err(Refusal::Malformed);
    }
    let Some(value) = first else { return Ok(None) };
    let legal = |b: &u8| b.is_ascii_alphanumeric() || b"-._~:[]%!$&'()*+,;=".contains(b);
    match std::str::from_utf8(value) {
        Ok(host) if value.iter().all(legal) => Ok(Some(host)),
        _ => Err(Refusal::Malformed),
    }
}

/// RFC 9112, section 6.3, read strictly: one length or one coding, never two of anything.
fn framing(fields: &[Header], minor: u8) -> Result<Framing, Refusal> {
    let mut lengths = all(fields, "content-length");
    let mut codings = all(fields, "transfer-encoding");
    match (lengths.next(), codings.next()) {
        (None, None) => Ok(Framing::Sized(0)),
        (Some(length), None) if lengths.next().is_none() => {
            if length.is_empty() || !length.iter().all(u8::is_ascii_digit) {
                return Err(Refusal::Malformed);
            }
            let length = std::str::from_utf8(length).map_err(|_| Refusal::Malformed)?;
            // Only a number beyond 64 bits fails here.
            let length = length.parse().map_err(|_| Refusal::BodyTooLarge)?;
            if length > MAX_BODY {
                return Err(Refusal::BodyTooLarge);
            }
            Ok(Framing::Sized(length))
        }
        (None, Some(coding)) if codings.next().is_none() && minor == 1 => {
            let coding = std::str::from_utf8(coding).map_err(|_| Refusal::Malformed)?;
            let known = |name: &str| {
                ["gzip", "x-gzip", "deflate", "compress", "x-compress"]
                    .iter()
                    .any(|coding| coding.eq_ignore_ascii_case(name))
            };
            match coding.rsplit_once(',') {
                None if coding.eq_ignore_ascii_case("chunked") => Ok(Framing::Chunked),
                Some((before, last))
                    if last.trim().eq_ignore_ascii_case("chunked")
                        && before.split(',').all(|name| known(name.trim())) =>
                {
                    Err(Refusal::NotImplemented)
                }
                None if !known(coding) && is_token(coding) => Err(Refusal::NotImplemented),
                _ => Err(Refusal::Malformed),
            }
        }
        _ => Err(Refusal::Malformed),
    }
}

fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

fn expects_continue(fields: &[Header], minor: u8) -> Result<bool, Refusal> {
    match find(fields, "expect") {
        Some(value) if minor == 1 && value.eq_ignore_ascii_case(b"100-continue") => Ok(true),
        Some(_) if minor == 1 => Err(Refusal::Expectation),
        // An HTTP/1.0 client's expectation is ignored (RFC 9110, section 10.1.1).
        _ => Ok(false),
    }
}

fn keep_alive(fields: &[Header]) -> bool {
    let options = || {
        all(fields, "connection")
            .flat_map(|value| value.split(|&b| b == b','))
            .map(<[u8]>::trim_ascii)
    };
    options().any(|option| option.eq_ignore_ascii_case(b"keep-alive"))
        && !options().any(|option| option.eq_ignore_ascii_case(b"close"))
}

/// What holds for any bytes that begin like a head: no panic, and a path that begins with a slash.
#[cfg(any(test, fuzzing))]
pub fn hold_against(bytes: &[u8]) {
    let Some(end) = Scan::default().head_end(bytes) else {
        return;
    };
    if let Ok(head) = Head::parse(&bytes[..end], &mut no_fields()) {
        assert!(matches!(
            head.path.as_bytes().first(),
            Some(b'/' | b'*') | None
        ));
        assert!(!head.path.contains("//"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpus_holds() {
        for file in std::fs::read_dir("fuzz/corpus/head").unwrap() {
            hold_against(&std::fs::read(file.unwrap().path()).unwrap());
        }
    }

    fn refusal(head: &str) -> Option<u16> {
        Head::parse(head.as_bytes(), &mut no_fields())
            .err()
            .map(super::Refusal::status)
    }

    #[test]
    fn a_head_is_found_however_it_is_cut() {
        let whole = b"\r\nGET / HTTP/1.1\r\nHost: a\n\r\nrest";
        for cut in 0..whole.len() {
            let mut scan = Scan::default();
            let early = scan.head_end(&whole[..cut]);
            let end = early.or_else(|| scan.head_end(whole));
            assert_eq!(end, Some(whole.len() - 4), "cut at {cut}");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for (fields, status) in [
            ("Content-Length: 5\r\nContent-Length: 5\r\n", 400),
            ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", 400),
            (
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
                400,
            ),
            ("Content-Length: 5, 5\r\n", 400),
            ("Content-Length: +5\r\n", 400),
            ("Content-Length: -1\r\n", 400),
            ("Content-Length: 0x5\r\n", 400),
            ("Content-Length: \r\n", 400),
            ("Content-Length : 5\r\n", 400),
            ("Content-Length: 99999999999999999999\r\n", 413),
            ("Content-Length: 65537\r\n", 413),
            ("Transfer-Encoding: gzip, chunked\r\n", 501),
            ("Transfer-Encoding: chunked, gzip\r\n", 400),
            ("Transfer-Encoding: gzip\r\n", 400),
            ("Transfer-Encoding: xchunked\r\n", 501),
            ("Transfer-Encoding: \r\n", 400),
            ("Transfer-Encoding:\x0bchunked\r\n", 400),
            ("A: b\r\n folded\r\n", 400),
            ("A: b\rc\r\n", 400),
            ("A: b\0c\r\n", 400),
            (": b\r\n", 400),
            ("Host: a\r\nHost: a\r\n", 400),
            ("Host: a b\r\n", 400),
            ("Expect: the-moon\r\n", 417),
        ] {
            let head = format!("PUT / HTTP/1.1\r\n{fields}\r\n");
            assert_eq!(refusal(&head), Some(status), "{fields:?}");
        }
        assert_eq!(
            refusal("PUT / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"),
            Some(400)
        );
    }

    #[test]
    fn request_lines_get_the_status_the_rfc_names() {
        for (line, status) in [
            ("GET / HTTP/1.1", None),
            ("GET / HTTP/1.0", None),
            ("OPTIONS * HTTP/1.1", None),
            ("GET http://169.254.169.254/latest HTTP/1.1", None),
            ("GET / HTTP/1.2", Some(505)),
            ("GET / HTTP/2.0", Some(505)),
            ("GET / HTTP/0.9", Some(505)),
            ("GET / http/1.1", Some(400)),
            ("GET / HTTP/1.1x", Some(400)),
            ("GET /", Some(400)),
            ("GET  / HTTP/1.1", Some(400)),
            ("GET / x HTTP/1.1", Some(400)),
            ("GET latest HTTP/1.1", Some(400)),
            ("GET ftp://x/ HTTP/1.1", Some(400)),
            ("GET http:///x HTTP/1.1", Some(400)),
            ("get / HTTP/1.1", Some(501)),
            ("BREW / HTTP/1.1", Some(501)),
            ("G(T / HTTP/1.1", Some(400)),
        ] {
            assert_eq!(refusal(&format!("{line}\r\n\r\n")), status, "{line}");
        }
    }

    #[test]
    fn too_many_fields_are_431() {
        let fields = "a: b\r\n".repeat(MAX_FIELDS + 1);
        assert_eq!(
            refusal(&format!("GET / HTTP/1.1\r\n{fields}\r\n")),
            Some(431)
        );
    }
}
