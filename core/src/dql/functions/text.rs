//! Functions on strings.

use super::{Argument, array, integer, length, string, value};
use crate::value::Value;

/// A null among the arguments is no string either, so it gives MISSING.
pub(super) fn concat(a: &[Argument<'_>]) -> Option<Value> {
    let parts = (0..a.len()).map(|index| string(a, index)).collect::<Option<Vec<&str>>>()?;
    Some(parts.concat().into())
}

pub(super) fn concat_makes(a: &[Argument<'_>]) -> usize {
    (0..a.len()).filter_map(|index| string(a, index)).map(str::len).sum()
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
    Some(parts.join(separator).into())
}

pub(super) fn joinstr_makes(a: &[Argument<'_>]) -> usize {
    let separator = string(a, 0).map_or(0, str::len);
    let of = |value: &Value| value.as_str().map_or(0, |text| text.len() + separator);
    let part = |index| match array(a, index) {
        Some(items) => items.iter().map(of).sum(),
        None => value(a, index).map_or(0, of),
    };
    (1..a.len()).map(part).sum()
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
    Some(text.repeat(count).into())
}

pub(super) fn repeat_makes(a: &[Argument<'_>]) -> usize {
    let count = integer(a, 1).and_then(|count| usize::try_from(count).ok()).unwrap_or(0);
    string(a, 0).map_or(0, |text| text.len().saturating_mul(count))
}

/// A text that is already longer stays as it is.
pub(super) fn pad(a: &[Argument<'_>], left: bool) -> Option<Value> {
    let text = string(a, 0)?;
    let wanted = usize::try_from(integer(a, 1)?).ok()?;
    let pad = string(a, 2)?;
    let (missing, each) = (wanted.saturating_sub(text.chars().count()), pad.chars().count());
    // Whole copies, then the beginning of one more: character by character a padding of 1 MB takes some 5 ms.
    let (whole, rest) =
        (missing.checked_div(each).unwrap_or(0), missing.checked_rem(each).unwrap_or(0));
    let begun = pad.char_indices().nth(rest).map_or(pad, |(end, _)| &pad[..end]);
    let copies = pad.repeat(whole);
    let padded = if left { [&copies, begun, text] } else { [text, &copies, begun] }.concat();
    Some(padded.into())
}

/// At most: the padding may begin with its shorter characters.
pub(super) fn pad_makes(a: &[Argument<'_>]) -> usize {
    let (text, pad) = (string(a, 0).unwrap_or(""), string(a, 2).unwrap_or(""));
    let wanted = integer(a, 1).and_then(|wanted| usize::try_from(wanted).ok()).unwrap_or(0);
    let missing = wanted.saturating_sub(text.chars().count());
    let widest = pad.chars().map(char::len_utf8).max().unwrap_or(0);
    missing.saturating_mul(widest).saturating_add(text.len())
}
