//! The two clocks of the process.

use std::time::{SystemTime, UNIX_EPOCH};

use bigpeer_core::time::{Instant, WallMs};

/// Counts from the moment it was made; copies count from the same moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: std::time::Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { origin: std::time::Instant::now() }
    }

    pub(crate) fn mono(&self) -> Instant {
        let ns = self.origin.elapsed().as_nanos();
        Instant { ns: u64::try_from(ns).unwrap_or(u64::MAX) }
    }

    /// May jump.
    pub(crate) fn wall() -> WallMs {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        WallMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}
