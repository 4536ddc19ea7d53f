//! Documents that a server has refused: kept by their device whatever their number, and offered again.

use super::credentials::TOKEN;
use super::sync::Pair;
use super::*;

const CARS: &[&str] = &["SELECT * FROM cars"];
const EVERYTHING: &str = r#"{"everything":true}"#;
const NEVER: WallMs = WallMs(u64::MAX);

/// A device that names so many refused documents.
fn device_of(owed_max: usize, partitions: u16) -> Options {
    let limits = NodeLimits { owed_max, ..NodeLimits::default() };
    Options { limits, partitions, ..Options::default() }
}

/// A server whose key may read everything and write nothing, and a device.
fn pair_that_may_not_write(device: Options) -> Pair {
    let server = Options { threads: 2, partitions: 4, ..Options::default() };
    let mut pair = Pair::of(&server, device);
    pair.server.put_key("m", EVERYTHING, "{}", NEVER);
    pair
}

impl Pair {
    fn insert_on_device(&mut self, ids: std::ops::Range<u64>) {
        for id in ids {
            self.device.local_rows(&format!("INSERT INTO cars DOCUMENTS ({{'_id': {id}}})"));
        }
    }

    fn count_on_server(&mut self) -> String {
        self.server.rows("SELECT COUNT(*) AS n FROM cars")
    }

    fn meet(&mut self) {
        self.disconnect();
        self.connect_with(TOKEN, CARS);
        self.probe();
    }

    /// Refusal of an EVICT of one document on the device.
    fn evict_error(&mut self, id: u64) -> Option<RequestError> {
        self.device.local(&format!("EVICT FROM cars WHERE _id = {id}"), "{}").1.error
    }
}

#[test]
fn more_refused_documents_than_are_named_come_once_the_key_may_write_them() {
    for is_restarted in [false, true] {
        let mut pair = pair_that_may_not_write(device_of(3, 1));
        pair.insert_on_device(0..10);
        pair.meet();
        // Refused in a later session as well, when the list is full.
        pair.insert_on_device(10..12);
        pair.meet();
        assert_eq!(pair.count_on_server(), r#"[{"n":0}]"#);
        if is_restarted {
            pair.disconnect();
            pair.device.disk.kill();
            let options = Options { seed: 7, device: true, boot: 2, ..device_of(3, 1) };
            pair.device = Process::on_disk(&options, pair.device.disk.clone());
        }
        pair.server.put_key("a", EVERYTHING, EVERYTHING, NEVER);
        pair.meet();
        assert_eq!(pair.count_on_server(), r#"[{"n":12}]"#, "restarted: {is_restarted}");
        // Nothing is left to be offered again: neither is anything waited for.
        assert_eq!(pair.evict_error(11), None);
    }
}

#[test]
fn what_a_narrower_key_may_write_of_unnamed_documents_comes_and_the_rest_later() {
    let mut pair = pair_that_may_not_write(device_of(2, 1));
    pair.insert_on_device(0..8);
    pair.meet();
    let some = r#"{"queriesByCollection":{"cars":["_id < 4"]}}"#;
    pair.server.put_key("l", EVERYTHING, some, NEVER);
    pair.meet();
    assert_eq!(pair.server.rows("SELECT _id FROM cars WHERE _id >= 4"), "[]");
    assert_eq!(pair.count_on_server(), r#"[{"n":4}]"#);
    pair.server.put_key("a", EVERYTHING, EVERYTHING, NEVER);
    pair.meet();
    assert_eq!(pair.count_on_server(), r#"[{"n":8}]"#);
}

#[test]
fn more_parked_documents_than_are_named_come_when_their_time_has_come() {
    let mut pair = pair_that_may_not_write(device_of(3, 1));
    pair.server.put_key("a", EVERYTHING, EVERYTHING, NEVER);
    pair.device.now.wall.0 += 600_000;
    pair.insert_on_device(0..8);
    pair.meet();
    assert_eq!(pair.count_on_server(), r#"[{"n":0}]"#, "ten minutes ahead");
    pair.server.now.wall.0 += 700_000;
    pair.device.now.mono.ns += 16_000_000_000;
    pair.exchange();
    pair.probe();
    assert_eq!(pair.count_on_server(), r#"[{"n":8}]"#);
}

#[test]
fn a_device_does_not_evict_what_its_server_has_refused() {
    for partitions in [1, 2] {
        let mut pair = pair_that_may_not_write(device_of(100, partitions));
        pair.server.rows("INSERT INTO cars DOCUMENTS ({'_id': 100})");
        pair.insert_on_device(0..8);
        // Asked when nothing is known of the server, when it has refused, and when that is known from before.
        for _ in 0..2 {
            pair.meet();
            for id in 0..8 {
                let refusal = pair.evict_error(id).expect("it is nowhere else");
                assert_eq!(refusal.kind, ErrorKind::Conflict);
                assert!(refusal.message.contains("the server refuses"), "{}", refusal.message);
            }
        }
        assert_eq!(pair.evict_error(100), None, "it came from the server");
        pair.server.put_key("a", EVERYTHING, EVERYTHING, NEVER);
        pair.meet();
        for id in 0..8 {
            assert_eq!(pair.evict_error(id), None);
        }
        assert_eq!(pair.count_on_server(), r#"[{"n":9}]"#);
    }
}

#[test]
fn a_device_evicts_no_edited_document_while_not_all_refused_ones_are_named() {
    for partitions in [1, 2] {
        let mut pair = pair_that_may_not_write(device_of(2, partitions));
        pair.server.rows("INSERT INTO cars DOCUMENTS ({'_id': 100})");
        pair.insert_on_device(0..6);
        for _ in 0..2 {
            pair.meet();
            for id in 0..6 {
                assert!(pair.evict_error(id).is_some(), "{id} is nowhere else");
            }
            assert_eq!(pair.evict_error(100), None, "it came from the server");
        }
        pair.server.put_key("a", EVERYTHING, EVERYTHING, NEVER);
        pair.meet();
        for id in 0..6 {
            assert_eq!(pair.evict_error(id), None);
        }
    }
}
