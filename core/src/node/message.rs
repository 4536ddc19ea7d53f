//! Messages between the nodes of one machine, and later between machines: the same struct in a mailbox and,
//! encoded, on a wire.

use std::sync::Arc;

use super::request::RequestError;
use crate::auth::{CatalogOp, SharedPermissions};
use crate::dql::{Bound, PartOut};
use crate::ident::{AppId, BootId, DocId, PartitionId, Txn, TxnId};
use crate::log::transaction::Op;

use crate::store::Outcome;

use super::mutation::Mutation;
use super::sync_ask::{FromSession, ToSession};

/// Names a piece of work that one node does for another; unique within the node that asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// One message. Delivered in order per link; a duplicate is dropped by its sequence.
#[derive(Clone, Debug)]
pub struct Message {
    /// Who sent it.
    pub from: PartitionId,
    /// Whom it is for.
    pub to: PartitionId,
    /// The sender's process.
    pub boot: BootId,
    /// Rises by one on each link.
    pub sequence: u64,
    /// The receiver applies the log up to here before it acts.
    pub watermark: Txn,
    /// What it says.
    pub body: Body,
}

/// What a message says.
#[derive(Clone, Debug)]
pub enum Body {
    /// Run this part of a read as of the watermark's transaction `at`.
    Select {
        /// Whom to answer.
        call: CallId,
        /// The statement with its arguments.
        bound: Bound,
        /// Whose documents.
        app: AppId,
        /// What the asker may read.
        permissions: SharedPermissions,
        /// Read as of this transaction.
        at: Txn,
        /// How many partitions take part, and share the memory that the statement may hold.
        sharing: usize,
    },
    /// Some rows of a read.
    Selected {
        /// Which call.
        call: CallId,
        /// The rows; the last part says so.
        result: Result<Box<PartOut>, RequestError>,
    },
    /// More rows are wanted.
    SelectMore {
        /// Which call.
        call: CallId,
    },
    /// Nothing more of this call is wanted.
    Cancel {
        /// Which call.
        call: CallId,
    },
    /// Author, append and answer when committed: all documents are the receiver's.
    Mutate {
        /// Whom to answer.
        call: CallId,
        /// What to do.
        mutation: Arc<Mutation>,
        /// To which documents, in canonical order.
        ids: Vec<DocId>,
    },
    /// Author and hold the documents; the sender appends one record for all partitions.
    Prepare {
        /// Whom to answer.
        call: CallId,
        /// The record they will be part of.
        txn_id: TxnId,
        /// What to do.
        mutation: Arc<Mutation>,
        /// To which of the receiver's documents.
        ids: Vec<DocId>,
    },
    /// The operations that were asked for.
    Prepared {
        /// Which call.
        call: CallId,
        /// Operations, or why there are none.
        result: Result<Prepared, RequestError>,
    },
    /// The record of this call will not be appended: let go of the documents.
    Abandon {
        /// The record.
        txn_id: TxnId,
    },
    /// A mutation has ended.
    Mutated {
        /// Which call.
        call: CallId,
        /// The committed transaction and the ids it wrote, or why not.
        result: Result<(Txn, Vec<DocId>), RequestError>,
    },
    /// Change the catalog: always sent to partition 0, which puts changes in order.
    Catalog {
        /// Whom to answer.
        call: CallId,
        /// The changes, which are made together.
        ops: Vec<CatalogOp>,
    },
    /// To the node that appended a peer's update: an owner has applied its part of it.
    Applied {
        /// The record.
        id: TxnId,
        /// The operations that did not take effect, by their index in the record.
        void: Vec<(u32, Outcome)>,
    },
    /// The store was rolled back or cloned, or leaves a wrong time: the receiver authors under this epoch from here
    /// on. The sender has said so to the driver before.
    NewEpoch {
        /// The epoch to author under.
        epoch: u64,
    },
    /// From a session's node to an owner of documents.
    FromSession(FromSession),
    /// From an owner of documents to a session's node.
    ToSession(ToSession),
}

/// What one partition contributes to a record.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// Its operations.
    pub ops: Vec<Op>,
    /// The documents it wrote.
    pub mutated: Vec<DocId>,
}
