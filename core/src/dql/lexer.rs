//! Text to tokens, one at a time: nothing is held but the place in the text.

use super::error::{DqlError, ErrorKind};

/// A stretch of the statement's text, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// The first byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum TokenKind<'a> {
    /// A plain identifier or a keyword; which of the two, only the parser knows.
    Word(&'a str),
    /// A name between backticks, which is never a keyword.
    Quoted(Box<str>),
    String(Box<str>),
    Integer(u64),
    Float(f64),
    /// An operator or a punctuation mark.
    Mark(&'static str),
    End,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Token<'a> {
    pub(crate) kind: TokenKind<'a>,
    pub(crate) span: Span,
}

/// Longer marks come before their prefixes. `&&` is only for permissions.
const MARKS: [&str; 29] = [
    "<=", ">=", "<>", "<<", ">>", "==", "!=", "||", "&&", "->", "=", "<", ">", "!", "+", "-", "*",
    "/", "%", "(", ")", "[", "]", "{", "}", ",", ".", ":", ";",
];

/// Where we are in the text. Copying it is how the parser looks ahead.
#[derive(Clone, Copy)]
pub(crate) struct Lexer<'a> {
    text: &'a str,
    offset: usize,
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, offset: 0 }
    }

    /// The next token; `End` for ever after the last.
    pub(crate) fn next_token(&mut self) -> Result<Token<'a>, DqlError> {
        self.skip_blanks()?;
        let start = self.offset;
        let kind = self.token_kind()?;
        let span = Span { start: start as u32, end: self.offset as u32 };
        Ok(Token { kind, span })
    }

    fn rest(&self) -> &'a str {
        &self.text[self.offset..]
    }

    fn error(&self, message: impl Into<String>, offset: usize) -> DqlError {
        DqlError::at(ErrorKind::Invalid, message, self.text, offset)
    }

    /// Directives (`/*+ … */`, `--+ …`) are hints, so they are skipped like the comments they look like.
    fn skip_blanks(&mut self) -> Result<(), DqlError> {
        loop {
            let rest = self.rest();
            if let Some(comment) = rest.strip_prefix("/*") {
                let Some(length) = comment.find("*/") else {
                    return Err(self.error("this comment has no end", self.offset));
                };
                self.offset += length + 4;
            } else if rest.starts_with("--") {
                self.offset += rest.find('\n').unwrap_or(rest.len());
            } else {
                let blanks = rest.bytes().take_while(|byte| b" \t\r\n".contains(byte)).count();
                if blanks == 0 {
                    return Ok(());
                }
                self.offset += blanks;
            }
        }
    }

    fn token_kind(&mut self) -> Result<TokenKind<'a>, DqlError> {
        let rest = self.rest();
        let Some(&first) = rest.as_bytes().first() else { return Ok(TokenKind::End) };
        match first {
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => Ok(TokenKind::Word(self.take_while(is_word))),
            b'0'..=b'9' => self.number(),
            b'\'' | b'"' => self.string(char::from(first)),
            b'`' => self.quoted_name(),
            _ => self.mark(),
        }
    }

    fn take_while(&mut self, accept: impl Fn(u8) -> bool) -> &'a str {
        let rest = self.rest();
        let length = rest.bytes().take_while(|&byte| accept(byte)).count();
        self.offset += length;
        &rest[..length]
    }

    fn mark(&mut self) -> Result<TokenKind<'a>, DqlError> {
        let rest = self.rest();
        if let Some(mark) = MARKS.into_iter().find(|mark| rest.starts_with(mark)) {
            self.offset += mark.len();
            return Ok(TokenKind::Mark(mark));
        }
        let found = rest.chars().next().unwrap_or_default();
        Err(self.error(format!("unexpected character {found:?}"), self.offset))
    }

    fn number(&mut self) -> Result<TokenKind<'a>, DqlError> {
        let start = self.offset;
        let kind = if self.rest().starts_with("0x") || self.rest().starts_with("0X") {
            self.offset += 2;
            let digits = self.take_while(|byte| byte.is_ascii_hexdigit());
            u64::from_str_radix(digits, 16).ok().map(TokenKind::Integer)
        } else {
            self.decimal()
        };
        let kind = kind.filter(|_| !self.rest().bytes().next().is_some_and(is_word));
        kind.ok_or_else(|| self.error("this is not a number", start))
    }

    /// A whole number too large for 64 bits becomes a float, as an overflowing sum does.
    fn decimal(&mut self) -> Option<TokenKind<'a>> {
        let start = self.offset;
        self.take_while(|byte| byte.is_ascii_digit());
        let mut whole = true;
        if self.rest().starts_with('.')
            && self.rest().as_bytes().get(1).is_some_and(u8::is_ascii_digit)
        {
            whole = false;
            self.offset += 1;
            self.take_while(|byte| byte.is_ascii_digit());
        }
        if self.rest().starts_with(['e', 'E']) {
            whole = false;
            self.offset += 1;
            if self.rest().starts_with(['+', '-']) {
                self.offset += 1;
            }
            self.take_while(|byte| byte.is_ascii_digit());
        }
        let digits = &self.text[start..self.offset];
        if whole && let Ok(integer) = digits.parse() {
            return Some(TokenKind::Integer(integer));
        }
        digits.parse().ok().filter(|float: &f64| float.is_finite()).map(TokenKind::Float)
    }

    /// A backtick inside is written twice.
    fn quoted_name(&mut self) -> Result<TokenKind<'a>, DqlError> {
        let start = self.offset;
        let mut name = String::new();
        self.offset += 1;
        loop {
            let Some(length) = self.rest().find('`') else {
                return Err(self.error("this quoted name has no end", start));
            };
            name.push_str(&self.rest()[..length]);
            self.offset += length + 1;
            if !self.rest().starts_with('`') {
                return Ok(TokenKind::Quoted(name.into()));
            }
            name.push('`');
            self.offset += 1;
        }
    }

    fn string(&mut self, quote: char) -> Result<TokenKind<'a>, DqlError> {
        let start = self.offset;
        let mut value = String::new();
        self.offset += 1;
        loop {
            let Some(length) = self.rest().find([quote, '\\']) else {
                return Err(self.error("this string has no end", start));
            };
            value.push_str(&self.rest()[..length]);
            self.offset += length;
            if self.rest().starts_with(quote) {
                self.offset += 1;
                return Ok(TokenKind::String(value.into()));
            }
            value.push(self.escape(start)?);
        }
    }

    /// One JSON escape, from its backslash on; an unknown escape only loses its backslash.
    fn escape(&mut self, string_start: usize) -> Result<char, DqlError> {
        let mut chars = self.rest().chars();
        chars.next();
        let Some(name) = chars.next() else {
            return Err(self.error("this string has no end", string_start));
        };
        if name == 'u' {
            return self.unicode_escape();
        }
        self.offset += 1 + name.len_utf8();
        Ok(match name {
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            other => other,
        })
    }

    fn unicode_escape(&mut self) -> Result<char, DqlError> {
        let start = self.offset;
        let unit = |offset: usize| {
            let digits = self.text.get(offset..offset + 6)?.strip_prefix("\\u")?;
            let all_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            all_hex.then(|| u16::from_str_radix(digits, 16).ok()).flatten()
        };
        let first = unit(start);
        let second = unit(start + 6);
        let units = [first.unwrap_or_default(), second.unwrap_or_default()];
        let decoded = match char::decode_utf16(units).next() {
            Some(Ok(character)) if first.is_some() => Some(character),
            _ => None,
        };
        let Some(character) = decoded else {
            return Err(self.error("this \\u escape is not a character", start));
        };
        self.offset += 6 * character.len_utf16();
        Ok(character)
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Result<Vec<TokenKind<'_>>, DqlError> {
        let mut lexer = Lexer::new(text);
        let mut kinds = Vec::new();
        loop {
            match lexer.next_token()?.kind {
                TokenKind::End => return Ok(kinds),
                kind => kinds.push(kind),
            }
        }
    }

    fn string(text: &str) -> TokenKind<'_> {
        TokenKind::String(text.into())
    }

    #[test]
    fn comments_and_directives_are_blanks() {
        let text = "a -- b\n/* c * / */ /*+ {\"#index\": 1} */ d --+{}";
        assert_eq!(kinds(text), Ok(vec![TokenKind::Word("a"), TokenKind::Word("d")]));
        assert!(kinds("/* a").is_err());
    }

    #[test]
    fn strings_take_json_escapes_in_both_styles() {
        assert_eq!(kinds(r#"'a\nb' "c'd""#), Ok(vec![string("a\nb"), string("c'd")]));
        assert_eq!(kinds(r#"'\q\'\\\/'"#), Ok(vec![string("q'\\/")]));
        assert_eq!(kinds(r"'\u00e9\ud83d\ude00'"), Ok(vec![string("é😀")]));
        assert!(kinds(r"'\ud83d'").is_err());
        assert!(kinds(r"'\u12'").is_err());
        assert!(kinds(r"'\u+123'").is_err());
        assert!(kinds(r"'abc\").is_err());
    }

    #[test]
    fn numbers_keep_their_kind() {
        let found = kinds("42 0xFF 2.5 1e3 1.5E-2 18446744073709551616").expect("numbers");
        let expected = [
            TokenKind::Integer(42),
            TokenKind::Integer(255),
            TokenKind::Float(2.5),
            TokenKind::Float(1000.0),
            TokenKind::Float(0.015),
            TokenKind::Float(18_446_744_073_709_551_616.0),
        ];
        assert_eq!(found, expected);
        for wrong in ["1e", "0x", "1e999", "12ab", "0xFFFFFFFFFFFFFFFFF"] {
            assert!(kinds(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_backtick_inside_a_quoted_name_is_doubled() {
        assert_eq!(kinds("`a``b-ü`"), Ok(vec![TokenKind::Quoted("a`b-ü".into())]));
        assert!(kinds("`a").is_err());
    }

    #[test]
    fn a_colon_stands_alone() {
        let expected = [TokenKind::Word("i"), TokenKind::Mark(":"), TokenKind::Word("v")];
        assert_eq!(kinds("i:v"), Ok(expected.to_vec()));
    }
}
