//! The transaction record: what one position of the log holds.
//!
//! The encoding is the one that log, store and sync share, so that catch-up copies bytes. It begins with the
//! slots it touches, so that a node can tell without decoding the rest whether a record concerns it.

mod encode;

use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::codec::{DecodeError, Reader, Table, Writer};
use crate::document::Delta;
use crate::ident::{AppId, DocId, PartitionId, PeerKey, Slot, TxnId, Uuid};
use crate::time::WallMs;
use crate::value::canonical::{self, IdError};
pub use encode::Encoder;

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

/// Why a record cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransactionError {
    /// The bytes are no transaction of this version.
    #[error("transaction record: {0}")]
    Decode(#[from] DecodeError),
    /// An id is not canonical.
    #[error("transaction record: operation {op}: {cause}")]
    Id {
        /// Which operation.
        op: usize,
        /// What is wrong with its id.
        cause: IdError,
    },
}

/// The most that a change of the catalog takes of the reserve of a full disk, in bytes: some hundred keys.
const CATALOG_BYTES_OF_RESERVE_MAX: usize = 64 << 10;

impl Transaction {
    /// True if all it does is to take something away, or to change the catalog a little: on a full disk such records live
    /// on a reserve, which one long list of keys must not use up.
    #[must_use]
    pub fn frees(&self) -> bool {
        let mut catalog_bytes = 0;
        self.ops.iter().all(|op| match op {
            Op::Merge { delta, .. } => delta.removes_only(),
            Op::Evict { .. } => true,
            Op::System(bytes) => {
                catalog_bytes += bytes.len();
                catalog_bytes <= CATALOG_BYTES_OF_RESERVE_MAX
            }
            Op::Remote { .. } => false,
        })
    }

    /// Encodes the record.
    ///
    /// ```text
    /// version (1), slot count + 1 (0: concerns every partition), slots (8 bytes each, little-endian, ascending),
    /// transaction id (16), app (16), wall clock ms (varint),
    /// origin: 0 HTTP | 1 peer: key (32), home partition (varint) | 2 system
    /// collection count, names (length first), actor table,
    /// operation count, operations:
    ///   1 merge: collection index, id (length first), delta
    ///   2 evict: collection index, id
    ///   3 remote: peer key (32), state (length first)
    ///   4 system: bytes (length first)
    /// ```
    #[must_use]
    pub fn encode(&self) -> Bytes {
        self.encode_by(Encoder::new())
    }

    /// Encodes the record so that every partition takes notice of it, whoever owns its documents.
    #[must_use]
    pub fn encode_for_everyone(&self) -> Bytes {
        self.encode_by(Encoder::for_everyone())
    }

    fn encode_by(&self, mut encoder: Encoder) -> Bytes {
        encoder.work(self, usize::MAX).expect("it has gone over all operations")
    }

    /// Which of so many partitions a record concerns, read from its front alone.
    ///
    /// # Errors
    ///
    /// When the bytes are no record of this version.
    pub fn concerns(record: &[u8], partitions: u16) -> Result<Concerns, TransactionError> {
        let mut from = Reader::new(record);
        from.version("transaction", VERSION)?;
        let Some(slots) = decode_slots(&mut from)? else { return Ok(Concerns::Everyone) };
        let bits = slots.fold(0, |bits, slot| bits | 1 << slot.partition(partitions).0);
        Ok(Concerns::Partitions(bits))
    }

    /// Reads a record.
    ///
    /// # Errors
    ///
    /// When the bytes are no record of this version.
    pub fn decode(record: &[u8]) -> Result<Self, TransactionError> {
        let mut from = Reader::new(record);
        from.version("transaction", VERSION)?;
        drop(decode_slots(&mut from)?);
        let id = TxnId(Uuid(from.array("transaction id")?));
        let app = AppId(Uuid(from.array("app")?));
        let wall = WallMs(from.varint("wall clock")?);
        let origin = match from.byte("origin")? {
            0 => Origin::Http,
            1 => Origin::Peer {
                key: PeerKey(from.array("peer key")?),
                home: PartitionId(
                    u16::try_from(from.varint("home")?).map_err(|_| from.invalid("home"))?,
                ),
            },
            2 => Origin::System,
            _ => return Err(from.invalid("origin").into()),
        };
        let count = from.count("collections", 1)?;
        let mut collections: Vec<Arc<str>> = Vec::with_capacity(count.min(RESERVE_MAX));
        for _ in 0..count {
            collections.push(from.text("collection")?.into());
        }
        let table = Table::decode(&mut from)?;
        let count = from.count("operations", 1)?;
        let mut ops = Vec::with_capacity(count.min(RESERVE_MAX));
        for index in 0..count {
            ops.push(Op::decode(index, &collections, &table, &mut from)?);
        }
        from.finish()?;
        Ok(Self { id, app, origin, wall, ops })
    }
}

impl Op {
    fn collection(&self) -> Option<&Arc<str>> {
        match self {
            Self::Merge { collection, .. } | Self::Evict { collection, .. } => Some(collection),
            Self::Remote { .. } | Self::System(_) => None,
        }
    }

    fn encode(&self, collections: &[Arc<str>], table: &Table, to: &mut Writer) {
        let place = self.collection().map(|name| {
            collections.binary_search(name).expect("the list has the collection of each operation")
        });
        match (self, place) {
            (Self::Merge { id, delta, .. }, Some(place)) => {
                to.byte(1);
                to.varint(place as u64);
                to.bytes(id.as_bytes());
                delta.encode(table, to);
            }
            (Self::Evict { id, .. }, Some(place)) => {
                to.byte(2);
                to.varint(place as u64);
                to.bytes(id.as_bytes());
            }
            (Self::Remote { peer, state }, _) => {
                to.byte(3);
                to.raw(&peer.0);
                to.bytes(state);
            }
            (Self::System(bytes), _) => {
                to.byte(4);
                to.bytes(bytes);
            }
            (Self::Merge { .. } | Self::Evict { .. }, None) => {
                unreachable!("operations on documents name a collection")
            }
        }
    }

    fn decode(
        op: usize,
        collections: &[Arc<str>],
        table: &Table,
        from: &mut Reader<'_>,
    ) -> Result<Self, TransactionError> {
        let kind = from.byte("operation")?;
        match kind {
            1 | 2 => {
                let place = from.varint("collection index")?;
                let collection = usize::try_from(place)
                    .ok()
                    .and_then(|place| collections.get(place))
                    .ok_or_else(|| from.invalid("collection index"))?
                    .clone();
                let id = canonical::decode_id(from.bytes("id")?)
                    .map_err(|cause| TransactionError::Id { op, cause })?;
                if kind == 2 {
                    return Ok(Self::Evict { collection, id });
                }
                let delta = Arc::new(Delta::decode(table, from)?);
                Ok(Self::Merge { collection, id, delta })
            }
            3 => Ok(Self::Remote {
                peer: PeerKey(from.array("peer key")?),
                state: Bytes::copy_from_slice(from.bytes("remote state")?),
            }),
            4 => Ok(Self::System(Bytes::copy_from_slice(from.bytes("catalog operation")?))),
            _ => Err(from.invalid("operation").into()),
        }
    }
}

/// Without slots the record concerns every partition.
fn encode_slots(slots: Option<SmallVec<[Slot; 8]>>, to: &mut Writer) {
    let Some(mut slots) = slots else { return to.varint(0) };
    slots.sort_unstable();
    slots.dedup();
    to.varint(slots.len() as u64 + 1);
    slots.iter().for_each(|slot| to.raw(&slot.0.to_le_bytes()));
}

fn decode_slots<'a>(
    from: &mut Reader<'a>,
) -> Result<Option<impl Iterator<Item = Slot> + use<'a>>, DecodeError> {
    let Some(count) = from.varint("slots")?.checked_sub(1) else { return Ok(None) };
    let bytes = usize::try_from(count)
        .ok()
        .and_then(|count| count.checked_mul(8))
        .ok_or_else(|| from.invalid("slots"))?;
    let slots = from.take("slots", bytes)?.chunks_exact(8);
    Ok(Some(
        slots.map(|slot| {
            Slot(u64::from_le_bytes(slot.try_into().expect("chunks have eight bytes")))
        }),
    ))
}

const VERSION: u8 = 1;

/// How many items memory is reserved for before any of them has been read.
const RESERVE_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::document::{Document, Edit, Path};
    use crate::ident::{Actor, Dot};
    use crate::time::Hlc;
    use crate::value::Value;

    fn transaction() -> Transaction {
        let dot = Dot { hlc: Hlc::new(1_700_000_000_000, 3), actor: Actor::new(7, 8, 9) };
        let mut edit = Edit::new(&Document::new(), dot);
        edit.insert();
        let path = Path::from_steps(["color"]).expect("one step is a path");
        edit.set_register(&path, Value::from("blue")).expect("a field can be set");
        let delta = Arc::new(edit.finish().expect("something was written"));
        let id = canonical::encode_id(&Value::from("c1")).expect("text is an id");
        let collection: Arc<str> = "cars".into();
        Transaction {
            id: TxnId(Uuid([1; 16])),
            app: AppId(Uuid([2; 16])),
            origin: Origin::Peer { key: PeerKey([3; 32]), home: PartitionId(4) },
            wall: WallMs(1_700_000_000_123),
            ops: vec![
                Op::Merge { collection: collection.clone(), id: id.clone(), delta },
                Op::Evict { collection, id },
                Op::Remote { peer: PeerKey([3; 32]), state: Bytes::from_static(b"state") },
            ],
        }
    }

    #[test]
    fn a_long_list_of_keys_does_not_live_on_the_reserve_of_a_full_disk() {
        let change = Op::System(vec![b' '; 1024].into());
        let of_kib = |kib| Transaction { ops: vec![change.clone(); kib], ..transaction() };
        assert!(of_kib(64).frees() && !of_kib(65).frees());
    }

    #[test]
    fn decoding_undoes_encoding() {
        let transaction = transaction();
        assert_eq!(Transaction::decode(&transaction.encode()), Ok(transaction));
    }

    #[test]
    fn a_record_is_the_same_however_many_operations_are_written_at_once() {
        let transaction = transaction();
        for (whole, mut encoder) in [
            (transaction.encode(), Encoder::new()),
            (transaction.encode_for_everyone(), Encoder::for_everyone()),
        ] {
            let mut calls = 1;
            let record = loop {
                match encoder.work(&transaction, 1) {
                    Some(record) => break record,
                    None => calls += 1,
                }
            };
            assert_eq!(record, whole);
            assert!(calls > 2 * transaction.ops.len(), "{calls} calls");
        }
    }

    #[test]
    fn a_record_says_at_its_front_whom_it_concerns() {
        let mut transaction = transaction();
        let record = transaction.encode();
        let owners: Vec<PartitionId> = transaction
            .ops
            .iter()
            .filter_map(|op| op.slot(transaction.app))
            .map(|slot| slot.partition(16))
            .collect();
        let concerns = Transaction::concerns(&record, 16).expect("what we encode we read");
        for partition in (0..16).map(PartitionId) {
            assert_eq!(concerns.includes(partition), owners.contains(&partition));
        }
        transaction.ops.push(Op::System(Bytes::from_static(b"{}")));
        let concerns = Transaction::concerns(&transaction.encode(), 16);
        assert_eq!(concerns, Ok(Concerns::Everyone));
    }

    proptest! {
        #[test]
        fn damaged_records_are_refused_or_read_but_never_panic(
            at in any::<prop::sample::Index>(),
            flip in 1..=255_u8,
            cut in any::<prop::sample::Index>(),
        ) {
            let mut record = transaction().encode().to_vec();
            let (place, end) = (at.index(record.len()), cut.index(record.len()));
            prop_assert!(Transaction::decode(&record[..end]).is_err());
            record[place] ^= flip;
            drop(Transaction::decode(&record));
            // May be whole again: the flip may have made a count as small as the cut has left.
            drop(Transaction::decode(&record[..end]));
        }
    }
}
