//! A register that everybody writes and removes: a removal takes away only what it has seen.

use bigpeer_core::value::Object;

use super::{Effect, Failure, Ledger, Operation, Status};

impl Ledger {
    /// The newest acknowledged write is there, or what followed it, unless a removal went on after it was asked
    /// for: an earlier one cannot have seen it.
    pub(super) fn judge_contended(
        &self,
        document: &str,
        row: Option<&Object>,
    ) -> Result<(), Failure> {
        if row.is_some_and(|row| row.get("v").is_some()) {
            return Ok(());
        }
        let concerns = |operation: &&Operation| operation.target.as_deref() == Some(document);
        let newest = self
            .operations
            .iter()
            .filter(concerns)
            .filter(|operation| operation.effect == Effect::Contend)
            .filter(|operation| matches!(operation.status, Status::Acknowledged { .. }))
            .filter(|operation| operation.reached.contains(document))
            .filter(|operation| self.counts_at_server(operation, document))
            .map(|operation| operation.submitted_ns)
            .max();
        let Some(written_ns) = newest else { return Ok(()) };
        let may_have_seen = |removal: &Operation| match removal.status {
            Status::Refused => false,
            Status::Acknowledged { ended_ns } | Status::RolledBack { ended_ns } => {
                ended_ns >= written_ns
            }
            Status::Pending | Status::Unknown => true,
        };
        let mut removals = self.operations.iter().filter(concerns);
        if removals.any(|it| it.effect == Effect::Remove && may_have_seen(it)) {
            return Ok(());
        }
        let at = written_ns as f64 / 1e9;
        let text = format!("{document}.v is gone, written at {at:.6} s and not removed since");
        Err(Failure::new("acknowledged write lost", text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::ledger::{End, SERVER_SITE};

    fn run(ledger: &mut Ledger, effect: Effect, at_ns: u64) {
        let id = ledger.begin(SERVER_SITE, effect, Some("k1".into()), at_ns);
        ledger.end(id, End::Acknowledged(vec!["k1".into()]), at_ns + 1);
    }

    #[test]
    fn only_a_later_removal_explains_that_a_write_is_gone() {
        let mut ledger = Ledger::default();
        run(&mut ledger, Effect::Remove, 10);
        run(&mut ledger, Effect::Contend, 20);
        assert!(ledger.judge_contended("k1", None).is_err());
        assert!(ledger.judge_contended("k2", None).is_ok());
        run(&mut ledger, Effect::Remove, 30);
        assert!(ledger.judge_contended("k1", None).is_ok());
    }
}
