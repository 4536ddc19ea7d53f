//! Sync: one session between two peers, the same on a server and on a device.
//!
//! A [`Session`] turns frames of an authenticated remote into commands for its host, and the host's answers into
//! frames. It holds no document, opens no socket and reads no clock; its owner is the node, which asks the
//! partitions that own the documents ([`HostCommand`], [`HostEvent`]). It knows nothing of what is inside a
//! delta, a tombstone or a vector: they are bytes in the one encoding that log, store and wire share.
//!
//! # A session
//!
//! ```text
//! device                                server
//!   Hello {nonce, kept}           ->                  each side's own nonce is durable before it speaks
//!                                 <-   Hello, Subs    the other's is kept once its Subs are heard
//!   Subs {interest, cursor}, Start ->
//!                                 <-   Start {known}  or {unknown}: reconcile
//!
//!   known:    UpdBegin .. UpdChunk .. UpdEnd {upto}   ->   <-  Ack, once durable       (either direction)
//!   unknown:  Offer{provide} ->  <- Need     <- Offer{hold}   Need ->    then updates without a position,
//!             then an empty update at the position read before the first offer, then known
//! ```
//!
//! The two directions are independent. In each, one update is in flight at a time; whatever is written
//! meanwhile is folded into the next one, which the host collects only then.
//!
//! # What is never lost
//!
//! * The receiver owns the cursor ([`Cursor`]): it is written in the record of the update that it covers or in a
//!   later one, never before, and only if every item of the update was accepted. A rejected, deleted or evicted item and a missing base hold the
//!   position back: the sender settles them durably on its side ([`HostCommand::Settle`]), or sends what
//!   lacks, and then sends the position again, by itself if need be; or it tells a device all of it anew. So neither side can crash into a state in
//!   which one believes that the other knows.
//! * A cursor is believed only within the boot table of this very log, above the purge floor, for the same
//!   interest, and if neither store was rolled back or cloned ([`BootTable::judge`]).
//! * Who has lost what it sent itself hears of it, by a nonce or by a position in its own log that it does not hold
//!   ([`RemoteRecord::reached`]), and whatever breaks, until it has written that its cursor means nothing.
//! * An acknowledgement leaves once the host says that the update is durable.
//! * What the answering side of an offer knows better travels as an update, and the offer counts as answered only
//!   when that update is settled.
//!
//! # Frames
//!
//! A frame is one message of a transport that keeps lengths and order (a WebSocket message, or a length-prefixed
//! stream). Byte 0 is the kind; its bit 7 marks a critical kind, at which a build that does not know it closes the
//! session; others are skipped. Byte 1 is the layout of the kind, 1. The rest is a CBOR map with small integers as
//! keys in rising order; unknown keys are skipped, absent optional ones left out. No frame exceeds 1 MiB.
//!
//! | Byte 0 | Frame | Keys |
//! |---|---|---|
//! | `81` | Hello | 0 proto min, 1 proto max, 2 features, 3 app (16 bytes), 4 role (0 server, 1 device), 5 peer key (32), 6 log id, 7 store id, 8 boot id, 9 actor (16 each), 10 nonce, 11 store of the kept nonce?, 12 hlc, 13 tombstone ttl (h), 14 digest version, 15 id version, 16 device name (≤ 64 bytes), 17 kept nonce? |
//! | `82` | Subs | 0 version, 1 `[[text, args], …]` (absent: everything), 2 evict generation, 3 write generation, 4 cursor position?, 5 cursor interest? (16), 6 stale?, 7 seen hlc?, 8 reached position? |
//! | `83` | Start | 0 round, 1 version of the Subs, 2 why unknown? (1 no cursor, 2 other log, 3 other history, 4 purged, 5 other interest, 6 stale), 3 interest (16) |
//! | `84` | Offer | 0 part (0 provide, 1 hold), 1 round, 2 batch, 3 list: offers |
//! | `85` | OfferEnd | 0 part, 1 round |
//! | `86` | Need | 0 part, 1 round, 2 batch, 3 list: needs, 4 last |
//! | `87` | UpdBegin | 0 update, 1 item count, 2 payload bytes, 3 upto position?, 4 at (txn)? |
//! | `88` | UpdChunk | no map: update (8 bytes LE), sequence (4 LE), payload ≤ 64 KiB: list: update |
//! | `89` | UpdEnd | 0 update, 1 blake3-128 of the payload |
//! | `8A` | Got | 0 update, 1 payload bytes received (each 512 KiB; the window is 1 MiB) |
//! | `8B` | Ack | 0 update, 1 last, 2 list: outcomes that are not *accepted*, 3 at (txn)? |
//! | `8C` | Probe | 0 probe |
//! | `8D` | ProbeReply | 0 probe |
//! | `0E` | Ping | |
//! | `0F` | Pong | |
//! | `90` | Bye | 0 reason (0 normal, 1 replaced, 2 protocol, 3 timeout, 4 shutdown, 5 permission changed, 6 unavailable, 7 reset), 1 text |
//!
//! A position is `[log id, boot id, txn]`. Lists are byte strings in the layout drawn in `frame/compact.rs`.

mod cursor;
mod error;
mod frame;
mod host;
mod link;
mod receiving;
mod reconcile;
mod sending;
mod session;
mod subscription;
#[cfg(test)]
mod tests;

pub use cursor::{BootRow, BootTable, Cursor, InterestHash, Position, Unknown};
pub use error::{ByeReason, CloseReason, ProtocolError};
pub use frame::{FEATURE_RECALLS_BASES, FrameFacts, Hello, Role};
pub use frame::{SUBSCRIPTION_COUNT_MAX, SUBSCRIPTIONS_BYTES_MAX};
pub(crate) use host::add_unlisted;
pub use host::{
    CommandId, Digest, DocKey, Final, HostCommand, HostEvent, ItemBody, Lacking, NONCES_KEPT,
    Nonce, Offered, Outcome, Owed, Part, RejectReason, RemoteRecord, UpdateItem, Verdict, Wanted,
};
pub use link::{REJECTED_LISTED_MAX, SessionEvent, SessionOutput};
pub use session::{Limits, LocalIdentity, Session, SessionConfig, SessionState, SessionStatus};
pub use subscription::{Interest, InterestScope, Subscription, interest_hash};

/// The frames themselves, for whoever watches a session or plays one side of it: a judge that reads what was told
/// to whom, a peer of another make, a peer that lies. A [`Session`] needs none of it.
pub mod wire {
    pub use super::frame::{
        Ack, Bye, Frame, Got, Need, Offer, OfferEnd, Start, Subs, UpdBegin, UpdChunk, UpdEnd,
        decode, decode_payload, encode, encode_payload, payload_hash,
    };
}
