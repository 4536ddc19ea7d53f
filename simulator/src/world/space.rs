//! Volumes: how large they are, who fills them, and two judges. A volume must not be full of what nothing needs
//! (`space`), and nothing that passes may end a log or keep it from opening (`availability`).

use bigpeer_core::disk::DiskError;
use bigpeer_core::disk_sim::FaultOdds;
use bigpeer_core::log::{LOG_DIR, LogError};
use bigpeer_core::node::CheckpointEvent;

use super::clock::SECOND;
use super::process::{Process, ProcessId};
use super::{Failure, World};

/// A small volume: some two hundred segments of the least length, and many times all documents of a world.
const SMALL_VOLUME_BYTES: u64 = 768 << 10;

/// As long as a log that was refused space may go on to refuse appends: it asks again after a second.
const FULL_BELIEVED_NS: u64 = 2 * SECOND;

/// The longest pause after a checkpoint that failed.
const CHECKPOINT_PAUSE_NS_MAX: u64 = 60 * SECOND;

/// The volume of a process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Space {
    volume_bytes: u64,
    /// Others have taken all that was free on it.
    is_filled: bool,
    /// Until then the log may believe that there is no space, though there is again.
    full_believed_until_ns: u64,
    /// How long the log waits after the last checkpoint that failed.
    checkpoint_pause_ns: u64,
}

impl Space {
    pub(super) const fn new(is_small: bool) -> Self {
        let volume_bytes = if is_small { SMALL_VOLUME_BYTES } else { u64::MAX };
        Self { volume_bytes, is_filled: false, full_believed_until_ns: 0, checkpoint_pause_ns: 0 }
    }

    pub(super) const fn is_small(&self) -> bool {
        self.volume_bytes < u64::MAX
    }

    pub(super) const fn is_filled(&self) -> bool {
        self.is_filled
    }

    fn believe_full_until(&mut self, ns: u64) {
        self.full_believed_until_ns = self.full_believed_until_ns.max(ns);
    }

    /// A new process has no pause behind it.
    pub(super) fn note_start(&mut self) {
        self.checkpoint_pause_ns = 0;
    }

    /// After a checkpoint that failed, the log makes the next one, which would make room, only after a pause.
    pub(super) fn note_checkpoint(&mut self, event: &CheckpointEvent, now_ns: u64) {
        match event {
            CheckpointEvent::Made { .. } => self.checkpoint_pause_ns = 0,
            CheckpointEvent::Failed { .. } => {
                let pause_ns = 2 * self.checkpoint_pause_ns;
                self.checkpoint_pause_ns = pause_ns.clamp(SECOND, CHECKPOINT_PAUSE_NS_MAX);
                self.believe_full_until(now_ns + self.checkpoint_pause_ns + FULL_BELIEVED_NS);
            }
            CheckpointEvent::Skipped { .. } => {}
        }
    }
}

impl Process {
    /// Others take all that is free on the volume, or give it back.
    pub(crate) fn set_filled(&mut self, is_filled: bool, now_ns: u64) {
        if self.space.is_filled {
            self.space.believe_full_until(now_ns + FULL_BELIEVED_NS);
        }
        self.space.is_filled = is_filled;
        self.disk.set_capacity(if is_filled { 1 } else { self.space.volume_bytes });
    }

    /// The disk fails from now on with these odds.
    pub(crate) fn set_faults(&mut self, odds: FaultOdds, now_ns: u64) {
        if self.disk.faults().full > 0 {
            self.space.believe_full_until(now_ns + FULL_BELIEVED_NS);
        }
        self.disk.set_faults(odds);
    }

    /// Whether the log may be refused space: the disk refuses it or did a moment ago, a checkpoint is put off, or the
    /// volume is filled by what must be kept. That is the newest checkpoint, the next one, and a few segments.
    fn may_be_full(&self, now_ns: u64) -> bool {
        let space = &self.space;
        if space.is_filled || self.disk.faults().full > 0 || now_ns < space.full_believed_until_ns {
            return true;
        }
        let newest_bytes = self.disk.files().filter(|(name, _)| name.ends_with(".ckpt"));
        let newest_bytes = newest_bytes.map(|(_, bytes)| bytes).max().unwrap_or(0);
        4 * newest_bytes > space.volume_bytes
    }
}

impl World {
    /// A write was refused for want of space.
    pub(super) fn judge_full(&mut self, id: ProcessId) {
        let process = &self.processes[id];
        if process.may_be_full(self.clock.now_ns()) {
            return;
        }
        let files: Vec<_> = process.disk.files().collect();
        let text = format!("{} is full of what nothing needs: {files:?}", self.name(id));
        self.fail(Failure::new("space", text));
    }

    /// A disk that lacks something for a moment must end no log, and keep none from being read. True if it did.
    pub(super) fn judge_log_failed(
        &mut self,
        id: ProcessId,
        error: &LogError,
        is_open: bool,
    ) -> bool {
        let LogError::Disk { file, error: cause } = error else { return false };
        if self.processes[id].ends_in_order.is_some() {
            // Whoever stops does not wait for what is lacking.
            return false;
        }
        let is_of_names = **file == *LOG_DIR;
        let is_unavailable =
            cause.is_passing() && (is_open || is_of_names && *cause == DiskError::Full);
        if is_unavailable {
            self.fail(Failure::new("availability", format!("{}: {error}", self.name(id))));
        }
        is_unavailable
    }
}
