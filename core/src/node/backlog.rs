//! Committed records come to the partitions of a thread, some at a time. A record of 50,000 documents keeps a thread
//! busy for a tenth of a second, and it answers nobody meanwhile: so what a partition has of a large one comes in pieces,
//! and after each the thread looks at what else has happened. Nobody reads at the position of the record before the
//! last piece. Partitions of one thread then stand at different positions for a while, as those of
//! different threads always do; whoever reads at a position waits until his partition has reached it, and that one is
//! next.

use std::collections::VecDeque;

use super::rack::Rack;
use super::{Input, Node, NodeLimits, Part};
use crate::ident::Txn;
use crate::plant::{Plant, is_planted};
use crate::seam::Now;

/// Inputs that wait for the turn of their node.
#[derive(Debug)]
pub(super) struct Backlog {
    /// Of each node on the thread, in the order in which they came.
    steps: Vec<VecDeque<Step>>,
    /// How many have come.
    count: u64,
    /// The number of those that wait.
    queued: usize,
    /// Operations in the waiting steps.
    waiting: usize,
    /// Operations in the steps that were taken in this moment.
    done: usize,
}

#[derive(Debug)]
struct Step {
    /// Its place in the order in which the steps of all nodes came.
    place: u64,
    input: Input,
    /// Operations that it applies.
    cost: usize,
}

impl Backlog {
    pub(super) fn new(nodes: usize) -> Self {
        let steps = (0..nodes).map(|_| VecDeque::new()).collect();
        Self { steps, count: 0, queued: 0, waiting: 0, done: 0 }
    }

    /// A new moment has begun.
    pub(super) fn begin_moment(&mut self) {
        self.done = 0;
    }

    pub(super) fn is_empty(&self) -> bool {
        debug_assert_eq!(self.queued, self.steps.iter().map(VecDeque::len).sum::<usize>());
        self.queued == 0
    }

    fn push(&mut self, node: usize, input: Input, cost: usize) {
        self.count += 1;
        self.queued += 1;
        self.waiting += cost;
        self.steps[node].push_back(Step { place: self.count, input, cost });
    }

    /// The next step and its node: of those for which somebody waits, else of all, the one that came first.
    fn pop(&mut self, nodes: &[Node]) -> Option<(usize, Step)> {
        let fronts = self.steps.iter().enumerate().filter_map(|(node, steps)| {
            let place = steps.front()?.place;
            Some((!nodes[node].has_readers_behind(), place, node))
        });
        let (_, _, node) = fronts.min()?;
        let step = self.steps[node].pop_front().expect("it has a front");
        self.queued -= 1;
        self.waiting -= step.cost;
        self.done += step.cost;
        Some((node, step))
    }
}

impl Rack {
    /// Hands a node the records that concern it; it hears of every position.
    pub(super) fn commit(&mut self, node: usize, upto: Txn, records: Vec<Part>, now: Now) {
        let is_first = self.backlog.is_empty() || is_planted(Plant::BacklogOvertaken);
        if is_first && records.is_empty() && self.nodes[node].pass(upto, now) {
            self.note_standing(node);
            return;
        }
        let at_once = self.config.node.limits.applied_at_once.max(1);
        let (mut whole, mut gathered) = (Vec::new(), 0);
        for mut part in records {
            if part.ops.len() > at_once && part.is_divisible() {
                if let Some(Part { txn, .. }) = whole.last() {
                    self.commit_whole(node, *txn, std::mem::take(&mut whole), now);
                    gathered = 0;
                }
                let mut pieces = part.into_pieces(at_once);
                part = pieces.pop().expect("it has more than one");
                for piece in pieces {
                    let cost = piece.ops.len();
                    self.follow(node, Input::Piece(piece), cost, now);
                }
            }
            let txn = part.txn;
            gathered += part.ops.len();
            whole.push(part);
            if gathered >= at_once && txn < upto {
                self.commit_whole(node, txn, std::mem::take(&mut whole), now);
                gathered = 0;
            }
        }
        self.commit_whole(node, upto, whole, now);
    }

    fn commit_whole(&mut self, node: usize, upto: Txn, records: Vec<Part>, now: Now) {
        let cost = records.iter().map(|part| part.ops.len()).sum();
        self.follow(node, Input::Committed { upto, records: records.into() }, cost, now);
    }

    /// Lets nodes take all that waits for them. A key that is revoked opens nothing any more once that is acknowledged,
    /// and one that is made opens what it should: no thread is long behind with them.
    pub(super) fn catch_up_at_once(&mut self, now: Now) {
        while let Some((node, step)) = self.backlog.pop(&self.nodes) {
            self.step(node, step.input, now);
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
        let NodeLimits { applied_at_once, applied_later_max, .. } = self.config.node.limits;
        while (self.backlog.done < applied_at_once || self.backlog.waiting > applied_later_max)
            && let Some((node, step)) = self.backlog.pop(&self.nodes)
        {
            self.step(node, step.input, now);
        }
    }
}
