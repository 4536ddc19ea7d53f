//! Nothing of a document leaves in an answer under a key that is worth nothing any more, or less: what is under way
//! ends. That is judged by what the operator of the key was answered and by when its reader had which rows.

use bigpeer_core::node::ErrorKind;
use bigpeer_core::time::WallMs;

use super::Failure;
use crate::world::clock::MS;

/// The worth of a key, as a model that knows no code of the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Worth {
    /// There is no key of this text.
    Nothing,
    /// It reads some of the documents of guests, and writes all.
    Half,
    /// It reads and writes all documents of guests.
    All,
}

impl Worth {
    /// The permission object of a key of this worth.
    pub(crate) const fn permissions(self) -> &'static str {
        match self {
            Self::Nothing => r#"{"read":{"everything":false},"write":{"everything":false}}"#,
            Self::Half => {
                r#"{"read":{"everything":false,"queriesByCollection":{"guests":["_id < 'v5'"]}},
                    "write":{"everything":false,"queriesByCollection":{"guests":["true"]}}}"#
            }
            Self::All => {
                r#"{"read":{"everything":false,"queriesByCollection":{"guests":["true"]}},
                    "write":{"everything":false,"queriesByCollection":{"guests":["true"]}}}"#
            }
        }
    }

    pub(crate) fn may_read(self, id: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::Half => id < "v5",
            Self::All => true,
        }
    }
}

/// A change of what a key is worth.
#[derive(Clone, Copy, Debug)]
struct Change {
    to: Worth,
    /// The end of the key, where it has one.
    expires: Option<WallMs>,
    asked_ns: u64,
    answered_ns: u64,
}

/// A moment, by the virtual time and by what the wall clock of the server shows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) at_ns: u64,
    pub(crate) wall: WallMs,
    /// Since when that clock has not jumped.
    pub(crate) steady_ns: u64,
}

/// The worth of one key as its operator knows of it.
#[derive(Debug, Default)]
pub(crate) struct KeyHistory {
    /// The change that was answered last; none while nobody knows what the key is worth.
    last: Option<Change>,
    /// A change that was asked for and has no answer.
    asked: Option<Change>,
}

impl KeyHistory {
    /// The operator asks for a change.
    pub(crate) fn ask(&mut self, to: Worth, expires: Option<WallMs>, asked_ns: u64) {
        self.asked = Some(Change { to, expires, asked_ns, answered_ns: u64::MAX });
    }

    /// The change is made.
    pub(crate) fn answered(&mut self, answered_ns: u64) {
        self.last = self.asked.take().map(|change| Change { answered_ns, ..change });
    }

    /// The change is not made.
    pub(crate) fn refused(&mut self) {
        self.asked = None;
    }

    /// Nobody knows whether the change was made.
    pub(crate) fn lost(&mut self) {
        (self.last, self.asked) = (None, None);
    }

    /// The last change, once it is in force on every thread.
    fn in_force(&self, at_ns: u64) -> Option<&Change> {
        self.last.as_ref().filter(|last| at_ns >= last.answered_ns + GRACE_NS)
    }

    /// Judges rows that leave in the answer to what was asked then.
    pub(crate) fn judge_rows(
        &self,
        asked_ns: u64,
        ids: &[String],
        moment: Moment,
    ) -> Result<(), Failure> {
        let Some(last) = self.in_force(moment.at_ns) else { return Ok(()) };
        if asked_ns < last.asked_ns {
            return fault(&format!("{ids:?} leaves, and {last:?} was answered long before"));
        }
        if self.asked.is_none() && last.has_expired(moment) {
            return fault(&format!("{ids:?} leaves after the end of {last:?}"));
        }
        let may_read = |id: &&String| {
            last.to.may_read(id) || self.asked.is_some_and(|asked| asked.to.may_read(id))
        };
        match ids.iter().find(|id| !may_read(id)) {
            Some(id) => fault(&format!("{id} leaves under {last:?}")),
            None => Ok(()),
        }
    }

    /// Judges the end of an answer to what was asked then.
    pub(crate) fn judge_end(
        &self,
        asked_ns: u64,
        is_read: bool,
        error: Option<ErrorKind>,
        moment: Moment,
    ) -> Result<(), Failure> {
        let Some(last) = self.in_force(moment.at_ns) else { return Ok(()) };
        let is_worthless = last.to == Worth::Nothing || last.has_expired(moment);
        // A mutation that was accepted goes on.
        let was_begun_before = is_read && asked_ns < last.asked_ns;
        let was_begun_after = is_worthless
            && self.asked.is_none()
            && asked_ns >= last.answered_ns + GRACE_NS
            && last.expires.is_none();
        if (was_begun_before || was_begun_after) && error != Some(ErrorKind::Unauthorized) {
            return fault(&format!("an answer ends with {error:?} after {last:?}"));
        }
        Ok(())
    }

    /// Judges a read that has no end yet.
    pub(crate) fn judge_open(&self, asked_ns: u64, moment: Moment) -> Result<(), Failure> {
        let Some(last) = self.in_force(moment.at_ns) else { return Ok(()) };
        // The timer of an end goes by the time that was left when it was set: a clock that jumps moves no timer.
        let is_steady = moment.steady_ns <= last.answered_ns && self.asked.is_none();
        if asked_ns < last.asked_ns || (is_steady && last.has_expired(moment)) {
            return fault(&format!("a read goes on after {last:?}"));
        }
        Ok(())
    }
}

impl Change {
    fn has_expired(&self, moment: Moment) -> bool {
        let is_late = |expires: WallMs| moment.wall.0 >= expires.0 + GRACE_NS / MS;
        moment.at_ns >= moment.steady_ns + GRACE_NS && self.expires.is_some_and(is_late)
    }
}

fn fault(text: &str) -> Result<(), Failure> {
    Err(Failure::new("authority", text.to_owned()))
}

/// A change that was answered is in force on every thread within this time: it comes to them by mailboxes, and these are
/// slow in some worlds.
pub(crate) const GRACE_NS: u64 = 50 * MS;

#[cfg(test)]
mod tests {
    use super::*;

    const LATER: u64 = 1_000 * MS;

    fn at(at_ns: u64) -> Moment {
        Moment { at_ns, wall: WallMs(at_ns / MS), steady_ns: 0 }
    }

    /// A key of this worth, since the beginning.
    fn key(worth: Worth, expires: Option<WallMs>) -> KeyHistory {
        let mut history = KeyHistory::default();
        history.ask(worth, expires, 1);
        history.answered(2);
        history
    }

    fn ids(of: &[&str]) -> Vec<String> {
        of.iter().map(|id| (*id).to_owned()).collect()
    }

    #[test]
    fn nothing_leaves_once_a_revocation_is_answered() {
        let mut key = key(Worth::All, None);
        let (before, rows) = (LATER, ids(&["v1"]));
        key.ask(Worth::Nothing, None, 2 * LATER);
        assert!(key.judge_rows(before, &rows, at(3 * LATER)).is_ok(), "it may not be made yet");
        key.answered(3 * LATER);
        assert!(key.judge_rows(before, &rows, at(3 * LATER)).is_ok(), "it is on its way");
        let after = at(3 * LATER + GRACE_NS);
        assert!(key.judge_rows(before, &rows, after).is_err());
        assert!(key.judge_rows(3 * LATER, &rows, after).is_err());
        assert!(key.judge_open(before, after).is_err());
        assert!(key.judge_end(before, true, None, after).is_err());
        assert!(key.judge_end(before, true, Some(ErrorKind::TimedOut), after).is_err());
        assert!(key.judge_end(before, true, Some(ErrorKind::Unauthorized), after).is_ok());
        assert!(key.judge_end(before, false, None, after).is_ok(), "it was accepted before");
        assert!(key.judge_end(4 * LATER, false, None, at(5 * LATER)).is_err());
        key.lost();
        assert!(key.judge_rows(before, &rows, at(9 * LATER)).is_ok(), "nobody knows");
    }

    #[test]
    fn a_read_of_before_a_key_was_made_anew_ends_and_a_later_one_goes_by_the_new_worth() {
        let mut key = key(Worth::All, None);
        key.ask(Worth::Half, None, 2 * LATER);
        key.answered(3 * LATER);
        let after = at(4 * LATER);
        assert!(key.judge_rows(LATER, &ids(&["v1"]), after).is_err(), "as good as it may be now");
        assert!(key.judge_rows(3 * LATER, &ids(&["v1"]), after).is_ok());
        assert!(key.judge_rows(3 * LATER, &ids(&["v1", "v7"]), after).is_err());
        assert!(key.judge_open(3 * LATER, after).is_ok());
    }

    #[test]
    fn nothing_leaves_after_the_second_in_which_a_key_expires() {
        let key = key(Worth::All, Some(WallMs(5 * LATER / MS)));
        let (rows, grace) = (ids(&["v1"]), GRACE_NS);
        assert!(key.judge_rows(LATER, &rows, at(5 * LATER)).is_ok());
        assert!(key.judge_rows(LATER, &rows, at(5 * LATER + grace)).is_err());
        assert!(key.judge_open(LATER, at(5 * LATER + grace)).is_err());
        let jumped = Moment { steady_ns: 5 * LATER, ..at(5 * LATER + grace - 1) };
        assert!(key.judge_rows(LATER, &rows, jumped).is_ok(), "its clock has just jumped");
    }
}
