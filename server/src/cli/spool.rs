//! A nameless file for what must be read twice and may be larger than memory.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;

/// Opens a file without a name in the system's directory for temporary files. It vanishes with its handle.
///
/// # Errors
///
/// What the system says.
pub(crate) fn open() -> io::Result<File> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let name = format!("bigpeer-{:032x}", u128::from_le_bytes(random));
    let path = std::env::temp_dir().join(name);
    let file =
        OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}
