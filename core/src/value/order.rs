//! How values compare: the total order for sorting, and equality as queries mean it.
//!
//! Both compare numbers by their exact mathematical value: `2^53 + 1` and the double `2^53` differ, though the
//! integer rounds to that double.

use std::cmp::Ordering;

use super::{Object, Value};

impl Value {
    /// The order of `ORDER BY`, `MIN` and `MAX`: `false < true < number < binary < string < array < object <
    /// null`. Numbers numerically, strings and binary by bytes, arrays element by element and then by length,
    /// objects by number of names, then by their sorted names and values. `1` and `1.0` are equal here.
    #[must_use]
    pub fn total_cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => a.cmp(b),
            (Self::Int(a), Self::Int(b)) => a.cmp(b),
            (Self::UInt(a), Self::UInt(b)) => a.cmp(b),
            (Self::Int(_), Self::UInt(_)) => Ordering::Less,
            (Self::UInt(_), Self::Int(_)) => Ordering::Greater,
            (Self::Float(a), Self::Float(b)) => cmp_floats(*a, *b),
            (Self::Int(a), Self::Float(b)) => cmp_integer_float((*a).into(), *b),
            (Self::UInt(a), Self::Float(b)) => cmp_integer_float((*a).into(), *b),
            (Self::Float(a), Self::Int(b)) => cmp_integer_float((*b).into(), *a).reverse(),
            (Self::Float(a), Self::UInt(b)) => cmp_integer_float((*b).into(), *a).reverse(),
            (Self::Bytes(a), Self::Bytes(b)) => a.cmp(b),
            (Self::String(a), Self::String(b)) => a.cmp(b),
            (Self::Array(a), Self::Array(b)) => cmp_arrays(a, b),
            (Self::Object(a), Self::Object(b)) => cmp_objects(a, b),
            _ => self.class().cmp(&other.class()),
        }
    }

    /// [`Value::total_cmp`] where either side may be MISSING (`None`), which is the greatest of all.
    #[must_use]
    pub fn cmp_option(a: Option<&Self>, b: Option<&Self>) -> Ordering {
        match (a, b) {
            (Some(a), Some(b)) => a.total_cmp(b),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => Ordering::Equal,
        }
    }

    /// What `<` and its kin compare: the order of two values of one type, `None` if the types differ. Integers
    /// and floats are one type. That null makes a comparison null is the caller's part: here null equals null.
    #[must_use]
    pub fn dql_cmp(&self, other: &Self) -> Option<Ordering> {
        (self.class() == other.class()).then(|| self.total_cmp(other))
    }

    /// What `=` says: `None` if the types differ. Integers and floats are one type. Arrays and objects compare
    /// deeply; inside them a null equals a null, and different types are merely unequal. That null makes a
    /// comparison null is the caller's part: here null equals null.
    #[must_use]
    pub fn dql_eq(&self, other: &Self) -> Option<bool> {
        (self.class() == other.class()).then(|| is_equal(self, other))
    }

    fn class(&self) -> Class {
        match self {
            Self::Bool(_) => Class::Boolean,
            Self::Int(_) | Self::UInt(_) | Self::Float(_) => Class::Number,
            Self::Bytes(_) => Class::Binary,
            Self::String(_) => Class::String,
            Self::Array(_) => Class::Array,
            Self::Object(_) => Class::Object,
            Self::Null => Class::Null,
        }
    }
}

/// What can be compared within itself, in the order across.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Boolean,
    Number,
    Binary,
    String,
    Array,
    Object,
    Null,
}

/// The same verdict as `total_cmp`, but lengths are looked at first.
fn is_equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Bytes(a), Value::Bytes(b)) => a == b,
        (Value::String(a), Value::String(b)) => a == b,
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_equal(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter()
                    .zip(b)
                    .all(|((a_name, a), (b_name, b))| a_name == b_name && is_equal(a, b))
        }
        _ => a.total_cmp(b).is_eq(),
    }
}

fn cmp_arrays(a: &[Value], b: &[Value]) -> Ordering {
    let differing = a.iter().zip(b).map(|(a, b)| a.total_cmp(b)).find(|order| order.is_ne());
    differing.unwrap_or_else(|| a.len().cmp(&b.len()))
}

fn cmp_objects(a: &Object, b: &Object) -> Ordering {
    let pairs = || {
        let mut orders = a
            .iter()
            .zip(b)
            .map(|((a_name, a), (b_name, b))| a_name.cmp(b_name).then_with(|| a.total_cmp(b)));
        orders.find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    };
    a.len().cmp(&b.len()).then_with(pairs)
}

/// Zeroes of either sign are equal. Stored floats are finite; should another get here, the order stays total.
fn cmp_floats(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

/// `integer` is at least `-2^63` and below `2^64`, so a float outside that range needs no conversion, and one
/// inside has a whole part that converts exactly.
fn cmp_integer_float(integer: i128, float: f64) -> Ordering {
    const ABOVE_ALL: f64 = 18_446_744_073_709_551_616.0;
    const LOWEST: f64 = -9_223_372_036_854_775_808.0;
    if float.is_nan() || float >= ABOVE_ALL {
        return Ordering::Less;
    }
    if float < LOWEST {
        return Ordering::Greater;
    }
    let fraction = float.fract();
    integer.cmp(&(float.trunc() as i128)).then_with(|| cmp_floats(0.0, fraction))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::arbitrary::value;
    use super::*;

    fn object(entries: &[(&str, i64)]) -> Value {
        Value::Object(entries.iter().copied().collect())
    }

    #[test]
    fn the_order_across_and_within_types() {
        let ascending = [
            Value::Bool(false),
            Value::Bool(true),
            Value::Float(-1e300),
            Value::Int(i64::MIN),
            Value::Int(-1),
            Value::Float(-0.5),
            Value::Int(0),
            Value::Float(0.5),
            Value::Float(9_007_199_254_740_992.0),
            Value::Int(9_007_199_254_740_993),
            Value::Int(i64::MAX),
            Value::Float(9_223_372_036_854_775_808.0),
            Value::UInt((1 << 63) + 1),
            Value::UInt(u64::MAX),
            Value::Float(18_446_744_073_709_551_616.0),
            Value::from(&b""[..]),
            Value::from(&b"\xff"[..]),
            Value::from(""),
            Value::from("Z"),
            Value::from("a"),
            Value::from("aa"),
            Value::from("é"),
            Value::Array(vec![]),
            Value::Array(vec![1.into()]),
            Value::Array(vec![1.into(), 1.into()]),
            Value::Array(vec![2.into()]),
            object(&[]),
            object(&[("a", 2)]),
            object(&[("b", 1)]),
            object(&[("a", 1), ("b", 1)]),
            Value::Null,
        ];
        for (i, a) in ascending.iter().enumerate() {
            for (j, b) in ascending.iter().enumerate() {
                assert_eq!(a.total_cmp(b), i.cmp(&j), "{a:?} against {b:?}");
            }
            assert_eq!(Value::cmp_option(Some(a), None), Ordering::Less);
        }
    }

    #[test]
    fn numbers_of_both_kinds_are_one_type() {
        assert_eq!(Value::from(1).dql_eq(&Value::from(1.0)), Some(true));
        assert_eq!(Value::from(0.0).dql_eq(&Value::from(-0.0)), Some(true));
        assert_eq!(Value::Int(i64::MAX).dql_eq(&Value::Float(i64::MAX as f64)), Some(false));
        assert_eq!(Value::UInt(1 << 63).dql_eq(&Value::Float(i64::MAX as f64)), Some(true));
    }

    #[test]
    fn different_types_do_not_compare_but_differ_inside() {
        assert_eq!(Value::from(1).dql_eq(&Value::from("a")), None);
        assert_eq!(Value::from(1).dql_cmp(&Value::Null), None);
        let list = |element: Value| Value::Array(vec![element, Value::Null]);
        assert_eq!(list(1.into()).dql_eq(&list("a".into())), Some(false));
        assert_eq!(list(1.into()).dql_eq(&list(1.0.into())), Some(true));
    }

    proptest! {
        #[test]
        fn the_order_is_total(a in value(), b in value(), c in value()) {
            prop_assert_eq!(a.total_cmp(&b), b.total_cmp(&a).reverse());
            prop_assert_eq!(a.total_cmp(&a), Ordering::Equal);
            if a.total_cmp(&b).is_le() && b.total_cmp(&c).is_le() {
                prop_assert!(a.total_cmp(&c).is_le());
            }
        }

        #[test]
        fn equality_and_order_agree(a in value(), b in value()) {
            if let Some(equal) = a.dql_eq(&b) {
                prop_assert_eq!(equal, a.total_cmp(&b).is_eq());
            } else {
                prop_assert!(a.total_cmp(&b).is_ne());
            }
        }
    }
}
