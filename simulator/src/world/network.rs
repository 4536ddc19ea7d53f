//! Connections: bytes between a client or device and the server, with delay, loss and partition.

use std::collections::VecDeque;
use std::sync::Arc;

use bigpeer_connection::{
    ClientConnection, Config, Event as NetEvent, RequestId as HttpId, ServerConnection,
    WebSocketRequest,
};
use bigpeer_core::node::{SessionInput, SessionOpen};
use bigpeer_core::time::Instant;
use bytes::Bytes;

use super::clock::{MS, SECOND, US};
use super::process::{APP, ProcessId, SERVER};
use super::{Event, World, api};
use crate::check::promise::Promise;
use crate::check::wire::Wire;
use crate::coverage::Seen;

/// Names a connection, and the session on it at both ends.
pub(crate) type ConnectionId = u64;

/// An end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The end that connected.
    Near,
    /// The server's.
    Far,
}

/// Who connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Client(usize),
    Device(ProcessId),
    /// A peer that lies.
    Hostile(usize),
}

/// One connection with both its machines.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) owner: Owner,
    pub(crate) near: ClientConnection,
    pub(super) far: ServerConnection,
    /// The server's thread that accepted it.
    thread: u16,
    is_near_open: bool,
    is_far_open: bool,
    /// A chunk is on its way, by direction: to the server, from the server.
    busy: [bool; 2],
    eof_sent: [bool; 2],
    /// Messages that wait for credit, by direction.
    pub(super) waiting: [VecDeque<Bytes>; 2],
    /// The judge of what its session tells about documents.
    pub(super) wire: Wire,
    /// Promises to its device that it has not heard of yet, oldest first.
    pub(super) promises: VecDeque<Promise>,
    pub(super) has_far_session: bool,
    pub(super) has_near_session: bool,
    pub(super) opened_ns: u64,
    delay_ns: u64,
}

impl World {
    /// True when another device with the same identity has a session on another thread of the server.
    fn meets_clone_apart(&self, owner: Owner, thread: u16) -> bool {
        let Owner::Device(device) = owner else { return false };
        let is_clone = |owner: Owner| {
            let Owner::Device(other) = owner else { return false };
            other != device && self.processes[other].peer_key == self.processes[device].peer_key
        };
        let mut others = self.connections.values().filter(|it| it.has_far_session);
        others.any(|it| is_clone(it.owner) && it.thread != thread)
    }

    /// Connects a client or a device to the server, which must be ready.
    pub(crate) fn connect(&mut self, owner: Owner) -> ConnectionId {
        self.connection_next += 1;
        let id = self.connection_next;
        let config = Arc::new(Config::default());
        let now = self.instant();
        let mut near = ClientConnection::new(config.clone(), None, now).expect("there is no TLS");
        let far = ServerConnection::new(config, None, now).expect("there is no TLS");
        let drawn = self.delays.below(u64::from(self.threads(SERVER))) as u16;
        let thread = match owner {
            Owner::Device(device) if self.is_pinned => device as u16 % self.threads(SERVER),
            _ => drawn,
        };
        if self.meets_clone_apart(owner, thread) {
            self.saw(Seen::ClonesApart);
        }
        let token = match owner {
            Owner::Client(_) => None,
            Owner::Device(device) => Some(self.devices[device - 1].token()),
            Owner::Hostile(index) => Some(self.hostile[index].profile.key().to_owned()),
        };
        if let Some(token) = token {
            let token = format!("Bearer {token}");
            let request = WebSocketRequest {
                target: "/_ditto",
                host: "server",
                protocols: &["bigpeer.1"],
                headers: &[("Authorization", &token)],
            };
            near.open_websocket(&request, self.rng.split()).expect("the connection is new");
        }
        let connection = Connection {
            owner,
            near,
            far,
            thread,
            is_near_open: true,
            is_far_open: true,
            busy: [false; 2],
            eof_sent: [false; 2],
            waiting: [VecDeque::new(), VecDeque::new()],
            wire: Wire::default(),
            promises: VecDeque::new(),
            has_far_session: false,
            opened_ns: self.clock.now_ns(),
            has_near_session: false,
            delay_ns: 100 * US + self.delays.below(10 * MS),
        };
        self.connections.insert(id, connection);
        self.pump(id);
        id
    }

    pub(crate) fn instant(&self) -> Instant {
        Instant { ns: self.clock.now_ns() }
    }

    /// Takes what a connection's machines have to say, and moves their bytes.
    pub(crate) fn pump(&mut self, id: ConnectionId) {
        loop {
            let Some(connection) = self.connections.get_mut(&id) else { return };
            if connection.is_near_open
                && let Some(event) = connection.near.poll_event()
            {
                self.on_near_event(id, event);
                continue;
            }
            let Some(connection) = self.connections.get_mut(&id) else { return };
            if connection.is_far_open
                && let Some(event) = connection.far.poll_event()
            {
                self.on_far_event(id, event);
                continue;
            }
            break;
        }
        self.transmit(id, Side::Far);
        self.transmit(id, Side::Near);
        self.note_ends(id);
        self.arm(id);
    }

    /// Sends the next chunk towards `to`.
    fn transmit(&mut self, id: ConnectionId, to: Side) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.busy[to as usize] {
            return;
        }
        let bytes_max =
            if self.odds.one_in(8) { 1 + self.delays.below(64) } else { 16 * 1024 } as usize;
        let mut bytes = Vec::new();
        let count = match to {
            Side::Far if connection.is_near_open => {
                connection.near.poll_transmit(&mut bytes, bytes_max)
            }
            Side::Near if connection.is_far_open => {
                connection.far.poll_transmit(&mut bytes, bytes_max)
            }
            _ => 0,
        };
        if count > 0 {
            connection.busy[to as usize] = true;
            let jitter = self.delays.below(connection.delay_ns);
            let delay_ns = connection.delay_ns / 2 + jitter;
            self.clock.after(delay_ns, Event::Bytes { connection: id, to, bytes });
        }
    }

    /// True while the direction of a device's connection lets nothing through.
    fn is_blocked(&self, owner: Owner, to: Side) -> bool {
        match owner {
            Owner::Client(_) | Owner::Hostile(_) => false,
            Owner::Device(device) => self.devices[device - 1].blocked[to as usize],
        }
    }

    pub(crate) fn on_bytes(&mut self, id: ConnectionId, to: Side, bytes: Vec<u8>) {
        let now = self.instant();
        let Some(owner) = self.connections.get(&id).map(|connection| connection.owner) else {
            return;
        };
        if self.is_blocked(owner, to) {
            return self.clock.after(400 * MS, Event::Bytes { connection: id, to, bytes });
        }
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let (is_open, wants) = match to {
            Side::Far => {
                (connection.is_far_open && !connection.far.is_closed(), connection.far.wants_read())
            }
            Side::Near => (
                connection.is_near_open && !connection.near.is_closed(),
                connection.near.wants_read(),
            ),
        };
        if is_open && !wants {
            return self.clock.after(MS, Event::Bytes { connection: id, to, bytes });
        }
        self.trace.mix_bytes(&bytes);
        connection.busy[to as usize] = false;
        match to {
            Side::Far => {
                if connection.is_far_open {
                    connection.far.handle_bytes(&bytes, now);
                }
                connection.near.handle_sent(bytes.len(), now);
            }
            Side::Near => {
                if connection.is_near_open {
                    connection.near.handle_bytes(&bytes, now);
                }
                connection.far.handle_sent(bytes.len(), now);
            }
        }
        self.pump(id);
    }

    /// Tells each end that the other has closed, after the bytes that were sent before.
    fn note_ends(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let near_ends = !connection.is_near_open
            || connection.near.is_closed()
            || connection.near.wants_shutdown();
        let far_ends = !connection.is_far_open
            || connection.far.is_closed()
            || connection.far.wants_shutdown();
        for (to, ends) in [(Side::Far, near_ends), (Side::Near, far_ends)] {
            let place = to as usize;
            if ends && !connection.busy[place] && !connection.eof_sent[place] {
                connection.eof_sent[place] = true;
                self.clock.after(connection.delay_ns, Event::End { connection: id, to });
            }
        }
        let is_over = |is_open: bool, is_closed: bool| !is_open || is_closed;
        if is_over(connection.is_near_open, connection.near.is_closed())
            && is_over(connection.is_far_open, connection.far.is_closed())
            && connection.eof_sent == [true; 2]
        {
            self.lose_near(id);
            self.lose_far(id);
            self.connections.remove(&id);
        }
    }

    /// The stream towards `to` has ended, or the connection was cut.
    pub(crate) fn on_end(&mut self, id: ConnectionId, to: Side) {
        let now = self.instant();
        let Some(connection) = self.connections.get_mut(&id) else { return };
        match to {
            Side::Far if connection.is_far_open && connection.is_near_open => {
                connection.far.handle_eof(now);
            }
            Side::Near if connection.is_near_open && connection.is_far_open => {
                connection.near.handle_eof(now);
            }
            Side::Far if connection.is_far_open => connection.far.handle_reset(now),
            Side::Near if connection.is_near_open => connection.near.handle_reset(now),
            _ => {}
        }
        self.pump(id);
    }

    /// Wakes the machines when a deadline of theirs has come.
    fn arm(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get(&id) else { return };
        let near = connection.near.poll_timeout().filter(|_| connection.is_near_open);
        let far = connection.far.poll_timeout().filter(|_| connection.is_far_open);
        if let Some((at, _)) = near.into_iter().chain(far).min() {
            // One wake-up in flight is enough: it arms the next.
            if self.armed.insert(id) {
                self.clock.at(at.ns.max(self.clock.now_ns() + MS), Event::ConnectionWake(id));
            }
        }
    }

    pub(crate) fn on_connection_wake(&mut self, id: ConnectionId) {
        self.armed.remove(&id);
        let now = self.instant();
        if let Some(connection) = self.connections.get_mut(&id) {
            if connection.is_near_open {
                connection.near.handle_timeout(now);
            }
            if connection.is_far_open {
                connection.far.handle_timeout(now);
            }
            self.pump(id);
        }
    }

    /// Cuts a connection: each end hears of it in its own time.
    pub(crate) fn cut(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let now = Instant { ns: self.clock.now_ns() };
        connection.near.handle_reset(now);
        let late_ns = self.delays.below(2 * SECOND);
        self.clock.after(late_ns, Event::Cut { connection: id });
        self.pump(id);
    }

    pub(crate) fn on_cut(&mut self, id: ConnectionId) {
        let now = self.instant();
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.far.handle_reset(now);
            self.pump(id);
        }
    }

    /// A process is gone, and its sockets with it.
    pub(crate) fn drop_connections_of(&mut self, process: ProcessId) {
        let ids: Vec<ConnectionId> = self.connections.keys().copied().collect();
        for id in ids {
            let Some(connection) = self.connections.get_mut(&id) else { continue };
            if process == SERVER {
                connection.is_far_open = false;
                connection.has_far_session = false;
            } else if connection.owner == Owner::Device(process) {
                connection.is_near_open = false;
                connection.has_near_session = false;
            } else {
                continue;
            }
            self.pump(id);
        }
    }

    fn on_near_event(&mut self, id: ConnectionId, event: NetEvent) {
        let Some(owner) = self.connections.get(&id).map(|connection| connection.owner) else {
            return;
        };
        match (owner, event) {
            (Owner::Client(client), event) => self.on_client_event(client, id, event),
            (Owner::Device(device), NetEvent::WebSocketOpen { .. }) => {
                self.open_session(device, id);
            }
            (Owner::Device(device), NetEvent::Message(frame)) => {
                self.session(device, 0, id, SessionInput::Frame(frame));
            }
            (Owner::Device(_), NetEvent::OutputDrained) => self.flush(id, Side::Far),
            (Owner::Device(_), NetEvent::WebSocketClosed { .. } | NetEvent::Closed { .. }) => {
                self.lose_near(id);
            }
            (Owner::Hostile(index), event) => self.on_hostile_event(index, id, event),
            (Owner::Device(_), _) => {}
        }
    }

    fn on_far_event(&mut self, id: ConnectionId, event: NetEvent) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let thread = connection.thread;
        match event {
            NetEvent::Request { id: http, request } => self.on_http(id, thread, http, &request),
            NetEvent::WebSocketUpgrade { id: http, request } => {
                let token = request.authorization().and_then(|text| text.strip_prefix("Bearer "));
                let token = token.map(Into::into);
                if !self.is_ready(SERVER) {
                    let connection = self.connections.get_mut(&id).expect("it was just seen");
                    return connection.far.respond(http, api::unavailable());
                }
                let connection = self.connections.get_mut(&id).expect("it was just seen");
                connection.far.accept_websocket(http, request.websocket_protocols().next());
                connection.has_far_session = true;
                let credential = bigpeer_core::node::Credential::Bearer(token);
                let open = SessionOpen { app: APP, credential };
                self.session(SERVER, thread, id, SessionInput::Open(open));
            }
            NetEvent::Message(frame) => {
                let is_hostile = matches!(connection.owner, Owner::Hostile(_));
                let waiting = if is_hostile { connection.wire.server_hears(&frame) } else { 0 };
                self.session(SERVER, thread, id, SessionInput::Frame(frame));
                self.judge_subs(id, waiting);
            }
            NetEvent::OutputDrained => self.flush(id, Side::Near),
            NetEvent::WebSocketClosed { .. } | NetEvent::Closed { .. } => self.lose_far(id),
            _ => {}
        }
    }

    fn on_http(
        &mut self,
        id: ConnectionId,
        thread: u16,
        http: HttpId,
        request: &bigpeer_connection::Request,
    ) {
        let parsed =
            if self.is_ready(SERVER) { api::parse(request) } else { Err(api::unavailable()) };
        match parsed {
            Ok(mut execute) => {
                execute.deadline = self.deadline(SERVER, 20 * SECOND);
                let asker = super::Asker::Http { connection: id, http, rows: Vec::new() };
                self.ask(SERVER, thread, bigpeer_core::node::Request::Execute(execute), asker);
            }
            Err(response) => {
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.far.respond(http, response);
                }
            }
        }
    }

    /// Answers an HTTP request, if anybody still waits.
    pub(crate) fn respond(
        &mut self,
        id: ConnectionId,
        http: HttpId,
        response: bigpeer_connection::Response,
    ) {
        if let Some(connection) = self.connections.get_mut(&id)
            && connection.is_far_open
        {
            connection.far.respond(http, response);
            self.clock.after(0, Event::Pump(id));
        }
    }

    /// The near end has closed.
    fn lose_near(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let had_session = std::mem::take(&mut connection.has_near_session);
        match connection.owner {
            Owner::Client(client) => self.on_client_lost(client, id),
            Owner::Hostile(index) => self.on_hostile_lost(index, id),
            Owner::Device(device) => {
                if had_session {
                    self.session(device, 0, id, SessionInput::Closed);
                }
                self.on_device_lost(device, id);
            }
        }
    }

    /// The server's end has closed.
    fn lose_far(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let thread = connection.thread;
        if std::mem::take(&mut connection.has_far_session) {
            self.session(SERVER, thread, id, SessionInput::Closed);
        }
    }
}
