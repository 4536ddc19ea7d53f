//! The functions of the language: a table of names, and what each computes from its arguments.
//!
//! One more function is one more line in [`TABLE`]. No function fails: a wrong argument gives MISSING.

mod convert;
mod text;

use std::borrow::Cow;

use super::eval::Env;
use super::meter::{Fuel, VALUE_BYTES_MAX, Weight, too_large};
use crate::value::{Object, Value};

/// A function that expressions may call.
pub struct Function {
    /// Its name, in lower case.
    pub name: &'static str,
    /// Fewer arguments than this are refused; more than a function needs are ignored.
    pub arguments_min: usize,
    absent: Absent,
    cost: Cost,
    /// How many bytes its value will have, for those that make much of little.
    makes: fn(&[Argument<'_>]) -> usize,
    body: Body,
}

/// What a function does with the bytes that it is given.
#[derive(Clone, Copy)]
enum Cost {
    /// It hands some of them on, or looks at few.
    Picks,
    /// It goes over them.
    Reads,
    /// It takes them apart, or puts values together.
    Builds,
}

/// What becomes of MISSING and null among the arguments.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Absent {
    /// A MISSING argument gives MISSING, a null one gives null, and the body sees neither.
    Spreads,
    /// The body sees them.
    Seen,
}

type Body = fn(&[Argument<'_>]) -> Option<Value>;

/// An evaluated argument: `None` is MISSING.
pub(crate) type Argument<'a> = Option<Cow<'a, Value>>;

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl Function {
    /// A function outside the table, which no statement can name.
    pub(crate) const fn hidden(name: &'static str, arguments_min: usize, body: Body) -> Self {
        Self { name, arguments_min, absent: Absent::Seen, cost: Cost::Picks, makes: nothing, body }
    }

    const fn costs(self, cost: Cost) -> Self {
        Self { cost, ..self }
    }

    const fn makes(self, makes: fn(&[Argument<'_>]) -> usize) -> Self {
        Self { makes, ..self }
    }

    /// Its value, unless that costs too much or would be too large. What only hands on or reads what it was given
    /// may give that back, however large it is.
    pub(crate) fn call(&self, arguments: &[Argument<'_>], env: &Env<'_>) -> Option<Value> {
        let (mut given, mut largest) = (0, VALUE_BYTES_MAX);
        for weight in arguments.iter().flatten().map(|argument| Weight::of(argument)) {
            given += weight.fuel();
            if !matches!(self.cost, Cost::Builds) {
                largest = largest.max(weight.bytes);
            }
        }
        let makes = (self.makes)(arguments);
        if makes > largest {
            return env.refuse(|| too_large(self.name, makes));
        }
        let fuel = match self.cost {
            Cost::Picks => (given + makes as Fuel) / 4,
            Cost::Reads => given + 3 * makes as Fuel,
            Cost::Builds => 5 * given,
        };
        if !env.charge(CALL + fuel) {
            return None;
        }
        let value = self.value(arguments)?;
        let made = Weight::of(&value).bytes;
        if made > largest { env.refuse(|| too_large(self.name, made)) } else { Some(value) }
    }

    fn value(&self, arguments: &[Argument<'_>]) -> Option<Value> {
        if self.absent == Absent::Spreads {
            if arguments.iter().any(Option::is_none) {
                return None;
            }
            if arguments.iter().flatten().any(|argument| argument.is_null()) {
                return Some(Value::Null);
            }
        }
        (self.body)(arguments)
    }
}

fn nothing(_: &[Argument<'_>]) -> usize {
    0
}

/// What a call costs beside its arguments.
const CALL: Fuel = 32;

/// The function of this name, in any case.
pub(crate) fn find(name: &str) -> Option<&'static Function> {
    let name = name.to_ascii_lowercase();
    let index = TABLE.binary_search_by_key(&&*name, |function| function.name).ok()?;
    Some(&TABLE[index])
}

/// `cast`, which has a syntax of its own.
pub(crate) fn cast() -> &'static Function {
    find("cast").expect("the table has it")
}

/// `pos`, which `POSITION(part IN text)` is another way to write.
pub(crate) fn pos() -> &'static Function {
    find("pos").expect("the table has it")
}

const fn plain(name: &'static str, arguments_min: usize, body: Body) -> Function {
    let (absent, cost) = (Absent::Spreads, Cost::Reads);
    Function { name, arguments_min, absent, cost, makes: nothing, body }
}

const fn seeing(name: &'static str, arguments_min: usize, body: Body) -> Function {
    let (absent, cost) = (Absent::Seen, Cost::Picks);
    Function { name, arguments_min, absent, cost, makes: nothing, body }
}

/// Sorted by name.
static TABLE: [Function; 51] = [
    plain("abs", 1, abs),
    plain("array_contains", 2, array_contains),
    plain("array_contains_null", 1, |a| Some(Value::Bool(array(a, 0)?.iter().any(Value::is_null)))),
    plain("array_length", 1, |a| length(array(a, 0)?.len())),
    plain("byte_length", 1, |a| length(string(a, 0)?.len())),
    seeing("cast", 2, convert::cast).costs(Cost::Builds),
    plain("ceil", 1, |a| rounded(a, f64::ceil)),
    plain("char_length", 1, |a| length(string(a, 0)?.chars().count())),
    plain("character_length", 1, |a| length(string(a, 0)?.chars().count())),
    seeing("coalesce", 1, |a| Some(first(a, is_given).unwrap_or(Value::Null))),
    seeing("concat", 1, text::concat).makes(text::concat_makes),
    plain("contains", 2, |a| Some(Value::Bool(string(a, 0)?.contains(string(a, 1)?)))),
    seeing("decode", 3, decode),
    plain("deserialize_json", 1, convert::deserialize_json)
        .costs(Cost::Builds)
        .makes(|a| string(a, 0).map_or(0, str::len)),
    plain("ends_with", 2, |a| Some(Value::Bool(string(a, 0)?.ends_with(string(a, 1)?)))),
    plain("floor", 1, |a| rounded(a, f64::floor)),
    seeing("ifmissing", 1, |a| first(a, is_present)),
    seeing("ifmissingornull", 1, |a| Some(first(a, is_given).unwrap_or(Value::Null))),
    seeing("ifnull", 1, ifnull),
    plain("is_boolean", 1, |a| Some(Value::Bool(value(a, 0)?.as_bool().is_some()))),
    plain("is_number", 1, |a| Some(Value::Bool(value(a, 0)?.is_number()))),
    plain("is_string", 1, |a| Some(Value::Bool(value(a, 0)?.as_str().is_some()))),
    seeing("ismissing", 1, |a| Some(Value::Bool(a[0].is_none()))),
    seeing("ismissingornull", 1, |a| Some(Value::Bool(!is_given(&a[0])))),
    seeing("isnull", 1, |a| Some(Value::Bool(value(a, 0).is_some_and(Value::is_null)))),
    seeing("joinstr", 1, text::joinstr).makes(text::joinstr_makes),
    seeing("json_type", 1, |a| Some(value(a, 0).map_or("null", convert::json_type).into())),
    plain("lower", 1, |a| Some(string(a, 0)?.to_lowercase().into())).costs(Cost::Builds),
    plain("lpad", 3, |a| text::pad(a, true)).makes(text::pad_makes),
    plain("ltrim", 1, |a| Some(string(a, 0)?.trim_start().into())),
    seeing("missingif", 2, |a| if equal(&a[0], &a[1]) { None } else { owned(&a[0]) }),
    seeing("nullif", 2, |a| if equal(&a[0], &a[1]) { Some(Value::Null) } else { owned(&a[0]) }),
    seeing("nvl", 2, nvl),
    seeing("object_concat", 1, object_concat).costs(Cost::Builds),
    plain("object_keys", 1, |a| {
        Some(Value::Array(object(a, 0)?.iter().map(|(name, _)| name.into()).collect()))
    }),
    plain("object_length", 1, |a| length(object(a, 0)?.len())),
    plain("object_rename", 3, object_rename),
    seeing("object_set", 3, object_set),
    plain("object_unset", 2, object_unset),
    plain("object_values", 1, |a| {
        Some(Value::Array(object(a, 0)?.iter().map(|(_, value)| value.clone()).collect()))
    }),
    plain("pos", 2, text::position),
    plain("repeat", 2, text::repeat).costs(Cost::Picks).makes(text::repeat_makes),
    plain("rpad", 3, |a| text::pad(a, false)).makes(text::pad_makes),
    plain("rtrim", 1, |a| Some(string(a, 0)?.trim_end().into())),
    seeing("serialize_json", 1, |a| convert::serialize_json(value(a, 0)?)).costs(Cost::Builds),
    plain("split", 2, text::split).costs(Cost::Builds),
    plain("starts_with", 2, |a| Some(Value::Bool(string(a, 0)?.starts_with(string(a, 1)?)))),
    plain("substr", 2, text::substr),
    plain("trim", 1, |a| Some(string(a, 0)?.trim().into())),
    seeing("type", 1, |a| Some(value(a, 0).map_or("missing", Value::type_name).into())),
    plain("upper", 1, |a| Some(string(a, 0)?.to_uppercase().into())).costs(Cost::Builds),
];

fn value<'a>(arguments: &'a [Argument<'_>], index: usize) -> Option<&'a Value> {
    arguments.get(index)?.as_deref()
}

fn string<'a>(arguments: &'a [Argument<'_>], index: usize) -> Option<&'a str> {
    value(arguments, index)?.as_str()
}

fn array<'a>(arguments: &'a [Argument<'_>], index: usize) -> Option<&'a [Value]> {
    value(arguments, index)?.as_array()
}

fn object<'a>(arguments: &'a [Argument<'_>], index: usize) -> Option<&'a Object> {
    value(arguments, index)?.as_object()
}

fn integer(arguments: &[Argument<'_>], index: usize) -> Option<i64> {
    value(arguments, index)?.as_i64()
}

fn length(count: usize) -> Option<Value> {
    i64::try_from(count).ok().map(Value::Int)
}

fn owned(argument: &Argument<'_>) -> Option<Value> {
    argument.as_deref().cloned()
}

/// Neither MISSING nor null.
fn is_given(argument: &Argument<'_>) -> bool {
    argument.as_deref().is_some_and(|value| !value.is_null())
}

/// Not MISSING, perhaps null.
fn is_present(argument: &Argument<'_>) -> bool {
    argument.is_some()
}

fn first(arguments: &[Argument<'_>], accept: fn(&Argument<'_>) -> bool) -> Option<Value> {
    arguments.iter().find(|argument| accept(argument)).and_then(owned)
}

/// Whether `a = b` is true.
fn equal(a: &Argument<'_>, b: &Argument<'_>) -> bool {
    match (a.as_deref(), b.as_deref()) {
        (Some(a), Some(b)) => !a.is_null() && a.dql_eq(b) == Some(true),
        _ => false,
    }
}

fn abs(a: &[Argument<'_>]) -> Option<Value> {
    match value(a, 0)? {
        Value::Int(number) => Some(Value::from(number.unsigned_abs())),
        Value::Float(number) => Some(Value::Float(number.abs())),
        Value::UInt(number) => Some(Value::UInt(*number)),
        _ => None,
    }
}

fn rounded(a: &[Argument<'_>], round: fn(f64) -> f64) -> Option<Value> {
    match value(a, 0)? {
        Value::Float(number) => Some(Value::Float(round(*number))),
        whole @ (Value::Int(_) | Value::UInt(_)) => Some(whole.clone()),
        _ => None,
    }
}

fn array_contains(a: &[Argument<'_>]) -> Option<Value> {
    let wanted = value(a, 1)?;
    Some(Value::Bool(array(a, 0)?.iter().any(|item| item.dql_eq(wanted) == Some(true))))
}

/// The first that is not null, even if it is MISSING.
fn ifnull(a: &[Argument<'_>]) -> Option<Value> {
    let not_null = |argument: &Argument<'_>| !argument.as_deref().is_some_and(Value::is_null);
    match a.iter().find(|argument| not_null(argument)) {
        Some(found) => owned(found),
        None => Some(Value::Null),
    }
}

fn nvl(a: &[Argument<'_>]) -> Option<Value> {
    match (a, is_given(&a[0])) {
        ([_, given, _, ..], true) => owned(given),
        ([_, _, absent, ..], false) => owned(absent),
        (_, true) => owned(&a[0]),
        (_, false) => owned(&a[1]),
    }
}

/// Pairs of a value to compare with and its result, then perhaps a default. Nulls are equal here.
fn decode(a: &[Argument<'_>]) -> Option<Value> {
    let (wanted, mut rest) = a.split_first()?;
    while let [candidate, result, after @ ..] = rest {
        let same = match (wanted.as_deref(), candidate.as_deref()) {
            (Some(a), Some(b)) => a.dql_eq(b) == Some(true),
            (None, None) => true,
            _ => false,
        };
        if same {
            return owned(result);
        }
        rest = after;
    }
    rest.first().map_or(Some(Value::Null), owned)
}

fn object_concat(a: &[Argument<'_>]) -> Option<Value> {
    let mut joined = Object::new();
    for index in 0..a.len() {
        for (name, value) in object(a, index)? {
            joined.insert(name, value.clone());
        }
    }
    Some(Value::Object(joined))
}

fn object_set(a: &[Argument<'_>]) -> Option<Value> {
    let mut changed = object(a, 0)?.clone();
    let name = string(a, 1)?;
    let replace = value(a, 3).and_then(Value::as_bool) == Some(true);
    if changed.contains(name) && !replace {
        return None;
    }
    changed.insert(name, value(a, 2)?.clone());
    Some(Value::Object(changed))
}

fn object_unset(a: &[Argument<'_>]) -> Option<Value> {
    let mut changed = object(a, 0)?.clone();
    let ignore_absent = value(a, 2).and_then(Value::as_bool) == Some(true);
    if changed.remove(string(a, 1)?).is_none() && !ignore_absent {
        return None;
    }
    Some(Value::Object(changed))
}

fn object_rename(a: &[Argument<'_>]) -> Option<Value> {
    let mut changed = object(a, 0)?.clone();
    let value = changed.remove(string(a, 1)?)?;
    changed.insert(string(a, 2)?, value);
    Some(Value::Object(changed))
}

#[cfg(test)]
mod tests;
