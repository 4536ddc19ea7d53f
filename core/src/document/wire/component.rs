//! Components with their entries.

use smallvec::SmallVec;

use super::Paths;
use crate::codec::{DecodeError, Reader, Table, TableBuilder, Writer, decode_value, encode_value};
use crate::document::delta::{Listed, ListedEntry};
use crate::document::leaf::{Held, Number};
use crate::document::{Content, Kind, Path};
use crate::ident::Dot;
use crate::value::Value;

/// Whether entries may come without their content.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Contents {
    Always,
    Optional,
}

pub(super) fn note_entry(dot: Dot, content: Option<&Content>, table: &mut TableBuilder) {
    table.note(dot);
    if let Some(Content::Sum { generation: Some(generation), .. }) = content {
        table.note(**generation);
    }
}

/// Appends a component, given as entries so that documents need not copy theirs.
pub(super) fn encode<'a>(
    (path, kind): (&Path, Kind),
    entries: impl ExactSizeIterator<Item = (Dot, Option<&'a Content>)> + Clone,
    contents: Contents,
    (table, paths): (&Table, &mut Paths),
    to: &mut Writer,
) {
    let first = entries.clone().next();
    let plain =
        |(dot, content): (Dot, Option<&Content>)| dot == table.default_dot() && content.is_some();
    if entries.len() == 1 && first.is_some_and(plain) {
        to.byte(kind.0 | PLAIN);
        paths.encode(path, to);
        let content = first.and_then(|(_, content)| content);
        return encode_content(content.expect("a plain entry has content"), table, to);
    }
    to.byte(kind.0);
    paths.encode(path, to);
    to.varint(entries.len() as u64);
    for (dot, content) in entries {
        table.encode_dot(dot, to);
        if contents == Contents::Optional {
            to.byte(u8::from(content.is_some()));
        }
        content.iter().for_each(|content| encode_content(content, table, to));
    }
}

/// Reads a component: at least one entry, entries by dot.
pub(super) fn decode(
    contents: Contents,
    (table, paths): (&Table, &mut Paths),
    from: &mut Reader<'_>,
) -> Result<Listed, DecodeError> {
    let header = from.byte(FIELD)?;
    let kind = Kind(header & !PLAIN);
    let path = paths.decode(from)?;
    if kind.0 > Kind::NUMBER_MAX || (path.is_root() && kind.is_own_content()) {
        return Err(from.invalid(FIELD));
    }
    let mut entries: SmallVec<[ListedEntry; 1]> = SmallVec::new();
    if header & PLAIN != 0 {
        let dot = table.decode_dot(&mut Reader::new(&[0]))?;
        let content = Some(decode_content(kind, table, from)?);
        entries.push(ListedEntry { dot, content });
        return Ok(Listed { path, kind, entries });
    }
    let count = from.count(FIELD, 1)?;
    if count == 0 {
        return Err(from.invalid(FIELD));
    }
    for _ in 0..count {
        let dot = table.decode_dot(from)?;
        if entries.last().is_some_and(|last| last.dot >= dot) {
            return Err(from.invalid(FIELD));
        }
        let has_content = match contents {
            Contents::Always => true,
            Contents::Optional => decode_bool(from)?,
        };
        let content = if has_content { Some(decode_content(kind, table, from)?) } else { None };
        entries.push(ListedEntry { dot, content });
    }
    let plain =
        entries.len() == 1 && entries[0].dot == table.default_dot() && entries[0].content.is_some();
    if plain {
        return Err(from.invalid(FIELD));
    }
    Ok(Listed { path, kind, entries })
}

pub(super) fn encode_number(number: Number, to: &mut Writer) {
    encode_value(&number.to_value(), to);
}

pub(super) fn decode_number(from: &mut Reader<'_>) -> Result<Number, DecodeError> {
    match decode_value(from)? {
        Value::Int(number) => Ok(Number::Int(number)),
        Value::Float(number) => Ok(Number::Float(number)),
        _ => Err(from.invalid("number")),
    }
}

fn encode_content(content: &Content, table: &Table, to: &mut Writer) {
    match content {
        Content::Removed { strict } => to.byte(u8::from(*strict)),
        Content::Present => {}
        Content::Held(held) => encode_value(held.value(), to),
        Content::Base(base) => {
            to.byte(COUNTER_BASE);
            to.signed(*base);
        }
        Content::Sum { generation: None, amount } => {
            to.byte(COUNTER_SUM);
            to.signed(*amount);
        }
        Content::Sum { generation: Some(generation), amount } => {
            to.byte(COUNTER_SUM_OF);
            table.encode_dot(**generation, to);
            to.signed(*amount);
        }
        Content::Total(total) => encode_number(*total, to),
        Content::Opaque(bytes) => to.bytes(bytes),
    }
}

fn decode_content(
    kind: Kind,
    table: &Table,
    from: &mut Reader<'_>,
) -> Result<Content, DecodeError> {
    Ok(match kind {
        Kind::MARK => Content::Removed { strict: decode_bool(from)? },
        Kind::MAP => Content::Present,
        Kind::REGISTER | Kind::ATTACHMENT => Content::Held(Held::new(decode_value(from)?)),
        Kind::COUNTER => match from.byte(FIELD)? {
            COUNTER_BASE => Content::Base(from.signed(FIELD)?),
            COUNTER_SUM => Content::Sum { generation: None, amount: from.signed(FIELD)? },
            COUNTER_SUM_OF => {
                let generation = Some(Box::new(table.decode_dot(from)?));
                Content::Sum { generation, amount: from.signed(FIELD)? }
            }
            _ => return Err(from.invalid(FIELD)),
        },
        Kind::PN_COUNTER => Content::Total(decode_number(from)?),
        _ => Content::Opaque(from.bytes(FIELD)?.into()),
    })
}

fn decode_bool(from: &mut Reader<'_>) -> Result<bool, DecodeError> {
    match from.byte(FIELD)? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(from.invalid(FIELD)),
    }
}

const FIELD: &str = "component";
/// One entry, of the default dot, with content.
const PLAIN: u8 = 0x80;
const COUNTER_BASE: u8 = 0;
const COUNTER_SUM: u8 = 1;
const COUNTER_SUM_OF: u8 = 2;

const _: () = assert!(Kind::NUMBER_MAX & PLAIN == 0, "kind and flag share a byte");
