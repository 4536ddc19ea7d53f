use proptest::prelude::*;

use super::super::arbitrary::{id_value, value};
use super::*;

fn encoded(value: impl Into<Value>) -> Vec<u8> {
    encode_id(&value.into()).expect("the value may be an id").as_bytes().to_vec()
}

#[test]
fn the_encoding_is_that_of_rfc_8949() {
    assert_eq!(encoded(0), [0x00]);
    assert_eq!(encoded(23), [0x17]);
    assert_eq!(encoded(24), [0x18, 24]);
    assert_eq!(encoded(1000), [0x19, 0x03, 0xe8]);
    assert_eq!(encoded(1_000_000), [0x1a, 0x00, 0x0f, 0x42, 0x40]);
    assert_eq!(encoded(u64::MAX), [0x1b, 255, 255, 255, 255, 255, 255, 255, 255]);
    assert_eq!(encoded(-1), [0x20]);
    assert_eq!(encoded(-1000), [0x39, 0x03, 0xe7]);
    assert_eq!(encoded(i64::MIN), [0x3b, 127, 255, 255, 255, 255, 255, 255, 255]);
    assert_eq!(encoded(false), [0xf4]);
    assert_eq!(encoded(true), [0xf5]);
    assert_eq!(encoded("IETF"), b"\x64IETF");
    assert_eq!(encoded(&[1_u8, 2][..]), [0x42, 1, 2]);
    assert_eq!(encoded(vec![1.into(), "a".into()]), b"\x82\x01\x61a");
    let object: Object = [("bb", 1), ("c", 2), ("a", 3)].into_iter().collect();
    assert_eq!(encoded(object), b"\xa3\x61a\x03\x61c\x02\x62bb\x01");
}

#[test]
fn a_text_id_is_the_id_of_a_string() {
    assert_eq!(encode_text_id("car-17"), encode_id(&"car-17".into()));
    assert_eq!(encode_text_id(&"x".repeat(2045)).map(|id| id.as_bytes().len()), Ok(2048));
    assert_eq!(encode_text_id(&"x".repeat(2046)), Err(TOO_LONG));
}

#[test]
fn floats_and_null_are_refused_at_any_depth() {
    assert_eq!(encode_id(&Value::Null), Err(IdError::Null));
    assert_eq!(encode_id(&vec![1.into(), 6.0.into()].into()), Err(IdError::Float));
    let object: Object = [("a", Value::Array(vec![Value::Null]))].into_iter().collect();
    assert_eq!(encode_id(&object.into()), Err(IdError::Null));
    assert_eq!(IdError::Null.to_string(), "Null document ID not allowed");
    assert_eq!(IdError::Float.to_string(), "Floats are not supported in document IDs");
    assert_eq!(decode_id(b"\xf6"), Err(IdError::Null));
    assert_eq!(decode_id(b"\x81\xf9\x3c\x00"), Err(IdError::Float));
}

#[test]
fn ids_are_bounded_in_length_and_depth() {
    let nested = |depth| (0..depth).fold(Value::from(1), |inner, _| vec![inner].into());
    assert!(encode_id(&nested(ID_DEPTH_MAX)).is_ok());
    let too_deep = IdError::TooDeep { limit_depth: ID_DEPTH_MAX };
    assert_eq!(encode_id(&nested(ID_DEPTH_MAX + 1)), Err(too_deep.clone()));
    assert_eq!(decode_id(&[0x81; 2000]), Err(too_deep));
    assert_eq!(encode_id(&vec![Value::from(1); 3000].into()), Err(TOO_LONG));
    let many: Object = (0..3000).map(|number| (number.to_string(), number)).collect();
    assert_eq!(encode_id(&many.into()), Err(TOO_LONG));
    assert_eq!(decode_id(&[0; 2049]), Err(TOO_LONG));
}

#[test]
fn any_other_encoding_of_an_id_is_refused() {
    let not_canonical = |offset_bytes| Err(IdError::NotCanonical { offset_bytes });
    assert_eq!(decode_id(b"\x18\x17"), not_canonical(0), "a longer integer than needed");
    assert_eq!(decode_id(b"\x19\x00\xff"), not_canonical(0));
    assert_eq!(decode_id(b"\x1a\x00\x00\xff\xff"), not_canonical(0));
    assert_eq!(decode_id(b"\x1b\x00\x00\x00\x00\xff\xff\xff\xff"), not_canonical(0));
    assert_eq!(decode_id(b"\x78\x01a"), not_canonical(0), "a longer length than needed");
    assert_eq!(decode_id(b"\x9f\x01\xff"), not_canonical(0), "an indefinite length");
    assert_eq!(decode_id(b"\xf8\x15"), not_canonical(0), "true in two bytes");
    assert_eq!(decode_id(b"\xa2\x61b\x01\x61a\x02"), not_canonical(4), "names out of order");
    assert_eq!(decode_id(b"\xa2\x62aa\x01\x61b\x02"), not_canonical(5), "a longer name first");
    assert_eq!(decode_id(b"\xa2\x61a\x01\x61a\x02"), not_canonical(4), "a name twice");
    let unsupported = |offset_bytes| Err(IdError::Unsupported { offset_bytes });
    assert_eq!(decode_id(b"\xa1\x01\x01"), unsupported(1), "a name that is a number");
    assert_eq!(decode_id(b"\x61\xff"), unsupported(0), "text that is not UTF-8");
    assert_eq!(decode_id(b"\xc0\x01"), unsupported(0), "a tag");
    assert_eq!(decode_id(b"\xf7"), unsupported(0), "undefined");
    assert_eq!(decode_id(b"\x3b\x80\0\0\0\0\0\0\0"), unsupported(0), "below i64::MIN");
    assert_eq!(decode_id(b"\x01\x01"), Err(IdError::Trailing { offset_bytes: 1 }));
    assert_eq!(decode_id(b""), Err(IdError::Truncated { offset_bytes: 0 }));
    assert_eq!(
        decode_id(b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff"),
        Err(IdError::Truncated { offset_bytes: 9 })
    );
    assert_eq!(
        decode_id(b"\x7b\xff\xff\xff\xff\xff\xff\xff\xff"),
        Err(IdError::Truncated { offset_bytes: 9 })
    );
}

proptest! {
    #[test]
    fn decode_undoes_encode(value in id_value()) {
        if let Ok(id) = encode_id(&value) {
            prop_assert_eq!(decode_id(id.as_bytes()), Ok(id.clone()));
            prop_assert_eq!(id.to_value(), value);
        }
    }

    #[test]
    fn only_floats_nulls_and_size_make_a_value_no_id(value in value()) {
        match encode_id(&value) {
            Ok(id) => prop_assert!(id.as_bytes().len() <= ID_BYTES_MAX),
            Err(IdError::Float | IdError::Null | IdError::TooLong { .. }) => {}
            Err(error) => prop_assert!(false, "{error}"),
        }
    }

    #[test]
    fn the_order_of_names_never_matters(
        entries in prop::collection::vec(("[a-z]{0,30}", any::<i64>()), 0..12).prop_shuffle(),
        turn in any::<prop::sample::Index>(),
    ) {
        let forward: Object = entries.clone().into_iter().collect();
        let mut entries: Vec<_> = forward.clone().into_iter().collect();
        if !entries.is_empty() {
            let middle = turn.index(entries.len());
            entries.rotate_left(middle);
            entries.reverse();
        }
        let other = Object::from_entries(entries).expect("names are distinct");
        prop_assert_eq!(encoded(forward), encoded(other));
    }

    /// Whatever is taken for an id is exactly what its value encodes to.
    #[test]
    fn flipped_bytes_give_another_id_or_none(
        value in id_value(),
        at in any::<prop::sample::Index>(),
        flip in 1_u8..,
    ) {
        if let Ok(id) = encode_id(&value) {
            let mut bytes = id.as_bytes().to_vec();
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            if let Ok(other) = decode_id(&bytes) {
                prop_assert_ne!(&other, &id);
                prop_assert_eq!(encode_id(&other.to_value()), Ok(other));
            }
        }
    }

    #[test]
    fn random_bytes_are_an_id_only_if_they_are_canonical(
        bytes in prop::collection::vec(any::<u8>(), 0..12),
    ) {
        if let Ok(id) = decode_id(&bytes) {
            prop_assert_eq!(encode_id(&id.to_value()), Ok(id));
        }
    }
}

const TOO_LONG: IdError = IdError::TooLong { limit_bytes: ID_BYTES_MAX };
