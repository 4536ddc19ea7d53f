use super::super::testing::{computed, computed_from, matching};

const FLAGS: [&str; 4] =
    [r#"{"_id":1,"f":true}"#, r#"{"_id":2,"f":false}"#, r#"{"_id":3,"f":null}"#, r#"{"_id":4}"#];

fn is(expr: &str, expected: &str) {
    assert_eq!(computed(expr).as_deref(), Some(expected), "{expr}");
}

fn is_missing(expr: &str) {
    assert_eq!(computed(expr), None, "{expr}");
}

#[test]
fn and_or_follow_their_tables() {
    let operands = ["true", "false", "null", "gone"];
    let and = ["true", "false", "null", "", "false", "false", "false", "false"];
    let and = [&and[..], &["null", "false", "null", "", "", "false", "", ""]].concat();
    let or = ["true", "true", "true", "true", "true", "false", "null", ""];
    let or = [&or[..], &["true", "null", "null", "null", "true", "", "null", ""]].concat();
    for (row, left) in operands.iter().enumerate() {
        for (column, right) in operands.iter().enumerate() {
            for (op, table) in [("AND", &and), ("OR", &or)] {
                let expr = format!("{left} {op} {right}");
                let found = computed(&expr).unwrap_or_default();
                assert_eq!(found, table[row * 4 + column], "{expr}");
            }
        }
    }
    is("true XOR false", "true");
    is("true XOR true", "false");
    is("true XOR null", "null");
    is_missing("null XOR gone");
    is("NOT null", "null");
    is_missing("NOT gone");
    is_missing("NOT 1");
    is("false AND 'a'", "false");
}

#[test]
fn a_condition_keeps_only_what_is_exactly_true() {
    for condition in ["f = false", "f != true", "NOT f", "!f"] {
        assert_eq!(matching(condition, &FLAGS), ["2"], "{condition}");
    }
    assert_eq!(matching("coalesce(f, false) = false", &FLAGS), ["2", "3", "4"]);
    assert_eq!(matching("f IS MISSING", &FLAGS), ["4"]);
    assert_eq!(matching("f IS NULL", &FLAGS), ["3"]);
    assert_eq!(matching("f IS UNKNOWN", &FLAGS), ["3"]);
    assert_eq!(matching("f IS NOT NULL", &FLAGS), ["1", "2", "4"]);
    assert_eq!(matching("f IS NOT MISSING", &FLAGS), ["1", "2", "3"]);
    assert_eq!(matching("f IS TRUE", &FLAGS), ["1"]);
    assert_eq!(matching("f IS NOT FALSE", &FLAGS), ["1", "3", "4"]);
    assert_eq!(matching("ismissingornull(f)", &FLAGS), ["3", "4"]);
}

#[test]
fn comparison_needs_one_type() {
    is_missing("1 = 'a'");
    is_missing("1 != 'a'");
    is_missing("1 < 'a'");
    is_missing("gone = 1");
    is_missing("gone = null");
    is("null = 1", "null");
    is("null = null", "null");
    is("1 = 1.0", "true");
    is("9007199254740993 = 9007199254740992.0", "false");
    is("'b' > 'a'", "true");
    is("false < true", "true");
    is("[1, 2] = [1, 2.0]", "true");
    is("{'a': 1, 'b': [2]} = {'b': [2], 'a': 1}", "true");
    is("3 BETWEEN 1 AND 3", "true");
    is("3 BETWEEN 3 AND 1", "false");
    is("3 NOT BETWEEN 1 AND 2", "true");
    is("9223372036854775808 > 9223372036854775807", "true");
}

#[test]
fn arithmetic_stays_integral_where_it_can() {
    is("5 / 2", "2");
    is("5.0 / 2", "2.5");
    is("-7 % 3", "-1");
    is("2 * 3 + 1", "7");
    is("2 * 3.0", "6.0");
    is("1 / 0", "null");
    is("1.5 % 0", "null");
    is("1e308 * 10", "null");
    is("9223372036854775807 + 1", "9223372036854775808");
    is("18446744073709551615 + 1", "1.8446744073709552e+19");
    is("18446744073709551615 * 18446744073709551615", "3.402823669209385e+38");
    is("-9223372036854775808", "-9223372036854775808");
    is("- -9223372036854775808", "9223372036854775808");
    is("0x10 << 2", "64");
    is("-8 >> 1", "-4");
    is_missing("1 << 64");
    is_missing("1 + 'a'");
    is_missing("1.5 << 1");
    is("1 + null", "null");
    is("- null", "null");
    is_missing("- 'a'");
    is("'a' || 'b'", r#""ab""#);
    is_missing("'a' || 1");
    is_missing("'a' || null");
}

#[test]
fn membership_compares_as_equality_does() {
    is("2 IN (1, 2.0)", "true");
    is("2 IN [1, 3]", "false");
    is("2 NOT IN [1, 3]", "true");
    is("2 IN (1, null)", "null");
    is("2 NOT IN (1, null)", "null");
    is_missing("gone IN (1)");
    is_missing("gone NOT IN (1)");
    is_missing("2 IN 2");
    is("2 IN null", "null");
    is("[1] IN ([1])", "true");
    is("2 IN []", "false");
}

#[test]
fn patterns_match_the_whole_text() {
    is("'50%' LIKE '50!%' ESCAPE '!'", "true");
    is("'50x' LIKE '50!%' ESCAPE '!'", "false");
    is(r"'a%b' LIKE 'a\\%b' ESCAPE '\\'", "true");
    is("'Leeds' LIKE 'leeds'", "false");
    is("'Leeds' ILIKE 'l%S'", "true");
    is("'ab' NOT LIKE 'a'", "true");
    is("null LIKE 'a'", "null");
    is_missing("1 LIKE 'a'");
}

#[test]
fn case_takes_the_first_match() {
    is("CASE WHEN false THEN 1 WHEN true THEN 2 WHEN true THEN 3 END", "2");
    is("CASE WHEN gone THEN 1 END", "null");
    is("CASE 1.0 WHEN 'a' THEN 'x' WHEN 1 THEN 'y' ELSE 'z' END", r#""y""#);
    is("CASE null WHEN null THEN 1 ELSE 2 END", "2");
    is_missing("CASE WHEN true THEN gone END");
}

#[test]
fn literals_keep_their_values() {
    is("{a: 1}", "{}");
    is("{'a': 1, 'b': gone, 'c': null}", r#"{"a":1,"c":null}"#);
    is("[1, 'a', [null]]", r#"[1,"a",[null]]"#);
    is(r"'a\nb'", r#""a\nb""#);
    is("\"abc\"", r#""abc""#);
    is("{'a': {'b': 7}}.a.b", "7");
}

#[test]
fn paths_walk_through_objects() {
    let document = r#"{"_id":{"store":"s1","n":4},"a":{"b":{"c":1}},"l":[{"x":1}],"c":{"d":9}}"#;
    let from = |expr| computed_from(expr, document);
    assert_eq!(from("a.b.c").as_deref(), Some("1"));
    assert_eq!(from("a.b.gone"), None);
    assert_eq!(from("l.x"), None);
    assert_eq!(from("_id.store").as_deref(), Some(r#""s1""#));
    assert_eq!(from("_id").as_deref(), Some(r#"{"n":4,"store":"s1"}"#));
    assert_eq!(from("c.a.b.c").as_deref(), Some("1"), "the first step is the collection");
    assert_eq!(from("c").as_deref(), Some(r#"{"d":9}"#), "alone it is a field");
    assert_eq!(from("c.d"), None);
}

#[test]
fn functions_of_strings() {
    is("lower('ÄB')", r#""äb""#);
    is("UPPER('äb')", r#""ÄB""#);
    is("concat('a', 'b', 'c')", r#""abc""#);
    is_missing("concat('a', null)");
    is("contains('abc', 'b')", "true");
    is("starts_with('abc', 'b')", "false");
    is("ends_with('abc', 'c')", "true");
    is("starts_with(null, 'b')", "null");
    is_missing("starts_with(1, 'b')");
    is_missing("starts_with(gone, null)");
    is("byte_length('é')", "2");
    is("char_length('é')", "1");
    is("substr('héllo', 1, 3)", r#""éll""#);
    is("substr('abc', 1)", r#""bc""#);
    is("substr('abc', 5, 9)", r#""""#);
    is_missing("substr('abc', -1)");
    is("pos('abc', 'c')", "2");
    is("POSITION('x' IN 'abc')", "-1");
    is("split('a,b', ',')", r#"["a","b"]"#);
    is("joinstr('-', 'a', ['b', 'c'])", r#""a-b-c""#);
    is("lpad('7', 3, '0')", r#""007""#);
    is("rpad('abc', 2, 'x')", r#""abc""#);
    is("lpad('é', 6, 'aöb')", r#""aöbaöé""#);
    is("rpad('é', 4, 'aöb')", r#""éaöb""#);
    is("lpad('abc', 9, '')", r#""abc""#);
    is("repeat('ab', 2)", r#""abab""#);
    is("TRIM(' a ')", r#""a""#);
}

#[test]
fn functions_of_types() {
    let types = [
        ("true", "boolean"),
        ("'a'", "string"),
        ("1", "integer"),
        ("1.0", "float"),
        ("{}", "object"),
        ("[]", "array"),
        ("null", "null"),
        ("gone", "missing"),
    ];
    for (value, name) in types {
        is(&format!("type({value})"), &format!("\"{name}\""));
    }
    is("json_type(1)", r#""number""#);
    is("json_type(gone)", r#""null""#);
    is("is_number('1')", "false");
    is("is_string(null)", "null");
    is_missing("is_boolean(gone)");
    is("cast('12' AS integer)", "12");
    is("cast(1.9 AS integer)", "1");
    is("cast(-1.9, 'integer')", "-1");
    is_missing("cast(1e300 AS integer)");
    is("cast(1 AS float)", "1.0");
    is("cast(1.0 AS string)", r#""1.0""#);
    is("cast('TRUE' AS boolean)", "true");
    is_missing("cast('x' AS integer)");
    is_missing("cast(1 AS nonsense)");
    is("cast(cast('aGk=' AS binary) AS string)", r#""aGk=""#);
    is("deserialize_json('{\"a\":[1]}')", r#"{"a":[1]}"#);
    is_missing("deserialize_json('{')");
    is("serialize_json([1, 'a'])", r#""[1,\"a\"]""#);
}

#[test]
fn functions_of_absence() {
    is("coalesce(gone, null, 2)", "2");
    is("coalesce(gone, null)", "null");
    is("ifmissing(gone, null, 2)", "null");
    is_missing("ifnull(null, gone, 2)");
    is("ifnull(null, 2)", "2");
    is("nvl(null, 'r')", r#""r""#);
    is("nvl(1, 'r1', 'r2')", r#""r1""#);
    is("nvl(gone, 'r1', 'r2')", r#""r2""#);
    is("nullif(1, 1.0)", "null");
    is("nullif(1, 'a')", "1");
    is_missing("missingif(1, 1)");
    is("ismissing(gone)", "true");
    is("isnull(gone)", "false");
    is("decode(1.0, 2, 'a', 1, 'b', 'c')", r#""b""#);
    is("decode(3, 2, 'a', 'c')", r#""c""#);
    is("decode(3, 2, 'a')", "null");
}

#[test]
fn functions_of_numbers_arrays_and_objects() {
    is("abs(-3)", "3");
    is("abs(-9223372036854775808)", "9223372036854775808");
    is("ceil(1.2)", "2.0");
    is("floor(-1)", "-1");
    is("array_contains([1, 2], 2.0)", "true");
    is("array_contains_null([null])", "true");
    is("array_length([1, 2])", "2");
    is_missing("array_length('ab')");
    is("object_keys({'b': 1, 'a': 2})", r#"["a","b"]"#);
    is("object_values({'b': 1, 'a': 2})", "[2,1]");
    is("object_length({'b': 1})", "1");
    is("object_set({'a': 1}, 'b', 2)", r#"{"a":1,"b":2}"#);
    is_missing("object_set({'a': 1}, 'a', 2)");
    is("object_set({'a': 1}, 'a', 2, true)", r#"{"a":2}"#);
    is("object_unset({'a': 1}, 'a')", "{}");
    is("object_rename({'a': 1}, 'a', 'b')", r#"{"b":1}"#);
    is("object_concat({'a': 1, 'b': 1}, {'b': 2})", r#"{"a":1,"b":2}"#);
}
