//! What a thread asks of its nodes several times a turn, put together once after each input: a turn of a point read asks
//! it of none of them.

use super::Node;
use crate::ident::Txn;
use crate::time::{Hlc, Instant};

/// A moment that does not come.
pub(super) const NEVER: Instant = Instant { ns: u64::MAX };

/// A position that nobody reads at.
pub(super) const NO_READ: Txn = Txn::MAX;

/// How a node stands after its last step, or all nodes of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stand {
    /// When to call with time; [`NEVER`] when nothing is to be done.
    pub(super) timeout: Instant,
    /// Everything up to here is reflected.
    pub(super) applied: Txn,
    /// The oldest position that is still read at; [`NO_READ`] when there is none.
    pub(super) oldest_read: Txn,
    /// The greatest clock value of any document.
    pub(super) newest_clock: Hlc,
    /// Documents that remotes have refused for their clock.
    pub(super) parked_count: usize,
    /// Calls and pieces of work in progress.
    pub(super) load: usize,
}

impl Stand {
    /// A thread without nodes.
    const NONE: Self = Self {
        timeout: NEVER,
        applied: Txn::MAX,
        oldest_read: NO_READ,
        newest_clock: Hlc(0),
        parked_count: 0,
        load: 0,
    };

    pub(super) fn of(node: &Node) -> Self {
        Self {
            timeout: node.poll_timeout().unwrap_or(NEVER),
            applied: node.applied(),
            oldest_read: node.oldest_read().unwrap_or(NO_READ),
            newest_clock: node.newest_clock(),
            parked_count: node.parked_count(),
            load: node.load(),
        }
    }

    fn with(self, other: &Self) -> Self {
        Self {
            timeout: self.timeout.min(other.timeout),
            applied: self.applied.min(other.applied),
            oldest_read: self.oldest_read.min(other.oldest_read),
            newest_clock: self.newest_clock.max(other.newest_clock),
            parked_count: self.parked_count + other.parked_count,
            load: self.load + other.load,
        }
    }
}

/// How each node of a thread stands, and all of them together.
#[derive(Debug)]
pub(super) struct Standing {
    each: Box<[Stand]>,
    /// As of the last [`Standing::sum_up`].
    pub(super) all: Stand,
    /// Some node stands otherwise than then.
    is_changed: bool,
}

impl Standing {
    pub(super) fn of(nodes: &[Node]) -> Self {
        let each = nodes.iter().map(Stand::of).collect();
        let mut standing = Self { each, all: Stand::NONE, is_changed: true };
        standing.sum_up();
        standing
    }

    /// Takes how a node stands after its step.
    pub(super) fn note(&mut self, index: usize, stand: Stand) {
        self.is_changed |= self.each[index] != stand;
        self.each[index] = stand;
    }

    /// Puts together what was noted.
    pub(super) fn sum_up(&mut self) {
        if std::mem::take(&mut self.is_changed) {
            self.all = self.each.iter().fold(Stand::NONE, Stand::with);
        }
    }
}
