//! Random moments and numbers from a seed that a failure can name.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A small generator (SplitMix64).
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// A generator whose seed is `BIGPEER_TEST_SEED`, or new; printed, so that a failure can be looked at again.
    #[must_use]
    pub fn announced(what: &str) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let fresh = since.map_or(0, |time| u64::from(time.subsec_nanos()) ^ time.as_secs());
        let seed = crate::setting("BIGPEER_TEST_SEED", fresh);
        eprintln!("{what}: BIGPEER_TEST_SEED={seed}");
        Self { state: seed }
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound
    }

    /// A time of at least `min` and less than `max`.
    pub fn duration(&mut self, min: Duration, max: Duration) -> Duration {
        let span = (max - min).as_micros().try_into().expect("a short time");
        min + Duration::from_micros(self.below(span))
    }
}
