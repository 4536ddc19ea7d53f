//! Expressions: one loop climbs the table of precedence, everything else hangs below it.

use super::super::ast::{
    Aggregate, AggregateFunction, BinaryOp, Case, Expr, ExprKind, IsTest, Like, UnaryOp,
};
use super::super::error::{DqlError, ErrorKind};
use super::super::eval;
use super::super::functions::{self, Function};
use super::super::lexer::{Span, TokenKind};
use super::{Parsed, Parser, is_word};
use crate::value::Value;

/// How tightly an operator binds; a higher level binds tighter, equal levels associate to the left.
type Level = u8;

const LEVEL_OR: Level = 5;
const LEVEL_XOR: Level = 7;
const LEVEL_AND: Level = 10;
const LEVEL_NOT: Level = 15;
const LEVEL_IS: Level = 17;
const LEVEL_LIKE: Level = 19;
const LEVEL_COMPARE: Level = 20;
const LEVEL_SHIFT: Level = 22;
const LEVEL_SUM: Level = 30;
const LEVEL_TERM: Level = 40;

/// What may follow an operand.
#[derive(Clone, Copy)]
enum Infix {
    Or,
    And,
    Binary(BinaryOp),
    Is,
    Like { ignore_case: bool },
    Between,
    In,
}

const MARKED: [(&str, Level, BinaryOp); 16] = [
    ("=", LEVEL_COMPARE, BinaryOp::Equal),
    ("==", LEVEL_COMPARE, BinaryOp::Equal),
    ("!=", LEVEL_COMPARE, BinaryOp::NotEqual),
    ("<>", LEVEL_COMPARE, BinaryOp::NotEqual),
    ("<", LEVEL_COMPARE, BinaryOp::Less),
    ("<=", LEVEL_COMPARE, BinaryOp::LessOrEqual),
    (">", LEVEL_COMPARE, BinaryOp::Greater),
    (">=", LEVEL_COMPARE, BinaryOp::GreaterOrEqual),
    ("<<", LEVEL_SHIFT, BinaryOp::ShiftLeft),
    (">>", LEVEL_SHIFT, BinaryOp::ShiftRight),
    ("+", LEVEL_SUM, BinaryOp::Add),
    ("-", LEVEL_SUM, BinaryOp::Subtract),
    ("||", LEVEL_SUM, BinaryOp::Concat),
    ("*", LEVEL_TERM, BinaryOp::Multiply),
    ("/", LEVEL_TERM, BinaryOp::Divide),
    ("%", LEVEL_TERM, BinaryOp::Remainder),
];

const WORDED: [(&str, Level, Infix); 7] = [
    ("OR", LEVEL_OR, Infix::Or),
    ("XOR", LEVEL_XOR, Infix::Binary(BinaryOp::Xor)),
    ("AND", LEVEL_AND, Infix::And),
    ("LIKE", LEVEL_LIKE, Infix::Like { ignore_case: false }),
    ("ILIKE", LEVEL_LIKE, Infix::Like { ignore_case: true }),
    ("BETWEEN", LEVEL_COMPARE, Infix::Between),
    ("IN", LEVEL_COMPARE, Infix::In),
];

const AGGREGATES: [(&str, AggregateFunction); 6] = [
    ("COUNT", AggregateFunction::Count),
    ("SUM", AggregateFunction::Sum),
    ("AVG", AggregateFunction::Average),
    ("MIN", AggregateFunction::Minimum),
    ("MAX", AggregateFunction::Maximum),
    ("MID", AggregateFunction::Middle),
];

impl Parser<'_> {
    pub(super) fn expr(&mut self) -> Parsed<Expr> {
        self.expr_at(LEVEL_OR)
    }

    /// An expression of operators that bind at least as tightly as `level`.
    fn expr_at(&mut self, level: Level) -> Parsed<Expr> {
        self.enter()?;
        let start = self.token.span;
        let mut left = self.operand(level)?;
        while let Some((infix, found, negated)) = self.infix()?
            && found >= level
        {
            left = self.infix_expr(infix, left, found, negated, start)?;
        }
        self.leave();
        Ok(left)
    }

    /// What an operator makes of the expression before it.
    fn infix_expr(
        &mut self,
        infix: Infix,
        left: Expr,
        level: Level,
        negated: bool,
        start: Span,
    ) -> Parsed<Expr> {
        if negated {
            self.advance()?;
        }
        self.advance()?;
        let expr = self.infix_operands(infix, left, level, start)?;
        if negated {
            return self.make(ExprKind::Unary(UnaryOp::Not, Box::new(expr)), start);
        }
        Ok(expr)
    }

    fn operand(&mut self, level: Level) -> Parsed<Expr> {
        if level > LEVEL_NOT || !self.is_word("NOT") {
            return self.unary();
        }
        let start = self.advance()?.span;
        let operand = self.expr_at(LEVEL_NOT)?;
        self.make(ExprKind::Unary(UnaryOp::Not, Box::new(operand)), start)
    }

    /// The operator at the current token, its level, and whether it is a `NOT` form of two words.
    fn infix(&self) -> Parsed<Option<(Infix, Level, bool)>> {
        if let TokenKind::Mark(mark) = self.token.kind {
            let found = MARKED.into_iter().find(|entry| entry.0 == mark);
            return Ok(found.map(|(_, level, op)| (Infix::Binary(op), level, false)));
        }
        if self.is_word("IS") {
            return Ok(Some((Infix::Is, LEVEL_IS, false)));
        }
        let negated = self.is_word("NOT");
        let following = if negated { self.following() } else { self.token.kind.clone() };
        if is_word(&following, "SIMILAR") {
            return Err(self.unsupported("SIMILAR TO", self.token.span));
        }
        let found = WORDED.into_iter().find(|entry| is_word(&following, entry.0));
        Ok(found
            .filter(|&(_, level, _)| !negated || level >= LEVEL_LIKE)
            .map(|(_, level, infix)| (infix, level, negated)))
    }

    /// What follows an operator, and the expression of both sides. The operator's token is behind us.
    fn infix_operands(
        &mut self,
        infix: Infix,
        left: Expr,
        level: Level,
        start: Span,
    ) -> Parsed<Expr> {
        let kind = match infix {
            Infix::Or => ExprKind::Or(self.chain("OR", left, level)?),
            Infix::And => ExprKind::And(self.chain("AND", left, level)?),
            Infix::Binary(op) => {
                ExprKind::Binary(op, Box::new(left), Box::new(self.expr_at(level + 1)?))
            }
            Infix::Is => return self.is_test(left, start),
            Infix::Like { ignore_case } => {
                let pattern = self.expr_at(level + 1)?;
                let escape = self.escape_clause()?;
                let like = Like { text: left, pattern, escape, ignore_case, ready: None };
                ExprKind::Like(Box::new(like))
            }
            Infix::Between => {
                let low = self.expr_at(LEVEL_SHIFT)?;
                self.expect_word("AND")?;
                let high = self.expr_at(LEVEL_SHIFT)?;
                ExprKind::Between(Box::new([left, low, high]))
            }
            Infix::In if self.take_mark("(")? => {
                let list = self.list(Self::expr)?;
                self.expect_mark(")")?;
                ExprKind::InList(Box::new(left), list, None)
            }
            Infix::In => {
                ExprKind::InArray(Box::new(left), Box::new(self.expr_at(LEVEL_SHIFT)?), None)
            }
        };
        self.make(kind, start)
    }

    /// The operands of one run of `AND` or `OR`: a list, because programs write hundreds of them in a row.
    fn chain(&mut self, word: &str, left: Expr, level: Level) -> Parsed<Vec<Expr>> {
        let mut operands = vec![left, self.expr_at(level + 1)?];
        while self.take_word(word)? {
            operands.push(self.expr_at(level + 1)?);
        }
        Ok(operands)
    }

    fn is_test(&mut self, left: Expr, start: Span) -> Parsed<Expr> {
        let negated = self.take_word("NOT")?;
        let tests = [
            ("NULL", IsTest::Null),
            ("UNKNOWN", IsTest::Null),
            ("MISSING", IsTest::Missing),
            ("TRUE", IsTest::True),
            ("FALSE", IsTest::False),
        ];
        let Some((_, test)) = tests.into_iter().find(|(word, _)| self.is_word(word)) else {
            return Err(self.expected("NULL, UNKNOWN, MISSING, TRUE or FALSE"));
        };
        self.advance()?;
        let tested = self.make(ExprKind::Is(test, Box::new(left)), start)?;
        if negated {
            self.make(ExprKind::Unary(UnaryOp::Not, Box::new(tested)), start)
        } else {
            Ok(tested)
        }
    }

    fn escape_clause(&mut self) -> Parsed<Option<char>> {
        if !self.take_word("ESCAPE")? {
            return Ok(None);
        }
        let span = self.token.span;
        let escape = self.string("a string of one character")?;
        let mut chars = escape.chars();
        match (chars.next(), chars.next()) {
            (Some(character), None) => Ok(Some(character)),
            _ => {
                let message = "ESCAPE takes a string of one character";
                Err(self.error_at(ErrorKind::Invalid, message, span))
            }
        }
    }

    fn unary(&mut self) -> Parsed<Expr> {
        let TokenKind::Mark(mark @ ("-" | "+" | "!")) = self.token.kind else {
            return self.postfix();
        };
        let start = self.advance()?.span;
        self.enter()?;
        let operand = self.unary()?;
        self.leave();
        let op = match mark {
            "-" => UnaryOp::Minus,
            "+" => UnaryOp::Plus,
            _ => UnaryOp::Not,
        };
        // A negative number is a literal and no term: programs write long lists of them.
        if let (UnaryOp::Minus, ExprKind::Literal(number)) = (op, &operand.kind)
            && number.is_number()
            && let Some(negated) = eval::negate(number)
        {
            return self.make(ExprKind::Literal(negated), start);
        }
        self.make(ExprKind::Unary(op, Box::new(operand)), start)
    }

    fn postfix(&mut self) -> Parsed<Expr> {
        let start = self.token.span;
        let mut base = self.primary()?;
        let mut steps = 0;
        while self.take_mark(".")? {
            let name = self.any_name("a field behind the dot")?;
            steps += 1;
            self.check_steps(steps, start)?;
            base = self.make(ExprKind::Member(Box::new(base), name), start)?;
        }
        Ok(base)
    }

    fn primary(&mut self) -> Parsed<Expr> {
        match &self.token.kind {
            TokenKind::Word(_) | TokenKind::Quoted(_) => return self.worded(),
            TokenKind::Mark("(") => {
                self.advance()?;
                let inner = self.expr()?;
                self.expect_mark(")")?;
                return Ok(inner);
            }
            TokenKind::Mark("[") => return self.array(),
            TokenKind::Mark("{") => return self.object(),
            TokenKind::Mark(":") => return self.parameter(),
            _ => {}
        }
        self.literal()
    }

    fn literal(&mut self) -> Parsed<Expr> {
        let start = self.token.span;
        let value = match &self.token.kind {
            TokenKind::String(value) => Value::from(&**value),
            TokenKind::Integer(value) => Value::from(*value),
            TokenKind::Float(value) => Value::Float(*value),
            _ => return Err(self.expected("an expression")),
        };
        self.advance()?;
        self.make(ExprKind::Literal(value), start)
    }

    /// What begins with a word: a constant, `CASE`, `CAST`, a call or a path.
    fn worded(&mut self) -> Parsed<Expr> {
        let start = self.token.span;
        if let Some(value) = self.constant() {
            self.advance()?;
            return self.make(ExprKind::Literal(value), start);
        }
        if self.is_word("CASE") {
            return self.case();
        }
        let is_call = self.following() == TokenKind::Mark("(");
        if is_call && self.is_word("CAST") {
            return self.cast();
        }
        if is_call && (self.is_name() || self.is_word("TRIM")) {
            return self.call();
        }
        if self.is_word("ANY") || self.is_word("EVERY") {
            return Err(self.unsupported("ANY and EVERY", start));
        }
        if !self.is_name() {
            return Err(self.expected("an expression"));
        }
        let path = self.path()?;
        self.make(ExprKind::Path(path), start)
    }

    fn constant(&self) -> Option<Value> {
        let constants =
            [("TRUE", Value::Bool(true)), ("FALSE", Value::Bool(false)), ("NULL", Value::Null)];
        constants.into_iter().find(|(word, _)| self.is_word(word)).map(|(_, value)| value)
    }

    fn parameter(&mut self) -> Parsed<Expr> {
        let colon = self.advance()?.span;
        let TokenKind::Word(name) = self.token.kind else {
            return Err(self.expected("the name of a parameter"));
        };
        if self.token.span.start != colon.end {
            return Err(self.error("a parameter's name follows its colon without a blank"));
        }
        self.advance()?;
        let span = Span { start: colon.start, end: self.last_end };
        let index = self.parameter_index(name, span);
        self.make(ExprKind::Parameter(index), colon)
    }

    fn array(&mut self) -> Parsed<Expr> {
        let start = self.advance()?.span;
        let mut items = Vec::new();
        if !self.is_mark("]") {
            items = self.list(Self::expr)?;
        }
        self.expect_mark("]")?;
        self.make(ExprKind::Array(items), start)
    }

    fn object(&mut self) -> Parsed<Expr> {
        let start = self.advance()?.span;
        let mut pairs = Vec::new();
        if !self.is_mark("}") {
            pairs = self.list(|parser| {
                let quoted = matches!(parser.token.kind, TokenKind::String(_));
                if parser.in_documents && !quoted {
                    return Err(parser.expected("a quoted key, as in {'name': value}"));
                }
                let key = parser.expr()?;
                parser.expect_mark(":")?;
                Ok((key, parser.expr()?))
            })?;
        }
        self.expect_mark("}")?;
        self.make(ExprKind::Object(pairs), start)
    }

    fn case(&mut self) -> Parsed<Expr> {
        let start = self.advance()?.span;
        let operand = if self.is_word("WHEN") { None } else { Some(self.expr()?) };
        let mut arms = Vec::new();
        while self.take_word("WHEN")? {
            let when = self.expr()?;
            self.expect_word("THEN")?;
            arms.push((when, self.expr()?));
        }
        if arms.is_empty() {
            return Err(self.expected("WHEN"));
        }
        let otherwise = if self.take_word("ELSE")? { Some(self.expr()?) } else { None };
        self.expect_word("END")?;
        self.make(ExprKind::Case(Box::new(Case { operand, arms, otherwise })), start)
    }

    /// `CAST(x AS type)`, which is the function with the type's name as its second argument.
    fn cast(&mut self) -> Parsed<Expr> {
        let start = self.advance()?.span;
        self.expect_mark("(")?;
        let value = self.expr()?;
        let target = if self.take_word("AS")? {
            let name_start = self.token.span;
            let name = self.any_name("a type")?;
            self.make(ExprKind::Literal(Value::from(name)), name_start)?
        } else {
            self.expect_mark(",")?;
            self.expr()?
        };
        self.expect_mark(")")?;
        self.make(ExprKind::Call(functions::cast(), vec![value, target]), start)
    }

    fn call(&mut self) -> Parsed<Expr> {
        let start = self.token.span;
        let name = self.any_name("a function")?;
        self.expect_mark("(")?;
        if let Some((_, function)) =
            AGGREGATES.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(&name))
        {
            return self.aggregate(function, start);
        }
        if name.eq_ignore_ascii_case("position") {
            return self.position(start);
        }
        let function = self.function(&name, start)?;
        let mut arguments = Vec::new();
        if !self.is_mark(")") {
            arguments = self.list(Self::expr)?;
        }
        self.expect_mark(")")?;
        if arguments.len() < function.arguments_min {
            return Err(self.too_few(function, arguments.len(), start));
        }
        self.make(ExprKind::Call(function, arguments), start)
    }

    fn function(&self, name: &str, start: Span) -> Parsed<&'static Function> {
        functions::find(name).ok_or_else(|| {
            let message = format!("unknown function `{name}`");
            self.error_at(ErrorKind::Invalid, message, start)
        })
    }

    fn too_few(&self, function: &Function, found: usize, start: Span) -> DqlError {
        let Function { name, arguments_min, .. } = function;
        let message = format!("{name} takes at least {arguments_min} arguments, found {found}");
        self.error_at(ErrorKind::Invalid, message, start)
    }

    /// The inside of the brackets of `POSITION(part IN text)`.
    fn position(&mut self, start: Span) -> Parsed<Expr> {
        let part = self.expr_at(LEVEL_SHIFT)?;
        self.expect_word("IN")?;
        let text = self.expr()?;
        self.expect_mark(")")?;
        self.make(ExprKind::Call(functions::pos(), vec![text, part]), start)
    }

    /// The inside of an aggregate's brackets.
    fn aggregate(&mut self, function: AggregateFunction, start: Span) -> Parsed<Expr> {
        let star = function == AggregateFunction::Count && self.take_mark("*")?;
        let distinct = !star && self.take_word("DISTINCT")?;
        let argument = if star { None } else { Some(self.expr()?) };
        self.expect_mark(")")?;
        let aggregate = Aggregate { function, distinct, argument };
        self.make(ExprKind::Aggregate(Box::new(aggregate)), start)
    }
}
