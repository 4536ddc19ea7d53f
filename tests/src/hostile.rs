//! The measure of the hostile themes: floods, small volumes, scarce descriptors, poison statements.
//!
//! `tests/run` runs each of them short, on one driver drawn by the day, so that a week meets every driver;
//! `tests/run hostile` runs them in full, on all drivers. A theme asserts counts in both; times are printed.

use std::fmt;
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::suite::{DRIVERS_DEFAULT, Driver, drivers};

/// True when the full sizes and times were asked for.
#[must_use]
pub fn is_full() -> bool {
    crate::setting("BIGPEER_TEST_HOSTILE", String::new()) == "full"
}

/// `full` when the full sizes were asked for, else `short`.
pub fn sized<T>(short: T, full: T) -> T {
    if is_full() { full } else { short }
}

/// The length of one flood: five seconds, in full a minute.
#[must_use]
pub fn flood_time() -> Duration {
    sized(Duration::from_secs(5), Duration::from_secs(60))
}

/// The drivers of a hostile theme: in full all that are tested, else one of them, by the day.
///
/// # Panics
///
/// When `BIGPEER_TEST_DRIVERS` names something that is no driver.
#[must_use]
pub fn hostile_drivers() -> Vec<Driver> {
    let all = drivers();
    if is_full() || all.len() < DRIVERS_DEFAULT.len() {
        return all;
    }
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the epoch is past");
    let day = since.as_secs() / SECONDS_PER_DAY;
    vec![all[(day % all.len() as u64) as usize]]
}

/// The end of an enemy, told once: by the test, or by a claim of it that did not hold.
#[derive(Debug, Default)]
pub struct Stop {
    is_told: Mutex<bool>,
    told: Condvar,
}

impl Stop {
    /// True once the end was told.
    ///
    /// # Panics
    ///
    /// When another holder of the lock has panicked; none can.
    #[must_use]
    pub fn is_told(&self) -> bool {
        *self.is_told.lock().expect("no holder of this lock panics")
    }

    /// Waits for the end, for at most so long: the pace of an enemy. True once the end was told.
    ///
    /// # Panics
    ///
    /// As [`is_told`](Self::is_told).
    pub fn comes_within(&self, pause: Duration) -> bool {
        let guard = self.is_told.lock().expect("no holder of this lock panics");
        let waited = self.told.wait_timeout_while(guard, pause, |is_told| !*is_told);
        *waited.expect("no holder of this lock panics").0
    }

    /// Tells the end when the guard is dropped.
    #[must_use]
    pub fn when_dropped(&self) -> impl Drop {
        struct Teller<'a>(&'a Stop);
        impl Drop for Teller<'_> {
            fn drop(&mut self) {
                *self.0.is_told.lock().expect("no holder of this lock panics") = true;
                self.0.told.notify_all();
            }
        }
        Teller(self)
    }
}

/// The times that honest requests took beside an enemy, or without one.
#[derive(Debug, Default)]
pub struct Waits {
    /// The time of each answered request.
    sorted: Vec<Duration>,
}

impl Waits {
    /// Asks again and again for so long, and measures each answer. Between an answer and the next question lies a
    /// millisecond: whoever asks without a rest takes a processor, and with it the server's.
    pub fn during(time: Duration, mut ask: impl FnMut()) -> Self {
        let never = Stop::default();
        let (begun, mut sorted) = (Instant::now(), Vec::new());
        while begun.elapsed() < time {
            never.comes_within(PAUSE);
            let asked = Instant::now();
            ask();
            sorted.push(asked.elapsed());
        }
        sorted.sort_unstable();
        Self { sorted }
    }

    /// The limit of the machine, for so long: how much later than asked for a thread runs that sleeps a millisecond at
    /// a time and does nothing else. Whoever waits for an answer waits at least that long now and then.
    #[must_use]
    pub fn of_the_machine(time: Duration) -> Self {
        let (begun, never) = (Instant::now(), Stop::default());
        let mut sorted = Vec::new();
        while begun.elapsed() < time {
            let slept = Instant::now();
            never.comes_within(PAUSE);
            sorted.push(slept.elapsed().saturating_sub(PAUSE));
        }
        sorted.sort_unstable();
        Self { sorted }
    }

    /// The number of answers.
    #[must_use]
    pub fn count(&self) -> usize {
        self.sorted.len()
    }

    /// The time within which so many of a thousand were answered; zero if nothing was.
    #[must_use]
    pub fn permille(&self, share: usize) -> Duration {
        let at = (self.sorted.len() * share / 1000).min(self.sorted.len().saturating_sub(1));
        self.sorted.get(at).copied().unwrap_or_default()
    }

    /// The p99 of these by that of others, for people to read.
    #[must_use]
    pub fn p99_ratio(&self, quiet: &Self) -> f64 {
        self.permille(990).as_secs_f64() / quiet.permille(990).as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

impl fmt::Display for Waits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (median, p99) = (self.permille(500), self.permille(990));
        write!(
            f,
            "{} answers, p50 {median:.1?}, p99 {p99:.1?}, max {:.1?}",
            self.count(),
            self.permille(1000)
        )
    }
}

/// Between two questions of one who asks at a pace.
const PAUSE: Duration = Duration::from_millis(1);

const SECONDS_PER_DAY: u64 = 86_400;
