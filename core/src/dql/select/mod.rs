//! A query over many partitions: one machine in each takes in rows, one over all of them gives out the result.
//!
//! What passes between them, [`PartOut`], is plain data. The result is the same however the documents are spread:
//! rows come sorted by the sort keys and then by document id, of equal values that of the least id stands, and
//! sums do not round before the end.

mod merge;
mod partition;

use std::cmp::Ordering;

use super::aggregate::{Partial, size_of_value};
use super::ast::{Expr, Item, Order, Path, Projection};
use super::error::{DqlError, ErrorKind};
use super::eval::{Env, eval};
use super::row::Row;
use crate::ident::DocId;
use crate::value::{Object, Value, json};

pub use merge::MergeSelect;
pub use partition::PartitionSelect;

/// What one machine of a statement may hold in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// About how many bytes of rows and groups a machine holds at once, beyond which the statement fails.
    pub held_bytes_max: usize,
}

impl Limits {
    /// For the machine of one of so many partitions: together they hold half of what the statement may.
    #[must_use]
    pub fn of_partition(partitions: usize) -> Self {
        Self { held_bytes_max: STATEMENT_HELD_BYTES_MAX / 2 / partitions.max(1) }
    }
}

impl Default for Limits {
    /// For the machine that joins what the partitions contribute: the other half.
    fn default() -> Self {
        Self { held_bytes_max: STATEMENT_HELD_BYTES_MAX / 2 }
    }
}

/// About how many bytes of rows and groups a statement holds at once, in all partitions and at its coordinator.
pub const STATEMENT_HELD_BYTES_MAX: usize = 256 << 20;

/// What one partition contributes, or a part of it.
#[derive(Clone, Debug, Default)]
pub struct PartOut {
    /// Result rows, in the order of the result.
    pub rows: Vec<OutRow>,
    /// For a statement that groups: what the partition knows of each group.
    pub groups: Vec<PartGroup>,
    /// Nothing more follows from this partition.
    pub last: bool,
}

/// One row of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutRow {
    /// What it is sorted by, most significant first.
    pub keys: Vec<SortKey>,
    /// The document it was made of; of a group the least one.
    pub id: DocId,
    /// The row as JSON. Empty for statements that only choose documents.
    pub json: Vec<u8>,
    /// The row as a value, where it has to be told from others: `SELECT DISTINCT`.
    pub distinct: Option<Value>,
}

/// One value to sort by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SortKey {
    /// `None` is MISSING, which ascending comes last.
    pub value: Option<Value>,
    /// Reverses the order.
    pub descending: bool,
}

/// What one partition knows of a group.
#[derive(Clone, Debug)]
pub struct PartGroup {
    /// The values of the grouping expressions in the document `id`.
    pub key: Vec<Option<Value>>,
    /// The least document of the group in this partition.
    pub id: DocId,
    /// One for each aggregate of the statement.
    pub partials: Vec<Partial>,
}

impl PartialOrd for OutRow {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for OutRow {
    /// By the sort keys, then by document.
    fn cmp(&self, other: &Self) -> Ordering {
        compare_keys(&self.keys, &other.keys).then_with(|| self.id.cmp(&other.id))
    }
}

fn compare_keys(a: &[SortKey], b: &[SortKey]) -> Ordering {
    let orders = a.iter().zip(b).map(|(a, b)| {
        let order = Value::cmp_option(a.value.as_ref(), b.value.as_ref());
        if a.descending { order.reverse() } else { order }
    });
    orders.into_iter().find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
}

impl OutRow {
    /// About how many bytes it takes.
    fn size(&self) -> usize {
        let keys: usize =
            self.keys.iter().filter_map(|key| key.value.as_ref()).map(size_of_value).sum();
        let distinct = self.distinct.as_ref().map_or(0, size_of_value);
        let sorted = self.keys.len() * size_of::<SortKey>();
        size_of::<Self>() + sorted + keys + self.id.as_bytes().len() + self.json.len() + distinct
    }
}

/// Evaluates expressions but for those that have their values; false once that is paused.
fn evaluate<'e>(
    values: &mut Vec<Option<Value>>,
    exprs: impl Iterator<Item = Option<&'e Expr>>,
    env: &Env<'_>,
) -> bool {
    for expr in exprs.skip(values.len()) {
        let value = expr.and_then(|expr| eval(expr, env));
        if env.is_paused() {
            return false;
        }
        values.push(value);
    }
    true
}

/// The sort keys, of their values.
fn sort_keys(order: &[Order], values: Vec<Option<Value>>) -> Vec<SortKey> {
    let key = |(order, value): (&Order, _)| SortKey { value, descending: order.descending };
    order.iter().zip(values).map(key).collect()
}

/// The row that a projection makes. A later item of a name replaces an earlier one.
fn row_object(items: &[Item], values: Vec<Option<Value>>, row: Option<&dyn Row>) -> Object {
    let mut object = Object::new();
    for (item, value) in items.iter().zip(values) {
        match item {
            Item::AllFields => {
                for (name, value) in row.iter().flat_map(|row| row.fields().into_owned()) {
                    object.insert(name, value);
                }
                if let Some(row) = row {
                    object.insert("_id", row.id_value().into_owned());
                }
            }
            Item::Drop(path) => drop_path(&mut object, path),
            Item::Named(name, _) => match value {
                Some(value) => _ = object.insert(name.clone(), value),
                None => _ = object.remove(name),
            },
        }
    }
    object
}

fn drop_path(object: &mut Object, path: &Path) {
    let Some((last, above)) = path.split_last() else { return };
    let mut holder = Some(object);
    for step in above {
        holder = holder.and_then(|object| object.get_mut(step)).and_then(Value::as_object_mut);
    }
    if let Some(object) = holder {
        object.remove(last);
    }
}

/// A row of computed items as JSON, `_id` first.
fn row_json(object: &Object) -> Vec<u8> {
    let mut text = Vec::new();
    match object.get("_id") {
        Some(id) => json::write_document(id, object, &mut text),
        None => write_object(object, &mut text),
    }
    text
}

fn write_object(object: &Object, text: &mut Vec<u8>) {
    text.push(b'{');
    for (index, (name, value)) in object.iter().enumerate() {
        if index > 0 {
            text.push(b',');
        }
        json::write_string(name, text);
        text.push(b':');
        json::write(value, text);
    }
    text.push(b'}');
}

/// A whole document as JSON.
fn document_json(row: &dyn Row) -> Vec<u8> {
    let mut text = Vec::with_capacity(row.size_hint_bytes().min(ROOM_BYTES_MAX));
    text.extend_from_slice(b"{\"_id\":");
    json::write(&row.id_value(), &mut text);
    row.write_fields(&mut text);
    text.push(b'}');
    // What is held is counted by length. A document may have much that no reader sees.
    if text.capacity() > 2 * text.len() {
        text.shrink_to_fit();
    }
    text
}

/// The most room that is made for a row before it is written. Beyond, growing costs little beside the writing.
const ROOM_BYTES_MAX: usize = 4 << 10;

/// Whether rows have to be told apart. Whole documents differ in any case, by their ids.
fn is_distinct(distinct: bool, projection: &Projection) -> bool {
    distinct && matches!(projection, Projection::Items(_))
}

/// Counts what a machine holds.
#[derive(Debug)]
struct Held {
    bytes: usize,
    limits: Limits,
}

impl Held {
    fn new(limits: Limits) -> Self {
        Self { bytes: 0, limits }
    }

    fn add(&mut self, bytes: usize) -> Result<(), DqlError> {
        self.bytes += bytes;
        let limit = self.limits.held_bytes_max;
        if self.bytes <= limit {
            return Ok(());
        }
        let message = format!(
            "the statement holds more than {limit} bytes in one place: use LIMIT or a narrower WHERE"
        );
        Err(DqlError::new(ErrorKind::Execution, message))
    }

    fn remove(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

#[cfg(test)]
mod tests;
