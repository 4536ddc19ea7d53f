//! One process in memory: racks, a journal and a virtual disk, driven until quiet.

mod backlog;
mod bases;
mod catalog;
mod catalog_lists;
mod checkpoint;
mod cost;
mod credentials;
mod fairness;
mod flow;
mod folding;
mod full_disk;
mod identity;
mod judge;
mod owed;
mod permission;
mod refused;
mod remotes;
mod reserved;
mod review;
mod revoked;
mod statements;
mod sync;
mod turns;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::*;
use crate::auth::{ApiKey, Permissions, hash, key_prefix};
use crate::disk_sim::VirtualDisk;
use crate::ident::{PeerKey, StoreId, Uuid};
use crate::log::LogConfig;
use crate::sync::BootTable;
use crate::value::{Object, Value, json};

const APP: AppId = AppId(Uuid([0xA0; 16]));
const KEY: &str = "abcdefghij-secret";

/// A server or a device.
struct Process {
    racks: Vec<Rack>,
    journal: Journal,
    disk: VirtualDisk,
    now: Now,
    mail: VecDeque<(u16, RackInput)>,
    /// Messages to this thread are held back, in order.
    slow_thread: Option<u16>,
    held: VecDeque<(u16, RackInput)>,
    request_next: u64,
    replies: BTreeMap<RequestId, (Vec<u8>, Option<Outcome>)>,
    /// What sessions want sent, and what they report.
    frames: VecDeque<(SessionId, Bytes)>,
    closed: Vec<(SessionId, Box<str>)>,
    reports: Vec<(SessionId, SessionReport)>,
    checkpoints: Vec<CheckpointEvent>,
    /// Blocks that were not in memory.
    fetched: usize,
    /// Records that were handed to the log.
    appended: Vec<Bytes>,
    /// New epochs, each with the count of records that were handed to the log before.
    epochs: Vec<(u64, usize)>,
    /// The test lets the log fail.
    has_failing_log: bool,
    /// The client of this request takes nothing of its rows.
    silent: Option<RequestId>,
}

struct Options {
    threads: u16,
    partitions: u16,
    seed: u8,
    /// None for one of the seed.
    store: Option<u8>,
    cold: bool,
    device: bool,
    boot: u8,
    /// None for one of the boot alone.
    epoch: Option<u64>,
    segment_bytes: u64,
    retain_bytes: u64,
    checkpoint_after: u64,
    limits: NodeLimits,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            threads: 1,
            partitions: 4,
            seed: 1,
            store: None,
            cold: false,
            device: false,
            boot: 1,
            epoch: None,
            segment_bytes: 1 << 20,
            retain_bytes: 0,
            checkpoint_after: u64::MAX,
            limits: NodeLimits::default(),
        }
    }
}

impl Process {
    fn new(options: &Options) -> Self {
        let seed = [options.seed; 32];
        Self::on_disk(options, VirtualDisk::new(&seed))
    }

    fn on_disk(options: &Options, disk: VirtualDisk) -> Self {
        let mut seed = [options.seed; 32];
        seed[0] = options.boot;
        let boot = BootId(Uuid([options.boot; 16]));
        let now = Now { wall: WallMs(1_700_000_000_000), ..Now::default() };
        let config = LogConfig {
            segment_bytes: options.segment_bytes,
            retain_bytes: options.retain_bytes,
            ..LogConfig::new(boot, seed)
        };
        let mut journal = Journal::open(config, options.partitions, now);
        journal.set_checkpoint_after(options.checkpoint_after);
        let mut process = Self {
            racks: Vec::new(),
            journal,
            disk,
            now,
            mail: VecDeque::new(),
            slow_thread: None,
            held: VecDeque::new(),
            request_next: 0,
            replies: BTreeMap::new(),
            frames: VecDeque::new(),
            closed: Vec::new(),
            reports: Vec::new(),
            checkpoints: Vec::new(),
            fetched: 0,
            appended: Vec::new(),
            epochs: Vec::new(),
            has_failing_log: false,
            silent: None,
        };
        process.open(options, seed, boot);
        process
    }

    fn open(&mut self, options: &Options, seed: Seed, boot: BootId) {
        let mut held = Vec::new();
        let mut replayed = false;
        while !replayed {
            while let Some(output) = self.journal.poll_output() {
                match output {
                    JournalOutput::Opened(opened) => {
                        self.make_racks(options, seed, boot, &opened);
                    }
                    JournalOutput::Replayed => replayed = true,
                    output => held.push(output),
                }
                for output in std::mem::take(&mut held) {
                    self.on_journal(output);
                }
            }
            if !replayed {
                self.step_disk();
            }
        }
        self.settle();
    }

    fn make_racks(
        &mut self,
        options: &Options,
        seed: Seed,
        boot: BootId,
        opened: &crate::log::LogOpened,
    ) {
        let peer_key = PeerKey([options.seed; 32]);
        let boots = BootTable::new(opened.log_id, &opened.boots);
        let node = NodeConfig {
            partition: PartitionId(0),
            partitions: options.partitions,
            boot,
            site: peer_key.site(),
            epoch: options.epoch.unwrap_or(u64::from(options.boot) << 32),
            seed,
            pretend_cold: options.cold,
            limits: options.limits,
            identity: Arc::new(SyncIdentity {
                store: StoreId(Uuid([options.store.unwrap_or(options.seed); 16])),
                boots,
                peer_key,
                name: "test".into(),
            }),
            is_device: options.device,
        };
        for thread in 0..options.threads {
            let config = RackConfig { thread, threads: options.threads, node: node.clone(), seed };
            self.racks.push(Rack::new(config));
        }
    }

    fn on_journal(&mut self, output: JournalOutput) {
        match output {
            JournalOutput::Disk(op, command) => self.disk.submit(op, command),
            JournalOutput::Appended { from, ticket, result } => {
                let thread = from.0 % self.racks.len() as u16;
                self.mail.push_back((thread, RackInput::Appended { from, ticket, result }));
            }
            JournalOutput::Committed { first, records, upto } => {
                self.now.durable = upto;
                for thread in 0..self.racks.len() as u16 {
                    let records = records.clone();
                    self.mail.push_back((thread, RackInput::Committed { first, records, upto }));
                }
            }
            JournalOutput::Failed(error) => {
                assert!(self.has_failing_log, "the log failed: {error}");
            }
            JournalOutput::Restore { partition, at, part } => {
                let thread = partition.0 % self.racks.len() as u16;
                self.mail.push_back((thread, RackInput::Restore { partition, at, part }));
            }
            JournalOutput::Snapshot { partition, ask } => {
                let thread = partition.0 % self.racks.len() as u16;
                self.mail.push_back((thread, RackInput::Snapshot { partition, ask }));
            }
            JournalOutput::Checkpoint(event) => self.checkpoints.push(event),
            JournalOutput::Opened(_) | JournalOutput::Replayed | JournalOutput::Sealed { .. } => {}
        }
    }

    fn step_disk(&mut self) -> bool {
        let Some(done) = self.disk.step() else { return false };
        self.journal.handle_disk(done, self.now);
        true
    }

    /// Runs everything that is due, without letting time pass further than it must.
    fn settle(&mut self) {
        loop {
            self.now.mono.ns += 1_000;
            self.publish_oldest_read();
            let mut worked = false;
            while let Some(output) = self.journal.poll_output() {
                self.on_journal(output);
                worked = true;
            }
            if let Some((thread, input)) = self.mail.pop_front() {
                self.racks[usize::from(thread)].handle_input(input, self.now);
                worked = true;
            }
            for thread in 0..self.racks.len() {
                if self.racks[thread].poll_timeout().is_some_and(|at| at <= self.now.mono) {
                    self.racks[thread].handle_input(RackInput::Time, self.now);
                    // A long statement may be at work for a while before it has something to say.
                    worked = true;
                }
                while let Some(output) = self.racks[thread].poll_output() {
                    self.on_rack(thread as u16, output);
                    worked = true;
                }
            }
            if self.journal.poll_timeout().is_some_and(|at| at <= self.now.mono) {
                self.journal.handle_timeout(self.now);
                worked = true;
            }
            if worked || self.step_disk() {
                continue;
            }
            let is_busy = !self.disk.is_idle() || self.journal.fill().pending_records > 0;
            if let Some(at) = self.journal.poll_timeout().filter(|_| is_busy) {
                self.now.mono = self.now.mono.max(at);
                continue;
            }
            return;
        }
    }

    fn publish_oldest_read(&mut self) {
        let oldest = self.racks.iter().filter_map(Rack::oldest_read).min();
        self.now.oldest_read = oldest.unwrap_or(self.now.durable);
    }

    fn on_rack(&mut self, thread: u16, output: RackOutput) {
        match output {
            RackOutput::Reply { request, reply } => {
                let (rows, outcome) = self.replies.entry(request).or_default();
                match reply {
                    Reply::Rows(bytes) => {
                        if !rows.is_empty() {
                            rows.push(b',');
                        }
                        rows.extend_from_slice(&bytes);
                        let bytes = bytes.len() as u64;
                        if self.silent != Some(request) {
                            self.mail.push_back((thread, RackInput::Drained { request, bytes }));
                        }
                    }
                    Reply::Done(done) => *outcome = Some(done),
                }
            }
            RackOutput::Append(append) => {
                self.appended.push(append.record.bytes.clone());
                self.journal.append(append, self.now);
            }
            RackOutput::Message { thread, message } => {
                let is_slow = self.slow_thread == Some(thread);
                let queue = if is_slow { &mut self.held } else { &mut self.mail };
                queue.push_back((thread, RackInput::Message(message)));
            }
            RackOutput::FetchBlock { partition, block } => {
                self.fetched += 1;
                self.mail.push_back((thread, RackInput::BlockArrived { partition, block }));
            }
            RackOutput::Frame { session, frame } => self.frames.push_back((session, frame)),
            RackOutput::CloseSession { session, reason } => self.closed.push((session, reason)),
            RackOutput::SessionReport { session, report } => self.reports.push((session, report)),
            RackOutput::Changed { .. } => {}
            RackOutput::Snapshot { partition, part } => {
                self.journal.snapshot_part(partition, part.as_ref(), self.now);
            }
            RackOutput::NewEpoch { epoch } => self.epochs.push((epoch, self.appended.len())),
            RackOutput::Damaged { txn, cause } => panic!("record {txn} is damaged: {cause}"),
        }
    }

    fn submit(&mut self, thread: u16, body: Request) -> RequestId {
        self.request_next += 1;
        let request = RequestId(self.request_next);
        self.racks[usize::from(thread)]
            .handle_input(RackInput::Request { request, body }, self.now);
        request
    }

    fn answer(&mut self, request: RequestId) -> (Value, Outcome) {
        let (rows, outcome) = self.replies.remove(&request).expect("the request was answered");
        let text = [b"[".as_slice(), &rows, b"]"].concat();
        let rows = json::parse(&text, json::Limits::default()).expect("rows are JSON");
        (rows, outcome.expect("the answer has an end"))
    }

    fn statement(text: &str, args: &str) -> Execute {
        let args = match json::parse(args.as_bytes(), json::Limits::default()) {
            Ok(Value::Object(args)) => args,
            _ => Object::default(),
        };
        Execute {
            app: APP,
            credential: Credential::Bearer(Some(KEY.into())),
            statement: text.into(),
            args,
            mode: ObjectMode::Map,
            min_txn: None,
            deadline: Instant { ns: u64::MAX },
        }
    }

    fn execute(&mut self, text: &str, args: &str) -> (Value, Outcome) {
        let request = self.submit(0, Request::Execute(Self::statement(text, args)));
        self.settle();
        self.answer(request)
    }

    /// Runs a statement that must succeed, and gives its rows as text.
    fn rows(&mut self, text: &str) -> String {
        let (rows, outcome) = self.execute(text, "{}");
        assert_eq!(outcome.error, None, "{text}");
        to_text(&rows)
    }

    fn local(&mut self, text: &str, args: &str) -> (Value, Outcome) {
        let mut execute = Self::statement(text, args);
        execute.credential = Credential::Local;
        let request = self.submit(0, Request::Execute(execute));
        self.settle();
        self.answer(request)
    }

    fn create_app(&mut self) {
        let key = ApiKey {
            name: "k".into(),
            description: None,
            prefix: key_prefix(KEY).into(),
            hash: hash(KEY),
            expires: WallMs(u64::MAX),
            permissions: Arc::new(Permissions::everything()),
        };
        let name = "shop".into();
        let put = CatalogOp::PutApp { app: APP, name, development_token: Some(hash("dev")) };
        for op in [put, CatalogOp::PutKey { app: APP, key }] {
            let request = self.submit(0, Request::Catalog(vec![op]));
            self.settle();
            assert_eq!(self.answer(request).1.error, None);
        }
    }

    fn server(options: &Options) -> Self {
        let mut process = Self::new(options);
        process.create_app();
        process
    }

    fn check(&self) {
        for rack in &self.racks {
            for node in rack.nodes() {
                node.check_invariants();
            }
        }
        self.journal.check_invariants();
    }
}

fn to_text(value: &Value) -> String {
    let mut text = Vec::new();
    json::write(value, &mut text);
    String::from_utf8(text).expect("JSON is UTF-8")
}
