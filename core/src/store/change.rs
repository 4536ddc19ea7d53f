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
    by_txn: BTreeMap<(AppId, ChangeCursor), DocKey>,
}

impl ChangeIndex {
    /// Moves `key` to the place `at` from `before`, where its entry says that it was.
    pub(crate) fn touch(&mut self, key: DocKey, before: Option<ChangeCursor>, at: ChangeCursor) {
        let app = key.app;
        if let Some(before) = before {
            self.by_txn.remove(&(app, before));
        }
        self.by_txn.insert((app, at), key);
    }

    /// Puts a key at the end of transaction `txn`, when a store is filled from a snapshot: which of its operations
    /// that stands for.
    pub(crate) fn place(&mut self, key: DocKey, txn: Txn) -> u32 {
        let of_txn =
            (key.app, ChangeCursor { txn, index: 0 })..=(key.app, ChangeCursor::after(txn));
        let last = self.by_txn.range(of_txn).next_back();
        let index = last.map_or(0, |((_, at), _)| at.index + 1);
        self.touch(key, None, ChangeCursor { txn, index });
        index
    }

    pub(crate) fn after(&self, app: AppId, cursor: ChangeCursor, limit: usize) -> Vec<Change> {
        let end = ChangeCursor { txn: Txn(u64::MAX), index: u32::MAX };
        self.by_txn
            .range((Bound::Excluded((app, cursor)), Bound::Included((app, end))))
            .take(limit)
            .map(|((_, at), key)| Change { at: *at, key: key.clone() })
            .collect()
    }

    pub(crate) fn holds(&self, key: &DocKey, at: ChangeCursor) -> bool {
        self.by_txn.get(&(key.app, at)).is_some_and(|held| held == key)
    }

    pub(crate) fn len(&self) -> usize {
        self.by_txn.len()
    }
}
