//! Naming of a base by the part of it that matters.
//!
//! Each actor that has ever written a document is in its vector for good, and an edit of one field that lists the
//! whole vector as its base grows with all of them. What applying needs of a base is little: which dots its sender had
//! seen of those that may be live where the delta touches the document. So in the log a base is named by its digest and
//! by the entries of these actors alone:
//!
//! - of the dots that the delta lists, raises, or says are trimmed;
//! - of what was live, in the state that *is* the base, in the listed components, in the regions, in the marks above
//!   them, and in the settings of counters that are incremented; and of the marks that were trimmed there.
//!
//! **Why that is enough** where the receiver has seen the whole base and more. What it holds live in a touched component
//! was live in the base, and its actor is named; or it came later, and is above all that the base has of its actor,
//! named or not. So the sender has seen the same dots by the part as by the whole.
//!
//! **And where it has not**, because the base went through an eviction and something else came in between? Then the
//! part may be met though the whole is not. Call a set of events closed if it holds, with each event, those that the
//! event removed. Deltas between closed sets lead to closed sets and lose nothing (that is what the merge rule rests on;
//! it needs no more causality than this). Whoever has seen a live dot, and is closed, has seen all that was ever removed
//! in favour of it, step by step. Everything that an event of the delta removed was live in the base, or was removed
//! there by such a chain, which ends in a live dot of the same component or in a mark at or above it: these are the
//! dots whose actors are named. So what has met the part, and is closed, stays closed. An eviction after which nothing
//! came is not met: the part of a base that is not empty is not met by a document to which nothing has happened.
//!
//! Only a state that has seen *exactly* the base tells what was live in it. A sender to a peer does not have that
//! state; the author of an edit has, and so has the receiver of a delta when it judges it.

use std::collections::BTreeSet;

use super::delta::Base;
use super::listing::Component;
use super::{Content, Delta, Digest, Document, Kind, Leaf, Path, Vector};
use crate::ident::{Actor, Dot};

impl Delta {
    /// Names the base by its digest and the part of it that matters, if `before` has seen exactly the base and that
    /// makes the delta shorter.
    pub fn shorten_base(&mut self, before: &Document) {
        if before.vector.len() >= SHORTENED_LEAST {
            let narrowed = self
                .part_of(before)
                .filter(|part| part.len() + SHORTENED_LEAST <= before.vector.len());
            self.name_base_by_part(before, narrowed);
        }
    }

    /// Names the base by its part whatever the length.
    #[cfg(test)]
    pub(super) fn narrow_base(&mut self, before: &Document) {
        let part = self.part_of(before);
        self.name_base_by_part(before, part);
    }

    /// True if the base is named by a part of it: only what was authored or judged here is.
    #[must_use]
    pub const fn is_base_in_part(&self) -> bool {
        matches!(self.base, Base::Part { .. })
    }

    /// The digest of all that the sender has seen, if the delta tells: that of the base, with what was raised.
    pub(crate) fn sender_digest(&self) -> Option<Digest> {
        let mut seen = match &self.base {
            Base::Vector(base) => base.clone(),
            Base::Part { digest, part } => Vector::with_digest(part, *digest),
            Base::Digest { .. } => return None,
        };
        self.raised.iter().for_each(|&dot| {
            seen.raise(dot);
        });
        Some(seen.digest())
    }

    fn name_base_by_part(&mut self, before: &Document, part: Option<Vector>) {
        if let Some(part) = part {
            self.base = Base::Part { digest: before.vector.digest(), part };
        }
    }

    /// The entries of the base that matter; nothing if `before` is not the state that has seen exactly the base.
    fn part_of(&self, before: &Document) -> Option<Vector> {
        let is_exact = match &self.base {
            Base::Vector(base) => *base == before.vector,
            Base::Digest { .. } | Base::Part { .. } => false,
        };
        if !is_exact || before.is_blank() {
            return None;
        }
        let actors = self.actors_that_matter(before);
        let entry = |actor: Actor| Dot { hlc: before.vector.get(actor), actor };
        Some(actors.into_iter().map(entry).collect())
    }

    fn actors_that_matter(&self, before: &Document) -> BTreeSet<Actor> {
        let mut leaves: Vec<&Leaf> = Vec::new();
        for region in &self.regions {
            leaves.extend(before.leaves.subtree(region));
            leaves.extend(before.marks_above(region));
        }
        for listed in self.listed.iter() {
            leaves.extend(before.leaves.get(listed.path, listed.kind));
            leaves.extend(before.marks_above(listed.path));
        }
        let mut settings: Vec<Dot> = Vec::new();
        for increment in &self.increments {
            leaves.extend(before.marks_above(&increment.path));
            let counter = before.leaves.get(&increment.path, increment.kind);
            let entries = counter.into_iter().flat_map(|leaf| &leaf.entries);
            let set = entries.filter(|entry| matches!(entry.content, Content::Base(_)));
            settings.extend(set.map(|entry| entry.dot));
        }
        let live = leaves.into_iter().flat_map(|leaf| &leaf.entries).map(|entry| entry.dot);
        let listed = self.listed.iter().flat_map(Component::entries).map(|(dot, _)| dot);
        let own = self.author.iter().chain(&self.raised).copied().chain(self.trimmed.iter());
        let dots = own.chain(listed).chain(live).chain(settings).chain(before.trimmed.iter());
        dots.map(|dot| dot.actor).collect()
    }
}

impl Document {
    /// The marks at and above `path`.
    fn marks_above(&self, path: &Path) -> impl Iterator<Item = &Leaf> {
        let above = std::iter::successors(Some(path.clone()), Path::parent);
        above.filter_map(|path| self.leaves.get(&path, Kind::MARK))
    }
}

/// By how many entries a part has to be shorter than its base. The digest takes as much as two or three.
pub(super) const SHORTENED_LEAST: usize = 4;
