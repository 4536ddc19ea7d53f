//! One process at a time: the directory itself is locked, and a file in it names the holder.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use crate::files::read_small;

/// The file that holds the pid of the process that uses the directory.
pub const LOCK: &str = "lock";

/// A directory that no other process can lock. Dropping it lets another one in.
#[derive(Debug)]
pub struct DirLock {
    /// Locked on a descriptor of the directory: unlike a file in it, nobody can delete it and make it anew beside us.
    _dir: File,
    /// Builds that came before locked this file alone, and some network file systems lock no directories.
    file: Option<File>,
}

/// Why a directory cannot be locked.
#[derive(Debug)]
pub enum LockError {
    /// Another process holds it.
    InUse {
        /// The pid of the holder, or `(unknown)`.
        pid: String,
    },
    /// The system refuses.
    Io(io::Error),
}

impl From<io::Error> for LockError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl DirLock {
    /// Locks a directory and makes nothing in it, since it may turn out to be none of ours.
    ///
    /// # Errors
    ///
    /// `InUse` if another process holds it, half a second later still.
    pub fn take(dir: &Path) -> Result<Self, LockError> {
        let directory = File::open(dir)?;
        match lock(&directory) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(in_use(dir)),
            // No locks on directories here: the file is left, which `sign` makes.
            Err(TryLockError::Error(_)) => {}
        }
        let mut taken = Self { _dir: directory, file: None };
        match OpenOptions::new().read(true).write(true).open(dir.join(LOCK)) {
            Ok(file) => taken.hold(dir, file)?,
            // None yet; or a read-only volume, on which the lock of the directory is enough.
            Err(error) if is_harmless(&error) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(taken)
    }

    /// Writes our pid into the file, for whoever finds the directory locked. On a read-only volume nothing is written.
    ///
    /// # Errors
    ///
    /// `InUse` if a process that locks only the file was quicker.
    pub fn sign(&mut self, dir: &Path) -> Result<(), LockError> {
        if self.file.is_none() {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(0o600);
            match options.open(dir.join(LOCK)) {
                Ok(file) => self.hold(dir, file)?,
                Err(error) if error.kind() == ErrorKind::ReadOnlyFilesystem => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        let mut file = self.file.as_ref().expect("it was just opened");
        let pid = format!("{}\n", std::process::id());
        let written = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(pid.as_bytes()));
        match written {
            // The name is a courtesy: a full volume must not keep its reader out.
            Err(error) if error.kind() == ErrorKind::StorageFull => Ok(()),
            written => Ok(written?),
        }
    }

    fn hold(&mut self, dir: &Path, file: File) -> Result<(), LockError> {
        match lock(&file) {
            Ok(()) => self.file = Some(file),
            Err(TryLockError::WouldBlock) => return Err(in_use(dir)),
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        Ok(())
    }
}

/// How often to ask for a lock again, and how long to wait each time.
const TRIES: u32 = 10;
const RETRY: Duration = Duration::from_millis(50);

/// A process that was killed keeps its locks until the system has taken it apart, so the lock is asked for again.
fn lock(file: &File) -> Result<(), TryLockError> {
    let mut tries_left = TRIES;
    loop {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if tries_left > 0 => {
                tries_left -= 1;
                std::thread::sleep(RETRY);
            }
            result => return result,
        }
    }
}

fn is_harmless(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ReadOnlyFilesystem)
}

fn in_use(dir: &Path) -> LockError {
    let signed = read_small(&dir.join(LOCK)).ok().flatten();
    let signed = signed.map(|pid| pid.trim().to_owned()).filter(|pid| is_pid(pid));
    let pid = signed.or_else(|| holder_by_kernel(dir)).unwrap_or_else(|| "(unknown)".to_owned());
    LockError::InUse { pid }
}

fn is_pid(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) && text != "0"
}

/// Who holds the lock according to Linux, for when the file that says so was deleted. A line reads
/// `1: FLOCK  ADVISORY  WRITE 4711 08:01:1234567 0 EOF`, with the inode behind the second colon of its sixth word.
fn holder_by_kernel(dir: &Path) -> Option<String> {
    let inode = fs::metadata(dir).ok()?.ino().to_string();
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let mut holders = locks.lines().filter_map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        let is_ours = words.get(1) == Some(&"FLOCK")
            && words.get(5).and_then(|place| place.rsplit(':').next()) == Some(&inode);
        words.get(4).filter(|_| is_ours).map(|pid| (*pid).to_owned())
    });
    // The device of the line is not always the one that a program sees: two inodes of one number leave it open.
    let holder = holders.next().filter(|pid| is_pid(pid))?;
    holders.next().is_none().then_some(holder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Scratch;

    fn holder(dir: &Path) -> String {
        match DirLock::take(dir) {
            Err(LockError::InUse { pid }) => pid,
            other => panic!("the directory is locked, and got {other:?}"),
        }
    }

    #[test]
    fn deleting_the_lock_file_lets_nobody_in() {
        let scratch = Scratch::new("lock");
        let mut lock = DirLock::take(scratch.path()).expect("it is free");
        assert!(!scratch.path().join(LOCK).exists(), "nothing is made before it is signed");
        lock.sign(scratch.path()).expect("writable");
        let pid = std::process::id().to_string();
        assert_eq!(holder(scratch.path()), pid);
        fs::remove_file(scratch.path().join(LOCK)).expect("it was signed");
        assert_eq!(holder(scratch.path()), pid);
        drop(lock);
        DirLock::take(scratch.path()).expect("it is free again");
    }

    #[test]
    fn a_process_that_locked_the_file_alone_is_met() {
        let scratch = Scratch::new("older");
        let path = scratch.path().join(LOCK);
        fs::write(&path, "4711\n").expect("temporary");
        let file = File::open(&path).expect("it was just written");
        file.try_lock().expect("it is free");
        assert_eq!(holder(scratch.path()), "4711");
    }
}
