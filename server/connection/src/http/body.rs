//! Bodies: by length, in chunks, or up to the end of the stream.

use crate::buffer::extend_towards;
use crate::error::HttpError;
use crate::http::head::Framing;

/// Bytes of chunk sizes, extensions and trailers that one body may have beside its content, for every started
/// [`OVERHEAD_SHARE_BYTES`] of content.
const OVERHEAD_BYTES_MAX: usize = 16 * 1024;

/// See [`OVERHEAD_BYTES_MAX`]. A client that sends chunk after chunk of a few bytes is cut off.
const OVERHEAD_SHARE_BYTES: usize = 16 * 1024;

/// The longest chunk size, in hexadecimal digits.
const SIZE_DIGITS_MAX: u8 = 15;

/// Reads one body.
#[derive(Clone, Debug)]
pub(crate) enum BodyReader {
    Length { remaining: u64 },
    Chunked(Chunked),
    UntilEnd,
}

/// How far one call came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) consumed: usize,
    pub(crate) is_done: bool,
}

impl BodyReader {
    /// A reader for a request's body, `None` if there is none.
    pub(crate) fn for_request(framing: Framing) -> Option<Self> {
        match framing {
            Framing::Length(0) | Framing::Unsaid => None,
            Framing::Length(remaining) => Some(Self::Length { remaining }),
            Framing::Chunked => Some(Self::Chunked(Chunked::default())),
        }
    }

    /// A reader for a response's body, `None` if there is none.
    pub(crate) fn for_response(framing: Framing) -> Option<Self> {
        match framing {
            Framing::Unsaid => Some(Self::UntilEnd),
            _ => Self::for_request(framing),
        }
    }

    /// Reads from the front of `bytes` and appends content to `into`, of which there may be `content_max` more.
    pub(crate) fn read(
        &mut self,
        bytes: &[u8],
        into: &mut Vec<u8>,
        content_max: usize,
    ) -> Result<Progress, HttpError> {
        match self {
            Self::Length { remaining } => {
                let count = usize::try_from(*remaining).unwrap_or(usize::MAX).min(bytes.len());
                *remaining -= count as u64;
                let missing = usize::try_from(*remaining).unwrap_or(usize::MAX);
                extend_towards(into, &bytes[..count], missing);
                Ok(Progress { consumed: count, is_done: *remaining == 0 })
            }
            Self::Chunked(chunked) => chunked.read(bytes, into, content_max),
            Self::UntilEnd => {
                into.extend_from_slice(bytes);
                Ok(Progress { consumed: bytes.len(), is_done: false })
            }
        }
    }
}

/// The chunked transfer coding of RFC 9112, without mercy: CR LF ends lines, a size is hexadecimal digits.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chunked {
    state: ChunkState,
    size: u64,
    digits: u8,
    content_bytes: usize,
    overhead_bytes: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum ChunkState {
    #[default]
    Size,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    Trailer,
    TrailerLf,
    EndLf,
}

impl Chunked {
    fn read(
        &mut self,
        bytes: &[u8],
        into: &mut Vec<u8>,
        content_max: usize,
    ) -> Result<Progress, HttpError> {
        let content_start = into.len();
        let mut at = 0;
        while at < bytes.len() {
            if self.state == ChunkState::Data {
                at += self.read_data(&bytes[at..], into);
                continue;
            }
            let byte = bytes[at];
            at += 1;
            if self.state == ChunkState::EndLf {
                expect(byte, b'\n')?;
                return Ok(Progress { consumed: at, is_done: true });
            }
            let content_left = content_max - (into.len() - content_start);
            self.read_overhead(byte, content_left)?;
        }
        Ok(Progress { consumed: at, is_done: false })
    }

    fn read_data(&mut self, bytes: &[u8], into: &mut Vec<u8>) -> usize {
        let count = usize::try_from(self.size).unwrap_or(usize::MAX).min(bytes.len());
        into.extend_from_slice(&bytes[..count]);
        self.content_bytes += count;
        self.size -= count as u64;
        if self.size == 0 {
            self.state = ChunkState::DataCr;
        }
        count
    }

    fn read_overhead(&mut self, byte: u8, content_left: usize) -> Result<(), HttpError> {
        self.overhead_bytes += 1;
        let shares = 1 + self.content_bytes / OVERHEAD_SHARE_BYTES;
        if self.overhead_bytes > shares.saturating_mul(OVERHEAD_BYTES_MAX) {
            return Err(malformed("more chunk framing than content"));
        }
        self.state = match self.state {
            ChunkState::Size => self.read_size(byte, content_left)?,
            ChunkState::Extension => match byte {
                b'\r' => ChunkState::SizeLf,
                _ => printable(byte, ChunkState::Extension)?,
            },
            ChunkState::SizeLf => {
                expect(byte, b'\n')?;
                self.digits = 0;
                if self.size == 0 { ChunkState::TrailerStart } else { ChunkState::Data }
            }
            ChunkState::DataCr => {
                expect(byte, b'\r')?;
                ChunkState::DataLf
            }
            ChunkState::DataLf => {
                expect(byte, b'\n')?;
                ChunkState::Size
            }
            ChunkState::TrailerStart if byte == b'\r' => ChunkState::EndLf,
            ChunkState::TrailerStart | ChunkState::Trailer => match byte {
                b'\r' => ChunkState::TrailerLf,
                _ => printable(byte, ChunkState::Trailer)?,
            },
            ChunkState::TrailerLf => {
                expect(byte, b'\n')?;
                ChunkState::TrailerStart
            }
            ChunkState::Data | ChunkState::EndLf => unreachable!("read by the caller"),
        };
        Ok(())
    }

    fn read_size(&mut self, byte: u8, content_left: usize) -> Result<ChunkState, HttpError> {
        let digit = match byte {
            b'\r' if self.digits > 0 => return Ok(ChunkState::SizeLf),
            b';' if self.digits > 0 => return Ok(ChunkState::Extension),
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            _ => return Err(malformed("a chunk size that is not a hexadecimal number")),
        };
        self.digits += 1;
        if self.digits > SIZE_DIGITS_MAX {
            return Err(malformed("a chunk size with too many digits"));
        }
        self.size = self.size * 16 + u64::from(digit);
        if self.size > content_left as u64 {
            let bytes = self.size.saturating_add(self.content_bytes as u64);
            let limit_bytes = self.content_bytes + content_left;
            return Err(HttpError::BodyTooLarge { bytes, limit_bytes });
        }
        Ok(ChunkState::Size)
    }
}

fn expect(byte: u8, expected: u8) -> Result<(), HttpError> {
    if byte == expected { Ok(()) } else { Err(malformed("a chunk that does not end in CR LF")) }
}

fn printable(byte: u8, next: ChunkState) -> Result<ChunkState, HttpError> {
    match byte {
        b'\t' | b' '..=b'~' | 0x80.. => Ok(next),
        _ => Err(malformed("a control character in a chunk extension or trailer")),
    }
}

const fn malformed(what: &'static str) -> HttpError {
    HttpError::Malformed { what }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 1000;

    fn read_all(bytes: &[u8], step: usize) -> Result<(Vec<u8>, usize, bool), HttpError> {
        let (mut reader, mut into, mut used) = (Chunked::default(), Vec::new(), 0);
        for piece in bytes.chunks(step) {
            let left = LIMIT - into.len();
            let progress = reader.read(piece, &mut into, left)?;
            used += progress.consumed;
            if progress.is_done {
                return Ok((into, used, true));
            }
        }
        Ok((into, used, false))
    }

    #[test]
    fn chunks_are_joined_wherever_the_bytes_are_split() {
        let bytes = b"3\r\nabc\r\n0A;name=value\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\nNEXT";
        for step in 1..=bytes.len() {
            let (content, used, done) = read_all(bytes, step).unwrap();
            assert!(done);
            assert_eq!(content, b"abc0123456789");
            assert_eq!(&bytes[used..], b"NEXT");
        }
    }

    #[test]
    fn bad_chunks_are_refused() {
        for bytes in [
            &b"\r\n"[..],
            b"x\r\n",
            b"-1\r\n",
            b" 3\r\nabc\r\n",
            b"3 \r\nabc\r\n",
            b"0x3\r\nabc\r\n",
            b"3\nabc\r\n",
            b"3\r\nabcd\r\n",
            b"3\r\nabc\n",
            b"3\r\nabc\r\n0\r\n\n",
            b"3;\0\r\nabc",
            b"0000000000000003\r\nabc",
            b";x\r\n",
        ] {
            let error = read_all(bytes, 1).expect_err("is refused");
            assert_eq!(error.status(), 400, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn a_chunk_that_would_pass_the_limit_is_refused_at_its_size() {
        let error = read_all(b"3e9\r\n", 1).unwrap_err();
        assert_eq!(error, HttpError::BodyTooLarge { bytes: 1001, limit_bytes: LIMIT });
        let error = read_all(b"FFFFFFFFFFFFFFF\r\n", 20).unwrap_err();
        assert_eq!(error.status(), 413);
        let mut two = b"3e8\r\n".to_vec();
        two.extend_from_slice(&[b'x'; LIMIT]);
        two.extend_from_slice(b"\r\n1\r\n");
        assert_eq!(read_all(&two, 7).unwrap_err().status(), 413);
    }

    #[test]
    fn framing_may_grow_with_the_content_and_no_further() {
        let content_bytes = 2 * OVERHEAD_SHARE_BYTES;
        let mut bytes = format!("{content_bytes:x}\r\n").into_bytes();
        bytes.resize(bytes.len() + content_bytes, b'x');
        bytes.extend_from_slice(b"\r\n1;");
        bytes.resize(content_bytes + 3 * OVERHEAD_BYTES_MAX, b'x');
        let (mut reader, mut into) = (Chunked::default(), Vec::new());
        let progress = reader.read(&bytes, &mut into, usize::MAX).expect("it has its share");
        assert_eq!((progress.consumed, into.len()), (bytes.len(), content_bytes));
        assert!(reader.read(b"x", &mut into, usize::MAX).is_err(), "one byte more");
    }

    #[test]
    fn endless_extensions_and_trailers_are_cut_off() {
        let mut extension = b"1;".to_vec();
        extension.extend_from_slice(&[b'x'; OVERHEAD_BYTES_MAX + 1]);
        assert_eq!(read_all(&extension, 4096).unwrap_err().status(), 400);
        let mut trailers = b"0\r\n".to_vec();
        for _ in 0..OVERHEAD_BYTES_MAX / 4 {
            trailers.extend_from_slice(b"a:b\r\n");
        }
        assert_eq!(read_all(&trailers, 4096).unwrap_err().status(), 400);
    }
}
