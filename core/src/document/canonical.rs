//! The projection by which two documents are compared.

use super::{Content, Document, Kind, Vector};
use crate::codec::{Writer, encode_value};
use crate::ident::Dot;

impl Document {
    /// Everything about this document that peers must agree on once they have seen the same: vector, live entries,
    /// removals. Equal documents have equal bytes. For checkers; nothing reads it back.
    ///
    /// Peers that trimmed their marks differently, or went through a tombstone, differ in marks: compare those by
    /// [`Self::canonical_bytes_without`] both their trimmed vectors.
    #[must_use]
    pub fn canonical_bytes(&self) -> Vec<u8> {
        self.canonical_bytes_without(&Vector::new())
    }

    /// As [`Self::canonical_bytes`], without the marks that `trimmed` covers.
    #[must_use]
    pub fn canonical_bytes_without(&self, trimmed: &Vector) -> Vec<u8> {
        let mut to = Writer::new();
        to.byte(VERSION);
        to.varint(self.vector.len() as u64);
        self.vector.iter().for_each(|dot| write_dot(dot, &mut to));
        for leaf in self.leaves.iter() {
            let kept = |dot: Dot| leaf.kind != Kind::MARK || !trimmed.seen(dot);
            for entry in leaf.entries.iter().filter(|entry| kept(entry.dot)) {
                to.bytes(leaf.path.as_bytes());
                to.byte(leaf.kind.0);
                write_dot(entry.dot, &mut to);
                write_content(&entry.content, &mut to);
            }
        }
        to.into_bytes()
    }

    /// What was trimmed of this document's marks; see [`Self::canonical_bytes`].
    #[must_use]
    pub const fn trimmed(&self) -> &Vector {
        &self.trimmed
    }
}

fn write_dot(dot: Dot, to: &mut Writer) {
    to.raw(&dot.actor.0);
    to.raw(&dot.hlc.0.to_le_bytes());
}

fn write_content(content: &Content, to: &mut Writer) {
    match content {
        Content::Removed { strict } => to.byte(u8::from(*strict)),
        Content::Present => {}
        Content::Held(held) => encode_value(held.value(), to),
        Content::Base(base) => {
            to.byte(0);
            to.signed(*base);
        }
        Content::Sum { generation, amount } => {
            to.byte(1);
            to.byte(u8::from(generation.is_some()));
            generation.iter().for_each(|dot| write_dot(**dot, to));
            to.signed(*amount);
        }
        Content::Total(number) => encode_value(&number.to_value(), to),
        Content::Opaque(bytes) => to.bytes(bytes),
    }
}

const VERSION: u8 = 1;
