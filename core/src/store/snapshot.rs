//! What a partition holds as of one transaction, in parts that a checkpoint keeps and a start reads back.
//!
//! ```text
//! part:    app (16), collection (length first), actor table, entry count, entries by id
//! entry:   id (length first), changed at (varint), by: 0 anyone | 1 updates of a peer: key (32), then
//!          changed by another at (varint), history from (varint), raise count, raises,
//!          1 document: document | 2 evicted: vector
//! raise:   transaction (varint), dot: the actor, and one more than its HLC before (1: it had none)
//! ```

use std::sync::Arc;

use super::collection::{Entry, Raise, State};
use super::{DocKey, Store};
use crate::codec::{DecodeError, Reader, Table, TableBuilder, Writer};
use crate::document::{Document, Vector};
use crate::ident::{AppId, DocId, Dot, PeerKey, Txn, Uuid};
use crate::time::Hlc;
use crate::value::canonical;

/// A part of a snapshot.
#[derive(Clone, Debug)]
pub struct SnapshotPart {
    /// What the caller wanted in front, then the encoded entries.
    pub bytes: Vec<u8>,
    /// The last of them: the next part follows it.
    pub last: DocKey,
}

impl Store {
    /// The entries after `after` as of transaction `at`, behind `head`: of one collection, about `PART_BYTES` of
    /// them. Nothing when there are no more. Older versions from `at` on must have been kept: see
    /// [`fold`](Self::fold).
    #[must_use]
    pub fn snapshot_part(
        &self,
        at: Txn,
        after: Option<&DocKey>,
        head: &[u8],
    ) -> Option<SnapshotPart> {
        let first_app = after.map_or(AppId(Uuid([0; 16])), |key| key.app);
        for (app, collections) in self.apps.range(first_app..) {
            for (name, collection) in collections {
                let after = after.filter(|key| key.app == *app);
                let behind = match after.map(|key| name.cmp(&key.collection)) {
                    Some(std::cmp::Ordering::Less) => continue,
                    Some(std::cmp::Ordering::Equal) => after.map(|key| &key.id),
                    Some(std::cmp::Ordering::Greater) | None => None,
                };
                let part = Part::gather(at, collection.iter_after(behind));
                if let Some((last, _)) = part.entries.last() {
                    let last = DocKey { app: *app, collection: name.clone(), id: (*last).clone() };
                    return Some(SnapshotPart { bytes: part.encode(head, &last), last });
                }
            }
        }
        None
    }

    /// Takes back a part of a snapshot as of `at`. Parts come in order into a store that held nothing, and
    /// before any transaction. The answer is the app, and the last transaction that changed an entry of the part.
    ///
    /// # Errors
    ///
    /// When the bytes are no such part.
    pub fn restore_part(&mut self, at: Txn, bytes: &[u8]) -> Result<(AppId, Txn), DecodeError> {
        let mut from = Reader::new(bytes);
        let app = AppId(Uuid(from.array("app")?));
        let name: Arc<str> = from.text("collection")?.into();
        let table = Table::decode(&mut from)?;
        let count = from.count("entries", ENTRY_LEAST_BYTES)?;
        self.restored = at;
        let mut newest = Txn(0);
        for _ in 0..count {
            let id = canonical::decode_id(from.bytes("id")?).map_err(|_| from.invalid("id"))?;
            let mut entry = Entry::decode(&table, &mut from)?;
            let key = DocKey { app, collection: name.clone(), id };
            if entry.changed_at() > at || entry.changed_at() == Txn(0) || self.entry(&key).is_some()
            {
                return Err(from.invalid("changed at"));
            }
            newest = newest.max(entry.changed_at());
            entry.changed_index = self.changes.place(key.clone(), entry.changed_at());
            let collections = self.apps.entry(app).or_default();
            let collection = collections.entry(name.clone()).or_default();
            collection.change(&key.id, |place| *place = entry);
        }
        from.finish()?;
        Ok((app, newest))
    }
}

/// The entries of a part that is about to be written.
#[derive(Default)]
struct Part<'a> {
    entries: Vec<(&'a DocId, Past<'a>)>,
    dots: TableBuilder,
    size_bytes: usize,
}

impl<'a> Part<'a> {
    /// Takes the first of these entries that were there at `at`, until the part is full.
    fn gather(at: Txn, entries: impl Iterator<Item = (&'a DocId, &'a Entry)>) -> Self {
        let mut part = Self::default();
        for (id, entry) in entries {
            let Some(past) = entry.as_of(at) else { continue };
            past.note_dots(&mut part.dots);
            part.size_bytes += past.size_bytes();
            part.entries.push((id, past));
            if part.size_bytes >= PART_BYTES {
                break;
            }
        }
        part
    }

    fn encode(self, head: &[u8], last: &DocKey) -> Vec<u8> {
        let Self { entries, dots, size_bytes } = self;
        let table = dots.finish();
        // Ids and the positions of changes come on top of what documents count as their size.
        let mut to = Writer::with_capacity(size_bytes + size_bytes / 2 + PART_HEAD_BYTES);
        to.raw(head);
        to.raw(&last.app.0.0);
        to.bytes(last.collection.as_bytes());
        table.encode(&mut to);
        to.varint(entries.len() as u64);
        for (id, past) in &entries {
            to.bytes(id.as_bytes());
            past.encode(&table, &mut to);
        }
        to.into_bytes()
    }
}

/// An entry as it was at one position.
struct Past<'a> {
    state: &'a State,
    changed_at: Txn,
    origin: Option<&'a PeerKey>,
    other_changed_at: Txn,
    raises: &'a [Raise],
    raises_from: Txn,
}

impl Entry {
    /// This entry as it was at `at`; nothing when it was not there yet. What is kept of the newest state alone
    /// is taken for the worst: the change was by anyone, and its history is not known.
    fn as_of(&self, at: Txn) -> Option<Past<'_>> {
        if self.changed_at <= at {
            return Some(Past {
                state: &self.state,
                changed_at: self.changed_at,
                origin: self.origin.as_ref(),
                other_changed_at: self.other_changed_at,
                raises: &self.raises,
                raises_from: self.raises_from,
            });
        }
        let (txn, state) = self.older.iter().rev().find(|(txn, _)| *txn <= at)?;
        (*txn > Txn(0)).then_some(Past {
            state,
            changed_at: *txn,
            origin: None,
            other_changed_at: *txn,
            raises: &[],
            raises_from: *txn,
        })
    }
}

impl Past<'_> {
    fn size_bytes(&self) -> usize {
        match self.state {
            State::Document(document) => document.size_bytes(),
            State::Evicted(_) | State::Absent => ENTRY_BYTES,
        }
    }

    fn note_dots(&self, table: &mut TableBuilder) {
        for raise in self.raises {
            table.note(raise.as_dot());
        }
        match self.state {
            State::Document(document) => document.note_dots(table),
            State::Evicted(vector) => vector.iter().for_each(|dot| table.note(dot)),
            State::Absent => {}
        }
    }

    fn encode(&self, table: &Table, to: &mut Writer) {
        to.varint(self.changed_at.0);
        match self.origin {
            None => to.byte(0),
            Some(peer) => {
                to.byte(1);
                to.raw(&peer.0);
            }
        }
        to.varint(self.other_changed_at.0);
        to.varint(self.raises_from.0);
        to.varint(self.raises.len() as u64);
        for raise in self.raises {
            to.varint(raise.txn.0);
            table.encode_dot(raise.as_dot(), to);
        }
        match self.state {
            State::Document(document) => {
                to.byte(1);
                document.encode(table, to);
            }
            State::Evicted(vector) => {
                to.byte(2);
                to.varint(vector.len() as u64);
                vector.iter().for_each(|dot| table.encode_dot(dot, to));
            }
            State::Absent => unreachable!("what was never there has no state as of a transaction"),
        }
    }
}

impl Entry {
    fn decode(table: &Table, from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let changed_at = Txn(from.varint("changed at")?);
        let origin = match from.byte("origin")? {
            0 => None,
            1 => Some(PeerKey(from.array("origin")?)),
            _ => return Err(from.invalid("origin")),
        };
        let other_changed_at = Txn(from.varint("changed by another at")?);
        let raises_from = Txn(from.varint("history from")?);
        let count = from.count("raises", 2)?;
        let mut raises = Vec::with_capacity(count.min(RESERVE_MAX));
        for _ in 0..count {
            let txn = Txn(from.varint("raise")?);
            let Dot { actor, hlc } = table.decode_dot(from)?;
            raises.push(Raise { txn, actor, previous: Hlc(hlc.0 - 1) });
        }
        let state = match from.byte("state")? {
            1 => State::Document(Arc::new(Document::decode(table, from)?)),
            2 => State::Evicted(decode_vector(table, from)?),
            _ => return Err(from.invalid("state")),
        };
        let (changed_index, older) = (0, Vec::new());
        Ok(Self {
            state,
            changed_at,
            changed_index,
            older,
            origin,
            other_changed_at,
            raises,
            raises_from,
        })
    }
}

impl Raise {
    /// The dot that stands for it: no dot has an HLC of zero.
    fn as_dot(&self) -> Dot {
        Dot { actor: self.actor, hlc: Hlc(self.previous.0.saturating_add(1)) }
    }
}

fn decode_vector(table: &Table, from: &mut Reader<'_>) -> Result<Vector, DecodeError> {
    let count = from.count("evicted", 1)?;
    let mut vector = Vector::new();
    for _ in 0..count {
        let dot = table.decode_dot(from)?;
        if dot.hlc == Hlc(0) {
            return Err(from.invalid("evicted"));
        }
        vector.raise(dot);
    }
    Ok(vector)
}

/// About how much one part holds: a shard does nothing else while it makes one, some 0.3 ms.
const PART_BYTES: usize = 64 << 10;

/// Room for what stands before the entries.
const PART_HEAD_BYTES: usize = 1 << 10;

/// What an entry without a document is counted as.
const ENTRY_BYTES: usize = 64;

/// Id, positions, counts and state take at least this much.
const ENTRY_LEAST_BYTES: usize = 8;

/// How many items memory is reserved for before any of them has been read.
const RESERVE_MAX: usize = 16;

#[cfg(test)]
mod tests;
