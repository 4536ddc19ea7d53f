//! When the next sync starts: soon enough that nobody waits for nothing, late enough that syncs are shared.

use std::time::Duration;

use crate::time::Instant;

/// This many waiting records always start a sync.
const RECORDS_ENOUGH: u64 = 64;

/// A quarter of the records that were in flight is enough: the others are still on their way.
const POPULATION_SHARE: u64 = 4;

/// Nobody waits less than this for company, unless alone.
const DELAY_MIN: Duration = Duration::from_micros(200);

/// The rule of one sync in flight: the next starts when min(64, in flight / 4) records wait, or after
/// max(200 µs, the last sync's time). Whoever is alone never waits.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cadence {
    /// Records that were in flight when the last sync ended: those it made durable and those left waiting.
    population: u64,
    /// Appends among them.
    population_appends: u64,
    last_end: Instant,
    last_time: Duration,
}

impl Cadence {
    pub(crate) fn on_sync_done(
        &mut self,
        started: Instant,
        now: Instant,
        population: u64,
        population_appends: u64,
    ) {
        self.population = population;
        self.population_appends = population_appends;
        self.last_time = now.since(started);
        self.last_end = now;
    }

    /// True when `waiting` records should be synced now.
    pub(crate) fn is_due(&self, waiting: u64, now: Instant) -> bool {
        waiting > 0 && (waiting >= self.enough() || now >= self.deadline())
    }

    /// When a sync is due however few records wait.
    pub(crate) fn deadline(&self) -> Instant {
        self.last_end.after(self.last_time.max(DELAY_MIN))
    }

    pub(crate) fn last_end(&self) -> Instant {
        self.last_end
    }

    pub(crate) fn last_time(&self) -> Duration {
        self.last_time
    }

    fn enough(&self) -> u64 {
        if self.population_appends <= 1 {
            1
        } else {
            (self.population / POPULATION_SHARE).clamp(1, RECORDS_ENOUGH)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(us: u64) -> Instant {
        Instant { ns: us * 1_000 }
    }

    #[test]
    fn a_lone_client_never_waits() {
        let mut cadence = Cadence::default();
        assert!(cadence.is_due(1, at(0)));
        cadence.on_sync_done(at(0), at(500), 1, 1);
        assert!(cadence.is_due(1, at(500)));
        cadence.on_sync_done(at(500), at(1_000), 5_000, 1);
        assert!(cadence.is_due(1, at(1_000)), "one append of many records is still one client");
    }

    #[test]
    fn a_crowd_waits_for_a_quarter_or_for_the_time_of_one_sync() {
        let mut cadence = Cadence::default();
        cadence.on_sync_done(at(0), at(1_000), 40, 40);
        assert!(!cadence.is_due(9, at(1_100)));
        assert!(cadence.is_due(10, at(1_100)));
        assert!(cadence.is_due(1, at(2_000)));
        assert_eq!(cadence.deadline(), at(2_000));
        cadence.on_sync_done(at(0), at(10), 4_000, 4_000);
        assert!(cadence.is_due(64, at(20)));
        assert_eq!(cadence.deadline(), at(210), "the shortest delay is 200 microseconds");
    }
}
