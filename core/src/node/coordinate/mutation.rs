//! The coordinator's side of mutations: from the documents that a statement is about to its record and its answer.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::super::append::Then;
use super::super::message::{Body, CallId, Prepared};
use super::super::mutation::Mutation;
use super::super::request::{Outcome, Reply, RequestError, RequestId};
use super::super::{Node, Output};
use super::{Call, Work};
use crate::dql::Fuel;
use crate::ident::{DocId, PartitionId, Slot, Txn, TxnId};
use crate::log::transaction::{Encoder, Op, Origin, Transaction};
use crate::plant::{Plant, is_planted};
use crate::time::Instant;
use crate::value::Value;

/// A mutation whose documents are known.
#[derive(Debug)]
pub(crate) struct MutateCall {
    pub(crate) mutation: Arc<Mutation>,
    /// All its documents, in the order of the answer.
    pub(super) order: Vec<DocId>,
    /// The documents up to here have been sorted out among their owners.
    sorted: usize,
    /// The documents that each owner is still to prepare, in rising order of partitions: locks are taken in one order, so
    /// that two statements never wait for each other.
    ahead: BTreeMap<PartitionId, Vec<DocId>>,
    prepared: Vec<PartitionId>,
    ops: Vec<Op>,
    /// The documents that each owner has changed, in the order in which it was told of them.
    pub(super) mutated: Vec<Vec<DocId>>,
    txn_id: TxnId,
    /// The record that is being written, once all owners have prepared.
    pub(super) record: Option<(Transaction, Encoder)>,
    /// The answer, once that is committed.
    pub(super) answer: Option<Answer>,
}

/// An answer that is being put together.
#[derive(Debug)]
pub(super) struct Answer {
    txn: Txn,
    /// The documents that each owner has changed and that are not in the answer yet.
    mutated: Vec<VecDeque<DocId>>,
    /// How many of all documents have been looked at.
    looked_at: usize,
    /// Those of them that were changed.
    ids: Vec<Value>,
}

impl MutateCall {
    /// It is carried out, and its answer is being put together.
    #[cfg(test)]
    pub(crate) fn is_answering(&self) -> bool {
        self.answer.is_some()
    }

    /// For how many operations there is memory.
    #[cfg(test)]
    pub(crate) fn room(&self) -> usize {
        self.ops.capacity()
    }
}

impl Node {
    /// Starts a mutation of documents that are known by id.
    pub(crate) fn begin_mutation(
        &mut self,
        request: Option<RequestId>,
        query_type: &'static str,
        mutation: Mutation,
        ids: Vec<DocId>,
    ) {
        // The owners keep the deadline; a mutation that has been appended has none.
        let deadline = Instant { ns: u64::MAX };
        let work = Work::Mutate(Box::new(MutateCall {
            mutation: Arc::new(mutation),
            order: ids,
            sorted: 0,
            ahead: BTreeMap::new(),
            prepared: Vec::new(),
            ops: Vec::new(),
            mutated: Vec::new(),
            txn_id: TxnId(self.rng.uuid()),
            record: None,
            answer: None,
        }));
        let call = self.add_call(request, query_type, deadline, work);
        self.sort_out(call, self.whole_turn());
    }

    /// Sorts the documents of a mutation out among their owners, then asks these.
    pub(super) fn sort_out(&mut self, call: CallId, turn: Fuel) {
        let partitions = self.config.partitions;
        let Some(Call { work: Work::Mutate(mutate), .. }) = self.calls.get_mut(&call) else {
            return;
        };
        let MutateCall { mutation, order, sorted, ahead, .. } = &mut **mutate;
        let count = documents_of(turn).min(order.len() - *sorted);
        // Each owner has about so many. To move all of them whenever their list is full would be a step of its own.
        let share = order.len() / usize::from(partitions) * 9 / 8 + 1;
        for id in &order[*sorted..*sorted + count] {
            let owner = Slot::of(mutation.app, &mutation.collection, id).partition(partitions);
            ahead.entry(owner).or_insert_with(|| Vec::with_capacity(share)).push(id.clone());
        }
        *sorted += count;
        let is_sorted = *sorted == order.len();
        let (owners, mutation) = (ahead.len(), mutation.clone());
        self.note_work(count as Fuel * COORDINATE);
        match owners {
            _ if !is_sorted => self.tasks.wait_for_turn(call),
            0 => {
                let at = self.last_now.durable;
                self.finish_mutation(call, at, Vec::new());
            }
            1 => {
                let Some((owner, ids)) = self.next_owner(call) else { return };
                self.send(owner, Body::Mutate { call, mutation, ids });
            }
            _ => self.prepare_next(call),
        }
    }

    fn next_owner(&mut self, call: CallId) -> Option<(PartitionId, Vec<DocId>)> {
        match self.calls.get_mut(&call).map(|call| &mut call.work) {
            Some(Work::Mutate(mutate)) => mutate.ahead.pop_first(),
            _ => None,
        }
    }

    /// Asks the next owner, or appends when all have prepared.
    fn prepare_next(&mut self, call: CallId) {
        let Some(Call { work: Work::Mutate(mutate), .. }) = self.calls.get_mut(&call) else {
            return;
        };
        if let Some((owner, ids)) = mutate.ahead.pop_first() {
            mutate.prepared.push(owner);
            let (txn_id, mutation) = (mutate.txn_id, mutate.mutation.clone());
            self.send(owner, Body::Prepare { call, txn_id, mutation, ids });
            return;
        }
        let mut ops = std::mem::take(&mut mutate.ops);
        let (txn_id, app) = (mutate.txn_id, mutate.mutation.app);
        if ops.is_empty() {
            let at = self.last_now.durable;
            return self.finish_mutation(call, at, Vec::new());
        }
        let mut rest = Vec::new();
        if is_planted(Plant::TransactionHalved) {
            rest = ops.split_off(ops.len() / 2);
        }
        let mut transaction =
            Transaction { id: txn_id, app, origin: Origin::Http, wall: self.last_now.wall, ops };
        if !rest.is_empty() {
            let half = transaction.clone();
            let _ = self.append(half, false, Then::Finish { call: CallId(0) });
            transaction.ops = rest;
        }
        let encoder = self.encoder(&transaction);
        if let Some(Call { work: Work::Mutate(mutate), .. }) = self.calls.get_mut(&call) {
            mutate.record = Some((transaction, encoder));
            self.write_record(call, self.whole_turn());
        }
    }

    /// Writes the record of a mutation that all owners have prepared, then appends it: until the commit they hold its
    /// documents, which nobody else changes.
    pub(super) fn write_record(&mut self, call: CallId, turn: Fuel) {
        let Some(Call { work: Work::Mutate(mutate), .. }) = self.calls.get_mut(&call) else {
            return;
        };
        let (transaction, encoder) = mutate.record.as_mut().expect("it is being written");
        let count = documents_of(turn);
        let written = encoder.work(transaction, count);
        let work = count.min(2 * transaction.ops.len()) as Fuel * COORDINATE;
        let record = mutate.record.take_if(|_| written.is_some());
        self.note_work(work);
        let (Some((transaction, _)), Some(bytes)) = (record, written) else {
            return self.tasks.wait_for_turn(call);
        };
        let then = Then::Finish { call };
        if let Err(error) = self.append_encoded(transaction, bytes, false, then) {
            self.abandon(call);
            self.fail_call(call, error);
        }
    }

    pub(crate) fn on_prepared(
        &mut self,
        from: PartitionId,
        call: CallId,
        result: Result<Prepared, RequestError>,
    ) {
        let Some(Call { work: Work::Mutate(mutate), .. }) = self.calls.get_mut(&call) else {
            return;
        };
        debug_assert_eq!(mutate.prepared.last(), Some(&from), "one owner prepares at a time");
        match result {
            Ok(prepared) => {
                // At once, so that what is there of 100,000 operations is not moved again for each owner.
                mutate.ops.reserve(mutate.order.len() - mutate.ops.len());
                mutate.ops.extend(prepared.ops);
                mutate.mutated.push(prepared.mutated);
                self.prepare_next(call);
            }
            Err(error) => {
                self.abandon(call);
                self.fail_call(call, error);
            }
        }
    }

    /// Lets every owner go that has prepared for this call.
    pub(super) fn abandon(&mut self, call: CallId) {
        let Some(Call { work: Work::Mutate(mutate), .. }) = self.calls.get_mut(&call) else {
            return;
        };
        let txn_id = mutate.txn_id;
        for owner in std::mem::take(&mut mutate.prepared) {
            self.send(owner, Body::Abandon { txn_id });
        }
    }

    pub(crate) fn on_mutated(
        &mut self,
        call: CallId,
        result: Result<(Txn, Vec<DocId>), RequestError>,
    ) {
        match result {
            Ok((txn, mutated)) => self.finish_mutation(call, txn, vec![mutated]),
            Err(error) => self.fail_call(call, error),
        }
    }

    pub(super) fn finish_mutation(&mut self, call: CallId, txn: Txn, mutated: Vec<Vec<DocId>>) {
        // An answer that nobody waits for any more is not put together.
        if let Some(Call { work: Work::Mutate(mutate), request: Some(_), .. }) =
            self.calls.get_mut(&call)
        {
            let ids = Vec::with_capacity(mutated.iter().map(Vec::len).sum());
            let mutated = mutated.into_iter().map(VecDeque::from).collect();
            mutate.answer = Some(Answer { txn, mutated, looked_at: 0, ids });
            self.write_answer(call, self.whole_turn());
        } else {
            self.answer_mutation(call, txn, Vec::new());
        }
    }

    /// Puts the answer to a mutation together, then gives it: the documents that were changed, in the order of the
    /// statement, as each owner has kept it.
    pub(super) fn write_answer(&mut self, call: CallId, turn: Fuel) {
        let Some(Call { work: Work::Mutate(mutate), .. }) = self.calls.get_mut(&call) else {
            return;
        };
        let MutateCall { order, answer, .. } = &mut **mutate;
        let answer = answer.as_mut().expect("its record is committed, or there was none to write");
        let end = order.len().min(answer.looked_at + documents_of(turn));
        for id in &order[answer.looked_at..end] {
            let changed = answer.mutated.iter_mut().find(|ids| ids.front() == Some(id));
            if let Some(changed) = changed {
                changed.pop_front();
                answer.ids.push(id.to_value());
            }
        }
        let work = (end - answer.looked_at) as Fuel * COORDINATE;
        answer.looked_at = end;
        let ended = (end == order.len()).then(|| (answer.txn, std::mem::take(&mut answer.ids)));
        let are_all_named = answer.mutated.iter().all(VecDeque::is_empty);
        self.note_work(work);
        match ended {
            None => self.tasks.wait_for_turn(call),
            Some((txn, ids)) => {
                debug_assert!(are_all_named, "an owner changes what it is told of, in that order");
                self.answer_mutation(call, txn, ids);
            }
        }
    }

    fn answer_mutation(&mut self, call: CallId, txn: Txn, mutated: Vec<Value>) {
        let Some(Call { request: Some(request), query_type, .. }) = self.end_call(call) else {
            return;
        };
        let outcome = Outcome { txn: Some(txn), query_type, mutated, ..Outcome::default() };
        self.outputs.push_back(Output::Reply { request, reply: Reply::Done(outcome) });
    }
}

/// The cost of going over one document of a mutation at its coordinator.
const COORDINATE: Fuel = 200;

/// The number of documents that are a turn's work.
fn documents_of(turn: Fuel) -> usize {
    usize::try_from((turn / COORDINATE).max(1)).unwrap_or(usize::MAX)
}
