//! One connection to a server: a socket, and the machine that speaks over it.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;

use bigpeer_connection::{
    ClientConnection, CloseReason, Config, Event, FramedConnection, SendError, WebSocketRequest,
};
use bigpeer_core::ident::AppId;
use bigpeer_core::node::SessionId;
use bigpeer_core::rng::Rng;
use bigpeer_core::time::Instant;
use bigpeer_core::value::{Object, Value, json};
use bytes::Bytes;

use crate::endpoint::{Endpoint, Scheme};
use crate::wake::Readiness;

/// The subprotocol of the WebSocket.
pub(crate) const SUBPROTOCOL: &str = "bigpeer.sync.v1";

/// How much may wait for a server that does not read: then the connection is given up. The next session goes on
/// from its cursor.
const QUEUE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Bytes read from the socket, or offered to it, at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// Reads before the rest of the peer gets its turn.
const READS_PER_TURN: usize = 16;

/// How much of a refusal's text is kept.
const REFUSAL_BYTES_MAX: usize = 2048;

/// The close code of an end in good order.
const NORMAL: u16 = 1000;

/// A connection, and the frames that wait for it.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) session: SessionId,
    socket: TcpStream,
    machine: Machine,
    /// Frames may be sent.
    is_open: bool,
    queue: VecDeque<Bytes>,
    queue_bytes: usize,
    /// Close once the queue is empty.
    is_closing: bool,
    /// The machine was told to.
    is_close_said: bool,
    out: Vec<u8>,
    out_sent: usize,
    is_shut: bool,
    refusal: Option<Refusal>,
    events: VecDeque<LinkEvent>,
}

/// Something that happened to a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LinkEvent {
    /// Frames may flow.
    Open,
    /// A frame arrived.
    Frame(Bytes),
    /// It is over; the last event.
    Ended(LinkEnd),
}

/// Why a connection is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LinkEnd {
    pub(crate) cause: String,
    /// The server does not want us as we are: to come back soon is of no use.
    pub(crate) is_refusal: bool,
    /// The server meant to close it, for a reason that it does not say.
    pub(crate) is_orderly: bool,
}

impl LinkEnd {
    /// Something failed that may go well the next time.
    pub(crate) fn failure(cause: &str) -> Self {
        Self { cause: cause.to_owned(), is_refusal: false, is_orderly: false }
    }
}

#[derive(Debug)]
enum Machine {
    WebSocket(Box<ClientConnection>),
    Framed(Box<FramedConnection>),
}

/// The same call on either machine.
macro_rules! either {
    ($machine:expr, $it:ident => $call:expr) => {
        match $machine {
            Machine::WebSocket($it) => $call,
            Machine::Framed($it) => $call,
        }
    };
}

/// An answer that is no WebSocket.
#[derive(Debug)]
struct Refusal {
    status: u16,
    body: Vec<u8>,
}

impl Connection {
    /// Says our first words over a socket that was just connected.
    pub(crate) fn new(
        session: SessionId,
        socket: TcpStream,
        endpoint: &Endpoint,
        app: AppId,
        token: Option<&str>,
        rng: Rng,
        now: Instant,
    ) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        // Frames are whole messages that someone waits for.
        socket.set_nodelay(true)?;
        let config = Arc::new(Config::default());
        let (machine, is_open) = match endpoint.scheme {
            Scheme::WebSocket => (open_websocket(config, endpoint, app, token, rng, now)?, false),
            Scheme::Framed => (open_framed(config, app, token, now)?, true),
        };
        let mut connection = Self {
            session,
            socket,
            machine,
            is_open,
            queue: VecDeque::new(),
            queue_bytes: 0,
            is_closing: false,
            is_close_said: false,
            out: Vec::new(),
            out_sent: 0,
            is_shut: false,
            refusal: None,
            events: VecDeque::new(),
        };
        if is_open {
            connection.events.push_back(LinkEvent::Open);
        }
        Ok(connection)
    }

    /// Queues a frame.
    pub(crate) fn send(&mut self, frame: Bytes) {
        if self.is_closing {
            return;
        }
        self.queue_bytes += frame.len();
        self.queue.push_back(frame);
        if self.queue_bytes > QUEUE_BYTES_MAX {
            self.queue.clear();
            self.queue_bytes = 0;
            self.end("it does not read what it is sent", false);
        }
    }

    /// Closes after what was queued.
    pub(crate) fn close(&mut self) {
        self.is_closing = true;
    }

    pub(crate) fn poll_event(&mut self) -> Option<LinkEvent> {
        self.events.pop_front()
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        either!(&self.machine, it => it.poll_timeout()).map(|(at, _)| at)
    }

    /// The socket, and what to wait for: room to write in it as long as anything could be written.
    pub(crate) fn interest(&self) -> (&TcpStream, Readiness) {
        let read = either!(&self.machine, it => it.wants_read());
        (&self.socket, Readiness { read, write: self.has_output() || self.has_flushable() })
    }

    /// Bytes wait for the socket.
    fn has_output(&self) -> bool {
        self.out_sent < self.out.len() || either!(&self.machine, it => it.wants_write())
    }

    /// A frame or the farewell waits, and the machine would take it.
    fn has_flushable(&self) -> bool {
        let has_farewell = self.is_closing && !self.is_close_said && self.queue.is_empty();
        let has_room = either!(&self.machine, it => it.output_credit()) > 0;
        self.is_open && (has_farewell || (has_room && !self.queue.is_empty()))
    }

    /// Moves bytes both ways as far as it goes, and acts on time.
    pub(crate) fn turn(&mut self, ready: Readiness, now: Instant) {
        if self.poll_timeout().is_some_and(|at| at <= now) {
            either!(&mut self.machine, it => it.handle_timeout(now));
        }
        if ready.read {
            self.read(now);
        }
        self.take_events(now);
        self.flush(now);
        // What leaves makes room for frames that wait, and no event of the socket tells of that: on until nothing
        // is left, or until the socket is full and will report when it has room.
        loop {
            self.write(now);
            self.take_events(now);
            self.flush(now);
            let is_socket_full = self.out_sent < self.out.len();
            if is_socket_full || !self.has_output() {
                return;
            }
        }
    }

    fn read(&mut self, now: Instant) {
        let mut chunk = vec![0; CHUNK_BYTES];
        for _ in 0..READS_PER_TURN {
            if !either!(&self.machine, it => it.wants_read()) {
                return;
            }
            match self.socket.read(&mut chunk) {
                Ok(0) => return either!(&mut self.machine, it => it.handle_eof(now)),
                Ok(count) => {
                    either!(&mut self.machine, it => it.handle_bytes(&chunk[..count], now));
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => return either!(&mut self.machine, it => it.handle_reset(now)),
            }
        }
    }

    fn flush(&mut self, now: Instant) {
        if !self.is_open {
            if self.is_closing {
                self.end("closed before it was open", false);
            }
            return;
        }
        while let Some(frame) = self.queue.front() {
            match either!(&mut self.machine, it => it.send_message(frame.clone())) {
                Ok(()) | Err(SendError::Closed) => {}
                Err(SendError::NoCredit) => return,
                Err(error) => return self.end(&error.to_string(), false),
            }
            self.queue_bytes -= frame.len();
            self.queue.pop_front();
        }
        if self.is_closing && !self.is_close_said {
            self.is_close_said = true;
            either!(&mut self.machine, it => it.close(NORMAL, now));
        }
    }

    fn write(&mut self, now: Instant) {
        loop {
            if self.out_sent == self.out.len() {
                self.out.clear();
                self.out_sent = 0;
                let given =
                    either!(&mut self.machine, it => it.poll_transmit(&mut self.out, CHUNK_BYTES));
                if given == 0 {
                    break;
                }
            }
            match self.socket.write(&self.out[self.out_sent..]) {
                Ok(count) => {
                    self.out_sent += count;
                    either!(&mut self.machine, it => it.handle_sent(count, now));
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => return either!(&mut self.machine, it => it.handle_reset(now)),
            }
        }
        if !self.is_shut && either!(&self.machine, it => it.wants_shutdown()) {
            self.is_shut = true;
            // A socket that cannot be shut down has failed, which the next read says.
            let _ = self.socket.shutdown(Shutdown::Write);
        }
    }

    fn take_events(&mut self, now: Instant) {
        while let Some(event) = either!(&mut self.machine, it => it.poll_event()) {
            match event {
                Event::WebSocketOpen { protocol } if protocol.as_deref() == Some(SUBPROTOCOL) => {
                    self.is_open = true;
                    self.events.push_back(LinkEvent::Open);
                }
                Event::WebSocketOpen { .. } => {
                    self.end("it does not speak this version of device sync", true);
                }
                Event::Message(frame) => self.events.push_back(LinkEvent::Frame(frame)),
                Event::ResponseHead { head, .. } => {
                    self.refusal = Some(Refusal { status: head.status, body: Vec::new() });
                }
                Event::ResponseBody { bytes, .. } => self.on_refusal_text(&bytes),
                Event::ResponseEnd { .. } => self.on_refused(),
                Event::OutputDrained => self.flush(now),
                Event::Closed { reason } => self.on_closed(&reason),
                _ => {}
            }
        }
    }

    fn on_refusal_text(&mut self, bytes: &[u8]) {
        if let Some(Refusal { body, .. }) = &mut self.refusal {
            let room = REFUSAL_BYTES_MAX - body.len();
            body.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
    }

    fn on_refused(&mut self) {
        let Some(Refusal { status, body }) = self.refusal.take() else { return };
        let text = String::from_utf8_lossy(&body);
        let message = match json::parse(text.as_bytes(), json::Limits::default()) {
            Ok(Value::Object(object)) => {
                object.get("message").and_then(Value::as_str).map(str::to_owned)
            }
            _ => None,
        };
        let message = message.unwrap_or_else(|| text.trim().to_owned());
        // A server that is starting, or too busy, may answer otherwise in a moment.
        let is_refusal = (400..500).contains(&status) && !matches!(status, 408 | 425 | 429);
        self.end(&format!("it answers {status}: {message}"), is_refusal);
    }

    fn on_closed(&mut self, reason: &CloseReason) {
        if self.refusal.is_some() {
            self.on_refused();
        }
        let is_orderly =
            matches!(reason, CloseReason::PeerClosed | CloseReason::WebSocketClosed(NORMAL));
        self.push_end(LinkEnd { is_orderly, ..LinkEnd::failure(&reason.to_string()) });
    }

    fn end(&mut self, cause: &str, is_refusal: bool) {
        self.push_end(LinkEnd { is_refusal, ..LinkEnd::failure(cause) });
    }

    fn push_end(&mut self, end: LinkEnd) {
        if !matches!(self.events.back(), Some(LinkEvent::Ended(_))) {
            self.events.push_back(LinkEvent::Ended(end));
        }
    }
}

fn open_websocket(
    config: Arc<Config>,
    endpoint: &Endpoint,
    app: AppId,
    token: Option<&str>,
    rng: Rng,
    now: Instant,
) -> io::Result<Machine> {
    let mut machine = ClientConnection::new(config, None, now).map_err(io::Error::other)?;
    let authorization = token.map(|token| format!("Bearer {token}"));
    let headers: Vec<(&str, &str)> =
        authorization.iter().map(|value| ("Authorization", value.as_str())).collect();
    let request = WebSocketRequest {
        target: &format!("/_ditto?app={app}"),
        host: &endpoint.authority(),
        protocols: &[SUBPROTOCOL],
        headers: &headers,
    };
    machine.open_websocket(&request, rng).map_err(io::Error::other)?;
    Ok(Machine::WebSocket(Box::new(machine)))
}

/// A bare stream has no head to say who we are in: a first frame does.
fn open_framed(
    config: Arc<Config>,
    app: AppId,
    token: Option<&str>,
    now: Instant,
) -> io::Result<Machine> {
    let mut machine = FramedConnection::client(config, None, now).map_err(io::Error::other)?;
    let mut preamble = Object::new();
    preamble.insert("app", Value::from(app.to_string()));
    if let Some(token) = token {
        preamble.insert("token", Value::from(token));
    }
    let mut frame = Vec::new();
    json::write(&Value::Object(preamble), &mut frame);
    machine.send_message(frame.into()).map_err(io::Error::other)?;
    Ok(Machine::Framed(Box::new(machine)))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn framed_pair() -> (Connection, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let ours = TcpStream::connect(address).expect("it listens");
        let (theirs, _) = listener.accept().expect("it was connected to");
        let endpoint = format!("tcp://{address}").parse().expect("an address");
        let (app, rng) = (AppId::default(), Rng::new(&[1; 32], "test"));
        let connection =
            Connection::new(SessionId(1), ours, &endpoint, app, None, rng, Instant::default());
        (connection.expect("no TLS"), theirs)
    }

    #[test]
    fn whatever_waits_is_written_or_waits_for_the_socket() {
        let (mut connection, mut theirs) = framed_pair();
        let frame = Bytes::from(vec![7; 64 * 1024]);
        let (mut sent, mut received) = (0, Vec::new());
        let mut chunk = vec![0; 1 << 20];
        for frames_at_once in [1, 16, 3, 40, 100] {
            for _ in 0..frames_at_once {
                connection.send(frame.clone());
                sent += frame.len();
            }
            // Each pass is one wake-up of the socket; a connection that asks for none gets none.
            connection.turn(Readiness::default(), Instant::default());
            while connection.interest().1.write {
                let count = theirs.read(&mut chunk).expect("the socket is full, or was");
                received.extend_from_slice(&chunk[..count]);
                connection.turn(Readiness { read: false, write: true }, Instant::default());
            }
            assert_eq!(connection.queue_bytes, 0, "{frames_at_once} frames");
        }
        drop(connection);
        theirs.read_to_end(&mut received).expect("all of it is there");
        assert!(received.len() > sent, "with a length before each frame");
    }
}
