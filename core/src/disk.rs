//! The disk as a part of this crate sees it: commands out, completions in.
//!
//! Rules that every driver and the simulator keep: completions come in any order; a `Sync` covers only those
//! writes of its file whose completions were handed in before it was issued; a file that was created, renamed
//! or deleted is durable only after a `SyncDir`; after a failed sync a file is poisoned and nothing more of it
//! may be trusted.

use bytes::Bytes;

/// Names one command until its completion arrives. Unique within the machine that issued it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DiskOp(pub u64);

/// A file below the data directory: directories separated by `/`, no leading slash.
pub type FileName = std::sync::Arc<str>;

/// What a driver must do on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskCommand {
    /// List the files of the directory `dir`, which is made when missing. Answered by `Listed`.
    List { dir: FileName },
    /// Create a file of exactly `len_bytes` zero bytes, all of them written, so that later writes inside it
    /// never change its length or its blocks. Fails with `Full` before anything is promised. Answered by `Done`.
    Create { file: FileName, len_bytes: u64 },
    /// Write at an offset. Offset and length are multiples of 512. Answered by `Done`.
    Write { file: FileName, offset_bytes: u64, data: Bytes },
    /// Make all completed writes of this file durable. Answered by `Done`.
    Sync { file: FileName },
    /// Make creations, renames and deletions in `dir` durable. Answered by `Done`.
    SyncDir { dir: FileName },
    /// Rename within one directory, replacing the target. Answered by `Done`.
    Rename { from: FileName, to: FileName },
    /// Delete a file. Answered by `Done`.
    Delete { file: FileName },
    /// Read at most `len_bytes` from an offset; fewer come back only at the end of the file. Answered by `Read`.
    Read { file: FileName, offset_bytes: u64, len_bytes: u32 },
}

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskReply {
    /// It was done.
    Done,
    /// The bytes read.
    Read(Bytes),
    /// The files found (names without directory) and their lengths in bytes, sorted by name.
    Listed(Vec<(String, u64)>),
}

/// Why a command failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DiskError {
    /// No space left: nothing was written.
    #[error("no space left on the device")]
    Full,
    /// The device refused or lost data; the state of the file is unknown.
    #[error("input/output error: {0}")]
    Io(String),
    /// The file does not exist.
    #[error("no such file")]
    NotFound,
}

/// The completion of one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskDone {
    /// The command this answers.
    pub op: DiskOp,
    /// What came of it.
    pub result: Result<DiskReply, DiskError>,
}
