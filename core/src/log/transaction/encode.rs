//! Writing a record, some operations at a time: one of a hundred thousand documents takes tens of milliseconds.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use super::{Op, Origin, Transaction, VERSION, encode_slots};
use crate::codec::{Table, TableBuilder, Writer};
use crate::ident::Slot;

/// The encoding of one transaction. It goes over the operations twice: what all of them mention stands in front.
#[derive(Debug)]
pub struct Encoder {
    /// None for a record that every partition takes notice of.
    slots: Option<SmallVec<[Slot; 8]>>,
    collections: BTreeSet<Arc<str>>,
    dots: TableBuilder,
    /// Present once all operations have been noted.
    record: Option<Record>,
    /// The operation that is next.
    next: usize,
}

/// A record up to the operation that is next.
#[derive(Debug)]
struct Record {
    collections: Vec<Arc<str>>,
    table: Table,
    to: Writer,
}

impl Encoder {
    /// Of a transaction that concerns the owners of what it is about.
    #[must_use]
    pub fn new() -> Self {
        Self {
            slots: Some(SmallVec::new()),
            collections: BTreeSet::new(),
            dots: TableBuilder::default(),
            record: None,
            next: 0,
        }
    }

    /// Of a transaction that every partition takes notice of, whoever owns its documents.
    #[must_use]
    pub fn for_everyone() -> Self {
        Self { slots: None, ..Self::new() }
    }

    /// Takes up to so many operations further; the record, once it is whole. Each call is about the same transaction.
    pub fn work(&mut self, of: &Transaction, ops_max: usize) -> Option<Bytes> {
        let mut left = ops_max;
        while left > 0 {
            left -= 1;
            match (&mut self.record, of.ops.get(self.next)) {
                (None, Some(op)) => self.note(of, op),
                (None, None) => {
                    self.record = Some(self.begin(of));
                    self.next = 0;
                    continue;
                }
                (Some(record), Some(op)) => {
                    op.encode(&record.collections, &record.table, &mut record.to);
                }
                (Some(record), None) => {
                    return Some(std::mem::take(&mut record.to).into_bytes().into());
                }
            }
            self.next += 1;
        }
        None
    }

    fn note(&mut self, of: &Transaction, op: &Op) {
        if let Some(slots) = &mut self.slots {
            match op.slot(of.app) {
                Some(slot) => slots.push(slot),
                // One operation that concerns everybody is enough.
                None => self.slots = None,
            }
        }
        if let Some(collection) = op.collection()
            && !self.collections.contains(collection)
        {
            self.collections.insert(collection.clone());
        }
        if let Op::Merge { delta, .. } = op {
            delta.note_dots(&mut self.dots);
        }
    }

    /// The record up to its operations.
    fn begin(&mut self, of: &Transaction) -> Record {
        let mut to = Writer::with_capacity(RECORD_BYTES_EXPECTED);
        to.byte(VERSION);
        encode_slots(self.slots.take(), &mut to);
        to.raw(&of.id.0.0);
        to.raw(&of.app.0.0);
        to.varint(of.wall.0);
        match &of.origin {
            Origin::Http => to.byte(0),
            Origin::Peer { key, home } => {
                to.byte(1);
                to.raw(&key.0);
                to.varint(u64::from(home.0));
            }
            Origin::System => to.byte(2),
        }
        let collections: Vec<_> = std::mem::take(&mut self.collections).into_iter().collect();
        to.varint(collections.len() as u64);
        collections.iter().for_each(|name| to.bytes(name.as_bytes()));
        let table = std::mem::take(&mut self.dots).finish();
        table.encode(&mut to);
        to.varint(of.ops.len() as u64);
        Record { collections, table, to }
    }
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

/// The room that most records fit in: a document of a dozen fields.
const RECORD_BYTES_EXPECTED: usize = 512;
