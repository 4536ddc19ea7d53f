//! The log as the nodes of a process see it: appends in, positions and commits out.
//!
//! Lives beside the rack of the first thread. It keeps what was refused from being followed by what builds on
//! it, and tells every node that waits when the log fails.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::append::{Append, AppendGate, AppendRefused, Ticket};
use crate::disk::{DiskCommand, DiskDone, DiskOp};
use crate::ident::{PartitionId, Txn};
use crate::log::{Log, LogConfig, LogError, LogOpened, LogOutput, LogRecord, Refusal};
use crate::seam::Now;
use crate::time::Instant;

/// What the owner of a journal must do or pass on.
#[derive(Clone, Debug)]
pub enum JournalOutput {
    /// Carry out a disk command.
    Disk(DiskOp, DiskCommand),
    /// Pass on to the rack of the partition that appended.
    Appended {
        /// Who appended.
        from: PartitionId,
        /// Which append.
        ticket: Ticket,
        /// Its position, or why it has none.
        result: Result<Txn, AppendRefused>,
    },
    /// Publish the durable position, then pass on to every rack.
    Committed {
        /// The position of the first record.
        first: Txn,
        /// Encoded transactions.
        records: Arc<[Bytes]>,
        /// The last position accounted for.
        upto: Txn,
    },
    /// The log is open; records up to its end follow.
    Opened(Box<LogOpened>),
    /// Everything that was there when the log was opened has been passed on.
    Replayed,
    /// The log has stopped: reads go on, writes are refused until the next start.
    Failed(LogError),
    /// Everything is durable and the log is closed.
    Sealed,
}

/// The log with the appends of one process.
#[derive(Debug)]
pub struct Journal {
    log: Log,
    gate: AppendGate,
    pending: BTreeMap<u64, Pending>,
    ticket_next: u64,
    replay_from: Txn,
    opened_end: Option<Txn>,
    replayed: bool,
    outputs: VecDeque<JournalOutput>,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    from: PartitionId,
    ticket: Ticket,
    epoch: u32,
    placed: Option<Txn>,
}

impl Journal {
    /// Begins to open the log.
    #[must_use]
    pub fn open(config: LogConfig, partitions: u16, now: Now) -> Self {
        let replay_from = config.replay_from;
        let mut journal = Self {
            replay_from,
            log: Log::open(config, now),
            gate: AppendGate::new(partitions),
            pending: BTreeMap::new(),
            ticket_next: 0,
            opened_end: None,
            replayed: false,
            outputs: VecDeque::new(),
        };
        journal.drain(now);
        journal
    }

    /// The completion of a disk command.
    pub fn handle_disk(&mut self, done: DiskDone, now: Now) {
        self.log.handle_disk(done, now);
        self.drain(now);
    }

    /// Takes a record of a node.
    pub fn append(&mut self, append: Append, now: Now) {
        let Append { from, ticket, epoch, record } = append.clone();
        if !self.gate.admits(&append) {
            let result = Err(AppendRefused::Superseded);
            return self.outputs.push_back(JournalOutput::Appended { from, ticket, result });
        }
        self.ticket_next += 1;
        self.pending.insert(self.ticket_next, Pending { from, ticket, epoch, placed: None });
        self.log.append(self.ticket_next, vec![LogRecord::critical(record)], now);
        self.drain(now);
    }

    /// A moment of [`poll_timeout`](Self::poll_timeout) is reached.
    pub fn handle_timeout(&mut self, now: Now) {
        self.log.handle_timeout(now);
        self.drain(now);
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.log.poll_timeout()
    }

    /// Stops: what was appended becomes durable, then `Sealed` comes.
    pub fn seal(&mut self, now: Now) {
        self.log.seal(now);
        self.drain(now);
    }

    /// What to do next, until `None`.
    pub fn poll_output(&mut self) -> Option<JournalOutput> {
        self.outputs.pop_front()
    }

    /// The log itself, for its state and its figures.
    #[must_use]
    pub fn log(&self) -> &Log {
        &self.log
    }

    fn drain(&mut self, now: Now) {
        while let Some(output) = self.log.poll_output() {
            match output {
                LogOutput::Disk(op, command) => {
                    self.outputs.push_back(JournalOutput::Disk(op, command));
                }
                LogOutput::Opened(opened) => {
                    self.opened_end = Some(opened.durable);
                    self.outputs.push_back(JournalOutput::Opened(opened));
                    self.log.replay_more(REPLAY_BYTES, now);
                    self.note_replayed();
                }
                LogOutput::Appended { ticket, first } => self.on_appended(ticket, first),
                LogOutput::Committed { first, records } => self.on_committed(first, records, now),
                LogOutput::Refused { ticket, reason } => self.on_refused(ticket, reason),
                LogOutput::Failed { error } => self.on_failed(error),
                LogOutput::Sealed => self.outputs.push_back(JournalOutput::Sealed),
            }
        }
    }

    fn on_appended(&mut self, log_ticket: u64, first: Txn) {
        let Some(pending) = self.pending.get_mut(&log_ticket) else { return };
        pending.placed = Some(first);
        let Pending { from, ticket, .. } = *pending;
        self.outputs.push_back(JournalOutput::Appended { from, ticket, result: Ok(first) });
    }

    fn on_committed(&mut self, first: Txn, records: Vec<LogRecord>, now: Now) {
        let upto = Txn(first.0 + records.len() as u64 - 1);
        // Tickets and positions rise together, so what is committed is in front.
        while let Some(entry) = self.pending.first_entry()
            && entry.get().placed.is_some_and(|txn| txn <= upto)
        {
            entry.remove();
        }
        let records: Vec<Bytes> = records.into_iter().map(LogRecord::into_bytes).collect();
        if !self.replayed {
            let bytes: usize = records.iter().map(Bytes::len).sum();
            self.log.replay_more(bytes as u64, now);
        }
        let records = records.into();
        self.outputs.push_back(JournalOutput::Committed { first, records, upto });
        self.note_replayed_upto(upto);
    }

    fn note_replayed(&mut self) {
        if self.opened_end.is_some_and(|end| end <= self.replay_from) {
            self.note_replayed_upto(self.replay_from);
        }
    }

    fn note_replayed_upto(&mut self, upto: Txn) {
        if !self.replayed && self.opened_end.is_some_and(|end| upto >= end) {
            self.replayed = true;
            self.outputs.push_back(JournalOutput::Replayed);
        }
    }

    fn on_refused(&mut self, log_ticket: u64, reason: Refusal) {
        let Some(Pending { from, ticket, epoch, .. }) = self.pending.remove(&log_ticket) else {
            return;
        };
        self.gate.refused(from, epoch);
        let why = match reason {
            Refusal::Full => AppendRefused::Full,
            Refusal::TooLarge | Refusal::Busy => AppendRefused::Busy,
            Refusal::Closed => AppendRefused::Closed,
        };
        self.outputs.push_back(JournalOutput::Appended { from, ticket, result: Err(why) });
    }

    fn on_failed(&mut self, error: LogError) {
        for (_, pending) in std::mem::take(&mut self.pending) {
            let Pending { from, ticket, .. } = pending;
            let result = Err(AppendRefused::OutcomeUnknown);
            self.outputs.push_back(JournalOutput::Appended { from, ticket, result });
        }
        self.outputs.push_back(JournalOutput::Failed(error));
    }
}

/// How much of the log is read ahead of the nodes while it is replayed.
const REPLAY_BYTES: u64 = 16 << 20;
