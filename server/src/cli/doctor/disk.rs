//! The disk below the data directory: what it is, what it has left, and how fast it makes things durable.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{Check, size};

/// How many writes are timed.
const WRITES: usize = 200;

/// How long one write is, in bytes.
const WRITE_BYTES: usize = 4096;

/// Timing ends here also with fewer writes done.
const TIMING_MAX: Duration = Duration::from_secs(20);

/// A slower p99 than this is felt by every client that writes.
const SYNC_P99_MAX: Duration = Duration::from_millis(20);

/// A faster p50 than this is no disk's: something answers before the data is safe.
const SYNC_P50_MIN: Duration = Duration::from_micros(10);

/// Less free space than this is filled by a busy server within a day.
const FREE_BYTES_MIN: u64 = 2 << 30;

/// Looks at the file system that holds `data`, or will hold it.
pub(super) fn checks(data: &Path) -> Vec<Check> {
    let directory = nearest(data);
    vec![space(&directory), kind(&directory), sync(&directory)]
}

/// The directory itself, or the nearest one above it that exists.
fn nearest(data: &Path) -> PathBuf {
    let absolute = std::path::absolute(data).unwrap_or_else(|_| data.to_owned());
    let existing = absolute.ancestors().find(|path| path.is_dir());
    existing.map_or(absolute.clone(), Path::to_owned)
}

fn space(directory: &Path) -> Check {
    const NAME: &str = "free space";
    match sys::file_system(directory) {
        Ok(found) => {
            let text = format!("{} in {}", size(found.free_bytes), directory.display());
            match found.free_bytes < FREE_BYTES_MIN {
                true => Check::warning(
                    NAME,
                    text,
                    "a full disk refuses writes: make room, or use another disk",
                ),
                false => Check::ok(NAME, text),
            }
        }
        Err(error) => Check::warning(NAME, error.to_string(), "see that the directory can be read"),
    }
}

fn kind(directory: &Path) -> Check {
    const NAME: &str = "file system";
    let Ok(found) = sys::file_system(directory) else {
        return Check::warning(NAME, "unknown", "see that the directory can be read");
    };
    match kind_name(found.magic) {
        ("tmpfs", _) => {
            Check::warning(NAME, "tmpfs", "it is memory: data is lost when the machine restarts")
        }
        (name, Durability::Overlay) => {
            Check::warning(NAME, name, "data goes with the container: mount a volume")
        }
        (name, Durability::Network) => Check::warning(
            NAME,
            name,
            "a network's delays and locks are a server's too: use a local disk",
        ),
        (name, Durability::Local) => Check::ok(NAME, name),
    }
}

enum Durability {
    Local,
    Overlay,
    Network,
}

/// What `statfs` calls a file system; see statfs(2).
fn kind_name(magic: u64) -> (&'static str, Durability) {
    match magic {
        0xEF53 => ("ext4", Durability::Local),
        0x5846_5342 => ("xfs", Durability::Local),
        0x9123_683E => ("btrfs", Durability::Local),
        0x2FC1_2FC1 => ("zfs", Durability::Local),
        0xF2F5_2010 => ("f2fs", Durability::Local),
        0x0102_1994 => ("tmpfs", Durability::Local),
        0x794C_7630 => ("overlay", Durability::Overlay),
        0x6969 => ("nfs", Durability::Network),
        0xFE53_4D42 | 0xFF53_4D42 => ("smb", Durability::Network),
        0x0102_1997 => ("9p", Durability::Network),
        0x6573_5546 => ("fuse", Durability::Network),
        _ => ("other", Durability::Local),
    }
}

fn sync(directory: &Path) -> Check {
    const NAME: &str = "fdatasync";
    let times = match time_syncs(directory) {
        Ok(times) => times,
        Err(error) => {
            let place = directory.display();
            let found = format!("{place} cannot be written: {error}");
            return Check::failed(
                NAME,
                found,
                "give it to the user who runs the server, or use --data",
            );
        }
    };
    judge(NAME, &times)
}

/// `times` in ascending order, at least one.
fn judge(name: &'static str, times: &[Duration]) -> Check {
    let percentile = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
    let (p50, p99) = (percentile(50), percentile(99));
    let found =
        format!("p50 {}, p99 {} over {} writes of 4 KiB", time(p50), time(p99), times.len());
    if p99 > SYNC_P99_MAX {
        let advice = "a write is answered when it is durable: use a disk with a lower sync latency";
        Check::warning(name, found, advice)
    } else if p50 < SYNC_P50_MIN {
        let advice = "too fast for a disk: does this file system keep what it says it has synced?";
        Check::warning(name, found, advice)
    } else {
        Check::ok(name, found)
    }
}

fn time(duration: Duration) -> String {
    match duration.as_micros() {
        micros @ ..1000 => format!("{micros} µs"),
        micros => format!("{:.1} ms", micros as f64 / 1000.0),
    }
}

/// Overwrites a file block by block, as a log does in a segment that was allocated before, and times each sync.
fn time_syncs(directory: &Path) -> io::Result<Vec<Duration>> {
    let path = directory.join(format!(".bigpeer-doctor-{}", std::process::id()));
    let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
    let result = time_syncs_in(&file);
    drop(file);
    std::fs::remove_file(&path)?;
    result
}

fn time_syncs_in(file: &File) -> io::Result<Vec<Duration>> {
    file.write_all_at(&vec![0xA5; WRITES * WRITE_BYTES], 0)?;
    file.sync_all()?;
    let block = [0x5A; WRITE_BYTES];
    let started = Instant::now();
    let mut times = Vec::with_capacity(WRITES);
    for index in 0..WRITES {
        let before = Instant::now();
        file.write_all_at(&block, (index * WRITE_BYTES) as u64)?;
        file.sync_data()?;
        times.push(before.elapsed());
        if started.elapsed() > TIMING_MAX {
            break;
        }
    }
    times.sort_unstable();
    Ok(times)
}

/// The system call that std does not wrap.
#[allow(unsafe_code, reason = "libc has no safe face for statfs")]
mod sys {
    use std::ffi::CString;
    use std::io;
    use std::mem::MaybeUninit;
    use std::os::unix::ffi::OsStrExt;
    use std::path::Path;

    /// What a directory lies on.
    pub(super) struct FileSystem {
        /// What an unprivileged user may still write, in bytes.
        pub(super) free_bytes: u64,
        /// The number that names the kind.
        pub(super) magic: u64,
    }

    #[cfg(target_os = "linux")]
    pub(super) fn file_system(directory: &Path) -> io::Result<FileSystem> {
        let path = CString::new(directory.as_os_str().as_bytes())?;
        let mut answer = MaybeUninit::<libc::statfs>::uninit();
        // SAFETY: `path` ends with a zero byte and `answer` has room for the struct; both outlive the call.
        let result = unsafe { libc::statfs(path.as_ptr(), answer.as_mut_ptr()) };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call succeeded, so it has filled the struct.
        let answer = unsafe { answer.assume_init() };
        let free_bytes = answer.f_bavail.saturating_mul(u64::try_from(answer.f_bsize).unwrap_or(0));
        // The kinds have 32 bits; a signed word must not widen them by its sign.
        Ok(FileSystem { free_bytes, magic: answer.f_type as u64 & 0xFFFF_FFFF })
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn file_system(_: &Path) -> io::Result<FileSystem> {
        Err(io::Error::from(io::ErrorKind::Unsupported))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_and_incredible_disks_are_told() {
        let verdict = |micros: u64| judge("x", &[Duration::from_micros(micros); 200]).advice;
        assert!(verdict(2).unwrap().starts_with("too fast"));
        assert_eq!(verdict(500), None);
        assert!(verdict(50_000).unwrap().contains("lower sync latency"));
        let one = judge("x", &[Duration::from_micros(1500)]);
        assert_eq!(one.found, "p50 1.5 ms, p99 1.5 ms over 1 writes of 4 KiB");
    }

    #[test]
    fn a_directory_that_is_not_there_yet_is_judged_by_the_one_above() {
        let above = std::env::temp_dir();
        assert_eq!(nearest(&above.join("bigpeer-no/such")), std::path::absolute(above).unwrap());
    }
}
