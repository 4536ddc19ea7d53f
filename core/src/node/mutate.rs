//! The owner's side of mutations: authoring changes of the documents that this partition owns.

use std::sync::Arc;

use super::append::Then;
use super::message::{Body, CallId, Prepared};
use super::mutation::{Mutation, MutationKind, display_id};
use super::request::{ErrorKind, RequestError};
use super::row::{StoredRow, apply_field_op, fields_of, objects_of};
use super::sync_owed::Refusal;
use super::tasks::{Progress, Task, TaskId};
use super::{Node, coordinate};
use crate::document::{Document, Edit, EditError};
use crate::dql::ast::Conflict;
use crate::dql::{DqlError, Fuel, Insert, Meter};
use crate::ident::{Actor, DocId, Dot, PartitionId, Txn, TxnId};
use crate::log::transaction::{Op, Origin, Transaction};
use crate::plant::{Plant, is_planted};
use crate::seam::Now;
use crate::store::{DocKey, Held, InFlight, LockOwner};
use crate::time::{ClockExhausted, Hlc, HlcClock, WallMs, is_far_ahead};
use crate::value::Object;

/// A mutation of documents that are all this partition's.
#[derive(Debug)]
pub(crate) struct MutateTask {
    from: PartitionId,
    call: CallId,
    mutation: Arc<Mutation>,
    /// Which documents.
    keys: Vec<DocKey>,
    /// The documents up to here are in memory.
    resident: usize,
    /// The documents up to here are held by nobody else.
    free: usize,
    /// All of them are reserved: what is free stays so.
    is_reserved: bool,
    /// Everything that was acknowledged when the statement came is applied first.
    watermark: Txn,
    /// The record that the coordinator puts together, or none when this node appends.
    prepare: Option<TxnId>,
    /// That record, or the one that this node will append: in its name the documents are held between turns.
    txn_id: TxnId,
    /// Documents that former turns have authored.
    begun: Option<Begun>,
    /// Work that no turn has paid for yet.
    spent: Fuel,
}

/// A mutation part of whose documents have been authored. The others come in later turns, with the same dot, and
/// nobody sees any before the last: its documents are reserved, so nobody else changes them meanwhile.
#[derive(Debug)]
struct Begun {
    tick: Hlc,
    actor: Actor,
    /// The epoch of appends in which the first was authored.
    epoch: u32,
    authored: Vec<Authored>,
    /// The operations of the documents authored, and their ids.
    ops: Vec<Op>,
    mutated: Vec<DocId>,
    /// How many documents have been looked at.
    next: usize,
    /// One of them bears what the actor wrote after the tick.
    forgets_own: bool,
}

/// One document as a mutation leaves it.
#[derive(Debug)]
struct Authored {
    key: DocKey,
    change: InFlight,
    document: Arc<Document>,
}

impl Node {
    pub(crate) fn start_mutate(
        &mut self,
        from: PartitionId,
        call: CallId,
        mutation: Arc<Mutation>,
        ids: Vec<DocId>,
        watermark: Txn,
        prepare: Option<TxnId>,
    ) {
        let keys = ids.into_iter().map(|id| mutation.key(id)).collect();
        let txn_id = prepare.unwrap_or_else(|| TxnId(self.rng.uuid()));
        let (begun, spent, resident, free, is_reserved) = (None, 0, 0, 0, false);
        let task = MutateTask {
            from,
            call,
            mutation,
            keys,
            resident,
            free,
            is_reserved,
            watermark,
            prepare,
            txn_id,
            begun,
            spent,
        };
        self.tasks.start(TaskId { from, call }, Task::Mutate(Box::new(task)));
    }

    /// Waits for what it needs, then authors all documents: a few in one step, many in turns.
    pub(crate) fn resume_mutate(
        &mut self,
        task: &mut MutateTask,
        turn: Fuel,
        now: Now,
    ) -> Progress {
        if self.store.applied() < task.watermark {
            return Progress::Behind(task.watermark);
        }
        if task.mutation.deadline <= now.mono {
            self.release(task);
            self.answer_failure(task, coordinate::timed_out());
            return Progress::Done;
        }
        if task.spent >= turn {
            task.spent -= turn;
            self.note_sat_out(turn);
            return Progress::Yield;
        }
        while let Some(key) = task.keys.get(task.resident) {
            if let Some(block) = self.store.missing_block(key) {
                return Progress::Blocked(block);
            }
            task.resident += 1;
        }
        if task.begun.is_none() && !self.is_free(task) && !is_planted(Plant::LockIgnored) {
            return Progress::Locked;
        }
        match self.author(task, turn, now) {
            Ok(None) => return Progress::Yield,
            Ok(Some(begun)) => {
                self.release(task);
                self.deliver(task, begun);
            }
            Err(error) => {
                self.release(task);
                self.answer_failure(task, error);
            }
        }
        Progress::Done
    }

    /// True when no other statement holds any document of the task. While one does, a part of a larger statement reserves
    /// all of them, once: then nobody takes one that was free, and each is looked at until it is, however often the
    /// task is woken by what others let go of.
    fn is_free(&mut self, task: &mut MutateTask) -> bool {
        while let Some(key) = task.keys.get(task.free) {
            self.note_work(CHECK);
            if self.must_wait_for(key, task.prepare) {
                if let Some(txn_id) = task.prepare.filter(|_| !task.is_reserved) {
                    task.is_reserved = self.tips.reserve(&task.keys, txn_id);
                }
                if !task.is_reserved {
                    task.free = 0;
                }
                return false;
            }
            task.free += 1;
        }
        true
    }

    /// A document that another statement holds cannot be changed now. A record that another node appends must
    /// not build on one of ours either before that is committed: were ours refused, theirs would still go
    /// through, and mean nothing.
    fn must_wait_for(&self, key: &DocKey, prepare: Option<TxnId>) -> bool {
        self.tips.is_locked(key)
            || self.tips.is_reserved_by_another(key, prepare)
            || (prepare.is_some() && self.tips.newest(key).is_some())
    }

    /// The task waits no longer: what it had reserved is free.
    fn release(&mut self, task: &MutateTask) {
        if self.tips.release(&task.keys, task.txn_id) {
            self.tasks.wake_unlocked();
        }
    }

    /// Authors documents for one turn. `None` while there are more.
    fn author(
        &mut self,
        task: &mut MutateTask,
        turn: Fuel,
        now: Now,
    ) -> Result<Option<Begun>, RequestError> {
        let is_first_turn = task.begun.is_none();
        let mut begun = match task.begun.take() {
            Some(begun) if self.stands(&begun) => begun,
            _ => self.begin_authoring(now)?,
        };
        while let Some(key) = task.keys.get(begun.next) {
            if task.spent >= turn {
                task.spent -= turn;
                if is_first_turn && !task.is_reserved {
                    task.is_reserved = self.tips.reserve(&task.keys, task.txn_id);
                }
                task.begun = Some(begun);
                return Ok(None);
            }
            begun.next += 1;
            let meter = Meter::default();
            let authored = self.author_key(&task.mutation, key, &mut begun, &meter)?;
            let bytes = authored.as_ref().map_or(0, |authored| authored.document.size_bytes());
            let fuel = AUTHOR + meter.take_spent() + bytes as Fuel;
            task.spent += fuel;
            self.note_work(fuel);
            if let Some(authored) = authored {
                begun.ops.push(authored.op());
                begun.mutated.push(authored.key.id.clone());
                begun.authored.push(authored);
            }
        }
        // What is written anew under an id that was evicted has to be above all that this actor wrote there, and a
        // device keeps no marker that tells.
        let evicts = matches!(task.mutation.kind, MutationKind::Evict(_));
        if begun.forgets_own && self.config.is_device && evicts {
            self.renew_epoch();
        }
        Ok(Some(begun))
    }

    fn begin_authoring(&mut self, now: Now) -> Result<Begun, RequestError> {
        self.leave_wrong_time(now);
        let tick = self.clock.tick(now.wall).map_err(|error| clock_error(&error))?;
        let (actor, epoch) = (self.actor(), self.appends.epoch);
        let (authored, ops, mutated) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Begun { tick, actor, epoch, authored, ops, mutated, next: 0, forgets_own: false })
    }

    /// Whether what was authored in former turns may be appended. Not if it may build on an append that was refused
    /// meanwhile, or bears an actor that must author nothing more: then all of it is authored again.
    fn stands(&self, begun: &Begun) -> bool {
        begun.epoch == self.appends.epoch && begun.actor == self.actor()
    }

    fn author_key(
        &mut self,
        mutation: &Mutation,
        key: &DocKey,
        begun: &mut Begun,
        meter: &Meter,
    ) -> Result<Option<Authored>, RequestError> {
        let (id, document) = (&key.id, self.newest(key));
        self.check_may_forget(mutation, id, key)?;
        begun.forgets_own |= document.vector().get(begun.actor) > begun.tick;
        let hlc = self.clock_for(mutation, key, &document, begun.tick)?;
        self.issued = self.issued.max(hlc);
        let dot = Dot { hlc, actor: begun.actor };
        let size_before = document.size_bytes();
        let Some((change, document)) = author_one(mutation, id, &document, dot, meter)? else {
            return Ok(None);
        };
        let (size, limit) = (document.size_bytes(), self.config.limits.document_bytes_max);
        if size > limit && size > size_before {
            // How large it becomes tells how large it was.
            let size =
                if mutation.may_read(id) { format!("size of {size} bytes") } else { "it".into() };
            return Err(RequestError::new(
                ErrorKind::TooLarge,
                format!("document {}: {size} exceeds limit of {limit} bytes", display_id(id)),
            ));
        }
        Ok(Some(Authored { key: key.clone(), change, document: Arc::new(document) }))
    }

    /// Once the wall clock is back from a time far ahead, a new actor begins where it is now: everything that the
    /// former one would still issue, peers would refuse for its clock.
    fn leave_wrong_time(&mut self, now: Now) {
        if is_far_ahead(self.clock.last(), now.wall) && !is_planted(Plant::ClockNotRestored) {
            self.renew_epoch();
            self.issued = Hlc::default();
            self.clock = HlcClock::default();
        }
    }

    /// The clock value of an edit: this commit's, or one above all that the document has seen. One document from a
    /// time far ahead does not take the clock of all others there.
    fn clock_for(
        &self,
        mutation: &Mutation,
        key: &DocKey,
        document: &Document,
        tick: Hlc,
    ) -> Result<Hlc, RequestError> {
        if matches!(mutation.kind, MutationKind::Evict(_)) {
            return Ok(tick);
        }
        let seen = match document.is_blank().then(|| self.store.held(key)).flatten() {
            None => document.vector().highest(),
            // Peers hold what was evicted here, or is about to be, and have seen all of it.
            Some(Held::Document(document)) => document.vector().highest(),
            Some(Held::Evicted(marker)) => marker.highest(),
        };
        if seen < tick || is_planted(Plant::ClockNotRestored) {
            return Ok(tick);
        }
        HlcClock::resume(seen).tick(WallMs(0)).map_err(|error| {
            let message = format!(
                "document {} bears the last clock value there is ({error}): nothing was written, and nothing can \
                 be written to it any more; EVICT takes it away",
                display_id(&key.id)
            );
            RequestError::new(ErrorKind::Unavailable, message)
        })
    }

    /// A device does not evict what no server has taken: it would be lost.
    fn check_may_forget(
        &self,
        mutation: &Mutation,
        id: &DocId,
        key: &DocKey,
    ) -> Result<(), RequestError> {
        let evicts = matches!(mutation.kind, MutationKind::Evict(_));
        if !evicts || !self.config.is_device {
            return Ok(());
        }
        let is_settled = self.tips.newest(key).is_none()
            && self.store.edited_at(key) <= self.sync.settled_there(mutation.app);
        let cause = match self.sync.refusals.of(key) {
            _ if !is_settled => {
                "has edits that no server has acknowledged: sync before EVICT, nothing was evicted"
            }
            Refusal::Certain => {
                "has edits that the server refuses and that are nowhere else: `bigpeer peer` says why they were \
                 refused, nothing was evicted"
            }
            Refusal::Possible
                if self.newest(key).vector().iter().any(|it| self.may_be_ours(it)) =>
            {
                "may have edits that the server refuses, of which there are more than are listed: nothing was \
                 evicted, and no edited document can be until the server takes them"
            }
            Refusal::None | Refusal::Possible => return Ok(()),
        };
        let message = format!("document {} {cause}", display_id(id));
        Err(RequestError::new(ErrorKind::Conflict, message))
    }

    /// The newest appended state; an empty document when there is none.
    pub(crate) fn newest(&self, key: &DocKey) -> Arc<Document> {
        if let Some(document) = self.tips.newest(key)
            && !is_planted(Plant::DotsOutOfOrder)
        {
            return document.clone();
        }
        self.store.document(key).unwrap_or_else(|| self.blank.clone())
    }

    /// Under which this partition authors now.
    #[must_use]
    pub fn actor(&self) -> Actor {
        let epoch = if is_planted(Plant::ClockNotRestored) { 0 } else { self.config.epoch };
        Actor::new(self.config.site, epoch, self.config.partition.0)
    }

    /// The actor under which this partition authors now, with the greatest clock value that it has issued, or a bound
    /// above it.
    #[must_use]
    pub fn issued(&self) -> Dot {
        Dot { hlc: self.issued, actor: self.actor() }
    }

    /// Appends what was authored, or hands it to the coordinator and holds the documents.
    fn deliver(&mut self, task: &MutateTask, begun: Begun) {
        let Begun { authored, ops, mutated, .. } = begun;
        let (to, call) = (task.from, task.call);
        if let Some(txn_id) = task.prepare {
            if !authored.is_empty() {
                let keys = authored.iter().map(|authored| authored.key.clone()).collect();
                self.prepared.insert(txn_id, keys);
            }
            let lock = Some(LockOwner { from: to, txn_id });
            self.push_tips(authored, txn_id, lock);
            return self.send(to, Body::Prepared { call, result: Ok(Prepared { ops, mutated }) });
        }
        if ops.is_empty() {
            // What it saw may be durable and not wholly applied.
            let at = self.last_now.durable;
            return self.send(to, Body::Mutated { call, result: Ok((at, mutated)) });
        }
        let txn_id = task.txn_id;
        let transaction = Transaction {
            id: txn_id,
            app: task.mutation.app,
            origin: Origin::Http,
            wall: self.last_now.wall,
            ops,
        };
        match self.append(transaction, true, Then::Answer { to, call, mutated }) {
            Ok(()) => self.push_tips(authored, txn_id, None),
            Err(error) => self.send(to, Body::Mutated { call, result: Err(error) }),
        }
    }

    fn push_tips(&mut self, authored: Vec<Authored>, txn_id: TxnId, lock: Option<LockOwner>) {
        for Authored { key, change, document } in authored {
            self.tips.push(key, txn_id, change, document, lock);
        }
    }

    fn answer_failure(&mut self, task: &MutateTask, error: RequestError) {
        let (to, call) = (task.from, task.call);
        let body = if task.prepare.is_some() {
            Body::Prepared { call, result: Err(error) }
        } else {
            Body::Mutated { call, result: Err(error) }
        };
        self.send(to, body);
    }

    /// The coordinator gave up: what it had us prepare is forgotten.
    pub(crate) fn on_abandon(&mut self, txn_id: TxnId) {
        for key in self.prepared.remove(&txn_id).unwrap_or_default() {
            self.settle(&key, txn_id);
        }
    }
}

impl Authored {
    fn op(&self) -> Op {
        let (collection, id) = (self.key.collection.clone(), self.key.id.clone());
        match &self.change {
            InFlight::Merge(delta) => Op::Merge { collection, id, delta: delta.clone() },
            InFlight::Evict => Op::Evict { collection, id },
        }
    }
}

impl Mutation {
    fn key(&self, id: DocId) -> DocKey {
        DocKey { app: self.app, collection: self.collection.clone(), id }
    }
}

/// The cost of looking whether another statement holds a document.
const CHECK: Fuel = 200;

/// The cost of authoring one document, beside its expressions and its bytes.
const AUTHOR: Fuel = 5_000;

/// What the mutation makes of one document: nothing, or a change and the state it leads to.
fn author_one(
    mutation: &Mutation,
    id: &DocId,
    document: &Document,
    dot: Dot,
    meter: &Meter,
) -> Result<Option<(InFlight, Document)>, RequestError> {
    assert!(mutation.may_write(id), "the coordinator hands on what may be written");
    let filter = match &mutation.kind {
        MutationKind::Insert { plan, documents } => {
            let place = documents.binary_search_by(|(have, _)| have.cmp(id));
            let place = place.expect("an INSERT has a document for each of its ids");
            let is_seen = mutation.may_read(id);
            return insert(plan, id, &documents[place].1, document, is_seen, dot);
        }
        MutationKind::Update { filter, .. }
        | MutationKind::Delete(filter)
        | MutationKind::Evict(filter) => filter,
    };
    let row = StoredRow::new(id, document);
    let failed = |error| dql_error(&error);
    if !document.is_visible() || !filter.accepts_within(&row, meter).map_err(failed)? {
        return Ok(None);
    }
    if matches!(mutation.kind, MutationKind::Evict(_)) {
        // It writes nothing: its dot need not be above what the document has seen.
        return Ok(Some((InFlight::Evict, Document::new())));
    }
    let mut edit = Edit::new(document, dot);
    match &mutation.kind {
        MutationKind::Update { update, .. } => {
            edit.set_objects(objects_of(update.mode()));
            for op in &update.assignments_within(&row, meter).map_err(failed)? {
                apply_field_op(&mut edit, op).map_err(|error| edit_error(id, &error))?;
            }
        }
        MutationKind::Delete(_) => edit.delete(false),
        MutationKind::Evict(_) | MutationKind::Insert { .. } => unreachable!("it has returned"),
    }
    Ok(finish(edit))
}

/// `is_seen` tells whether the asker may read the document. One that it may not read is overwritten whole: an
/// answer that says whether anything differed would say what it holds.
fn insert(
    plan: &Insert,
    id: &DocId,
    content: &Object,
    document: &Document,
    is_seen: bool,
    dot: Dot,
) -> Result<Option<(InFlight, Document)>, RequestError> {
    let (fields, objects) = (fields_of(plan.types()), objects_of(plan.mode()));
    let failed = |error| edit_error(id, &error);
    if plan.is_initial() {
        if !document.is_blank() {
            return Ok(None);
        }
        return Edit::initial(content, objects, &fields).map(finish).map_err(failed);
    }
    let mut edit = Edit::new(document, dot);
    edit.set_objects(objects);
    if !document.is_visible() {
        edit.insert();
        edit.assign_content(content, &fields).map_err(failed)?;
        return Ok(finish(edit));
    }
    match plan.conflict() {
        Conflict::Fail => Err(RequestError::new(
            ErrorKind::Conflict,
            format!(
                "Identifier conflict on document {}: using FAIL conflict policy",
                display_id(id)
            ),
        )),
        Conflict::Nothing => Ok(None),
        Conflict::UpdateLocalDiff if is_seen => {
            edit.assign_content_differing(content, &fields).map_err(failed)?;
            Ok(finish(edit))
        }
        Conflict::Update | Conflict::UpdateLocalDiff => {
            edit.insert();
            edit.assign_content(content, &fields).map_err(failed)?;
            Ok(finish(edit))
        }
    }
}

fn finish(edit: Edit) -> Option<(InFlight, Document)> {
    let (delta, document) = edit.finish_with_document()?;
    Some((InFlight::Merge(Arc::new(delta)), document))
}

fn edit_error(id: &DocId, error: &EditError) -> RequestError {
    RequestError::new(ErrorKind::Invalid, format!("document {}: {error}", display_id(id)))
}

fn clock_error(error: &ClockExhausted) -> RequestError {
    RequestError::new(ErrorKind::Unavailable, format!("{error}: nothing was written"))
}

pub(crate) fn dql_error(error: &DqlError) -> RequestError {
    RequestError::new(ErrorKind::Invalid, error.to_string())
}
