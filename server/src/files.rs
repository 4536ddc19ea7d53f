//! Private things are files: certificates and tokens. They are renewed more often than a server is restarted, so they are
//! read again whenever their files change.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::logging;

/// The reason for which files cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {cause}")]
pub struct FileError {
    /// The file that was read last.
    pub path: PathBuf,
    /// The fault that was found in it.
    pub cause: String,
}

/// Something that came from files, and is used as it was until they are read again with success.
pub trait FromFiles: Send + Sync {
    /// The files, of which the first is shown to people.
    fn files(&self) -> Vec<&Path>;

    /// Reads the files again. What was read before stays if they are not good.
    ///
    /// # Errors
    ///
    /// If a file cannot be read or used, or files do not belong together.
    fn read_again(&self) -> Result<(), FileError>;
}

/// Counts of changed files that could not be used, by the name of the thing that came from them; for the metrics, which
/// tell nobody where files lie.
#[derive(Debug, Default)]
pub struct ReloadErrors(Mutex<BTreeMap<&'static str, u64>>);

impl ReloadErrors {
    fn add(&self, name: &'static str, count: u64) {
        *self.0.lock().expect("no holder of this lock panics").entry(name).or_default() += count;
    }

    /// The names of all that is watched, each with its count.
    #[must_use]
    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        let counts = self.0.lock().expect("no holder of this lock panics");
        counts.iter().map(|(name, count)| (*name, *count)).collect()
    }
}

/// Reads things, each under its name, again whenever their files change. Does not return.
pub fn watch(things: Vec<(&'static str, Arc<dyn FromFiles>)>, errors: &ReloadErrors) {
    let watched = things.into_iter().map(|(name, thing)| Watched::new(name, thing));
    let mut watched: Vec<_> = watched.collect();
    watched.iter().for_each(|watched| errors.add(watched.name, 0));
    loop {
        std::thread::sleep(WATCH_PERIOD);
        for thing in &mut watched {
            thing.look(errors);
        }
    }
}

/// Half of the time that a change may go unnoticed.
const WATCH_PERIOD: Duration = Duration::from_secs(1);

struct Watched {
    name: &'static str,
    thing: Arc<dyn FromFiles>,
    seen: Vec<Stamp>,
    /// The files as they were seen could not be used.
    has_failed: bool,
}

/// Tells one content of a file from another without reading it: inode, length, and time of change. Of a link it is
/// that of the file behind it, so that a swapped link is a change.
type Stamp = Option<(u64, u64, i64, i64)>;

impl Watched {
    fn new(name: &'static str, thing: Arc<dyn FromFiles>) -> Self {
        let seen = stamps(&*thing);
        Self { name, thing, seen, has_failed: false }
    }

    /// Looks whether the files have changed, and reads them again then. Files that could not be used are tried at every
    /// look, since what was in the way may be none of theirs: a permission, or a directory that is mounted late. That is
    /// told and counted once.
    fn look(&mut self, errors: &ReloadErrors) {
        // Taken before the files are read: a change meanwhile is met the next time.
        let found = stamps(&*self.thing);
        let is_new = found != self.seen;
        if !is_new && !self.has_failed {
            return;
        }
        self.seen = found;
        let result = self.thing.read_again();
        let (name, file) = (self.name, self.thing.files()[0].display().to_string());
        self.has_failed = result.is_err();
        match result {
            Ok(()) => logging::info("file read again", &[("what", name), ("file", &file)]),
            // Often one of two files that are about to be replaced both.
            Err(error) if is_new => {
                errors.add(name, 1);
                let fields = [("what", name), ("file", &*file), ("cause", &*error.to_string())];
                logging::warn("the changed file is not used", &fields);
            }
            Err(_) => {}
        }
    }
}

/// Warns of a secret that every user of the machine can read.
pub(crate) fn warn_if_open(file: &Path, what: &str) {
    let mode = fs::metadata(file).map_or(0, |found| found.mode());
    if mode & 0o004 != 0 {
        let (file, advice) = (file.display().to_string(), "take it from them with chmod o-r");
        let text = format!("every user of this machine can read the {what}");
        logging::warn(&text, &[("file", &file), ("advice", advice)]);
    }
}

fn stamps(thing: &dyn FromFiles) -> Vec<Stamp> {
    let of = |path: &Path| {
        let found = fs::metadata(path).ok()?;
        Some((found.ino(), found.len(), found.mtime(), found.mtime_nsec()))
    };
    thing.files().into_iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    use super::*;

    struct Thing {
        file: PathBuf,
        is_good: AtomicBool,
        reads: AtomicU64,
    }

    impl FromFiles for Thing {
        fn files(&self) -> Vec<&Path> {
            vec![&self.file]
        }

        fn read_again(&self) -> Result<(), FileError> {
            self.reads.fetch_add(1, Ordering::Relaxed);
            let bad = || FileError { path: self.file.clone(), cause: "bad".to_owned() };
            self.is_good.load(Ordering::Relaxed).then_some(()).ok_or_else(bad)
        }
    }

    #[test]
    fn a_file_is_read_when_it_changes_and_until_it_can_be_used() {
        let dir = std::env::temp_dir().join(format!("bigpeer-files-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("temporary");
        let file = dir.join("thing");
        fs::write(&file, "a").expect("temporary");
        let (is_good, reads) = (AtomicBool::new(false), AtomicU64::new(0));
        let thing = Arc::new(Thing { file: file.clone(), is_good, reads });
        let (mut watched, errors) = (Watched::new("thing", thing.clone()), ReloadErrors::default());
        let mut look = || {
            watched.look(&errors);
            thing.reads.load(Ordering::Relaxed)
        };
        assert_eq!(look(), 0, "nothing has changed");
        fs::write(&file, "ab").expect("temporary");
        assert_eq!((look(), look()), (1, 2), "a bad one is tried again");
        assert_eq!(errors.counts(), [("thing", 1)], "and told once");
        thing.is_good.store(true, Ordering::Relaxed);
        assert_eq!((look(), look()), (3, 3));
        // As Kubernetes swaps what is mounted: the link leads elsewhere.
        let (data, next) = (dir.join("data"), dir.join("next"));
        fs::create_dir_all(&data).expect("temporary");
        fs::write(data.join("thing"), "abc").expect("temporary");
        std::os::unix::fs::symlink(data.join("thing"), &next).expect("temporary");
        fs::rename(&next, &file).expect("temporary");
        assert_eq!((look(), look()), (4, 4));
        fs::remove_dir_all(&dir).expect("ours");
    }
}
