//! Runs the tests of one theme, once for each driver, and says in the end what ran against what.

use std::fmt;
use std::process::Command;

use libtest_mimic::{Arguments, Trial};

use crate::binary;

/// What moves the server's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// epoll.
    Epoll,
    /// io_uring through tokio-uring.
    TokioUring,
    /// io_uring through glommio.
    Glommio,
}

/// The drivers that are tested unless `BIGPEER_TEST_DRIVERS` says otherwise.
pub const DRIVERS_DEFAULT: &[Driver] = &[Driver::TokioUring, Driver::Glommio, Driver::Epoll];

impl Driver {
    /// The word for `--driver`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Epoll => "epoll",
            Self::TokioUring => "tokio-uring",
            Self::Glommio => "glommio",
        }
    }

    fn parse(name: &str) -> Self {
        let all = [Self::Epoll, Self::TokioUring, Self::Glommio];
        let found = all.into_iter().find(|driver| driver.name() == name);
        found.unwrap_or_else(|| panic!("BIGPEER_TEST_DRIVERS: no driver is called `{name}`"))
    }
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The drivers to test.
///
/// # Panics
///
/// When `BIGPEER_TEST_DRIVERS` names something else.
#[must_use]
pub fn drivers() -> Vec<Driver> {
    match std::env::var("BIGPEER_TEST_DRIVERS") {
        Ok(names) => names.split(',').map(|name| Driver::parse(name.trim())).collect(),
        Err(_) => DRIVERS_DEFAULT.to_vec(),
    }
}

/// One test: its name, which is its claim, and what it does with a driver.
pub type Test = (&'static str, fn(Driver));

/// The tests of one theme: `suite!("races", first_claim, second_claim)` is the whole `main` of a file.
#[macro_export]
macro_rules! suite {
    ($setting:expr, $($test:ident),+ $(,)?) => {
        fn main() {
            let tests: &[$crate::suite::Test] = &[$((stringify!($test), $test)),+];
            $crate::suite::run_and_exit(tests, $setting);
        }
    };
}

/// The tests of one hostile theme: as `suite!`, on the drivers of [`crate::hostile::hostile_drivers`].
#[macro_export]
macro_rules! hostile_suite {
    ($setting:expr, $($test:ident),+ $(,)?) => {
        fn main() {
            let tests: &[$crate::suite::Test] = &[$((stringify!($test), $test)),+];
            $crate::suite::run_on_and_exit(&$crate::hostile::hostile_drivers(), tests, $setting);
        }
    };
}

/// Runs every test for every driver and ends the process. `setting` says what surrounds the server, such as the
/// file system.
pub fn run_and_exit(tests: &[Test], setting: &str) -> ! {
    run_on_and_exit(&drivers(), tests, setting)
}

/// Runs every test for each of these drivers and ends the process.
pub fn run_on_and_exit(drivers: &[Driver], tests: &[Test], setting: &str) -> ! {
    let mut trials = Vec::new();
    for &driver in drivers {
        for &(name, test) in tests {
            trials.push(Trial::test(format!("{driver}::{name}"), move || {
                test(driver);
                Ok(())
            }));
        }
    }
    conclude(trials, drivers, setting)
}

/// Runs trials and ends the process.
pub fn conclude(trials: Vec<Trial>, drivers: &[Driver], setting: &str) -> ! {
    let arguments = Arguments::from_args();
    let is_listing = arguments.list;
    let conclusion = libtest_mimic::run(&arguments, trials);
    if !is_listing {
        let names: Vec<_> = drivers.iter().map(|driver| driver.name()).collect();
        eprintln!("ran against: {}, driver {}, {setting}", version(), names.join(" and "));
    }
    conclusion.exit()
}

fn version() -> String {
    let output = Command::new(binary::bigpeer()).arg("--version").output();
    let output = output.expect("the binary was just built");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
