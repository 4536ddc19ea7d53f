//! A server's sync session with somebody who sends anything.

use std::sync::Arc;

use bigpeer_core::ident::{AppId, BootId, LogId, PartitionId, PeerKey, StoreId, Txn, Uuid};
use bigpeer_core::log::transaction::Transaction;
use bigpeer_core::node::{
    Credential, Input, Node, NodeConfig, NodeLimits, Output, Part, SessionId, SessionInput,
    SessionOpen, SyncIdentity,
};
use bigpeer_core::seam::Now;
use bigpeer_core::sync::{BootRow, BootTable};
use bigpeer_core::time::WallMs;
use bytes::Bytes;

const SESSION: SessionId = SessionId(1);
const APP: AppId = AppId(Uuid([0xA0; 16]));

struct Server {
    node: Node,
    now: Now,
}

impl Server {
    fn new() -> Self {
        let boot = BootId(Uuid([2; 16]));
        let boots = BootTable {
            log: LogId(Uuid([1; 16])),
            rows: vec![BootRow { boot, first: Txn(1), end: None }],
            purge_floor: Txn(0),
        };
        let peer_key = PeerKey([3; 32]);
        let identity =
            SyncIdentity { store: StoreId(Uuid([4; 16])), boots, peer_key, name: "fuzz".into() };
        let node = Node::new(NodeConfig {
            partition: PartitionId(0),
            partitions: 1,
            boot,
            site: peer_key.site(),
            epoch: 1 << 32,
            seed: [5; 32],
            pretend_cold: false,
            limits: NodeLimits::default(),
            identity: Arc::new(identity),
            is_device: false,
        });
        Self { node, now: Now { wall: WallMs(1_700_000_000_000), ..Now::default() } }
    }

    /// Gives an input, and makes durable at once whatever comes of it.
    fn input(&mut self, input: Input) {
        let mut inputs = std::collections::VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            self.now.mono.ns += 1_000;
            self.node.handle_input(input, self.now);
            while let Some(output) = self.node.poll_output() {
                match output {
                    Output::Append(append) => {
                        let txn = self.now.durable.next();
                        self.now.durable = txn;
                        self.now.oldest_read = txn;
                        // As after a restart: what is written also reads back.
                        let record = Transaction::decode(&append.record.bytes);
                        let record = Arc::new(record.expect("a node writes records"));
                        inputs
                            .push_back(Input::Appended { ticket: append.ticket, result: Ok(txn) });
                        let part = Part::of(txn, record, PartitionId(0), 1);
                        let records = [part].into();
                        inputs.push_back(Input::Committed { upto: txn, records });
                    }
                    Output::Message(message) => inputs.push_back(Input::Message(message)),
                    _ => {}
                }
            }
        }
    }

    fn session(&mut self, input: SessionInput) {
        self.input(Input::Session { session: SESSION, input });
    }
}

/// The greeting, then frames, each with its length as two bytes before it.
pub(crate) fn session(bytes: &[u8]) {
    let mut server = Server::new();
    let credential = Credential::Local;
    server.session(SessionInput::Open(SessionOpen { app: APP, credential }));
    let greeting = [b"BPG1".as_slice(), &[0xD1; 32]].concat();
    server.session(SessionInput::Frame(greeting.into()));
    let mut rest = bytes;
    while let Some((length, body)) = rest.split_first_chunk::<2>() {
        let (frame, after) =
            body.split_at(body.len().min(usize::from(u16::from_le_bytes(*length))));
        server.session(SessionInput::Frame(Bytes::copy_from_slice(frame)));
        rest = after;
    }
    server.session(SessionInput::Closed);
    server.node.check_invariants();
}
