//! The client's side: HTTP requests out, responses in, and the opening of WebSockets.

use std::collections::VecDeque;
use std::sync::Arc;

use bigpeer_core::rng::Rng;
use bigpeer_core::time::Instant;
use bytes::Bytes;

use crate::config::{Config, Timer};
use crate::error::{CloseReason, HttpError, SendError};
use crate::event::{Event, RequestId};
use crate::http::body::BodyReader;
use crate::http::head::{Method, ParsedResponse, find_end, parse_response};
use crate::http::response::{ResponseHead, status_has_body, write_field};
use crate::machine::{Machine, Protocol};
use crate::tls::{ClientTls, Tls, TlsError};
use crate::websocket::handshake::{accept_value, key_value};
use crate::websocket::machine::{Role, WebSocket};
use crate::wire::{Linger, Wire};

/// A connection that we opened to a server.
///
/// Emits, for every request in its order, [`Event::ResponseHead`], [`Event::ResponseBody`] and [`Event::ResponseEnd`];
/// for a WebSocket that the server takes, [`Event::WebSocketOpen`], [`Event::Message`] and
/// [`Event::WebSocketClosed`], and for one that it refuses the response that says why; always [`Event::Closed`] at last.
pub type ClientConnection = Machine<Client>;

/// A request to send.
#[derive(Clone, Debug)]
pub struct ClientRequest<'a> {
    /// The method; not `Other`.
    pub method: Method,
    /// Path and query.
    pub target: &'a str,
    /// The value of `Host`.
    pub host: &'a str,
    /// Further header fields; `Content-Length` is written for you. A control character in a value is sent as a space.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body; empty for none.
    pub body: Bytes,
}

/// A WebSocket to open.
#[derive(Clone, Debug)]
pub struct WebSocketRequest<'a> {
    /// Path and query.
    pub target: &'a str,
    /// The value of `Host`.
    pub host: &'a str,
    /// The subprotocols offered, the best first.
    pub protocols: &'a [&'a str],
    /// Further header fields, `Authorization` for one.
    pub headers: &'a [(&'a str, &'a str)],
}

impl ClientConnection {
    /// A connection whose socket was connected at `now`.
    ///
    /// # Errors
    ///
    /// If TLS is asked for and its configuration is of no use.
    pub fn new(
        config: Arc<Config>,
        tls: Option<ClientTls>,
        now: Instant,
    ) -> Result<Self, TlsError> {
        let tls = tls.map(Tls::client).transpose()?;
        Ok(Self::from_parts(Wire::new(config, tls, now), Client::default()))
    }

    /// Queues a request; several may be under way.
    ///
    /// # Errors
    ///
    /// `Closed` if the connection has ended or is a WebSocket, `NoCredit` if too much output waits.
    pub fn request(&mut self, request: &ClientRequest<'_>) -> Result<RequestId, SendError> {
        self.check_ready()?;
        let out = self.wire.output.tail_mut();
        write_request_line(out, request.method, request.target, request.host);
        write_fields(out, request.headers);
        if !request.body.is_empty() || request.method == Method::Post {
            write_field(out, "Content-Length", itoa::Buffer::new().format(request.body.len()));
        }
        out.extend_from_slice(b"\r\n");
        self.wire.output.push(request.body.clone());
        let pending = Pending { is_head: request.method == Method::Head, upgrade: None };
        let id = self.protocol.push(pending);
        self.settle();
        Ok(id)
    }

    /// Asks for a WebSocket. `rng` gives the key of the handshake and the masks of all frames.
    ///
    /// # Errors
    ///
    /// `Closed` if the connection has ended or is a WebSocket, `NoCredit` if too much output waits.
    pub fn open_websocket(
        &mut self,
        request: &WebSocketRequest<'_>,
        mut rng: Rng,
    ) -> Result<RequestId, SendError> {
        self.check_ready()?;
        let key = key_value(rng.bytes16());
        let out = self.wire.output.tail_mut();
        write_request_line(out, Method::Get, request.target, request.host);
        out.extend_from_slice(b"Upgrade: websocket\r\nConnection: Upgrade\r\n");
        out.extend_from_slice(b"Sec-WebSocket-Version: 13\r\n");
        write_field(out, "Sec-WebSocket-Key", &key);
        if !request.protocols.is_empty() {
            write_field(out, "Sec-WebSocket-Protocol", &request.protocols.join(", "));
        }
        write_fields(out, request.headers);
        out.extend_from_slice(b"\r\n");
        let protocols = request.protocols.iter().map(|&protocol| protocol.to_owned()).collect();
        let upgrade = Upgrade { accept: accept_value(&key), protocols, mask_keys: rng };
        let id = self.protocol.push(Pending { is_head: false, upgrade: Some(Box::new(upgrade)) });
        self.protocol.takes_requests = false;
        self.settle();
        Ok(id)
    }

    fn check_ready(&self) -> Result<(), SendError> {
        if !self.wire.is_open() || !self.protocol.takes_requests {
            return Err(SendError::Closed);
        }
        if self.wire.credit() == 0 {
            return Err(SendError::NoCredit);
        }
        Ok(())
    }
}

/// The protocol of a [`ClientConnection`].
#[derive(Debug)]
pub struct Client {
    reading: Reading,
    pending: VecDeque<Pending>,
    /// The id of the first in `pending`; the others follow without a gap.
    first_id: u64,
    head_scanned: usize,
    takes_requests: bool,
    /// The server keeps the connection after the response that is being read.
    keep_alive: bool,
}

impl Default for Client {
    fn default() -> Self {
        Self {
            reading: Reading::Head,
            pending: VecDeque::new(),
            first_id: 0,
            head_scanned: 0,
            takes_requests: true,
            keep_alive: true,
        }
    }
}

/// A request that waits for its response.
#[derive(Debug)]
struct Pending {
    is_head: bool,
    upgrade: Option<Box<Upgrade>>,
}

/// A WebSocket that waits for the server's consent.
#[derive(Debug)]
struct Upgrade {
    accept: String,
    protocols: Vec<String>,
    mask_keys: Rng,
}

#[derive(Debug)]
enum Reading {
    Head,
    Body(BodyReader),
    WebSocket(Box<WebSocket>),
}

impl Client {
    fn push(&mut self, pending: Pending) -> RequestId {
        self.pending.push_back(pending);
        RequestId(self.first_id + self.pending.len() as u64 - 1)
    }

    fn advance_head(&mut self, wire: &mut Wire, bytes: &[u8]) -> Result<usize, CloseReason> {
        if self.pending.is_empty() {
            let what = "a response that nobody asked for";
            return Err(CloseReason::Http(HttpError::Malformed { what }));
        }
        let limit_bytes = wire.config.head_bytes_max.into();
        let end =
            find_end(bytes, &mut self.head_scanned, limit_bytes).map_err(CloseReason::Http)?;
        let Some(end) = end else { return Ok(0) };
        self.head_scanned = 0;
        wire.restart_read_deadline();
        let response = parse_response(&bytes[..end]).map_err(CloseReason::Http)?;
        match response.status {
            101 => self.on_switch(wire, response)?,
            // Interim responses tell a client nothing that it has to act on.
            100..=199 => {}
            _ => self.on_response(wire, response),
        }
        Ok(end)
    }

    fn on_response(&mut self, wire: &mut Wire, response: ParsedResponse) {
        let ParsedResponse { status, framing, keep_alive, headers, .. } = response;
        let id = RequestId(self.first_id);
        let front = self.pending.front().expect("a response has its request");
        let has_body = !front.is_head && status_has_body(status);
        self.keep_alive = keep_alive;
        wire.push_event(Event::ResponseHead { id, head: ResponseHead { status, headers } });
        match BodyReader::for_response(framing).filter(|_| has_body) {
            Some(body) => self.reading = Reading::Body(body),
            None => self.on_response_end(wire),
        }
    }

    fn advance_body(&mut self, wire: &mut Wire, bytes: &[u8]) -> Result<usize, CloseReason> {
        let Reading::Body(body) = &mut self.reading else { return Ok(0) };
        let mut content = Vec::new();
        let progress = body.read(bytes, &mut content, usize::MAX).map_err(CloseReason::Http)?;
        if !content.is_empty() {
            let id = RequestId(self.first_id);
            wire.push_event(Event::ResponseBody { id, bytes: Bytes::from(content) });
        }
        if progress.is_done {
            self.on_response_end(wire);
        }
        Ok(progress.consumed)
    }

    fn on_response_end(&mut self, wire: &mut Wire) {
        wire.restart_read_deadline();
        let done = self.pending.pop_front().expect("a response has its request");
        wire.push_event(Event::ResponseEnd { id: RequestId(self.first_id) });
        self.first_id += 1;
        self.reading = Reading::Head;
        if done.upgrade.is_some() {
            // The server refused the WebSocket: the connection is one for requests again.
            self.takes_requests = true;
        }
        let is_last = !self.takes_requests && self.pending.is_empty();
        if !self.keep_alive || is_last {
            // What we had still to say, the server does not listen to.
            wire.output.clear();
            wire.begin_close(CloseReason::Finished, Linger::No);
        }
    }

    fn on_switch(&mut self, wire: &mut Wire, response: ParsedResponse) -> Result<(), CloseReason> {
        let wrong = |what| CloseReason::BadHandshake { what };
        let front = self.pending.pop_front().expect("a response has its request");
        let upgrade = front.upgrade.ok_or(wrong("a switch of protocols that nobody asked for"))?;
        let head = ResponseHead { status: response.status, headers: response.headers };
        if !response.is_upgrade {
            return Err(wrong("it does not switch to WebSocket"));
        }
        if head.header("sec-websocket-accept") != Some(&*upgrade.accept) {
            return Err(wrong("it does not answer our key"));
        }
        if head.header("sec-websocket-extensions").is_some() {
            return Err(wrong("it chose an extension that was not offered"));
        }
        let protocol = head.header("sec-websocket-protocol").map(str::to_owned);
        if protocol.as_ref().is_some_and(|protocol| !upgrade.protocols.contains(protocol)) {
            return Err(wrong("it chose a subprotocol that was not offered"));
        }
        self.first_id += 1;
        self.reading =
            Reading::WebSocket(WebSocket::new(Role::Client { mask_keys: upgrade.mask_keys }));
        wire.push_event(Event::WebSocketOpen { protocol });
        Ok(())
    }

    fn advance_checked(&mut self, wire: &mut Wire, bytes: &[u8]) -> Result<usize, CloseReason> {
        match &mut self.reading {
            Reading::Head => self.advance_head(wire, bytes),
            Reading::Body(_) => self.advance_body(wire, bytes),
            Reading::WebSocket(websocket) => Ok(websocket.advance(wire, bytes)),
        }
    }
}

impl Protocol for Client {
    fn advance(&mut self, wire: &mut Wire, bytes: &[u8]) -> usize {
        self.advance_checked(wire, bytes).unwrap_or_else(|reason| {
            wire.close_now(reason);
            bytes.len()
        })
    }

    fn is_blocked(&self, _wire: &Wire) -> bool {
        false
    }

    fn awaited(&self, wire: &Wire) -> Option<Timer> {
        match &self.reading {
            Reading::Head if wire.has_unconsumed_input() => Some(Timer::Head),
            Reading::Head if !self.pending.is_empty() => Some(Timer::Response),
            Reading::Head => None,
            Reading::Body(_) => Some(Timer::Progress),
            Reading::WebSocket(websocket) => websocket.awaited(),
        }
    }

    fn on_timeout(&mut self, wire: &mut Wire, timer: Timer) {
        match &mut self.reading {
            Reading::WebSocket(websocket) => websocket.on_timeout(wire, timer),
            _ => wire.close_now(CloseReason::Timeout(timer)),
        }
    }

    fn on_eof(&mut self, wire: &mut Wire) {
        match &mut self.reading {
            Reading::WebSocket(websocket) => websocket.on_eof(wire),
            Reading::Body(BodyReader::UntilEnd) if wire.is_end_trusted() => {
                self.keep_alive = false;
                self.on_response_end(wire);
            }
            Reading::Body(_) => wire.close_now(CloseReason::Truncated),
            Reading::Head if wire.has_unconsumed_input() => wire.close_now(CloseReason::Truncated),
            Reading::Head => wire.close_now(CloseReason::PeerClosed),
        }
    }

    fn on_close(&mut self, wire: &mut Wire, code: u16) {
        self.takes_requests = false;
        match &mut self.reading {
            Reading::WebSocket(websocket) => websocket.close(wire, code),
            Reading::Head | Reading::Body(_) => {
                if self.pending.is_empty() {
                    wire.begin_close(CloseReason::Finished, Linger::No);
                }
            }
        }
    }

    /// A client reads what it asked for as fast as its caller takes it.
    fn held_bytes(&self) -> usize {
        0
    }

    fn on_shed(&mut self, wire: &mut Wire) {
        wire.close_now(CloseReason::Shed);
    }

    fn on_sent(&mut self, wire: &mut Wire) {
        if let Reading::WebSocket(websocket) = &mut self.reading {
            websocket.on_sent(wire);
        }
    }

    fn send_message(&mut self, wire: &mut Wire, message: Bytes) -> Result<(), SendError> {
        match &mut self.reading {
            Reading::WebSocket(websocket) => websocket.send_message(wire, message),
            _ => Err(SendError::Closed),
        }
    }
}

fn write_request_line(out: &mut Vec<u8>, method: Method, target: &str, host: &str) {
    debug_assert!(
        !target.contains(|c: char| c.is_ascii_control() || c == ' '),
        "a target is encoded"
    );
    out.extend_from_slice(method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    write_field(out, "Host", host);
}

fn write_fields(out: &mut Vec<u8>, headers: &[(&str, &str)]) {
    for (name, value) in headers {
        write_field(out, name, value);
    }
}
