//! Reconciliation, for a receiver whose cursor does not let the sender replay.
//!
//! A direction has a *provider* (who sends) and a *holder* (who receives). The provider offers all that matches
//! the holder's interest; the holder offers all that it has in the collections of its interest. Each batch of an
//! offer is answered by `Need` frames: what the answering side wants, with its own vectors. What the answering
//! side knows better (a deletion, an eviction, a newer state that matches no more) it sends as an update, and
//! only answers the batch once that update is settled. When both offers are answered, the provider closes with
//! an empty update at the durable position read before its first item, and goes on from there.

use std::collections::{BTreeMap, VecDeque};

use crate::ident::Txn;

use super::error::ProtocolError;
use super::frame::{
    CHUNK_BYTES_MAX, Frame, Need, OFFER_COUNT_MAX, Offer, OfferEnd, VECTOR_BYTES_MAX,
};
use super::host::{
    CommandId, DocKey, HostCommand, ItemBody, Offered, Part, UpdateItem, Verdict, Wanted,
};
use super::link::Link;
use super::subscription::Interest;

/// Batches of one offer that may be unanswered.
pub(crate) const OFFER_WINDOW: usize = 4;

/// Our side of an offer that we make.
#[derive(Debug)]
pub(crate) struct Offering {
    part: Part,
    round: u64,
    scan: CommandId,
    /// A batch of the scan is due.
    is_scanning: bool,
    is_scanned: bool,
    started_at: Option<Txn>,
    waiting: VecDeque<Offered>,
    /// Unanswered batches: what their indices stand for.
    sent: BTreeMap<u64, Vec<DocKey>>,
    batch_last: u64,
    is_ended: bool,
}

impl Offering {
    pub(crate) fn begin(part: Part, round: u64, interest: Interest, link: &mut Link) -> Self {
        let scan = link.command(|scan| HostCommand::Scan {
            scan,
            part,
            interest,
            batch_count: OFFER_COUNT_MAX,
        });
        Self {
            part,
            round,
            scan,
            is_scanning: true,
            is_scanned: false,
            started_at: None,
            waiting: VecDeque::new(),
            sent: BTreeMap::new(),
            batch_last: 0,
            is_ended: false,
        }
    }

    pub(crate) fn stop(self, link: &mut Link) {
        if !self.is_scanned {
            link.host(HostCommand::ScanStop { scan: self.scan });
        }
    }

    /// Takes a batch of our scan; leaves one of another scan where it is.
    pub(crate) fn on_held(
        &mut self,
        scan: CommandId,
        started_at: Txn,
        items: &mut Vec<Offered>,
        done: bool,
    ) {
        if scan == self.scan && self.is_scanning {
            self.is_scanning = false;
            self.is_scanned = done;
            self.started_at.get_or_insert(started_at);
            self.waiting.extend(items.drain(..));
        }
    }

    /// Offers what the window has room for. Without `room` for answers only what is under way goes on.
    pub(crate) fn pump(&mut self, room: bool, link: &mut Link) {
        while room && self.sent.len() < OFFER_WINDOW && !self.waiting.is_empty() {
            self.send_batch(link);
        }
        if self.waiting.is_empty() && !self.is_scanned && !self.is_scanning {
            self.is_scanning = true;
            link.host(HostCommand::ScanMore { scan: self.scan });
        }
        if self.is_scanned && self.waiting.is_empty() && !self.is_ended {
            self.is_ended = true;
            link.frame(&Frame::OfferEnd(OfferEnd { part: self.part, round: self.round }));
        }
    }

    fn send_batch(&mut self, link: &mut Link) {
        let mut items: Vec<Offered> = Vec::new();
        let mut bytes = 0;
        while let Some(next) = self.waiting.front() {
            bytes += next.key.collection.len() + next.key.id.as_bytes().len() + 24;
            let full = items.len() == OFFER_COUNT_MAX || bytes > CHUNK_BYTES_MAX;
            if full && !items.is_empty() {
                break;
            }
            items.extend(self.waiting.pop_front());
        }
        self.batch_last += 1;
        let keys = items.iter().map(|item| item.key.clone()).collect();
        self.sent.insert(self.batch_last, keys);
        let (part, round, batch) = (self.part, self.round, self.batch_last);
        link.frame(&Frame::Offer(Offer { part, round, batch, items }));
    }

    /// The other side answers a batch; what it wants is added to `wanted`.
    pub(crate) fn on_need(
        &mut self,
        need: Need,
        wanted: &mut VecDeque<Wanted>,
    ) -> Result<(), ProtocolError> {
        let malformed = |field| ProtocolError::Malformed { frame: "Need", field };
        let keys = self.sent.get(&need.batch).ok_or(malformed("batch"))?;
        if need.items.len() > keys.len() {
            return Err(malformed("items"));
        }
        for (index, base) in need.items {
            let key = keys.get(index as usize).ok_or(malformed("index"))?.clone();
            if self.part == Part::Provide {
                wanted.push_back(Wanted { key, base });
            }
        }
        if need.last {
            self.sent.remove(&need.batch);
        }
        Ok(())
    }

    /// All is offered and answered.
    pub(crate) fn is_answered(&self) -> bool {
        self.is_ended && self.sent.is_empty()
    }

    /// Something that we offered is unanswered.
    pub(crate) fn is_awaiting(&self) -> bool {
        !self.sent.is_empty()
    }

    /// The durable position read before the first item.
    pub(crate) fn started_at(&self) -> Option<Txn> {
        self.started_at
    }
}

/// Names an offered batch whose answer waits until what we had to say about it is settled.
pub(crate) type Ticket = u64;

/// An item that waits to be sent without a position of its own.
#[derive(Debug)]
pub(crate) struct Queued {
    pub(crate) item: UpdateItem,
    pub(crate) ticket: Option<Ticket>,
}

/// Our side of the offers that the remote makes.
#[derive(Debug, Default)]
pub(crate) struct Comparing {
    batches: BTreeMap<CommandId, Batch>,
    deferred: BTreeMap<Ticket, Deferred>,
    ticket_last: Ticket,
}

#[derive(Debug)]
struct Batch {
    part: Part,
    round: u64,
    batch: u64,
    keys: Vec<DocKey>,
}

#[derive(Debug)]
struct Deferred {
    unsettled_count: usize,
    needs: Vec<Need>,
}

impl Comparing {
    pub(crate) fn on_offer(&mut self, offer: Offer, link: &mut Link) -> Result<(), ProtocolError> {
        // Both offers of a session may be under way, and both of the round before.
        let limit = 4 * OFFER_WINDOW;
        if self.batches.len() + self.deferred.len() >= limit {
            return Err(ProtocolError::WindowOverrun { frame: "Offer", limit: limit as u64 });
        }
        let Offer { part, round, batch, items } = offer;
        let keys = items.iter().map(|item| item.key.clone()).collect();
        let id = link.command(|id| HostCommand::Compare { id, part, offered: items });
        self.batches.insert(id, Batch { part, round, batch, keys });
        Ok(())
    }

    /// Answers a batch, now or when the answers queued here are settled. `None` for an unknown command,
    /// `Some(false)` when the host did not answer each item.
    pub(crate) fn on_verdicts(
        &mut self,
        id: CommandId,
        verdicts: Vec<Verdict>,
        queue: &mut VecDeque<Queued>,
        link: &mut Link,
    ) -> Option<bool> {
        let Batch { part, round, batch, keys } = self.batches.remove(&id)?;
        if verdicts.len() != keys.len() {
            return Some(false);
        }
        let mut needs = NeedWriter::new(part, round, batch);
        let mut answers: Vec<(DocKey, ItemBody)> = Vec::new();
        for ((index, key), verdict) in (0..).zip(keys).zip(verdicts) {
            match verdict {
                Verdict::Need { vector } if part == Part::Provide => needs.push(index, vector),
                Verdict::Same | Verdict::Need { .. } => {}
                Verdict::Answer(body) => answers.push((key, body)),
            }
        }
        let needs = needs.finish();
        self.ticket_last += 1;
        // A provider sees for itself when its queue is empty; a holder owes the provider a sign.
        let ticket = (part == Part::Provide && !answers.is_empty()).then_some(self.ticket_last);
        match ticket {
            Some(ticket) => {
                self.deferred.insert(ticket, Deferred { unsettled_count: answers.len(), needs });
            }
            None => needs.into_iter().for_each(|need| link.frame(&Frame::Need(need))),
        }
        queue.extend(
            answers
                .into_iter()
                .map(|(key, body)| Queued { item: UpdateItem { key, body }, ticket }),
        );
        Some(true)
    }

    /// One item of a deferred batch is settled.
    pub(crate) fn release(&mut self, ticket: Ticket, link: &mut Link) {
        let Some(deferred) = self.deferred.get_mut(&ticket) else { return };
        deferred.unsettled_count -= 1;
        if deferred.unsettled_count == 0
            && let Some(deferred) = self.deferred.remove(&ticket)
        {
            deferred.needs.into_iter().for_each(|need| link.frame(&Frame::Need(need)));
        }
    }

    /// Every batch of the remote's `Hold` offers is compared.
    pub(crate) fn is_idle(&self, part: Part) -> bool {
        self.batches.values().all(|batch| batch.part != part)
    }
}

/// Cuts the answer to a batch into frames.
struct NeedWriter {
    frames: Vec<Need>,
    bytes: usize,
}

impl NeedWriter {
    fn new(part: Part, round: u64, batch: u64) -> Self {
        Self { frames: vec![Need { part, round, batch, last: false, items: Vec::new() }], bytes: 0 }
    }

    fn push(&mut self, index: u32, vector: Option<bytes::Bytes>) {
        // Without a vector the full state comes, which is right and only costs bytes.
        let vector = vector.filter(|vector| vector.len() <= VECTOR_BYTES_MAX);
        if self.bytes > CHUNK_BYTES_MAX {
            let Need { part, round, batch, .. } = self.frames[0];
            self.frames.push(Need { part, round, batch, last: false, items: Vec::new() });
            self.bytes = 0;
        }
        self.bytes += 16 + vector.as_ref().map_or(0, bytes::Bytes::len);
        self.last().items.push((index, vector));
    }

    fn finish(mut self) -> Vec<Need> {
        self.last().last = true;
        self.frames
    }

    fn last(&mut self) -> &mut Need {
        self.frames.last_mut().expect("there is always a first frame")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::host::Digest;
    use crate::value::canonical;

    /// Documents in each frame of the answer to a batch whose vectors have so many bytes.
    fn frames_of(vectors: &[usize]) -> Vec<usize> {
        let mut writer = NeedWriter::new(Part::Provide, 1, 7);
        for (index, bytes) in (0..).zip(vectors) {
            writer.push(index, Some(vec![0; *bytes].into()));
        }
        let frames = writer.finish();
        let (last, before) = frames.split_last().expect("there is always a last frame");
        assert!(last.last && before.iter().all(|frame| !frame.last));
        frames.iter().map(|frame| frame.items.len()).collect()
    }

    #[test]
    fn no_more_batches_are_offered_than_may_be_unanswered() {
        let mut link = Link::default();
        let mut offering = Offering::begin(Part::Provide, 1, Interest::Everything, &mut link);
        let offered = |n: usize| {
            let id = canonical::encode_text_id(&n.to_string()).expect("short");
            let key = DocKey { collection: "cars".into(), id };
            Offered { key, digest: Digest([0; 16]), tombstone: false }
        };
        let mut items: Vec<_> = (0..6 * OFFER_COUNT_MAX).map(offered).collect();
        offering.on_held(offering.scan, Txn(1), &mut items, true);
        offering.pump(true, &mut link);
        assert_eq!(link.sent().0, 4);
        let need = Need { part: Part::Provide, round: 1, batch: 2, last: true, items: Vec::new() };
        offering.on_need(need, &mut VecDeque::new()).expect("it was offered");
        offering.pump(true, &mut link);
        assert_eq!(link.sent().0, 5, "an answer makes room for one more");
    }

    #[test]
    fn a_frame_of_needs_is_full_once_it_has_more_than_it_aims_at() {
        let half = CHUNK_BYTES_MAX / 2 - 16;
        assert_eq!(frames_of(&[half, half, 0, 0]), [3, 1]);
        assert_eq!(frames_of(&[half, half + 1, 0, 0]), [2, 2]);
        assert_eq!(frames_of(&[]), [0]);
    }

    #[test]
    fn a_vector_too_long_for_a_need_is_left_out() {
        let mut writer = NeedWriter::new(Part::Provide, 1, 7);
        writer.push(0, Some(vec![0; VECTOR_BYTES_MAX].into()));
        writer.push(1, Some(vec![0; VECTOR_BYTES_MAX + 1].into()));
        let frames = writer.finish();
        let vectors = frames.iter().flat_map(|frame| &frame.items).map(|(_, vector)| vector);
        let lengths: Vec<_> =
            vectors.map(|vector| vector.as_ref().map(bytes::Bytes::len)).collect();
        assert_eq!(lengths, [Some(VECTOR_BYTES_MAX), None]);
    }
}
