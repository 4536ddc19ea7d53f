//! Counts of the kernel's events, by `perf`, where it is there and allowed.

use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

/// What a process did per second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rates {
    /// Calls into the kernel.
    pub(crate) syscalls: f64,
    /// Calls of fsync and fdatasync. A sync that io_uring makes is not among them.
    pub(crate) syncs: f64,
}

const EVENTS: &str = "raw_syscalls:sys_enter,syscalls:sys_enter_fsync,syscalls:sys_enter_fdatasync";

/// Counts for a while, beside the caller. `None` when perf is missing or refused.
pub(crate) fn count(process: u32, time: Duration) -> JoinHandle<Option<Rates>> {
    std::thread::spawn(move || {
        let mut command = Command::new("perf");
        command.args(["stat", "-x", ";", "-e", EVENTS, "-p", &process.to_string()]);
        command.args(["--", "sleep", &time.as_secs_f64().to_string()]);
        let output = command.stdout(Stdio::null()).output().ok()?;
        let text = String::from_utf8(output.stderr).ok()?;
        rates(&text, time).filter(|_| output.status.success())
    })
}

/// Whether there is a perf to ask again.
pub(crate) fn is_there() -> bool {
    Command::new("perf").arg("--version").output().is_ok_and(|output| output.status.success())
}

fn rates(text: &str, time: Duration) -> Option<Rates> {
    let count = |event: &str| {
        let mut lines = text.lines().map(|line| line.split(';').collect::<Vec<_>>());
        let line = lines.find(|words| words.get(2).is_some_and(|name| *name == event))?;
        line[0].parse::<f64>().ok()
    };
    let mut counts = EVENTS.split(',').map(|event| Some(count(event)? / time.as_secs_f64()));
    let (syscalls, fsync, fdatasync) = (counts.next()??, counts.next()??, counts.next()??);
    Some(Rates { syscalls, syncs: fsync + fdatasync })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_as_perf_writes_them() {
        let text = "4000;;raw_syscalls:sys_enter;2001000;100.00;;\n2;;syscalls:sys_enter_fsync;1;100.00;;\n\
                    6;;syscalls:sys_enter_fdatasync;1;100.00;;\n";
        let rates = rates(text, Duration::from_secs(2)).expect("all three are there");
        assert_eq!((rates.syscalls, rates.syncs), (2000.0, 4.0));
        assert!(
            super::rates("<not supported>;;raw_syscalls:sys_enter;0;", Duration::from_secs(1))
                .is_none()
        );
    }
}
