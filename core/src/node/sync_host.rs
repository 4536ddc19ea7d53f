//! The host of sync sessions: turns what a session asks into messages to the owners of documents, and their
//! answers back.

use bytes::Bytes;

use super::request::Credential;
use crate::ident::{AppId, PeerKey, Txn};
use crate::value::{Object, Value};

/// Names a session on its thread; chosen by the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// How a session begins. The connection is up; nothing was sent yet.
#[derive(Clone, Debug)]
pub struct SessionOpen {
    /// Whose documents.
    pub app: AppId,
    /// What the remote showed: a server checks it, a device passes `Credential::Local`.
    pub credential: Credential,
    /// True on the side that answers devices.
    pub is_server: bool,
}

/// Something that happened to a session.
#[derive(Clone, Debug)]
pub enum SessionInput {
    /// Its connection is up.
    Open(SessionOpen),
    /// A whole frame arrived, not yet decoded, not yet trusted.
    Frame(Bytes),
    /// The application asks for the documents of these queries, instead of those before.
    Subscribe(Vec<(Box<str>, Object)>),
    /// The application wants to know when both sides agree.
    Probe,
    /// The connection is gone.
    Closed,
}

/// What the owner of a session may want to know.
#[derive(Clone, Debug, PartialEq)]
pub enum SessionReport {
    /// The remote said hello: documents may flow.
    Ready {
        /// Who it is.
        peer: PeerKey,
    },
    /// Every local commit up to here is durable at the remote, and the remote had nothing newer for our
    /// subscriptions when it received our probe.
    Synced {
        /// The local commit.
        upto: Txn,
    },
    /// The remote does not take a document of ours.
    Rejected {
        /// Its collection.
        collection: Box<str>,
        /// Its id.
        id: Value,
        /// Why.
        reason: Box<str>,
    },
}
