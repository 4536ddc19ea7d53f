//! Random values for property tests.

use proptest::prelude::*;

use super::{Object, Value};

/// Any value without binary in it, as JSON can carry it.
pub(crate) fn json_value() -> impl Strategy<Value = Value> {
    nested(prop_oneof![
        Just(Value::Null),
        any::<f64>().prop_filter_map("finite", Value::finite),
        id_scalar(),
    ])
}

/// Any value at all.
pub(crate) fn value() -> impl Strategy<Value = Value> {
    nested(prop_oneof![
        Just(Value::Null),
        any::<f64>().prop_filter_map("finite", Value::finite),
        (-3_i8..4).prop_map(|small| Value::from(f64::from(small) / 2.0)),
        id_scalar(),
        binary(),
    ])
}

/// Any value that may be a document's id.
pub(crate) fn id_value() -> impl Strategy<Value = Value> {
    nested(prop_oneof![id_scalar(), binary()])
}

fn id_scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<bool>().prop_map(Value::from),
        (-2_i64..3).prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        name().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ]
}

fn binary() -> impl Strategy<Value = Value> {
    prop::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| Value::Bytes(bytes.into()))
}

/// Few and short, so that two random objects often share some.
fn name() -> impl Strategy<Value = String> {
    prop_oneof!["[a-c]{0,2}", "[\\x00-\\x7f]{0,4}", "\\PC{0,30}"]
}

fn nested(leaf: impl Strategy<Value = Value> + 'static) -> impl Strategy<Value = Value> {
    leaf.prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((name(), inner), 0..5)
                .prop_map(|entries| Value::from(entries.into_iter().collect::<Object>())),
        ]
    })
}
