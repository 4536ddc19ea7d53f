//! Committed records come to the partitions of a thread, some at a time. A record of 50,000 documents keeps a
//! partition busy for milliseconds, and the thread answers nobody meanwhile: so after each of them the thread looks at
//! what else has happened. Partitions of one thread then stand at different positions for a while, as those of
//! different threads always do; whoever reads at a position waits until his partition has reached it.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Input;
use super::rack::Rack;
use crate::ident::Txn;
use crate::log::transaction::Transaction;
use crate::plant::{Plant, is_planted};
use crate::seam::Now;

/// More operations than this do not wait: a thread that has fallen so far behind catches up before it does anything
/// else, so that what waits has a bound.
const WAITING_MAX: usize = 100_000;

/// Inputs that wait for their partition's turn, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    steps: VecDeque<Step>,
    /// Operations that the waiting steps look at.
    waiting: usize,
    /// Operations that were looked at in this moment.
    done: usize,
}

#[derive(Debug)]
struct Step {
    /// The node's place on the thread.
    node: usize,
    input: Input,
    /// Operations that it looks at.
    cost: usize,
}

impl Backlog {
    /// A new moment has begun.
    pub(super) fn begin_moment(&mut self) {
        self.done = 0;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    fn push(&mut self, node: usize, input: Input, cost: usize) {
        self.waiting += cost;
        self.steps.push_back(Step { node, input, cost });
    }

    /// The next step, if this moment has time for it or too much waits.
    fn pop(&mut self, at_once: usize) -> Option<Step> {
        if self.done >= at_once && self.waiting <= WAITING_MAX {
            return None;
        }
        let step = self.steps.pop_front()?;
        self.waiting -= step.cost;
        self.done += step.cost;
        Some(step)
    }
}

impl Rack {
    /// Hands a node the records that concern it; it hears of every position.
    pub(super) fn commit(
        &mut self,
        node: usize,
        upto: Txn,
        records: Vec<(Txn, Arc<Transaction>)>,
        now: Now,
    ) {
        let is_first = self.backlog.is_empty() || is_planted(Plant::BacklogOvertaken);
        if is_first && records.is_empty() && self.nodes[node].pass(upto, now) {
            return;
        }
        let cost = records.iter().map(|(_, transaction)| transaction.ops.len()).sum();
        self.follow(node, Input::Committed { upto, records: records.into() }, cost, now);
    }

    /// Lets nodes take all that waits for them. A key that is revoked opens nothing any more once that is acknowledged,
    /// and one that is made opens what it should: no thread is long behind with them.
    pub(super) fn catch_up_at_once(&mut self, now: Now) {
        while let Some(Step { node, input, .. }) = self.backlog.pop(usize::MAX) {
            self.step(node, input, now);
        }
    }

    /// Hands a node an input that must not overtake the records before it.
    pub(super) fn follow(&mut self, node: usize, input: Input, cost: usize, now: Now) {
        if cost == 0 && is_planted(Plant::BacklogOvertaken) {
            return self.step(node, input, now);
        }
        self.backlog.push(node, input, cost);
        self.catch_up(now);
    }

    /// Lets nodes take what waits for them, for as long as a moment may last.
    pub(super) fn catch_up(&mut self, now: Now) {
        let at_once = self.config.node.limits.applied_at_once;
        while let Some(Step { node, input, .. }) = self.backlog.pop(at_once) {
            self.step(node, input, now);
        }
    }
}
