//! What expressions may cost, and that nothing is computed twice.

use super::super::testing::{bind, error, matching, query, rows};
use super::super::{
    COLUMNS_MAX, DqlError, EVALUATION_FUEL_MAX, ErrorKind, Limits, NAMES_MAX, PartitionSelect,
    TERMS_MAX,
};

/// Why a statement is refused over one document with a text of `text_bytes`.
fn refusal(statement: &str, arguments: &str, text_bytes: usize) -> DqlError {
    let document = format!(r#"{{"_id":1,"t":"{}"}}"#, "a".repeat(text_bytes));
    let run = || {
        let bound = bind(statement, arguments)?;
        let mut select = PartitionSelect::new(bound, Limits::default());
        select.push(&rows(&[&document])[0])
    };
    run().expect_err(&statement[..statement.len().min(80)])
}

#[test]
fn an_expression_makes_no_value_above_its_bound() {
    for (expr, named) in [
        ("repeat('ab', 1000000000)", "`repeat`"),
        ("lpad('7', 9000000, '0')", "`lpad`"),
        ("rpad(t, 9000000, 'é')", "`rpad`"),
        ("concat(t, t)", "`concat`"),
        ("t || t", "`||`"),
        ("joinstr(t, 'a', 'b', 'c')", "`joinstr`"),
        ("[t, t]", "`[…]`"),
        ("{'a': t, 'b': t}", "`{…}`"),
    ] {
        let error = refusal(&format!("SELECT {expr} AS x FROM c"), "{}", 700_000);
        assert_eq!(error.kind(), ErrorKind::Execution);
        let text = error.message();
        assert!(text.starts_with(named) && text.ends_with("at most 1048576"), "{text}");
    }
    let long = format!(r#"{{"x":"[{}1]"}}"#, "1,".repeat(1_000_000));
    let error = refusal("SELECT * FROM c WHERE deserialize_json(:x) = t", &long, 1);
    assert!(error.message().starts_with("`deserialize_json`"), "{error}");
}

#[test]
fn a_value_that_is_only_handed_on_may_be_larger() {
    let document = format!(r#"{{"_id":1,"t":"{}"}}"#, "a".repeat(3 << 20));
    let found = query("SELECT byte_length(coalesce(t, '')) AS n FROM c", &[&document]);
    assert_eq!(found, [format!(r#"{{"n":{}}}"#, 3 << 20)]);
}

#[test]
fn a_statement_has_bounded_terms_names_and_columns() {
    let terms =
        |count: usize| format!("SELECT * FROM c WHERE {}", vec!["a = 1"; count].join(" OR "));
    assert!(super::super::Statement::parse(&terms(TERMS_MAX)).is_ok());
    for (text, what) in [
        (terms(TERMS_MAX + 1), "4096 terms"),
        (format!("SELECT [{}a] AS x FROM c", "a,".repeat(NAMES_MAX)), "names of fields"),
        (format!("SELECT {}1 FROM c", "1,".repeat(COLUMNS_MAX)), "1024 columns"),
        (format!("SELECT * FROM c ORDER BY {}a", "a,".repeat(64)), "64 keys"),
    ] {
        let error = error(&text);
        assert!(error.message().contains(what), "{error}");
    }
    let list = format!("SELECT * FROM c WHERE a IN ({}1)", "-1, 'x',".repeat(50_000));
    assert!(super::super::Statement::parse(&list).is_ok(), "a list is one term");
}

#[test]
fn what_one_document_costs_is_bounded() {
    let many = |term: &str, count| vec![term; count].join(" OR ");
    for condition in [
        many("t LIKE '%b%b'", 60),
        many("t LIKE '%_b%_b'", 4),
        many("t ILIKE '%b'", 12),
        many("char_length(t) = 1", 40),
        many("lower(t) = 'b'", 2),
    ] {
        let error = refusal(&format!("SELECT * FROM c WHERE {condition}"), "{}", 1_000_000);
        assert!(error.message().contains("cost more than"), "{error}");
    }
}

#[test]
fn what_no_row_changes_is_computed_once() {
    let mut select = PartitionSelect::new(
        bind(
            "SELECT * FROM c WHERE n IN deserialize_json(:list) AND n NOT IN (1 + 1, 3) AND s LIKE
             concat('a', :wide) AND repeat('x', 900000) > s",
            &format!(r#"{{"list":"[{}7]","wide":"%{}"}}"#, "1,".repeat(100_000), "%_".repeat(500)),
        )
        .expect("it is bound within its fuel"),
        Limits::default(),
    );
    for id in 0..100 {
        let document = format!(r#"{{"_id":{id},"n":7,"s":"a"}}"#);
        select.push(&rows(&[&document])[0]).expect("a row costs little");
    }
    let spent = select.take_spent();
    assert!(spent < 100 * 5_000, "{spent} for a hundred rows");
}

#[test]
fn prepared_sets_answer_as_a_disjunction_of_equalities() {
    let documents = [
        r#"{"_id":1,"x":1}"#,
        r#"{"_id":2,"x":"a"}"#,
        r#"{"_id":3,"x":null}"#,
        r#"{"_id":4}"#,
        r#"{"_id":5,"x":[1,null]}"#,
        r#"{"_id":6,"x":{"k":2.0}}"#,
        r#"{"_id":7,"x":2.0}"#,
    ];
    for list in ["1, 2", "1.0", "'a'", "'a', null", "null", "deserialize_json('{'), 1", "'b'"] {
        let equal: Vec<_> = list.split(", ").map(|item| format!("x = {item}")).collect();
        for test in ["", " IS NULL", " IS MISSING", " IS FALSE", " IS TRUE"] {
            let prepared = matching(&format!("(x IN ({list})){test}"), &documents);
            let spelt = matching(&format!("({}){test}", equal.join(" OR ")), &documents);
            assert_eq!(prepared, spelt, "{list}{test}");
        }
    }
    assert_eq!(matching("x IN [[1, null], {'k': 2}]", &documents), ["5", "6"]);
    assert_eq!(matching("x IN null IS NULL", &documents), ["1", "2", "3", "5", "6", "7"]);
}

#[test]
fn a_pause_changes_neither_an_answer_nor_what_it_costs() {
    let document = r#"{"_id":1,"n":7,"s":"some text","l":[1,2,null,{"k":"v"}],"o":{"a":1}}"#;
    let rows = rows(&[document]);
    for expr in [
        "NOT (n = 1 OR s LIKE concat('%', 'x', 't') AND n BETWEEN n - 1 AND n + 1)",
        "CASE n WHEN n + 1 THEN 'a' WHEN 3 + 4 - n + n THEN upper(s) || s ELSE s END",
        "CASE WHEN n > 8 THEN 1 WHEN absent IS MISSING THEN -(n * 2) END",
        "CASE WHEN n > 8 THEN 1 END",
        "n IN (n + 1, l, absent, n) XOR n IN l",
        "[n, absent, [s, {s: n, 'k': o.a, n: 1}], {'m': absent}]",
        "coalesce(absent, null, substr(s, n - 6, n - 4)) || s || absent",
        "array_length(l) + {'x': o}.x.a * n",
    ] {
        let text =
            format!("SELECT {expr} AS x FROM c WHERE n = 7 AND ({expr}) = ({expr}) OR n > 0");
        let bound = bind(&text, "{}").expect("well-formed");
        let run = |fuel| {
            let mut select = PartitionSelect::new(bound.clone(), Limits::default());
            let (mut pauses, mut costs) = (0, Vec::new());
            while !select.push_within(&rows[0], fuel).expect("within limits") {
                pauses += 1;
                costs.push(select.take_spent());
            }
            costs.push(select.take_spent());
            select.finish();
            let row = select.take_output().expect("a part").rows.pop().expect("a row");
            (String::from_utf8(row.json).expect("text"), costs.iter().sum::<u64>(), pauses)
        };
        let (answer, cost, _) = run(u64::MAX);
        for fuel in [1, 7, 100, 1_000] {
            let (paused, sum, pauses) = run(fuel);
            assert_eq!((&paused, sum), (&answer, cost), "{expr}, paused every {fuel}");
            assert!(fuel > 1 || pauses > 10, "{pauses} pauses in {expr}");
        }
    }
}

#[test]
fn a_document_of_many_terms_is_left_after_any_of_them() {
    let terms = vec!["n = -1"; TERMS_MAX].join(" OR ");
    let bound = bind(&format!("SELECT * FROM c WHERE {terms}"), "{}").expect("well-formed");
    let mut select = PartitionSelect::new(bound, Limits::default());
    let row = &rows(&[r#"{"_id":1,"n":1}"#])[0];
    let (mut pauses, mut most) = (0, 0);
    while !select.push_within(row, 10_000).expect("within limits") {
        (pauses, most) = (pauses + 1, most.max(select.take_spent()));
    }
    assert!(pauses > 40 && most < 11_000, "{pauses} pauses, at most {most} between two");
}

#[test]
fn a_large_text_is_left_within_a_like_and_taken_up_where_it_was() {
    let document = format!(r#"{{"_id":1,"n":1,"t":"{}é"}}"#, "ab".repeat(500_000));
    let row = &rows(&[&document])[0];
    for (condition, found) in [
        ("t LIKE '%b%b_c%'", false),
        ("t LIKE '%bab%_é'", true),
        ("t LIKE concat('%', substr('b_b', n - 1), '%é')", true),
        ("t LIKE 'ab%ba%c%'", false),
        ("NOT t LIKE '%ba%é_'", true),
    ] {
        let text = format!("SELECT COUNT(*) AS n FROM c WHERE {condition}");
        let bound = bind(&text, "{}").expect("well-formed");
        let run = |fuel| {
            let mut select = PartitionSelect::new(bound.clone(), Limits::default());
            let (mut pauses, mut sum, mut most) = (0, 0, 0);
            while !select.push_within(row, fuel).expect("within limits") {
                let spent = select.take_spent();
                (pauses, sum, most) = (pauses + 1, sum + spent, most.max(spent));
            }
            let spent = select.take_spent();
            select.finish();
            let count = select.take_output().expect("a part").groups.len();
            (count, sum + spent, most.max(spent), pauses)
        };
        let (count, cost, ..) = run(u64::MAX);
        let (paused, sum, most, pauses) = run(10_000);
        assert_eq!((count, paused, sum), (usize::from(found), count, cost), "{condition}");
        // To find the text of a megabyte costs a quarter of that.
        assert!(pauses > 10 && most < 400_000, "{pauses} pauses, at most {most}: {condition}");
    }
}

#[test]
fn an_argument_costs_what_it_weighs_each_time_that_it_is_named() {
    let argument = format!(r#"{{"p":[{}]}}"#, vec!["1"; 10_000].join(","));
    let spent = |expr: &str| {
        let bound = bind(&format!("SELECT {expr} AS x FROM c"), &argument).expect("well-formed");
        let mut select = PartitionSelect::new(bound, Limits::default());
        let row = &rows(&[r#"{"_id":1,"n":1}"#])[0];
        let mut spent = 0;
        let ended = loop {
            match select.push_within(row, 10_000) {
                Ok(true) => break Ok(()),
                Ok(false) => spent += select.take_spent(),
                Err(error) => break Err(error.kind()),
            }
        };
        (ended, spent + select.take_spent())
    };
    // It is refused before it is named a hundred times: a pause copies each of them, before anybody looks at what is
    // being made.
    let (ended, cost) = spent(&format!("[n{}]", ", :p".repeat(1_000)));
    assert_eq!(ended, Err(ErrorKind::Execution));
    assert!((EVALUATION_FUEL_MAX..2 * EVALUATION_FUEL_MAX).contains(&cost), "{cost}");
    assert_eq!(spent(&format!("coalesce(n{})", ", :p".repeat(1_000))).0, Err(ErrorKind::Execution));
}

#[test]
fn what_a_paused_document_keeps_counts_as_held() {
    let bound =
        bind("SELECT array_length([t, t, t, t, n]) AS x FROM c", "{}").expect("well-formed");
    let mut select = PartitionSelect::new(bound, Limits { held_bytes_max: 10_000 });
    let document = format!(r#"{{"_id":1,"n":1,"t":"{}"}}"#, "a".repeat(4_000));
    let row = &rows(&[&document])[0];
    let ended = loop {
        match select.push_within(row, 1) {
            Ok(false) => {}
            ended => break ended,
        }
    };
    let refused = ended.expect_err("three copies of the text are too many").to_string();
    assert!(refused.contains("holds more than 10000 bytes"), "{refused}");
}
