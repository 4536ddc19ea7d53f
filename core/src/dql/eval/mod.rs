//! The value of an expression. It never fails: what has no value is MISSING, here `None`.
//!
//! A [`Meter`] may pause an evaluation where a node of the expression would begin. Every operator that is under way
//! then leaves how far it has come with the meter, the innermost first, and returns: what it gives means nothing. The
//! same evaluation, begun again over the same row, takes all of that up, the outermost first, and goes on at the node
//! that would have begun. So an answer does not depend on pauses, nor does what it costs.

mod compare;
mod frame;
mod number;

use std::borrow::Cow;

use super::ast::{BinaryOp, Case, Expr, ExprKind, IsTest, Like, Slot, UnaryOp};
use super::error::DqlError;
use super::functions::Function;
use super::like::Pattern;
use super::meter::{Entry, Fuel, LOOK_UP, Meter, VALUE_BYTES_MAX, Weight, too_large};
use super::ready::{Members, Ready};
use super::row::{Row, path_of, step_into};
use crate::value::{Object, Value};

pub(crate) use compare::Truth;
pub(super) use frame::Kept;
use frame::{Frame, operand};
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

    /// The evaluation is paused: what has been computed means nothing, unless it was kept.
    pub(super) fn is_paused(&self) -> bool {
        self.meter.is_some_and(Meter::is_paused)
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

/// As [`eval`], but what lies ready is borrowed.
pub(crate) fn value_of<'a>(expr: &'a Expr, env: &Env<'a>) -> Option<Cow<'a, Value>> {
    let kept = match env.meter.map_or(Entry::Begins, Meter::enter) {
        Entry::Begins => None,
        Entry::GoesOn(operator) => Some(operator),
        Entry::Refused => return None,
    };
    match &expr.kind {
        ExprKind::Literal(value) => Some(Cow::Borrowed(value)),
        ExprKind::Parameter(index) => given(env.parameters.get(*index as usize)?, env),
        ExprKind::Path(path) => field(path, env),
        ExprKind::Slot(slot, index) => slot_value(*slot, *index, env),
        ExprKind::Ready(place, inner) => match env.ready.get(*place as usize) {
            Some(Ready::Value(value)) => given(value.as_ref()?, env),
            _ => operator(&inner.kind, Frame::from(kept), env),
        },
        kind => operator(kind, Frame::from(kept), env),
    }
}

/// The value of a node with nodes below it, begun or taken up at `frame`. Each kind has a function of its own, to keep
/// the stack's frame, which is there once per level of the expression, small.
fn operator<'a>(kind: &'a ExprKind, mut frame: Frame<'a>, env: &Env<'a>) -> Option<Cow<'a, Value>> {
    let at = &mut frame;
    let value = match kind {
        ExprKind::Member(base, name) => member(base, name, env),
        ExprKind::Array(items) => array(items, at, env),
        ExprKind::Object(pairs) => object(pairs, at, env),
        ExprKind::Unary(UnaryOp::Not, operand) => owned((!truth_of(operand, env)).value()),
        ExprKind::Unary(op, operand) => sign(*op, operand, env),
        ExprKind::Binary(op, left, right) => binary(*op, left, right, at, env),
        ExprKind::And(operands) => {
            owned(junction(operands, Truth::False, Truth::and, at, env).value())
        }
        ExprKind::Or(operands) => {
            owned(junction(operands, Truth::True, Truth::or, at, env).value())
        }
        ExprKind::Between(operands) => between(operands, at, env),
        ExprKind::InList(left, list, ready) => match members(*ready, env) {
            Some(members) => in_members(left, members.as_ref(), env),
            None => in_list(left, list, at, env),
        },
        ExprKind::InArray(left, right, ready) => match members(*ready, env) {
            Some(members) => in_members(left, members.as_ref(), env),
            None => in_array(left, right, at, env),
        },
        ExprKind::Like(like) => is_like(like, at, env),
        ExprKind::Is(test, operand) => is_test(*test, operand, env),
        ExprKind::Case(case) => case_value(case, at, env),
        ExprKind::Call(function, arguments) => call(function, arguments, at, env),
        // The parser leaves aggregates only where they are computed, not where they are read.
        ExprKind::Aggregate(_) => None,
        ExprKind::Literal(_)
        | ExprKind::Parameter(_)
        | ExprKind::Path(_)
        | ExprKind::Slot(..)
        | ExprKind::Ready(..) => unreachable!("none of them has operands of its own"),
    };
    if let Some(meter) = env.meter.filter(|meter| meter.is_paused()) {
        meter.keep(frame.into());
        return None;
    }
    value
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
    given(values.get(index as usize)?.as_ref()?, env)
}

/// A value that lies ready may be named any number of times, and each time be copied: into what is made of it, or for
/// a pause.
fn given<'a>(value: &'a Value, env: &Env<'a>) -> Option<Cow<'a, Value>> {
    env.charge(Weight::of(value).fuel() / 4).then_some(Cow::Borrowed(value))
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
fn array<'a>(items: &'a [Expr], at: &mut Frame<'a>, env: &Env<'a>) -> Option<Cow<'a, Value>> {
    at.evaluate(items, env)?;
    let mut made = Weight::default();
    let mut values = Vec::new();
    for value in at.values.drain(..).flatten() {
        made.add(Weight::of(&value));
        check_made("[…]", made, env)?;
        values.push(value.into_owned());
    }
    owned(Some(Value::Array(values)))
}

fn object<'a>(
    pairs: &'a [(Expr, Expr)],
    at: &mut Frame<'a>,
    env: &Env<'a>,
) -> Option<Cow<'a, Value>> {
    at.evaluate(pairs.iter().flat_map(|(name, value)| [name, value]), env)?;
    let mut members = Vec::new();
    let mut made = Weight::default();
    let mut values = at.values.drain(..);
    while let (Some(name), Some(value)) = (values.next(), values.next()) {
        let (Some(Value::String(name)), Some(value)) = (name.map(Cow::into_owned), value) else {
            continue;
        };
        made.bytes += name.len();
        made.add(Weight::of(&value));
        check_made("{…}", made, env)?;
        members.push((Box::from(&*name), value.into_owned()));
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

fn sign<'a>(op: UnaryOp, operand: &'a Expr, env: &Env<'a>) -> Option<Cow<'a, Value>> {
    let value = eval(operand, env)?;
    match (op, &value) {
        (_, Value::Null) => owned(Some(Value::Null)),
        (UnaryOp::Minus, _) => owned(negate(&value)),
        _ => owned(value.is_number().then_some(value)),
    }
}

fn binary<'a>(
    op: BinaryOp,
    left: &'a Expr,
    right: &'a Expr,
    at: &mut Frame<'a>,
    env: &Env<'a>,
) -> Option<Cow<'a, Value>> {
    // The frame keeps the first operand over a pause in the second alone: most operators never meet one.
    let kept = at.values.pop();
    let left = kept.map_or_else(|| operand(left, env), Some)?;
    if left.is_none() && op != BinaryOp::Xor {
        // Beside MISSING nothing is looked at.
        return None;
    }
    let Some(right) = operand(right, env) else {
        at.values.push(left);
        return None;
    };
    let (left, right) = (left.as_deref(), right.as_deref());
    if op == BinaryOp::Xor {
        return owned(Truth::of(left).xor(Truth::of(right)).value());
    }
    let (left, right) = (left?, right?);
    owned(match op {
        BinaryOp::Concat => concat(left, right, env),
        _ if left.is_null() || right.is_null() => Some(Value::Null),
        _ if !env.charge(comparison(left, right)) => None,
        _ => match compare::verdict(op, left, right) {
            Some(verdict) => verdict.value(),
            None => number::arithmetic(op, left, right),
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

/// Joins the truths of operands from left to right, until one of them settles the whole.
fn junction<'a>(
    operands: &'a [Expr],
    settles: Truth,
    join: fn(Truth, Truth) -> Truth,
    at: &mut Frame<'a>,
    env: &Env<'a>,
) -> Truth {
    let mut result = at.truth.unwrap_or(!settles);
    while result != settles
        && let Some(operand) = operands.get(at.next)
    {
        let truth = truth_of(operand, env);
        if env.is_paused() {
            break;
        }
        result = join(result, truth);
        at.next += 1;
    }
    at.truth = Some(result);
    result
}

fn between<'a>(
    operands: &'a [Expr; 3],
    at: &mut Frame<'a>,
    env: &Env<'a>,
) -> Option<Cow<'a, Value>> {
    at.evaluate(operands, env)?;
    let [value, low, high] = [0, 1, 2].map(|operand: usize| at.values[operand].as_deref());
    for bound in [low, high] {
        if let (Some(value), Some(bound)) = (value, bound)
            && !env.charge(comparison(value, bound))
        {
            return None;
        }
    }
    let above = compare::truth(BinaryOp::GreaterOrEqual, value, low);
    let below = compare::truth(BinaryOp::LessOrEqual, value, high);
    owned(above.and(below).value())
}

/// The set behind `IN`, if it was made when arguments were bound.
fn members<'a>(ready: Option<u32>, env: &Env<'a>) -> Option<&'a Option<Members>> {
    match env.ready.get(ready? as usize) {
        Some(Ready::Members(members)) => Some(members),
        _ => None,
    }
}

fn in_members<'a>(
    left: &'a Expr,
    members: Option<&Members>,
    env: &Env<'a>,
) -> Option<Cow<'a, Value>> {
    let left = value_of(left, env)?;
    let members = members?;
    if !env.charge(members.look_up_fuel(&left)) {
        return None;
    }
    owned(members.contain(&left).value())
}

/// Membership is a disjunction of equalities: if none is true and one is absent, so is the whole.
fn in_list<'a>(
    left: &'a Expr,
    list: &'a [Expr],
    at: &mut Frame<'a>,
    env: &Env<'a>,
) -> Option<Cow<'a, Value>> {
    at.evaluate([left], env)?;
    let left = at.values[0].as_deref()?;
    let mut result = at.truth.unwrap_or(Truth::False);
    while result != Truth::True
        && let Some(item) = list.get(at.next)
    {
        let item = value_of(item, env);
        if env.is_paused() {
            break;
        }
        if !env.charge(item.as_deref().map_or(0, |item| comparison(left, item))) {
            return None;
        }
        result = result.or(compare::truth(BinaryOp::Equal, Some(left), item.as_deref()));
        at.next += 1;
    }
    at.truth = Some(result);
    owned(result.value())
}

fn in_array<'a>(
    left: &'a Expr,
    right: &'a Expr,
    at: &mut Frame<'a>,
    env: &Env<'a>,
) -> Option<Cow<'a, Value>> {
    at.evaluate([left], env)?;
    at.values[0].as_ref()?;
    at.evaluate([left, right], env)?;
    let (left, right) = (at.values[0].as_deref()?, at.values[1].as_deref()?);
    if right.is_null() {
        return owned(Some(Value::Null));
    }
    let mut result = Truth::False;
    for item in right.as_array()? {
        if !env.charge(ITEM + comparison(left, item)) {
            return None;
        }
        result = result.or(compare::truth(BinaryOp::Equal, Some(left), Some(item)));
        if result == Truth::True {
            break;
        }
    }
    owned(result.value())
}

/// The cost of looking at one item of an array.
const ITEM: Fuel = 16;

fn is_like<'a>(like: &'a Like, at: &mut Frame<'a>, env: &Env<'a>) -> Option<Cow<'a, Value>> {
    at.evaluate([&like.text], env)?;
    at.values[0].as_ref()?;
    if let Some(Ready::Pattern(pattern)) =
        like.ready.and_then(|place| env.ready.get(place as usize))
    {
        return try_pattern(pattern.as_ref(), at, env);
    }
    at.evaluate([&like.text, &like.pattern], env)?;
    let (text, pattern) = (at.values[0].as_deref()?, at.values[1].as_deref()?);
    if text.is_null() || pattern.is_null() {
        return owned(Some(Value::Null));
    }
    // A LIKE that a pause has interrupted has its pattern.
    let mut made = at.trial.as_mut().and_then(|trial| trial.pattern.take());
    if made.is_none() {
        let pattern = pattern.as_str()?;
        if !env.charge(32 * pattern.len() as Fuel) {
            return None;
        }
        made = Pattern::new(pattern, like.escape, like.ignore_case);
    }
    let value = try_pattern(made.as_ref(), at, env);
    if let Some(trial) = &mut at.trial {
        trial.pattern = made;
    }
    value
}

/// Tries a pattern on the first value. One that is too long to be tried gives MISSING.
fn try_pattern<'a>(
    pattern: Option<&Pattern>,
    at: &mut Frame<'a>,
    env: &Env<'a>,
) -> Option<Cow<'a, Value>> {
    if at.values[0].as_deref()?.is_null() {
        return owned(Some(Value::Null));
    }
    let pattern = pattern?;
    if at.trial.is_none() {
        let text = at.values[0].as_deref()?.as_str()?;
        if !env.charge(pattern.begin_fuel(text.len())) {
            return None;
        }
        if let Some(folded) = pattern.folded(text) {
            at.values[0] = Some(Cow::Owned(folded.into()));
        }
    }
    let Frame { values, trial, .. } = at;
    let text = values[0].as_deref()?.as_str()?;
    let progress = &mut trial.get_or_insert_default().progress;
    // At least one piece at a time, so that it comes to its end however little that is.
    while env.charge(pattern.piece_fuel(text, progress)) {
        if let Some(accepts) = pattern.go_on(text, progress) {
            return owned(Some(Value::Bool(accepts)));
        }
        if !env.meter.is_none_or(Meter::goes_on) {
            break;
        }
    }
    None
}

fn is_test<'a>(test: IsTest, operand: &'a Expr, env: &Env<'a>) -> Option<Cow<'a, Value>> {
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

fn case_value<'a>(case: &'a Case, at: &mut Frame<'a>, env: &Env<'a>) -> Option<Cow<'a, Value>> {
    at.evaluate(&case.operand, env)?;
    // Two steps for each arm: its condition, and once that holds its value.
    while at.next.is_multiple_of(2)
        && let Some((when, _)) = case.arms.get(at.next / 2)
    {
        let chosen = match at.values.first() {
            None => truth_of(when, env),
            Some(operand) => {
                let when = value_of(when, env);
                compare::truth(BinaryOp::Equal, operand.as_deref(), when.as_deref())
            }
        };
        if env.is_paused() {
            return None;
        }
        at.next += if chosen == Truth::True { 1 } else { 2 };
    }
    match (case.arms.get(at.next / 2), &case.otherwise) {
        (Some((_, then)), _) => value_of(then, env),
        (None, Some(otherwise)) => value_of(otherwise, env),
        (None, None) => owned(Some(Value::Null)),
    }
}

fn call<'a>(
    function: &Function,
    arguments: &'a [Expr],
    at: &mut Frame<'a>,
    env: &Env<'a>,
) -> Option<Cow<'a, Value>> {
    at.evaluate(arguments, env)?;
    owned(function.call(&at.values, env))
}

#[cfg(test)]
mod costs;
#[cfg(test)]
mod tests;
