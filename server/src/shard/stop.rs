//! The end: take nothing new, finish what was begun, make it durable, seal the log.

use bigpeer_core::time::Instant;

use super::Shard;
use super::mail::Mail;
use crate::shared::Phase;

/// How long requests in flight may take to finish.
const DRAIN_NS_MAX: u64 = 10_000_000_000;

/// How far a thread has come on its way to the end.
#[derive(Debug, Default)]
pub(super) struct Stop {
    state: State,
    /// On the first thread: how many threads have no connection left.
    drained_threads: u16,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Running,
    Draining {
        deadline: Instant,
    },
    Drained,
}

impl Stop {
    pub(super) fn is_stopping(&self) -> bool {
        self.state != State::Running
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Draining { deadline } => Some(deadline),
            State::Running | State::Drained => None,
        }
    }
}

impl Shard {
    /// Begins to stop: connections are closed as soon as they are answered.
    pub fn drain(&mut self) {
        if self.stop.is_stopping() {
            return;
        }
        let deadline = Instant { ns: self.now.mono.ns.saturating_add(DRAIN_NS_MAX) };
        self.stop.state = State::Draining { deadline };
        if self.shared.phase() != Phase::Failed {
            self.shared.set_phase(Phase::Draining, self.now.wall, "the server is stopping");
        }
        self.close_connections();
    }

    /// Looks whether the next step towards the end can be made.
    pub(super) fn advance_stop(&mut self) {
        let State::Draining { deadline } = self.stop.state else { return };
        if self.connections.is_empty() || deadline <= self.now.mono {
            self.stop.state = State::Drained;
            self.post(0, Mail::Drained);
        }
    }

    /// A thread has no connection left. When none has, nothing more will be appended that anyone waits for.
    pub(super) fn on_thread_drained(&mut self) {
        self.stop.drained_threads += 1;
        if self.stop.drained_threads == self.config.threads_of_all() {
            let now = self.now;
            self.log_mut().journal.seal(now);
        }
    }

    /// Everything is durable, and the log says that it ended in order.
    pub(super) fn on_log_sealed(&mut self) {
        for thread in 0..self.config.threads_of_all() {
            self.post(thread, Mail::Stop);
        }
    }
}
