//! Virtual time: what happens next, and in which order.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// Nanoseconds in other units.
pub(crate) const US: u64 = 1_000;
pub(crate) const MS: u64 = 1_000 * US;
pub(crate) const SECOND: u64 = 1_000 * MS;

/// A queue of events by time; those of one moment happen in the order they were scheduled in.
#[derive(Debug)]
pub(crate) struct Clock<E> {
    now_ns: u64,
    sequence: u64,
    queue: BinaryHeap<Reverse<Scheduled<E>>>,
}

#[derive(Debug)]
struct Scheduled<E> {
    at_ns: u64,
    sequence: u64,
    event: E,
}

impl<E> Clock<E> {
    pub(crate) fn new() -> Self {
        Self { now_ns: 0, sequence: 0, queue: BinaryHeap::new() }
    }

    pub(crate) fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// Schedules an event; a moment that has passed means "next".
    pub(crate) fn at(&mut self, at_ns: u64, event: E) {
        self.sequence += 1;
        let at_ns = at_ns.max(self.now_ns);
        self.queue.push(Reverse(Scheduled { at_ns, sequence: self.sequence, event }));
    }

    pub(crate) fn after(&mut self, delay_ns: u64, event: E) {
        self.at(self.now_ns + delay_ns, event);
    }

    /// The next event; time moves to it.
    pub(crate) fn pop(&mut self) -> Option<E> {
        let Reverse(Scheduled { at_ns, event, .. }) = self.queue.pop()?;
        self.now_ns = at_ns;
        Some(event)
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }
}

impl<E> Ord for Scheduled<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at_ns, self.sequence).cmp(&(other.at_ns, other.sequence))
    }
}

impl<E> PartialOrd for Scheduled<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> PartialEq for Scheduled<E> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<E> Eq for Scheduled<E> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_then_in_the_order_they_were_scheduled() {
        let mut clock = Clock::new();
        clock.at(5, 'b');
        clock.at(5, 'c');
        clock.at(2, 'a');
        assert_eq!(clock.pop(), Some('a'));
        clock.at(1, 'x');
        assert_eq!(
            [clock.pop(), clock.pop(), clock.pop(), clock.pop()],
            [Some('x'), Some('b'), Some('c'), None]
        );
        assert_eq!(clock.now_ns(), 5);
    }
}
