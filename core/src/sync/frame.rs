//! The frames of a session. Their bytes are in [`codec`], those of lists of documents in [`compact`].

pub(crate) mod codec;
pub(crate) mod compact;
mod facts;
#[cfg(test)]
mod tests;

use bytes::Bytes;
pub use facts::FrameFacts;

use crate::ident::{Actor, AppId, BootId, LogId, PeerKey, StoreId, Txn};
use crate::time::Hlc;

use super::cursor::{Cursor, InterestHash, Position, Unknown};
use super::error::{ByeReason, ProtocolError};
use super::host::{Nonce, Offered, Outcome, Part, UpdateItem};
use super::subscription::Interest;

/// One frame, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Who speaks.
    Hello(Box<Hello>),
    /// What the speaker wants and has.
    Subs(Box<Subs>),
    /// A round of sending begins.
    Start(Start),
    /// What the listener may read here. Not said to who may read everything.
    Grant {
        /// JSON: see [`Access::to_value`](crate::auth::Access::to_value).
        read: Bytes,
    },
    /// A batch of versions that the speaker holds.
    Offer(Offer),
    /// The last batch has been offered.
    OfferEnd(OfferEnd),
    /// Documents of a batch that the speaker wants.
    Need(Need),
    /// An update begins.
    UpdBegin(UpdBegin),
    /// A piece of an update's payload.
    UpdChunk(UpdChunk),
    /// An update is complete.
    UpdEnd(UpdEnd),
    /// Bytes of an update have come.
    Got(Got),
    /// An update is durable at its receiver.
    Ack(Ack),
    /// Asks for a reply once the listener's present state is settled here.
    Probe {
        /// Chosen by the speaker, rising.
        probe: u64,
    },
    /// Answers a probe.
    ProbeReply {
        /// Of the probe.
        probe: u64,
    },
    /// Asks for a sign of life.
    Ping,
    /// Gives one.
    Pong,
    /// The last frame of a session.
    Bye(Bye),
}

/// Who speaks. The first frame of each side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The lowest protocol version it speaks.
    pub proto_min: u16,
    /// The highest.
    pub proto_max: u16,
    /// What it can do beyond the version, one bit each.
    pub features: u64,
    /// The app.
    pub app: AppId,
    /// Server or device.
    pub role: Role,
    /// Its public identity.
    pub peer_key: PeerKey,
    /// Its log.
    pub log: LogId,
    /// Its store.
    pub store: StoreId,
    /// The running boot.
    pub boot: BootId,
    /// Its actor, epoch included.
    pub actor: Actor,
    /// The nonce of this session.
    pub nonce: Nonce,
    /// The last nonce of the listener that it keeps, and of which store. If the listener does not know it, the
    /// listener was rolled back or cloned.
    pub kept: Option<(StoreId, Nonce)>,
    /// Its hybrid clock.
    pub hlc: Hlc,
    /// How long its tombstones stay whole.
    pub tombstone_ttl_hours: u32,
    /// How vectors are digested.
    pub digest_version: u16,
    /// How ids are encoded.
    pub id_version: u16,
    /// For people; at most 64 bytes.
    pub device_name: String,
}

/// The two kinds of peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Holds everything of its apps.
    Server,
    /// Holds what it subscribed to.
    Device,
}

/// What the speaker wants and has. Replaces its former one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subs {
    /// Rises with each change.
    pub version: u64,
    /// The documents that the speaker wants.
    pub interest: Interest,
    /// How often the speaker evicted.
    pub evict_generation: u64,
    /// The hash of what the listener may write here: what it owes is offered again when this has changed.
    pub write_permission: u64,
    /// How far the speaker has come in the listener's log.
    pub cursor: Option<Cursor>,
    /// The speaker's store was rolled back or cloned: it may have lost even what it sent itself.
    pub stale: bool,
    /// The greatest clock value that the speaker knows of the listener's actor.
    pub seen: Option<Hlc>,
    /// How far the listener's log had come when the speaker last took something of it. If it is not in that log, the
    /// listener was rolled back or cloned.
    pub reached: Option<Position>,
}

/// A round of sending begins. Everything of former rounds but the update in flight is void.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// Rises with each round of this direction.
    pub round: u64,
    /// The version of the Subs that this answers.
    pub version: u64,
    /// Why the cursor does not let the speaker replay; none when it does.
    pub unknown: Option<Unknown>,
    /// To be recorded with each position of this round.
    pub interest: InterestHash,
}

/// A batch of an offer. Answered by `Need` frames of the same number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Which of the two offers of a round.
    pub part: Part,
    /// Of the provider's direction.
    pub round: u64,
    /// Rises within the offer.
    pub batch: u64,
    /// At most 512 versions.
    pub items: Vec<Offered>,
}

/// All batches of an offer were sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfferEnd {
    /// Which of the two offers of a round.
    pub part: Part,
    /// Of the provider's direction.
    pub round: u64,
}

/// Which items of a batch the speaker wants, with its own vectors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// As in the offer.
    pub part: Part,
    /// As in the offer.
    pub round: u64,
    /// As in the offer.
    pub batch: u64,
    /// True in the last frame for this batch.
    pub last: bool,
    /// Index in the batch, encoded vector.
    pub items: Vec<(u32, Option<Bytes>)>,
}

/// One atomic update: one record at its receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpdBegin {
    /// Rises with each update of this direction.
    pub update: u64,
    /// The position that the receiver has reached with it; none for a part of something larger.
    pub upto: Option<Position>,
    /// How many documents the payload names.
    pub item_count: u32,
    /// The length of the payload, over all chunks.
    pub payload_bytes: u64,
    /// A position of the sender's log, in its running boot, that is durable and holds all that the payload tells.
    pub at: Option<Txn>,
}

/// A piece of an update's payload, at most 64 KiB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdChunk {
    /// As in the `UpdBegin`.
    pub update: u64,
    /// From zero, without gaps.
    pub seq: u32,
    /// The bytes.
    pub payload: Bytes,
}

/// All chunks of an update were sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpdEnd {
    /// As in the `UpdBegin`.
    pub update: u64,
    /// blake3 of the payload, cut to 128 bits.
    pub hash: [u8; 16],
}

/// So many bytes of the update have come: the window moves on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Got {
    /// As in the `UpdBegin`.
    pub update: u64,
    /// Of the payload, since its beginning.
    pub payload_bytes: u64,
}

/// The update is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// As in the `UpdBegin`.
    pub update: u64,
    /// True in the last frame for this update.
    pub last: bool,
    /// Index in the update, what became of it; only those that were not simply accepted.
    pub outcomes: Vec<(u32, Outcome)>,
    /// The position of the update in the log of the speaker, in its running boot; in the last frame.
    pub at: Option<Txn>,
}

/// Why the speaker ends the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bye {
    /// For the listener to act on.
    pub reason: ByeReason,
    /// For people; at most 256 bytes.
    pub text: String,
}

impl Frame {
    /// The frame's name, for errors.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Hello(_) => "Hello",
            Self::Subs(_) => "Subs",
            Self::Start(_) => "Start",
            Self::Grant { .. } => "Grant",
            Self::Offer(_) => "Offer",
            Self::OfferEnd(_) => "OfferEnd",
            Self::Need(_) => "Need",
            Self::UpdBegin(_) => "UpdBegin",
            Self::UpdChunk(_) => "UpdChunk",
            Self::UpdEnd(_) => "UpdEnd",
            Self::Got(_) => "Got",
            Self::Ack(_) => "Ack",
            Self::Probe { .. } => "Probe",
            Self::ProbeReply { .. } => "ProbeReply",
            Self::Ping => "Ping",
            Self::Pong => "Pong",
            Self::Bye(_) => "Bye",
        }
    }
}

/// The protocol versions that this build speaks.
pub(crate) const PROTO: (u16, u16) = (1, 1);
/// The bit of `Hello::features` of whoever takes deltas whose base is named by its digest; bit 0 is kept for sketches.
pub const FEATURE_RECALLS_BASES: u64 = 2;
/// How a vector is digested.
pub(crate) const DIGEST_VERSION: u16 = 1;
/// How an id is encoded.
pub(crate) const ID_VERSION: u16 = 1;
/// No frame is longer.
pub(crate) const FRAME_BYTES_MAX: usize = 1 << 20;
/// A chunk's payload, and the aim for every other frame that can be split.
pub(crate) const CHUNK_BYTES_MAX: usize = 64 << 10;
/// Documents in one batch of an offer.
pub(crate) const OFFER_COUNT_MAX: usize = 512;
/// A collection's name: fewer than 100 characters.
pub(crate) const COLLECTION_BYTES_MAX: usize = 400;
/// A canonical id.
pub(crate) const ID_BYTES_MAX: usize = 2 << 10;
/// One encoded vector or tombstone inside a `Need` or `Ack`.
pub(crate) const VECTOR_BYTES_MAX: usize = 256 << 10;
/// Subscriptions of one peer.
pub const SUBSCRIPTION_COUNT_MAX: usize = 1_000;
/// Text or arguments of one subscription.
pub(crate) const SUBSCRIPTION_BYTES_MAX: usize = 64 << 10;
/// Texts and arguments of all subscriptions of one peer: all of them are compiled each time that it says them.
pub const SUBSCRIPTIONS_BYTES_MAX: usize = 256 << 10;
/// What a peer is told that it may read.
pub(crate) const GRANT_BYTES_MAX: usize = crate::auth::ACCESS_BYTES_MAX;
/// A device's name.
pub(crate) const NAME_BYTES_MAX: usize = 64;
/// The words of a goodbye.
pub(crate) const BYE_BYTES_MAX: usize = 256;

const _: () = assert!(
    CHUNK_BYTES_MAX + VECTOR_BYTES_MAX + 4_096 <= FRAME_BYTES_MAX,
    "a frame that is split at the aim holds one more vector of any size"
);
const _: () = assert!(
    OFFER_COUNT_MAX * 64 <= FRAME_BYTES_MAX,
    "batches of ordinary ids fit; longer ones are split by bytes"
);

/// Decodes a frame; `None` for a kind that this build does not know and may skip.
///
/// # Errors
///
/// The first thing that is wrong with it.
pub fn decode(bytes: &[u8]) -> Result<Option<Frame>, ProtocolError> {
    codec::decode(bytes)
}

/// Encodes a frame.
#[must_use]
pub fn encode(frame: &Frame) -> Bytes {
    codec::encode(frame)
}

/// Decodes the payload of a whole update: all its chunks, one after the other.
///
/// # Errors
///
/// The first thing that is wrong with it.
pub fn decode_payload(payload: Bytes) -> Result<Vec<UpdateItem>, ProtocolError> {
    let mut list = compact::Reader::new(payload, "update");
    let mut items = Vec::new();
    while !list.is_empty() {
        items.push(list.update()?);
    }
    Ok(items)
}

/// Encodes the payload of an update, to be cut into chunks.
#[must_use]
pub fn encode_payload(items: &[UpdateItem]) -> Bytes {
    let mut list = compact::Writer::default();
    items.iter().for_each(|item| list.update(item));
    list.finish()
}

/// The hash that `UpdEnd` carries: blake3 of the payload, cut to 128 bits.
#[must_use]
pub fn payload_hash(payload: &[u8]) -> [u8; 16] {
    super::sending::payload_hash(payload)
}
