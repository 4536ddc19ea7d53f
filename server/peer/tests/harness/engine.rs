//! The engine of a server on a virtual disk.

use std::collections::BTreeMap;
use std::sync::Arc;

use bigpeer_core::auth::{ApiKey, CatalogOp, Permissions, hash, key_prefix};
use bigpeer_core::disk_sim::VirtualDisk;
use bigpeer_core::ident::{AppId, BootId, PartitionId, PeerKey, StoreId, Txn, Uuid};
use bigpeer_core::log::{LogConfig, LogOpened};
use bigpeer_core::node::{
    Credential, Execute, Journal, JournalOutput, NodeConfig, NodeLimits, ObjectMode, Outcome, Rack,
    RackConfig, RackInput, RackOutput, Reply, Request, RequestId, SessionId, SessionInput,
    SyncIdentity,
};
use bigpeer_core::seam::Now;
use bigpeer_core::sync::{BootRow, BootTable};
use bigpeer_core::time::{Instant, WallMs};
use bigpeer_core::value::json;
use bigpeer_peer::Object;
use bytes::Bytes;

pub(crate) const APP: AppId = AppId(Uuid([0xA0; 16]));
pub(crate) const TOKEN: &str = "dev";

/// Reads everything, and writes boats.
pub(crate) const BOATS_KEY: &str = "abcdefghij-boats";

const SEED: [u8; 32] = [1; 32];

pub(crate) struct ServerEngine {
    journal: Journal,
    rack: Option<Rack>,
    disk: VirtualDisk,
    origin: std::time::Instant,
    now: Now,
    request_next: u64,
    answers: BTreeMap<RequestId, (Vec<u8>, Option<Outcome>)>,
    pub(crate) frames: Vec<(SessionId, Bytes)>,
    pub(crate) closed: Vec<SessionId>,
}

impl ServerEngine {
    pub(crate) fn new() -> Self {
        let now = Now { wall: wall(), ..Now::default() };
        let config = LogConfig { segment_bytes: 1 << 20, ..LogConfig::new(BOOT, SEED) };
        let mut engine = Self {
            journal: Journal::open(config, 1, now),
            rack: None,
            disk: VirtualDisk::new(&SEED),
            origin: std::time::Instant::now(),
            now,
            request_next: 0,
            answers: BTreeMap::new(),
            frames: Vec::new(),
            closed: Vec::new(),
        };
        while engine.rack.is_none() {
            engine.settle();
        }
        let development_token = Some(hash(TOKEN));
        let put = CatalogOp::PutApp { app: APP, name: "shop".into(), development_token };
        engine.ask(Request::Catalog(vec![put]));
        engine.ask(Request::Catalog(vec![CatalogOp::PutKey { app: APP, key: boats_key() }]));
        engine
    }

    pub(crate) fn mono(&self) -> Instant {
        let ns = self.origin.elapsed().as_nanos();
        Instant { ns: u64::try_from(ns).expect("a test is short") }
    }

    pub(crate) fn session(&mut self, session: SessionId, input: SessionInput) {
        self.input(RackInput::Session { session, input });
        self.settle();
    }

    pub(crate) fn rows(&mut self, statement: &str) -> String {
        let execute = Execute {
            app: APP,
            credential: Credential::Local,
            statement: statement.into(),
            args: Object::new(),
            mode: ObjectMode::Map,
            min_txn: None,
            deadline: Instant { ns: u64::MAX },
        };
        format!("[{}]", self.ask(Request::Execute(execute)))
    }

    fn ask(&mut self, body: Request) -> String {
        self.request_next += 1;
        let request = RequestId(self.request_next);
        self.answers.insert(request, (Vec::new(), None));
        self.input(RackInput::Request { request, body });
        while self.answers[&request].1.is_none() {
            self.settle();
        }
        let (rows, outcome) = self.answers.remove(&request).expect("it was asked");
        assert_eq!(outcome.expect("it is answered").error, None);
        String::from_utf8(rows).expect("JSON is UTF-8")
    }

    fn input(&mut self, input: RackInput) {
        self.tick();
        if let Some(rack) = &mut self.rack {
            rack.handle_input(input, self.now);
        }
    }

    fn tick(&mut self) {
        self.now.mono = self.mono();
        self.now.wall = wall();
        let oldest = self.rack.as_ref().and_then(Rack::oldest_read);
        self.now.oldest_read = oldest.unwrap_or(self.now.durable);
    }

    /// Runs everything that is due.
    pub(crate) fn settle(&mut self) {
        loop {
            self.tick();
            if let Some(output) = self.journal.poll_output() {
                self.on_journal(output);
            } else if let Some(output) = self.rack.as_mut().and_then(Rack::poll_output) {
                self.on_rack(output);
            } else if let Some(done) = self.disk.step() {
                self.journal.handle_disk(done, self.now);
            } else if self.journal.poll_timeout().is_some_and(|at| at <= self.now.mono) {
                self.journal.handle_timeout(self.now);
            } else if self
                .rack
                .as_ref()
                .and_then(Rack::poll_timeout)
                .is_some_and(|at| at <= self.now.mono)
            {
                self.input(RackInput::Time);
            } else {
                return;
            }
        }
    }

    fn on_journal(&mut self, output: JournalOutput) {
        match output {
            JournalOutput::Disk(op, command) => self.disk.submit(op, command),
            JournalOutput::Opened(opened) => self.rack = Some(make_rack(&opened)),
            JournalOutput::Appended { from, ticket, result } => {
                self.input(RackInput::Appended { from, ticket, result });
            }
            JournalOutput::Committed { first, records, upto } => {
                self.now.durable = upto;
                self.input(RackInput::Committed { first, records, upto });
            }
            JournalOutput::Failed(error) => panic!("the log failed: {error}"),
            JournalOutput::Restore { partition, at, part } => {
                self.input(RackInput::Restore { partition, at, part });
            }
            JournalOutput::Snapshot { partition, ask } => {
                self.input(RackInput::Snapshot { partition, ask });
            }
            JournalOutput::Replayed
            | JournalOutput::Checkpoint(_)
            | JournalOutput::Sealed { .. } => {}
        }
    }

    fn on_rack(&mut self, output: RackOutput) {
        match output {
            RackOutput::Reply { request, reply: Reply::Rows(bytes) } => {
                let (rows, _) = self.answers.get_mut(&request).expect("it was asked");
                if !rows.is_empty() {
                    rows.push(b',');
                }
                rows.extend_from_slice(&bytes);
                self.input(RackInput::Drained { request, bytes: bytes.len() as u64 });
            }
            RackOutput::Reply { request, reply: Reply::Done(outcome) } => {
                self.answers.get_mut(&request).expect("it was asked").1 = Some(outcome);
            }
            RackOutput::Append(append) => self.journal.append(append, self.now),
            RackOutput::FetchBlock { partition, block } => {
                self.input(RackInput::BlockArrived { partition, block });
            }
            RackOutput::Frame { session, frame } => self.frames.push((session, frame)),
            RackOutput::CloseSession { session, .. } => self.closed.push(session),
            RackOutput::SessionReport { .. }
            | RackOutput::Changed { .. }
            | RackOutput::NewEpoch { .. } => {}
            RackOutput::Snapshot { partition, part } => {
                self.journal.snapshot_part(partition, part.as_ref(), self.now);
            }
            RackOutput::Message { .. } => panic!("there is one thread"),
            RackOutput::Damaged { txn, cause } => panic!("record {txn} is damaged: {cause}"),
        }
    }
}

fn boats_key() -> ApiKey {
    let text = br#"{"read":{"everything":true,"queriesByCollection":{}},
        "write":{"everything":false,"queriesByCollection":{"boats":["true"]}}}"#;
    let permissions = json::parse(text, json::Limits::default()).expect("it is JSON");
    ApiKey {
        name: "boats".into(),
        description: None,
        prefix: key_prefix(BOATS_KEY).into(),
        hash: hash(BOATS_KEY),
        expires: WallMs(u64::MAX),
        permissions: Arc::new(Permissions::from_value(&permissions).expect("they are permissions")),
    }
}

const BOOT: BootId = BootId(Uuid([1; 16]));

fn wall() -> WallMs {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    WallMs(
        u64::try_from(since.expect("it is past 1970").as_millis()).expect("it is before 584554051"),
    )
}

fn make_rack(opened: &LogOpened) -> Rack {
    let peer_key = PeerKey([0xEE; 32]);
    let rows = vec![BootRow { boot: BOOT, first: opened.boots.entries()[0].first, end: None }];
    let boots = BootTable { log: opened.log_id, rows, purge_floor: Txn(0) };
    let store = StoreId(Uuid([0xEE; 16]));
    let identity = SyncIdentity { store, boots, peer_key, name: "server".into() };
    let node = NodeConfig {
        partition: PartitionId(0),
        partitions: 1,
        boot: BOOT,
        site: peer_key.site(),
        epoch: 1 << 32,
        seed: SEED,
        pretend_cold: false,
        limits: NodeLimits::default(),
        identity: Arc::new(identity),
        is_device: false,
    };
    Rack::new(RackConfig { thread: 0, threads: 1, node, seed: SEED })
}
