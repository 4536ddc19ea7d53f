//! Opening: the log is read to its end before the peer takes its first command.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use bigpeer_core::ident::{AppId, BootId, PartitionId, Txn, Uuid};
use bigpeer_core::log::{LogConfig, LogOpened};
use bigpeer_core::node::{
    Journal, JournalOutput, NodeConfig, NodeLimits, Rack, RackConfig, RackInput, RackOutput,
    SyncIdentity,
};
use bigpeer_core::rng::{Rng, Seed};
use bigpeer_core::seam::Now;
use bigpeer_core::sync::BootTable;
use bigpeer_host::volume::volume;

use super::observers::Observers;
use super::statements::Statements;
use super::sync::SyncLink;
use super::{Engine, Phase};
use crate::clock::Clock;
use crate::command::{Command, Inbox};
use crate::directory::Directory;
use crate::disk::Disk;
use crate::endpoint::Endpoint;
use crate::error::PeerError;
use crate::fork_guard::ForkGuard;
use crate::random;
use crate::status::StatusCell;
use crate::wake::Sleeper;

/// A device's documents are one partition: it has one thread.
const PARTITIONS: u16 = 1;

/// A device has less room for a log than a server.
const CHECKPOINT_AFTER_BYTES: u64 = 32 << 20;

/// Bytes of a segment of the log. Small beside a server's: two of them are written full before the first document.
const SEGMENT_BYTES: u64 = 4 << 20;

/// What an engine is made of.
pub(crate) struct OpenParts {
    pub(crate) directory: Directory,
    pub(crate) app: AppId,
    pub(crate) name: Box<str>,
    pub(crate) endpoint: Option<Endpoint>,
    pub(crate) token: Option<Box<str>>,
    pub(crate) commands: Receiver<Command>,
    pub(crate) inbox: Inbox,
    pub(crate) sleeper: Sleeper,
    pub(crate) status: Arc<StatusCell>,
}

/// Numbers that are new at every start: no two starts share a boot or a stream of randomness. The epoch is for a
/// start whose fork guard does not hold.
#[derive(Clone, Copy, Debug)]
struct Fresh {
    boot: BootId,
    epoch: u64,
    seed: Seed,
}

impl Fresh {
    fn draw() -> Result<Self, PeerError> {
        let boot = BootId(Uuid(random::bytes()?));
        let epoch = u64::from_le_bytes(random::bytes()?);
        Ok(Self { boot, epoch, seed: random::bytes()? })
    }
}

impl Engine {
    /// Opens the log and replays it.
    pub(crate) fn open(parts: OpenParts) -> Result<Self, PeerError> {
        let OpenParts { mut directory, app, name, endpoint, token, .. } = parts;
        let fresh = Fresh::draw()?;
        let disk = Disk::start(&directory.path, parts.inbox.clone())?;
        let clock = Clock::start();
        let mut now = Now { mono: clock.mono(), wall: Clock::wall(), ..Now::default() };
        let volume_bytes = volume(&directory.path).map(|volume| volume.size_bytes);
        let mut config = LogConfig::new(fresh.boot, fresh.seed);
        if let Some(volume_bytes) = volume_bytes {
            config = config.on_volume(volume_bytes);
        }
        config.segment_bytes = config.segment_bytes.min(SEGMENT_BYTES);
        config.expected = directory.log_expected();
        let mut journal = Journal::open(config, PARTITIONS, now);
        journal.set_checkpoint_after(CHECKPOINT_AFTER_BYTES);
        if let Some(volume_bytes) = volume_bytes {
            journal.set_volume(volume_bytes);
        }
        let mut opening = Opening {
            journal,
            rack: None,
            guard: None,
            fresh,
            directory: &mut directory,
            name,
            changed: Txn(0),
        };
        while !opening.advance(&disk, &mut now)? {
            // Nobody but the disk has the inbox yet.
            let again_at = opening.journal.poll_timeout();
            let patience = again_at.map_or(Duration::MAX, |at| at.since(clock.mono()));
            let command = parts.commands.recv_timeout(patience);
            now.mono = clock.mono();
            match command {
                Ok(Command::Disk(done)) => opening.journal.handle_disk(done, now),
                Ok(_) => {}
                // The disk was short of something, and the log asks once more.
                Err(RecvTimeoutError::Timeout) => opening.journal.handle_timeout(now),
                Err(RecvTimeoutError::Disconnected) => unreachable!("the inbox is ours as well"),
            }
        }
        let Opening { journal, rack, guard, changed, .. } = opening;
        parts.status.update(|status| status.changed = changed);

        let mut rng = Rng::new(&fresh.seed, "peer");
        Ok(Self {
            commands: parts.commands,
            inbox: parts.inbox.clone(),
            sleeper: parts.sleeper,
            clock,
            now,
            app,
            journal,
            is_log_failed: false,
            is_broken: false,
            rack: rack.expect("a log that was replayed was opened before"),
            statements: Statements::default(),
            observers: Observers::default(),
            link: SyncLink::new(app, endpoint, token, parts.inbox, rng.split(), changed),
            status: parts.status,
            phase: Phase::Running,
            disk,
            guard: guard.expect("it was opened with the log"),
            _directory: directory,
        })
    }
}

/// A log on its way from its first byte to its end.
struct Opening<'a> {
    journal: Journal,
    rack: Option<Rack>,
    guard: Option<ForkGuard>,
    fresh: Fresh,
    directory: &'a mut Directory,
    name: Box<str>,
    /// The last position that changed a document.
    changed: Txn,
}

impl Opening<'_> {
    /// Carries outputs; true once everything that was there has been replayed.
    fn advance(&mut self, disk: &Disk, now: &mut Now) -> Result<bool, PeerError> {
        let mut is_replayed = false;
        while let Some(output) = self.journal.poll_output() {
            match output {
                JournalOutput::Disk(op, command) => disk.submit(op, command),
                JournalOutput::Opened(opened) => {
                    self.directory.finish(opened.log_id)?;
                    // Recorded before anything can be authored.
                    let (boots, drawn) = (opened.boots.entries(), self.fresh.epoch);
                    let path = &self.directory.path;
                    let guard = ForkGuard::open(path, boots, opened.durable, drawn);
                    let fresh = Fresh { epoch: guard.epoch(), ..self.fresh };
                    self.rack = Some(make_rack(fresh, self.directory, &self.name, &opened));
                    self.guard = Some(guard);
                }
                JournalOutput::Committed { first, records, upto } => {
                    now.durable = upto;
                    now.oldest_read = upto;
                    let rack = self.rack.as_mut().expect("a log gives records once it is open");
                    rack.handle_input(RackInput::Committed { first, records, upto }, *now);
                    // Nobody asks for anything yet: there is no reason to look up between two of them.
                    while rack.has_backlog() {
                        rack.handle_input(RackInput::Time, *now);
                    }
                    self.take_rack_outputs()?;
                }
                JournalOutput::Restore { partition, at, part } => {
                    let rack = self.rack.as_mut().expect("a log gives parts once it is open");
                    rack.handle_input(RackInput::Restore { partition, at, part }, *now);
                    self.take_rack_outputs()?;
                }
                JournalOutput::Snapshot { partition, ask } => {
                    let rack = self.rack.as_mut().expect("what was replayed was opened before");
                    rack.handle_input(RackInput::Snapshot { partition, ask }, *now);
                    self.take_rack_outputs()?;
                }
                JournalOutput::Replayed => is_replayed = true,
                JournalOutput::Failed(error) => return Err(self.directory.log_error(error)),
                JournalOutput::Appended { .. }
                | JournalOutput::Checkpoint(_)
                | JournalOutput::Sealed { .. } => {}
            }
        }
        Ok(is_replayed)
    }

    fn take_rack_outputs(&mut self) -> Result<(), PeerError> {
        let rack = self.rack.as_mut().expect("it has just taken an input");
        while let Some(output) = rack.poll_output() {
            match output {
                RackOutput::Changed { upto, .. } => self.changed = self.changed.max(upto),
                RackOutput::Damaged { txn, cause } => {
                    let cause = format!("record {txn} of the log is damaged: {cause}");
                    return Err(PeerError::Stopped(cause));
                }
                // A rack that is only given records has nothing else to say.
                _ => {}
            }
        }
        Ok(())
    }
}

fn make_rack(fresh: Fresh, directory: &Directory, name: &str, opened: &LogOpened) -> Rack {
    let identity = directory.identity;
    let sync = SyncIdentity {
        store: identity.store,
        boots: BootTable::new(opened.log_id, &opened.boots),
        peer_key: identity.peer_key,
        name: name.into(),
    };
    let node = NodeConfig {
        partition: PartitionId(0),
        partitions: PARTITIONS,
        boot: fresh.boot,
        site: identity.peer_key.site(),
        epoch: fresh.epoch,
        seed: fresh.seed,
        pretend_cold: false,
        limits: NodeLimits::default(),
        identity: Arc::new(sync),
        is_device: true,
    };
    Rack::new(RackConfig { thread: 0, threads: 1, node, seed: fresh.seed })
}
