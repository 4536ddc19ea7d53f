//! Permissions that change or end while sessions live, and what devices hear of it.

use super::sync::Pair;
use super::*;

pub(super) const TOKEN: &str = "changing-key-of-one-device";
const CARS: &[&str] = &["SELECT * FROM cars"];
const EVERYTHING: &str = r#"{"everything":true}"#;

fn only(ids: &str) -> String {
    format!(r#"{{"queriesByCollection":{{"cars":["{ids}"]}}}}"#)
}

impl Process {
    /// A key with the text of [`TOKEN`]. Of several the first by name counts, so that another name changes what the
    /// token is worth in one step.
    pub(super) fn put_key(&mut self, name: &str, read: &str, write: &str, expires: WallMs) {
        let op = CatalogOp::PutKey { app: APP, key: Self::key_of(name, read, write, expires) };
        let request = self.submit(0, Request::Catalog(vec![op]));
        self.settle();
        assert_eq!(self.answer(request).1.error, None);
    }

    pub(super) fn key_of(name: &str, read: &str, write: &str, expires: WallMs) -> ApiKey {
        let text = format!(r#"{{"read":{read},"write":{write}}}"#);
        let permissions = json::parse(text.as_bytes(), json::Limits::default()).expect("JSON");
        ApiKey {
            name: name.into(),
            description: None,
            prefix: key_prefix(TOKEN).into(),
            hash: hash(TOKEN),
            expires,
            permissions: Arc::new(Permissions::from_value(&permissions).expect("they are usable")),
        }
    }
}

impl Pair {
    fn on_thread(thread: u16) -> Self {
        let mut pair = Self::new();
        pair.thread = thread;
        pair
    }

    fn reconnect(&mut self) {
        self.disconnect();
        self.connect_with(TOKEN, CARS);
        self.probe();
    }

    fn restricted(&self) -> Vec<Vec<Box<str>>> {
        let report = |(_, report): &(SessionId, SessionReport)| match report {
            SessionReport::Restricted { collections } => Some(collections.clone()),
            _ => None,
        };
        self.device.reports.iter().filter_map(report).collect()
    }
}

#[test]
fn a_key_that_changes_ends_its_sessions_on_every_thread() {
    let changes: [(&str, String, String); 4] = [
        ("narrowed", only("_id == 1"), EVERYTHING.into()),
        ("read only", EVERYTHING.into(), "{}".into()),
        ("nothing left", "{}".into(), "{}".into()),
        ("the same in other words", EVERYTHING.into(), EVERYTHING.into()),
    ];
    for thread in [0, 1] {
        for (change, read, write) in &changes {
            let mut pair = Pair::on_thread(thread);
            pair.server.put_key("m", EVERYTHING, EVERYTHING, WallMs(u64::MAX));
            pair.connect_with(TOKEN, CARS);
            pair.probe();
            pair.server.put_key("a", read, write, WallMs(u64::MAX));
            let is_over = !pair.server.closed.is_empty();
            assert_eq!(is_over, !change.starts_with("the same"), "{change} on thread {thread}");
        }
    }
}

#[test]
fn a_device_whose_key_changes_hears_why_and_nothing_that_waited() {
    let mut pair = Pair::new();
    pair.server.put_key("m", EVERYTHING, EVERYTHING, WallMs(u64::MAX));
    pair.connect_with(TOKEN, CARS);
    pair.probe();
    pair.server.put_key("a", "{}", "{}", WallMs(u64::MAX));
    let said = |(_, frame): &(SessionId, Bytes)| frame[0];
    assert_eq!(pair.server.frames.iter().map(said).collect::<Vec<_>>(), [0x90], "a goodbye alone");
    pair.exchange();
    let (_, reason) = pair.device.closed.pop().expect("the device has heard it");
    assert!(reason.contains("PermissionChanged"), "{reason}");
}

#[test]
fn a_key_that_expires_ends_its_sessions_at_that_moment_though_nobody_speaks() {
    for thread in [0, 1] {
        let mut pair = Pair::on_thread(thread);
        let expires = WallMs(pair.server.now.wall.0 + 10_000);
        pair.server.put_key("m", EVERYTHING, EVERYTHING, expires);
        pair.connect_with(TOKEN, CARS);
        pair.probe();
        let left_ms = expires.0 - pair.server.now.wall.0;
        let due = pair.server.racks[usize::from(thread)].poll_timeout().expect("a timer");
        let in_ms = due.since(pair.server.now.mono).as_millis();
        assert!(in_ms <= u128::from(left_ms), "the timer is due in {in_ms} of {left_ms} ms");
        pair.server.now.wall = WallMs(expires.0 - 1);
        pair.server.settle();
        assert_eq!(pair.server.closed, []);
        pair.server.now.wall = expires;
        pair.server.now.mono = pair.server.now.mono.max(due);
        pair.server.settle();
        assert_eq!(pair.server.closed.len(), 1, "thread {thread}");
    }
}

#[test]
fn what_an_expired_key_sends_is_not_taken() {
    let mut pair = Pair::new();
    let expires = WallMs(pair.server.now.wall.0 + 10_000);
    pair.server.put_key("m", EVERYTHING, EVERYTHING, expires);
    pair.connect_with(TOKEN, CARS);
    pair.probe();
    pair.device.local_rows("INSERT INTO cars DOCUMENTS ({'_id': 1})");
    pair.server.now.wall = expires;
    pair.exchange();
    assert_eq!(pair.server.rows("SELECT * FROM cars"), "[]");
}

#[test]
fn a_widened_key_brings_what_was_there_before() {
    let mut pair = Pair::new();
    pair.server.rows("INSERT INTO cars DOCUMENTS ({'_id': 1}), ({'_id': 2})");
    pair.server.put_key("m", &only("_id == 1"), "{}", WallMs(u64::MAX));
    pair.connect_with(TOKEN, CARS);
    pair.probe();
    assert_eq!(pair.device.local_rows("SELECT * FROM cars"), r#"[{"_id":1}]"#);
    pair.server.put_key("a", EVERYTHING, "{}", WallMs(u64::MAX));
    pair.reconnect();
    assert_eq!(pair.device.local_rows("SELECT * FROM cars"), r#"[{"_id":1},{"_id":2}]"#);
}

#[test]
fn a_key_that_may_write_again_brings_what_was_refused() {
    let mut pair = Pair::new();
    pair.server.put_key("m", EVERYTHING, "{}", WallMs(u64::MAX));
    pair.device.local_rows("INSERT INTO cars DOCUMENTS ({'_id': 1})");
    pair.connect_with(TOKEN, CARS);
    pair.exchange();
    assert_eq!(pair.server.rows("SELECT * FROM cars"), "[]");
    pair.server.put_key("a", EVERYTHING, EVERYTHING, WallMs(u64::MAX));
    pair.reconnect();
    assert_eq!(pair.server.rows("SELECT * FROM cars"), r#"[{"_id":1}]"#);
}

#[test]
fn a_narrowed_device_is_told_by_collection_and_keeps_what_it_has() {
    let mut pair = Pair::new();
    pair.server.rows("INSERT INTO cars DOCUMENTS ({'_id': 1}), ({'_id': 2})");
    pair.server.put_key("m", EVERYTHING, EVERYTHING, WallMs(u64::MAX));
    pair.connect_with(TOKEN, CARS);
    pair.probe();
    assert_eq!(pair.restricted(), Vec::<Vec<Box<str>>>::new());
    pair.server.put_key("a", &only("_id == 1"), EVERYTHING, WallMs(u64::MAX));
    pair.device.reports.clear();
    pair.disconnect();
    pair.connect_with(TOKEN, CARS);
    assert_eq!(pair.restricted(), [[Box::from("cars")]], "before it asks whether it is synced");
    pair.probe();
    pair.server.rows("UPDATE cars SET n = 7");
    pair.probe();
    let kept = r#"[{"_id":1,"n":7},{"_id":2}]"#;
    assert_eq!(pair.device.local_rows("SELECT * FROM cars"), kept);
    // At every session, until it has nothing of the kind any more.
    pair.device.reports.clear();
    pair.disconnect();
    pair.connect_with(TOKEN, CARS);
    assert_eq!(pair.restricted(), [[Box::from("cars")]]);
    pair.probe();
    pair.device.local_rows("EVICT FROM cars WHERE _id = 2");
    pair.exchange();
    pair.device.reports.clear();
    pair.disconnect();
    pair.connect_with(TOKEN, CARS);
    assert_eq!(pair.restricted(), Vec::<Vec<Box<str>>>::new());
}

#[test]
fn a_subscription_to_what_may_not_be_read_at_all_is_told_and_one_to_a_part_is_not() {
    let mut pair = Pair::new();
    pair.server.rows("INSERT INTO cars DOCUMENTS ({'_id': 1}), ({'_id': 2})");
    pair.server.put_key("m", &only("_id == 1"), EVERYTHING, WallMs(u64::MAX));
    // Its own document outside of what it may read came from nobody else.
    pair.device.local_rows("INSERT INTO cars DOCUMENTS ({'_id': 3})");
    pair.connect_with(TOKEN, &["SELECT * FROM cars"]);
    pair.probe();
    assert_eq!(pair.restricted(), Vec::<Vec<Box<str>>>::new());
    pair.disconnect();
    pair.device.reports.clear();
    pair.connect_with(TOKEN, &["SELECT * FROM cars", "SELECT * FROM tills"]);
    assert_eq!(pair.restricted(), [[Box::from("tills")]]);
    // It is told as well when it does not ask for that any more.
    let cars = vec![("SELECT * FROM cars".into(), Object::default())];
    pair.device.session(pair.session, SessionInput::Subscribe(cars));
    pair.exchange();
    assert_eq!(pair.restricted(), [vec![Box::from("tills")], Vec::new()]);
}

/// Permissions that no session could say.
fn endless() -> String {
    let queries: Vec<String> = (0..20_000).map(|n| format!(r#""_id == {n}""#)).collect();
    format!(r#"{{"queriesByCollection":{{"cars":[{}]}}}}"#, queries.join(","))
}

#[test]
fn a_key_of_which_a_session_could_not_say_what_it_reads_is_not_made() {
    let mut server = Process::server(&Options::default());
    for (read, write) in [(endless(), "{}".into()), ("{}".into(), endless())] {
        let key = Process::key_of("m", &read, &write, WallMs(u64::MAX));
        let request = server.submit(0, Request::Catalog(vec![CatalogOp::PutKey { app: APP, key }]));
        server.settle();
        let error = server.answer(request).1.error.expect("it is too large");
        assert_eq!(error.kind, ErrorKind::Invalid);
        assert!(error.message.contains("at most 262144"), "{}", error.message);
    }
}

#[test]
fn a_key_of_which_a_session_cannot_say_what_it_reads_opens_none() {
    let mut pair = Pair::new();
    let key = Process::key_of("m", &endless(), "{}", WallMs(u64::MAX));
    pair.server.log_ops(vec![Op::System(CatalogOp::PutKey { app: APP, key }.encode())]);
    pair.open(TOKEN, CARS);
    let (_, reason) = pair.server.closed.pop().expect("the session is refused");
    assert!(reason.contains("make the key anew"), "{reason}");
}
