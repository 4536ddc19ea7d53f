//! The connections of a thread: bytes in, calls to the nodes, bytes out.

use bigpeer_connection::{Event, FramedConnection, Request, RequestId, Response, ServerConnection};
use bigpeer_core::ident::AppId;
use bigpeer_core::node::{self, Credential, Execute, RackInput};
use bigpeer_core::time::Instant;
use bytes::Bytes;

use super::admission::{Held, STARTING};
use super::answer::{Client, Pending, Purpose};
use super::session::Session;
use super::{Shard, ShardOutput};
use crate::api::{self, Call, Door, ExecuteCall, reply};
use crate::metrics::{self, Metric};
use crate::refusals::AddressSlot;
use crate::shared::Phase;
use crate::slab;

/// Names a connection of a thread for ever: no later connection has the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

impl ConnId {
    /// A small number that no other open connection of the thread has.
    #[must_use]
    pub fn place(self) -> usize {
        slab::place(self.0)
    }
}

/// One connection.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) machine: Machine,
    pub(super) door: Door,
    /// Its place in the count of its address.
    _slot: Option<AddressSlot>,
    /// It counts among those of its door, until it ends.
    pub(super) has_place: bool,
    /// Whoever speaks has shown a credential.
    pub(super) is_known: bool,
    /// The key that opened an app on this connection last. Most show the same again and again.
    pub(super) shown: Option<Box<(AppId, Box<str>)>>,
    /// When it said something last.
    pub(super) active: Instant,
    pub(super) held: Held,
    /// The driver has been told to look after it.
    pub(super) is_listed: bool,
    /// Whether the driver reads from it, as far as it has been told.
    is_reading: bool,
    armed: Option<Instant>,
    /// The client has closed its side.
    pub(super) is_leaving: bool,
    /// Requests that wait for their answer.
    pub(super) requests: Vec<u64>,
    /// How many of them wait for their bodies to be read.
    pub(super) unread: usize,
    pub(super) session: Option<Session>,
}

/// What speaks on a connection.
#[derive(Debug)]
pub(super) enum Machine {
    Http(Box<ServerConnection>),
    Framed(Box<FramedConnection>),
}

/// The two kinds of machine have the same methods, and no type in common.
macro_rules! either {
    ($machine:expr, $name:ident => $call:expr) => {
        match $machine {
            Machine::Http($name) => $call,
            Machine::Framed($name) => $call,
        }
    };
}
pub(super) use either;

impl Entry {
    pub(super) fn new(
        machine: Machine,
        door: Door,
        slot: Option<AddressSlot>,
        now: Instant,
    ) -> Self {
        Self {
            machine,
            door,
            _slot: slot,
            has_place: true,
            is_known: false,
            shown: None,
            active: now,
            held: Held::default(),
            is_listed: false,
            is_reading: true,
            armed: None,
            is_leaving: false,
            requests: Vec::new(),
            unread: 0,
            session: None,
        }
    }

    /// The HTTP side; a request came from it.
    pub(super) fn http(&mut self) -> &mut ServerConnection {
        match &mut self.machine {
            Machine::Http(machine) => machine,
            Machine::Framed(_) => unreachable!("a stream of frames carries no requests"),
        }
    }
}

impl Shard {
    /// Takes bytes that were read.
    pub fn handle_bytes(&mut self, conn: ConnId, bytes: &[u8]) {
        // Whoever sent this may have heard of what became durable since the turn began.
        self.now.durable = self.now.durable.max(self.shared.durable());
        let now = self.now.mono;
        self.metrics().add(Metric::BytesReceived, bytes.len() as u64);
        if let Some(entry) = self.connections.get_mut(conn.0) {
            entry.active = now;
            entry.held.note(bytes.len());
        }
        self.drive(conn, |machine| either!(machine, it => it.handle_bytes(bytes, now)));
    }

    /// The client has shut down its side.
    pub fn handle_eof(&mut self, conn: ConnId) {
        let now = self.now.mono;
        self.drive(conn, |machine| either!(machine, it => it.handle_eof(now)));
        self.note_leaving(conn);
    }

    /// The socket has failed.
    pub fn handle_reset(&mut self, conn: ConnId) {
        let now = self.now.mono;
        self.drive(conn, |machine| either!(machine, it => it.handle_reset(now)));
    }

    /// The kernel has taken `count` bytes.
    pub fn handle_sent(&mut self, conn: ConnId, count: usize) {
        let now = self.now.mono;
        self.metrics().add(Metric::BytesSent, count as u64);
        self.drive(conn, |machine| either!(machine, it => it.handle_sent(count, now)));
    }

    /// Appends at most `bytes_max` bytes to `out`, to be sent; returns how many.
    pub fn poll_transmit(&mut self, conn: ConnId, out: &mut Vec<u8>, bytes_max: usize) -> usize {
        let Some(entry) = self.connections.get_mut(conn.0) else { return 0 };
        let count = either!(&mut entry.machine, it => it.poll_transmit(out, bytes_max));
        if count > 0 {
            // From here on the client has to take something in time.
            let deadline = either!(&entry.machine, it => it.poll_timeout()).map(|(at, _)| at);
            self.timers.arm(conn.0, deadline, &mut entry.armed);
        }
        count
    }

    /// Whether to read from the socket. The driver is told by `Service` when this changes.
    pub fn wants_read(&mut self, conn: ConnId) -> bool {
        let Some(entry) = self.connections.get_mut(conn.0) else { return false };
        entry.is_reading = either!(&entry.machine, it => it.wants_read());
        entry.is_reading
    }

    /// Whether to shut down the write side, once.
    #[must_use]
    pub fn wants_shutdown(&self, conn: ConnId) -> bool {
        let entry = self.connections.get(conn.0);
        entry.is_some_and(|entry| either!(&entry.machine, it => it.wants_shutdown()))
    }

    /// Whether to close the socket and call [`Shard::remove_connection`].
    #[must_use]
    pub fn is_closed(&self, conn: ConnId) -> bool {
        let entry = self.connections.get(conn.0);
        entry.is_none_or(|entry| either!(&entry.machine, it => it.is_closed()))
    }

    /// The socket is closed. The name of the connection is forgotten.
    pub fn remove_connection(&mut self, conn: ConnId) {
        self.on_closed(conn);
        self.connections.remove(conn.0);
    }

    /// The driver asks to be told to look after a connection: what stood in its way is gone.
    pub fn request_service(&mut self, conn: ConnId) {
        if let Some(entry) = self.connections.get_mut(conn.0)
            && !entry.is_listed
        {
            entry.is_listed = true;
            self.outputs.push_back(ShardOutput::Service(conn));
        }
    }

    /// Lets every connection come to an orderly end.
    pub(super) fn close_connections(&mut self) {
        let now = self.now.mono;
        for key in self.connections.keys().collect::<Vec<_>>() {
            self.drive(ConnId(key), |machine| either!(machine, it => it.close(GOING_AWAY, now)));
        }
    }

    pub(super) fn expire_connections(&mut self) {
        let now = self.now.mono;
        while let Some((key, at)) = self.timers.pop_due(now) {
            let Some(entry) = self.connections.get_mut(key) else { continue };
            if entry.armed == Some(at) {
                entry.armed = None;
                let conn = ConnId(key);
                self.drive(conn, |machine| either!(machine, it => it.handle_timeout(now)));
            }
        }
    }

    /// Lets something happen to a connection, then takes what it says.
    pub(super) fn drive(&mut self, conn: ConnId, act: impl FnOnce(&mut Machine)) {
        let Some(entry) = self.connections.get_mut(conn.0) else { return };
        act(&mut entry.machine);
        while let Some(entry) = self.connections.get_mut(conn.0)
            && let Some(event) = either!(&mut entry.machine, it => it.poll_event())
        {
            self.on_event(conn, event);
        }
        self.note_held(conn);
        self.touch(conn);
    }

    /// Tells the driver if there is something for it to do, and keeps the deadline.
    pub(super) fn touch(&mut self, conn: ConnId) {
        let Some(entry) = self.connections.get_mut(conn.0) else { return };
        let (deadline, is_due) = either!(&entry.machine, it => {
            let is_due = it.wants_write() || it.is_closed() || it.wants_shutdown();
            (it.poll_timeout().map(|(at, _)| at), is_due || it.wants_read() != entry.is_reading)
        });
        self.timers.arm(conn.0, deadline, &mut entry.armed);
        if is_due && !entry.is_listed {
            entry.is_listed = true;
            self.outputs.push_back(ShardOutput::Service(conn));
        }
    }

    /// Answers a request as a whole.
    pub(super) fn respond(&mut self, conn: ConnId, id: RequestId, response: Response) {
        self.metrics().answered(response.status);
        if let Some(entry) = self.connections.get_mut(conn.0) {
            entry.http().respond(id, response);
            self.touch(conn);
        }
    }

    fn on_event(&mut self, conn: ConnId, event: Event) {
        match event {
            Event::Request { id, request } => self.on_request(conn, id, &request, false),
            Event::RequestHead { request } => self.on_request_head(conn, &request),
            Event::WebSocketUpgrade { id, request } => self.on_request(conn, id, &request, true),
            Event::Message(bytes) => self.on_session_bytes(conn, bytes),
            Event::OutputDrained => self.on_drained(conn),
            Event::Closed { .. } => self.on_closed(conn),
            // Only a client hears of responses; the end of a WebSocket is followed by `Closed`.
            _ => {}
        }
    }

    fn on_request(&mut self, conn: ConnId, id: RequestId, request: &Request, is_upgrade: bool) {
        if self.config.has_panic_handler {
            api::bench::panic_if_asked(request);
        }
        if self.config.has_empty_handler
            && let Some(response) = api::bench::answer(request)
        {
            return self.respond(conn, id, response);
        }
        let Some(entry) = self.connections.get(conn.0) else { return };
        if let Some(response) = self.config.gate.refuse(request, is_upgrade, entry.door) {
            return self.respond(conn, id, response);
        }
        match api::route(request, is_upgrade, entry.door, &self.config.admin_token) {
            Call::Respond(response) => self.respond(conn, id, response),
            Call::Execute(call) => self.on_execute(conn, id, request, call),
            Call::Session(call) => self.on_session_call(conn, id, request, call),
            Call::Live => {
                let response = api::health::live(&self.shared, self.now.mono);
                self.respond(conn, id, response);
            }
            Call::Ready => {
                let response = api::health::ready(&self.shared, self.now.wall);
                self.respond(conn, id, response);
            }
            Call::Metrics => {
                let text = metrics::render(&self.shared, self.now.wall);
                let response = Response::new(200, "text/plain; version=0.0.4", Bytes::from(text));
                self.respond(conn, id, response);
            }
            Call::Admin(call) => {
                self.note_known(conn);
                self.on_admin(conn, id, call);
            }
        }
    }

    /// The key is looked at before the body: reading a body costs more than asking for a key does.
    fn on_execute(&mut self, conn: ConnId, id: RequestId, request: &Request, call: ExecuteCall) {
        if self.shared.phase() == Phase::Starting {
            let kind = node::ErrorKind::Unavailable;
            let response = reply::failure(503, kind, STARTING);
            return self.respond(conn, id, response);
        }
        match self.check_shown(conn, call.app, call.bearer.as_deref()) {
            Ok(()) => {}
            // A key that is made in the transaction to be waited for is not known yet.
            Err(_) if call.min_txn.is_some_and(|txn| txn > self.rack().applied()) => {}
            Err(error) => return self.respond(conn, id, reply::unauthorized(&error)),
        }
        if self.is_read_elsewhere(conn, request.body()) {
            return self.read_elsewhere(conn, id, request, call);
        }
        let ExecuteCall { app, bearer, mode, min_txn } = call;
        let (statement, args) = match api::statement(request.body()) {
            Ok(read) => read,
            Err(response) => return self.respond(conn, id, response),
        };
        let deadline = self.statement_deadline();
        let credential = Credential::Bearer(bearer);
        let execute = Execute { app, credential, statement, args, mode, min_txn, deadline };
        self.metrics().add(Metric::Statements, 1);
        self.ask(conn, id, Purpose::Statement, node::Request::Execute(execute));
    }

    /// Hands a request of a connection to the nodes.
    pub(super) fn ask(
        &mut self,
        conn: ConnId,
        id: RequestId,
        purpose: Purpose,
        body: node::Request,
    ) {
        let Some(entry) = self.connections.get_mut(conn.0) else { return };
        let key = self.pending.insert(Pending::new(Client::Connection(conn, id), purpose));
        entry.requests.push(key);
        // A request that lay behind others when its client closed its side has its moment too.
        let is_leaving = entry.is_leaving;
        self.input(RackInput::Request { request: node::RequestId(key), body });
        if is_leaving {
            self.note_leaving(conn);
        }
    }

    /// Nobody waits for answers any more.
    fn on_closed(&mut self, conn: ConnId) {
        self.give_back_place(conn);
        self.unread.forget(conn);
        let Some(entry) = self.connections.get_mut(conn.0) else { return };
        let session = entry.session.take();
        for key in std::mem::take(&mut entry.requests) {
            self.pending.remove(key);
            self.input(RackInput::Cancel { request: node::RequestId(key) });
        }
        if session.is_some() {
            self.close_session(conn);
        }
    }
}

/// The close code of a server that shuts down.
const GOING_AWAY: u16 = 1001;
