//! The size of the file system that a directory lies on, where the system can be asked.

use std::path::Path;

/// The bytes of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Volume {
    /// The size of the whole.
    pub size_bytes: u64,
    /// Those that this process may still take.
    pub free_bytes: u64,
}

/// The file system that `path` lies on; `None` if the system does not say.
#[cfg(target_os = "linux")]
#[must_use]
#[allow(unsafe_code, reason = "std does not know file systems")]
pub fn volume(path: &Path) -> Option<Volume> {
    use std::os::unix::ffi::OsStrExt;

    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).ok()?;
    // SAFETY: an all-zero answer is valid, `path` ends with a zero byte, and both outlive the call.
    let stat = unsafe {
        let mut stat: libc::statvfs = std::mem::zeroed();
        (libc::statvfs(path.as_ptr(), &raw mut stat) == 0).then_some(stat)?
    };
    Some(Volume {
        size_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
        free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
    })
}

/// The widths of the numbers differ from system to system: elsewhere the disk alone says when it is full.
#[cfg(not(target_os = "linux"))]
#[must_use]
pub fn volume(_path: &Path) -> Option<Volume> {
    None
}
