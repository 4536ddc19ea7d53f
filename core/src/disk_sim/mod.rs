//! A disk in memory that tells what was written from what is durable, for tests and for the simulator.
//!
//! It keeps the rules of [`crate::disk`] and gives away nothing more: completions come in a seeded order; a sync
//! covers only writes that had completed when it was issued; after [`VirtualDisk::crash`] every 512-byte sector
//! holds what was last synced there or any version written since, each sector for itself, and of the creations,
//! renames and deletions since the last `SyncDir` any subset has happened. A directory that `List` made is such a
//! creation in its parent: until the parent is synced it may be gone with all that lies in it, synced or not.
//! Everything follows from the seed.
//!
//! A driver hands in commands with [`submit`](VirtualDisk::submit) and takes completions with
//! [`step`](VirtualDisk::step) until it returns nothing.

mod file;
mod names;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::disk::{DiskCommand, DiskDone, DiskError, DiskOp, DiskReply};
use crate::rng::{Rng, Seed};

use file::File;
use names::{Change, NameChange, Names, parent, parents};

/// What a disk writes whole or not at all.
pub const SECTOR_BYTES: usize = 512;

type Sector = [u8; SECTOR_BYTES];

/// Odds of faults, each "one in so many" commands; zero is never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultOdds {
    /// Reads that fail.
    pub read: u64,
    /// Writes that fail; what they wrote is then unknown.
    pub write: u64,
    /// Syncs that fail. What a file's failed sync should have covered is never made durable: the disk takes it
    /// for clean. After a directory's failed sync another one may succeed.
    pub sync: u64,
    /// Creations, renames and deletions that fail.
    pub name: u64,
    /// Writes and syncs of files that find no space, as on a volume that copies on write. What such a sync should have
    /// covered is taken for clean, like that of one that fails.
    pub full: u64,
    /// Commands that are refused before anything is done, for want of a descriptor.
    pub again: u64,
}

/// The kind of a command, to make the next one fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandKind {
    /// `Read`.
    Read,
    /// `Write`.
    Write,
    /// `Sync`.
    Sync,
    /// `SyncDir`.
    SyncDir,
    /// `Create`.
    Create,
    /// `Rename`.
    Rename,
    /// `Delete`.
    Delete,
    /// `List`.
    List,
}

/// A disk in memory. See the module.
#[derive(Clone, Debug)]
pub struct VirtualDisk {
    rng: Rng,
    /// The names as processes see them.
    names: Names,
    /// The names as of the last `SyncDir` of their directory.
    durable_names: Names,
    name_changes: Vec<NameChange>,
    files: BTreeMap<u64, File>,
    next_file: u64,
    pending: Vec<Pending>,
    /// Counts issued and completed commands: the order that syncs are judged by.
    clock: u64,
    capacity_bytes: u64,
    is_read_only: bool,
    odds: FaultOdds,
    fail_next: Vec<(CommandKind, DiskError)>,
    synced_bytes: u64,
}

#[derive(Clone, Debug)]
struct Pending {
    op: DiskOp,
    command: DiskCommand,
    issued: u64,
}

impl VirtualDisk {
    /// An empty disk of unlimited size.
    #[must_use]
    pub fn new(seed: &Seed) -> Self {
        Self {
            rng: Rng::new(seed, "virtual disk"),
            names: Names::default(),
            durable_names: Names::default(),
            name_changes: Vec::new(),
            files: BTreeMap::new(),
            next_file: 0,
            pending: Vec::new(),
            clock: 0,
            capacity_bytes: u64::MAX,
            is_read_only: false,
            odds: FaultOdds::default(),
            fail_next: Vec::new(),
            synced_bytes: 0,
        }
    }

    /// Limits the disk: a `Create` with what it must keep free, or a `Write` that makes its file longer, fails with
    /// `Full` beyond it.
    pub fn set_capacity(&mut self, bytes: u64) {
        self.capacity_bytes = bytes;
    }

    /// Mounts the disk to be read alone, or to be written again: meanwhile what would change a file or a name fails,
    /// and so does a sync of a file, whose writes before that are then taken for clean.
    pub fn set_read_only(&mut self, is_read_only: bool) {
        self.is_read_only = is_read_only;
    }

    /// Sets how often commands fail.
    pub fn set_faults(&mut self, odds: FaultOdds) {
        self.odds = odds;
    }

    /// How often commands fail at present.
    #[must_use]
    pub fn faults(&self) -> FaultOdds {
        self.odds
    }

    /// Makes the next command of this kind fail.
    pub fn fail_next(&mut self, kind: CommandKind, error: DiskError) {
        self.fail_next.push((kind, error));
    }

    /// Takes a command. It is carried out when it completes, at the latest.
    pub fn submit(&mut self, op: DiskOp, command: DiskCommand) {
        self.clock += 1;
        self.pending.push(Pending { op, command, issued: self.clock });
    }

    /// Carries out one pending command, drawn at random, and returns its completion.
    pub fn step(&mut self) -> Option<DiskDone> {
        let index = self.rng.below(self.pending.len() as u64) as usize;
        (index < self.pending.len()).then(|| self.complete_at(index))
    }

    /// Carries out the given pending command, for drivers that draw the order themselves.
    pub fn complete(&mut self, op: DiskOp) -> Option<DiskDone> {
        let index = self.pending.iter().position(|pending| pending.op == op)?;
        Some(self.complete_at(index))
    }

    /// The commands that have not completed, in the order of their submission.
    pub fn pending(&self) -> impl Iterator<Item = (DiskOp, &DiskCommand)> {
        self.pending.iter().map(|pending| (pending.op, &pending.command))
    }

    /// True when every command has completed.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.pending.is_empty()
    }

    /// The power fails. What was not durable survives in part, as the seed decides; commands that had not
    /// completed may have happened in part as well.
    pub fn crash(&mut self) {
        self.carry_out_in_part();
        let mood = self.rng.below(4);
        for file in self.files.values_mut() {
            file.lose_power(mood, &mut self.rng);
        }
        let changes = std::mem::take(&mut self.name_changes);
        self.names.clone_from(&self.durable_names);
        for change in changes {
            let happened = match mood {
                0 => false,
                1 => true,
                _ => self.rng.one_in(2),
            };
            if happened {
                self.names.apply(&change.change);
            }
        }
        self.names.drop_unreachable();
        self.durable_names.clone_from(&self.names);
        let names = &self.names;
        self.files.retain(|file, _| names.files().any(|(_, named)| named == *file));
    }

    /// The process is killed, and the machine goes on: what was written is still read, and still not durable.
    /// Commands that had not completed may have happened in part.
    pub fn kill(&mut self) {
        self.carry_out_in_part();
    }

    /// The content of a file as a read would see it.
    #[must_use]
    pub fn content(&self, name: &str) -> Option<&[u8]> {
        self.names.get(name).map(|file| &self.files[&file].content[..])
    }

    /// Names and lengths of all files, sorted by name.
    pub fn files(&self) -> impl Iterator<Item = (&str, u64)> {
        self.names.files().map(|(name, file)| (name, self.files[&file].content.len() as u64))
    }

    /// Bit rot: flips one bit, durably. Nothing happens outside the file.
    pub fn flip_bit(&mut self, name: &str, offset_bytes: u64, bit: u8) {
        self.rot(name, offset_bytes, |byte| byte ^ (1 << (bit & 7)));
    }

    /// Bit rot: overwrites bytes, durably, as far as they lie inside the file.
    pub fn overwrite(&mut self, name: &str, offset_bytes: u64, bytes: &[u8]) {
        for (index, &byte) in bytes.iter().enumerate() {
            self.rot(name, offset_bytes + index as u64, |_| byte);
        }
    }

    /// Puts a durable file in place, as a restore would.
    pub fn install(&mut self, name: &str, content: &[u8]) {
        self.next_file += 1;
        let file = File { content: content.to_vec(), is_len_durable: true, ..File::default() };
        self.files.insert(self.next_file, file);
        parents(name).for_each(|dir| self.install_dir(dir));
        let name = name.to_owned();
        self.change_durably(&Change::Create { name, file: self.next_file });
    }

    /// Puts a durable directory in place.
    pub fn install_dir(&mut self, dir: &str) {
        self.change_durably(&Change::MakeDir { name: dir.to_owned() });
    }

    /// Removes a file durably, as a careless operator would.
    pub fn remove(&mut self, name: &str) {
        self.change_durably(&Change::Delete { name: name.to_owned() });
    }

    /// Bytes of sectors that syncs have made durable so far: a measure of write amplification.
    #[must_use]
    pub fn synced_bytes(&self) -> u64 {
        self.synced_bytes
    }

    fn rot(&mut self, name: &str, offset_bytes: u64, change: impl Fn(u8) -> u8) {
        let Some(id) = self.names.get(name) else { return };
        let file = self.files.get_mut(&id).expect("a name leads to a file");
        let offset = offset_bytes as usize;
        if let Some(byte) = file.content.get_mut(offset) {
            *byte = change(*byte);
            if let Some(versions) = file.unsynced.get_mut(&(offset / SECTOR_BYTES)) {
                let byte = &mut versions.durable[offset % SECTOR_BYTES];
                *byte = change(*byte);
                for version in &mut versions.written {
                    let byte = &mut version.data[offset % SECTOR_BYTES];
                    *byte = change(*byte);
                }
            }
        }
    }

    fn complete_at(&mut self, index: usize) -> DiskDone {
        let Pending { op, command, issued } = self.pending.remove(index);
        self.clock += 1;
        let result = match self.fault(&command) {
            Some(error) => {
                self.carry_out_failed(&command, issued, &error);
                Err(error)
            }
            None => self.carry_out(&command, issued),
        };
        DiskDone { op, result }
    }

    fn fault(&mut self, command: &DiskCommand) -> Option<DiskError> {
        let kind = kind_of(command);
        if let Some(index) = self.fail_next.iter().position(|(wanted, _)| *wanted == kind) {
            return Some(self.fail_next.remove(index).1);
        }
        let only_looks =
            matches!(kind, CommandKind::Read | CommandKind::List | CommandKind::SyncDir);
        if self.is_read_only && !only_looks {
            return Some(DiskError::ReadOnly);
        }
        if self.odds.again > 0 && self.rng.one_in(self.odds.again) {
            return Some(DiskError::Again("no descriptor is left".into()));
        }
        let may_lack_space = matches!(kind, CommandKind::Write | CommandKind::Sync);
        if may_lack_space && self.odds.full > 0 && self.rng.one_in(self.odds.full) {
            return Some(DiskError::Full);
        }
        let odds = match kind {
            CommandKind::Read | CommandKind::List => self.odds.read,
            CommandKind::Write => self.odds.write,
            CommandKind::Sync | CommandKind::SyncDir => self.odds.sync,
            CommandKind::Create | CommandKind::Rename | CommandKind::Delete => self.odds.name,
        };
        (odds > 0 && self.rng.one_in(odds)).then(|| DiskError::Io("injected".into()))
    }

    /// A failed sync marks what it covered as clean without having written it: no later sync will.
    fn carry_out_failed(&mut self, command: &DiskCommand, issued: u64, error: &DiskError) {
        match command {
            _ if matches!(error, DiskError::Again(_)) => {}
            DiskCommand::Write { .. } if *error == DiskError::ReadOnly => {}
            DiskCommand::Sync { file } => {
                if let Some(file) = self.file_mut(file) {
                    file.lose_sync(issued);
                }
            }
            DiskCommand::Write { file, offset_bytes, data } => {
                // The command has failed already: a second error adds nothing.
                let _ = self.write(file, *offset_bytes, data, u64::MAX, 2);
            }
            _ => {}
        }
    }

    fn carry_out(&mut self, command: &DiskCommand, issued: u64) -> Result<DiskReply, DiskError> {
        match command {
            DiskCommand::List { dir } => {
                self.make_dir(dir);
                Ok(DiskReply::Listed(self.list(dir)))
            }
            DiskCommand::Create { file, len_bytes, keep_free_bytes } => {
                self.create(file, *len_bytes, *keep_free_bytes)
            }
            DiskCommand::Write { file, offset_bytes, data } => {
                let done = self.clock;
                self.write(file, *offset_bytes, data, done, 0)
            }
            DiskCommand::Sync { file } => {
                let file = self.file_mut(file).ok_or(DiskError::NotFound)?;
                let synced_bytes = file.sync(issued);
                self.synced_bytes += synced_bytes;
                Ok(DiskReply::Done)
            }
            DiskCommand::SyncDir { dir } => {
                if !self.names.has_dir(dir) {
                    return Err(DiskError::NotFound);
                }
                self.sync_dir(dir, issued);
                Ok(DiskReply::Done)
            }
            DiskCommand::Rename { from, to } => {
                let file = self.names.get(from).ok_or(DiskError::NotFound)?;
                let (from, to) = (from.to_string(), to.to_string());
                self.change(Change::Rename { from, to, file });
                Ok(DiskReply::Done)
            }
            DiskCommand::Delete { file } => {
                self.names.get(file).ok_or(DiskError::NotFound)?;
                self.change(Change::Delete { name: file.to_string() });
                Ok(DiskReply::Done)
            }
            DiskCommand::Read { file, offset_bytes, len_bytes } => {
                let content = self.content(file).ok_or(DiskError::NotFound)?;
                let start = content.len().min(*offset_bytes as usize);
                let end = content.len().min(start + *len_bytes as usize);
                Ok(DiskReply::Read(Bytes::copy_from_slice(&content[start..end])))
            }
        }
    }

    fn used_bytes(&self) -> u64 {
        self.files.values().map(|file| file.content.len() as u64).sum()
    }

    fn list(&self, dir: &str) -> Vec<(String, u64)> {
        let in_dir = self.files().filter_map(|(name, len_bytes)| {
            let base = name.rsplit_once('/').map_or(name, |(_, base)| base);
            (parent(name) == dir).then(|| (base.to_owned(), len_bytes))
        });
        in_dir.collect()
    }

    fn create(
        &mut self,
        name: &str,
        len_bytes: u64,
        keep_free_bytes: u64,
    ) -> Result<DiskReply, DiskError> {
        if !self.names.has_dir(parent(name)) {
            return Err(DiskError::NotFound);
        }
        let needed_bytes = len_bytes.saturating_add(keep_free_bytes);
        if self.used_bytes().saturating_add(needed_bytes) > self.capacity_bytes {
            return Err(DiskError::Full);
        }
        self.next_file += 1;
        let file = File { content: vec![0; len_bytes as usize], ..File::default() };
        self.files.insert(self.next_file, file);
        self.change(Change::Create { name: name.to_owned(), file: self.next_file });
        Ok(DiskReply::Done)
    }

    /// Writes sectors; with `skip_odds` about one in so many is left out.
    fn write(
        &mut self,
        name: &str,
        offset_bytes: u64,
        data: &[u8],
        done: u64,
        skip_odds: u64,
    ) -> Result<DiskReply, DiskError> {
        let offset = offset_bytes as usize;
        assert!(offset.is_multiple_of(SECTOR_BYTES), "writes start on a sector");
        assert!(data.len().is_multiple_of(SECTOR_BYTES), "writes are whole sectors");
        let id = self.names.get(name).ok_or(DiskError::NotFound)?;
        let used_bytes = self.used_bytes();
        let file = self.files.get_mut(&id).expect("a name leads to a file");
        let more_bytes = (offset + data.len()).saturating_sub(file.content.len()) as u64;
        if used_bytes + more_bytes > self.capacity_bytes && more_bytes > 0 {
            return Err(DiskError::Full);
        }
        if offset + data.len() > file.content.len() {
            file.grow(offset + data.len());
        }
        for (index, sector) in data.chunks_exact(SECTOR_BYTES).enumerate() {
            if skip_odds == 0 || !self.rng.one_in(skip_odds) {
                let sector = sector.try_into().expect("chunks are whole sectors");
                file.write_sector(offset / SECTOR_BYTES + index, sector, done);
            }
        }
        Ok(DiskReply::Done)
    }

    fn make_dir(&mut self, dir: &str) {
        for name in parents(dir).chain([dir]) {
            if !self.names.has_dir(name) {
                self.change(Change::MakeDir { name: name.to_owned() });
            }
        }
    }

    fn change(&mut self, change: Change) {
        self.names.apply(&change);
        self.name_changes.push(NameChange { done: self.clock, change });
        self.forget_files();
    }

    /// Forgets the files that no name leads to, now or after a crash.
    fn forget_files(&mut self) {
        let (names, durable, changes) = (&self.names, &self.durable_names, &self.name_changes);
        self.files.retain(|id, _| {
            let changed = changes.iter().any(|change| change.change.file() == Some(*id));
            changed || names.files().chain(durable.files()).any(|(_, named)| named == *id)
        });
    }

    fn change_durably(&mut self, change: &Change) {
        self.names.apply(change);
        self.durable_names.apply(change);
    }

    /// Names in a directory are durable in it, whether or not the directory is: see [`Names::drop_unreachable`].
    fn sync_dir(&mut self, dir: &str, issued: u64) {
        let durable = &mut self.durable_names;
        self.name_changes.retain(|change| {
            let is_covered = change.change.dir() == dir && change.done <= issued;
            if is_covered {
                durable.apply(&change.change);
            }
            !is_covered
        });
        self.forget_files();
    }

    fn carry_out_in_part(&mut self) {
        for Pending { command, issued, .. } in std::mem::take(&mut self.pending) {
            self.clock += 1;
            let happens = self.rng.one_in(2);
            match command {
                DiskCommand::Write { file, offset_bytes, data } => {
                    let skip_odds = self.rng.below(4);
                    if skip_odds != 1 {
                        // A killed process never hears of it: an error here is nobody's.
                        let _ = self.write(&file, offset_bytes, &data, u64::MAX, skip_odds);
                    }
                }
                command if happens => {
                    let _ = self.carry_out(&command, issued);
                }
                _ => {}
            }
        }
        // Whoever comes next issues its commands later than all of this.
        for file in self.files.values_mut() {
            file.settle(self.clock);
        }
    }

    fn file_mut(&mut self, name: &str) -> Option<&mut File> {
        let id = self.names.get(name)?;
        self.files.get_mut(&id)
    }
}

fn kind_of(command: &DiskCommand) -> CommandKind {
    match command {
        DiskCommand::List { .. } => CommandKind::List,
        DiskCommand::Create { .. } => CommandKind::Create,
        DiskCommand::Write { .. } => CommandKind::Write,
        DiskCommand::Sync { .. } => CommandKind::Sync,
        DiskCommand::SyncDir { .. } => CommandKind::SyncDir,
        DiskCommand::Rename { .. } => CommandKind::Rename,
        DiskCommand::Delete { .. } => CommandKind::Delete,
        DiskCommand::Read { .. } => CommandKind::Read,
    }
}
