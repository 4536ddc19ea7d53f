//! What is left of a deleted document, and the trimming of old marks in a live one.

use super::{Content, Document, Entries, Entry, Kind, Leaf, Path, Vector};
use crate::ident::Dot;
use crate::time::Hlc;

/// A deleted document in its smallest form. Beside the id this is all that a residue must keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tombstone {
    /// The latest deletion.
    pub deletion: Dot,
    /// Whether plain updates made beside the deletion stay hidden.
    pub strict: bool,
    /// Exactly what the document had incorporated: nothing in it may come back.
    pub vector: Vector,
}

impl Document {
    /// Whether readers see this document: it has live content, and under a strict deletion also an INSERT that
    /// no deletion has seen.
    #[must_use]
    pub fn is_visible(&self) -> bool {
        self.leaves.live_count() > 0
            && (!self.is_strictly_deleted() || self.leaves.get(&Path::root(), Kind::MAP).is_some())
    }

    /// Whether this document was deleted and nothing has brought it back.
    #[must_use]
    pub fn is_deleted(&self) -> bool {
        self.was_deleted() && !self.is_visible()
    }

    /// Whether a document that lives was deleted before, and only updates made beside the deletion keep it.
    #[must_use]
    pub fn is_husk(&self) -> bool {
        let inserted = self.leaves.get(&Path::root(), Kind::MAP).is_some();
        self.was_deleted() && self.is_visible() && !inserted
    }

    /// Whether a strict deletion hides updates that are still kept: a concurrent INSERT may yet arrive and show
    /// them. A tombstone leaves them out, so such a document is not shrunk to one while peers may differ on it.
    #[must_use]
    pub fn hides_content(&self) -> bool {
        self.leaves.live_count() > 0 && !self.is_visible()
    }

    /// The tombstone of a deleted document; none while it lives or if it was never deleted.
    /// See [`Self::hides_content`] for what it may leave out.
    #[must_use]
    pub fn tombstone(&self) -> Option<Tombstone> {
        let deletion = self.root_marks().last().filter(|_| self.is_deleted())?.dot;
        let strict = self.is_strictly_deleted();
        Some(Tombstone { deletion, strict, vector: self.vector.clone() })
    }

    /// The deleted document that `tombstone` was taken from.
    ///
    /// The tombstone names one of perhaps several concurrent deletions. The marks of the others count as trimmed:
    /// a peer that lacks anything in the vector gets everything, so it learns of them all.
    #[must_use]
    pub fn from_tombstone(tombstone: &Tombstone) -> Self {
        let mut document = Self { vector: tombstone.vector.clone(), ..Self::default() };
        document.vector.raise(tombstone.deletion);
        document.mark(&Path::root(), tombstone.deletion, tombstone.strict);
        document.trimmed.clone_from(&document.vector);
        document
    }

    /// How many removals of fields are remembered.
    #[must_use]
    pub fn mark_count(&self) -> usize {
        let field_mark = |leaf: &&Leaf| leaf.kind == Kind::MARK && !leaf.path.is_root();
        self.leaves.iter().filter(field_mark).map(|leaf| leaf.entries.len()).sum()
    }

    /// Forgets the removals of fields made before `before`. A peer that has not seen them gets full state.
    pub fn trim_marks(&mut self, before: Hlc) {
        let field_marks = |leaf: &&Leaf| leaf.kind == Kind::MARK && !leaf.path.is_root();
        let marks: Vec<Leaf> = self.leaves.iter().filter(field_marks).cloned().collect();
        for leaf in marks {
            let old = |entry: &&Entry| entry.dot.hlc < before;
            leaf.entries.iter().filter(old).for_each(|entry| {
                self.trimmed.raise(entry.dot);
            });
            let kept: Entries = leaf.entries.iter().filter(|entry| !old(entry)).cloned().collect();
            self.leaves.set(&leaf.path, Kind::MARK, kept);
        }
    }

    /// Drops `INITIAL` content from a deleted document: every deletion counts as having seen it.
    pub(super) fn drop_initial_if_deleted(&mut self) {
        if !self.was_deleted() {
            return;
        }
        let initial = |entry: &Entry| entry.dot.hlc == Hlc::INITIAL;
        let stale = |leaf: &&Leaf| leaf.kind != Kind::MARK && leaf.entries.iter().any(initial);
        let touched: Vec<Leaf> = self.leaves.iter().filter(stale).cloned().collect();
        for Leaf { path, kind, entries } in touched {
            let kept = entries.into_iter().filter(|entry| !initial(entry)).collect();
            self.leaves.set(&path, kind, kept);
        }
    }

    /// Joins two copies of one mark. They differ when one went through a tombstone, which keeps one mark that is as
    /// strict as all together were.
    pub(super) fn join_strictness(ours: &mut Content, theirs: &Content) {
        if let (Content::Removed { strict }, Content::Removed { strict: true }) = (ours, theirs) {
            *strict = true;
        }
    }
}
