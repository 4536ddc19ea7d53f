//! Sync sessions: a WebSocket, or a stream of frames, and the session of the nodes behind it. A session has the
//! name of its connection.

use std::collections::VecDeque;

use bigpeer_connection::{Request, RequestId, SendError};
use bigpeer_core::node::{Credential, RackInput, SessionId, SessionInput, SessionOpen};
use bytes::Bytes;

use super::Shard;
use super::admission::STARTING;
use super::connection::Machine;
use super::connection::{ConnId, either};
use crate::api::{SessionCall, preamble, reply};
use crate::logging::{self, Level, Repeated};
use crate::shared::Phase;

/// How much may wait for a device that does not read. A device that falls further behind is cut off: it comes
/// back and goes on from its own cursor.
const QUEUE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The close code for a device that breaks a rule of ours.
const POLICY: u16 = 1008;

/// The close code for a session that ended in order.
const NORMAL: u16 = 1000;

/// The close code that asks to come back later.
const TRY_LATER: u16 = 1013;

/// What waits for a device.
#[derive(Debug, Default)]
pub(super) struct Session {
    queue: VecDeque<Bytes>,
    queue_bytes: usize,
    /// Close with this code once the queue is empty.
    closing: Option<u16>,
}

impl Shard {
    pub(super) fn on_session_call(
        &mut self,
        conn: ConnId,
        id: RequestId,
        request: &Request,
        call: SessionCall,
    ) {
        if self.shared.phase() == Phase::Starting {
            return self.respond(conn, id, reply::message(503, STARTING));
        }
        if let Err(error) = self.check_device(call.app, call.bearer.as_deref()) {
            return self.respond(conn, id, reply::unauthorized_device(&error));
        }
        self.note_known(conn);
        let Some(entry) = self.connections.get_mut(conn.0) else { return };
        let protocol = request.websocket_protocols().next();
        entry.http().accept_websocket(id, protocol);
        self.open_session(conn, call);
        self.touch(conn);
    }

    /// A whole message of a device. The first on a bare stream says for whom the session is.
    pub(super) fn on_session_bytes(&mut self, conn: ConnId, bytes: Bytes) {
        let Some(entry) = self.connections.get_mut(conn.0) else { return };
        if entry.session.is_some() {
            let input = SessionInput::Frame(bytes);
            return self.input(RackInput::Session { session: SessionId(conn.0), input });
        }
        let now = self.now.mono;
        if self.shared.phase() == Phase::Starting {
            return either!(&mut entry.machine, it => it.close(TRY_LATER, now));
        }
        let call = preamble::decode(&bytes).map_err(|error| error.to_string()).and_then(|call| {
            let checked = self.check_device(call.app, call.bearer.as_deref());
            checked.map(|()| call).map_err(|error| error.to_string())
        });
        let Some(entry) = self.connections.get_mut(conn.0) else { return };
        match call {
            Ok(call) => {
                if let Machine::Framed(stream) = &mut entry.machine {
                    stream.admit();
                }
                self.note_known(conn);
                self.open_session(conn, call);
            }
            Err(cause) => {
                static REFUSED: Repeated = Repeated::new();
                let fields = [("cause", &*cause)];
                logging::repeated(&REFUSED, Level::Info, "peer refused", &fields);
                either!(&mut entry.machine, it => it.close(POLICY, now));
            }
        }
    }

    /// A frame for a device.
    pub(super) fn on_frame(&mut self, session: SessionId, frame: Bytes) {
        let conn = ConnId(session.0);
        let Some(entry) = self.connections.get_mut(conn.0) else { return };
        let Some(waiting) = &mut entry.session else { return };
        waiting.queue_bytes += frame.len();
        waiting.queue.push_back(frame);
        if waiting.queue_bytes > QUEUE_BYTES_MAX {
            waiting.queue.clear();
            waiting.queue_bytes = 0;
            waiting.closing = Some(TRY_LATER);
            static CUT_OFF: Repeated = Repeated::new();
            let fields = [("cause", "it does not read what it is sent")];
            logging::repeated(&CUT_OFF, Level::Info, "peer cut off", &fields);
        }
        self.flush_session(conn);
        self.touch(conn);
    }

    pub(super) fn on_close_session(&mut self, session: SessionId, reason: &str) {
        let conn = ConnId(session.0);
        static CLOSED: Repeated = Repeated::new();
        logging::repeated(&CLOSED, Level::Info, "session closed", &[("cause", reason)]);
        let Some(entry) = self.connections.get_mut(conn.0) else { return };
        if let Some(waiting) = &mut entry.session {
            waiting.closing.get_or_insert(NORMAL);
        }
        self.flush_session(conn);
        self.touch(conn);
    }

    /// Sends what waits, as far as there is credit.
    pub(super) fn flush_session(&mut self, conn: ConnId) {
        let now = self.now.mono;
        let Some(entry) = self.connections.get_mut(conn.0) else { return };
        let Some(waiting) = &mut entry.session else { return };
        while let Some(frame) = waiting.queue.front() {
            let sent = either!(&mut entry.machine, it => it.send_message(frame.clone()));
            match sent {
                Ok(()) | Err(SendError::Closed) => {}
                Err(SendError::NoCredit) => return,
                Err(error) => {
                    static NOT_SENT: Repeated = Repeated::new();
                    let fields = [("cause", &*error.to_string())];
                    logging::repeated(&NOT_SENT, Level::Error, "frame not sent", &fields);
                    waiting.closing = Some(POLICY);
                }
            }
            waiting.queue_bytes -= frame.len();
            waiting.queue.pop_front();
        }
        if let Some(code) = waiting.closing.take() {
            either!(&mut entry.machine, it => it.close(code, now));
        }
    }

    /// The connection of a session is gone.
    pub(super) fn close_session(&mut self, conn: ConnId) {
        self.sessions_open -= 1;
        let input = SessionInput::Closed;
        self.input(RackInput::Session { session: SessionId(conn.0), input });
    }

    fn open_session(&mut self, conn: ConnId, call: SessionCall) {
        let Some(entry) = self.connections.get_mut(conn.0) else { return };
        entry.session = Some(Session::default());
        self.sessions_open += 1;
        let credential = Credential::Bearer(call.bearer);
        let open = SessionOpen { app: call.app, credential };
        let input = SessionInput::Open(open);
        self.input(RackInput::Session { session: SessionId(conn.0), input });
    }
}
