//! What goes wrong while clients and devices work.

use bigpeer_core::disk_sim::FaultOdds;
use bigpeer_core::plant::{Plant, is_planted};

use super::clock::{MS, SECOND};
use super::network::Owner;
use super::process::{ProcessId, SERVER};
use super::{Event, World};
use crate::coverage::Seen;
use crate::shape::Images;
use crate::workload::device::Backup;

impl World {
    /// One fault, and a date for the next.
    pub(crate) fn next_fault(&mut self) {
        if !self.is_working() {
            return;
        }
        let pause_ns = 20 * MS + self.faults.below(700 * MS);
        self.clock.after(pause_ns, Event::Fault);
        let device = 1 + self.faults.below(self.devices.len() as u64) as usize;
        match self.faults.below(100) {
            0..=7 => self.crash(SERVER),
            8..=15 => self.crash(device),
            16..=17 => self.end_in_order(device),
            18..=21 => self.crash_in_writes(SERVER),
            22..=25 => self.crash_in_writes(device),
            26..=45 => self.cut_some(),
            46..=55 => self.partition(device),
            56..=61 => self.jump_clock(device),
            62..=64 => self.jump_clock(SERVER),
            65..=69 => self.fill_disk(device),
            70..=77 => self.upset_disk(device),
            78..=83 => self.restore(device),
            84..=87 => self.clone_device(device),
            88..=95 => self.copy(device),
            _ => self.change_subscription(device),
        }
    }

    fn crash(&mut self, process: ProcessId) {
        if self.processes[process].running.is_some() {
            let power = self.faults.one_in(2);
            self.stop(process, power);
            let pause_ns =
                MS + self.faults.below(if process == SERVER { SECOND } else { 3 * SECOND });
            self.clock.after(pause_ns, Event::Start(process));
        }
    }

    /// The application on a device is closed: its log is sealed, whatever is under way.
    fn end_in_order(&mut self, device: ProcessId) {
        if !self.is_ready(device) {
            return;
        }
        self.line(format!("device {device} is closed"));
        self.processes[device].ends_in_order = Some(self.faults.one_in(2));
        let now = self.now_of(device);
        let running = self.processes[device].running.as_mut().expect("it is ready");
        running.journal.seal(now);
        self.drain_journal(device);
    }

    /// The log of a process that was closed is sealed.
    pub(super) fn on_sealed(&mut self, device: ProcessId, is_whole: bool) {
        let process = &mut self.processes[device];
        let durable = process.running.as_ref().expect("its journal speaks").durable;
        let is_off = process.ends_in_order.take().expect("it was asked to seal its log");
        if let Some(guard) = &mut process.guard
            && is_whole
        {
            (guard.durable, guard.is_sealed) = (durable, true);
            self.saw(Seen::EndInOrder);
        }
        self.stop(device, is_off);
        let pause_ns = MS + self.faults.below(2 * SECOND);
        self.clock.after(pause_ns, Event::Start(device));
    }

    /// A device that has just taken a new epoch goes down, now and then: whatever is lost with it, it must never again
    /// author as the actor before.
    pub(crate) fn end_after_new_epoch(&mut self, process: ProcessId) {
        if process != SERVER && self.is_working() && self.proofs.one_in(2) {
            let boot = self.processes[process].boot;
            let pause_ns = self.proofs.below(300 * MS);
            self.clock.after(pause_ns, Event::GoDown { process, boot });
        }
    }

    /// The process of a device ends, and is there again: an application that is run for each thing that it does.
    ///
    /// It rests when the work goes on for the operator's sake alone, which may take long: no checkpoint is made within
    /// such lives, and a small volume fills with records of starts.
    pub(crate) fn start_again(&mut self, device: ProcessId) {
        if !self.is_working() || self.clock.now_ns() >= self.work_ends_ns {
            return;
        }
        if self.is_ready(device) {
            self.stop(device, false);
            self.clock.after(MS, Event::Start(device));
        }
        let pause_ns = 20 * MS + self.delays.below(100 * MS);
        self.clock.after(pause_ns, Event::StartAgain(device));
    }

    /// The power goes a few disk commands from here: in the middle of a group that is not synced, most likely.
    fn crash_in_writes(&mut self, process: ProcessId) {
        self.processes[process].commands_left = Some(1 + self.faults.below(8) as u32);
    }

    /// The power is gone while the disk was at work. The next start may meet the same fate.
    pub(crate) fn crash_at_work(&mut self, process: ProcessId) {
        self.saw(Seen::CrashAtWork);
        self.stop(process, true);
        if self.is_working() && self.faults.one_in(3) {
            self.processes[process].commands_left = Some(1 + self.faults.below(40) as u32);
        }
        self.clock.after(MS + self.faults.below(SECOND), Event::Start(process));
    }

    fn cut_some(&mut self) {
        if let Some((id, owner)) = self.random_connection() {
            self.saw(Seen::ConnectionCut);
            self.line(format!("the connection {id} of {owner:?} is cut"));
            self.cut(id);
        }
    }

    fn partition(&mut self, device: ProcessId) {
        let blocked = match self.faults.below(3) {
            0 => [true, false],
            1 => [false, true],
            _ => [true, true],
        };
        self.saw(if blocked == [true; 2] {
            Seen::PartitionBothWays
        } else {
            Seen::PartitionOneWay
        });
        self.line(format!("device {device} is partitioned: {blocked:?}"));
        self.devices[device - 1].blocked = blocked;
        let pause_ns = 100 * MS + self.faults.below(4 * SECOND);
        self.clock.after(pause_ns, Event::Unblock(device));
    }

    pub(crate) fn unblock(&mut self, device: ProcessId) {
        self.devices[device - 1].blocked = [false; 2];
    }

    fn jump_clock(&mut self, process: ProcessId) {
        self.saw(Seen::WallClockJump);
        let offset_ms =
            self.faults.below(2 * self.clock_jump_ms) as i64 - self.clock_jump_ms as i64;
        self.line(format!("the clock of {} jumps to {offset_ms} ms", self.name(process)));
        self.processes[process].wall_offset_ms = offset_ms;
        if process == SERVER {
            self.server_jumped_ns = self.clock.now_ns();
            self.lose_expiry();
        }
    }

    fn fill_disk(&mut self, device: ProcessId) {
        let process = if self.faults.one_in(2) { SERVER } else { device };
        self.saw(Seen::DiskFull);
        self.line(format!("the disk of {} is full", self.name(process)));
        self.processes[process].set_filled(true, self.clock.now_ns());
        let pause_ns = 10 * MS + self.faults.below(SECOND);
        self.clock.after(pause_ns, Event::FreeDisk(process));
    }

    fn upset_disk(&mut self, device: ProcessId) {
        let process = if self.faults.one_in(2) { SERVER } else { device };
        let odds = match self.faults.below(7) {
            0 => FaultOdds { sync: 60, ..FaultOdds::default() },
            1 => FaultOdds { write: 100, ..FaultOdds::default() },
            2 => FaultOdds { read: 20, ..FaultOdds::default() },
            3 => FaultOdds { name: 10, ..FaultOdds::default() },
            4 => FaultOdds { full: 40, ..FaultOdds::default() },
            5 => FaultOdds { again: 60, ..FaultOdds::default() },
            _ => FaultOdds::default(),
        };
        self.line(format!("the disk of {}: {odds:?}", self.name(process)));
        self.processes[process].set_faults(odds, self.clock.now_ns());
    }

    /// Keeps a copy of a device's disk, as a backup of a machine that is off.
    fn copy(&mut self, device: ProcessId) {
        let mut disk = self.processes[device].disk.clone();
        disk.kill();
        let (at_ns, durable) = (self.clock.now_ns(), self.processes[device].durable_mark);
        let log = self.processes[device].log;
        self.line(format!("device {device} is backed up"));
        let (guard, kernel) = (self.processes[device].guard, self.processes[device].kernel);
        self.devices[device - 1].backup = Some(Backup { disk, log, guard, kernel, at_ns, durable });
        // Within a session both sides agree about its nonces: only positions tell that something was lost.
        if self.proofs.one_in(3) {
            let pause_ns = 50 * MS + self.proofs.below(700 * MS);
            self.clock.after(pause_ns, Event::PutBack(device));
        }
    }

    /// The machine of a device is put back to its image, memory included.
    pub(crate) fn put_machine_back(&mut self, device: ProcessId) {
        if self.is_working() && !self.is_finale() {
            self.put_back(device, true, true);
        }
    }

    /// Puts a device's backup back: what it wrote since is lost. File by file, which its guard shows; as an image of the
    /// disk, which its kernel shows; or as an image of the machine and its memory, which nothing on the device shows.
    /// Then it writes nothing before a session has told it: what it wrote as the former actor would not be authored
    /// again.
    fn restore(&mut self, device: ProcessId) {
        if self.devices[device - 1].backup.is_some() {
            let is_image = self.faults.one_in(2);
            let has_memory = is_image && self.faults.one_in(2);
            self.put_back(device, is_image, has_memory);
        }
    }

    fn put_back(&mut self, device: ProcessId, is_image: bool, has_memory: bool) {
        // If the server is put back too, nobody may be left who knows what the machine has lost, and it would author as
        // the former actor: no system can tell.
        let has_memory = has_memory && self.images == Images::None;
        let backup = self.devices[device - 1].backup.clone();
        let Some(Backup { disk, log, guard, kernel, at_ns, durable }) = backup else { return };
        if self.processes[device].running.is_some() {
            self.stop(device, false);
        }
        self.saw(Seen::DeviceRestored);
        self.line(format!("device {device} is restored from {:.3} s", at_ns as f64 / 1e9));
        self.processes[device].disk = disk;
        self.processes[device].log = log;
        let is_copy_taken = is_planted(Plant::GuardHoldsForCopies);
        self.processes[device].guard = guard.filter(|_| is_image || is_copy_taken);
        self.processes[device].kernel =
            if has_memory || is_copy_taken { kernel } else { self.next_kernel() };
        self.devices[device - 1].waits_for_session = has_memory;
        self.processes[device].durable_mark = durable;
        let now_ns = self.clock.now_ns();
        self.processes[device].set_faults(FaultOdds::default(), now_ns);
        self.processes[device].set_filled(false, now_ns);
        self.processes[device].is_restored = self.faults.one_in(2);
        let site = self.devices[device - 1].site;
        let server = self.documents(SERVER);
        self.ledger.rolled_back(site, at_ns, &server);
        let site = self.ledger.add_site();
        self.devices[device - 1].begin_site(site, &mut self.ledger);
        let pause_ns = MS + self.faults.below(SECOND);
        self.clock.after(pause_ns, Event::Start(device));
    }

    /// A second device comes up with a copy of this one's disk, its identity included.
    fn clone_device(&mut self, device: ProcessId) {
        if self.devices.len() >= DEVICES_MAX {
            return;
        }
        let backup = self.devices[device - 1].backup.clone();
        let Some(Backup { disk, log, guard, kernel, durable, .. }) = backup else { return };
        let partitions = self.processes[device].partitions;
        let id = self.add_process(true, partitions);
        let (peer_key, store) = (self.processes[device].peer_key, self.processes[device].store);
        let space = self.processes[device].space;
        let clone = &mut self.processes[id];
        clone.peer_key = peer_key;
        clone.store = store;
        clone.space = space;
        clone.disk = disk;
        clone.log = log;
        clone.guard = guard;
        if is_planted(Plant::GuardHoldsForCopies) {
            clone.kernel = kernel;
        }
        clone.durable_mark = durable;
        clone.set_faults(FaultOdds::default(), self.clock.now_ns());
        clone.set_filled(false, self.clock.now_ns());
        self.saw(Seen::DeviceCloned);
        self.line(format!("device {id} is a clone of device {device}"));
        let site = self.ledger.add_site();
        let rng = self.split();
        let twin = self.devices[device - 1].twin(site, id, &mut self.ledger, rng);
        self.devices.push(twin);
        self.clock.after(SECOND, Event::Probe(id));
        self.clock.after(MS, Event::Start(id));
    }

    pub(super) fn change_subscription(&mut self, device: ProcessId) {
        self.saw(Seen::SubscriptionChanged);
        let mut rng = self.split();
        self.devices[device - 1].choose_interest(&mut rng);
        let text = format!("device {device} asks for {:?}", self.devices[device - 1].interest);
        self.line(text);
        let queries = self.devices[device - 1].queries();
        self.devices[device - 1].is_partial = true;
        if let Some(id) = self.devices[device - 1].connection
            && self.connections.get(&id).is_some_and(|c| c.owner == Owner::Device(device))
        {
            let connection = self.connections.get_mut(&id).expect("it was just seen");
            connection.promises.iter_mut().for_each(|promise| promise.is_void = true);
            connection.wire.asks_anew();
            self.session(device, 0, id, bigpeer_core::node::SessionInput::Subscribe(queries));
        }
    }
}

/// Devices of one world, clones included.
const DEVICES_MAX: usize = 6;
