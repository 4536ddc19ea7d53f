//! Applying transactions: total, deterministic, idempotent. Everything was validated before the append, except
//! the base and the size of what a peer's delta is merged into, which only log order can decide.

use std::cell::OnceCell;
use std::sync::Arc;

use super::{ChangeCursor, Collection, DocKey, Entry, Store};
use crate::document::{ApplyError, Delta, Document, Vector};
use crate::ident::{Actor, AppId, PeerKey, Txn};
use crate::log::transaction::{Op, Origin, Transaction};
use crate::plant::{Plant, is_planted};
use crate::time::Hlc;

/// What became of one operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It took effect, or had taken effect before.
    Applied,
    /// What it says was evicted: the operation is void.
    Evicted,
    /// Its base went through EVICT: the operation is void, as if the EVICT had come after it. In full it would count.
    BaseEvicted,
    /// Its base was never here; the writer must send full state.
    NeedBase(Vector),
    /// It would have made the document larger than what a peer sends may make one: the operation is void.
    TooLarge,
}

/// What became of one transaction in this partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// The operations that this partition owns, by their index in the transaction.
    pub outcomes: Vec<(u32, Outcome)>,
    /// The greatest clock value seen in what was merged.
    pub newest_hlc: Hlc,
}

impl Store {
    /// Applies what this partition owns of a transaction; `owns` tells which keys those are. Transactions come
    /// in log order, each at most once.
    ///
    /// # Panics
    ///
    /// When `txn` is not after everything applied: the driver hands in every position in order.
    pub fn apply(
        &mut self,
        txn: Txn,
        transaction: &Transaction,
        owns: impl Fn(&DocKey) -> bool,
    ) -> Applied {
        let owned = |op: &Op| DocKey::of(transaction.app, op).is_some_and(|key| owns(&key));
        let ops = (0..).zip(&transaction.ops).filter(|(_, op)| owned(op));
        let ops: Vec<_> = ops.map(|(index, _)| index).collect();
        let applied = self.apply_ops(txn, transaction, &ops, |_| None);
        self.advance(txn);
        applied
    }

    /// Applies some operations of a transaction, by their index in it. Who reads at a position sees none of them before
    /// [`advance`](Self::advance) says that there are no more. `ahead` may know what a delta makes of a document, of a
    /// transaction that was authored on this store.
    ///
    /// # Panics
    ///
    /// As [`apply`](Self::apply), and when the transaction has no operation on a document at an index.
    pub fn apply_ops(
        &mut self,
        txn: Txn,
        transaction: &Transaction,
        ops: &[u32],
        ahead: impl Fn(&DocKey) -> Option<Arc<Document>>,
    ) -> Applied {
        assert!(txn > self.applied, "transactions are applied in log order");
        assert!(self.begun <= self.applied || self.begun == txn, "one is applied after the other");
        self.begun = txn;
        let origin = match &transaction.origin {
            Origin::Peer { key, .. } => Some(*key),
            Origin::Http | Origin::System => None,
        };
        let bytes_max = self.merged_bytes_max;
        let mut applied = Applied::default();
        for &index in ops {
            let outcome = match &transaction.ops[index as usize] {
                Op::Merge { collection, id, delta } => {
                    let key = key(transaction.app, collection, id);
                    applied.newest_hlc = applied.newest_hlc.max(delta.highest());
                    let ahead = ahead(&key);
                    self.change(txn, index, &key, |entry| {
                        merge(entry, txn, delta, (origin, bytes_max), ahead)
                    })
                }
                Op::Evict { collection, id } => {
                    let key = key(transaction.app, collection, id);
                    self.evict(txn, index, &key);
                    Outcome::Applied
                }
                Op::Remote { .. } | Op::System(_) => unreachable!("no partition owns it"),
            };
            applied.outcomes.push((index, outcome));
        }
        applied
    }

    /// Nothing else up to `upto` concerns this partition.
    pub fn advance(&mut self, upto: Txn) {
        self.applied = self.applied.max(upto);
    }

    fn evict(&mut self, txn: Txn, index: u32, key: &DocKey) {
        let Some(covers) = self.entry(key).and_then(|e| e.document()).map(|d| d.vector().clone())
        else {
            return;
        };
        let covers = if self.keeps_evict_markers { covers } else { Vector::new() };
        self.change(txn, index, key, |entry| (entry.evict(txn, covers), true));
    }

    /// Changes an entry, moves its key in the change index, and remembers to drop the older states. `change` says
    /// whether it did anything: if not, all stays as it was.
    fn change<R>(
        &mut self,
        txn: Txn,
        index: u32,
        key: &DocKey,
        change: impl FnOnce(&mut Entry) -> (R, bool),
    ) -> R {
        let collections = self.apps.entry(key.app).or_default();
        let mut made = Collection::default();
        let (collection, is_new) = match collections.get_mut(&key.collection) {
            Some(collection) => (collection, false),
            None => (&mut made, true),
        };
        let (result, is_changed, before, has_older) = collection.change(&key.id, |entry| {
            let before = entry.place();
            let (result, is_changed) = change(entry);
            if is_changed {
                entry.set_index(index);
            }
            (result, is_changed, before, entry.has_older())
        });
        if !is_changed {
            return result;
        }
        if is_new {
            collections.insert(key.collection.clone(), made);
        }
        // All keys of a collection share its name; the one at hand may belong to the record alone.
        let name = collections.get_key_value(&key.collection).expect("it has this key").0;
        let key = DocKey { app: key.app, collection: name.clone(), id: key.id.clone() };
        if has_older {
            self.folds.push_back((txn, key.clone()));
        }
        self.changes.touch(key, before, ChangeCursor { txn, index });
        result
    }
}

/// Merges a delta into what an entry holds. The answer comes with whether that changed it.
fn merge(
    entry: &mut Entry,
    txn: Txn,
    delta: &Delta,
    (origin, bytes_max): (Option<PeerKey>, usize),
    ahead: Option<Arc<Document>>,
) -> (Outcome, bool) {
    let evicted = entry.evicted();
    let is_covered_by = |marker: &Vector| delta.raised().iter().all(|dot| marker.seen(*dot));
    // A device keeps no marker: nothing is covered by what it evicted.
    if evicted.is_some_and(|marker| !marker.is_empty() && is_covered_by(marker)) {
        return (Outcome::Evicted, false);
    }
    let was_evicted = evicted.is_some();
    let mut document = entry.document().map_or_else(Document::new, |it| Document::clone(it));
    let size_before = document.size_bytes();
    let known = ahead.and_then(|ahead| Some((document.raised_towards(delta, &ahead)?, ahead)));
    let (raised, document) = match known {
        Some(known) => known,
        None => match document.apply(delta) {
            Ok(applied) => (applied.raised, Arc::new(document)),
            Err(ApplyError::NeedBase | ApplyError::BaseMismatch) if was_evicted => {
                return (Outcome::BaseEvicted, false);
            }
            Err(_) => return (Outcome::NeedBase(document.vector().clone()), false),
        },
    };
    if raised.is_empty() {
        // A peer that sends what is known, and has not seen all that is here, believes something else: it has to
        // hear of it, though nothing has changed. So it is with INITIAL content that it made anew.
        let is_behind = origin.is_some() && !is_covered(document.vector(), delta);
        if is_behind {
            entry.touch(txn);
        }
        return (Outcome::Applied, is_behind);
    }
    // Between judgement and append others may have come into the document: only the order of the log says who fits.
    let size = document.size_bytes();
    let is_outgrown = origin.is_some() && size > bytes_max && size > size_before;
    let is_judged_alone = is_planted(Plant::SizeJudgedOnce) || is_planted(Plant::SizeUnjudged);
    if is_outgrown && !is_judged_alone {
        return (Outcome::TooLarge, false);
    }
    // A peer that lacks something of the result has to hear of it, although the change is its own.
    let origin = origin.filter(|_| is_covered(document.vector(), delta));
    entry.replace(txn, document, origin, raised.into_iter());
    (Outcome::Applied, true)
}

/// True when the sender of a delta has seen all that the document has seen after it.
fn is_covered(vector: &Vector, delta: &Delta) -> bool {
    let Some(base) = delta.base() else {
        return delta.sender_digest().is_none_or(|seen| seen == vector.digest());
    };
    let by_actor = OnceCell::new();
    let sort = || {
        let mut raised: Vec<(Actor, Hlc)> =
            delta.raised().iter().map(|dot| (dot.actor, dot.hlc)).collect();
        raised.sort_unstable();
        raised
    };
    vector.iter().all(|dot| {
        base.seen(dot) || {
            let raised = by_actor.get_or_init(sort);
            let place = raised.partition_point(|seen| *seen < (dot.actor, dot.hlc));
            raised.get(place).is_some_and(|(actor, _)| *actor == dot.actor)
        }
    })
}

fn key(app: AppId, collection: &Arc<str>, id: &crate::ident::DocId) -> DocKey {
    DocKey { app, collection: collection.clone(), id: id.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::{Edit, Fields, Objects, Path};
    use crate::ident::{Actor, DocId, Dot, PartitionId, TxnId};
    use crate::time::{Hlc, WallMs};
    use crate::value::{Object, Value, canonical};

    const PEER: PeerKey = PeerKey([7; 32]);

    fn id() -> DocId {
        canonical::encode_text_id("d9").expect("short")
    }

    fn merge_of(delta: Delta, origin: Origin) -> Transaction {
        let op = Op::Merge { collection: "cars".into(), id: id(), delta: Arc::new(delta) };
        let (app, wall) = (AppId::default(), WallMs(1));
        Transaction { id: TxnId::default(), app, origin, wall, ops: vec![op] }
    }

    #[test]
    fn a_peer_that_makes_known_initial_content_anew_hears_of_what_came_after() {
        let content: Object = [(Box::from("grp"), Value::from(1))].into_iter().collect();
        let initial = || {
            let edit = Edit::initial(&content, Objects::AsMaps, &Fields::default());
            edit.expect("it fits").finish().expect("it writes")
        };
        let mut store = Store::new();
        store.apply(Txn(1), &merge_of(initial(), Origin::Http), |_| true);
        let key = DocKey { app: AppId::default(), collection: "cars".into(), id: id() };
        let here = store.document(&key).expect("it was inserted");
        let mut edit = Edit::new(&here, Dot { hlc: Hlc(500), actor: Actor([1; 16]) });
        edit.unset(&Path::from_steps(["grp"]).expect("short")).expect("a field");
        let unset = edit.finish().expect("it was there");
        store.apply(Txn(2), &merge_of(unset, Origin::Http), |_| true);

        let from_peer = || Origin::Peer { key: PEER, home: PartitionId(0) };
        let applied = store.apply(Txn(3), &merge_of(initial(), from_peer()), |_| true);
        assert_eq!(applied.outcomes, [(0, Outcome::Applied)]);
        let news = store.news(&key, PEER, Txn(2), Txn(3)).expect("the peer is behind");
        assert!(news.base.is_none(), "in full: what it has is not what it was sent");
        assert_eq!(news.document.vector().len(), 2);

        // Whoever sends all that is here has nothing to hear of.
        let known = store.document(&key).expect("it is there").diff(&Vector::new());
        store.apply(Txn(4), &merge_of(known, from_peer()), |_| true);
        assert!(store.news(&key, PEER, Txn(3), Txn(4)).is_none());
        store.check_invariants();
    }

    #[test]
    fn a_peer_may_make_a_document_as_large_as_the_bound_and_no_larger() {
        let path = Path::from_steps(["n"]).expect("short");
        let mut edit = Edit::new(&Document::new(), Dot { hlc: Hlc(5), actor: Actor([1; 16]) });
        edit.set_register(&path, Value::from("x".repeat(100))).expect("it fits");
        let delta = edit.finish().expect("it writes");
        let mut document = Document::new();
        document.apply(&delta).expect("it needs no base");
        for (missing, expected) in [(0, Outcome::Applied), (1, Outcome::TooLarge)] {
            let mut store = Store::new();
            store.set_merged_bytes_max(document.size_bytes() - missing);
            let origin = Origin::Peer { key: PEER, home: PartitionId(0) };
            let applied = store.apply(Txn(1), &merge_of(delta.clone(), origin), |_| true);
            assert_eq!(applied.outcomes, [(0, expected)]);
        }
    }

    #[test]
    fn a_peer_may_change_what_is_too_large_already_and_not_make_it_larger() {
        let path = Path::from_steps(["n"]).expect("short");
        let mut document = Document::new();
        let mut write = |hlc: u64, length: usize| {
            let mut edit = Edit::new(&document, Dot { hlc: Hlc(hlc), actor: Actor([1; 16]) });
            edit.set_register(&path, Value::from("x".repeat(length))).expect("it fits");
            let delta = edit.finish().expect("it writes");
            document.apply(&delta).expect("the base is met");
            delta
        };
        let mut store = Store::new();
        store.apply(Txn(1), &merge_of(write(5, 100), Origin::Http), |_| true);
        store.set_merged_bytes_max(50);
        for (txn, length, expected) in [(2, 100, Outcome::Applied), (3, 101, Outcome::TooLarge)] {
            let origin = Origin::Peer { key: PEER, home: PartitionId(0) };
            let applied =
                store.apply(Txn(txn), &merge_of(write(5 + txn, length), origin), |_| true);
            assert_eq!(applied.outcomes, [(0, expected)]);
        }
    }

    #[test]
    fn a_version_is_held_for_as_long_as_a_read_may_need_it() {
        let mut store = Store::new();
        let key = DocKey { app: AppId::default(), collection: "cars".into(), id: id() };
        let write = |store: &mut Store, txn: u64| {
            let here = store.document(&key).unwrap_or_default();
            let mut edit = Edit::new(&here, Dot { hlc: Hlc(txn), actor: Actor([1; 16]) });
            let path = Path::from_steps(["n"]).expect("short");
            edit.set_register(&path, Value::from(txn as i64)).expect("it fits");
            let delta = edit.finish().expect("it writes");
            store.apply(Txn(txn), &merge_of(delta, Origin::Http), |_| true);
            store.document(&key).expect("it was written")
        };
        let first = write(&mut store, 1);
        let second = write(&mut store, 2);
        let third = write(&mut store, 3);
        let held = |document| Arc::strong_count(document) - 1;
        assert_eq!([&first, &second, &third].map(held), [1, 1, 1]);
        assert!(store.fold(Txn(2), usize::MAX));
        assert_eq!([&first, &second, &third].map(held), [0, 1, 1], "a read at 2 is not over");
        assert!(store.has_foldable());
        assert!(store.fold(Txn(3), usize::MAX));
        assert_eq!([&first, &second, &third].map(held), [0, 0, 1]);
        assert!(!store.has_foldable());
        store.check_invariants();
    }
}
