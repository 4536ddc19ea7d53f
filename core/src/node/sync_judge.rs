//! The one judge: whatever a peer sends that may become an operation passes here, the tombstone in an
//! acknowledgement included.
//!
//! Permission comes first, before any look-up, so that an answer about a document that the peer may not read is
//! the same bytes whatever is here:
//!
//! | may write | may read | an item is answered by |
//! |---|---|---|
//! | no | no | `Rejected(Forbidden)` |
//! | no | yes | `Accepted` when all of it is known here, else `Rejected(Forbidden)`; `NeedBase` when it names a base that cannot be recalled |
//! | yes | no | full state is merged and `Accepted`, also over a deletion or an eviction; a delta has to come again as full state, whether or not its base is here |
//! | yes | yes | what became of it |
//!
//! Then come size, form and clock, which need no look-up either, and at last the base and the size of the merged
//! document. That size is the one thing a peer that may write and not read can learn: its item is too large where
//! it would take the document above the bound.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::row::StoredRow;
use super::sync_ask::RemoteFilter;
use super::sync_source::{digest, store_key};
use super::sync_wire::encode_vector;
use crate::document::{ApplyError, Delta, Document, Memory, Vector};
use crate::ident::{AppId, Dot};
use crate::plant::{Plant, is_planted};
use crate::store::{DocKey, Held, Store};
use crate::sync::{Digest, ItemBody, Outcome, RejectReason, UpdateItem};

/// What the items of one peer are judged by, in the partition that owns their documents.
#[derive(Debug)]
pub(crate) struct Judge<'a> {
    pub(crate) store: &'a Store,
    pub(crate) app: AppId,
    pub(crate) filter: &'a RemoteFilter,
    /// Clocks beyond this many milliseconds since the epoch are refused.
    pub(crate) clock_ms_max: u64,
    /// Bytes of one item, and of the document that it leads to.
    pub(crate) bytes_max: usize,
    /// Our own actor with the greatest clock value that it has issued.
    pub(crate) issued: Dot,
}

/// What is decided about an item.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Ruling {
    /// To be merged, and answered so.
    Merge(Arc<Delta>, Outcome),
    /// Nothing of it is merged.
    Answer(Outcome),
    /// It says that our own actor has written what it never did: a lie, or a store that was rolled back.
    BeyondIssued,
}

impl Judge<'_> {
    pub(crate) fn rule(&self, item: &UpdateItem) -> Ruling {
        let key = store_key(self.app, &item.key);
        let ruled = match &item.body {
            ItemBody::Delta { bytes, .. } => self.rule_delta(&key, bytes, false),
            ItemBody::Tombstone { bytes } => self.rule_delta(&key, bytes, true),
            ItemBody::Left { digest } => {
                ControlFlow::Break(Ruling::Answer(self.rule_left(&key, *digest)))
            }
            ItemBody::Evicted => ControlFlow::Break(Ruling::Answer(Outcome::Accepted)),
        };
        let (ControlFlow::Break(ruling) | ControlFlow::Continue(ruling)) = ruled;
        ruling
    }

    fn rule_delta(
        &self,
        key: &DocKey,
        bytes: &[u8],
        is_tombstone: bool,
    ) -> ControlFlow<Ruling, Ruling> {
        let may_read = self.filter.may_read(key) || is_planted(Plant::ReadRuleIgnoredInVerdicts);
        if !self.filter.may_write(key) {
            let known = if may_read { self.known(key, bytes) } else { None };
            return answer(known.unwrap_or(Outcome::Rejected(RejectReason::Forbidden)));
        }
        let delta = self.well_formed(bytes, is_tombstone)?;
        if !may_read && !delta.is_full() {
            return answer(Outcome::NeedBase { vector: None });
        }
        let ruling = self.rule_merge(key, delta, is_tombstone)?;
        ControlFlow::Continue(if may_read { ruling } else { veiled(ruling) })
    }

    /// What needs no look-up: size, decoding, form, clock.
    fn well_formed(&self, bytes: &[u8], is_tombstone: bool) -> ControlFlow<Ruling, Delta> {
        if bytes.len() > self.bytes_max && !is_planted(Plant::SizeUnjudged) {
            return reject(RejectReason::TooLarge);
        }
        let Ok(delta) = Delta::from_bytes(bytes) else { return reject(RejectReason::Malformed) };
        // Increments and authors mean something only in the log where they were authored, and so does a base of which
        // only a part is named: a peer does not know what was live here.
        if delta.has_increments() || delta.author().is_some() || delta.is_base_in_part() {
            return reject(RejectReason::Malformed);
        }
        // Full state stands for itself: what it left out, to be filled in from here, would tell what is here.
        let mut alone = Document::new();
        let stands = !delta.is_full() || alone.apply(&delta).is_ok();
        if !stands || (is_tombstone && !alone.is_deleted()) {
            return reject(RejectReason::Malformed);
        }
        if delta.highest().physical_ms() > self.clock_ms_max
            && !is_planted(Plant::ClockCheckSkipped)
        {
            return reject(RejectReason::ClockSkew);
        }
        let own = self.issued;
        let is_beyond = |dot: &Dot| dot.actor == own.actor && dot.hlc > own.hlc;
        if delta.raised().iter().any(is_beyond) && !is_planted(Plant::OwnEntryBelieved) {
            return ControlFlow::Break(Ruling::BeyondIssued);
        }
        ControlFlow::Continue(delta)
    }

    fn rule_merge(
        &self,
        key: &DocKey,
        mut delta: Delta,
        is_tombstone: bool,
    ) -> ControlFlow<Ruling, Ruling> {
        let (marker, mut document) = match self.store.held(key) {
            Some(Held::Evicted(marker)) => (Some(marker), Document::new()),
            Some(Held::Document(document)) => (None, Document::clone(&document)),
            None => (None, Document::new()),
        };
        if marker.is_some_and(|marker| !marker.is_empty() && delta.is_known_to(&marker)) {
            return ControlFlow::Continue(Ruling::Answer(Outcome::Evicted));
        }
        let size_before = document.size_bytes();
        if !delta.recall_base(&self.memory(key, document.vector())) {
            return answer(need_base(&document));
        }
        // The log need not list all that the base has seen, if it is just what is here.
        delta.shorten_base(&document);
        match document.apply(&delta) {
            Ok(_) => {}
            Err(ApplyError::NeedBase | ApplyError::BaseMismatch) => {
                return answer(need_base(&document));
            }
            Err(_) => return reject(RejectReason::Malformed),
        }
        // What makes a document smaller is always taken, or one that is too large could not be deleted.
        let size = document.size_bytes();
        if size > self.bytes_max && size > size_before && !is_planted(Plant::SizeUnjudged) {
            return reject(RejectReason::TooLarge);
        }
        let outcome = if !is_tombstone && document.is_deleted() {
            Outcome::Deleted { tombstone: document.diff(&Vector::new()).to_bytes().into() }
        } else {
            Outcome::Accepted
        };
        ControlFlow::Continue(Ruling::Merge(Arc::new(delta), outcome))
    }

    /// The answer to who may read and not write, when there is nothing in the item that is not here, nor in the
    /// base that it rests on: an edit that was refused before is in the base of those that follow, and "accepted"
    /// would be the last that its author hears of it. A base that is named by a digest that says nothing here has to be
    /// listed before that can be told.
    fn known(&self, key: &DocKey, bytes: &[u8]) -> Option<Outcome> {
        let mut delta = Delta::from_bytes(bytes).ok()?;
        let held = self.store.held(key)?;
        let (vector, known) = match &held {
            Held::Document(document) => (document.vector(), Outcome::Accepted),
            Held::Evicted(marker) => (marker, Outcome::Evicted),
        };
        if !delta.recall_base(&self.memory(key, vector)) {
            let is_document = matches!(held, Held::Document(_));
            let vector = is_document.then(|| encode_vector(vector));
            return Some(Outcome::NeedBase { vector });
        }
        delta.is_known_to(vector).then_some(known)
    }

    /// Our knowledge of a document of which `vector` was seen here.
    fn memory<'a>(&self, key: &DocKey, vector: &'a Vector) -> Memory<'a> {
        let site = Some(self.issued.actor.site());
        Memory { vector, site, raised: self.store.raised_recently(key) }
    }

    /// A document left the remote's interest in us: ask for it when our older copy still matches what we ask
    /// for.
    fn rule_left(&self, key: &DocKey, theirs: Digest) -> Outcome {
        let may_read = self.filter.may_read(key) || is_planted(Plant::ReadRuleIgnoredInLeft);
        if may_read
            && let Some(Held::Document(document)) = self.store.held(key)
            && document.is_visible()
            && digest(&document) != theirs
            && self.filter.ours.matches(&key.collection, &StoredRow::new(&key.id, &document))
        {
            return Outcome::NeedBase { vector: Some(encode_vector(document.vector())) };
        }
        Outcome::Accepted
    }
}

impl RemoteFilter {
    pub(crate) fn may_read(&self, key: &DocKey) -> bool {
        self.permissions.read.is_everything()
            || self.permissions.read.covers(&key.collection, &key.id)
    }

    pub(crate) fn may_write(&self, key: &DocKey) -> bool {
        is_planted(Plant::SyncPermissionIgnored)
            || self.permissions.write.is_everything()
            || self.permissions.write.covers(&key.collection, &key.id)
    }
}

/// The answer to a delta whose base is not what we hold: what we hold.
fn need_base(document: &Document) -> Outcome {
    let vector = (!document.is_blank()).then(|| encode_vector(document.vector()));
    Outcome::NeedBase { vector }
}

/// The ruling as a peer may hear it that may not read the document: taken, whatever it was taken into.
fn veiled(ruling: Ruling) -> Ruling {
    match ruling {
        Ruling::Merge(delta, _) => Ruling::Merge(delta, Outcome::Accepted),
        Ruling::Answer(Outcome::Evicted) => Ruling::Answer(Outcome::Accepted),
        ruling => ruling,
    }
}

fn answer<T>(outcome: Outcome) -> ControlFlow<Ruling, T> {
    ControlFlow::Break(Ruling::Answer(outcome))
}

fn reject<T>(reason: RejectReason) -> ControlFlow<Ruling, T> {
    answer(Outcome::Rejected(reason))
}
