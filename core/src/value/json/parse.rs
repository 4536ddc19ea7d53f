//! The parser: one pass over text that is known to be UTF-8, strings copied once.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::plain::plain_len;
use super::{JsonError, JsonErrorKind};
use crate::value::{DEPTH_MAX, Object, Value};

/// What a text may ask of us. How long the text may be is for whoever received it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How deeply arrays and objects may nest: `[[1]]` is two deep. At most [`DEPTH_MAX`], which is the default.
    pub depth_max: usize,
    /// How many values there may be, inner ones included. A value takes some 50 to 100 bytes of memory and as
    /// little as two of text, so this bounds what a text can make us hold.
    pub values_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { depth_max: DEPTH_MAX, values_max: VALUES_MAX }
    }
}

/// [`Limits::values_max`] unless the caller says otherwise.
const VALUES_MAX: usize = 1 << 20;

/// Reads one value, with nothing but white space around it.
///
/// # Errors
///
/// Where the text first departs from JSON, or from what this module takes of it; see [`JsonErrorKind`].
pub fn parse(text: &[u8], limits: Limits) -> Result<Value, JsonError> {
    let valid = std::str::from_utf8(text)
        .map_err(|error| JsonError::at(text, error.valid_up_to(), JsonErrorKind::NotUtf8))?;
    let mut parser = Parser {
        text: valid,
        offset: 0,
        depth_left: limits.depth_max.min(DEPTH_MAX),
        values_left: limits.values_max,
        limits,
    };
    parser.document().map_err(|fault| JsonError::at(text, fault.offset, fault.kind))
}

/// What is wrong and where, before line and column are known.
struct Fault {
    offset: usize,
    kind: JsonErrorKind,
}

struct Parser<'a> {
    text: &'a str,
    offset: usize,
    depth_left: usize,
    values_left: usize,
    limits: Limits,
}

impl<'a> Parser<'a> {
    fn document(&mut self) -> Result<Value, Fault> {
        self.skip_space();
        let value = self.value()?;
        self.skip_space();
        match self.rest().chars().next() {
            None => Ok(value),
            Some(found) => Err(self.fault(JsonErrorKind::Trailing { found })),
        }
    }

    /// Reads the value that starts right here. Recursion ends with `depth_left`.
    fn value(&mut self) -> Result<Value, Fault> {
        if self.values_left == 0 {
            let values_max = self.limits.values_max;
            return Err(self.fault(JsonErrorKind::TooManyValues { values_max }));
        }
        self.values_left -= 1;
        match self.peek() {
            Some(b'"') => Ok(Value::String(self.string()?.into())),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b'{') => self.object(),
            Some(b'[') => self.array(),
            Some(b't') => self.keyword("true", Value::Bool(true)),
            Some(b'f') => self.keyword("false", Value::Bool(false)),
            Some(b'n') => self.keyword("null", Value::Null),
            _ => Err(self.unexpected("a value")),
        }
    }

    fn object(&mut self) -> Result<Value, Fault> {
        let opening = self.offset;
        self.enter()?;
        let mut more = !self.is_closed_by(b'}');
        let mut entries = Vec::with_capacity(if more { ENTRIES_FIRST } else { 0 });
        while more {
            let name = self.name()?;
            self.skip_space();
            entries.push((name.into(), self.value()?));
            more = self.is_continued(b'}', "`,` or `}`")?;
        }
        self.depth_left += 1;
        match Object::from_entries(entries) {
            Ok(object) => Ok(Value::Object(object)),
            Err(duplicate) => Err(Fault {
                offset: self.second_use(opening),
                kind: JsonErrorKind::DuplicateName { name: duplicate.name },
            }),
        }
    }

    fn array(&mut self) -> Result<Value, Fault> {
        self.enter()?;
        let mut elements = Vec::new();
        let mut more = !self.is_closed_by(b']');
        while more {
            self.skip_space();
            elements.push(self.value()?);
            more = self.is_continued(b']', "`,` or `]`")?;
        }
        self.depth_left += 1;
        Ok(Value::Array(elements))
    }

    /// A name and its colon.
    fn name(&mut self) -> Result<Cow<'a, str>, Fault> {
        self.skip_space();
        if self.peek() != Some(b'"') {
            return Err(self.unexpected("a name in double quotes"));
        }
        let name = self.string()?;
        self.skip_space();
        if self.peek() != Some(b':') {
            return Err(self.unexpected("`:`"));
        }
        self.offset += 1;
        Ok(name)
    }

    /// Passes the bracket that opens an array or object.
    fn enter(&mut self) -> Result<(), Fault> {
        if self.depth_left == 0 {
            let depth_max = self.limits.depth_max.min(DEPTH_MAX);
            return Err(self.fault(JsonErrorKind::TooDeep { depth_max }));
        }
        self.depth_left -= 1;
        self.offset += 1;
        Ok(())
    }

    /// Passes the closing bracket of an empty array or object, if it comes next.
    fn is_closed_by(&mut self, closing: u8) -> bool {
        self.skip_space();
        let closed = self.peek() == Some(closing);
        self.offset += usize::from(closed);
        closed
    }

    /// Passes the comma after an element (true) or the closing bracket (false).
    fn is_continued(&mut self, closing: u8, expected: &'static str) -> Result<bool, Fault> {
        self.skip_space();
        let more = match self.peek() {
            Some(b',') => true,
            Some(byte) if byte == closing => false,
            _ => return Err(self.unexpected(expected)),
        };
        self.offset += 1;
        Ok(more)
    }

    fn keyword(&mut self, word: &'static str, value: Value) -> Result<Value, Fault> {
        if !self.rest().starts_with(word) {
            return Err(self.unexpected("a value"));
        }
        self.offset += word.len();
        Ok(value)
    }

    /// Reads the string that starts right here: a slice of the text unless it has escapes.
    fn string(&mut self) -> Result<Cow<'a, str>, Fault> {
        self.offset += 1;
        let start = self.offset;
        self.skip_plain();
        if self.peek() == Some(b'"') {
            self.offset += 1;
            return Ok(Cow::Borrowed(&self.text[start..self.offset - 1]));
        }
        self.string_with_escapes(start).map(Cow::Owned)
    }

    /// Goes on with a string that started at `start` and reads plain up to here.
    fn string_with_escapes(&mut self, start: usize) -> Result<String, Fault> {
        let mut out = String::from(&self.text[start..self.offset]);
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.offset += 1;
                    return Ok(out);
                }
                Some(b'\\') => out.push(self.escape()?),
                Some(byte) => return Err(self.fault(JsonErrorKind::ControlCharacter { byte })),
                None => return Err(self.unexpected("the closing `\"` of a string")),
            }
            let plain_start = self.offset;
            self.skip_plain();
            out.push_str(&self.text[plain_start..self.offset]);
        }
    }

    /// Passes the bytes of a string that stand for themselves.
    fn skip_plain(&mut self) {
        self.offset += plain_len(&self.text.as_bytes()[self.offset..]);
    }

    /// Reads the escape whose backslash stands right here.
    fn escape(&mut self) -> Result<char, Fault> {
        let start = self.offset;
        let fault = |kind| Err(Fault { offset: start, kind });
        let Some(&kind) = self.text.as_bytes().get(start + 1) else {
            self.offset += 1;
            return Err(self.unexpected("an escape"));
        };
        self.offset += 2;
        Ok(match kind {
            b'"' | b'\\' | b'/' => char::from(kind),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => match self.code_point() {
                Some(Ok(character)) => character,
                Some(Err(LoneSurrogate)) => return fault(JsonErrorKind::LoneSurrogate),
                None => return fault(JsonErrorKind::EscapeUnknown),
            },
            _ => return fault(JsonErrorKind::EscapeUnknown),
        })
    }

    /// Reads what follows `\u`: four digits, and another such escape if they are the first half of a pair.
    /// `None` if there are no four digits.
    fn code_point(&mut self) -> Option<Result<char, LoneSurrogate>> {
        let first = self.four_digits()?;
        if !(0xd800..0xdc00).contains(&first) {
            return Some(char::from_u32(first).ok_or(LoneSurrogate));
        }
        if !self.rest().starts_with("\\u") {
            return Some(Err(LoneSurrogate));
        }
        self.offset += 2;
        let second = self.four_digits()?;
        if !(0xdc00..0xe000).contains(&second) {
            return Some(Err(LoneSurrogate));
        }
        let code = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
        Some(char::from_u32(code).ok_or(LoneSurrogate))
    }

    fn four_digits(&mut self) -> Option<u32> {
        let digits: &[u8; 4] = self.text.as_bytes().get(self.offset..)?.first_chunk()?;
        let mut number = 0;
        for &digit in digits {
            number = number << 4 | char::from(digit).to_digit(16)?;
        }
        self.offset += 4;
        Some(number)
    }

    /// Reads the number that starts right here.
    fn number(&mut self) -> Result<Value, Fault> {
        let start = self.offset;
        let negative = self.peek() == Some(b'-');
        self.offset += usize::from(negative);
        let malformed = |at: usize| Fault { offset: at, kind: JsonErrorKind::NumberMalformed };
        let first_digit = self.peek();
        let (magnitude, digits) = self.digits();
        if digits == 0 || (digits > 1 && first_digit == Some(b'0')) {
            return Err(malformed(start));
        }
        let mut is_float = false;
        if self.peek() == Some(b'.') {
            is_float = true;
            self.offset += 1;
            if self.digits().1 == 0 {
                return Err(malformed(start));
            }
        }
        if let Some(b'e' | b'E') = self.peek() {
            is_float = true;
            self.offset += 1;
            self.offset += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            if self.digits().1 == 0 {
                return Err(malformed(start));
            }
        }
        let number = if is_float { self.float(start) } else { integer(negative, magnitude) };
        number.map_err(|kind| Fault { offset: start, kind })
    }

    fn float(&self, start: usize) -> Result<Value, JsonErrorKind> {
        let number = self.text[start..self.offset].parse();
        let number = number.map_err(|_| JsonErrorKind::NumberMalformed)?;
        Value::finite(number).ok_or(JsonErrorKind::FloatOutOfRange)
    }

    /// Passes digits: their number if it fits, and how many there were.
    fn digits(&mut self) -> (Option<u64>, usize) {
        let start = self.offset;
        let mut number = Some(0_u64);
        while let Some(byte @ b'0'..=b'9') = self.peek() {
            let digit = u64::from(byte - b'0');
            number = number.and_then(|number| number.checked_mul(10)?.checked_add(digit));
            self.offset += 1;
        }
        (number, self.offset - start)
    }

    /// Where a name stands for the second time in the object that opens at `opening`. The object has been read
    /// once, so this goes through; it runs at most once per text, because the text is refused then.
    #[cold]
    fn second_use(&self, opening: usize) -> usize {
        let mut again = Parser {
            text: self.text,
            offset: opening + 1,
            depth_left: DEPTH_MAX,
            values_left: usize::MAX,
            limits: self.limits,
        };
        let mut seen = BTreeSet::new();
        loop {
            again.skip_space();
            let offset = again.offset;
            let Ok(name) = again.name() else { return offset };
            if !seen.insert(name) {
                return offset;
            }
            again.skip_space();
            if again.value().is_err() || !again.is_continued(b'}', "").unwrap_or(false) {
                return offset;
            }
        }
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.offset += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.offset).copied()
    }

    /// What is not read yet. The offset is at a character's start whenever a fault is told or a word is looked
    /// for, as every step passes ASCII or a run that ASCII ends.
    fn rest(&self) -> &'a str {
        &self.text[self.offset..]
    }

    #[cold]
    fn unexpected(&self, expected: &'static str) -> Fault {
        self.fault(match self.rest().chars().next() {
            Some(found) => JsonErrorKind::Unexpected { found, expected },
            None => JsonErrorKind::Truncated { expected },
        })
    }

    #[cold]
    fn fault(&self, kind: JsonErrorKind) -> Fault {
        Fault { offset: self.offset, kind }
    }
}

/// How many entries an object that has any gets room for at first.
const ENTRIES_FIRST: usize = 4;

/// Half of a pair of `\u` escapes.
struct LoneSurrogate;

fn integer(negative: bool, magnitude: Option<u64>) -> Result<Value, JsonErrorKind> {
    let magnitude = magnitude.ok_or(JsonErrorKind::IntegerOutOfRange)?;
    if !negative {
        return Ok(Value::from(magnitude));
    }
    let number = 0_i64.checked_sub_unsigned(magnitude);
    number.map(Value::Int).ok_or(JsonErrorKind::IntegerOutOfRange)
}
