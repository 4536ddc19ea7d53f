//! The clocks of the process: one monotonic origin, and the wall clock.

use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use bigpeer_core::time::{Instant, WallMs};

/// Counts from the moment it was made. Copied to every thread, so that all count from the same moment.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: std::time::Instant,
}

impl Clock {
    /// Starts to count.
    #[must_use]
    pub fn start() -> Self {
        Self { origin: std::time::Instant::now() }
    }

    /// One for those that are handed none. It starts with the first call.
    #[must_use]
    pub fn process() -> Self {
        static PROCESS: OnceLock<Clock> = OnceLock::new();
        *PROCESS.get_or_init(Self::start)
    }

    /// Nanoseconds since the start.
    #[must_use]
    pub fn mono(&self) -> Instant {
        let ns = self.origin.elapsed().as_nanos();
        Instant { ns: u64::try_from(ns).unwrap_or(u64::MAX) }
    }

    /// What the wall clock shows; may jump.
    #[must_use]
    pub fn wall(&self) -> WallMs {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        WallMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}
