//! What all threads of the process see: how far the log is durable, how old a read may be, and whether the
//! server is ready. Atomics, each written by one thread; everything else travels in mailboxes.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use bigpeer_core::ident::Txn;
use bigpeer_core::time::{Hlc, WallMs, is_far_ahead};
use crossbeam_utils::CachePadded;

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

/// Shared by all threads.
#[derive(Debug)]
pub struct Shared {
    durable: CachePadded<AtomicU64>,
    threads: Vec<CachePadded<ThreadState>>,
    phase: AtomicU8,
    reason: Mutex<String>,
    refusals: Refusals,
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
            phase: AtomicU8::new(Phase::Starting as u8),
            reason: Mutex::new("the log is being opened".to_owned()),
            refusals: Refusals::default(),
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

    /// By how many milliseconds some document is ahead of the wall clock, if that is so far that peers refuse what
    /// is written to it.
    #[must_use]
    pub fn clock_ahead_ms(&self, wall: WallMs) -> Option<u64> {
        let newest = self.threads.iter().map(|thread| thread.newest_clock.load(Ordering::Acquire));
        let newest = Hlc(newest.max().unwrap_or(0));
        is_far_ahead(newest, wall).then(|| newest.physical_ms() - wall.0)
    }

    /// The counters of one thread.
    #[must_use]
    pub fn metrics(&self, thread: u16) -> &ThreadMetrics {
        &self.threads[usize::from(thread)].metrics
    }

    /// The counters of all threads.
    pub fn all_metrics(&self) -> impl Iterator<Item = &ThreadMetrics> {
        self.threads.iter().map(|thread| &thread.metrics)
    }

    /// How many threads there are.
    #[must_use]
    pub fn threads(&self) -> u16 {
        u16::try_from(self.threads.len()).expect("it was made from a u16")
    }

    /// How far the process has come.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Ready,
            2 => Phase::Draining,
            _ => Phase::Failed,
        }
    }

    /// Says how far the process has come, and for people why it is not ready.
    pub fn set_phase(&self, phase: Phase, reason: &str) {
        reason.clone_into(&mut self.reason.lock().expect("no holder of this lock panics"));
        self.phase.store(phase as u8, Ordering::Release);
    }

    /// Connections that were not taken.
    #[must_use]
    pub fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// Why the server is not ready.
    #[must_use]
    pub fn reason(&self) -> String {
        self.reason.lock().expect("no holder of this lock panics").clone()
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
