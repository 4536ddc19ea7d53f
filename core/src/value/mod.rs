//! Values: what a document's fields hold, what JSON and DQL speak of.

pub mod canonical;
pub mod json;
mod order;

use bytes::Bytes;

/// A scalar, array or object. MISSING (an absent field) is not a value: it is `Option::None`.
#[derive(Clone, Debug)]
pub enum Value {
    /// JSON null, a stored state different from an absent field.
    Null,
    /// True or false.
    Bool(bool),
    /// An integer that fits 64 signed bits. Every integer that fits is stored so.
    Int(i64),
    /// An integer above `i64::MAX`; never a smaller one.
    UInt(u64),
    /// A finite IEEE double.
    Float(f64),
    /// Raw bytes: base64 text in JSON.
    Bytes(Bytes),
    /// UTF-8 text.
    String(Box<str>),
    /// A list, replaced as a whole.
    Array(Vec<Value>),
    /// Named values.
    Object(Object),
}

/// Named values, sorted by the bytes of their names, each name once.
#[derive(Clone, Debug, Default)]
pub struct Object {
    entries: Vec<(Box<str>, Value)>,
}
