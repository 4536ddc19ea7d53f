//! Kernel, limits and cores.

use std::fs;
use std::thread;

use super::{Check, size};
use crate::driver::probe;

/// The oldest kernel whose io_uring the drivers can use.
const KERNEL_MIN: (u32, u32) = (5, 11);

/// What a shard's ring takes of the locked memory, in bytes, on kernels that count it.
const RING_MEMLOCK_BYTES: u64 = 1024 * 1024;

/// Below so many open files a server of a thousand devices soon refuses connections.
const OPEN_FILES_MIN: u64 = 4096;

pub(super) fn checks() -> Vec<Check> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    vec![kernel(), io_uring(), memlock(cores), open_files(), cores_check(cores)]
}

fn kernel() -> Check {
    const NAME: &str = "kernel";
    let Ok(release) = fs::read_to_string("/proc/sys/kernel/osrelease") else {
        let advice = "a server runs on the epoll driver only on Linux";
        return Check::warning(NAME, "not Linux, or /proc is hidden", advice);
    };
    let release = release.trim();
    match version(release) {
        Some(version) if version < KERNEL_MIN => {
            let advice = "the io_uring drivers want 5.11 or newer; epoll works";
            Check::warning(NAME, release, advice)
        }
        _ => Check::ok(NAME, release),
    }
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(['.', '-', '+']).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn io_uring() -> Check {
    const NAME: &str = "io_uring";
    match probe::probe_io_uring() {
        Ok(()) => Check::ok(NAME, "allowed: the tokio-uring driver will be chosen"),
        Err(cause) => {
            let advice = "the epoll driver will be chosen; in a container allow io_uring in the seccomp profile";
            Check::warning(NAME, cause.to_string(), advice)
        }
    }
}

fn memlock(cores: usize) -> Check {
    const NAME: &str = "locked memory";
    let needed = RING_MEMLOCK_BYTES * cores as u64;
    match probe::memlock_limit() {
        Ok(None) => Check::ok(NAME, "unlimited"),
        Ok(Some(bytes)) if bytes >= needed => Check::ok(NAME, size(bytes)),
        Ok(Some(bytes)) => {
            let advice = format!(
                "{cores} shards may need {}: raise it with `ulimit -l` or LimitMEMLOCK",
                size(needed)
            );
            Check::warning(NAME, size(bytes), advice)
        }
        Err(error) => Check::warning(NAME, error.to_string(), "allow getrlimit in this sandbox"),
    }
}

fn open_files() -> Check {
    const NAME: &str = "open files";
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    match open_files_limits(&limits) {
        None => Check::warning(NAME, "unknown", "see that `ulimit -Hn` is 4096 or more"),
        Some((soft, hard)) => {
            let shown = |limit: u64| {
                if limit == u64::MAX { "unlimited".to_owned() } else { limit.to_string() }
            };
            let found = format!("{}, can be raised to {}", shown(soft), shown(hard));
            match hard < OPEN_FILES_MIN {
                // A server raises its soft limit by itself, so it is the hard one that counts.
                false => Check::ok(NAME, found),
                true => {
                    let advice =
                        "every connection is one: raise it with `ulimit -Hn` or LimitNOFILE";
                    Check::warning(NAME, found, advice)
                }
            }
        }
    }
}

/// The soft and the hard limit, from the text of `/proc/self/limits`.
fn open_files_limits(limits: &str) -> Option<(u64, u64)> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let number = |text: &str| if text == "unlimited" { Some(u64::MAX) } else { text.parse().ok() };
    let mut numbers = line.split_whitespace().map(number);
    Some((numbers.next()??, numbers.next()??))
}

fn cores_check(cores: usize) -> Check {
    const NAME: &str = "cores";
    match cores {
        1 => Check::warning(NAME, "1", "one shard serves everything; two cores or more are better"),
        cores => Check::ok(NAME, format!("{cores}: as many shards by default")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        assert_eq!(version("6.18.3-generic"), Some((6, 18)));
        assert_eq!(version("5.4+"), Some((5, 4)));
        assert!(
            version("5.10.0-1").unwrap() < KERNEL_MIN && version("5.11").unwrap() >= KERNEL_MIN
        );
        assert_eq!(version("unknown"), None);
    }

    #[test]
    fn the_limit_of_open_files_is_found() {
        let text = "Max processes  1  2  processes\nMax open files            1024                 unlimited            files\n";
        assert_eq!(open_files_limits(text), Some((1024, u64::MAX)));
        assert_eq!(open_files_limits(""), None);
    }
}
