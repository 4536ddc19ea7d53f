//! The transaction record: what one position of the log holds.
//!
//! The encoding is the one that log, store and sync share, so that catch-up copies bytes. It begins with the
//! slots it touches, so that a node can tell without decoding the rest whether a record concerns it.

use std::sync::Arc;

use bytes::Bytes;

use crate::document::Delta;
use crate::ident::{AppId, DocId, PartitionId, PeerKey, Slot, TxnId};
use crate::time::WallMs;

/// One transaction: all of it takes effect at one position of the log, or none.
#[derive(Clone, Debug, PartialEq)]
pub struct Transaction {
    /// Its identity: a retry carries the same one.
    pub id: TxnId,
    /// The app it belongs to.
    pub app: AppId,
    /// Who produced it.
    pub origin: Origin,
    /// The wall clock of whoever appended it; for people and TTLs, never for order.
    pub wall: WallMs,
    /// What it does, in order.
    pub ops: Vec<Op>,
}

/// Where a transaction came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A statement over HTTP, or a local statement on a device.
    Http,
    /// An update received in a sync session with this peer.
    Peer {
        /// Whose update it was.
        key: PeerKey,
        /// The partition that holds the session: it is told the outcome.
        home: PartitionId,
    },
    /// The process itself: apps, keys, identities.
    System,
}

/// One operation.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Merge a delta into a document.
    Merge {
        /// The collection's name.
        collection: Arc<str>,
        /// The document.
        id: DocId,
        /// What to merge.
        delta: Arc<Delta>,
    },
    /// Forget a document here, and remember which of its versions were forgotten.
    Evict {
        /// The collection's name.
        collection: Arc<str>,
        /// The document.
        id: DocId,
    },
    /// Replace what is kept about a remote peer: the cursor of what was received from it, and the like.
    Remote {
        /// The remote.
        peer: PeerKey,
        /// Opaque to the log: written and read by `sync`.
        state: Bytes,
    },
    /// Change the catalog of apps and keys: JSON text, written and read by `auth`.
    System(Bytes),
}

impl Op {
    /// The slot that this operation concerns; `None` for the catalog, which concerns every partition.
    #[must_use]
    pub fn slot(&self, app: AppId) -> Option<Slot> {
        match self {
            Self::Merge { collection, id, .. } | Self::Evict { collection, id } => {
                Some(Slot::of(app, collection, id))
            }
            Self::Remote { peer, .. } => Some(remote_slot(app, peer)),
            Self::System(_) => None,
        }
    }
}

/// The slot that keeps what is known about a remote peer.
#[must_use]
pub fn remote_slot(app: AppId, peer: &PeerKey) -> Slot {
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    hasher.update(&app.0.0);
    hasher.update(&peer.0);
    Slot(hasher.digest())
}

/// Which partitions a record concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Concerns {
    /// These partitions, by bit; a machine has at most 64.
    Partitions(u64),
    /// All of them.
    Everyone,
}

impl Concerns {
    /// True when `partition` is among them.
    #[must_use]
    pub fn includes(self, partition: PartitionId) -> bool {
        match self {
            Self::Partitions(bits) => bits & (1 << partition.0) != 0,
            Self::Everyone => true,
        }
    }
}
