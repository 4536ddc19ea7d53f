//! What lies in a directory without a FORMAT: nothing, a first start that was not finished, or somebody else's files.

use std::fs;
use std::io;
use std::path::Path;

use bigpeer_core::log::LOG_DIR;
use bigpeer_core::log::checkpoint::CHECKPOINT_DIR;

use crate::files::UNFINISHED;
use crate::format::FORMAT;
use crate::lock::LOCK;

/// The file that says who a store is.
pub const IDENTITY: &str = "identity";

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contents {
    /// Nothing.
    Empty,
    /// Only what a first start makes before its FORMAT, which is the last. Whether the log in it holds anything is for
    /// the log to say.
    Unfinished,
    /// This, which no first start makes.
    Foreign(String),
}

/// Looks at a directory without a FORMAT. `others` are names of files that its owner makes beside the identity.
///
/// A first start makes the identity before anything else that stays. So a directory with nothing but a file called
/// `lock`, a name that many programs use, is not taken for one.
///
/// # Errors
///
/// What the system answers.
pub fn look(dir: &Path, others: &[&str]) -> io::Result<Contents> {
    let mut contents = Contents::Empty;
    let mut stray = None;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_dir = entry.file_type()?.is_dir();
        match &*name {
            // What mkfs leaves in the root of a volume is nobody's data.
            "lost+found" => {}
            LOG_DIR | CHECKPOINT_DIR if is_dir => match first_foreign(&entry.path())? {
                Some(foreign) => return Ok(Contents::Foreign(format!("{name}/{foreign}"))),
                None => contents = Contents::Unfinished,
            },
            _ if !is_dir && written_name(&name) == IDENTITY => contents = Contents::Unfinished,
            _ if !is_dir && is_of_a_start(&name, others) => stray = Some(name),
            _ => return Ok(Contents::Foreign(name)),
        }
    }
    match stray {
        Some(name) if contents == Contents::Empty => Ok(Contents::Foreign(name)),
        _ => Ok(contents),
    }
}

fn is_of_a_start(name: &str, others: &[&str]) -> bool {
    let name = written_name(name);
    name == LOCK || name == FORMAT || others.contains(&name)
}

/// The name of a file, also while it is being written.
fn written_name(name: &str) -> &str {
    name.strip_suffix(UNFINISHED).unwrap_or(name)
}

/// A file that neither the log nor a checkpoint has.
fn first_foreign(dir: &Path) -> io::Result<Option<String>> {
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if ![".seg", ".ckpt", ".tmp"].iter().any(|end| name.ends_with(end)) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Scratch;

    fn found(files: &[&str]) -> Contents {
        let scratch = Scratch::new("contents");
        for file in files {
            let path = scratch.path().join(file);
            fs::create_dir_all(path.parent().expect("it lies in the scratch")).expect("temporary");
            fs::write(path, "").expect("temporary");
        }
        look(scratch.path(), &["admin.token"]).expect("readable")
    }

    #[test]
    fn a_first_start_is_told_from_files_of_others() {
        let foreign = |name: &str| Contents::Foreign(name.to_owned());
        for (files, expected) in [
            (&[][..], Contents::Empty),
            (&["lost+found/x"], Contents::Empty),
            (&["identity.new"], Contents::Unfinished),
            (&["identity", "lock", "admin.token.new"], Contents::Unfinished),
            (&["identity", "lock", "log/0000000000000001.seg"], Contents::Unfinished),
            (&["log/0000000000000001.seg"], Contents::Unfinished),
            (&["lock"], foreign("lock")),
            (&["identity", "holiday.jpg"], foreign("holiday.jpg")),
            (&["log/2026-11-26.txt"], foreign("log/2026-11-26.txt")),
            (&["log"], foreign("log")),
        ] {
            assert_eq!(found(files), expected, "{files:?}");
        }
    }
}
