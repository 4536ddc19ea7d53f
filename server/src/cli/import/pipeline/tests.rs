use std::cell::RefCell;
use std::collections::BTreeSet;

use super::*;
use crate::cli::http::Request;
use crate::cli::import::batch::{Batcher, Prepared};
use crate::cli::testing::Scripted;

/// A document whose text is its number.
fn document(number: i64, id: i64) -> Prepared {
    let id = bigpeer_core::value::canonical::encode_id(&id.into()).unwrap();
    Prepared { line: number.unsigned_abs(), id, json: number.to_string().into_bytes() }
}

/// The numbers of the documents in a request.
fn numbers(request: &Request) -> Vec<i64> {
    let body = str::from_utf8(&request.body).unwrap();
    let (_, list) = body.split_once("\"docs\":[").unwrap();
    list.trim_end_matches("]}}").split(',').map(|number| number.parse().unwrap()).collect()
}

fn done(count: usize) -> (u16, String) {
    let ids = vec!["1"; count].join(",");
    (200, format!(r#"{{"queryType":"insert","items":[],"mutatedDocumentIds":[{ids}]}}"#))
}

/// Sends documents in batches of `size` and returns the totals and the bad lines.
fn run(
    transport: Scripted,
    documents: impl Iterator<Item = Prepared>,
    size: usize,
) -> (Result<(), CliError>, Totals, Vec<u64>) {
    let api = Api::new(transport, "/t".into(), "k".into());
    let mut pipeline = Pipeline::new(api, "INSERT".into());
    pipeline.back_off = Duration::ZERO;
    let mut batcher = Batcher::new(size, 1000);
    let bad = RefCell::new(Vec::new());
    let on_bad = |record: &Bad| bad.borrow_mut().push(record.line);
    let mut result = Ok(());
    for document in documents {
        if let Some(batch) = batcher.push(document) {
            result = result.and_then(|()| pipeline.submit(batch, &on_bad));
        }
    }
    if let Some(batch) = batcher.take() {
        result = result.and_then(|()| pipeline.submit(batch, &on_bad));
    }
    result = result.and_then(|()| pipeline.drain(&on_bad));
    let mut lines = bad.take();
    lines.sort_unstable();
    (result, pipeline.totals(), lines)
}

#[test]
fn four_requests_are_under_way_at_once() {
    let (transport, sent) = Scripted::by(|request| done(numbers(request).len()));
    let in_flight_max = transport.in_flight_max();
    let (result, totals, bad) = run(transport, (0..95).map(|n| document(n, n)), 10);
    result.unwrap();
    assert_eq!(totals, Totals { accepted: 95, changed: 95, refused: 0 });
    assert_eq!((sent.borrow().len(), *in_flight_max.borrow(), bad.len()), (10, 4, 0));
}

#[test]
fn of_a_refused_batch_only_the_documents_at_fault_are_bad() {
    let faulty = BTreeSet::from([3, 30, 31, 77]);
    let expected: Vec<u64> = faulty.iter().map(|&n: &i64| n.unsigned_abs()).collect();
    let (transport, sent) = Scripted::by(move |request| {
        match numbers(request).iter().any(|number| faulty.contains(number)) {
            true => (400, r#"{"error":{"description":"no"}}"#.to_owned()),
            false => done(numbers(request).len()),
        }
    });
    let (result, totals, bad) = run(transport, (0..100).map(|n| document(n, n)), 20);
    result.unwrap();
    assert_eq!(bad, expected);
    assert_eq!(totals, Totals { accepted: 96, changed: 96, refused: 4 });
    assert!(sent.borrow().len() < 60, "faults are found by halving, not one by one");
}

#[test]
fn of_two_records_with_one_id_the_later_one_is_sent_later_and_alone() {
    // Every tenth record has id 0. The first batch is refused, so that its documents are under way for long.
    let (transport, sent) = Scripted::by(|request| match numbers(request).contains(&1) {
        true => (400, String::new()),
        false => done(numbers(request).len()),
    });
    let documents = (0..40).map(|n| document(n, if n % 10 == 0 { 0 } else { n }));
    let (result, totals, bad) = run(transport, documents, 4);
    result.unwrap();
    assert_eq!((totals.accepted, bad), (39, vec![1]));
    let order: Vec<i64> = sent.borrow().iter().flat_map(numbers).collect();
    let last = |number| order.iter().rposition(|&sent| sent == number).unwrap();
    assert!(last(0) < last(10) && last(10) < last(20) && last(20) < last(30), "{order:?}");
}

#[test]
fn a_busy_server_is_asked_again_and_at_last_given_up() {
    let mut calls = 0;
    let (transport, _) = Scripted::by(move |request| {
        calls += 1;
        if calls % 2 == 1 { (503, String::new()) } else { done(numbers(request).len()) }
    });
    let (result, totals, _) = run(transport, (0..20).map(|n| document(n, n)), 5);
    result.unwrap();
    assert_eq!(totals.accepted, 20);

    let (transport, sent) = Scripted::by(|_| (503, String::new()));
    let (result, _, bad) = run(transport, (0..3).map(|n| document(n, n)), 5);
    assert!(matches!(result, Err(CliError::Failed(_))), "{result:?}");
    assert_eq!((sent.borrow().len(), bad.len()), (6, 0));
}

#[test]
fn what_no_document_can_help_ends_the_import() {
    let (transport, sent) = Scripted::by(|_| (401, r#"{"message":"no such key"}"#.to_owned()));
    let (result, _, bad) = run(transport, (0..50).map(|n| document(n, n)), 5);
    assert!(matches!(result, Err(CliError::Refused(_))), "{result:?}");
    assert!(bad.is_empty() && sent.borrow().len() <= 4);

    let (transport, _) = Scripted::by(|_| (403, r#"{"message":"no rule"}"#.to_owned()));
    let (result, totals, _) = run(transport, (0..5000).map(|n| document(n, n)), 50);
    assert!(matches!(result, Err(CliError::Refused(_))), "{result:?}");
    assert_eq!(totals, Totals { accepted: 0, changed: 0, refused: 100 });
}
