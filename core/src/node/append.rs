//! Appends on their way: what to do when a record is committed, or was refused.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::message::CallId;
use super::request::{ErrorKind, RequestError};
use crate::ident::{DocId, PartitionId, Txn};
use crate::log::transaction::Transaction;

/// Names an append until its [`Input::Appended`](super::Input::Appended). Rises within a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// A record for the log.
#[derive(Clone, Debug)]
pub struct Append {
    /// Who appends.
    pub from: PartitionId,
    /// Names the append.
    pub ticket: Ticket,
    /// After a refusal everything of the same epoch is refused as well, since it may build on what was refused.
    pub epoch: u32,
    /// It takes something away, or changes the catalog: a full disk has a reserve for that.
    pub frees: bool,
    /// The transaction, to be logged.
    pub record: Record,
}

/// A record of the log as the nodes of a process see it.
#[derive(Clone, Debug)]
pub struct Record {
    /// The encoded transaction.
    pub bytes: Bytes,
    /// The same, where it was written by this process: what is large takes long to decode, and every thread would.
    pub transaction: Option<Arc<Transaction>>,
}

impl From<Bytes> for Record {
    /// A record that was read from the disk.
    fn from(bytes: Bytes) -> Self {
        Self { bytes, transaction: None }
    }
}

/// Why a record did not enter the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendRefused {
    /// No space left.
    Full,
    /// The volume takes no writes.
    ReadOnly,
    /// Too much waits for the disk.
    Busy,
    /// The log is stopping or has failed before this record was taken.
    Closed,
    /// An earlier append of this node was refused, and this one may build on it.
    Superseded,
    /// The record was taken, and then the log failed: nobody knows until the next start.
    OutcomeUnknown,
}

impl AppendRefused {
    pub(crate) fn to_error(self) -> RequestError {
        match self {
            Self::Full => RequestError::new(
                ErrorKind::Full,
                "the disk of the log is full: nothing was written; free space and try again",
            ),
            Self::ReadOnly => RequestError::new(
                ErrorKind::Unavailable,
                "the volume of the log is read-only: nothing was written; make it writable and try again",
            ),
            Self::Busy => RequestError::new(
                ErrorKind::Unavailable,
                "too many writes wait for the disk: nothing was written; try again in a moment",
            ),
            Self::Closed => RequestError::new(
                ErrorKind::Unavailable,
                "the server is stopping or its log has failed: nothing was written; try again later",
            ),
            Self::Superseded => RequestError::new(
                ErrorKind::Unavailable,
                "a write before this one was refused: nothing was written; try again",
            ),
            Self::OutcomeUnknown => RequestError::new(
                ErrorKind::OutcomeUnknown,
                "the log failed while the write was under way: its outcome is unknown until a restart",
            ),
        }
    }
}

/// Keeps refused appends from being followed by appends that build on them. Sits before the log.
#[derive(Clone, Debug)]
pub struct AppendGate {
    epochs: Vec<u32>,
}

impl AppendGate {
    /// A gate for that many partitions.
    #[must_use]
    pub fn new(partitions: u16) -> Self {
        Self { epochs: vec![0; usize::from(partitions)] }
    }

    /// True when the append may go to the log.
    #[must_use]
    pub fn admits(&self, append: &Append) -> bool {
        append.epoch >= self.epochs[usize::from(append.from.0)]
    }

    /// The log refused an append: nothing of its epoch is admitted any more.
    pub fn refused(&mut self, from: PartitionId, epoch: u32) {
        let least = &mut self.epochs[usize::from(from.0)];
        *least = (*least).max(epoch + 1);
    }
}

/// What to do at the end of an append.
#[derive(Clone, Debug)]
pub(crate) enum Then {
    /// Tell a coordinator that its mutation is committed.
    Answer { to: PartitionId, call: CallId, mutated: Vec<DocId> },
    /// End the request of a call of our own.
    Finish { call: CallId },
    /// Tell the coordinator of a catalog change.
    Catalog { to: PartitionId, call: CallId },
    /// Tell a session of this node.
    Session(super::sync_host::SessionAppend),
}

#[derive(Debug)]
pub(crate) struct Pending {
    /// The content of the record: what it put ahead of the log falls back when it is refused.
    pub(crate) transaction: Arc<Transaction>,
    /// Whether the tips of its documents carry it, because this node authored them.
    pub(crate) has_tips: bool,
    /// Whether some operation of it did not take effect when it was applied here.
    pub(crate) is_void: bool,
    pub(crate) then: Then,
}

/// The appends of one node between `Output::Append` and their commit.
#[derive(Debug, Default)]
pub(crate) struct Appends {
    /// Each with the epoch that it was sent in.
    waiting: BTreeMap<Ticket, (u32, Pending)>,
    placed: BTreeMap<Txn, Pending>,
    ticket_next: u64,
    pub(crate) epoch: u32,
}

impl Appends {
    pub(crate) fn add(&mut self, pending: Pending) -> Ticket {
        self.ticket_next += 1;
        let ticket = Ticket(self.ticket_next);
        self.waiting.insert(ticket, (self.epoch, pending));
        ticket
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.placed.is_empty()
    }

    /// True when no append waits to be committed.
    pub(crate) fn is_settled(&self) -> bool {
        self.placed.is_empty()
    }

    /// The append got its position; it ends when that is committed.
    pub(crate) fn place(&mut self, ticket: Ticket, txn: Txn) {
        if let Some((_, pending)) = self.waiting.remove(&ticket) {
            self.placed.insert(txn, pending);
        }
    }

    /// The append was refused: gives back all that ends with it. What was sent after it in the same epoch will be
    /// superseded at the gate; it ends here already, or something could be authored on top of it and be
    /// admitted. The epoch rises, so that what follows is admitted again.
    pub(crate) fn refuse(
        &mut self,
        ticket: Ticket,
        why: AppendRefused,
    ) -> Vec<(Pending, AppendRefused)> {
        let Some((epoch, pending)) = self.waiting.remove(&ticket) else { return Vec::new() };
        let mut ended = vec![(pending, why)];
        if why == AppendRefused::Superseded || why == AppendRefused::OutcomeUnknown {
            return ended;
        }
        self.epoch = self.epoch.max(epoch + 1);
        let later = self.waiting.extract_if(ticket.., |_, (sent, _)| *sent == epoch);
        ended.extend(later.map(|(_, (_, pending))| (pending, AppendRefused::Superseded)));
        ended
    }

    /// Some operation of the record at a position did not take effect.
    pub(crate) fn mark_void(&mut self, txn: Txn) {
        if let Some(pending) = self.placed.get_mut(&txn) {
            pending.is_void = true;
        }
    }

    /// The log failed: appends that had got a position will never be reported as committed.
    pub(crate) fn take_placed(&mut self) -> BTreeMap<Txn, Pending> {
        std::mem::take(&mut self.placed)
    }

    /// The first append that is committed once everything up to `upto` is.
    pub(crate) fn take_committed(&mut self, upto: Txn) -> Option<(Txn, Pending)> {
        let entry = self.placed.first_entry().filter(|entry| *entry.key() <= upto)?;
        Some(entry.remove_entry())
    }
}
