//! Bases of deltas that are named by their digest: what they cost, and what happens when one is not recalled.

use super::judge::{EVERYTHING, NOTHING, doc_id, pair_with};
use super::sync::Pair;
use super::*;
use crate::document::{Document, Edit, Path, Vector};
use crate::ident::{Actor, Dot};
use crate::time::Hlc;

const ALL_CARS: &str = "SELECT * FROM cars";

/// A document of two fields that so many actors have written, one after the other.
fn crowded(actors: u64) -> Document {
    let mut document = Document::new();
    for n in 0..actors {
        let mut actor = [0xEE; 16];
        actor[8..].copy_from_slice(&n.to_be_bytes());
        let mut edit = Edit::new(&document, Dot { hlc: Hlc(100 + n), actor: Actor(actor) });
        edit.insert();
        let field = if n % 2 == 0 { "d" } else { "s" };
        let path = Path::from_steps([field]).expect("a short path");
        edit.set_register(&path, Value::from(10_000)).expect("a field");
        let delta = edit.finish().expect("it writes");
        document.apply(&delta).expect("the base is met");
    }
    document
}

/// A document that a hundred actors have written, and then others, more often than a store remembers.
fn crowded_by_others() -> Document {
    let mut document = crowded(100);
    for n in 0..20_u64 {
        let dot = Dot { hlc: Hlc(50_000 + n), actor: Actor([0x60 + n as u8; 16]) };
        let mut edit = Edit::new(&document, dot);
        edit.set_register(&Path::from_steps(["y"]).expect("a short path"), Value::from(n))
            .expect("a field");
        let delta = edit.finish().expect("it writes");
        document.apply(&delta).expect("the base is met");
    }
    document
}

/// A server and a device, in sync about a document that so many actors have written.
fn crowded_pair(actors: u64) -> Pair {
    let mut pair = Pair::with_server(&Options { partitions: 1, ..Options::default() });
    let delta = Arc::new(crowded(actors).diff(&Vector::new()));
    let op = Op::Merge { collection: "cars".into(), id: doc_id("a"), delta };
    pair.server.log_ops(vec![op]);
    pair.connect(&[ALL_CARS]);
    pair.probe();
    pair
}

/// The bytes of what was logged since the given number of records, if it changes a document.
fn merged_bytes(process: &Process, after: usize) -> usize {
    let records = process.appended[after..].iter();
    let merges = records.filter(|record| {
        let transaction = Transaction::decode(record).expect("it is ours");
        transaction.ops.iter().any(|op| matches!(op, Op::Merge { .. }))
    });
    merges.map(Bytes::len).sum()
}

/// The costs of an edit of one field: chunks and their bytes on the wire, bytes in the log of the server, of the device.
fn cost(pair: &mut Pair, is_by_device: bool, n: u64) -> [usize; 4] {
    let before = [pair.server.appended.len(), pair.device.appended.len()];
    pair.chunks = [(0, 0); 2];
    if is_by_device {
        pair.device.local_rows(&format!("UPDATE cars SET d = {n}"));
    } else {
        pair.server.rows(&format!("UPDATE cars SET s = {n}"));
    }
    pair.exchange();
    pair.probe();
    let [down, up] = pair.chunks;
    let logged = [merged_bytes(&pair.server, before[0]), merged_bytes(&pair.device, before[1])];
    [down.0 + up.0, down.1 + up.1, logged[0], logged[1]]
}

#[test]
fn an_edit_of_one_field_costs_the_same_however_many_have_written_the_document() {
    let costs_of = |actors: u64| {
        let mut pair = crowded_pair(actors);
        let edits = [true, true, false, false, true, false];
        let costs = edits.iter().zip(20_000..).map(|(by, n)| cost(&mut pair, *by, n));
        costs.collect::<Vec<_>>()
    };
    let (few, many) = (costs_of(8), costs_of(1_000));
    eprintln!("chunks, bytes sent, logged by server, by device: {few:?} {many:?}");
    for (few, many) in few.iter().zip(&many) {
        assert_eq!((few[0], many[0]), (1, 1), "nobody has to ask for the base");
        for (few, many) in few.iter().zip(many) {
            // A table of actors names a few more of them, and its indices take two bytes.
            assert!(*many <= few + 64, "{few} bytes, and {many} with many actors");
        }
    }
}

#[test]
fn edits_on_both_sides_at_once_recall_the_base_below_their_own() {
    let mut pair = crowded_pair(100);
    // Until the next record, a server's cursor is behind what it has taken last: see `sync_applied`.
    for by in [true, true, false] {
        cost(&mut pair, by, 1);
    }
    pair.disconnect();
    for n in 0..12 {
        pair.device.local_rows(&format!("UPDATE cars SET d = {n}"));
        pair.server.rows(&format!("UPDATE cars SET s = {n}"));
    }
    pair.chunks = [(0, 0); 2];
    pair.connect(&[ALL_CARS]);
    pair.probe();
    let rows = r#"[{"_id":"a","d":11,"s":11}]"#;
    assert_eq!(pair.server.rows("SELECT * FROM cars"), rows);
    assert_eq!(pair.device.local_rows("SELECT * FROM cars"), rows);
    let [down, up] = pair.chunks;
    // Each side tells of its own edits, and of what they led to at the other.
    assert!(down.0.max(up.0) <= 2, "{:?}", pair.chunks);
    assert!(down.1.max(up.1) < 400, "{:?}: the vector has 2,400 bytes", pair.chunks);
}

#[test]
fn what_is_written_together_is_seen_together_where_a_base_is_not_recalled() {
    let mut pair = crowded_pair(100);
    pair.server.rows("INSERT INTO cars DOCUMENTS ({'_id': 'b', 's': 10000})");
    pair.probe();
    // On the device others have written one of the two.
    let delta = Arc::new(crowded_by_others().diff(crowded(100).vector()));
    pair.disconnect();
    pair.device.log_ops(vec![Op::Merge { collection: "cars".into(), id: doc_id("a"), delta }]);
    pair.server.rows("UPDATE cars SET s = 1");
    pair.chunks = [(0, 0); 2];
    pair.open("dev", &[ALL_CARS]);
    let mut seen = Vec::new();
    loop {
        pair.server.settle();
        pair.device.settle();
        seen.push(pair.device.local_rows("SELECT s FROM cars"));
        if !pair.step() {
            break;
        }
    }
    seen.dedup();
    assert_eq!(seen, [r#"[{"s":10000},{"s":10000}]"#, r#"[{"s":1},{"s":1}]"#]);
    assert!(pair.chunks[0].0 >= 2, "it came twice");
    pair.probe();
    assert_eq!(pair.server.rows("SELECT y FROM cars WHERE _id = 'a'"), r#"[{"y":19}]"#);
}

#[test]
fn what_comes_again_goes_over_the_base_that_the_device_has_named() {
    // The server never hears of what others have written on the device: its key may not write there.
    let mut pair = pair_with(EVERYTHING, NOTHING, &Options { partitions: 1, ..Options::default() });
    let merge = |document: Document, base: &Vector| {
        let delta = Arc::new(document.diff(base));
        Op::Merge { collection: "cars".into(), id: doc_id("a"), delta }
    };
    pair.server.log_ops(vec![merge(crowded(100), &Vector::new())]);
    pair.connect_with("secret", &[ALL_CARS]);
    pair.probe();
    pair.disconnect();
    pair.device.log_ops(vec![merge(crowded_by_others(), crowded(100).vector())]);
    pair.server.rows("UPDATE cars SET s = 1");
    pair.chunks = [(0, 0); 2];
    pair.connect_with("secret", &[ALL_CARS]);
    assert_eq!(pair.device.local_rows("SELECT s, y FROM cars"), r#"[{"s":1,"y":19}]"#);
    assert_eq!(pair.chunks[0].0, 2, "once over the base that it was thought to have");
}

#[test]
fn a_base_that_is_not_recalled_is_asked_for_and_listed() {
    let mut pair = crowded_pair(100);
    // Others have written here what the server knows nothing of.
    let stranger = Dot { hlc: Hlc(50_000), actor: Actor([0x77; 16]) };
    for (process, field) in [(&mut pair.server, "x"), (&mut pair.device, "y")] {
        let mut document = crowded(100);
        for n in 0..20_u64 {
            let hlc = Hlc(stranger.hlc.0 + 2 * n);
            let actor = Actor([if field == "x" { 0x77 } else { 0x66 }; 16]);
            let mut edit = Edit::new(&document, Dot { hlc, actor });
            let path = Path::from_steps([field]).expect("a short path");
            edit.set_register(&path, Value::from(7)).expect("a field");
            let delta = edit.finish().expect("it writes");
            document.apply(&delta).expect("the base is met");
        }
        let delta = Arc::new(document.diff(crowded(100).vector()));
        process.log_ops(vec![Op::Merge { collection: "cars".into(), id: doc_id("a"), delta }]);
    }
    pair.exchange();
    pair.probe();
    let all = pair.server.rows("SELECT * FROM cars");
    assert_eq!(all, r#"[{"_id":"a","d":10000,"s":10000,"x":7,"y":7}]"#);
    assert_eq!(pair.device.local_rows("SELECT * FROM cars"), all);
}
