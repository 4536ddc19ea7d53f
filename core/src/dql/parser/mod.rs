//! Tokens to a [`Statement`]: recursive descent, with precedence climbing for expressions.
//!
//! The recursion is bounded twice: by the nesting of what is being read, and by the height of what was built,
//! since a long chain of left-associative operators is a tall tree without any nesting.

mod expr;
mod resolve;
mod statement;

use super::ast::{Expr, ExprKind, Parameter, Path, Statement};
use super::error::{DqlError, ErrorKind, floor_boundary};
use super::lexer::{Lexer, Span, Token, TokenKind};
use super::ready;
use crate::map::Map;
use crate::value;

/// The longest statement. Large values belong in parameters.
pub const STATEMENT_BYTES_MAX: usize = 1 << 20;

/// The deepest nesting of brackets and operators, and the tallest expression.
pub const DEPTH_MAX: u16 = 256;

/// The most operators, tests, calls and the like in a statement. A list behind `IN` is part of one; literals, `AND`,
/// `OR` and brackets are none.
pub const TERMS_MAX: usize = 4_096;

/// The most places of a statement where the name of a field or a parameter stands.
pub const NAMES_MAX: usize = 4 * TERMS_MAX;

/// The most columns of a SELECT.
pub const COLUMNS_MAX: usize = 1_024;

/// The most keys in `ORDER BY`.
const ORDER_KEYS_MAX: usize = 64;

/// About how many bytes a node of an expression takes, with its place in its parent.
const NODE_BYTES: usize = 2 * size_of::<Expr>();

/// The most steps in a path. A path may create the objects that it walks through.
pub const PATH_STEPS_MAX: usize = 64;

const _: () = assert!(PATH_STEPS_MAX < value::DEPTH_MAX, "a path stays within a document");

/// Words that are never a name unless quoted, sorted.
const RESERVED: [&str; 61] = [
    "ALL",
    "AND",
    "ANY",
    "AS",
    "ASC",
    "BETWEEN",
    "BY",
    "CASE",
    "CAST",
    "COLLECTION",
    "CROSS",
    "DELETE",
    "DESC",
    "DISTINCT",
    "ELSE",
    "END",
    "ESCAPE",
    "EVERY",
    "EVICT",
    "FALSE",
    "FOR",
    "FROM",
    "FULL",
    "GROUP",
    "HAVING",
    "ILIKE",
    "IN",
    "INNER",
    "INSERT",
    "INTO",
    "IS",
    "JOIN",
    "LEFT",
    "LIKE",
    "LIMIT",
    "MISSING",
    "NOT",
    "NULL",
    "OFFSET",
    "ON",
    "OR",
    "ORDER",
    "OUTER",
    "RETURNING",
    "RIGHT",
    "SATISFIES",
    "SELECT",
    "SET",
    "SIMILAR",
    "THEN",
    "TRIM",
    "TRUE",
    "UNKNOWN",
    "UNSET",
    "UPDATE",
    "USE",
    "VALUES",
    "WHEN",
    "WHERE",
    "WITHIN",
    "XOR",
];

impl Statement {
    /// Parses one statement, with or without a `;` at its end.
    ///
    /// # Errors
    ///
    /// `Invalid` for what is no statement, `Unsupported` for what this engine does not do; both say where.
    pub fn parse(text: &str) -> Result<Self, DqlError> {
        if text.len() > STATEMENT_BYTES_MAX {
            let message = format!(
                "the statement has {} bytes, {STATEMENT_BYTES_MAX} are allowed: pass large values as parameters",
                text.len()
            );
            return Err(DqlError::new(ErrorKind::Invalid, message));
        }
        let mut parser = Parser::new(text)?;
        let mut kind = parser.statement()?;
        let ready_count = ready::mark(&mut kind);
        let size_bytes = size_of::<Self>() + text.len() + parser.nodes * NODE_BYTES;
        let parameters = parser.parameters;
        Ok(Self { text: text.into(), kind, parameters, ready_count, size_bytes })
    }
}

type Parsed<T> = Result<T, DqlError>;

struct Parser<'a> {
    text: &'a str,
    /// Stands behind `token`.
    lexer: Lexer<'a>,
    token: Token<'a>,
    /// The end of the token before `token`.
    last_end: u32,
    depth: u16,
    nodes: usize,
    terms: usize,
    names: usize,
    parameters: Vec<Parameter>,
    /// The places in `parameters`, by name.
    parameter_indexes: Map<Box<str>, u32>,
    /// Inside `DOCUMENTS (…)`, where an object's keys must be strings.
    in_documents: bool,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Parsed<Self> {
        let mut lexer = Lexer::new(text);
        let token = lexer.next_token()?;
        Ok(Self {
            text,
            lexer,
            token,
            last_end: 0,
            depth: 0,
            nodes: 0,
            terms: 0,
            names: 0,
            parameters: Vec::new(),
            parameter_indexes: Map::default(),
            in_documents: false,
        })
    }

    fn advance(&mut self) -> Parsed<Token<'a>> {
        let next = self.lexer.next_token()?;
        self.last_end = self.token.span.end;
        Ok(std::mem::replace(&mut self.token, next))
    }

    /// The token behind the current one; a lexical error there is reported once we reach it.
    fn following(&self) -> TokenKind<'a> {
        let mut lexer = self.lexer;
        lexer.next_token().map_or(TokenKind::End, |token| token.kind)
    }

    fn error(&self, message: impl Into<String>) -> DqlError {
        self.error_at(ErrorKind::Invalid, message, self.token.span)
    }

    fn error_at(&self, kind: ErrorKind, message: impl Into<String>, span: Span) -> DqlError {
        DqlError::at(kind, message, self.text, span.start as usize)
    }

    fn unsupported(&self, what: &str, span: Span) -> DqlError {
        self.error_at(ErrorKind::Unsupported, format!("Unsupported feature: {what}"), span)
    }

    fn expected(&self, what: &str) -> DqlError {
        let span = self.token.span;
        let found = &self.text[span.start as usize..span.end as usize];
        let found = match &self.token.kind {
            TokenKind::End => "the end of the statement".to_owned(),
            TokenKind::Word(word) if is_reserved(word) => format!("the reserved word {found}"),
            _ => format!("`{}`", excerpt(found)),
        };
        self.error(format!("expected {what}, found {found}"))
    }

    fn is_word(&self, word: &str) -> bool {
        is_word(&self.token.kind, word)
    }

    fn is_mark(&self, mark: &str) -> bool {
        matches!(self.token.kind, TokenKind::Mark(found) if found == mark)
    }

    fn take_word(&mut self, word: &str) -> Parsed<bool> {
        let found = self.is_word(word);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    fn take_mark(&mut self, mark: &str) -> Parsed<bool> {
        let found = self.is_mark(mark);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    fn expect_word(&mut self, word: &str) -> Parsed<()> {
        if self.take_word(word)? { Ok(()) } else { Err(self.expected(word)) }
    }

    fn expect_mark(&mut self, mark: &str) -> Parsed<()> {
        if self.take_mark(mark)? { Ok(()) } else { Err(self.expected(&format!("`{mark}`"))) }
    }

    /// One or more of something, with commas between.
    fn list<T>(&mut self, mut one: impl FnMut(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
        let mut items = vec![one(self)?];
        while self.take_mark(",")? {
            items.push(one(self)?);
        }
        Ok(items)
    }

    fn is_name(&self) -> bool {
        match &self.token.kind {
            TokenKind::Word(word) => !is_reserved(word),
            kind => matches!(kind, TokenKind::Quoted(_)),
        }
    }

    fn name(&mut self, what: &str) -> Parsed<Box<str>> {
        if self.is_name() { self.any_name(what) } else { Err(self.expected(what)) }
    }

    /// A name in a place where no keyword can stand, such as behind a dot.
    fn any_name(&mut self, what: &str) -> Parsed<Box<str>> {
        if !matches!(self.token.kind, TokenKind::Word(_) | TokenKind::Quoted(_)) {
            return Err(self.expected(what));
        }
        match self.advance()?.kind {
            TokenKind::Word(word) => Ok(word.into()),
            TokenKind::Quoted(name) => Ok(name),
            _ => Err(self.expected(what)),
        }
    }

    fn path(&mut self) -> Parsed<Path> {
        let start = self.token.span;
        let mut steps = vec![self.name("a field")?];
        while self.take_mark(".")? {
            steps.push(self.any_name("a field behind the dot")?);
            self.check_steps(steps.len(), start)?;
        }
        Ok(steps.into())
    }

    fn check_steps(&self, count: usize, start: Span) -> Parsed<()> {
        if count <= PATH_STEPS_MAX {
            return Ok(());
        }
        let message = format!("this path has more than {PATH_STEPS_MAX} steps");
        Err(self.error_at(ErrorKind::Invalid, message, start))
    }

    fn string(&mut self, what: &str) -> Parsed<Box<str>> {
        if let TokenKind::String(value) = &self.token.kind {
            let value = value.clone();
            self.advance()?;
            return Ok(value);
        }
        Err(self.expected(what))
    }

    /// The place in the list of parameters; a name is listed once.
    fn parameter_index(&mut self, name: &str, span: Span) -> u32 {
        let parameters = &mut self.parameters;
        *self.parameter_indexes.get_or_insert_with(name.into(), || {
            parameters.push(Parameter { name: name.into(), span });
            parameters.len() as u32 - 1
        })
    }

    /// Goes one level deeper. Whoever calls this calls `leave` too, except on the way out with an error, which
    /// ends the parse; a closure in between would cost a frame on every level.
    fn enter(&mut self) -> Parsed<()> {
        if self.depth == DEPTH_MAX {
            return Err(self.too_deep(self.token.span));
        }
        self.depth += 1;
        Ok(())
    }

    fn leave(&mut self) {
        self.depth -= 1;
    }

    fn too_deep(&self, span: Span) -> DqlError {
        let message = format!("this is nested more than {DEPTH_MAX} levels deep");
        self.error_at(ErrorKind::Invalid, message, span)
    }

    /// An expression from `start` to the token before the current one.
    fn make(&mut self, kind: ExprKind, start: Span) -> Parsed<Expr> {
        self.nodes += 1;
        self.count(&kind, start)?;
        let expr = Expr::new(kind, Span { start: start.start, end: self.last_end });
        if expr.height > DEPTH_MAX { Err(self.too_deep(expr.span)) } else { Ok(expr) }
    }
}

impl Parser<'_> {
    /// Bounds what a statement can say, and with it what it costs to look at one document.
    fn count(&mut self, kind: &ExprKind, start: Span) -> Parsed<()> {
        let (counted, max, what) = match kind {
            ExprKind::Literal(_) => return Ok(()),
            ExprKind::Path(_) | ExprKind::Parameter(_) => {
                (&mut self.names, NAMES_MAX, "names of fields and parameters")
            }
            ExprKind::And(_) | ExprKind::Or(_) | ExprKind::Array(_) | ExprKind::Object(_) => {
                return Ok(());
            }
            _ => (&mut self.terms, TERMS_MAX, "terms"),
        };
        *counted += 1;
        if *counted <= max {
            return Ok(());
        }
        let message = format!(
            "a statement has at most {max} {what}: compare with a list, as in `field IN :values`"
        );
        Err(self.error_at(ErrorKind::Invalid, message, start))
    }

    fn check_count(&self, count: usize, max: usize, what: &str) -> Parsed<()> {
        if count <= max {
            return Ok(());
        }
        Err(self.error(format!("a statement has at most {max} {what}")))
    }
}

fn is_word(kind: &TokenKind<'_>, word: &str) -> bool {
    matches!(kind, TokenKind::Word(found) if found.eq_ignore_ascii_case(word))
}

fn is_reserved(word: &str) -> bool {
    let upper = word.to_ascii_uppercase();
    RESERVED.binary_search(&upper.as_str()).is_ok()
}

/// Enough of the text to recognise it by.
fn excerpt(text: &str) -> &str {
    &text[..floor_boundary(text, 40)]
}

#[cfg(test)]
mod tests;
