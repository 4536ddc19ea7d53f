//! Values as JSON text.
//!
//! Numbers are exact: a number without fraction and exponent is an integer that fits 64 bits, signed or
//! unsigned, or it is refused; any other is a float, so that `6.0` stays a float on its way in and out. What
//! RFC 8259 leaves open is refused: double names, lone surrogates, anything but UTF-8.
//!
//! ```
//! use bigpeer_core::value::json;
//!
//! let value = json::parse(br#"{"speed": 6.0, "color": "red"}"#, json::Limits::default()).unwrap();
//! let mut out = Vec::new();
//! json::write(&value, &mut out);
//! assert_eq!(out, br#"{"color":"red","speed":6.0}"#);
//! ```

mod error;
mod parse;
mod plain;
mod write;

pub use error::{JsonError, JsonErrorKind};
pub use parse::{Limits, parse};
pub(crate) use write::write_text;
pub use write::{write, write_document, write_string};

#[cfg(test)]
mod tests;
