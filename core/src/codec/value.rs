//! The compact tagged encoding of a [`Value`].
//!
//! ```text
//! 00 null   01 false   02 true   03 int: zigzag varint   04 uint: varint of (value − 2^63)
//! 05 float: 8 bytes, little-endian   06 bytes: length, bytes   07 text: length, UTF-8
//! 08 array: count, values   09 object: count, (length, name, value) by ascending names
//! 80..BF int 0..63   C0..FF text of 0..63 bytes
//! ```
//! Each value has exactly one encoding, so equal values have equal bytes.

use super::{DecodeError, Reader, Writer, varint_size_bytes};
use crate::value::{DEPTH_MAX, Object, Value};

/// Appends a value.
pub fn encode_value(value: &Value, to: &mut Writer) {
    match value {
        Value::Null => to.byte(TAG_NULL),
        Value::Bool(false) => to.byte(TAG_FALSE),
        Value::Bool(true) => to.byte(TAG_TRUE),
        Value::Int(number @ 0..SMALL_COUNT) => to.byte(SMALL_INT | *number as u8),
        Value::Int(number) => {
            to.byte(TAG_INT);
            to.signed(*number);
        }
        Value::UInt(number) => {
            to.byte(TAG_UINT);
            to.varint(number.wrapping_sub(UINT_LEAST));
        }
        Value::Float(number) => {
            to.byte(TAG_FLOAT);
            to.raw(&number.to_bits().to_le_bytes());
        }
        Value::Bytes(bytes) => {
            to.byte(TAG_BYTES);
            to.bytes(bytes);
        }
        Value::String(text) if (text.len() as i64) < SMALL_COUNT => {
            to.byte(SMALL_TEXT | text.len() as u8);
            to.raw(text.as_bytes());
        }
        Value::String(text) => {
            to.byte(TAG_TEXT);
            to.bytes(text.as_bytes());
        }
        Value::Array(items) => {
            to.byte(TAG_ARRAY);
            to.varint(items.len() as u64);
            items.iter().for_each(|item| encode_value(item, to));
        }
        Value::Object(object) => {
            to.byte(TAG_OBJECT);
            to.varint(object.len() as u64);
            for (name, value) in object {
                to.bytes(name.as_bytes());
                encode_value(value, to);
            }
        }
    }
}

/// Reads a value.
///
/// # Errors
///
/// If the bytes run out, hold an encoding that [`encode_value`] never writes, or nest deeper than
/// [`DEPTH_MAX`].
pub fn decode_value(from: &mut Reader<'_>) -> Result<Value, DecodeError> {
    decode_nested(from, DEPTH_MAX)
}

/// How many bytes [`encode_value`] takes for `value`.
#[must_use]
pub fn value_size_bytes(value: &Value) -> usize {
    let sized = |bytes: usize| varint_size_bytes(bytes as u64) + bytes;
    1 + match value {
        Value::Null | Value::Bool(_) | Value::Int(0..SMALL_COUNT) => 0,
        Value::Int(number) => varint_size_bytes(((number << 1) ^ (number >> 63)).cast_unsigned()),
        Value::UInt(number) => varint_size_bytes(number.wrapping_sub(UINT_LEAST)),
        Value::Float(_) => 8,
        Value::Bytes(bytes) => sized(bytes.len()),
        Value::String(text) if (text.len() as i64) < SMALL_COUNT => text.len(),
        Value::String(text) => sized(text.len()),
        Value::Array(items) => {
            varint_size_bytes(items.len() as u64)
                + items.iter().map(value_size_bytes).sum::<usize>()
        }
        Value::Object(object) => {
            let entry = |(name, value): (&str, &Value)| sized(name.len()) + value_size_bytes(value);
            varint_size_bytes(object.len() as u64) + object.iter().map(entry).sum::<usize>()
        }
    }
}

fn decode_nested(from: &mut Reader<'_>, depth_left: usize) -> Result<Value, DecodeError> {
    let tag = from.byte(FIELD)?;
    Ok(match tag {
        TAG_NULL => Value::Null,
        TAG_FALSE => Value::Bool(false),
        TAG_TRUE => Value::Bool(true),
        TAG_INT => {
            let number = from.signed(FIELD)?;
            if (0..SMALL_COUNT).contains(&number) {
                return Err(from.invalid(FIELD));
            }
            Value::Int(number)
        }
        TAG_UINT => {
            let above = from.varint(FIELD)?;
            let number = above.checked_add(UINT_LEAST).ok_or_else(|| from.invalid(FIELD))?;
            Value::UInt(number)
        }
        TAG_FLOAT => {
            let number = f64::from_bits(u64::from_le_bytes(from.array(FIELD)?));
            Value::finite(number).ok_or_else(|| from.invalid(FIELD))?
        }
        TAG_BYTES => Value::from(from.bytes(FIELD)?),
        TAG_TEXT => {
            let text = from.text(FIELD)?;
            if (text.len() as i64) < SMALL_COUNT {
                return Err(from.invalid(FIELD));
            }
            Value::from(text)
        }
        TAG_ARRAY => Value::Array(decode_array(from, depth_left)?),
        TAG_OBJECT => Value::Object(decode_object(from, depth_left)?),
        SMALL_INT..SMALL_TEXT => Value::Int(i64::from(tag & SMALL_MASK)),
        SMALL_TEXT.. => {
            let bytes = from.take(FIELD, usize::from(tag & SMALL_MASK))?;
            Value::from(std::str::from_utf8(bytes).map_err(|_| from.invalid(FIELD))?)
        }
        _ => return Err(from.invalid(FIELD)),
    })
}

fn decode_array(from: &mut Reader<'_>, depth_left: usize) -> Result<Vec<Value>, DecodeError> {
    let depth_left = deeper(depth_left)?;
    let count = from.count(FIELD, 1)?;
    // A value in memory is far larger than its shortest encoding, so the vector grows as items prove real.
    let mut items = Vec::with_capacity(count.min(RESERVE_COUNT_MAX));
    for _ in 0..count {
        items.push(decode_nested(from, depth_left)?);
    }
    Ok(items)
}

fn decode_object(from: &mut Reader<'_>, depth_left: usize) -> Result<Object, DecodeError> {
    let depth_left = deeper(depth_left)?;
    let count = from.count(FIELD, 2)?;
    let mut entries: Vec<(Box<str>, Value)> = Vec::with_capacity(count.min(RESERVE_COUNT_MAX));
    for _ in 0..count {
        let name = from.text(FIELD)?;
        if entries.last().is_some_and(|(last, _)| **last >= *name) {
            return Err(from.invalid(FIELD));
        }
        entries.push((name.into(), decode_nested(from, depth_left)?));
    }
    Object::from_entries(entries).map_err(|_| from.invalid(FIELD))
}

fn deeper(depth_left: usize) -> Result<usize, DecodeError> {
    depth_left.checked_sub(1).ok_or(DecodeError::TooLarge {
        field: "value depth",
        claimed: DEPTH_MAX as u64 + 1,
        limit: DEPTH_MAX as u64,
    })
}

const FIELD: &str = "value";
const TAG_NULL: u8 = 0x00;
const TAG_FALSE: u8 = 0x01;
const TAG_TRUE: u8 = 0x02;
const TAG_INT: u8 = 0x03;
const TAG_UINT: u8 = 0x04;
const TAG_FLOAT: u8 = 0x05;
const TAG_BYTES: u8 = 0x06;
const TAG_TEXT: u8 = 0x07;
const TAG_ARRAY: u8 = 0x08;
const TAG_OBJECT: u8 = 0x09;
const SMALL_INT: u8 = 0x80;
const SMALL_TEXT: u8 = 0xC0;
const SMALL_MASK: u8 = 0x3F;
/// Integers and text lengths below this sit in the tag.
const SMALL_COUNT: i64 = 64;
/// The least integer that is not an `Int`.
const UINT_LEAST: u64 = 1 << 63;
/// How many items memory is reserved for before any of them has been read.
const RESERVE_COUNT_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::value::arbitrary;

    fn encoded(value: &Value) -> Vec<u8> {
        let mut to = Writer::new();
        encode_value(value, &mut to);
        to.into_bytes()
    }

    proptest! {
        #[test]
        fn a_value_reads_back_and_takes_the_stated_size(value in arbitrary::value()) {
            let bytes = encoded(&value);
            prop_assert_eq!(bytes.len(), value_size_bytes(&value));
            let mut from = Reader::new(&bytes);
            prop_assert_eq!(decode_value(&mut from), Ok(value));
            prop_assert_eq!(from.finish(), Ok(()));
        }

        #[test]
        fn whatever_decodes_encodes_to_the_same_bytes(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut from = Reader::new(&bytes);
            if let Ok(value) = decode_value(&mut from) {
                prop_assert_eq!(encoded(&value), &bytes[..from.offset_bytes()]);
            }
        }
    }

    #[test]
    fn nesting_beyond_the_limit_is_an_error_and_no_deep_recursion() {
        let bytes: Vec<u8> = [TAG_ARRAY, 1].repeat(100_000);
        let error = decode_value(&mut Reader::new(&bytes)).expect_err("too deep");
        assert!(matches!(error, DecodeError::TooLarge { field: "value depth", .. }));
    }

    #[test]
    fn golden_values() {
        let object: Object =
            [("a", Value::from(7)), ("b", Value::from(-1)), ("c", Value::from("hi"))]
                .into_iter()
                .map(|(name, value)| (Box::from(name), value))
                .collect();
        assert_eq!(encoded(&Value::Object(object)), b"\x09\x03\x01a\x87\x01b\x03\x01\x01c\xC2hi");
        let list = vec![Value::Null, Value::from(true), Value::UInt(1 << 63), Value::from(6.0)];
        assert_eq!(
            encoded(&Value::Array(list)),
            b"\x08\x04\x00\x02\x04\x00\x05\x00\x00\x00\x00\x00\x00\x18\x40"
        );
    }
}
