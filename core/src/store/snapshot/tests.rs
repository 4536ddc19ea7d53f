use std::collections::BTreeMap;

use super::*;
use crate::document::{Edit, Path};
use crate::ident::{Actor, PartitionId, TxnId};
use crate::log::transaction::{Op, Origin, Transaction};
use crate::rng::Rng;
use crate::store::{ChangeCursor, Read};
use crate::time::WallMs;
use crate::value::Value;

/// A store and the transactions that it was made from.
#[derive(Default)]
struct History {
    store: Store,
    transactions: Vec<Transaction>,
}

impl History {
    /// One transaction that edits, deletes or evicts a document at random.
    fn step(&mut self, rng: &mut Rng) {
        let txn = Txn(self.transactions.len() as u64 + 1);
        let app = AppId(Uuid([rng.below(2) as u8; 16]));
        let collection: Arc<str> = if rng.one_in(3) { "b" } else { "a" }.into();
        let id = canonical::encode_id(&Value::from(rng.below(12))).expect("a number is an id");
        let key = DocKey { app, collection: collection.clone(), id: id.clone() };
        let op = if rng.one_in(9) {
            Op::Evict { collection, id }
        } else {
            let document = match self.store.read_newest(&key) {
                Read::Ready(Some(document)) => document,
                _ => Arc::default(),
            };
            let actor = Actor::new(rng.below(3), 1, 1);
            let mut edit = Edit::new(&document, Dot { hlc: Hlc(1_000 + txn.0), actor });
            if rng.one_in(8) && document.is_visible() {
                edit.delete(false);
            } else {
                edit.insert();
                let path = Path::from_steps(["n"]).expect("one step is a path");
                edit.set_register(&path, Value::from(txn.0)).expect("a field can be set");
            }
            let delta = Arc::new(edit.finish().expect("something was written"));
            Op::Merge { collection, id, delta }
        };
        let peer = Origin::Peer { key: PeerKey([rng.below(2) as u8; 32]), home: PartitionId(0) };
        let origin = if rng.one_in(2) { Origin::Http } else { peer };
        let id = TxnId(Uuid([0; 16]));
        let transaction = Transaction { id, app, origin, wall: WallMs(0), ops: vec![op] };
        self.store.apply(txn, &transaction, |_| true);
        self.transactions.push(transaction);
    }

    fn restore(&self, at: Txn) -> Store {
        let mut restored = Store::new();
        let mut after = None;
        while let Some(part) = self.store.snapshot_part(at, after.as_ref(), &[]) {
            restored.restore_part(at, &part.bytes).expect("what we wrote we read");
            after = Some(part.last);
        }
        restored.advance(at);
        restored.check_invariants();
        restored
    }
}

/// Everything that is held, in a form that two stores can be compared by.
fn held(store: &Store) -> BTreeMap<DocKey, (Vec<u8>, Txn)> {
    let mut all = BTreeMap::new();
    for (app, collections) in &store.apps {
        for (name, collection) in collections {
            for (id, entry) in collection.iter() {
                let bytes = match &entry.state {
                    State::Document(document) => document.to_bytes(),
                    State::Evicted(vector) => format!("{vector:?}").into_bytes(),
                    State::Absent => continue,
                };
                let key = DocKey { app: *app, collection: name.clone(), id: id.clone() };
                all.insert(key, (bytes, entry.changed_at));
            }
        }
    }
    all
}

#[test]
fn a_snapshot_and_the_transactions_after_it_make_the_store_again() {
    for seed in 0..40 {
        let mut rng = Rng::new(&[seed; 32], "history");
        let mut history = History::default();
        let at = rng.below(120);
        for _ in 0..at {
            history.step(&mut rng);
        }
        history.store.fold(Txn(at), usize::MAX);
        let then = held(&history.store);
        for _ in 0..rng.below(120) {
            history.step(&mut rng);
        }
        let mut restored = history.restore(Txn(at));
        assert_eq!(held(&restored), then, "seed {seed}: as of {at}");
        for (index, transaction) in history.transactions.iter().enumerate().skip(at as usize) {
            restored.apply(Txn(index as u64 + 1), transaction, |_| true);
        }
        assert_eq!(held(&restored), held(&history.store), "seed {seed}: in the end");
        restored.check_invariants();
        for app in [AppId(Uuid([0; 16])), AppId(Uuid([1; 16]))] {
            let touched = |store: &Store| {
                let changes = store.changes_after(app, ChangeCursor::after(Txn(0)), 1_000);
                changes.into_iter().map(|change| change.key).collect::<Vec<_>>()
            };
            assert_eq!(touched(&restored), touched(&history.store), "seed {seed}: the order");
        }
    }
}

#[test]
fn a_part_ends_with_the_document_that_fills_it() {
    let mut store = Store::new();
    let app = AppId(Uuid([0; 16]));
    let text = "x".repeat(2 << 10);
    for n in 0..100_u64 {
        let mut edit =
            Edit::new(&Document::new(), Dot { hlc: Hlc(1_000 + n), actor: Actor::new(1, 1, 1) });
        edit.insert();
        let path = Path::from_steps(["text"]).expect("one step is a path");
        edit.set_register(&path, Value::from(text.as_str())).expect("a field can be set");
        let delta = Arc::new(edit.finish().expect("something was written"));
        let id = canonical::encode_id(&Value::from(n)).expect("a number is an id");
        let ops = vec![Op::Merge { collection: "a".into(), id, delta }];
        let (id, origin, wall) = (TxnId(Uuid([0; 16])), Origin::Http, WallMs(0));
        store.apply(Txn(n + 1), &Transaction { id, app, origin, wall, ops }, |_| true);
    }
    let (mut after, mut sizes) = (None, Vec::new());
    while let Some(part) = store.snapshot_part(Txn(100), after.as_ref(), &[]) {
        sizes.push(part.bytes.len());
        after = Some(part.last);
    }
    assert!((4..=5).contains(&sizes.len()), "{sizes:?}");
    assert!(sizes.iter().all(|bytes| *bytes < PART_BYTES + (4 << 10)), "{sizes:?}");
}

#[test]
fn a_part_is_taken_back_once_and_not_with_what_came_after_its_position() {
    let mut rng = Rng::new(&[7; 32], "position");
    let mut history = History::default();
    for _ in 0..40 {
        history.step(&mut rng);
    }
    let at = Txn(40);
    let part = history.store.snapshot_part(at, None, &[]).expect("there are documents");
    let newest = Store::new().restore_part(at, &part.bytes).expect("what we wrote we read").1;
    let before = Txn(newest.0 - 1);
    assert!(Store::new().restore_part(before, &part.bytes).is_err(), "one entry is newer");
    let mut restored = Store::new();
    assert!(restored.restore_part(newest, &part.bytes).is_ok());
    assert!(restored.restore_part(newest, &part.bytes).is_err(), "its keys are taken");
}

#[test]
fn what_a_peer_has_is_never_taken_for_less_than_it_lacks() {
    for seed in 0..40 {
        let mut rng = Rng::new(&[seed; 32], "news");
        let mut history = History::default();
        for _ in 0..80 {
            history.step(&mut rng);
        }
        let at = Txn(80);
        history.store.fold(at, usize::MAX);
        for _ in 0..40 {
            history.step(&mut rng);
        }
        let restored = history.restore(at);
        for key in held(&restored).keys() {
            for after in (0..80).map(Txn) {
                for peer in [PeerKey([0; 32]), PeerKey([1; 32])] {
                    let before = history.store.news(key, peer, after, at);
                    let now = restored.news(key, peer, after, at);
                    assert!(before.is_none() || now.is_some(), "seed {seed}: {key:?} is forgotten");
                    let base = now.and_then(|news| news.base);
                    let known = history.store.vector_at(key, after);
                    assert!(base.is_none() || base == known || known.is_none(), "seed {seed}");
                }
            }
        }
    }
}

#[test]
fn damaged_parts_are_refused_or_read_but_never_panic() {
    let mut rng = Rng::new(&[7; 32], "damage");
    let mut history = History::default();
    for _ in 0..100 {
        history.step(&mut rng);
    }
    let at = Txn(100);
    let part = history.store.snapshot_part(at, None, &[]).expect("there are documents");
    for _ in 0..2_000 {
        let mut bytes = part.bytes.clone();
        let place = rng.below(bytes.len() as u64) as usize;
        bytes[place] ^= 1 + rng.below(255) as u8;
        drop(Store::new().restore_part(at, &bytes));
        bytes.truncate(place);
        assert!(Store::new().restore_part(at, &bytes).is_err());
    }
}
