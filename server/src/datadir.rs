//! The data directory: one process at a time, one format, one identity.
//!
//! ```text
//! DIR/lock          holds the pid of the process that uses the directory, which is locked itself
//! DIR/identity      who this store is
//! DIR/admin.token   opens the admin routes
//! DIR/log/          the transaction log
//! DIR/checkpoint/   what spares a start the replay of the whole log
//! DIR/first-start.pending  the first app, key and token, until somebody was told: see `first_start`
//! DIR/first-start.json  the same, where no terminal was to show them on; to be read and deleted
//! DIR/FORMAT        the format version, the number of partitions, the ids of store and log; the last that is made
//! ```
//!
//! All of it is its owner's alone: modes 0700 and 0600.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use bigpeer_core::ident::{LogId, PeerKey, StoreId, Uuid};
use bigpeer_core::log::checkpoint::CHECKPOINT_DIR;
use bigpeer_core::log::{LOG_DIR, LogExpected};
use bigpeer_host::contents::{self, Contents, IDENTITY};
use bigpeer_host::files::{DIR_MODE, make_dirs, read_small, write_whole};
use bigpeer_host::format::{FORMAT, Finished, Named};
use bigpeer_host::lock::{DirLock, LockError};

use crate::first_start::{self, FirstStart};
use crate::secrets::{FillRandom, Secret};

/// An open data directory. Closing it lets another process in.
#[derive(Debug)]
pub struct DataDir {
    /// Where it is.
    pub path: PathBuf,
    /// Into how many partitions its documents are cut.
    pub partitions: u16,
    /// The store's identity.
    pub store: StoreId,
    /// Its public identity as a peer; the first bytes are the site of its actors.
    pub peer_key: PeerKey,
    finished: Finished,
    /// The text of an identity that is not written before the log has shown that it belongs to nobody else.
    identity_owed: Option<String>,
    _lock: DirLock,
}

/// Why a data directory cannot be used. Every text says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataDirError {
    /// Another process uses it.
    #[error(
        "{path} is in use by process {pid}: stop that process, or choose another directory with --data"
    )]
    InUse {
        /// The directory.
        path: PathBuf,
        /// The process that holds the lock.
        pid: String,
    },
    /// It was written by a later version.
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
    /// A file of ours does not say what it should.
    #[error(
        "{path} is damaged: {cause}. Restore it from a backup, or start with an empty directory"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        cause: &'static str,
    },
    /// It holds a file that is none of ours.
    #[error(
        "{path} is not empty and is no data directory of bigpeer, as it holds {found} and no {FORMAT}: \
         choose an empty one with --data"
    )]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// A file in it that no data directory has.
        found: String,
    },
    /// A part of it is gone.
    #[error(
        "{path} is missing, and the directory holds the documents that go with it: restore it from a backup, or \
         begin anew in an empty directory with --data"
    )]
    Missing {
        /// The file or directory.
        path: PathBuf,
    },
    /// The operating system refuses.
    #[error("cannot {action} {path}: {error}. {advice}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        error: io::Error,
        /// What to do.
        advice: &'static str,
    },
}

/// The format that this build writes.
pub const FORMAT_VERSION: u32 = 1;

/// How many partitions a new directory has.
pub const PARTITIONS_DEFAULT: u16 = 16;

/// The most partitions that a record can name.
pub const PARTITIONS_MAX: u16 = 64;

impl DataDir {
    /// Opens the directory, and begins one where nothing is. [`DataDir::finish`] ends it, once the log is open.
    ///
    /// # Errors
    ///
    /// [`DataDirError`], each with what to do about it.
    pub fn open(path: &Path, random: FillRandom) -> Result<Self, DataDirError> {
        make_dirs(path).map_err(io_error("create", path))?;
        let path = path.canonicalize().map_err(io_error("open", path))?;
        // Before anything is looked at: what another process is making is not foreign.
        let mut lock = DirLock::take(&path).map_err(lock_error(&path))?;
        let (partitions, finished) = match read_format(&path)? {
            Some(format) => format,
            None => (PARTITIONS_DEFAULT, Finished::No),
        };
        match finished {
            Finished::No => check_unfinished(&path)?,
            Finished::Unnamed | Finished::Named(_) => check_whole(&path)?,
        }
        let (store, peer_key, identity_owed) = identity(&path, random)?;
        if let Finished::Named(named) = finished
            && named.store != store
        {
            let cause = "it is of another store than FORMAT names";
            return Err(DataDirError::Damaged { path: path.join(IDENTITY), cause });
        }
        lock.sign(&path).map_err(lock_error(&path))?;
        protect(&path)?;
        Ok(Self { path, partitions, store, peer_key, finished, identity_owed, _lock: lock })
    }

    /// What the log in it has to be.
    #[must_use]
    pub fn log_expected(&self) -> LogExpected {
        self.finished.log_expected()
    }

    /// The log is open and has taken no record since: writes or completes FORMAT, which names it.
    ///
    /// # Errors
    ///
    /// When it cannot be written. A directory that has a FORMAT can be used all the same.
    pub fn finish(&mut self, log: LogId) -> Result<(), DataDirError> {
        if let Finished::Named(named) = self.finished {
            assert_eq!(named.log, log, "no other log opens in this directory");
            return Ok(());
        }
        if let Some(text) = self.identity_owed.take() {
            write(&self.path, IDENTITY, &text)?;
        }
        let named = Named { store: self.store, log };
        let partitions = self.partitions;
        let text = format!("bigpeer {FORMAT_VERSION}\npartitions {partitions}\n{}", named.lines());
        write(&self.path, FORMAT, &text)?;
        self.finished = Finished::Named(named);
        Ok(())
    }

    /// The file that opens the admin routes, made if there is none.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn admin_token(&self, random: FillRandom) -> Result<PathBuf, DataDirError> {
        let file = self.path.join(ADMIN_TOKEN);
        if !file.exists() {
            let token = Secret::token(random);
            write(&self.path, ADMIN_TOKEN, &format!("{}\n", token.reveal()))?;
        }
        Ok(file)
    }

    /// Keeps the app, key and token of a first start in a file, durably: before any of them is logged.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn keep(&self, first: &FirstStart) -> Result<(), DataDirError> {
        let file = self.path.join(first_start::KEPT);
        first.keep(&self.path).map_err(io_error("write", &file))
    }

    /// Whether it has a FORMAT, so that its log may take records.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.finished != Finished::No
    }

    /// That FORMAT is missing where the log holds records.
    #[must_use]
    pub fn format_missing(&self) -> DataDirError {
        DataDirError::Missing { path: self.path.join(FORMAT) }
    }
}

const ADMIN_TOKEN: &str = "admin.token";

/// Nothing but what a start leaves that did not come to its end.
fn check_unfinished(path: &Path) -> Result<(), DataDirError> {
    let others = [ADMIN_TOKEN, first_start::KEPT, first_start::TOLD];
    match contents::look(path, &others).map_err(io_error("list", path))? {
        Contents::Empty | Contents::Unfinished => Ok(()),
        Contents::Foreign(found) => Err(DataDirError::Foreign { path: path.to_owned(), found }),
    }
}

/// Everything that was there when FORMAT was written. Whether the log is the one it names, the log itself will see.
fn check_whole(path: &Path) -> Result<(), DataDirError> {
    match [IDENTITY, LOG_DIR].into_iter().find(|name| !path.join(name).exists()) {
        Some(name) => Err(DataDirError::Missing { path: path.join(name) }),
        None => Ok(()),
    }
}

/// The number of partitions and the identities, or `None` in a directory that was never finished.
fn read_format(path: &Path) -> Result<Option<(u16, Finished)>, DataDirError> {
    let name = path.join(FORMAT);
    let Some(text) = read_small(&name).map_err(io_error("read", &name))? else { return Ok(None) };
    let damaged = |cause| DataDirError::Damaged { path: name.clone(), cause };
    let mut lines = text.lines();
    let version = lines.next().and_then(|line| line.strip_prefix("bigpeer "));
    let version: u32 =
        version.and_then(|text| text.parse().ok()).ok_or_else(|| damaged("no format version"))?;
    if version > FORMAT_VERSION {
        return Err(DataDirError::TooNew { path: path.to_owned(), found: version });
    }
    let partitions = lines.next().and_then(|line| line.strip_prefix("partitions "));
    let partitions = partitions.and_then(|text| text.parse().ok());
    let partitions = partitions.filter(|count| (1..=PARTITIONS_MAX).contains(count));
    let partitions = partitions.ok_or_else(|| damaged("no number of partitions"))?;
    let named = Named::parse(&text).map_err(damaged)?;
    Ok(Some((partitions, named.map_or(Finished::Unnamed, Finished::Named))))
}

/// Store id and peer key, made once; and the text of the file, if it is not written yet.
///
/// Where a log is and no identity, the log may be that of a database whose other files were lost: it is refused as
/// soon as a record is found in it, and must not meet a new identity when those files are put back.
fn identity(
    path: &Path,
    random: FillRandom,
) -> Result<(StoreId, PeerKey, Option<String>), DataDirError> {
    let name = path.join(IDENTITY);
    if let Some(text) = read_small(&name).map_err(io_error("read", &name))? {
        let cause = "expected a line `store UUID` and a line `peer` with 64 hexadecimal digits";
        let (store, peer_key) =
            parse_identity(&text).ok_or(DataDirError::Damaged { path: name, cause })?;
        return Ok((store, peer_key, None));
    }
    let (mut store, mut peer_key) = ([0; 16], [0; 32]);
    random(&mut store);
    random(&mut peer_key);
    let (store, peer_key) = (StoreId(Uuid(store)), PeerKey(peer_key));
    let text = format!("store {store}\npeer {peer_key}\n");
    if path.join(LOG_DIR).exists() {
        return Ok((store, peer_key, Some(text)));
    }
    write(path, IDENTITY, &text)?;
    Ok((store, peer_key, None))
}

fn parse_identity(text: &str) -> Option<(StoreId, PeerKey)> {
    let mut lines = text.lines();
    let store = lines.next()?.strip_prefix("store ")?.parse().ok()?;
    let digits = lines.next()?.strip_prefix("peer ")?;
    let mut peer_key = [0; 32];
    if digits.len() != 2 * peer_key.len() {
        return None;
    }
    for (index, byte) in peer_key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(digits.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some((StoreId(store), PeerKey(peer_key)))
}

/// Takes from everybody else what earlier builds, or a restore, left them.
fn protect(path: &Path) -> Result<(), DataDirError> {
    for (name, wanted) in [
        (ADMIN_TOKEN, FILE_MODE),
        (IDENTITY, FILE_MODE),
        (first_start::KEPT, FILE_MODE),
        (first_start::TOLD, FILE_MODE),
        (LOG_DIR, DIR_MODE),
        (CHECKPOINT_DIR, DIR_MODE),
    ] {
        let name = path.join(name);
        let Ok(metadata) = fs::metadata(&name) else { continue };
        if metadata.permissions().mode() & 0o077 == 0 {
            continue;
        }
        match fs::set_permissions(&name, fs::Permissions::from_mode(wanted)) {
            // A read-only volume can be read all the same, and says so elsewhere.
            Err(error) if error.kind() != ErrorKind::ReadOnlyFilesystem => {
                return Err(io_error("protect", &name)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The mode of files: their owner's alone.
const FILE_MODE: u32 = 0o600;

fn write(dir: &Path, name: &str, text: &str) -> Result<(), DataDirError> {
    let written = write_whole(dir, name, text.as_bytes(), FILE_MODE);
    written.map_err(io_error("write", &dir.join(name)))
}

fn lock_error(path: &Path) -> impl FnOnce(LockError) -> DataDirError {
    let path = path.to_owned();
    move |error| match error {
        LockError::InUse { pid } => DataDirError::InUse { path, pid },
        LockError::Io(error) => io_error("lock", &path)(error),
    }
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DataDirError {
    let path = path.to_owned();
    move |error| {
        let advice = match error.kind() {
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                "Make it writable for this user, or choose another directory with --data"
            }
            ErrorKind::StorageFull => "Free some space",
            ErrorKind::NotADirectory | ErrorKind::AlreadyExists => {
                "It is no directory: choose another one with --data"
            }
            _ => "Check the path given by --data",
        };
        DataDirError::Io { action, path, error, advice }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::os_random;

    fn scratch(name: &str) -> PathBuf {
        let path =
            std::env::temp_dir().join(format!("bigpeer-datadir-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        path
    }

    const LOG: LogId = LogId(Uuid([7; 16]));

    /// A directory whose first start came to its end.
    fn finished(name: &str) -> (PathBuf, DataDir) {
        let path = scratch(name);
        let mut made = DataDir::open(&path, os_random).expect("a new directory");
        assert_eq!(made.log_expected(), LogExpected::Unwritten);
        fs::create_dir(path.join(LOG_DIR)).expect("temporary");
        made.finish(LOG).expect("temporary");
        (path, made)
    }

    fn refusal(path: &Path) -> String {
        DataDir::open(path, os_random).expect_err("it is refused").to_string()
    }

    #[test]
    fn a_directory_keeps_its_identity_and_admits_one_process() {
        let (path, first) = finished("identity");
        let refused = refusal(&path);
        assert!(refused.contains(&std::process::id().to_string()), "{refused}");
        let (store, peer_key) = (first.store, first.peer_key);
        let token = |dir: &DataDir| {
            fs::read_to_string(dir.admin_token(os_random).expect("temporary")).expect("it is there")
        };
        let shown = token(&first);
        drop(first);
        let second = DataDir::open(&path, os_random).expect("it is free");
        assert_eq!(second.log_expected(), LogExpected::This(LOG));
        assert_eq!((second.store, second.peer_key), (store, peer_key));
        assert_eq!((token(&second), second.partitions), (shown, PARTITIONS_DEFAULT));
        for name in [ADMIN_TOKEN, IDENTITY, FORMAT] {
            let mode = fs::metadata(path.join(name)).expect("there").permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        fs::remove_dir_all(&path).expect("ours");
    }

    #[test]
    fn newer_data_and_foreign_files_are_refused() {
        let path = scratch("newer");
        fs::create_dir_all(&path).expect("temporary");
        fs::write(path.join(FORMAT), "bigpeer 2\npartitions 16\n").expect("temporary");
        let error = refusal(&path);
        assert!(error.contains("format version 2"), "{error}");
        for foreign in ["holiday.jpg", "lock"] {
            fs::remove_dir_all(&path).expect("ours");
            fs::create_dir_all(&path).expect("temporary");
            fs::write(path.join(foreign), "").expect("temporary");
            let error = refusal(&path);
            assert!(error.contains(foreign) && error.contains("choose an empty one"), "{error}");
            assert_eq!(fs::read_dir(&path).expect("there").count(), 1, "nothing is made in it");
        }
        fs::remove_dir_all(&path).expect("ours");
    }

    #[test]
    fn a_part_that_is_gone_is_not_made_anew() {
        for part in [IDENTITY, LOG_DIR] {
            let (path, made) = finished("missing");
            drop(made);
            let lost = path.join(part);
            fs::remove_file(&lost).or_else(|_| fs::remove_dir(&lost)).expect("it was there");
            let error = refusal(&path);
            assert!(error.contains(&format!("{part} is missing")), "{error}");
            assert!(!lost.exists());
            fs::remove_dir_all(&path).expect("ours");
        }
    }

    #[test]
    fn an_identity_of_another_store_is_refused() {
        let (path, made) = finished("mixed");
        drop(made);
        let other = format!("store {}\npeer {}\n", Uuid([1; 16]), PeerKey([2; 32]));
        fs::write(path.join(IDENTITY), other).expect("temporary");
        let error = refusal(&path);
        assert!(error.contains("another store"), "{error}");
        fs::remove_dir_all(&path).expect("ours");
    }

    #[test]
    fn a_format_without_identities_is_completed() {
        let (path, made) = finished("older");
        drop(made);
        fs::write(path.join(FORMAT), "bigpeer 1\npartitions 8\n").expect("temporary");
        let mut older = DataDir::open(&path, os_random).expect("an older build's");
        assert_eq!((older.log_expected(), older.partitions), (LogExpected::Existing, 8));
        older.finish(LOG).expect("temporary");
        drop(older);
        let completed = DataDir::open(&path, os_random).expect("it is free");
        assert_eq!(completed.log_expected(), LogExpected::This(LOG));
        assert_eq!(completed.partitions, 8);
        fs::remove_dir_all(&path).expect("ours");
    }
}
