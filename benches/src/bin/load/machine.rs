//! What the numbers were measured on.

use std::fs;
use std::io;
use std::path::Path;

/// The machine, for the reader of a report.
#[derive(Debug)]
pub(crate) struct Machine {
    /// How many threads run at once.
    pub(crate) cores: usize,
    /// The processor's name.
    pub(crate) processor: String,
    /// The release of the kernel.
    pub(crate) kernel: String,
    /// Device and file system below the data directory.
    pub(crate) disk: String,
    /// The load average at the start: other work distorts every time.
    pub(crate) load: String,
}

/// Looks at the machine. `data` lies on the disk that is measured.
///
/// # Errors
///
/// When `/proc` cannot be read, or `data` does not exist.
pub(crate) fn describe(data: &Path) -> io::Result<Machine> {
    let processors = fs::read_to_string("/proc/cpuinfo")?;
    let processor = processors.lines().find_map(|line| line.strip_prefix("model name"));
    let load = fs::read_to_string("/proc/loadavg")?;
    Ok(Machine {
        cores: cores(),
        processor: processor
            .map_or("unknown", |name| name.trim_start_matches([' ', '\t', ':']))
            .to_owned(),
        kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
        disk: disk_of(&data.canonicalize()?)?,
        load: load.split(' ').take(3).collect::<Vec<_>>().join(" "),
    })
}

/// How many threads run at once.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// The longest mount point above a path is the one it lies on.
fn disk_of(path: &Path) -> io::Result<String> {
    let mounts = fs::read_to_string("/proc/mounts")?;
    let mounts = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ');
        Some((words.next()?, words.next()?, words.next()?))
    });
    let found = mounts.filter(|(_, at, _)| path.starts_with(at)).max_by_key(|(_, at, _)| at.len());
    Ok(found.map_or("unknown".to_owned(), |(device, _, kind)| format!("{device} ({kind})")))
}
