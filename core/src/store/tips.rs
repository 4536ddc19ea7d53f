//! Documents ahead of the log's durable end: what this partition has authored and appended, not yet committed.
//!
//! A mutation is evaluated against the newest *appended* state, so that the dots of one actor enter the log in
//! rising order for each document and of racing INSERTs exactly one wins. A statement over several partitions
//! locks the documents it has prepared until its one record is committed or abandoned.

use std::sync::Arc;

use super::DocKey;
use crate::document::{Delta, Document};
use crate::ident::{PartitionId, TxnId};
use crate::map::Map;

/// Who holds a document while its record is being put together elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LockOwner {
    /// The coordinating partition.
    pub from: PartitionId,
    /// The transaction it puts together.
    pub txn_id: TxnId,
}

/// One authored change that is in the log or on its way there.
#[derive(Clone, Debug)]
pub enum InFlight {
    /// A delta to merge.
    Merge(Arc<Delta>),
    /// The document was evicted.
    Evict,
}

#[derive(Debug)]
struct Tip {
    /// The newest appended state: the committed one with everything in flight applied.
    document: Arc<Document>,
    in_flight: Vec<(TxnId, InFlight)>,
    lock: Option<LockOwner>,
}

/// The tips of one partition. Bounded by what may be in flight at once.
#[derive(Debug, Default)]
pub struct Tips {
    tips: Map<DocKey, Tip>,
    /// Documents that a statement over several partitions will hold once nothing is in flight on them: others
    /// queue behind it, or it might wait for ever.
    reserved: Map<DocKey, TxnId>,
}

impl Tips {
    /// The newest appended state of a document that has something in flight.
    #[must_use]
    pub fn newest(&self, key: &DocKey) -> Option<&Arc<Document>> {
        self.tips.get(key).map(|tip| &tip.document)
    }

    /// The newest appended state of a document, if what `txn_id` changed is all that is in flight on it.
    #[must_use]
    pub fn made_by(&self, key: &DocKey, txn_id: TxnId) -> Option<Arc<Document>> {
        let tip = self.tips.get(key)?;
        let is_alone = matches!(&tip.in_flight[..], [(id, _)] if *id == txn_id);
        is_alone.then(|| tip.document.clone())
    }

    /// True while a statement over several partitions holds the document.
    #[must_use]
    pub fn is_locked(&self, key: &DocKey) -> bool {
        self.tips.get(key).is_some_and(|tip| tip.lock.is_some())
    }

    /// True when another record than `txn_id` has reserved the document.
    #[must_use]
    pub fn is_reserved_by_another(&self, key: &DocKey, txn_id: Option<TxnId>) -> bool {
        self.reserved.get(key).is_some_and(|holder| Some(*holder) != txn_id)
    }

    /// Reserves documents, all or none: false when another record has reserved one of them.
    pub fn reserve(&mut self, keys: &[DocKey], txn_id: TxnId) -> bool {
        let are_free = keys.iter().all(|key| !self.is_reserved_by_another(key, Some(txn_id)));
        if are_free {
            for key in keys {
                self.reserved.insert(key.clone(), txn_id);
            }
        }
        are_free
    }

    /// Lets go of what a record has reserved. True when it had reserved anything.
    pub fn release(&mut self, keys: &[DocKey], txn_id: TxnId) -> bool {
        let before = self.reserved.len();
        for key in keys {
            if self.reserved.get(key) == Some(&txn_id) {
                self.reserved.remove(key);
            }
        }
        self.reserved.len() < before
    }

    /// Puts an authored change on top: `document` is the state it leads to.
    ///
    /// # Panics
    ///
    /// When the document is locked: whoever authors has asked.
    pub fn push(
        &mut self,
        key: DocKey,
        txn_id: TxnId,
        change: InFlight,
        document: Arc<Document>,
        lock: Option<LockOwner>,
    ) {
        let tip = self.tips.get_or_insert_with(key, || Tip {
            document: document.clone(),
            in_flight: Vec::new(),
            lock: None,
        });
        assert!(tip.lock.is_none(), "nothing is authored over a lock");
        tip.document = document;
        tip.in_flight.push((txn_id, change));
        tip.lock = lock;
    }

    /// A transaction was committed, or refused: rebuilds the tip on the `committed` state without what `txn_id`
    /// had in flight, if anything else is, and lets go of its lock. True when who waits for the document may try again: a lock was
    /// released, or nothing is in flight any more.
    pub fn settle(
        &mut self,
        key: &DocKey,
        txn_id: TxnId,
        committed: impl FnOnce() -> Option<Arc<Document>>,
    ) -> bool {
        let Some(tip) = self.tips.get_mut(key) else { return false };
        tip.in_flight.retain(|(id, _)| *id != txn_id);
        let unlocked = tip.lock.take_if(|lock| lock.txn_id == txn_id).is_some();
        if tip.in_flight.is_empty() {
            self.tips.remove(key);
            return true;
        }
        tip.document = rebuilt(committed().as_ref(), &tip.in_flight);
        unlocked
    }

    /// The number of documents with something in flight.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tips.len()
    }

    /// True when nothing is in flight.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tips.is_empty()
    }
}

fn rebuilt(committed: Option<&Arc<Document>>, in_flight: &[(TxnId, InFlight)]) -> Arc<Document> {
    let mut document = committed.map_or_else(Document::new, |document| Document::clone(document));
    for (_, change) in in_flight {
        match change {
            // A change whose base went away is void at apply as well: the tip skips it the same way.
            InFlight::Merge(delta) => drop(document.apply(delta)),
            InFlight::Evict => document = Document::new(),
        }
    }
    Arc::new(document)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::{Edit, Path};
    use crate::ident::{Actor, AppId, Dot, Uuid};
    use crate::time::Hlc;
    use crate::value::{Value, canonical};

    fn with(on: &Document, hlc: u64, field: &str) -> (Arc<Delta>, Arc<Document>) {
        let mut edit = Edit::new(on, Dot { hlc: Hlc(hlc), actor: Actor([1; 16]) });
        let path = Path::from_steps([field]).expect("short");
        edit.set_register(&path, Value::from(1)).expect("it fits");
        let delta = edit.finish().expect("it writes");
        let mut document = on.clone();
        document.apply(&delta).expect("it was made on it");
        (Arc::new(delta), Arc::new(document))
    }

    #[test]
    fn documents_are_reserved_all_or_none() {
        let keys = ["a", "b", "c"].map(|id| DocKey {
            app: AppId::default(),
            collection: "c".into(),
            id: canonical::encode_text_id(id).expect("short"),
        });
        let (first, second) = (TxnId(Uuid([1; 16])), TxnId(Uuid([2; 16])));
        let mut tips = Tips::default();
        assert!(tips.reserve(&keys[..1], first));
        assert!(!tips.reserve(&keys, second));
        assert!(!tips.is_reserved_by_another(&keys[1], Some(first)), "one of them was taken");
        assert!(!tips.release(&keys, second));
        assert!(tips.release(&keys, first));
        assert!(tips.reserve(&keys, second));
        assert!(keys.iter().all(|key| tips.is_reserved_by_another(key, Some(first))));
    }

    #[test]
    fn a_lock_is_let_go_of_by_its_own_record_alone() {
        let id = canonical::encode_text_id("d").expect("short");
        let key = DocKey { app: AppId::default(), collection: "c".into(), id };
        let [lower, upper, other] = [1, 2, 3].map(|n| TxnId(Uuid([n; 16])));
        let mut tips = Tips::default();
        let (delta, first) = with(&Document::new(), 1, "lower");
        tips.push(key.clone(), lower, InFlight::Merge(delta), first.clone(), None);
        let (delta, second) = with(&first, 2, "upper");
        let lock = LockOwner { from: PartitionId(0), txn_id: upper };
        tips.push(key.clone(), upper, InFlight::Merge(delta), second, Some(lock));

        assert_eq!((tips.len(), tips.is_empty()), (1, false), "one document");
        assert!(!tips.settle(&key, other, || None));
        assert!(tips.is_locked(&key), "a change that a peer made is no end of it");
        assert!(tips.settle(&key, upper, || None), "who waits for it may try again");
        assert!(!tips.is_locked(&key));
    }

    #[test]
    fn a_refused_change_is_in_no_tip_and_neither_is_what_was_made_on_it() {
        let id = canonical::encode_text_id("d").expect("short");
        let key = DocKey { app: AppId::default(), collection: "c".into(), id };
        let (lower, upper) = (TxnId(Uuid([1; 16])), TxnId(Uuid([2; 16])));
        for is_refused in [false, true] {
            let mut tips = Tips::default();
            let (delta, first) = with(&Document::new(), 1, "lower");
            tips.push(key.clone(), lower, InFlight::Merge(delta), first.clone(), None);
            let (delta, second) = with(&first, 2, "upper");
            tips.push(key.clone(), upper, InFlight::Merge(delta), second, None);

            let committed = || (!is_refused).then_some(first);
            assert!(!tips.settle(&key, lower, committed), "the other is still in flight");
            let tip = tips.newest(&key).expect("something is in flight");
            let fields = ["lower", "upper"].map(|name| tip.get_steps(&[name]).is_some());
            assert_eq!(fields, [!is_refused; 2]);
            assert!(tips.settle(&key, upper, || None), "nothing is in flight any more");
            assert!(tips.is_empty());
        }
    }
}
