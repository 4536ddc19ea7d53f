//! The journal of a process: disk commands that take their time, and what the journal says.

use std::sync::Arc;

use bigpeer_core::disk::{DiskCommand, DiskError, DiskOp};
use bigpeer_core::ident::PartitionId;
use bigpeer_core::log::{LOG_DIR, LogError, LogOpened};
use bigpeer_core::node::{
    AppendRefused, CheckpointEvent, JournalOutput, NodeConfig, Rack, RackConfig, RackInput,
    SyncIdentity,
};
use bigpeer_core::sync::BootTable;

use super::clock::{MS, SECOND, US};
use super::process::{JOURNAL, ProcessId};
use super::{Event, Failure, World};
use crate::coverage::Seen;

impl World {
    pub(crate) fn on_disk(&mut self, id: ProcessId, op: DiskOp, is_read: bool) {
        let Some(done) = self.processes[id].disk.complete(op) else { return };
        self.note_disk_error(done.result.as_ref().err(), is_read);
        if let Some(left) = &mut self.processes[id].commands_left {
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.processes[id].commands_left = None;
                let boot = self.processes[id].boot;
                self.clock.after(0, Event::CrashAtWork { process: id, boot });
            }
        }
        let now = self.now_of(id);
        let running = self.processes[id].running.as_mut().expect("the boot was checked");
        running.journal.handle_disk(done, now);
        let may_be_mended = running.proven.is_some();
        self.drain_journal(id);
        if may_be_mended {
            self.note_durable(id);
        }
    }

    fn note_disk_error(&mut self, error: Option<&DiskError>, is_read: bool) {
        match error {
            Some(DiskError::Full) => self.coverage.saw(Seen::WriteRefusedFull),
            Some(DiskError::Again(_)) => self.coverage.saw(Seen::NoDescriptor),
            Some(DiskError::Io(_)) if is_read => self.coverage.saw(Seen::ReadError),
            Some(DiskError::Io(_)) => self.coverage.saw(Seen::WriteError),
            _ => {}
        }
    }

    pub(super) fn drain_journal(&mut self, id: ProcessId) {
        while let Some(output) =
            self.processes[id].running.as_mut().and_then(|running| running.journal.poll_output())
        {
            self.on_journal(id, output);
        }
        let timeout =
            self.processes[id].running.as_ref().and_then(|running| running.journal.poll_timeout());
        self.wake_at(id, JOURNAL, timeout);
    }

    fn on_journal(&mut self, id: ProcessId, output: JournalOutput) {
        match output {
            JournalOutput::Disk(op, command) => {
                let delay_ns = self.disk_delay(id, &command);
                let boot = self.processes[id].boot;
                if matches!(&command, DiskCommand::Rename { to, .. } if to.starts_with(LOG_DIR)) {
                    self.coverage.saw(Seen::SegmentSwitch);
                }
                let is_read = matches!(&command, DiskCommand::Read { .. });
                self.processes[id].disk.submit(op, command);
                self.clock.after(delay_ns, Event::Disk { process: id, boot, op, is_read });
            }
            JournalOutput::Appended { from, ticket, result } => {
                if result == Err(AppendRefused::Full) {
                    self.judge_full(id);
                }
                let thread = from.0 % self.threads(id);
                self.mail(id, JOURNAL, thread, RackInput::Appended { from, ticket, result });
            }
            JournalOutput::Committed { first, records, upto } => {
                self.trace.mix(40, self.clock.now_ns(), upto.0);
                let threads = self.threads(id);
                let running = self.processes[id].running.as_mut().expect("its journal speaks");
                running.durable = upto;
                self.note_durable(id);
                for thread in 0..threads {
                    let records = records.clone();
                    self.mail(id, JOURNAL, thread, RackInput::Committed { first, records, upto });
                }
            }
            JournalOutput::Restore { partition, at, part } => {
                self.coverage.saw(Seen::Restored);
                let thread = partition.0 % self.threads(id);
                self.mail(id, JOURNAL, thread, RackInput::Restore { partition, at, part });
            }
            JournalOutput::Snapshot { partition, ask } => {
                let thread = partition.0 % self.threads(id);
                self.mail(id, JOURNAL, thread, RackInput::Snapshot { partition, ask });
            }
            JournalOutput::Checkpoint(event) => self.on_checkpoint(id, &event),
            JournalOutput::Opened(opened) => self.on_opened(id, &opened),
            JournalOutput::Replayed => {
                // The records are on their way to the threads; questions queue behind them.
                let boot = self.processes[id].boot;
                self.clock.after(10 * MS, Event::Ready { process: id, boot });
            }
            JournalOutput::Failed(error) => self.on_log_failed(id, &error),
            JournalOutput::Sealed { is_whole } => self.on_sealed(id, is_whole),
        }
    }

    /// Everything called durable must be there after every failure. Only what a start reads back is promised up to where
    /// the log states itself to have been on the disk, until the rest is written once more: until then a full volume
    /// shows its readers what the next failure of power may take.
    fn note_durable(&mut self, id: ProcessId) {
        let process = &mut self.processes[id];
        let Some(running) = &mut process.running else { return };
        if running.proven.is_some() && !running.journal.fill().is_unmended {
            running.proven = None;
        }
        let promised = running.proven.map_or(running.durable, |proven| proven.min(running.durable));
        if promised < running.durable && running.is_ready {
            self.coverage.saw(Seen::ReadUnmended);
        }
        process.durable_mark = process.durable_mark.max(promised);
    }

    fn on_checkpoint(&mut self, id: ProcessId, event: &CheckpointEvent) {
        self.line(format!("{}: {event:?}", self.name(id)));
        self.processes[id].space.note_checkpoint(event, self.clock.now_ns());
        self.coverage.saw(match event {
            CheckpointEvent::Made { .. } => Seen::CheckpointMade,
            CheckpointEvent::Failed { .. } => Seen::CheckpointFailed,
            CheckpointEvent::Skipped { .. } => Seen::CheckpointSkipped,
        });
    }

    fn disk_delay(&mut self, id: ProcessId, command: &DiskCommand) -> u64 {
        let usual_ns = match command {
            DiskCommand::Sync { .. } | DiskCommand::SyncDir { .. } => 400 * US,
            DiskCommand::Create { .. } => 200 * US,
            _ => 40 * US,
        };
        let slow = self.odds.one_in(40);
        let most_ns = if slow { 20 * usual_ns } else { 2 * usual_ns };
        10 * US + self.delays.below(most_ns * self.processes[id].disk_factor)
    }

    fn on_opened(&mut self, id: ProcessId, opened: &LogOpened) {
        if let Some(cut) = &opened.cut {
            self.coverage.saw(Seen::TailCut);
            self.line(format!("{} cuts {} bytes off its log", self.name(id), cut.len_bytes));
        }
        if opened.seal_seen {
            self.coverage.saw(Seen::SealFound);
        }
        self.check_reopened(id, opened.durable);
        self.processes[id].log = Some(opened.log_id);
        let epoch = self.epoch_of(id, opened);
        let process = &mut self.processes[id];
        let running = process.running.as_mut().expect("its journal speaks");
        running.proven = Some(opened.proven);
        let node = NodeConfig {
            partition: PartitionId(0),
            partitions: process.partitions,
            boot: running.boot_id,
            site: process.peer_key.site(),
            epoch,
            seed: running.seed,
            // A seeded half of all reads must wait, always: everybody has to cope.
            pretend_cold: true,
            limits: self.limits,
            identity: Arc::new(SyncIdentity {
                store: process.store,
                boots: BootTable::new(opened.log_id, &opened.boots),
                peer_key: process.peer_key,
                name: "simulated".into(),
            }),
            is_device: process.is_device,
        };
        running.racks = (0..running.threads)
            .map(|thread| {
                let (threads, seed) = (running.threads, running.seed);
                Rack::new(RackConfig { thread, threads, node: node.clone(), seed })
            })
            .collect();
    }

    fn on_log_failed(&mut self, id: ProcessId, error: &LogError) {
        // No fault here takes a file away or rots one: what is not as it was left is our doing.
        let is_loss = !matches!(error, LogError::Disk { .. } | LogError::Checkpoint { .. });
        self.line(format!("{}: the log failed: {error}", self.name(id)));
        let boot = self.processes[id].boot;
        let running = self.processes[id].running.as_mut().expect("its journal speaks");
        running.has_failed = true;
        let is_open = running.is_ready;
        self.coverage.saw(if is_open { Seen::SyncFailed } else { Seen::OpenFailed });
        if is_loss {
            return self.fail(Failure::new("durability", format!("{}: {error}", self.name(id))));
        }
        if self.judge_log_failed(id, error, is_open) {
            return;
        }
        let delay_ns = MS + self.delays.below(2 * SECOND);
        self.clock.after(delay_ns, Event::Restart { process: id, boot });
    }
}
