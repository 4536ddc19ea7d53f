//! The directory of a peer: one process at a time, one format, one app, one identity.
//!
//! ```text
//! DIR/lock        locked while a process uses the directory; holds its pid
//! DIR/FORMAT      `bigpeer-peer 1`, then `app UUID`
//! DIR/identity    who this store is, with its private key; mode 0600
//! DIR/log/        the transaction log
//! ```

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use bigpeer_core::ident::{AppId, Uuid};

use crate::error::PeerError;
use crate::identity::Identity;

/// An open directory. Dropping it lets another process in.
#[derive(Debug)]
pub(crate) struct Directory {
    pub(crate) path: PathBuf,
    pub(crate) identity: Identity,
    _lock: File,
}

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// Another process uses it.
    #[error("{path} is in use by process {pid}: stop that process, or choose another directory")]
    InUse {
        /// The directory.
        path: PathBuf,
        /// The process that holds the lock.
        pid: String,
    },
    /// A later version wrote it.
    #[error(
        "{path} has format version {found}, and this build reads up to {FORMAT_VERSION}: \
         use the version of bigpeer that wrote it, or a later one"
    )]
    TooNew {
        /// The directory.
        path: PathBuf,
        /// The version found.
        found: u32,
    },
    /// It holds the documents of another app.
    #[error(
        "{path} belongs to app {found}, not to {asked}: choose another directory, or name that app"
    )]
    WrongApp {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        found: AppId,
        /// Whose it should be.
        asked: AppId,
    },
    /// It holds files, and none of them is a peer's.
    #[error("{path} is no directory of a peer, and is not empty: choose another directory")]
    Foreign {
        /// The directory.
        path: PathBuf,
    },
    /// A file of ours does not say what it should.
    #[error("{path} is damaged: {cause}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        cause: &'static str,
    },
    /// The operating system refuses.
    #[error("cannot {action} {path}: {error}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        error: io::Error,
    },
}

/// The format that this build writes.
pub const FORMAT_VERSION: u32 = 1;

const FORMAT: &str = "FORMAT";
const LOCK: &str = "lock";
const IDENTITY: &str = "identity";

/// The longest file of ours that is read whole, in bytes: what is longer is not ours.
const FILE_BYTES_MAX: u64 = 4096;

impl Directory {
    /// Opens the directory, and makes it when it is missing or empty.
    pub(crate) fn open(path: &Path, app: AppId) -> Result<Self, PeerError> {
        fs::create_dir_all(path).map_err(io_error("create", path))?;
        let path = path.canonicalize().map_err(io_error("open", path))?;
        if !path.join(LOCK).exists() && !path.join(FORMAT).exists() && !is_empty(&path)? {
            return Err(DirectoryError::Foreign { path }.into());
        }
        let lock = lock(&path)?;
        let found = read_format(&path)?;
        if let Some(found) = found.filter(|found| *found != app) {
            return Err(DirectoryError::WrongApp { path, found, asked: app }.into());
        }
        let identity = open_identity(&path, found.is_none())?;
        if found.is_none() {
            // Last, so that a directory with a format is whole.
            let text = format!("bigpeer-peer {FORMAT_VERSION}\napp {app}\n");
            write_file(&path, FORMAT, text.as_bytes(), 0o644)?;
        }
        Ok(Self { path, identity, _lock: lock })
    }
}

fn is_empty(path: &Path) -> Result<bool, DirectoryError> {
    let mut entries = fs::read_dir(path).map_err(io_error("list", path))?;
    // What mkfs leaves in the root of a volume is nobody's data.
    Ok(entries.all(|entry| entry.is_ok_and(|entry| entry.file_name() == "lost+found")))
}

fn lock(path: &Path) -> Result<File, DirectoryError> {
    let name = path.join(LOCK);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let mut file = options.open(&name).map_err(io_error("open", &name))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let _ = file.take(FILE_BYTES_MAX).read_to_string(&mut pid);
            let pid = if pid.trim().is_empty() { "(unknown)" } else { pid.trim() };
            return Err(DirectoryError::InUse { path: path.to_owned(), pid: pid.to_owned() });
        }
        Err(TryLockError::Error(error)) => return Err(io_error("lock", &name)(error)),
    }
    let pid = format!("{}\n", std::process::id());
    let written =
        file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(pid.as_bytes()));
    written.map_err(io_error("write", &name))?;
    Ok(file)
}

/// Whose directory it is, or `None` if it was never finished.
fn read_format(path: &Path) -> Result<Option<AppId>, DirectoryError> {
    let name = path.join(FORMAT);
    let Some(text) = read_file(&name)? else { return Ok(None) };
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    if first.starts_with("bigpeer ") {
        // A server's: its documents must not be served by two engines that know nothing of each other.
        return Err(DirectoryError::Foreign { path: path.to_owned() });
    }
    let damaged = |cause| DirectoryError::Damaged { path: name.clone(), cause };
    let version = first.strip_prefix("bigpeer-peer ").and_then(|version| version.parse().ok());
    let version: u32 = version.ok_or_else(|| damaged("it states no format version"))?;
    if version > FORMAT_VERSION {
        return Err(DirectoryError::TooNew { path: path.to_owned(), found: version });
    }
    let app = lines.next().and_then(|line| line.strip_prefix("app "));
    let app = app.and_then(|app| app.parse::<Uuid>().ok());
    app.map(|app| Some(AppId(app))).ok_or_else(|| damaged("it names no app"))
}

fn open_identity(path: &Path, is_new: bool) -> Result<Identity, PeerError> {
    let name = path.join(IDENTITY);
    match read_file(&name)? {
        Some(text) => Ok(Identity::parse(&text).ok_or(DirectoryError::Damaged {
            path: name,
            cause: "expected a line `store UUID` and a line `key` with 64 hexadecimal digits",
        })?),
        None if is_new => {
            let (identity, text) = Identity::create()?;
            write_file(path, IDENTITY, text.as_bytes(), 0o600)?;
            Ok(identity)
        }
        // Another identity on the same log would author under a name that nobody knows it by.
        None => Err(DirectoryError::Damaged { path: name, cause: "it is missing" }.into()),
    }
}

fn read_file(name: &Path) -> Result<Option<String>, DirectoryError> {
    let file = match File::open(name) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("open", name)(error)),
    };
    let mut text = String::new();
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(io_error("read", name))?;
    Ok(Some(text))
}

/// Writes a file that is there whole or not at all, also after a power cut.
fn write_file(dir: &Path, name: &str, bytes: &[u8], mode: u32) -> Result<(), DirectoryError> {
    let (file, temporary) = (dir.join(name), dir.join(format!("{name}.new")));
    let write = || {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(mode);
        let mut out = options.open(&temporary)?;
        out.write_all(bytes)?;
        out.sync_all()?;
        fs::rename(&temporary, &file)?;
        File::open(dir)?.sync_all()
    };
    write().map_err(io_error("write", &file))
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DirectoryError {
    let path = path.to_owned();
    move |error| DirectoryError::Io { action, path, error }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::testing::Scratch;

    const APP: AppId = AppId(Uuid([1; 16]));

    fn cause(path: &Path, app: AppId) -> String {
        Directory::open(path, app).expect_err("it is refused").to_string()
    }

    #[test]
    fn a_directory_keeps_its_identity_and_admits_one_process() {
        let scratch = Scratch::new("identity");
        let first = Directory::open(scratch.path(), APP).expect("a new directory");
        let refused = cause(scratch.path(), APP);
        assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");
        let identity = first.identity;
        drop(first);
        assert_eq!(Directory::open(scratch.path(), APP).expect("it is free").identity, identity);
        let metadata = fs::metadata(scratch.path().join(IDENTITY)).expect("there");
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_directory_belongs_to_one_app() {
        let scratch = Scratch::new("app");
        drop(Directory::open(scratch.path(), APP).expect("a new directory"));
        let other = AppId(Uuid([2; 16]));
        let refused = cause(scratch.path(), other);
        assert!(refused.contains(&APP.to_string()), "{refused}");
        assert!(refused.contains(&other.to_string()), "{refused}");
    }

    #[test]
    fn newer_foreign_and_damaged_directories_are_refused() {
        for (format, part) in [
            ("bigpeer-peer 2\napp x\n", "format version 2"),
            ("bigpeer 1\npartitions 16\n", "no directory of a peer"),
            ("bigpeer-peer 1\n", "names no app"),
            ("", "no format version"),
        ] {
            let scratch = Scratch::new("format");
            fs::write(scratch.path().join(FORMAT), format).expect("temporary");
            let refused = cause(scratch.path(), APP);
            assert!(refused.contains(part), "{refused}");
        }
        let scratch = Scratch::new("foreign");
        fs::write(scratch.path().join("holiday.jpg"), "").expect("temporary");
        assert!(cause(scratch.path(), APP).contains("not empty"));
    }

    #[test]
    fn a_lost_identity_is_not_replaced() {
        let scratch = Scratch::new("lost");
        drop(Directory::open(scratch.path(), APP).expect("a new directory"));
        fs::remove_file(scratch.path().join(IDENTITY)).expect("it was there");
        assert!(cause(scratch.path(), APP).contains("missing"));
    }
}
