//! What can be wrong with a statement, and where in its text.

use std::fmt;

/// The class of an error, as the device SDKs name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The text is not a statement, or contradicts itself.
    Invalid,
    /// The statement is well formed but cannot run here.
    Unsupported,
    /// A placeholder without a value, or a value that its place cannot take.
    Parameter,
    /// An expression that had to give a value of a certain type did not.
    Evaluation,
    /// The statement cannot be carried out on these documents.
    Execution,
    /// A value that cannot be a document's `_id`.
    DocumentId,
}

impl ErrorKind {
    /// The code under which SDKs expose this class.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Invalid => "query/invalid",
            Self::Unsupported => "query/unsupported",
            Self::Parameter => "query/parameter",
            Self::Evaluation => "query/evaluation",
            Self::Execution => "query/execution",
            Self::DocumentId => "store/document-id",
        }
    }
}

/// A place in the text of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Bytes before it.
    pub offset_bytes: usize,
    /// Its line, from 1.
    pub line: usize,
    /// Its place in the line in characters, from 1.
    pub column: usize,
}

impl Position {
    /// The position of a byte of `text`; an offset inside a character means that character.
    #[must_use]
    pub fn of(text: &str, offset_bytes: usize) -> Self {
        let offset_bytes = floor_boundary(text, offset_bytes);
        let before = &text[..offset_bytes];
        let line_start = before.rfind('\n').map_or(0, |index| index + 1);
        Self {
            offset_bytes,
            line: before.bytes().filter(|&byte| byte == b'\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

/// The start of the character of `text` that the byte at `offset_bytes` is in; its end if there is none.
pub(crate) fn floor_boundary(text: &str, offset_bytes: usize) -> usize {
    let mut offset = offset_bytes.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}

/// Why a statement was refused. One pointer wide, so that a deep parse keeps its frames small.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DqlError(Box<Details>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Details {
    kind: ErrorKind,
    message: String,
    position: Option<Position>,
}

impl DqlError {
    /// An error that belongs to no place in the text.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Details { kind, message: message.into(), position: None }))
    }

    /// An error at a byte of `text`.
    #[must_use]
    pub fn at(
        kind: ErrorKind,
        message: impl Into<String>,
        text: &str,
        offset_bytes: usize,
    ) -> Self {
        let position = Some(Position::of(text, offset_bytes));
        Self(Box::new(Details { kind, message: message.into(), position }))
    }

    /// The class.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What is wrong, without the position.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Where it is wrong, for errors of the text.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.0.position
    }
}

impl fmt::Display for DqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Position { line, column, .. }) = self.0.position {
            write!(f, "line {line}, column {column}: ")?;
        }
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for DqlError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_lines_and_characters() {
        let text = "SELECT *\nFROM é x";
        assert_eq!(Position::of(text, 0), Position { offset_bytes: 0, line: 1, column: 1 });
        let x = text.find('x').expect("the text has an x");
        assert_eq!(Position::of(text, x), Position { offset_bytes: x, line: 2, column: 8 });
        assert_eq!(Position::of(text, 15).column, 6);
        assert_eq!(Position::of(text, 999).offset_bytes, text.len());
    }

    #[test]
    fn an_error_prints_on_one_line() {
        let error = DqlError::at(ErrorKind::Invalid, "expected FROM, found end", "SELECT *", 8);
        assert_eq!(error.to_string(), "line 1, column 9: expected FROM, found end");
    }
}
