//! What travels between the threads of the process.

use std::sync::Arc;

use bigpeer_core::ident::{PartitionId, Txn};
use bigpeer_core::log::LogRecord;
use bigpeer_core::node::{Append, AppendRefused, Message, Ticket};
use bytes::Bytes;

/// One message from a thread to another.
#[derive(Debug)]
pub enum Mail {
    /// From a node to a node.
    Message(Box<Message>),
    /// To the log, which lives on the first thread.
    Append(Box<AppendMail>),
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
        /// Encoded transactions, one position each.
        records: Arc<[Bytes]>,
        /// The last position accounted for.
        upto: Txn,
    },
    /// To the first thread, while the log is being read: this thread reflects everything up to here.
    Applied {
        /// Which thread.
        thread: u16,
        /// Up to where.
        upto: Txn,
    },
    /// To the first thread: this thread has no connection any more and will take none.
    Drained,
    /// From the first thread: the log is sealed, end.
    Stop,
}

/// An append on its way to the log, checksummed by the thread it comes from.
#[derive(Debug)]
pub struct AppendMail {
    /// Who appends.
    pub from: PartitionId,
    /// Names the append.
    pub ticket: Ticket,
    /// What it may build on; see [`bigpeer_core::node::AppendGate`].
    pub epoch: u32,
    /// The record.
    pub record: LogRecord,
}

impl AppendMail {
    /// Makes the record, and so its checksum.
    #[must_use]
    pub fn new(append: Append) -> Self {
        let Append { from, ticket, epoch, record } = append;
        Self { from, ticket, epoch, record: LogRecord::critical(record) }
    }
}
