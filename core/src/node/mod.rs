//! The node: one partition of the documents, and everything that decides about them.
//!
//! A node is handed inputs and the moment ([`Now`]) and gives outputs; it never acts. A machine runs several
//! nodes, a few on each thread ([`Rack`]); they speak in [`Message`]s. Any node can coordinate a request: it
//! parses, checks the permission, asks the owners of the documents, and answers. The owner of a document
//! authors every change of it, with a clock and an actor of its own, so that one actor's dots enter the log in
//! rising order.
//!
//! Calling order: after every [`Node::handle_input`], take outputs by [`Node::poll_output`] until there is none;
//! call again with [`Input::Time`] no later than [`Node::poll_timeout`] says.

mod append;
mod backlog;
mod coordinate;
mod epoch_record;
mod journal;
mod message;
mod moment;
mod mutate;
mod mutation;
mod rack;
mod request;
mod row;
mod scans;
mod select;
mod shredder;
mod snapshot;
mod standing;
mod statements;
mod sync_applied;
mod sync_ask;
mod sync_gather;
mod sync_host;
mod sync_judge;
mod sync_owed;
mod sync_remotes;
mod sync_source;
mod sync_watch;
mod sync_wire;
mod tasks;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use append::Appends;
pub use append::{Append, AppendGate, AppendRefused, Record, Ticket};
use bytes::Bytes;
use coordinate::{Call, CatalogChanges};
pub use epoch_record::EpochRecord;
pub use journal::{CheckpointEvent, Journal, JournalOutput};
pub use message::{Body, CallId, Message, Prepared};
use moment::Moment;
pub use mutation::Mutation;
pub use rack::{PARTITIONS_MAX, Rack, RackConfig, RackInput, RackOutput, Work};
pub use request::{
    Credential, ErrorKind, Execute, ObjectMode, Outcome, Reply, Request, RequestError, RequestId,
};
use scans::Scans;
use snapshot::Snapshot;
pub use snapshot::SnapshotAsk;
use statements::StatementCache;
pub use sync_ask::{FromSession, ToSession};
use sync_host::SyncHost;
pub use sync_host::{
    RejectedDocument, SessionId, SessionInput, SessionOpen, SessionReport, SyncIdentity,
    check_subscription, subscription_bytes,
};
use sync_watch::Watch;
use sync_wire::decode_changes;
use tasks::{TaskId, Tasks};

use crate::auth::{Catalog, CatalogError, CatalogOp};
use crate::document::Document;
use crate::dql::Fuel;
use crate::ident::{AppId, BootId, DocId, PartitionId, Slot, Txn, TxnId};
use crate::log::transaction::{Op, Origin, Transaction};
use crate::map::Map;
use crate::plant::{Plant, is_planted};
use crate::rng::{Rng, Seed};
use crate::seam::Now;
use crate::store::{BlockId, DocKey, Outcome as ApplyOutcome, Store, Tips};
use crate::time::{Hlc, HlcClock, Instant, WallMs, is_far_ahead};
use smallvec::SmallVec;

/// What a node is told when it is made. Nothing of it changes while the process runs.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Which partition this node owns.
    pub partition: PartitionId,
    /// How many partitions the directory has.
    pub partitions: u16,
    /// This start of the process.
    pub boot: BootId,
    /// The site of the actors that this store authors with.
    pub site: u64,
    /// The epoch of those actors; the low two bytes are replaced by the partition. Another at each start of a server;
    /// a device goes on with its former one as long as its driver knows that no copy of the store does the same.
    pub epoch: u64,
    /// Randomness of this node alone.
    pub seed: Seed,
    /// Pretend that a seeded half of the reads must wait. For the simulator.
    pub pretend_cold: bool,
    /// Bounds.
    pub limits: NodeLimits,
    /// Who this store is, for its sync sessions.
    pub identity: Arc<SyncIdentity>,
    /// A device has no catalog: the application that embeds it may do everything.
    pub is_device: bool,
}

/// Bounds of one node; at each there is a clear answer.
#[derive(Clone, Copy, Debug)]
pub struct NodeLimits {
    /// Requests in progress at once.
    pub calls_max: usize,
    /// Statements of one key at work at once that look through a collection; more of them wait. One whose client does
    /// not read is not at work. Each thread of a process counts for itself.
    pub scans_of_key_max: usize,
    /// Bytes of rows that a client may leave untaken before its statement is suspended.
    pub reply_bytes_max: u64,
    /// Bytes of one record.
    pub record_bytes_max: usize,
    /// Bytes of one document, with its metadata, that a local write may lead to.
    pub document_bytes_max: usize,
    /// Bytes of one item of a peer, and of the document that merging it leads to. Above
    /// [`Self::document_bytes_max`], because edits that were each within that bound must not diverge for meeting.
    pub merged_bytes_max: usize,
    /// The aim for one update between peers.
    pub update_target_bytes: usize,
    /// No update between peers is larger, give or take one item: it is one record at its receiver, with what comes
    /// beside the documents.
    pub update_bytes_max: usize,
    /// Remotes of one app that something is kept about: beyond it the longest unseen is forgotten.
    pub remotes_max: usize,
    /// Bytes of an update that may be under way in a sync session. Both sides of a session have the same.
    pub window_bytes: u64,
    /// Outputs that one call may leave in a sync session.
    pub outputs_max: usize,
    /// Documents that are named of those which one remote refused. When there are more, all documents are offered to
    /// it again once it lets us write others.
    pub owed_max: usize,
    /// Work of one statement before others get their turn, in units of about a nanosecond: a few times what a point
    /// read over HTTP takes. The long statements of all nodes of a thread share as much at one moment. Of a read, a
    /// document's expressions go on in the next turn; a function of a large text is not cut, and what it costs beyond
    /// a turn is paid for in turns.
    pub turn_fuel: Fuel,
    /// Operations of committed records that a thread applies before it looks at what else has happened. A partition
    /// applies no more than these in one go, and what it has of the record in which they are reached; what a record
    /// evicts is one step.
    pub applied_at_once: usize,
    /// Operations of committed records that may wait to be applied on a thread. One that has fallen so far behind
    /// catches up before it does anything else.
    pub applied_later_max: usize,
    /// Documents of a partition whose former versions are dropped in one go, beside those that were changed just now.
    pub folded_at_once: usize,
}

impl Default for NodeLimits {
    fn default() -> Self {
        Self {
            calls_max: 16_384,
            scans_of_key_max: 64,
            reply_bytes_max: 256 * 1024,
            record_bytes_max: 64 * 1024 * 1024,
            document_bytes_max: 5 * 1024 * 1024,
            merged_bytes_max: 16 * 1024 * 1024,
            update_target_bytes: 8 * 1024 * 1024,
            update_bytes_max: 32 * 1024 * 1024,
            remotes_max: 100_000,
            window_bytes: crate::sync::Limits::PROTOCOL.window_bytes,
            outputs_max: crate::sync::Limits::PROTOCOL.outputs_max,
            owed_max: crate::sync::Limits::PROTOCOL.owed_max,
            turn_fuel: 200_000,
            applied_at_once: 500,
            applied_later_max: 100_000,
            folded_at_once: 64,
        }
    }
}

/// One record as it concerns one node.
#[derive(Clone, Debug)]
pub struct Part {
    /// The position of the record in the log.
    pub txn: Txn,
    /// The content of the record.
    pub transaction: Arc<Transaction>,
    /// The operations on documents of this node, by their index in the transaction.
    pub ops: SmallVec<[u32; 4]>,
    /// The operations that every node heeds, likewise, those on the catalog apart: of what may be 100,000 a node looks at
    /// none but these and its own.
    pub shared: SmallVec<[u32; 2]>,
    /// The changes of the catalog, read once for all nodes of a thread; most records make none.
    pub catalog: Option<Arc<[CatalogOp]>>,
}

impl Part {
    /// Whether it may be applied in pieces. What an EVICT does is one step: a device that evicted asks for everything
    /// again, and counts that it did.
    fn is_divisible(&self) -> bool {
        let ops = &self.transaction.ops;
        self.ops.iter().all(|index| matches!(ops[*index as usize], Op::Merge { .. }))
    }

    /// The same in pieces of at most so many operations, one after the other.
    fn into_pieces(mut self, ops_max: usize) -> Vec<Self> {
        let ops = std::mem::take(&mut self.ops);
        ops.chunks(ops_max).map(|ops| Self { ops: ops.into(), ..self.clone() }).collect()
    }

    /// The part of one partition out of so many.
    ///
    /// # Panics
    ///
    /// If a change of the catalog cannot be read: the transaction was not written by this process.
    #[must_use]
    pub fn of(
        txn: Txn,
        transaction: Arc<Transaction>,
        partition: PartitionId,
        partitions: u16,
    ) -> Self {
        let owner = |op: &Op| {
            let key = DocKey::of(transaction.app, op)?;
            Some(Slot::of(key.app, &key.collection, &key.id).partition(partitions))
        };
        let (mut ops, mut shared) = (SmallVec::new(), SmallVec::new());
        for (index, op) in (0..).zip(&transaction.ops) {
            if owner(op) == Some(partition) {
                ops.push(index);
            }
            if Self::is_shared(op, true) {
                shared.push(index);
            }
        }
        let catalog = read_catalog(&transaction).expect("this process wrote it");
        Self { txn, transaction, ops, shared, catalog }
    }

    /// True when every node heeds an operation beside those on the catalog, whoever owns its document if it has one.
    /// EVICT is such on a device, whose nodes each count how often it evicted.
    fn is_shared(op: &Op, is_device: bool) -> bool {
        match op {
            Op::Remote { .. } => true,
            Op::Evict { .. } => is_device,
            Op::Merge { .. } | Op::System(_) => false,
        }
    }
}

/// Reads the changes of the catalog that a record makes.
pub(crate) fn read_catalog(
    transaction: &Transaction,
) -> Result<Option<Arc<[CatalogOp]>>, CatalogError> {
    let entries = || {
        transaction.ops.iter().filter_map(|op| match op {
            Op::System(bytes) => Some(&bytes[..]),
            Op::Merge { .. } | Op::Evict { .. } | Op::Remote { .. } => None,
        })
    };
    let is_system = transaction.origin == Origin::System;
    if entries().count() != if is_system { transaction.ops.len() } else { 0 } {
        return Err(CatalogError::Malformed("changes of the catalog are a record of their own"));
    }
    if !is_system {
        return Ok(None);
    }
    // All that a process writes by itself is changes of the catalog: one of its records without any is none of ours.
    CatalogOp::decode_list(entries()).map(|ops| Some(ops.into()))
}

/// Something that happened to a node.
#[derive(Clone, Debug)]
pub enum Input {
    /// A client asks.
    Request {
        /// Names the request until its last reply.
        request: RequestId,
        /// What it asks.
        body: Request,
    },
    /// The client has taken this much of what was replied.
    Drained {
        /// The request of that client.
        request: RequestId,
        /// How much.
        bytes: u64,
    },
    /// The client is gone, or wants no more.
    Cancel {
        /// The request of that client.
        request: RequestId,
    },
    /// The client has closed its side of the connection, and is most likely gone. A read ends with an error; a
    /// mutation goes on and is answered.
    ClientClosed {
        /// The request of that client.
        request: RequestId,
    },
    /// Some of what a record does to this node; the rest of it comes next. A partition's part of a huge record would
    /// else keep its thread for milliseconds.
    Piece(Part),
    /// Every position up to `upto` is durable; these records concern this node.
    Committed {
        /// The last position accounted for.
        upto: Txn,
        /// In log order.
        records: Arc<[Part]>,
    },
    /// An append got its position, or was refused.
    Appended {
        /// Which one.
        ticket: Ticket,
        /// Its position.
        result: Result<Txn, AppendRefused>,
    },
    /// A message from another node.
    Message(Message),
    /// A block that was asked for is in memory.
    BlockArrived(BlockId),
    /// Something that happened to a sync session of this node.
    Session {
        /// Which session.
        session: SessionId,
        /// What happened.
        input: SessionInput,
    },
    /// A question for a checkpoint.
    Snapshot(SnapshotAsk),
    /// Nothing happened except time.
    Time,
    /// As `Time`, but no statement that has had its turn gets another: it is another node's.
    Timers,
}

/// Something the driver must now do.
#[derive(Clone, Debug)]
pub enum Output {
    /// Answer a client.
    Reply {
        /// The request of that client.
        request: RequestId,
        /// The answer, or a part of it.
        reply: Reply,
    },
    /// Append a record to the log.
    Append(Append),
    /// Hand a message to another node.
    Message(Message),
    /// Fetch a block, then say [`Input::BlockArrived`].
    FetchBlock(BlockId),
    /// Send a frame to the remote of a session.
    Frame {
        /// Which session.
        session: SessionId,
        /// The whole frame.
        frame: Bytes,
    },
    /// Close the connection of a session, after what was sent.
    CloseSession {
        /// Which session.
        session: SessionId,
        /// Why, for the log.
        reason: Box<str>,
    },
    /// Something that the owner of a session may want to know.
    SessionReport {
        /// Which session.
        session: SessionId,
        /// What.
        report: SessionReport,
    },
    /// Documents of an app were changed by the transactions up to here: observers look again.
    Changed {
        /// Whose documents.
        app: AppId,
        /// Up to where.
        upto: Txn,
    },
    /// The next part of a snapshot, or its end.
    Snapshot(Option<Bytes>),
    /// All partitions author under another epoch from here on. A driver that lets a device go on with its epoch over
    /// starts keeps this one durably *before* it carries out any later output, of which the first append under the
    /// new epoch, and the record that takes away the proof of the rollback, are the ones that matter: or a crash in
    /// between would bring back an epoch under which somebody else authors. A server has another one at each start
    /// and keeps none.
    NewEpoch {
        /// In place of [`NodeConfig::epoch`] at the next start.
        epoch: u64,
    },
}

/// One partition's state machine. See the module's text for the calling order.
#[derive(Debug)]
pub struct Node {
    config: NodeConfig,
    store: Store,
    tips: Tips,
    /// The document that nothing has happened to.
    blank: Arc<Document>,
    catalog: Catalog,
    catalog_changes: CatalogChanges,
    clock: HlcClock,
    /// The greatest clock value that this node's present actor has issued, or a bound above it.
    issued: Hlc,
    /// The greatest clock value of any document here.
    newest: Hlc,
    /// The greatest wall time ever read here, as far as the log and its checkpoints tell of former starts: a clock
    /// that went back refuses nothing that it took before.
    clock_wall_max: WallMs,
    calls: Map<CallId, Call>,
    /// How many calls read as of each transaction.
    reads: BTreeMap<Txn, usize>,
    requests: Map<RequestId, CallId>,
    deadlines: BTreeSet<(Instant, CallId)>,
    /// Calls whose key expires soon.
    expiries: BTreeSet<(WallMs, CallId)>,
    /// Calls that wait for a transaction.
    waits: BTreeSet<(Txn, CallId)>,
    /// Documents prepared for records that other nodes put together.
    prepared: BTreeMap<TxnId, Vec<DocKey>>,
    call_next: u64,
    tasks: Tasks,
    /// The outcomes of the operations of a record, while the rest of it is to come.
    pieces: Vec<(u32, ApplyOutcome)>,
    appends: Appends,
    sync: SyncHost,
    statements: StatementCache,
    scans: Scans,
    snapshot: Option<Snapshot>,
    /// More older versions are to be dropped than one step has time for.
    is_fold_due: bool,
    links: Vec<Link>,
    rng: Rng,
    last_now: Now,
    moment: Moment,
    outputs: VecDeque<Output>,
}

/// The sequences of one link, both ways.
#[derive(Clone, Copy, Debug, Default)]
struct Link {
    sent: u64,
    received: u64,
}

impl Node {
    /// An empty node; the log's records follow as [`Input::Committed`].
    #[must_use]
    pub fn new(config: NodeConfig) -> Self {
        let mut rng = Rng::new(&config.seed, "node");
        let mut store =
            if config.pretend_cold { Store::pretending_cold(rng.split()) } else { Store::new() };
        store.set_keeps_evict_markers(!config.is_device);
        // A device takes what its server has taken: the judgement is its only bound.
        if !config.is_device {
            store.set_merged_bytes_max(config.limits.merged_bytes_max);
        }
        Self {
            store,
            tips: Tips::default(),
            blank: Arc::default(),
            catalog: Catalog::default(),
            catalog_changes: CatalogChanges::default(),
            clock: HlcClock::default(),
            issued: Hlc::default(),
            newest: Hlc::default(),
            clock_wall_max: WallMs::default(),
            calls: Map::default(),
            reads: BTreeMap::new(),
            requests: Map::default(),
            deadlines: BTreeSet::new(),
            expiries: BTreeSet::new(),
            waits: BTreeSet::new(),
            prepared: BTreeMap::new(),
            call_next: 0,
            tasks: Tasks::default(),
            pieces: Vec::new(),
            appends: Appends::default(),
            sync: SyncHost::new(rng.split()),
            statements: StatementCache::default(),
            scans: Scans::default(),
            snapshot: None,
            is_fold_due: false,
            links: vec![Link::default(); usize::from(config.partitions)],
            rng,
            last_now: Now::default(),
            moment: Moment::default(),
            outputs: VecDeque::new(),
            config,
        }
    }

    /// Takes what happened.
    ///
    /// # Panics
    ///
    /// When `now` runs backwards: a driver's mistake.
    pub fn handle_input(&mut self, input: Input, now: Now) {
        assert!(now.mono >= self.last_now.mono, "monotonic time never runs backwards");
        self.last_now = now;
        self.clock_wall_max = self.clock_wall_max.max(now.wall);
        match input {
            Input::Request { request, body } => self.on_request(request, body, now),
            Input::Drained { request, bytes } => self.on_drained(request, bytes),
            Input::Cancel { request } => self.on_cancel(request),
            Input::ClientClosed { request } => self.on_client_closed(request),
            Input::Piece(part) => {
                let outcomes = self.apply_ops(&part);
                self.pieces.extend(outcomes);
                self.fold(part.ops.len(), now);
            }
            Input::Committed { upto, records } => self.on_committed(upto, &records, now),
            Input::Appended { ticket, result } => self.on_appended(ticket, result),
            Input::Message(message) => self.on_message(message, now),
            Input::BlockArrived(block) => {
                self.store.block_arrived(block);
                self.tasks.wake_block(block);
            }
            Input::Session { session, input } => self.on_session(session, input, now),
            Input::Snapshot(ask) => self.on_snapshot(ask),
            Input::Time => {
                self.on_timers(now);
                self.run_yielded(now);
            }
            Input::Timers => self.on_timers(now),
        }
        self.run_ready(now);
        while self.seat_waiting_scan(now) {
            self.run_ready(now);
        }
    }

    /// Takes notice that everything up to `upto` is durable and none of it concerns this node, when nothing here
    /// waits for that: the short way for most nodes at most commits. False when [`Input::Committed`] must say it.
    pub(crate) fn pass(&mut self, upto: Txn, now: Now) -> bool {
        let settled = self.appends.is_settled()
            && !self.tasks.is_behind()
            && self.waits.is_empty()
            && self.sync.is_settled();
        if settled {
            self.store.advance(upto);
            self.fold(0, now);
        }
        settled
    }

    /// What the driver must do next, until `None`.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call with [`Input::Time`]: at once while statements are runnable, or versions are to be dropped.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.has_runnable() || self.is_fold_due {
            return Some(self.last_now.mono);
        }
        self.next_timer()
    }

    /// Something that may be short was left when a moment's work was done.
    pub(crate) fn has_ready(&self) -> bool {
        self.tasks.has_ready()
    }

    /// True while a statement waits for its turn.
    pub(crate) fn has_runnable(&self) -> bool {
        self.tasks.has_runnable()
    }

    /// The next deadline, whether or not statements wait for their turn.
    pub(crate) fn next_timer(&self) -> Option<Instant> {
        let deadline = self.deadlines.first().map(|(at, _)| *at);
        let sync = self.sync.next_timer(self.last_now);
        Instant::earliest([deadline, self.next_authority_expiry(), sync])
    }

    /// The oldest transaction that a read of this node may still be made at.
    #[must_use]
    pub fn oldest_read(&self) -> Option<Txn> {
        let calls = self.reads.keys().next().copied();
        if self.sync.sessions.is_empty() {
            return calls;
        }
        let sessions = self.sync.sessions.values();
        let watches =
            sessions.flat_map(|hosted| hosted.watches.values().filter_map(Watch::read_at));
        let watches = watches.filter(|_| !is_planted(Plant::FoldedUnderGroup));
        watches.chain(calls).min()
    }

    /// Everything up to this transaction is reflected.
    #[must_use]
    pub fn applied(&self) -> Txn {
        self.store.applied()
    }

    /// The partition that this node owns.
    #[must_use]
    pub fn partition(&self) -> PartitionId {
        self.config.partition
    }

    /// The apps and keys.
    #[must_use]
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The documents, for checkers and status pages.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The greatest clock value of any document here. Far ahead of the wall clock it tells that some wall clock was
    /// wrong once, or is wrong now: see [`crate::time::is_far_ahead`].
    #[must_use]
    pub const fn newest_clock(&self) -> Hlc {
        self.newest
    }

    /// Remotes that this partition keeps something durable about.
    #[must_use]
    pub fn remote_count(&self) -> usize {
        self.sync.remotes.count()
    }

    /// Requests and pieces of work in progress.
    #[must_use]
    pub fn load(&self) -> usize {
        self.calls.len() + self.tasks.len()
    }

    /// Walks what is too slow for the hot path.
    ///
    /// # Panics
    ///
    /// When an invariant does not hold.
    pub fn check_invariants(&self) {
        self.store.check_invariants();
        self.sync.check_invariants(self.config.partitions, &self.config.limits);
        self.catalog_changes.check_invariants(self.config.partition);
        assert!(self.calls.len() <= self.config.limits.calls_max, "calls are bounded");
        let reads = self.calls.count(|call| call.read_at().is_some());
        assert_eq!(reads, self.reads.values().sum::<usize>(), "each read is counted");
        assert!(self.requests.len() <= self.calls.len(), "each request has one call");
        let is_of_a_call = |(_, call): &(WallMs, CallId)| self.calls.contains(call);
        assert!(self.expiries.iter().all(is_of_a_call), "what is watched for is in progress");
        assert!(
            self.tips.is_empty() || !self.appends.is_empty() || !self.prepared.is_empty(),
            "a tip has an append or a lock behind it"
        );
    }

    fn on_timers(&mut self, now: Now) {
        self.fold(0, now);
        self.expire_calls(now);
        self.sync_timeout(now);
    }

    fn on_committed(&mut self, upto: Txn, records: &[Part], now: Now) {
        let mut touched = Vec::new();
        let (generation, evicted) = (self.catalog.generation(), self.sync.evictions());
        for part in records {
            let app = part.transaction.app;
            if self.apply(part) && touched.last() != Some(&app) {
                touched.push(app);
            }
        }
        self.store.advance(upto);
        self.fold(records.iter().map(|part| part.ops.len()).sum(), now);
        self.finish_appends(upto);
        self.tasks.wake_applied(self.store.applied());
        self.wake_waiting(now);
        self.serve_deferred(&touched);
        if self.config.is_device && self.sync.evictions() != evicted {
            self.announce_evictions(now);
        }
        if self.catalog.generation() != generation {
            self.recheck_calls(now);
            self.recheck_sessions(now);
        }
    }

    /// Applies operations of a record on documents of this partition.
    fn apply_ops(&mut self, part: &Part) -> Vec<(u32, ApplyOutcome)> {
        let Part { txn, transaction, ops, .. } = part;
        let ahead = |key: &DocKey| self.tips.made_by(key, transaction.id);
        let applied = self.store.apply_ops(*txn, transaction, ops, ahead);
        self.note_clock(applied.newest_hlc);
        self.note_issued(transaction, ops);
        for (index, _) in &applied.outcomes {
            if let Some(key) = DocKey::of(transaction.app, &transaction.ops[*index as usize]) {
                self.settle(&key, transaction.id);
            }
        }
        applied.outcomes
    }

    /// Applies the rest of what this partition owns; true when some document was touched.
    fn apply(&mut self, part: &Part) -> bool {
        let Part { txn, transaction, shared, catalog, .. } = part;
        let txn = *txn;
        let rest = self.apply_ops(part);
        self.store.advance(txn);
        let mut outcomes = std::mem::take(&mut self.pieces);
        outcomes.extend(rest);
        self.clock_wall_max = self.clock_wall_max.max(transaction.wall);
        self.prepared.remove(&transaction.id);
        for &index in shared {
            match &transaction.ops[index as usize] {
                Op::Remote { peer, state } => {
                    let changes = decode_changes(state)
                        .expect("the rack reads it before it hands the record in");
                    self.remember_remote(transaction.app, *peer, changes);
                }
                // A device that evicted asks for everything again; a server remembers what it evicted instead.
                Op::Evict { .. } if self.config.is_device => self.sync.count_evict(transaction.app),
                Op::Evict { .. } => {}
                Op::Merge { .. } => unreachable!("its owner alone heeds it"),
                Op::System(_) => unreachable!("the catalog's are apart"),
            }
        }
        for op in catalog.iter().flat_map(|ops| ops.iter()) {
            self.catalog.apply(op.clone());
        }
        let touched = !outcomes.is_empty();
        if touched {
            self.outputs.push_back(Output::Changed { app: transaction.app, upto: txn });
        }
        if outcomes.iter().any(|(_, outcome)| *outcome != ApplyOutcome::Applied) {
            self.appends.mark_void(txn);
        }
        self.report_applied(txn, transaction, outcomes);
        touched
    }

    /// What is merged moves the clock, unless it is from a time far ahead: an edit of that one document will be
    /// above it all the same.
    fn note_clock(&mut self, newest: Hlc) {
        self.newest = self.newest.max(newest);
        let is_far = is_far_ahead(newest, self.last_now.wall);
        if !is_far && !is_planted(Plant::ClockNotRestored) {
            self.clock.receive(newest);
        }
    }

    /// In the log is what this node's actor issued before it was restarted, if it goes on with that actor. As with
    /// what is merged, one document from a time far ahead does not take the clock there. An actor writes the documents
    /// of its own partition alone: `ops` are those on them.
    fn note_issued(&mut self, transaction: &Transaction, ops: &[u32]) {
        if is_planted(Plant::ClockNotRestored) {
            return;
        }
        let actor = self.actor();
        for &index in ops {
            if let Op::Merge { delta, .. } = &transaction.ops[index as usize]
                && let Some(author) = delta.author().filter(|author| author.actor == actor)
            {
                self.issued = self.issued.max(author.hlc);
                self.note_clock(author.hlc);
            }
        }
    }

    /// The transaction is committed or refused: what was ahead of the log stands on the committed state again.
    fn settle(&mut self, key: &DocKey, txn_id: TxnId) {
        let store = &self.store;
        if self.tips.settle(key, txn_id, || store.document(key)) {
            self.tasks.wake_unlocked();
        }
    }

    /// Somebody waits until the log is applied further here.
    pub(crate) fn has_readers_behind(&self) -> bool {
        self.tasks.is_behind() || !self.waits.is_empty()
    }

    fn owner(&self, app: AppId, collection: &str, id: &DocId) -> PartitionId {
        Slot::of(app, collection, id).partition(self.config.partitions)
    }

    fn send(&mut self, to: PartitionId, body: Body) {
        let link = &mut self.links[usize::from(to.0)];
        link.sent += 1;
        self.outputs.push_back(Output::Message(Message {
            from: self.config.partition,
            to,
            boot: self.config.boot,
            sequence: link.sent,
            watermark: self.last_now.durable,
            body,
        }));
    }

    /// True once for each message: a duplicate is dropped.
    fn is_fresh(&mut self, message: &Message) -> bool {
        let link = &mut self.links[usize::from(message.from.0)];
        let fresh = message.sequence > link.received || is_planted(Plant::MessageTwice);
        link.received = link.received.max(message.sequence);
        fresh
    }

    fn on_message(&mut self, message: Message, now: Now) {
        if !self.is_fresh(&message) {
            return;
        }
        let Message { from, watermark, body, .. } = message;
        match body {
            Body::Select { call, bound, app, permissions, at, sharing } => {
                self.start_select(TaskId { from, call }, bound, app, permissions, at, sharing);
            }
            Body::SelectMore { call } => self.tasks.want_more(from, call),
            Body::Cancel { call } => self.tasks.cancel(from, call),
            Body::Mutate { call, mutation, ids } => {
                self.start_mutate(from, call, mutation, ids, watermark, None);
            }
            Body::Prepare { call, txn_id, mutation, ids } => {
                self.start_mutate(from, call, mutation, ids, watermark, Some(txn_id));
            }
            Body::Abandon { txn_id } => self.on_abandon(txn_id),
            Body::Selected { call, result } => self.on_selected(from, call, result),
            Body::Prepared { call, result } => self.on_prepared(from, call, result),
            Body::Mutated { call, result } => self.on_mutated(call, result),
            Body::Catalog { call, ops } => self.on_catalog_change(from, call, ops),
            Body::Applied { id, void } => self.on_applied(id, void, now),
            Body::NewEpoch { epoch } => self.config.epoch = epoch,
            Body::FromSession(body) => self.on_from_session(from, body),
            Body::ToSession(body) => {
                // Another thread may have read at a position that this one has not looked at yet.
                let durable = now.durable.max(watermark);
                self.on_to_session(from, body, Now { durable, ..now });
            }
        }
    }
}

#[cfg(test)]
mod tests;
