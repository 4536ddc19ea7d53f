//! The writer: compact text, appended to a buffer.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::plain::plain_len;
use crate::value::{Object, Value};

/// Appends a value as compact JSON. Integers are exact, however large; floats are the shortest text that reads
/// back as the same float and always show a fraction or an exponent; binary is base64 text with padding; names
/// come sorted by bytes.
pub fn write(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Int(number) => write_integer(*number, out),
        Value::UInt(number) => write_integer(*number, out),
        Value::Float(number) => write_float(*number, out),
        Value::Bytes(bytes) => write_base64(bytes, out),
        Value::String(text) => write_string(text, out),
        Value::Array(elements) => write_array(elements, out),
        Value::Object(object) => {
            out.push(b'{');
            write_entries(object.iter(), true, out);
            out.push(b'}');
        }
    }
}

/// Appends a document: `_id` first, then its other fields by the bytes of their names. An `_id` among the fields
/// is left out.
pub fn write_document(id: &Value, fields: &Object, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"_id\":");
    write(id, out);
    write_entries(fields.iter().filter(|(name, _)| *name != "_id"), false, out);
    out.push(b'}');
}

/// Appends a text in quotes, with the escapes that JSON demands and no others.
pub fn write_string(text: &str, out: &mut Vec<u8>) {
    write_text(text.as_bytes(), out);
}

/// As [`write_string`], for bytes that are known to be UTF-8.
pub(crate) fn write_text(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    let mut plain = plain_len(rest);
    if plain == rest.len() {
        // Nearly every text: both quotes are put there at once, and the text between them.
        let start = out.len();
        out.resize(start + plain + 2, b'"');
        out[start + 1..][..plain].copy_from_slice(rest);
        return;
    }
    out.reserve(text.len() + 2);
    out.push(b'"');
    while let Some((&byte, after)) = rest[plain..].split_first() {
        out.extend_from_slice(&rest[..plain]);
        write_escape(byte, out);
        rest = after;
        plain = plain_len(rest);
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

fn write_escape(byte: u8, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let short = match byte {
        b'"' | b'\\' => byte,
        0x08 => b'b',
        0x0c => b'f',
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        _ => {
            out.extend_from_slice(b"\\u00");
            out.push(DIGITS[usize::from(byte >> 4)]);
            out.push(DIGITS[usize::from(byte & 0xf)]);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

fn write_integer(number: impl itoa::Integer, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

fn write_float(number: f64, out: &mut Vec<u8>) {
    debug_assert!(number.is_finite(), "a stored float is finite");
    if number.is_finite() {
        out.extend_from_slice(zmij::Buffer::new().format_finite(number).as_bytes());
    } else {
        // JSON has no word for it, and a reader is better served by null than by text it cannot read.
        out.extend_from_slice(b"null");
    }
}

fn write_base64(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    let written = STANDARD.encode_slice(bytes, &mut out[start..]);
    assert_eq!(written, Ok(out.len() - start), "base64 takes four characters per three bytes");
    out.push(b'"');
}

fn write_array(elements: &[Value], out: &mut Vec<u8>) {
    out.push(b'[');
    for (index, element) in elements.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(element, out);
    }
    out.push(b']');
}

/// Appends entries with commas between, and one before the first unless it `leads`.
fn write_entries<'a>(
    entries: impl Iterator<Item = (&'a str, &'a Value)>,
    leads: bool,
    out: &mut Vec<u8>,
) {
    let mut comma = !leads;
    for (name, value) in entries {
        if comma {
            out.push(b',');
        }
        comma = true;
        write_string(name, out);
        out.push(b':');
        write(value, out);
    }
}
