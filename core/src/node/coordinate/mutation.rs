//! The coordinator's side of mutations: from the documents that a statement is about to its record and its answer.

use std::collections::BTreeMap;
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
    /// What each owner is still to prepare, in rising order of partitions: locks are taken in one order, so
    /// that two statements never wait for each other.
    ahead: BTreeMap<PartitionId, Vec<DocId>>,
    prepared: Vec<PartitionId>,
    ops: Vec<Op>,
    pub(super) mutated: Vec<DocId>,
    txn_id: TxnId,
    /// The record that is being written, once all owners have prepared.
    pub(super) record: Option<(Transaction, Encoder)>,
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
        for id in &order[*sorted..*sorted + count] {
            let owner = Slot::of(mutation.app, &mutation.collection, id).partition(partitions);
            ahead.entry(owner).or_default().push(id.clone());
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

    /// Writes the record of a mutation that all owners have prepared, then appends it. They hold its documents until
    /// it is committed.
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
                mutate.mutated.extend(prepared.mutated);
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
            Ok((txn, mutated)) => self.finish_mutation(call, txn, mutated),
            Err(error) => self.fail_call(call, error),
        }
    }

    pub(super) fn finish_mutation(&mut self, call: CallId, txn: Txn, mutated: Vec<DocId>) {
        let Some(ended) = self.end_call(call) else { return };
        let Some(request) = ended.request else { return };
        let mutated = match &ended.work {
            Work::Mutate(mutate) => ids_in_order(&mutate.order, mutated),
            Work::Wait { .. } | Work::Queued(_) | Work::Select(_) | Work::Catalog => Vec::new(),
        };
        let outcome =
            Outcome { txn: Some(txn), query_type: ended.query_type, mutated, ..Outcome::default() };
        self.outputs.push_back(Output::Reply { request, reply: Reply::Done(outcome) });
    }
}

/// The cost of going over one document of a mutation at its coordinator.
const COORDINATE: Fuel = 200;

/// Of how many documents that is a turn's work.
fn documents_of(turn: Fuel) -> usize {
    usize::try_from((turn / COORDINATE).max(1)).unwrap_or(usize::MAX)
}

/// Those of `order` that were written, in that order: no id stands in either twice.
fn ids_in_order(order: &[DocId], mut mutated: Vec<DocId>) -> Vec<Value> {
    if mutated.len() == order.len() {
        return order.iter().map(DocId::to_value).collect();
    }
    mutated.sort_unstable();
    let was_written = |id: &&DocId| mutated.binary_search(*id).is_ok();
    order.iter().filter(was_written).map(DocId::to_value).collect()
}
