//! Deltas: what log, store and sync carry.

use smallvec::SmallVec;

use super::leaf::Entry;
use super::listing::Listing;
use super::recall::Memory;
use super::{Content, Digest, Document, Kind, Leaf, Number, Path, Vector};
use crate::ident::Dot;
use crate::plant::{Plant, is_planted};

/// What brings a document that has seen a *base* to what its sender has seen. See the module's documentation for
/// the rule.
///
/// Two origins: [`super::Edit::finish`] makes an *authored* delta, which may hold increments of counters and
/// takes effect once, by its author's dot; [`Document::diff`] makes one of pure state, for peers.
#[derive(Clone, Debug, PartialEq)]
pub struct Delta {
    /// The one event that an authored delta consists of.
    pub(super) author: Option<Dot>,
    pub(super) base: Base,
    /// What the sender has seen above the base: at most one dot an actor, by actor.
    pub(super) raised: Vec<Dot>,
    /// Marks that the sender has trimmed, if the base does not cover them; the root is then a region.
    pub(super) trimmed: Vector,
    /// Where everything that is live is listed: ascending, none inside another.
    pub(super) regions: Vec<Path>,
    pub(super) listed: Listing,
    /// Only in authored deltas. Ascending by (path, kind); these components are not listed.
    pub(super) increments: Vec<Increment>,
}

/// What the receiver must have seen.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Base {
    /// At least this. Never more than the sender has seen itself.
    Vector(Vector),
    /// Exactly the vector with this digest, of which these entries are listed: see [`super::recall`].
    Digest { digest: Digest, listed: Vector },
    /// At least the vector with this digest, of which the entries of these actors matter: see [`super::narrow`].
    Part { digest: Digest, part: Vector },
}

/// All live dots of one component.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Listed {
    pub(super) path: Path,
    pub(super) kind: Kind,
    pub(super) entries: SmallVec<[ListedEntry; 1]>,
}

/// A live dot, with what it holds unless the base has seen it. Marks always come with theirs.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ListedEntry {
    pub(super) dot: Dot,
    pub(super) content: Option<Content>,
}

/// What the author added to a counter.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Increment {
    pub(super) path: Path,
    pub(super) kind: Kind,
    pub(super) by: Number,
}

impl Delta {
    /// The event of an authored delta; none for a delta of pure state.
    #[must_use]
    pub const fn author(&self) -> Option<Dot> {
        self.author
    }

    /// Whether it holds increments of counters. Those mean something only in the log where they were authored:
    /// to a peer goes the state that they led to, never the increment.
    #[must_use]
    pub fn has_increments(&self) -> bool {
        !self.increments.is_empty()
    }

    /// Whether it holds nothing but increments: such an edit needs no view of edits in flight.
    #[must_use]
    pub fn is_increments_only(&self) -> bool {
        self.has_increments() && self.regions.is_empty() && self.listed.is_empty()
    }

    /// Whether it brings no content, only removals of what there is.
    #[must_use]
    pub fn removes_only(&self) -> bool {
        let Listing::Single(listed) = &self.listed else { return false };
        let mut entries = listed.iter().flat_map(|listed| &listed.entries);
        let is_removal = |content: &Content| matches!(content, Content::Removed { .. });
        self.increments.is_empty()
            && entries.all(|entry| entry.content.as_ref().is_none_or(is_removal))
    }

    /// Whether any receiver can apply it, whatever it has seen.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(&self.base, Base::Vector(base) if base.is_empty())
    }

    /// The dots above the base, by actor: what a receiver that has exactly the base learns of.
    #[must_use]
    pub fn raised(&self) -> &[Dot] {
        &self.raised
    }

    /// Whether a document with this vector has all that the sender of the delta has seen: the base as well as what
    /// lies above it. The dots above the base alone say nothing about edits that the base rests on.
    #[must_use]
    pub fn is_known_to(&self, vector: &Vector) -> bool {
        let has_base = match &self.base {
            Base::Vector(base) => base.leq(vector),
            Base::Digest { .. } => self.recalled(&Memory::of(vector)).is_some(),
            // Of what is not named nobody can tell but where nothing else was seen.
            Base::Part { .. } => self.sender_digest() == Some(vector.digest()),
        };
        (has_base || is_planted(Plant::RefusedBaseKnown))
            && self.raised.iter().all(|dot| vector.seen(*dot))
    }

    /// The highest clock value above the base: what a clock must receive before it ticks again.
    #[must_use]
    pub fn highest(&self) -> crate::time::Hlc {
        self.raised.iter().map(|dot| dot.hlc).max().unwrap_or_default()
    }

    /// What the receiver must have seen, if the delta names it in full; see [`Self::base_digest`].
    #[must_use]
    pub const fn base(&self) -> Option<&Vector> {
        match &self.base {
            Base::Vector(base) => Some(base),
            Base::Digest { .. } | Base::Part { .. } => None,
        }
    }

    /// The digest of what the receiver must have seen, if the delta names it so, and the entries that it lists: for a
    /// peer ([`Self::shorten_base_for`]) or for a log ([`Self::shorten_base`]).
    #[must_use]
    pub const fn base_digest(&self) -> Option<(Digest, &Vector)> {
        match &self.base {
            Base::Vector(_) => None,
            Base::Digest { digest, listed } => Some((*digest, listed)),
            Base::Part { digest, part } => Some((*digest, part)),
        }
    }

    /// Adds a region unless it lies in the last one. Regions come in ascending order.
    pub(super) fn add_region(&mut self, path: &Path) {
        if !self.regions.last().is_some_and(|last| path.starts_with(last)) {
            self.regions.push(path.clone());
        }
    }

    /// Lists a component; `with_content` says of which dots the base knows nothing.
    pub(super) fn list(&mut self, leaf: &Leaf, with_content: impl Fn(Dot) -> bool) {
        let listed = |entry: &Entry| {
            let content = leaf.kind == Kind::MARK || with_content(entry.dot);
            ListedEntry { dot: entry.dot, content: content.then(|| entry.content.clone()) }
        };
        let entries = leaf.entries.iter().map(listed).collect();
        self.listed.push(Listed { path: leaf.path.clone(), kind: leaf.kind, entries });
    }
}

impl Document {
    /// What brings a document that has seen `base` to this one's state. Against the empty vector: full state.
    ///
    /// `base` may have seen things that this document has not; the receiver keeps those. The delta's base can be
    /// named by digest ([`Delta::shorten_base_for`]) only if `base` has seen nothing that this has not.
    #[must_use]
    pub fn diff(&self, base: &Vector) -> Delta {
        let mut delta = Delta {
            author: None,
            base: Base::Vector(self.shared_with(base)),
            raised: self.vector.iter().filter(|&dot| !base.seen(dot)).collect(),
            trimmed: Vector::new(),
            regions: Vec::new(),
            listed: Listing::new(),
            increments: Vec::new(),
        };
        if !self.trimmed.leq(base) {
            delta.trimmed.clone_from(&self.trimmed);
            delta.add_region(&Path::root());
        }
        for leaf in self.leaves.iter() {
            let unseen = leaf.entries.iter().any(|entry| !base.seen(entry.dot));
            // A mark sorts before everything at and below its path.
            if unseen && leaf.kind == Kind::MARK {
                delta.add_region(&leaf.path);
            }
            if unseen || delta.in_last_region(&leaf.path) {
                delta.list(leaf, |dot| !base.seen(dot));
            }
        }
        delta
    }

    /// The part of `base` that this document has seen: all of it that the delta relies on.
    fn shared_with(&self, base: &Vector) -> Vector {
        let lesser = |ours: Dot| Dot { hlc: ours.hlc.min(base.get(ours.actor)), ..ours };
        self.vector.iter().map(lesser).collect()
    }
}

impl Delta {
    fn in_last_region(&self, path: &Path) -> bool {
        self.regions.last().is_some_and(|last| path.starts_with(last))
    }
}
