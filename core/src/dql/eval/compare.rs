//! Comparison, and logic with four values.

use std::cmp::Ordering;
use std::ops::Not;

use crate::dql::ast::BinaryOp;
use crate::value::Value;

/// What a condition can be. Whatever is no boolean and not null counts as MISSING.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Truth {
    True,
    False,
    Null,
    Missing,
}

impl Truth {
    pub(crate) fn of(value: Option<&Value>) -> Self {
        match value {
            Some(Value::Bool(true)) => Self::True,
            Some(Value::Bool(false)) => Self::False,
            Some(Value::Null) => Self::Null,
            _ => Self::Missing,
        }
    }

    pub(crate) fn value(self) -> Option<Value> {
        match self {
            Self::True => Some(Value::Bool(true)),
            Self::False => Some(Value::Bool(false)),
            Self::Null => Some(Value::Null),
            Self::Missing => None,
        }
    }

    /// False outweighs MISSING, which outweighs null.
    pub(super) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::False, _) | (_, Self::False) => Self::False,
            (Self::Missing, _) | (_, Self::Missing) => Self::Missing,
            (Self::Null, _) | (_, Self::Null) => Self::Null,
            (Self::True, Self::True) => Self::True,
        }
    }

    /// True outweighs null, which outweighs MISSING.
    pub(super) fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::True, _) | (_, Self::True) => Self::True,
            (Self::Null, _) | (_, Self::Null) => Self::Null,
            (Self::Missing, _) | (_, Self::Missing) => Self::Missing,
            (Self::False, Self::False) => Self::False,
        }
    }

    /// What is absent on either side stays absent, MISSING before null.
    pub(super) fn xor(self, other: Self) -> Self {
        match (self, other) {
            (Self::Missing, _) | (_, Self::Missing) => Self::Missing,
            (Self::Null, _) | (_, Self::Null) => Self::Null,
            _ if self == other => Self::False,
            _ => Self::True,
        }
    }
}

impl Not for Truth {
    type Output = Self;

    fn not(self) -> Self {
        match self {
            Self::True => Self::False,
            Self::False => Self::True,
            other => other,
        }
    }
}

impl From<bool> for Truth {
    fn from(value: bool) -> Self {
        if value { Self::True } else { Self::False }
    }
}

/// The outcome of a comparison where either side may be absent.
pub(super) fn truth(op: BinaryOp, left: Option<&Value>, right: Option<&Value>) -> Truth {
    match (left, right) {
        (Some(left), Some(right)) if left.is_null() || right.is_null() => Truth::Null,
        (Some(left), Some(right)) => verdict(op, left, right).unwrap_or(Truth::Missing),
        _ => Truth::Missing,
    }
}

/// The outcome of comparing two values, neither of them null; `None` if `op` is no comparison. Values of
/// different types do not compare, not even as unequal.
pub(super) fn verdict(op: BinaryOp, left: &Value, right: &Value) -> Option<Truth> {
    let accepts: fn(Ordering) -> bool = match op {
        BinaryOp::Equal => return Some(left.dql_eq(right).map_or(Truth::Missing, Truth::from)),
        BinaryOp::NotEqual => {
            return Some(left.dql_eq(right).map_or(Truth::Missing, |equal| Truth::from(!equal)));
        }
        BinaryOp::Less => Ordering::is_lt,
        BinaryOp::LessOrEqual => Ordering::is_le,
        BinaryOp::Greater => Ordering::is_gt,
        BinaryOp::GreaterOrEqual => Ordering::is_ge,
        _ => return None,
    };
    Some(left.dql_cmp(right).map_or(Truth::Missing, |order| Truth::from(accepts(order))))
}
