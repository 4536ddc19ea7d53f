//! The directory of a peer: one process at a time, one format, one app, one identity.
//!
//! ```text
//! DIR/lock        holds the pid of the process that uses the directory, which is locked itself
//! DIR/identity    who this store is, with its private key
//! DIR/log/        the transaction log
//! DIR/FORMAT      `bigpeer-peer 1`, `app UUID`, and the ids of store and log; the last that is made
//! DIR/guard       a file that nobody touches, and
//! DIR/actor       the epoch that this store authors under: see `fork_guard`
//! ```
//!
//! All of it is its owner's alone: modes 0700 and 0600.

use std::io;
use std::path::{Path, PathBuf};

use bigpeer_core::ident::{AppId, LogId, Uuid};
use bigpeer_core::log::{LOG_DIR, LogError, LogExpected};
use bigpeer_host::contents::{self, Contents, IDENTITY};
use bigpeer_host::files::{make_dirs, read_small, write_whole};
use bigpeer_host::format::{FORMAT, Finished, Named};
use bigpeer_host::lock::{DirLock, LockError};

use crate::error::PeerError;
use crate::fork_guard::{ACTOR, GUARD};
use crate::identity::Identity;

/// An open directory. Dropping it lets another process in.
#[derive(Debug)]
pub(crate) struct Directory {
    pub(crate) path: PathBuf,
    pub(crate) identity: Identity,
    app: AppId,
    finished: Finished,
    /// The text of an identity that is not written before the log has shown that it belongs to nobody else.
    identity_owed: Option<String>,
    _lock: DirLock,
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
    /// It holds a file that is none of a peer's.
    #[error(
        "{path} is no directory of a peer, and is not empty, as it holds {found}: choose another directory"
    )]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// What no peer's directory holds.
        found: String,
    },
    /// A part of it is gone.
    #[error(
        "{path} is missing, and the directory holds the documents that go with it: restore it from a backup, or \
         begin anew in an empty directory"
    )]
    Missing {
        /// The file or directory.
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

/// The mode of files: their owner's alone.
pub(crate) const FILE_MODE: u32 = 0o600;

impl Directory {
    /// Opens the directory, and begins one where nothing is. [`Directory::finish`] ends it, once the log is open.
    pub(crate) fn open(path: &Path, app: AppId) -> Result<Self, PeerError> {
        make_dirs(path).map_err(io_error("create", path))?;
        let path = path.canonicalize().map_err(io_error("open", path))?;
        // Before anything is looked at: what another process is making is not foreign.
        let mut lock = DirLock::take(&path).map_err(lock_error(&path))?;
        let finished = match read_format(&path)? {
            Some((found, _)) if found != app => {
                return Err(DirectoryError::WrongApp { path, found, asked: app }.into());
            }
            Some((_, finished)) => finished,
            None => Finished::No,
        };
        match finished {
            Finished::No => check_unfinished(&path)?,
            Finished::Unnamed | Finished::Named(_) => check_whole(&path)?,
        }
        let (identity, identity_owed) = open_identity(&path)?;
        if let Finished::Named(named) = finished
            && named.store != identity.store
        {
            let cause = "it is of another store than FORMAT names";
            return Err(DirectoryError::Damaged { path: path.join(IDENTITY), cause }.into());
        }
        lock.sign(&path).map_err(lock_error(&path))?;
        Ok(Self { path, identity, app, finished, identity_owed, _lock: lock })
    }

    /// What the log in it has to be.
    pub(crate) fn log_expected(&self) -> LogExpected {
        self.finished.log_expected()
    }

    /// The log is open and has taken no record since: writes or completes FORMAT, which names it.
    pub(crate) fn finish(&mut self, log: LogId) -> Result<(), DirectoryError> {
        if let Finished::Named(named) = self.finished {
            assert_eq!(named.log, log, "no other log opens in this directory");
            return Ok(());
        }
        if let Some(text) = self.identity_owed.take() {
            write(&self.path, IDENTITY, &text)?;
        }
        let named = Named { store: self.identity.store, log };
        let app = self.app;
        let text = format!("bigpeer-peer {FORMAT_VERSION}\napp {app}\n{}", named.lines());
        match write(&self.path, FORMAT, &text) {
            // The FORMAT of an earlier build, on a volume that is full: it can be completed another time.
            Err(_) if self.finished == Finished::Unnamed => return Ok(()),
            result => result?,
        }
        self.finished = Finished::Named(named);
        Ok(())
    }

    /// Why the log did not open, as far as the directory knows better than the log.
    pub(crate) fn log_error(&self, error: LogError) -> PeerError {
        match error {
            LogError::Unnamed { .. } => {
                DirectoryError::Missing { path: self.path.join(FORMAT) }.into()
            }
            error => PeerError::Log(error),
        }
    }
}

/// Nothing but what an opening leaves that did not come to its end.
fn check_unfinished(path: &Path) -> Result<(), DirectoryError> {
    match contents::look(path, &[GUARD, ACTOR]).map_err(io_error("list", path))? {
        Contents::Empty | Contents::Unfinished => Ok(()),
        Contents::Foreign(found) => Err(DirectoryError::Foreign { path: path.to_owned(), found }),
    }
}

/// Everything that was there when FORMAT was written. Whether the log is the one it names, the log itself will see.
fn check_whole(path: &Path) -> Result<(), DirectoryError> {
    match [IDENTITY, LOG_DIR].into_iter().find(|name| !path.join(name).exists()) {
        Some(name) => Err(DirectoryError::Missing { path: path.join(name) }),
        None => Ok(()),
    }
}

/// Whose directory it is and what it names, or `None` if it was never finished.
fn read_format(path: &Path) -> Result<Option<(AppId, Finished)>, DirectoryError> {
    let name = path.join(FORMAT);
    let Some(text) = read_small(&name).map_err(io_error("read", &name))? else { return Ok(None) };
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    if first.starts_with("bigpeer ") {
        // A server's: its documents must not be served by two engines that know nothing of each other.
        let found = "the FORMAT of a server".to_owned();
        return Err(DirectoryError::Foreign { path: path.to_owned(), found });
    }
    let damaged = |cause| DirectoryError::Damaged { path: name.clone(), cause };
    let version = first.strip_prefix("bigpeer-peer ").and_then(|version| version.parse().ok());
    let version: u32 = version.ok_or_else(|| damaged("it states no format version"))?;
    if version > FORMAT_VERSION {
        return Err(DirectoryError::TooNew { path: path.to_owned(), found: version });
    }
    let app = lines.next().and_then(|line| line.strip_prefix("app "));
    let app = app.and_then(|app| app.parse::<Uuid>().ok());
    let app = AppId(app.ok_or_else(|| damaged("it names no app"))?);
    let named = Named::parse(&text).map_err(damaged)?;
    Ok(Some((app, named.map_or(Finished::Unnamed, Finished::Named))))
}

/// The identity, made once; and the text of its file, if that is not written yet.
///
/// Where a log is and no identity, the log may be that of a store whose other files were lost: it is refused as soon
/// as a record is found in it, and must not meet a new identity when those files are put back.
fn open_identity(path: &Path) -> Result<(Identity, Option<String>), PeerError> {
    let name = path.join(IDENTITY);
    if let Some(text) = read_small(&name).map_err(io_error("read", &name))? {
        let cause = "expected a line `store UUID` and a line `key` with 64 hexadecimal digits";
        let identity =
            Identity::parse(&text).ok_or(DirectoryError::Damaged { path: name, cause })?;
        return Ok((identity, None));
    }
    let (identity, text) = Identity::create()?;
    if path.join(LOG_DIR).exists() {
        return Ok((identity, Some(text)));
    }
    write(path, IDENTITY, &text)?;
    Ok((identity, None))
}

fn write(dir: &Path, name: &str, text: &str) -> Result<(), DirectoryError> {
    let written = write_whole(dir, name, text.as_bytes(), FILE_MODE);
    written.map_err(io_error("write", &dir.join(name)))
}

fn lock_error(path: &Path) -> impl FnOnce(LockError) -> DirectoryError {
    let path = path.to_owned();
    move |error| match error {
        LockError::InUse { pid } => DirectoryError::InUse { path, pid },
        LockError::Io(error) => io_error("lock", &path)(error),
    }
}

pub(crate) fn io_error(
    action: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> DirectoryError {
    let path = path.to_owned();
    move |error| DirectoryError::Io { action, path, error }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::testing::Scratch;

    const APP: AppId = AppId(Uuid([1; 16]));

    const LOG: LogId = LogId(Uuid([7; 16]));

    /// A directory whose first opening came to its end.
    fn finished(scratch: &Scratch) -> Identity {
        let mut made = Directory::open(scratch.path(), APP).expect("a new directory");
        assert_eq!(made.log_expected(), LogExpected::Unwritten);
        fs::create_dir(scratch.path().join(LOG_DIR)).expect("temporary");
        made.finish(LOG).expect("temporary");
        made.identity
    }

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
        assert_eq!(finished(&scratch), identity, "an unfinished directory keeps it");
        let again = Directory::open(scratch.path(), APP).expect("it is free");
        assert_eq!((again.identity, again.log_expected()), (identity, LogExpected::This(LOG)));
        let metadata = fs::metadata(scratch.path().join(IDENTITY)).expect("there");
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_directory_belongs_to_one_app() {
        let scratch = Scratch::new("app");
        finished(&scratch);
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
    fn a_part_that_is_gone_is_not_made_anew() {
        for part in [IDENTITY, LOG_DIR] {
            let scratch = Scratch::new("lost");
            finished(&scratch);
            let lost = scratch.path().join(part);
            fs::remove_file(&lost).or_else(|_| fs::remove_dir(&lost)).expect("it was there");
            let refused = cause(scratch.path(), APP);
            assert!(refused.contains(&format!("{part} is missing")), "{refused}");
            assert!(!lost.exists());
        }
    }

    #[test]
    fn a_format_without_identities_is_completed() {
        let scratch = Scratch::new("older");
        finished(&scratch);
        let format = format!("bigpeer-peer 1\napp {APP}\n");
        fs::write(scratch.path().join(FORMAT), format).expect("temporary");
        let mut older = Directory::open(scratch.path(), APP).expect("an older build's");
        assert_eq!(older.log_expected(), LogExpected::Existing);
        older.finish(LOG).expect("temporary");
        drop(older);
        let completed = Directory::open(scratch.path(), APP).expect("it is free");
        assert_eq!(completed.log_expected(), LogExpected::This(LOG));
    }
}
