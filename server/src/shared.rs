//! What all threads of the process see: how far the log is durable, how old a read may be, and whether the
//! server is ready. Atomics, each written by one thread; everything else travels in mailboxes.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock};

use bigpeer_core::ident::Txn;
use bigpeer_core::time::{Hlc, Instant, WallMs, is_far_ahead};
use bigpeer_host::volume::{Volume, volume};
use crossbeam_utils::CachePadded;

use crate::files::ReloadErrors;
use crate::metrics::ThreadMetrics;
use crate::refusals::Refusals;

/// How far the process has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// The log is being read.
    Starting,
    /// Requests are answered.
    Ready,
    /// Nothing new is taken.
    Draining,
    /// The log has failed: reads are answered, writes are refused.
    Failed,
}

impl Phase {
    const fn from_u8(value: u8) -> Self {
        match value {
            0 => Self::Starting,
            1 => Self::Ready,
            2 => Self::Draining,
            _ => Self::Failed,
        }
    }
}

/// The ability of a server at present, as `/health/ready` and the metric `state` name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The log is being read.
    Starting,
    /// Reads and writes are answered.
    Ready,
    /// Reads are answered; of writes only those that make room.
    ReadOnly,
    /// Nothing new is taken.
    Stopping,
    /// Reads are answered until the process ends.
    Failed,
}

impl State {
    /// Every state, in the order of the metric.
    pub const ALL: [Self; 5] =
        [Self::Starting, Self::Ready, Self::ReadOnly, Self::Stopping, Self::Failed];

    /// Its word on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::ReadOnly => "read_only",
            Self::Stopping => "stopping",
            Self::Failed => "failed",
        }
    }
}

/// Why a server is in its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// The name for programs.
    pub code: &'static str,
    /// Since when it holds.
    pub since: WallMs,
    /// The text for people.
    pub text: String,
}

/// Shared by all threads.
#[derive(Debug)]
pub struct Shared {
    durable: CachePadded<AtomicU64>,
    threads: Vec<CachePadded<ThreadState>>,
    /// The counters of the thread of the admin door.
    door: ThreadMetrics,
    phase: AtomicU8,
    refusals: Refusals,
    reload_errors: ReloadErrors,
    reason: Mutex<Reason>,
    /// Why writes are refused though the log has not failed.
    read_only: Mutex<Option<Reason>>,
    /// When the log failed; zero while it has not.
    failed_at_ns: AtomicU64,
    /// Where the data is.
    data: OnceLock<PathBuf>,
}

#[derive(Debug)]
struct ThreadState {
    oldest_read: AtomicU64,
    applied: AtomicU64,
    newest_clock: AtomicU64,
    metrics: ThreadMetrics,
}

impl Shared {
    /// The state of a process with that many threads, before anything is durable.
    #[must_use]
    pub fn new(threads: u16) -> Self {
        let state = || {
            CachePadded::new(ThreadState {
                oldest_read: AtomicU64::new(0),
                applied: AtomicU64::new(0),
                newest_clock: AtomicU64::new(0),
                metrics: ThreadMetrics::default(),
            })
        };
        Self {
            durable: CachePadded::new(AtomicU64::new(0)),
            threads: (0..threads).map(|_| state()).collect(),
            door: ThreadMetrics::default(),
            phase: AtomicU8::new(Phase::Starting as u8),
            refusals: Refusals::default(),
            reload_errors: ReloadErrors::default(),
            reason: Mutex::new(Reason {
                code: "log_opening",
                since: WallMs(0),
                text: "the log is being opened".to_owned(),
            }),
            read_only: Mutex::new(None),
            failed_at_ns: AtomicU64::new(0),
            data: OnceLock::new(),
        }
    }

    /// Everything up to here is on stable storage.
    #[must_use]
    pub fn durable(&self) -> Txn {
        Txn(self.durable.load(Ordering::Acquire))
    }

    /// The owner of the log says how far it is durable, before anyone hears of the records.
    pub fn publish_durable(&self, durable: Txn) {
        self.durable.store(durable.0, Ordering::Release);
    }

    /// No read in the process is older than this, and none will be: the least that any thread has published.
    ///
    /// A thread publishes at the start of a turn, and begins reads at the durable position of that moment or a
    /// later one. So a value that is out of date is too small, never too great.
    #[must_use]
    pub fn oldest_read(&self) -> Txn {
        let published =
            self.threads.iter().map(|thread| thread.oldest_read.load(Ordering::Acquire));
        Txn(published.min().unwrap_or(0))
    }

    /// A thread says at the start of a turn what reads it may still make.
    pub fn publish_turn(&self, thread: u16, oldest_read: Txn, applied: Txn) {
        let state = &self.threads[usize::from(thread)];
        state.oldest_read.store(oldest_read.0, Ordering::Release);
        state.applied.store(applied.0, Ordering::Release);
    }

    /// Every thread reflects everything up to here.
    #[must_use]
    pub fn applied(&self) -> Txn {
        let applied = self.threads.iter().map(|thread| thread.applied.load(Ordering::Acquire));
        Txn(applied.min().unwrap_or(0))
    }

    /// A thread says what the greatest clock value of its documents is.
    pub fn publish_newest_clock(&self, thread: u16, newest: Hlc) {
        self.threads[usize::from(thread)].newest_clock.store(newest.0, Ordering::Release);
    }

    /// The greatest clock value of any document.
    #[must_use]
    pub fn newest_clock(&self) -> Hlc {
        let newest = self.threads.iter().map(|thread| thread.newest_clock.load(Ordering::Acquire));
        Hlc(newest.max().unwrap_or(0))
    }

    /// By how many milliseconds some document is ahead of the wall clock, if that is so far that peers refuse what
    /// is written to it.
    #[must_use]
    pub fn clock_ahead_ms(&self, wall: WallMs) -> Option<u64> {
        let newest = self.newest_clock();
        is_far_ahead(newest, wall).then(|| newest.physical_ms() - wall.0)
    }

    /// The counters of one thread; the one behind the last that runs shards is that of the admin door.
    #[must_use]
    pub fn metrics(&self, thread: u16) -> &ThreadMetrics {
        self.threads.get(usize::from(thread)).map_or(&self.door, |state| &state.metrics)
    }

    /// The counters of all threads.
    pub fn all_metrics(&self) -> impl Iterator<Item = &ThreadMetrics> {
        self.threads.iter().map(|thread| &thread.metrics).chain([&self.door])
    }

    /// How many threads run shards.
    #[must_use]
    pub fn threads(&self) -> u16 {
        u16::try_from(self.threads.len()).expect("it was made from a u16")
    }

    /// How far the process has come.
    #[must_use]
    pub fn phase(&self) -> Phase {
        Phase::from_u8(self.phase.load(Ordering::Acquire))
    }

    /// Says how far the process has come, and why it is not ready.
    pub fn set_phase(&self, phase: Phase, since: WallMs, text: &str) {
        let code = match phase {
            Phase::Starting => "log_opening",
            Phase::Ready => "",
            Phase::Draining => "stopping",
            Phase::Failed => "log_failed",
        };
        *self.reason() = Reason { code, since, text: text.to_owned() };
        self.phase.store(phase as u8, Ordering::Release);
    }

    /// The counts of changed files that could not be used.
    #[must_use]
    pub fn reload_errors(&self) -> &ReloadErrors {
        &self.reload_errors
    }

    /// Connections that were not taken.
    #[must_use]
    pub fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// Says where the data is, once: see [`Self::volume`].
    pub fn watch_volume(&self, data: &Path) {
        self.data.get_or_init(|| data.to_owned());
    }

    /// The volume of the data directory; nothing while it is not known where that is.
    #[must_use]
    pub fn volume(&self) -> Option<Volume> {
        volume(self.data.get()?)
    }

    /// The log has failed at this moment of the process's clock.
    pub fn set_failed(&self, at: Instant, since: WallMs, text: &str) {
        self.failed_at_ns.store(at.ns.max(1), Ordering::Release);
        self.set_phase(Phase::Failed, since, text);
    }

    /// When the log failed, if it did.
    #[must_use]
    pub fn failed_at(&self) -> Option<Instant> {
        let ns = self.failed_at_ns.load(Ordering::Acquire);
        (ns > 0).then_some(Instant { ns })
    }

    /// Says why writes are refused for the time being, or that they are not.
    pub fn set_read_only(&self, reason: Option<Reason>) {
        *self.read_only() = reason;
    }

    /// The state of the server, and the reason where it can do less than everything.
    #[must_use]
    pub fn state(&self) -> (State, Option<Reason>) {
        let state = match self.phase() {
            Phase::Ready => {
                let reason = self.read_only().clone();
                let state = if reason.is_some() { State::ReadOnly } else { State::Ready };
                return (state, reason);
            }
            Phase::Starting => State::Starting,
            Phase::Draining => State::Stopping,
            Phase::Failed => State::Failed,
        };
        (state, Some(self.reason().clone()))
    }

    fn reason(&self) -> MutexGuard<'_, Reason> {
        self.reason.lock().expect("no holder of this lock panics")
    }

    fn read_only(&self) -> MutexGuard<'_, Option<Reason>> {
        self.read_only.lock().expect("no holder of this lock panics")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_read_is_the_least_that_any_thread_published() {
        let shared = Shared::new(2);
        shared.publish_durable(Txn(9));
        shared.publish_turn(0, Txn(9), Txn(8));
        assert_eq!(shared.oldest_read(), Txn(0));
        shared.publish_turn(1, Txn(5), Txn(9));
        assert_eq!((shared.oldest_read(), shared.applied()), (Txn(5), Txn(8)));
    }
}
