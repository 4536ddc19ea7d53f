//! One process: racks on threads, a journal beside the first of them, a virtual disk, and mailboxes that delay.

use std::collections::BTreeMap;

use bytes::Bytes;

use bigpeer_core::disk_sim::VirtualDisk;
use bigpeer_core::ident::{AppId, BootId, LogId, PartitionId, PeerKey, StoreId, Txn, Uuid};
use bigpeer_core::log::{LogConfig, LogExpected, LogOpened};
use bigpeer_core::node::{EpochRecord, Journal, Rack, RackInput, RackOutput, Request, RequestId};
use bigpeer_core::plant::{Plant, is_planted};
use bigpeer_core::rng::Rng;
use bigpeer_core::seam::Now;
use bigpeer_core::time::{Instant, WallMs};

use super::clock::{MS, US};
use super::space::Space;
use super::turns::Turn;
use super::{Asker, Event, Failure, World};
use crate::coverage::Seen;

/// Names a process: the server is the first.
pub(crate) type ProcessId = usize;

/// The server.
pub(crate) const SERVER: ProcessId = 0;

/// The app of all documents.
pub(crate) const APP: AppId = AppId(Uuid([0xA0; 16]));

/// The mailbox lane of the journal.
pub(super) const JOURNAL: u16 = u16::MAX;

/// What a process is, whether it runs or not.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) is_device: bool,
    pub(crate) partitions: u16,
    /// Threads; none to draw them anew at each start.
    pub(crate) threads: Option<u16>,
    pub(crate) peer_key: PeerKey,
    pub(crate) store: StoreId,
    pub(crate) disk: VirtualDisk,
    /// How many times slower than a fast one the disk is.
    pub(crate) disk_factor: u64,
    /// What the wall clock shows beyond the virtual time.
    pub(crate) wall_offset_ms: i64,
    /// The most that it has shown.
    pub(crate) wall_max: WallMs,
    /// The log that its FORMAT names, once a first start has come to its end.
    pub(crate) log: Option<LogId>,
    /// The guard that a device keeps beside its log, about the epoch that it authors under.
    pub(crate) guard: Option<EpochRecord>,
    /// The boot of the kernel under it.
    pub(crate) kernel: Uuid,
    /// The next opening is of a directory that was put back from a copy.
    pub(crate) is_restored: bool,
    /// The power goes when the disk has carried out so many more commands.
    pub(crate) commands_left: Option<u32>,
    /// The process ends as soon as its log is sealed; then the machine is switched off, or not.
    pub(crate) ends_in_order: Option<bool>,
    /// The volume under its directory.
    pub(crate) space: Space,
    /// The last position that the log has called durable.
    pub(crate) durable_mark: Txn,
    /// Counts openings, so that what was meant for an earlier one is dropped.
    pub(crate) boot: u64,
    pub(crate) running: Option<Box<Running>>,
}

/// A process that runs, or opens its log.
#[derive(Debug)]
pub(crate) struct Running {
    pub(super) started_ns: u64,
    pub(crate) racks: Vec<Rack>,
    pub(crate) journal: Journal,
    pub(super) durable: Txn,
    /// While what this start found is not mended: the last position that the log states to have been on the disk.
    pub(super) proven: Option<Txn>,
    /// The log is replayed: requests and connections are taken.
    pub(crate) is_ready: bool,
    /// The log has failed: the process will be started again.
    pub(crate) has_failed: bool,
    wakes: BTreeMap<u16, u64>,
    lanes: BTreeMap<(u16, u16), Lane>,
    pub(crate) askers: BTreeMap<RequestId, Asker>,
    request_next: u64,
    pub(super) seed: [u8; 32],
    pub(super) boot_id: BootId,
    pub(super) threads: u16,
    /// The present turn of each thread.
    pub(super) turns: Vec<Turn>,
}

/// One mailbox, from one thread to another: what was put in first comes out first.
#[derive(Clone, Copy, Debug, Default)]
struct Lane {
    last_ns: u64,
    in_flight: u32,
}

impl World {
    /// Begins to open the log of a process.
    pub(crate) fn start(&mut self, id: ProcessId) {
        if self.processes[id].running.is_some() {
            return;
        }
        let mut seed = [0; 32];
        seed[..16].copy_from_slice(&self.rng.bytes16());
        seed[16..].copy_from_slice(&self.rng.bytes16());
        let boot_id = BootId(self.rng.uuid());
        let drawn = 1 + self.rng.below(4) as u16;
        let threads = self.processes[id].threads.unwrap_or(drawn);
        let segment_bytes = [4 << 10, 16 << 10, 64 << 10][self.rng.below(3) as usize];
        let log_bytes_max = self.log_bytes_waiting_max();
        let process = &mut self.processes[id];
        let threads = threads.min(process.partitions);
        let is_small = process.space.is_small();
        let segment_bytes = if is_small { 4 << 10 } else { segment_bytes };
        process.set_filled(process.space.is_filled(), self.clock.now_ns());
        process.space.note_start();
        process.boot += 1;
        let config = LogConfig {
            segment_bytes,
            pending_bytes_max: log_bytes_max,
            // On a small volume as much as on a large one: there the volume is the bound.
            retain_bytes: if is_small { 1 << 30 } else { segment_bytes },
            restored: std::mem::take(&mut process.is_restored),
            expected: process.log.map_or(LogExpected::Unwritten, LogExpected::This),
            ..LogConfig::new(boot_id, seed)
        };
        let now = Now { wall: wall(process.wall_offset_ms, self.clock.now_ns()), ..Now::default() };
        process.wall_max = process.wall_max.max(now.wall);
        let mut journal = Journal::open(config, process.partitions, now);
        journal.set_checkpoint_after(8 * segment_bytes);
        process.running = Some(Box::new(Running {
            started_ns: self.clock.now_ns(),
            racks: Vec::new(),
            journal,
            durable: Txn(0),
            proven: Some(Txn(0)),
            is_ready: false,
            has_failed: false,
            wakes: BTreeMap::new(),
            lanes: BTreeMap::new(),
            askers: BTreeMap::new(),
            request_next: 0,
            seed,
            boot_id,
            threads,
            turns: vec![Turn::default(); usize::from(threads)],
        }));
        self.line(format!("{} starts, boot {}", self.name(id), self.processes[id].boot));
        self.drain_journal(id);
    }

    /// The process is gone. With `power` the machine is gone as well, and what was not synced is lost in part.
    pub(crate) fn stop(&mut self, id: ProcessId, power: bool) {
        let how = if power { "loses power" } else { "is killed" };
        self.line(format!("{} {how}", self.name(id)));
        self.coverage.saw(if power { Seen::PowerCut } else { Seen::Kill });
        if power {
            self.processes[id].disk.crash();
            self.processes[id].kernel = self.next_kernel();
        } else {
            self.processes[id].disk.kill();
        }
        self.processes[id].ends_in_order = None;
        let Some(running) = self.processes[id].running.take() else { return };
        for asker in running.askers.into_values() {
            self.on_vanished(id, asker);
        }
        self.drop_connections_of(id);
    }

    /// A machine boots: no two kernels are one.
    pub(super) fn next_kernel(&mut self) -> Uuid {
        self.kernels += 1;
        Uuid(self.kernels.to_be_bytes())
    }

    pub(crate) fn is_ready(&self, id: ProcessId) -> bool {
        self.processes[id].running.as_ref().is_some_and(|running| running.is_ready)
    }

    pub(crate) fn threads(&self, id: ProcessId) -> u16 {
        self.processes[id].running.as_ref().map_or(0, |running| running.threads)
    }

    /// The moment as the first of its threads would see it that looked now.
    pub(super) fn now_of(&mut self, id: ProcessId) -> Now {
        let now_ns = self.clock.now_ns();
        let process = &mut self.processes[id];
        let wall = wall(process.wall_offset_ms, now_ns);
        process.wall_max = process.wall_max.max(wall);
        let running = process.running.as_ref().expect("only a running process is asked");
        let mono = Instant { ns: now_ns - running.started_ns };
        // Of reads the threads alone tell each other: see `turns`.
        Now { mono, wall, durable: running.durable, oldest_read: Txn(0) }
    }

    /// Hands a request to a thread of a process that is ready.
    pub(crate) fn ask(
        &mut self,
        id: ProcessId,
        thread: u16,
        body: Request,
        asker: Asker,
    ) -> RequestId {
        let running = self.processes[id].running.as_mut().expect("only a running process is asked");
        running.request_next += 1;
        let request = RequestId(running.request_next);
        running.askers.insert(request, asker);
        self.rack(id, thread, RackInput::Request { request, body });
        request
    }

    /// The deadline of a request that may take this long.
    pub(crate) fn deadline(&mut self, id: ProcessId, within_ns: u64) -> Instant {
        Instant { ns: self.now_of(id).mono.ns + within_ns }
    }

    /// Gives an input to a rack and carries out what it asks for.
    pub(crate) fn rack(&mut self, id: ProcessId, thread: u16, input: RackInput) {
        let now = self.now_of_thread(id, thread, &input);
        let running = self.processes[id].running.as_mut().expect("only a running process is asked");
        let rack = &mut running.racks[usize::from(thread)];
        let before = rack.applied();
        rack.handle_input(input, now);
        // What is committed is read at one position, and that by nobody before all of it is applied.
        if rack.applied() > before && rack.applied() == running.durable && id != SERVER {
            self.judge_whole_store(id);
        }
        self.drain_rack(id, thread);
    }

    pub(super) fn drain_rack(&mut self, id: ProcessId, thread: u16) {
        while let Some(output) = self.processes[id]
            .running
            .as_mut()
            .and_then(|running| running.racks[usize::from(thread)].poll_output())
        {
            self.on_rack_output(id, thread, output);
        }
        let timeout = self.processes[id]
            .running
            .as_ref()
            .and_then(|running| running.racks[usize::from(thread)].poll_timeout());
        self.wake_at(id, thread, timeout);
    }

    pub(super) fn wake_at(&mut self, id: ProcessId, thread: u16, timeout: Option<Instant>) {
        let Some(timeout) = timeout else { return };
        let now_ns = self.clock.now_ns();
        let boot = self.processes[id].boot;
        let Some(running) = self.processes[id].running.as_mut() else { return };
        let at_ns = (running.started_ns.saturating_add(timeout.ns)).max(now_ns + 2 * US);
        let known = running.wakes.get(&thread).copied();
        if known.is_none_or(|known| known > at_ns) && timeout.ns < u64::MAX / 2 {
            running.wakes.insert(thread, at_ns);
            self.clock.at(at_ns, Event::Wake { process: id, boot, thread });
        }
    }

    pub(crate) fn on_wake(&mut self, id: ProcessId, thread: u16) {
        let now = self.now_of(id);
        let now_ns = self.clock.now_ns();
        let running = self.processes[id].running.as_mut().expect("the boot was checked");
        if running.wakes.get(&thread).is_some_and(|at| *at <= now_ns) {
            running.wakes.remove(&thread);
        }
        if thread == JOURNAL {
            if running.journal.poll_timeout().is_some_and(|at| at <= now.mono) {
                running.journal.handle_timeout(now);
            }
            return self.drain_journal(id);
        }
        let rack = &running.racks[usize::from(thread)];
        if rack.poll_timeout().is_some_and(|at| at <= now.mono) {
            self.begin_turn(id, thread);
            return self.rack(id, thread, RackInput::Time);
        }
        self.drain_rack(id, thread);
    }

    fn on_rack_output(&mut self, id: ProcessId, thread: u16, output: RackOutput) {
        match output {
            RackOutput::Reply { request, reply } => self.on_reply(id, thread, request, reply),
            RackOutput::Append(append) => {
                let boot = self.processes[id].boot;
                let at_ns = self.lane(id, thread, JOURNAL);
                self.clock.at(at_ns, Event::Append { process: id, boot, thread, append });
            }
            RackOutput::Snapshot { partition, part } => {
                let boot = self.processes[id].boot;
                let at_ns = self.lane(id, thread, JOURNAL);
                self.clock.at(at_ns, Event::SnapshotPart { process: id, boot, partition, part });
            }
            RackOutput::Message { thread: to, message } => {
                if self.odds.one_in(20) {
                    self.coverage.saw(Seen::DuplicateMessage);
                    self.mail(id, thread, to, RackInput::Message(message.clone()));
                }
                self.mail(id, thread, to, RackInput::Message(message));
            }
            RackOutput::FetchBlock { partition, block } => {
                self.coverage.saw(Seen::SuspendedRead);
                let most_ns = if self.rush.is_on { 4 * US } else { 300 * US };
                let delay_ns = 5 * US + self.delays.below(most_ns);
                let boot = self.processes[id].boot;
                let input = RackInput::BlockArrived { partition, block };
                let mail = Event::Mail { process: id, boot, from: None, thread, input };
                self.clock.after(delay_ns, mail);
            }
            RackOutput::Frame { session, frame } => self.on_frame_out(id, session, frame),
            RackOutput::CloseSession { session, reason } => {
                self.on_close_session(id, session, &reason);
            }
            RackOutput::SessionReport { session, report } => self.on_report(id, session, &report),
            RackOutput::Changed { .. } => {}
            RackOutput::NewEpoch { epoch } => {
                self.coverage.saw(Seen::NewEpoch);
                self.end_after_new_epoch(id);
                if !is_planted(Plant::EpochKeptLate) {
                    return self.keep_epoch(id, epoch);
                }
                let boot = self.processes[id].boot;
                self.clock.after(400 * MS, Event::KeepEpoch { process: id, boot, epoch });
            }
            RackOutput::Damaged { txn, cause } => {
                self.fail(Failure::new("durability", format!("record {txn} is damaged: {cause}")));
            }
        }
    }

    /// The guard of a device names this epoch from here on.
    pub(crate) fn keep_epoch(&mut self, id: ProcessId, epoch: u64) {
        self.count_epoch(id);
        if let Some(guard) = &mut self.processes[id].guard {
            guard.epoch = epoch;
        }
    }

    /// The epoch of this start of a process.
    pub(super) fn epoch_of(&mut self, id: ProcessId, opened: &LogOpened) -> u64 {
        let drawn = self.rng.next_u64();
        if !self.processes[id].is_device {
            self.count_epoch(id);
            return drawn;
        }
        let process = &mut self.processes[id];
        let (boots, durable, kernel) =
            (opened.boots.entries(), opened.durable, Some(process.kernel));
        let kept = process.guard.filter(|guard| guard.holds(boots, durable, kernel));
        let epoch = kept.map_or(drawn, |guard| guard.epoch);
        let boot = boots.last().expect("this boot is in it").boot;
        process.guard = Some(EpochRecord { epoch, boot, durable, kernel, is_sealed: false });
        if kept.is_none() {
            self.count_epoch(id);
        }
        epoch
    }

    fn count_epoch(&mut self, id: ProcessId) {
        *self.epochs.entry(self.processes[id].peer_key.site()).or_default() += 1;
    }

    /// Puts something into a mailbox.
    pub(super) fn mail(&mut self, id: ProcessId, from: u16, to: u16, input: RackInput) {
        let at_ns = self.lane(id, from, to);
        let boot = self.processes[id].boot;
        self.clock
            .at(at_ns, Event::Mail { process: id, boot, from: Some(from), thread: to, input });
    }

    /// When what is put into a mailbox now comes out. A full one makes its sender wait.
    fn lane(&mut self, id: ProcessId, from: u16, to: u16) -> u64 {
        let slow = self.odds.one_in(50);
        // A thread that is kept from its processor hears late of what the log has made durable.
        let of_log_ns = if from == JOURNAL { self.turn_ns } else { 0 };
        let usual_ns = self.mailbox_ns.max(of_log_ns);
        let most_ns = if slow { usual_ns.max(3 * MS) } else { usual_ns };
        let delay_ns = 2 * US + self.delays.below(most_ns);
        let now_ns = self.clock.now_ns();
        let running = self.processes[id].running.as_mut().expect("only a running process sends");
        let lane = running.lanes.entry((from, to)).or_default();
        lane.in_flight += 1;
        let mut at_ns = (now_ns + delay_ns).max(lane.last_ns);
        if lane.in_flight > MAILBOX_CAPACITY {
            self.coverage.saw(Seen::FullMailbox);
            at_ns += 20 * US;
        }
        lane.last_ns = at_ns;
        at_ns
    }

    pub(crate) fn on_mail(
        &mut self,
        id: ProcessId,
        from: Option<u16>,
        thread: u16,
        input: RackInput,
    ) {
        let running = self.processes[id].running.as_mut().expect("the boot was checked");
        if let Some(from) = from
            && let Some(lane) = running.lanes.get_mut(&(from, thread))
        {
            lane.in_flight -= 1;
        }
        self.rack(id, thread, input);
    }

    pub(crate) fn on_snapshot_part(
        &mut self,
        id: ProcessId,
        partition: PartitionId,
        part: Option<&Bytes>,
    ) {
        let now = self.now_of(id);
        let running = self.processes[id].running.as_mut().expect("the boot was checked");
        let thread = partition.0 % running.threads;
        if let Some(lane) = running.lanes.get_mut(&(thread, JOURNAL)) {
            lane.in_flight -= 1;
        }
        running.journal.snapshot_part(partition, part, now);
        self.drain_journal(id);
    }

    pub(crate) fn on_append(
        &mut self,
        id: ProcessId,
        thread: u16,
        append: bigpeer_core::node::Append,
    ) {
        self.judge_record(id, &append.record.bytes);
        let now = self.now_of(id);
        let running = self.processes[id].running.as_mut().expect("the boot was checked");
        if let Some(lane) = running.lanes.get_mut(&(thread, JOURNAL)) {
            lane.in_flight -= 1;
        }
        running.journal.append(append, now);
        self.drain_journal(id);
    }

    pub(crate) fn on_ready(&mut self, id: ProcessId) {
        let durable = self.processes[id].running.as_ref().map_or(Txn(0), |running| running.durable);
        let running = self.processes[id].running.as_mut().expect("the boot was checked");
        if running.racks.iter().any(|rack| rack.applied() < durable) {
            let boot = self.processes[id].boot;
            return self.clock.after(5 * MS, Event::Ready { process: id, boot });
        }
        running.is_ready = true;
        self.line(format!("{} is ready at {durable}", self.name(id)));
        self.on_process_ready(id);
    }

    /// A stream of randomness for somebody who needs one.
    pub(crate) fn split(&mut self) -> Rng {
        self.rng.split()
    }
}

pub(super) fn wall(offset_ms: i64, now_ns: u64) -> WallMs {
    WallMs((WALL_START_MS + now_ns / MS).saturating_add_signed(offset_ms))
}

/// What wall clocks show at the start.
const WALL_START_MS: u64 = 1_700_000_000_000;

/// What a mailbox holds before its sender has to wait.
const MAILBOX_CAPACITY: u32 = 12;
