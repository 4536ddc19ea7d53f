//! Changes of the catalog, which partition 0 puts in order.
//!
//! A change is checked against what is applied, and is applied only once it is durable. Two that race would both pass
//! the check, and the second would take the name of what the first had made, whose owner was told that it is there. So one
//! change at a time is on its way to the log, and the next is checked when that one is applied or refused.

use std::collections::VecDeque;

use super::super::Node;
use super::super::append::Then;
use super::super::message::{Body, CallId};
use super::super::request::{ErrorKind, RequestError};
use crate::auth::{CatalogError, CatalogOp};
use crate::ident::{AppId, PartitionId, Txn, TxnId};
use crate::log::transaction::{Op, Origin, Transaction};

/// The changes of the catalog that have come to partition 0 and have no answer.
#[derive(Debug, Default)]
pub(crate) struct CatalogChanges {
    /// A change was given to the log, and is neither applied here nor refused.
    is_under_way: bool,
    /// The changes that came later, in the order in which they came.
    waiting: VecDeque<CatalogChange>,
}

/// A change that is not checked yet.
#[derive(Debug)]
struct CatalogChange {
    coordinator: PartitionId,
    call: CallId,
    op: CatalogOp,
}

impl CatalogChanges {
    /// Walks what must hold between two inputs.
    ///
    /// # Panics
    ///
    /// When an invariant does not hold.
    pub(crate) fn check_invariants(&self, partition: PartitionId) {
        let count = self.waiting.len();
        assert!(count <= WAITING_MAX, "{count} changes of the catalog wait, of {WAITING_MAX}");
        assert!(self.is_under_way || count == 0, "a change waits for none but the one before it");
        assert!(
            !self.is_under_way || partition == PartitionId(0),
            "partition 0 puts them in order"
        );
    }
}

impl Node {
    /// Only at partition 0: takes a change, which has its turn behind all that came before it.
    pub(crate) fn on_catalog_change(
        &mut self,
        coordinator: PartitionId,
        call: CallId,
        op: CatalogOp,
    ) {
        debug_assert_eq!(self.config.partition, PartitionId(0), "it puts changes in order");
        if self.catalog_changes.waiting.len() >= WAITING_MAX {
            let error = RequestError::new(
                ErrorKind::Unavailable,
                "too many changes of the catalog wait: nothing was changed; try again in a moment",
            );
            return self.send(coordinator, Body::Mutated { call, result: Err(error) });
        }
        // Before it waits: those that wait are bounded in number, and so is each of them.
        if let Err(error) = op.check_size() {
            let result = Err(catalog_error(&error));
            return self.send(coordinator, Body::Mutated { call, result });
        }
        self.catalog_changes.waiting.push_back(CatalogChange { coordinator, call, op });
        self.log_next_change();
    }

    /// The change that was under way is applied here, or will never be.
    pub(super) fn end_catalog_change(
        &mut self,
        coordinator: PartitionId,
        call: CallId,
        result: Result<Txn, RequestError>,
    ) {
        let result = result.map(|txn| (txn, Vec::new()));
        self.send(coordinator, Body::Mutated { call, result });
        self.catalog_changes.is_under_way = false;
        self.log_next_change();
    }

    fn log_next_change(&mut self) {
        while !self.catalog_changes.is_under_way
            && let Some(change) = self.catalog_changes.waiting.pop_front()
        {
            let CatalogChange { coordinator, call, op } = change;
            match self.log_change(coordinator, call, &op) {
                Ok(()) => self.catalog_changes.is_under_way = true,
                Err(error) => self.send(coordinator, Body::Mutated { call, result: Err(error) }),
            }
        }
    }

    fn log_change(
        &mut self,
        coordinator: PartitionId,
        call: CallId,
        op: &CatalogOp,
    ) -> Result<(), RequestError> {
        self.catalog.check(op).map_err(|error| catalog_error(&error))?;
        let transaction = Transaction {
            id: TxnId(self.rng.uuid()),
            app: AppId::default(),
            origin: Origin::System,
            wall: self.last_now.wall,
            ops: vec![Op::System(op.encode())],
        };
        self.append(transaction, false, Then::Catalog { to: coordinator, call })
    }
}

fn catalog_error(error: &CatalogError) -> RequestError {
    let kind = match error {
        CatalogError::Permissions(_) => ErrorKind::Invalid,
        _ => ErrorKind::Conflict,
    };
    RequestError::new(kind, error.to_string())
}

/// The most changes that may wait behind the one that is on its way to the log.
const WAITING_MAX: usize = 1_024;
