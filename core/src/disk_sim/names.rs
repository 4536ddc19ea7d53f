//! Names that are not yet durable.

use std::collections::BTreeMap;

#[derive(Clone, Debug)]
pub(super) struct NameChange {
    pub(super) dir: String,
    pub(super) done: u64,
    pub(super) change: Change,
}

#[derive(Clone, Debug)]
pub(super) enum Change {
    Create { name: String, file: u64 },
    Rename { from: String, to: String, file: u64 },
    Delete { name: String },
}

impl Change {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Create { name, .. } | Self::Delete { name } => name,
            Self::Rename { to, .. } => to,
        }
    }

    pub(super) fn file(&self) -> Option<u64> {
        match self {
            Self::Create { file, .. } | Self::Rename { file, .. } => Some(*file),
            Self::Delete { .. } => None,
        }
    }

    pub(super) fn apply(&self, names: &mut BTreeMap<String, u64>) {
        match self {
            Self::Create { name, file } => {
                names.insert(name.clone(), *file);
            }
            Self::Rename { from, to, file } => {
                if names.get(from) == Some(file) {
                    names.remove(from);
                }
                names.insert(to.clone(), *file);
            }
            Self::Delete { name } => {
                names.remove(name);
            }
        }
    }
}
