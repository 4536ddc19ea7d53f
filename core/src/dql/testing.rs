//! What the tests of this module share: documents from JSON, and a query over any number of partitions.

use std::sync::Arc;

use super::{
    Access, Bound, DqlError, Fuel, Limits, MergeSelect, ObjectRow, PartitionSelect, Statement,
};
use crate::value::{Object, Value, canonical, json};

pub(super) fn value(text: &str) -> Value {
    json::parse(text.as_bytes(), json::Limits::default()).expect(text)
}

pub(super) fn object(text: &str) -> Object {
    value(text).as_object().expect("the text is of an object").clone()
}

pub(super) fn text(value: &Value) -> String {
    let mut text = Vec::new();
    json::write(value, &mut text);
    String::from_utf8(text).expect("JSON is UTF-8")
}

/// A document; its `_id` is among its fields.
pub(super) fn row(text: &str) -> ObjectRow {
    let mut fields = object(text);
    let id = fields.remove("_id").expect("the document has an id");
    ObjectRow { id: canonical::encode_id(&id).expect("the value is an id"), fields }
}

pub(super) fn rows(texts: &[&str]) -> Vec<ObjectRow> {
    texts.iter().map(|text| row(text)).collect()
}

pub(super) fn bind(statement: &str, arguments: &str) -> Result<Bound, DqlError> {
    Bound::new(Arc::new(Statement::parse(statement)?), &object(arguments))
}

pub(super) fn bound(statement: &str) -> Bound {
    bind(statement, "{}").expect(statement)
}

pub(super) fn error(statement: &str) -> DqlError {
    Statement::parse(statement).expect_err(statement)
}

/// The rows of a result, and the ids of the documents they were made of. Documents are dealt out to the
/// partitions in turn; the last partition answers first.
pub(super) fn run(bound: &Bound, rows: &[ObjectRow], partitions: usize) -> Vec<(String, String)> {
    run_within(bound, rows, partitions, Fuel::MAX)
}

/// As [`run`], pausing whenever so much work is done.
pub(super) fn run_within(
    bound: &Bound,
    rows: &[ObjectRow],
    partitions: usize,
    fuel: Fuel,
) -> Vec<(String, String)> {
    let mut merge = MergeSelect::new(bound.clone(), partitions, Limits::default());
    let access = bound.access();
    let mut results = Vec::new();
    for partition in (0..partitions).rev() {
        let mut select = PartitionSelect::new(bound.clone(), Limits::default());
        let mut own: Vec<_> = rows.iter().skip(partition).step_by(partitions).collect();
        own.sort_by(|a, b| a.id.cmp(&b.id));
        if let Access::Ids(ids) = access {
            own.retain(|row| ids.contains(&row.id));
        }
        for row in own {
            while !select.push_within(row, fuel).expect("within limits") {}
        }
        select.finish();
        while let Some(part) = select.take_output() {
            merge.push(partition, part).expect("within limits");
        }
        while merge.work(100).expect("within limits") {}
        results.append(&mut merge.take_rows(usize::MAX, Fuel::MAX));
    }
    assert!(merge.is_done());
    let printed = |row: super::OutRow| {
        (String::from_utf8(row.json).expect("JSON is UTF-8"), text(&row.id.to_value()))
    };
    // A group of no documents has no id to print.
    results.retain(|row| !row.id.as_bytes().is_empty() || !row.json.is_empty());
    results
        .into_iter()
        .map(|mut row| {
            if row.id.as_bytes().is_empty() {
                row.id = canonical::encode_text_id("").expect("short");
            }
            printed(row)
        })
        .collect()
}

pub(super) fn query_with(statement: &str, arguments: &str, texts: &[&str]) -> Vec<String> {
    let bound = bind(statement, arguments).expect(statement);
    let rows = rows(texts);
    let whole = run(&bound, &rows, 1);
    for (partitions, fuel) in [(2, 1), (3, 100)] {
        let parted = run_within(&bound, &rows, partitions, fuel);
        assert_eq!(parted, whole, "{statement} over {partitions}, paused every {fuel}");
    }
    whole.into_iter().map(|(json, _)| json).collect()
}

pub(super) fn query(statement: &str, texts: &[&str]) -> Vec<String> {
    query_with(statement, "{}", texts)
}

/// The ids, as JSON, of the documents that a condition accepts.
pub(super) fn matching(condition: &str, texts: &[&str]) -> Vec<String> {
    let bound = bound(&format!("SELECT * FROM c WHERE {condition}"));
    let found = run(&bound, &rows(texts), 1);
    assert_eq!(run_within(&bound, &rows(texts), 1, 1), found, "{condition}, paused at each node");
    found.into_iter().map(|(_, id)| id).collect()
}

/// The value of an expression, as JSON, seen from one document; `None` is MISSING.
pub(super) fn computed_from(expr: &str, document: &str) -> Option<String> {
    let rows = query(&format!("SELECT {expr} AS x FROM c"), &[document]);
    object(&rows[0]).get("x").map(text)
}

pub(super) fn computed(expr: &str) -> Option<String> {
    computed_from(expr, r#"{"_id":"d"}"#)
}
