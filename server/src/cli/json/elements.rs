//! The elements of one array, or the values of a sequence, as text.

use std::collections::VecDeque;

/// How values follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// One array; its elements are wanted.
    Array,
    /// Values one after the other, with or without white space between.
    Sequence,
}

/// One element, not yet parsed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Element {
    /// The line it starts on, from 1.
    pub(crate) line: u64,
    /// Its text; `None` if it is longer than allowed.
    pub(crate) text: Option<Vec<u8>>,
}

/// The text is not an array of values. What follows the fault cannot be cut into elements.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub(crate) struct SplitError {
    /// The line, from 1.
    pub(crate) line: u64,
    /// What was found or missed.
    pub(crate) what: String,
}

/// Cuts text into elements. Feed it all bytes in order, in pieces of any size, then call [`finish`](Self::finish).
#[derive(Debug)]
pub(crate) struct Elements {
    framing: Framing,
    element_bytes_max: usize,
    state: State,
    scanner: Scanner,
    text: Vec<u8>,
    oversized: bool,
    line: u64,
    element_line: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the opening bracket.
    Opening,
    /// After the opening bracket: an element or the closing bracket.
    First,
    /// An element must follow.
    Next,
    /// Inside an element.
    Inside,
    /// After an element: a comma or the closing bracket.
    Separator,
    /// After the closing bracket.
    Done,
}

impl Elements {
    /// A splitter at the start of a text. Elements of more than `element_bytes_max` bytes are reported without their
    /// text.
    pub(crate) fn new(framing: Framing, element_bytes_max: usize) -> Self {
        let state = match framing {
            Framing::Array => State::Opening,
            Framing::Sequence => State::Next,
        };
        Self {
            framing,
            element_bytes_max,
            state,
            scanner: Scanner::default(),
            text: Vec::new(),
            oversized: false,
            line: 1,
            element_line: 1,
        }
    }

    /// Takes the next piece and appends the elements that it completes to `out`. Returns how many bytes were taken:
    /// fewer than given once the array has ended.
    ///
    /// # Errors
    ///
    /// If the text is no array. Elements before the fault are in `out`.
    pub(crate) fn feed(
        &mut self,
        bytes: &[u8],
        out: &mut VecDeque<Element>,
    ) -> Result<usize, SplitError> {
        let mut taken = 0;
        while taken < bytes.len() && self.state != State::Done {
            let rest = &bytes[taken..];
            taken += match self.state {
                State::Inside => self.feed_element(rest, out),
                _ => self.feed_between(rest[0])?,
            };
        }
        Ok(taken)
    }

    /// Whether the closing bracket was read.
    pub(crate) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Checks that nothing but white space follows the array.
    ///
    /// # Errors
    ///
    /// If something does.
    pub(crate) fn check_rest(&mut self, bytes: &[u8]) -> Result<(), SplitError> {
        for &byte in bytes {
            match byte {
                b'\n' => self.line += 1,
                b' ' | b'\t' | b'\r' => {}
                _ => return Err(self.unexpected(byte, "the end of the text")),
            }
        }
        Ok(())
    }

    /// The text has ended. Appends the last value of a sequence.
    ///
    /// # Errors
    ///
    /// If it ended too early.
    pub(crate) fn finish(&mut self, out: &mut VecDeque<Element>) -> Result<(), SplitError> {
        match (self.framing, self.state) {
            (_, State::Done) | (Framing::Sequence, State::Next) => Ok(()),
            (Framing::Sequence, State::Inside) if self.scanner.is_scalar() => {
                self.complete(out);
                Ok(())
            }
            (_, State::Inside) => Err(SplitError {
                line: self.element_line,
                what: "the text ends inside the value that starts here".to_owned(),
            }),
            _ => Err(self.error("the text ends before the `]` of its array")),
        }
    }

    fn feed_between(&mut self, byte: u8) -> Result<usize, SplitError> {
        match (self.state, byte) {
            (_, b'\n') => self.line += 1,
            (_, b' ' | b'\t' | b'\r') => {}
            (State::Opening, b'[') => self.state = State::First,
            (State::Opening, _) => return Err(self.unexpected(byte, "the `[` of an array")),
            (State::First, b']') | (State::Separator, b']') => self.state = State::Done,
            (State::Separator, b',') => self.state = State::Next,
            (State::Separator, _) => return Err(self.unexpected(byte, "`,` or `]`")),
            (_, b',' | b']' | b'}' | b':') => return Err(self.unexpected(byte, "a value")),
            _ => {
                self.state = State::Inside;
                self.scanner = Scanner::default();
                self.element_line = self.line;
                return Ok(0);
            }
        }
        Ok(1)
    }

    fn feed_element(&mut self, bytes: &[u8], out: &mut VecDeque<Element>) -> usize {
        let end = self.scanner.scan(bytes);
        let part = &bytes[..end.unwrap_or(bytes.len())];
        self.line += part.iter().filter(|&&byte| byte == b'\n').count() as u64;
        if self.text.len() + part.len() > self.element_bytes_max {
            self.oversized = true;
            self.text = Vec::new();
        }
        if !self.oversized {
            self.text.extend_from_slice(part);
        }
        if end.is_some() {
            self.complete(out);
        }
        part.len()
    }

    fn complete(&mut self, out: &mut VecDeque<Element>) {
        let text = std::mem::take(&mut self.text);
        let text = (!std::mem::take(&mut self.oversized)).then_some(text);
        out.push_back(Element { line: self.element_line, text });
        self.state = match self.framing {
            Framing::Array => State::Separator,
            Framing::Sequence => State::Next,
        };
    }

    fn unexpected(&self, byte: u8, expected: &str) -> SplitError {
        self.error(&format!("found `{}` where {expected} should be", byte.escape_ascii()))
    }

    fn error(&self, what: &str) -> SplitError {
        SplitError { line: self.line, what: what.to_owned() }
    }
}

/// Finds the end of one value by its brackets and quotes. A text that is no JSON ends somewhere too: the parser tells.
#[derive(Debug, Default)]
struct Scanner {
    kind: Kind,
    depth: u64,
    in_string: bool,
    escaped: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    Unknown,
    /// A number or a word: it ends before the next delimiter.
    Scalar,
    /// A string, array or object: it ends with its own last byte.
    Closed,
}

impl Scanner {
    fn is_scalar(&self) -> bool {
        self.kind == Kind::Scalar
    }

    /// How many of `bytes` belong to the value, if it ends among them; `None` if all do and it goes on.
    fn scan(&mut self, bytes: &[u8]) -> Option<usize> {
        bytes.iter().enumerate().find_map(|(index, &byte)| self.step(index, byte))
    }

    fn step(&mut self, index: usize, byte: u8) -> Option<usize> {
        if self.kind == Kind::Unknown {
            let is_closed = matches!(byte, b'"' | b'[' | b'{');
            self.kind = if is_closed { Kind::Closed } else { Kind::Scalar };
        }
        if self.kind == Kind::Scalar {
            let is_end = matches!(byte, b',' | b']' | b'}' | b' ' | b'\t' | b'\r' | b'\n');
            return is_end.then_some(index);
        }
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
        } else {
            match byte {
                b'"' => self.in_string = true,
                b'[' | b'{' => self.depth += 1,
                b']' | b'}' => self.depth -= 1,
                _ => {}
            }
        }
        (self.depth == 0 && !self.in_string).then_some(index + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 100;

    fn split(framing: Framing, pieces: &[&[u8]]) -> Result<Vec<(u64, String)>, SplitError> {
        let mut elements = Elements::new(framing, MAX);
        let mut out = VecDeque::new();
        for piece in pieces {
            let taken = elements.feed(piece, &mut out)?;
            assert!(taken == piece.len() || elements.is_done());
        }
        elements.finish(&mut out)?;
        let text = |element: Element| {
            element.text.map_or("…".into(), |text| String::from_utf8(text).unwrap())
        };
        Ok(out.into_iter().map(|element| (element.line, text(element))).collect())
    }

    #[test]
    fn an_array_split_at_every_byte_has_the_same_elements() {
        let text =
            " [ {\"a\": \"]},\\\"\\\\\", \"b\": [1, {}]} ,\n 7,\"x[\\\"\" , [ ],\nnull,true ]"
                .as_bytes();
        let whole = split(Framing::Array, &[text]).unwrap();
        let expected = [
            (1, r#"{"a": "]},\"\\", "b": [1, {}]}"#),
            (2, "7"),
            (2, r#""x[\"""#),
            (2, "[ ]"),
            (3, "null"),
            (3, "true"),
        ];
        assert_eq!(whole, expected.map(|(line, text)| (line, text.to_owned())));
        for at in 0..=text.len() {
            let (a, b) = text.split_at(at);
            assert_eq!(split(Framing::Array, &[a, b]).as_ref(), Ok(&whole), "split at {at}");
        }
        let bytes: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(split(Framing::Array, &bytes), Ok(whole));
    }

    #[test]
    fn a_sequence_needs_no_separators() {
        let text = b"{\"a\":1}{\"b\":[2]}\n\n3 \"x\"4";
        let expected = [(1, "{\"a\":1}"), (1, "{\"b\":[2]}"), (3, "3"), (3, "\"x\""), (3, "4")];
        let expected = expected.map(|(line, text)| (line, text.to_owned())).to_vec();
        for at in 0..=text.len() {
            let (a, b) = text.split_at(at);
            assert_eq!(split(Framing::Sequence, &[a, b]).as_ref(), Ok(&expected), "split at {at}");
        }
    }

    #[test]
    fn an_oversized_element_is_named_and_the_next_one_read() {
        let text = format!("[1,\n\"{}\",\n2]", "x".repeat(MAX));
        let elements = split(Framing::Array, &[text.as_bytes()]).unwrap();
        assert_eq!(elements, [(1, "1".into()), (2, "…".into()), (3, "2".into())]);
    }

    #[test]
    fn a_text_that_is_no_array_is_refused_with_its_line() {
        let error = |text: &str| split(Framing::Array, &[text.as_bytes()]).unwrap_err().to_string();
        assert_eq!(error("{}"), "line 1: found `{` where the `[` of an array should be");
        assert_eq!(error("[1\n2]"), "line 2: found `2` where `,` or `]` should be");
        assert_eq!(error("[,1]"), "line 1: found `,` where a value should be");
        assert_eq!(error("[1,]"), "line 1: found `]` where a value should be");
        assert_eq!(
            error("[1,\n{\"a\":"),
            "line 2: the text ends inside the value that starts here"
        );
        assert_eq!(error("[1\n"), "line 2: the text ends before the `]` of its array");
        assert_eq!(split(Framing::Array, &[b"[]"]), Ok(vec![]));
        assert_eq!(split(Framing::Sequence, &[b" \n"]), Ok(vec![]));
    }
}
