//! What a statement gives.

use bigpeer_core::ident::Txn;
use bigpeer_core::node::Outcome;
use bigpeer_core::value::{Value, json};
use bytes::Bytes;

use crate::error::PeerError;

/// The result of one statement.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QueryResult {
    /// The objects that were selected.
    pub items: Vec<Value>,
    /// The ids of the documents that were written.
    pub mutated_ids: Vec<Value>,
    /// The position in this peer's log that was written, or read at.
    pub commit_id: Option<Txn>,
    /// `select`, `insert`, `update`, `delete` or `evict`.
    pub query_type: &'static str,
    /// Warnings for people.
    pub warnings: Vec<Box<str>>,
}

impl QueryResult {
    /// The failure of a statement is an error.
    pub(crate) fn new(rows: &[Bytes], outcome: Outcome) -> Result<Self, PeerError> {
        if let Some(error) = outcome.error {
            return Err(PeerError::Statement(error));
        }
        Ok(Self {
            items: parse_rows(rows),
            mutated_ids: outcome.mutated,
            commit_id: outcome.txn,
            query_type: outcome.query_type,
            warnings: outcome.warnings,
        })
    }

    /// The result as one line of JSON in the shape of the HTTP API's answers.
    #[must_use]
    pub fn to_json(&self) -> String {
        envelope(self, None)
    }
}

/// The failure of a statement as one line of JSON in the shape of the HTTP API's answers.
#[must_use]
pub fn failure_json(error: &PeerError) -> String {
    let result = QueryResult { query_type: "unknown", ..QueryResult::default() };
    envelope(&result, Some(&error.to_string()))
}

/// Reads what the engine wrote.
pub(crate) fn parse_rows(rows: &[Bytes]) -> Vec<Value> {
    // The bound on values is for foreign text; these rows came from memory, and go back there.
    let limits = json::Limits { values_max: usize::MAX, ..json::Limits::default() };
    let mut items = Vec::new();
    for piece in rows {
        let text = [b"[".as_slice(), piece, b"]"].concat();
        match json::parse(&text, limits) {
            Ok(Value::Array(piece)) => items.extend(piece),
            _ => unreachable!("the engine writes rows as JSON objects joined by commas"),
        }
    }
    items
}

fn envelope(result: &QueryResult, error: Option<&str>) -> String {
    let mut out = vec![b'{'];
    if let Some(txn) = result.commit_id {
        out.extend_from_slice(format!("\"transactionId\":{txn},").as_bytes());
    }
    out.extend_from_slice(b"\"queryType\":");
    json::write_string(result.query_type, &mut out);
    out.extend_from_slice(b",\"items\":[");
    join(&result.items, &mut out, write_item);
    out.extend_from_slice(b"],\"mutatedDocumentIds\":[");
    join(&result.mutated_ids, &mut out, json::write);
    out.extend_from_slice(b"],\"error\":{");
    if let Some(error) = error {
        out.extend_from_slice(b"\"description\":");
        json::write_string(error, &mut out);
    }
    out.extend_from_slice(b"},\"warnings\":[");
    join(&result.warnings, &mut out, |warning, out| {
        out.extend_from_slice(b"{\"description\":");
        json::write_string(warning, out);
        out.push(b'}');
    });
    let count = result.warnings.len();
    out.extend_from_slice(format!("],\"totalWarningsCount\":{count}}}").as_bytes());
    String::from_utf8(out).expect("JSON is written as UTF-8")
}

/// `_id` stands first, as everywhere.
fn write_item(item: &Value, out: &mut Vec<u8>) {
    match item.as_object().and_then(|object| Some((object, object.get("_id")?))) {
        Some((object, id)) => json::write_document(id, object, out),
        None => json::write(item, out),
    }
}

fn join<T>(list: &[T], out: &mut Vec<u8>, write: impl Fn(&T, &mut Vec<u8>)) {
    for (index, element) in list.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(element, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_has_the_shape_of_the_http_api() {
        let rows = [Bytes::from_static(br#"{"_id":1,"B":2.0},{"_id":2}"#)];
        let outcome = Outcome {
            txn: Some(Txn(7)),
            query_type: "select",
            warnings: vec!["w\"".into()],
            ..Outcome::default()
        };
        let result = QueryResult::new(&rows, outcome).expect("no error");
        assert_eq!(
            result.to_json(),
            concat!(
                r#"{"transactionId":7,"queryType":"select","items":[{"_id":1,"B":2.0},{"_id":2}],"#,
                r#""mutatedDocumentIds":[],"error":{},"warnings":[{"description":"w\""}],"#,
                r#""totalWarningsCount":1}"#
            )
        );
        assert!(failure_json(&PeerError::Closed).contains(r#""error":{"description":"the peer"#));
    }
}
