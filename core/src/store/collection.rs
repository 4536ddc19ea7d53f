//! The keys of one collection in canonical `_id` order, each with its current state and recent history.

use std::collections::{BTreeMap, btree_map};
use std::ops::Bound;
use std::sync::Arc;

use super::{ChangeCursor, Held};
use crate::document::{Document, Vector};
use crate::ident::{Actor, DocId, Dot, PeerKey, Txn};
use crate::time::Hlc;

/// What is known under one key.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(super) state: State,
    pub(super) changed_at: Txn,
    /// Which operation of that transaction made the change.
    pub(super) changed_index: u32,
    /// States before `changed_at`, oldest first, each with the transaction it dates from.
    pub(super) older: Vec<(Txn, State)>,
    /// The peer whose update made the last change.
    pub(super) origin: Option<PeerKey>,
    /// The last change that was not made by `origin`; without an origin it says nothing.
    pub(super) other_changed_at: Txn,
    /// What recent changes raised in the vector, oldest first; bounded by `RAISES_MAX`.
    pub(super) raises: Vec<Raise>,
    /// The recent history reaches back to here: a vector as of an older transaction is not known.
    pub(super) raises_from: Txn,
}

#[derive(Clone, Debug)]
pub(super) enum State {
    Absent,
    Document(Arc<Document>),
    Evicted(Vector),
}

/// One vector entry that one transaction raised, with its former value; zero when there was none.
#[derive(Clone, Debug)]
pub(crate) struct Raise {
    pub(crate) txn: Txn,
    pub(crate) actor: Actor,
    pub(crate) previous: Hlc,
}

impl Entry {
    pub(crate) fn absent() -> Self {
        Self {
            state: State::Absent,
            changed_at: Txn(0),
            changed_index: 0,
            older: Vec::new(),
            origin: None,
            other_changed_at: Txn(0),
            raises: Vec::new(),
            raises_from: Txn(0),
        }
    }

    pub(crate) fn changed_at(&self) -> Txn {
        self.changed_at
    }

    /// Where the last change stands in the change index; none before the first.
    pub(crate) fn place(&self) -> Option<ChangeCursor> {
        let place = ChangeCursor { txn: self.changed_at, index: self.changed_index };
        (self.changed_at != Txn(0)).then_some(place)
    }

    /// Notes which operation of its transaction made the last change.
    pub(crate) fn set_index(&mut self, index: u32) {
        self.changed_index = index;
    }

    /// Whether states before the last change are kept.
    pub(crate) fn has_older(&self) -> bool {
        !self.older.is_empty()
    }

    /// True when every change after `after` came from `peer`: it need not hear of them.
    pub(crate) fn is_news_only_from(&self, peer: PeerKey, after: Txn) -> bool {
        self.origin == Some(peer) && self.other_changed_at <= after
    }

    /// The last change that did not come from one peer's updates.
    pub(crate) fn edited_at(&self) -> Txn {
        if self.origin.is_none() { self.changed_at } else { self.other_changed_at }
    }

    /// The transaction of the state as of `at`.
    pub(crate) fn changed_at_as_of(&self, at: Txn) -> Txn {
        if self.changed_at <= at {
            return self.changed_at;
        }
        self.older.iter().rev().map(|(txn, _)| *txn).find(|txn| *txn <= at).unwrap_or_default()
    }

    /// The newest document or tombstone.
    pub(crate) fn document(&self) -> Option<&Arc<Document>> {
        self.state.document()
    }

    /// Whether readers see a document now.
    fn is_visible(&self) -> bool {
        self.document().is_some_and(|document| document.is_visible())
    }

    pub(crate) fn evicted(&self) -> Option<&Vector> {
        match &self.state {
            State::Evicted(vector) => Some(vector),
            State::Absent | State::Document(_) => None,
        }
    }

    pub(crate) fn held(&self) -> Held {
        match &self.state {
            State::Document(document) => Held::Document(document.clone()),
            State::Evicted(vector) => Held::Evicted(vector.clone()),
            State::Absent => Held::Evicted(Vector::default()),
        }
    }

    /// The document or tombstone as of transaction `at`.
    pub(crate) fn at(&self, at: Txn) -> Option<&Arc<Document>> {
        if self.changed_at <= at {
            return self.state.document();
        }
        self.older.iter().rev().find(|(txn, _)| *txn <= at).and_then(|(_, s)| s.document())
    }

    /// The vector as of transaction `at`: the present one with everything raised since put back.
    pub(crate) fn vector_at(&self, at: Txn) -> Option<Vector> {
        let document = self.state.document()?;
        if at < self.raises_from {
            return None;
        }
        let since = self.raises.iter().filter(|raise| raise.txn > at);
        let mut previous: BTreeMap<Actor, Hlc> = BTreeMap::new();
        for raise in since {
            previous.entry(raise.actor).or_insert(raise.previous);
        }
        let put_back = |dot: Dot| Dot { hlc: *previous.get(&dot.actor).unwrap_or(&dot.hlc), ..dot };
        Some(document.vector().iter().map(put_back).filter(|dot| dot.hlc > Hlc(0)).collect())
    }

    /// The entries that recent changes raised in the vector, oldest first.
    pub(crate) fn raises(&self) -> &[Raise] {
        &self.raises
    }

    /// Replaces the state as of `txn`, keeping the present one for reads that are older.
    pub(crate) fn replace(
        &mut self,
        txn: Txn,
        document: Arc<Document>,
        origin: Option<PeerKey>,
        raised: impl Iterator<Item = (Actor, Hlc)>,
    ) {
        if matches!(self.state, State::Evicted(_)) {
            self.raises.clear();
            self.raises_from = txn;
        }
        if self.raises.is_empty() {
            self.raises.reserve_exact(1);
        }
        self.raises.extend(raised.map(|(actor, previous)| Raise { txn, actor, previous }));
        if self.raises.len() > RAISES_MAX {
            let cut = self.raises.len() - RAISES_MAX;
            self.raises_from = self.raises[cut - 1].txn;
            self.raises.drain(..cut);
        }
        if self.origin != origin {
            self.other_changed_at = self.changed_at;
        }
        self.push(txn, State::Document(document));
        self.origin = origin;
    }

    /// Lets every peer hear of the state again, in full, as if it had changed in `txn`.
    pub(crate) fn touch(&mut self, txn: Txn) {
        self.push(txn, self.state.clone());
        self.raises.clear();
        self.raises_from = txn;
        self.origin = None;
    }

    /// Forgets the document as of `txn` and keeps a marker of what was seen.
    pub(crate) fn evict(&mut self, txn: Txn, covers: Vector) {
        self.push(txn, State::Evicted(covers));
        self.raises.clear();
        self.raises_from = txn;
        self.origin = None;
    }

    fn push(&mut self, txn: Txn, state: State) {
        let before = std::mem::replace(&mut self.state, state);
        // Without an older state a read finds nothing, which is what was there before the first.
        if self.changed_at != txn && self.changed_at != Txn(0) {
            self.older.push((self.changed_at, before));
        }
        self.changed_at = txn;
    }

    /// Drops every older state but the newest one that a read at `oldest_read` may need.
    fn fold(&mut self, oldest_read: Txn) {
        if self.changed_at <= oldest_read {
            self.older = Vec::new();
            return;
        }
        if let Some(keep) = self.older.iter().rposition(|(txn, _)| *txn <= oldest_read) {
            self.older.drain(..keep);
        }
    }
}

impl State {
    fn document(&self) -> Option<&Arc<Document>> {
        match self {
            Self::Document(document) => Some(document),
            Self::Absent | Self::Evicted(_) => None,
        }
    }
}

/// All keys of one collection that this partition owns.
#[derive(Debug, Default)]
pub(crate) struct Collection {
    entries: BTreeMap<DocId, Entry>,
    visible: u64,
}

impl Collection {
    pub(crate) fn visible_count(&self) -> u64 {
        self.visible
    }

    pub(crate) fn entry(&self, id: &DocId) -> Option<&Entry> {
        self.entries.get(id)
    }

    /// Changes the entry of `id`, kept when missing if something was made of it, and keeps the count of visible
    /// documents.
    pub(crate) fn change<R>(&mut self, id: &DocId, change: impl FnOnce(&mut Entry) -> R) -> R {
        match self.entries.entry(id.clone()) {
            btree_map::Entry::Occupied(mut place) => {
                let entry = place.get_mut();
                let before = entry.is_visible();
                let result = change(entry);
                self.visible = self.visible + u64::from(entry.is_visible()) - u64::from(before);
                result
            }
            btree_map::Entry::Vacant(place) => {
                let mut entry = Entry::absent();
                let result = change(&mut entry);
                if entry.place().is_some() {
                    self.visible += u64::from(entry.is_visible());
                    place.insert(entry);
                }
                result
            }
        }
    }

    /// The first key after `after`.
    pub(crate) fn after(&self, after: Option<&DocId>) -> Option<(&DocId, &Entry)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.entries.range((from, Bound::Unbounded)).next()
    }

    /// The keys after `after`, in order.
    pub(super) fn iter_after(
        &self,
        after: Option<&DocId>,
    ) -> impl Iterator<Item = (&DocId, &Entry)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.entries.range::<DocId, _>((from, Bound::Unbounded))
    }

    pub(crate) fn fold(&mut self, id: &DocId, oldest_read: Txn) {
        if let Some(entry) = self.entries.get_mut(id) {
            entry.fold(oldest_read);
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&DocId, &Entry)> {
        self.entries.iter()
    }

    pub(crate) fn check_invariants(&self, applied: Txn) {
        let mut visible = 0;
        for entry in self.entries.values() {
            assert!(entry.changed_at <= applied, "no entry is newer than what was applied");
            assert!(
                entry.older.is_sorted_by(|a, b| a.0 < b.0),
                "older versions rise strictly by transaction"
            );
            assert!(entry.raises.len() <= RAISES_MAX, "the recent history is bounded");
            visible += u64::from(entry.document().is_some_and(|document| document.is_visible()));
        }
        assert_eq!(visible, self.visible, "the count of visible documents is kept");
    }
}

/// How many raised vector entries a document remembers. A device that is further behind gets full state.
const RAISES_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_hears_of_what_it_did_not_change_itself() {
        let (one, two) = (PeerKey([1; 32]), PeerKey([2; 32]));
        let mut entry = Entry::absent();
        let mut edited_at = Vec::new();
        for (origin, txn) in
            [None, Some(one), Some(one), Some(two), Some(two), None].into_iter().zip(1..)
        {
            entry.replace(Txn(txn), Arc::default(), origin, std::iter::empty());
            edited_at.push(entry.edited_at().0);
            if txn == 3 {
                let is_own = [0, 1].map(|after| entry.is_news_only_from(one, Txn(after)));
                assert_eq!(is_own, [false, true]);
            }
        }
        assert_eq!(edited_at, [1, 1, 1, 3, 3, 6], "by anybody but one peer");
    }

    #[test]
    fn a_state_is_kept_if_a_read_may_ask_for_it() {
        let mut entry = Entry::absent();
        let kept = [1, 2, 2].map(|txn| {
            entry.replace(Txn(txn), Arc::default(), None, std::iter::empty());
            entry.older.len()
        });
        assert_eq!(
            kept,
            [0, 1, 1],
            "not what was there before the first, nor within a transaction"
        );
    }

    #[test]
    fn the_newest_raises_are_remembered_and_from_where_on() {
        let mut entry = Entry::absent();
        for txn in 1..=RAISES_MAX as u64 + 2 {
            let raised = (Actor([txn as u8; 16]), Hlc(0));
            entry.replace(Txn(txn), Arc::default(), None, std::iter::once(raised));
        }
        let raises: Vec<Txn> = entry.raises().iter().map(|raise| raise.txn).collect();
        assert_eq!(raises, (3..=18).map(Txn).collect::<Vec<_>>());
        assert_eq!(entry.raises_from, Txn(2), "a vector as of then is known");
    }
}
