use proptest::prelude::*;

use super::super::ast::{Datasource, DeclaredType, StatementKind};
use super::super::testing::error;
use super::*;

/// A condition with brackets that show how it was read.
fn read(condition: &str) -> String {
    let statement = Statement::parse(&format!("SELECT * FROM c WHERE {condition}"));
    statement.expect(condition).filter().expect("there is a condition").to_string()
}

fn message(statement: &str) -> String {
    error(statement).to_string()
}

#[test]
fn the_table_of_precedence_is_kept() {
    assert_eq!(read("a OR b XOR c AND d"), "(`a` OR (`b` XOR (`c` AND `d`)))");
    assert_eq!(read("NOT a = b"), "(NOT (`a` = `b`))");
    assert_eq!(read("NOT a AND b"), "((NOT `a`) AND `b`)");
    assert_eq!(read("a = b IS MISSING"), "((`a` = `b`) IS MISSING)");
    assert_eq!(read("a + b * c - d"), "((`a` + (`b` * `c`)) - `d`)");
    assert_eq!(read("a - b - c"), "((`a` - `b`) - `c`)");
    assert_eq!(read("-a.b * c"), "((- `a`.`b`) * `c`)");
    assert_eq!(read("a << b + c < d"), "((`a` << (`b` + `c`)) < `d`)");
    assert_eq!(read("a || b = c"), "((`a` || `b`) = `c`)");
    assert_eq!(read("a BETWEEN b AND c AND d"), "((`a` BETWEEN `b` AND `c`) AND `d`)");
    assert_eq!(read("a NOT BETWEEN 1 AND 2"), "(NOT (`a` BETWEEN 1 AND 2))");
    assert_eq!(read("a NOT IN (1, 2)"), "(NOT (`a` IN (1, 2)))");
    assert_eq!(read("a IN b"), "(`a` IN `b`)");
    assert_eq!(read("a = b LIKE c"), "((`a` = `b`) LIKE `c`)");
    assert_eq!(read("a NOT LIKE 'x%' ESCAPE '!'"), r#"(NOT (`a` LIKE "x%" ESCAPE "!"))"#);
    assert_eq!(read("a IS NOT NULL"), "(NOT (`a` IS NULL))");
    assert_eq!(read("!a = b"), "((NOT `a`) = `b`)");
    assert_eq!(read("a = 1 and b == 2"), "((`a` = 1) AND (`b` = 2))");
}

#[test]
fn words_are_reserved_only_where_they_must_be() {
    assert_eq!(read("text = timestamp"), "(`text` = `timestamp`)");
    assert_eq!(read("position.count"), "`position`.`count`");
    assert_eq!(read("a.`b-c`.order"), "`a`.`b-c`.`order`");
    assert!(Statement::parse("SELECT * FROM collection").is_err());
    assert!(Statement::parse("SELECT a AS all FROM c").is_err());
    assert!(Statement::parse("SELECT a AS `all` FROM `collection`").is_ok());
}

#[test]
fn errors_say_where_and_what() {
    assert_eq!(
        message("SELECT * FROM"),
        "line 1, column 14: expected a collection, found the end of the statement"
    );
    assert_eq!(
        message("SELECT\n  FROM c"),
        "line 2, column 3: expected an expression, found the reserved word FROM"
    );
    assert_eq!(
        message("SELECT * FROM c WHERE a ="),
        "line 1, column 26: expected an expression, found the end of the statement"
    );
    assert_eq!(message("SELECT 'a''b' FROM c"), "line 1, column 11: expected FROM, found `'b'`");
    assert_eq!(message("SELECT a[0] FROM c"), "line 1, column 9: expected FROM, found `[`");
    assert_eq!(message("SELECT nosuch(1) FROM c"), "line 1, column 8: unknown function `nosuch`");
    assert_eq!(
        message("SELECT * FROM c; SELECT"),
        "line 1, column 18: expected the end, found the reserved word SELECT"
    );
    assert_eq!(
        message("SELECT 1"),
        "line 1, column 9: expected FROM, found the end of the statement"
    );
    assert_eq!(message("SELECT a # b"), "line 1, column 10: unexpected character '#'");
    assert_eq!(
        message("SELECT *, a FROM c"),
        "line 1, column 8: unqualified * with other projection elements is not supported"
    );
    assert_eq!(
        message("INSERT INTO c DOCUMENTS ({a: 1})"),
        "line 1, column 27: expected a quoted key, as in {'name': value}, found `a`"
    );
    assert_eq!(error("SELECT a FROM c JOIN d ON true").kind(), ErrorKind::Unsupported);
    assert_eq!(error("EXPLAIN SELECT * FROM c").kind(), ErrorKind::Unsupported);
    assert_eq!(error("DELETE FROM c RETURNING *").kind(), ErrorKind::Unsupported);
    assert_eq!(error("UPDATE system:dual SET a = 1").kind(), ErrorKind::Unsupported);
}

#[test]
fn depth_is_bounded_on_every_way_down() {
    let deep = 100_000;
    let nested = |open: &str, close: &str| {
        format!("SELECT {}1{} FROM c", open.repeat(deep), close.repeat(deep))
    };
    let attacks = [
        nested("(", ")"),
        nested("[", "]"),
        nested("- ", ""),
        nested("NOT ", ""),
        nested("1 + ", ""),
        nested("abs(", ")"),
        nested("CASE WHEN ", ""),
        nested("", ".a"),
        nested("", " IS NULL"),
        nested("", " = 1"),
        format!("SELECT * FROM COLLECTION c ({}", "a MAP (".repeat(deep)),
        format!("UPDATE c SET {}", "a -> (".repeat(deep)),
    ];
    for attack in attacks {
        let error = error(&attack);
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(
            error.message().contains("nested more than") || error.message().contains("steps"),
            "{}: {error}",
            &attack[..40]
        );
    }
    let long = format!("SELECT * FROM c WHERE {}false", "a = 1 OR ".repeat(TERMS_MAX));
    assert!(Statement::parse(&long).is_ok(), "a run of OR is as flat as a list");
    let path = format!("SELECT a{} FROM c", ".b".repeat(PATH_STEPS_MAX));
    assert!(error(&path).message().contains("more than 64 steps"));
    assert!(error(&" ".repeat(STATEMENT_BYTES_MAX + 1)).message().contains("are allowed"));
}

#[test]
fn a_source_has_a_namespace_types_and_an_alias() {
    let text = "SELECT * FROM COLLECTION default:cars (n COUNTER, `o p` MAP(q REGISTER), p PN_COUNTER) AS k USE IDS 'a', 2";
    let statement = Statement::parse(text).expect(text);
    let source = statement.source();
    assert_eq!((&*source.collection, source.alias.as_deref()), ("cars", Some("k")));
    assert_eq!(source.types[0].declared, DeclaredType::Counter);
    assert!(matches!(&source.types[1].declared, DeclaredType::Map(fields) if fields.len() == 1));
    let system = Statement::parse("select * from System:Dual").expect("a virtual collection");
    assert_eq!(system.datasource(), Datasource::System);
    assert!(Statement::parse("SELECT * FROM cars (n COUNTER)").is_err());
    assert!(Statement::parse("SELECT * FROM c USE IDS ('a')").is_err());
    assert!(Statement::parse("SELECT * FROM c USE IDS LIST :ids USE INDEX ''").is_ok());
    assert!(Statement::parse(&format!("SELECT * FROM {}", "c".repeat(100))).is_err());
    assert!(Statement::parse("SELECT * FROM `$TS_x`").is_err());
    assert!(Statement::parse("SELECT * FROM other:c").is_err());
}

#[test]
fn every_kind_of_statement_is_classified() {
    let kinds = [
        ("SELECT * FROM c;", "select", false),
        ("INSERT INTO c VALUES ({'a': 1}), (:b) ON ID CONFLICT DO NOTHING", "insert", true),
        ("INSERT INTO c INITIAL DOCUMENTS (:a)", "insert", true),
        (
            "UPDATE c APPLY n INCREMENT BY 1, m.o RESTART SET a = 1 UNSET b, c.d WHERE true",
            "update",
            true,
        ),
        ("DELETE FROM c WHERE a = 1 LIMIT 3", "delete", true),
        ("TOMBSTONE FROM c", "delete", true),
        ("evict from c USE IDS 1 offset 2", "evict", true),
    ];
    for (text, query_type, is_mutation) in kinds {
        let statement = Statement::parse(text).expect(text);
        assert_eq!(statement.query_type(), query_type);
        assert_eq!(statement.is_mutation(), is_mutation);
        assert_eq!(statement.collection(), "c");
    }
    assert!(
        Statement::parse("INSERT INTO c INITIAL DOCUMENTS (:a) ON ID CONFLICT DO FAIL").is_err()
    );
    assert!(Statement::parse("INSERT INTO c DOCUMENTS (:a) ON ID CONFLICT NOTHING").is_err());
    assert!(Statement::parse("UPDATE c WHERE true").is_err());
}

#[test]
fn a_parameter_is_listed_once() {
    let text = "SELECT * FROM c WHERE a = :x AND b = :y OR c = :x AND {'k': :from} = {'k'::y}";
    let statement = Statement::parse(text).expect(text);
    let names: Vec<_> = statement.parameters().iter().map(|p| &*p.name).collect();
    assert_eq!(names, ["x", "y", "from"]);
    assert!(Statement::parse("SELECT : x FROM c").is_err());
}

#[test]
fn aggregates_stand_only_where_groups_are() {
    for wrong in [
        "SELECT * FROM c WHERE COUNT(*) > 1",
        "SELECT a FROM c GROUP BY SUM(a)",
        "SELECT SUM(COUNT(*)) FROM c",
        "SELECT a, COUNT(*) FROM c",
        "SELECT *, COUNT(*) FROM c",
        "SELECT * FROM c GROUP BY a",
        "SELECT a + b FROM c GROUP BY a",
        "SELECT a FROM c HAVING a > 1",
        "SELECT a AS x, COUNT(*) AS n FROM c GROUP BY x",
        "SELECT a, COUNT(*) AS n FROM c GROUP BY a HAVING n > 1",
        "UPDATE c SET a = COUNT(*)",
        "SELECT * FROM c LIMIT a",
    ] {
        assert_eq!(error(wrong).kind(), ErrorKind::Invalid, "{wrong}");
    }
    let complaint = error("SELECT b, COUNT(*) FROM c GROUP BY a");
    assert_eq!(
        complaint.message(),
        "Projection \"`b`\" must depend only on group keys or aggregates"
    );
}

#[test]
fn an_update_touches_a_path_once_and_never_the_id() {
    assert_eq!(
        error("UPDATE c SET a = 1, a = 2").message(),
        "More than one modification specified for the path a"
    );
    assert!(error("UPDATE c SET a.b = 1 UNSET a.b").message().ends_with("the path a.b"));
    assert_eq!(error("UPDATE c SET _id = 1").message(), "The document id `_id` cannot be modified");
    assert!(Statement::parse("UPDATE c UNSET _id.x").is_err());
    let text = "UPDATE c SET m -> (a = 1, b -> tombstone(), c -> (d = 2)), e -> default()";
    let statement = Statement::parse(text).expect(text);
    let StatementKind::Update(update) = statement.kind() else { panic!("an update") };
    let paths: Vec<_> = update.changes.iter().map(|change| change.path.join(".")).collect();
    assert_eq!(paths, ["m.a", "m.b", "m.c.d", "e"]);
}

const OPERATORS: &[&str] = &["+", "-", "*", "||", "=", "<", "AND", "OR", "XOR", "IN", "LIKE", "<<"];

fn expr_text() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("a".to_owned()),
        Just("b.`c d`".to_owned()),
        Just("'x\\n'".to_owned()),
        Just("1.5e300".to_owned()),
        Just("null".to_owned()),
        Just("[1, a]".to_owned()),
        Just("{'k': a}".to_owned()),
        (0..u64::MAX).prop_map(|number| number.to_string()),
    ];
    leaf.prop_recursive(5, 40, 3, |inner| {
        prop_oneof![
            (inner.clone(), prop::sample::select(OPERATORS), inner.clone())
                .prop_map(|(a, op, b)| format!("{a} {op} {b}")),
            inner.clone().prop_map(|a| format!("({a})")),
            inner.clone().prop_map(|a| format!("({a}).f")),
            inner.clone().prop_map(|a| format!("NOT {a}")),
            inner.clone().prop_map(|a| format!("- ({a})")),
            inner.clone().prop_map(|a| format!("({a}) IS NOT MISSING")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("coalesce({a}, {b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) IN ({b}, 1)")),
            (inner.clone(), inner.clone(), inner)
                .prop_map(|(a, b, c)| format!("CASE WHEN {a} THEN {b} ELSE {c} END")),
        ]
    })
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,80}") {
        _ = Statement::parse(&text);
    }

    #[test]
    fn no_heap_of_tokens_makes_it_panic(
        tokens in prop::collection::vec(
            prop::sample::select(&[
                "SELECT", "FROM", "WHERE", "c", "a", ".", "*", ",", "(", ")", "[", "]", "{", "}",
                ":", "'s'", "1", "2.5", "=", "<", "-", "NOT", "AND", "OR", "IN", "BETWEEN", "LIKE",
                "IS", "NULL", "MISSING", "CASE", "WHEN", "THEN", "END", "COUNT", "GROUP", "BY",
                "ORDER", "LIMIT", "UPDATE", "SET", "INSERT", "INTO", "DOCUMENTS", "`q`", "CAST", "AS",
            ][..]),
            0..30,
        ),
    ) {
        _ = Statement::parse(&tokens.join(" "));
        _ = Statement::parse(&format!("SELECT {} FROM c", tokens.join(" ")));
        _ = Statement::parse(&format!("SELECT * FROM c WHERE {}", tokens.join(" ")));
    }

    #[test]
    fn a_printed_expression_reads_as_itself(text in expr_text()) {
        // Some of what is made is not in the language, such as `NOT` behind an operator.
        let statement = format!("SELECT * FROM c WHERE {text}");
        if Statement::parse(&statement).is_ok() {
            let printed = read(&text);
            prop_assert_eq!(read(&printed), printed);
        }
    }
}
