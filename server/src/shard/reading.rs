//! Statements whose bodies are too large to be read between two looks at everybody else: see [`crate::reader`].

use std::sync::Arc;

use bigpeer_connection::{Request, RequestId};
use bigpeer_core::ident::{AppId, Txn};
use bigpeer_core::node::{self, Credential, Execute, ObjectMode, RackInput};
use bigpeer_core::time::Instant;
use bigpeer_core::value::Object;

use super::answer::{Client, Pending, Purpose};
use super::connection::ConnId;
use super::{STATEMENT_NS_MAX, Shard, ShardOutput};
use crate::api::ExecuteCall;
use crate::metrics::Metric;
use crate::reader::Read;

/// A statement without its text.
#[derive(Debug)]
pub(super) struct Unread {
    conn: ConnId,
    id: RequestId,
    app: AppId,
    bearer: Option<Box<str>>,
    mode: ObjectMode,
    min_txn: Option<Txn>,
    deadline: Instant,
}

impl Shard {
    /// Lets the body of a statement be read elsewhere. Its time runs from here on.
    pub(super) fn read_elsewhere(
        &mut self,
        conn: ConnId,
        id: RequestId,
        request: &Request,
        call: ExecuteCall,
    ) {
        let deadline = self.statement_deadline();
        let Some(entry) = self.connections.get_mut(conn.0) else { return };
        let ExecuteCall { app, bearer, mode, min_txn } = call;
        let key =
            self.pending.insert(Pending::new(Client::Connection(conn, id), Purpose::Statement));
        entry.requests.push(key);
        self.unread.insert(key, Unread { conn, id, app, bearer, mode, min_txn, deadline });
        let body = request.clone().into_body();
        self.outputs.push_back(ShardOutput::Read(key, body));
    }

    pub(super) fn statement_deadline(&self) -> Instant {
        Instant { ns: self.now.mono.ns.saturating_add(STATEMENT_NS_MAX) }
    }

    /// A body was read: the statement begins, or is refused. A client that is gone meanwhile asks for nothing more.
    pub fn handle_read(&mut self, key: u64, read: Read) {
        let unread = self.unread.remove(&key).expect("each body is read once");
        if self.pending.get(key).is_none() {
            return;
        }
        let Unread { conn, id, app, bearer, mode, min_txn, deadline } = unread;
        match read {
            Read::Refused(response) => {
                self.pending.remove(key);
                self.forget_request(conn, key);
                self.respond(conn, id, *response);
            }
            Read::Failed(outcome) => self.on_done(key, &outcome),
            Read::Statement(bound) => {
                self.metrics().add(Metric::Statements, 1);
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
