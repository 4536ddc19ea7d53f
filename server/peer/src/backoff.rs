//! How long to wait before the next attempt to reach a server.

use std::time::Duration;

use bigpeer_core::rng::Rng;

/// The first wait.
const WAIT_MIN: Duration = Duration::from_millis(500);

/// The longest wait; also the pace towards a server that refuses us, which no haste will change.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// Waits that double, from [`WAIT_MIN`] to [`WAIT_MAX`], each shortened by up to a half so that a thousand devices
/// that lost one server do not come back in one moment.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
    rng: Rng,
}

impl Backoff {
    pub(crate) fn new(rng: Rng) -> Self {
        Self { next: WAIT_MIN, rng }
    }

    /// The server was reached.
    pub(crate) fn reset(&mut self) {
        self.next = WAIT_MIN;
    }

    /// The wait after a failure.
    pub(crate) fn after_failure(&mut self) -> Duration {
        let wait = self.next;
        self.next = (2 * wait).min(WAIT_MAX);
        self.jitter(wait)
    }

    /// The wait after the server refused us.
    pub(crate) fn after_refusal(&mut self) -> Duration {
        self.next = WAIT_MAX;
        self.jitter(WAIT_MAX)
    }

    fn jitter(&mut self, wait: Duration) -> Duration {
        let ns = u64::try_from(wait.as_nanos()).expect("a minute in nanoseconds fits");
        Duration::from_nanos(ns - self.rng.below(ns / 2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_minute_and_start_over_after_success() {
        let mut backoff = Backoff::new(Rng::new(&[1; 32], "backoff"));
        let mut longest = WAIT_MIN;
        for _ in 0..12 {
            let wait = backoff.after_failure();
            assert!(wait > longest / 2 && wait <= longest, "{wait:?} of {longest:?}");
            longest = (2 * longest).min(WAIT_MAX);
        }
        backoff.reset();
        assert!(backoff.after_failure() <= WAIT_MIN);
        assert!(backoff.after_refusal() > WAIT_MAX / 2);
    }
}
