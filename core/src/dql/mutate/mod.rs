//! What INSERT and UPDATE want written. Nothing here looks at what is stored but the row that is being changed.

mod insert;
mod update;

pub(super) use insert::find;
pub use insert::{Documents, Insert};
pub use update::{FieldOp, Update};

use super::ast::{DeclaredType, TypeDeclaration};
use super::error::{DqlError, ErrorKind};
use crate::value::{self, Value};

/// How an object is written whose field no declaration speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectMode {
    /// As a map: each name is a field with a history of its own (`DQL_STRICT_MODE = false`).
    Map,
    /// As one register, and nothing but registers is inferred (`DQL_STRICT_MODE = true`).
    Register,
}

/// The declared type of the field at a path; `None` if nothing is declared there.
fn declared_at<'a>(types: &'a [TypeDeclaration], path: &[Box<str>]) -> Option<&'a DeclaredType> {
    let (first, below) = path.split_first()?;
    let declared = &types.iter().rfind(|declaration| declaration.name == *first)?.declared;
    match declared {
        _ if below.is_empty() => Some(declared),
        DeclaredType::Map(fields) => declared_at(fields, below),
        _ => None,
    }
}

/// An expression may nest what it was given once more, so what it makes is measured before it is stored so many
/// levels below the top of a document.
fn check_depth(value: &Value, above: usize) -> Result<(), DqlError> {
    if !is_deeper(value, value::DEPTH_MAX - above) {
        return Ok(());
    }
    let message = format!("a document nests at most {} levels deep", value::DEPTH_MAX);
    Err(DqlError::new(ErrorKind::Execution, message))
}

fn is_deeper(value: &Value, levels: usize) -> bool {
    let below = |value: &Value| levels == 0 || is_deeper(value, levels - 1);
    match value {
        Value::Array(items) => levels == 0 || items.iter().any(below),
        Value::Object(object) => levels == 0 || object.iter().any(|(_, value)| below(value)),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
