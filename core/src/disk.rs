//! The disk as a part of this crate sees it: commands out, completions in.
//!
//! Rules that every driver and the simulator keep: completions come in any order; a `Sync` covers only those
//! writes of its file whose completions were handed in before it was issued; a file that was created, renamed
//! or deleted is durable only after a `SyncDir` of its directory, and a directory that was made only after one of
//! its parent; after a failed sync a file is poisoned and nothing more of it may be trusted.

use bytes::Bytes;

/// Names one command until its completion arrives. Unique within the machine that issued it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DiskOp(pub u64);

/// A file below the data directory: directories separated by `/`, no leading slash.
pub type FileName = std::sync::Arc<str>;

/// What a driver must do on the disk. Files are named below the data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskCommand {
    /// List the files of a directory, which is made when missing, and is then not yet durable. Answered by
    /// `Listed`.
    List {
        /// The directory.
        dir: FileName,
    },
    /// Create a file, or cut an existing one, to exactly this many zero bytes, all of them written, so that later
    /// writes inside it change neither its length nor its blocks. Fails with `Full` before anything is promised.
    /// A file of length zero grows by its writes. Answered by `Done`.
    Create {
        /// The file.
        file: FileName,
        /// Its length in bytes.
        len_bytes: u64,
        /// Free space that the volume must have beside the file: with less, the command fails with `Full`.
        keep_free_bytes: u64,
    },
    /// Write at an offset. Answered by `Done`.
    Write {
        /// The file.
        file: FileName,
        /// Where; in a file that was created with a length a multiple of 512, and so is the length of `data`.
        offset_bytes: u64,
        /// What.
        data: Bytes,
    },
    /// Make all completed writes of a file durable. Answered by `Done`.
    Sync {
        /// The file.
        file: FileName,
    },
    /// Make creations, renames and deletions in a directory durable, also of directories. Answered by `Done`.
    SyncDir {
        /// The directory; `""` is the data directory itself.
        dir: FileName,
    },
    /// Rename within one directory, replacing the target. Answered by `Done`.
    Rename {
        /// The present name.
        from: FileName,
        /// The new name.
        to: FileName,
    },
    /// Delete a file. Answered by `Done`.
    Delete {
        /// The file.
        file: FileName,
    },
    /// Read from an offset; fewer bytes come back only at the end of the file. Answered by `Read`.
    Read {
        /// The file.
        file: FileName,
        /// Where.
        offset_bytes: u64,
        /// At most so many bytes.
        len_bytes: u32,
    },
}

impl DiskCommand {
    /// The file or directory that the command is about; of a rename the former name.
    #[must_use]
    pub const fn file(&self) -> &FileName {
        match self {
            Self::List { dir } | Self::SyncDir { dir } => dir,
            Self::Create { file, .. }
            | Self::Write { file, .. }
            | Self::Sync { file }
            | Self::Rename { from: file, .. }
            | Self::Delete { file }
            | Self::Read { file, .. } => file,
        }
    }
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
    /// No space left. What a write would have put there, or a sync would have made durable, may be there in part; what
    /// was durable before still is, and the same may be tried again when there is space.
    #[error("no space left on the device")]
    Full,
    /// Nothing was done, for lack of something that comes back, such as a file descriptor.
    #[error("the system is short of something for the moment: {0}")]
    Again(String),
    /// The volume takes no writes for the time being. Nothing of this one is durable.
    #[error("the volume is mounted read-only")]
    ReadOnly,
    /// The device refused or lost data; the state of the file is unknown.
    #[error("input/output error: {0}")]
    Io(String),
    /// The file does not exist.
    #[error("no such file")]
    NotFound,
}

impl DiskError {
    /// Whether the same command may succeed later, without anything having been lost meanwhile.
    #[must_use]
    pub const fn is_passing(&self) -> bool {
        matches!(self, Self::Full | Self::Again(_) | Self::ReadOnly)
    }
}

/// The completion of one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskDone {
    /// The command this answers.
    pub op: DiskOp,
    /// What came of it.
    pub result: Result<DiskReply, DiskError>,
}
