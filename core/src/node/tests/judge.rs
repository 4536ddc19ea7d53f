//! Everything that a peer sends, and what is in the log because somebody once took it, is judged or borne.

use super::sync::Pair;
use super::*;
use crate::document::{Delta, Document, Edit, Fields, Vector};
use crate::ident::{Actor, Dot};
use crate::log::transaction::Origin;
use crate::node::sync_ask::{Answer, CompiledInterest, RemoteFilter};
use crate::node::sync_judge::{Judge, Ruling};
use crate::sync::wire::{self, Ack, Frame, Offer, UpdBegin, UpdChunk, UpdEnd};
use crate::sync::{ItemBody, Offered, Outcome, Part, RejectReason, UpdateItem};
use crate::time::{Hlc, is_far_ahead};
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
    document.diff(&Vector::new())
}

/// Puts a merge into the log of a process, past every judge.
fn log_merge(process: &mut Process, id: &str, delta: Delta) {
    let op = Op::Merge { collection: "cars".into(), id: doc_id(id), delta: Arc::new(delta) };
    process.log_ops(vec![op]);
}

impl Process {
    /// Puts operations into the log, past every check.
    pub(super) fn log_ops(&mut self, ops: Vec<Op>) {
        let is_system = ops.iter().all(|op| matches!(op, Op::System(_)));
        let peer = Origin::Peer { key: PeerKey([9; 32]), home: PartitionId(0) };
        let transaction = Transaction {
            id: TxnId(Uuid([9; 16])),
            app: APP,
            origin: if is_system { Origin::System } else { peer },
            wall: self.now.wall,
            ops,
        };
        let append = Append {
            from: PartitionId(0),
            ticket: Ticket(u64::MAX),
            epoch: 0,
            frees: false,
            record: transaction.encode().into(),
        };
        self.journal.append(append, self.now);
        self.settle();
    }
}

#[test]
fn the_last_clock_value_in_the_log_refuses_writes_and_stops_nothing() {
    let options = Options { partitions: 1, ..Options::default() };
    let mut process = Process::server(&options);
    process.rows("INSERT INTO cars DOCUMENTS ({'_id': 'a', 'n': 1})");
    log_merge(&mut process, "a", deletion(u64::MAX));
    for boot in 2..4 {
        for text in [
            "UPDATE cars SET n = 2 WHERE _id = 'a'",
            "UPDATE cars SET n = 2",
            "DELETE FROM cars WHERE _id = 'a'",
        ] {
            let (_, outcome) = process.execute(text, "{}");
            let error = outcome.error.expect("no clock value is left");
            assert_eq!(error.kind, ErrorKind::Unavailable, "{text}: {}", error.message);
        }
        assert_eq!(process.rows("SELECT * FROM cars"), r#"[{"_id":"a","n":1}]"#);
        // All other documents are as ever.
        process.rows("INSERT INTO cars DOCUMENTS ({'_id': 'b', 'n': 1})");
        process.rows("UPDATE cars SET n = 2 WHERE _id = 'b'");
        process.rows("DELETE FROM cars WHERE _id = 'b'");
        process.check();
        process.disk.kill();
        process = Process::on_disk(&Options { boot, ..options }, process.disk);
        process.settle();
    }
    process.rows("EVICT FROM cars WHERE _id = 'a'");
    assert_eq!(process.rows("SELECT * FROM cars"), "[]");
    let (_, outcome) = process.execute("INSERT INTO cars DOCUMENTS ({'_id': 'a'})", "{}");
    assert!(outcome.error.is_some(), "peers have seen the last clock value of that id");
}

/// A server whose key `secret` has these permissions, and a device.
pub(super) fn pair_with(read: &str, write: &str, options: &Options) -> Pair {
    let mut pair = Pair::with_server(options);
    let text = format!(r#"{{"read":{read},"write":{write}}}"#);
    let key = ApiKey {
        name: "r".into(),
        description: None,
        prefix: key_prefix("secret").into(),
        hash: hash("secret"),
        expires: WallMs(u64::MAX),
        permissions: permissions(&text),
    };
    let request =
        pair.server.submit(0, Request::Catalog(vec![CatalogOp::PutKey { app: APP, key }]));
    pair.server.settle();
    assert_eq!(pair.server.answer(request).1.error, None);
    pair
}

fn permissions(text: &str) -> Arc<Permissions> {
    let value = json::parse(text.as_bytes(), json::Limits::default()).expect("it is JSON");
    Arc::new(Permissions::from_value(&value).expect("they can be used"))
}

pub(super) const EVERYTHING: &str = r#"{"everything":true}"#;
pub(super) const NOTHING: &str = r#"{"everything":false}"#;
const ALL_CARS: &str = "SELECT * FROM cars";

fn one_partition() -> Options {
    Options { partitions: 1, ..Options::default() }
}

/// Connects, waits for the update that brings document `a`, and answers it so instead of taking it.
fn answer_the_update(pair: &mut Pair, outcome: Outcome) {
    let is_end = |frame: &[u8]| matches!(wire::decode(frame), Ok(Some(Frame::UpdEnd(_))));
    pair.open("secret", &[ALL_CARS]);
    pair.exchange_until(is_end);
    let (session, end) = pair.server.frames.pop_front().expect("there is an update");
    let Ok(Some(Frame::UpdEnd(end))) = wire::decode(&end) else { unreachable!("it was awaited") };
    let ack = Ack { update: end.update, last: true, outcomes: vec![(0, outcome)], at: None };
    let ack = wire::encode(&Frame::Ack(ack));
    pair.server.session(session, SessionInput::Frame(ack));
    pair.server.settle();
}

fn tombstone_of(delta: &Delta) -> Outcome {
    Outcome::Deleted { tombstone: delta.to_bytes().into() }
}

/// Sets the price of a document that nobody has seen.
fn price(hlc: u64) -> Delta {
    let actor = Actor([0xEE; 16]);
    let mut edit = Edit::new(&Document::new(), Dot { hlc: Hlc(hlc), actor });
    edit.insert();
    let content: Object = [(Box::from("price"), Value::from(0))].into_iter().collect();
    edit.assign_content(&content, &Fields::default()).expect("it fits");
    let (_, document) = edit.finish_with_document().expect("it writes");
    document.diff(&Vector::new())
}

#[test]
fn a_read_only_key_cannot_write_by_acknowledging() {
    let recent = Hlc::new(1_700_000_000_500, 0).0;
    for (write, tombstone) in [
        (NOTHING, deletion(recent)),
        (NOTHING, price(recent)),
        (NOTHING, deletion(u64::MAX)),
        // Who may write is judged all the same.
        (EVERYTHING, price(recent)),
        (EVERYTHING, deletion(u64::MAX)),
    ] {
        let mut pair = pair_with(EVERYTHING, write, &one_partition());
        pair.server.rows("INSERT INTO cars DOCUMENTS ({'_id': 'a', 'price': 9})");
        answer_the_update(&mut pair, tombstone_of(&tombstone));
        let is_rejected = |(_, report): &(SessionId, SessionReport)| {
            matches!(report, SessionReport::Rejected { .. })
        };
        assert!(pair.server.reports.iter().any(is_rejected), "{:?}", pair.server.reports);
        let rows = r#"[{"_id":"a","price":9}]"#;
        assert_eq!(pair.server.rows(ALL_CARS), rows);
        pair.server.rows("UPDATE cars SET price = 10 WHERE _id = 'a'");
        assert_eq!(pair.server.rows("SELECT price FROM cars"), r#"[{"price":10}]"#);
        pair.server.check();
    }
}

#[test]
fn a_delta_as_an_author_logs_it_is_taken_from_no_peer() {
    let mut pair = pair_with(EVERYTHING, EVERYTHING, &one_partition());
    pair.connect_with("secret", &[ALL_CARS]);
    let dot = Dot { hlc: Hlc::new(1_700_000_000_500, 0), actor: Actor([0xEE; 16]) };
    let mut edit = Edit::new(&Document::new(), dot);
    edit.insert();
    let (authored, document) = edit.finish_with_document().expect("it writes");
    let state = document.diff(&Vector::new());
    let items = [("logged", authored), ("told", state)].map(|(id, delta)| {
        let body = ItemBody::Delta { base: None, bytes: delta.to_bytes().into() };
        UpdateItem { key: sync_key(id), body }
    });
    pair.say_update(1_000, &items);
    assert_eq!(pair.server.rows("SELECT _id FROM cars"), r#"[{"_id":"told"}]"#);
}

#[test]
fn who_may_write_may_answer_that_a_document_is_deleted() {
    let mut pair = pair_with(EVERYTHING, EVERYTHING, &one_partition());
    pair.server.rows("INSERT INTO cars DOCUMENTS ({'_id': 'a', 'price': 9})");
    let key = DocKey { app: APP, collection: "cars".into(), id: doc_id("a") };
    let here = pair.server.racks[0].nodes()[0].store().document(&key).expect("it was inserted");
    let actor = Actor([0xEE; 16]);
    let mut edit = Edit::new(&here, Dot { hlc: Hlc::new(1_700_000_000_900, 0), actor });
    edit.delete(false);
    let (_, deleted) = edit.finish_with_document().expect("it leaves a mark");
    answer_the_update(&mut pair, tombstone_of(&deleted.diff(&Vector::new())));
    assert_eq!(pair.server.rows(ALL_CARS), "[]");
    pair.server.check();
}

/// All that the server says to a device that has documents `mine`, `w` and `h`, and asks about them in every way.
fn said_beside(hidden: &[&str]) -> Vec<Bytes> {
    let read = r#"{"queriesByCollection":{"cars":["_id == 'mine'"]}}"#;
    let write = r#"{"queriesByCollection":{"cars":["_id == 'mine' || _id == 'w'"]}}"#;
    let mut pair = pair_with(read, write, &one_partition());
    hidden.iter().for_each(|text| drop(pair.server.rows(text)));
    let digest = |id| {
        let key = DocKey { app: APP, collection: "cars".into(), id: doc_id(id) };
        let found = pair.server.racks[0].nodes()[0].store().document(&key);
        let vector = found.map(|found| found.vector().clone()).unwrap_or_default();
        crate::sync::Digest(vector.digest().0.to_be_bytes())
    };
    let offered = |id| Offered { key: sync_key(id), digest: digest(id), tombstone: false };
    let items: Vec<Offered> = ["w", "h"].map(offered).into();
    pair.device
        .local_rows("INSERT INTO cars DOCUMENTS ({'_id': 'mine'}), ({'_id': 'w'}), ({'_id': 'h'})");
    pair.open("secret", &[ALL_CARS]);
    let mut said = pair.exchange_recorded();
    pair.device.local_rows("UPDATE cars SET n = 2");
    said.extend(pair.exchange_recorded());
    pair.device.local_rows("DELETE FROM cars WHERE _id != 'mine'");
    said.extend(pair.exchange_recorded());
    // The device is not heard any more: its enemy speaks in its place.
    let mut update = 1_000;
    for item in &items {
        let key = item.key.clone();
        for body in [
            ItemBody::Left { digest: item.digest },
            ItemBody::Left { digest: crate::sync::Digest([7; 16]) },
            ItemBody::Evicted,
            ItemBody::Delta { base: None, bytes: price(1 << 20).to_bytes().into() },
            ItemBody::Tombstone { bytes: deletion(1 << 21).to_bytes().into() },
            ItemBody::Delta { base: None, bytes: price(u64::MAX).to_bytes().into() },
            ItemBody::Delta { base: None, bytes: Bytes::from_static(b"none") },
        ] {
            update += 1;
            pair.say_update(update, &[UpdateItem { key: key.clone(), body }]);
        }
    }
    for part in [Part::Provide, Part::Hold] {
        let offer = Offer { part, round: 1, batch: 90, items: items.clone() };
        pair.say(&Frame::Offer(offer));
    }
    said.extend(pair.server.frames.drain(..).map(|(_, frame)| frame));
    assert!(pair.server.closed.is_empty(), "{:?}", pair.server.closed);
    said
}

/// Two transactions about documents of these ids.
fn history(ids: [&str; 2], then: &str) -> [String; 2] {
    let [w, h] = ids;
    [
        format!(
            "INSERT INTO cars DOCUMENTS ({{'_id': '{w}', 'n': 1}}), ({{'_id': '{h}', 'n': 1}})"
        ),
        format!("{then} WHERE _id IN ('{w}', '{h}')"),
    ]
}

#[test]
fn what_may_not_be_read_is_in_no_frame() {
    let said = |history: [String; 2]| said_beside(&history.each_ref().map(String::as_str));
    let update = "UPDATE cars SET n = 2";
    let expected = said(history(["elsewhere", "nowhere"], update));
    for then in [update, "DELETE FROM cars", "EVICT FROM cars"] {
        assert_eq!(said(history(["w", "h"], then)), expected, "{then}");
    }
}

#[test]
fn a_key_that_may_write_and_not_read_brings_all_that_it_writes() {
    let mut pair = pair_with(NOTHING, EVERYTHING, &Options::default());
    pair.server.rows("INSERT INTO cars DOCUMENTS ({'_id': 'both', 'server': 1})");
    pair.device
        .local_rows("INSERT INTO cars DOCUMENTS ({'_id': 'both', 'device': 1}), ({'_id': 'new'})");
    pair.open("secret", &[ALL_CARS]);
    pair.exchange();
    pair.probe();
    for n in 2..5 {
        pair.device.local_rows(&format!("UPDATE cars SET device = {n}"));
        pair.probe();
        let rows =
            format!(r#"[{{"_id":"both","device":{n},"server":1}},{{"_id":"new","device":{n}}}]"#);
        assert_eq!(pair.server.rows("SELECT * FROM cars ORDER BY _id"), rows);
    }
    pair.server.rows("EVICT FROM cars WHERE _id = 'new'");
    pair.device.local_rows("UPDATE cars SET device = 9 WHERE _id = 'new'");
    pair.device.local_rows("DELETE FROM cars WHERE _id = 'both'");
    pair.probe();
    assert_eq!(
        pair.server.rows("SELECT * FROM cars WHERE _id = 'new'"),
        r#"[{"_id":"new","device":9}]"#
    );
    assert_eq!(pair.device.local_rows("SELECT COUNT(*) AS n FROM cars"), r#"[{"n":1}]"#);
}

#[test]
fn a_key_that_may_only_read_is_not_refused_what_it_did_not_change() {
    let options = Options::default();
    let mut pair = pair_with(EVERYTHING, NOTHING, &options);
    pair.server.rows("INSERT INTO cars DOCUMENTS ({'_id': 'a', 'n': 1}), ({'_id': 'b', 'n': 1})");
    let mut backup = pair.server.disk.clone();
    pair.open("secret", &[ALL_CARS]);
    pair.exchange();
    pair.probe();
    pair.disconnect();
    // A restored server is offered everything: one document as it is there, and one that is older.
    backup.kill();
    pair.server = Process::on_disk(&Options { boot: 2, ..options }, backup);
    pair.server.settle();
    pair.server.rows("UPDATE cars SET n = 2 WHERE _id = 'a'");
    pair.open("secret", &[ALL_CARS]);
    pair.exchange();
    pair.probe();
    assert_eq!(rejected_by_id(&pair.device).len(), 0, "{:?}", pair.device.reports);
    pair.device.local_rows("UPDATE cars SET n = 3 WHERE _id = 'a'");
    pair.exchange();
    assert_eq!(rejected_by_id(&pair.device).len(), 1);
    assert_eq!(pair.server.rows("SELECT n FROM cars WHERE _id = 'a'"), r#"[{"n":2}]"#);
}

fn small_documents() -> Options {
    let limits = NodeLimits { merged_bytes_max: 3_000, ..NodeLimits::default() };
    Options { limits, ..Options::default() }
}

fn insert(id: &str, field: &str, bytes: usize) -> String {
    format!("INSERT INTO cars DOCUMENTS ({{'_id': '{id}', '{field}': '{}'}})", "x".repeat(bytes))
}

#[test]
fn a_merge_above_the_bound_stays_with_its_author_and_the_rest_goes_on() {
    let mut pair = pair_with(EVERYTHING, EVERYTHING, &small_documents());
    pair.server.rows(&insert("both", "server", 2_000));
    pair.device.local_rows(&insert("both", "device", 2_000));
    pair.device.local_rows(&insert("large", "device", 4_000));
    pair.device.local_rows(&insert("small", "device", 10));
    pair.open("secret", &[ALL_CARS]);
    pair.exchange();
    let rejected: BTreeMap<String, Box<str>> = rejected_by_id(&pair.device);
    assert_eq!(rejected.keys().collect::<Vec<_>>(), [r#""both""#, r#""large""#]);
    assert!(rejected.values().all(|reason| &**reason == "TooLarge"), "{rejected:?}");
    pair.probe();
    assert_eq!(pair.server.rows("SELECT _id FROM cars"), r#"[{"_id":"both"},{"_id":"small"}]"#);
    assert_eq!(pair.server.rows("SELECT device FROM cars WHERE _id = 'both'"), "[{}]");
    // A deletion makes smaller what is too large, and is taken.
    pair.device.local_rows("DELETE FROM cars WHERE _id = 'both'");
    pair.probe();
    assert_eq!(
        pair.server.rows("SELECT _id FROM cars WHERE _id = 'small'"),
        r#"[{"_id":"small"}]"#
    );
    assert_eq!(pair.device.local_rows("SELECT COUNT(*) AS n FROM cars"), r#"[{"n":2}]"#);
}

#[test]
fn a_document_that_is_too_large_already_is_named_and_stops_nobody() {
    let mut pair = pair_with(EVERYTHING, EVERYTHING, &small_documents());
    pair.server.rows(&insert("large", "server", 5_000));
    pair.server.rows(&insert("small", "server", 10));
    pair.open("secret", &[ALL_CARS]);
    pair.exchange();
    pair.probe();
    pair.server.rows(&insert("later", "server", 10));
    pair.probe();
    pair.server.rows("UPDATE cars SET n = 1");
    pair.probe();
    let ids = r#"[{"_id":"later","n":1},{"_id":"small","n":1}]"#;
    assert_eq!(pair.device.local_rows("SELECT _id, n FROM cars"), ids);
    assert_eq!(rejected_by_id(&pair.server).len(), 1, "{:?}", pair.server.reports);
    let frames = pair.server.frames.len() + pair.device.frames.len();
    assert_eq!(frames, 0, "nobody goes on about it");
}

fn rejected_by_id(process: &Process) -> BTreeMap<String, Box<str>> {
    let rejected = |(_, report): &(SessionId, SessionReport)| match report {
        SessionReport::Rejected { listed, .. } => listed.clone(),
        _ => Vec::new(),
    };
    let rejected = process.reports.iter().flat_map(rejected);
    rejected.map(|it| (to_text(&it.id), it.reason)).collect()
}

#[test]
fn what_a_remote_asks_for_is_read_within_its_credit() {
    let limits = NodeLimits { update_target_bytes: 1_200, ..NodeLimits::default() };
    let options = Options { limits, threads: 2, partitions: 2, ..Options::default() };
    let mut pair = pair_with(EVERYTHING, EVERYTHING, &options);
    for n in 0..60 {
        pair.server.rows(&insert(&format!("{n:02}"), "text", 200));
    }
    // What the other thread says to the one of the session is looked at on its way.
    pair.server.slow_thread = Some(0);
    pair.open("secret", &[ALL_CARS]);
    let mut most = 0;
    loop {
        pair.exchange();
        if pair.server.held.is_empty() {
            break;
        }
        for (_, input) in pair.server.held.drain(..) {
            if let RackInput::Message(message) = &input
                && let Body::ToSession(ToSession { answer: Answer::Diffs(given), .. }) =
                    &message.body
            {
                most = most.max(given.len());
            }
            pair.server.mail.push_back((0, input));
        }
    }
    assert!((1..=4).contains(&most), "{most} documents of some 300 bytes for 1,200 bytes");
    pair.server.slow_thread = None;
    pair.probe();
    assert_eq!(pair.device.local_rows("SELECT COUNT(*) AS n FROM cars"), r#"[{"n":60}]"#);
}

fn sync_key(id: &str) -> crate::sync::DocKey {
    crate::sync::DocKey { collection: "cars".into(), id: doc_id(id) }
}

impl Pair {
    /// Delivers all frames, and gives back those of the server.
    fn exchange_recorded(&mut self) -> Vec<Bytes> {
        let said = std::cell::RefCell::new(Vec::<Bytes>::new());
        self.exchange_until(|frame| {
            said.borrow_mut().push(Bytes::copy_from_slice(frame));
            false
        });
        said.into_inner()
    }

    /// Says this to the server in the device's place.
    fn say(&mut self, frame: &Frame) {
        let frame = wire::encode(frame);
        self.server.session(self.session, SessionInput::Frame(frame));
        self.server.settle();
    }

    fn say_update(&mut self, update: u64, items: &[UpdateItem]) {
        let payload = wire::encode_payload(items);
        let item_count = u32::try_from(items.len()).expect("a few");
        let payload_bytes = payload.len() as u64;
        let hash = wire::payload_hash(&payload);
        let begin = UpdBegin { update, upto: None, item_count, payload_bytes, at: None };
        self.say(&Frame::UpdBegin(begin));
        self.say(&Frame::UpdChunk(UpdChunk { update, seq: 0, payload }));
        self.say(&Frame::UpdEnd(UpdEnd { update, hash }));
    }
}

/// Lets time pass on both sides, with a sign of life in between.
fn pass_seconds(pair: &mut Pair, seconds: u64) {
    for _ in 0..seconds / 15 {
        for process in [&mut pair.server, &mut pair.device] {
            process.now.mono.ns += 15_000_000_000;
            process.now.wall.0 += 15_000;
        }
        pair.exchange();
    }
}

#[test]
fn what_came_before_its_time_is_offered_again_and_taken_when_that_has_come() {
    let mut pair = pair_with(EVERYTHING, EVERYTHING, &Options::default());
    pair.device.now.wall.0 += 20 * 60_000;
    pair.device.local_rows("INSERT INTO cars DOCUMENTS ({'_id': 'early'})");
    pair.device.now.wall.0 -= 20 * 60_000;
    pair.open("secret", &[ALL_CARS]);
    pair.exchange();
    assert_eq!(rejected_by_id(&pair.device).len(), 1, "{:?}", pair.device.reports);
    let parked = |pair: &Pair| pair.device.racks.iter().map(Rack::parked_count).collect::<Vec<_>>();
    assert_eq!(parked(&pair), [1]);
    pass_seconds(&mut pair, 14 * 60);
    assert_eq!(pair.server.rows(ALL_CARS), "[]");
    let asked = pair.device.reports.len();
    assert!(asked < 12, "it is not asked all the time: {asked}");
    pass_seconds(&mut pair, 5 * 60);
    assert_eq!(pair.server.rows(ALL_CARS), r#"[{"_id":"early"}]"#);
    pair.probe();
    assert_eq!(parked(&pair), [0]);
    assert!(pair.device.closed.is_empty() && pair.server.closed.is_empty());
}

#[test]
fn a_clock_that_went_back_over_a_restart_refuses_nothing_that_it_took_before() {
    for checkpoint_after in [u64::MAX, 4 << 10] {
        let options = Options { checkpoint_after, segment_bytes: 16 << 10, ..Options::default() };
        let mut pair = pair_with(EVERYTHING, EVERYTHING, &options);
        let hour = 3_600_000;
        pair.server.now.wall.0 += hour;
        for n in 0..60 {
            pair.server.rows(&insert(&format!("{n}"), "text", 100));
        }
        let mut disk = pair.server.disk.clone();
        disk.kill();
        pair.server = Process::on_disk(&Options { boot: 2, ..options }, disk);
        pair.server.settle();
        pair.device.now.wall.0 += hour;
        pair.device.local_rows("INSERT INTO cars DOCUMENTS ({'_id': 'device'})");
        pair.open("secret", &["SELECT * FROM cars WHERE _id = 'device'"]);
        pair.exchange();
        assert_eq!(rejected_by_id(&pair.device).len(), 0, "{:?}", pair.device.reports);
        assert_eq!(
            pair.server.rows("SELECT _id FROM cars WHERE _id = 'device'"),
            r#"[{"_id":"device"}]"#
        );
        let newest = pair.server.racks.iter().map(Rack::newest_clock).max();
        assert!(is_far_ahead(newest.expect("there are racks"), pair.server.now.wall));
    }
}

#[test]
fn a_server_that_was_days_ahead_writes_in_its_own_time_again() {
    let day = 24 * 3_600_000;
    for is_restarted in [false, true] {
        let options = one_partition();
        let mut pair = pair_with(EVERYTHING, EVERYTHING, &options);
        pair.server.rows("INSERT INTO cars DOCUMENTS ({'_id': 'before'})");
        pair.server.now.wall.0 += 3 * day;
        pair.server.rows("INSERT INTO cars DOCUMENTS ({'_id': 'ahead', 'n': 0})");
        pair.server.now.wall.0 -= 3 * day;
        if is_restarted {
            let mut disk = pair.server.disk.clone();
            disk.kill();
            pair.server = Process::on_disk(&Options { boot: 2, ..options }, disk);
            pair.server.settle();
        }
        for n in 1..4 {
            pair.server
                .rows("INSERT INTO cars DOCUMENTS ({'_id': 'after'}) ON ID CONFLICT DO UPDATE");
            pair.server.rows(&format!("UPDATE cars SET n = {n}"));
        }
        let n = r#"[{"_id":"after","n":3},{"_id":"ahead","n":3},{"_id":"before","n":3}]"#;
        assert_eq!(
            pair.server.rows("SELECT * FROM cars ORDER BY _id"),
            n,
            "each edit wins over the former"
        );
        assert!(is_far_ahead(pair.server.racks[0].newest_clock(), pair.server.now.wall));
        pair.open("secret", &[ALL_CARS]);
        pair.exchange();
        pair.probe();
        let taken = r#"[{"_id":"after","n":3},{"_id":"before","n":3}]"#;
        assert_eq!(pair.device.local_rows("SELECT * FROM cars ORDER BY _id"), taken);
        // And the device, which has met nothing from ahead, is taken at its word.
        pair.device.local_rows("UPDATE cars SET n = 4");
        pair.probe();
        assert_eq!(rejected_by_id(&pair.device).len(), 0, "{:?}", pair.device.reports);
        assert_eq!(pair.server.rows("SELECT n FROM cars WHERE _id = 'after'"), r#"[{"n":4}]"#);
        pair.server.check();
    }
}

/// What a partition of `process` says to an item about document `a`, from who may read and write.
fn ruling(process: &Process, delta: &Delta, issued: Dot) -> Ruling {
    ruling_for(process, Arc::new(Permissions::everything()), delta, issued)
}

fn ruling_for(
    process: &Process,
    permissions: Arc<Permissions>,
    delta: &Delta,
    issued: Dot,
) -> Ruling {
    let everything = || Arc::new(CompiledInterest::Everything);
    let filter = RemoteFilter {
        peer: PeerKey([9; 32]),
        permissions,
        theirs: everything(),
        ours: everything(),
        recalls_bases: true,
    };
    let store = process.racks[0].nodes()[0].store();
    let (app, clock_ms_max, bytes_max) = (APP, u64::MAX, 1 << 24);
    let judge = Judge { store, app, filter: &filter, clock_ms_max, bytes_max, issued };
    let body = ItemBody::Delta { base: None, bytes: delta.to_bytes().into() };
    judge.rule(&UpdateItem { key: sync_key("a"), body })
}

#[test]
fn nobody_knows_more_of_our_own_actor_than_it_issued() {
    let process = Process::server(&one_partition());
    let delta = price(500);
    let author = delta.raised()[0];
    let issued = |hlc| Dot { hlc: Hlc(hlc), ..author };
    assert!(matches!(ruling(&process, &delta, issued(500)), Ruling::Merge(..)));
    assert_eq!(ruling(&process, &delta, issued(499)), Ruling::BeyondIssued);
    // Of others it is believed: what they wrote may be overwritten and leave no content.
    let other = Dot { hlc: Hlc(1), actor: Actor([1; 16]) };
    assert!(matches!(ruling(&process, &delta, other), Ruling::Merge(..)));
}

/// The document with one more edit.
fn edited(document: &Document, actor: u8, hlc: u64) -> Document {
    let mut edit = Edit::new(document, Dot { hlc: Hlc(hlc), actor: Actor([actor; 16]) });
    edit.insert();
    let content: Object = [(Box::from("n"), Value::from(hlc as i64))].into_iter().collect();
    edit.assign_content(&content, &Fields::default()).expect("it fits");
    edit.finish_with_document().expect("it writes").1
}

/// An author whose edit was refused, and who then gets the document from here, may send what it got once more, on
/// a base that holds the refused edit. "Accepted" or "evicted" would be the last that the author hears of the edit.
#[test]
fn what_rests_on_a_refused_edit_is_not_known_here() {
    let mut process = Process::server(&one_partition());
    let first = edited(&Document::new(), 1, 500);
    let refused = edited(&first, 2, 600);
    let mut merged = refused.clone();
    let later = edited(&first, 1, 700);
    merged.apply(&later.diff(first.vector())).expect("its base is there");
    log_merge(&mut process, "a", later.diff(&Vector::new()));
    let reader = permissions(&format!(r#"{{"read":{EVERYTHING},"write":{NOTHING}}}"#));
    let nobody = Dot { hlc: Hlc(1), actor: Actor([9; 16]) };
    let forbidden = Ruling::Answer(Outcome::Rejected(RejectReason::Forbidden));
    let ask = |process: &Process, delta: &Delta| ruling_for(process, reader.clone(), delta, nobody);
    let mut repeated = merged.diff(refused.vector());
    assert_eq!(repeated.raised(), [Dot { hlc: Hlc(700), actor: Actor([1; 16]) }]);
    assert_eq!(ask(&process, &repeated), forbidden);
    let known = later.diff(first.vector());
    assert_eq!(ask(&process, &known), Ruling::Answer(Outcome::Accepted));
    process.rows("EVICT FROM cars WHERE _id = 'a'");
    assert_eq!(ask(&process, &repeated), forbidden);
    assert_eq!(ask(&process, &known), Ruling::Answer(Outcome::Evicted));
    // Who may write as well hears that the base is missing, and sends it in full.
    let need_base = Ruling::Answer(Outcome::NeedBase { vector: None });
    assert_eq!(ruling(&process, &repeated, nobody), need_base);
    assert_eq!(ruling(&process, &known, nobody), Ruling::Answer(Outcome::Evicted));
    // A digest says nothing of a base that is not here: it has to be listed, before the reader hears as above.
    repeated.name_base_by_digest(|_| false);
    assert_eq!(ask(&process, &repeated), need_base);
    assert_eq!(ruling(&process, &repeated, nobody), need_base);
}

/// Honest stores that write, delete, evict, restart and are restored from older copies of their disks.
#[test]
fn whatever_honest_stores_come_to_is_taken() {
    for seed in 0..24_u64 {
        let options = Options { partitions: 2, boot: 1, ..Options::default() };
        let mut pair = pair_with(EVERYTHING, EVERYTHING, &options);
        let mut rng = Rng::new(&[seed as u8; 32], "honest");
        let mut backup = pair.server.disk.clone();
        pair.connect(&[ALL_CARS]);
        for step in 2..60_u8 {
            let id = rng.below(4);
            let text = match rng.below(6) {
                0 => format!("DELETE FROM cars WHERE _id = {id}"),
                1 => format!("EVICT FROM cars WHERE _id = {id}"),
                2 => format!("UPDATE cars APPLY n INCREMENT BY 1 WHERE _id = {id}"),
                3 => format!("UPDATE cars SET f{} = {step} WHERE _id = {id}", rng.below(3)),
                _ => format!(
                    "INSERT INTO cars DOCUMENTS ({{'_id': {id}, 'f': {step}}}) ON ID CONFLICT DO UPDATE"
                ),
            };
            match rng.below(12) {
                0 => backup = pair.server.disk.clone(),
                1 | 2 => {
                    pair.disconnect();
                    let is_restored = rng.below(2) == 0;
                    let mut disk = if is_restored { &backup } else { &pair.server.disk }.clone();
                    disk.kill();
                    let now = pair.server.now;
                    pair.server = Process::on_disk(&Options { boot: step, ..options }, disk);
                    pair.server.now = Now { durable: pair.server.now.durable, ..now };
                    pair.server.settle();
                    pair.connect(&[ALL_CARS]);
                }
                3..=6 => drop(pair.device.local(&text, "{}")),
                7 => pair.probe(),
                _ => drop(pair.server.execute(&text, "{}")),
            }
            pair.exchange();
        }
        pair.probe();
        for process in [&pair.server, &pair.device] {
            assert_eq!(rejected_by_id(process).len(), 0, "seed {seed}: {:?}", process.reports);
            process.check();
        }
    }
}

#[test]
fn what_apply_found_is_not_told_to_who_may_not_read() {
    let options = Options { threads: 2, partitions: 2, ..Options::default() };
    let mut pair = pair_with(NOTHING, EVERYTHING, &options);
    // A document of the partition beside that of the session.
    let node = &pair.server.racks[0].nodes()[0];
    let is_there = |id: &String| node.owner(APP, "cars", &doc_id(id)) == PartitionId(1);
    let id = (0..).map(|n: u32| n.to_string()).find(is_there).expect("there are many");
    pair.server.rows(&format!("INSERT INTO cars DOCUMENTS ({{'_id': '{id}', 'n': 1}})"));
    let key = DocKey { app: APP, collection: "cars".into(), id: doc_id(&id) };
    let here = pair.server.racks[1].nodes()[0].store().document(&key).expect("it was inserted");
    pair.open("secret", &[ALL_CARS]);
    pair.exchange();
    pair.server.slow_thread = Some(0);
    let bytes = here.diff(&Vector::new()).to_bytes().into();
    let body = ItemBody::Delta { base: None, bytes };
    pair.say_update(1_000, &[UpdateItem { key: sync_key(&id), body }]);
    assert!(!pair.server.held.is_empty(), "the verdict is on its way");
    let evict = format!("EVICT FROM cars WHERE _id = '{id}'");
    let request = pair.server.submit(1, Request::Execute(Process::statement(&evict, "{}")));
    pair.server.settle();
    assert_eq!(pair.server.answer(request).1.error, None);
    pair.server.slow_thread = None;
    let held = &mut pair.server.held;
    pair.server.mail.append(held);
    pair.server.settle();
    let acks = pair.server.frames.iter().filter_map(|(_, frame)| match wire::decode(frame) {
        Ok(Some(Frame::Ack(ack))) => Some(ack.outcomes),
        _ => None,
    });
    assert_eq!(acks.collect::<Vec<_>>(), [vec![]], "taken, as if it were here");
}
