//! What the remote has refused, as this session knows it.

use std::collections::{BTreeMap, BTreeSet};

use crate::sync::host::{DocKey, Owed, RejectReason};

/// Refused documents by key, and those among them that wait for the remote's clock.
#[derive(Debug, Default)]
pub(crate) struct Owing {
    owed: BTreeMap<DocKey, Owed>,
    parked: BTreeSet<DocKey>,
}

impl Owing {
    pub(crate) fn is_empty(&self) -> bool {
        self.owed.is_empty()
    }

    /// The remote has refused a document, perhaps again and for another reason.
    pub(crate) fn insert(&mut self, owed: Owed) {
        if owed.reason == RejectReason::ClockSkew {
            self.parked.insert(owed.key.clone());
        } else {
            self.parked.remove(&owed.key);
        }
        self.owed.insert(owed.key.clone(), owed);
    }

    /// The remote has taken a document, or answered for good. True when it was owed.
    pub(crate) fn remove(&mut self, key: &DocKey) -> bool {
        self.parked.remove(key);
        self.owed.remove(key).is_some()
    }

    /// Keys of what was refused under another write permission, or for its clock.
    pub(crate) fn due(&self, write_permission: u64) -> impl Iterator<Item = &DocKey> {
        let is_due = move |owed: &&Owed| {
            owed.write_permission != write_permission || owed.reason == RejectReason::ClockSkew
        };
        self.owed.values().filter(is_due).map(|owed| &owed.key)
    }

    /// Keys of what was refused for its clock.
    pub(crate) fn parked(&self) -> impl ExactSizeIterator<Item = &DocKey> {
        self.parked.iter()
    }
}
