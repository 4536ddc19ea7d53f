//! Edits that were written while this device's clock was ahead, and that its server refuses for that.
//!
//! Once the clock is right again, the device writes them anew: the same content under new dots of a new actor. It does
//! so only where nobody can have taken them, or the former dots would come back from there as something else:
//!
//! - the remote is the only one that this store has ever met, and has refused the document for its clock;
//! - asked what it has of the document, it has named a vector without any of these dots, or has no such document and
//!   would let us read it;
//! - everything from ahead in the document is our own.
//!
//! Refusing is not enough: of two edits the remote may have taken the first, and be asked about the second. The question
//! is a delta that brings nothing, over a base that is named by digest: the answer is a "base missing".
//!
//! In the log it is an EVICT of the document and its state as it shall be, in one record. An EVICT of a device makes both
//! sides reconcile: should one of these dots be at the remote after all, they agree all the same, as on edits of two.

use std::sync::Arc;

use super::Node;
use super::append::Then;
use super::sync_ask::RemoteFilter;
use crate::document::{Document, Vector};
use crate::ident::{AppId, DocId, Dot, TxnId};
use crate::log::transaction::{Op, Origin, Transaction};
use crate::store::{DocKey, InFlight};
use crate::sync::{ItemBody, Wanted};
use crate::time::{Hlc, HlcClock, WallMs, is_far_ahead};

/// What is to be sent of a document that a remote has refused for its clock.
#[derive(Debug)]
pub(super) enum Parked {
    /// What there is: it cannot be written anew, or need not be.
    AsItIs,
    /// First the question what the remote has of it.
    Question(ItemBody),
    /// Nothing: it is written anew as this.
    Anew(Arc<Document>),
}

impl Node {
    /// Decides about a document that is about to be offered to a remote; `base` is what the remote has of it, if it
    /// was asked.
    pub(super) fn parked(
        &mut self,
        key: &DocKey,
        document: &Document,
        filter: &RemoteFilter,
        wanted: &Wanted,
        base: Option<&Vector>,
    ) -> Parked {
        // With several partitions, none knows all remotes.
        if !self.config.is_device || self.config.partitions > 1 {
            return Parked::AsItIs;
        }
        let wall = self.last_now.wall;
        let is_ahead = |hlc: Hlc| is_far_ahead(hlc, wall);
        let site = self.config.site;
        let mut ahead = document.ahead(is_ahead).peekable();
        if ahead.peek().is_none()
            || !ahead.all(|dot| dot.actor.site() == site)
            || !self.may_restamp(key, filter)
        {
            return Parked::AsItIs;
        }
        if !wanted.is_answer {
            return Parked::Question(super::sync_source::question_body(document));
        }
        let is_there =
            |base: &Vector| document.ahead(is_ahead).any(|dot| is_ahead(base.get(dot.actor)));
        let is_free = match base {
            Some(base) => !is_there(base),
            None => self.would_be_readable(key, filter),
        };
        let floors = self.floors(key, document, base, is_ahead).filter(|_| is_free);
        let anew = floors.and_then(|floors| self.restamped(document, &floors, is_ahead));
        anew.map_or(Parked::AsItIs, |document| Parked::Anew(Arc::new(document)))
    }

    /// Whether nobody but this remote can have anything of the document that it has not from there.
    fn may_restamp(&self, key: &DocKey, filter: &RemoteFilter) -> bool {
        filter.recalls_bases
            && self.sync.remotes.is_parked_at_the_only(key, filter.peer)
            && self.tips.newest(key).is_none()
            && !self.tips.is_reserved_by_another(key, None)
    }

    /// What each actor that is ahead in a document did last before: what rose above that is in the document's recent
    /// history, or the remote has told it.
    fn floors(
        &self,
        key: &DocKey,
        document: &Document,
        base: Option<&Vector>,
        is_ahead: impl Fn(Hlc) -> bool + Copy,
    ) -> Option<Vector> {
        let recent = self.store.raised_recently(key);
        let floor = |dot: Dot| {
            let mut former = recent.iter().filter(|former| former.actor == dot.actor);
            let known = former.find(|former| !is_ahead(former.hlc)).map(|former| former.hlc);
            let told = || Some(base?.get(dot.actor).max(document.newest_of(dot.actor, is_ahead)));
            Some(Dot { hlc: known.or_else(told)?, ..dot })
        };
        document.ahead(is_ahead).map(floor).collect()
    }

    fn restamped(
        &mut self,
        document: &Document,
        floors: &Vector,
        is_ahead: impl Fn(Hlc) -> bool + Copy,
    ) -> Option<Document> {
        let now = self.last_now;
        self.leave_wrong_time(now);
        if document.ahead(is_ahead).any(|dot| dot.actor == self.actor()) {
            self.renew_epoch();
            self.issued = Hlc::default();
        }
        let actor = self.actor();
        let seen = document.vector().iter().filter(|dot| !is_ahead(dot.hlc)).map(|dot| dot.hlc);
        let mut last = seen.max().unwrap_or_default();
        let clock = &mut self.clock;
        let restamped = document.restamped(is_ahead, floors, || {
            let tick = clock.tick(now.wall).ok()?;
            last = match tick > last {
                true => tick,
                false => HlcClock::resume(last).tick(WallMs(0)).ok()?,
            };
            (!is_ahead(last)).then_some(Dot { hlc: last, actor })
        })?;
        debug_assert_eq!(restamped.to_object(), document.to_object(), "readers see no difference");
        self.issued = self.issued.max(last);
        Some(restamped)
    }

    /// Appends documents that are written anew, as one record. Should it be refused, they are asked about again.
    pub(super) fn append_restamped(&mut self, app: AppId, documents: Vec<(DocKey, Arc<Document>)>) {
        if documents.is_empty() {
            return;
        }
        let id = TxnId(self.rng.uuid());
        let mut ops = Vec::new();
        let mut changes = Vec::new();
        for (key, document) in documents {
            let delta = Arc::new(document.diff(&Vector::new()));
            let (collection, doc): (Arc<str>, DocId) = (key.collection.clone(), key.id.clone());
            ops.push(Op::Evict { collection: collection.clone(), id: doc.clone() });
            ops.push(Op::Merge { collection, id: doc, delta: delta.clone() });
            changes.push((key.clone(), InFlight::Evict, Arc::new(Document::new())));
            changes.push((key, InFlight::Merge(delta), document));
        }
        let wall = self.last_now.wall;
        let transaction = Transaction { id, app, origin: Origin::Http, wall, ops };
        if self.append(transaction, true, Then::Nothing).is_ok() {
            for (key, change, document) in changes {
                self.tips.push(key, id, change, document, None);
            }
        }
    }

    /// Documents that remotes have refused for their clock, each as often as there are such remotes.
    #[must_use]
    pub fn parked_count(&self) -> usize {
        self.sync.remotes.parked_count()
    }
}
