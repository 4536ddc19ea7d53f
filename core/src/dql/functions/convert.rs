//! Functions that look at types or turn one into another.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::{Argument, string, value};
use crate::value::{Value, json};

pub(super) fn json_type(value: &Value) -> &'static str {
    if value.is_number() { "number" } else { value.type_name() }
}

pub(super) fn deserialize_json(a: &[Argument<'_>]) -> Option<Value> {
    json::parse(string(a, 0)?.as_bytes(), json::Limits::default()).ok()
}

pub(super) fn serialize_json(value: &Value) -> Option<Value> {
    let mut text = Vec::new();
    json::write(value, &mut text);
    String::from_utf8(text).ok().map(Value::from)
}

/// `cast(x, 'type')`; what cannot be turned into the type gives MISSING.
pub(super) fn cast(a: &[Argument<'_>]) -> Option<Value> {
    let from = value(a, 0)?;
    if from.is_null() {
        return Some(Value::Null);
    }
    match string(a, 1)?.to_ascii_lowercase().as_str() {
        "string" => to_string(from),
        "integer" => to_integer(from),
        "float" => to_float(from),
        "boolean" => to_boolean(from),
        "binary" => to_binary(from),
        _ => None,
    }
}

fn to_string(from: &Value) -> Option<Value> {
    match from {
        Value::String(_) => Some(from.clone()),
        Value::Bytes(bytes) => Some(BASE64.encode(bytes).into()),
        _ => serialize_json(from),
    }
}

/// A float loses its fraction; a text must be an integer.
fn to_integer(from: &Value) -> Option<Value> {
    match from {
        Value::Int(_) | Value::UInt(_) => Some(from.clone()),
        Value::Bool(value) => Some(Value::Int(i64::from(*value))),
        Value::Float(number) => {
            let whole = number.trunc();
            let fits =
                (-9_223_372_036_854_775_808.0..18_446_744_073_709_551_616.0).contains(&whole);
            let unsigned = fits && whole >= 0.0;
            match unsigned {
                true => Some(Value::from(whole as u64)),
                false => fits.then_some(Value::Int(whole as i64)),
            }
        }
        Value::String(text) => {
            let text = text.trim();
            let signed = text.parse().ok().map(Value::Int);
            signed.or_else(|| text.parse().ok().map(Value::UInt))
        }
        _ => None,
    }
}

fn to_float(from: &Value) -> Option<Value> {
    match from {
        Value::String(text) => Value::finite(text.trim().parse().ok()?),
        Value::Bool(value) => Some(Value::Float(f64::from(u8::from(*value)))),
        _ => from.as_f64().map(Value::Float),
    }
}

fn to_boolean(from: &Value) -> Option<Value> {
    let truth = match from {
        Value::Bool(value) => *value,
        Value::String(text) if text.eq_ignore_ascii_case("true") => true,
        Value::String(text) if text.eq_ignore_ascii_case("false") => false,
        _ => from.as_f64()? != 0.0,
    };
    Some(Value::Bool(truth))
}

fn to_binary(from: &Value) -> Option<Value> {
    match from {
        Value::Bytes(_) => Some(from.clone()),
        Value::String(text) => BASE64.decode(text.as_bytes()).ok().map(|b| Value::Bytes(b.into())),
        _ => None,
    }
}
