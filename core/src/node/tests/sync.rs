use super::*;
use crate::node::sync_watch::Wish;
use crate::value::canonical::encode_id;

const SESSION: SessionId = SessionId(1);

/// A server and a device with a connection between them that delivers whatever is sent.
pub(super) struct Pair {
    pub(super) server: Process,
    pub(super) device: Process,
    connections: u64,
    pub(super) session: SessionId,
    /// The server's thread that accepts connections.
    pub(super) thread: u16,
    /// Frames that carry documents, and their bytes: from the server, from the device.
    pub(super) chunks: [(usize, usize); 2],
}

impl Pair {
    pub(super) fn new() -> Self {
        Self::with_server(&Options { threads: 2, partitions: 4, ..Options::default() })
    }

    pub(super) fn with_server(options: &Options) -> Self {
        Self::of(options, Options { partitions: 1, ..Options::default() })
    }

    pub(super) fn of(server: &Options, device: Options) -> Self {
        let server = Process::server(server);
        let device = Process::new(&Options { seed: 7, device: true, ..device });
        let chunks = [(0, 0); 2];
        Self { server, device, connections: 0, session: SESSION, thread: 0, chunks }
    }

    pub(super) fn connect(&mut self, subscriptions: &[&str]) {
        self.connect_with("dev", subscriptions);
    }

    pub(super) fn connect_with(&mut self, credential: &str, subscriptions: &[&str]) {
        self.open(credential, subscriptions);
        self.exchange();
    }

    /// Connects with this credential; nothing is delivered yet.
    pub(super) fn open(&mut self, credential: &str, subscriptions: &[&str]) {
        self.connections += 1;
        self.session = SessionId(self.connections);
        let subscribe =
            subscriptions.iter().map(|text| ((*text).into(), Object::default())).collect();
        let open =
            SessionOpen { app: APP, credential: Credential::Bearer(Some(credential.into())) };
        self.server.session_on(self.thread, self.session, SessionInput::Open(open));
        let open = SessionOpen { app: APP, credential: Credential::Local };
        self.device.session(self.session, SessionInput::Subscribe(subscribe));
        self.device.session(self.session, SessionInput::Open(open));
    }

    pub(super) fn disconnect(&mut self) {
        self.server.session_on(self.thread, self.session, SessionInput::Closed);
        self.device.session(self.session, SessionInput::Closed);
        self.server.frames.clear();
        self.device.frames.clear();
    }

    /// Delivers frames until both sides have no more.
    pub(super) fn exchange(&mut self) {
        self.exchange_until(|_| false);
    }

    /// Delivers frames until both sides have no more, or the server is about to say this.
    pub(super) fn exchange_until(&mut self, is_awaited: impl Fn(&[u8]) -> bool) {
        loop {
            self.server.settle();
            self.device.settle();
            let is_next = self.server.frames.front().is_some_and(|(_, frame)| is_awaited(frame));
            if is_next || !self.step() {
                return;
            }
        }
    }

    /// Delivers the next frame of each side; false when there is none.
    pub(super) fn step(&mut self) -> bool {
        let (down, up) = (self.server.frames.pop_front(), self.device.frames.pop_front());
        if down.is_none() && up.is_none() {
            return false;
        }
        for (chunks, frame) in self.chunks.iter_mut().zip([&down, &up]) {
            if let Some((_, frame)) = frame.as_ref().filter(|(_, frame)| frame[0] == 0x88) {
                *chunks = (chunks.0 + 1, chunks.1 + frame.len());
            }
        }
        if let Some((session, frame)) = down {
            self.device.session(session, SessionInput::Frame(frame));
        }
        if let Some((session, frame)) = up {
            self.server.session_on(self.thread, session, SessionInput::Frame(frame));
        }
        true
    }

    pub(super) fn probe(&mut self) {
        self.device.reports.clear();
        self.device.session(self.session, SessionInput::Probe);
        self.exchange();
        let synced = self.device.reports.iter().any(|(_, report)| *report == SessionReport::Synced);
        assert!(synced, "both sides agree: {:?} {:?}", self.device.closed, self.server.closed);
        self.server.check();
        self.device.check();
    }
}

impl Process {
    pub(super) fn session(&mut self, session: SessionId, input: SessionInput) {
        self.session_on(0, session, input);
    }

    pub(super) fn session_on(&mut self, thread: u16, session: SessionId, input: SessionInput) {
        self.now.mono.ns += 1_000;
        self.now.wall.0 += 1;
        self.racks[usize::from(thread)]
            .handle_input(RackInput::Session { session, input }, self.now);
        self.settle();
    }

    pub(super) fn local_rows(&mut self, text: &str) -> String {
        let (rows, outcome) = self.local(text, "{}");
        assert_eq!(outcome.error, None, "{text}");
        to_text(&rows)
    }
}

#[test]
fn a_device_gets_what_it_subscribes_to_and_sends_what_it_wrote() {
    let mut pair = Pair::new();
    pair.server
        .rows("INSERT INTO cars DOCUMENTS ({'_id': 1, 'o': 'Japan'}), ({'_id': 2, 'o': 'USA'})");
    pair.device.local_rows("INSERT INTO cars DOCUMENTS ({'_id': 3, 'o': 'Japan'})");
    pair.connect(&["SELECT * FROM cars WHERE o = 'Japan'"]);
    pair.probe();
    let japan = r#"[{"_id":1,"o":"Japan"},{"_id":3,"o":"Japan"}]"#;
    assert_eq!(pair.device.local_rows("SELECT * FROM cars"), japan);
    assert_eq!(pair.server.rows("SELECT * FROM cars WHERE o = 'Japan'"), japan);

    pair.server.rows("UPDATE cars SET color = 'red' WHERE _id = 3");
    pair.device.local_rows("UPDATE cars APPLY km INCREMENT BY 4 WHERE _id = 1");
    pair.probe();
    assert_eq!(
        pair.device.local_rows("SELECT * FROM cars WHERE _id = 3"),
        r#"[{"_id":3,"color":"red","o":"Japan"}]"#
    );
    assert_eq!(pair.server.rows("SELECT km FROM cars WHERE _id = 1"), r#"[{"km":4}]"#);
}

#[test]
fn a_session_that_ends_leaves_nothing_that_waits_for_a_touch() {
    let mut pair = Pair::new();
    let waiting = |server: &Process| -> usize {
        server.racks.iter().flat_map(Rack::nodes).map(|node| node.sync.stirs.len()).sum()
    };
    for _ in 0..3 {
        // The app is idle: no touch would clear what is left over.
        pair.connect(&["SELECT * FROM cars WHERE o = 'Japan'"]);
        pair.probe();
        assert_eq!(waiting(&pair.server), 4, "each partition tells the one session");
        pair.disconnect();
        assert_eq!(waiting(&pair.server), 0);
    }
}

#[test]
fn at_rest_no_node_has_to_hear_of_a_commit_that_does_not_concern_it() {
    let mut pair = Pair::new();
    pair.server.rows("INSERT INTO cars DOCUMENTS ({'_id': 1}), ({'_id': 2})");
    pair.connect(&["SELECT * FROM cars"]);
    pair.probe();
    for node in pair.server.racks.iter().chain(&pair.device.racks).flat_map(Rack::nodes) {
        assert!(node.appends.is_settled() && node.sync.is_settled() && !node.tasks.is_behind());
    }
}

#[test]
fn both_sides_agree_after_a_time_without_connection() {
    let mut pair = Pair::new();
    for id in 0..20 {
        pair.server.rows(&format!("INSERT INTO cars DOCUMENTS ({{'_id': {id}, 'n': {id}}})"));
    }
    let subscription = ["SELECT * FROM cars WHERE n < 100"];
    pair.connect(&subscription);
    pair.probe();
    pair.disconnect();
    pair.device.local_rows("UPDATE cars SET writer = 'device' WHERE n < 5");
    pair.device.local_rows("DELETE FROM cars WHERE n = 7");
    pair.device.local_rows("INSERT INTO cars DOCUMENTS ({'_id': 'new', 'n': 50})");
    pair.device.local_rows("UPDATE cars APPLY hits INCREMENT BY 2 WHERE n = 1");
    pair.server.rows("UPDATE cars SET seen = 'server' WHERE n < 8");
    pair.server.rows("UPDATE cars APPLY hits INCREMENT BY 3 WHERE n = 1");
    pair.server.rows("DELETE FROM cars WHERE n = 9");
    pair.server.rows("UPDATE cars SET n = 1000 WHERE n = 19");
    pair.connect(&subscription);
    pair.probe();
    let all = "SELECT * FROM cars WHERE n < 100 ORDER BY n";
    assert_eq!(pair.device.local_rows(all), pair.server.rows(all).replace(r#","n":1000"#, ""));
    assert_eq!(pair.server.rows("SELECT hits, seen, writer FROM cars WHERE n = 1"), {
        r#"[{"hits":5,"seen":"server","writer":"device"}]"#
    });
    assert_eq!(pair.server.rows("SELECT * FROM cars WHERE _id = 9"), "[]");
    // Deleted here, updated there meanwhile: the update survives, and nothing else of the document.
    let husk = r#"[{"_id":7,"seen":"server"}]"#;
    assert_eq!(pair.server.rows("SELECT * FROM cars WHERE _id = 7"), husk);
}

#[test]
fn a_device_evicts_only_what_a_server_has_and_gets_again_what_still_matches() {
    let mut pair = Pair::new();
    pair.server.rows("INSERT INTO cars DOCUMENTS ({'_id': 1, 'n': 1}), ({'_id': 2, 'n': 2})");
    pair.device.local_rows("INSERT INTO cars DOCUMENTS ({'_id': 3, 'n': 3})");
    let (_, refused) = pair.device.local("EVICT FROM cars WHERE _id = 3", "{}");
    assert_eq!(refused.error.expect("no server has it").kind, ErrorKind::Conflict);
    pair.connect(&["SELECT * FROM cars WHERE n < 2"]);
    pair.probe();
    pair.device.local_rows("EVICT FROM cars WHERE n <= 3");
    pair.exchange();
    pair.probe();
    assert_eq!(pair.device.local_rows("SELECT * FROM cars"), r#"[{"_id":1,"n":1}]"#);
    assert_eq!(pair.server.rows("SELECT COUNT(*) AS n FROM cars"), r#"[{"n":3}]"#);
}

#[test]
fn a_server_answers_evicted_until_the_device_writes_something_newer() {
    let mut pair = Pair::new();
    pair.server.rows("INSERT INTO cars DOCUMENTS ({'_id': 1, 'n': 1})");
    pair.connect(&["SELECT * FROM cars WHERE true"]);
    pair.probe();
    pair.disconnect();
    pair.server.rows("EVICT FROM cars WHERE _id = 1");
    pair.connect(&["SELECT * FROM cars WHERE n > 0"]);
    pair.probe();
    assert_eq!(pair.server.rows("SELECT * FROM cars"), "[]");
    assert_eq!(pair.device.local_rows("SELECT * FROM cars"), r#"[{"_id":1,"n":1}]"#);
    pair.device.local_rows("UPDATE cars SET n = 2 WHERE _id = 1");
    pair.probe();
    assert_eq!(pair.server.rows("SELECT * FROM cars"), r#"[{"_id":1,"n":2}]"#);
}

#[test]
fn a_revoked_token_ends_the_session() {
    let mut pair = Pair::new();
    pair.connect(&["SELECT * FROM cars"]);
    pair.probe();
    let request = pair.server.submit(0, Request::Catalog(vec![CatalogOp::DeleteApp { app: APP }]));
    pair.server.settle();
    assert_eq!(pair.server.answer(request).1.error, None);
    assert!(!pair.server.closed.is_empty());
}

#[test]
fn a_clock_that_a_remote_claims_does_not_move_ours() {
    let mut pair = Pair::new();
    let open = SessionOpen { app: APP, credential: Credential::Bearer(Some("dev".into())) };
    pair.server.session(SESSION, SessionInput::Open(open));
    let open = SessionOpen { app: APP, credential: Credential::Local };
    pair.device.session(SESSION, SessionInput::Open(open));
    for _greeting_and_hello in 0..2 {
        if let Some((_, frame)) = pair.server.frames.pop_front() {
            pair.device.session(SESSION, SessionInput::Frame(frame));
        }
        let (_, frame) = pair.device.frames.pop_front().expect("the device introduces itself");
        pair.server.session(SESSION, SessionInput::Frame(frame));
    }
    let claimed = [0x82, 1, 0xA5, 0, 1, 1, 0x80, 2, 0, 3, 0, 7, 0x1B];
    let subs = [&claimed[..], &[0xFF; 8]].concat();
    pair.server.session(SESSION, SessionInput::Frame(subs.into()));
    pair.server.rows("INSERT INTO cars DOCUMENTS ({'_id': 1})");
    assert_eq!(pair.server.rows("SELECT * FROM cars"), r#"[{"_id":1}]"#);
}

#[test]
fn a_document_that_a_device_may_not_write_is_refused_with_a_reason() {
    let mut pair = Pair::new();
    let key = "restricted-key";
    let text = r#"{"read":{"everything":true},"write":{"queriesByCollection":{"cars":["_id == 'mine'"]}}}"#;
    let permissions = json::parse(text.as_bytes(), json::Limits::default()).expect("it is JSON");
    let key = ApiKey {
        name: "r".into(),
        description: None,
        prefix: key_prefix(key).into(),
        hash: hash(key),
        expires: WallMs(u64::MAX),
        permissions: Arc::new(Permissions::from_value(&permissions).expect("they can be used")),
    };
    let request =
        pair.server.submit(0, Request::Catalog(vec![CatalogOp::PutKey { app: APP, key }]));
    pair.server.settle();
    assert_eq!(pair.server.answer(request).1.error, None);
    pair.device.local_rows("INSERT INTO cars DOCUMENTS ({'_id': 'mine'}), ({'_id': 'yours'})");
    let open =
        SessionOpen { app: APP, credential: Credential::Bearer(Some("restricted-key".into())) };
    pair.server.session(SESSION, SessionInput::Open(open));
    let open = SessionOpen { app: APP, credential: Credential::Local };
    pair.device.session(SESSION, SessionInput::Open(open));
    pair.exchange();
    assert_eq!(pair.server.rows("SELECT * FROM cars"), r#"[{"_id":"mine"}]"#);
    let refused = |(_, report): &(SessionId, SessionReport)| match report {
        SessionReport::Rejected { listed, count: 1 } => listed[0].id == Value::from("yours"),
        _ => false,
    };
    assert!(pair.device.reports.iter().any(refused), "{:?}", pair.device.reports);
    assert_eq!(pair.device.local_rows("SELECT COUNT(*) AS n FROM cars"), r#"[{"n":2}]"#);
}

#[test]
fn a_device_hears_what_its_own_document_was_merged_with() {
    let mut pair = Pair::new();
    pair.connect(&["SELECT * FROM cars WHERE o = 'Japan'"]);
    pair.server.now.wall.0 += 60_000;
    pair.server.rows("INSERT INTO cars DOCUMENTS ({'_id': 1, 'o': 'USA'})");
    pair.probe();
    // The device never held the document of the server, whose cursor has passed it, and makes the same one.
    pair.device.local_rows("INSERT INTO cars DOCUMENTS ({'_id': 1, 'o': 'Japan', 'km': 5})");
    pair.probe();
    pair.probe();
    let merged = r#"[{"_id":1,"km":5,"o":"USA"}]"#;
    assert_eq!(pair.server.rows("SELECT * FROM cars"), merged);
    assert_eq!(pair.device.local_rows("SELECT * FROM cars"), merged);
}

#[test]
fn what_leaves_is_judged_by_the_newest_subscriptions() {
    let mut pair = Pair::new();
    pair.server
        .rows("INSERT INTO cars DOCUMENTS ({'_id': 1, 'o': 'USA'}), ({'_id': 2, 'o': 'Japan'})");
    pair.connect(&["SELECT * FROM cars WHERE o = 'Japan'"]);
    pair.probe();
    let usa = vec![("SELECT * FROM cars WHERE o = 'USA'".into(), Object::default())];
    let session = pair.session;
    pair.device.session(session, SessionInput::Subscribe(usa));
    pair.probe();
    pair.server.rows("UPDATE cars SET o = 'Cuba'");
    pair.probe();
    // The document that matched the former subscription may stay as it was; the other may not.
    assert_eq!(
        pair.device.local_rows("SELECT * FROM cars WHERE _id = 1"),
        r#"[{"_id":1,"o":"Cuba"}]"#
    );
}

#[test]
fn a_probe_is_answered_when_its_position_became_durable_while_a_group_was_read() {
    let mut pair = Pair::new();
    pair.connect(&["SELECT * FROM cars"]);
    pair.probe();
    // Documents of the first partition: to write them takes no message to the other thread.
    let node = &pair.server.racks[0].nodes()[0];
    let id = |n: &i64| encode_id(&Value::from(*n)).expect("an integer is an id");
    let mut near = (0_i64..).filter(|n| node.owner(APP, "other", &id(n)) == PartitionId(0));
    let (one, two) = (near.next().expect("there are many"), near.next().expect("there are many"));
    // The first write opens a group, which waits for its part from the other thread.
    pair.server.slow_thread = Some(1);
    pair.server.rows(&format!("INSERT INTO other DOCUMENTS ({{'_id': {one}}})"));
    pair.server.rows(&format!("INSERT INTO other DOCUMENTS ({{'_id': {two}}})"));
    let session = pair.session;
    pair.device.reports.clear();
    pair.device.session(session, SessionInput::Probe);
    pair.exchange();
    assert!(pair.device.reports.is_empty(), "the other thread has not spoken");
    pair.server.slow_thread = None;
    pair.server.mail.append(&mut pair.server.held);
    pair.exchange();
    let reports: Vec<_> = pair.device.reports.iter().map(|(_, report)| report.clone()).collect();
    assert_eq!(reports, [SessionReport::Synced]);
}

#[test]
fn a_watch_goes_on_to_a_position_that_another_thread_has_seen_and_its_own_has_not() {
    let mut pair = Pair::with_server(&Options { threads: 1, partitions: 1, ..Options::default() });
    pair.connect(&["SELECT * FROM cars"]);
    pair.probe();
    let now = pair.server.now;
    let node = &mut pair.server.racks[0].nodes[0];
    let watch = *node.sync.sessions[&pair.session].watches.keys().next().expect("it is live");
    // The wish came with a message that knew of the next position; every answer comes with what is known here.
    let (after, until) = (now.durable, Some(now.durable.next()));
    let wish = Wish { after, until, credit_bytes: usize::MAX };
    node.watch_more(pair.session, watch, wish, Arc::default(), now);
    let rack = &mut pair.server.racks[0];
    rack.step(0, Input::Timers, now);
    rack.handle_input(RackInput::Time, now);
    pair.exchange();
    pair.server.rows("INSERT INTO cars DOCUMENTS ({'_id': 1})");
    pair.exchange();
    assert_eq!(pair.device.local_rows("SELECT * FROM cars"), r#"[{"_id":1}]"#);
    pair.probe();
}
