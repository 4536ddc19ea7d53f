//! What travels between the threads of the process.

use std::sync::Arc;

use bigpeer_connection::Response;
use bigpeer_core::ident::{PartitionId, Txn};
use bigpeer_core::node::{Append, AppendRefused, Message, Record, SnapshotAsk, Ticket};
use bytes::Bytes;

use crate::api::AdminCall;

/// One message from a thread to another.
#[derive(Debug)]
pub enum Mail {
    /// From a node to a node.
    Message(Box<Message>),
    /// To the log, which lives on the first thread.
    Append(Box<Append>),
    /// From the log: an append has its position, or was refused.
    Appended {
        /// Who appended.
        from: PartitionId,
        /// Which append.
        ticket: Ticket,
        /// Its position.
        result: Result<Txn, AppendRefused>,
    },
    /// From the log: these records are durable.
    Committed {
        /// The position of the first.
        first: Txn,
        /// Transactions, one position each.
        records: Arc<[Record]>,
        /// The last position accounted for.
        upto: Txn,
    },
    /// From the log at the start: what a partition held as of the checkpoint.
    Restore {
        /// Whose part.
        partition: PartitionId,
        /// As of where.
        at: Txn,
        /// The part.
        part: Bytes,
    },
    /// From the log: a partition is asked for a checkpoint.
    Snapshot {
        /// Who is asked.
        partition: PartitionId,
        /// What.
        ask: SnapshotAsk,
    },
    /// To the log: the next part of a partition's snapshot, or its end.
    SnapshotPart {
        /// Who gives it.
        partition: PartitionId,
        /// The part.
        part: Option<Bytes>,
    },
    /// To the first thread, while the log is being read: this thread reflects everything up to here.
    Applied {
        /// Which thread.
        thread: u16,
        /// Up to where.
        upto: Txn,
    },
    /// From the thread of the admin door to the first: an administrator asks for something that takes the catalog.
    Ask {
        /// Names the question until its answer.
        question: u64,
        /// The call to carry out.
        call: Box<AdminCall>,
    },
    /// The answer to the question of that name.
    Answer {
        /// As it was asked.
        question: u64,
        /// The response that the administrator reads.
        response: Box<Response>,
    },
    /// To the first thread: this thread has no connection any more and will take none.
    Drained,
    /// From the first thread: the log is sealed, end.
    Stop,
}
