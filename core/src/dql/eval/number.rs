//! Arithmetic. Integers stay integers where the result fits 64 bits and become floats where it does not; what no
//! finite float holds, and division by zero, is null.

use crate::dql::ast::BinaryOp;
use crate::value::Value;

pub(crate) fn negate(value: &Value) -> Option<Value> {
    match value {
        Value::Float(number) => Some(Value::Float(-number)),
        _ => integer(value).map(|number| from_integer(-number)),
    }
}

/// Both operands are present and not null; anything but numbers gives MISSING.
pub(super) fn arithmetic(op: BinaryOp, left: &Value, right: &Value) -> Option<Value> {
    match (integer(left), integer(right)) {
        (Some(a), Some(b)) => integral(op, a, b),
        _ => floating(op, left.as_f64()?, right.as_f64()?),
    }
}

fn integral(op: BinaryOp, a: i128, b: i128) -> Option<Value> {
    let exact = match op {
        BinaryOp::Add => Some(a + b),
        BinaryOp::Subtract => Some(a - b),
        // Two 64-bit numbers may multiply to more than 127 bits.
        BinaryOp::Multiply => a.checked_mul(b),
        BinaryOp::Divide | BinaryOp::Remainder if b == 0 => return Some(Value::Null),
        BinaryOp::Divide => Some(a / b),
        BinaryOp::Remainder => Some(a % b),
        BinaryOp::ShiftLeft | BinaryOp::ShiftRight => return shifted(op, a, b),
        _ => return None,
    };
    Some(exact.map_or_else(|| finite(a as f64 * b as f64), from_integer))
}

/// A shift works on 64 bits, which it may push out; a count outside of 0 to 63 gives MISSING.
fn shifted(op: BinaryOp, a: i128, count: i128) -> Option<Value> {
    let count = u32::try_from(count).ok().filter(|&count| count < 64)?;
    let number = i64::try_from(a).ok()?;
    Some(Value::Int(if op == BinaryOp::ShiftLeft { number << count } else { number >> count }))
}

fn floating(op: BinaryOp, a: f64, b: f64) -> Option<Value> {
    Some(finite(match op {
        BinaryOp::Add => a + b,
        BinaryOp::Subtract => a - b,
        BinaryOp::Multiply => a * b,
        BinaryOp::Divide => a / b,
        BinaryOp::Remainder => a % b,
        _ => return None,
    }))
}

fn integer(value: &Value) -> Option<i128> {
    match value {
        Value::Int(number) => Some(i128::from(*number)),
        Value::UInt(number) => Some(i128::from(*number)),
        _ => None,
    }
}

/// The integer if it fits 64 bits, signed or not, else the nearest float.
pub(crate) fn from_integer(number: i128) -> Value {
    if let Ok(signed) = i64::try_from(number) {
        return Value::Int(signed);
    }
    u64::try_from(number).map_or_else(|_| finite(number as f64), Value::UInt)
}

/// The float, or null for what is no finite number.
pub(crate) fn finite(number: f64) -> Value {
    Value::finite(number).unwrap_or(Value::Null)
}
