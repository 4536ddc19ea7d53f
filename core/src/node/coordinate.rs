//! The coordinator's side: requests of clients, from their text to their reply.

mod authority;
mod catalog;
mod mutation;

use std::collections::btree_map::Entry;
use std::sync::Arc;

pub(crate) use authority::Authority;
use bytes::Bytes;
pub(crate) use catalog::CatalogChanges;
use mutation::MutateCall;

use super::append::{AppendRefused, Pending, Record, Then, Ticket};
use super::message::{Body, CallId};
use super::request::{ErrorKind, Execute, Outcome, Reply, Request, RequestError, RequestId};
use super::scans::Seat;
use super::select::{SelectCall, SelectStart};
use super::{Append, Node, Output};
use crate::auth::AuthError;
use crate::dql::{Bound, Fuel};
use crate::ident::{PartitionId, Txn};
use crate::log::transaction::{Encoder, Op, Transaction};
use crate::plant::{Plant, is_planted};
use crate::seam::Now;
use crate::store::DocKey;
use crate::time::Instant;

/// One request in progress, at the node that coordinates it.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) request: Option<RequestId>,
    pub(crate) query_type: &'static str,
    pub(crate) deadline: Instant,
    pub(crate) work: Work,
}

#[derive(Debug)]
pub(crate) enum Work {
    /// Waits until a transaction is durable.
    Wait { until: Txn, give_up: Instant, execute: Box<Execute>, bound: Option<Bound> },
    /// Waits for others of its key.
    Queued(Box<SelectStart>),
    /// Reads.
    Select(Box<SelectCall>),
    /// Writes.
    Mutate(Box<MutateCall>),
    /// Changes the catalog.
    Catalog,
}

impl Call {
    pub(crate) fn read_at(&self) -> Option<Txn> {
        match &self.work {
            Work::Select(select) => Some(select.at()),
            Work::Wait { .. } | Work::Queued(_) | Work::Mutate(_) | Work::Catalog => None,
        }
    }

    /// A mutation, also while it looks for its documents: it goes on when nobody waits for its answer.
    fn is_mutation(&self) -> bool {
        match &self.work {
            Work::Mutate(_) | Work::Catalog => true,
            Work::Queued(start) => start.is_choosing(),
            Work::Select(select) => select.is_choosing(),
            Work::Wait { .. } => false,
        }
    }
}

impl Node {
    pub(crate) fn on_request(&mut self, request: RequestId, body: Request, now: Now) {
        if self.calls.len() >= self.config.limits.calls_max {
            let busy = "too many requests in progress: try again in a moment";
            return self.fail_early(request, "unknown", ErrorKind::Unavailable, busy);
        }
        match body {
            Request::Execute(execute) => self.on_execute(request, execute, None, now),
            Request::ExecuteBound { execute, bound } => {
                self.on_execute(request, execute, Some(bound), now);
            }
            Request::Catalog(ops) => {
                let call = self.add_call(
                    Some(request),
                    "catalog",
                    Instant { ns: u64::MAX },
                    Work::Catalog,
                );
                self.send(PartitionId(0), Body::Catalog { call, ops });
            }
            Request::ListCatalog => {
                let rows = self.catalog.to_json_rows();
                let outcome = Outcome {
                    txn: Some(self.store.applied()),
                    query_type: "catalog",
                    ..Outcome::default()
                };
                if !rows.is_empty() {
                    self.outputs
                        .push_back(Output::Reply { request, reply: Reply::Rows(rows.into()) });
                }
                self.outputs.push_back(Output::Reply { request, reply: Reply::Done(outcome) });
            }
        }
    }

    fn on_execute(
        &mut self,
        request: RequestId,
        mut execute: Execute,
        bound: Option<Bound>,
        now: Now,
    ) {
        let reached = now.durable.min(self.store.applied());
        if let Some(until) = execute.min_txn.filter(|until| *until > reached) {
            let give_up = now.mono.after(MIN_TXN_WAIT_MAX).min(execute.deadline);
            let deadline = execute.deadline;
            let work = Work::Wait { until, give_up, execute: Box::new(execute), bound };
            self.add_call(Some(request), "unknown", deadline, work);
            return;
        }
        if let Err((query_type, error)) = self.begin(request, &mut execute, bound, now) {
            self.reply_error(request, query_type, error);
        }
    }

    /// Starts a statement whose snapshot is reached. Errors come with the statement's class.
    fn begin(
        &mut self,
        request: RequestId,
        execute: &mut Execute,
        bound: Option<Bound>,
        now: Now,
    ) -> Result<(), (&'static str, RequestError)> {
        let grant = self
            .authorize(execute.app, &execute.credential, now)
            .map_err(|error| ("unknown", auth_error(&error)))?;
        let statement = match &bound {
            Some(bound) => bound.shared_statement(),
            None => self.statements.parse(&execute.statement).map_err(|e| ("unknown", e))?,
        };
        let query_type = statement.query_type();
        if execute.deadline <= now.mono {
            return Err((query_type, timed_out()));
        }
        self.begin_statement(request, execute, &statement, bound, grant, now)
            .map_err(|error| (query_type, error))
    }

    pub(crate) fn add_call(
        &mut self,
        request: Option<RequestId>,
        query_type: &'static str,
        deadline: Instant,
        work: Work,
    ) -> CallId {
        self.call_next += 1;
        let call = CallId(self.call_next);
        if let Some(request) = request {
            self.requests.insert(request, call);
        }
        if deadline.ns != u64::MAX {
            self.deadlines.insert((deadline, call));
        }
        if let Work::Wait { until, give_up, .. } = &work {
            self.deadlines.insert((*give_up, call));
            self.waits.insert((*until, call));
        }
        let entry = Call { request, query_type, deadline, work };
        if let Some(at) = entry.read_at() {
            *self.reads.entry(at).or_default() += 1;
        }
        self.watch_authority(call, &entry);
        self.calls.insert(call, entry);
        call
    }

    /// Forgets a call and returns it; its request is free to be answered once more and no more.
    pub(crate) fn end_call(&mut self, call: CallId) -> Option<Call> {
        let ended = self.calls.remove(&call)?;
        if let Some(at) = ended.read_at()
            && let Entry::Occupied(mut reads) = self.reads.entry(at)
        {
            *reads.get_mut() -= 1;
            if *reads.get() == 0 {
                reads.remove();
            }
        }
        if let Some(request) = ended.request {
            self.requests.remove(&request);
        }
        self.deadlines.remove(&(ended.deadline, call));
        self.unwatch_authority(call, &ended);
        match &ended.work {
            Work::Wait { until, give_up, .. } => {
                self.deadlines.remove(&(*give_up, call));
                self.waits.remove(&(*until, call));
            }
            Work::Queued(start) => {
                let asker = start.asker().expect("only what is counted by its key waits for it");
                self.scans.forget(asker, call);
            }
            Work::Select(select) => match select.seat {
                Seat::Uncounted => {}
                Seat::Taken(asker) => self.scans.release(asker),
                Seat::Left(asker) => self.scans.forget(asker, call),
            },
            Work::Mutate(_) | Work::Catalog => {}
        }
        Some(ended)
    }

    pub(crate) fn on_cancel(&mut self, request: RequestId) {
        let Some(call) = self.requests.remove(&request) else { return };
        // A mutation goes on; only its reply is dropped.
        if let Some(found) = self.calls.get_mut(&call)
            && found.is_mutation()
        {
            found.request = None;
            return;
        }
        if let Some(Call { work: Work::Select(select), .. }) = self.end_call(call) {
            self.cancel_parts(call, &select);
        }
    }

    /// A read whose client has closed its side works for nobody. What a mutation does is wanted all the same, and its
    /// client may still listen.
    pub(crate) fn on_client_closed(&mut self, request: RequestId) {
        let Some(&call) = self.requests.get(&request) else { return };
        let is_read = match self.calls.get(&call) {
            Some(Call { work: Work::Wait { bound: Some(bound), .. }, .. }) => {
                !bound.statement().is_mutation()
            }
            Some(Call { work: Work::Wait { execute, .. }, .. }) => {
                let statement = self.statements.parse(&execute.statement);
                !statement.is_ok_and(|statement| statement.is_mutation())
            }
            Some(found) => !found.is_mutation(),
            None => false,
        };
        if is_read {
            self.fail_call(call, client_closed());
        }
    }

    /// Requests that waited for a transaction which is durable and applied go on.
    pub(crate) fn wake_waiting(&mut self, now: Now) {
        let reached = now.durable.min(self.store.applied());
        while let Some(&(_, call)) = self.waits.first().filter(|(until, _)| *until <= reached) {
            let Some(Call {
                request: Some(request), work: Work::Wait { execute, bound, .. }, ..
            }) = self.end_call(call)
            else {
                self.waits.remove(&(reached, call));
                continue;
            };
            self.on_execute(request, *execute, bound, now);
        }
    }

    /// Ends what has had its time. A mutation that has been appended is not among it: it will be committed.
    pub(crate) fn expire_calls(&mut self, now: Now) {
        self.expire_authorities(now);
        while let Some(&(at, call)) = self.deadlines.first().filter(|(at, _)| *at <= now.mono) {
            self.deadlines.remove(&(at, call));
            let error = match self.calls.get(&call).map(|call| &call.work) {
                Some(Work::Wait { until, .. }) => RequestError::new(
                    ErrorKind::NotFound,
                    format!(
                        "transaction {until} is not reached here: check X-DITTO-TXN-ID, or try again"
                    ),
                ),
                Some(Work::Select(_) | Work::Queued(_)) => timed_out(),
                Some(Work::Mutate(_) | Work::Catalog) | None => continue,
            };
            self.fail_call(call, error);
        }
    }

    /// Goes on with a call that has work of its own to do: for a turn, then others get theirs.
    pub(crate) fn advance_call(&mut self, call: CallId, turn: Fuel) {
        match self.calls.get(&call).map(|call| &call.work) {
            Some(Work::Select(_)) => self.advance_select(call, turn),
            Some(Work::Mutate(mutate)) if mutate.record.is_some() => self.write_record(call, turn),
            Some(Work::Mutate(mutate)) if mutate.answer.is_some() => self.write_answer(call, turn),
            Some(Work::Mutate(_)) => self.sort_out(call, turn),
            // It has ended meanwhile.
            Some(Work::Wait { .. } | Work::Queued(_) | Work::Catalog) | None => {}
        }
    }

    pub(crate) fn fail_call(&mut self, call: CallId, error: RequestError) {
        let Some(ended) = self.end_call(call) else { return };
        if let Work::Select(select) = &ended.work {
            self.cancel_parts(call, select);
        }
        if let Some(request) = ended.request {
            self.reply_error(request, ended.query_type, error);
        }
    }

    pub(crate) fn reply_error(
        &mut self,
        request: RequestId,
        query_type: &'static str,
        error: RequestError,
    ) {
        let outcome = Outcome { query_type, error: Some(error), ..Outcome::default() };
        self.outputs.push_back(Output::Reply { request, reply: Reply::Done(outcome) });
    }

    fn fail_early(
        &mut self,
        request: RequestId,
        query_type: &'static str,
        kind: ErrorKind,
        message: &str,
    ) {
        self.reply_error(request, query_type, RequestError::new(kind, message));
    }

    /// Sends a record to the log; `then` says what to do once it is committed or refused, `has_tips` whether its
    /// documents are put ahead of the log.
    pub(crate) fn append(
        &mut self,
        transaction: Transaction,
        has_tips: bool,
        then: Then,
    ) -> Result<(), RequestError> {
        let encoded = self.encoder(&transaction).work(&transaction, usize::MAX);
        let bytes = encoded.expect("it has gone over all operations");
        self.append_encoded(transaction, bytes, has_tips, then)
    }

    fn encoder(&self, transaction: &Transaction) -> Encoder {
        let is_evicting = transaction.ops.iter().any(|op| matches!(op, Op::Evict { .. }));
        match is_evicting && self.config.is_device {
            // How often a device evicted is one number of the store, which each partition counts for itself.
            true => Encoder::for_everyone(),
            false => Encoder::new(),
        }
    }

    fn append_encoded(
        &mut self,
        transaction: Transaction,
        bytes: Bytes,
        has_tips: bool,
        then: Then,
    ) -> Result<(), RequestError> {
        let limit = self.config.limits.record_bytes_max;
        if bytes.len() > limit {
            return Err(RequestError::new(
                ErrorKind::TooLarge,
                format!(
                    "the statement would write {} bytes in one transaction, the limit is {limit}: use LIMIT",
                    bytes.len()
                ),
            ));
        }
        let frees = transaction.frees();
        let transaction = Arc::new(transaction);
        let record = Record { bytes, transaction: Some(transaction.clone()) };
        let ticket = self.appends.add(Pending { transaction, has_tips, is_void: false, then });
        self.outputs.push_back(Output::Append(Append {
            from: self.config.partition,
            ticket,
            epoch: self.appends.epoch,
            frees,
            record,
        }));
        Ok(())
    }

    pub(crate) fn on_appended(&mut self, ticket: Ticket, result: Result<Txn, AppendRefused>) {
        match result {
            Ok(txn) => {
                self.appends.place(ticket, txn);
                let early = is_planted(Plant::AckBeforeSync);
                self.finish_appends(if early { txn } else { self.store.applied() });
            }
            Err(why) => {
                for (pending, why) in self.appends.refuse(ticket, why) {
                    self.fail_append(pending, why);
                }
                if why == AppendRefused::OutcomeUnknown {
                    for (_, pending) in self.appends.take_placed() {
                        self.fail_append(pending, why);
                    }
                }
            }
        }
    }

    /// Everything appended up to `upto` is committed and applied.
    pub(crate) fn finish_appends(&mut self, upto: Txn) {
        while let Some((txn, pending)) = self.appends.take_committed(upto) {
            match pending.then {
                Then::Answer { to, call, mutated } => {
                    let result = if pending.is_void { Err(evicted()) } else { Ok((txn, mutated)) };
                    self.send(to, Body::Mutated { call, result });
                }
                Then::Finish { call } if pending.is_void => self.fail_call(call, evicted()),
                Then::Finish { call } => {
                    let mutated = match self.calls.get_mut(&call).map(|call| &mut call.work) {
                        Some(Work::Mutate(mutate)) => std::mem::take(&mut mutate.mutated),
                        _ => Vec::new(),
                    };
                    self.finish_mutation(call, txn, mutated);
                }
                Then::Catalog { to, call } => self.end_catalog_change(to, call, Ok(txn)),
                Then::Session(append) => self.session_appended(append, Ok(txn)),
            }
        }
    }

    fn fail_append(&mut self, pending: Pending, why: AppendRefused) {
        if pending.has_tips && !is_planted(Plant::RefusedWriteKept) {
            let transaction = &pending.transaction;
            for key in transaction.ops.iter().filter_map(|op| DocKey::of(transaction.app, op)) {
                self.settle(&key, transaction.id);
            }
        }
        let error = why.to_error();
        match pending.then {
            Then::Answer { to, call, .. } => {
                self.send(to, Body::Mutated { call, result: Err(error) });
            }
            Then::Catalog { to, call } => self.end_catalog_change(to, call, Err(error)),
            Then::Finish { call } => {
                self.abandon(call);
                self.fail_call(call, error);
            }
            Then::Session(append) => self.session_appended(append, Err(error)),
        }
    }
}

fn auth_error(error: &AuthError) -> RequestError {
    let kind = match error {
        AuthError::UnknownApp(_) => ErrorKind::NotFound,
        AuthError::Missing | AuthError::Unknown | AuthError::Expired(_) => ErrorKind::Unauthorized,
    };
    RequestError::new(kind, error.to_string())
}

/// A change that was authored on what an EVICT removed, which got into the log before it.
fn evicted() -> RequestError {
    RequestError::new(
        ErrorKind::Conflict,
        "a document of the statement was evicted while it was written, and its change with it: try again",
    )
}

fn client_closed() -> RequestError {
    RequestError::new(
        ErrorKind::TimedOut,
        "the client closed its side of the connection while the read was in progress: keep it open until the answer \
         has come",
    )
}

pub(crate) fn timed_out() -> RequestError {
    RequestError::new(
        ErrorKind::TimedOut,
        "the statement did not finish in its time: nothing was written; narrow it with WHERE or LIMIT",
    )
}

/// How long a request waits for the transaction that it asks for.
const MIN_TXN_WAIT_MAX: std::time::Duration = std::time::Duration::from_secs(5);
