//! Leaves: the flat pieces that a document is made of.

use std::sync::Arc;

use smallvec::SmallVec;

use super::path::Path;
use crate::codec::{value_size_bytes, varint_size_bytes};
use crate::ident::Dot;
use crate::value::Value;

/// One component of one node: all entries of one kind under one path. Never without an entry.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Leaf {
    pub(crate) path: Path,
    pub(crate) kind: Kind,
    pub(crate) entries: Entries,
}

/// The entries of a component, by dot, each dot once: what no later write or removal has seen. Almost always one.
pub(crate) type Entries = SmallVec<[Entry; 1]>;

/// What a component is. The order is that of keys within one path; the numbers are on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Kind(pub(crate) u8);

impl Kind {
    /// Removals of everything at and below the path.
    pub(crate) const MARK: Self = Self(0);
    /// The node is a map, even without fields. At the root: the document was inserted.
    pub(crate) const MAP: Self = Self(1);
    /// A value replaced as a whole.
    pub(crate) const REGISTER: Self = Self(2);
    /// The token of a blob.
    pub(crate) const ATTACHMENT: Self = Self(3);
    /// A settable counter.
    pub(crate) const COUNTER: Self = Self(4);
    /// A counter that only adds up.
    pub(crate) const PN_COUNTER: Self = Self(5);
    /// The first number that this build does not know.
    pub(crate) const UNKNOWN_LEAST: u8 = 6;
    /// The greatest number that a kind can have.
    pub(crate) const NUMBER_MAX: u8 = 0x3F;

    /// Whether this is content of the node itself, other than being a map.
    pub(crate) fn is_own_content(self) -> bool {
        self != Self::MARK && self != Self::MAP
    }
}

/// One event that is still in force.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) dot: Dot,
    pub(crate) content: Content,
}

/// What an entry holds, by the kind of its component.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Content {
    /// `MARK`. `strict` only ever stands on a mark at the root.
    Removed { strict: bool },
    /// `MAP`.
    Present,
    /// `REGISTER` and `ATTACHMENT`.
    Held(Held),
    /// `COUNTER`: set to this number.
    Base(i64),
    /// `COUNTER`: all that the dot's actor has added since the setting `generation`, or since no setting.
    Sum { generation: Option<Box<Dot>>, amount: i64 },
    /// `PN_COUNTER`: all that the dot's actor has added.
    Total(Number),
    /// A kind that this build does not know: kept and relayed. Such content must not refer to an actor table.
    Opaque(Box<[u8]>),
}

/// A value that is cheap to copy whatever its size: editing one leaf copies its neighbours in the chunk.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Held {
    Scalar(Value),
    Shared(Arc<Value>),
}

impl Held {
    pub(crate) fn new(value: Value) -> Self {
        match value {
            Value::Bytes(_) | Value::Array(_) | Value::Object(_) => Self::Shared(Arc::new(value)),
            scalar => Self::Scalar(scalar),
        }
    }

    pub(crate) fn value(&self) -> &Value {
        match self {
            Self::Scalar(value) => value,
            Self::Shared(value) => value,
        }
    }
}

/// What a legacy counter adds up: integers as long as nobody adds a fraction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// A 64-bit integer.
    Int(i64),
    /// A finite double.
    Float(f64),
}

impl Number {
    /// The sum. Integers saturate, floats stay finite.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => Self::Int(a.saturating_add(b)),
            (a, b) => Self::Float((a.as_f64() + b.as_f64()).clamp(f64::MIN, f64::MAX)),
        }
    }

    /// As a value of a document.
    #[must_use]
    pub fn to_value(self) -> Value {
        match self {
            Self::Int(number) => Value::Int(number),
            Self::Float(number) => Value::Float(number),
        }
    }

    /// The integer, if it is one.
    #[must_use]
    pub const fn as_int(self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(number),
            Self::Float(_) => None,
        }
    }

    fn as_f64(self) -> f64 {
        match self {
            Self::Int(number) => number as f64,
            Self::Float(number) => number,
        }
    }
}

impl Leaf {
    pub(crate) fn new(path: Path, kind: Kind, entries: Entries) -> Self {
        debug_assert!(!entries.is_empty(), "a leaf holds at least one entry");
        Self { path, kind, entries }
    }

    /// What leaves are sorted by.
    pub(crate) fn key(&self) -> (&[u8], Kind) {
        (self.path.as_bytes(), self.kind)
    }

    /// The greatest entry: the one that readers see.
    pub(crate) fn latest(&self) -> &Entry {
        self.entries.last().expect("a leaf holds at least one entry")
    }

    /// What this leaf counts towards the size of its document: about what it takes when stored.
    pub(crate) fn size_bytes(&self) -> usize {
        LEAF_OVERHEAD_BYTES
            + self.path.as_bytes().len()
            + self.entries.iter().map(Entry::size_bytes).sum::<usize>()
    }
}

impl Entry {
    pub(crate) fn new(dot: Dot, content: Content) -> Self {
        Self { dot, content }
    }

    pub(crate) fn held(&self) -> Option<&Value> {
        match &self.content {
            Content::Held(held) => Some(held.value()),
            _ => None,
        }
    }

    fn size_bytes(&self) -> usize {
        let content = match &self.content {
            Content::Removed { .. } => 1,
            Content::Present => 0,
            Content::Held(held) => value_size_bytes(held.value()),
            Content::Base(_) | Content::Total(_) => 9,
            Content::Sum { generation, .. } => {
                9 + generation.as_ref().map_or(0, |_| DOT_SIZE_BYTES)
            }
            Content::Opaque(bytes) => varint_size_bytes(bytes.len() as u64) + bytes.len(),
        };
        DOT_SIZE_BYTES + content
    }
}

/// The entries with `entry` in place of all others.
pub(crate) fn only(entry: Entry) -> Entries {
    let mut entries = Entries::new();
    entries.push(entry);
    entries
}

/// Puts an entry where its dot belongs; the dot is not there yet.
pub(crate) fn insert_entry(entries: &mut Entries, entry: Entry) {
    let index = entries.partition_point(|have| have.dot < entry.dot);
    debug_assert!(entries.get(index).is_none_or(|have| have.dot != entry.dot), "each dot once");
    entries.insert(index, entry);
}

/// A dot against the record's actor table: an index and a clock that is mostly close to the default.
const DOT_SIZE_BYTES: usize = 4;
/// Kind, entry count and the lengths around the path.
const LEAF_OVERHEAD_BYTES: usize = 3;
