//! Whole imports into a server that is a map.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use bigpeer_core::value::{Object, Value};

use super::*;
use crate::cli::api::Api;
use crate::cli::http::Request;
use crate::cli::testing::Scripted;
use crate::cli::text::compact;

/// Documents by the text of their id.
type Store = Rc<RefCell<BTreeMap<String, Object>>>;

/// Inserts with `ON ID CONFLICT DO UPDATE_LOCAL_DIFF` into a store.
fn server(store: &Store) -> Scripted {
    let store = Rc::clone(store);
    let (scripted, _) = Scripted::by(move |request: &Request| {
        let body = json::parse(&request.body, json::Limits::default()).unwrap();
        let args = body.as_object().unwrap().get("args").unwrap().as_object().unwrap();
        let mut written = Vec::new();
        for document in args.get("docs").unwrap().as_array().unwrap() {
            let fields = document.as_object().unwrap().clone();
            let id = compact(fields.get("_id").unwrap());
            if store.borrow_mut().insert(id.clone(), fields.clone()) != Some(fields) {
                written.push(id);
            }
        }
        let ids = written.join(",");
        (200, format!(r#"{{"queryType":"insert","items":[],"mutatedDocumentIds":[{ids}]}}"#))
    });
    scripted
}

fn import(content: &str, store: &Store, id: Option<&str>, batch: usize) -> (Summary, Vec<String>) {
    let source = Source::stream(std::io::Cursor::new(content.to_owned()));
    let import = Import {
        records: Records::new(source, None, "-".as_ref(), false).unwrap(),
        id: IdRule::new(id),
        batcher: Batcher::new(batch, BATCH_BYTES_MAX),
        pipeline: Pipeline::new(Api::new(server(store), "/".into(), "k".into()), "INSERT".into()),
        local_bad: 0,
        bar: ProgressBar::hidden(),
    };
    let bad = RefCell::new(Vec::new());
    let summary = import.run(&|record| bad.borrow_mut().push(record.to_string())).unwrap();
    (summary, bad.into_inner())
}

#[test]
fn a_second_run_changes_nothing_also_without_ids() {
    let content: String = (0..1000).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    let store = Store::default();
    let (first, _) = import(&content, &store, None, 100);
    assert_eq!(first, Summary { imported: 1000, bad: 0, unchanged: 0 });
    let before = store.borrow().clone();
    assert_eq!(before.len(), 1000);
    let (second, _) = import(&content, &store, None, 7);
    assert_eq!(second, Summary { imported: 1000, bad: 0, unchanged: 1000 });
    assert_eq!(*store.borrow(), before);
}

#[test]
fn bad_records_are_listed_by_line_and_the_rest_is_imported() {
    let content = "{\"k\":1}\nnonsense\n{\"a\":1}\n{\"k\":1.5}\n{\"k\":2}\n";
    let store = Store::default();
    let (summary, bad) = import(content, &store, Some("k"), 100);
    assert_eq!(summary, Summary { imported: 2, bad: 3, unchanged: 0 });
    let lines: Vec<&str> = bad.iter().map(|line| line.split(':').next().unwrap()).collect();
    assert_eq!(lines, ["line 2", "line 3", "line 4"]);
    assert!(summary.verdict().is_err());
}

#[test]
fn what_was_exported_is_imported_just_as_it_was() {
    let text = r#"[{"_id":{"no":1,"site":"S1"},"f":6.0,"n":18446744073709551615,"z":-0.0},{"_id":7,"m":{"a":[1,null,"é"]}}]"#;
    let store = Store::default();
    let (summary, _) = import(text, &store, None, 100);
    assert_eq!(summary, Summary { imported: 2, bad: 0, unchanged: 0 });
    let documents: Vec<Value> = store.borrow().values().cloned().rev().map(Value::Object).collect();
    assert_eq!(compact(&Value::Array(documents)), text);
}

#[test]
fn of_two_records_with_one_id_the_later_one_stays() {
    let content: String = (0..50).map(|n| format!("{{\"_id\":{},\"n\":{n}}}\n", n % 3)).collect();
    let store = Store::default();
    import(&content, &store, None, 10);
    let last: Vec<Option<i64>> =
        store.borrow().values().map(|fields| fields.get("n").and_then(Value::as_i64)).collect();
    assert_eq!(last, [Some(48), Some(49), Some(47)]);
}

#[test]
fn the_summary_is_one_line() {
    let summary = Summary { imported: 406, bad: 0, unchanged: 0 };
    let elapsed = Duration::from_millis(230);
    assert_eq!(summary.line(elapsed), "406 documents imported, 0 bad, 0.2 s\n");
    let again = Summary { unchanged: 406, ..summary };
    assert_eq!(again.line(elapsed), "406 documents imported, 0 bad, 0.2 s (406 unchanged)\n");
    assert_eq!(
        summary.json(elapsed),
        "{\"imported\":406,\"bad\":0,\"unchanged\":0,\"seconds\":0.230}\n"
    );
}
