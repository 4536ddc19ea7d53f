//! Updates on their way between a session and the owners of documents, on two threads and within small bounds.

use super::sync::Pair;
use super::*;
use crate::value::canonical::encode_id;

fn tiny() -> NodeLimits {
    NodeLimits {
        update_target_bytes: 600,
        update_bytes_max: 2_400,
        window_bytes: 2_048,
        outputs_max: 64,
        ..NodeLimits::default()
    }
}

fn two_threads(limits: NodeLimits) -> Options {
    Options { threads: 2, partitions: 2, limits, ..Options::default() }
}

/// Integer ids of documents of a collection that one partition of two owns.
fn ids_of(collection: &str, partition: u16) -> impl Iterator<Item = i64> {
    (0_i64..).filter(move |n| {
        let id = encode_id(&Value::from(*n)).expect("an integer is an id");
        Slot::of(APP, collection, &id).partition(2) == PartitionId(partition)
    })
}

#[test]
fn a_replay_of_any_size_arrives_from_either_side() {
    let all = "SELECT * FROM cars ORDER BY _id";
    let text = "x".repeat(100);
    // A document takes some 250 bytes: below the target, above it, and more than an update holds.
    for count in [2, 5, 9, 40] {
        let mut pair =
            Pair::of(&two_threads(tiny()), Options { limits: tiny(), ..Options::default() });
        let subscription = ["SELECT * FROM cars"];
        pair.connect(&subscription);
        pair.probe();
        pair.disconnect();
        let insert = |id| format!("INSERT INTO cars DOCUMENTS ({{'_id': {id}, 't': '{text}'}})");
        for id in 0..count {
            pair.device.local_rows(&insert(id));
            pair.server.rows(&insert(1_000 + id));
        }
        pair.connect(&subscription);
        pair.probe();
        assert_eq!(pair.device.local_rows(all), pair.server.rows(all), "{count}");
    }
}

#[test]
fn an_answer_to_a_former_group_says_nothing_about_the_present_one() {
    let mut pair = Pair::with_server(&two_threads(NodeLimits::default()));
    pair.connect(&["SELECT * FROM cars"]);
    pair.probe();
    // A commit of no interest opens a group, which waits for its last part: from the other thread.
    pair.server.slow_thread = Some(1);
    let other = ids_of("other", 0).next().expect("there are many");
    pair.server.rows(&format!("INSERT INTO other DOCUMENTS ({{'_id': {other}}})"));
    // Another, so that the probe asks about more than the group that is open.
    let other = ids_of("other", 0).nth(1).expect("there are many");
    pair.server.rows(&format!("INSERT INTO other DOCUMENTS ({{'_id': {other}}})"));
    // What the device must hear: committed on the slow thread after it was asked for the first time.
    let car = ids_of("cars", 1).next().expect("there are many");
    let insert = format!("INSERT INTO cars DOCUMENTS ({{'_id': {car}}})");
    let request = pair.server.submit(1, Request::Execute(Process::statement(&insert, "{}")));
    pair.server.settle();
    assert_eq!(pair.server.answer(request).1.error, None);
    let session = pair.session;
    pair.device.reports.clear();
    pair.device.session(session, SessionInput::Probe);
    pair.exchange();
    assert!(pair.device.reports.is_empty(), "the slow thread has not spoken");
    // It answers what it was asked, one after the other.
    while let Some((thread, input)) = pair.server.held.pop_front() {
        pair.server.racks[usize::from(thread)].handle_input(input, pair.server.now);
        pair.exchange();
        if !pair.device.reports.is_empty() {
            let cars = pair.device.local_rows("SELECT * FROM cars");
            assert_eq!(cars, format!(r#"[{{"_id":{car}}}]"#), "it is said when it is true");
        }
    }
    let reports: Vec<_> = pair.device.reports.iter().map(|(_, report)| report.clone()).collect();
    assert_eq!(reports, [SessionReport::Synced]);
}
