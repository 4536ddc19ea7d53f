//! Lines that strangers cause: one a second, and a count of the others.

use std::sync::atomic::{AtomicU64, Ordering};

use bigpeer_core::time::Instant;

/// One kind of line that strangers can cause. Lives in a `static` beside the place that logs it.
#[derive(Debug)]
pub struct Repeated {
    /// From when on the next line may be written, in nanoseconds of the process.
    next_ns: AtomicU64,
    /// How many were not written since the last that was.
    suppressed: AtomicU64,
}

/// The time between two lines of one kind.
const PERIOD_NS: u64 = 1_000_000_000;

impl Repeated {
    /// A kind of which nothing was written yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { next_ns: AtomicU64::new(0), suppressed: AtomicU64::new(0) }
    }

    /// Whether a line may be written now, and how many were not since the last one.
    pub(super) fn admit(&self, now: Instant) -> Option<u64> {
        let next_ns = self.next_ns.load(Ordering::Relaxed);
        // Of two threads that come at once, one writes.
        let is_ours = now.ns >= next_ns
            && self
                .next_ns
                .compare_exchange(next_ns, now.ns + PERIOD_NS, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if is_ours {
            return Some(self.suppressed.swap(0, Ordering::Relaxed));
        }
        self.suppressed.fetch_add(1, Ordering::Relaxed);
        None
    }
}

impl Default for Repeated {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_a_second_is_written_with_the_number_of_the_others() {
        let repeated = Repeated::new();
        let at = |ms: u64| Instant { ns: ms * 1_000_000 };
        assert_eq!(repeated.admit(at(5)), Some(0));
        for ms in [6, 500, 1004] {
            assert_eq!(repeated.admit(at(ms)), None);
        }
        assert_eq!(repeated.admit(at(1005)), Some(3));
        assert_eq!(repeated.admit(at(1006)), None);
        assert_eq!(repeated.admit(at(9000)), Some(1));
    }
}
