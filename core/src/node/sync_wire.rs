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

/// `version (1), flags (1 store, 2 cursor, 4 theirs, 8 seen, 16 unlisted, 32 reached, 64 shared), the members that are there, our
/// nonces, owed`.
pub(crate) fn encode_record(record: &RemoteRecord) -> Bytes {
    let mut to = Writer::new();
    to.byte(RECORD_VERSION);
    let flag = |holds: bool, flag: u8| if holds { flag } else { 0 };
    to.byte(
        flag(record.store.is_some(), STORE)
            | flag(record.cursor.is_some(), CURSOR)
            | flag(record.theirs.is_some(), THEIRS)
            | flag(record.seen.is_some(), SEEN)
            | flag(record.unlisted.is_some(), UNLISTED)
            | flag(record.reached.is_some(), REACHED)
            | flag(record.shared.is_some(), SHARED),
    );
    if let Some(store) = record.store {
        to.raw(&store.0.0);
    }
    if let Some(cursor) = &record.cursor {
        write_cursor(&mut to, cursor);
    }
    if let Some(theirs) = record.theirs {
        to.varint(theirs.0);
    }
    if let Some((actor, hlc)) = record.seen {
        to.raw(&actor.0);
        to.varint(hlc.0);
    }
    if let Some(unlisted) = record.unlisted {
        to.varint(unlisted);
    }
    if let Some(reached) = record.reached {
        write_position(&mut to, reached);
    }
    if let Some(shared) = record.shared {
        to.varint(shared.0);
    }
    to.varint(record.ours.len() as u64);
    record.ours.iter().for_each(|nonce| to.varint(nonce.0));
    to.varint(record.owed.len() as u64);
    record.owed.iter().for_each(|owed| write_owed(&mut to, owed));
    to.into_bytes().into()
}

fn write_cursor(to: &mut Writer, cursor: &Cursor) {
    let Cursor { position, interest } = cursor;
    write_position(to, *position);
    to.raw(&interest.0);
}

fn write_position(to: &mut Writer, position: Position) {
    to.raw(&position.log.0.0);
    to.raw(&position.boot.0.0);
    to.varint(position.txn.0);
}

fn read_position(from: &mut Reader<'_>) -> Result<Position, DecodeError> {
    let log = LogId(Uuid(from.array("position")?));
    let boot = BootId(Uuid(from.array("position")?));
    Ok(Position { log, boot, txn: Txn(from.varint("position")?) })
}

fn read_cursor(from: &mut Reader<'_>) -> Result<Cursor, DecodeError> {
    let position = read_position(from)?;
    Ok(Cursor { position, interest: InterestHash(from.array("cursor")?) })
}

fn write_owed(to: &mut Writer, owed: &Owed) {
    to.bytes(owed.key.collection.as_bytes());
    to.bytes(owed.key.id.as_bytes());
    to.byte(reason_code(owed.reason));
    to.varint(owed.write_permission);
}

fn read_owed(from: &mut Reader<'_>) -> Result<Owed, DecodeError> {
    let key = read_key(from)?;
    let reason = match from.byte("owed")? {
        0 => RejectReason::Forbidden,
        1 => RejectReason::ClockSkew,
        2 => RejectReason::TooLarge,
        3 => RejectReason::Malformed,
        _ => return Err(from.invalid("owed")),
    };
    Ok(Owed { key, reason, write_permission: from.varint("owed")? })
}

fn read_key(from: &mut Reader<'_>) -> Result<DocKey, DecodeError> {
    let collection = from.text("owed")?.to_owned();
    let id = canonical::decode_id(from.bytes("owed")?).map_err(|_| from.invalid("owed"))?;
    Ok(DocKey { collection, id })
}

fn read_nonces(from: &mut Reader<'_>) -> Result<Vec<Nonce>, DecodeError> {
    let mut nonces = Vec::new();
    for _ in 0..from.count("nonces", 1)? {
        nonces.push(Nonce(from.varint("nonce")?));
    }
    Ok(nonces)
}

/// One thing that is kept about a remote, as it is logged: an update of it writes what it changed, not all that is
/// kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RecordChange {
    /// All of it, instead of what was there: from a checkpoint.
    Whole(Box<RemoteRecord>),
    /// The remote's store; under another than before nothing was seen of its actor.
    Store(StoreId),
    /// How far we are in the remote's log; none forgets it.
    Cursor(Option<Cursor>),
    /// The nonces that the remote may keep of us.
    Ours(Vec<Nonce>),
    /// The last nonce of the remote.
    Theirs(Nonce),
    /// The greatest clock value seen of the remote's last actor.
    Seen(Actor, Hlc),
    /// A document that the remote refused.
    Owed(Owed),
    /// One that it refused and that is settled.
    NotOwed(DocKey),
    /// Under which write permission it refused documents that are not named; none: there are no others.
    Unlisted(Option<u64>),
    /// How far the remote's log had come when we last took something of it.
    Reached(Position),
    /// As before, in the same boot of the same log.
    ReachedOn(Txn),
    /// Another store had the remote's key up to this position of our log.
    Shared(Txn),
}

/// Version 2: `version (1)`, then to the end of each change a tag (1) and its content.
pub(crate) fn encode_changes(changes: &[RecordChange]) -> Bytes {
    let mut to = Writer::new();
    to.byte(CHANGES_VERSION);
    for change in changes {
        match change {
            RecordChange::Whole(_) => unreachable!("a whole record is version 1"),
            RecordChange::Store(store) => {
                to.byte(1);
                to.raw(&store.0.0);
            }
            RecordChange::Cursor(Some(cursor)) => {
                to.byte(2);
                write_cursor(&mut to, cursor);
            }
            RecordChange::Cursor(None) => to.byte(3),
            RecordChange::Ours(ours) => {
                to.byte(4);
                to.varint(ours.len() as u64);
                ours.iter().for_each(|nonce| to.varint(nonce.0));
            }
            RecordChange::Theirs(theirs) => {
                to.byte(5);
                to.varint(theirs.0);
            }
            RecordChange::Seen(actor, hlc) => {
                to.byte(6);
                to.raw(&actor.0);
                to.varint(hlc.0);
            }
            RecordChange::Owed(owed) => {
                to.byte(7);
                write_owed(&mut to, owed);
            }
            RecordChange::NotOwed(key) => {
                to.byte(8);
                to.bytes(key.collection.as_bytes());
                to.bytes(key.id.as_bytes());
            }
            RecordChange::Unlisted(Some(write_permission)) => {
                to.byte(9);
                to.varint(*write_permission);
            }
            RecordChange::Unlisted(None) => to.byte(10),
            RecordChange::Reached(reached) => {
                to.byte(11);
                write_position(&mut to, *reached);
            }
            RecordChange::ReachedOn(txn) => {
                to.byte(12);
                to.varint(txn.0);
            }
            RecordChange::Shared(txn) => {
                to.byte(13);
                to.varint(txn.0);
            }
        }
    }
    to.into_bytes().into()
}

/// Reads what the log holds about a remote: changes, or a whole record of version 1.
pub(crate) fn decode_changes(bytes: &[u8]) -> Result<Vec<RecordChange>, DecodeError> {
    if bytes.first() == Some(&RECORD_VERSION) {
        return Ok(vec![RecordChange::Whole(Box::new(decode_record(bytes)?))]);
    }
    let mut from = Reader::new(bytes);
    from.version("remote record", CHANGES_VERSION)?;
    let mut changes = Vec::new();
    while from.finish().is_err() {
        changes.push(match from.byte("remote record")? {
            1 => RecordChange::Store(StoreId(Uuid(from.array("store")?))),
            2 => RecordChange::Cursor(Some(read_cursor(&mut from)?)),
            3 => RecordChange::Cursor(None),
            4 => RecordChange::Ours(read_nonces(&mut from)?),
            5 => RecordChange::Theirs(Nonce(from.varint("nonce")?)),
            6 => RecordChange::Seen(Actor(from.array("seen")?), Hlc(from.varint("seen")?)),
            7 => RecordChange::Owed(read_owed(&mut from)?),
            8 => RecordChange::NotOwed(read_key(&mut from)?),
            9 => RecordChange::Unlisted(Some(from.varint("unlisted")?)),
            10 => RecordChange::Unlisted(None),
            11 => RecordChange::Reached(read_position(&mut from)?),
            12 => RecordChange::ReachedOn(Txn(from.varint("position")?)),
            13 => RecordChange::Shared(Txn(from.varint("position")?)),
            _ => return Err(from.invalid("remote record")),
        });
    }
    Ok(changes)
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
        record.cursor = Some(read_cursor(&mut from)?);
    }
    if flags & THEIRS != 0 {
        record.theirs = Some(Nonce(from.varint("nonce")?));
    }
    if flags & SEEN != 0 {
        record.seen = Some((Actor(from.array("seen")?), Hlc(from.varint("seen")?)));
    }
    if flags & UNLISTED != 0 {
        record.unlisted = Some(from.varint("unlisted")?);
    }
    if flags & REACHED != 0 {
        record.reached = Some(read_position(&mut from)?);
    }
    if flags & SHARED != 0 {
        record.shared = Some(Txn(from.varint("shared")?));
    }
    record.ours = read_nonces(&mut from)?;
    for _ in 0..from.count("owed", 4)? {
        record.owed.push(read_owed(&mut from)?);
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
const CHANGES_VERSION: u8 = 2;
const STORE: u8 = 1;
const CURSOR: u8 = 2;
const THEIRS: u8 = 4;
const SEEN: u8 = 8;
const UNLISTED: u8 = 16;
const REACHED: u8 = 32;
const SHARED: u8 = 64;

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
        let (log, boot) = (LogId(Uuid([2; 16])), BootId(Uuid([3; 16])));
        let position = Position { log, boot, txn: Txn(77) };
        let full = RemoteRecord {
            store: Some(StoreId(Uuid([1; 16]))),
            cursor: Some(Cursor { position, interest: InterestHash([4; 16]) }),
            reached: Some(Position { txn: Txn(78), ..position }),
            shared: Some(Txn(79)),
            ours: vec![Nonce(5), Nonce(6)],
            theirs: Some(Nonce(7)),
            seen: Some((Actor::new(1, 2, 3), Hlc(8))),
            owed: vec![Owed { key, reason: RejectReason::ClockSkew, write_permission: 9 }],
            unlisted: Some(10),
        };
        for record in [RemoteRecord::default(), full] {
            assert_eq!(decode_record(&encode_record(&record)), Ok(record));
        }
    }

    #[test]
    fn changes_of_a_record_read_back() {
        let key = DocKey {
            collection: "cars".into(),
            id: canonical::encode_id(&Value::from("c1")).expect("text is an id"),
        };
        let owed =
            Owed { key: key.clone(), reason: RejectReason::Forbidden, write_permission: u64::MAX };
        let changes = vec![
            RecordChange::Store(StoreId(Uuid([1; 16]))),
            RecordChange::Cursor(None),
            RecordChange::Ours(vec![Nonce(5), Nonce(6)]),
            RecordChange::Theirs(Nonce(7)),
            RecordChange::Seen(Actor::new(1, 2, 3), Hlc(8)),
            RecordChange::Owed(owed),
            RecordChange::NotOwed(key),
            RecordChange::Unlisted(Some(u64::MAX)),
            RecordChange::Unlisted(None),
            RecordChange::Reached(Position { txn: Txn(9), ..Position::default() }),
            RecordChange::ReachedOn(Txn(10)),
            RecordChange::Shared(Txn(11)),
        ];
        assert_eq!(decode_changes(&encode_changes(&changes)), Ok(changes));
        let whole = RemoteRecord { theirs: Some(Nonce(7)), ..RemoteRecord::default() };
        let read = decode_changes(&encode_record(&whole));
        assert_eq!(read, Ok(vec![RecordChange::Whole(Box::new(whole))]));
        assert!(decode_changes(&[3]).is_err() && decode_changes(&[2, 14]).is_err());
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
