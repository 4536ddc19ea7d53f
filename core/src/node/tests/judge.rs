//! Everything that a peer sends, and what is in the log because somebody once took it, is judged or borne.

use super::*;
use crate::document::Delta;
use crate::document::{Document, Edit};
use crate::ident::{Actor, Dot};
use crate::log::transaction::Origin;
use crate::time::Hlc;
use crate::value::canonical::encode_id;

pub(super) fn doc_id(id: &str) -> DocId {
    encode_id(&Value::from(id)).expect("a short text is an id")
}

/// The deletion of a document that nobody has seen, at this clock value.
pub(super) fn deletion(hlc: u64) -> Delta {
    let actor = Actor([0xEE; 16]);
    let mut edit = Edit::new(&Document::new(), Dot { hlc: Hlc(hlc), actor });
    edit.delete(false);
    let (_, document) = edit.finish_with_document().expect("it leaves a mark");
    document.diff(&crate::document::Vector::new())
}

/// Puts a merge into the log of a process, past every judge.
fn log_merge(process: &mut Process, id: &str, delta: Delta) {
    let op = Op::Merge { collection: "cars".into(), id: doc_id(id), delta: Arc::new(delta) };
    let transaction = Transaction {
        id: TxnId(Uuid([9; 16])),
        app: APP,
        origin: Origin::Peer { key: PeerKey([9; 32]), home: PartitionId(0) },
        wall: process.now.wall,
        ops: vec![op],
    };
    let append = Append {
        from: PartitionId(0),
        ticket: Ticket(u64::MAX),
        epoch: 0,
        record: transaction.encode(),
    };
    process.journal.append(append, process.now);
    process.settle();
}

#[test]
fn the_last_clock_value_in_the_log_refuses_writes_and_stops_nothing() {
    let options = Options { partitions: 1, ..Options::default() };
    let mut process = Process::server(&options);
    process.rows("INSERT INTO cars DOCUMENTS ({'_id': 'a', 'n': 1})");
    log_merge(&mut process, "a", deletion(u64::MAX));
    for boot in 2..4 {
        for text in [
            "INSERT INTO cars DOCUMENTS ({'_id': 'b'})",
            "INSERT INTO cars DOCUMENTS ({'_id': 'a'})",
            "UPDATE cars SET n = 2 WHERE _id = 'a'",
        ] {
            let (_, outcome) = process.execute(text, "{}");
            if let Some(error) = outcome.error {
                assert_eq!(error.kind, ErrorKind::Unavailable, "{text}: {}", error.message);
            }
        }
        assert_eq!(process.rows("SELECT * FROM cars"), "[]");
        process.check();
        process.disk.kill();
        process = Process::on_disk(&Options { boot, ..options }, process.disk);
        process.settle();
    }
    let (_, outcome) = process.execute("INSERT INTO cars DOCUMENTS ({'_id': 'b'})", "{}");
    let error = outcome.error.expect("no clock value is left");
    assert!(error.message.contains("nothing was written"), "{}", error.message);
}
