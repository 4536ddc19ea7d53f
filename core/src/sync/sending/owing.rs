//! What the remote has refused, as this session knows it.

use std::collections::{BTreeMap, BTreeSet};

use crate::plant::{Plant, is_planted};
use crate::sync::host::{DocKey, Owed, RejectReason, add_unlisted};

/// Refused documents by key, and those among them that wait for the remote's clock.
///
/// At most so many are named. Of more than that it is known under which write permission the remote refused them:
/// once that is another, or for clocks once time has passed, a reconciliation offers everything again, and what is
/// refused in it is counted anew.
#[derive(Debug)]
pub(crate) struct Owing {
    owed: BTreeMap<DocKey, Owed>,
    parked: BTreeSet<DocKey>,
    owed_max: usize,
    /// The record's value: [`RemoteRecord::unlisted`](crate::sync::RemoteRecord::unlisted).
    unlisted: Option<u64>,
    /// While a reconciliation offers everything: what `unlisted` is at its end.
    recounted: Option<Option<u64>>,
}

impl Owing {
    pub(crate) fn new(owed_max: usize) -> Self {
        let (owed, parked) = (BTreeMap::new(), BTreeSet::new());
        Self { owed, parked, owed_max, unlisted: None, recounted: None }
    }

    pub(crate) fn load(&mut self, owed: Vec<Owed>, unlisted: Option<u64>) {
        *self = Self::new(self.owed_max);
        owed.into_iter().for_each(|owed| self.insert(owed));
        self.unlisted = unlisted;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.owed.is_empty()
    }

    /// The remote has refused a document, perhaps again and for another reason.
    pub(crate) fn insert(&mut self, owed: Owed) {
        if self.owed.len() >= self.owed_max && !self.owed.contains_key(&owed.key) {
            add_unlisted(&mut self.unlisted, owed.refused_under());
            if let Some(recounted) = &mut self.recounted {
                add_unlisted(recounted, owed.refused_under());
            }
            return;
        }
        if owed.reason == RejectReason::ClockSkew {
            self.parked.insert(owed.key.clone());
        } else {
            self.parked.remove(&owed.key);
        }
        self.owed.insert(owed.key.clone(), owed);
    }

    /// True when the remote has refused the document for this reason before.
    pub(crate) fn holds(&self, key: &DocKey, reason: RejectReason) -> bool {
        self.owed.get(key).is_some_and(|owed| owed.reason == reason)
    }

    /// The remote has taken a document, or answered for good. True when it was owed.
    pub(crate) fn remove(&mut self, key: &DocKey) -> bool {
        self.parked.remove(key);
        self.owed.remove(key).is_some()
    }

    /// Keys of what was refused under another write permission, or for its clock.
    pub(crate) fn due(&self, write_permission: u64) -> impl Iterator<Item = &DocKey> {
        let is_due = move |owed: &&Owed| {
            owed.write_permission != write_permission || owed.reason == RejectReason::ClockSkew
        };
        self.owed.values().filter(is_due).map(|owed| &owed.key)
    }

    /// Some refused documents are not named, and might be taken now.
    pub(crate) fn is_unlisted_due(&self, write_permission: u64) -> bool {
        self.unlisted.is_some_and(|under| under == 0 || under != write_permission)
            && !is_planted(Plant::OwedDropped)
    }

    /// Keys of what was refused for its clock.
    pub(crate) fn parked(&self) -> impl ExactSizeIterator<Item = &DocKey> {
        self.parked.iter()
    }

    /// Documents that were refused for their clock are among those that are not named.
    pub(crate) fn is_parked_unlisted(&self) -> bool {
        self.unlisted == Some(0)
    }

    /// Everything is offered to the remote from here on, whatever it refused before.
    pub(crate) fn begin_recount(&mut self) {
        self.recounted = Some(None);
    }

    /// Everything was offered and answered. Gives what is to be kept, if it has changed.
    pub(crate) fn end_recount(&mut self) -> Option<Option<u64>> {
        let recounted = self.recounted.take()?;
        let former = std::mem::replace(&mut self.unlisted, recounted);
        (former != recounted).then_some(recounted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::canonical::encode_text_id;

    fn owed(id: &str, reason: RejectReason, write_permission: u64) -> Owed {
        let id = encode_text_id(id).expect("the id is short");
        Owed { key: DocKey { collection: "cars".into(), id }, reason, write_permission }
    }

    #[test]
    fn what_cannot_be_named_is_due_under_another_permission_and_counted_anew() {
        let mut owing = Owing::new(2);
        for id in ["a", "b", "c", "a"] {
            owing.insert(owed(id, RejectReason::Forbidden, 7));
        }
        assert_eq!(owing.due(8).count(), 2);
        assert_eq!((owing.is_unlisted_due(7), owing.is_unlisted_due(8)), (false, true));
        // Under several it is due in any case.
        owing.insert(owed("d", RejectReason::Forbidden, 8));
        assert_eq!((owing.is_unlisted_due(7), owing.is_unlisted_due(8)), (true, true));
        owing.begin_recount();
        for id in ["a", "b"] {
            assert!(owing.remove(&owed(id, RejectReason::Forbidden, 0).key));
        }
        owing.insert(owed("c", RejectReason::Forbidden, 8));
        assert_eq!(owing.end_recount(), Some(None), "all that is refused is named");
        assert!(!owing.is_unlisted_due(9));
        assert_eq!(owing.end_recount(), None, "no reconciliation is under way");
    }

    #[test]
    fn what_is_refused_for_its_clock_and_cannot_be_named_is_due_as_time_passes() {
        let mut owing = Owing::new(1);
        for id in ["a", "b"] {
            owing.insert(owed(id, RejectReason::ClockSkew, 7));
        }
        assert!(owing.is_unlisted_due(7) && owing.is_parked_unlisted());
        owing.begin_recount();
        owing.insert(owed("b", RejectReason::ClockSkew, 7));
        assert_eq!(owing.end_recount(), None, "it stays as it is");
        owing.begin_recount();
        owing.insert(owed("b", RejectReason::Forbidden, 7));
        assert_eq!(owing.end_recount(), Some(Some(7)));
        assert!(!owing.is_unlisted_due(7) && !owing.is_parked_unlisted());
    }
}
