//! One server process without a kernel: a rack, a journal and a disk in memory, driven until quiet.

use std::collections::VecDeque;
use std::sync::Arc;

use bigpeer_core::auth::CatalogOp;
use bigpeer_core::disk_sim::VirtualDisk;
use bigpeer_core::ident::{AppId, BootId, PartitionId, PeerKey, StoreId, Txn, Uuid};
use bigpeer_core::log::LogConfig;
use bigpeer_core::node::{
    Credential, Execute, Journal, JournalOutput, NodeConfig, NodeLimits, ObjectMode, Outcome, Rack,
    RackConfig, RackInput, RackOutput, Reply, Request, RequestId, SyncIdentity,
};
use bigpeer_core::seam::Now;
use bigpeer_core::sync::BootTable;
use bigpeer_core::time::{Instant, WallMs};
use bigpeer_core::value::{Object, Value, json};
use bytes::Bytes;

const APP: AppId = AppId(Uuid([0xA0; 16]));
const SEED: [u8; 32] = [1; 32];

/// A server in memory.
#[derive(Debug)]
pub struct Process {
    rack: Option<Rack>,
    journal: Journal,
    disk: VirtualDisk,
    now: Now,
    mail: VecDeque<RackInput>,
    outcome: Option<Outcome>,
    last_record: Bytes,
}

/// The JSON of a car, about as long as those of the well-known data set.
#[must_use]
pub fn car(number: usize) -> String {
    format!(
        r#"{{"_id":"car{number}","Name":"chevrolet chevelle malibu","Miles_per_Gallon":18.5,"Cylinders":8,
        "Displacement":307,"Horsepower":130,"Weight_in_lbs":3504,"Acceleration":12.1,"Year":{},"Origin":"USA"}}"#,
        1970 + number % 40
    )
}

impl Process {
    /// A fresh server with one app.
    #[must_use]
    pub fn in_memory(partitions: u16) -> Self {
        Self::on_disk(partitions, VirtualDisk::new(&SEED))
    }

    /// A server on an existing disk.
    #[must_use]
    pub fn on_disk(partitions: u16, disk: VirtualDisk) -> Self {
        let boot = BootId(Uuid([1; 16]));
        let now = Now { wall: WallMs(1_700_000_000_000), ..Now::default() };
        let mut process = Self {
            rack: None,
            journal: Journal::open(LogConfig::new(boot, SEED), partitions, now),
            disk,
            now,
            mail: VecDeque::new(),
            outcome: None,
            last_record: Bytes::new(),
        };
        process.settle(partitions);
        let name = "bench".into();
        let op = CatalogOp::PutApp { app: APP, name, development_token: None };
        process.request(Request::Catalog(vec![op]));
        process
    }

    /// Inserts cars, one transaction each.
    pub fn insert_cars(&mut self, count: usize) {
        let statement: Arc<str> =
            "INSERT INTO cars DOCUMENTS (:doc) ON ID CONFLICT DO UPDATE".into();
        for number in 0..count {
            let car = json::parse(car(number).as_bytes(), json::Limits::default());
            let mut args = Object::new();
            args.insert("doc", car.expect("a car is JSON"));
            self.execute(&statement, args);
        }
    }

    /// The record that an INSERT of one car appends.
    #[must_use]
    pub fn record_of_insert(mut self) -> Bytes {
        self.insert_cars(1);
        self.last_record
    }

    /// Runs one statement to its end.
    ///
    /// # Panics
    ///
    /// When it fails.
    pub fn execute(&mut self, statement: &Arc<str>, args: Object) -> Outcome {
        self.request(Request::Execute(Execute {
            app: APP,
            credential: Credential::Local,
            statement: statement.clone(),
            args,
            mode: ObjectMode::Map,
            min_txn: None,
            deadline: Instant { ns: u64::MAX },
        }))
    }

    /// The last durable position.
    #[must_use]
    pub fn durable(&self) -> Txn {
        self.now.durable
    }

    /// Ends the process without a word.
    #[must_use]
    pub fn into_disk(mut self) -> VirtualDisk {
        self.disk.kill();
        self.disk
    }

    fn request(&mut self, body: Request) -> Outcome {
        self.mail.push_back(RackInput::Request { request: RequestId(1), body });
        self.settle(0);
        let outcome = self.outcome.take().expect("every request is answered");
        assert_eq!(outcome.error, None);
        outcome
    }

    fn settle(&mut self, partitions: u16) {
        loop {
            self.now.mono.ns += 1_000;
            self.now.oldest_read = self.now.durable;
            let mut worked = false;
            while let Some(output) = self.journal.poll_output() {
                worked = true;
                self.on_journal(output, partitions);
            }
            if let Some(rack) = &mut self.rack {
                while let Some(input) = self.mail.pop_front() {
                    worked = true;
                    rack.handle_input(input, self.now);
                }
                while rack.poll_timeout().is_some_and(|at| at <= self.now.mono) {
                    rack.handle_input(RackInput::Time, self.now);
                }
                while let Some(output) = rack.poll_output() {
                    worked = true;
                    match output {
                        RackOutput::Append(append) => {
                            self.last_record = append.record.bytes.clone();
                            self.journal.append(append, self.now);
                        }
                        RackOutput::Reply { reply: Reply::Done(outcome), .. } => {
                            self.outcome = Some(outcome);
                        }
                        RackOutput::Snapshot { partition, part } => {
                            self.journal.snapshot_part(partition, part.as_ref(), self.now);
                        }
                        _ => {}
                    }
                }
            }
            if worked {
                continue;
            }
            let Some(done) = self.disk.step() else { return };
            self.journal.handle_disk(done, self.now);
        }
    }

    fn on_journal(&mut self, output: JournalOutput, partitions: u16) {
        match output {
            JournalOutput::Disk(op, command) => self.disk.submit(op, command),
            JournalOutput::Appended { from, ticket, result } => {
                self.mail.push_back(RackInput::Appended { from, ticket, result });
            }
            JournalOutput::Committed { first, records, upto } => {
                self.now.durable = upto;
                self.mail.push_back(RackInput::Committed { first, records, upto });
            }
            JournalOutput::Opened(opened) => {
                let boots = BootTable { log: opened.log_id, rows: Vec::new(), purge_floor: Txn(0) };
                let node = NodeConfig {
                    partition: PartitionId(0),
                    partitions,
                    boot: BootId(Uuid([1; 16])),
                    site: 1,
                    epoch: 1 << 32,
                    seed: SEED,
                    pretend_cold: false,
                    limits: NodeLimits::default(),
                    identity: Arc::new(SyncIdentity {
                        store: StoreId(Uuid([1; 16])),
                        boots,
                        peer_key: PeerKey([1; 32]),
                        name: "bench".into(),
                    }),
                    is_device: false,
                };
                let config = RackConfig { thread: 0, threads: 1, node, seed: SEED };
                self.rack = Some(Rack::new(config));
            }
            JournalOutput::Failed(error) => panic!("the log failed: {error}"),
            JournalOutput::Snapshot { partition, ask } => {
                self.mail.push_back(RackInput::Snapshot { partition, ask });
            }
            JournalOutput::Restore { .. }
            | JournalOutput::Checkpoint(_)
            | JournalOutput::Replayed
            | JournalOutput::Sealed { .. } => {}
        }
    }
}

/// An array of values as JSON text, for reports.
#[must_use]
pub fn to_text(value: &Value) -> String {
    let mut text = Vec::new();
    json::write(value, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}
