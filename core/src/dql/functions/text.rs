//! Functions on strings.

use super::{Argument, array, integer, length, string, value};
use crate::value::Value;

/// The longest string that an expression makes; a longer one would be MISSING.
pub(crate) const STRING_BYTES_MAX: usize = 8 << 20;

/// A null among the arguments is no string either, so it gives MISSING.
pub(super) fn concat(a: &[Argument<'_>]) -> Option<Value> {
    let parts = (0..a.len()).map(|index| string(a, index)).collect::<Option<Vec<&str>>>()?;
    let made = parts.iter().map(|part| part.len()).sum::<usize>();
    (made <= STRING_BYTES_MAX).then(|| parts.concat().into())
}

/// The separator, then strings; arrays of strings among them are spread.
pub(super) fn joinstr(a: &[Argument<'_>]) -> Option<Value> {
    let separator = string(a, 0)?;
    let mut parts = Vec::new();
    for index in 1..a.len() {
        match array(a, index) {
            Some(items) => {
                for item in items {
                    parts.push(item.as_str()?);
                }
            }
            None => parts.push(string(a, index)?),
        }
    }
    let made = parts.iter().map(|part| part.len() + separator.len()).sum::<usize>();
    (made <= STRING_BYTES_MAX).then(|| parts.join(separator).into())
}

/// The place of the second argument in the first, in characters from 0; -1 if it is not there.
pub(super) fn position(a: &[Argument<'_>]) -> Option<Value> {
    let text = string(a, 0)?;
    match text.find(string(a, 1)?) {
        Some(offset) => length(text[..offset].chars().count()),
        None => Some(Value::Int(-1)),
    }
}

/// A start below zero gives MISSING; what reaches beyond the end is cut.
pub(super) fn substr(a: &[Argument<'_>]) -> Option<Value> {
    let start = usize::try_from(integer(a, 1)?).ok()?;
    let count = match value(a, 2) {
        Some(_) => usize::try_from(integer(a, 2)?).ok()?,
        None => usize::MAX,
    };
    Some(string(a, 0)?.chars().skip(start).take(count).collect::<String>().into())
}

/// An empty delimiter does not split.
pub(super) fn split(a: &[Argument<'_>]) -> Option<Value> {
    let (text, delimiter) = (string(a, 0)?, string(a, 1)?);
    if delimiter.is_empty() {
        return Some(Value::Array(vec![text.into()]));
    }
    Some(Value::Array(text.split(delimiter).map(Value::from).collect()))
}

pub(super) fn repeat(a: &[Argument<'_>]) -> Option<Value> {
    let text = string(a, 0)?;
    let count = usize::try_from(integer(a, 1)?).ok()?;
    let made = text.len().checked_mul(count)?;
    (made <= STRING_BYTES_MAX).then(|| text.repeat(count).into())
}

/// A text that is already longer stays as it is.
pub(super) fn pad(a: &[Argument<'_>], left: bool) -> Option<Value> {
    let text = string(a, 0)?;
    let wanted = usize::try_from(integer(a, 1)?).ok()?;
    let pad = string(a, 2)?;
    if wanted > STRING_BYTES_MAX {
        return None;
    }
    let padding: String =
        pad.chars().cycle().take(wanted.saturating_sub(text.chars().count())).collect();
    let padded = if left { format!("{padding}{text}") } else { format!("{text}{padding}") };
    Some(padded.into())
}
