//! The documents of an INSERT.

use super::{ObjectMode, check_depth};
use crate::dql::ast::{self, Conflict, Expr, ExprKind, StatementKind, TypeDeclaration};
use crate::dql::bind::Bound;
use crate::dql::error::{DqlError, ErrorKind};
use crate::dql::eval::{Env, eval};
use crate::dql::meter::Meter;
use crate::ident::DocId;
use crate::value::{Object, Value, canonical};

/// An INSERT ready to be carried out.
#[derive(Clone, Debug)]
pub struct Insert {
    bound: Bound,
    mode: ObjectMode,
}

/// The documents of an INSERT, no two of one identity.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Documents {
    /// Their identities, in the order given.
    pub ids: Vec<DocId>,
    /// All their other fields, by ascending identity.
    pub fields: Vec<(DocId, Object)>,
}

impl Insert {
    /// `None` if the statement is not an INSERT.
    #[must_use]
    pub fn new(bound: Bound, mode: ObjectMode) -> Option<Self> {
        matches!(bound.statement().kind(), StatementKind::Insert(_)).then_some(Self { bound, mode })
    }

    /// The documents, once: those that were [planned](Bound::plan_insert), else they are found here. `fresh_id` makes
    /// an id for each that has none.
    ///
    /// # Errors
    ///
    /// `Execution` for what is no document, nests too deeply or has an id twice; `DocumentId` for an id that
    /// cannot be one. Then nothing may be written.
    pub fn documents(
        &mut self,
        fresh_id: &mut dyn FnMut() -> Value,
    ) -> Result<Documents, DqlError> {
        if let Some(planned) = self.bound.take_planned() {
            return planned;
        }
        find(&mut self.bound, fresh_id)
    }

    /// What happens when a live document has the id; means nothing for INITIAL documents.
    #[must_use]
    pub fn conflict(&self) -> Conflict {
        self.statement().conflict
    }

    /// Whether the documents are default data, older than anything.
    #[must_use]
    pub fn is_initial(&self) -> bool {
        self.statement().initial
    }

    /// The declared types of fields.
    #[must_use]
    pub fn types(&self) -> &[TypeDeclaration] {
        &self.statement().source.types
    }

    /// How objects are written that no declaration speaks of.
    #[must_use]
    pub fn mode(&self) -> ObjectMode {
        self.mode
    }

    fn statement(&self) -> &ast::Insert {
        match self.bound.statement().kind() {
            StatementKind::Insert(insert) => insert,
            _ => unreachable!("checked when this was made"),
        }
    }
}

/// The documents of a bound INSERT.
pub(in crate::dql) fn find(
    bound: &mut Bound,
    fresh_id: &mut dyn FnMut() -> Value,
) -> Result<Documents, DqlError> {
    let statement = bound.shared_statement();
    let StatementKind::Insert(insert) = statement.kind() else {
        unreachable!("only an INSERT has documents");
    };
    // Mostly one document, or an array of them, is all that is given, and then it is not copied.
    if let [Expr { kind: ExprKind::Parameter(index), .. }] = insert.documents[..]
        && let Some(value) = bound.take_parameter(index)
    {
        return documents_of([Some(value)], fresh_id);
    }
    let meter = Meter::default();
    meter.begin();
    let env = Env { meter: Some(&meter), ..bound.env() };
    let values: Vec<_> = insert.documents.iter().map(|expr| eval(expr, &env)).collect();
    meter.check()?;
    documents_of(values, fresh_id)
}

fn documents_of(
    values: impl IntoIterator<Item = Option<Value>>,
    fresh_id: &mut dyn FnMut() -> Value,
) -> Result<Documents, DqlError> {
    let mut documents = Documents::default();
    for value in values {
        let values = match value {
            Some(Value::Array(values)) => values,
            Some(value) => vec![value],
            None => return Err(not_a_document("nothing")),
        };
        documents.ids.reserve(values.len());
        documents.fields.reserve(values.len());
        for value in values {
            let (id, fields) = document(value, fresh_id)?;
            documents.ids.push(id.clone());
            documents.fields.push((id, fields));
        }
    }
    documents.fields.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    if documents.fields.windows(2).any(|pair| pair[0].0 == pair[1].0) {
        let message = "Expected unique document identifiers";
        return Err(DqlError::new(ErrorKind::Execution, message));
    }
    Ok(documents)
}

fn document(
    value: Value,
    fresh_id: &mut dyn FnMut() -> Value,
) -> Result<(DocId, Object), DqlError> {
    check_depth(&value, 0)?;
    let mut fields = match value {
        Value::Object(fields) => fields,
        other => return Err(not_a_document(other.type_name())),
    };
    let id = fields.remove("_id").unwrap_or_else(fresh_id);
    let id = canonical::encode_id(&id)
        .map_err(|error| DqlError::new(ErrorKind::DocumentId, error.to_string()))?;
    Ok((id, fields))
}

fn not_a_document(found: &str) -> DqlError {
    let message = format!("INSERT takes objects, or arrays of objects, found {found}");
    DqlError::new(ErrorKind::Execution, message)
}
