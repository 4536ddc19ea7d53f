//! The value of an expression. It never fails: what has no value is MISSING, here `None`.

mod compare;
mod number;

use std::borrow::Cow;

use smallvec::SmallVec;

use super::ast::{BinaryOp, Case, Expr, ExprKind, IsTest, Like, Slot, UnaryOp};
use super::functions::{Argument, Function, STRING_BYTES_MAX};
use super::like;
use super::row::{Row, path_of, step_into};
use crate::value::{Object, Value};

pub(crate) use compare::Truth;
pub(crate) use number::{finite, from_integer};

/// What an expression may look at.
#[derive(Clone, Copy, Default)]
pub struct Env<'a> {
    /// The values of [`super::ast::Statement::parameters`].
    pub parameters: &'a [Value],
    /// The document, where there is one.
    pub row: Option<&'a dyn Row>,
    /// The values of the grouping expressions.
    pub(crate) keys: &'a [Option<Value>],
    /// The results of the aggregates.
    pub(crate) aggregates: &'a [Option<Value>],
    /// The projected items of this row.
    pub(crate) items: &'a [Option<Value>],
}

/// The value of `expr`, or `None` if it is MISSING.
#[must_use]
pub fn eval(expr: &Expr, env: &Env<'_>) -> Option<Value> {
    value_of(expr, env).map(Cow::into_owned)
}

/// Whether `condition` is exactly true.
#[must_use]
pub fn is_true(condition: &Expr, env: &Env<'_>) -> bool {
    truth_of(condition, env) == Truth::True
}

fn truth_of(expr: &Expr, env: &Env<'_>) -> Truth {
    Truth::of(value_of(expr, env).as_deref())
}

/// As [`eval`], but what lies ready is borrowed. Each kind has a function of its own, to keep this frame, which
/// is there once per level of the expression, small.
pub(crate) fn value_of<'a>(expr: &'a Expr, env: &Env<'a>) -> Option<Cow<'a, Value>> {
    match &expr.kind {
        ExprKind::Literal(value) => Some(Cow::Borrowed(value)),
        ExprKind::Parameter(index) => env.parameters.get(*index as usize).map(Cow::Borrowed),
        ExprKind::Path(path) => path_of(env.row?, path),
        ExprKind::Slot(slot, index) => slot_value(*slot, *index, env),
        ExprKind::Member(base, name) => member(base, name, env),
        ExprKind::Array(items) => array(items, env),
        ExprKind::Object(pairs) => object(pairs, env),
        ExprKind::Unary(UnaryOp::Not, operand) => owned((!truth_of(operand, env)).value()),
        ExprKind::Unary(op, operand) => sign(*op, operand, env),
        ExprKind::Binary(op, left, right) => binary(*op, left, right, env),
        ExprKind::And(operands) => owned(conjunction(operands, env).value()),
        ExprKind::Or(operands) => owned(disjunction(operands, env).value()),
        ExprKind::Between(operands) => between(operands, env),
        ExprKind::InList(left, list) => in_list(left, list, env),
        ExprKind::InArray(left, right) => in_array(left, right, env),
        ExprKind::Like(like) => is_like(like, env),
        ExprKind::Is(test, operand) => is_test(*test, operand, env),
        ExprKind::Case(case) => case_value(case, env),
        ExprKind::Call(function, arguments) => call(function, arguments, env),
        // The parser leaves aggregates only where they are computed, not where they are read.
        ExprKind::Aggregate(_) => None,
    }
}

fn owned<'a>(value: Option<Value>) -> Option<Cow<'a, Value>> {
    value.map(Cow::Owned)
}

fn slot_value<'a>(slot: Slot, index: u32, env: &Env<'a>) -> Option<Cow<'a, Value>> {
    let values = match slot {
        Slot::Key => env.keys,
        Slot::Aggregate => env.aggregates,
        Slot::Item => env.items,
    };
    values.get(index as usize)?.as_ref().map(Cow::Borrowed)
}

fn member<'a>(base: &'a Expr, name: &str, env: &Env<'a>) -> Option<Cow<'a, Value>> {
    let step = std::slice::from_ref;
    match value_of(base, env)? {
        Cow::Borrowed(value) => value.as_object()?.get(name).map(Cow::Borrowed),
        Cow::Owned(value) => step_into(&value, step(&name.into())).cloned().map(Cow::Owned),
    }
}

/// An element that is MISSING has no place in an array.
fn array<'a>(items: &[Expr], env: &Env<'_>) -> Option<Cow<'a, Value>> {
    owned(Some(Value::Array(items.iter().filter_map(|item| eval(item, env)).collect())))
}

fn object<'a>(pairs: &[(Expr, Expr)], env: &Env<'_>) -> Option<Cow<'a, Value>> {
    let pair = |(key, value): &(Expr, Expr)| {
        let Some(Value::String(key)) = eval(key, env) else { return None };
        Some((Box::from(&*key), eval(value, env)?))
    };
    owned(Some(Value::Object(pairs.iter().filter_map(pair).collect::<Object>())))
}

fn sign<'a>(op: UnaryOp, operand: &Expr, env: &Env<'_>) -> Option<Cow<'a, Value>> {
    let value = eval(operand, env)?;
    match (op, &value) {
        (_, Value::Null) => owned(Some(Value::Null)),
        (UnaryOp::Minus, _) => owned(number::negate(&value)),
        _ => owned(value.is_number().then_some(value)),
    }
}

fn binary<'a>(op: BinaryOp, left: &Expr, right: &Expr, env: &Env<'_>) -> Option<Cow<'a, Value>> {
    if op == BinaryOp::Xor {
        return owned(truth_of(left, env).xor(truth_of(right, env)).value());
    }
    let (left, right) = (value_of(left, env)?, value_of(right, env)?);
    owned(match op {
        BinaryOp::Concat => concat(&left, &right),
        _ if left.is_null() || right.is_null() => Some(Value::Null),
        _ => match compare::verdict(op, &left, &right) {
            Some(verdict) => verdict.value(),
            None => number::arithmetic(op, &left, &right),
        },
    })
}

fn concat(left: &Value, right: &Value) -> Option<Value> {
    let (left, right) = (left.as_str()?, right.as_str()?);
    (left.len() + right.len() <= STRING_BYTES_MAX).then(|| [left, right].concat().into())
}

fn conjunction(operands: &[Expr], env: &Env<'_>) -> Truth {
    let mut result = Truth::True;
    for operand in operands {
        result = result.and(truth_of(operand, env));
        if result == Truth::False {
            break;
        }
    }
    result
}

fn disjunction(operands: &[Expr], env: &Env<'_>) -> Truth {
    let mut result = Truth::False;
    for operand in operands {
        result = result.or(truth_of(operand, env));
        if result == Truth::True {
            break;
        }
    }
    result
}

fn between<'a>(operands: &[Expr; 3], env: &Env<'_>) -> Option<Cow<'a, Value>> {
    let [value, low, high] = operands.each_ref().map(|operand| value_of(operand, env));
    let above = compare::truth(BinaryOp::GreaterOrEqual, value.as_deref(), low.as_deref());
    let below = compare::truth(BinaryOp::LessOrEqual, value.as_deref(), high.as_deref());
    owned(above.and(below).value())
}

/// Membership is a disjunction of equalities: if none is true and one is absent, so is the whole.
fn in_list<'a>(left: &Expr, list: &[Expr], env: &Env<'_>) -> Option<Cow<'a, Value>> {
    let left = value_of(left, env)?;
    let mut result = Truth::False;
    for item in list {
        let item = value_of(item, env);
        result = result.or(compare::truth(BinaryOp::Equal, Some(&left), item.as_deref()));
        if result == Truth::True {
            break;
        }
    }
    owned(result.value())
}

fn in_array<'a>(left: &Expr, right: &Expr, env: &Env<'_>) -> Option<Cow<'a, Value>> {
    let left = value_of(left, env)?;
    let right = value_of(right, env)?;
    if right.is_null() {
        return owned(Some(Value::Null));
    }
    let mut result = Truth::False;
    for item in right.as_array()? {
        result = result.or(compare::truth(BinaryOp::Equal, Some(&left), Some(item)));
        if result == Truth::True {
            break;
        }
    }
    owned(result.value())
}

fn is_like<'a>(like: &Like, env: &Env<'_>) -> Option<Cow<'a, Value>> {
    let (text, pattern) = (value_of(&like.text, env)?, value_of(&like.pattern, env)?);
    if text.is_null() || pattern.is_null() {
        return owned(Some(Value::Null));
    }
    let (text, pattern) = (text.as_str()?, pattern.as_str()?);
    let verdict = like::is_like(text, pattern, like.escape, like.ignore_case);
    owned(verdict.map(Value::Bool))
}

fn is_test<'a>(test: IsTest, operand: &Expr, env: &Env<'_>) -> Option<Cow<'a, Value>> {
    let value = value_of(operand, env);
    let value = value.as_deref();
    let verdict = match test {
        IsTest::Null => value.is_some_and(Value::is_null),
        IsTest::Missing => value.is_none(),
        IsTest::True => value == Some(&Value::Bool(true)),
        IsTest::False => value == Some(&Value::Bool(false)),
    };
    owned(Some(Value::Bool(verdict)))
}

fn case_value<'a>(case: &'a Case, env: &Env<'a>) -> Option<Cow<'a, Value>> {
    let operand = case.operand.as_ref().map(|operand| value_of(operand, env));
    for (when, then) in &case.arms {
        let chosen = match &operand {
            None => truth_of(when, env),
            Some(operand) => {
                let when = value_of(when, env);
                compare::truth(BinaryOp::Equal, operand.as_deref(), when.as_deref())
            }
        };
        if chosen == Truth::True {
            return value_of(then, env);
        }
    }
    match &case.otherwise {
        Some(otherwise) => value_of(otherwise, env),
        None => owned(Some(Value::Null)),
    }
}

fn call<'a>(function: &Function, arguments: &[Expr], env: &Env<'_>) -> Option<Cow<'a, Value>> {
    let values: SmallVec<[Argument<'_>; 3]> =
        arguments.iter().map(|argument| value_of(argument, env)).collect();
    owned(function.call(&values))
}

#[cfg(test)]
mod tests;
