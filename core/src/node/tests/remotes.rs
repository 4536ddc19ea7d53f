//! What a process keeps about remotes, and the one session that each of them has.

use super::sync::Pair;
use super::*;
use crate::ident::{Actor, LogId};
use crate::sync::wire::{self, Frame};
use crate::sync::{Hello, Nonce, Role};

const CARS: &[&str] = &["SELECT * FROM cars"];

/// A server of two threads, and devices that are clones of each other: each with a session of its own.
struct Clones {
    server: Process,
    devices: [Process; 2],
    session_last: u64,
    /// Of each device that is connected: the session, and the server's thread that accepted it.
    sessions: [Option<(SessionId, u16)>; 2],
}

impl Clones {
    /// Both devices were one when it last met the server.
    fn new() -> Self {
        let mut pair = Pair::new();
        pair.connect(CARS);
        pair.device.local_rows("INSERT INTO cars DOCUMENTS ({'_id': 'before'})");
        pair.probe();
        pair.disconnect();
        let disk = pair.device.disk.clone();
        let open = |boot| {
            let options =
                Options { seed: 7, device: true, partitions: 1, boot, ..Options::default() };
            Process::on_disk(&options, disk.clone())
        };
        let devices = [open(2), open(3)];
        Self { server: pair.server, devices, session_last: 100, sessions: [None; 2] }
    }

    fn connect(&mut self, device: usize, thread: u16) {
        self.session_last += 1;
        let id = SessionId(self.session_last);
        self.sessions[device] = Some((id, thread));
        let bearer = Credential::Bearer(Some("dev".into()));
        let open = |credential| SessionInput::Open(SessionOpen { app: APP, credential });
        self.server.session_on(thread, id, open(bearer));
        let queries = vec![(CARS[0].into(), Object::default())];
        self.devices[device].session_on(0, id, SessionInput::Subscribe(queries));
        self.devices[device].session_on(0, id, open(Credential::Local));
        self.exchange();
    }

    fn exchange(&mut self) {
        loop {
            let mut is_quiet = true;
            self.server.settle();
            while let Some((id, frame)) = self.server.frames.pop_front() {
                is_quiet = false;
                let to = self.sessions.iter().position(|at| at.is_some_and(|(at, _)| at == id));
                if let Some(device) = to {
                    self.devices[device].session_on(0, id, SessionInput::Frame(frame));
                }
            }
            for (device, at) in self.devices.iter_mut().zip(self.sessions) {
                device.settle();
                while let Some((id, frame)) = device.frames.pop_front() {
                    is_quiet = false;
                    if let Some((_, thread)) = at.filter(|(at, _)| *at == id) {
                        self.server.session_on(thread, id, SessionInput::Frame(frame));
                    }
                }
            }
            if is_quiet {
                return;
            }
        }
    }

    fn is_replaced(&self, device: usize) -> bool {
        self.devices[device].reports.iter().any(|(_, report)| *report == SessionReport::Replaced)
    }
}

#[test]
fn two_live_clones_on_different_threads_have_one_session_and_are_found() {
    for (first, second) in [(0, 1), (1, 0), (0, 0), (1, 1)] {
        let mut clones = Clones::new();
        clones.connect(0, first);
        assert!(!clones.is_replaced(0));
        clones.connect(1, second);
        assert!(clones.is_replaced(0), "threads {first} and {second}");
        assert!(!clones.is_replaced(1), "threads {first} and {second}");
        clones.devices[0].local_rows("INSERT INTO cars DOCUMENTS ({'_id': 'one'})");
        clones.devices[1].local_rows("INSERT INTO cars DOCUMENTS ({'_id': 'two'})");
        clones.exchange();
        clones.connect(0, first);
        assert!(clones.is_replaced(1));
        clones.connect(1, second);
        let all = r#"[{"_id":"one"},{"_id":"two"},{"_id":"before"}]"#;
        assert_eq!(clones.server.rows("SELECT * FROM cars"), all);
        assert_eq!(clones.devices[1].local_rows("SELECT * FROM cars"), all);
        clones.server.check();
    }
}

#[test]
fn a_session_begins_with_all_that_its_predecessor_appended() {
    let mut clones = Clones::new();
    clones.connect(0, 1);
    // The record of an update is on its way while the newer session comes.
    clones.devices[0].local_rows("INSERT INTO cars DOCUMENTS ({'_id': 'one'})");
    clones.connect(0, 0);
    clones.connect(0, 1);
    let session = clones.sessions[0].expect("it is connected").0;
    clones.devices[0].session_on(0, session, SessionInput::Probe);
    clones.exchange();
    let is_synced = |(at, report): &(SessionId, SessionReport)| {
        *at == session && *report == SessionReport::Synced
    };
    assert!(clones.devices[0].reports.iter().any(is_synced));
    let all = r#"[{"_id":"one"},{"_id":"before"}]"#;
    assert_eq!(clones.server.rows("SELECT * FROM cars"), all);
}

impl Process {
    /// Carries everything on until a record is handed to the log, which does not say yet that it has it.
    fn run_until_appended(&mut self) {
        let appended = self.appended.len();
        while self.appended.len() == appended {
            while let Some(output) = self.racks[0].poll_output() {
                self.on_rack(0, output);
            }
            self.now.mono.ns += 1_000;
            let input = self.mail.pop_front().map_or(RackInput::Time, |(_, input)| input);
            self.racks[0].handle_input(input, self.now);
        }
    }
}

#[test]
fn a_session_that_ends_before_its_record_is_durable_makes_way_for_the_next() {
    let mut pair = Pair::with_server(&Options::default());
    pair.connect(CARS);
    pair.probe();
    pair.device.local_rows("INSERT INTO cars DOCUMENTS ({'_id': 1})");
    pair.device.settle();
    let session = pair.session;
    while let Some((_, frame)) = pair.device.frames.pop_front() {
        let input = RackInput::Session { session, input: SessionInput::Frame(frame) };
        pair.server.racks[0].handle_input(input, pair.server.now);
    }
    pair.server.run_until_appended();
    let closed = RackInput::Session { session, input: SessionInput::Closed };
    pair.server.racks[0].handle_input(closed, pair.server.now);
    pair.server.settle();
    pair.disconnect();
    pair.connect(CARS);
    pair.probe();
    assert_eq!(pair.server.rows("SELECT * FROM cars"), r#"[{"_id":1}]"#);
}

impl Process {
    fn remote_count(&self) -> usize {
        let nodes = self.racks.iter().flat_map(Rack::nodes);
        nodes.map(Node::remote_count).sum()
    }
}

#[test]
fn invented_peer_keys_leave_nothing_durable() {
    let options = Options { threads: 2, partitions: 4, ..Options::default() };
    let mut server = Process::server(&options);
    let appended = server.appended.len();
    for n in 0..100_u8 {
        let (id, peer) = (SessionId(u64::from(n)), PeerKey([n + 100; 32]));
        let thread = u16::from(n) % 2;
        let credential = Credential::Bearer(Some("dev".into()));
        let open = SessionInput::Open(SessionOpen { app: APP, credential });
        server.session_on(thread, id, open);
        let greeting = [b"BPG1".as_slice(), &peer.0].concat();
        server.session_on(thread, id, SessionInput::Frame(greeting.into()));
        let hello = Hello {
            proto_min: 1,
            proto_max: 1,
            features: 0,
            app: APP,
            role: Role::Device,
            peer_key: peer,
            log: LogId(Uuid([n; 16])),
            store: StoreId(Uuid([n; 16])),
            boot: BootId(Uuid([n; 16])),
            actor: Actor::new(peer.site(), 1, 0),
            nonce: Nonce(7),
            kept: None,
            hlc: Hlc(1),
            tombstone_ttl_hours: 1,
            digest_version: 1,
            id_version: 1,
            device_name: String::new(),
        };
        let frame = wire::encode(&Frame::Hello(Box::new(hello)));
        server.session_on(thread, id, SessionInput::Frame(frame));
        let said_hello = server.frames.iter().any(|(at, frame)| *at == id && frame[0] == 0x81);
        assert!(said_hello, "{:?}", server.closed);
        server.session_on(thread, id, SessionInput::Closed);
    }
    assert_eq!(server.appended.len(), appended);
    assert_eq!(server.remote_count(), 0);
}

#[test]
fn the_first_nonces_are_written_with_the_first_update_and_kept_in_one_place() {
    let mut pair = Pair::new();
    pair.connect(CARS);
    pair.device.local_rows("INSERT INTO cars DOCUMENTS ({'_id': 1})");
    pair.probe();
    assert_eq!(pair.server.remote_count(), 1);
    // Both know each other again, over a restart of the device as well.
    pair.disconnect();
    pair.connect(CARS);
    pair.probe();
    assert_eq!(pair.server.remote_count(), 1);
    assert_eq!(pair.device.remote_count(), 1);
}

#[test]
fn an_update_writes_what_it_changes_and_not_what_is_owed() {
    let mut pair = Pair::new();
    pair.server.put_key("m", r#"{"everything":true}"#, "{}", WallMs(u64::MAX));
    pair.connect_with(credentials::TOKEN, CARS);
    let documents: Vec<String> = (0..1_000).map(|n| format!("({{'_id': 'own {n}'}})")).collect();
    let bytes_of_an_update = |pair: &mut Pair, id: u64| {
        pair.exchange();
        let before = pair.device.appended.len();
        pair.server.rows(&format!("INSERT INTO cars DOCUMENTS ({{'_id': {id}}})"));
        pair.exchange();
        pair.device.appended[before..].iter().map(Bytes::len).sum::<usize>()
    };
    bytes_of_an_update(&mut pair, 101);
    let without = bytes_of_an_update(&mut pair, 102);
    pair.device.local_rows(&format!("INSERT INTO cars DOCUMENTS {}", documents.join(", ")));
    pair.exchange();
    let count = |(_, report): &(SessionId, SessionReport)| match report {
        SessionReport::Rejected { count, .. } => *count,
        _ => 0,
    };
    let refused: u64 = pair.device.reports.iter().map(count).sum();
    assert_eq!(refused, 1_000, "documents were refused");
    let with = bytes_of_an_update(&mut pair, 103);
    assert!(with <= without + 16, "{without} bytes with nothing owed, {with} with 1,000 documents");
}

/// A device whose directory was lost, another one that began anew under its peer key, and the directory found again.
#[test]
fn a_store_that_comes_back_gets_what_another_wrote_under_its_key() {
    for is_interrupted in [false, true] {
        let mut pair = Pair::new();
        pair.connect(&["SELECT * FROM cars"]);
        pair.device.local_rows("INSERT INTO cars DOCUMENTS ({'_id': 1, 'n': 1})");
        pair.probe();
        pair.disconnect();
        let fresh = Options {
            partitions: 1,
            seed: 7,
            device: true,
            boot: 9,
            store: Some(99),
            ..Options::default()
        };
        let lost = std::mem::replace(&mut pair.device, Process::new(&fresh));
        pair.connect(&["SELECT * FROM cars"]);
        pair.device.local_rows("INSERT INTO cars DOCUMENTS ({'_id': 2})");
        pair.device.local_rows("UPDATE cars SET n = 2 WHERE _id = 1");
        pair.probe();
        pair.disconnect();
        pair.device = lost;
        if is_interrupted {
            // The server has written who it is, and has sent nothing yet.
            pair.open("dev", &["SELECT * FROM cars"]);
            pair.exchange_until(|frame| frame[0] == 0x83);
            pair.disconnect();
        }
        pair.connect(&["SELECT * FROM cars"]);
        pair.probe();
        let rows = pair.server.rows("SELECT * FROM cars ORDER BY _id");
        assert_eq!(rows, r#"[{"_id":1,"n":2},{"_id":2}]"#);
        assert_eq!(
            pair.device.local_rows("SELECT * FROM cars ORDER BY _id"),
            rows,
            "{is_interrupted}"
        );
    }
}
