//! Documents as stored.

use super::component::{self, Contents};
use super::{Paths, decode_dots, encode_dots, note_vector, with_room_for};
use crate::codec::{DecodeError, Reader, Table, TableBuilder, Writer};
use crate::document::{Document, Entries, Entry, Kind, Leaf, Leaves, Vector};
use crate::time::Hlc;

impl Document {
    /// This document as bytes that stand for themselves: its own table, then the document.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut builder = TableBuilder::default();
        self.note_dots(&mut builder);
        let table = builder.finish();
        let mut to = Writer::new();
        table.encode(&mut to);
        self.encode(&table, &mut to);
        to.into_bytes()
    }

    /// Reads what [`Self::to_bytes`] wrote.
    ///
    /// # Errors
    ///
    /// If the bytes are not that.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut from = Reader::new(bytes);
        let table = Table::decode(&mut from)?;
        let document = Self::decode(&table, &mut from)?;
        from.finish()?;
        Ok(document)
    }

    /// Shows the builder of the table that this document will be encoded against the actors of its dots, each as often as
    /// it occurs in them.
    pub fn note_dots(&self, table: &mut TableBuilder) {
        // The actors of trimmed marks are among those of the vector.
        note_vector(&self.vector, table);
        for entry in self.leaves.iter().flat_map(|leaf| &leaf.entries) {
            component::note_entry(entry.dot, Some(&entry.content), table);
        }
    }

    /// Appends this document. `table` was built with its dots.
    pub fn encode(&self, table: &Table, to: &mut Writer) {
        to.byte(VERSION);
        encode_dots(self.vector.len(), self.vector.iter(), table, to);
        encode_dots(self.trimmed.len(), self.trimmed.iter(), table, to);
        to.varint(self.leaves.iter().count() as u64);
        let mut paths = Paths::new(to.len());
        for leaf in self.leaves.iter() {
            let entries = leaf.entries.iter().map(|entry| (entry.dot, Some(&entry.content)));
            let context = (table, &mut paths);
            component::encode((&leaf.path, leaf.kind), entries, Contents::Always, context, to);
        }
    }

    /// Reads a document.
    ///
    /// # Errors
    ///
    /// If the bytes run out, are not what [`Self::encode`] writes, or break an invariant of documents.
    pub fn decode(table: &Table, from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        from.version("document", VERSION)?;
        let vector: Vector = decode_dots("vector", table, from)?.into_iter().collect();
        let trimmed: Vector = decode_dots("trimmed marks", table, from)?.into_iter().collect();
        if !trimmed.leq(&vector) {
            return Err(from.invalid("trimmed marks"));
        }
        let count = from.count("components", LEAST_BYTES)?;
        let mut paths = Paths::new(from.offset_bytes());
        let mut leaves: Vec<Leaf> = with_room_for(count);
        for _ in 0..count {
            let leaf = decode_leaf(table, &mut paths, from)?;
            let ascends = leaves.last().is_none_or(|last| last.key() < leaf.key());
            if !ascends || !leaf.entries.iter().all(|entry| vector.seen(entry.dot)) {
                return Err(from.invalid("components"));
            }
            leaves.push(leaf);
        }
        let document = Self { vector, trimmed, leaves: Leaves::from_sorted(leaves) };
        if document.was_deleted() && document.leaves.iter().any(is_initial) {
            return Err(from.invalid("components"));
        }
        Ok(document)
    }
}

fn decode_leaf(
    table: &Table,
    paths: &mut Paths,
    from: &mut Reader<'_>,
) -> Result<Leaf, DecodeError> {
    let listed = component::decode(Contents::Always, (table, paths), from)?;
    let entry = |(dot, content)| Entry::new(dot, content);
    let entries: Option<Entries> = listed
        .entries
        .into_iter()
        .map(|listed| Some(entry((listed.dot, listed.content?))))
        .collect();
    Ok(Leaf::new(listed.path, listed.kind, entries.ok_or_else(|| from.invalid("components"))?))
}

fn is_initial(leaf: &Leaf) -> bool {
    leaf.kind != Kind::MARK && leaf.entries.iter().any(|entry| entry.dot.hlc == Hlc::INITIAL)
}

const VERSION: u8 = 1;
/// Header, and a path of two bytes at least.
const LEAST_BYTES: usize = 3;
