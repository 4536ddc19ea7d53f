//! Time as data: monotonic instants, wall-clock milliseconds and the hybrid logical clock.
//!
//! Nothing in this crate reads a clock. A driver passes a `Now` into every call; two runs that are given
//! the same inputs at the same `Now` do the same things.

use std::fmt;
use std::time::Duration;

/// A moment on the driver's monotonic clock, in nanoseconds since the driver started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant {
    /// Nanoseconds since the driver started.
    pub ns: u64,
}

impl Instant {
    /// The moment `duration` later; saturates at the end of time.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self { ns: self.ns.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)) }
    }

    /// The earliest of some moments, of which there may be none.
    ///
    /// The end of time is none of them: nobody lives to see it.
    #[inline]
    #[must_use]
    pub fn earliest<const N: usize>(moments: [Option<Self>; N]) -> Option<Self> {
        let least_of = |least: u64, of: Option<Self>| of.map_or(least, |at| least.min(at.ns));
        let ns = moments.into_iter().fold(u64::MAX, least_of);
        (ns < u64::MAX).then_some(Self { ns })
    }

    /// How long ago `earlier` was; zero when it lies ahead.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.ns.saturating_sub(earlier.ns))
    }
}

/// Milliseconds since the Unix epoch as the host's wall clock shows them. May go backwards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallMs(pub u64);

/// A hybrid logical clock value: 48 bits of milliseconds since the Unix epoch, 16 bits of logic.
///
/// Ordered as an integer; zero is before every event. One value names one commit of one actor.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hlc(pub u64);

impl Hlc {
    /// The clock of `INITIAL` documents: older than any real write, seen by every deletion.
    pub const INITIAL: Self = Self(1);

    /// Builds a value from its two parts; `physical_ms` is cut to 48 bits.
    #[must_use]
    pub const fn new(physical_ms: u64, logical: u16) -> Self {
        Self((physical_ms << 16) | logical as u64)
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn physical_ms(self) -> u64 {
        self.0 >> 16
    }

    /// The logical counter within one millisecond.
    #[must_use]
    pub const fn logical(self) -> u16 {
        (self.0 & 0xFFFF) as u16
    }
}

impl fmt::Debug for Hlc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.physical_ms(), self.logical())
    }
}

/// No clock value is left above those that were issued or observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the hybrid clock has reached its last value")]
pub struct ClockExhausted;

/// Issues rising [`Hlc`] values for one actor, above everything it has observed.
#[derive(Clone, Debug, Default)]
pub struct HlcClock {
    last: Hlc,
}

impl HlcClock {
    /// Resumes above `last`, the highest value that may have been issued or observed before.
    #[must_use]
    pub const fn resume(last: Hlc) -> Self {
        Self { last }
    }

    /// The highest value issued or observed.
    #[must_use]
    pub const fn last(&self) -> Hlc {
        self.last
    }

    /// The next value: never less than the wall clock, always greater than everything issued or observed.
    ///
    /// # Errors
    ///
    /// [`ClockExhausted`] when the last value there is was issued or observed. Every later call says the same: a
    /// clock that began anew would issue what documents have seen already, and such an edit is lost.
    pub fn tick(&mut self, wall: WallMs) -> Result<Hlc, ClockExhausted> {
        let next = self.last.0.checked_add(1).ok_or(ClockExhausted)?;
        self.last = Hlc::new(wall.0, 0).max(Hlc(next));
        Ok(self.last)
    }

    /// Observes a value from elsewhere: every later [`tick`](Self::tick) is greater.
    pub fn receive(&mut self, remote: Hlc) {
        self.last = self.last.max(remote);
    }
}

/// True when peers refuse what bears this clock value: it is further ahead of the wall clock than they allow.
#[must_use]
pub const fn is_far_ahead(hlc: Hlc, wall: WallMs) -> bool {
    hlc.physical_ms() > wall.0.saturating_add(CLOCK_AHEAD_MS)
}

/// How far ahead of its wall clock a server lets newly authored edits be: five minutes.
pub const CLOCK_AHEAD_MS: u64 = 300_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_rise_when_the_wall_clock_stands_or_goes_back() {
        let mut clock = HlcClock::default();
        let [a, b, c] =
            [1_000, 1_000, 10].map(|wall| clock.tick(WallMs(wall)).expect("far from its end"));
        assert!(a < b && b < c);
        assert_eq!(a, Hlc::new(1_000, 0));
        assert_eq!(c, Hlc::new(1_000, 2));
    }

    #[test]
    fn the_logical_part_carries_into_the_physical_part() {
        let mut clock = HlcClock::resume(Hlc::new(5, u16::MAX));
        assert_eq!(clock.tick(WallMs(5)), Ok(Hlc::new(6, 0)));
    }

    #[test]
    fn a_tick_after_receiving_is_greater_than_what_was_received() {
        let mut clock = HlcClock::default();
        clock.receive(Hlc::new(9_000, 7));
        assert_eq!(clock.tick(WallMs(1)), Ok(Hlc::new(9_000, 8)));
    }

    #[test]
    fn a_clock_at_its_end_says_so_and_never_begins_anew() {
        let mut clock = HlcClock::resume(Hlc(u64::MAX - 1));
        assert_eq!(clock.tick(WallMs(5)), Ok(Hlc(u64::MAX)));
        for wall in [0, 5, u64::MAX] {
            assert_eq!(clock.tick(WallMs(wall)), Err(ClockExhausted));
        }
        assert_eq!(clock.last(), Hlc(u64::MAX));
    }
}
