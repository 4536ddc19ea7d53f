//! Expressions as text: fields between backticks, strings as JSON, brackets around every operation. The text
//! parses to the same expression, so it also serves to tell whether two are the same.

use std::fmt::{self, Display, Formatter};

use super::ast::{
    Aggregate, AggregateFunction, BinaryOp, Expr, ExprKind, IsTest, Like, Slot, UnaryOp,
};
use crate::value::{Value, json};

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write_expr(self, None, f)
    }
}

/// An expression with the values of its parameters in their places.
pub(crate) struct Bound<'a> {
    pub(crate) expr: &'a Expr,
    pub(crate) parameters: &'a [Value],
}

impl Display for Bound<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write_expr(self.expr, Some(self.parameters), f)
    }
}

type Parameters<'a> = Option<&'a [Value]>;

fn write_expr(expr: &Expr, parameters: Parameters<'_>, f: &mut Formatter<'_>) -> fmt::Result {
    let write = |expr: &Expr, f: &mut Formatter<'_>| write_expr(expr, parameters, f);
    match &expr.kind {
        ExprKind::Literal(value) => write_value(value, f),
        ExprKind::Parameter(index) => match parameters.and_then(|all| all.get(*index as usize)) {
            Some(value) => write_value(value, f),
            None => write!(f, ":p{index}"),
        },
        ExprKind::Path(path) => write_path(path, f),
        ExprKind::Slot(Slot::Key, index) => write!(f, "`#key`.`{index}`"),
        ExprKind::Slot(Slot::Aggregate, index) => write!(f, "`#aggregate`.`{index}`"),
        ExprKind::Slot(Slot::Item, index) => write!(f, "`#item`.`{index}`"),
        ExprKind::Ready(_, inner) => write(inner, f),
        ExprKind::Member(base, name) => {
            f.write_str("(")?;
            write(base, f)?;
            f.write_str(").")?;
            write_name(name, f)
        }
        ExprKind::Array(items) => write_list("[", items, ", ", "]", parameters, f),
        ExprKind::Object(pairs) => write_object(pairs, parameters, f),
        ExprKind::Unary(op, operand) => {
            let sign = match op {
                UnaryOp::Minus => "(- ",
                UnaryOp::Plus => "(+ ",
                UnaryOp::Not => "(NOT ",
            };
            f.write_str(sign)?;
            write(operand, f)?;
            f.write_str(")")
        }
        ExprKind::Binary(op, left, right) => {
            write_between("(", left, sign(*op), right, parameters, f)?;
            f.write_str(")")
        }
        ExprKind::And(operands) => write_list("(", operands, " AND ", ")", parameters, f),
        ExprKind::Or(operands) => write_list("(", operands, " OR ", ")", parameters, f),
        ExprKind::Between(operands) => {
            let [value, low, high] = &**operands;
            write_between("(", value, "BETWEEN", low, parameters, f)?;
            f.write_str(" AND ")?;
            write(high, f)?;
            f.write_str(")")
        }
        ExprKind::InList(left, list, _) => {
            f.write_str("(")?;
            write(left, f)?;
            write_list(" IN (", list, ", ", "))", parameters, f)
        }
        ExprKind::InArray(left, right, _) => write_in_array(left, right, parameters, f),
        ExprKind::Like(like) => write_like(like, parameters, f),
        ExprKind::Is(test, operand) => {
            f.write_str("(")?;
            write(operand, f)?;
            f.write_str(match test {
                IsTest::Null => " IS NULL)",
                IsTest::Missing => " IS MISSING)",
                IsTest::True => " IS TRUE)",
                IsTest::False => " IS FALSE)",
            })
        }
        ExprKind::Case(case) => {
            f.write_str("CASE")?;
            for (word, part) in case.operand.iter().map(|operand| ("", operand)).chain(
                case.arms
                    .iter()
                    .flat_map(|(when, then)| [("WHEN ", when), ("THEN ", then)])
                    .chain(case.otherwise.iter().map(|otherwise| ("ELSE ", otherwise))),
            ) {
                write!(f, " {word}")?;
                write(part, f)?;
            }
            f.write_str(" END")
        }
        ExprKind::Call(function, arguments) => {
            f.write_str("`")?;
            f.write_str(function.name)?;
            write_list("`(", arguments, ", ", ")", parameters, f)
        }
        ExprKind::Aggregate(aggregate) => write_aggregate(aggregate, parameters, f),
    }
}

fn sign(op: BinaryOp) -> &'static str {
    match op {
        BinaryOp::Multiply => "*",
        BinaryOp::Divide => "/",
        BinaryOp::Remainder => "%",
        BinaryOp::Add => "+",
        BinaryOp::Subtract => "-",
        BinaryOp::Concat => "||",
        BinaryOp::ShiftLeft => "<<",
        BinaryOp::ShiftRight => ">>",
        BinaryOp::Equal => "=",
        BinaryOp::NotEqual => "!=",
        BinaryOp::Less => "<",
        BinaryOp::LessOrEqual => "<=",
        BinaryOp::Greater => ">",
        BinaryOp::GreaterOrEqual => ">=",
        BinaryOp::Xor => "XOR",
    }
}

fn write_between(
    open: &str,
    left: &Expr,
    word: &str,
    right: &Expr,
    parameters: Parameters<'_>,
    f: &mut Formatter<'_>,
) -> fmt::Result {
    f.write_str(open)?;
    write_expr(left, parameters, f)?;
    write!(f, " {word} ")?;
    write_expr(right, parameters, f)
}

fn write_list(
    open: &str,
    items: &[Expr],
    between: &str,
    close: &str,
    parameters: Parameters<'_>,
    f: &mut Formatter<'_>,
) -> fmt::Result {
    f.write_str(open)?;
    for (index, item) in items.iter().enumerate() {
        f.write_str(if index == 0 { "" } else { between })?;
        write_expr(item, parameters, f)?;
    }
    f.write_str(close)
}

fn write_object(
    pairs: &[(Expr, Expr)],
    parameters: Parameters<'_>,
    f: &mut Formatter<'_>,
) -> fmt::Result {
    f.write_str("{")?;
    for (index, (key, value)) in pairs.iter().enumerate() {
        f.write_str(if index == 0 { "" } else { ", " })?;
        write_expr(key, parameters, f)?;
        f.write_str(": ")?;
        write_expr(value, parameters, f)?;
    }
    f.write_str("}")
}

/// Brackets behind `IN` would make a list of one, so what prints with brackets hides them in a call.
fn write_in_array(
    left: &Expr,
    right: &Expr,
    parameters: Parameters<'_>,
    f: &mut Formatter<'_>,
) -> fmt::Result {
    let inner = if let ExprKind::Ready(_, inner) = &right.kind { inner } else { right };
    let open = matches!(
        inner.kind,
        ExprKind::Member(..)
            | ExprKind::Unary(..)
            | ExprKind::Binary(..)
            | ExprKind::And(_)
            | ExprKind::Or(_)
            | ExprKind::Between(_)
            | ExprKind::InList(..)
            | ExprKind::InArray(..)
            | ExprKind::Like(_)
            | ExprKind::Is(..)
    );
    f.write_str("(")?;
    write_expr(left, parameters, f)?;
    f.write_str(if open { " IN `ifmissing`(" } else { " IN " })?;
    write_expr(right, parameters, f)?;
    f.write_str(if open { "))" } else { ")" })
}

fn write_like(like: &Like, parameters: Parameters<'_>, f: &mut Formatter<'_>) -> fmt::Result {
    let word = if like.ignore_case { "ILIKE" } else { "LIKE" };
    write_between("(", &like.text, word, &like.pattern, parameters, f)?;
    if let Some(escape) = like.escape {
        f.write_str(" ESCAPE ")?;
        write_value(&Value::from(escape.to_string()), f)?;
    }
    f.write_str(")")
}

fn write_aggregate(
    aggregate: &Aggregate,
    parameters: Parameters<'_>,
    f: &mut Formatter<'_>,
) -> fmt::Result {
    f.write_str(match aggregate.function {
        AggregateFunction::Count => "COUNT(",
        AggregateFunction::Sum => "SUM(",
        AggregateFunction::Average => "AVG(",
        AggregateFunction::Minimum => "MIN(",
        AggregateFunction::Maximum => "MAX(",
        AggregateFunction::Middle => "MID(",
    })?;
    if aggregate.distinct {
        f.write_str("DISTINCT ")?;
    }
    match &aggregate.argument {
        Some(argument) => write_expr(argument, parameters, f)?,
        None => f.write_str("*")?,
    }
    f.write_str(")")
}

fn write_path(path: &[Box<str>], f: &mut Formatter<'_>) -> fmt::Result {
    for (index, step) in path.iter().enumerate() {
        f.write_str(if index == 0 { "" } else { "." })?;
        write_name(step, f)?;
    }
    Ok(())
}

fn write_name(name: &str, f: &mut Formatter<'_>) -> fmt::Result {
    write!(f, "`{}`", name.replace('`', "``"))
}

/// JSON, which for every value is also an expression of the language; binary prints as the text it is in JSON.
fn write_value(value: &Value, f: &mut Formatter<'_>) -> fmt::Result {
    let mut text = Vec::new();
    json::write(value, &mut text);
    f.write_str(&String::from_utf8_lossy(&text))
}
