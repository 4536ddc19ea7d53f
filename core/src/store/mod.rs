//! One partition's documents, materialised from the log.
//!
//! Apply takes transactions in log order and folds them in place, keeping an older version only while a
//! registered read may still need it. Reads name the transaction they read at and come back `Ready` or
//! `Blocked`: today every document is in memory, and only the simulator makes a block cold, but no caller may
//! assume either. The store knows nothing of statements, sessions or permissions; `Node` is its only caller.

mod apply;
mod change;
mod collection;
mod residency;
mod snapshot;
mod tips;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

pub use apply::{Applied, Outcome};
use change::ChangeIndex;
pub use change::{Change, ChangeCursor};
use collection::{Collection, Entry, Raise};
pub use residency::BlockId;
use residency::Residency;
pub use snapshot::SnapshotPart;
pub use tips::{InFlight, LockOwner, Tips};

use crate::document::Document;
use crate::ident::{AppId, DocId, Dot, PeerKey, Txn};
use crate::log::transaction::Op;
use crate::plant::{Plant, is_planted};
use crate::rng::Rng;

/// Where a document lives: the boundary, the collection, the id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DocKey {
    /// The app.
    pub app: AppId,
    /// The collection's name.
    pub collection: Arc<str>,
    /// The canonical `_id`.
    pub id: DocId,
}

impl DocKey {
    /// The document that an operation changes, if it does.
    #[must_use]
    pub fn of(app: AppId, op: &Op) -> Option<Self> {
        match op {
            Op::Merge { collection, id, .. } | Op::Evict { collection, id } => {
                Some(Self { app, collection: collection.clone(), id: id.clone() })
            }
            Op::Remote { .. } | Op::System(_) => None,
        }
    }
}

/// The answer to a read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read<T> {
    /// Here it is.
    Ready(T),
    /// The block must be fetched first; ask again once it has arrived.
    Blocked(BlockId),
}

/// One step of a scan in `_id` order.
#[derive(Clone, Debug)]
pub enum ScanStep {
    /// A document visible at the transaction read at.
    Row(DocId, Arc<Document>),
    /// A key without a visible document; the scan goes on after it.
    Skip(DocId),
    /// No further key.
    End,
}

/// What a partition holds under a key, for sync: documents, tombstones and eviction markers alike.
#[derive(Clone, Debug)]
pub enum Held {
    /// A document or a tombstone, with its whole vector.
    Document(Arc<Document>),
    /// Evicted here: uploads whose vector the marker covers are answered "evicted".
    Evicted(crate::document::Vector),
}

/// A document that a peer should hear of.
#[derive(Clone, Debug)]
pub struct News {
    /// Its state.
    pub document: Arc<Document>,
    /// The vector that the peer has, when our recent history reaches back that far.
    pub base: Option<crate::document::Vector>,
}

/// The documents of one partition.
#[derive(Debug)]
pub struct Store {
    apps: BTreeMap<AppId, BTreeMap<Arc<str>, Collection>>,
    changes: ChangeIndex,
    /// Keys whose older versions may be dropped once no read is older than the transaction.
    folds: VecDeque<(Txn, DocKey)>,
    applied: Txn,
    /// The last transaction of which something was applied. When it is beyond `applied` the rest of it is to come.
    begun: Txn,
    /// Parts of a snapshot as of this position have been taken back, perhaps not all of them yet.
    restored: Txn,
    residency: Residency,
    /// What an EVICT leaves behind: a server remembers which versions it evicted, a device forgets them, because
    /// what it subscribes to shall come again.
    keeps_evict_markers: bool,
    /// Bytes that merging what a peer sent may make of a document.
    merged_bytes_max: usize,
}

impl Default for Store {
    fn default() -> Self {
        Self::new()
    }
}

impl Store {
    /// An empty store at transaction zero.
    #[must_use]
    pub fn new() -> Self {
        Self {
            apps: BTreeMap::new(),
            changes: ChangeIndex::default(),
            folds: VecDeque::new(),
            applied: Txn(0),
            begun: Txn(0),
            restored: Txn(0),
            residency: Residency::Memory,
            keeps_evict_markers: true,
            merged_bytes_max: usize::MAX,
        }
    }

    /// A store that pretends to be cold: a seeded half of its reads come back blocked first. For the simulator.
    #[must_use]
    pub fn pretending_cold(rng: Rng) -> Self {
        Self { residency: Residency::pretending(rng), ..Self::new() }
    }

    /// Chooses what an EVICT leaves behind: markers on a server, nothing on a device.
    pub fn set_keeps_evict_markers(&mut self, keeps: bool) {
        self.keeps_evict_markers = keeps;
    }

    /// Sets how many bytes merging what a peer sent may make of a document; there is no bound before. What the log says
    /// depends on it, so it must be the same whenever one log is applied.
    pub fn set_merged_bytes_max(&mut self, bytes: usize) {
        self.merged_bytes_max = bytes;
    }

    /// The last transaction in which `key` was changed by anything but the updates of one peer.
    #[must_use]
    pub fn edited_at(&self, key: &DocKey) -> Txn {
        self.entry(key).map_or(Txn(0), Entry::edited_at)
    }

    /// Everything up to this transaction is reflected.
    #[must_use]
    pub fn applied(&self) -> Txn {
        self.applied
    }

    /// Says that `block` has arrived: the next read that needs it is ready.
    pub fn block_arrived(&mut self, block: BlockId) {
        self.residency.arrived(block);
    }

    /// The document under `key` as of transaction `at`, tombstones included.
    pub fn read(&mut self, key: &DocKey, at: Txn) -> Read<Option<Arc<Document>>> {
        if let Some(block) = self.residency.check(&key.id) {
            return Read::Blocked(block);
        }
        Read::Ready(self.entry(key).and_then(|entry| entry.at(at)).cloned())
    }

    /// The document under `key` in its newest applied state, tombstones included.
    pub fn read_newest(&mut self, key: &DocKey) -> Read<Option<Arc<Document>>> {
        self.read(key, Txn::MAX)
    }

    /// The next key of a collection after `after`, as of transaction `at`.
    pub fn scan(
        &mut self,
        app: AppId,
        collection: &str,
        after: Option<&DocId>,
        at: Txn,
    ) -> Read<ScanStep> {
        let Some(found) = self.collection(app, collection).and_then(|c| c.after(after)) else {
            return Read::Ready(ScanStep::End);
        };
        let at = if is_planted(Plant::SnapshotIgnored) { Txn::MAX } else { at };
        let (id, document) = (found.0.clone(), found.1.at(at).cloned());
        if let Some(block) = self.residency.check(&id) {
            return Read::Blocked(block);
        }
        Read::Ready(match document.filter(|document| document.is_visible()) {
            Some(document) => ScanStep::Row(id, document),
            None => ScanStep::Skip(id),
        })
    }

    /// The newest applied document under `key`, tombstones included.
    #[must_use]
    pub fn document(&self, key: &DocKey) -> Option<Arc<Document>> {
        self.entry(key).and_then(Entry::document).cloned()
    }

    /// The block that must be fetched before `key` can be read, if any: each look is a read of its own.
    pub fn missing_block(&mut self, key: &DocKey) -> Option<BlockId> {
        self.residency.check(&key.id)
    }

    /// What is held under `key` now, for sync.
    #[must_use]
    pub fn held(&self, key: &DocKey) -> Option<Held> {
        self.entry(key).map(Entry::held)
    }

    /// The next key of a collection after `after` with what is held there now, for a fuzzy scan.
    #[must_use]
    pub fn held_after(
        &self,
        app: AppId,
        collection: &str,
        after: Option<&DocId>,
    ) -> Option<(DocId, Held)> {
        let (id, entry) = self.collection(app, collection)?.after(after)?;
        Some((id.clone(), entry.held()))
    }

    /// The names of the collections of an app that hold at least one key, in order.
    pub fn collections(&self, app: AppId) -> impl Iterator<Item = (&Arc<str>, u64)> {
        self.apps.get(&app).into_iter().flatten().map(|(name, c)| (name, c.visible_count()))
    }

    /// Documents of `app` changed after `cursor`, oldest first: at most `limit` of them.
    #[must_use]
    pub fn changes_after(&self, app: AppId, cursor: ChangeCursor, limit: usize) -> Vec<Change> {
        self.changes.after(app, cursor, limit)
    }

    /// The vector that `key` had as of transaction `at`, when its recent history reaches back that far.
    #[must_use]
    pub fn vector_at(&self, key: &DocKey, at: Txn) -> Option<crate::document::Vector> {
        self.entry(key).and_then(|entry| entry.vector_at(at))
    }

    /// What a peer that has everything up to `after` should hear about `key` as of transaction `at`: nothing when
    /// the key has not changed in between, or only by updates of that peer's own.
    #[must_use]
    pub fn news(&self, key: &DocKey, remote: PeerKey, after: Txn, at: Txn) -> Option<News> {
        let entry = self.entry(key)?;
        let changed = entry.changed_at_as_of(at);
        if changed <= after
            || (entry.changed_at() == changed && entry.is_news_only_from(remote, after))
        {
            return None;
        }
        let document = entry.at(at)?.clone();
        // A vector that reaches further back than the document itself is that of a peer without it.
        let base = entry.vector_at(after).filter(|base| base.leq(document.vector()));
        Some(News { document, base })
    }

    /// The entries of a document's vector that rose recently, as they were before, newest first; few of them are kept.
    #[must_use]
    pub fn raised_recently(&self, key: &DocKey) -> Vec<Dot> {
        let raises = self.entry(key).map_or(&[][..], Entry::raises);
        let former = |raise: &Raise| Dot { hlc: raise.previous, actor: raise.actor };
        raises.iter().rev().map(former).collect()
    }

    /// Drops the older versions of so many documents that no registered read needs: none is older than `oldest_read`.
    /// False when there are more.
    pub fn fold(&mut self, oldest_read: Txn, at_most: usize) -> bool {
        for _ in 0..at_most {
            let Some((_, key)) = self.folds.pop_front_if(|(txn, _)| *txn <= oldest_read) else {
                return true;
            };
            let Some(collection) = self.collection_mut(key.app, &key.collection) else { continue };
            collection.fold(&key.id, oldest_read);
        }
        self.folds.front().is_none_or(|(txn, _)| *txn > oldest_read)
    }

    /// True while older versions are kept for reads.
    #[must_use]
    pub fn has_foldable(&self) -> bool {
        !self.folds.is_empty()
    }

    /// The number of older versions that are kept for reads.
    #[cfg(test)]
    pub(crate) fn foldable_count(&self) -> usize {
        self.folds.len()
    }

    /// Walks what is too slow for the hot path; the simulator calls it after each step.
    ///
    /// # Panics
    ///
    /// When an invariant of the store does not hold.
    pub fn check_invariants(&self) {
        let newest = self.applied.max(self.restored).max(self.begun);
        let folds: BTreeSet<_> = self.folds.iter().map(|(txn, key)| (*txn, key)).collect();
        let mut places = 0;
        for (app, collections) in &self.apps {
            for (name, collection) in collections {
                collection.check_invariants(newest);
                for (id, entry) in collection.iter() {
                    let key = DocKey { app: *app, collection: name.clone(), id: id.clone() };
                    let is_held = entry.place().is_some_and(|at| self.changes.holds(&key, at));
                    assert!(is_held, "each key has its last change in the change index");
                    let is_let_go =
                        !entry.has_older() || folds.contains(&(entry.changed_at(), &key));
                    assert!(is_let_go, "older versions are kept for reads that are not over");
                    places += 1;
                }
            }
        }
        assert_eq!(places, self.changes.len(), "the change index has nothing else");
    }

    fn collection(&self, app: AppId, name: &str) -> Option<&Collection> {
        self.apps.get(&app)?.get(name)
    }

    fn collection_mut(&mut self, app: AppId, name: &str) -> Option<&mut Collection> {
        self.apps.get_mut(&app)?.get_mut(name)
    }

    fn entry(&self, key: &DocKey) -> Option<&Entry> {
        self.collection(key.app, &key.collection)?.entry(&key.id)
    }
}
