//! Permission queries: conditions on `_id` in the older query language, compiled to the same expressions.
//!
//! Here a missing field is null, null equals null, and a comparison always has an answer, so comparisons become
//! calls of functions that no DQL statement can name.

use std::cmp::Ordering;

use super::ast::{Expr, ExprKind, UnaryOp};
use super::error::{DqlError, ErrorKind};
use super::eval::{Env, is_true};
use super::functions::{self, Argument, Function};
use super::lexer::{Lexer, Span, Token, TokenKind};
use super::parser::PATH_STEPS_MAX;
use crate::value::Value;

/// The longest permission query.
const QUERY_BYTES_MAX: usize = 64 << 10;

/// The deepest nesting of brackets and negations.
const DEPTH_MAX: usize = 64;

/// One query of a permission: which documents of a collection it covers, by their ids.
#[derive(Clone, Debug)]
pub struct IdFilter {
    text: Box<str>,
    /// The id is its only parameter.
    condition: Expr,
}

/// Parses a query of the older language.
///
/// # Errors
///
/// `Invalid` for what is no query, `Unsupported` for one that tests anything but `_id`; both say where.
pub fn parse_id_filter(text: &str) -> Result<IdFilter, DqlError> {
    if text.len() > QUERY_BYTES_MAX {
        let message = format!("a permission query has at most {QUERY_BYTES_MAX} bytes");
        return Err(DqlError::new(ErrorKind::Invalid, message));
    }
    let mut lexer = Lexer::new(text);
    let token = lexer.next_token()?;
    let mut parser = Parser { text, lexer, token, depth: 0 };
    let condition = parser.any_of()?;
    match parser.token.kind {
        TokenKind::End => Ok(IdFilter { text: text.into(), condition }),
        _ => Err(parser.expected("an operator or the end")),
    }
}

impl IdFilter {
    /// Whether it covers the document with this `_id`.
    #[must_use]
    pub fn matches(&self, id: &Value) -> bool {
        let env = Env { parameters: std::slice::from_ref(id), ..Env::default() };
        is_true(&self.condition, &env)
    }

    /// The text it was parsed from.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

const COMPARISONS: [(&str, &Function); 6] = [
    ("==", &Function::hidden("legacy_equal", 2, |a| verdict(equal(a)))),
    ("!=", &Function::hidden("legacy_not_equal", 2, |a| verdict(!equal(a)))),
    ("<=", &Function::hidden("legacy_le", 2, |a| verdict(compare(a).is_some_and(Ordering::is_le)))),
    ("<", &Function::hidden("legacy_lt", 2, |a| verdict(compare(a).is_some_and(Ordering::is_lt)))),
    (">=", &Function::hidden("legacy_ge", 2, |a| verdict(compare(a).is_some_and(Ordering::is_ge)))),
    (">", &Function::hidden("legacy_gt", 2, |a| verdict(compare(a).is_some_and(Ordering::is_gt)))),
];

const CONTAINS: &Function = &Function::hidden("legacy_contains", 2, |a| {
    let items = a[0].as_deref().and_then(Value::as_array).unwrap_or_default();
    let wanted = or_null(&a[1]);
    verdict(items.iter().any(|item| item.dql_eq(wanted) == Some(true)))
});

fn verdict(truth: bool) -> Option<Value> {
    Some(Value::Bool(truth))
}

fn or_null<'a>(argument: &'a Argument<'_>) -> &'a Value {
    argument.as_deref().unwrap_or(&Value::Null)
}

fn equal(a: &[Argument<'_>]) -> bool {
    or_null(&a[0]).dql_eq(or_null(&a[1])) == Some(true)
}

/// Null is neither less nor greater than anything.
fn compare(a: &[Argument<'_>]) -> Option<Ordering> {
    let (left, right) = (or_null(&a[0]), or_null(&a[1]));
    if left.is_null() { None } else { left.dql_cmp(right) }
}

type Parsed<T> = Result<T, DqlError>;

struct Parser<'a> {
    text: &'a str,
    /// Stands behind `token`.
    lexer: Lexer<'a>,
    token: Token<'a>,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn any_of(&mut self) -> Parsed<Expr> {
        let mut terms = vec![self.all_of()?];
        while self.take_mark("||")? {
            terms.push(self.all_of()?);
        }
        Ok(joined(terms, ExprKind::Or))
    }

    fn all_of(&mut self) -> Parsed<Expr> {
        let mut terms = vec![self.term()?];
        while self.take_mark("&&")? {
            terms.push(self.term()?);
        }
        Ok(joined(terms, ExprKind::And))
    }

    fn term(&mut self) -> Parsed<Expr> {
        let left = self.operand()?;
        let TokenKind::Mark(mark) = self.token.kind else { return Ok(left) };
        let Some((_, function)) = COMPARISONS.into_iter().find(|(other, _)| *other == mark) else {
            return Ok(left);
        };
        self.advance()?;
        let right = self.operand()?;
        Ok(make(ExprKind::Call(function, vec![left, right])))
    }

    fn operand(&mut self) -> Parsed<Expr> {
        if self.depth == DEPTH_MAX {
            return Err(self.error(format!("this is nested more than {DEPTH_MAX} levels deep")));
        }
        self.depth += 1;
        let operand = self.operand_inside();
        self.depth -= 1;
        operand
    }

    fn operand_inside(&mut self) -> Parsed<Expr> {
        if self.take_mark("!")? {
            let operand = self.operand()?;
            return Ok(make(ExprKind::Unary(UnaryOp::Not, Box::new(operand))));
        }
        if self.take_mark("-")? {
            let operand = self.operand()?;
            return Ok(make(ExprKind::Unary(UnaryOp::Minus, Box::new(operand))));
        }
        if self.take_mark("(")? {
            let inner = self.any_of()?;
            self.expect_mark(")")?;
            return Ok(inner);
        }
        if self.take_mark("[")? {
            return self.array();
        }
        let value = match &self.token.kind {
            TokenKind::Word("true") => Value::Bool(true),
            TokenKind::Word("false") => Value::Bool(false),
            TokenKind::Word("null") => Value::Null,
            TokenKind::Word(word) => {
                let word = *word;
                return self.worded(word);
            }
            TokenKind::String(text) => Value::from(&**text),
            TokenKind::Integer(number) => Value::from(*number),
            TokenKind::Float(number) => Value::Float(*number),
            _ => return Err(self.expected("a value")),
        };
        self.advance()?;
        Ok(Expr::literal(value))
    }

    fn array(&mut self) -> Parsed<Expr> {
        let mut items = Vec::new();
        if !self.take_mark("]")? {
            items.push(self.operand()?);
            while self.take_mark(",")? {
                items.push(self.operand()?);
            }
            self.expect_mark("]")?;
        }
        Ok(make(ExprKind::Array(items)))
    }

    fn worded(&mut self, word: &str) -> Parsed<Expr> {
        let start = self.token.span;
        self.advance()?;
        if !self.take_mark("(")? {
            return self.path(word, start);
        }
        let function = match word {
            "starts_with" | "startsWith" => functions::find("starts_with"),
            "ends_with" | "endsWith" => functions::find("ends_with"),
            "contains" => Some(CONTAINS),
            _ => None,
        };
        let Some(function) = function else {
            let message = format!("Unsupported feature: {word}() in a permission");
            return Err(self.error_at(ErrorKind::Unsupported, message, start));
        };
        let first = self.operand()?;
        self.expect_mark(",")?;
        let second = self.operand()?;
        self.expect_mark(")")?;
        Ok(make(ExprKind::Call(function, vec![first, second])))
    }

    /// `_id`, `_id.a`, `_id['a']`; an index into an array leads nowhere, since only objects have steps.
    fn path(&mut self, first: &str, start: Span) -> Parsed<Expr> {
        if first != "_id" {
            let message = format!("a permission may test only _id, found `{first}`");
            return Err(self.error_at(ErrorKind::Unsupported, message, start));
        }
        let mut reached = make(ExprKind::Parameter(0));
        loop {
            let step: Box<str> = if self.take_mark(".")? {
                let TokenKind::Word(step) = self.token.kind else {
                    return Err(self.expected("a field"));
                };
                step.into()
            } else if self.take_mark("[")? {
                match &self.token.kind {
                    TokenKind::String(step) => step.clone(),
                    TokenKind::Integer(index) => index.to_string().into(),
                    _ => return Err(self.expected("a field in quotes")),
                }
            } else {
                return Ok(reached);
            };
            let bracketed = matches!(self.token.kind, TokenKind::String(_) | TokenKind::Integer(_));
            self.advance()?;
            if bracketed {
                self.expect_mark("]")?;
            }
            reached = make(ExprKind::Member(Box::new(reached), step));
            if usize::from(reached.height) > PATH_STEPS_MAX {
                let message = format!("this path has more than {PATH_STEPS_MAX} steps");
                return Err(self.error_at(ErrorKind::Invalid, message, start));
            }
        }
    }

    fn advance(&mut self) -> Parsed<()> {
        self.token = self.lexer.next_token()?;
        Ok(())
    }

    fn take_mark(&mut self, mark: &str) -> Parsed<bool> {
        let found = matches!(self.token.kind, TokenKind::Mark(found) if found == mark);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    fn expect_mark(&mut self, mark: &str) -> Parsed<()> {
        if self.take_mark(mark)? { Ok(()) } else { Err(self.expected(&format!("`{mark}`"))) }
    }

    fn expected(&self, what: &str) -> DqlError {
        self.error(format!("expected {what}"))
    }

    fn error(&self, message: String) -> DqlError {
        self.error_at(ErrorKind::Invalid, message, self.token.span)
    }

    fn error_at(&self, kind: ErrorKind, message: String, span: Span) -> DqlError {
        DqlError::at(kind, message, self.text, span.start as usize)
    }
}

fn make(kind: ExprKind) -> Expr {
    Expr::new(kind, Span::default())
}

fn joined(mut terms: Vec<Expr>, kind: fn(Vec<Expr>) -> ExprKind) -> Expr {
    match terms.len() {
        1 => terms.remove(0),
        _ => make(kind(terms)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(query: &str, id: impl Into<Value>) -> bool {
        let filter = parse_id_filter(query).expect(query);
        assert_eq!(filter.text(), query);
        filter.matches(&id.into())
    }

    fn berth() -> Value {
        let fields = [("harbour", Value::from("h7")), ("berth", Value::from(12))];
        Value::Object(fields.into_iter().collect())
    }

    #[test]
    fn conditions_on_the_id_decide() {
        assert!(covers("true", "x"));
        assert!(!covers("false", "x"));
        assert!(covers("_id.harbour == 'h7'", berth()));
        assert!(covers("_id['harbour'] == \"h7\" && _id.berth >= 12.0", berth()));
        assert!(!covers("_id.harbour != 'h7' || _id.berth < 12", berth()));
        assert!(covers("!(_id.berth > 12) && !false", berth()));
        assert!(covers("_id == 'x'", "x"));
        assert!(covers("starts_with(_id, 'ab') && endsWith(_id, 'c')", "abc"));
        assert!(covers("contains(['a', 'b'], _id)", "b"));
        assert!(!covers("contains(['a', 'b'], _id)", "c"));
    }

    #[test]
    fn what_is_missing_is_null_and_always_compares() {
        assert!(covers("_id.owner == null", berth()));
        assert!(covers("_id.owner != 'me'", berth()));
        assert!(!covers("_id.owner < 1", berth()));
        assert!(!covers("_id.berth == 'h7'", berth()));
        assert!(covers("_id.berth != 'h7'", berth()));
    }

    #[test]
    fn only_the_id_may_be_tested() {
        let error = parse_id_filter("_id == 1 && color == 'red'").expect_err("color is no id");
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert_eq!(
            error.to_string(),
            "line 1, column 13: a permission may test only _id, found `color`"
        );
        for wrong in ["", "_id =", "_id = 1", "regex(_id, 'a')", "_id == 1 _id", "[1", "_id."] {
            assert!(parse_id_filter(wrong).is_err(), "{wrong}");
        }
        assert!(parse_id_filter(&"(".repeat(10_000)).is_err());
        assert!(parse_id_filter(&"!".repeat(10_000)).is_err());
        assert!(parse_id_filter(&format!("_id{}", ".a".repeat(10_000))).is_err());
    }
}
