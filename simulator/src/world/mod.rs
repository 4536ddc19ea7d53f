//! The virtual world: one server, devices, clients, their disks and the network between them.
//!
//! Everything follows from the seed. A run has four phases: the app is set up; clients and devices work while
//! faults happen; faults stop and the devices sync in turns until all agree; at last the server loses power
//! once more, and what it then holds is compared with what it held.

pub(crate) mod api;
pub(crate) mod clock;
mod faults;
mod final_phase;
pub(crate) mod guests;
mod hostile;
mod images;
mod journal;
pub(crate) mod living;
pub(crate) mod network;
pub(crate) mod process;
mod races;
mod rekey;
mod rush;
mod sessions;
mod space;
pub(crate) mod turns;

use std::collections::{BTreeMap, BTreeSet};

use bigpeer_connection::RequestId as HttpId;
use bigpeer_core::disk::DiskOp;
use bigpeer_core::disk_sim::VirtualDisk;
use bigpeer_core::ident::{Actor, PartitionId, PeerKey, StoreId, Txn, Uuid};
use bigpeer_core::node::{Append, NodeLimits, RackInput, Reply, RequestId};
use bigpeer_core::rng::Rng;
use bigpeer_core::time::{Hlc, WallMs};
use bytes::Bytes;

use crate::check::evicted::Evicted;
use crate::check::ledger::Ledger;
use crate::check::{Documents, Failure};
use crate::coverage::{Coverage, Seen};
use crate::profile::Rights;
use crate::shape::{Bulk, DeviceShape, Images, Shape};
use crate::trace::Trace;
use crate::workload::client::Client;
use crate::workload::device::{Backup, Device};
use crate::workload::hostile::Hostile;
use clock::{Clock, MS, SECOND, US};
use final_phase::Phase;
use network::{Connection, ConnectionId, Owner, Side};
use process::{Process, ProcessId, SERVER};
use space::Space;

/// Something that happens at a moment of virtual time.
#[derive(Debug)]
pub(crate) enum Event {
    Mail {
        process: ProcessId,
        boot: u64,
        from: Option<u16>,
        thread: u16,
        input: RackInput,
    },
    Append {
        process: ProcessId,
        boot: u64,
        thread: u16,
        append: Append,
    },
    SnapshotPart {
        process: ProcessId,
        boot: u64,
        partition: PartitionId,
        part: Option<Bytes>,
    },
    Disk {
        process: ProcessId,
        boot: u64,
        op: DiskOp,
        is_read: bool,
    },
    Wake {
        process: ProcessId,
        boot: u64,
        thread: u16,
    },
    Ready {
        process: ProcessId,
        boot: u64,
    },
    GoDown {
        process: ProcessId,
        boot: u64,
    },
    Restart {
        process: ProcessId,
        boot: u64,
    },
    CrashAtWork {
        process: ProcessId,
        boot: u64,
    },
    /// A device with a planted bug keeps its new epoch.
    KeepEpoch {
        process: ProcessId,
        boot: u64,
        epoch: u64,
    },
    Start(ProcessId),
    /// The machine of a device is put back to an image of a moment ago.
    PutBack(ProcessId),
    /// A device whose process starts all the time starts again.
    StartAgain(ProcessId),
    Bytes {
        connection: ConnectionId,
        to: Side,
        bytes: Vec<u8>,
    },
    End {
        connection: ConnectionId,
        to: Side,
    },
    Cut {
        connection: ConnectionId,
    },
    /// The network fails in the middle of something.
    CutShort(ConnectionId),
    Pump(ConnectionId),
    ConnectionWake(ConnectionId),
    ClientTurn(usize),
    DeviceTurn(ProcessId),
    Connect(ProcessId),
    Fault,
    Unblock(ProcessId),
    Finale,
    FreeDisk(ProcessId),
    PhaseEnds(u32),
    Check,
    /// A device asks whether it is in sync.
    Probe(ProcessId),
    /// Everybody lives on: the next bout begins, or the last is judged.
    Live,
    /// Somebody does something in a bout.
    Act(living::Act),
    HostileTurn(usize),
    /// A credential is given other rights, or the change goes on.
    Rekey,
    /// An image of the server's disk is taken or put back.
    Image,
    GuestTurn(usize),
    HostTurn(usize),
    /// By now a guest reads nothing by a former worth of its key.
    GuestCheck(usize),
    /// Operators race for the catalog: the beginning, one of them, and the end.
    Race,
    RaceAsk,
    RaceEnds,
    /// A moment of a rush, and the end of it.
    Rush(u64),
    RushEnds,
}

/// Who waits for the answer to a request.
#[derive(Debug)]
pub(crate) enum Asker {
    /// A client, over its connection.
    Http { connection: ConnectionId, http: HttpId, rows: Vec<u8> },
    /// The application on a device.
    Local { rows: Vec<u8> },
    /// The operator, at the beginning.
    Setup,
    /// The operator, who changes the rights of a credential.
    Rekey,
    /// Somebody who lives on.
    Act(living::Act),
    /// A guest, with its number of what it asks.
    Guest { guest: usize, ask: u64 },
    /// The host of a guest, who changes its key.
    Host(usize),
    /// One of those who race for the catalog.
    Racer(usize),
    /// One of a rush.
    Rush(usize),
}

/// One run. See the module.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) clock: Clock<Event>,
    /// Identities and seeds.
    pub(crate) rng: Rng,
    /// How long things take.
    pub(crate) delays: Rng,
    /// Whether rare things happen.
    pub(crate) odds: Rng,
    /// Which faults happen.
    pub(crate) faults: Rng,
    /// The sizes of volumes.
    volumes: Rng,
    /// The lengths of the turns of threads.
    turns: Rng,
    /// The credentials that expire while the world runs, and when.
    lending: Rng,
    /// Of changes of the catalog that are made together.
    lists: Rng,
    /// The moments at which devices go down that have just been told what they lost.
    proofs: Rng,
    pub(crate) trace: Trace,
    pub(crate) coverage: Coverage,
    pub(crate) processes: Vec<Process>,
    pub(crate) connections: BTreeMap<ConnectionId, Connection>,
    connection_next: u64,
    armed: BTreeSet<ConnectionId>,
    pub(crate) clients: Vec<Client>,
    pub(crate) devices: Vec<Device>,
    pub(crate) hostile: Vec<Hostile>,
    pub(crate) guests: Vec<guests::Guest>,
    /// The questions of guests and the changes of their hosts, with their times.
    visits: Rng,
    pub(crate) race: races::Race,
    /// There is a rush when everybody has lived on for a while.
    has_rush: bool,
    pub(crate) rush: rush::Rush,
    /// The thread and the partition that a rush is for.
    rushing: Rng,
    /// Operators race for the catalog.
    is_racing: bool,
    /// The questions of racing operators, with their times.
    racing: Rng,
    /// The moment of the last jump of the server's wall clock.
    server_jumped_ns: u64,
    /// A change of rights that the server has not made yet.
    pub(crate) rekeying: Option<rekey::Rekeying>,
    pub(crate) ledger: Ledger,
    pub(crate) evicted: Evicted,
    pub(crate) phase: Phase,
    work_ends_ns: u64,
    pub(crate) failure: Option<Failure>,
    pub(crate) is_loud: bool,
    /// The process of the first device starts some hundred times.
    pub(crate) is_restless: bool,
    /// What the server held before its last power cut.
    pub(crate) before_cut: Option<Documents>,
    /// How often each process was checked for its invariants.
    events_until_check: u32,
    /// Counts the kernels that have booted.
    kernels: u128,
    /// Peers about which the server has kept more than nonces.
    pub(crate) known_peers: BTreeSet<PeerKey>,
    /// Of every node, servers and devices alike: both sides of a session have the same window.
    pub(crate) limits: NodeLimits,
    /// The greatest times that the server has authored at, by actor.
    pub(crate) issued: BTreeMap<Actor, Hlc>,
    /// How many epochs the stores of each site have had.
    pub(crate) epochs: BTreeMap<u64, u32>,
    /// The next connection that carries a part of a group is cut behind it.
    is_cut_due: bool,
    /// How far wall clocks jump.
    pub(crate) clock_jump_ms: u64,
    /// How long nothing happens, once.
    pub(crate) idle_ns: u64,
    /// The use that is made of images of the server's disk, and the newest of them.
    images: Images,
    server_image: Option<Backup>,
    pub(crate) bulk: Bulk,
    /// The longest that a message lies in a mailbox, most of the time.
    mailbox_ns: u64,
    /// The longest turn of a thread, most of the time.
    turn_ns: u64,
    /// Devices ask often whether they are in sync.
    asks_often: bool,
    /// Each device meets one thread of the server, by its number.
    is_pinned: bool,
}

/// Small bounds, so that the few documents of a run meet them; in half of all runs updates as well are cut small.
fn limits(shape: &mut Rng, root: &[u8; 32]) -> NodeLimits {
    let small = NodeLimits {
        reply_bytes_max: 700,
        turn_fuel: 12_000,
        applied_at_once: 2,
        folded_at_once: 1,
        scans_of_key_max: 2,
        document_bytes_max: 50_000,
        merged_bytes_max: 100_000,
        ..NodeLimits::default()
    };
    if shape.one_in(2) {
        return small;
    }
    NodeLimits {
        update_target_bytes: 600,
        update_bytes_max: 2_400,
        window_bytes: 2_048,
        outputs_max: 64,
        // A stream of its own: it came later.
        owed_max: if Rng::new(root, "owed").one_in(2) { 2 } else { small.owed_max },
        ..small
    }
}

/// Updates are cut as small, and a document may have the size that it has in a product.
fn limits_of_large() -> NodeLimits {
    NodeLimits {
        reply_bytes_max: 700,
        applied_at_once: 2,
        folded_at_once: 1,
        update_target_bytes: 600,
        update_bytes_max: 2_400,
        window_bytes: 64 << 10,
        outputs_max: 64,
        ..NodeLimits::default()
    }
}

impl World {
    /// The world of a seed.
    pub(crate) fn new(seed: u64, is_loud: bool) -> Self {
        let mut root = [0; 32];
        root[..8].copy_from_slice(&seed.to_le_bytes());
        let mut shape = Rng::new(&root, "shape");
        let mut world = Self {
            clock: Clock::new(),
            rng: Rng::new(&root, "identities"),
            delays: Rng::new(&root, "delays"),
            odds: Rng::new(&root, "odds"),
            faults: Rng::new(&root, "faults"),
            volumes: Rng::new(&root, "volumes"),
            turns: Rng::new(&root, "turns"),
            lending: Rng::new(&root, "lending"),
            lists: Rng::new(&root, "lists"),
            proofs: Rng::new(&root, "proofs"),
            trace: Trace::new(is_loud),
            coverage: Coverage::default(),
            processes: Vec::new(),
            connections: BTreeMap::new(),
            connection_next: 0,
            armed: BTreeSet::new(),
            clients: Vec::new(),
            devices: Vec::new(),
            hostile: Vec::new(),
            guests: Vec::new(),
            visits: Rng::new(&root, "visits"),
            race: races::Race::default(),
            has_rush: false,
            rush: rush::Rush::default(),
            rushing: Rng::new(&root, "rushing"),
            is_racing: false,
            racing: Rng::new(&root, "racing"),
            server_jumped_ns: 0,
            rekeying: None,
            ledger: Ledger::default(),
            evicted: Evicted::default(),
            phase: Phase::SettingUp(0),
            work_ends_ns: u64::MAX,
            failure: None,
            is_loud,
            is_restless: Rng::new(&root, "restless").one_in(8),
            before_cut: None,
            events_until_check: CHECK_EVERY,
            kernels: 0,
            known_peers: BTreeSet::new(),
            limits: NodeLimits::default(),
            issued: BTreeMap::new(),
            epochs: BTreeMap::new(),
            is_cut_due: false,
            clock_jump_ms: 0,
            idle_ns: 0,
            images: Images::None,
            server_image: None,
            bulk: Bulk::None,
            mailbox_ns: 0,
            turn_ns: 0,
            asks_often: false,
            is_pinned: false,
        };
        world.limits = limits(&mut shape, &root);
        let drawn = Shape::draw(&mut shape, &root);
        world.clock_jump_ms = drawn.clock_jump_ms;
        world.idle_ns = drawn.idle_ns;
        world.images = drawn.images;
        world.bulk = drawn.bulk;
        world.mailbox_ns = drawn.mailbox_ns;
        world.turn_ns = drawn.turn_ns;
        world.asks_often = drawn.asks_often;
        world.is_racing = drawn.is_racing;
        world.has_rush = drawn.has_rush;
        world.is_pinned = drawn.is_pinned;
        match drawn.bulk {
            Bulk::None => {}
            // The edits of two devices that do not know each other are more.
            Bulk::Grown => world.limits.merged_bytes_max = 60_000,
            Bulk::Large => world.limits = limits_of_large(),
        }
        world.add_process(false, drawn.server_partitions);
        world.processes[SERVER].threads = drawn.server_threads;
        for DeviceShape { partitions, profile } in drawn.devices {
            let id = world.add_process(true, partitions);
            let site = world.ledger.add_site();
            let device =
                Device::new(site, id, Rights::new(profile), &mut world.ledger, shape.split());
            world.devices.push(device);
        }
        if let Some(profile) = drawn.hostile {
            world.hostile.push(Hostile::new(profile, shape.split()));
        }
        world.guests = (0..drawn.guests).map(guests::Guest::new).collect();
        for profile in drawn.clients {
            let client = Client::new(&mut world.ledger, profile, shape.split());
            world.clients.push(client);
        }
        world
    }

    fn add_process(&mut self, is_device: bool, partitions: u16) -> ProcessId {
        let mut disk_seed = [0; 32];
        disk_seed[..16].copy_from_slice(&self.rng.bytes16());
        let mut key = [0; 32];
        key[..16].copy_from_slice(&self.rng.bytes16());
        // A stream of its own: the volume moves no other draw.
        let is_small = self.volumes.one_in(4) && self.bulk != Bulk::Large;
        let kernel = self.next_kernel();
        let process = Process {
            is_device,
            partitions,
            threads: is_device.then_some(1),
            peer_key: PeerKey(key),
            store: StoreId(Uuid(self.rng.bytes16())),
            disk: VirtualDisk::new(&disk_seed),
            disk_factor: [1, 1, 5, 25][self.rng.below(4) as usize],
            wall_offset_ms: self.rng.below(120_000) as i64 - 60_000,
            wall_max: WallMs(0),
            log: None,
            guard: None,
            kernel,
            ends_in_order: None,
            is_restored: false,
            commands_left: None,
            space: Space::new(is_small),
            durable_mark: Txn(0),
            boot: 0,
            running: None,
        };
        self.processes.push(process);
        self.processes.len() - 1
    }

    /// Runs to the end, or to the first failure.
    pub(crate) fn run(&mut self) {
        for id in 0..self.processes.len() {
            self.clock.after(0, Event::Start(id));
        }
        self.clock.after(SETUP_WITHIN_NS, Event::PhaseEnds(0));
        while self.failure.is_none() && self.phase != Phase::Over {
            let Some(event) = self.clock.pop() else {
                return self.fail(Failure::new("progress", "nothing is left to happen".into()));
            };
            if self.clock.len() > EVENTS_WAITING_MAX || self.trace.events() > EVENTS_MAX {
                let text =
                    format!("{} events wait after {}", self.clock.len(), self.trace.events());
                return self.fail(Failure::new("bounds", text));
            }
            self.dispatch(event);
            self.sample_invariants();
        }
    }

    fn dispatch(&mut self, event: Event) {
        let now_ns = self.clock.now_ns();
        match event {
            Event::Mail { process, boot, from, thread, input } => {
                if self.is_boot(process, boot) {
                    self.trace.mix(1, now_ns, u64::from(thread));
                    self.on_mail(process, from, thread, input);
                }
            }
            Event::Append { process, boot, thread, append } => {
                if self.is_boot(process, boot) {
                    self.trace.mix(2, now_ns, append.record.bytes.len() as u64);
                    self.on_append(process, thread, append);
                }
            }
            Event::SnapshotPart { process, boot, partition, part } => {
                if self.is_boot(process, boot) {
                    self.trace.mix(12, now_ns, part.as_ref().map_or(0, |part| part.len() as u64));
                    self.on_snapshot_part(process, partition, part.as_ref());
                }
            }
            Event::Disk { process, boot, op, is_read } => {
                if self.is_boot(process, boot) {
                    self.trace.mix(3, now_ns, op.0);
                    self.on_disk(process, op, is_read);
                }
            }
            Event::Wake { process, boot, thread } => {
                if self.is_boot(process, boot) {
                    self.trace.mix(4, now_ns, u64::from(thread));
                    self.on_wake(process, thread);
                }
            }
            Event::Ready { process, boot } => {
                if self.is_boot(process, boot) {
                    self.on_ready(process);
                }
            }
            // Only while there are faults: at the end everybody is in sync, and is judged so.
            Event::GoDown { .. } if !self.is_working() => {}
            Event::Restart { process, boot } | Event::GoDown { process, boot } => {
                if self.is_boot(process, boot) {
                    let power = self.faults.one_in(2);
                    self.stop(process, power);
                    self.clock.after(MS, Event::Start(process));
                }
            }
            Event::CrashAtWork { process, boot } => {
                if self.is_boot(process, boot) {
                    self.crash_at_work(process);
                }
            }
            Event::KeepEpoch { process, boot, epoch } => {
                if self.is_boot(process, boot) {
                    self.keep_epoch(process, epoch);
                }
            }
            Event::Start(process) => self.start(process),
            Event::StartAgain(device) => self.start_again(device),
            Event::PutBack(device) => self.put_machine_back(device),
            Event::Bytes { connection, to, bytes } => {
                self.trace.mix(5, now_ns, bytes.len() as u64);
                self.on_bytes(connection, to, bytes);
            }
            Event::End { connection, to } => self.on_end(connection, to),
            Event::Cut { connection } => self.on_cut(connection),
            Event::CutShort(connection) => self.cut(connection),
            Event::Pump(connection) => self.pump(connection),
            Event::ConnectionWake(connection) => self.on_connection_wake(connection),
            Event::ClientTurn(client) => self.client_turn(client),
            Event::DeviceTurn(device) => self.device_turn(device),
            Event::Connect(device) => self.device_connects(device),
            Event::Fault => self.next_fault(),
            Event::Unblock(device) => self.unblock(device),
            Event::Finale => self.begin_finale(),
            Event::FreeDisk(process) => {
                self.processes[process].set_filled(false, self.clock.now_ns());
            }
            Event::PhaseEnds(phase) => self.on_phase_ends(phase),
            Event::Check => self.on_check(),
            Event::Probe(device) => self.device_probes(device),
            Event::Live => self.on_live(),
            Event::HostileTurn(index) => self.hostile_turn(index),
            Event::Rekey => self.rekey(),
            Event::Image => self.on_image(),
            Event::GuestTurn(guest) => self.guest_turn(guest),
            Event::HostTurn(guest) => self.host_turn(guest),
            Event::GuestCheck(guest) => self.check_guest(guest),
            Event::Race => self.race(),
            Event::RaceAsk => self.race_ask(),
            Event::RaceEnds => self.end_race(),
            Event::Rush(moment) => self.rush(moment),
            Event::RushEnds => self.end_rush(),
            Event::Act(act) => self.act(act),
        }
    }

    fn is_boot(&self, process: ProcessId, boot: u64) -> bool {
        let process = &self.processes[process];
        process.boot == boot && process.running.is_some()
    }

    pub(crate) fn fail(&mut self, failure: Failure) {
        if self.failure.is_none() {
            self.line(format!("FAILED {failure}"));
            self.failure = Some(failure);
        }
    }

    pub(crate) fn line(&mut self, text: String) {
        let now_ns = self.clock.now_ns();
        self.trace.mix_bytes(text.as_bytes());
        self.trace.line(now_ns, &text);
    }

    pub(crate) fn name(&self, process: ProcessId) -> String {
        if process == SERVER { "server".into() } else { format!("device {process}") }
    }

    fn sample_invariants(&mut self) {
        self.events_until_check -= 1;
        if self.events_until_check > 0 {
            return;
        }
        self.events_until_check = CHECK_EVERY;
        for process in &self.processes {
            let Some(running) = &process.running else { continue };
            running.racks.iter().flat_map(bigpeer_core::node::Rack::nodes).for_each(|node| {
                node.check_invariants();
            });
            running.journal.check_invariants();
            let fill = running.journal.fill();
            let load: usize = running
                .racks
                .iter()
                .flat_map(bigpeer_core::node::Rack::nodes)
                .map(bigpeer_core::node::Node::load)
                .sum();
            let load_max = LOAD_MAX + 2 * self.rush.open();
            if load > load_max || fill.pending_bytes > 4 * self.log_bytes_waiting_max() {
                let text = format!("{load} pieces of work and {} bytes wait", fill.pending_bytes);
                return self.fail(Failure::new("bounds", text));
            }
        }
    }

    /// Bytes of records that may wait in a log.
    fn log_bytes_waiting_max(&self) -> u64 {
        if self.bulk == Bulk::Large { 64 << 20 } else { 1 << 20 }
    }

    fn on_reply(&mut self, process: ProcessId, thread: u16, request: RequestId, reply: Reply) {
        let Some(running) = self.processes[process].running.as_mut() else { return };
        match reply {
            Reply::Rows(bytes) => {
                let (count, mut taken_ns) = (bytes.len() as u64, US);
                match running.askers.get_mut(&request) {
                    Some(Asker::Http { rows, .. } | Asker::Local { rows }) => {
                        if !rows.is_empty() {
                            rows.push(b',');
                        }
                        rows.extend_from_slice(&bytes);
                    }
                    Some(Asker::Guest { guest, ask }) => {
                        let (guest, ask) = (*guest, *ask);
                        taken_ns = self.on_guest_rows(guest, ask, &bytes);
                    }
                    _ => {}
                }
                let boot = self.processes[process].boot;
                let input = RackInput::Drained { request, bytes: count };
                let mail = Event::Mail { process, boot, from: None, thread, input };
                let delay_ns = taken_ns + self.delays.below(200 * US);
                self.clock.after(delay_ns, mail);
            }
            Reply::Done(outcome) => match running.askers.remove(&request) {
                Some(Asker::Http { connection, http, rows }) => {
                    self.respond(connection, http, api::response(&rows, &outcome));
                }
                Some(Asker::Local { rows }) => {
                    self.on_local_answer(process, api::local(&rows, &outcome));
                }
                Some(Asker::Setup) => self.on_setup_answer(&outcome),
                Some(Asker::Rekey) => self.on_rekey_answer(&outcome),
                Some(Asker::Act(act)) => self.on_act_answer(act, &outcome),
                Some(Asker::Guest { guest, ask }) => self.on_guest_answer(guest, ask, &outcome),
                Some(Asker::Host(guest)) => self.on_host_answer(guest, &outcome),
                Some(Asker::Racer(place)) => self.on_race_answer(place, &outcome),
                Some(Asker::Rush(read)) => self.on_rush_answer(read),
                None => {
                    self.fail(Failure::new("answers", format!("{request:?} was answered twice")));
                }
            },
        }
    }

    /// The process of a request is gone before it answered.
    fn on_vanished(&mut self, process: ProcessId, asker: Asker) {
        match asker {
            Asker::Http { .. }
            | Asker::Setup
            | Asker::Act(_)
            | Asker::Racer(_)
            | Asker::Rush(_) => {}
            Asker::Rekey => self.on_rekey_vanished(),
            Asker::Guest { guest, ask } => self.on_guest_vanished(guest, ask),
            Asker::Host(guest) => self.on_host_vanished(guest),
            Asker::Local { .. } => self.on_local_vanished(process),
        }
    }

    fn on_process_ready(&mut self, process: ProcessId) {
        if process == SERVER && self.phase == Phase::SettingUp(0) {
            return self.set_up();
        }
        self.on_ready_in_phase(process);
    }

    /// True while clients and devices work and faults happen.
    pub(crate) fn is_working(&self) -> bool {
        self.phase == Phase::Working
    }

    pub(crate) fn random_connection(&mut self) -> Option<(ConnectionId, Owner)> {
        let count = self.connections.len() as u64;
        let index = self.faults.below(count) as usize;
        self.connections.iter().nth(index).map(|(id, connection)| (*id, connection.owner))
    }

    pub(crate) fn saw(&mut self, seen: Seen) {
        self.coverage.saw(seen);
    }
}

/// How often invariants are walked, in events.
const CHECK_EVERY: u32 = 400;

/// Requests and tasks in progress in one process: clients and devices ask one thing at a time.
const LOAD_MAX: usize = 400;

/// The set-up ends within this time.
const SETUP_WITHIN_NS: u64 = 20 * SECOND;

/// Events that may wait at once; more is a leak or a storm.
const EVENTS_WAITING_MAX: usize = 100_000;

/// Events of one run; more is a livelock.
const EVENTS_MAX: u64 = 3_000_000;
