//! The owner's side of sync: answers what sessions ask about the documents of this partition.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;

use super::Node;
use super::message::Body;
use super::row::StoredRow;
use super::sync_ask::{Answer, Ask, FromSession, GatherId, RemoteFilter, ToSession};
use super::sync_wire::{decode_vector, encode_vector};
use crate::document::{ApplyError, Delta, Document, Vector};
use crate::ident::{AppId, DocId, PartitionId, Txn};
use crate::plant::{Plant, is_planted};
use crate::store::{ChangeCursor, DocKey, Held};
use crate::sync::{
    Digest, DocKey as SyncKey, ItemBody, Offered, Outcome, Part, RejectReason, UpdateItem, Verdict,
    Wanted,
};

/// A session's node that wants to hear when an app is touched.
#[derive(Debug)]
pub(crate) struct Stir {
    gather: GatherId,
    app: AppId,
}

impl Node {
    pub(crate) fn on_from_session(&mut self, from: PartitionId, question: FromSession) {
        if question.at > self.store.applied() {
            self.sync.deferred.push((from, question));
            return;
        }
        let FromSession { gather, app, at, ask } = question;
        let answer = match ask {
            Ask::Remote(peer) => Answer::Remote(self.sync.remotes.get(&(app, peer)).cloned()),
            Ask::Collect { filter, after, from, credit_bytes } => {
                self.collect(app, &filter, after, at, from, credit_bytes)
            }
            Ask::Stir(session) => {
                if self.store.changes_after(app, ChangeCursor::after(at), 1).is_empty() {
                    self.sync.stirs.insert((from, session), Stir { gather, app });
                    return;
                }
                Answer::Stirred
            }
            Ask::StirStop(session) => {
                self.sync.stirs.remove(&(from, session));
                return;
            }
            Ask::Scan { filter, part, after, count } => {
                self.scan_held(app, &filter, part, after, count)
            }
            Ask::Compare { filter, part, offered } => Answer::Compared(
                offered
                    .into_iter()
                    .map(|(place, offered)| (place, self.compare(app, &filter, part, &offered)))
                    .collect(),
            ),
            Ask::Diff { filter, wanted } => Answer::Diffs(
                wanted
                    .into_iter()
                    .map(|(place, wanted)| (place, self.diff(app, &filter, &wanted)))
                    .collect(),
            ),
            Ask::Judge { filter, clock_ms_max, items } => Answer::Judged(
                items
                    .into_iter()
                    .map(|(place, item)| {
                        let (outcome, delta) = self.judge(app, &filter, clock_ms_max, &item);
                        (place, outcome, delta)
                    })
                    .collect(),
            ),
        };
        self.send(from, Body::ToSession(ToSession { gather, answer }));
    }

    /// The log was applied further: questions about that position can be answered, and who waits for a touch
    /// of `touched` hears of it.
    pub(crate) fn serve_deferred(&mut self, touched: &[AppId]) {
        let applied = self.store.applied();
        let ready: Vec<_> = self.sync.deferred.extract_if(.., |(_, q)| q.at <= applied).collect();
        for (from, question) in ready {
            self.on_from_session(from, question);
        }
        let stirred: Vec<_> =
            self.sync.stirs.extract_if(.., |_, stir| touched.contains(&stir.app)).collect();
        for ((home, _), Stir { gather, .. }) in stirred {
            self.send(home, Body::ToSession(ToSession { gather, answer: Answer::Stirred }));
        }
    }

    fn collect(
        &self,
        app: AppId,
        filter: &RemoteFilter,
        after: Txn,
        at: Txn,
        from: ChangeCursor,
        credit_bytes: usize,
    ) -> Answer {
        let mut items = Vec::new();
        let mut bytes = 0;
        let mut from = from;
        loop {
            let changes = self.store.changes_after(app, from, CHANGES_PER_STEP);
            if changes.is_empty() {
                return Answer::Collected { items, next: None };
            }
            for change in changes {
                from = change.at;
                let Some(item) = self.news_item(&change.key, filter, after, at) else { continue };
                bytes += item_size_bytes(&item);
                items.push(item);
                if bytes >= credit_bytes {
                    return Answer::Collected { items, next: Some(from) };
                }
            }
        }
    }

    fn news_item(
        &self,
        key: &DocKey,
        filter: &RemoteFilter,
        after: Txn,
        at: Txn,
    ) -> Option<UpdateItem> {
        if !filter.theirs.has_collection(&key.collection) || !filter.may_read(key) {
            return None;
        }
        let news = self.store.news(key, filter.peer, after, at)?;
        let document = &news.document;
        let body = if document.is_visible() {
            if filter.theirs.matches(&key.collection, &StoredRow::new(&key.id, document)) {
                delta_body(document, news.base.as_ref())
            } else if is_planted(Plant::LeftNotSent) {
                return None;
            } else {
                ItemBody::Left { digest: digest(document) }
            }
        } else if is_planted(Plant::TombstoneNotSent) {
            return None;
        } else {
            tombstone_body(document)
        };
        Some(UpdateItem { key: sync_key(key), body })
    }

    fn scan_held(
        &self,
        app: AppId,
        filter: &RemoteFilter,
        part: Part,
        after: Option<(Arc<str>, DocId)>,
        count: usize,
    ) -> Answer {
        let interest = match part {
            Part::Provide => &filter.theirs,
            Part::Hold => &filter.ours,
        };
        let mut items = Vec::new();
        let first = after.as_ref().map(|(collection, _)| collection.clone());
        let names: Vec<Arc<str>> =
            self.store.collections(app).map(|(name, _)| name.clone()).collect();
        for name in names {
            if first.as_ref().is_some_and(|first| name < *first) || !interest.has_collection(&name)
            {
                continue;
            }
            let mut last = after.as_ref().filter(|(c, _)| *c == name).map(|(_, id)| id.clone());
            while let Some((id, held)) = self.store.held_after(app, &name, last.as_ref()) {
                let key = DocKey { app, collection: name.clone(), id: id.clone() };
                last = Some(id.clone());
                if let Held::Document(document) = held
                    && let Some(offered) = offer(&key, &document, filter, part)
                {
                    items.push(offered);
                    if items.len() >= count {
                        return Answer::Scanned { items, next: Some((name, id)) };
                    }
                }
            }
        }
        Answer::Scanned { items, next: None }
    }

    fn compare(&self, app: AppId, filter: &RemoteFilter, part: Part, offered: &Offered) -> Verdict {
        let key = store_key(app, &offered.key);
        match part {
            // Asked for without a word about ours, so that its author hears the refusal and keeps it.
            Part::Provide if !filter.may_write(&key) => return Verdict::Need { vector: None },
            Part::Hold if !filter.may_read(&key) => return Verdict::Same,
            Part::Provide | Part::Hold => {}
        }
        match (self.store.held(&key), part) {
            (None, Part::Hold) => Verdict::Same,
            (None, Part::Provide) => Verdict::Need { vector: None },
            (Some(Held::Evicted(marker)), _) if wire_digest(&marker) == offered.digest => {
                Verdict::Answer(ItemBody::Evicted)
            }
            (Some(Held::Evicted(_)), Part::Provide) => Verdict::Need { vector: None },
            (Some(Held::Evicted(_)), Part::Hold) => Verdict::Same,
            (Some(Held::Document(document)), _) if digest(&document) == offered.digest => {
                Verdict::Same
            }
            (Some(Held::Document(document)), Part::Provide) => {
                Verdict::Need { vector: Some(encode_vector(document.vector())) }
            }
            (Some(Held::Document(document)), Part::Hold) => {
                let row = StoredRow::new(&key.id, &document);
                let provided =
                    !document.is_visible() || filter.theirs.matches(&key.collection, &row);
                if provided {
                    Verdict::Same
                } else {
                    Verdict::Answer(ItemBody::Left { digest: digest(&document) })
                }
            }
        }
    }

    fn diff(&self, app: AppId, filter: &RemoteFilter, wanted: &Wanted) -> Option<ItemBody> {
        let key = store_key(app, &wanted.key);
        if !filter.may_read(&key) {
            return None;
        }
        let Some(Held::Document(document)) = self.store.held(&key) else { return None };
        if !document.is_visible() {
            return Some(tombstone_body(&document));
        }
        let base = wanted.base.as_ref().and_then(|bytes| decode_vector(bytes).ok());
        Some(delta_body(&document, base.as_ref()))
    }

    /// What would become of a received item, and what to merge.
    fn judge(
        &self,
        app: AppId,
        filter: &RemoteFilter,
        clock_ms_max: u64,
        item: &UpdateItem,
    ) -> (Outcome, Option<Arc<Delta>>) {
        let key = store_key(app, &item.key);
        match self.judged(&key, filter, clock_ms_max, item) {
            ControlFlow::Break(outcome) => (outcome, None),
            ControlFlow::Continue((outcome, delta)) => (outcome, Some(Arc::new(delta))),
        }
    }

    fn judged(
        &self,
        key: &DocKey,
        filter: &RemoteFilter,
        clock_ms_max: u64,
        item: &UpdateItem,
    ) -> ControlFlow<Outcome, (Outcome, Delta)> {
        let held = self.store.held(key);
        let (bytes, is_tombstone) = match &item.body {
            ItemBody::Delta { bytes, .. } => (bytes, false),
            ItemBody::Tombstone { bytes } => (bytes, true),
            ItemBody::Left { digest } => {
                return ControlFlow::Break(judge_left(key, held.as_ref(), filter, *digest));
            }
            ItemBody::Evicted => return ControlFlow::Break(Outcome::Accepted),
        };
        let reject = |reason| ControlFlow::Break(Outcome::Rejected(reason));
        if !filter.may_write(key) {
            return reject(RejectReason::Forbidden);
        }
        let Ok(delta) = Delta::from_bytes(bytes) else { return reject(RejectReason::Malformed) };
        if delta.has_increments() || delta.author().is_some() {
            return reject(RejectReason::Malformed);
        }
        if delta.highest().physical_ms() > clock_ms_max {
            return reject(RejectReason::ClockSkew);
        }
        let (marker, mut document) = match held {
            Some(Held::Evicted(marker)) => (Some(marker), Document::new()),
            Some(Held::Document(document)) => (None, Document::clone(&document)),
            None => (None, Document::new()),
        };
        if let Some(marker) = marker.filter(|marker| !marker.is_empty())
            && delta.raised().iter().all(|dot| marker.seen(*dot))
        {
            return ControlFlow::Break(Outcome::Evicted);
        }
        match document.apply(&delta) {
            Ok(_) if !document.is_visible() && !is_tombstone && document.is_deleted() => {
                let tombstone = document.diff(&Vector::new()).to_bytes().into();
                ControlFlow::Continue((Outcome::Deleted { tombstone }, delta))
            }
            Ok(_) => ControlFlow::Continue((Outcome::Accepted, delta)),
            Err(ApplyError::NeedBase | ApplyError::BaseMismatch) => {
                let vector = (!document.is_blank()).then(|| encode_vector(document.vector()));
                ControlFlow::Break(Outcome::NeedBase { vector })
            }
            Err(_) => reject(RejectReason::Malformed),
        }
    }
}

impl RemoteFilter {
    fn may_read(&self, key: &DocKey) -> bool {
        self.permissions.read.is_everything()
            || self.permissions.read.covers(&key.collection, &key.id)
    }

    fn may_write(&self, key: &DocKey) -> bool {
        is_planted(Plant::SyncPermissionIgnored)
            || self.permissions.write.is_everything()
            || self.permissions.write.covers(&key.collection, &key.id)
    }
}

/// A document left the remote's interest in us: ask for it when our older copy still matches what we ask for.
fn judge_left(key: &DocKey, held: Option<&Held>, filter: &RemoteFilter, theirs: Digest) -> Outcome {
    if let Some(Held::Document(document)) = held
        && document.is_visible()
        && digest(document) != theirs
        && filter.ours.matches(&key.collection, &StoredRow::new(&key.id, document))
    {
        return Outcome::NeedBase { vector: Some(encode_vector(document.vector())) };
    }
    Outcome::Accepted
}

fn offer(key: &DocKey, document: &Document, filter: &RemoteFilter, part: Part) -> Option<Offered> {
    let tombstone = !document.is_visible();
    let wanted = match part {
        Part::Hold => true,
        Part::Provide => {
            filter.may_read(key)
                && (tombstone
                    || filter.theirs.matches(&key.collection, &StoredRow::new(&key.id, document)))
        }
    };
    wanted.then(|| Offered { key: sync_key(key), digest: digest(document), tombstone })
}

fn delta_body(document: &Document, base: Option<&Vector>) -> ItemBody {
    match base.filter(|base| !base.is_empty()) {
        Some(base) => ItemBody::Delta {
            base: Some(wire_digest(base)),
            bytes: document.diff(base).to_bytes().into(),
        },
        None => {
            ItemBody::Delta { base: None, bytes: document.diff(&Vector::new()).to_bytes().into() }
        }
    }
}

fn tombstone_body(document: &Document) -> ItemBody {
    ItemBody::Tombstone { bytes: document.diff(&Vector::new()).to_bytes().into() }
}

fn digest(document: &Document) -> Digest {
    wire_digest(document.vector())
}

fn wire_digest(vector: &Vector) -> Digest {
    Digest(vector.digest().0.to_be_bytes())
}

fn sync_key(key: &DocKey) -> SyncKey {
    SyncKey { collection: key.collection.as_ref().into(), id: key.id.clone() }
}

pub(crate) fn store_key(app: AppId, key: &SyncKey) -> DocKey {
    DocKey { app, collection: key.collection.as_str().into(), id: key.id.clone() }
}

fn item_size_bytes(item: &UpdateItem) -> usize {
    let body: &Bytes = match &item.body {
        ItemBody::Delta { bytes, .. } | ItemBody::Tombstone { bytes } => bytes,
        ItemBody::Left { .. } | ItemBody::Evicted => return ITEM_OVERHEAD_BYTES,
    };
    body.len() + ITEM_OVERHEAD_BYTES
}

/// How many entries of the change index are looked at before the next are fetched.
const CHANGES_PER_STEP: usize = 256;

/// About what an item takes beside its body.
const ITEM_OVERHEAD_BYTES: usize = 64;
