//! Which documents a statement has to look at: those whose ids its condition names, or all.

use std::collections::BTreeSet;

use super::ast::{BinaryOp, Expr, ExprKind, UseIds};
use super::bind::Bound;
use super::eval::{Env, eval};
use crate::ident::DocId;
use crate::value::{Value, canonical};

/// Where a statement finds its documents. The condition is applied to each of them in any case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// Only these documents can match, in ascending order, each once; not all of them need to exist.
    Ids(Vec<DocId>),
    /// Any document of the collection may match.
    Scan,
}

impl Bound {
    /// Where this statement finds its documents.
    #[must_use]
    pub fn access(&self) -> Access {
        let env = self.env();
        let listed = self.statement().source().ids.as_ref().map(|ids| listed_ids(ids, &env));
        let pinned = self.statement().filter().and_then(|filter| pinned_ids(filter, &env));
        match both(listed, pinned) {
            Some(ids) => Access::Ids(ids.into_iter().collect()),
            None => Access::Scan,
        }
    }
}

type Ids = BTreeSet<DocId>;

fn both(a: Option<Ids>, b: Option<Ids>) -> Option<Ids> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.intersection(&b).cloned().collect()),
        (a, b) => a.or(b),
    }
}

fn listed_ids(ids: &UseIds, env: &Env<'_>) -> Ids {
    match ids {
        UseIds::Each(exprs) => exprs.iter().filter_map(|expr| id_of(eval(expr, env)?)).collect(),
        UseIds::List(expr) => array_ids(eval(expr, env)),
    }
}

/// The ids to which a condition restricts its rows; `None` if it does not.
fn pinned_ids(condition: &Expr, env: &Env<'_>) -> Option<Ids> {
    match &condition.kind {
        ExprKind::And(terms) => terms.iter().map(|term| pinned_ids(term, env)).fold(None, both),
        ExprKind::Or(terms) => terms.iter().try_fold(Ids::new(), |mut all, term| {
            all.append(&mut pinned_ids(term, env)?);
            Some(all)
        }),
        ExprKind::Binary(BinaryOp::Equal, left, right) => {
            let value = match (is_id(left), is_id(right)) {
                (true, false) => constant(right, env)?,
                (false, true) => constant(left, env)?,
                _ => return None,
            };
            Some(value.and_then(id_of).into_iter().collect())
        }
        ExprKind::InList(left, list) if is_id(left) => list
            .iter()
            .map(|item| constant(item, env))
            .collect::<Option<Vec<_>>>()
            .map(|values| values.into_iter().flatten().filter_map(id_of).collect()),
        ExprKind::InArray(left, right) if is_id(left) => constant(right, env).map(array_ids),
        _ => None,
    }
}

fn is_id(expr: &Expr) -> bool {
    matches!(&expr.kind, ExprKind::Path(path) if path.len() == 1 && &*path[0] == "_id")
}

/// The value of what looks at no document: `None` if it does, `Some(None)` if it is MISSING.
fn constant(expr: &Expr, env: &Env<'_>) -> Option<Option<Value>> {
    expr.is_constant().then(|| eval(expr, env))
}

fn array_ids(value: Option<Value>) -> Ids {
    match value {
        Some(Value::Array(items)) => items.into_iter().filter_map(id_of).collect(),
        _ => Ids::new(),
    }
}

/// The one id that equals this value; `None` if no id does. `1.0` equals the id `1`.
fn id_of(value: Value) -> Option<DocId> {
    canonical::encode_id(&integral(value)).ok()
}

fn integral(value: Value) -> Value {
    match value {
        Value::Float(number) => {
            if number.fract() != 0.0 {
                return Value::Float(number);
            }
            // Outside of these bounds no integer is equal, and a float in an id is refused in the end.
            match number {
                -9_223_372_036_854_775_808.0..0.0 => Value::Int(number as i64),
                0.0..18_446_744_073_709_551_616.0 => Value::from(number as u64),
                _ => Value::Float(number),
            }
        }
        Value::Array(items) => Value::Array(items.into_iter().map(integral).collect()),
        Value::Object(object) => {
            Value::Object(object.into_iter().map(|(name, value)| (name, integral(value))).collect())
        }
        other => other,
    }
}
