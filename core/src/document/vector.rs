//! Version vectors: what has been incorporated, by actor.

use smallvec::SmallVec;
use xxhash_rust::xxh3::xxh3_128;

use crate::ident::{Actor, Dot};
use crate::time::Hlc;

/// Actor → the highest clock value of that actor that was incorporated; every earlier event of that actor on
/// this document was incorporated too. Sorted by actor, with a digest that each raise updates in O(1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vector {
    /// Most documents have one author, and then nothing lies elsewhere.
    entries: SmallVec<[(Actor, Hlc); 1]>,
    digest: Digest,
}

/// What identifies a [`Vector`] in 128 bits: the wrapping sum, over its entries, of XXH3-128 (seed 0) of the
/// actor's 16 bytes and the clock's 8, little-endian. The empty vector has digest 0.
///
/// Good against chance, not against malice: a peer that forges one can only harm what it may write anyway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub u128);

impl Digest {
    /// The version of this rule. It travels beside digests wherever two builds compare them.
    pub const VERSION: u8 = 1;

    fn of(actor: Actor, hlc: Hlc) -> u128 {
        let mut bytes = [0; 24];
        bytes[..16].copy_from_slice(&actor.0);
        bytes[16..].copy_from_slice(&hlc.0.to_le_bytes());
        xxh3_128(&bytes)
    }
}

impl Vector {
    /// The vector that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self { entries: SmallVec::new(), digest: Digest(0) }
    }

    /// A stand-in for a vector of this digest of which only a part is known: raising what is in the part gives the
    /// digest of the whole.
    pub(super) fn with_digest(part: &Self, digest: Digest) -> Self {
        Self { entries: part.entries.clone(), digest }
    }

    /// True if nothing has been seen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many actors have been seen.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The highest clock value of `actor`; zero if it has not been seen.
    #[must_use]
    pub fn get(&self, actor: Actor) -> Hlc {
        self.position(actor).map_or(Hlc(0), |index| self.entries[index].1)
    }

    /// The highest dot of `actor`; at clock zero if it has not been seen.
    pub(super) fn dot_of(&self, actor: Actor) -> Dot {
        Dot { hlc: self.get(actor), actor }
    }

    /// Whether the event `dot` has been incorporated.
    #[must_use]
    pub fn seen(&self, dot: Dot) -> bool {
        self.get(dot.actor) >= dot.hlc
    }

    /// Incorporates `dot` and everything its actor did before; returns the actor's former value if it rose.
    pub fn raise(&mut self, dot: Dot) -> Option<Hlc> {
        let former = match self.position(dot.actor) {
            Ok(index) if self.entries[index].1 >= dot.hlc => return None,
            Ok(index) => {
                let former = std::mem::replace(&mut self.entries[index].1, dot.hlc);
                self.digest.0 = self.digest.0.wrapping_sub(Digest::of(dot.actor, former));
                former
            }
            Err(_) if dot.hlc == Hlc(0) => return None,
            Err(index) => {
                self.entries.insert(index, (dot.actor, dot.hlc));
                Hlc(0)
            }
        };
        self.digest.0 = self.digest.0.wrapping_add(Digest::of(dot.actor, dot.hlc));
        Some(former)
    }

    /// Takes back what the actor of `dot` did after it, or all of it at clock zero: then its entry stands empty until
    /// [`forget_empty`](Self::forget_empty), so that many are taken back in one pass. False, and nothing is changed, if
    /// the actor has not come so far.
    pub(super) fn lower(&mut self, dot: Dot) -> bool {
        let Ok(index) = self.position(dot.actor) else { return dot.hlc == Hlc(0) };
        let former = self.entries[index].1;
        if former < dot.hlc {
            return false;
        }
        self.entries[index].1 = dot.hlc;
        let counted = |hlc| if hlc > Hlc(0) { Digest::of(dot.actor, hlc) } else { 0 };
        self.digest.0 = self.digest.0.wrapping_sub(counted(former)).wrapping_add(counted(dot.hlc));
        true
    }

    /// Ends a pass of [`lower`](Self::lower).
    pub(super) fn forget_empty(&mut self) {
        self.entries.retain(|(_, hlc)| *hlc > Hlc(0));
    }

    /// Incorporates all that `other` has seen.
    pub fn join(&mut self, other: &Self) {
        if self.is_empty() {
            self.clone_from(other);
            return;
        }
        let unseen: Vec<Dot> = other.iter().filter(|&dot| !self.seen(dot)).collect();
        if unseen.len() <= RAISED_SINGLY_MAX {
            unseen.into_iter().for_each(|dot| {
                self.raise(dot);
            });
            return;
        }
        // Inserting one by one would move the tail each time.
        let mut all: Vec<Dot> = self.iter().chain(unseen).collect();
        all.sort_by_key(|dot| (dot.actor, std::cmp::Reverse(dot.hlc)));
        all.dedup_by_key(|dot| dot.actor);
        *self = all.into_iter().collect();
    }

    /// Whether `other` has seen everything that this has.
    #[must_use]
    pub fn leq(&self, other: &Self) -> bool {
        self.len() <= other.len() && self.iter().all(|dot| other.seen(dot))
    }

    /// The highest dot of each actor, by actor.
    pub fn iter(&self) -> VectorIter<'_> {
        self.entries.iter().map(as_dot)
    }

    /// The highest clock value of any actor; zero if nothing was seen. A clock must receive this before it
    /// ticks for an edit of the document.
    #[must_use]
    pub fn highest(&self) -> Hlc {
        self.entries.iter().map(|&(_, hlc)| hlc).max().unwrap_or_default()
    }

    /// What identifies this vector.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    fn position(&self, actor: Actor) -> Result<usize, usize> {
        self.entries.binary_search_by(|(have, _)| have.cmp(&actor))
    }
}

/// The entries of a [`Vector`] as dots, by actor.
pub type VectorIter<'a> =
    std::iter::Map<std::slice::Iter<'a, (Actor, Hlc)>, fn(&(Actor, Hlc)) -> Dot>;

fn as_dot(&(actor, hlc): &(Actor, Hlc)) -> Dot {
    Dot { hlc, actor }
}

impl<'a> IntoIterator for &'a Vector {
    type Item = Dot;
    type IntoIter = VectorIter<'a>;

    fn into_iter(self) -> VectorIter<'a> {
        self.iter()
    }
}

impl FromIterator<Dot> for Vector {
    fn from_iter<T: IntoIterator<Item = Dot>>(dots: T) -> Self {
        let mut vector = Self::new();
        for dot in dots {
            vector.raise(dot);
        }
        vector
    }
}

/// Up to so many new entries a vector is changed in place.
const RAISED_SINGLY_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn dot(actor: u8, hlc: u64) -> Dot {
        Dot { hlc: Hlc(hlc), actor: Actor([actor; 16]) }
    }

    #[test]
    fn the_digest_depends_on_the_entries_and_not_on_the_way_there() {
        let mut one = Vector::new();
        assert_eq!(one.raise(dot(2, 5)), Some(Hlc(0)));
        assert_eq!(one.raise(dot(1, 9)), Some(Hlc(0)));
        assert_eq!(one.raise(dot(2, 8)), Some(Hlc(5)));
        assert_eq!(one.raise(dot(2, 7)), None);
        let other: Vector = [dot(1, 9), dot(2, 8)].into_iter().collect();
        assert_eq!(one, other);
        assert_eq!(Vector::new().digest(), Digest(0));
    }

    #[test]
    fn what_is_lowered_is_what_it_was_before_it_rose() {
        let before: Vector = [dot(1, 9), dot(2, 8)].into_iter().collect();
        let mut vector = before.clone();
        vector.raise(dot(2, 12));
        vector.raise(dot(3, 1));
        assert!(vector.lower(dot(3, 0)) && vector.lower(dot(2, 8)) && vector.lower(dot(4, 0)));
        assert!(vector.lower(dot(3, 0)) && !vector.lower(dot(3, 1)), "it stands empty");
        assert_eq!(vector.digest(), before.digest());
        vector.forget_empty();
        assert_eq!(vector, before);
        assert!(!vector.lower(dot(1, 10)) && !vector.lower(dot(4, 1)));
        assert_eq!(vector, before, "refused, nothing is changed");
    }

    #[test]
    fn digests_are_frozen() {
        let vector: Vector = [dot(1, 9), dot(2, 8)].into_iter().collect();
        assert_eq!(vector.digest(), Digest(175136418946478987631846285661667337016));
    }

    #[test]
    fn order_is_by_what_has_been_seen() {
        let small: Vector = [dot(1, 9)].into_iter().collect();
        let large: Vector = [dot(1, 9), dot(2, 8)].into_iter().collect();
        assert!(small.leq(&large) && !large.leq(&small) && Vector::new().leq(&small));
        assert!(large.seen(dot(2, 8)) && large.seen(dot(2, 1)) && !large.seen(dot(2, 9)));
    }

    #[test]
    fn a_large_join_equals_many_small_ones() {
        let one: Vector = (0..60).map(|actor| dot(actor * 2, 50 + u64::from(actor))).collect();
        let other: Vector = (0..60).map(|actor| dot(actor * 3, 80)).collect();
        let mut singly = one.clone();
        other.iter().for_each(|dot| {
            singly.raise(dot);
        });
        let mut joined = one.clone();
        joined.join(&other);
        assert_eq!(joined, singly);
        assert!(one.leq(&joined) && other.leq(&joined));
    }
}
