//! Statements whose bodies are too large to be read between two looks at everybody else: see [`crate::reader`].

use std::collections::VecDeque;
use std::sync::Arc;

use bigpeer_connection::{Request, RequestId};
use bigpeer_core::ident::{AppId, Txn};
use bigpeer_core::node::{self, Credential, Execute, ObjectMode, RackInput};
use bigpeer_core::time::Instant;
use bigpeer_core::value::Object;
use bytes::Bytes;

use super::answer::{Client, Pending, Purpose};
use super::connection::ConnId;
use super::{STATEMENT_NS_MAX, Shard, ShardOutput};
use crate::api::ExecuteCall;
use crate::metrics::Metric;
use crate::reader::{READ_ELSEWHERE_BYTES_MIN, Read};

/// Statements of a thread that wait for their bodies to be read, in the order in which they came. The reader has the
/// first of them: what a connection leaves behind when it closes is not read.
#[derive(Debug, Default)]
pub(super) struct Unread {
    queue: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    key: u64,
    conn: ConnId,
    id: RequestId,
    /// Nothing once the reader has it.
    body: Option<Bytes>,
    app: AppId,
    bearer: Option<Box<str>>,
    mode: ObjectMode,
    min_txn: Option<Txn>,
    deadline: Instant,
}

impl Unread {
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The body that the reader shall have next, if it has none.
    fn next(&mut self) -> Option<(u64, Bytes)> {
        let first = self.queue.front_mut()?;
        Some((first.key, first.body.take()?))
    }

    /// The connection is gone, and wants nothing any more.
    pub(super) fn forget(&mut self, conn: ConnId) {
        self.queue.retain(|waiting| waiting.conn != conn || waiting.body.is_none());
    }
}

impl Shard {
    /// Whether the body of a statement is read elsewhere: a large one, and a small one behind it on the same
    /// connection, since what a client sends in one order is begun in that order.
    pub(super) fn is_read_elsewhere(&self, conn: ConnId, body: &[u8]) -> bool {
        let waits = self.connections.get(conn.0).is_some_and(|entry| entry.unread > 0);
        waits || body.len() > READ_ELSEWHERE_BYTES_MIN
    }

    /// Lets the body of a statement be read elsewhere. Its time runs from here on.
    pub(super) fn read_elsewhere(
        &mut self,
        conn: ConnId,
        id: RequestId,
        request: &Request,
        call: ExecuteCall,
    ) {
        let deadline = self.statement_deadline();
        self.metrics().add(Metric::Statements, 1);
        let Some(entry) = self.connections.get_mut(conn.0) else { return };
        let ExecuteCall { app, bearer, mode, min_txn } = call;
        let key =
            self.pending.insert(Pending::new(Client::Connection(conn, id), Purpose::Statement));
        entry.requests.push(key);
        entry.unread += 1;
        let body = Some(request.clone().into_body());
        let waiting = Waiting { key, conn, id, body, app, bearer, mode, min_txn, deadline };
        self.unread.queue.push_back(waiting);
        if self.unread.queue.len() == 1 {
            self.read_next();
        }
    }

    pub(super) fn statement_deadline(&self) -> Instant {
        Instant { ns: self.now.mono.ns.saturating_add(STATEMENT_NS_MAX) }
    }

    fn read_next(&mut self) {
        if let Some((key, body)) = self.unread.next() {
            self.outputs.push_back(ShardOutput::Read(key, body));
        }
    }

    /// A body was read: the statement begins, or is refused. A client that is gone meanwhile asks for nothing more.
    pub fn handle_read(&mut self, key: u64, read: Read) {
        let waiting = self.unread.queue.pop_front().filter(|waiting| waiting.key == key);
        let waiting = waiting.expect("the reader has the first, and reads it once");
        self.read_next();
        if let Some(entry) = self.connections.get_mut(waiting.conn.0) {
            entry.unread -= 1;
        }
        if self.pending.get(key).is_none() {
            return;
        }
        let Waiting { conn, id, app, bearer, mode, min_txn, deadline, .. } = waiting;
        match read {
            Read::Refused(response) => {
                self.pending.remove(key);
                self.forget_request(conn, key);
                self.respond(conn, id, *response);
            }
            Read::Failed(outcome) => self.on_done(key, &outcome),
            Read::Statement(bound) => {
                let (statement, args) = (Arc::from(""), Object::new());
                let credential = Credential::Bearer(bearer);
                let execute = Execute { app, credential, statement, args, mode, min_txn, deadline };
                let body = node::Request::ExecuteBound { execute, bound: *bound };
                self.input(RackInput::Request { request: node::RequestId(key), body });
                if self.connections.get(conn.0).is_some_and(|entry| entry.is_leaving) {
                    self.note_leaving(conn);
                }
            }
        }
    }
}
