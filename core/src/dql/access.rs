//! Which documents a statement has to look at: those whose ids its condition names, or all.

use std::borrow::Cow;

use super::ast::{BinaryOp, Expr, ExprKind, Statement, UseIds};
use super::eval::{Env, value_of};
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

impl Access {
    /// Where a statement finds its documents, as far as its text and its arguments tell.
    pub(super) fn of(statement: &Statement, env: &Env<'_>) -> Self {
        let listed = statement.source().ids.as_ref().map(|ids| listed_ids(ids, env));
        let pinned = statement.filter().and_then(|filter| pinned_ids(filter, env));
        both(listed, pinned).map_or(Self::Scan, Self::Ids)
    }
}

/// In ascending order, each once.
type Ids = Vec<DocId>;

fn sorted(mut ids: Ids) -> Ids {
    ids.sort_unstable();
    ids.dedup();
    ids
}

fn both(a: Option<Ids>, b: Option<Ids>) -> Option<Ids> {
    match (a, b) {
        (Some(mut a), Some(b)) => {
            a.retain(|id| b.binary_search(id).is_ok());
            Some(a)
        }
        (a, b) => a.or(b),
    }
}

fn listed_ids(ids: &UseIds, env: &Env<'_>) -> Ids {
    match ids {
        UseIds::Each(exprs) => {
            sorted(exprs.iter().filter_map(|expr| id_of(&*value_of(expr, env)?)).collect())
        }
        UseIds::List(expr) => array_ids(value_of(expr, env).as_deref()),
    }
}

/// The ids to which a condition restricts its rows; `None` if it does not.
fn pinned_ids(condition: &Expr, env: &Env<'_>) -> Option<Ids> {
    match &condition.kind {
        ExprKind::And(terms) => terms.iter().map(|term| pinned_ids(term, env)).fold(None, both),
        ExprKind::Or(terms) => {
            let all: Option<Vec<Ids>> = terms.iter().map(|term| pinned_ids(term, env)).collect();
            all.map(|all| sorted(all.concat()))
        }
        ExprKind::Binary(BinaryOp::Equal, left, right) => {
            let value = match (is_id(left), is_id(right)) {
                (true, false) => constant(right, env)?,
                (false, true) => constant(left, env)?,
                _ => return None,
            };
            Some(value.as_deref().and_then(id_of).into_iter().collect())
        }
        ExprKind::InList(left, list, _) if is_id(left) => {
            list.iter().map(|item| constant(item, env)).collect::<Option<Vec<_>>>().map(|values| {
                sorted(values.iter().filter_map(|value| id_of(value.as_ref()?)).collect())
            })
        }
        ExprKind::InArray(left, right, _) if is_id(left) => {
            constant(right, env).map(|items| array_ids(items.as_deref()))
        }
        _ => None,
    }
}

fn is_id(expr: &Expr) -> bool {
    matches!(&expr.kind, ExprKind::Path(path) if path.len() == 1 && &*path[0] == "_id")
}

/// The value of what looks at no document: `None` if it does, `Some(None)` if it is MISSING.
fn constant<'a>(expr: &'a Expr, env: &Env<'a>) -> Option<Option<Cow<'a, Value>>> {
    expr.is_constant().then(|| value_of(expr, env))
}

fn array_ids(value: Option<&Value>) -> Ids {
    match value {
        Some(Value::Array(items)) => sorted(items.iter().filter_map(id_of).collect()),
        _ => Ids::new(),
    }
}

/// The one id that equals this value; `None` if no id does. `1.0` equals the id `1`.
fn id_of(value: &Value) -> Option<DocId> {
    match value {
        Value::String(text) => canonical::encode_text_id(text),
        value => canonical::encode_id(&integral(value.clone())),
    }
    .ok()
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
