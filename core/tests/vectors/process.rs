//! A server or a device with one partition and a log that is durable at once.

use std::collections::VecDeque;
use std::sync::Arc;

use bigpeer_core::ident::{AppId, BootId, LogId, PartitionId, PeerKey, StoreId, Txn, Uuid};
use bigpeer_core::log::transaction::{Op, Transaction};
use bigpeer_core::node::{
    Credential, Execute, Input, Node, NodeConfig, NodeLimits, ObjectMode, Output, Part, Reply,
    Request, RequestId, SessionId, SessionInput, SnapshotAsk, SyncIdentity,
};
use bigpeer_core::seam::Now;
use bigpeer_core::sync::{BootRow, BootTable};
use bigpeer_core::time::{Instant, WallMs};
use bigpeer_core::value::Object;
use bytes::Bytes;

pub(crate) struct Process {
    node: Node,
    now: Now,
    requests: u64,
    pub(crate) frames: VecDeque<Bytes>,
    /// What was kept about remotes, oldest first.
    pub(crate) remote_records: Vec<Bytes>,
    pub(crate) is_closed: bool,
    /// What it gave for a checkpoint.
    parts: Vec<Bytes>,
}

impl Process {
    pub(crate) fn new(name: &str, number: u8, is_device: bool) -> Self {
        Self::with_limits(name, number, is_device, NodeLimits::default())
    }

    pub(crate) fn with_limits(name: &str, number: u8, is_device: bool, limits: NodeLimits) -> Self {
        let boot = BootId(Uuid([number; 16]));
        let peer_key = PeerKey([number; 32]);
        let identity = SyncIdentity {
            store: StoreId(Uuid([number + 1; 16])),
            boots: BootTable {
                log: LogId(Uuid([number + 2; 16])),
                rows: vec![BootRow { boot, first: Txn(1), end: None }],
                purge_floor: Txn(0),
            },
            peer_key,
            name: name.into(),
        };
        let node = Node::new(NodeConfig {
            partition: PartitionId(0),
            partitions: 1,
            boot,
            site: peer_key.site(),
            epoch: 0x0102_0304_0506_0000,
            seed: [number; 32],
            pretend_cold: false,
            limits,
            identity: Arc::new(identity),
            is_device,
        });
        let now = Now { wall: WallMs(1_700_000_000_000), ..Now::default() };
        Self {
            node,
            now,
            requests: 0,
            frames: VecDeque::new(),
            remote_records: Vec::new(),
            is_closed: false,
            parts: Vec::new(),
        }
    }

    /// Lets time pass.
    pub(crate) fn sleep(&mut self, seconds: u64) {
        self.now.mono.ns += seconds * 1_000_000_000;
        self.now.wall.0 += seconds * 1_000;
        self.input(Input::Time);
    }

    pub(crate) fn request(&mut self, body: Request) {
        self.requests += 1;
        self.input(Input::Request { request: RequestId(self.requests), body });
    }

    /// A statement of the application that embeds this process; it must succeed.
    pub(crate) fn execute(&mut self, app: AppId, statement: &str) {
        self.request(Request::Execute(Execute {
            app,
            credential: Credential::Local,
            statement: statement.into(),
            args: Object::default(),
            mode: ObjectMode::Map,
            min_txn: None,
            deadline: Instant { ns: u64::MAX },
        }));
    }

    /// Everything that it holds, as the parts of a checkpoint.
    pub(crate) fn snapshot(&mut self) -> Vec<Bytes> {
        self.input(Input::Snapshot(SnapshotAsk::Begin { at: self.now.durable }));
        self.input(Input::Snapshot(SnapshotAsk::More));
        std::mem::take(&mut self.parts)
    }

    pub(crate) fn session(&mut self, session: SessionId, input: SessionInput) {
        self.input(Input::Session { session, input });
    }

    fn input(&mut self, input: Input) {
        self.now.mono.ns += 1_000;
        self.now.wall.0 += 1;
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            self.node.handle_input(input, self.now);
            while let Some(output) = self.node.poll_output() {
                self.on_output(output, &mut inputs);
            }
        }
    }

    fn on_output(&mut self, output: Output, inputs: &mut VecDeque<Input>) {
        match output {
            Output::Append(append) => {
                let txn = self.now.durable.next();
                self.now.durable = txn;
                self.now.oldest_read = txn;
                let transaction = append.record.transaction.expect("a node wrote it");
                let read = Transaction::decode(&append.record.bytes);
                assert_eq!(read.as_ref(), Ok(&*transaction), "a record reads as it was written");
                self.note_remotes(&transaction);
                inputs.push_back(Input::Appended { ticket: append.ticket, result: Ok(txn) });
                let part = Part::of(txn, transaction, PartitionId(0), 1);
                inputs.push_back(Input::Committed { upto: txn, records: [part].into() });
            }
            Output::Message(message) => inputs.push_back(Input::Message(message)),
            Output::Frame { frame, .. } => self.frames.push_back(frame),
            Output::CloseSession { .. } => self.is_closed = true,
            Output::Reply { reply: Reply::Done(outcome), .. } => assert_eq!(outcome.error, None),
            Output::Reply { .. }
            | Output::SessionReport { .. }
            | Output::Changed { .. }
            | Output::NewEpoch { .. }
            | Output::Snapshot(None) => {}
            Output::Snapshot(Some(part)) => {
                self.parts.push(part);
                inputs.push_back(Input::Snapshot(SnapshotAsk::More));
            }
            Output::FetchBlock(block) => inputs.push_back(Input::BlockArrived(block)),
        }
    }

    fn note_remotes(&mut self, transaction: &Transaction) {
        for op in &transaction.ops {
            if let Op::Remote { state, .. } = op {
                self.remote_records.push(state.clone());
            }
        }
    }
}
