//! Changes of the catalog, which partition 0 puts in order.
//!
//! A change is a list: all its entries are made by one record of the log, or none is. It is checked against what is
//! applied, and is applied only once it is durable. Two that race would both pass the check, and the second would take the
//! name of what the first had made, whose owner was told that it is there. So one change at a time is on its way to the
//! log, and the next is checked when that one is applied or refused.

use std::collections::VecDeque;

use super::super::Node;
use super::super::append::Then;
use super::super::message::{Body, CallId};
use super::super::request::{ErrorKind, RequestError};
use crate::auth::{CHANGES_MAX, CatalogError, CatalogOp, ChangesRefused};
use crate::ident::{AppId, PartitionId, Txn, TxnId};
use crate::log::transaction::{Op, Origin, Transaction};
use crate::plant::{Plant, is_planted};

/// The changes of the catalog that have come to partition 0 and have no answer.
#[derive(Debug, Default)]
pub(crate) struct CatalogChanges {
    /// A change was given to the log, and is neither applied here nor refused.
    is_under_way: bool,
    /// The changes that came later, in the order in which they came.
    waiting: VecDeque<CatalogChange>,
    /// The entries of all that wait.
    entries: usize,
}

/// A change that is not checked yet.
#[derive(Debug)]
struct CatalogChange {
    coordinator: PartitionId,
    call: CallId,
    ops: Vec<CatalogOp>,
}

impl CatalogChanges {
    /// Walks what must hold between two inputs.
    ///
    /// # Panics
    ///
    /// When an invariant does not hold.
    pub(crate) fn check_invariants(&self, partition: PartitionId) {
        let entries: usize = self.waiting.iter().map(|change| change.ops.len()).sum();
        assert_eq!(self.entries, entries, "each entry that waits is counted");
        let entries_max = WAITING_MAX + CHANGES_MAX;
        assert!(entries < entries_max, "{entries} entries wait, of less than {entries_max}");
        let is_idle = self.waiting.is_empty();
        assert!(self.is_under_way || is_idle, "a change waits for none but the one before it");
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
        ops: Vec<CatalogOp>,
    ) {
        debug_assert_eq!(self.config.partition, PartitionId(0), "it puts changes in order");
        if self.catalog_changes.entries >= WAITING_MAX {
            let error = RequestError::new(
                ErrorKind::Unavailable,
                "too many changes of the catalog wait: nothing was changed; try again in a moment",
            );
            return self.send(coordinator, Body::Mutated { call, result: Err(error) });
        }
        // Before it waits: entries that wait are bounded in number, and so is each of them.
        if let Err(refused) = CatalogOp::check_list_size(&ops) {
            let result = Err(catalog_error(&refused));
            return self.send(coordinator, Body::Mutated { call, result });
        }
        self.catalog_changes.entries += ops.len();
        self.catalog_changes.waiting.push_back(CatalogChange { coordinator, call, ops });
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
            let CatalogChange { coordinator, call, ops } = change;
            self.catalog_changes.entries -= ops.len();
            match self.log_change(coordinator, call, &ops) {
                Ok(()) => {
                    self.catalog_changes.is_under_way = !is_planted(Plant::CatalogUnordered);
                }
                Err(error) => self.send(coordinator, Body::Mutated { call, result: Err(error) }),
            }
        }
    }

    fn log_change(
        &mut self,
        coordinator: PartitionId,
        call: CallId,
        ops: &[CatalogOp],
    ) -> Result<(), RequestError> {
        self.catalog.check(ops).map_err(|refused| catalog_error(&refused))?;
        let transaction = Transaction {
            id: TxnId(self.rng.uuid()),
            app: AppId::default(),
            origin: Origin::System,
            wall: self.last_now.wall,
            ops: ops.iter().map(|op| Op::System(op.encode())).collect(),
        };
        self.append(transaction, false, Then::Catalog { to: coordinator, call })
    }
}

fn catalog_error(refused: &ChangesRefused) -> RequestError {
    let kind = match refused.cause {
        CatalogError::Permissions(_) | CatalogError::NoChange => ErrorKind::Invalid,
        CatalogError::TooMany | CatalogError::TooLarge => ErrorKind::TooLarge,
        _ => ErrorKind::Conflict,
    };
    RequestError::new(kind, refused.to_string())
}

/// As long as less than so many entries wait behind the change that is on its way to the log, one more change may: a
/// longer list needs no emptier queue than a short one, and is not kept out by a stream of these.
const WAITING_MAX: usize = 1_024;
