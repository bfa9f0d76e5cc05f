//! The body of a request, sized or chunked, told from what follows it as its bytes arrive: left in
//! the stream it would be taken for the next request. Pure: it is fed, and reads nothing itself.

use zeroize::Zeroizing;

use super::head::{Framing, MAX_BODY, Refusal};

/// Bytes of chunk sizes, extensions and trailers around one body.
const MAX_CHUNK_OVERHEAD: usize = 16 * 1024;

/// What a body is made of next.
enum Part {
    /// That many bytes; of a chunk if another line follows them.
    Data {
        left: u64,
        is_chunk: bool,
    },
    /// A line that says how long the next chunk is.
    Size,
    /// The line end behind a chunk.
    ChunkEnd,
    Trailer,
    Nothing,
}

/// A body on its way.
pub(super) struct Body {
    part: Part,
    /// What has come of the present line.
    line: Vec<u8>,
    overhead: usize,
    /// Bytes of all chunks.
    length: u64,
    /// `None` if it is of no use. It may be a secret.
    kept: Option<Zeroizing<Vec<u8>>>,
}

impl Body {
    /// A body that begins now, kept or dropped.
    pub(super) fn new(framing: Framing, is_kept: bool) -> Body {
        let part = match framing {
            Framing::Sized(0) => Part::Nothing,
            Framing::Sized(left) => Part::Data {
                left,
                is_chunk: false,
            },
            Framing::Chunked => Part::Size,
        };
        // All at once: what grows leaves copies of a secret behind.
        let room = match framing {
            Framing::Sized(length) => length,
            Framing::Chunked => MAX_BODY,
        };
        Body {
            part,
            line: Vec::new(),
            overhead: 0,
            length: 0,
            kept: is_kept.then(|| Zeroizing::new(Vec::with_capacity(as_usize(room)))),
        }
    }

    /// No body.
    pub(super) fn none() -> Body {
        Body::new(Framing::Sized(0), false)
    }

    /// Whether nothing of it is missing.
    pub(super) fn is_complete(&self) -> bool {
        matches!(self.part, Part::Nothing)
    }

    /// What was kept of it.
    pub(super) fn into_kept(self) -> Zeroizing<Vec<u8>> {
        self.kept.unwrap_or_default()
    }

    /// Takes the part of `bytes` that belongs to it. Returns how many those are.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<usize, Refusal> {
        let mut rest = bytes;
        while !self.is_complete() && !rest.is_empty() {
            if let Part::Data { left, is_chunk } = &mut self.part {
                let (data, behind) = rest.split_at(rest.len().min(as_usize(*left)));
                if let Some(kept) = &mut self.kept {
                    kept.extend_from_slice(data);
                }
                rest = behind;
                *left -= data.len() as u64;
                if *left == 0 {
                    self.part = match is_chunk {
                        true => Part::ChunkEnd,
                        false => Part::Nothing,
                    };
                }
                continue;
            }
            let end = rest.iter().position(|&byte| byte == b'\n');
            let (line, behind) = rest.split_at(end.map_or(rest.len(), |at| at + 1));
            rest = behind;
            self.overhead += line.len();
            if self.overhead > MAX_CHUNK_OVERHEAD {
                return Err(Refusal::BodyTooLarge);
            }
            self.line.extend_from_slice(line);
            if end.is_some() {
                self.end_of_line()?;
            }
        }
        Ok(bytes.len() - rest.len())
    }

    /// A bare LF is refused here: two readers could disagree on where a chunk begins.
    fn end_of_line(&mut self) -> Result<(), Refusal> {
        let line = self.line.strip_suffix(b"\r\n");
        let line = line.filter(|line| !line.iter().any(|&b| b == b'\r' || b == 0));
        let line = line.ok_or(Refusal::Malformed)?;
        self.part = match self.part {
            Part::Size => match chunk_size(line)? {
                0 => Part::Trailer,
                left => {
                    self.length += left;
                    if self.length > MAX_BODY {
                        return Err(Refusal::BodyTooLarge);
                    }
                    Part::Data {
                        left,
                        is_chunk: true,
                    }
                }
            },
            Part::ChunkEnd if line.is_empty() => Part::Size,
            Part::ChunkEnd => return Err(Refusal::Malformed),
            // Trailers are dropped; what they could say belongs to no service here.
            _ if line.is_empty() => Part::Nothing,
            _ => Part::Trailer,
        };
        self.line.clear();
        Ok(())
    }
}

/// `1*HEXDIG [chunk-ext]`; extensions are dropped.
fn chunk_size(line: &[u8]) -> Result<u64, Refusal> {
    let digits = line
        .iter()
        .position(|b| !b.is_ascii_hexdigit())
        .unwrap_or(line.len());
    let rest = line[digits..].trim_ascii_start();
    if digits == 0 || !(rest.is_empty() || rest[0] == b';') {
        return Err(Refusal::Malformed);
    }
    let digits = std::str::from_utf8(&line[..digits]).map_err(|_| Refusal::Malformed)?;
    u64::from_str_radix(digits, 16)
        .ok()
        .filter(|&size| size <= MAX_BODY)
        .ok_or(Refusal::BodyTooLarge)
}

/// As far as memory reaches.
fn as_usize(length: u64) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunk_sizes_are_hexadecimal_and_bounded() {
        for (line, size) in [
            ("0", Ok(0)),
            ("1F", Ok(31)),
            ("a;name=value", Ok(10)),
            ("a ;name", Ok(10)),
            ("00000000000000000001", Ok(1)),
            ("10001", Err(Refusal::BodyTooLarge)),
            ("fffffffffffffffff", Err(Refusal::BodyTooLarge)),
            ("", Err(Refusal::Malformed)),
            ("0x1", Err(Refusal::Malformed)),
            ("-1", Err(Refusal::Malformed)),
            ("1 1", Err(Refusal::Malformed)),
            (" 1", Err(Refusal::Malformed)),
        ] {
            assert_eq!(chunk_size(line.as_bytes()), size, "{line:?}");
        }
    }

    #[test]
    fn a_body_is_the_same_however_it_is_cut() {
        let chunked = &b"3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nT: r\r\n\r\nGET"[..];
        for (framing, bytes) in [
            (Framing::Chunked, chunked),
            (Framing::Sized(5), b"abcdeGET"),
        ] {
            for cut in 0..=bytes.len() {
                let mut body = Body::new(framing, true);
                let first = body.take(&bytes[..cut]).unwrap();
                let used = first + body.take(&bytes[first..]).unwrap();
                assert!(body.is_complete());
                assert_eq!(&bytes[used..], b"GET", "cut at {cut}");
                assert_eq!(&**body.into_kept(), b"abcde", "cut at {cut}");
            }
        }
    }

    #[test]
    fn a_body_that_nobody_wants_is_not_kept() {
        let mut body = Body::new(Framing::Sized(2), false);
        assert_eq!(body.take(b"abc"), Ok(2));
        assert!(body.is_complete() && body.into_kept().is_empty());
    }

    #[test]
    fn what_could_be_cut_in_two_ways_or_does_not_end_is_refused() {
        let many = "1\r\nx\r\n".repeat(5000);
        let trailers = format!("0\r\n{}", "A: b\r\n".repeat(5000));
        for (bytes, refusal) in [
            ("1\nx\r\n", Refusal::Malformed),
            ("1\r\nxx\r\n", Refusal::Malformed),
            ("1\r\nx\n", Refusal::Malformed),
            ("0;\r\0\r\n", Refusal::Malformed),
            ("10001\r\n", Refusal::BodyTooLarge),
            (many.as_str(), Refusal::BodyTooLarge),
            (trailers.as_str(), Refusal::BodyTooLarge),
        ] {
            let mut body = Body::new(Framing::Chunked, false);
            assert_eq!(body.take(bytes.as_bytes()), Err(refusal), "{bytes:.20?}");
        }
    }
}
