//! Values: what a document's fields hold, what JSON and DQL speak of.
//!
//! A [`Value`] is plain owned data. This module owns the shape and its conversions; [`json`] owns its text,
//! [`canonical`] its bytes as a document id, and `order` how two values compare. What a field does with
//! concurrent values belongs to the document, not here.

/// Document ids: the canonical bytes of a value, and back.
pub mod canonical;
/// Values as JSON text: an exact parser and a compact writer.
pub mod json;
mod object;
mod order;

use std::sync::Arc;

pub use object::{DuplicateName, Iter, Object};

/// How deeply arrays and objects may nest in a value that came from outside: `[[1]]` is two deep. Walks over a
/// value recurse, so whoever builds values from foreign bytes keeps to this.
pub const DEPTH_MAX: usize = 128;

/// A scalar, array or object. MISSING (an absent field) is not a value: it is `Option::None`.
///
/// `==` is structural, for tests and for "did anything change": `Int(1)` is not `Float(1.0)`, and floats are
/// equal when their bits are, so `0.0` is not `-0.0`. What `=` means in a query is [`Value::dql_eq`].
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
    Bytes(Box<[u8]>),
    /// UTF-8 text, shared by its copies: a text is parsed once and then goes into a delta, a record and a document.
    String(Arc<str>),
    /// A list, replaced as a whole.
    Array(Vec<Value>),
    /// Named values.
    Object(Object),
}

const _: () = assert!(size_of::<Value>() <= 32, "the parser's bound on values bounds memory");

impl Value {
    /// The float, or `None` if it is infinite or not a number: no [`Value`] holds those.
    #[must_use]
    pub fn finite(number: f64) -> Option<Self> {
        number.is_finite().then_some(Self::Float(number))
    }

    /// The name of this value's type as DQL's `type()` gives it: integers and floats are told apart.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "boolean",
            Self::Int(_) | Self::UInt(_) => "integer",
            Self::Float(_) => "float",
            Self::Bytes(_) => "binary",
            Self::String(_) => "string",
            Self::Array(_) => "array",
            Self::Object(_) => "object",
        }
    }

    /// Whether this is null.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// Whether this is an integer or a float.
    #[must_use]
    pub fn is_number(&self) -> bool {
        matches!(self, Self::Int(_) | Self::UInt(_) | Self::Float(_))
    }

    /// The truth value, if this is one.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// The integer, if this is one and fits 64 signed bits. Floats are not converted.
    #[must_use]
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Int(value) => Some(*value),
            _ => None,
        }
    }

    /// The integer, if this is one and not negative. Floats are not converted.
    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Int(value) => u64::try_from(*value).ok(),
            Self::UInt(value) => Some(*value),
            _ => None,
        }
    }

    /// The number as a float; integers beyond 2^53 are rounded to the nearest.
    #[must_use]
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Int(value) => Some(*value as f64),
            Self::UInt(value) => Some(*value as f64),
            Self::Float(value) => Some(*value),
            _ => None,
        }
    }

    /// The text, if this is a string.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The raw bytes, if this is binary.
    #[must_use]
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The elements, if this is an array.
    #[must_use]
    pub fn as_array(&self) -> Option<&[Value]> {
        match self {
            Self::Array(elements) => Some(elements),
            _ => None,
        }
    }

    /// The named values, if this is an object.
    #[must_use]
    pub fn as_object(&self) -> Option<&Object> {
        match self {
            Self::Object(object) => Some(object),
            _ => None,
        }
    }

    /// The named values for changing, if this is an object.
    #[must_use]
    pub fn as_object_mut(&mut self) -> Option<&mut Object> {
        match self {
            Self::Object(object) => Some(object),
            _ => None,
        }
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Int(a), Self::Int(b)) => a == b,
            (Self::UInt(a), Self::UInt(b)) => a == b,
            (Self::Float(a), Self::Float(b)) => a.to_bits() == b.to_bits(),
            (Self::Bytes(a), Self::Bytes(b)) => a == b,
            (Self::String(a), Self::String(b)) => a == b,
            (Self::Array(a), Self::Array(b)) => a == b,
            (Self::Object(a), Self::Object(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for Value {}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i32> for Value {
    fn from(value: i32) -> Self {
        Self::Int(i64::from(value))
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<u64> for Value {
    /// An `Int` if it fits, a `UInt` only above `i64::MAX`.
    fn from(value: u64) -> Self {
        i64::try_from(value).map_or(Self::UInt(value), Self::Int)
    }
}

impl From<f64> for Value {
    /// The caller knows that the number is finite; see [`Value::finite`] where it does not.
    ///
    /// # Panics
    ///
    /// If it is infinite or not a number.
    fn from(value: f64) -> Self {
        assert!(value.is_finite(), "a stored float is finite");
        Self::Float(value)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text.into())
    }
}

impl From<Box<str>> for Value {
    fn from(text: Box<str>) -> Self {
        Self::String(text.into())
    }
}

impl From<Arc<str>> for Value {
    fn from(text: Arc<str>) -> Self {
        Self::String(text)
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        Self::Bytes(bytes.into())
    }
}

impl From<Vec<Value>> for Value {
    fn from(elements: Vec<Value>) -> Self {
        Self::Array(elements)
    }
}

impl From<Object> for Value {
    fn from(object: Object) -> Self {
        Self::Object(object)
    }
}

#[cfg(test)]
pub(crate) mod arbitrary;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_integer_has_one_representation() {
        assert_eq!(Value::from(7_u64), Value::Int(7));
        assert_eq!(Value::from(i64::MAX as u64), Value::Int(i64::MAX));
        assert_eq!(Value::from(i64::MAX as u64 + 1), Value::UInt(1 << 63));
        assert_eq!(Value::UInt(1 << 63).as_u64(), Some(1 << 63));
        assert_eq!(Value::Int(-1).as_u64(), None);
    }

    #[test]
    fn structural_equality_tells_apart_what_queries_call_equal() {
        assert_ne!(Value::from(1), Value::from(1.0));
        assert_ne!(Value::from(0.0), Value::from(-0.0));
        assert_eq!(Value::from(0.5), Value::from(0.5));
    }

    #[test]
    fn only_finite_floats_are_values() {
        assert_eq!(Value::finite(f64::NAN), None);
        assert_eq!(Value::finite(f64::NEG_INFINITY), None);
        assert_eq!(Value::finite(f64::MAX), Some(Value::Float(f64::MAX)));
    }
}
