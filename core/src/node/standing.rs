//! A thread asks several times a turn what its nodes have to do, reflect and read. That is put together once after each
//! input, so that a turn of a point read asks no node.

use super::Node;
use crate::ident::Txn;
use crate::time::{Hlc, Instant};

/// A moment that does not come.
pub(super) const NEVER: Instant = Instant { ns: u64::MAX };

/// A position that nobody reads at.
pub(super) const NO_READ: Txn = Txn::MAX;

/// The standing of a node after its last step, or of all nodes of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    /// The moment at which to call with time; [`NEVER`] if nothing is to be done.
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

impl Standing {
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

/// The standing of each node of a thread, and of all of them together.
#[derive(Debug)]
pub(super) struct Standings {
    each: Box<[Standing]>,
    /// As of the last [`Standings::sum_up`].
    pub(super) all: Standing,
    /// Some node has another standing than then.
    is_changed: bool,
}

impl Standings {
    pub(super) fn of(nodes: &[Node]) -> Self {
        let each = nodes.iter().map(Standing::of).collect();
        let mut standing = Self { each, all: Standing::NONE, is_changed: true };
        standing.sum_up();
        standing
    }

    /// Takes the standing of a node after its step.
    pub(super) fn note(&mut self, index: usize, standing: Standing) {
        self.is_changed |= self.each[index] != standing;
        self.each[index] = standing;
    }

    /// Puts together what was noted.
    pub(super) fn sum_up(&mut self) {
        if std::mem::take(&mut self.is_changed) {
            self.all = self.each.iter().fold(Standing::NONE, Standing::with);
        }
    }
}
