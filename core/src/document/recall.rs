//! Naming of a base by its digest, between peers.
//!
//! A sender knows what its receiver had seen when it last heard of it, and a receiver what it has seen since. So the
//! sender need not list the base, which grows with everybody who ever wrote the document: its digest tells whether both
//! mean the same. The receiver *recalls* the base from its own vector:
//!
//! 1. The sender lists what the base had of the actors whose events it sends, and of the receiver's own newest actor.
//!    There the receiver may have seen more: it sets its own entries back to these.
//! 2. What it has written itself above the newest that is listed of it, the base does not have.
//! 3. Of everybody else it may have heard from elsewhere. It undoes what was raised in the document recently, newest
//!    first.
//!
//! A vector with the digest of the base *is* the base, and as it was made by lowering entries, the receiver has seen all
//! of it. From there on the delta says the same as one that lists its base. Whoever recalls no such vector asks for
//! the delta once more, with its own vector, and gets one whose base is listed. So a digest is a guess that costs a
//! message when it is wrong, and never a document.

use super::delta::Base;
use super::narrow::SHORTENED_LEAST;
use super::{Delta, Vector};
use crate::ident::{Actor, Dot};
use crate::plant::{Plant, is_planted};
use crate::time::Hlc;

/// The knowledge of a receiver about one document, to recall a base from.
#[derive(Clone, Debug)]
pub struct Memory<'a> {
    /// Everything that it has seen of the document.
    pub vector: &'a Vector,
    /// The site under which it writes itself; none if nobody does.
    pub site: Option<u64>,
    /// The entries that rose recently as they were before, newest first; zero where there was none.
    pub raised: Vec<Dot>,
}

impl<'a> Memory<'a> {
    /// The memory of whoever knows nothing but what it has seen.
    pub(super) const fn of(vector: &'a Vector) -> Self {
        Self { vector, site: None, raised: Vec::new() }
    }
}

impl Delta {
    /// Names the base by its digest, for a receiver of which is known that it has seen just that, where this makes the
    /// delta shorter. `is_receivers` tells the actors under which the receiver itself writes.
    pub fn shorten_base_for(&mut self, is_receivers: impl Fn(Actor) -> bool) {
        let Base::Vector(base) = &self.base else { return };
        let listed = self.listed_of(base, is_receivers);
        if listed.len() + SHORTENED_LEAST <= base.len() {
            self.base = Base::Digest { digest: base.digest(), listed };
        }
    }

    /// Names the base by its digest, whatever the length.
    pub fn name_base_by_digest(&mut self, is_receivers: impl Fn(Actor) -> bool) {
        if let Base::Vector(base) = &self.base {
            let listed = self.listed_of(base, is_receivers);
            self.base = Base::Digest { digest: base.digest(), listed };
        }
    }

    /// Lists a base that is named by digest, if the receiver can recall it. True if the base is listed now.
    pub fn recall_base(&mut self, memory: &Memory<'_>) -> bool {
        if matches!(self.base, Base::Digest { .. }) {
            match self.recalled(memory) {
                Some(base) => self.base = Base::Vector(base),
                None => return false,
            }
        }
        true
    }

    #[cfg(test)]
    pub(super) fn lie_about_base(&mut self, digest: u128, listed: Vector) {
        self.base = Base::Digest { digest: super::Digest(digest), listed };
    }

    /// The base that is named by digest; none if the receiver's memory does not lead there.
    pub(super) fn recalled(&self, memory: &Memory<'_>) -> Option<Vector> {
        let Base::Digest { digest, listed } = &self.base else { return None };
        let is_own = |actor: Actor| Some(actor.site()) == memory.site;
        let mut base = memory.vector.clone();
        for dot in listed.iter().chain(self.raised.iter().map(|dot| listed.dot_of(dot.actor))) {
            if !base.lower(dot) {
                return None;
            }
        }
        let newest = listed.iter().filter(|dot| is_own(dot.actor)).max();
        for dot in memory.vector.iter().filter(|dot| is_own(dot.actor) && Some(*dot) > newest) {
            // Where it is listed or raised, it was set back already.
            if listed.get(dot.actor) == Hlc(0) {
                base.lower(Dot { hlc: Hlc(0), ..dot });
            }
        }
        let mut given: Vec<Actor> = self.raised.iter().map(|dot| dot.actor).collect();
        given.sort_unstable();
        let is_settled = |actor: Actor| {
            given.binary_search(&actor).is_ok() || is_own(actor) || listed.get(actor) > Hlc(0)
        };
        let mut undone = memory.raised.iter();
        while base.digest() != *digest && !is_planted(Plant::BaseMismatchBelieved) {
            let former = *undone.next()?;
            if !is_settled(former.actor) && !base.lower(former) {
                return None;
            }
        }
        base.forget_empty();
        Some(base)
    }

    /// The entries of the base above which the receiver may have seen something.
    fn listed_of(&self, base: &Vector, is_receivers: impl Fn(Actor) -> bool) -> Vector {
        let sent = self.raised.iter().map(|dot| base.dot_of(dot.actor));
        let receivers = base.iter().filter(|dot| is_receivers(dot.actor)).max();
        sent.chain(receivers).collect()
    }
}
