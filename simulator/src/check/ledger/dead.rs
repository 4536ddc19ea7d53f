//! A deletion removes for good all that it had seen, at every place and not only where it was asked for.

use std::collections::{BTreeMap, BTreeSet};

use super::{Failure, Ledger, OpId, Status, WriterId};

/// The writes that each deletion found, by document.
pub(super) type Seen = BTreeMap<String, BTreeSet<(WriterId, u64)>>;

impl Ledger {
    /// Notes what the place of a deletion held when it was asked for: the deletion has seen at least that.
    pub(crate) fn note_seen(
        &mut self,
        delete: OpId,
        document: &str,
        writes: BTreeSet<(WriterId, u64)>,
    ) {
        self.seen.entry(delete).or_default().insert(document.to_owned(), writes);
    }

    /// No write that an acknowledged deletion of any place had seen is there.
    pub(super) fn judge_dead(&self, document: &str, write: (WriterId, u64)) -> Result<(), Failure> {
        for (id, seen) in &self.seen {
            let delete = &self.operations[*id];
            let is_done = matches!(delete.status, Status::Acknowledged { .. })
                && delete.reached.contains(document)
                && self.counts_at_server(delete, document);
            if is_done && seen.get(document).is_some_and(|writes| writes.contains(&write)) {
                let (writer, number) = write;
                let at = delete.submitted_ns as f64 / 1e9;
                let text = format!(
                    "{document}.w{writer} = {number} is there, and place {} saw and deleted it at {at:.6} s",
                    delete.site
                );
                return Err(Failure::new("deleted value came back", text));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bigpeer_core::value::{Object, Value};

    use super::*;
    use crate::check::ledger::{Effect, End, SERVER_SITE};

    #[test]
    fn what_a_device_deleted_must_not_be_at_the_server() {
        let mut ledger = Ledger::default();
        let device = ledger.add_site();
        let set = Effect::Set { writer: 1, number: 7 };
        let id = ledger.begin(SERVER_SITE, set, Some("d1".into()), 10);
        ledger.end(id, End::Acknowledged(vec!["d1".into()]), 11);
        let delete = ledger.begin(device, Effect::Delete, Some("d1".into()), 20);
        ledger.note_seen(delete, "d1", BTreeSet::from([(1, 7)]));
        ledger.end(delete, End::Acknowledged(vec!["d1".into()]), 21);
        let mut row = Object::default();
        row.insert("w1", Value::from(7_u64));
        assert!(ledger.judge_registers("d1", Some(&row), None, u64::MAX).is_err());
        assert!(ledger.judge_registers("d1", None, None, u64::MAX).is_ok());
    }
}
