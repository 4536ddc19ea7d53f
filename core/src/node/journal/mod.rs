//! The log as the nodes of a process see it: appends in, positions and commits out.
//!
//! Lives beside the rack of the first thread. It keeps what was refused from being followed by what builds on
//! it, and tells every node that waits when the log fails. It starts from the newest checkpoint, and makes a new
//! one whenever replaying the log would cost more; then the log is trimmed.

mod again;
mod checkpoints;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::append::{Append, AppendGate, AppendRefused, Record, Ticket};
use super::snapshot::SnapshotAsk;
use crate::disk::{DiskCommand, DiskDone, DiskError, DiskOp, FileName};
use crate::ident::{PartitionId, Txn};
use crate::log::checkpoint::{CheckpointInfo, CheckpointReader, ReaderOutput, WriterOutput};
use crate::log::transaction::Transaction;
use crate::log::{
    Log, LogConfig, LogError, LogFill, LogOpened, LogOutput, LogRecord, Refusal, VOLUME_SHARE,
};
use crate::seam::Now;
use crate::time::Instant;
use again::Again;
use checkpoints::{Assembly, Checkpoints, Relief, Step};

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
        /// Transactions, one position each.
        records: Arc<[Record]>,
        /// The last position accounted for.
        upto: Txn,
    },
    /// The log is open; what the checkpoint holds and records up to the log's end follow.
    Opened(Box<LogOpened>),
    /// Pass on to the rack of the partition: what it held as of `at`.
    Restore {
        /// Whose part.
        partition: PartitionId,
        /// As of where.
        at: Txn,
        /// The part.
        part: Bytes,
    },
    /// Pass on to the rack of the partition, behind everything that was said before; the answer goes to
    /// [`Journal::snapshot_part`].
    Snapshot {
        /// Who is asked.
        partition: PartitionId,
        /// What.
        ask: SnapshotAsk,
    },
    /// Something about checkpoints that people may want to know.
    Checkpoint(CheckpointEvent),
    /// Everything that was there when the log was opened has been passed on.
    Replayed,
    /// The log has stopped: reads go on, writes are refused until the next start.
    Failed(LogError),
    /// The log is closed.
    Sealed {
        /// Everything in the log is known to be on stable storage: see [`LogOutput::Sealed`].
        is_whole: bool,
    },
}

/// What became of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckpointEvent {
    /// This one does not check; an older one is tried, and more of the log is replayed.
    Skipped {
        /// The file.
        file: FileName,
        /// What is wrong with it.
        reason: String,
    },
    /// A start replays the log from here on.
    Made {
        /// The position.
        at: Txn,
    },
    /// None was made; the log goes on as before and is not trimmed.
    Failed {
        /// What the disk said.
        error: DiskError,
    },
}

/// The log with the appends of one process.
#[derive(Debug)]
pub struct Journal {
    /// How to open the log, until the newest checkpoint is known.
    config: Option<LogConfig>,
    reader: CheckpointReader,
    found: Option<CheckpointInfo>,
    assembly: Assembly,
    checkpoints: Checkpoints,
    /// The next moment of [`Journal::handle_timeout`]: asked for far more often than it changes.
    timeout: Option<Instant>,
    again: Again,
    /// None until the newest checkpoint is known.
    log: Option<Log>,
    partitions: u16,
    is_sealing: bool,
    gate: AppendGate,
    pending: BTreeMap<u64, Pending>,
    ticket_next: u64,
    replay_from: Txn,
    /// Everybody has been told of everything up to here.
    committed: Txn,
    opened_end: Option<Txn>,
    replayed: bool,
    has_failed: bool,
    /// Durable records that are not handed out yet.
    batch: Batch,
    outputs: VecDeque<JournalOutput>,
}

/// Durable records of one or more groups that follow each other.
#[derive(Debug, Default)]
struct Batch {
    first: Txn,
    records: Vec<Record>,
    bytes: usize,
}

/// An append that is neither committed nor refused.
#[derive(Debug)]
struct Pending {
    from: PartitionId,
    ticket: Ticket,
    epoch: u32,
    placed: Option<Txn>,
    /// Its content, for the nodes that it concerns.
    transaction: Option<Arc<Transaction>>,
}

impl Journal {
    /// Begins to look for a checkpoint and to open the log behind it.
    #[must_use]
    pub fn open(config: LogConfig, partitions: u16, now: Now) -> Self {
        let mut journal = Self {
            config: Some(config),
            reader: CheckpointReader::start(),
            found: None,
            assembly: Assembly::default(),
            checkpoints: Checkpoints::new(partitions),
            timeout: None,
            again: Again::default(),
            log: None,
            partitions,
            is_sealing: false,
            replay_from: Txn(0),
            committed: Txn(0),
            gate: AppendGate::new(partitions),
            pending: BTreeMap::new(),
            ticket_next: 0,
            opened_end: None,
            replayed: false,
            has_failed: false,
            batch: Batch::default(),
            outputs: VecDeque::new(),
        };
        journal.drain(now);
        journal
    }

    /// Makes a checkpoint whenever the log since the newest one weighs so much.
    pub fn set_checkpoint_after(&mut self, bytes: u64) {
        self.checkpoints.set_after(bytes);
    }

    /// Fits checkpoints to a volume of so many bytes: one is due at the latest when an eighth of it would have to be
    /// replayed. [`LogConfig::on_volume`] does the same for segments.
    pub fn set_volume(&mut self, volume_bytes: u64) {
        self.checkpoints.limit_after(volume_bytes / VOLUME_SHARE);
    }

    /// The completion of a disk command.
    pub fn handle_disk(&mut self, done: DiskDone, now: Now) {
        let DiskDone { op: DiskOp(number), result } = done;
        let done = DiskDone { op: DiskOp(number / 2), result };
        if number % 2 == OF_LOG {
            self.log.as_mut().expect("it gave the command").handle_disk(done, now);
        } else if let Some(done) = self.again.filter(done, now.mono) {
            if self.replayed {
                self.checkpoints.handle_disk(done, now.mono);
            } else {
                self.reader.handle_disk(done);
            }
        }
        self.drain(now);
    }

    /// What a partition answered to [`JournalOutput::Snapshot`].
    pub fn snapshot_part(&mut self, partition: PartitionId, part: Option<&Bytes>, now: Now) {
        self.checkpoints.on_part(partition, part, now.mono);
        self.drain(now);
    }

    /// Takes a record of a node.
    pub fn append(&mut self, append: Append, now: Now) {
        let is_admitted = self.gate.admits(&append);
        let Append { from, ticket, epoch, frees, record: Record { bytes, transaction } } = append;
        if !is_admitted {
            let result = Err(AppendRefused::Superseded);
            return self.outputs.push_back(JournalOutput::Appended { from, ticket, result });
        }
        let Some(log) = &mut self.log else {
            let result = Err(AppendRefused::Closed);
            return self.outputs.push_back(JournalOutput::Appended { from, ticket, result });
        };
        self.ticket_next += 1;
        let pending = Pending { from, ticket, epoch, placed: None, transaction };
        self.pending.insert(self.ticket_next, pending);
        let records = vec![LogRecord::critical(bytes)];
        if frees {
            // A checkpoint may be smaller now than the one that did not help.
            self.checkpoints.note_relieved();
            log.append_freeing(self.ticket_next, records, now);
        } else {
            log.append(self.ticket_next, records, now);
        }
        self.drain(now);
    }

    /// A moment of [`poll_timeout`](Self::poll_timeout) is reached.
    pub fn handle_timeout(&mut self, now: Now) {
        for (op, command) in self.again.take_due(now.mono) {
            self.give_for_checkpoints(op, command);
        }
        if let Some(log) = &mut self.log {
            log.handle_timeout(now);
        }
        self.begin_checkpoint_if_due(now);
        self.drain(now);
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        debug_assert_eq!(self.timeout, self.next_timeout(), "it is noted whenever it changes");
        self.timeout
    }

    fn next_timeout(&self) -> Option<Instant> {
        let log = self.log.as_ref().and_then(Log::poll_timeout);
        let checkpoint = self.checkpoints.retry_at().filter(|_| self.may_checkpoint());
        Instant::earliest([log, checkpoint, self.again.at()])
    }

    /// Stops: what was appended becomes durable, then `Sealed` comes.
    pub fn seal(&mut self, now: Now) {
        if std::mem::replace(&mut self.is_sealing, true) {
            return;
        }
        match &mut self.log {
            Some(log) => log.seal(now),
            None => self.outputs.push_back(JournalOutput::Sealed { is_whole: false }),
        }
        self.drain(now);
    }

    /// What to do next, until `None`.
    pub fn poll_output(&mut self) -> Option<JournalOutput> {
        self.outputs.pop_front()
    }

    /// True while [`poll_output`](Self::poll_output) has something.
    #[must_use]
    pub fn has_output(&self) -> bool {
        !self.outputs.is_empty()
    }

    /// How full the log is.
    #[must_use]
    pub fn fill(&self) -> LogFill {
        self.log.as_ref().map(Log::fill).unwrap_or_default()
    }

    /// Walks what is too slow for the hot path.
    ///
    /// # Panics
    ///
    /// When an invariant does not hold: a bug of ours.
    pub fn check_invariants(&self) {
        if let Some(log) = &self.log {
            log.check_invariants();
        }
    }

    fn drain(&mut self, now: Now) {
        loop {
            // A snapshot begins right behind the commit of its position, so steps come before the log.
            if let Some(step) = self.checkpoints.poll_step() {
                self.on_checkpoint(step, now);
            } else if let Some(output) = self.reader.poll_output() {
                self.on_reader(output, now);
            } else if let Some(output) = self.log.as_mut().and_then(Log::poll_output) {
                self.on_log(output, now);
            } else {
                self.hand_out();
                self.timeout = self.next_timeout();
                return;
            }
        }
    }

    fn on_reader(&mut self, output: ReaderOutput, now: Now) {
        match output {
            ReaderOutput::Disk(op, command) => self.give_for_checkpoints(op, command),
            ReaderOutput::Skipped { file, reason } => {
                let event = CheckpointEvent::Skipped { file, reason };
                self.outputs.push_back(JournalOutput::Checkpoint(event));
            }
            ReaderOutput::Empty => {
                self.checkpoints.note_found(None);
                self.open_log(now);
            }
            ReaderOutput::Found(info) => {
                self.found = Some(info);
                self.checkpoints.note_found(Some(info.at));
                (self.replay_from, self.committed) = (info.at, info.at);
                self.open_log(now);
            }
            ReaderOutput::Chunk(chunk) => self.on_chunk(&chunk),
            ReaderOutput::Finished => {
                // Nobody lacks anything up to here, also where the log ends here.
                let (first, records) = (self.replay_from.next(), Arc::default());
                let upto = self.replay_from;
                self.outputs.push_back(JournalOutput::Committed { first, records, upto });
                self.replay(now);
            }
            ReaderOutput::Failed { file, reason } => self.fail_checkpoint(file, reason),
        }
    }

    fn give_for_checkpoints(&mut self, op: DiskOp, command: DiskCommand) {
        self.again.note(op, &command);
        self.outputs.push_back(JournalOutput::Disk(DiskOp(2 * op.0 + OF_CHECKPOINT), command));
    }

    fn open_log(&mut self, now: Now) {
        if let Some(config) = self.config.take() {
            let keep_free_bytes = self.reader.file_bytes();
            let config = LogConfig { replay_from: self.replay_from, keep_free_bytes, ..config };
            self.log = Some(Log::open(config, now));
        }
    }

    fn on_chunk(&mut self, chunk: &Bytes) {
        self.checkpoints.note_read(chunk.len() as u64);
        match self.assembly.add(chunk, self.partitions) {
            Ok(None) => {}
            Ok(Some((partition, part))) => {
                let at = self.replay_from;
                self.outputs.push_back(JournalOutput::Restore { partition, at, part });
            }
            Err(reason) => return self.fail_checkpoint(checkpoints::directory(), reason),
        }
        self.reader.more(chunk.len() as u64);
    }

    fn fail_checkpoint(&mut self, file: FileName, reason: String) {
        self.on_failed(LogError::Checkpoint { file, reason });
    }

    fn on_log(&mut self, output: LogOutput, now: Now) {
        if !matches!(output, LogOutput::Committed { .. }) {
            self.hand_out();
        }
        match output {
            LogOutput::Disk(DiskOp(number), command) => {
                let op = DiskOp(2 * number + OF_LOG);
                self.outputs.push_back(JournalOutput::Disk(op, command));
            }
            LogOutput::Opened(opened) => self.on_opened(opened, now),
            LogOutput::Appended { ticket, first } => self.on_appended(ticket, first),
            LogOutput::Committed { first, records } => self.on_committed(first, records, now),
            LogOutput::Refused { ticket, reason } => self.on_refused(ticket, reason),
            LogOutput::Short => self.make_room(now),
            LogOutput::Failed { error } => self.on_failed(error),
            LogOutput::Sealed { is_whole } => {
                self.outputs.push_back(JournalOutput::Sealed { is_whole });
            }
        }
    }

    fn on_opened(&mut self, opened: Box<LogOpened>, now: Now) {
        if self.found.is_some_and(|info| info.log_id != opened.log_id) {
            let reason = "the checkpoint was made from another log".into();
            return self.fail_checkpoint(checkpoints::directory(), reason);
        }
        self.opened_end = Some(opened.durable);
        self.outputs.push_back(JournalOutput::Opened(opened));
        match self.found {
            Some(_) => self.reader.more(REPLAY_BYTES),
            None => self.replay(now),
        }
    }

    fn replay(&mut self, now: Now) {
        if let Some(log) = &mut self.log {
            log.replay_more(REPLAY_BYTES, now);
        }
        if self.opened_end.is_some_and(|end| end <= self.replay_from) {
            self.note_replayed_upto(self.replay_from, now);
        }
    }

    fn on_checkpoint(&mut self, step: Step, now: Now) {
        let event = match step {
            Step::Ask(partition, ask) => {
                return self.outputs.push_back(JournalOutput::Snapshot { partition, ask });
            }
            Step::Writer(WriterOutput::Disk(op, command)) => {
                return self.give_for_checkpoints(op, command);
            }
            // Whoever waited for what it lets go may wait in vain: another, or nothing, can help.
            Step::Ended => return self.make_room(now),
            Step::Writer(WriterOutput::Cleared { oldest }) => return self.on_cleared(oldest, now),
            Step::Writer(WriterOutput::Done { at }) => CheckpointEvent::Made { at },
            Step::Writer(WriterOutput::Failed { error }) => CheckpointEvent::Failed { error },
        };
        self.outputs.push_back(JournalOutput::Checkpoint(event));
    }

    fn on_cleared(&mut self, oldest: Txn, now: Now) {
        let log = self.log.as_mut().expect("a checkpoint is made of a log");
        log.keep_free(self.checkpoints.room_bytes());
        log.trim(oldest.next(), now);
    }

    /// The log has no space for another segment. Appends wait while a checkpoint may let older ones go.
    fn make_room(&mut self, now: Now) {
        let may_checkpoint = self.may_checkpoint();
        let Some(log) = self.log.as_mut().filter(|log| log.waits_for_space()) else { return };
        if !may_checkpoint {
            return log.deny_space(now);
        }
        match self.checkpoints.relieve(self.committed, now.mono) {
            Relief::Begun => {}
            Relief::Checkpoint => self.begin_checkpoint(now),
            Relief::None => log.deny_space(now),
        }
    }

    fn may_checkpoint(&self) -> bool {
        self.replayed && !self.is_sealing && !self.has_failed
    }

    fn begin_checkpoint_if_due(&mut self, now: Now) {
        if self.may_checkpoint() && self.checkpoints.is_due(now.mono) {
            self.begin_checkpoint(now);
        }
    }

    /// A checkpoint is of the position that everybody was told of last.
    fn begin_checkpoint(&mut self, now: Now) {
        self.hand_out();
        let log = self.log.as_ref().expect("what was replayed is open");
        let log_id = log.log_id().expect("what was replayed is open");
        self.checkpoints.begin(log_id, self.committed, now, log.waits_for_space());
    }

    fn on_appended(&mut self, log_ticket: u64, first: Txn) {
        let Some(pending) = self.pending.get_mut(&log_ticket) else { return };
        pending.placed = Some(first);
        let (from, ticket) = (pending.from, pending.ticket);
        self.outputs.push_back(JournalOutput::Appended { from, ticket, result: Ok(first) });
    }

    fn on_committed(&mut self, first: Txn, records: Vec<LogRecord>, now: Now) {
        let upto = Txn(first.0 + records.len() as u64 - 1);
        let bytes: usize = records.iter().map(|record| record.bytes().len()).sum();
        self.checkpoints.note_records(records.len(), bytes);
        self.committed = upto;
        if let Some(log) = &mut self.log {
            log.keep_free(self.checkpoints.room_bytes());
            if !log.is_short() {
                self.checkpoints.note_relieved();
            }
        }
        // A restored log goes on behind a gap.
        if self.batch.first.0 + self.batch.records.len() as u64 != first.0 {
            self.hand_out();
        }
        if self.batch.records.is_empty() {
            self.batch.first = first;
        }
        for (offset, record) in records.into_iter().enumerate() {
            let transaction = self.take_written(Txn(first.0 + offset as u64));
            self.batch.records.push(Record { bytes: record.into_bytes(), transaction });
        }
        self.batch.bytes += bytes;
        if !self.replayed
            && let Some(log) = &mut self.log
        {
            log.replay_more(bytes as u64, now);
        }
        if self.batch.bytes >= BATCH_BYTES || self.batch.records.len() >= BATCH_RECORDS {
            self.hand_out();
        }
        self.note_replayed_upto(upto, now);
        self.begin_checkpoint_if_due(now);
    }

    /// The transaction that an append of this process wrote at a position. Tickets and positions rise together, so what
    /// is committed is in front.
    fn take_written(&mut self, txn: Txn) -> Option<Arc<Transaction>> {
        while let Some(entry) = self.pending.first_entry()
            && let Some(placed) = entry.get().placed.filter(|placed| *placed <= txn)
        {
            let written = entry.remove().transaction;
            if placed == txn {
                return written;
            }
        }
        None
    }

    /// Hands out the durable records that were collected. One sync covers dozens of groups, and a replay reads
    /// thousands: every node of every thread hears once of them all.
    fn hand_out(&mut self) {
        let Batch { first, records, .. } = std::mem::take(&mut self.batch);
        if records.is_empty() {
            return;
        }
        let upto = Txn(first.0 + records.len() as u64 - 1);
        self.outputs.push_back(JournalOutput::Committed { first, records: records.into(), upto });
    }

    fn note_replayed_upto(&mut self, upto: Txn, now: Now) {
        if !self.replayed && self.opened_end.is_some_and(|end| upto >= end) {
            self.replayed = true;
            self.hand_out();
            self.outputs.push_back(JournalOutput::Replayed);
            self.begin_checkpoint_if_due(now);
        }
    }

    fn on_refused(&mut self, log_ticket: u64, reason: Refusal) {
        let Some(Pending { from, ticket, epoch, .. }) = self.pending.remove(&log_ticket) else {
            return;
        };
        self.gate.refused(from, epoch);
        let why = match reason {
            Refusal::Full => AppendRefused::Full,
            Refusal::ReadOnly => AppendRefused::ReadOnly,
            Refusal::TooLarge | Refusal::Busy => AppendRefused::Busy,
            Refusal::Closed => AppendRefused::Closed,
        };
        self.outputs.push_back(JournalOutput::Appended { from, ticket, result: Err(why) });
    }

    fn on_failed(&mut self, error: LogError) {
        self.has_failed = true;
        for (_, pending) in std::mem::take(&mut self.pending) {
            let Pending { from, ticket, .. } = pending;
            let result = Err(AppendRefused::OutcomeUnknown);
            self.outputs.push_back(JournalOutput::Appended { from, ticket, result });
        }
        self.outputs.push_back(JournalOutput::Failed(error));
    }
}

/// The numbers of disk commands are even for the log and odd for checkpoints.
const OF_LOG: u64 = 0;
const OF_CHECKPOINT: u64 = 1;

/// How much is handed out at once: the threads apply one part while the next is read.
const BATCH_BYTES: usize = 256 << 10;
const BATCH_RECORDS: usize = 512;

/// How much of the checkpoint or of the log is read ahead of the nodes while it is replayed.
const REPLAY_BYTES: u64 = 16 << 20;
