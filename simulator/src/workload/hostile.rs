//! A peer that speaks the protocol and lies in every field: whole frames, well encoded, with a credential of its
//! own. Where it may write it touches only documents that nobody else does, so that every other trace of it is a
//! hole.

use std::collections::VecDeque;

use bigpeer_core::document::{Document, Edit, Path, Vector};
use bigpeer_core::ident::{Actor, BootId, Dot, LogId, PeerKey, Slot, StoreId, Txn};
use bigpeer_core::rng::Rng;
use bigpeer_core::sync::wire::{
    Ack, Frame, Need, Offer, OfferEnd, Start, Subs, UpdBegin, UpdChunk, UpdEnd, decode,
    decode_payload, encode, encode_payload, payload_hash,
};
use bigpeer_core::sync::{
    Cursor, Digest, DocKey, Hello, Interest, InterestHash, ItemBody, Nonce, Offered, Outcome, Part,
    Position, RejectReason, Role, Subscription, UpdateItem,
};
use bigpeer_core::time::{CLOCK_AHEAD_MS, Hlc};
use bigpeer_core::value::Value;
use bigpeer_core::value::canonical::encode_text_id;
use bytes::Bytes;

use super::documents::{CARS, any, collection_of, evicted};
use crate::check::text_of;
use crate::profile::Profile;
use crate::world::network::ConnectionId;
use crate::world::process::APP;

/// The field that all its documents have.
pub(crate) const LIE: &str = "lie";

/// One hostile peer: what it has been told, and what it is about to say.
#[derive(Debug)]
pub(crate) struct Hostile {
    pub(crate) profile: Profile,
    pub(crate) connection: Option<ConnectionId>,
    pub(crate) peer_key: PeerKey,
    rng: Rng,
    server: Option<Box<Hello>>,
    payload: Vec<u8>,
    update_next: u64,
    version: u64,
    round: u64,
    batch: u64,
    frames: VecDeque<Bytes>,
}

impl Hostile {
    pub(crate) fn new(profile: Profile, mut rng: Rng) -> Self {
        let mut key = [0xEE; 32];
        key[..16].copy_from_slice(&rng.bytes16());
        Self {
            profile,
            connection: None,
            peer_key: PeerKey(key),
            rng,
            server: None,
            payload: Vec::new(),
            update_next: 0,
            version: 0,
            round: 0,
            batch: 0,
            frames: VecDeque::new(),
        }
    }

    /// Its connection is open: it greets.
    pub(crate) fn begin(&mut self) {
        self.server = None;
        (self.update_next, self.version, self.round, self.batch) = (0, 0, 0, 0);
        self.frames.clear();
        let greeting = [GREETING_MAGIC, &self.peer_key.0].concat();
        self.frames.push_back(greeting.into());
    }

    /// The frame that it says next.
    pub(crate) fn poll_frame(&mut self) -> Option<Bytes> {
        self.frames.pop_front()
    }

    /// A frame of the server's has come.
    pub(crate) fn on_frame(&mut self, bytes: &[u8]) {
        if bytes.starts_with(GREETING_MAGIC) {
            return self.say_hello();
        }
        let Ok(Some(frame)) = decode(bytes) else { return };
        match frame {
            Frame::Hello(hello) => {
                self.server = Some(hello);
                self.say_subs();
            }
            Frame::Subs(subs) => {
                self.round += 1;
                let unknown = None;
                let interest = InterestHash(self.rng.bytes16());
                let (round, version) = (self.round, subs.version);
                self.say(&Frame::Start(Start { round, version, unknown, interest }));
            }
            Frame::Start(start) if start.unknown.is_some() => self.claim_to_hold(start.round),
            Frame::Offer(offer) => self.want_all(&offer),
            Frame::UpdBegin(_) => self.payload.clear(),
            Frame::UpdChunk(chunk) => self.payload.extend_from_slice(&chunk.payload),
            Frame::UpdEnd(end) => self.lie_in_ack(end.update),
            Frame::Ping => self.say(&Frame::Pong),
            _ => {}
        }
    }

    /// Says who it is: a server waits for that.
    fn say_hello(&mut self) {
        let hello = Hello {
            proto_min: 1,
            proto_max: 1,
            features: u64::MAX,
            app: APP,
            role: Role::Device,
            peer_key: self.peer_key,
            log: LogId(self.rng.uuid()),
            store: StoreId(self.rng.uuid()),
            boot: BootId(self.rng.uuid()),
            actor: Actor::new(self.peer_key.site(), self.rng.next_u64(), 0),
            nonce: Nonce(self.rng.next_u64()),
            kept: self.rng.one_in(3).then(|| (StoreId(self.rng.uuid()), Nonce(7))),
            hlc: Hlc(u64::MAX),
            tombstone_ttl_hours: 0,
            digest_version: 1,
            id_version: 1,
            device_name: "an honest device".into(),
        };
        self.say(&Frame::Hello(Box::new(hello)));
    }

    /// One lie that nobody has asked for.
    pub(crate) fn act(&mut self) {
        if self.server.is_none() {
            return;
        }
        match self.rng.below(8) {
            0 => (0..1 + self.rng.below(20)).for_each(|_| self.say_subs()),
            1 => {
                let probe = self.rng.next_u64();
                self.say(&Frame::Probe { probe });
            }
            2 | 3 => self.claim_to_provide(),
            _ => self.send_lies(),
        }
    }

    fn say(&mut self, frame: &Frame) {
        self.frames.push_back(encode(frame));
    }

    fn say_subs(&mut self) {
        let Some(server) = &self.server else { return };
        let position =
            Position { log: server.log, boot: server.boot, txn: Txn(self.rng.below(1 << 40)) };
        let interest = InterestHash(self.rng.bytes16());
        let cursor = self.rng.one_in(2).then_some(Cursor { position, interest });
        let all = ["cars", "misc", "secret"]
            .map(|name| Subscription { text: format!("SELECT * FROM {name}"), args: Bytes::new() });
        self.version += 1;
        let subs = Subs {
            version: self.version,
            interest: Interest::of(all.to_vec()),
            evict_generation: self.rng.below(3),
            cursor,
            stale: self.rng.one_in(4),
            seen: self.rng.one_in(2).then_some(Hlc(u64::MAX)),
            reached: self.rng.one_in(2).then_some(position),
            ..lies_in_the_rest()
        };
        self.say(&Frame::Subs(Box::new(subs)));
    }

    /// Any document, under the name of its collection.
    fn any_key(&mut self) -> DocKey {
        let id = match self.rng.below(4) {
            0 => evicted(&mut self.rng),
            1 => format!("s1-{}", self.rng.below(40)),
            _ => any(&mut self.rng),
        };
        key(collection_of(&id).unwrap_or(CARS), &id)
    }

    /// A document that it may not write, or one that is its own affair.
    fn target(&mut self) -> DocKey {
        let any = self.any_key();
        let id = text_of(&any.id);
        if self.profile.may_write(&any.collection, &id) {
            return key("misc", &format!("x{}", self.rng.below(6)));
        }
        any
    }

    /// Offers versions of documents that it never held, to hear which of them are known.
    fn claim_to_hold(&mut self, round: u64) {
        self.offer(Part::Hold, round);
        self.say(&Frame::OfferEnd(OfferEnd { part: Part::Hold, round }));
    }

    fn claim_to_provide(&mut self) {
        let round = self.round;
        self.offer(Part::Provide, round);
    }

    fn offer(&mut self, part: Part, round: u64) {
        let items = (0..1 + self.rng.below(8))
            .map(|_| Offered {
                key: self.any_key(),
                digest: Digest(self.rng.bytes16()),
                tombstone: self.rng.one_in(2),
            })
            .collect();
        self.batch += 1;
        self.say(&Frame::Offer(Offer { part, round, batch: self.batch, items }));
    }

    fn want_all(&mut self, offer: &Offer) {
        let items = (0..offer.items.len() as u32).map(|place| (place, self.vector())).collect();
        let Offer { part, round, batch, .. } = *offer;
        self.say(&Frame::Need(Need { part, round, batch, last: true, items }));
    }

    /// An encoded vector that claims to have seen everything of an actor, or nothing at all.
    fn vector(&mut self) -> Option<Bytes> {
        let lane = self.rng.below(4) as u16;
        let actor = self.actor(lane);
        let mut bytes = vec![1, 1];
        bytes.extend_from_slice(&actor.0);
        bytes.extend_from_slice(&[0xFF; 9]);
        bytes.push(1);
        self.rng.one_in(2).then(|| bytes.into())
    }

    /// An author of a document: the server's lane that writes it is known to whoever guesses the number of partitions.
    fn author(&mut self, key: &DocKey) -> Actor {
        let partitions = 1 << self.rng.below(4);
        self.actor(Slot::of(APP, &key.collection, &key.id).partition(partitions).0)
    }

    /// Its own actor, or one of the server's: their last two bytes are the lane.
    fn actor(&mut self, lane: u16) -> Actor {
        match &self.server {
            Some(server) if self.rng.one_in(3) => {
                let mut actor = server.actor;
                actor.0[14..].copy_from_slice(&lane.to_be_bytes());
                actor
            }
            _ => Actor::new(self.peer_key.site(), 1, 0),
        }
    }

    fn lie_in_ack(&mut self, update: u64) {
        let payload = Bytes::from(std::mem::take(&mut self.payload));
        let items = decode_payload(payload).unwrap_or_default();
        let mut outcomes = Vec::new();
        for (place, item) in (0..).zip(&items) {
            let id = text_of(&item.key.id);
            let may_write = self.profile.may_write(&item.key.collection, &id);
            let outcome = match self.rng.below(5) {
                0 => Outcome::NeedBase { vector: self.vector() },
                1 => Outcome::Rejected(RejectReason::Forbidden),
                // A deletion by one who may write would be a deletion.
                2 | 3 if !may_write => Outcome::Deleted { tombstone: self.forged(&item.key, true) },
                _ => continue,
            };
            outcomes.push((place, outcome));
        }
        let at = self.at();
        self.say(&Frame::Ack(Ack { update, last: true, outcomes, at }));
    }

    /// How far its log has come, as it says.
    fn at(&mut self) -> Option<Txn> {
        self.rng.one_in(2).then(|| Txn(self.rng.next_u64()))
    }

    fn send_lies(&mut self) {
        let count = 1 + self.rng.below(4);
        let items: Vec<UpdateItem> = (0..count).map(|_| self.lie()).collect();
        let payload = encode_payload(&items);
        self.update_next += 1;
        let update = self.update_next;
        let (item_count, payload_bytes) = (items.len() as u32, payload.len() as u64);
        let hash = payload_hash(&payload);
        let (upto, at) = (None, self.at());
        self.say(&Frame::UpdBegin(UpdBegin { update, upto, item_count, payload_bytes, at }));
        for (seq, chunk) in (0..).zip(payload.chunks(CHUNK_BYTES)) {
            let payload = Bytes::copy_from_slice(chunk);
            self.say(&Frame::UpdChunk(UpdChunk { update, seq, payload }));
        }
        self.say(&Frame::UpdEnd(UpdEnd { update, hash }));
    }

    fn lie(&mut self) -> UpdateItem {
        match self.rng.below(6) {
            0 | 1 => {
                let digest = Digest(self.rng.bytes16());
                UpdateItem { key: self.any_key(), body: ItemBody::Left { digest } }
            }
            2 => UpdateItem { key: self.any_key(), body: ItemBody::Evicted },
            3 => {
                let key = self.target();
                let bytes = self.forged(&key, true);
                UpdateItem { key, body: ItemBody::Tombstone { bytes } }
            }
            kind => {
                let key = self.target();
                let bytes = self.forged(&key, false);
                let base = (kind == 4).then(|| Digest(self.rng.bytes16()));
                UpdateItem { key, body: ItemBody::Delta { base, bytes } }
            }
        }
    }

    /// An edit or a deletion of an actor and a time that it chooses.
    fn forged(&mut self, key: &DocKey, is_deletion: bool) -> Bytes {
        let actor = self.author(key);
        let hlc = match self.rng.below(4) {
            0 => Hlc(u64::MAX),
            1 => Hlc(2),
            // Beyond what the server has issued, and mostly no further ahead than it bears.
            2 => {
                let issued = self.server.as_ref().map_or(0, |server| server.hlc.0);
                Hlc(issued.max(WALL_MS << 16) + 1 + (self.rng.below(CLOCK_AHEAD_MS) << 16))
            }
            _ => Hlc((WALL_MS + self.rng.below(10_000_000)) << 16),
        };
        let dot = Dot { hlc, actor };
        let mut edit = Edit::new(&Document::new(), dot);
        edit.insert();
        let path = Path::from_steps([LIE]).expect("one short step is a path");
        let text = if self.rng.one_in(20) { "lie".repeat(40_000) } else { "lie".to_owned() };
        edit.set_register(&path, Value::from(&*text)).expect("the path is not the root");
        if is_deletion {
            edit.delete(true);
        }
        match edit.finish_with_document() {
            Some((_, document)) => document.diff(&Vector::new()).to_bytes().into(),
            None => Bytes::new(),
        }
    }
}

/// The members of a Subs that it has no lie for.
fn lies_in_the_rest() -> Subs {
    Subs {
        version: 0,
        interest: Interest::default(),
        evict_generation: 0,
        write_permission: u64::MAX,
        cursor: None,
        stale: false,
        seen: None,
        reached: None,
    }
}

fn key(collection: &str, id: &str) -> DocKey {
    let id = encode_text_id(id).expect("the ids of the workload are short");
    DocKey { collection: collection.into(), id }
}

/// The first frame of each side: these bytes, then the peer key.
const GREETING_MAGIC: &[u8] = b"BPG1";

/// About what wall clocks show.
const WALL_MS: u64 = 1_700_000_010_000;

const CHUNK_BYTES: usize = 60_000;
