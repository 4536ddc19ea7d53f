//! What clients and devices were promised, and whether what they read keeps it.
//!
//! Every write carries a field of its writer's own with a number that rises, so that a read can be judged: a
//! writer's newest acknowledged number must be there unless a deletion explains its absence, and nothing may be
//! there that was refused, that nobody wrote, or that a deletion of the same place had seen.

mod contended;
mod dead;
mod inserts;

use std::collections::{BTreeMap, BTreeSet};

use bigpeer_core::value::{Object, Value};

use super::{Documents, Failure};
use crate::profile::Rights;
use crate::workload::documents::{CARS, collection_of};

/// A place where statements run one after the other in the order of their answers: the server, or a device.
pub(crate) type SiteId = usize;

/// The server and everything that clients do there.
pub(crate) const SERVER_SITE: SiteId = 0;

/// Names a writer; its field is `w` with this number.
pub(crate) type WriterId = usize;

/// Names an operation in the ledger.
pub(crate) type OpId = usize;

/// What an operation does to the documents that it reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Sets the writer's field to this number.
    Set { writer: WriterId, number: u64 },
    /// Adds one to the counter.
    Increment,
    /// Deletes.
    Delete,
    /// Forgets at its place alone.
    Evict,
    /// Writes the field `v`, which everybody writes and removes.
    Contend,
    /// Removes the field `v`.
    Remove,
    /// Changes what nobody checks.
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Pending,
    Acknowledged {
        ended_ns: u64,
    },
    Refused,
    Unknown,
    /// It was acknowledged, and then its place was restored from an older copy.
    RolledBack {
        ended_ns: u64,
    },
}

#[derive(Clone, Debug)]
struct Operation {
    site: SiteId,
    effect: Effect,
    submitted_ns: u64,
    status: Status,
    /// Fails when its document is there.
    is_insert: bool,
    /// The only document it may reach; none for any.
    target: Option<String>,
    /// What it reached, once acknowledged.
    reached: BTreeSet<String>,
}

impl Operation {
    /// Whether all that it wrote is there.
    fn is_at(&self, held: &Documents) -> bool {
        let Effect::Set { writer, number } = self.effect else { return false };
        let field = format!("w{writer}");
        self.reached.iter().all(|document| {
            let row = held.object(document);
            let found = row.as_ref().and_then(|row| row.get(&field)).and_then(Value::as_u64);
            found.is_some_and(|found| found >= number)
        })
    }
}

/// How an operation ended.
#[derive(Clone, Debug)]
pub(crate) enum End {
    Acknowledged(Vec<String>),
    Refused,
    Unknown,
}

/// Everything that was asked, and how it ended.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    operations: Vec<Operation>,
    /// The operation of each number of each writer.
    numbers: BTreeMap<(WriterId, u64), OpId>,
    /// What was acknowledged for each document, in that order.
    of_document: BTreeMap<String, Vec<OpId>>,
    /// Deletions and evictions whose reach is not known.
    open_deletes: BTreeSet<OpId>,
    increments: BTreeSet<OpId>,
    /// The operations that each deletion has seen.
    seen: BTreeMap<OpId, dead::Seen>,
    /// The rights of places other than the server to write there.
    rights: BTreeMap<SiteId, (usize, Rights)>,
    writers: usize,
    sites: usize,
    newest_txn: u64,
    /// The server was put back to an older image: what a device evicted since may be nowhere.
    is_server_put_back: bool,
}

impl Ledger {
    /// A new place beside the server.
    pub(crate) fn add_site(&mut self) -> SiteId {
        self.sites += 1;
        self.sites
    }

    /// Sets what the server takes from a place; everything, unless it is said.
    pub(crate) fn set_rights(&mut self, site: SiteId, key: usize, rights: Rights) {
        self.rights.insert(site, (key, rights));
    }

    /// The rights of a key change, and with them those of every place that has it.
    pub(crate) fn change_rights(&mut self, key: usize, change: impl Fn(&mut Rights)) {
        self.rights.values_mut().filter(|(of, _)| *of == key).for_each(|(_, it)| change(it));
    }

    /// Whether the server has to take what an operation did to a document.
    fn counts_at_server(&self, operation: &Operation, document: &str) -> bool {
        self.rights
            .get(&operation.site)
            .is_none_or(|(_, rights)| rights.must_write(home_of(document), document))
    }

    /// Whether the server may have taken it.
    fn may_be_at_server(&self, operation: &Operation, document: &str) -> bool {
        self.rights
            .get(&operation.site)
            .is_none_or(|(_, rights)| rights.may_have_written(home_of(document), document))
    }

    /// A writer with a field that nobody else writes.
    pub(crate) fn add_writer(&mut self) -> WriterId {
        self.writers += 1;
        self.writers
    }

    /// Something is asked for.
    pub(crate) fn begin(
        &mut self,
        site: SiteId,
        effect: Effect,
        target: Option<String>,
        submitted_ns: u64,
    ) -> OpId {
        let id = self.operations.len();
        match effect {
            Effect::Set { writer, number } => {
                self.numbers.insert((writer, number), id);
            }
            Effect::Delete | Effect::Evict => {
                self.open_deletes.insert(id);
            }
            Effect::Increment => {
                self.increments.insert(id);
            }
            Effect::Contend | Effect::Remove | Effect::Other => {}
        }
        let status = Status::Pending;
        let reached = BTreeSet::new();
        let is_insert = false;
        self.operations.push(Operation {
            site,
            effect,
            submitted_ns,
            status,
            is_insert,
            target,
            reached,
        });
        id
    }

    /// Where an operation was asked for.
    pub(crate) fn site_of(&self, id: OpId) -> SiteId {
        self.operations[id].site
    }

    /// It was answered, or will never be.
    pub(crate) fn end(&mut self, id: OpId, end: End, now_ns: u64) {
        let operation = &mut self.operations[id];
        match end {
            End::Acknowledged(reached) => {
                operation.status = Status::Acknowledged { ended_ns: now_ns };
                for document in &reached {
                    self.of_document.entry(document.clone()).or_default().push(id);
                }
                operation.reached = reached.into_iter().collect();
                self.open_deletes.remove(&id);
            }
            End::Refused => {
                operation.status = Status::Refused;
                self.open_deletes.remove(&id);
            }
            End::Unknown => operation.status = Status::Unknown,
        }
    }

    /// A place lost everything after `at_ns`: what it had promised since may or may not have got out. What the server
    /// holds of it has: there it stays, whatever the place does from now on.
    pub(crate) fn rolled_back(&mut self, site: SiteId, at_ns: u64, server: &Documents) {
        for (id, operation) in self.operations.iter_mut().enumerate() {
            let Status::Acknowledged { ended_ns } = operation.status else { continue };
            if operation.site == site && ended_ns > at_ns && !operation.is_at(server) {
                operation.status = Status::RolledBack { ended_ns };
                if matches!(operation.effect, Effect::Delete | Effect::Evict) {
                    self.open_deletes.insert(id);
                }
            }
        }
    }

    /// The server lost everything after `at_ns`, and its positions count from there.
    /// `live` are the places that devices have now.
    pub(crate) fn put_back(&mut self, at_ns: u64, live: &BTreeSet<SiteId>) {
        self.rolled_back(SERVER_SITE, at_ns, &Documents::default());
        // What devices lost before was there alone.
        for site in 1..=self.sites {
            if !live.contains(&site) {
                self.rolled_back(site, 0, &Documents::default());
            }
        }
        self.newest_txn = 0;
        self.is_server_put_back = true;
    }

    pub(crate) const fn is_server_put_back(&self) -> bool {
        self.is_server_put_back
    }

    /// Transactions that were served never go back, as far as the server has `promised` to keep them.
    pub(crate) fn note_txn(
        &mut self,
        seen_before: u64,
        txn: u64,
        promised: u64,
    ) -> Result<(), Failure> {
        self.newest_txn = self.newest_txn.max(txn.min(promised));
        if txn < seen_before {
            let text = format!("transaction {txn} was served after {seen_before}");
            return Err(Failure::new("transaction order", text));
        }
        Ok(())
    }

    /// The greatest transaction that was served.
    pub(crate) fn newest_txn(&self) -> u64 {
        self.newest_txn
    }

    /// Judges what a place read of a document; `asked_ns` is when it asked.
    pub(crate) fn judge_read(
        &self,
        site: SiteId,
        document: &str,
        row: Option<&Object>,
        asked_ns: u64,
    ) -> Result<(), Failure> {
        self.judge_registers(document, row, Some(site), asked_ns)
    }

    /// Judges what the server holds once everybody agrees.
    pub(crate) fn judge_final(&self, held: &Documents) -> Result<(), Failure> {
        for document in self.of_document.keys() {
            let row = held.object(document);
            self.judge_registers(document, row.as_ref(), None, u64::MAX)?;
            if document.starts_with('k') {
                self.judge_counter(document, row.as_ref())?;
                self.judge_contended(document, row.as_ref())?;
            }
        }
        Ok(())
    }

    /// Of each writer the newest number is there that must be, and no number that must not.
    fn judge_registers(
        &self,
        document: &str,
        row: Option<&Object>,
        site: Option<SiteId>,
        asked_ns: u64,
    ) -> Result<(), Failure> {
        let mut least: BTreeMap<WriterId, (u64, OpId)> = BTreeMap::new();
        for id in self.of_document.get(document).into_iter().flatten() {
            let operation = &self.operations[*id];
            let Effect::Set { writer, number } = operation.effect else { continue };
            let Status::Acknowledged { ended_ns } = operation.status else { continue };
            let counts = match site {
                Some(site) => site == operation.site,
                None => self.counts_at_server(operation, document),
            } && ended_ns <= asked_ns;
            let newer = least.get(&writer).is_none_or(|(known, _)| *known < number);
            if counts && newer && !self.may_be_gone(document, operation, site) {
                least.insert(writer, (number, *id));
            }
        }
        for (writer, (number, id)) in least {
            let found = row.and_then(|row| row.get(&format!("w{writer}"))).and_then(Value::as_u64);
            if found.is_none_or(|found| found < number) {
                let text = format!(
                    "{document}.w{writer} is {found:?}, but {number} was acknowledged at {:.6} s",
                    self.ended_ns(id) as f64 / 1e9
                );
                return Err(Failure::new("acknowledged write lost", text));
            }
        }
        row.map_or(Ok(()), |row| self.judge_present(document, row, site, asked_ns))
    }

    /// What is there was written, was not refused, and was not deleted by somebody who had seen it.
    fn judge_present(
        &self,
        document: &str,
        row: &Object,
        site: Option<SiteId>,
        asked_ns: u64,
    ) -> Result<(), Failure> {
        for (name, value) in row.iter() {
            let Some(writer) = name.strip_prefix('w').and_then(|text| text.parse().ok()) else {
                continue;
            };
            let number = value.as_u64().unwrap_or(0);
            let Some(id) = self.numbers.get(&(writer, number)) else {
                let text = format!("{document}.{name} is {value:?}, which nobody wrote");
                return Err(Failure::new("foreign value", text));
            };
            let operation = &self.operations[*id];
            if operation.status == Status::Refused {
                let text = format!("{document}.{name} is {number}, which was refused");
                return Err(Failure::new("refused write visible", text));
            }
            if matches!(operation.status, Status::Acknowledged { .. })
                && !operation.reached.contains(document)
            {
                let text = format!("{document}.{name} is {number}, which was not written there");
                return Err(Failure::new("foreign value", text));
            }
            if site.is_none() {
                if !self.may_be_at_server(operation, document) {
                    let text = format!("{document}.{name} is {number}, of somebody who may not");
                    return Err(Failure::new("permission", text));
                }
                self.judge_dead(document, (writer, number))?;
            }
            // Elsewhere the deletion may not have arrived.
            if site.is_none_or(|site| site == operation.site) {
                self.judge_not_deleted(document, site, *id, name, asked_ns)?;
            }
        }
        Ok(())
    }

    fn judge_not_deleted(
        &self,
        document: &str,
        judged_at: Option<SiteId>,
        id: OpId,
        name: &str,
        asked_ns: u64,
    ) -> Result<(), Failure> {
        let operation = &self.operations[id];
        let Status::Acknowledged { ended_ns } = operation.status else { return Ok(()) };
        for delete in self.of_document.get(document).into_iter().flatten() {
            let delete = &self.operations[*delete];
            let Status::Acknowledged { ended_ns: deleted_ns } = delete.status else { continue };
            let had_seen = delete.effect == Effect::Delete
                && (judged_at.is_some() || self.counts_at_server(delete, document))
                && deleted_ns <= asked_ns
                && delete.site == operation.site
                && delete.submitted_ns >= ended_ns;
            if had_seen {
                let text = format!(
                    "{document}.{name} is there again, deleted at {:.6} s",
                    delete.submitted_ns as f64 / 1e9
                );
                return Err(Failure::new("deleted value came back", text));
            }
        }
        Ok(())
    }

    fn judge_counter(&self, document: &str, row: Option<&Object>) -> Result<(), Failure> {
        let (mut least, mut most) = (0, 0);
        for id in &self.increments {
            let operation = &self.operations[*id];
            if !self.may_be_at_server(operation, document) {
                continue;
            }
            let is_owed = self.counts_at_server(operation, document);
            match operation.status {
                Status::Acknowledged { .. } if operation.reached.contains(document) => {
                    least += i64::from(is_owed);
                    most += 1;
                }
                Status::Pending | Status::Unknown | Status::RolledBack { .. }
                    if operation.target.as_deref().is_none_or(|target| target == document) =>
                {
                    most += 1;
                }
                _ => {}
            }
        }
        let found = row.and_then(|row| row.get("n")).and_then(Value::as_i64).unwrap_or(0);
        if found < least || found > most {
            let text =
                format!("{document}.n is {found}, but {least} to {most} increments happened");
            return Err(Failure::new("counter", text));
        }
        Ok(())
    }

    /// True when a deletion was or may be under way that may have seen the write, or an eviction at the place that is
    /// judged: what is evicted there is gone there alone.
    fn may_be_gone(&self, document: &str, write: &Operation, judged_at: Option<SiteId>) -> bool {
        let counts = |operation: &Operation| match operation.effect {
            Effect::Delete => true,
            Effect::Evict if judged_at.is_none() && self.is_server_put_back => true,
            Effect::Evict => operation.site == judged_at.unwrap_or(SERVER_SITE),
            _ => false,
        };
        let may_reach = |delete: &Operation| match &delete.target {
            Some(target) => target == document,
            None => document.starts_with('d'),
        };
        let mut open = self.open_deletes.iter().map(|id| &self.operations[*id]);
        open.any(|delete| counts(delete) && may_reach(delete))
            || self.of_document.get(document).into_iter().flatten().any(|id| {
                let delete = &self.operations[*id];
                let ended_ns = match delete.status {
                    Status::Acknowledged { ended_ns } => ended_ns,
                    _ => u64::MAX,
                };
                counts(delete) && ended_ns >= write.submitted_ns
            })
    }

    fn ended_ns(&self, id: OpId) -> u64 {
        match self.operations[id].status {
            Status::Acknowledged { ended_ns } => ended_ns,
            _ => 0,
        }
    }
}

/// The collection of a document of the workload.
fn home_of(document: &str) -> &'static str {
    collection_of(document).unwrap_or(CARS)
}

/// One statement wrote the same number into a field of all of these documents: a reader sees all of it or nothing.
pub(crate) fn judge_whole(rows: &[Object], names: &[String]) -> Result<(), Failure> {
    for name in names {
        let numbers: BTreeSet<Option<u64>> =
            rows.iter().map(|row| row.get(name).and_then(Value::as_u64)).collect();
        if numbers.len() > 1 {
            let text = format!("{name} is {numbers:?} in documents that are written together");
            return Err(Failure::new("half a transaction seen", text));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, number: u64) -> Object {
        let mut row = Object::default();
        row.insert(name, Value::from(number));
        row
    }

    fn set(ledger: &mut Ledger, number: u64, at_ns: u64) {
        let effect = Effect::Set { writer: 1, number };
        let id = ledger.begin(SERVER_SITE, effect, Some("d1".into()), at_ns);
        ledger.end(id, End::Acknowledged(vec!["d1".into()]), at_ns + 1);
    }

    fn delete(ledger: &mut Ledger, at_ns: u64) {
        let id = ledger.begin(SERVER_SITE, Effect::Delete, Some("d1".into()), at_ns);
        ledger.end(id, End::Acknowledged(vec!["d1".into()]), at_ns + 1);
    }

    #[test]
    fn an_acknowledged_write_must_be_read() {
        let mut ledger = Ledger::default();
        set(&mut ledger, 1, 10);
        set(&mut ledger, 2, 20);
        assert!(ledger.judge_read(SERVER_SITE, "d1", Some(&row("w1", 2)), 30).is_ok());
        assert!(ledger.judge_read(SERVER_SITE, "d1", Some(&row("w1", 1)), 30).is_err());
        assert!(ledger.judge_read(SERVER_SITE, "d1", None, 30).is_err());
    }

    #[test]
    fn a_deletion_explains_absence_and_forbids_return() {
        let mut ledger = Ledger::default();
        set(&mut ledger, 1, 10);
        delete(&mut ledger, 20);
        assert!(ledger.judge_read(SERVER_SITE, "d1", None, 30).is_ok());
        assert!(ledger.judge_read(SERVER_SITE, "d1", Some(&row("w1", 1)), 30).is_err());
        set(&mut ledger, 2, 40);
        assert!(ledger.judge_read(SERVER_SITE, "d1", None, 50).is_err());
    }

    #[test]
    fn what_was_refused_must_not_be_seen() {
        let mut ledger = Ledger::default();
        let effect = Effect::Set { writer: 1, number: 1 };
        let id = ledger.begin(SERVER_SITE, effect, None, 1);
        ledger.end(id, End::Refused, 2);
        assert!(ledger.judge_read(SERVER_SITE, "d1", Some(&row("w1", 1)), 3).is_err());
    }
}
