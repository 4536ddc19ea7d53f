//! Which blocks are in memory. With everything in memory all are; the simulator pretends otherwise.

use std::collections::BTreeSet;

use crate::ident::DocId;
use crate::rng::Rng;

/// Names a block of the store until it has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId(pub u64);

#[derive(Debug)]
pub(crate) enum Residency {
    /// Every read is ready.
    Memory,
    /// A seeded half of the reads must wait for a block that nobody really fetches.
    Pretending { rng: Rng, arrived: BTreeSet<BlockId> },
}

impl Residency {
    pub(crate) fn pretending(rng: Rng) -> Self {
        Self::Pretending { rng, arrived: BTreeSet::new() }
    }

    /// The block that a read of `id` must wait for, if any.
    pub(crate) fn check(&mut self, id: &DocId) -> Option<BlockId> {
        let Self::Pretending { rng, arrived } = self else { return None };
        let block = BlockId(xxhash_rust::xxh3::xxh3_64(id.as_bytes()) % BLOCKS_PRETENDED);
        if arrived.remove(&block) || rng.one_in(2) {
            return None;
        }
        Some(block)
    }

    pub(crate) fn arrived(&mut self, block: BlockId) {
        if let Self::Pretending { arrived, .. } = self {
            arrived.insert(block);
        }
    }
}

/// Few enough that unrelated statements share blocks.
const BLOCKS_PRETENDED: u64 = 64;
