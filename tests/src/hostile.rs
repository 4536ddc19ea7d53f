//! The measure of the hostile themes: floods, small volumes, scarce descriptors, poison statements.
//!
//! `tests/run` runs each of them short, on one driver drawn by the day, so that a week meets every driver;
//! `tests/run hostile` runs them in full, on all drivers. A theme asserts counts in both; times are printed.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

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

const SECONDS_PER_DAY: u64 = 86_400;
