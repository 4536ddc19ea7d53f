//! Facts about documents that a session tells a peer, read from the frames of both sides.
//!
//! Answers name documents by their place in what the other side has sent, so a judge must see both directions.

use std::collections::{BTreeMap, BTreeSet};

use bigpeer_core::document::Delta;
use bigpeer_core::ident::Txn;
use bigpeer_core::sync::wire::{Ack, Frame, Need, Offer, decode, decode_payload};
use bigpeer_core::sync::{DocKey, ItemBody, Outcome, Part, UpdateItem};
use bytes::Bytes;

use super::text_of;

/// One session, as an onlooker reads it.
#[derive(Debug, Default)]
pub(crate) struct Wire {
    device: Half,
    server: Half,
    groups: Groups,
    is_admitted: bool,
}

/// Whether what the server has told so far is all of some position, and nothing beyond.
#[derive(Debug, Default)]
struct Groups {
    /// The device wants something else, and has not said so yet.
    is_subs_due: bool,
    /// The interest in the device's newest Subs.
    wanted: u64,
    /// How often it has said so since the server last began by one.
    subs_waiting: u32,
    /// The interest that the server sends by.
    started: u64,
    /// The update under way when it ends a group, and the position that it ends at.
    closing: Option<(u64, Txn)>,
    /// The newest position that came without an order: a reconciliation's documents, and those that are asked for
    /// again, are told as they are when they are read.
    unordered_upto: Txn,
    is_reconciling: bool,
    /// The position that came with the newest update that has items.
    placed: Option<Txn>,
    /// A position that came with a part of its group, and came again with more.
    misplaced: Option<Txn>,
    /// Something in the update under way was not simply accepted: it comes again.
    is_exceptional: bool,
    /// Not all that comes again is told yet: an item that lacked its base comes after the others.
    is_repeating: bool,
    /// The group comes in parts: what comes again of the last one is as new as the moment at which it is read.
    is_in_parts: bool,
    /// The device has merged nothing of a group that is one update, since it has another state of something in it: all of
    /// that is told anew, as of one position.
    is_held_back: bool,
}

/// The effect of a frame on the transactions that the server sends a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wholeness {
    /// From now on the device may hold a part of one.
    Part,
    /// The device holds each of them whole or not at all.
    Whole,
}

/// The words of one side so far.
#[derive(Debug, Default)]
struct Half {
    /// Offered documents by part, round and batch, with what of them was asked for.
    offers: BTreeMap<(Part, u64, u64), Offered>,
    payload: Vec<u8>,
    /// The items of the newest whole update.
    update: Vec<UpdateItem>,
    /// The places of those that the other side has not taken, as far as it has answered.
    untaken: BTreeMap<u32, Untaken>,
}

/// How a device did not take an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Untaken {
    Refused,
    Lacking,
}

#[derive(Debug)]
struct Offered {
    keys: Vec<DocKey>,
    is_wanted: Vec<bool>,
}

/// Something about one document that the server has told a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) collection: String,
    pub(crate) id: String,
    /// As a phrase that follows the id.
    pub(crate) what: &'static str,
}

impl Wire {
    /// Reads a frame of the device's; nothing of it is a secret from the server.
    pub(crate) fn device_says(&mut self, frame: &[u8]) -> Option<Wholeness> {
        let Ok(Some(frame)) = decode(frame) else { return None };
        let is_held_back = matches!(&frame, Frame::Ack(ack) if self.server.is_held_back(ack));
        let wholeness = self.groups.device_says(&frame, is_held_back);
        self.device.note(frame);
        wholeness
    }

    /// Notes what the device will refuse of an update that ends with this frame of the server's, since it is from a time
    /// after `clock_ms_max`: by the answer, what is from before is merged.
    pub(crate) fn note_ahead(
        &self,
        frame: &[u8],
        clock_ms_max: u64,
        refused: &mut BTreeSet<DocKey>,
    ) {
        if !matches!(decode(frame), Ok(Some(Frame::UpdEnd(_)))) {
            return;
        }
        let is_ahead = |item: &&UpdateItem| match &item.body {
            ItemBody::Delta { bytes, .. } | ItemBody::Tombstone { bytes } => {
                let delta = Delta::from_bytes(bytes);
                delta.is_ok_and(|delta| delta.highest().physical_ms() > clock_ms_max)
            }
            ItemBody::Left { .. } | ItemBody::Evicted => false,
        };
        refused.extend(self.server.update.iter().filter(is_ahead).map(|item| item.key.clone()));
    }

    /// Notes what the device refuses of the server's newest update, in a frame of the device's, and what it takes that it
    /// refused before: until the last of that is there, transactions may be with it in part.
    pub(crate) fn note_refused(&mut self, frame: &[u8], refused: &mut BTreeSet<DocKey>) {
        let Ok(Some(Frame::Ack(ack))) = decode(frame) else { return };
        let server = &mut self.server;
        let untaken = ack.outcomes.iter().filter_map(|(place, outcome)| match outcome {
            Outcome::Rejected(_) => Some((*place, Untaken::Refused)),
            Outcome::NeedBase { .. } => Some((*place, Untaken::Lacking)),
            Outcome::Accepted | Outcome::Evicted | Outcome::Deleted { .. } => None,
        });
        server.untaken.extend(untaken);
        if !ack.last {
            return;
        }
        let untaken = std::mem::take(&mut server.untaken);
        for (place, item) in server.update.iter().enumerate() {
            match untaken.get(&(place as u32)) {
                Some(Untaken::Refused) => refused.insert(item.key.clone()),
                Some(Untaken::Lacking) => false,
                None => refused.remove(&item.key),
            };
        }
    }

    /// Whether a frame of the device's acknowledges a part of a group, of which more is to come.
    pub(crate) fn acknowledges_part(&self, frame: &[u8]) -> bool {
        let is_part = self.groups.closing.is_none() && !self.groups.is_reconciling;
        is_part && matches!(decode(frame), Ok(Some(Frame::Ack(_))))
    }

    /// The server has read a frame. The answer is how often the device has said since the last `Start` what it wants.
    pub(crate) fn server_hears(&mut self, frame: &[u8]) -> u32 {
        if let Ok(Some(Frame::Subs(_))) = decode(frame) {
            self.groups.subs_waiting += 1;
        }
        self.groups.subs_waiting
    }

    /// Whether the server has introduced itself, which it does to the peer that it goes on with.
    pub(crate) fn is_admitted(&self) -> bool {
        self.is_admitted
    }

    /// A position that the server has told before all that leads to it: a device that keeps it never hears of the rest.
    pub(crate) fn misplaced(&self) -> Option<Txn> {
        self.groups.misplaced
    }

    /// The device is about to want something else.
    pub(crate) fn asks_anew(&mut self) {
        self.groups.is_subs_due = true;
    }

    /// Reads a frame of the server's: everything about documents in it.
    /// `durable` is how far its log is.
    pub(crate) fn server_says(
        &mut self,
        frame: &[u8],
        durable: Txn,
    ) -> (Vec<Told>, Option<Wholeness>) {
        let Ok(Some(frame)) = decode(frame) else { return (Vec::new(), None) };
        self.is_admitted |= matches!(frame, Frame::Hello(_));
        let wholeness = self.groups.server_says(&frame, durable);
        let told = match &frame {
            Frame::Offer(offer) => {
                offer.items.iter().map(|item| told(&item.key, "is offered")).collect()
            }
            Frame::Need(need) if need.part == Part::Provide => self.device.answered(need),
            Frame::Ack(ack) => self.device.acknowledged(ack),
            _ => Vec::new(),
        };
        let told = match self.server.note(frame) {
            Some(items) => told.into_iter().chain(items.iter().map(sent)).collect(),
            None => told,
        };
        (told, wholeness)
    }
}

impl Groups {
    fn device_says(&mut self, frame: &Frame, is_held_back: bool) -> Option<Wholeness> {
        match frame {
            Frame::Subs(subs) => {
                self.is_subs_due = false;
                self.wanted = subs.version;
                None
            }
            Frame::Ack(ack) => {
                self.is_exceptional |= !ack.outcomes.is_empty();
                self.is_held_back |= is_held_back && self.closing.is_some() && !self.is_in_parts;
                let is_end = ack.last && self.closing.is_some() && !self.is_exceptional;
                self.is_in_parts &= !is_end;
                let is_placed = self.closing.is_some_and(|(update, upto)| {
                    update == ack.update && upto >= self.unordered_upto
                });
                let is_whole = ack.last
                    && is_placed
                    && !self.is_exceptional
                    && !self.is_subs_due
                    && self.started == self.wanted;
                is_whole.then_some(Wholeness::Whole)
            }
            _ => None,
        }
    }

    fn server_says(&mut self, frame: &Frame, durable: Txn) -> Option<Wholeness> {
        match frame {
            Frame::Start(start) => {
                self.started = start.version;
                self.subs_waiting = 0;
                self.closing = None;
                self.placed = None;
                self.is_in_parts = false;
                self.is_reconciling = start.unknown.is_some();
                self.is_reconciling.then_some(Wholeness::Part)
            }
            Frame::UpdBegin(begin) => {
                self.closing = begin.upto.map(|upto| (begin.update, upto.txn));
                if begin.item_count > 0 {
                    let placed = begin.upto.map(|upto| upto.txn);
                    // What was not simply accepted comes again, under the same position.
                    let is_again = placed == self.placed && !self.is_exceptional;
                    self.misplaced = self.misplaced.or(placed.filter(|_| is_again));
                    self.placed = placed;
                }
                let is_again = self.is_exceptional || self.is_repeating;
                self.is_in_parts |= begin.upto.is_none();
                let is_newer = is_again && !self.is_held_back;
                if begin.upto.is_none() || is_newer || self.is_reconciling {
                    self.unordered_upto = durable;
                }
                self.is_repeating = is_again && begin.upto.is_none();
                self.is_reconciling &= begin.upto.is_none();
                (self.is_exceptional, self.is_held_back) = (false, false);
                begin.upto.is_none().then_some(Wholeness::Part)
            }
            _ => None,
        }
    }
}

impl Half {
    /// The items of an update that is whole with this frame.
    fn note(&mut self, frame: Frame) -> Option<&[UpdateItem]> {
        match frame {
            Frame::Offer(Offer { part, round, batch, items }) => {
                self.offers.retain(|(_, of, _), _| *of + 1 >= round);
                let is_wanted = vec![false; items.len()];
                let keys = items.into_iter().map(|item| item.key).collect();
                self.offers.insert((part, round, batch), Offered { keys, is_wanted });
            }
            Frame::UpdBegin(_) => self.payload.clear(),
            Frame::UpdChunk(chunk) => self.payload.extend_from_slice(&chunk.payload),
            Frame::UpdEnd(_) => {
                let payload = Bytes::from(std::mem::take(&mut self.payload));
                self.update = decode_payload(payload).unwrap_or_default();
                return Some(&self.update);
            }
            _ => {}
        }
        None
    }

    /// True when the answer says that nothing of our newest update was merged, for the sake of one item.
    fn is_held_back(&self, ack: &Ack) -> bool {
        ack.outcomes.iter().any(|(place, outcome)| {
            let says_left = |item: &UpdateItem| matches!(item.body, ItemBody::Left { .. });
            let has_another = |vector: &Bytes| !vector.is_empty();
            matches!(outcome, Outcome::NeedBase { vector } if vector.as_ref().is_some_and(has_another))
                && self.update.get(*place as usize).is_some_and(|item| !says_left(item))
        })
    }

    /// Facts that the answer to a batch of ours tells: a vector, or, once it is complete, that both hold the same.
    fn answered(&mut self, need: &Need) -> Vec<Told> {
        let Some(offered) = self.offers.get_mut(&(need.part, need.round, need.batch)) else {
            return Vec::new();
        };
        let mut all = Vec::new();
        for (place, vector) in &need.items {
            let Some(key) = offered.keys.get(*place as usize) else { continue };
            offered.is_wanted[*place as usize] = true;
            if vector.is_some() {
                all.push(told(key, "is wanted with a vector"));
            }
        }
        if need.last {
            let places = offered.keys.iter().zip(&offered.is_wanted);
            let same = places.filter(|(_, is_wanted)| !**is_wanted);
            all.extend(same.map(|(key, _)| told(key, "is called the same, or answered")));
        }
        all
    }

    /// Facts that the outcomes of our newest update tell, beside a refusal.
    fn acknowledged(&self, ack: &Ack) -> Vec<Told> {
        let outcome = |(place, outcome): &(u32, Outcome)| {
            let item = self.update.get(*place as usize)?;
            let is_left = matches!(item.body, ItemBody::Left { .. });
            let what = match outcome {
                Outcome::NeedBase { vector: Some(_) } => "is answered with a vector",
                Outcome::NeedBase { .. } if is_left => "is held, says the answer to `Left`",
                Outcome::Deleted { .. } => "is deleted, says an acknowledgement",
                Outcome::Evicted => "is evicted, says an acknowledgement",
                _ => return None,
            };
            Some(told(&item.key, what))
        };
        ack.outcomes.iter().filter_map(outcome).collect()
    }
}

fn sent(item: &UpdateItem) -> Told {
    told(
        &item.key,
        match item.body {
            ItemBody::Delta { .. } => "is sent",
            ItemBody::Tombstone { .. } => "is sent as a deletion",
            ItemBody::Left { .. } => "is said to have left",
            ItemBody::Evicted => "is said to be evicted",
        },
    )
}

fn told(key: &DocKey, what: &'static str) -> Told {
    Told { collection: key.collection.clone(), id: text_of(&key.id), what }
}

#[cfg(test)]
mod tests {
    use bigpeer_core::ident::{BootId, LogId};
    use bigpeer_core::sync::wire::{UpdBegin, UpdChunk, UpdEnd, encode, encode_payload};
    use bigpeer_core::sync::{Digest, Position, RejectReason};
    use bigpeer_core::value::canonical::encode_text_id;

    use super::*;

    fn key(id: &str) -> DocKey {
        let id = encode_text_id(id).expect("the id is short");
        DocKey { collection: "cars".into(), id }
    }

    fn update(items: &[UpdateItem]) -> Vec<Bytes> {
        let payload = encode_payload(items);
        let (item_count, payload_bytes) = (items.len() as u32, payload.len() as u64);
        [
            Frame::UpdBegin(UpdBegin {
                update: 1,
                upto: None,
                item_count,
                payload_bytes,
                at: None,
            }),
            Frame::UpdChunk(UpdChunk { update: 1, seq: 0, payload }),
            Frame::UpdEnd(UpdEnd { update: 1, hash: [0; 16] }),
        ]
        .iter()
        .map(encode)
        .collect()
    }

    #[test]
    fn an_update_and_an_acknowledgement_name_their_documents() {
        let mut wire = Wire::default();
        let left =
            UpdateItem { key: key("d1"), body: ItemBody::Left { digest: Digest::default() } };
        let told: Vec<Told> = update(std::slice::from_ref(&left))
            .iter()
            .flat_map(|frame| wire.server_says(frame, Txn(0)).0)
            .collect();
        assert_eq!(told.len(), 1);
        assert_eq!((&*told[0].id, told[0].what), ("d1", "is said to have left"));

        for frame in update(&[left]) {
            assert_eq!(wire.device_says(&frame), None);
        }
        let outcomes = vec![(0, Outcome::NeedBase { vector: None })];
        let ack = Frame::Ack(Ack { update: 1, last: true, outcomes, at: None });
        assert_eq!(wire.server_says(&encode(&ack), Txn(0)).0.len(), 1);
    }

    #[test]
    fn what_is_refused_is_missing_until_it_is_taken() {
        let (mut wire, mut refused) = (Wire::default(), BTreeSet::new());
        let item = |id| UpdateItem { key: key(id), body: ItemBody::Evicted };
        let ack = |outcomes, last| encode(&Frame::Ack(Ack { update: 1, last, outcomes, at: None }));
        let skewed = |place| vec![(place, Outcome::Rejected(RejectReason::ClockSkew))];
        for frame in update(&[item("d1"), item("d2"), item("d3")]) {
            wire.server_says(&frame, Txn(0));
        }
        wire.note_refused(&ack(skewed(0), false), &mut refused);
        assert!(refused.is_empty(), "its answer is not whole");
        wire.note_refused(&ack(skewed(2), true), &mut refused);
        assert_eq!(refused, BTreeSet::from([key("d1"), key("d3")]));

        for frame in update(&[item("d1"), item("d3")]) {
            wire.server_says(&frame, Txn(0));
        }
        let lacks_base = vec![(0, Outcome::NeedBase { vector: None })];
        wire.note_refused(&ack(lacks_base, true), &mut refused);
        assert_eq!(refused, BTreeSet::from([key("d1")]), "without its base it is not taken");
    }

    #[test]
    fn what_comes_again_of_parts_is_as_new_as_its_last_update() {
        let mut wire = Wire::default();
        let begin = |update, upto: Option<u64>| {
            let (log, boot) = (LogId::default(), BootId::default());
            let upto = upto.map(|txn| Position { log, boot, txn: Txn(txn) });
            let (item_count, payload_bytes, at) = (1, 0, None);
            encode(&Frame::UpdBegin(UpdBegin { update, upto, item_count, payload_bytes, at }))
        };
        let ack =
            |update, outcomes| encode(&Frame::Ack(Ack { update, last: true, outcomes, at: None }));
        wire.server_says(&begin(0, None), Txn(7));
        wire.device_says(&ack(0, Vec::new()));
        wire.server_says(&begin(1, Some(8)), Txn(8));
        wire.device_says(&ack(1, vec![(0, Outcome::NeedBase { vector: None })]));
        // What was held comes first, and then, read at a later position, that which lacked its base.
        wire.server_says(&begin(2, None), Txn(8));
        wire.device_says(&ack(2, Vec::new()));
        wire.server_says(&begin(3, Some(8)), Txn(9));
        assert_eq!(wire.device_says(&ack(3, Vec::new())), None);
        wire.server_says(&begin(4, Some(9)), Txn(9));
        assert_eq!(wire.device_says(&ack(4, Vec::new())), Some(Wholeness::Whole));

        // A group that was one update is told anew, as of one position, and is whole by that.
        let vector = Some(Bytes::from_static(b"another"));
        let told = |wire: &mut Wire, begin: Bytes| {
            wire.server_says(&begin, Txn(11));
            let item = UpdateItem { key: key("d1"), body: ItemBody::Evicted };
            update(&[item])[1..].iter().for_each(|frame| drop(wire.server_says(frame, Txn(11))));
        };
        told(&mut wire, begin(5, Some(10)));
        wire.device_says(&ack(5, vec![(0, Outcome::NeedBase { vector })]));
        told(&mut wire, begin(6, Some(10)));
        assert_eq!(wire.device_says(&ack(6, Vec::new())), Some(Wholeness::Whole));
        // A document that enters comes by itself.
        told(&mut wire, begin(7, Some(10)));
        wire.device_says(&ack(7, vec![(0, Outcome::NeedBase { vector: None })]));
        told(&mut wire, begin(8, Some(10)));
        assert_eq!(wire.device_says(&ack(8, Vec::new())), None);
    }

    #[test]
    fn a_transaction_is_whole_with_the_end_of_its_group_and_not_before() {
        let mut wire = Wire::default();
        let begin = |update, upto: Option<u64>| {
            let (log, boot) = (LogId::default(), BootId::default());
            let upto = upto.map(|txn| Position { log, boot, txn: Txn(txn) });
            let (item_count, payload_bytes, at) = (0, 0, None);
            encode(&Frame::UpdBegin(UpdBegin { update, upto, item_count, payload_bytes, at }))
        };
        let ack = |update| {
            encode(&Frame::Ack(Ack { update, last: true, outcomes: Vec::new(), at: None }))
        };
        assert_eq!(wire.server_says(&begin(1, None), Txn(9)).1, Some(Wholeness::Part));
        assert!(wire.acknowledges_part(&ack(1)));
        assert_eq!(wire.device_says(&ack(1)), None);
        // What came before may be as new as position 9.
        assert_eq!(wire.server_says(&begin(2, Some(8)), Txn(9)).1, None);
        assert_eq!(wire.device_says(&ack(2)), None);
        wire.server_says(&begin(3, Some(9)), Txn(9));
        assert!(!wire.acknowledges_part(&ack(3)));
        assert_eq!(wire.device_says(&ack(3)), Some(Wholeness::Whole));
    }

    #[test]
    fn a_position_comes_with_the_last_part_of_its_group() {
        let mut wire = Wire::default();
        let begin = |update, txn| {
            let (log, boot) = (LogId::default(), BootId::default());
            let upto = Some(Position { log, boot, txn: Txn(txn) });
            encode(&Frame::UpdBegin(UpdBegin {
                update,
                upto,
                item_count: 1,
                payload_bytes: 0,
                at: None,
            }))
        };
        let ack = |outcomes| encode(&Frame::Ack(Ack { update: 1, last: true, outcomes, at: None }));
        wire.server_says(&begin(1, 8), Txn(9));
        wire.device_says(&ack(vec![(0, Outcome::NeedBase { vector: None })]));
        wire.server_says(&begin(2, 8), Txn(9));
        wire.device_says(&ack(Vec::new()));
        wire.server_says(&begin(3, 9), Txn(9));
        assert_eq!(wire.misplaced(), None, "what lacked its base comes again");
        wire.device_says(&ack(Vec::new()));
        wire.server_says(&begin(4, 9), Txn(9));
        assert_eq!(wire.misplaced(), Some(Txn(9)));
    }
}
