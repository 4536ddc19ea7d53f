//! The frames of a session. Their bytes are in [`codec`], those of lists of documents in [`compact`].

pub(crate) mod codec;
pub(crate) mod compact;
mod facts;
#[cfg(test)]
mod tests;

use bytes::Bytes;
pub use facts::FrameFacts;

use crate::ident::{Actor, AppId, BootId, LogId, PeerKey, StoreId};
use crate::time::Hlc;

use super::cursor::{Cursor, InterestHash, Position, Unknown};
use super::error::{ByeReason, ProtocolError};
use super::host::{Nonce, Offered, Outcome, Part};
use super::subscription::Interest;

/// One frame, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    Hello(Box<Hello>),
    Subs(Box<Subs>),
    Start(Start),
    Offer(Offer),
    OfferEnd(OfferEnd),
    Need(Need),
    UpdBegin(UpdBegin),
    UpdChunk(UpdChunk),
    UpdEnd(UpdEnd),
    Got(Got),
    Ack(Ack),
    Probe { probe: u64 },
    ProbeReply { probe: u64 },
    Ping,
    Pong,
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
pub(crate) struct Subs {
    /// Rises with each change.
    pub(crate) version: u64,
    pub(crate) interest: Interest,
    pub(crate) evict_generation: u64,
    /// The generation of what the listener may write here.
    pub(crate) write_generation: u64,
    pub(crate) cursor: Option<Cursor>,
    /// The speaker's store was rolled back or cloned: it may have lost even what it sent itself.
    pub(crate) stale: bool,
    /// The greatest clock value that the speaker knows of the listener's actor.
    pub(crate) seen: Option<Hlc>,
}

/// A round of sending begins. Everything of former rounds but the update in flight is void.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) round: u64,
    /// The version of the Subs that this answers.
    pub(crate) version: u64,
    /// Why the cursor does not let the speaker replay; none when it does.
    pub(crate) unknown: Option<Unknown>,
    /// To be recorded with each position of this round.
    pub(crate) interest: InterestHash,
}

/// A batch of an offer. Answered by `Need` frames of the same number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) part: Part,
    pub(crate) round: u64,
    pub(crate) batch: u64,
    pub(crate) items: Vec<Offered>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OfferEnd {
    pub(crate) part: Part,
    pub(crate) round: u64,
}

/// Which items of a batch the speaker wants, with its own vectors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Need {
    pub(crate) part: Part,
    pub(crate) round: u64,
    pub(crate) batch: u64,
    /// True in the last frame for this batch.
    pub(crate) last: bool,
    /// Index in the batch, encoded vector.
    pub(crate) items: Vec<(u32, Option<Bytes>)>,
}

/// One atomic update: one record at its receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UpdBegin {
    pub(crate) update: u64,
    /// The position that the receiver has reached with it; none for a part of something larger.
    pub(crate) upto: Option<Position>,
    pub(crate) item_count: u32,
    pub(crate) payload_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UpdChunk {
    pub(crate) update: u64,
    pub(crate) seq: u32,
    pub(crate) payload: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UpdEnd {
    pub(crate) update: u64,
    /// blake3 of the payload, cut to 128 bits.
    pub(crate) hash: [u8; 16],
}

/// So many bytes of the update have come: the window moves on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Got {
    pub(crate) update: u64,
    pub(crate) payload_bytes: u64,
}

/// The update is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ack {
    pub(crate) update: u64,
    /// True in the last frame for this update.
    pub(crate) last: bool,
    /// Index in the update, what became of it; only those that were not simply accepted.
    pub(crate) outcomes: Vec<(u32, Outcome)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bye {
    pub(crate) reason: ByeReason,
    pub(crate) text: String,
}

impl Frame {
    /// The frame's name, for errors.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Hello(_) => "Hello",
            Self::Subs(_) => "Subs",
            Self::Start(_) => "Start",
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
pub(crate) const SUBSCRIPTION_COUNT_MAX: usize = 1_000;
/// Text or arguments of one subscription.
pub(crate) const SUBSCRIPTION_BYTES_MAX: usize = 64 << 10;
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
pub(crate) fn decode(bytes: &[u8]) -> Result<Option<Frame>, ProtocolError> {
    codec::decode(bytes)
}

/// Encodes a frame.
pub(crate) fn encode(frame: &Frame) -> Bytes {
    codec::encode(frame)
}
