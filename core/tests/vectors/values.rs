//! Values, document ids and vectors of identities: the smallest layouts.

use bigpeer_core::codec::{Writer, encode_value};
use bigpeer_core::value::{Value, canonical};

use super::{Vectors, agree, parsed};

/// Every tag, and both sides of every limit inside a tag.
fn samples() -> Vec<(&'static str, Value)> {
    let text = |length: usize| Value::from("x".repeat(length));
    vec![
        ("null", Value::Null),
        ("false", Value::Bool(false)),
        ("true", Value::Bool(true)),
        ("integer 0", Value::Int(0)),
        ("integer 63", Value::Int(63)),
        ("integer 64", Value::Int(64)),
        ("integer -1", Value::Int(-1)),
        ("least integer", Value::Int(i64::MIN)),
        ("greatest signed integer", Value::Int(i64::MAX)),
        ("least unsigned integer", Value::UInt(1 << 63)),
        ("greatest integer", Value::UInt(u64::MAX)),
        ("float", Value::Float(6.5)),
        ("float that is whole", Value::Float(6.0)),
        ("negative zero", Value::Float(-0.0)),
        ("bytes", Value::from(&b"\x00\xff"[..])),
        ("empty text", text(0)),
        ("text of two scripts", Value::from("Zoë 駅")),
        ("text of 63 bytes", text(63)),
        ("text of 64 bytes", text(64)),
        ("empty array", Value::Array(Vec::new())),
        ("array", parsed(r#"[1, "two", [3.5]]"#)),
        ("empty object", parsed("{}")),
        ("object", parsed(r#"{"b": 1, "a": {"": null}, "é": [true]}"#)),
    ]
}

/// An id has no null and no float.
fn ids() -> Vec<(&'static str, Value)> {
    vec![
        ("text", Value::from("abc")),
        ("text of 24 bytes", Value::from("x".repeat(24))),
        ("integer 23", Value::Int(23)),
        ("integer 24", Value::Int(24)),
        ("integer 65536", Value::Int(65_536)),
        ("negative integer", Value::Int(-500)),
        ("greatest integer", Value::UInt(u64::MAX)),
        ("true", Value::Bool(true)),
        ("bytes", Value::from(&b"\x01\x02"[..])),
        ("array", parsed(r#"["a", 1]"#)),
        ("object", parsed(r#"{"vin": "A", "no": 7, "aa": [false]}"#)),
    ]
}

#[test]
fn values_are_written_as_they_were() {
    let mut vectors = Vectors::default();
    for (name, value) in samples() {
        let mut to = Writer::new();
        encode_value(&value, &mut to);
        vectors.push(name, to.into_bytes());
    }
    vectors.check("values");
}

#[test]
fn ids_are_written_as_they_were() {
    let mut vectors = Vectors::default();
    for (name, value) in ids() {
        vectors.push(name, canonical::encode_id(&value).expect("a valid id").as_bytes());
    }
    vectors.check("ids");
}

#[test]
fn the_decoder_reads_the_values_that_were_written() {
    for (name, value) in samples() {
        agree("values", name, "value", in_json(value));
    }
    for (name, value) in ids() {
        agree("ids", name, "value", in_json(value));
    }
}

/// The decoder prints bytes as an object of their hexadecimal digits.
fn in_json(value: Value) -> Value {
    match value {
        Value::Bytes(bytes) => parsed(&format!(r#"{{"bytes": "{}"}}"#, super::hex(&bytes))),
        value => value,
    }
}
