//! Reads: the coordinator that merges, and the owners that scan.

use std::sync::Arc;

use smallvec::SmallVec;

use super::coordinate::{Authority, Call, Work};
use super::message::{Body, CallId};
use super::mutate::dql_error;
use super::mutation::{Mutation, MutationKind};
use super::request::{
    Credential, ErrorKind, Execute, ObjectMode, Outcome, Reply, RequestError, RequestId,
};
use super::row::StoredRow;
use super::scans::{Asker, Seat};
use super::tasks::{Progress, Task, TaskId};
use super::{Node, Output};
use crate::auth::{Grant, SharedPermissions};
use crate::document::Document;
use crate::dql::ast::{Datasource, StatementKind};
use crate::dql::{
    Access, Bound, Documents, Fuel, Insert, Limits, MergeSelect, OutRow, PartOut, PartitionSelect,
    Statement, Update,
};
use crate::ident::{AppId, DocId, PartitionId, Slot, Txn};
use crate::plant::{Plant, is_planted};
use crate::seam::Now;
use crate::store::{DocKey, Read, ScanStep};
use crate::time::Instant;
use crate::value::Value;

/// A read at its coordinator.
#[derive(Debug)]
pub(crate) struct SelectCall {
    at: Txn,
    authority: Authority,
    merge: MergeSelect,
    /// The partitions that take part; the merge numbers them by their place here.
    partitions: Partitions,
    /// Who has been asked for a part that has not come.
    asked: SmallVec<[bool; 8]>,
    purpose: Purpose,
    pub(crate) seat: Seat,
    /// Since when its client has had all that it may leave untaken: its clock stands still.
    paused_at: Option<Instant>,
    /// It has work to do here, and waits for time.
    is_waiting: bool,
    /// The work that it has been here.
    spent: Fuel,
}

/// A read that is about to begin.
#[derive(Debug)]
pub(crate) struct SelectStart {
    request: Option<RequestId>,
    query_type: &'static str,
    deadline: Instant,
    bound: Bound,
    authority: Authority,
    purpose: Purpose,
    asker: Option<Asker>,
}

impl SelectStart {
    pub(crate) fn asker(&self) -> Option<Asker> {
        self.asker
    }

    pub(crate) fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Its rows are the documents that a mutation is about.
    pub(crate) fn is_choosing(&self) -> bool {
        matches!(self.purpose, Purpose::Choose { .. })
    }
}

/// Most reads are of one document, and so of one partition.
type Partitions = SmallVec<[PartitionId; 4]>;

#[derive(Debug)]
enum Purpose {
    /// Rows for a client: how many bytes it has been sent and not taken.
    Rows { untaken_bytes: u64 },
    /// The documents that a mutation is about.
    Choose { mutation: Option<Mutation>, ids: Vec<DocId> },
}

impl SelectCall {
    pub(crate) fn at(&self) -> Txn {
        self.at
    }

    pub(crate) fn authority(&self) -> &Authority {
        &self.authority
    }

    /// It counts as one of its key that works.
    #[cfg(test)]
    pub(crate) fn has_seat(&self) -> bool {
        matches!(self.seat, Seat::Taken(_))
    }

    /// Its rows are the documents that a mutation is about.
    pub(crate) fn is_choosing(&self) -> bool {
        matches!(self.purpose, Purpose::Choose { .. })
    }

    /// It looks through a collection, or has been more than a turn's work here: it takes turns.
    fn is_long(&self, turn: Fuel) -> bool {
        self.merge.is_scan() || self.spent >= turn
    }
}

/// A read at an owner of documents.
#[derive(Debug)]
pub(crate) struct SelectTask {
    /// The document that was looked at last: of the next one only the id differs.
    key: DocKey,
    permissions: SharedPermissions,
    at: Txn,
    machine: PartitionSelect,
    place: Place,
    /// A part may be sent.
    has_credit: bool,
    /// A document that a turn has not come to the end of.
    begun: Option<Arc<Document>>,
    /// Work that no turn has paid for yet.
    spent: Fuel,
}

#[derive(Debug)]
enum Place {
    /// How many of the ids that the statement names have been looked at, beside the one that is waited for.
    Ids { next: usize, is_waiting: bool },
    /// Behind this one.
    Scan(Option<DocId>),
    /// All documents have been pushed.
    End,
}

impl SelectTask {
    /// It looks through a collection.
    pub(crate) fn is_scan(&self) -> bool {
        matches!(self.place, Place::Scan(_))
    }

    /// It has looked at all its documents.
    pub(crate) fn is_at_end(&self) -> bool {
        matches!(self.place, Place::End)
    }

    /// More may be sent; true when the task was waiting for it.
    pub(crate) fn grant(&mut self) -> bool {
        !std::mem::replace(&mut self.has_credit, true)
    }
}

impl Node {
    /// Starts a statement: reads at once, writes once their documents are known.
    pub(crate) fn begin_statement(
        &mut self,
        request: RequestId,
        execute: &mut Execute,
        statement: &Arc<Statement>,
        bound: Option<Bound>,
        grant: Grant,
        now: Now,
    ) -> Result<(), RequestError> {
        if statement.datasource() == Datasource::System {
            return Err(RequestError::new(
                ErrorKind::Invalid,
                format!("this server has no collection `system:{}`", statement.collection()),
            ));
        }
        let collection = statement.collection();
        let permissions = &grant.permissions;
        let side = if statement.is_mutation() { &permissions.write } else { &permissions.read };
        if !side.has_rule(collection) {
            return Err(RequestError::new(
                ErrorKind::Forbidden,
                format!(
                    "the credential may not {} `{collection}`",
                    if statement.is_mutation() { "write" } else { "read" }
                ),
            ));
        }
        let bound = match bound {
            Some(bound) => bound,
            None => {
                Bound::taking(statement.clone(), &mut execute.args).map_err(|e| dql_error(&e))?
            }
        };
        let query_type = statement.query_type();
        let is_scan = *bound.access() == Access::Scan;
        let (app, deadline) = (execute.app, execute.deadline);
        // The statement needs the text of its credential no more.
        let credential = std::mem::replace(&mut execute.credential, Credential::Local);
        let start = |bound, grant, purpose| SelectStart {
            request: Some(request),
            query_type,
            deadline,
            bound,
            // A key is hashed for its name among the askers: not for those that nobody counts.
            asker: is_scan.then(|| Asker::of(app, &credential)).flatten(),
            authority: Authority::new(app, credential, grant),
            purpose,
        };
        if !statement.is_mutation() {
            let purpose = Purpose::Rows { untaken_bytes: 0 };
            self.begin_select(start(bound, grant, purpose), now);
            return Ok(());
        }
        let collection = statement.shared_collection().clone();
        let mutation =
            |permissions, kind| Mutation { app, collection, permissions, deadline, kind };
        if let StatementKind::Insert(_) = statement.kind() {
            let (kind, ids) = self.insertion(bound, execute.mode)?;
            let mutation = mutation(grant.permissions, kind);
            // Before any look-up: a refusal says nothing about what is stored.
            mutation.check_may_write(&ids)?;
            self.begin_mutation(Some(request), query_type, mutation, ids);
            return Ok(());
        }
        let (kind, ids) = mutation_kind(&bound, execute.mode)?;
        let mutation = mutation(grant.permissions.clone(), kind);
        match ids.and_then(|ids| mutation.without_a_look(ids)) {
            Some(ids) => self.begin_mutation(Some(request), query_type, mutation, ids),
            None => {
                let purpose = Purpose::Choose { mutation: Some(mutation), ids: Vec::new() };
                self.begin_select(start(bound, grant, purpose), now);
            }
        }
        Ok(())
    }

    /// An INSERT, and its documents in the order given.
    fn insertion(
        &mut self,
        bound: Bound,
        mode: ObjectMode,
    ) -> Result<(MutationKind, Vec<DocId>), RequestError> {
        let mut plan = Insert::new(bound, mode).expect("the statement is an INSERT");
        let mut rng = self.rng.split();
        let planned = plan.documents(&mut || Value::from(rng.uuid().to_string()));
        let Documents { ids, fields: documents } = planned.map_err(|e| dql_error(&e))?;
        Ok((MutationKind::Insert { plan, documents }, ids))
    }

    /// Begins a read, or lets it wait for others of its key that look through a collection as well.
    fn begin_select(&mut self, start: SelectStart, now: Now) {
        let max = self.config.limits.scans_of_key_max;
        if let Some(asker) = start.asker
            && !self.scans.take_seat(asker, max)
        {
            let (request, query_type, deadline) = (start.request, start.query_type, start.deadline);
            let call = self.add_call(request, query_type, deadline, Work::Queued(Box::new(start)));
            return self.scans.wait(asker, call);
        }
        self.run_select(start, now);
    }

    /// Begins a read that has its seat.
    pub(crate) fn run_select(&mut self, start: SelectStart, now: Now) {
        let SelectStart { request, query_type, deadline, bound, authority, purpose, asker } = start;
        let (app, permissions) = (authority.app(), authority.grant().permissions.clone());
        let partitions = self.partitions_of(app, &bound);
        let sharing = partitions.len();
        let merge = MergeSelect::new(bound.clone(), sharing, Limits::default());
        let is_done = merge.is_done();
        let select = SelectCall {
            at: now.durable,
            authority,
            merge,
            asked: SmallVec::from_elem(true, partitions.len()),
            partitions: partitions.clone(),
            purpose,
            seat: Seat::taken(asker),
            paused_at: None,
            is_waiting: false,
            spent: 0,
        };
        let work = Work::Select(Box::new(select));
        let call = self.add_call(request, query_type, deadline, work);
        for partition in partitions {
            let (bound, permissions, at) = (bound.clone(), permissions.clone(), now.durable);
            self.send(partition, Body::Select { call, bound, app, permissions, at, sharing });
        }
        // A statement about no document at all has its answer already.
        if is_done {
            self.advance_select(call, self.whole_turn());
        }
    }

    fn partitions_of(&self, app: AppId, bound: &Bound) -> Partitions {
        let all = || (0..self.config.partitions).map(PartitionId).collect();
        match bound.access() {
            Access::Scan => all(),
            Access::Ids(ids) => {
                let collection = bound.statement().collection();
                let mut owners = Partitions::new();
                for id in ids {
                    let owner = self.owner(app, collection, id);
                    if let Err(place) = owners.binary_search(&owner) {
                        owners.insert(place, owner);
                    }
                    if owners.len() == usize::from(self.config.partitions) {
                        break;
                    }
                }
                // An aggregate over no document still has a row: some partition has to say so.
                if owners.is_empty() {
                    owners.push(self.config.partition);
                }
                owners
            }
        }
    }

    pub(crate) fn on_selected(
        &mut self,
        from: PartitionId,
        call: CallId,
        result: Result<Box<PartOut>, RequestError>,
    ) {
        let turn = self.whole_turn();
        let Some(Call { work: Work::Select(select), .. }) = self.calls.get_mut(&call) else {
            return;
        };
        let Some(place) = select.partitions.iter().position(|partition| *partition == from) else {
            return;
        };
        select.asked[place] = false;
        let pushed = match result {
            Ok(part) => select.merge.push(place, *part).map_err(|error| dql_error(&error)),
            Err(error) => Err(error),
        };
        let worked = select.merge.take_spent();
        select.spent = select.spent.saturating_add(worked);
        match select.is_long(turn) {
            true => self.in_turn(|node| node.note_work(worked)),
            false => self.note_work(worked),
        }
        match pushed {
            Ok(()) => self.go_on(call),
            Err(error) => self.fail_call(call, error),
        }
    }

    /// Goes on with a read for which something has come, while the moment has work left for it. Else one that names its
    /// documents goes on at the next moment, and a long one in its turn: many parts, or a client that takes all its
    /// rows, would keep the thread until it is over.
    pub(crate) fn go_on(&mut self, call: CallId) {
        let (turn, left, has_time) = (self.whole_turn(), self.turn_left(), self.moment.has_time());
        let Some(Call { work: Work::Select(select), .. }) = self.calls.get_mut(&call) else {
            return;
        };
        if select.is_waiting {
            return;
        }
        match select.is_long(turn) {
            true if has_time && left > 0 => self.in_turn(|node| node.advance_select(call, left)),
            false if has_time => self.advance_select(call, turn),
            is_long => {
                select.is_waiting = true;
                match is_long {
                    true => self.tasks.wait_for_turn(call),
                    false => self.tasks.wait_for_moment(call),
                }
            }
        }
    }

    fn wait_for_turn_of(&mut self, call: CallId) {
        if let Some(Call { work: Work::Select(select), .. }) = self.calls.get_mut(&call) {
            debug_assert!(!select.is_waiting, "a read waits in one place");
            select.is_waiting = true;
            self.tasks.wait_for_turn(call);
        }
    }

    /// Puts rows together, hands on what is ready, asks for more, ends the call when there is no more: a turn of it.
    pub(crate) fn advance_select(&mut self, call: CallId, turn: Fuel) {
        let Some(Call { work: Work::Select(select), .. }) = self.calls.get_mut(&call) else {
            return;
        };
        select.is_waiting = false;
        let worked = select.merge.work(turn);
        let spent = select.merge.take_spent();
        select.spent = select.spent.saturating_add(spent);
        self.note_work(spent);
        match worked {
            Ok(false) => self.hand_on_rows(call, turn.saturating_sub(spent)),
            Ok(true) => self.wait_for_turn_of(call),
            Err(error) => self.fail_call(call, dql_error(&error)),
        }
    }

    fn hand_on_rows(&mut self, call: CallId, turn: Fuel) {
        let limit = self.config.limits.reply_bytes_max;
        let Some(entry) = self.calls.get_mut(&call) else { return };
        let request = entry.request;
        let Work::Select(select) = &mut entry.work else { return };
        if select.authority.has_expired(self.last_now.wall) {
            return self.end_expired(call);
        }
        let room = match &select.purpose {
            Purpose::Rows { untaken_bytes } => limit.saturating_sub(*untaken_bytes),
            Purpose::Choose { .. } => u64::MAX,
        };
        if room == 0 || matches!(select.seat, Seat::Left(_)) {
            return;
        }
        let rows = select.merge.take_rows(usize::try_from(room).unwrap_or(usize::MAX), turn);
        let spent = select.merge.take_spent();
        select.spent = select.spent.saturating_add(spent);
        let mut is_paused = false;
        match &mut select.purpose {
            Purpose::Rows { untaken_bytes } => {
                if !rows.is_empty()
                    && let Some(request) = request
                {
                    let joined = join_rows(rows);
                    *untaken_bytes += joined.len() as u64;
                    self.outputs
                        .push_back(Output::Reply { request, reply: Reply::Rows(joined.into()) });
                }
                is_paused = *untaken_bytes >= limit && !select.merge.is_done();
            }
            Purpose::Choose { ids, .. } => ids.extend(rows.into_iter().map(|row| row.id)),
        }
        if is_paused {
            select.paused_at = Some(self.last_now.mono);
            self.deadlines.remove(&(entry.deadline, call));
            // One that has gathered its rows keeps them, and with them its seat: its key has memory for so many.
            if let Seat::Taken(asker) = select.seat
                && select.merge.is_streaming()
            {
                select.seat = Seat::Left(asker);
                self.scans.release(asker);
            }
            return self.note_work(spent);
        }
        let is_done = select.merge.is_done();
        self.note_work(spent);
        if is_done {
            self.finish_select(call);
        } else if spent >= turn {
            // To take these rows out was the rest of its turn, and more may be ready.
            self.wait_for_turn_of(call);
        } else {
            self.ask_for_more(call);
        }
    }

    fn ask_for_more(&mut self, call: CallId) {
        let Some(Call { work: Work::Select(select), .. }) = self.calls.get_mut(&call) else {
            return;
        };
        let places = 0..select.partitions.len();
        let wanting: SmallVec<[usize; 8]> =
            places.filter(|place| !select.asked[*place] && select.merge.wants(*place)).collect();
        let partitions: Partitions =
            wanting.iter().map(|place| select.partitions[*place]).collect();
        wanting.iter().for_each(|place| select.asked[*place] = true);
        for partition in partitions {
            self.send(partition, Body::SelectMore { call });
        }
    }

    fn finish_select(&mut self, call: CallId) {
        let Some(ended) = self.end_call(call) else { return };
        let Work::Select(select) = ended.work else { return };
        self.cancel_parts(call, &select);
        match select.purpose {
            Purpose::Rows { .. } => {
                let Some(request) = ended.request else { return };
                let outcome = Outcome {
                    txn: Some(select.at),
                    query_type: ended.query_type,
                    ..Outcome::default()
                };
                self.outputs.push_back(Output::Reply { request, reply: Reply::Done(outcome) });
            }
            Purpose::Choose { mutation, ids } => {
                let mutation = mutation.expect("the mutation is taken once, at the end");
                match (mutation.check_may_write(&ids), ended.request) {
                    (Ok(()), request) => {
                        self.begin_mutation(request, ended.query_type, mutation, ids);
                    }
                    (Err(error), Some(request)) => {
                        self.reply_error(request, ended.query_type, error);
                    }
                    (Err(_), None) => {}
                }
            }
        }
    }

    /// Owners that have more to say need not.
    pub(crate) fn cancel_parts(&mut self, call: CallId, select: &SelectCall) {
        for (place, partition) in select.partitions.iter().enumerate() {
            if !select.merge.is_last(place) {
                self.send(*partition, Body::Cancel { call });
            }
        }
    }

    pub(crate) fn on_drained(&mut self, request: RequestId, bytes: u64) {
        let Some(&call) = self.requests.get(&request) else { return };
        let (limits, now) = (&self.config.limits, self.last_now.mono);
        let Some(entry) = self.calls.get_mut(&call) else { return };
        let Work::Select(select) = &mut entry.work else { return };
        let Purpose::Rows { untaken_bytes } = &mut select.purpose else { return };
        *untaken_bytes = untaken_bytes.saturating_sub(bytes);
        if *untaken_bytes >= limits.reply_bytes_max {
            return;
        }
        if let Some(since) = select.paused_at.take() {
            // The time of a read is what it works and waits for others, not what its client takes to read.
            entry.deadline = entry.deadline.after(now.since(since));
            self.deadlines.insert((entry.deadline, call));
            if let Seat::Left(asker) = select.seat {
                if !self.scans.take_seat(asker, limits.scans_of_key_max) {
                    return self.scans.wait(asker, call);
                }
                select.seat = Seat::Taken(asker);
            }
        }
        self.go_on(call);
    }

    pub(crate) fn start_select(
        &mut self,
        id: TaskId,
        bound: Bound,
        app: AppId,
        permissions: SharedPermissions,
        at: Txn,
        sharing: usize,
    ) {
        let collection = bound.statement().shared_collection().clone();
        let place = match bound.access() {
            Access::Scan => Place::Scan(None),
            Access::Ids(_) => Place::Ids { next: 0, is_waiting: false },
        };
        let machine = PartitionSelect::new(bound, Limits::of_partition(sharing));
        let key = DocKey { app, collection, id: DocId::from_canonical(&[]) };
        let (has_credit, begun, spent) = (true, None, 0);
        let task = SelectTask { key, permissions, at, machine, place, has_credit, begun, spent };
        self.tasks.start(id, Task::Select(Box::new(task)));
    }

    /// Pushes documents for one turn, or until a part is ready that must not be sent yet.
    pub(crate) fn resume_select(
        &mut self,
        id: TaskId,
        task: &mut SelectTask,
        turn: Fuel,
    ) -> Progress {
        if self.store.applied() < task.at {
            return Progress::Behind(task.at);
        }
        if task.spent >= turn {
            // What a row has cost beyond its turn: the task sits this one out, and the thread's time goes to others.
            task.spent -= turn;
            self.note_sat_out(turn);
            return Progress::Yield;
        }
        loop {
            if let Some(part) = task.has_credit.then(|| task.machine.take_output()).flatten() {
                let (last, spent) = (part.last, task.machine.take_spent());
                task.spent += spent;
                self.note_work(spent);
                task.has_credit = false;
                let result = Ok(Box::new(part));
                self.send(id.from, Body::Selected { call: id.call, result });
                if last {
                    return Progress::Done;
                }
            }
            if !task.has_credit {
                return Progress::Credit;
            }
            if task.spent >= turn {
                task.spent -= turn;
                return Progress::Yield;
            }
            let before = task.spent;
            let pushed = self.push_next(task, turn);
            task.spent += task.machine.take_spent();
            self.note_work(task.spent - before);
            match pushed {
                Ok(None) => {}
                Ok(Some(progress)) => return progress,
                Err(error) => {
                    self.send(id.from, Body::Selected { call: id.call, result: Err(error) });
                    return Progress::Done;
                }
            }
        }
    }

    /// Looks at one document, as far as the turn goes; says so when it has to wait for it.
    fn push_next(
        &mut self,
        task: &mut SelectTask,
        turn: Fuel,
    ) -> Result<Option<Progress>, RequestError> {
        if let Some(document) = task.begun.take() {
            return task.push(document, turn).map(|()| None);
        }
        let found = match &mut task.place {
            Place::End => return Ok(None),
            Place::Ids { next, is_waiting } => {
                if !std::mem::take(is_waiting) {
                    let Access::Ids(ids) = task.machine.bound().access() else {
                        unreachable!("ids are looked at where the statement names them");
                    };
                    let Some(id) = ids.get(*next) else {
                        task.end();
                        return Ok(None);
                    };
                    *next += 1;
                    task.key.id = id.clone();
                    let slot = Slot::of(task.key.app, &task.key.collection, id);
                    task.spent += PASS_BY;
                    if slot.partition(self.config.partitions) != self.config.partition {
                        return Ok(None);
                    }
                }
                match self.store.read(&task.key, task.at) {
                    Read::Blocked(block) => {
                        *is_waiting = true;
                        return Ok(Some(Progress::Blocked(block)));
                    }
                    Read::Ready(document) => document.filter(|document| document.is_visible()),
                }
            }
            Place::Scan(after) => {
                let DocKey { app, collection, .. } = &task.key;
                match self.store.scan(*app, collection, after.as_ref(), task.at) {
                    Read::Blocked(block) => return Ok(Some(Progress::Blocked(block))),
                    Read::Ready(ScanStep::End) => {
                        task.end();
                        return Ok(None);
                    }
                    Read::Ready(ScanStep::Skip(id)) => {
                        *after = Some(id);
                        None
                    }
                    Read::Ready(ScanStep::Row(id, document)) => {
                        *after = Some(id.clone());
                        task.key.id = id;
                        Some(document)
                    }
                }
            }
        };
        task.spent += LOOK_AT;
        if let Some(document) = found
            && task.may_read()
        {
            task.push(document, turn)?;
        }
        Ok(None)
    }
}

impl SelectTask {
    /// Pushes a document for what is left of a turn.
    fn push(&mut self, document: Arc<Document>, turn: Fuel) -> Result<(), RequestError> {
        let row = StoredRow::new(&self.key.id, &document);
        let left = turn.saturating_sub(self.spent);
        if !self.machine.push_within(&row, left).map_err(|error| dql_error(&error))? {
            self.begun = Some(document);
        } else if self.machine.is_full() {
            self.end();
        }
        Ok(())
    }

    fn end(&mut self) {
        self.machine.finish();
        self.place = Place::End;
    }

    fn may_read(&self) -> bool {
        let DocKey { collection, id, .. } = &self.key;
        let sees_all = self.machine.is_choosing() && is_planted(Plant::MutationSeesUnreadable);
        sees_all || self.permissions.read.covers(collection, id)
    }
}

/// What looking at one document costs beside its expressions.
const LOOK_AT: Fuel = 1_500;

/// What an id costs that is another partition's.
const PASS_BY: Fuel = 200;

/// The rows, of which there are some, with commas between. A single one, as of a point read, is not copied.
fn join_rows(rows: Vec<OutRow>) -> Vec<u8> {
    let size_bytes = rows.iter().map(|row| row.json.len() + 1).sum::<usize>();
    let mut rows = rows.into_iter().map(|row| row.json);
    let mut joined = rows.next().unwrap_or_default();
    joined.reserve_exact(size_bytes - 1 - joined.len());
    for row in rows {
        joined.push(b',');
        joined.extend_from_slice(&row);
    }
    joined
}

/// The kind of a mutation of stored documents, and these when the statement names them.
fn mutation_kind(
    bound: &Bound,
    mode: ObjectMode,
) -> Result<(MutationKind, Option<Vec<DocId>>), RequestError> {
    let kind = match bound.statement().kind() {
        StatementKind::Update(_) => {
            let update = Update::new(bound.clone(), mode).map_err(|e| dql_error(&e))?;
            let update = update.expect("the statement is an UPDATE");
            MutationKind::Update { filter: bound.clone(), update }
        }
        StatementKind::Delete(_) => MutationKind::Delete(bound.clone()),
        StatementKind::Evict(_) => MutationKind::Evict(bound.clone()),
        StatementKind::Insert(_) | StatementKind::Select(_) => {
            unreachable!("neither changes documents that are there")
        }
    };
    let ids = match bound.access() {
        Access::Ids(ids) if !bound.needs_choice() => Some(ids.clone()),
        Access::Ids(_) | Access::Scan => None,
    };
    Ok((kind, ids))
}
