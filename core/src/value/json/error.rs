//! Why a text is not taken for a value, and where.

use std::fmt;

/// Why a text is not a value, and where the reader stopped. Nothing of the text has taken effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonError {
    /// What is wrong.
    pub kind: JsonErrorKind,
    /// How many bytes stand before the fault.
    pub offset_bytes: usize,
    /// The line of the fault, from 1.
    pub line: usize,
    /// The column of the fault in characters, from 1.
    pub column: usize,
}

/// What is wrong with a text that is not a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JsonErrorKind {
    /// The text ends inside a value, or holds none.
    #[error("the text ends where {expected} should follow")]
    Truncated {
        /// What should follow.
        expected: &'static str,
    },
    /// Another character than the grammar allows.
    #[error("found {found:?} where {expected} should be")]
    Unexpected {
        /// The character.
        found: char,
        /// What should be there.
        expected: &'static str,
    },
    /// Something follows the value.
    #[error("found {found:?} after the end of the value: send one value only")]
    Trailing {
        /// The first character too many.
        found: char,
    },
    /// Arrays and objects nest too deeply.
    #[error("arrays and objects nest deeper than {depth_max} levels: flatten the value")]
    TooDeep {
        /// The limit.
        depth_max: usize,
    },
    /// The text holds too many values.
    #[error("the text holds more than {values_max} values: split it")]
    TooManyValues {
        /// The limit.
        values_max: usize,
    },
    /// A number with neither fraction nor exponent that fits neither `i64` nor `u64`.
    #[error(
        "integer out of range: integers have 64 bits; write it as a string, or with `.0` for a float"
    )]
    IntegerOutOfRange,
    /// A number beyond the greatest double.
    #[error("number out of range: a float is at most about 1.8e308; write it as a string")]
    FloatOutOfRange,
    /// A number that JSON has no form for, such as `01`, `1.` or `-`.
    #[error(
        "malformed number: digits without leading zeroes, then optionally a fraction and an exponent"
    )]
    NumberMalformed,
    /// A name stands twice in one object.
    #[error("the name {name:?} occurs more than once in one object: keep one")]
    DuplicateName {
        /// The name.
        name: Box<str>,
    },
    /// Half of a pair of `\u` escapes.
    #[error("a lone surrogate escape is no character: write both halves, or the character itself")]
    LoneSurrogate,
    /// A backslash with something after it that is no escape.
    #[error(r#"unknown escape: allowed are \" \\ \/ \b \f \n \r \t and \u with four hexadecimal digits"#)]
    EscapeUnknown,
    /// A bare control character inside a string.
    #[error("control character {byte:#04x} inside a string: write it as an escape")]
    ControlCharacter {
        /// The character.
        byte: u8,
    },
    /// The text is not UTF-8.
    #[error("the text is not UTF-8: re-encode it")]
    NotUtf8,
}

impl JsonError {
    /// Finds line and column. The text before the fault is UTF-8; should it not be, each stray byte counts as
    /// one character.
    pub(super) fn at(text: &[u8], offset_bytes: usize, kind: JsonErrorKind) -> Self {
        let before = &text[..offset_bytes.min(text.len())];
        let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
        let line_start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        let is_first_byte = |byte: &&u8| **byte & 0b1100_0000 != 0b1000_0000;
        let column = 1 + before[line_start..].iter().filter(is_first_byte).count();
        Self { kind, offset_bytes, line, column }
    }
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.kind)
    }
}

impl std::error::Error for JsonError {}
