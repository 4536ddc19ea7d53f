//! What clients ask of a node, and what they get.

use std::sync::Arc;

use bytes::Bytes;

use crate::auth::CatalogOp;
use crate::dql::Bound;
use crate::ident::{AppId, Txn};
use crate::time::Instant;
use crate::value::{Object, Value};

/// Names a request until its last reply. Chosen by the driver, unique within the node it is handed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// A request of a client.
#[derive(Clone, Debug)]
pub enum Request {
    /// Run one statement.
    Execute(Execute),
    /// The same, parsed and bound by whoever asks: over a large text or large values that takes longer than a thread of
    /// nodes may be kept.
    ExecuteBound {
        /// Its text and arguments are not looked at.
        execute: Execute,
        /// The statement with its arguments.
        bound: Bound,
    },
    /// Change the catalog of apps and keys: make all of these changes in one transaction, each judged as if those before
    /// it were made, or none of them. The driver has checked that the client may.
    Catalog(Vec<CatalogOp>),
    /// Answer with the catalog as JSON: apps with their keys, without secrets.
    ListCatalog,
}

/// One statement to run.
#[derive(Clone, Debug)]
pub struct Execute {
    /// Whose documents.
    pub app: AppId,
    /// On whose behalf.
    pub credential: Credential,
    /// The text of one DQL statement.
    pub statement: Arc<str>,
    /// Values for its placeholders.
    pub args: Object,
    /// How objects are written.
    pub mode: ObjectMode,
    /// The answer must include this transaction.
    pub min_txn: Option<Txn>,
    /// After this moment the request is not begun any more; what was appended by then is committed.
    pub deadline: Instant,
}

pub use crate::dql::ObjectMode;

/// Who asks.
#[derive(Clone, Debug)]
pub enum Credential {
    /// The text of an `Authorization: Bearer` header, or none.
    Bearer(Option<Box<str>>),
    /// The process itself, or the application that embeds it: everything is allowed.
    Local,
}

/// What goes back to a client. Any number of `Rows`, then one `Done`.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// Result objects as JSON, joined by commas, at least one.
    Rows(Bytes),
    /// The end of the answer.
    Done(Outcome),
}

/// The outcome of a request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// The transaction read at, or committed.
    pub txn: Option<Txn>,
    /// `select`, `insert`, …; `unknown` when the statement could not be classified.
    pub query_type: &'static str,
    /// Ids of the documents that were written.
    pub mutated: Vec<Value>,
    /// Warnings for people.
    pub warnings: Vec<Box<str>>,
    /// Why it failed.
    pub error: Option<RequestError>,
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RequestError {
    /// What the client should do differently.
    pub kind: ErrorKind,
    /// The cause, the place, and what to do.
    pub message: Box<str>,
}

/// Classes of errors that a client treats differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The statement or its arguments are wrong.
    Invalid,
    /// No credential, or one that is not accepted.
    Unauthorized,
    /// The credential does not allow it.
    Forbidden,
    /// The app is not known, or the transaction asked for is not reached.
    NotFound,
    /// A document with that id exists.
    Conflict,
    /// Too much at once: a record, a document, a result.
    TooLarge,
    /// The deadline passed; nothing was written.
    TimedOut,
    /// The disk is full; nothing was written.
    Full,
    /// Too busy, or stopping; nothing was written.
    Unavailable,
    /// The log failed: whether the write will be there after a restart is not known.
    OutcomeUnknown,
    /// Stored data failed its checks.
    DataDamaged,
}

impl RequestError {
    /// An error of the given kind.
    pub fn new(kind: ErrorKind, message: impl Into<Box<str>>) -> Self {
        Self { kind, message: message.into() }
    }
}
