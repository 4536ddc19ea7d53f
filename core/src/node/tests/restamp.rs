//! A device whose clock was ahead, once it is right again.

use super::identity::device;
use super::judge::pass_seconds;
use super::sync::Pair;
use super::*;
use crate::node::sync_wire::{RecordChange, encode_changes};
use crate::sync::Nonce;
use crate::time::is_far_ahead;

const ALL_CARS: &str = "SELECT * FROM cars";
const BY_ID: &str = "SELECT * FROM cars ORDER BY _id";
const DAY_MS: u64 = 24 * 3_600_000;

/// A server and a device that have met, and the device's clock is days ahead then.
fn pair_ahead() -> Pair {
    let mut pair = Pair::of(&Options { partitions: 2, ..Options::default() }, device());
    pair.server.rows(
        "INSERT INTO cars DOCUMENTS ({'_id': 'changed', 'n': 1, 's': 1}), ({'_id': 'deleted', 'n': 1})",
    );
    pair.connect(&[ALL_CARS]);
    pair.probe();
    pair.device.local_rows("INSERT INTO cars DOCUMENTS ({'_id': 'own', 'n': 1})");
    pair.probe();
    pair.device.now.wall.0 += 3 * DAY_MS;
    pair
}

fn parked(process: &Process) -> usize {
    process.racks.iter().flat_map(Rack::nodes).map(Node::parked_count).sum()
}

fn write_ahead(pair: &mut Pair) {
    for text in [
        "INSERT INTO cars DOCUMENTS ({'_id': 'new', 'n': 0})",
        "UPDATE cars SET n = 2 WHERE _id = 'new'",
        "UPDATE cars APPLY km INCREMENT BY 4 WHERE _id = 'new'",
        "UPDATE cars SET n = 2 WHERE _id = 'changed'",
        "UPDATE cars SET n = 2 WHERE _id = 'own'",
        "DELETE FROM cars WHERE _id = 'deleted'",
    ] {
        pair.device.local_rows(text);
    }
    pair.exchange();
    assert_eq!(parked(&pair.device), 4, "all of it is refused");
}

#[test]
fn what_was_written_ahead_is_written_anew_once_the_clock_is_right() {
    for is_restarted in [false, true] {
        let mut pair = pair_ahead();
        write_ahead(&mut pair);
        pair.server.rows("UPDATE cars SET s = 2 WHERE _id = 'changed'");
        pair.device.now.wall.0 -= 3 * DAY_MS;
        if is_restarted {
            pair.disconnect();
            pair.device = pair.device.started_again(&device(), 2);
            pair.device.settle();
            pair.connect(&[ALL_CARS]);
        }
        pair.device.local_rows("UPDATE cars SET later = 1 WHERE _id = 'new'");
        pass_seconds(&mut pair, 60);
        pair.probe();
        let rows = r#"[{"_id":"changed","n":2,"s":2},{"_id":"new","km":4,"later":1,"n":2},{"_id":"own","n":2}]"#;
        assert_eq!(pair.server.rows(BY_ID), rows, "{:?}", pair.device.closed);
        assert_eq!(pair.device.local_rows(BY_ID), rows);
        assert_eq!(parked(&pair.device), 0);
        // And nothing is ahead any more: the next edit of either side wins.
        pair.server.rows("UPDATE cars SET n = 7");
        pair.probe();
        pair.device.local_rows("UPDATE cars SET n = 8 WHERE _id = 'new'");
        pair.probe();
        assert_eq!(
            pair.server.rows("SELECT n FROM cars ORDER BY _id"),
            r#"[{"n":7},{"n":8},{"n":7}]"#
        );
        let newest = pair.server.racks.iter().map(Rack::newest_clock).max().expect("racks");
        assert!(!is_far_ahead(newest, pair.server.now.wall));
        pair.disconnect();
        pair.connect(&["SELECT * FROM cars WHERE n > 0"]);
        pair.probe();
    }
}

/// Lets so many days go by at once, on both sides.
fn pass_days(pair: &mut Pair, days: u64) {
    for process in [&mut pair.server, &mut pair.device] {
        process.now.wall.0 += days * DAY_MS;
    }
    pass_seconds(pair, 300);
    pair.probe();
}

/// The device's clock is right again; what is still parked after a while.
fn parked_after_correction(pair: &mut Pair, days: u64) -> usize {
    pair.device.now.wall.0 -= days * DAY_MS;
    pass_seconds(pair, 60);
    parked(&pair.device)
}

#[test]
fn an_edit_over_one_that_the_server_took_ahead_of_its_time_waits_for_its_own() {
    let mut pair = pair_ahead();
    pair.server.now.wall.0 += 3 * DAY_MS;
    pair.device.local_rows("INSERT INTO cars DOCUMENTS ({'_id': 'new', 'n': 1})");
    pair.probe();
    pair.server.now.wall.0 -= 3 * DAY_MS;
    pair.device.now.wall.0 += 5 * DAY_MS;
    pair.device.local_rows("DELETE FROM cars WHERE _id = 'new'");
    pair.exchange();
    assert_eq!(parked(&pair.device), 1);
    assert_eq!(
        parked_after_correction(&mut pair, 8),
        1,
        "the deletion has no other dot than its own"
    );
    assert_eq!(pair.server.rows("SELECT n FROM cars WHERE _id = 'new'"), r#"[{"n":1}]"#);
    pass_days(&mut pair, 8);
    assert_eq!(parked(&pair.device), 0);
    let of_new = "SELECT n FROM cars WHERE _id = 'new'";
    assert_eq!(pair.server.rows(of_new), "[]");
    assert_eq!(pair.device.local_rows(of_new), "[]", "deleted, and come back nowhere");
}

#[test]
fn who_has_met_another_remote_writes_nothing_anew() {
    let mut pair = pair_ahead();
    let state = encode_changes(&[RecordChange::Theirs(Nonce(7))]);
    pair.device.log_ops(vec![Op::Remote { peer: PeerKey([0x55; 32]), state }]);
    write_ahead(&mut pair);
    assert_eq!(parked_after_correction(&mut pair, 3), 4, "the other one may have it");
    pass_days(&mut pair, 3);
    assert_eq!(parked(&pair.device), 0);
    assert_eq!(pair.server.rows("SELECT n FROM cars ORDER BY _id"), r#"[{"n":2},{"n":2},{"n":2}]"#);
}

#[test]
fn a_sum_of_which_a_part_was_taken_waits_for_its_time() {
    let mut pair = pair_ahead();
    pair.device.now.wall.0 -= 3 * DAY_MS;
    pair.device.local_rows("UPDATE cars APPLY km INCREMENT BY 1 WHERE _id = 'own'");
    pair.probe();
    pair.device.now.wall.0 += 3 * DAY_MS;
    pair.device.local_rows("UPDATE cars APPLY km INCREMENT BY 2 WHERE _id = 'own'");
    pair.exchange();
    assert_eq!(parked_after_correction(&mut pair, 3), 1);
    pass_days(&mut pair, 3);
    assert_eq!(parked(&pair.device), 0);
    assert_eq!(pair.server.rows("SELECT km FROM cars WHERE _id = 'own'"), r#"[{"km":3}]"#);
}

#[test]
fn a_document_that_may_not_be_read_waits_for_its_time() {
    let mut pair = pair_ahead();
    let everything = r#"{"everything":true}"#;
    let key = judge::permissions(&format!(
        r#"{{"read":{{"queriesByCollection":{{"cars":["_id == 'own'"]}}}},"write":{everything}}}"#
    ));
    let key = ApiKey {
        name: "r".into(),
        description: None,
        prefix: key_prefix("secret").into(),
        hash: hash("secret"),
        expires: WallMs(u64::MAX),
        permissions: key,
    };
    let request = pair.server.submit(0, Request::Catalog(CatalogOp::PutKey { app: APP, key }));
    pair.server.settle();
    assert_eq!(pair.server.answer(request).1.error, None);
    pair.disconnect();
    pair.connect_with("secret", &[ALL_CARS]);
    write_ahead(&mut pair);
    assert_eq!(
        parked_after_correction(&mut pair, 3),
        3,
        "of one alone the server tells what it has"
    );
    pass_days(&mut pair, 3);
    assert_eq!(parked(&pair.device), 0);
}
