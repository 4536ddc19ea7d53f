//! The end of large records that this process wrote. To drop one of 100,000 operations takes some 30 ms, and the thread that
//! lets go of it last would be away for all of that. So each thread that it concerns keeps a hold of it until its nodes
//! have applied it, and the last one to let go drops it in pieces.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::ident::Txn;
use crate::log::transaction::{Op, Transaction};

/// The large records that a thread still has to do with.
#[derive(Debug, Default)]
pub(super) struct Shredder {
    /// In the order of their positions.
    held: VecDeque<(Txn, Arc<Transaction>)>,
    /// The operations of all of them.
    held_ops: usize,
    /// Operations that nobody else holds any more.
    ops: Vec<Op>,
}

/// A record of fewer operations is dropped whole.
pub(super) const LARGE_OPS_MIN: usize = 1_000;

/// A thread that holds more operations than this is behind with them, and lets go of the oldest record as it is.
const HELD_OPS_MAX: usize = 400_000;

/// Operations that are dropped in one go: about a tenth of a millisecond.
pub(super) const SHREDDED_AT_ONCE: usize = 300;

impl Shredder {
    /// A record has come that the nodes of the thread are about to apply.
    pub(super) fn hold(&mut self, txn: Txn, transaction: &Arc<Transaction>) {
        if transaction.ops.len() < LARGE_OPS_MIN {
            return;
        }
        let last = self.held.back().map(|(last, _)| *last);
        assert!(last.is_none_or(|last| last < txn), "records come in the order of their positions");
        self.held_ops += transaction.ops.len();
        self.held.push_back((txn, transaction.clone()));
        while self.held_ops > HELD_OPS_MAX {
            let (_, oldest) = self.held.pop_front().expect("what is held has operations");
            self.held_ops -= oldest.ops.len();
        }
    }

    /// True when there is something to drop, once all nodes of the thread have applied everything up to a position.
    pub(super) fn is_due(&self, applied: impl FnOnce() -> Txn) -> bool {
        !self.ops.is_empty() || self.held.front().is_some_and(|(txn, _)| *txn <= applied())
    }

    /// Drops one piece of what nobody else holds.
    pub(super) fn work(&mut self, applied: impl FnOnce() -> Txn) {
        if self.ops.is_empty() && self.is_due(applied) {
            let (_, transaction) = self.held.pop_front().expect("one of them is due");
            self.held_ops -= transaction.ops.len();
            // Of all threads that let go of it, one gets it.
            let last = Arc::into_inner(transaction);
            self.ops = last.map(|transaction| transaction.ops).unwrap_or_default();
        }
        let left = self.ops.len().saturating_sub(SHREDDED_AT_ONCE);
        self.ops.truncate(left);
        if left == 0 {
            self.ops = Vec::new();
        }
    }

    /// The number of operations that wait to be dropped.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.ops.len()
    }
}
