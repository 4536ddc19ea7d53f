//! Directories and small files that survive a power cut from the moment they are there.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// The longest file that [`read_small`] reads, in bytes: a longer one is none of ours.
pub const SMALL_BYTES_MAX: u64 = 4096;

/// The mode of directories: their owner's alone, since they hold keys and documents.
pub const DIR_MODE: u32 = 0o700;

/// Makes a directory and those on the way to it, each durable before the next is made in it.
///
/// # Errors
///
/// What the system answers; `AlreadyExists` or `NotADirectory` if a file stands in the way.
pub fn make_dirs(path: &Path) -> io::Result<()> {
    make_dirs_with(path, &mut sync_dir)
}

fn make_dirs_with(path: &Path, sync: &mut impl FnMut(&Path) -> io::Result<()>) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = parent(path);
    make_dirs_with(parent, sync)?;
    match DirBuilder::new().mode(DIR_MODE).create(path) {
        Ok(()) => {}
        // Another process was quicker. Its sync may still be to come, so ours is due as well.
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => {}
        Err(error) => return Err(error),
    }
    sync(parent)
}

/// Makes the names in a directory durable.
///
/// # Errors
///
/// What the system answers.
pub fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Writes a file that is there whole or not at all, also after a power cut.
///
/// # Errors
///
/// What the system answers. The file is then as it was.
pub fn write_whole(dir: &Path, name: &str, bytes: &[u8], mode: u32) -> io::Result<()> {
    let temporary = dir.join(format!("{name}{UNFINISHED}"));
    // A file of an earlier attempt would keep its mode.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(mode).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, dir.join(name))?;
    sync_dir(dir)
}

/// What the name of a file ends with while [`write_whole`] writes it.
pub const UNFINISHED: &str = ".new";

/// Reads a file of at most [`SMALL_BYTES_MAX`] bytes; of a longer one only so many. `None` if there is none.
///
/// # Errors
///
/// What the system answers; `InvalidData` if it is no text.
pub fn read_small(path: &Path) -> io::Result<Option<String>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = String::new();
    file.take(SMALL_BYTES_MAX).read_to_string(&mut text)?;
    Ok(Some(text))
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::testing::Scratch;

    #[test]
    fn every_directory_that_is_made_has_its_parent_synced_before_the_next() {
        let scratch = Scratch::new("parents");
        let (one, two) = (scratch.path().join("one"), scratch.path().join("one/two"));
        let target = two.join("three");
        let mut synced = Vec::new();
        let mut sync = |path: &Path| {
            synced.push((path.to_owned(), two.exists(), target.exists()));
            Ok(())
        };
        make_dirs_with(&target, &mut sync).expect("temporary");
        let expected = [
            (scratch.path().to_owned(), false, false),
            (one, true, false),
            (two.clone(), true, true),
        ];
        assert_eq!(synced, expected);
        let mode = fs::metadata(&target).expect("made").permissions().mode();
        assert_eq!(mode & 0o777, DIR_MODE);
    }

    #[test]
    fn a_directory_whose_parent_cannot_be_synced_is_not_reported_as_made() {
        let scratch = Scratch::new("unsynced");
        let mut sync = |_: &Path| Err(io::Error::other("injected"));
        assert!(make_dirs_with(&scratch.path().join("new"), &mut sync).is_err());
    }

    #[test]
    fn a_file_that_is_written_again_has_the_mode_it_is_given() {
        let scratch = Scratch::new("mode");
        let left = scratch.path().join("key.new");
        fs::write(&left, "half").expect("temporary");
        fs::set_permissions(&left, fs::Permissions::from_mode(0o644)).expect("ours");
        write_whole(scratch.path(), "key", b"whole", 0o600).expect("temporary");
        let path = scratch.path().join("key");
        let mode = fs::metadata(&path).expect("written").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(read_small(&path).expect("readable").as_deref(), Some("whole"));
        assert_eq!(read_small(&left).expect("gone"), None);
    }
}
