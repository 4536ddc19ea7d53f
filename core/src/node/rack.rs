//! The nodes of one thread: decodes the log's records once for all of them, and carries messages among them
//! without leaving the thread.
//!
//! A driver has one rack for each of its threads; the simulator has as many as it plays threads. Partition `p`
//! lives on thread `p % threads`, so that any number of threads opens any directory.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use super::append::{Append, AppendRefused, Record, Ticket};
use super::backlog::Backlog;
use super::message::Message;
use super::moment::Shares;
use super::request::{Reply, Request, RequestId};
use super::shredder::Shredder;
use super::snapshot::SnapshotAsk;
use super::standing::{NEVER, NO_READ, Standing, Standings};
use super::sync_host::{SessionId, SessionInput, SessionReport};
use super::sync_wire::decode_changes;
use super::{Input, Node, NodeConfig, Output, Part, read_catalog};
use crate::auth::CatalogOp;
use crate::dql::Fuel;
use crate::ident::{AppId, PartitionId, Slot, Txn};
use crate::log::transaction::{Concerns, Op, Transaction};
use crate::plant::{Plant, is_planted};
use crate::rng::{Rng, Seed};
use crate::seam::Now;
use crate::store::BlockId;
use crate::time::{Hlc, Instant};

/// How the partitions of a directory are laid out on threads.
#[derive(Clone, Debug)]
pub struct RackConfig {
    /// Which thread this rack is for, from zero.
    pub thread: u16,
    /// How many threads there are.
    pub threads: u16,
    /// What each node is told; its partition and seed are set by the rack.
    pub node: NodeConfig,
    /// Randomness of the whole process; each node gets a stream of its own.
    pub seed: Seed,
}

/// Something that happened to the nodes of a thread.
#[derive(Clone, Debug)]
pub enum RackInput {
    /// See [`Input::Request`].
    Request {
        /// Unique on this thread.
        request: RequestId,
        /// What is asked.
        body: Request,
    },
    /// See [`Input::Drained`].
    Drained {
        /// The request of that client.
        request: RequestId,
        /// How much.
        bytes: u64,
    },
    /// See [`Input::Cancel`].
    Cancel {
        /// The request of that client.
        request: RequestId,
    },
    /// The rack's form of [`Input::ClientClosed`].
    ClientClosed {
        /// The request of that client.
        request: RequestId,
    },
    /// The records from position `first` on are durable; then nothing up to `upto`.
    Committed {
        /// The position of the first record.
        first: Txn,
        /// Transactions, one position each.
        records: Arc<[Record]>,
        /// The last position accounted for.
        upto: Txn,
    },
    /// See [`Input::Appended`].
    Appended {
        /// Who appended.
        from: PartitionId,
        /// Which append.
        ticket: Ticket,
        /// Its position.
        result: Result<Txn, AppendRefused>,
    },
    /// A message from another thread.
    Message(Box<Message>),
    /// See [`Input::BlockArrived`].
    BlockArrived {
        /// Whose block.
        partition: PartitionId,
        /// Which.
        block: BlockId,
    },
    /// See [`Input::Session`].
    Session {
        /// Unique on this thread.
        session: SessionId,
        /// What happened.
        input: SessionInput,
    },
    /// See [`Input::Snapshot`].
    Snapshot {
        /// Who is asked.
        partition: PartitionId,
        /// What.
        ask: SnapshotAsk,
    },
    /// What a partition held as of `at`: before any record, and in the order in which it was given.
    Restore {
        /// Whose part.
        partition: PartitionId,
        /// As of where.
        at: Txn,
        /// The part.
        part: Bytes,
    },
    /// Nothing happened except time.
    Time,
}

/// Something the driver of the thread must do.
#[derive(Clone, Debug)]
pub enum RackOutput {
    /// See [`Output::Reply`].
    Reply {
        /// The request of that client.
        request: RequestId,
        /// The answer, or a part of it.
        reply: Reply,
    },
    /// Append a record to the log, which lives on the first thread.
    Append(Append),
    /// Hand a message to another thread.
    Message {
        /// The thread of the receiver.
        thread: u16,
        /// The message.
        message: Box<Message>,
    },
    /// See [`Output::FetchBlock`].
    FetchBlock {
        /// Whose block.
        partition: PartitionId,
        /// Which.
        block: BlockId,
    },
    /// See [`Output::Frame`].
    Frame {
        /// Which session.
        session: SessionId,
        /// The whole frame.
        frame: Bytes,
    },
    /// See [`Output::CloseSession`].
    CloseSession {
        /// Which session.
        session: SessionId,
        /// Why.
        reason: Box<str>,
    },
    /// See [`Output::SessionReport`].
    SessionReport {
        /// Which session.
        session: SessionId,
        /// What.
        report: SessionReport,
    },
    /// See [`Output::Changed`].
    Changed {
        /// Whose documents.
        app: AppId,
        /// Up to where.
        upto: Txn,
    },
    /// See [`Output::Snapshot`].
    Snapshot {
        /// Who gives it.
        partition: PartitionId,
        /// The next part of its snapshot, or its end.
        part: Option<Bytes>,
    },
    /// The rack's form of [`Output::NewEpoch`].
    NewEpoch {
        /// The epoch to author under.
        epoch: u64,
    },
    /// A durable record or checkpoint cannot be read: the process must stop and say so.
    Damaged {
        /// Its position.
        txn: Txn,
        /// What is wrong with it.
        cause: Box<str>,
    },
}

/// The work that statements have done on a thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct Work {
    /// The work since the start.
    pub total: Fuel,
    /// The most at one moment, between two looks at what else has happened.
    pub moment_max: Fuel,
    moment: Fuel,
}

impl Work {
    fn note(&mut self, fuel: Fuel) {
        self.total = self.total.saturating_add(fuel);
        self.moment = self.moment.saturating_add(fuel);
        self.moment_max = self.moment_max.max(self.moment);
    }
}

/// The nodes of one thread.
#[derive(Debug)]
pub struct Rack {
    pub(super) config: RackConfig,
    pub(super) nodes: Vec<Node>,
    pub(super) backlog: Backlog,
    pub(super) shredder: Shredder,
    /// Of each node, and of all: asked for far more often than it changes.
    standings: Standings,
    /// Which node is the next to give a waiting statement a turn.
    turn_next: usize,
    /// The node that goes on next with what the last moment left.
    ready_next: usize,
    /// Work of statements at this moment, of all nodes.
    spent: Shares,
    /// How much of it long statements may do.
    turns_end: Fuel,
    moment: Instant,
    work: Work,
    local: VecDeque<Message>,
    outputs: VecDeque<RackOutput>,
}

impl Rack {
    /// Makes the nodes of the partitions that belong to the thread.
    ///
    /// # Panics
    ///
    /// When the thread would have no partition.
    #[must_use]
    pub fn new(config: RackConfig) -> Self {
        let nodes: Vec<Node> = (config.thread..config.node.partitions)
            .step_by(usize::from(config.threads))
            .map(|partition| {
                let mut rng = Rng::new(&config.seed, &format!("partition {partition}"));
                let mut node = config.node.clone();
                node.partition = PartitionId(partition);
                node.seed[..16].copy_from_slice(&rng.bytes16());
                node.seed[16..].copy_from_slice(&rng.bytes16());
                Node::new(node)
            })
            .collect();
        assert!(!nodes.is_empty(), "a thread has at least one partition");
        assert!(config.node.partitions <= PARTITIONS_MAX, "a record names its partitions by bits");
        let (local, outputs) = (VecDeque::new(), VecDeque::new());
        let (spent, moment, work) = (Shares::default(), Instant::default(), Work::default());
        let turns_end = config.node.limits.turn_fuel / 2;
        let (backlog, standings) = (Backlog::new(nodes.len()), Standings::of(&nodes));
        Self {
            config,
            nodes,
            backlog,
            standings,
            shredder: Shredder::default(),
            turn_next: 0,
            ready_next: 0,
            spent,
            turns_end,
            moment,
            work,
            local,
            outputs,
        }
    }

    /// Takes what happened, and lets the nodes of this thread talk until they have nothing more to say.
    pub fn handle_input(&mut self, input: RackInput, now: Now) {
        if now.mono != self.moment {
            self.begin_moment(now);
        }
        match input {
            RackInput::Request { request, body } => {
                self.home(Input::Request { request, body }, now);
            }
            RackInput::Drained { request, bytes } => {
                self.home(Input::Drained { request, bytes }, now);
            }
            RackInput::Cancel { request } => self.home(Input::Cancel { request }, now),
            RackInput::ClientClosed { request } => {
                self.home(Input::ClientClosed { request }, now);
            }
            RackInput::Session { session, input } => {
                self.home(Input::Session { session, input }, now);
            }
            RackInput::Committed { first, records, upto } => {
                self.on_committed(first, &records, upto, now);
            }
            RackInput::Appended { from, ticket, result } => {
                let node = self.index_of(from);
                let input = Input::Appended { ticket, result };
                // It says of all that is not applied here that nobody knows its end: not of what only waits for its turn.
                match result {
                    Err(AppendRefused::OutcomeUnknown) => self.follow(node, input, 0, now),
                    _ => self.step(node, input, now),
                }
            }
            RackInput::Message(message) => self.at(message.to, Input::Message(*message), now),
            RackInput::BlockArrived { partition, block } => {
                self.at(partition, Input::BlockArrived(block), now);
            }
            RackInput::Snapshot { partition, ask } => {
                self.follow(self.index_of(partition), Input::Snapshot(ask), 0, now);
            }
            RackInput::Restore { partition, at, part } => self.on_restore(partition, at, &part),
            RackInput::Time => self.on_time(now),
        }
        while let Some(message) = self.local.pop_front() {
            self.at(message.to, Input::Message(message), now);
        }
        self.standings.sum_up();
    }

    /// What the driver must do next, until `None`.
    pub fn poll_output(&mut self) -> Option<RackOutput> {
        self.outputs.pop_front()
    }

    /// True while [`poll_output`](Self::poll_output) has something.
    #[must_use]
    pub fn has_output(&self) -> bool {
        !self.outputs.is_empty()
    }

    /// When to call with [`RackInput::Time`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.has_backlog() || self.shredder.is_due(|| self.applied()) {
            return Some(self.moment);
        }
        Some(self.of_all().timeout).filter(|at| *at != NEVER)
    }

    /// The greatest clock value of any document of this thread.
    #[must_use]
    pub fn newest_clock(&self) -> Hlc {
        self.of_all().newest_clock
    }

    /// Documents that remotes have refused for their clock: see [`Node::parked_count`].
    #[must_use]
    pub fn parked_count(&self) -> usize {
        self.of_all().parked_count
    }

    /// The work that statements have been to this thread.
    #[must_use]
    pub const fn work(&self) -> Work {
        self.work
    }

    /// Calls and pieces of work in progress, of all nodes.
    #[must_use]
    pub fn load(&self) -> usize {
        self.of_all().load
    }

    /// The oldest transaction that a read begun on this thread may still be made at.
    #[must_use]
    pub fn oldest_read(&self) -> Option<Txn> {
        Some(self.of_all().oldest_read).filter(|at| *at != NO_READ)
    }

    /// Every node of this thread reflects everything up to here.
    #[must_use]
    pub fn applied(&self) -> Txn {
        self.of_all().applied
    }

    fn of_all(&self) -> Standing {
        let now = || Standings::of(&self.nodes).all;
        debug_assert_eq!(self.standings.all, now(), "it is noted after each step");
        self.standings.all
    }

    /// Some of what is committed waits for its turn to be applied.
    #[must_use]
    pub fn has_backlog(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// The nodes, for checkers, status pages and start-up.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Until the nodes are called with time, long statements have half of a turn, for the rows that come to their
    /// coordinators.
    fn begin_moment(&mut self, now: Now) {
        (self.moment, self.spent, self.work.moment) = (now.mono, Shares::default(), 0);
        self.turns_end = self.turn() / 2;
        self.backlog.begin_moment();
    }

    fn turn(&self) -> Fuel {
        self.config.node.limits.turn_fuel
    }

    /// Timers of all nodes, and turns of their statements until one turn's work is done: the nodes of a thread share
    /// its time, so that a statement over all of them holds up a point read by one turn, not by one for each. The
    /// last of them has what the others have left.
    fn on_time(&mut self, now: Now) {
        let (count, turn) = (self.nodes.len(), self.turn());
        // A statement that waits goes on now, also where time stands still between two turns; at least half of a turn is left.
        self.spent = Shares { all: 0, turns: self.spent.turns.min(turn / 2) };
        self.turns_end = turn;
        self.backlog.begin_moment();
        self.catch_up(now);
        let nodes = &self.nodes;
        self.shredder.work(|| nodes.iter().map(Node::applied).min().unwrap_or_default());
        self.run_ready(now);
        for index in (self.turn_next..count).chain(0..self.turn_next) {
            let node = &self.nodes[index];
            let left = turn.saturating_sub(self.spent.turns);
            let is_due = node.next_timer().is_some_and(|at| at <= now.mono);
            if node.has_runnable() && left > 0 {
                // A node that has had a rest of a turn is the first at the next moment: nobody lives on rests.
                self.turn_next = if left < turn / 2 { index } else { (index + 1) % count };
                self.step(index, Input::Time, now);
            } else if is_due || node.has_foldable() {
                self.step(index, Input::Timers, now);
            }
        }
    }

    /// Goes on with what the last moment left, before any turn of a long statement: it may be done at once. The node
    /// that takes what is left of the moment is the last at the next one, so none keeps the others waiting for ever,
    /// however much comes to it: least of all the one that answers for all.
    fn run_ready(&mut self, now: Now) {
        let count = self.nodes.len();
        let first = if is_planted(Plant::FirstNodeFirst) { 0 } else { self.ready_next };
        for index in (first..count).chain(0..first) {
            if self.nodes[index].has_ready() {
                self.step(index, Input::Timers, now);
            }
            if self.nodes[index].has_ready() {
                self.ready_next = (index + 1) % count;
                return;
            }
        }
    }

    fn home(&mut self, input: Input, now: Now) {
        self.step(0, input, now);
    }

    fn at(&mut self, partition: PartitionId, input: Input, now: Now) {
        self.step(self.index_of(partition), input, now);
    }

    fn index_of(&self, partition: PartitionId) -> usize {
        usize::from(partition.0 / self.config.threads)
    }

    fn on_restore(&mut self, partition: PartitionId, at: Txn, part: &[u8]) {
        let index = self.index_of(partition);
        if let Err(cause) = self.nodes[index].restore(at, part) {
            self.note_standing(index);
            let cause = cause.to_string().into();
            return self.outputs.push_back(RackOutput::Damaged { txn: at, cause });
        }
        self.drain(index);
    }

    pub(super) fn step(&mut self, index: usize, input: Input, now: Now) {
        let all = self.turn().saturating_mul(TURNS_AT_ONCE);
        let end = Shares { all, turns: self.turns_end };
        let node = &mut self.nodes[index];
        node.begin_step(end.saturating_sub(self.spent));
        node.handle_input(input, now);
        let (spent, worked) = node.take_spent();
        self.spent = self.spent.saturating_add(spent);
        self.work.note(worked);
        self.drain(index);
    }

    /// A node has done something.
    pub(super) fn note_standing(&mut self, index: usize) {
        self.standings.note(index, Standing::of(&self.nodes[index]));
    }

    fn drain(&mut self, index: usize) {
        self.note_standing(index);
        let node = &mut self.nodes[index];
        let partition = node.partition();
        while let Some(output) = node.poll_output() {
            let output = match output {
                Output::Message(message)
                    if message.to.0 % self.config.threads == self.config.thread =>
                {
                    self.local.push_back(message);
                    continue;
                }
                Output::Message(message) => RackOutput::Message {
                    thread: message.to.0 % self.config.threads,
                    message: Box::new(message),
                },
                Output::Reply { request, reply } => RackOutput::Reply { request, reply },
                Output::Append(append) => RackOutput::Append(append),
                Output::FetchBlock(block) => RackOutput::FetchBlock { partition, block },
                Output::Frame { session, frame } => RackOutput::Frame { session, frame },
                Output::CloseSession { session, reason } => {
                    RackOutput::CloseSession { session, reason }
                }
                Output::SessionReport { session, report } => {
                    RackOutput::SessionReport { session, report }
                }
                Output::Changed { app, upto } => RackOutput::Changed { app, upto },
                Output::Snapshot(part) => RackOutput::Snapshot { partition, part },
                Output::NewEpoch { epoch } => RackOutput::NewEpoch { epoch },
            };
            self.outputs.push_back(output);
        }
    }

    /// Hands each record that concerns this thread to the nodes it concerns, with the operations that are theirs; every
    /// node hears of every position.
    fn on_committed(&mut self, first: Txn, records: &[Record], upto: Txn, now: Now) {
        let mut concerning: Vec<Vec<Part>> = self.nodes.iter().map(|_| Vec::new()).collect();
        let mut changes_catalog = false;
        for (offset, record) in records.iter().enumerate() {
            let txn = Txn(first.0 + offset as u64);
            match self.read_record(record) {
                Ok(None) => {}
                Ok(Some((concerns, transaction, catalog))) => {
                    // Those of a replay are decoded anew by each thread, which has nobody to keep waiting.
                    if record.transaction.is_some() {
                        self.shredder.hold(txn, &transaction);
                    }
                    changes_catalog |= catalog.is_some();
                    self.sort_out(txn, &transaction, concerns, catalog, &mut concerning);
                }
                Err(cause) => {
                    let cause = cause.into();
                    self.outputs.push_back(RackOutput::Damaged { txn, cause });
                    return;
                }
            }
        }
        for (node, records) in concerning.into_iter().enumerate() {
            self.commit(node, upto, records, now);
        }
        if changes_catalog {
            self.catch_up_at_once(now);
        }
    }

    /// Gives each node that a record concerns its part of it: the operations on documents of that node, and the ones that
    /// are for all nodes.
    fn sort_out(
        &self,
        txn: Txn,
        transaction: &Arc<Transaction>,
        concerns: Concerns,
        catalog: Option<Arc<[CatalogOp]>>,
        parts: &mut [Vec<Part>],
    ) {
        let is_device = self.config.node.is_device;
        let numbered = || (0..).zip(&transaction.ops);
        let shared = numbered().filter(|(_, op)| Part::is_shared(op, is_device));
        let shared: SmallVec<[u32; 2]> = shared.map(|(index, _)| index).collect();
        for (node, parts) in self.nodes.iter().zip(parts.iter_mut()) {
            if concerns.includes(node.partition()) {
                let (transaction, shared) = (transaction.clone(), shared.clone());
                let (ops, catalog) = (SmallVec::new(), catalog.clone());
                parts.push(Part { txn, transaction, ops, shared, catalog });
            }
        }
        for (index, op) in numbered() {
            if let Op::Merge { collection, id, .. } | Op::Evict { collection, id } = op {
                let slot = Slot::of(transaction.app, collection, id);
                let owner = slot.partition(self.config.node.partitions);
                if owner.0 % self.config.threads == self.config.thread
                    && let Some(part) = parts[self.index_of(owner)].last_mut()
                    && part.txn == txn
                {
                    part.ops.push(index);
                }
            }
        }
    }

    /// The content of a record, if it concerns this thread. One that this process wrote need not be decoded.
    fn read_record(&self, record: &Record) -> Result<Option<ReadRecord>, String> {
        let Record { bytes: record, transaction: written } = record;
        let concerns = Transaction::concerns(record, self.config.node.partitions)
            .map_err(|error| error.to_string())?;
        if !self.nodes.iter().any(|node| concerns.includes(node.partition())) {
            return Ok(None);
        }
        if let Some(written) = written {
            debug_assert_eq!(Transaction::decode(record).as_ref(), Ok(&**written), "as encoded");
            return Ok(Some((concerns, written.clone(), catalog_of(written, concerns)?)));
        }
        let transaction = Transaction::decode(record).map_err(|error| error.to_string())?;
        for op in &transaction.ops {
            if let Op::Remote { state, .. } = op {
                decode_changes(state).map_err(|error| error.to_string())?;
            }
        }
        let catalog = catalog_of(&transaction, concerns)?;
        Ok(Some((concerns, Arc::new(transaction), catalog)))
    }
}

/// The changes of the catalog in a record. One that this build does not know might revoke something: it is not skipped,
/// and none is made on some partitions alone.
fn catalog_of(
    transaction: &Transaction,
    concerns: Concerns,
) -> Result<Option<Arc<[CatalogOp]>>, String> {
    let catalog = read_catalog(transaction).map_err(|error| error.to_string())?;
    if catalog.is_some() && concerns != Concerns::Everyone {
        return Err("changes of the catalog that concern some partitions alone".into());
    }
    Ok(catalog)
}

/// A record that concerns a thread, its content, and the changes of the catalog in it.
type ReadRecord = (Concerns, Arc<Transaction>, Option<Arc<[CatalogOp]>>);

/// How many turns' work statements that name their documents may do at one moment, of all nodes together, before
/// those that come next wait: about what as many point reads cost as a thread answers in one go.
const TURNS_AT_ONCE: Fuel = 5;

/// How many partitions a directory may have.
pub const PARTITIONS_MAX: u16 = 64;
