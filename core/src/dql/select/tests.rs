use proptest::prelude::*;

use super::super::testing::{bind, bound, query, query_with, row, rows, run};
use super::*;
use crate::dql::{Access, DqlError, Fuel};

const CARS: [&str; 6] = [
    r#"{"_id":"a","color":"red","price":10,"sold":false}"#,
    r#"{"_id":"b","color":"blue","price":20.5,"sold":true}"#,
    r#"{"_id":"c","color":"red","price":30,"sold":true}"#,
    r#"{"_id":"d","color":null,"price":"much"}"#,
    r#"{"_id":"e","price":5}"#,
    r#"{"_id":"f","color":"blue","price":1,"sold":null}"#,
];

fn ids(tail: &str) -> String {
    let rows = query(&format!("SELECT _id FROM cars {tail}"), &CARS);
    let id = |row: &String| row.split('"').nth(3).expect("a text id").to_owned();
    rows.iter().map(id).collect()
}

fn one(projection: &str) -> String {
    let mut rows = query(&format!("SELECT {projection} FROM cars"), &CARS);
    assert_eq!(rows.len(), 1);
    rows.remove(0)
}

#[test]
fn a_projection_shapes_the_row() {
    let document = [r#"{"_id":7,"b":{"c":1,"d":2},"a":1}"#];
    let shape =
        |projection: &str| query(&format!("SELECT {projection} FROM c"), &document).remove(0);
    assert_eq!(shape("*"), r#"{"_id":7,"a":1,"b":{"c":1,"d":2}}"#);
    assert_eq!(shape("a, _id"), r#"{"_id":7,"a":1}"#);
    assert_eq!(shape("b.c"), r#"{"c":1}"#);
    assert_eq!(shape("a AS x, a + 1 y, a + 2"), r#"{"($3)":3,"x":1,"y":2}"#);
    assert_eq!(shape("c.*, MISSING b.c, 5 AS a"), r#"{"_id":7,"a":5,"b":{"d":2}}"#);
    assert_eq!(shape("a, b.d AS a"), r#"{"a":2}"#);
    assert_eq!(shape("gone, 1 = 'a', null = 1"), r#"{"($3)":null}"#);
    assert_eq!(
        query("SELECT k.*, k.a AS z FROM c AS k", &[r#"{"_id":1,"a":2}"#]),
        [r#"{"_id":1,"a":2,"z":2}"#]
    );
}

#[test]
fn order_is_that_of_types_and_ends_in_ids() {
    assert_eq!(ids(""), "abcdef");
    assert_eq!(ids("ORDER BY price"), "feabcd");
    assert_eq!(ids("ORDER BY color DESC, _id DESC"), "edcafb");
    assert_eq!(ids("ORDER BY color"), "bfacde");
    assert_eq!(ids("ORDER BY sold, price DESC"), "acbfde");
    assert_eq!(query("SELECT price AS p FROM cars ORDER BY p LIMIT 1", &CARS), [r#"{"p":1}"#]);
    assert_eq!(
        query("SELECT -price AS price FROM cars ORDER BY price LIMIT 1", &CARS),
        [r#"{"price":-30}"#]
    );
    assert_eq!(
        query("SELECT -price AS p FROM cars ORDER BY -p LIMIT 1 OFFSET 1", &CARS),
        [r#"{"p":-5}"#]
    );
}

#[test]
fn paging_counts_over_all_partitions() {
    assert_eq!(ids("LIMIT 2"), "ab");
    assert_eq!(ids("OFFSET 4"), "ef");
    assert_eq!(ids("ORDER BY price LIMIT 2 OFFSET 1"), "ea");
    assert_eq!(ids("OFFSET 1 LIMIT 2"), "bc");
    assert_eq!(ids("LIMIT 0"), "");
    assert_eq!(ids("ORDER BY price OFFSET 9"), "");
    let paged = query_with("SELECT _id FROM c LIMIT :n OFFSET :n", r#"{"n":1}"#, &CARS);
    assert_eq!(paged, [r#"{"_id":"b"}"#]);
    for wrong in ["-1", "1.0", "'a'", "null", ":gone"] {
        assert!(bind(&format!("SELECT * FROM c LIMIT {wrong}"), "{}").is_err(), "{wrong}");
    }
}

#[test]
fn a_parameter_must_be_given() {
    let error = bind("SELECT * FROM c WHERE a = :x", r#"{"y":1}"#).expect_err("x is not given");
    assert_eq!(error.to_string(), "line 1, column 27: Parameter x was not provided");
    assert_eq!(error.kind(), ErrorKind::Parameter);
    let list = r#"{"list":["red","blue"],"like":"b%"}"#;
    let matched = |condition: &str| {
        query_with(&format!("SELECT _id FROM c WHERE {condition}"), list, &CARS).len()
    };
    assert_eq!(matched("color IN :list"), 4);
    assert_eq!(matched("color IN (:list)"), 0);
    assert_eq!(matched("color LIKE :like"), 2);
}

#[test]
fn aggregates_follow_their_rules() {
    assert_eq!(one("COUNT(*) AS n"), r#"{"n":6}"#);
    assert_eq!(one("COUNT(sold) AS n"), r#"{"n":2}"#, "false does not count");
    assert_eq!(one("COUNT(DISTINCT color) AS n, COUNT(color) AS m"), r#"{"m":4,"n":2}"#);
    assert_eq!(one("SUM(price) AS s, AVG(price) AS a"), r#"{"a":13.3,"s":66.5}"#);
    assert_eq!(
        one("SUM(CASE WHEN price > 9 THEN 1 ELSE 0 END) AS s"),
        r#"{"s":2}"#.replace('2', "3")
    );
    assert_eq!(one("MIN(price) AS a, MAX(price) AS b"), r#"{"a":1,"b":"much"}"#);
    assert_eq!(one("MID(CASE WHEN is_number(price) THEN price END) AS m"), r#"{"m":15.5}"#);
    assert_eq!(one("COUNT(*) + 1 AS n, upper('x') AS x"), r#"{"n":7,"x":"X"}"#);
    assert_eq!(one("COUNT(*)"), r#"{"($1)":6}"#);
    let nothing = query(
        "SELECT COUNT(*) AS n, COUNT(a) AS m, SUM(a) AS s, AVG(a) AS v, MIN(a) AS x FROM c",
        &[],
    );
    assert_eq!(nothing, [r#"{"m":0,"n":0}"#]);
    assert_eq!(
        query(
            "SELECT SUM(DISTINCT a) AS s FROM c",
            &[r#"{"_id":1,"a":2.0}"#, r#"{"_id":2,"a":2}"#]
        ),
        [r#"{"s":2}"#]
    );
}

#[test]
fn groups_have_one_row_each() {
    let grouped =
        query("SELECT color, COUNT(*) AS n, SUM(price) AS s FROM cars GROUP BY color", &CARS);
    assert_eq!(
        grouped,
        [
            r#"{"color":"blue","n":2,"s":21.5}"#,
            r#"{"color":"red","n":2,"s":40}"#,
            r#"{"color":null,"n":1}"#,
            r#"{"n":1,"s":5}"#
        ]
    );
    let having = "SELECT upper(color) AS c FROM cars GROUP BY color HAVING COUNT(*) > 1 ORDER BY SUM(price) DESC";
    assert_eq!(query(having, &CARS), [r#"{"c":"RED"}"#, r#"{"c":"BLUE"}"#]);
    let by_alias = "SELECT color, COUNT(*) AS n FROM cars GROUP BY color ORDER BY n DESC, color LIMIT 1 OFFSET 1";
    assert_eq!(query(by_alias, &CARS), [r#"{"color":"red","n":2}"#]);
    assert_eq!(
        query("SELECT price > 9 AS p FROM cars GROUP BY price > 9 LIMIT 1", &CARS),
        [r#"{"p":false}"#]
    );
    assert!(query("SELECT color FROM c GROUP BY color", &[]).is_empty());
    assert_eq!(
        query("SELECT DISTINCT COUNT(*) AS n FROM cars GROUP BY color", &CARS),
        [r#"{"n":2}"#, r#"{"n":1}"#]
    );
    let looks = [r#"{"_id":1,"k":1.0}"#, r#"{"_id":2,"k":1}"#];
    assert_eq!(
        query("SELECT k FROM c GROUP BY k", &looks),
        [r#"{"k":1.0}"#],
        "the least id decides"
    );
}

#[test]
fn distinct_compares_whole_rows() {
    assert_eq!(
        query("SELECT DISTINCT color FROM cars", &CARS),
        [r#"{"color":"red"}"#, r#"{"color":"blue"}"#, r#"{"color":null}"#, "{}"]
    );
    assert_eq!(
        query(
            "SELECT DISTINCT color FROM cars WHERE price > 0 ORDER BY color LIMIT 1 OFFSET 1",
            &CARS
        ),
        [r#"{"color":"red"}"#]
    );
    assert_eq!(query("SELECT DISTINCT * FROM cars", &CARS).len(), 6);
}

#[test]
fn rows_leave_a_scan_before_its_end() {
    let wide = "x".repeat(1000);
    let bound = bound("SELECT * FROM c");
    let mut select = PartitionSelect::new(bound.clone(), Limits::default());
    let mut merge = MergeSelect::new(bound, 2, Limits::default());
    let mut parts = Vec::new();
    for id in 0..1000 {
        select.push(&row(&format!(r#"{{"_id":{id},"w":"{wide}"}}"#))).expect("within limits");
        parts.extend(select.take_output());
    }
    assert!(parts.len() > 2 && parts.iter().all(|part| !part.last));
    select.finish();
    while let Some(part) = select.take_output() {
        parts.push(part);
    }
    assert!(parts.last().is_some_and(|part| part.last));
    let mut other = PartitionSelect::new(bound_again(), Limits::default());
    other.finish();
    merge.push(1, other.take_output().expect("the last part")).expect("within limits");
    let mut taken = Vec::new();
    for part in parts {
        assert!(!merge.is_done());
        merge.push(0, part).expect("within limits");
        let rows = merge.take_rows(usize::MAX, Fuel::MAX);
        assert!(!rows.is_empty());
        taken.extend(rows);
    }
    assert!(merge.is_done());
    assert_eq!(taken.len(), 1000);
    assert!(taken.is_sorted());
}

fn bound_again() -> crate::dql::Bound {
    bound("SELECT * FROM c")
}

#[test]
fn a_statement_that_holds_too_much_fails() {
    let limits = Limits { held_bytes_max: 4096 };
    let fill = |statement: &str| -> Result<(), DqlError> {
        let mut select = PartitionSelect::new(bound(statement), limits);
        (0..100).try_for_each(|id| {
            select.push(&row(&format!(r#"{{"_id":{id},"a":"{}{id}"}}"#, "x".repeat(80))))
        })
    };
    for greedy in [
        "SELECT * FROM c ORDER BY a",
        "SELECT DISTINCT a FROM c",
        "SELECT a, COUNT(*) FROM c GROUP BY a",
        "SELECT COUNT(DISTINCT a) FROM c",
    ] {
        let error = fill(greedy).expect_err(greedy);
        assert!(error.message().contains("more than 4096 bytes"), "{error}");
    }
    assert!(fill("SELECT * FROM c ORDER BY a DESC LIMIT 3").is_ok());
    assert!(fill("SELECT COUNT(a), MAX(a) FROM c").is_ok());
}

#[test]
fn duplicates_of_what_is_held_take_no_room() {
    let part = |ids: std::ops::Range<u32>| {
        let mut select = PartitionSelect::new(bound("SELECT DISTINCT a FROM c"), Limits::default());
        for id in ids {
            let place = id % 20;
            select.push(&row(&format!(r#"{{"_id":{id},"a":"{place:0>80}"}}"#))).expect("room");
        }
        select.finish();
        std::iter::from_fn(move || select.take_output()).collect::<Vec<_>>()
    };
    let parts = part(0..20);
    let held: usize = parts.iter().flat_map(|part| &part.rows).map(OutRow::size).sum();
    // The ids of the second partition are smaller at times: its rows then take the place of the others.
    for ids in [20..40, 0..20] {
        let limits = Limits { held_bytes_max: held + 2 * held / 20 };
        let mut merge = MergeSelect::new(bound("SELECT DISTINCT a FROM c"), 2, limits);
        for (partition, ids) in [10..30, ids].into_iter().enumerate() {
            for part in part(ids) {
                merge.push(partition, part).expect("no more than twenty rows are held");
            }
        }
        while merge.work(100).expect("room") {}
        assert_eq!(merge.take_rows(usize::MAX, Fuel::MAX).len(), 20);
    }
}

#[test]
fn a_partition_with_enough_rows_is_full() {
    let mut select =
        PartitionSelect::new(bound("SELECT * FROM c LIMIT 1 OFFSET 1"), Limits::default());
    assert!(!select.is_full());
    for document in rows(&CARS) {
        select.push(&document).expect("within limits");
    }
    assert!(select.is_full());
    select.finish();
    let part = select.take_output().expect("the last part");
    assert_eq!((part.rows.len(), part.last), (2, true));
    assert!(select.take_output().is_none());
}

#[test]
fn choosing_documents_gives_their_ids() {
    let choice = bound("DELETE FROM cars WHERE price < 25 ORDER BY price DESC LIMIT 2");
    assert!(choice.needs_choice());
    for partitions in 1..4 {
        let chosen = run(&choice, &rows(&CARS), partitions);
        assert_eq!(chosen, [(String::new(), "\"b\"".into()), (String::new(), "\"a\"".into())]);
    }
    assert!(!bound("DELETE FROM cars WHERE price < 25").needs_choice());
}

#[test]
fn a_condition_on_the_id_names_the_documents() {
    let count = |tail: &str| match bound(&format!("SELECT * FROM c {tail}")).access() {
        Access::Ids(ids) => Some(ids.len()),
        Access::Scan => None,
    };
    assert_eq!(count(""), None);
    assert_eq!(count("WHERE _id = 'a'"), Some(1));
    assert_eq!(count("WHERE 'a' = c._id AND b = 1"), Some(1));
    assert_eq!(count("WHERE _id IN ('a', 'b', 'a', null, 1.5)"), Some(2));
    assert_eq!(count("WHERE _id IN ['a', 'b'] AND _id = 'b'"), Some(1));
    assert_eq!(count("WHERE _id = 'a' OR (_id = 'b' AND x)"), Some(2));
    assert_eq!(count("WHERE _id = 'a' OR x"), None);
    assert_eq!(count("WHERE _id = x"), None);
    assert_eq!(count("WHERE _id = null"), Some(0));
    assert_eq!(count("WHERE NOT _id = 'a'"), None);
    assert_eq!(count("WHERE _id.x = 'a'"), None);
    assert_eq!(count("USE IDS 'a', 2, null"), Some(2));
    assert_eq!(count("USE IDS LIST ['a', 2] WHERE _id = 2.0"), Some(1));
    assert_eq!(count("USE IDS ['a', 2]"), Some(1));
    assert_eq!(ids("USE IDS 'c', 'a', 'zz' WHERE price < 20"), "a");
    let composite = [r#"{"_id":{"a":1,"b":2},"x":1}"#];
    assert_eq!(query("SELECT x FROM c WHERE _id = {'b': 2.0, 'a': 1}", &composite), [r#"{"x":1}"#]);
}

fn field() -> impl Strategy<Value = &'static str> {
    prop::sample::select(
        &[
            "1", "1.0", "2", "0.1", "-3.7", "1e300", "-1e300", "null", "true", "false", "\"a\"",
            "[1]", "[1.0]",
        ][..],
    )
}

proptest! {
    #[test]
    fn the_number_of_partitions_never_changes_a_result(
        fields in prop::collection::vec((field(), field()), 0..24),
    ) {
        let texts: Vec<_> = fields
            .iter()
            .enumerate()
            .map(|(id, (a, b))| format!(r#"{{"_id":{id},"a":{a},"b":{b}}}"#))
            .collect();
        let texts: Vec<_> = texts.iter().map(String::as_str).collect();
        for statement in [
            "SELECT * FROM c",
            "SELECT a FROM c ORDER BY b DESC, a LIMIT 5 OFFSET 2",
            "SELECT DISTINCT a FROM c ORDER BY a DESC",
            "SELECT SUM(a) AS s, AVG(b) AS v, MIN(a) AS l, MAX(b) AS h, COUNT(DISTINCT a) AS n FROM c",
            "SELECT a, SUM(b) AS s, SUM(DISTINCT b) AS t FROM c GROUP BY a ORDER BY t",
        ] {
            query(statement, &texts);
        }
    }
}
