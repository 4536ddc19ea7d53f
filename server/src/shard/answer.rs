//! From the replies of the nodes to answers on connections.
//!
//! A small answer is collected and sent as a whole. A large one is streamed: what the connection takes is
//! credited to the statement, which is suspended while a client does not read.

use std::collections::VecDeque;

use bigpeer_connection::{RequestId, Response, SendError};
use bigpeer_core::auth::{CatalogOp, hash};
use bigpeer_core::ident::AppId;
use bigpeer_core::node::{self, ErrorKind, Outcome, RackInput, Reply};
use bytes::Bytes;

use super::Shard;
use super::connection::ConnId;
use crate::api::admin::{self, AdminCall, NewKey};
use crate::api::reply;
use crate::first_start::new_app_id;
use crate::secrets::Secret;
use crate::shared::Phase;

/// An answer that grows beyond this is streamed.
const COLLECTED_BYTES_MAX: usize = 64 * 1024;

/// A request that the nodes have not answered in full.
#[derive(Debug)]
pub(super) struct Pending {
    client: Client,
    purpose: Purpose,
    rows: Vec<Bytes>,
    rows_bytes: usize,
    stream: Option<Stream>,
}

/// The client that waits for an answer.
#[derive(Clone, Copy, Debug)]
pub(super) enum Client {
    /// Nobody: the process asks for itself.
    Process,
    /// A request of a connection of this thread.
    Connection(ConnId, RequestId),
    /// The admin door, which has a name for its question.
    Door(u64),
}

/// What to make of the outcome.
#[derive(Debug)]
pub(super) enum Purpose {
    /// A query response.
    Statement,
    /// The app with its token, which nobody sees again.
    CreateApp { app: AppId, name: Box<str>, token: Secret },
    /// The key, which nobody sees again.
    CreateKey { name: Box<str>, key: Secret },
    /// Nothing but that it was done.
    Delete,
    /// The app and the key of the first start.
    Bootstrap,
}

/// The result of reading an administrator's request.
#[derive(Debug)]
pub(super) enum Administered {
    /// The answer is there.
    Answered(Response),
    /// The catalog has to be changed first.
    Change(Purpose, CatalogOp),
}

/// An answer that has begun.
#[derive(Debug, Default)]
struct Stream {
    /// What the connection has not taken, each with the bytes of rows in it.
    queue: VecDeque<(Bytes, u64)>,
    /// The end that follows the queue, once it is known.
    end: Option<End>,
}

/// How an answer that has begun ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The answer is whole.
    Whole,
    /// It failed. The status and some rows are gone already: what was told behind them is for those who read it, and
    /// for all others the answer lacks its end, and the connection is closed.
    Cut,
}

impl Pending {
    pub(super) fn new(client: Client, purpose: Purpose) -> Self {
        Self { client, purpose, rows: Vec::new(), rows_bytes: 0, stream: None }
    }

    /// The key of the read is worth something else by now: nothing more of its rows leaves. Of a stream a comma before
    /// one of them may be gone, but that answer lacks its end anyhow.
    fn drop_rows(&mut self) {
        self.rows.clear();
        if let Some(stream) = &mut self.stream {
            stream.queue.retain(|(chunk, _)| chunk[..] == *reply::STREAM_HEAD);
        }
    }

    /// Rows that wait for the rest of their answer, in bytes.
    #[cfg(test)]
    pub(super) fn collected(&self) -> usize {
        self.rows.iter().map(Bytes::len).sum()
    }
}

impl Stream {
    fn begin(rows: Vec<Bytes>) -> Self {
        let mut stream = Self::default();
        stream.queue.push_back((Bytes::from_static(reply::STREAM_HEAD), 0));
        for (index, rows) in rows.into_iter().enumerate() {
            if index > 0 {
                stream.queue.push_back((Bytes::from_static(b","), 0));
            }
            stream.push_rows(rows);
        }
        stream
    }

    fn push_rows(&mut self, rows: Bytes) {
        let bytes = rows.len() as u64;
        self.queue.push_back((rows, bytes));
    }
}

impl Shard {
    pub(super) fn on_reply(&mut self, request: node::RequestId, reply: Reply) {
        match reply {
            Reply::Rows(rows) => self.on_rows(request.0, rows),
            Reply::Done(outcome) => self.on_done(request.0, &outcome),
        }
    }

    fn on_rows(&mut self, key: u64, rows: Bytes) {
        let Some(pending) = self.pending.get_mut(key) else { return };
        if let Some(stream) = &mut pending.stream {
            stream.queue.push_back((Bytes::from_static(b","), 0));
            stream.push_rows(rows);
            return self.pump(key);
        }
        pending.rows_bytes += rows.len();
        pending.rows.push(rows);
        if pending.rows_bytes <= COLLECTED_BYTES_MAX {
            return;
        }
        let Client::Connection(conn, id) = pending.client else { return };
        pending.stream = Some(Stream::begin(std::mem::take(&mut pending.rows)));
        self.metrics().answered(200);
        if let Some(entry) = self.connections.get_mut(conn.0) {
            entry.http().respond_start(id, 200, "application/json");
        }
        self.pump(key);
    }

    pub(super) fn on_done(&mut self, key: u64, outcome: &Outcome) {
        let Some(pending) = self.pending.get_mut(key) else { return };
        if outcome.error.as_ref().is_some_and(|error| error.kind == ErrorKind::Unauthorized) {
            pending.drop_rows();
        }
        if let Some(stream) = &mut pending.stream {
            stream.queue.push_back((Bytes::from(reply::stream_tail(outcome)), 0));
            stream.end = Some(if outcome.error.is_some() { End::Cut } else { End::Whole });
            return self.pump(key);
        }
        let pending = self.pending.remove(key).expect("it was just there");
        let response = match (&pending.purpose, &outcome.error) {
            (Purpose::Bootstrap, _) => return self.on_bootstrap_done(outcome),
            (Purpose::Statement, _) => reply::query(outcome, &pending.rows),
            (_, Some(error)) => reply::message(reply::status(error.kind), &error.message),
            (Purpose::CreateApp { app, name, token }, None) => {
                admin::app_created(*app, name, token.reveal())
            }
            (Purpose::CreateKey { name, key }, None) => admin::key_created(name, key.reveal()),
            (Purpose::Delete, None) => Response::json(200, "{}"),
        };
        match pending.client {
            Client::Process => {}
            Client::Connection(conn, id) => {
                self.forget_request(conn, key);
                self.respond(conn, id, response);
            }
            Client::Door(question) => self.answer_door(question, response),
        }
    }

    /// The connection has room again.
    pub(super) fn on_drained(&mut self, conn: ConnId) {
        self.flush_session(conn);
        let Some(entry) = self.connections.get(conn.0) else { return };
        // Only one answer of a connection can make headway, but which one only the connection knows.
        for key in entry.requests.clone() {
            self.pump(key);
        }
    }

    /// Moves a streamed answer on, as far as the connection takes it.
    fn pump(&mut self, key: u64) {
        let Some(pending) = self.pending.get_mut(key) else { return };
        let (Some(stream), Client::Connection(conn, id)) = (&mut pending.stream, pending.client)
        else {
            return;
        };
        let Some(entry) = self.connections.get_mut(conn.0) else { return };
        let mut credited = 0;
        while let Some((chunk, row_bytes)) = stream.queue.front() {
            match entry.http().respond_chunk(id, chunk.clone()) {
                Ok(_) | Err(SendError::Closed) => {
                    credited += row_bytes;
                    stream.queue.pop_front();
                }
                Err(_) => break,
            }
        }
        if let Some(end) = stream.end
            && stream.queue.is_empty()
        {
            match end {
                End::Whole => entry.http().respond_end(id),
                End::Cut => entry.http().abort(id),
            }
            self.pending.remove(key);
            self.forget_request(conn, key);
        } else if credited > 0 {
            let request = node::RequestId(key);
            self.input(RackInput::Drained { request, bytes: credited });
        }
        self.touch(conn);
    }

    pub(super) fn forget_request(&mut self, conn: ConnId, key: u64) {
        if let Some(entry) = self.connections.get_mut(conn.0) {
            entry.requests.retain(|&request| request != key);
        }
    }

    pub(super) fn on_admin(&mut self, conn: ConnId, id: RequestId, call: AdminCall) {
        if self.shared.phase() == Phase::Starting {
            let response = reply::message(503, "the server is starting: try again in a moment");
            return self.respond(conn, id, response);
        }
        if self.rack.is_none() {
            return self.ask_first_thread(conn, id, call);
        }
        match self.administer(call) {
            Administered::Answered(response) => self.respond(conn, id, response),
            Administered::Change(purpose, op) => {
                self.ask(conn, id, purpose, node::Request::Catalog(vec![op]));
            }
        }
    }

    /// Answers what an administrator asks, or says what has to be done for it.
    pub(super) fn administer(&self, call: AdminCall) -> Administered {
        use Administered::{Answered, Change};
        match call {
            AdminCall::ListApps => Answered(admin::apps(self.catalog())),
            AdminCall::ListKeys { app } => Answered(admin::keys(self.catalog(), app)),
            AdminCall::CreateApp { name } => {
                let (purpose, op) = self.new_app(name);
                Change(purpose, op)
            }
            AdminCall::CreateKey { app, key } => {
                let (purpose, op) = self.new_key(app, key);
                Change(purpose, op)
            }
            AdminCall::DeleteApp { app } => Change(Purpose::Delete, CatalogOp::DeleteApp { app }),
            AdminCall::DeleteKey { app, name } => {
                Change(Purpose::Delete, CatalogOp::DeleteKey { app, name })
            }
        }
    }

    /// A new app with a development token; only the token's hash is logged.
    fn new_app(&self, name: Box<str>) -> (Purpose, CatalogOp) {
        let app = new_app_id(self.config.random);
        let token = Secret::token(self.config.random);
        let development_token = Some(hash(token.reveal()));
        let op = CatalogOp::PutApp { app, name: name.clone(), development_token };
        (Purpose::CreateApp { app, name, token }, op)
    }

    /// A new key; only its hash is logged.
    fn new_key(&self, app: AppId, new: NewKey) -> (Purpose, CatalogOp) {
        let text = Secret::api_key(self.config.random);
        let name = new.name.clone();
        let key = new.with_text(&text);
        (Purpose::CreateKey { name, key: text }, CatalogOp::PutKey { app, key })
    }
}
