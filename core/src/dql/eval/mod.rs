//! The value of an expression. It never fails: what has no value is MISSING, here `None`.

mod compare;
mod number;

use std::borrow::Cow;

use smallvec::SmallVec;

use super::ast::{BinaryOp, Case, Expr, ExprKind, IsTest, Like, Slot, UnaryOp};
use super::error::DqlError;
use super::functions::{Argument, Function};
use super::like::Pattern;
use super::meter::{Fuel, LOOK_UP, Meter, STEP, VALUE_BYTES_MAX, Weight, too_large};
use super::ready::{Members, Ready};
use super::row::{Row, path_of, step_into};
use crate::value::{Object, Value};

pub(crate) use compare::Truth;
pub(crate) use number::{finite, from_integer, negate};

/// What an expression may look at.
#[derive(Clone, Copy, Default)]
pub struct Env<'a> {
    /// The values of [`super::ast::Statement::parameters`].
    pub parameters: &'a [Value],
    /// The document, where there is one.
    pub row: Option<&'a dyn Row>,
    /// What was computed when arguments were bound.
    pub(crate) ready: &'a [Ready],
    /// Counts the work and gives up what costs too much. Without one nothing is given up.
    pub(crate) meter: Option<&'a Meter>,
    /// The values of the grouping expressions.
    pub(crate) keys: &'a [Option<Value>],
    /// The results of the aggregates.
    pub(crate) aggregates: &'a [Option<Value>],
    /// The projected items of this row.
    pub(crate) items: &'a [Option<Value>],
}

impl Env<'_> {
    /// Counts work that is about to be done; false if it must not be.
    pub(super) fn charge(&self, fuel: Fuel) -> bool {
        self.meter.is_none_or(|meter| meter.charge(fuel))
    }

    /// Gives up with an error where work is counted; elsewhere the value is MISSING.
    pub(super) fn refuse<T>(&self, error: impl FnOnce() -> DqlError) -> Option<T> {
        if let Some(meter) = self.meter {
            meter.refuse(error);
        }
        None
    }
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
    if !env.charge(STEP) {
        return None;
    }
    match &expr.kind {
        ExprKind::Literal(value) => Some(Cow::Borrowed(value)),
        ExprKind::Parameter(index) => env.parameters.get(*index as usize).map(Cow::Borrowed),
        ExprKind::Path(path) => field(path, env),
        ExprKind::Ready(place, inner) => match env.ready.get(*place as usize) {
            Some(Ready::Value(value)) => value.as_ref().map(Cow::Borrowed),
            _ => value_of(inner, env),
        },
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
        ExprKind::InList(left, list, ready) => match members(*ready, env) {
            Some(members) => in_members(left, members.as_ref(), env),
            None => in_list(left, list, env),
        },
        ExprKind::InArray(left, right, ready) => match members(*ready, env) {
            Some(members) => in_members(left, members.as_ref(), env),
            None => in_array(left, right, env),
        },
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

fn field<'a>(path: &[Box<str>], env: &Env<'a>) -> Option<Cow<'a, Value>> {
    let value = path_of(env.row?, path);
    let fuel = value.as_deref().map_or(0, |value| Weight::of(value).fuel());
    value.filter(|_| env.charge(LOOK_UP + fuel / 4))
}

/// An element that is MISSING has no place in an array.
fn array<'a>(items: &[Expr], env: &Env<'_>) -> Option<Cow<'a, Value>> {
    let mut values = Vec::new();
    let mut made = Weight::default();
    for item in items {
        let Some(value) = eval(item, env) else { continue };
        made.add(Weight::of(&value));
        check_made("[…]", made, env)?;
        values.push(value);
    }
    owned(Some(Value::Array(values)))
}

fn object<'a>(pairs: &[(Expr, Expr)], env: &Env<'_>) -> Option<Cow<'a, Value>> {
    let mut members = Vec::new();
    let mut made = Weight::default();
    for (key, value) in pairs {
        let Some(Value::String(key)) = eval(key, env) else { continue };
        let Some(value) = eval(value, env) else { continue };
        made.bytes += key.len();
        made.add(Weight::of(&value));
        check_made("{…}", made, env)?;
        members.push((Box::from(&*key), value));
    }
    owned(Some(Value::Object(members.into_iter().collect::<Object>())))
}

/// Gives up when what is being put together has become too large.
fn check_made(what: &str, made: Weight, env: &Env<'_>) -> Option<()> {
    if made.bytes > VALUE_BYTES_MAX {
        return env.refuse(|| too_large(what, made.bytes));
    }
    Some(())
}

fn sign<'a>(op: UnaryOp, operand: &Expr, env: &Env<'_>) -> Option<Cow<'a, Value>> {
    let value = eval(operand, env)?;
    match (op, &value) {
        (_, Value::Null) => owned(Some(Value::Null)),
        (UnaryOp::Minus, _) => owned(negate(&value)),
        _ => owned(value.is_number().then_some(value)),
    }
}

fn binary<'a>(op: BinaryOp, left: &Expr, right: &Expr, env: &Env<'_>) -> Option<Cow<'a, Value>> {
    if op == BinaryOp::Xor {
        return owned(truth_of(left, env).xor(truth_of(right, env)).value());
    }
    let (left, right) = (value_of(left, env)?, value_of(right, env)?);
    owned(match op {
        BinaryOp::Concat => concat(&left, &right, env),
        _ if left.is_null() || right.is_null() => Some(Value::Null),
        _ if !env.charge(comparison(&left, &right)) => None,
        _ => match compare::verdict(op, &left, &right) {
            Some(verdict) => verdict.value(),
            None => number::arithmetic(op, &left, &right),
        },
    })
}

fn concat(left: &Value, right: &Value, env: &Env<'_>) -> Option<Value> {
    let (left, right) = (left.as_str()?, right.as_str()?);
    let bytes = left.len() + right.len();
    if bytes > VALUE_BYTES_MAX {
        return env.refuse(|| too_large("||", bytes));
    }
    env.charge(bytes as Fuel / 4).then(|| [left, right].concat().into())
}

/// What comparing two values costs: no more than the smaller one has.
fn comparison(left: &Value, right: &Value) -> Fuel {
    match (left, right) {
        (Value::String(a), Value::String(b)) => a.len().min(b.len()) as Fuel / 16,
        (Value::Bytes(a), Value::Bytes(b)) => a.len().min(b.len()) as Fuel / 16,
        (Value::Array(_), Value::Array(_)) | (Value::Object(_), Value::Object(_)) => {
            Weight::of(left).fuel().min(Weight::of(right).fuel()) / 4
        }
        _ => 0,
    }
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
    for bound in [&low, &high] {
        if let (Some(value), Some(bound)) = (&value, bound)
            && !env.charge(comparison(value, bound))
        {
            return None;
        }
    }
    let above = compare::truth(BinaryOp::GreaterOrEqual, value.as_deref(), low.as_deref());
    let below = compare::truth(BinaryOp::LessOrEqual, value.as_deref(), high.as_deref());
    owned(above.and(below).value())
}

/// The set behind `IN`, if it was made when arguments were bound.
fn members<'a>(ready: Option<u32>, env: &Env<'a>) -> Option<&'a Option<Members>> {
    match env.ready.get(ready? as usize) {
        Some(Ready::Members(members)) => Some(members),
        _ => None,
    }
}

fn in_members<'a>(left: &Expr, members: Option<&Members>, env: &Env<'_>) -> Option<Cow<'a, Value>> {
    let left = value_of(left, env)?;
    let members = members?;
    if !env.charge(members.look_up_fuel(&left)) {
        return None;
    }
    owned(members.contain(&left).value())
}

/// Membership is a disjunction of equalities: if none is true and one is absent, so is the whole.
fn in_list<'a>(left: &Expr, list: &[Expr], env: &Env<'_>) -> Option<Cow<'a, Value>> {
    let left = value_of(left, env)?;
    let mut result = Truth::False;
    for item in list {
        let item = value_of(item, env);
        if !env.charge(item.as_deref().map_or(0, |item| comparison(&left, item))) {
            return None;
        }
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
        if !env.charge(STEP + comparison(&left, item)) {
            return None;
        }
        result = result.or(compare::truth(BinaryOp::Equal, Some(&left), Some(item)));
        if result == Truth::True {
            break;
        }
    }
    owned(result.value())
}

fn is_like<'a>(like: &Like, env: &Env<'_>) -> Option<Cow<'a, Value>> {
    let text = value_of(&like.text, env)?;
    if let Some(Ready::Pattern(pattern)) =
        like.ready.and_then(|place| env.ready.get(place as usize))
    {
        return try_pattern(&text, pattern.as_ref(), env);
    }
    let pattern = value_of(&like.pattern, env)?;
    if text.is_null() || pattern.is_null() {
        return owned(Some(Value::Null));
    }
    let pattern = pattern.as_str()?;
    if !env.charge(32 * pattern.len() as Fuel) {
        return None;
    }
    let pattern = Pattern::new(pattern, like.escape, like.ignore_case);
    try_pattern(&text, pattern.as_ref(), env)
}

/// A pattern that is too long to be tried gives MISSING.
fn try_pattern<'a>(
    text: &Value,
    pattern: Option<&Pattern>,
    env: &Env<'_>,
) -> Option<Cow<'a, Value>> {
    if text.is_null() {
        return owned(Some(Value::Null));
    }
    let (text, pattern) = (text.as_str()?, pattern?);
    if !env.charge(pattern.fuel(text.len())) {
        return None;
    }
    owned(Some(Value::Bool(pattern.accepts(text))))
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
    owned(function.call(&values, env))
}

#[cfg(test)]
mod costs;
#[cfg(test)]
mod tests;
