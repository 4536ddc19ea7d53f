//! The log on the first thread: opened before there are threads, then driven beside the nodes.

use std::sync::Arc;

use bigpeer_core::disk::{DiskCommand, DiskDone, DiskOp};
use bigpeer_core::ident::{PartitionId, Txn};
use bigpeer_core::log::checkpoint::CHECKPOINT_DIR;
use bigpeer_core::log::{Lack, LogConfig, LogError, LogFill, LogOpened};
use bigpeer_core::node::{Append, CheckpointEvent, Journal, JournalOutput, Rack, Record};
use bigpeer_core::seam::Now;
use bytes::Bytes;

use super::mail::Mail;
use super::{Shard, ShardOutput};
use crate::first_start::Owed;
use crate::logging;
use crate::metrics::Metric;
use crate::shared::{Phase, Reason};

/// A log that is whole. What it holds has not been replayed yet.
#[derive(Debug)]
pub struct OpenLog {
    pub(super) journal: Journal,
    /// What was found.
    pub opened: Box<LogOpened>,
    /// The part of a first start that is to be done.
    pub owed: Owed,
}

impl OpenLog {
    /// Nothing was ever logged: no position was given out, be it that of a record which is in a checkpoint alone by now.
    /// The table of boots has none.
    ///
    /// So this is a first start. The catalog would not tell: an operator who deleted all apps wants none.
    #[must_use]
    pub fn was_empty(&self) -> bool {
        self.opened.durable == Txn(0)
    }
}

/// Bounds of the log beside its configuration.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogSizes {
    /// The size of the volume, where it is known.
    pub volume_bytes: Option<u64>,
    /// The weight of the log, in bytes, at which a checkpoint is made; without it the log decides.
    pub checkpoint_after: Option<u64>,
}

/// Opens a log; `execute` carries out its disk commands, and `clock` says what the time is.
///
/// # Errors
///
/// What the log says about itself.
pub fn open_log(
    config: LogConfig,
    partitions: u16,
    sizes: LogSizes,
    clock: impl Fn() -> Now,
    mut execute: impl FnMut(DiskOp, DiskCommand) -> DiskDone,
) -> Result<OpenLog, LogError> {
    let mut journal = Journal::open(config, partitions, clock());
    if let Some(bytes) = sizes.checkpoint_after {
        journal.set_checkpoint_after(bytes);
    }
    if let Some(bytes) = sizes.volume_bytes {
        journal.set_volume(bytes);
    }
    loop {
        while let Some(output) = journal.poll_output() {
            match output {
                JournalOutput::Disk(op, command) => {
                    journal.handle_disk(execute(op, command), clock());
                }
                JournalOutput::Opened(opened) => {
                    return Ok(OpenLog { journal, opened, owed: Owed::Nothing });
                }
                JournalOutput::Checkpoint(event) => log_checkpoint(&event),
                JournalOutput::Failed(error) => return Err(error),
                _ => {}
            }
        }
        // The disk was short of something, and the log asks once more.
        let again_at = journal.poll_timeout();
        let again_at = again_at.expect("a log that waits for nothing has opened or failed");
        std::thread::sleep(again_at.since(clock().mono));
        journal.handle_timeout(clock());
    }
}

fn log_checkpoint(event: &CheckpointEvent) {
    match event {
        CheckpointEvent::Skipped { file, reason } => logging::warn(
            "checkpoint cannot be read, an older one or the whole log is used",
            &[("file", file), ("cause", reason)],
        ),
        CheckpointEvent::Made { at } => {
            logging::info("checkpoint made", &[("at", &at.to_string())]);
        }
        CheckpointEvent::Failed { error } => logging::warn(
            "no checkpoint was made, the log is kept whole",
            &[("cause", &error.to_string())],
        ),
    }
}

/// The log of the first thread.
#[derive(Debug)]
pub(super) struct LogOwner {
    pub(super) journal: Journal,
    pub(super) owed: Owed,
    /// Where the replay ends.
    target: Txn,
    /// How far each thread has come, until all have reached the target.
    applied: Option<Vec<Txn>>,
    /// The last word of the log about what its volume lacks.
    state: Option<ReadOnly>,
    /// Something has happened to it since its fill was last reported.
    pub(super) has_news: bool,
}

const DISK_FULL: &str = "the disk is full: reads go on, and of writes those that make room, DELETE and EVICT; \
    free space on the volume or delete documents, and writes are taken again by themselves";

const VOLUME_READ_ONLY: &str = "the volume of the data directory is read-only: reads go on; mount it writable, and \
    writes are taken again by themselves";

/// A start found an end of the log that was perhaps never synced, and can neither write it once more nor hide what was
/// acknowledged before.
const DISK_FULL_AT_START: &str = "the disk is full, and the end of the log could not be written once more at the start: \
    reads go on, but the newest writes that they show are not yet known to be on the disk, and a failure of power may \
    take them; free space on the volume, and writes are taken again by themselves";

const VOLUME_READ_ONLY_AT_START: &str = "the volume of the data directory is read-only, and the end of the log could \
    not be written once more at the start: reads go on, but the newest writes that they show are not yet known to be \
    on the disk, and a failure of power may take them; mount it writable, and writes are taken again by themselves";

/// The state of a log that takes no writes at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ReadOnly {
    lack: Lack,
    /// The end of the log that the start found is not mended.
    is_unmended: bool,
}

impl ReadOnly {
    fn of(fill: &LogFill) -> Option<Self> {
        let space = fill.disk_full.then_some(Lack::Space);
        let lack = if fill.read_only { Some(Lack::Leave) } else { space };
        lack.map(|lack| Self { lack, is_unmended: fill.is_unmended })
    }

    const fn code(self) -> &'static str {
        match self.lack {
            Lack::Space => "disk_full",
            Lack::Leave => "read_only_volume",
        }
    }

    const fn text(self) -> &'static str {
        match (self.lack, self.is_unmended) {
            (Lack::Space, false) => DISK_FULL,
            (Lack::Space, true) => DISK_FULL_AT_START,
            (Lack::Leave, false) => VOLUME_READ_ONLY,
            (Lack::Leave, true) => VOLUME_READ_ONLY_AT_START,
        }
    }
}

impl LogOwner {
    pub(super) fn new(log: OpenLog, threads: u16) -> Self {
        let OpenLog { journal, opened, owed } = log;
        let (target, applied) = (opened.durable, Some(vec![Txn(0); usize::from(threads)]));
        Self { journal, owed, target, applied, state: None, has_news: true }
    }
}

impl Shard {
    pub(super) fn on_append(&mut self, append: Append) {
        let now = self.now;
        self.log_mut().journal.append(append, now);
    }

    pub(super) fn on_snapshot_part(&mut self, partition: PartitionId, part: Option<&Bytes>) {
        let now = self.now;
        self.log_mut().journal.snapshot_part(partition, part, now);
    }

    /// Takes the completion of a disk command.
    pub fn handle_disk(&mut self, done: DiskDone) {
        let now = self.now;
        self.log_mut().journal.handle_disk(done, now);
    }

    pub(super) fn on_log_output(&mut self, output: JournalOutput) {
        match output {
            JournalOutput::Disk(op, command) => {
                if let DiskCommand::Sync { file } = &command
                    && !file.starts_with(CHECKPOINT_DIR)
                {
                    self.metrics().add(Metric::LogSyncs, 1);
                }
                self.outputs.push_back(ShardOutput::Disk(op, command));
            }
            JournalOutput::Appended { from, ticket, result } => {
                let thread = from.0 % self.config.threads;
                self.post(thread, Mail::Appended { from, ticket, result });
            }
            JournalOutput::Committed { first, records, upto } => {
                self.on_committed(first, &records, upto);
            }
            JournalOutput::Restore { partition, at, part } => {
                let thread = partition.0 % self.config.threads;
                self.post(thread, Mail::Restore { partition, at, part });
            }
            JournalOutput::Snapshot { partition, ask } => {
                self.post(partition.0 % self.config.threads, Mail::Snapshot { partition, ask });
            }
            JournalOutput::Checkpoint(event) => {
                match &event {
                    CheckpointEvent::Made { .. } => {
                        let seconds = self.now.wall.0 / 1000;
                        self.metrics().add(Metric::Checkpoints, 1);
                        self.metrics().set(Metric::CheckpointLastSeconds, seconds);
                    }
                    CheckpointEvent::Failed { .. } => {
                        self.metrics().add(Metric::CheckpointFailures, 1);
                    }
                    CheckpointEvent::Skipped { .. } => {}
                }
                log_checkpoint(&event);
            }
            JournalOutput::Failed(error) => self.on_log_failed(&error.to_string()),
            JournalOutput::Sealed { .. } => self.on_log_sealed(),
            // The threads are what is waited for: see `on_applied`.
            JournalOutput::Opened(_) | JournalOutput::Replayed => {}
        }
    }

    /// The position is published before anyone can act on the records.
    fn on_committed(&mut self, first: Txn, records: &Arc<[Record]>, upto: Txn) {
        self.shared.publish_durable(upto);
        let metrics = self.metrics();
        metrics.add(Metric::LogGroups, 1);
        metrics.add(Metric::LogRecords, records.len() as u64);
        metrics.add(Metric::LogBytes, records.iter().map(|record| record.bytes.len() as u64).sum());
        for thread in 0..self.config.threads {
            self.post(thread, Mail::Committed { first, records: records.clone(), upto });
        }
    }

    /// A thread reflects everything up to `upto`. Once all reflect what was there at the start, the server
    /// answers.
    pub(super) fn on_applied(&mut self, thread: u16, upto: Txn) {
        let log = self.log_mut();
        let target = log.target;
        let Some(applied) = &mut log.applied else { return };
        applied[usize::from(thread)] = upto;
        if applied.iter().all(|applied| *applied >= target) {
            log.applied = None;
            self.on_recovered();
        }
    }

    /// Tells the owner of the log how far this thread has come, while that is waited for. True if it did: where the owner
    /// is this thread, the last of these words makes it ask its nodes for something.
    pub(super) fn report_applied(&mut self) -> bool {
        let Some(applied) = self.rack.as_ref().map(Rack::applied) else { return false };
        let is_news = self.applied_reported != Some(applied);
        if !is_news || self.shared.phase() != Phase::Starting {
            return false;
        }
        self.applied_reported = Some(applied);
        self.post(0, Mail::Applied { thread: self.config.thread, upto: applied });
        true
    }

    fn on_log_failed(&mut self, cause: &str) {
        if self.shared.phase() == Phase::Starting {
            self.outputs.push_back(ShardOutput::Fatal(cause.to_owned()));
            return;
        }
        let reason = format!("the log has failed and takes no writes until a restart: {cause}");
        logging::error("log failed", &[("cause", cause)]);
        self.shared.set_failed(self.now.mono, self.now.wall, &reason);
        if self.config.exit_on_log_failure {
            self.outputs.push_back(ShardOutput::Stop);
        }
    }

    /// Reports how full the log is, if anything has happened to it. Says when it begins to refuse writes for what its
    /// volume lacks, and when it no longer does.
    pub(super) fn report_fill(&mut self) {
        let Some(log) = self.log.as_mut().filter(|log| log.has_news) else { return };
        log.has_news = false;
        let fill = log.journal.fill();
        let metrics = self.shared.metrics(self.config.thread);
        metrics.set(Metric::LogSegmentBytes, fill.segment_bytes);
        metrics.set(Metric::LogPendingRecords, fill.pending_records);
        metrics.set(Metric::DiskReserveBytes, fill.reserve_bytes);
        let nanos = u64::try_from(fill.sync_time.as_nanos()).unwrap_or(u64::MAX);
        metrics.set(Metric::LogSyncNanos, nanos);
        let state = ReadOnly::of(&fill);
        if std::mem::replace(&mut log.state, state) == state {
            return;
        }
        let Some(state) = state else {
            logging::info("the volume takes writes again", &[]);
            return self.shared.set_read_only(None);
        };
        let (code, text) = (state.code(), state.text());
        logging::warn("read-only", &[("code", code), ("cause", text)]);
        let reason = Reason { code, since: self.now.wall, text: text.to_owned() };
        self.shared.set_read_only(Some(reason));
    }

    /// The log, for something that happens to it.
    pub(super) fn log_mut(&mut self) -> &mut LogOwner {
        let log = self.log.as_mut().expect("only the first thread is sent what is for the log");
        log.has_news = true;
        log
    }
}
