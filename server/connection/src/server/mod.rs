//! The server's side: HTTP requests in, answers out in the order of the requests.

mod exchange;

use std::sync::Arc;

use bigpeer_core::time::Instant;
use bytes::Bytes;

use crate::config::{Config, Timer};
use crate::error::{CloseReason, HttpError, SendError};
use crate::event::{Event, RequestId};
use crate::http::body::BodyReader;
use crate::http::head::{Framing, Known, RequestHead, Version, find_end, head_text, parse_request};
use crate::http::request::Request;
use crate::http::response::Response;
use crate::machine::{Machine, Protocol};
use crate::server::exchange::{Exchange, Exchanges};
use crate::tls::{Tls, TlsError};
use crate::websocket::handshake::{accept_value, is_key};
use crate::websocket::machine::{Role, WebSocket};
use crate::wire::{Linger, Wire};

/// A connection that a client opened to us.
///
/// Emits [`Event::Request`] and [`Event::WebSocketUpgrade`]; once a WebSocket is accepted, [`Event::Message`] and
/// [`Event::WebSocketClosed`]; always [`Event::Closed`] at last. Requests may be answered in any order and are sent in
/// theirs. An answer to a connection that has ended meanwhile is dropped.
pub type ServerConnection = Machine<Server>;

impl ServerConnection {
    /// A connection that was accepted at `now`.
    ///
    /// # Errors
    ///
    /// If TLS is asked for and its configuration is of no use.
    pub fn new(
        config: Arc<Config>,
        tls: Option<Arc<rustls::ServerConfig>>,
        now: Instant,
    ) -> Result<Self, TlsError> {
        let tls = tls.map(Tls::server).transpose()?;
        Ok(Self::from_parts(Wire::new(config, tls, now), Server::default()))
    }

    /// Answers a request, or refuses a WebSocket.
    pub fn respond(&mut self, id: RequestId, response: Response) {
        self.protocol.respond(&mut self.wire, id, response);
        self.settle();
    }

    /// Begins an answer whose body follows in pieces: chunked, or up to the end of the connection in HTTP/1.0.
    pub fn respond_start(&mut self, id: RequestId, status: u16, content_type: &str) {
        self.protocol.exchanges.start(&mut self.wire, id, status, content_type);
        self.settle();
    }

    /// Sends the next piece of an answer. Returns what may be sent before waiting for [`Event::OutputDrained`].
    ///
    /// # Errors
    ///
    /// `NoCredit` if there was none, see [`stream_credit`](Self::stream_credit); `Closed` if nobody waits for it.
    pub fn respond_chunk(&mut self, id: RequestId, chunk: Bytes) -> Result<usize, SendError> {
        if self.wire.is_open() && self.stream_credit(id) == 0 {
            return Err(SendError::NoCredit);
        }
        self.protocol.exchanges.push_chunk(&mut self.wire, id, chunk)?;
        self.settle();
        Ok(self.stream_credit(id))
    }

    /// Ends an answer that was sent in pieces.
    pub fn respond_end(&mut self, id: RequestId) {
        self.protocol.exchanges.end(&mut self.wire, id);
        self.protocol.on_answered(&mut self.wire);
        self.settle();
    }

    /// Gives up an answer. One that has not begun becomes a 500; one that has cannot be taken back, and the
    /// connection is cut after what was queued, so that the client notices.
    pub fn abort(&mut self, id: RequestId) {
        if self.protocol.exchanges.is_streaming(id) {
            self.protocol.exchanges.abort(&mut self.wire, id);
            self.protocol.on_answered(&mut self.wire);
        } else {
            let message = Response::json(500, r#"{"message":"the request was given up"}"#);
            self.protocol.respond(&mut self.wire, id, message);
        }
        self.settle();
    }

    /// How many bytes of a streamed answer may be queued: none before its turn has come.
    #[must_use]
    pub fn stream_credit(&self, id: RequestId) -> usize {
        if self.protocol.exchanges.is_front(id) { self.wire.credit() } else { 0 }
    }

    /// Takes the body of an [`Event::RequestHead`], of at most `bytes_max` bytes, and no more than the configuration
    /// allows. One that claims more is refused with 413.
    pub fn accept_body(&mut self, bytes_max: usize) {
        self.protocol.accept_body(&mut self.wire, bytes_max);
        self.settle();
    }

    /// Refuses an [`Event::RequestHead`], after everything before it, and ends the connection: nobody reads the body.
    pub fn refuse_body(&mut self, response: Response) {
        self.protocol.refuse_body(&mut self.wire, response);
        self.settle();
    }

    /// Takes an [`Event::WebSocketUpgrade`], with one of the subprotocols that the client offered.
    pub fn accept_websocket(&mut self, id: RequestId, protocol: Option<&str>) {
        self.protocol.accept_websocket(&mut self.wire, id, protocol);
        self.settle();
    }
}

/// The protocol of a [`ServerConnection`].
#[derive(Debug, Default)]
pub struct Server {
    reading: Reading,
    exchanges: Exchanges,
    /// How far the unfinished head at the front of the input has been looked through.
    head_scanned: usize,
    /// The connection ends when every request taken has been answered.
    is_ending: bool,
}

/// What the next bytes are.
#[derive(Debug, Default)]
enum Reading {
    #[default]
    Head,
    /// The caller has been asked whether to take a body.
    BodyOffered(Box<Incoming>),
    Body(Box<Incoming>),
    /// A request for a WebSocket waits until everything before it is answered.
    Upgrade(Box<Request>),
    /// The caller has been asked.
    UpgradeOffered {
        accept: String,
    },
    WebSocket(Box<WebSocket>),
    /// Of no interest.
    Stopped,
}

/// A request whose body is arriving.
#[derive(Debug)]
struct Incoming {
    head: RequestHead,
    text: Box<str>,
    data: Vec<u8>,
    body: BodyReader,
    body_bytes_max: usize,
    /// When the body must have ended.
    deadline: Instant,
    /// The client waits to hear that we want the body.
    owes_continue: bool,
}

impl Server {
    fn advance_head(&mut self, wire: &mut Wire, bytes: &[u8]) -> usize {
        if self.is_blocked(wire) {
            return 0;
        }
        // Clients of old sent an empty line after a body.
        if bytes.starts_with(b"\r\n") {
            return 2;
        }
        if bytes == b"\r" {
            return 0;
        }
        let taken = find_end(bytes, &mut self.head_scanned, wire.config.head_bytes_max.into())
            .and_then(|end| end.map_or(Ok(0), |end| self.on_head(wire, bytes, end)));
        taken.unwrap_or_else(|error| {
            self.refuse(wire, error);
            bytes.len()
        })
    }

    /// Takes the request whose head is the first `head_bytes` of `bytes`; with its body if that is there.
    fn on_head(
        &mut self,
        wire: &mut Wire,
        bytes: &[u8],
        head_bytes: usize,
    ) -> Result<usize, HttpError> {
        self.head_scanned = 0;
        wire.restart_read_deadline();
        let text = head_text(&bytes[..head_bytes])?;
        let head = parse_request(text)?;
        check_head(&head, text, wire)?;
        let claimed = match head.framing {
            Framing::Length(length) => usize::try_from(length).expect("it is under the limit"),
            Framing::Chunked | Framing::Unsaid => 0,
        };
        let Some(body) = BodyReader::for_request(head.framing) else {
            self.on_request(wire, head, text.into(), Bytes::new());
            return Ok(head_bytes);
        };
        let whole = head_bytes + claimed;
        if claimed > 0 && bytes.len() >= whole {
            let body = Bytes::copy_from_slice(&bytes[head_bytes..whole]);
            self.on_request(wire, head, text.into(), body);
            return Ok(whole);
        }
        let owes_continue = head.expects_continue && bytes.len() == head_bytes;
        let incoming = Box::new(Incoming {
            head,
            text: text.into(),
            data: Vec::new(),
            body,
            body_bytes_max: wire.config.body_bytes_max,
            deadline: wire.now().after(wire.config.body_timeout),
            owes_continue,
        });
        if wire.config.asks_first {
            let request = Request::from_parts(head, incoming.text.clone(), Bytes::new());
            wire.push_event(Event::RequestHead { request });
            self.reading = Reading::BodyOffered(incoming);
        } else {
            self.reading = Reading::Body(incoming);
            self.send_continue(wire);
        }
        Ok(head_bytes)
    }

    fn accept_body(&mut self, wire: &mut Wire, bytes_max: usize) {
        let Reading::BodyOffered(incoming) = &mut self.reading else { return };
        if !wire.is_open() {
            return;
        }
        let limit_bytes = bytes_max.min(wire.config.body_bytes_max);
        if let Framing::Length(bytes) = incoming.head.framing
            && bytes > limit_bytes as u64
        {
            return self.refuse(wire, HttpError::BodyTooLarge { bytes, limit_bytes });
        }
        incoming.body_bytes_max = limit_bytes;
        incoming.deadline = wire.now().after(wire.config.body_timeout);
        // A client that did not wait for our word needs none.
        incoming.owes_continue &= !wire.has_unconsumed_input();
        if let Reading::BodyOffered(incoming) = std::mem::take(&mut self.reading) {
            self.reading = Reading::Body(incoming);
        }
        self.send_continue(wire);
    }

    fn refuse_body(&mut self, wire: &mut Wire, response: Response) {
        if matches!(self.reading, Reading::BodyOffered(_)) && wire.is_open() {
            self.end_with(wire, CloseReason::Refused(response.status), response);
        }
    }

    fn advance_body(&mut self, wire: &mut Wire, bytes: &[u8]) -> usize {
        let Reading::Body(incoming) = &mut self.reading else { return 0 };
        incoming.owes_continue = false;
        let content_max = incoming.body_bytes_max - incoming.data.len();
        match incoming.body.read(bytes, &mut incoming.data, content_max) {
            Ok(progress) => {
                if progress.is_done {
                    self.on_body(wire);
                }
                progress.consumed
            }
            Err(error) => {
                self.refuse(wire, error);
                bytes.len()
            }
        }
    }

    fn on_body(&mut self, wire: &mut Wire) {
        wire.restart_read_deadline();
        let Reading::Body(incoming) = std::mem::take(&mut self.reading) else { return };
        let Incoming { head, text, data, .. } = *incoming;
        self.on_request(wire, head, text, Bytes::from(data));
    }

    fn on_request(&mut self, wire: &mut Wire, head: RequestHead, text: Box<str>, body: Bytes) {
        let request = Request::from_parts(head, text, body);
        if head.is_upgrade {
            self.reading = Reading::Upgrade(Box::new(request));
            self.offer_upgrade(wire);
            return;
        }
        let keep_alive = head.keep_alive && !self.is_ending;
        if !keep_alive {
            self.reading = Reading::Stopped;
        }
        let held_bytes = request.held_bytes();
        let id = self.exchanges.push(Exchange::new(&head, keep_alive, held_bytes));
        wire.push_event(Event::Request { id, request });
    }

    /// Asks the caller about a WebSocket once nothing else is under way.
    fn offer_upgrade(&mut self, wire: &mut Wire) {
        let Reading::Upgrade(request) = &self.reading else { return };
        if !self.exchanges.is_empty() {
            return;
        }
        let accept = accept_value(request.websocket_key().expect("checked with the head"));
        let offered = Reading::UpgradeOffered { accept };
        let Reading::Upgrade(request) = std::mem::replace(&mut self.reading, offered) else {
            return;
        };
        let exchange = Exchange::for_upgrade(request.held_bytes());
        let id = self.exchanges.push(exchange);
        wire.push_event(Event::WebSocketUpgrade { id, request: *request });
    }

    fn respond(&mut self, wire: &mut Wire, id: RequestId, response: Response) {
        if matches!(self.reading, Reading::UpgradeOffered { .. }) && self.exchanges.is_front(id) {
            self.reading = if self.is_ending { Reading::Stopped } else { Reading::Head };
        }
        self.exchanges.answer(wire, id, response);
        self.on_answered(wire);
    }

    fn accept_websocket(&mut self, wire: &mut Wire, id: RequestId, protocol: Option<&str>) {
        let Reading::UpgradeOffered { accept } = &self.reading else { return };
        if !wire.is_open() || !self.exchanges.is_front(id) {
            return;
        }
        let date = wire.config.date.get();
        let out = wire.output.tail_mut();
        out.extend_from_slice(b"HTTP/1.1 101 Switching Protocols\r\n");
        if date > 0 {
            crate::http::date::write_date(out, date);
        }
        out.extend_from_slice(b"Upgrade: websocket\r\nConnection: Upgrade\r\n");
        crate::http::response::write_field(out, "Sec-WebSocket-Accept", accept);
        if let Some(protocol) = protocol {
            crate::http::response::write_field(out, "Sec-WebSocket-Protocol", protocol);
        }
        out.extend_from_slice(b"\r\n");
        self.exchanges.clear();
        let mut websocket = WebSocket::new(Role::Server);
        if self.is_ending {
            websocket.close(wire, GOING_AWAY);
        }
        self.reading = Reading::WebSocket(websocket);
    }

    /// Something was answered: what waited for it goes on.
    fn on_answered(&mut self, wire: &mut Wire) {
        if self.exchanges.flush(wire) {
            return;
        }
        self.offer_upgrade(wire);
        self.send_continue(wire);
        self.end_if_done(wire);
    }

    /// An interim response may only be sent once every earlier answer has been.
    fn send_continue(&mut self, wire: &mut Wire) {
        if let Reading::Body(incoming) = &mut self.reading
            && incoming.owes_continue
            && self.exchanges.is_empty()
        {
            incoming.owes_continue = false;
            wire.output.tail_mut().extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
    }

    /// Answers what came with an error, after everything before it, and ends the connection: what follows a request
    /// that was not understood cannot be understood either.
    fn refuse(&mut self, wire: &mut Wire, error: HttpError) {
        let response = Response::refusal(&error);
        self.end_with(wire, CloseReason::Http(error), response);
    }

    /// Answers the request that is being read, after everything before it, and ends the connection.
    fn end_with(&mut self, wire: &mut Wire, reason: CloseReason, response: Response) {
        self.reading = Reading::Stopped;
        self.head_scanned = 0;
        let id = self.exchanges.push(Exchange::for_refusal(reason));
        self.respond(wire, id, response);
    }

    /// Looks whether a body has grown enough in its window, and has time left.
    fn on_body_window(&mut self, wire: &mut Wire) {
        let Reading::Body(incoming) = &self.reading else { return };
        let config = &wire.config;
        let has_time = wire.now() < incoming.deadline;
        if !has_time || wire.progress_bytes() < config.body_window_bytes_min {
            let error = HttpError::BodyTimeout {
                window_seconds: config.body_window.as_secs(),
                window_bytes_min: config.body_window_bytes_min,
                seconds_max: config.body_timeout.as_secs(),
            };
            self.refuse(wire, error);
        }
    }

    fn end_if_done(&mut self, wire: &mut Wire) {
        let is_reading = matches!(
            self.reading,
            Reading::Body(_) | Reading::BodyOffered(_) | Reading::WebSocket(_)
        );
        if self.is_ending && self.exchanges.is_empty() && !is_reading {
            let reason = match wire.has_received_eof() {
                true => CloseReason::PeerClosed,
                false => CloseReason::Finished,
            };
            wire.begin_close(reason, Linger::No);
        }
    }

    fn is_mid_head(&self, wire: &Wire) -> bool {
        matches!(self.reading, Reading::Head) && wire.has_unconsumed_input()
    }
}

/// The close code of a server that shuts down.
const GOING_AWAY: u16 = 1001;

/// Refuses what can be refused before any of the body has come.
fn check_head(head: &RequestHead, text: &str, wire: &Wire) -> Result<(), HttpError> {
    let limit_bytes = wire.config.body_bytes_max;
    if let Framing::Length(length) = head.framing
        && length > limit_bytes as u64
    {
        return Err(HttpError::BodyTooLarge { bytes: length, limit_bytes });
    }
    let encoding = head.known(Known::ContentEncoding);
    let is_encoded =
        !encoding.is_absent() && !encoding.slice(text).eq_ignore_ascii_case("identity");
    if is_encoded && !wire.config.encoded_bodies {
        return Err(HttpError::UnsupportedContentEncoding);
    }
    if head.is_upgrade {
        check_upgrade(head, text)?;
    }
    Ok(())
}

fn check_upgrade(head: &RequestHead, text: &str) -> Result<(), HttpError> {
    if !head.websocket_version_ok {
        return Err(HttpError::UnsupportedWebSocketVersion);
    }
    if !is_key(head.known(Known::WebSocketKey).slice(text)) {
        return Err(HttpError::Malformed { what: "a WebSocket key that is not sixteen bytes" });
    }
    if BodyReader::for_request(head.framing).is_some() {
        return Err(HttpError::Malformed { what: "a WebSocket handshake with a body" });
    }
    Ok(())
}

impl Protocol for Server {
    fn advance(&mut self, wire: &mut Wire, bytes: &[u8]) -> usize {
        match &mut self.reading {
            Reading::Head => self.advance_head(wire, bytes),
            Reading::Body(_) => self.advance_body(wire, bytes),
            Reading::BodyOffered(_) | Reading::Upgrade(_) | Reading::UpgradeOffered { .. } => 0,
            Reading::WebSocket(websocket) => websocket.advance(wire, bytes),
            Reading::Stopped => bytes.len(),
        }
    }

    fn is_blocked(&self, wire: &Wire) -> bool {
        match self.reading {
            Reading::Head => {
                self.exchanges.len() >= wire.config.requests_in_flight_max
                    || self.exchanges.held_bytes() >= wire.config.body_bytes_max
                    || wire.credit() == 0
            }
            Reading::Body(_) | Reading::WebSocket(_) => false,
            Reading::BodyOffered(_)
            | Reading::Upgrade(_)
            | Reading::UpgradeOffered { .. }
            | Reading::Stopped => true,
        }
    }

    fn awaited(&self, wire: &Wire) -> Option<Timer> {
        match &self.reading {
            Reading::Head if self.is_mid_head(wire) => Some(Timer::Head),
            Reading::Head => {
                let is_idle = self.exchanges.is_empty() && wire.pending_output_bytes() == 0;
                is_idle.then_some(Timer::Idle)
            }
            Reading::Body(_) => Some(Timer::Body),
            Reading::WebSocket(websocket) => websocket.awaited(),
            Reading::BodyOffered(_)
            | Reading::Upgrade(_)
            | Reading::UpgradeOffered { .. }
            | Reading::Stopped => None,
        }
    }

    fn on_timeout(&mut self, wire: &mut Wire, timer: Timer) {
        match (&mut self.reading, timer) {
            (Reading::WebSocket(websocket), _) => websocket.on_timeout(wire, timer),
            (_, Timer::Head) => self.refuse(wire, HttpError::HeadTimeout),
            (_, Timer::Body) => self.on_body_window(wire),
            _ => wire.begin_close(CloseReason::Timeout(timer), Linger::No),
        }
    }

    /// The answers to whole requests are still sent: a client may shut down its side once it has asked.
    fn on_eof(&mut self, wire: &mut Wire) {
        let is_truncated = matches!(self.reading, Reading::Body(_)) || self.is_mid_head(wire);
        match &mut self.reading {
            Reading::WebSocket(websocket) => websocket.on_eof(wire),
            _ if is_truncated && self.exchanges.is_empty() => {
                wire.begin_close(CloseReason::Truncated, Linger::No);
            }
            _ => {
                self.reading = Reading::Stopped;
                self.is_ending = true;
                self.end_if_done(wire);
            }
        }
    }

    fn on_close(&mut self, wire: &mut Wire, code: u16) {
        self.is_ending = true;
        match &mut self.reading {
            Reading::WebSocket(websocket) => websocket.close(wire, code),
            Reading::Head | Reading::Upgrade(_) => {
                self.reading = Reading::Stopped;
                self.exchanges.close_after_last();
            }
            Reading::Body(_)
            | Reading::BodyOffered(_)
            | Reading::UpgradeOffered { .. }
            | Reading::Stopped => {}
        }
        self.end_if_done(wire);
    }

    fn held_bytes(&self) -> usize {
        match &self.reading {
            Reading::Body(incoming) => incoming.data.capacity(),
            Reading::WebSocket(websocket) => websocket.held_bytes(),
            _ => 0,
        }
    }

    fn on_shed(&mut self, wire: &mut Wire) {
        match &mut self.reading {
            Reading::WebSocket(websocket) => websocket.shed(wire),
            Reading::Head | Reading::Body(_) | Reading::BodyOffered(_) => {
                self.refuse(wire, HttpError::Shed);
            }
            // A request that is taken is answered.
            Reading::Upgrade(_) | Reading::UpgradeOffered { .. } | Reading::Stopped => {}
        }
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

/// Whether a body sent in pieces is chunked, or ends with the connection.
fn is_chunked(version: Version) -> bool {
    version == Version::Http11
}
