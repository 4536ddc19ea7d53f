//! Counters, written by the thread they belong to and summed when somebody asks.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use bigpeer_core::time::WallMs;

use crate::logging::{self, Level};
use crate::refusals::Refusal;
use crate::shared::{Phase, Shared, State};

/// What is counted or measured on each thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each has its text in TABLE")]
pub enum Metric {
    Statements,
    StatementWork,
    StatementWorkAtOnce,
    BytesReceived,
    BytesSent,
    ConnectionsOpened,
    ConnectionsOpen,
    InputHeldBytes,
    InputShed,
    SessionsOpen,
    RequestsPending,
    MailSent,
    MailWaiting,
    RackLoad,
    LogAppends,
    LogGroups,
    LogRecords,
    LogBytes,
    LogSyncs,
    LogSegmentBytes,
    LogPendingRecords,
    LogSyncNanos,
    Checkpoints,
    CheckpointFailures,
    CheckpointLastSeconds,
    DiskReserveBytes,
    ClockParkedItems,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    /// Of all threads the one with the most.
    Greatest,
}

/// In the order of [`Metric`].
const TABLE: [(Metric, &str, Kind, &str); 27] = {
    use Kind::{Counter, Gauge, Greatest};
    use Metric::*;
    [
        (Statements, "statements_total", Counter, "Statements that were begun."),
        (
            StatementWork,
            "statement_work_total",
            Counter,
            "Work of statements, in units of about a nanosecond.",
        ),
        (
            StatementWorkAtOnce,
            "statement_work_at_once_max",
            Greatest,
            "The most of it that a thread has done between two looks at its connections.",
        ),
        (BytesReceived, "received_bytes_total", Counter, "Bytes read from connections."),
        (BytesSent, "sent_bytes_total", Counter, "Bytes written to connections."),
        (ConnectionsOpened, "connections_total", Counter, "Connections that were accepted."),
        (ConnectionsOpen, "connections", Gauge, "Connections that are open."),
        (InputHeldBytes, "input_held_bytes", Gauge, "Unfinished input of connections, in memory."),
        (
            InputShed,
            "input_shed_total",
            Counter,
            "Unfinished input that was given up for lack of room.",
        ),
        (SessionsOpen, "sessions", Gauge, "Sync sessions that are open."),
        (RequestsPending, "requests_pending", Gauge, "Requests that wait for an answer."),
        (MailSent, "mail_total", Counter, "Messages between threads."),
        (MailWaiting, "mail_waiting", Gauge, "Messages that wait behind a full mailbox."),
        (RackLoad, "work_pending", Gauge, "Calls and tasks in progress."),
        (LogAppends, "log_appends_total", Counter, "Appends that were given to the log."),
        (LogGroups, "log_groups_total", Counter, "Groups of records that became durable."),
        (LogRecords, "log_records_total", Counter, "Records that became durable."),
        (LogBytes, "log_written_bytes_total", Counter, "Bytes of records that became durable."),
        (LogSyncs, "log_syncs_total", Counter, "Syncs that were issued."),
        (LogSegmentBytes, "log_bytes", Gauge, "Bytes of all segment files."),
        (LogPendingRecords, "log_pending_records", Gauge, "Records that are not durable."),
        (LogSyncNanos, "log_sync_nanoseconds", Gauge, "How long the last sync took."),
        (Checkpoints, "checkpoints_total", Counter, "Checkpoints that were made."),
        (CheckpointFailures, "checkpoint_failures_total", Counter, "Checkpoints that failed."),
        (
            CheckpointLastSeconds,
            "checkpoint_last_success_time_seconds",
            Gauge,
            "When this process made its last checkpoint, in seconds since 1970; 0 before the first.",
        ),
        (
            DiskReserveBytes,
            "disk_reserve_bytes",
            Gauge,
            "What a new segment of the log leaves free: below it the log takes only what makes room.",
        ),
        (
            ClockParkedItems,
            "clock_parked_items",
            Gauge,
            "Documents that peers refuse until their clocks have come as far.",
        ),
    ]
};

/// The statuses that answers have; the last stands for all others.
const STATUSES: [u16; 16] =
    [200, 201, 400, 401, 403, 404, 405, 408, 409, 413, 415, 426, 500, 503, 507, 0];

/// The counters of one thread.
#[derive(Debug, Default)]
pub struct ThreadMetrics {
    values: [AtomicU64; TABLE.len()],
    statuses: [AtomicU64; STATUSES.len()],
}

impl ThreadMetrics {
    /// Adds to a counter. Called by the owning thread alone, so that a load and a store suffice.
    pub fn add(&self, metric: Metric, count: u64) {
        bump(&self.values[metric as usize], count);
    }

    /// Sets a gauge.
    pub fn set(&self, metric: Metric, value: u64) {
        self.values[metric as usize].store(value, Ordering::Relaxed);
    }

    /// Counts an answer.
    pub fn answered(&self, status: u16) {
        let index = STATUSES.iter().position(|&known| known == status);
        bump(&self.statuses[index.unwrap_or(STATUSES.len() - 1)], 1);
    }
}

fn bump(value: &AtomicU64, count: u64) {
    value.store(value.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
}

/// All counters in the text format of Prometheus, at this moment of the wall clock.
#[must_use]
pub fn render(shared: &Shared, wall: WallMs) -> String {
    let mut out = String::with_capacity(4096);
    for (metric, name, kind, help) in TABLE {
        let of = |thread: &ThreadMetrics| thread.values[metric as usize].load(Ordering::Relaxed);
        let values = shared.all_metrics().map(of);
        let (word, value) = match kind {
            Kind::Counter => ("counter", values.sum()),
            Kind::Gauge => ("gauge", values.sum()),
            Kind::Greatest => ("gauge", values.max().unwrap_or(0)),
        };
        header(&mut out, name, word, help);
        line(&mut out, name, value);
    }
    header(&mut out, "connections_refused_total", "counter", "Connections not taken, or given up.");
    for reason in Refusal::ALL {
        let name = format!("connections_refused_total{{reason=\"{}\"}}", reason.label());
        line(&mut out, &name, shared.refusals().count(reason));
    }
    let help =
        "Times that a changed file was not used, since it is not good; the one before is in use.";
    header(&mut out, "file_reload_errors_total", "counter", help);
    for (name, count) in shared.reload_errors().counts() {
        line(&mut out, &format!("file_reload_errors_total{{file=\"{name}\"}}"), count);
    }
    header(&mut out, "requests_total", "counter", "Answers by their status.");
    for (index, status) in STATUSES.iter().enumerate() {
        let count = sum(shared, |thread| &thread.statuses[index]);
        if count > 0 {
            let label = if *status == 0 { "other".to_owned() } else { status.to_string() };
            line(&mut out, &format!("requests_total{{status=\"{label}\"}}"), count);
        }
    }
    let ahead_ms = shared.newest_clock().physical_ms().saturating_sub(wall.0);
    for (name, help, value) in [
        (
            "clock_ahead_seconds",
            "How far the newest time of a document is ahead of this machine's clock.",
            ahead_ms / 1000,
        ),
        ("ready", "1 while requests are answered.", u64::from(shared.phase() == Phase::Ready)),
        ("shards", "Threads that run shards.", u64::from(shared.threads())),
    ] {
        header(&mut out, name, "gauge", help);
        line(&mut out, name, value);
    }
    header(
        &mut out,
        "log_position",
        "gauge",
        "How far the log is durable, applied by every thread, read.",
    );
    for (point, position) in [
        ("durable", shared.durable()),
        ("applied", shared.applied()),
        ("oldest_read", shared.oldest_read()),
    ] {
        line(&mut out, &format!("log_position{{point=\"{point}\"}}"), position.0);
    }
    render_disk(&mut out, shared);
    header(&mut out, "state", "gauge", "1 for what the server can do at present.");
    let present = shared.state().0;
    for state in State::ALL {
        let name = format!("state{{state=\"{}\"}}", state.name());
        line(&mut out, &name, u64::from(state == present));
    }
    let has_failed = u64::from(shared.failed_at().is_some());
    header(&mut out, "log_failed", "gauge", "1 once the log has failed: a restart is needed.");
    line(&mut out, "log_failed", has_failed);
    render_events(&mut out);
    out
}

/// The volume of the data directory, as far as the system says.
fn render_disk(out: &mut String, shared: &Shared) {
    let Some(volume) = shared.volume() else { return };
    header(out, "disk_size_bytes", "gauge", "The volume of the data directory.");
    line(out, "disk_size_bytes", volume.size_bytes);
    header(out, "disk_free_bytes", "gauge", "What is free on it.");
    line(out, "disk_free_bytes", volume.free_bytes);
}

fn render_events(out: &mut String) {
    header(out, "events_total", "counter", "Lines of the process's own log, by their level.");
    for level in Level::ALL {
        let name = format!("events_total{{level=\"{}\"}}", level.name());
        line(out, &name, logging::events(level));
    }
    let help = "Lines of the log that were dropped, since nobody read standard error.";
    header(out, "events_dropped_total", "counter", help);
    line(out, "events_dropped_total", logging::dropped());
}

fn sum(shared: &Shared, of: impl Fn(&ThreadMetrics) -> &AtomicU64) -> u64 {
    shared.all_metrics().map(|thread| of(thread).load(Ordering::Relaxed)).sum()
}

fn header(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP bigpeer_{name} {help}\n# TYPE bigpeer_{name} {kind}");
}

fn line(out: &mut String, name: &str, value: u64) {
    let _ = writeln!(out, "bigpeer_{name} {value}");
}

#[cfg(test)]
mod tests {
    use bigpeer_core::time::Hlc;

    use super::*;

    #[test]
    fn counters_are_summed_over_the_threads() {
        for (index, (metric, ..)) in TABLE.iter().enumerate() {
            assert_eq!(*metric as usize, index, "the table is in the order of the metrics");
        }
        let shared = Shared::new(2);
        shared.metrics(0).add(Metric::Statements, 2);
        shared.metrics(1).add(Metric::Statements, 3);
        shared.metrics(1).answered(200);
        shared.metrics(1).answered(299);
        shared.publish_newest_clock(1, Hlc(90_500 << 16));
        let text = render(&shared, WallMs(30_000));
        assert!(text.contains("\nbigpeer_clock_ahead_seconds 60\n"), "{text}");
        let text = render(&shared, WallMs(100_000));
        assert!(text.contains("\nbigpeer_clock_ahead_seconds 0\n"), "{text}");
        assert!(text.contains("\nbigpeer_statements_total 5\n"), "{text}");
        assert!(text.contains("bigpeer_requests_total{status=\"200\"} 1\n"));
        assert!(text.contains("bigpeer_requests_total{status=\"other\"} 1\n"));
        assert!(!text.contains("disk_size_bytes"), "nobody has said where the data is");
        shared.watch_volume(&std::env::temp_dir());
        let text = render(&shared, WallMs(0));
        for name in ["disk_size_bytes", "disk_free_bytes", "disk_reserve_bytes"] {
            assert!(text.contains(&format!("\nbigpeer_{name} ")), "{name}: {text}");
        }
        assert!(
            text.contains("\nbigpeer_events_dropped_total 0\n"),
            "counters are there from the start"
        );
    }
}
