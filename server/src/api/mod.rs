//! What an HTTP request asks for, and how an answer is written. Pure functions over whole requests and outcomes:
//! no connection, no shard, no clock.
//!
//! [`route()`] turns a request into a [`Call`]; whoever carries the call out answers with the functions of
//! [`reply`]. A request that cannot be a call is answered at once, with a text that says what to do instead.

pub mod admin;
pub mod bench;
mod body;
pub mod gate;
pub mod health;
pub mod preamble;
pub mod reply;
mod root;
mod route;
mod timestamp;

use bigpeer_connection::Response;
use bigpeer_core::ident::{AppId, Txn};
use bigpeer_core::node::ObjectMode;

pub use admin::AdminCall;
pub use route::{AtHead, route, route_head, statement};

/// Which door a connection came through. Each serves its own routes; health is on both HTTP doors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// The data API and the sync WebSocket.
    Data,
    /// Peer frames on a bare stream.
    Peer,
    /// Metrics and administration.
    Admin,
}

/// What a request asks for.
#[derive(Debug)]
pub enum Call {
    /// Nothing that needs more than this answer.
    Respond(Response),
    /// Run a statement.
    Execute(ExecuteCall),
    /// Become the WebSocket of a sync session.
    Session(SessionCall),
    /// Say that the process lives.
    Live,
    /// Say whether requests are answered, and if not, why.
    Ready,
    /// Show the counters.
    Metrics,
    /// Change or list apps and keys. The token has been checked.
    Admin(AdminCall),
}

/// A statement to run: what the head says of it. [`statement`] reads the rest, once the credential is known to open.
#[derive(Debug, PartialEq)]
pub struct ExecuteCall {
    /// Whose documents.
    pub app: AppId,
    /// The text behind `Authorization: Bearer`.
    pub bearer: Option<Box<str>>,
    /// How objects are written: version 4 of the API as registers, version 5 as maps.
    pub mode: ObjectMode,
    /// The answer must include this transaction.
    pub min_txn: Option<Txn>,
}

/// A session that a device opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionCall {
    /// Whose documents.
    pub app: AppId,
    /// The text of the token, if one was shown.
    pub bearer: Option<Box<str>>,
}
