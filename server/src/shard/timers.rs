//! The deadlines of many connections, nearly all of which are moved on before they are reached.
//!
//! An entry is made when a deadline lies before the one that is armed, and never changed. One that has been
//! moved on meanwhile fires early, which does no harm, and is then armed anew.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use bigpeer_core::time::Instant;

/// Deadlines by key.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, u64)>>,
}

impl Timers {
    /// Notes that `key` has a deadline. `armed` is what fires for it already, and is brought up to date.
    pub(crate) fn arm(&mut self, key: u64, deadline: Option<Instant>, armed: &mut Option<Instant>) {
        if let Some(deadline) = deadline
            && armed.is_none_or(|armed| deadline < armed)
        {
            self.heap.push(Reverse((deadline, key)));
            *armed = Some(deadline);
        }
    }

    /// The next key whose time has come, and that time.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<(u64, Instant)> {
        let Reverse((at, key)) = *self.heap.peek()?;
        if at > now {
            return None;
        }
        self.heap.pop();
        Some((key, at))
    }

    /// When to look again.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ns: u64) -> Instant {
        Instant { ns }
    }

    #[test]
    fn a_later_deadline_costs_nothing_until_the_earlier_one_fires() {
        let (mut timers, mut armed) = (Timers::default(), None);
        timers.arm(1, Some(at(10)), &mut armed);
        timers.arm(1, Some(at(20)), &mut armed);
        assert_eq!((armed, timers.heap.len()), (Some(at(10)), 1));
        timers.arm(1, Some(at(5)), &mut armed);
        assert_eq!(timers.next(), Some(at(5)));
        assert_eq!(timers.pop_due(at(4)), None);
        assert_eq!(timers.pop_due(at(10)), Some((1, at(5))));
        assert_eq!(timers.pop_due(at(10)), Some((1, at(10))));
    }
}
