//! Writes one checkpoint.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;

use super::{
    CHECKPOINT_DIR, CHUNK_BYTES_MAX, CheckpointInfo, Totals, block, checkpoint_file,
    checkpoint_position, encode_footer, encode_header, temporary_file,
};
use crate::disk::{DiskCommand, DiskDone, DiskError, DiskOp, DiskReply, FileName};
use crate::ident::Txn;
use crate::log::frame;

/// No chunk is taken while so many commands are out.
const COMMANDS_MAX: usize = 8;

/// The file is synced whenever it has grown by so much, besides once in the end: a sync of the log on the same
/// device then waits behind some of a checkpoint, never behind all of it, and chunks come as fast as the device
/// takes them.
const SYNC_BYTES: u64 = 2 << 20;

/// What the owner of a writer must do, or may rely on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriterOutput {
    /// Carry out a disk command and answer it under this number.
    Disk(DiskOp, DiskCommand),
    /// The checkpoint is durable: recovery may start from it.
    Done {
        /// Its position.
        at: Txn,
    },
    /// Older checkpoints were deleted, and the writer has ended.
    Cleared {
        /// The oldest position that recovery may still start from: the log is needed above it.
        oldest: Txn,
    },
    /// The checkpoint was not made, or older ones were not deleted. The writer has ended.
    Failed {
        /// What the disk said.
        error: DiskError,
    },
}

/// Writes one checkpoint. Push chunks while [`is_ready`](Self::is_ready), then [`finish`](Self::finish); drain
/// [`poll_output`](Self::poll_output) after every call.
#[derive(Debug)]
pub struct CheckpointWriter {
    at: Txn,
    keep: usize,
    stage: Stage,
    header: Bytes,
    offset_bytes: u64,
    unsynced_bytes: u64,
    totals: Totals,
    outputs: VecDeque<WriterOutput>,
    ops: BTreeSet<DiskOp>,
    next_op: u64,
    /// Names to delete, and the oldest checkpoint that stays.
    garbage: Vec<FileName>,
    oldest: Txn,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Creating,
    Streaming,
    Finishing,
    Syncing,
    Renaming,
    SyncingDir,
    Listing,
    Deleting,
    SyncingDeletes,
    Abandoning,
    Ended,
}

impl CheckpointWriter {
    /// Starts a checkpoint. `keep` checkpoints, this one included and at least one, stay when it is done. It fails with
    /// `Full` at once where less than `keep_free_bytes` are free.
    #[must_use]
    pub fn start(info: CheckpointInfo, keep: usize, keep_free_bytes: u64) -> Self {
        let mut writer = Self {
            at: info.at,
            keep: keep.max(1),
            stage: Stage::Creating,
            header: encode_header(&info),
            offset_bytes: 0,
            unsynced_bytes: 0,
            totals: Totals::default(),
            outputs: VecDeque::new(),
            ops: BTreeSet::new(),
            next_op: 0,
            garbage: Vec::new(),
            oldest: info.at,
        };
        let file = temporary_file(info.at);
        writer.issue(DiskCommand::Create { file, len_bytes: 0, keep_free_bytes });
        writer
    }

    /// Makes none, and takes away all that are older than `newest`, which is durable. Answered by `Cleared` or by
    /// `Failed`.
    #[must_use]
    pub fn clear(newest: Txn) -> Self {
        let mut writer = Self {
            at: newest,
            keep: 1,
            stage: Stage::Listing,
            header: Bytes::new(),
            offset_bytes: 0,
            unsynced_bytes: 0,
            totals: Totals::default(),
            outputs: VecDeque::new(),
            ops: BTreeSet::new(),
            next_op: 0,
            garbage: Vec::new(),
            oldest: newest,
        };
        writer.issue(DiskCommand::List { dir: CHECKPOINT_DIR.into() });
        writer
    }

    /// True when another chunk may be pushed.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.stage == Stage::Streaming && self.ops.len() < COMMANDS_MAX
    }

    /// True when nothing more will come of it: `Cleared` or `Failed` was said, and no command is out.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.stage == Stage::Ended && self.ops.is_empty()
    }

    /// Bytes of chunks so far.
    #[must_use]
    pub fn payload_bytes(&self) -> u64 {
        self.totals.payload_bytes
    }

    /// Adds a chunk, given in pieces. Each takes whole blocks on disk, so some 256 KiB are a good size.
    ///
    /// # Panics
    ///
    /// When the writer is not ready, or the chunk is longer than [`CHUNK_BYTES_MAX`]: both are the caller's to see.
    pub fn push(&mut self, chunk: &[&[u8]]) {
        let chunk_bytes = chunk.iter().map(|piece| piece.len()).sum::<usize>();
        assert!(self.is_ready(), "the caller asked");
        assert!(chunk_bytes <= CHUNK_BYTES_MAX, "a chunk has a bound");
        self.totals.chunk_count += 1;
        self.totals.payload_bytes += chunk_bytes as u64;
        self.write(block(frame::KIND_CHECKPOINT_CHUNK, self.at, self.offset_bytes, chunk));
    }

    /// Ends the checkpoint; answered by `Done` and `Cleared`, or by `Failed`.
    ///
    /// # Panics
    ///
    /// Before the first time that the writer was ready, and when called twice.
    pub fn finish(&mut self) {
        assert_eq!(self.stage, Stage::Streaming, "a checkpoint ends once");
        self.write(encode_footer(self.at, self.offset_bytes, self.totals));
        self.stage = Stage::Finishing;
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<WriterOutput> {
        self.outputs.pop_front()
    }

    /// Takes the completion of a command.
    pub fn handle_disk(&mut self, done: DiskDone) {
        if !self.ops.remove(&done.op) || self.stage == Stage::Ended {
            return;
        }
        match done.result {
            Ok(reply) => self.on_done(reply),
            Err(_) if self.stage == Stage::Abandoning => self.abandon_more(),
            Err(DiskError::NotFound) if self.stage == Stage::Deleting => self.delete_more(),
            Err(error) => self.on_failed(error),
        }
    }

    fn on_done(&mut self, reply: DiskReply) {
        let tmp = temporary_file(self.at);
        match self.stage {
            Stage::Creating => {
                self.stage = Stage::Streaming;
                self.write(self.header.clone());
            }
            Stage::Finishing if self.ops.is_empty() => {
                self.stage = Stage::Syncing;
                self.issue(DiskCommand::Sync { file: tmp });
            }
            Stage::Syncing => {
                self.stage = Stage::Renaming;
                self.issue(DiskCommand::Rename { from: tmp, to: checkpoint_file(self.at) });
            }
            Stage::Renaming => {
                self.stage = Stage::SyncingDir;
                self.issue(DiskCommand::SyncDir { dir: CHECKPOINT_DIR.into() });
            }
            Stage::SyncingDir => {
                self.outputs.push_back(WriterOutput::Done { at: self.at });
                self.stage = Stage::Listing;
                self.issue(DiskCommand::List { dir: CHECKPOINT_DIR.into() });
            }
            Stage::Listing => match reply {
                DiskReply::Listed(names) => self.on_listed(&names),
                _ => self.on_failed(DiskError::Io("the reply does not fit the command".into())),
            },
            Stage::Deleting => self.delete_more(),
            Stage::SyncingDeletes => {
                self.stage = Stage::Ended;
                self.outputs.push_back(WriterOutput::Cleared { oldest: self.oldest });
            }
            Stage::Abandoning => self.abandon_more(),
            Stage::Streaming | Stage::Finishing | Stage::Ended => {}
        }
    }

    /// Keeps the newest up to this one. A checkpoint above it is of a later life and is left alone.
    fn on_listed(&mut self, names: &[(String, u64)]) {
        let positions = names.iter().filter_map(|(name, _)| checkpoint_position(name));
        let mut older: Vec<Txn> = positions.filter(|&at| at < self.at).collect();
        older.sort_unstable();
        let kept = older.split_off(older.len().saturating_sub(self.keep - 1));
        self.oldest = kept.first().copied().unwrap_or(self.at);
        self.garbage = older.into_iter().map(checkpoint_file).collect();
        let temporary = names.iter().filter(|(name, _)| name.ends_with(".tmp"));
        self.garbage.extend(temporary.map(|(name, _)| format!("{CHECKPOINT_DIR}/{name}").into()));
        self.stage = Stage::Deleting;
        self.delete_more();
    }

    fn delete_more(&mut self) {
        match self.garbage.pop() {
            Some(file) => self.issue(DiskCommand::Delete { file }),
            None => {
                self.stage = Stage::SyncingDeletes;
                self.issue(DiskCommand::SyncDir { dir: CHECKPOINT_DIR.into() });
            }
        }
    }

    /// Before the rename the half-made file is taken away once nothing writes to it.
    fn on_failed(&mut self, error: DiskError) {
        self.outputs.push_back(WriterOutput::Failed { error });
        let is_temporary = matches!(
            self.stage,
            Stage::Creating | Stage::Streaming | Stage::Finishing | Stage::Syncing
        );
        if is_temporary {
            self.garbage.push(temporary_file(self.at));
            self.stage = Stage::Abandoning;
            self.abandon_more();
        } else {
            self.stage = Stage::Ended;
        }
    }

    fn abandon_more(&mut self) {
        if !self.ops.is_empty() {
            return;
        }
        match self.garbage.pop() {
            Some(file) => self.issue(DiskCommand::Delete { file }),
            None => self.stage = Stage::Ended,
        }
    }

    fn write(&mut self, data: Bytes) {
        let (file, offset_bytes) = (temporary_file(self.at), self.offset_bytes);
        self.offset_bytes += data.len() as u64;
        self.unsynced_bytes += data.len() as u64;
        self.issue(DiskCommand::Write { file: file.clone(), offset_bytes, data });
        if self.unsynced_bytes >= SYNC_BYTES {
            self.unsynced_bytes = 0;
            self.issue(DiskCommand::Sync { file });
        }
    }

    fn issue(&mut self, command: DiskCommand) {
        self.next_op += 1;
        self.ops.insert(DiskOp(self.next_op));
        self.outputs.push_back(WriterOutput::Disk(DiskOp(self.next_op), command));
    }
}
