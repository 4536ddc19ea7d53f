//! What a log says: outputs, refusals, errors and its fill state.

use std::time::Duration;

use super::{BootTable, LogRecord};
use crate::disk::{DiskCommand, DiskError, DiskOp, FileName};
use crate::ident::{LogId, Txn};

/// What the owner of a log must do, or may rely on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogOutput {
    /// Carry out a disk command and answer it under this number.
    Disk(DiskOp, DiskCommand),
    /// The log is whole up to `durable`. It accepts appends, or will as soon as its volume does.
    Opened(Box<LogOpened>),
    /// The records of this append have their positions, from `first` on. They are not durable yet.
    Appended {
        /// What was given to `append`.
        ticket: u64,
        /// The position of its first record.
        first: Txn,
    },
    /// These records are durable. Every position comes exactly once per opening, in order.
    Committed {
        /// The position of the first record.
        first: Txn,
        /// Records at consecutive positions.
        records: Vec<LogRecord>,
    },
    /// Nothing of this append was written, and nothing will be.
    Refused {
        /// What was given to `append`.
        ticket: u64,
        /// Why.
        reason: Refusal,
    },
    /// The disk has no space for another segment, and the log holds nothing that it may give up. What needs one
    /// waits until [`Log::trim`](super::Log::trim) lets older ones go, or
    /// [`Log::deny_space`](super::Log::deny_space) says that none can.
    Short,
    /// The log has stopped. What was appended and not committed has an unknown outcome: it may or may not be
    /// there after the next opening.
    Failed {
        /// Why.
        error: LogError,
    },
    /// The log is closed: the answer to `seal`.
    Sealed {
        /// Everything in the log is known to be on stable storage, what was found at the start included. Not so when
        /// it has failed, or could not be mended for want of space.
        is_whole: bool,
    },
}

/// What was found when a log was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogOpened {
    /// The identity of the log.
    pub log_id: LogId,
    /// All boots, this one last.
    pub boots: BootTable,
    /// The last durable position: replay ends here. Zero in an empty log.
    pub durable: Txn,
    /// The last position that the log itself states to have been on the disk. What lies above it may be in the memory
    /// of the kernel alone until it is written once more: see [`LogFill::is_unmended`].
    pub proven: Txn,
    /// The position that the next record will take.
    pub next: Txn,
    /// True when the directory held no log and one was made.
    pub created: bool,
    /// True when the log ended with a seal: it was idle or stopped when the last process ended.
    pub seal_seen: bool,
    /// The unfinished tail that was cut off, if there was one.
    pub cut: Option<TailCut>,
}

/// Groups at the end of a log that were written but never synced, and did not survive whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TailCut {
    /// The segment file.
    pub file: FileName,
    /// Where the first group was cut.
    pub offset_bytes: u64,
    /// Bytes overwritten, up to the last header that was found.
    pub len_bytes: u64,
}

/// Why an append was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No space for another segment.
    #[error("the disk is full")]
    Full,
    /// The volume takes no writes.
    #[error("the volume is read-only")]
    ReadOnly,
    /// More than [`APPEND_BYTES_MAX`](super::APPEND_BYTES_MAX) or [`APPEND_RECORDS_MAX`](super::APPEND_RECORDS_MAX), or no record at all.
    #[error("the append is empty or over the limit")]
    TooLarge,
    /// More than `pending_bytes_max` wait for the disk.
    #[error("too much waits for the disk")]
    Busy,
    /// The log is sealed, or has failed.
    #[error("the log is closed")]
    Closed,
}

/// Why a log stopped, or did not open.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// Bytes that were durable are gone or changed. Nothing was cut.
    #[error(transparent)]
    Damaged(#[from] LogDamage),
    /// Written by a later version of this software.
    #[error("{file} has format version {version}, which this build does not know")]
    TooNew {
        /// The segment file.
        file: FileName,
        /// The version found.
        version: u16,
    },
    /// A group of a kind that this build neither knows nor may skip.
    #[error("{file} holds a critical group of unknown kind {kind} at byte {offset_bytes}")]
    UnknownGroup {
        /// The segment file.
        file: FileName,
        /// Where the group starts.
        offset_bytes: u64,
        /// The kind found.
        kind: u8,
    },
    /// The directory is known to hold a log, and holds none.
    #[error(
        "{file} is missing: the directory held a log, and its documents are gone. Restore the directory from a \
         backup, or begin anew in an empty one"
    )]
    Missing {
        /// The first segment file of a log.
        file: FileName,
    },
    /// The log is another one than the directory is known to hold.
    #[error(
        "{file} belongs to log {found}, and the directory to log {expected}: files of two directories were mixed. \
         Restore the directory from a backup"
    )]
    Other {
        /// The newest segment file.
        file: FileName,
        /// The log that was expected.
        expected: LogId,
        /// The log that the file states.
        found: LogId,
    },
    /// No start of the directory came to its end, and yet there are records or a checkpoint of them.
    #[error(
        "{file} shows that the directory holds documents, and what says whose they are is missing"
    )]
    Unnamed {
        /// A segment file or a checkpoint.
        file: FileName,
    },
    /// The checkpoint from which the log would be replayed cannot be used.
    #[error("{file}: {reason}")]
    Checkpoint {
        /// The file or directory.
        file: FileName,
        /// What is wrong with it.
        reason: String,
    },
    /// The disk refused.
    #[error("{file}: {error}")]
    Disk {
        /// The file or directory of the command that failed.
        file: FileName,
        /// What the disk said.
        error: DiskError,
    },
}

impl LogError {
    /// Whether the disk had no space.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        matches!(self, Self::Disk { error: DiskError::Full, .. })
    }
}

/// Where the log is damaged, and how.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the log is damaged: {file} at byte {offset_bytes}: {kind}")]
pub struct LogDamage {
    /// The segment file.
    pub file: FileName,
    /// Where the damaged part starts.
    pub offset_bytes: u64,
    /// What is wrong there.
    pub kind: DamageKind,
}

/// What is wrong with a damaged log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DamageKind {
    /// A group that a later header states to be durable does not check.
    #[error("a durable group does not check")]
    Group,
    /// The header of a segment that is in use does not check.
    #[error("the segment header does not check")]
    SegmentHeader,
    /// A segment between others is not there.
    #[error("the segment is missing")]
    MissingSegment,
    /// The file is not as long as its header says.
    #[error("the file has {found_bytes} bytes instead of {expected_bytes}")]
    Length {
        /// Bytes found.
        found_bytes: u64,
        /// Bytes stated.
        expected_bytes: u64,
    },
    /// The segment belongs to another log.
    #[error("the segment belongs to another log")]
    Foreign,
    /// The oldest segment starts above what must be replayed.
    #[error("positions from {wanted} on are needed, and the log starts at {first}")]
    StartsAfter {
        /// The first position to replay.
        wanted: Txn,
        /// The first position there is.
        first: Txn,
    },
    /// The log ends below the checkpoint that was made from it.
    #[error("the checkpoint is at {wanted}, and the log ends at {last}")]
    EndsBefore {
        /// The checkpoint's position.
        wanted: Txn,
        /// The last position there is.
        last: Txn,
    },
}

/// How full a log is: for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogFill {
    /// Segment files in use, and their bytes.
    pub segment_count: u64,
    /// Bytes of all segment files, the spare one included.
    pub segment_bytes: u64,
    /// Records with a position that are not durable.
    pub pending_records: u64,
    /// Bytes of records that are not durable, with or without a position.
    pub pending_bytes: u64,
    /// Appends that wait for a position.
    pub waiting_appends: u64,
    /// True when the next segment is ready.
    pub spare_ready: bool,
    /// True while the disk has no space for another segment and none can be made: only what the last one still takes
    /// is accepted.
    pub disk_full: bool,
    /// True while the volume takes no writes at all.
    pub read_only: bool,
    /// True until what the start found is mended: its end, which no header states to be durable, is written once more
    /// and synced. Nothing is appended before.
    pub is_unmended: bool,
    /// Space that a new segment for usual records leaves free on the volume, in bytes.
    pub reserve_bytes: u64,
    /// How long the last sync took.
    pub sync_time: Duration,
}
