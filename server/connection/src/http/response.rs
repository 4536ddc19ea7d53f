//! Responses: what a server says, and how its head is written.

use std::borrow::Cow;

use bytes::Bytes;

use crate::error::HttpError;
use crate::http::date::write_date;
use crate::http::head::Version;

/// A whole answer of a server. `Content-Length`, `Connection` and `Date` are the connection's to write; see
/// [`DateCell`](crate::DateCell).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// `Content-Type`; empty for none.
    pub content_type: Cow<'static, str>,
    /// Further header fields. A control character in a value is sent as a space.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Bytes,
}

impl Response {
    /// An answer in JSON.
    #[must_use]
    pub fn json(status: u16, body: impl Into<Bytes>) -> Self {
        Self::new(status, "application/json", body)
    }

    /// An answer with a body of type `content_type`.
    #[must_use]
    pub fn new(
        status: u16,
        content_type: impl Into<Cow<'static, str>>,
        body: impl Into<Bytes>,
    ) -> Self {
        let content_type = content_type.into();
        Self { status, content_type, headers: Vec::new(), body: body.into() }
    }

    /// The same with one more header field.
    #[must_use]
    pub fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The answer to a request that the connection refuses by itself: `{"message": …}`.
    pub(crate) fn refusal(error: &HttpError) -> Self {
        let message = error.to_string();
        debug_assert!(!message.contains(['"', '\\']), "our own messages need no escaping");
        let response = Self::json(error.status(), format!("{{\"message\":\"{message}\"}}"));
        match error {
            HttpError::UnsupportedWebSocketVersion => {
                response.with_header("Sec-WebSocket-Version", "13")
            }
            HttpError::Shed => response.with_header("Retry-After", "1"),
            _ => response,
        }
    }
}

/// The head of a response as a client receives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseHead {
    /// The status code.
    pub status: u16,
    /// The header fields as sent.
    pub headers: Vec<(String, String)>,
}

impl ResponseHead {
    /// A header field by its name, whatever its case; the first of several.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let field = self.headers.iter().find(|(field, _)| field.eq_ignore_ascii_case(name));
        field.map(|(_, value)| value.as_str())
    }
}

/// How the length of a response is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResponseFraming {
    Length(usize),
    Chunked,
    UntilEnd,
}

/// What the head of a response says beside its fields.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeadShape {
    pub(crate) status: u16,
    pub(crate) version: Version,
    pub(crate) framing: ResponseFraming,
    pub(crate) keep_alive: bool,
    /// The second that the clock shows; zero if nobody knows.
    pub(crate) date: u64,
}

/// Writes a head, its empty line included, to the end of `out`.
pub(crate) fn write_head(
    out: &mut Vec<u8>,
    shape: HeadShape,
    content_type: &str,
    headers: &[(&str, String)],
) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(itoa::Buffer::new().format(shape.status).as_bytes());
    out.push(b' ');
    out.extend_from_slice(reason_phrase(shape.status).as_bytes());
    out.extend_from_slice(b"\r\n");
    if shape.date > 0 {
        write_date(out, shape.date);
    }
    if !content_type.is_empty() {
        write_field(out, "Content-Type", content_type);
    }
    match shape.framing {
        _ if !status_has_body(shape.status) => {}
        ResponseFraming::Length(length) => {
            write_field(out, "Content-Length", itoa::Buffer::new().format(length));
        }
        ResponseFraming::Chunked => write_field(out, "Transfer-Encoding", "chunked"),
        ResponseFraming::UntilEnd => {}
    }
    for (name, value) in headers {
        write_field(out, name, value);
    }
    match (shape.keep_alive, shape.version) {
        (false, _) => write_field(out, "Connection", "close"),
        (true, Version::Http10) => write_field(out, "Connection", "keep-alive"),
        (true, Version::Http11) => {}
    }
    out.extend_from_slice(b"\r\n");
}

/// Whether a response with this status may have a body.
pub(crate) fn status_has_body(status: u16) -> bool {
    !matches!(status, 100..=199 | 204 | 304)
}

/// Writes one header field. What would end the line early is sent as a space, so that no value can add a field.
pub(crate) fn write_field(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    let start = out.len();
    out.extend_from_slice(value.as_bytes());
    for byte in &mut out[start..] {
        if byte.is_ascii_control() {
            *byte = b' ';
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes one chunk of the chunked coding around `size` bytes of content, without the content and its CR LF.
pub(crate) fn write_chunk_size(out: &mut Vec<u8>, size: usize) {
    let digits = (usize::BITS - size.leading_zeros()).div_ceil(4).max(1);
    for digit in (0..digits).rev() {
        out.push(b"0123456789abcdef"[(size >> (digit * 4)) & 0xF]);
    }
    out.extend_from_slice(b"\r\n");
}

fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        _ => "Other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_cannot_add_a_header_field() {
        let mut out = Vec::new();
        write_field(&mut out, "X-Name", "a\r\nSet-Cookie: b");
        assert_eq!(out, b"X-Name: a  Set-Cookie: b\r\n");
    }

    #[test]
    fn chunk_sizes_are_written_in_hexadecimal() {
        for size in [0, 1, 9, 15, 16, 255, 256, 4096, 65_535, 1_048_576] {
            let mut out = Vec::new();
            write_chunk_size(&mut out, size);
            assert_eq!(out, format!("{size:x}\r\n").as_bytes());
        }
    }

    #[test]
    fn a_status_without_a_body_has_no_length() {
        let shape = HeadShape {
            status: 204,
            version: Version::Http11,
            framing: ResponseFraming::Length(0),
            keep_alive: true,
            date: 0,
        };
        let mut out = Vec::new();
        write_head(&mut out, shape, "", &[]);
        assert_eq!(out, b"HTTP/1.1 204 No Content\r\n\r\n");
    }
}
