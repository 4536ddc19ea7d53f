//! Commands of checkpoints that the disk could not begin, for want of something that comes back.
//!
//! A checkpoint that is given up for that is missed where it matters most: the log fills a small volume while the next
//! one waits for its turn. So its commands are kept until they are answered, and given again.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::disk::{DiskCommand, DiskDone, DiskError, DiskOp};
use crate::time::Instant;

/// A command that could not be begun is given again this much later.
const AGAIN_RETRY: Duration = Duration::from_millis(10);

/// The commands that are out, and those that wait to be given again.
#[derive(Debug, Default)]
pub(super) struct Again {
    out: BTreeMap<DiskOp, DiskCommand>,
    waiting: Vec<DiskOp>,
    at: Option<Instant>,
}

impl Again {
    /// A command is given to the disk.
    pub(super) fn note(&mut self, op: DiskOp, command: &DiskCommand) {
        self.out.insert(op, command.clone());
    }

    /// A command was answered. The answer comes back unless the command is to be given again.
    pub(super) fn filter(&mut self, done: DiskDone, now: Instant) -> Option<DiskDone> {
        if matches!(done.result, Err(DiskError::Again(_))) && self.out.contains_key(&done.op) {
            self.waiting.push(done.op);
            self.at.get_or_insert(now.after(AGAIN_RETRY));
            return None;
        }
        self.out.remove(&done.op);
        Some(done)
    }

    /// When commands are to be given again.
    pub(super) fn at(&self) -> Option<Instant> {
        self.at
    }

    /// The commands whose time has come.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<(DiskOp, DiskCommand)> {
        if self.at.is_none_or(|at| now < at) {
            return Vec::new();
        }
        self.at = None;
        let command = |op: &DiskOp| self.out.get(op).map(|command| (*op, command.clone()));
        let due = self.waiting.iter().filter_map(command).collect();
        self.waiting.clear();
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::DiskReply;

    #[test]
    fn a_command_that_could_not_be_begun_is_given_again_at_its_moment_and_once() {
        let mut again = Again::default();
        let (op, command) = (DiskOp(7), DiskCommand::List { dir: "checkpoint".into() });
        again.note(op, &command);
        let now = Instant { ns: 5 };
        let lacking = Err(DiskError::Again("no descriptor is left".into()));
        assert_eq!(again.filter(DiskDone { op, result: lacking }, now), None);
        let at = again.at().expect("it has its time");
        assert_eq!(at, now.after(AGAIN_RETRY));
        assert_eq!(again.take_due(Instant { ns: at.ns - 1 }), []);
        assert_eq!(again.take_due(at), [(op, command)]);
        assert_eq!((again.at(), again.take_due(at)), (None, Vec::new()));
        let done = DiskDone { op, result: Ok(DiskReply::Done) };
        assert_eq!(again.filter(done.clone(), at), Some(done));
    }
}
