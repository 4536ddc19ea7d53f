//! What a statement sees of a document.

use std::borrow::Cow;

use crate::ident::DocId;
use crate::value::{Object, Value, json};

/// One document, read by path, so that a statement never waits for parts that it does not look at.
pub trait Row {
    /// The document's identity, which is also where it stands in an order that says nothing else.
    fn doc_id(&self) -> &DocId;

    /// The same as a value.
    fn id_value(&self) -> Cow<'_, Value> {
        Cow::Owned(self.doc_id().to_value())
    }

    /// The value at the end of a path of at least one step, none of them into `_id`; `None` is MISSING.
    fn get(&self, steps: &[Box<str>]) -> Option<Cow<'_, Value>>;

    /// All fields but `_id`.
    fn fields(&self) -> Cow<'_, Object>;

    /// Appends all fields but `_id` as JSON, each behind a comma.
    fn write_fields(&self, out: &mut Vec<u8>) {
        for (name, value) in self.fields().iter().filter(|(name, _)| *name != "_id") {
            out.push(b',');
            json::write_string(name, out);
            out.push(b':');
            json::write(value, out);
        }
    }

    /// About how many bytes the document takes as text: room that is made before it is written.
    fn size_hint_bytes(&self) -> usize {
        0
    }
}

/// A document in memory.
#[derive(Clone, Debug)]
pub struct ObjectRow {
    /// Its identity.
    pub id: DocId,
    /// Its fields; an `_id` among them is not looked at.
    pub fields: Object,
}

impl Row for ObjectRow {
    fn doc_id(&self) -> &DocId {
        &self.id
    }

    fn get(&self, steps: &[Box<str>]) -> Option<Cow<'_, Value>> {
        let (first, below) = steps.split_first()?;
        step_into(self.fields.get(first)?, below).map(Cow::Borrowed)
    }

    fn fields(&self) -> Cow<'_, Object> {
        Cow::Borrowed(&self.fields)
    }
}

/// What a path below a value leads to. A step into anything but an object leads nowhere.
pub(crate) fn step_into<'v>(value: &'v Value, steps: &[Box<str>]) -> Option<&'v Value> {
    steps.iter().try_fold(value, |value, step| value.as_object()?.get(step))
}

/// Any path of a row, `_id` among them.
pub(crate) fn path_of<'r>(row: &'r dyn Row, steps: &[Box<str>]) -> Option<Cow<'r, Value>> {
    let (first, below) = steps.split_first()?;
    if &**first != "_id" {
        return row.get(steps);
    }
    let id = row.id_value();
    if below.is_empty() {
        return Some(id);
    }
    step_into(&id, below).cloned().map(Cow::Owned)
}
