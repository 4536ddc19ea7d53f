//! Documents: conflict-free replicated maps, their deltas, and how they merge.
//!
//! A [`Document`] is a flat, sorted set of *components*, keyed by ([`Path`], kind): what a node is, holds or counts,
//! and the removals at and below it. Each component is a set of *entries*: those events (dots) on it that no later
//! write or removal has seen. Readers see the entry with the greatest dot. Beside the components stands one
//! [`Vector`]: everything that was ever incorporated.
//!
//! All merging is one rule. A [`Delta`] lists, for each component that an event unknown to its base touched, all
//! dots live there, with contents for the unknown ones. The receiver drops those of its entries that the sender
//! has seen and does not list, and takes those listed that it has not seen. A removal leaves a *mark*, a dot at its
//! path, whose one purpose is to make every delta for a base that has not seen it list the whole subtree. So a
//! new mark absorbs the marks at and below its path: whoever lacks them lacks the new one too.
//!
//! This module knows no collection, id, log or store. An [`Edit`] authors deltas; the log carries them; whoever
//! holds the document applies them.

mod apply;
mod canonical;
mod delta;
mod edit;
mod leaf;
mod leaves;
mod listing;
mod narrow;
mod path;
mod read;
mod recall;
#[cfg(test)]
mod tests;
mod tombstone;
mod vector;
mod wire;

pub use apply::{Applied, ApplyError};
pub use delta::Delta;
pub use edit::{Declared, Edit, EditError, Fields, Objects};
pub use leaf::Number;
pub use path::{Path, PathError};
pub use recall::Memory;
pub use tombstone::Tombstone;
pub use vector::{Digest, Vector, VectorIter};

use leaf::{Content, Entries, Entry, Kind, Leaf, only};
use leaves::Leaves;

use crate::ident::Dot;
use crate::time::Hlc;

/// One document, without its id. Cloning is cheap: clones share what neither changes.
#[derive(Clone, Debug, Default)]
pub struct Document {
    /// Everything that was ever incorporated; covers every dot in `leaves`.
    vector: Vector,
    /// The marks that were dropped to save space: a base that has not seen these needs everything.
    trimmed: Vector,
    leaves: Leaves,
}

impl Document {
    /// The document that nothing has happened to.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What has been incorporated.
    #[must_use]
    pub const fn vector(&self) -> &Vector {
        &self.vector
    }

    /// True if nothing ever happened to this document.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        self.vector.is_empty()
    }

    /// About how many bytes this document takes when stored, with all that merging needs. Kept as it changes,
    /// never counted.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.leaves.size_bytes() + (self.vector.len() + self.trimmed.len()) * VECTOR_ENTRY_BYTES
    }

    /// Walks everything that is too slow for the hot path.
    ///
    /// # Panics
    ///
    /// If an invariant does not hold: a bug of this module.
    pub fn check_invariants(&self) {
        self.leaves.check_invariants();
        for leaf in self.leaves.iter() {
            for entry in &leaf.entries {
                assert!(self.vector.seen(entry.dot), "the vector covers every live dot");
                let initial = leaf.kind != Kind::MARK && entry.dot.hlc == Hlc::INITIAL;
                assert!(
                    !(initial && self.was_deleted()),
                    "a deletion has seen all INITIAL content"
                );
            }
        }
        assert!(self.trimmed.leq(&self.vector), "only incorporated marks were trimmed");
    }

    /// Leaves a mark at `path` and absorbs the marks at and below it, of which it has seen all.
    fn mark(&mut self, path: &Path, dot: Dot, strict: bool) {
        self.leaves.retain_subtree(path, |leaf| leaf.kind != Kind::MARK);
        self.leaves.set(path, Kind::MARK, only(Entry::new(dot, Content::Removed { strict })));
        if path.is_root() {
            self.trimmed = Vector::new();
        }
    }

    /// The removals of the document as a whole.
    fn root_marks(&self) -> &[Entry] {
        // They sort before everything else.
        let first = self.leaves.first().filter(|it| it.kind == Kind::MARK && it.path.is_root());
        first.map_or(&[], |leaf| &leaf.entries)
    }

    /// Whether some removal of the whole document was incorporated, even if the document lives again.
    fn was_deleted(&self) -> bool {
        !self.root_marks().is_empty()
    }

    /// Whether the removals of the document hide what only updates wrote beside them.
    fn is_strictly_deleted(&self) -> bool {
        let strict = |entry: &Entry| matches!(entry.content, Content::Removed { strict: true });
        self.root_marks().iter().any(strict)
    }
}

/// Sixteen bytes of actor, and a clock.
const VECTOR_ENTRY_BYTES: usize = 22;
