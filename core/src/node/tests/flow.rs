//! Updates on their way between a session and the owners of documents, on two threads and within small bounds.

use super::sync::Pair;
use super::*;
use crate::sync::wire::{Frame, decode};
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
fn a_group_ends_though_what_it_tells_is_touched_again_and_again() {
    let one = || Options { threads: 1, partitions: 1, limits: tiny(), ..Options::default() };
    let mut pair = Pair::of(&one(), one());
    let subscription = ["SELECT * FROM cars"];
    for id in 100..130 {
        pair.server.rows(&format!("INSERT INTO cars DOCUMENTS ({{'_id': {id}}})"));
    }
    pair.connect(&subscription);
    pair.probe();
    pair.disconnect();
    // A group of many parts.
    let text = "x".repeat(200);
    for id in 0..40 {
        let document = format!("{{'_id': {id}, 't': '{text}'}}");
        pair.server.rows(&format!("INSERT INTO cars DOCUMENTS ({document})"));
    }
    // Each of these is more than is read at once.
    let text = "x".repeat(700);
    pair.server.rows(&format!("UPDATE cars SET before = '{text}' WHERE _id >= 100"));
    pair.open("dev", &subscription);
    let is_update = |frame: &[u8]| matches!(decode(frame), Ok(Some(Frame::UpdBegin(_))));
    pair.exchange_until(is_update);
    // As of the group's position a document lacks what the device has, and the device lacks what the server has:
    // each part of the group makes the other side touch it.
    pair.device.local_rows("UPDATE cars SET device = 1 WHERE _id >= 100");
    pair.server.rows("UPDATE cars SET server = 1 WHERE _id >= 100");
    let frames = std::cell::Cell::new(0);
    pair.exchange_until(|_| {
        frames.set(frames.get() + 1);
        assert!(frames.get() < 2_000, "it goes on for ever");
        false
    });
    pair.probe();
    let all = "SELECT * FROM cars ORDER BY _id";
    assert_eq!(pair.device.local_rows(all), pair.server.rows(all));
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

#[test]
fn a_device_of_several_partitions_evicts_what_a_server_has_and_asks_for_it_again() {
    let subscription = ["SELECT * FROM cars WHERE n < 100"];
    let mut pair = Pair::of(
        &two_threads(NodeLimits::default()),
        Options { partitions: 2, ..Options::default() },
    );
    let near = ids_of("cars", 0).next().expect("there are many");
    let far = ids_of("cars", 1).next().expect("there are many");
    pair.device.local_rows(&format!("INSERT INTO cars DOCUMENTS ({{'_id': {far}, 'n': 1}})"));
    let (_, refused) = pair.device.local(&format!("EVICT FROM cars WHERE _id = {far}"), "{}");
    assert_eq!(refused.error.expect("no server has it").kind, ErrorKind::Conflict);
    pair.server.rows(&format!("INSERT INTO cars DOCUMENTS ({{'_id': {near}, 'n': 2}})"));
    pair.connect(&subscription);
    pair.probe();
    let all = "SELECT * FROM cars ORDER BY n";
    let both = pair.server.rows(all);
    assert_eq!(pair.device.local_rows(all), both);
    // Each alone, within a session and without one: whichever partition owns it, everything is asked for again.
    for id in [far, near, far] {
        pair.device.local_rows(&format!("EVICT FROM cars WHERE _id = {id}"));
        pair.exchange();
        pair.probe();
        assert_eq!(pair.device.local_rows(all), both);
        pair.disconnect();
        pair.device.local_rows(&format!("EVICT FROM cars WHERE _id = {id}"));
        pair.connect(&subscription);
        pair.probe();
        assert_eq!(pair.device.local_rows(all), both);
    }
    let nodes = pair.device.racks[0].nodes();
    let counts: Vec<u64> = nodes.iter().map(|node| node.sync.evict_generation(APP)).collect();
    assert_eq!(counts, [6, 6], "one number of the store");
}

/// A device's update of a document of the other thread, judged there; before the verdict has come back the document
/// is evicted.
fn judged_and_then_evicted() -> Pair {
    let mut pair = Pair::with_server(&two_threads(NodeLimits::default()));
    let id = ids_of("cars", 1).next().expect("there are many");
    pair.server.rows(&format!("INSERT INTO cars DOCUMENTS ({{'_id': {id}, 'n': 1}})"));
    pair.connect(&["SELECT * FROM cars"]);
    pair.probe();
    pair.judged_before("UPDATE cars SET n = 2", &format!("EVICT FROM cars WHERE _id = {id}"));
    pair
}

impl Pair {
    /// Carries out a statement on the device, and, while the verdict on it is on its way, one on the server.
    fn judged_before(&mut self, on_device: &str, on_server: &str) {
        self.server.slow_thread = Some(0);
        self.device.local_rows(on_device);
        self.exchange();
        assert!(!self.server.held.is_empty(), "the verdict is on its way");
        let execute = Request::Execute(Process::statement(on_server, "{}"));
        let request = self.server.submit(1, execute);
        self.server.settle();
        assert_eq!(self.server.answer(request).1.error, None);
        self.server.slow_thread = None;
        let held = &mut self.server.held;
        self.server.mail.append(held);
    }
}

#[test]
fn a_peer_hears_what_apply_made_of_its_update() {
    let mut pair = judged_and_then_evicted();
    pair.probe();
    assert_eq!(pair.server.rows("SELECT n FROM cars"), r#"[{"n":2}]"#);
    assert_eq!(pair.device.local_rows("SELECT n FROM cars"), r#"[{"n":2}]"#);
    assert!(
        pair.server.racks.iter().flat_map(Rack::nodes).all(|node| node.sync.applying.is_empty())
    );
}

#[test]
fn what_became_void_is_sent_again_even_if_nobody_was_told() {
    let mut pair = judged_and_then_evicted();
    // The update is applied, and its acknowledgement is lost.
    pair.server.settle();
    pair.disconnect();
    pair.connect(&["SELECT * FROM cars"]);
    pair.probe();
    assert_eq!(pair.server.rows("SELECT n FROM cars"), r#"[{"n":2}]"#);
}

/// The device asks for none of what outgrows the bound: nothing of it comes back and makes it speak of its own again.
const OTHERS: &[&str] = &["SELECT * FROM cars WHERE n = 1"];

/// Two texts of 2,000 bytes for one document that merging may take to 3,000: the verdict on the device's is on its way
/// while the server's gets into the log.
fn judged_and_then_outgrown() -> Pair {
    let limits = NodeLimits { merged_bytes_max: 3_000, ..NodeLimits::default() };
    let mut pair = Pair::with_server(&two_threads(limits));
    pair.server.rows("INSERT INTO cars DOCUMENTS ({'_id': 'some', 'n': 1})");
    let id = ids_of("cars", 1).next().expect("there are many");
    pair.connect(OTHERS);
    pair.probe();
    let text = "x".repeat(2_000);
    let insert =
        |field: &str| format!("INSERT INTO cars DOCUMENTS ({{'_id': {id}, '{field}': '{text}'}})");
    pair.judged_before(&insert("device"), &insert("server"));
    pair
}

fn is_refused_as_too_large(report: &(SessionId, SessionReport)) -> bool {
    let (_, SessionReport::Rejected { listed, .. }) = report else { return false };
    listed.iter().any(|rejected| &*rejected.reason == "TooLarge")
}

#[test]
fn what_fitted_when_it_was_judged_is_refused_when_it_no_longer_fits() {
    let mut pair = judged_and_then_outgrown();
    pair.exchange();
    assert!(pair.device.reports.iter().any(is_refused_as_too_large), "{:?}", pair.device.reports);
    pair.probe();
    assert_eq!(pair.server.rows("SELECT device FROM cars WHERE device IS NOT MISSING"), "[]");
    let nodes = pair.server.racks.iter().flat_map(Rack::nodes);
    let mut sizes = nodes.flat_map(|node| {
        let store = node.store();
        let id = ids_of("cars", 1).next().expect("there are many");
        let id = encode_id(&Value::from(id)).expect("an integer is an id");
        let key = DocKey { app: APP, collection: "cars".into(), id };
        store.document(&key).map(|document| document.size_bytes())
    });
    assert!(sizes.all(|bytes| bytes <= 3_000));
}

#[test]
fn what_no_longer_fits_is_named_even_if_nobody_was_told() {
    let mut pair = judged_and_then_outgrown();
    // The update is applied, and its acknowledgement is lost.
    pair.server.settle();
    pair.disconnect();
    pair.connect(OTHERS);
    assert!(pair.device.reports.iter().any(is_refused_as_too_large), "{:?}", pair.device.reports);
    pair.probe();
}
