//! The owner's side of sync: answers what sessions ask about the documents of this partition.

use std::sync::Arc;

use bytes::Bytes;

use super::Node;
use super::message::Body;
use super::row::StoredRow;
use super::sync_ask::{Answer, Ask, FromSession, GatherId, RemoteFilter, ToSession};
use super::sync_judge::{Judge, Ruling};
use super::sync_remotes::Visit;
use super::sync_wire::{decode_vector, encode_vector};
use crate::document::{Delta, Document, Vector};
use crate::ident::{AppId, DocId, PartitionId, Txn};
use crate::plant::{Plant, is_planted};
use crate::store::{ChangeCursor, DocKey, Held};
use crate::sync::{
    Digest, DocKey as SyncKey, ItemBody, Lacking, Offered, Outcome, Part, RejectReason, UpdateItem,
    Verdict, Wanted,
};

/// A question for what was touched in `(after, at]` and concerns one remote, as of `at`.
struct NewsQuery<'a> {
    filter: &'a RemoteFilter,
    lacking: &'a Lacking,
    after: Txn,
    at: Txn,
}

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
            Ask::Remote { peer, session } => {
                return self.admit(app, peer, Visit { home: from, session, gather });
            }
            Ask::Leave { peer, session, visit } => {
                return self.dismiss(app, peer, Visit { home: from, session, gather: visit });
            }
            Ask::Collect { filter, lacking, after, from, credit_bytes } => {
                let query = NewsQuery { filter: &filter, lacking: &lacking, after, at };
                self.collect(app, &query, from, credit_bytes)
            }
            Ask::Stir(session) => {
                if is_planted(Plant::WakeUpLost)
                    || self.store.changes_after(app, ChangeCursor::after(at), 1).is_empty()
                {
                    self.sync.stirs.insert((from, session), Stir { gather, app });
                    return;
                }
                Answer::Stirred
            }
            Ask::StirStop(session) => {
                self.sync.stirs.remove(&(from, session));
                return;
            }
            Ask::SettledThere(upto) => return self.sync.note_settled_there(app, upto),
            Ask::UnsettledThere => return self.sync.forget_settled_there(app),
            Ask::Owed(news) => return self.sync.refusals.apply(app, news),
            Ask::Scan { filter, part, after, count } => {
                self.scan_held(app, &filter, part, after, count)
            }
            Ask::Compare { filter, part, offered } => Answer::Compared(
                offered
                    .into_iter()
                    .map(|(place, offered)| (place, self.compare(app, &filter, part, &offered)))
                    .collect(),
            ),
            Ask::Diff { filter, wanted, credit_bytes } => {
                Answer::Diffs(self.diffs(app, &filter, wanted, credit_bytes))
            }
            Ask::Unreadable { ours, access } => self.unreadable(app, &ours, &access),
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
        query: &NewsQuery,
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
                let Some(item) = self.news_item(&change.key, query) else { continue };
                bytes += body_size_bytes(&item.body);
                items.push(item);
                if bytes >= credit_bytes {
                    return Answer::Collected { items, next: Some(from) };
                }
            }
        }
    }

    fn news_item(&self, key: &DocKey, query: &NewsQuery) -> Option<UpdateItem> {
        let NewsQuery { filter, lacking, after, at } = *query;
        let may_read = filter.may_read(key) || is_planted(Plant::ReadRuleIgnoredInNews);
        if !filter.theirs.has_collection(&key.collection) || !may_read {
            return None;
        }
        let news = self.store.news(key, filter.peer, after, at)?;
        let document = &news.document;
        let sync_key = sync_key(key);
        let body = if document.is_deleted() {
            if is_planted(Plant::TombstoneNotSent) {
                return None;
            }
            tombstone_body(document)
        } else if let Some(base) = lacking.get(&sync_key) {
            delta_from(document, base.as_ref())
        } else if !document.is_visible()
            || filter.theirs.matches(&key.collection, &StoredRow::new(&key.id, document))
        {
            news_body(document, news.base.as_ref(), filter)
        } else if is_planted(Plant::LeftNotSent) {
            return None;
        } else {
            ItemBody::Left { digest: digest(document) }
        };
        Some(UpdateItem { key: sync_key, body })
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
        // The answer about a document that the remote may not read is the same whatever is here. It is asked
        // for in full: its author then sends it, and either it is taken or the author keeps it under `owed`.
        if !filter.may_read(&key) && !is_planted(Plant::ReadRuleIgnoredInAnswers) {
            return match part {
                Part::Provide => Verdict::Need { vector: None },
                Part::Hold => Verdict::Same,
            };
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

    /// The first deltas that are wanted: as many as the credit allows, and one in any case.
    fn diffs(
        &self,
        app: AppId,
        filter: &RemoteFilter,
        wanted: Vec<(usize, Wanted)>,
        credit_bytes: usize,
    ) -> Vec<(usize, Option<ItemBody>)> {
        let mut bytes = 0;
        let mut diffs = Vec::new();
        for (place, wanted) in wanted {
            if bytes >= credit_bytes && !diffs.is_empty() {
                break;
            }
            let body = self.diff(app, filter, &wanted);
            bytes += body.as_ref().map_or(0, body_size_bytes);
            diffs.push((place, body));
        }
        diffs
    }

    fn diff(&self, app: AppId, filter: &RemoteFilter, wanted: &Wanted) -> Option<ItemBody> {
        let key = store_key(app, &wanted.key);
        if !filter.may_read(&key) {
            return None;
        }
        let Some(Held::Document(document)) = self.store.held(&key) else { return None };
        if document.is_deleted() {
            return Some(tombstone_body(&document));
        }
        Some(delta_from(&document, wanted.base.as_ref()))
    }

    /// What becomes of a received item, and what to merge.
    fn judge(
        &mut self,
        app: AppId,
        filter: &RemoteFilter,
        clock_ms_max: u64,
        item: &UpdateItem,
    ) -> (Outcome, Option<Arc<Delta>>) {
        match self.rule(app, filter, clock_ms_max, item) {
            Ruling::Merge(delta, outcome) => (outcome, Some(delta)),
            Ruling::Answer(outcome) => (outcome, None),
            // A device believes its server, so it was rolled back; nobody else knows better what we wrote.
            Ruling::BeyondIssued if self.config.is_device => {
                self.renew_epoch();
                match self.rule(app, filter, clock_ms_max, item) {
                    Ruling::Merge(delta, outcome) => (outcome, Some(delta)),
                    Ruling::Answer(outcome) => (outcome, None),
                    Ruling::BeyondIssued => unreachable!("the new actor has written nothing"),
                }
            }
            Ruling::BeyondIssued => (Outcome::Rejected(RejectReason::Malformed), None),
        }
    }

    fn rule(
        &self,
        app: AppId,
        filter: &RemoteFilter,
        clock_ms_max: u64,
        item: &UpdateItem,
    ) -> Ruling {
        let issued = self.issued();
        let bytes_max = self.config.limits.merged_bytes_max;
        let judge = Judge { store: &self.store, app, filter, clock_ms_max, bytes_max, issued };
        judge.rule(item)
    }
}

fn offer(key: &DocKey, document: &Document, filter: &RemoteFilter, part: Part) -> Option<Offered> {
    let tombstone = !document.is_visible();
    let matches = || filter.theirs.matches(&key.collection, &StoredRow::new(&key.id, document));
    let may_read = filter.may_read(key) || is_planted(Plant::ReadRuleIgnoredInOffers);
    let wanted = may_read && (part == Part::Hold || tombstone || matches());
    wanted.then(|| Offered { key: sync_key(key), digest: digest(document), tombstone })
}

/// The delta from an encoded vector; all of the document when there is none, or none that can be read.
fn delta_from(document: &Document, base: Option<&Bytes>) -> ItemBody {
    let base = base.and_then(|bytes| decode_vector(bytes).ok());
    delta_body(document, base.as_ref())
}

fn delta_body(document: &Document, base: Option<&Vector>) -> ItemBody {
    let base = base.filter(|base| !base.is_empty());
    let delta = document.diff(base.unwrap_or(&Vector::new()));
    ItemBody::Delta { base: base.map(wire_digest), bytes: delta.to_bytes().into() }
}

/// The news to a remote about a document of which it had seen `base` at its cursor. If it has not seen exactly that, it asks
/// for the delta with a base that is listed.
fn news_body(document: &Document, base: Option<&Vector>, filter: &RemoteFilter) -> ItemBody {
    let Some(base) = base.filter(|base| !base.is_empty() && filter.recalls_bases) else {
        return delta_body(document, base);
    };
    let mut delta = document.diff(base);
    delta.shorten_base_for(|actor| actor.site() == filter.peer.site());
    ItemBody::Delta { base: Some(wire_digest(base)), bytes: delta.to_bytes().into() }
}

fn tombstone_body(document: &Document) -> ItemBody {
    ItemBody::Tombstone { bytes: document.diff(&Vector::new()).to_bytes().into() }
}

pub(crate) fn digest(document: &Document) -> Digest {
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

pub(crate) fn body_size_bytes(body: &ItemBody) -> usize {
    ITEM_OVERHEAD_BYTES
        + match body {
            ItemBody::Delta { bytes, .. } | ItemBody::Tombstone { bytes } => bytes.len(),
            ItemBody::Left { .. } | ItemBody::Evicted => 0,
        }
}

/// How many entries of the change index are looked at before the next are fetched.
const CHANGES_PER_STEP: usize = 256;

/// About what an item takes beside its body.
const ITEM_OVERHEAD_BYTES: usize = 64;
