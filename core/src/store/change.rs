//! The change index: for each app, last transaction → document, one entry per key, so that a cursor outlives
//! the log and a replay costs what has changed.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::DocKey;
use crate::ident::{AppId, Txn};

/// A place between two changes: everything up to and including it has been seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChangeCursor {
    /// The transaction.
    pub txn: Txn,
    /// How far within that transaction; `u32::MAX` for all of it.
    pub index: u32,
}

impl ChangeCursor {
    /// The place right after transaction `txn`.
    #[must_use]
    pub const fn after(txn: Txn) -> Self {
        Self { txn, index: u32::MAX }
    }
}

/// One changed key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where it stands in the index.
    pub at: ChangeCursor,
    /// What changed.
    pub key: DocKey,
}

#[derive(Debug, Default)]
pub(crate) struct ChangeIndex {
    by_app: BTreeMap<AppId, BTreeMap<ChangeCursor, DocKey>>,
}

impl ChangeIndex {
    /// Moves `key` to the place `at` from `before`, where its entry says that it was.
    pub(crate) fn touch(&mut self, key: DocKey, before: Option<ChangeCursor>, at: ChangeCursor) {
        let changes = self.by_app.entry(key.app).or_default();
        if let Some(before) = before {
            changes.remove(&before);
        }
        changes.insert(at, key);
    }

    /// Puts a key at the end of transaction `txn`, when a store is filled from a snapshot: which of its operations
    /// that stands for.
    pub(crate) fn place(&mut self, key: DocKey, txn: Txn) -> u32 {
        let of_txn = ChangeCursor { txn, index: 0 }..=ChangeCursor::after(txn);
        let changes = self.by_app.entry(key.app).or_default();
        let index = changes.range(of_txn).next_back().map_or(0, |(at, _)| at.index + 1);
        changes.insert(ChangeCursor { txn, index }, key);
        index
    }

    pub(crate) fn after(&self, app: AppId, cursor: ChangeCursor, limit: usize) -> Vec<Change> {
        let Some(changes) = self.by_app.get(&app) else { return Vec::new() };
        changes
            .range((Bound::Excluded(cursor), Bound::Unbounded))
            .take(limit)
            .map(|(at, key)| Change { at: *at, key: key.clone() })
            .collect()
    }

    pub(crate) fn holds(&self, key: &DocKey, at: ChangeCursor) -> bool {
        self.by_app.get(&key.app).and_then(|changes| changes.get(&at)) == Some(key)
    }

    pub(crate) fn len(&self) -> usize {
        self.by_app.values().map(BTreeMap::len).sum()
    }
}
