use proptest::prelude::*;

use super::*;
use crate::value::arbitrary::json_value;
use crate::value::{DEPTH_MAX, Object, Value};

fn parsed(text: impl AsRef<[u8]>) -> Value {
    parse(text.as_ref(), Limits::default()).expect("the text is JSON")
}

fn refused(text: impl AsRef<[u8]>) -> (JsonErrorKind, usize) {
    let error = parse(text.as_ref(), Limits::default()).expect_err("the text is refused");
    (error.kind, error.offset_bytes)
}

fn written(value: impl Into<Value>) -> String {
    let mut out = Vec::new();
    write(&value.into(), &mut out);
    String::from_utf8(out).expect("JSON is text")
}

#[test]
fn integers_are_exact_or_refused() {
    assert_eq!(parsed("0"), Value::Int(0));
    assert_eq!(parsed("-0"), Value::Int(0));
    assert_eq!(parsed("9007199254740993"), Value::Int(9_007_199_254_740_993));
    assert_eq!(parsed("9223372036854775807"), Value::Int(i64::MAX));
    assert_eq!(parsed("9223372036854775808"), Value::UInt(1 << 63));
    assert_eq!(parsed("18446744073709551615"), Value::UInt(u64::MAX));
    assert_eq!(parsed("-9223372036854775808"), Value::Int(i64::MIN));
    for text in ["18446744073709551616", "-9223372036854775809", "99999999999999999999999"] {
        assert_eq!(refused(text), (JsonErrorKind::IntegerOutOfRange, 0));
    }
}

#[test]
fn a_fraction_or_an_exponent_makes_a_float() {
    assert_eq!(parsed("6.0"), Value::Float(6.0));
    assert_eq!(parsed("-0.0"), Value::Float(-0.0));
    assert_eq!(parsed("1e2"), Value::Float(100.0));
    assert_eq!(parsed("1E-2"), Value::Float(0.01));
    assert_eq!(parsed("99999999999999999999999.5"), Value::Float(1e23));
    assert_eq!(parsed("1e-400"), Value::Float(0.0));
    assert_eq!(refused("[1e400]"), (JsonErrorKind::FloatOutOfRange, 1));
    assert_eq!(refused("-1e400"), (JsonErrorKind::FloatOutOfRange, 0));
}

#[test]
fn floats_print_as_floats() {
    assert_eq!(written(6.0), "6.0");
    assert_eq!(written(-0.0), "-0.0");
    assert_eq!(written(0.1), "0.1");
    for number in [1e300, 1e16, 123_456_789_012_345_680.0, 5e-324, f64::MAX, -1e-7] {
        assert_eq!(parsed(written(number)), Value::Float(number));
    }
    assert_eq!(written(u64::MAX), "18446744073709551615");
    assert_eq!(written(i64::MIN), "-9223372036854775808");
}

#[test]
fn malformed_numbers_are_refused() {
    for text in ["-", "01", "-01", "1.", "1.e3", "1e", "1e+", "00", "-a"] {
        assert_eq!(refused(text), (JsonErrorKind::NumberMalformed, 0), "{text}");
    }
    for text in [".5", "+1", "NaN", "Infinity", "0x10", "1_0", "nul", "True"] {
        let (kind, _) = refused(text);
        assert!(
            matches!(kind, JsonErrorKind::Unexpected { .. } | JsonErrorKind::Trailing { .. }),
            "{text}: {kind:?}"
        );
    }
}

#[test]
fn escapes_are_read() {
    assert_eq!(parsed(r#""a\"\\\/\b\f\n\r\t\u00e9\u0000z""#), "a\"\\/\u{8}\u{c}\n\r\té\0z".into());
    assert_eq!(parsed(r#""\ud83d\ude00!""#), "😀!".into());
    assert_eq!(
        parsed("\"plain é text, longer than eight bytes\""),
        "plain é text, longer than eight bytes".into()
    );
    assert_eq!(parsed("\"\u{7f}\""), "\u{7f}".into());
}

#[test]
fn broken_strings_are_refused() {
    for text in [r#""\ud83d""#, r#""\ud83dx""#, r#""\ude00""#, r#""\ud83d\u0041""#, r#""\ud83d\n""#]
    {
        assert_eq!(refused(text), (JsonErrorKind::LoneSurrogate, 1), "{text}");
    }
    for text in [r#""\x""#, r#""\u12""#, r#""\u12g4""#, r#""\u+123""#, "\"\\é\"", r#""\ud83d\u12""#]
    {
        assert_eq!(refused(text), (JsonErrorKind::EscapeUnknown, 1), "{text}");
    }
    assert_eq!(refused("\"12345678\u{1f}\""), (JsonErrorKind::ControlCharacter { byte: 0x1f }, 9));
    assert_eq!(refused("\"a\nb\""), (JsonErrorKind::ControlCharacter { byte: b'\n' }, 2));
    assert_eq!(refused(b"\"abc\xff\""), (JsonErrorKind::NotUtf8, 4));
    assert_eq!(refused(b"\"\xed\xa0\x80\""), (JsonErrorKind::NotUtf8, 1));
}

#[test]
fn control_characters_are_found_at_every_place_in_a_chunk() {
    for length in 0..20 {
        for at in 0..length {
            for byte in [0, 0x1f, b'\n'] {
                let mut text = vec![b'x'; length];
                text[at] = byte;
                let text = [b"\"", &text[..], b"\""].concat();
                assert_eq!(refused(text), (JsonErrorKind::ControlCharacter { byte }, at + 1));
            }
        }
    }
}

#[test]
fn a_text_cut_anywhere_is_refused() {
    let text = r#" {"a":[1,2.5e3,{"b":null}],"ü\n\ud83d\ude00":"x","c":true,"d":-7} "#;
    assert!(parse(text.as_bytes(), Limits::default()).is_ok());
    for length in 0..text.len() - 1 {
        assert!(parse(&text.as_bytes()[..length], Limits::default()).is_err(), "{length}");
    }
    assert_eq!(refused("").0.to_string(), "the text ends where a value should follow");
}

#[test]
fn structure_is_strict() {
    let texts = [
        "[1,]",
        "[,1]",
        "{\"a\":1,}",
        "{a:1}",
        "{\"a\" 1}",
        "[1 2]",
        "{\"a\":}",
        "]",
        "[1}",
        "'a'",
        "\u{feff}1",
        "/**/1",
    ];
    for text in texts {
        let (kind, _) = refused(text);
        assert!(matches!(kind, JsonErrorKind::Unexpected { .. }), "{text}: {kind:?}");
    }
    assert_eq!(refused("{} é"), (JsonErrorKind::Trailing { found: 'é' }, 3));
    assert_eq!(refused("1\0"), (JsonErrorKind::Trailing { found: '\0' }, 1));
}

#[test]
fn a_duplicate_name_is_refused_where_it_stands_again() {
    let duplicate = |name: &str| JsonErrorKind::DuplicateName { name: name.into() };
    assert_eq!(refused(r#"{"a":1,"a":1}"#), (duplicate("a"), 7));
    assert_eq!(refused(r#"{"b":{"a":1}, "a":1, "\u0062":[]}"#), (duplicate("b"), 21));
    assert_eq!(refused(r#"[{"x":{"k":1,"j":2,"k":3}}]"#), (duplicate("k"), 19));
}

#[test]
fn depth_and_count_are_bounded() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    assert!(parse(nested(DEPTH_MAX).as_bytes(), Limits::default()).is_ok());
    let too_deep = JsonErrorKind::TooDeep { depth_max: DEPTH_MAX };
    assert_eq!(refused(nested(DEPTH_MAX + 1)), (too_deep.clone(), DEPTH_MAX));
    assert_eq!(refused("{\"a\":".repeat(100_000)), (too_deep, DEPTH_MAX * 5));
    assert!(parse("[[],[],[[]]]".as_bytes(), Limits { depth_max: 3, ..Limits::default() }).is_ok());
    let few = Limits { values_max: 3, ..Limits::default() };
    assert!(parse(b"[1,2]", few).is_ok());
    let error = parse(b"[1,2,3]", few).expect_err("there are four values");
    assert_eq!(error.kind, JsonErrorKind::TooManyValues { values_max: 3 });
}

#[test]
fn an_error_names_line_and_column() {
    let error = parse("{\n  \"é\": tru\n}".as_bytes(), Limits::default()).expect_err("not JSON");
    assert_eq!((error.offset_bytes, error.line, error.column), (10, 2, 8));
    assert_eq!(error.to_string(), "line 2, column 8: found 't' where a value should be");
}

#[test]
fn a_document_has_its_id_first() {
    let fields: Object =
        [("b", Value::Null), ("A", 1.into()), ("_id", "no".into())].into_iter().collect();
    let mut out = Vec::new();
    write_document(&"x".into(), &fields, &mut out);
    assert_eq!(out, br#"{"_id":"x","A":1,"b":null}"#);
    out.clear();
    write_document(&7.into(), &Object::new(), &mut out);
    assert_eq!(out, br#"{"_id":7}"#);
}

#[test]
fn binary_is_written_as_base64() {
    let binary = |bytes: &'static [u8]| written(bytes);
    assert_eq!(binary(b""), r#""""#);
    assert_eq!(binary(b"\xfb"), r#""+w==""#);
    assert_eq!(binary(b"\xff\xef"), r#""/+8=""#);
    assert_eq!(binary(b"abc"), r#""YWJj""#);
}

#[test]
fn strings_are_written_with_the_escapes_that_json_demands() {
    assert_eq!(
        written("a\"\\/\u{8}\u{c}\n\r\t\u{1f}\u{7f}é"),
        "\"a\\\"\\\\/\\b\\f\\n\\r\\t\\u001f\u{7f}é\""
    );
}

proptest! {
    #[test]
    fn parse_undoes_write(value in json_value()) {
        prop_assert_eq!(parsed(written(value.clone())), value);
    }

    #[test]
    fn every_float_reads_back_as_itself(bits in any::<u64>()) {
        if let Some(value) = Value::finite(f64::from_bits(bits)) {
            prop_assert_eq!(parsed(written(value.clone())), value);
        }
    }

    #[test]
    fn a_damaged_text_never_panics(
        value in json_value(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut text = written(value).into_bytes();
        let at = at.index(text.len());
        text[at] = byte;
        if let Err(error) = parse(&text, Limits::default()) {
            prop_assert!(error.offset_bytes <= text.len());
            prop_assert!(error.line >= 1 && error.column >= 1);
        }
    }

    #[test]
    fn likely_text_never_panics(text in "[\\[\\]{}:,\"\\\\u0-9a-fA-F.eE+\\- \ntrlsdé]{0,40}") {
        if let Ok(value) = parse(text.as_bytes(), Limits::default()) {
            prop_assert_eq!(parsed(written(value.clone())), value);
        }
    }
}
