//! The names of files and directories, and the changes of them that are not yet durable.

use std::collections::{BTreeMap, BTreeSet};

/// Which files and directories there are.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    files: BTreeMap<String, u64>,
    dirs: BTreeSet<String>,
}

impl Names {
    pub(super) fn get(&self, file: &str) -> Option<u64> {
        self.files.get(file).copied()
    }

    /// Names of files and the numbers of their contents, sorted by name.
    pub(super) fn files(&self) -> impl Iterator<Item = (&str, u64)> {
        self.files.iter().map(|(name, file)| (&name[..], *file))
    }

    /// The directory in which everything lies, `""`, is always there.
    pub(super) fn has_dir(&self, dir: &str) -> bool {
        dir.is_empty() || self.dirs.contains(dir)
    }

    pub(super) fn apply(&mut self, change: &Change) {
        match change {
            Change::MakeDir { name } => {
                self.dirs.insert(name.clone());
            }
            Change::Create { name, file } => {
                self.files.insert(name.clone(), *file);
            }
            Change::Rename { from, to, file } => {
                if self.files.get(from) == Some(file) {
                    self.files.remove(from);
                }
                self.files.insert(to.clone(), *file);
            }
            Change::Delete { name } => {
                self.files.remove(name);
            }
        }
    }

    /// Forgets what lies in a directory that is not there: no path leads to it.
    pub(super) fn drop_unreachable(&mut self) {
        let whole = |name: &str| parents(name).all(|dir| self.dirs.contains(dir));
        let dirs = self.dirs.iter().filter(|dir| whole(dir)).cloned().collect();
        self.files.retain(|name, _| parents(name).all(|dir| self.dirs.contains(dir)));
        self.dirs = dirs;
    }
}

/// The directories on the way to a file or directory, outermost first, without the one in which everything lies.
pub(super) fn parents(name: &str) -> impl Iterator<Item = &str> {
    name.match_indices('/').map(|(end, _)| &name[..end])
}

/// The directory in which a file or directory lies.
pub(super) fn parent(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(dir, _)| dir)
}

/// A change of names, until its directory is synced.
#[derive(Clone, Debug)]
pub(super) struct NameChange {
    pub(super) done: u64,
    pub(super) change: Change,
}

#[derive(Clone, Debug)]
pub(super) enum Change {
    MakeDir { name: String },
    Create { name: String, file: u64 },
    Rename { from: String, to: String, file: u64 },
    Delete { name: String },
}

impl Change {
    /// The directory whose sync makes the change durable.
    pub(super) fn dir(&self) -> &str {
        parent(match self {
            Self::MakeDir { name } | Self::Create { name, .. } | Self::Delete { name } => name,
            Self::Rename { to, .. } => to,
        })
    }

    pub(super) fn file(&self) -> Option<u64> {
        match self {
            Self::Create { file, .. } | Self::Rename { file, .. } => Some(*file),
            Self::MakeDir { .. } | Self::Delete { .. } => None,
        }
    }
}
