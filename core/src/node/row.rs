//! Between documents and the query language.

use std::borrow::Cow;
use std::cell::OnceCell;

use crate::document::{Declared, Document, Edit, EditError, Fields, Number, Objects, Path};
use crate::dql::ast::{DeclaredType, TypeDeclaration};
use crate::dql::{FieldOp, ObjectMode, Row};
use crate::ident::DocId;
use crate::value::{Object, Value};

/// A stored document, read by path.
#[derive(Clone, Debug)]
pub(crate) struct StoredRow<'a> {
    id: &'a DocId,
    /// Made when it is first asked for: the condition of a point read looks at it, and so does the answer.
    id_value: OnceCell<Value>,
    document: &'a Document,
}

impl<'a> StoredRow<'a> {
    pub(crate) fn new(id: &'a DocId, document: &'a Document) -> Self {
        Self { id, id_value: OnceCell::new(), document }
    }
}

impl Row for StoredRow<'_> {
    fn doc_id(&self) -> &DocId {
        self.id
    }

    fn id_value(&self) -> Cow<'_, Value> {
        Cow::Borrowed(self.id_value.get_or_init(|| self.id.to_value()))
    }

    fn get(&self, steps: &[Box<str>]) -> Option<Cow<'_, Value>> {
        let path = Path::from_steps(steps).ok()?;
        self.document.get(&path).map(Cow::Owned)
    }

    fn fields(&self) -> Cow<'_, Object> {
        Cow::Owned(self.document.to_object())
    }

    fn write_fields(&self, out: &mut Vec<u8>) {
        self.document.write_fields(out);
    }

    fn size_hint_bytes(&self) -> usize {
        self.document.size_bytes() + self.id.as_bytes().len()
    }
}

/// Carries out one change of an UPDATE.
pub(crate) fn apply_field_op(edit: &mut Edit, op: &FieldOp) -> Result<(), EditError> {
    match op {
        FieldOp::Set { path, value, declared } => {
            let declared = declared.as_ref().map(declared_of);
            edit.assign(&path_of(path)?, value, declared.as_ref())
        }
        FieldOp::Unset { path } => edit.unset(&path_of(path)?),
        FieldOp::Increment { path, by } => edit.increment(&path_of(path)?, *by),
        FieldOp::Restart { path, to } => edit.restart(&path_of(path)?, *to),
        FieldOp::PnIncrement { path, by } => edit.pn_increment(&path_of(path)?, number(*by)),
    }
}

pub(crate) fn objects_of(mode: ObjectMode) -> Objects {
    match mode {
        ObjectMode::Map => Objects::AsMaps,
        ObjectMode::Register => Objects::AsRegisters,
    }
}

pub(crate) fn fields_of(types: &[TypeDeclaration]) -> Fields {
    types.iter().map(|field| (field.name.clone(), declared_of(&field.declared))).collect()
}

fn declared_of(declared: &DeclaredType) -> Declared {
    match declared {
        DeclaredType::Register => Declared::Register,
        DeclaredType::Map(fields) => Declared::Map(fields_of(fields)),
        DeclaredType::Counter => Declared::Counter,
        DeclaredType::PnCounter => Declared::PnCounter,
        DeclaredType::Attachment => Declared::Attachment,
    }
}

fn path_of(steps: &[Box<str>]) -> Result<Path, EditError> {
    Ok(Path::from_steps(steps)?)
}

/// Whole summands stay integers: a counter that was only ever stepped by whole numbers shows one.
fn number(by: f64) -> Number {
    if by.fract() == 0.0 && by.abs() < 9_007_199_254_740_992.0 {
        Number::Int(by as i64)
    } else {
        Number::Float(by)
    }
}
