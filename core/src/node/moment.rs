//! How the time of a thread is shared out among statements. The nodes of a thread share what they may do at one
//! moment, between two looks at its mail and its sockets; before each step a node is told what is left of that.

use super::Node;
use crate::dql::Fuel;

/// Work of statements at one moment, turns that they sat out included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Shares {
    /// The work of all of them.
    pub(super) all: Fuel,
    /// The part of it that long statements did, which take turns.
    pub(super) turns: Fuel,
}

impl Shares {
    const UNBOUNDED: Self = Self { all: Fuel::MAX, turns: Fuel::MAX };

    pub(super) fn saturating_add(self, other: Self) -> Self {
        let all = self.all.saturating_add(other.all);
        Self { all, turns: self.turns.saturating_add(other.turns) }
    }

    pub(super) fn saturating_sub(self, other: Self) -> Self {
        let all = self.all.saturating_sub(other.all);
        Self { all, turns: self.turns.saturating_sub(other.turns) }
    }
}

/// The work of the present moment that the statements of a node may do, and have done.
#[derive(Debug)]
pub(super) struct Moment {
    spent: Shares,
    left: Shares,
    /// The work itself, since it was last asked for: nobody works while a turn is sat out.
    worked: Fuel,
}

impl Default for Moment {
    /// One without a bound, for a node that shares its thread with no other.
    fn default() -> Self {
        Self { spent: Shares::default(), left: Shares::UNBOUNDED, worked: 0 }
    }
}

impl Moment {
    /// True while statements that name their documents may go on.
    pub(super) fn has_time(&self) -> bool {
        self.spent.all < self.left.all
    }
}

impl Node {
    /// From here on statements may take so much before they wait for the next moment.
    pub(super) fn begin_step(&mut self, left: Shares) {
        (self.moment.spent, self.moment.left) = (Shares::default(), left);
    }

    /// The charge of statements since the last [`Node::begin_step`], and the work that was done for it.
    pub(super) fn take_spent(&mut self) -> (Shares, Fuel) {
        (std::mem::take(&mut self.moment.spent), std::mem::take(&mut self.moment.worked))
    }

    /// Counts work that a statement has done.
    pub(super) fn note_work(&mut self, fuel: Fuel) {
        self.note_sat_out(fuel);
        self.moment.worked = self.moment.worked.saturating_add(fuel);
    }

    /// Counts time that a statement owes for what it has done before: nobody works in it.
    pub(super) fn note_sat_out(&mut self, fuel: Fuel) {
        self.moment.spent.all = self.moment.spent.all.saturating_add(fuel);
    }

    /// The turn of a statement that is to end in it, if it can.
    pub(super) fn whole_turn(&self) -> Fuel {
        self.config.limits.turn_fuel
    }

    /// The turn of a long statement: what is left of the thread's.
    pub(super) fn turn_left(&self) -> Fuel {
        let Shares { turns, .. } = self.moment.left.saturating_sub(self.moment.spent);
        turns.min(self.whole_turn())
    }

    /// Counts what `work` does as that of a long statement.
    pub(super) fn in_turn<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> T {
        let (all, turns) = (self.moment.spent.all, self.moment.spent.turns);
        let result = work(self);
        // A turn within a turn is counted once.
        self.moment.spent.turns = turns.saturating_add(self.moment.spent.all - all);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_spent_a_moment_or_is_given_none_has_no_time() {
        let has_time = |spent, left| {
            let (spent, left) =
                (Shares { all: spent, turns: 0 }, Shares { all: left, turns: left });
            Moment { spent, left, worked: 0 }.has_time()
        };
        assert!(has_time(9, 10));
        assert!(!has_time(10, 10));
        assert!(!has_time(0, 0));
    }
}
