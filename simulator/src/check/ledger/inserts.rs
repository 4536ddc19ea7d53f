//! Of several INSERTs of one id at one place exactly one wins, until the document is deleted.

use super::{Effect, Failure, Ledger, OpId, Operation, Status};

impl Ledger {
    /// The operation fails when its document is there.
    pub(crate) fn mark_insert(&mut self, id: OpId) {
        self.operations[id].is_insert = true;
    }

    /// Judges an INSERT that was just acknowledged: nobody else inserted the same document there, unless a
    /// deletion may have come between.
    pub(crate) fn judge_insert(&self, id: OpId) -> Result<(), Failure> {
        let operation = &self.operations[id];
        if !operation.is_insert {
            return Ok(());
        }
        for document in &operation.reached {
            for other in self.of_document.get(document).into_iter().flatten() {
                let former = &self.operations[*other];
                let is_rival = *other != id && former.is_insert && former.site == operation.site;
                if is_rival && !self.may_be_deleted_since(document, former) {
                    let at = former.submitted_ns as f64 / 1e9;
                    let text = format!("{document} was inserted twice, first at {at:.6} s");
                    return Err(Failure::new("two inserts of one id", text));
                }
            }
        }
        Ok(())
    }

    /// True when a deletion of any place went on after the document was inserted.
    fn may_be_deleted_since(&self, document: &str, insert: &Operation) -> bool {
        let Status::Acknowledged { .. } = insert.status else { return true };
        self.operations.iter().any(|delete| {
            let may_reach = match (&delete.status, &delete.target) {
                (Status::Acknowledged { .. }, _) => delete.reached.contains(document),
                (Status::Refused, _) => false,
                (_, Some(target)) => target == document,
                (_, None) => true,
            };
            let ended_ns = match delete.status {
                Status::Acknowledged { ended_ns } | Status::RolledBack { ended_ns } => ended_ns,
                _ => u64::MAX,
            };
            delete.effect == Effect::Delete && may_reach && ended_ns >= insert.submitted_ns
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::ledger::{End, SERVER_SITE};

    fn insert(ledger: &mut Ledger, number: u64, at_ns: u64) -> Result<(), Failure> {
        let effect = Effect::Set { writer: 1, number };
        let id = ledger.begin(SERVER_SITE, effect, Some("d1".into()), at_ns);
        ledger.mark_insert(id);
        ledger.end(id, End::Acknowledged(vec!["d1".into()]), at_ns + 1);
        ledger.judge_insert(id)
    }

    #[test]
    fn a_document_is_inserted_again_only_after_a_deletion() {
        let mut ledger = Ledger::default();
        assert!(insert(&mut ledger, 1, 10).is_ok());
        let delete = ledger.begin(SERVER_SITE, Effect::Delete, Some("d1".into()), 20);
        ledger.end(delete, End::Acknowledged(vec!["d1".into()]), 21);
        assert!(insert(&mut ledger, 2, 30).is_ok());
        assert!(insert(&mut ledger, 3, 40).is_err());
    }
}
