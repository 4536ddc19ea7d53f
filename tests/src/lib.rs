//! The harness of the end-to-end tests: it builds `bigpeer` once, starts it, speaks HTTP and WebSocket with it as
//! plain bytes over a socket, kills it, and takes the disk away from under it.
//!
//! Each file in `tests/tests` is one theme, and each of its tests runs once for each driver (see [`mod@suite`]).
//! What can be set from outside:
//!
//! | Variable | Meaning |
//! | --- | --- |
//! | `BIGPEER_TEST_DRIVERS` | The drivers to test, separated by commas. A driver that does not start is a failure |
//! | `BIGPEER_TEST_BINARY` | A built `bigpeer` to test in place of the one that the harness builds |
//! | `BIGPEER_TEST_CACHE` | Where the data sets lie |
//! | `BIGPEER_TEST_KILL_CYCLES` | How often `kill -9` strikes each driver |
//! | `BIGPEER_TEST_FIRST_STARTS` | How many first starts are killed, and how many lose their power, for each driver |
//! | `BIGPEER_TEST_POWER_CUTS` | How often the power fails for each driver |
//! | `BIGPEER_TEST_POWER_CUT` | `off` leaves out what needs root and loop devices, and says so |
//! | `BIGPEER_TEST_HOSTILE` | `full` runs the hostile themes in full sizes and times, on every driver |
//! | `BIGPEER_TEST_SEED` | The seed of the random moments, as a failure printed it |

use std::time::{Duration, Instant};

pub mod binary;
pub mod data;
pub mod first_start;
pub mod hostile;
pub mod http;
pub mod ledger;
pub mod load;
pub mod random;
pub mod scratch;
pub mod server;
pub mod suite;
pub mod system;
pub mod volume;
pub mod websocket;

/// The value of an environment variable, or the default.
///
/// # Panics
///
/// When the variable holds something else than a value of this type.
#[must_use]
pub fn setting<T: std::str::FromStr>(name: &str, default: T) -> T {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is `{text}`: not understood")),
        Err(_) => default,
    }
}

/// Asks again and again, until there is something; for what cannot be waited for.
///
/// # Panics
///
/// When nothing has come after 30 seconds.
pub fn wait_until<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    const PAUSE: Duration = Duration::from_millis(10);
    const TIME_MAX: Duration = Duration::from_secs(30);
    let begun = Instant::now();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(begun.elapsed() < TIME_MAX, "not after {TIME_MAX:?}: {what}");
        std::thread::sleep(PAUSE);
    }
}
