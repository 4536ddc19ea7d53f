//! A whole request.

use bytes::Bytes;

use crate::error::HttpError;
use crate::http::head::{Framing, Known, Method, RequestHead, Version, parse_request};

/// A whole request as a server receives it. Every field of the head is a place in its text, which is checked to be
/// UTF-8 once and not again for each field.
#[derive(Clone, Debug)]
pub struct Request {
    head: RequestHead,
    text: Box<str>,
    body: Bytes,
}

impl Request {
    /// `text` is what `head` describes.
    pub(crate) fn from_parts(head: RequestHead, text: Box<str>, body: Bytes) -> Self {
        Self { head, text, body }
    }

    /// Builds a request without a connection, for a caller that has one in its hands already (a test, a simulator).
    ///
    /// # Errors
    ///
    /// If a connection would refuse it.
    pub fn new(
        method: Method,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Self, HttpError> {
        let mut text = format!("{} {target} HTTP/1.1\r\nHost: localhost\r\n", method.as_str());
        for (name, value) in headers {
            text.extend([name, ": ", value, "\r\n"]);
        }
        text.push_str("\r\n");
        if text.len() > usize::from(u16::MAX) {
            return Err(HttpError::HeadTooLarge { limit_bytes: u16::MAX.into() });
        }
        let head = parse_request(&text)?;
        Ok(Self::from_parts(head, text.into(), Bytes::copy_from_slice(body)))
    }

    /// The method.
    #[must_use]
    pub fn method(&self) -> Method {
        self.head.method
    }

    /// The method as it was sent, also one that [`Method`] has no word for.
    #[must_use]
    pub fn method_name(&self) -> &str {
        self.text.split(' ').next().unwrap_or_default()
    }

    /// The version the client speaks.
    #[must_use]
    pub fn version(&self) -> Version {
        self.head.version
    }

    /// The path as sent, percent-encoding and all. Starts with `/`, save for `OPTIONS *`.
    #[must_use]
    pub fn path(&self) -> &str {
        self.head.path.slice(&self.text)
    }

    /// What follows the question mark, as sent.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        let query = self.head.query;
        (!query.is_absent()).then(|| query.slice(&self.text))
    }

    /// The body; empty if there is none.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The body, without a copy.
    #[must_use]
    pub fn into_body(self) -> Bytes {
        self.body
    }

    /// `Authorization`.
    #[must_use]
    pub fn authorization(&self) -> Option<&str> {
        self.known(Known::Authorization)
    }

    /// `Content-Type`.
    #[must_use]
    pub fn content_type(&self) -> Option<&str> {
        self.known(Known::ContentType)
    }

    /// `Content-Encoding`.
    #[must_use]
    pub fn content_encoding(&self) -> Option<&str> {
        self.known(Known::ContentEncoding)
    }

    /// `Accept`.
    #[must_use]
    pub fn accept(&self) -> Option<&str> {
        self.known(Known::Accept)
    }

    /// `X-DITTO-TXN-ID`, or `X-HYDRA-TXN-ID` when the first is absent.
    #[must_use]
    pub fn txn_id(&self) -> Option<&str> {
        self.known(Known::DittoTxnId).or_else(|| self.known(Known::HydraTxnId))
    }

    /// `Host`; always there in HTTP/1.1.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        self.known(Known::Host)
    }

    /// The name or address in `Host`, without port and brackets.
    #[must_use]
    pub fn host_name(&self) -> Option<&str> {
        self.host().map(crate::http::host::name_of)
    }

    /// Any header field by its name, whatever its case; the first of several. Reads through the head.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        crate::http::head::find_field(&self.text, name)
    }

    /// The subprotocols a WebSocket client offers, the one it likes best first.
    pub fn websocket_protocols(&self) -> impl Iterator<Item = &str> {
        let list = self.known(Known::WebSocketProtocol).unwrap_or_default();
        list.split(',').map(str::trim).filter(|protocol| !protocol.is_empty())
    }

    pub(crate) fn websocket_key(&self) -> Option<&str> {
        self.known(Known::WebSocketKey)
    }

    /// The length of the body that the head announces; `None` if that is not known before its end.
    #[must_use]
    pub fn announced_bytes(&self) -> Option<u64> {
        match self.head.framing {
            Framing::Length(length) => Some(length),
            Framing::Unsaid => Some(0),
            Framing::Chunked => None,
        }
    }

    pub(crate) fn held_bytes(&self) -> usize {
        self.text.len() + self.body.len()
    }

    fn known(&self, name: Known) -> Option<&str> {
        let span = self.head.known(name);
        (!span.is_absent()).then(|| span.slice(&self.text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_whatever_their_case() {
        let headers = [("AUTHORIZATION", "Bearer k"), ("x-hydra-txn-id", "7"), ("X-Else", " v ")];
        let request = Request::new(Method::Post, "/a?b=c", &headers, b"body").unwrap();
        assert_eq!(request.authorization(), Some("Bearer k"));
        assert_eq!(request.txn_id(), Some("7"));
        assert_eq!(request.header("x-else"), Some("v"));
        assert_eq!(request.header("X-None"), None);
        assert_eq!((request.path(), request.query()), ("/a", Some("b=c")));
        assert_eq!(request.body(), b"body");
        assert_eq!(&request.into_body()[..], b"body");
    }

    #[test]
    fn the_newer_transaction_header_wins() {
        let headers = [("X-Hydra-Txn-Id", "7"), ("X-Ditto-Txn-Id", "8")];
        let request = Request::new(Method::Get, "/", &headers, b"").unwrap();
        assert_eq!(request.txn_id(), Some("8"));
    }
}
