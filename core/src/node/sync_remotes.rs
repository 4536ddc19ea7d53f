//! The owner's side of remotes: what is kept about each, change by change, and which session of the process is its.
//!
//! One partition owns a remote, by the hash of its key. It applies the changes that the log holds, answers with the
//! record when a session begins, and admits one session for each remote in the whole process: a newer one waits
//! until the older one has ended wherever it lives and all that it appended is applied here. So the record that a
//! session begins with is never older than what its predecessor did.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::message::Body;
use super::sync_ask::{Answer, GatherId, ToSession};
use super::sync_host::SessionId;
use super::sync_wire::{RecordChange, encode_record};
use super::{Node, NodeLimits};
use crate::ident::{AppId, PartitionId, PeerKey};
use crate::plant::{Plant, is_planted};
use crate::sync::{DocKey as SyncKey, Owed, RejectReason, RemoteRecord, add_unlisted};

/// Remotes whose slot lies in one partition.
#[derive(Debug, Default)]
pub(crate) struct Remotes {
    kept: BTreeMap<(AppId, PeerKey), Kept>,
    /// Of each app in the order of their last change: the longest unseen first.
    by_age: BTreeMap<AppId, BTreeMap<u64, PeerKey>>,
    age_last: u64,
    /// Documents that are refused for their clock, by all of them.
    parked_count: usize,
    present: BTreeMap<(AppId, PeerKey), Presence>,
}

#[derive(Debug, Default)]
struct Kept {
    /// Without `owed`.
    record: RemoteRecord,
    owed: BTreeMap<SyncKey, Owed>,
    /// How many of these are refused for their clock.
    parked_count: usize,
    age: u64,
}

/// A session that has come, and perhaps a newer one that waits for its end.
#[derive(Debug)]
struct Presence {
    inside: Visit,
    waiting: Option<Visit>,
}

/// One session at its remote's owner: unique in the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Visit {
    /// The partition of the node that hosts the session.
    pub(crate) home: PartitionId,
    /// The session, on the thread of that node.
    pub(crate) session: SessionId,
    /// The question by which it came. A driver may use a session's name again, nobody a question's.
    pub(crate) gather: GatherId,
}

impl Remotes {
    /// Applies what the log holds about a remote, of which at most `owed_max` refused documents are named. Beyond
    /// `count_max` remotes of one app the longest unseen is forgotten: should it come back, both sides reconcile.
    pub(crate) fn apply(
        &mut self,
        app: AppId,
        peer: PeerKey,
        changes: Vec<RecordChange>,
        count_max: usize,
        owed_max: usize,
    ) {
        self.age_last += 1;
        let age = self.age_last;
        let kept = self.kept.entry((app, peer)).or_default();
        let by_age = self.by_age.entry(app).or_default();
        by_age.remove(&std::mem::replace(&mut kept.age, age));
        let parked_before = kept.parked_count;
        for change in changes {
            kept.apply(change, owed_max);
        }
        self.parked_count = self.parked_count + kept.parked_count - parked_before;
        by_age.insert(age, peer);
        if by_age.len() > count_max
            && let Some((_, oldest)) = by_age.pop_first()
            && let Some(forgotten) = self.kept.remove(&(app, oldest))
        {
            self.parked_count -= forgotten.parked_count;
        }
    }

    /// How many remotes something is kept about.
    pub(crate) fn count(&self) -> usize {
        self.kept.len()
    }

    /// How many documents are refused for their clock.
    pub(crate) const fn parked_count(&self) -> usize {
        self.parked_count
    }

    /// Walks what is too slow for the hot path.
    ///
    /// # Panics
    ///
    /// When an invariant does not hold.
    pub(crate) fn check_invariants(&self, limits: &NodeLimits) {
        let is_bounded = |by_age: &BTreeMap<u64, PeerKey>| by_age.len() <= limits.remotes_max;
        assert!(self.by_age.values().all(is_bounded), "the remotes of an app are bounded");
        let is_bounded = |kept: &Kept| kept.owed.len() <= limits.owed_max;
        assert!(self.kept.values().all(is_bounded), "what a remote has refused is bounded");
        let aged: usize = self.by_age.values().map(BTreeMap::len).sum();
        assert_eq!(self.kept.len(), aged, "each remote has one age");
        let parked: usize = self.kept.values().map(Kept::count_parked).sum();
        assert_eq!(self.parked_count, parked, "the count of parked documents is kept");
    }

    /// What is kept about a remote; the default record when nothing is.
    fn record(&self, app: AppId, peer: PeerKey) -> RemoteRecord {
        self.kept.get(&(app, peer)).map(Kept::to_record).unwrap_or_default()
    }

    /// All of them, as a checkpoint keeps them: the longest unseen of an app before the others.
    pub(crate) fn encoded(&self) -> impl ExactSizeIterator<Item = (AppId, PeerKey, Bytes)> {
        let of_app = |(app, by_age): (&AppId, &BTreeMap<u64, PeerKey>)| -> Vec<(AppId, PeerKey)> {
            by_age.values().map(|peer| (*app, *peer)).collect()
        };
        let keys: Vec<(AppId, PeerKey)> = self.by_age.iter().flat_map(of_app).collect();
        keys.into_iter().map(|(app, peer)| (app, peer, encode_record(&self.record(app, peer))))
    }

    /// A session has come. True when it may begin; else it waits for those that are to be told that it replaces
    /// them.
    fn arrive(&mut self, app: AppId, peer: PeerKey, visit: Visit) -> Result<(), Vec<Visit>> {
        match self.present.entry((app, peer)) {
            std::collections::btree_map::Entry::Occupied(entry)
                if !is_planted(Plant::ReplacedKept) =>
            {
                let presence = entry.into_mut();
                // Who is inside was told by the first that waited.
                let first = presence.waiting.is_none().then_some(presence.inside);
                let overtaken = presence.waiting.replace(visit);
                Err(first.into_iter().chain(overtaken).collect())
            }
            entry => {
                entry.insert_entry(Presence { inside: visit, waiting: None });
                Ok(())
            }
        }
    }

    /// A session is over, with all that it appended. Gives the one that waited for this.
    fn leave(&mut self, app: AppId, peer: PeerKey, visit: Visit) -> Option<Visit> {
        let presence = self.present.get_mut(&(app, peer))?;
        if presence.waiting == Some(visit) {
            presence.waiting = None;
        }
        if presence.inside != visit {
            return None;
        }
        let Some(next) = presence.waiting.take() else {
            self.present.remove(&(app, peer));
            return None;
        };
        presence.inside = next;
        Some(next)
    }
}

impl Kept {
    fn apply(&mut self, change: RecordChange, owed_max: usize) {
        let record = &mut self.record;
        match change {
            RecordChange::Whole(whole) => {
                self.record = *whole;
                let owed = std::mem::take(&mut self.record.owed);
                self.owed = owed.into_iter().map(|owed| (owed.key.clone(), owed)).collect();
                self.parked_count = self.count_parked();
            }
            RecordChange::Store(store) => {
                if record.store.replace(store) != Some(store) {
                    record.seen = None;
                }
            }
            RecordChange::Cursor(cursor) => record.cursor = cursor,
            RecordChange::Ours(ours) => record.ours = ours,
            RecordChange::Theirs(theirs) => record.theirs = Some(theirs),
            RecordChange::Reached(reached) => record.reached = Some(reached),
            // None when the remote was forgotten meanwhile, as the longest unseen: then nothing else about it is left.
            RecordChange::ReachedOn(txn) => {
                if let Some(reached) = &mut record.reached {
                    reached.txn = txn;
                }
            }
            RecordChange::Shared(txn) => record.shared = Some(txn),
            RecordChange::Seen(actor, hlc) => record.seen = Some((actor, hlc)),
            RecordChange::Owed(owed) => {
                if self.owed.len() < owed_max || self.owed.contains_key(&owed.key) {
                    self.parked_count += parked(&owed);
                    let former = self.owed.insert(owed.key.clone(), owed);
                    self.parked_count -= former.as_ref().map_or(0, parked);
                } else {
                    add_unlisted(&mut record.unlisted, owed.refused_under());
                }
            }
            RecordChange::NotOwed(key) => {
                self.parked_count -= self.owed.remove(&key).as_ref().map_or(0, parked);
            }
            RecordChange::Unlisted(unlisted) => record.unlisted = unlisted,
        }
    }

    fn count_parked(&self) -> usize {
        self.owed.values().map(parked).sum()
    }

    fn to_record(&self) -> RemoteRecord {
        RemoteRecord { owed: self.owed.values().cloned().collect(), ..self.record.clone() }
    }
}

/// 1 for a document that is refused for its clock, else 0.
fn parked(owed: &Owed) -> usize {
    usize::from(owed.reason == RejectReason::ClockSkew)
}

impl Node {
    /// A session asks for the record of its remote.
    pub(crate) fn admit(&mut self, app: AppId, peer: PeerKey, visit: Visit) {
        match self.sync.remotes.arrive(app, peer, visit) {
            Ok(()) => self.give_record(app, peer, visit),
            Err(replaced) => {
                for Visit { home, session, gather } in replaced {
                    let answer = Answer::Replaced(session);
                    self.send(home, Body::ToSession(ToSession { gather, answer }));
                }
            }
        }
    }

    /// A session has ended: whoever waited for that may begin.
    pub(crate) fn dismiss(&mut self, app: AppId, peer: PeerKey, visit: Visit) {
        if let Some(next) = self.sync.remotes.leave(app, peer, visit) {
            self.give_record(app, peer, next);
        }
    }

    fn give_record(&mut self, app: AppId, peer: PeerKey, visit: Visit) {
        let answer = Answer::Remote(Box::new(self.sync.remotes.record(app, peer)));
        self.send(visit.home, Body::ToSession(ToSession { gather: visit.gather, answer }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ident::Uuid;
    use crate::sync::Nonce;

    const APP: AppId = AppId(Uuid([1; 16]));

    fn peer(n: u8) -> PeerKey {
        PeerKey([n; 32])
    }

    fn visit(n: u64) -> Visit {
        Visit { home: PartitionId(n as u16), session: SessionId(1), gather: GatherId(n) }
    }

    #[test]
    fn the_longest_unseen_goes_first_and_each_app_has_its_own_bound() {
        let mut remotes = Remotes::default();
        let see = |remotes: &mut Remotes, n: u8| {
            let change = RecordChange::Theirs(Nonce(u64::from(n)));
            remotes.apply(APP, peer(n), vec![change], 3, 9);
        };
        let other = AppId(Uuid([2; 16]));
        remotes.apply(other, peer(9), vec![RecordChange::Theirs(Nonce(9))], 3, 9);
        for n in [1, 2, 3, 1, 4, 5] {
            see(&mut remotes, n);
        }
        let kept: Vec<u8> = remotes.encoded().map(|(_, peer, _)| peer.0[0]).collect();
        assert_eq!(kept, [1, 4, 5, 9]);
    }

    #[test]
    fn the_newest_of_many_sessions_begins_once_all_before_it_have_ended() {
        let mut remotes = Remotes::default();
        let mut arrive = |n| remotes.arrive(APP, peer(1), visit(n));
        assert_eq!(arrive(1), Ok(()));
        assert_eq!(arrive(2), Err(vec![visit(1)]));
        assert_eq!(arrive(3), Err(vec![visit(2)]));
        assert_eq!(remotes.leave(APP, peer(1), visit(2)), None);
        assert_eq!(remotes.leave(APP, peer(1), visit(1)), Some(visit(3)));
        assert_eq!(remotes.leave(APP, peer(1), visit(3)), None);
        assert_eq!(remotes.arrive(APP, peer(1), visit(4)), Ok(()));
    }
}
