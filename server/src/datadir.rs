//! The data directory: one process at a time, one format, one identity.
//!
//! ```text
//! DIR/FORMAT        the format version and the number of partitions, fixed when the directory is made
//! DIR/lock          locked while a process uses the directory; holds its pid
//! DIR/identity      who this store is
//! DIR/admin.token   opens the admin routes; mode 0600
//! DIR/log/          the transaction log
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bigpeer_core::ident::{PeerKey, StoreId, Uuid};

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
    /// Opens the admin routes.
    pub admin_token: Secret,
    /// True when this opening made it.
    pub created: bool,
    _lock: File,
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
    /// It holds files, and none of them is ours.
    #[error(
        "{path} is not empty and is no data directory of bigpeer: choose an empty one with --data"
    )]
    Foreign {
        /// The directory.
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
    /// Opens the directory, and makes it when it is missing or empty.
    ///
    /// # Errors
    ///
    /// [`DataDirError`], each with what to do about it.
    pub fn open(path: &Path, random: FillRandom) -> Result<Self, DataDirError> {
        fs::create_dir_all(path).map_err(io_error("create", path))?;
        let path = path.canonicalize().map_err(io_error("open", path))?;
        let is_ours = path.join(FORMAT).exists() || path.join(LOCK).exists();
        if !is_ours && !is_empty(&path)? {
            return Err(DataDirError::Foreign { path });
        }
        let lock = lock(&path)?;
        let (created, partitions) = match read_format(&path)? {
            Some(partitions) => (false, partitions),
            None => (true, PARTITIONS_DEFAULT),
        };
        let (store, peer_key) = identity(&path, random)?;
        let admin_token = admin_token(&path, random)?;
        if created {
            // Last, so that a directory with a format is whole.
            let text = format!("bigpeer {FORMAT_VERSION}\npartitions {partitions}\n");
            write_file(&path, FORMAT, text.as_bytes(), 0o644)?;
        }
        Ok(Self { path, partitions, store, peer_key, admin_token, created, _lock: lock })
    }
}

/// Reads the admin token of a directory, for a client on the same machine.
///
/// # Errors
///
/// When the file cannot be read.
pub fn read_admin_token(path: &Path) -> Result<Secret, DataDirError> {
    let file = path.join(ADMIN_TOKEN);
    let text = fs::read_to_string(&file).map_err(io_error("read", &file))?;
    Ok(Secret::from_text(text.trim()))
}

const FORMAT: &str = "FORMAT";
const LOCK: &str = "lock";
const IDENTITY: &str = "identity";
const ADMIN_TOKEN: &str = "admin.token";

/// How often to ask for the lock again, and how long to wait each time.
const LOCK_TRIES: u32 = 10;
const LOCK_RETRY: Duration = Duration::from_millis(50);

fn is_empty(path: &Path) -> Result<bool, DataDirError> {
    let mut entries = fs::read_dir(path).map_err(io_error("list", path))?;
    // What mkfs leaves in the root of a volume is nobody's data.
    Ok(entries.all(|entry| entry.is_ok_and(|entry| entry.file_name() == "lost+found")))
}

fn lock(path: &Path) -> Result<File, DataDirError> {
    let name = path.join(LOCK);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let mut file = options.open(&name).map_err(io_error("open", &name))?;
    let mut tries_left = LOCK_TRIES;
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(fs::TryLockError::WouldBlock) if tries_left > 0 => {
                // A process that was killed keeps its locks until the system has taken it apart.
                tries_left -= 1;
                std::thread::sleep(LOCK_RETRY);
            }
            Err(fs::TryLockError::WouldBlock) => {
                let mut pid = String::new();
                let _ = file.read_to_string(&mut pid);
                let pid = if pid.trim().is_empty() { "(unknown)" } else { pid.trim() };
                return Err(DataDirError::InUse { path: path.to_owned(), pid: pid.to_owned() });
            }
            Err(fs::TryLockError::Error(error)) => return Err(io_error("lock", &name)(error)),
        }
    }
    let pid = format!("{}\n", std::process::id());
    let written =
        file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(pid.as_bytes()));
    written.map_err(io_error("write", &name))?;
    Ok(file)
}

/// The number of partitions, or `None` in a directory that was never finished.
fn read_format(path: &Path) -> Result<Option<u16>, DataDirError> {
    let name = path.join(FORMAT);
    let text = match fs::read_to_string(&name) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("read", &name)(error)),
    };
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
    partitions.map(Some).ok_or_else(|| damaged("no number of partitions"))
}

/// Store id and peer key, made once.
fn identity(path: &Path, random: FillRandom) -> Result<(StoreId, PeerKey), DataDirError> {
    let name = path.join(IDENTITY);
    match fs::read_to_string(&name) {
        Ok(text) => parse_identity(&text).ok_or(DataDirError::Damaged {
            path: name,
            cause: "expected a line `store UUID` and a line `peer` with 64 hexadecimal digits",
        }),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let (mut store, mut peer_key) = ([0; 16], [0; 32]);
            random(&mut store);
            random(&mut peer_key);
            let (store, peer_key) = (StoreId(Uuid(store)), PeerKey(peer_key));
            let text = format!("store {store}\npeer {peer_key}\n");
            write_file(path, IDENTITY, text.as_bytes(), 0o644)?;
            Ok((store, peer_key))
        }
        Err(error) => Err(io_error("read", &name)(error)),
    }
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

fn admin_token(path: &Path, random: FillRandom) -> Result<Secret, DataDirError> {
    let name = path.join(ADMIN_TOKEN);
    if !name.exists() {
        let token = Secret::token(random);
        write_file(path, ADMIN_TOKEN, format!("{}\n", token.reveal()).as_bytes(), 0o600)?;
    }
    let mode = fs::metadata(&name).map_err(io_error("read", &name))?.permissions().mode();
    if mode & 0o077 != 0 {
        let only_owner = fs::Permissions::from_mode(0o600);
        fs::set_permissions(&name, only_owner).map_err(io_error("protect", &name))?;
    }
    read_admin_token(path)
}

/// Writes a file that is there whole or not at all, also after a power cut.
fn write_file(dir: &Path, name: &str, bytes: &[u8], mode: u32) -> Result<(), DataDirError> {
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

    #[test]
    fn a_directory_keeps_its_identity_and_admits_one_process() {
        let path = scratch("identity");
        let first = DataDir::open(&path, os_random).expect("a new directory");
        assert!(first.created);
        let refused = DataDir::open(&path, os_random).expect_err("it is locked").to_string();
        assert!(refused.contains(&std::process::id().to_string()), "{refused}");
        let (store, peer_key, token) = (first.store, first.peer_key, first.admin_token.clone());
        drop(first);
        let second = DataDir::open(&path, os_random).expect("it is free");
        assert!(!second.created);
        assert_eq!((second.store, second.peer_key), (store, peer_key));
        assert!(second.admin_token == token && second.partitions == PARTITIONS_DEFAULT);
        let mode = fs::metadata(path.join(ADMIN_TOKEN)).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::remove_dir_all(&path).expect("ours");
    }

    #[test]
    fn newer_data_and_foreign_files_are_refused() {
        let path = scratch("newer");
        fs::create_dir_all(&path).expect("temporary");
        fs::write(path.join(FORMAT), "bigpeer 2\npartitions 16\n").expect("temporary");
        let error = DataDir::open(&path, os_random).expect_err("newer").to_string();
        assert!(error.contains("format version 2"), "{error}");
        fs::remove_dir_all(&path).expect("ours");
        fs::create_dir_all(&path).expect("temporary");
        fs::write(path.join("holiday.jpg"), "").expect("temporary");
        assert!(matches!(DataDir::open(&path, os_random), Err(DataDirError::Foreign { .. })));
        fs::remove_dir_all(&path).expect("ours");
    }
}
