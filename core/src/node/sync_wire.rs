//! Bytes that only stores of ours read: vectors inside sync frames, and what is kept about a remote.

use bytes::Bytes;

use crate::codec::{DecodeError, Reader, Writer};
use crate::document::Vector;
use crate::ident::{Actor, BootId, Dot, LogId, StoreId, Txn, Uuid};
use crate::sync::{
    Cursor, DocKey, InterestHash, Nonce, Owed, Position, RejectReason, RemoteRecord,
};
use crate::time::Hlc;
use crate::value::canonical;

/// `version (1), count, count × (actor (16), HLC (varint))`, by actor.
pub(crate) fn encode_vector(vector: &Vector) -> Bytes {
    let mut to = Writer::new();
    to.byte(VECTOR_VERSION);
    to.varint(vector.len() as u64);
    for dot in vector.iter() {
        to.raw(&dot.actor.0);
        to.varint(dot.hlc.0);
    }
    to.into_bytes().into()
}

pub(crate) fn decode_vector(bytes: &[u8]) -> Result<Vector, DecodeError> {
    let mut from = Reader::new(bytes);
    from.version("vector", VECTOR_VERSION)?;
    let count = from.count("vector", 17)?;
    let mut vector = Vector::new();
    for _ in 0..count {
        let actor = Actor(from.array("vector")?);
        let dot = Dot { hlc: Hlc(from.varint("vector")?), actor };
        if dot.hlc == Hlc(0) || vector.get(actor) != Hlc(0) {
            return Err(from.invalid("vector"));
        }
        vector.raise(dot);
    }
    from.finish()?;
    Ok(vector)
}

/// `version (1), flags (1 store, 2 cursor, 4 theirs, 8 seen), the members that are there, our nonces, owed`.
pub(crate) fn encode_record(record: &RemoteRecord) -> Bytes {
    let mut to = Writer::new();
    to.byte(RECORD_VERSION);
    let flag = |holds: bool, flag: u8| if holds { flag } else { 0 };
    to.byte(
        flag(record.store.is_some(), STORE)
            | flag(record.cursor.is_some(), CURSOR)
            | flag(record.theirs.is_some(), THEIRS)
            | flag(record.seen.is_some(), SEEN),
    );
    if let Some(store) = record.store {
        to.raw(&store.0.0);
    }
    if let Some(Cursor { position, interest }) = record.cursor {
        to.raw(&position.log.0.0);
        to.raw(&position.boot.0.0);
        to.varint(position.txn.0);
        to.raw(&interest.0);
    }
    if let Some(theirs) = record.theirs {
        to.varint(theirs.0);
    }
    if let Some((actor, hlc)) = record.seen {
        to.raw(&actor.0);
        to.varint(hlc.0);
    }
    to.varint(record.ours.len() as u64);
    record.ours.iter().for_each(|nonce| to.varint(nonce.0));
    to.varint(record.owed.len() as u64);
    for owed in &record.owed {
        to.bytes(owed.key.collection.as_bytes());
        to.bytes(owed.key.id.as_bytes());
        to.byte(reason_code(owed.reason));
        to.varint(owed.write_permission);
    }
    to.into_bytes().into()
}

pub(crate) fn decode_record(bytes: &[u8]) -> Result<RemoteRecord, DecodeError> {
    let mut from = Reader::new(bytes);
    from.version("remote record", RECORD_VERSION)?;
    let flags = from.byte("remote record")?;
    let mut record = RemoteRecord::default();
    if flags & STORE != 0 {
        record.store = Some(StoreId(Uuid(from.array("store")?)));
    }
    if flags & CURSOR != 0 {
        let log = LogId(Uuid(from.array("cursor")?));
        let boot = BootId(Uuid(from.array("cursor")?));
        let position = Position { log, boot, txn: Txn(from.varint("cursor")?) };
        record.cursor = Some(Cursor { position, interest: InterestHash(from.array("cursor")?) });
    }
    if flags & THEIRS != 0 {
        record.theirs = Some(Nonce(from.varint("nonce")?));
    }
    if flags & SEEN != 0 {
        record.seen = Some((Actor(from.array("seen")?), Hlc(from.varint("seen")?)));
    }
    for _ in 0..from.count("nonces", 1)? {
        record.ours.push(Nonce(from.varint("nonce")?));
    }
    for _ in 0..from.count("owed", 4)? {
        let collection = from.text("owed")?.to_owned();
        let id = canonical::decode_id(from.bytes("owed")?).map_err(|_| from.invalid("owed"))?;
        let reason = match from.byte("owed")? {
            0 => RejectReason::Forbidden,
            1 => RejectReason::ClockSkew,
            2 => RejectReason::TooLarge,
            3 => RejectReason::Malformed,
            _ => return Err(from.invalid("owed")),
        };
        let write_permission = from.varint("owed")?;
        record.owed.push(Owed { key: DocKey { collection, id }, reason, write_permission });
    }
    from.finish()?;
    Ok(record)
}

fn reason_code(reason: RejectReason) -> u8 {
    match reason {
        RejectReason::Forbidden => 0,
        RejectReason::ClockSkew => 1,
        RejectReason::TooLarge => 2,
        RejectReason::Malformed => 3,
    }
}

const VECTOR_VERSION: u8 = 1;
const RECORD_VERSION: u8 = 1;
const STORE: u8 = 1;
const CURSOR: u8 = 2;
const THEIRS: u8 = 4;
const SEEN: u8 = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Value;

    #[test]
    fn what_is_kept_about_a_remote_reads_back() {
        let key = DocKey {
            collection: "cars".into(),
            id: canonical::encode_id(&Value::from("c1")).expect("text is an id"),
        };
        let full = RemoteRecord {
            store: Some(StoreId(Uuid([1; 16]))),
            cursor: Some(Cursor {
                position: Position {
                    log: LogId(Uuid([2; 16])),
                    boot: BootId(Uuid([3; 16])),
                    txn: Txn(77),
                },
                interest: InterestHash([4; 16]),
            }),
            ours: vec![Nonce(5), Nonce(6)],
            theirs: Some(Nonce(7)),
            seen: Some((Actor::new(1, 2, 3), Hlc(8))),
            owed: vec![Owed { key, reason: RejectReason::ClockSkew, write_permission: 9 }],
        };
        for record in [RemoteRecord::default(), full] {
            assert_eq!(decode_record(&encode_record(&record)), Ok(record));
        }
    }

    #[test]
    fn a_vector_reads_back() {
        let mut vector = Vector::new();
        vector.raise(Dot { hlc: Hlc(5), actor: Actor::new(1, 2, 3) });
        vector.raise(Dot { hlc: Hlc(9), actor: Actor::new(0, 2, 3) });
        assert_eq!(decode_vector(&encode_vector(&vector)), Ok(vector));
        assert!(decode_vector(&[]).is_err());
    }
}
