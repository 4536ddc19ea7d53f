//! The fork guard: whether a directory is still the only place in which its actor authors, in the state in which it
//! last did.
//!
//! Each actor that has ever written a document stays in its vector, so a peer does not take a new one at each start. It
//! goes on with its epoch while four things hold, and draws another one otherwise:
//!
//! - The directory is where it was. `DIR/guard` is a file that nobody touches once it is made. What the system says
//!   about it (device, inode, moment of the last change), about `DIR/log` (inode) and about the machine (its id, where
//!   it has one) is recorded. A copy has other inodes, a file that was put back over itself a later change, a snapshot
//!   that is mounted elsewhere another device, and a clone of the machine another id, if it was given one.
//! - The log was not put back by itself. The record names the boot that wrote it and how far the log had come. No other
//!   boot may have come since, and the log may not end earlier.
//! - The kernel has not gone since: what a process read of its log and let others have may have been in the memory of
//!   the kernel alone; and an image of the disk that is put back, or a clone of the machine that kept its id, shows by
//!   its kernel alone. Where the system names no boot of its kernel (`/proc` is Linux), it never holds. [`EpochRecord`]
//!   decides this and what precedes it.
//! - No session has found by its nonces or cursors that the store was rolled back. Then core says so, and the new epoch
//!   is recorded before anything else is done.
//!
//! `DIR/actor` is that record:
//!
//! ```text
//! epoch <16 hexadecimal digits>
//! guard <what the system said, 64 hexadecimal digits>
//! boot <UUID>
//! durable <the last position that the log had called durable>
//! kernel <UUID, or "unknown">
//! end <"open", or "sealed" once the log was>
//! ```
//!
//! That costs one actor for each boot of the machine that writes. What a rolled-back store writes before its next session
//! is not authored again, so a rollback has to show before the first edit. Two do not: an image of a machine with its
//! memory, and a file system that is put back under a kernel that runs on, inodes and all. The next session tells those,
//! by a nonce or a position.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bigpeer_core::ident::{BootId, Txn, Uuid};
use bigpeer_core::log::{BootEntry, LOG_DIR};
use bigpeer_core::node::EpochRecord;
use bigpeer_host::files::{read_small, sync_dir, write_whole};
use sha2::{Digest, Sha256};

use crate::directory::{DirectoryError, FILE_MODE, io_error};

/// A file that nobody touches.
pub(crate) const GUARD: &str = "guard";

/// The file of the record, in the directory.
pub(crate) const ACTOR: &str = "actor";

/// The machine, where the system names it.
const MACHINE_ID: &str = "/etc/machine-id";

/// The boot of the kernel, as a UUID. Only Linux names it.
const KERNEL_BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// The guard of one directory, for one start.
#[derive(Debug)]
pub(crate) struct ForkGuard {
    dir: PathBuf,
    /// The content of the record, or of the one that could not be written.
    record: EpochRecord,
    /// The record names the present epoch.
    is_kept: bool,
}

impl ForkGuard {
    /// Decides about the epoch of this start, whose log has just been opened: `drawn` when the guard does not hold.
    ///
    /// A directory that takes no files opens all the same. Then this start's epoch is recorded nowhere, and so that no
    /// later start takes it up again, the former record is removed; where that fails as well, this start draws.
    ///
    /// `boots` are those of the log, that of this start last.
    pub(crate) fn open(dir: &Path, boots: &[BootEntry], durable: Txn, drawn: u64) -> Self {
        Self::open_under(kernel(), dir, boots, durable, drawn)
    }

    fn open_under(
        kernel: Option<Uuid>,
        dir: &Path,
        boots: &[BootEntry],
        durable: Txn,
        drawn: u64,
    ) -> Self {
        let this = boots.last().expect("the boot of this start is in the table");
        let marks = marks(dir);
        let kept = read(dir)
            .filter(|(_, guard)| marks.as_ref() == Some(guard))
            .filter(|(record, _)| record.holds(boots, durable, kernel))
            .map(|(record, _)| record.epoch);
        let epoch = kept.unwrap_or(drawn);
        let boot = this.boot;
        let record = EpochRecord { epoch, boot, durable, kernel, is_sealed: false };
        let mut guard = Self { dir: dir.to_owned(), record, is_kept: false };
        guard.is_kept = guard.write().is_ok();
        if !guard.is_kept && guard.forget().is_err() {
            // The former record stands, and may hold once more: nothing is authored under its epoch meanwhile.
            guard.record.epoch = drawn;
        }
        guard
    }

    /// The epoch that this store authors under.
    pub(crate) fn epoch(&self) -> u64 {
        self.record.epoch
    }

    /// Another epoch begins: records it, durably, before anything is authored under it.
    ///
    /// # Errors
    ///
    /// When the record can be neither replaced nor removed: a later start would take up the retired epoch again.
    pub(crate) fn renew(&mut self, epoch: u64) -> Result<(), DirectoryError> {
        self.record.epoch = epoch;
        self.is_kept = self.write().is_ok();
        if self.is_kept { Ok(()) } else { self.forget() }
    }

    /// The log is sealed at `durable`, and whole on the disk.
    pub(crate) fn seal(&mut self, durable: Txn) {
        if self.is_kept {
            self.record = EpochRecord { durable, is_sealed: true, ..self.record };
            // What stands there already is true as well.
            let _ = self.write();
        }
    }

    /// The record may name an epoch that is not to be taken up again.
    fn forget(&self) -> Result<(), DirectoryError> {
        let name = self.dir.join(ACTOR);
        match fs::remove_file(&name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(io_error("remove", &name)(error))
            }
            _ => sync_dir(&self.dir).map_err(io_error("sync", &self.dir)),
        }
    }

    fn write(&self) -> io::Result<()> {
        if !self.dir.join(GUARD).exists() {
            write_whole(
                &self.dir,
                GUARD,
                b"Do not touch: see the documentation of bigpeer.\n",
                FILE_MODE,
            )?;
        }
        let guard = marks(&self.dir).ok_or(io::ErrorKind::Unsupported)?;
        let EpochRecord { epoch, boot, durable, kernel, is_sealed } = self.record;
        let kernel = kernel.map_or(UNKNOWN.to_owned(), |kernel| kernel.to_string());
        let end = if is_sealed { SEALED } else { OPEN };
        let text = format!(
            "epoch {epoch:016x}\nguard {guard}\nboot {boot}\ndurable {}\nkernel {kernel}\nend {end}\n",
            durable.0
        );
        write_whole(&self.dir, ACTOR, text.as_bytes(), FILE_MODE)
    }
}

/// The kernel of a system that does not name its boot.
const UNKNOWN: &str = "unknown";

/// The two ends of a log.
const OPEN: &str = "open";
const SEALED: &str = "sealed";

/// The record of an earlier start and its marks, if they can be read.
fn read(dir: &Path) -> Option<(EpochRecord, String)> {
    let text = read_small(&dir.join(ACTOR)).ok().flatten()?;
    let mut lines = text.lines();
    let mut field = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ');
    let epoch = u64::from_str_radix(field("epoch")?, 16).ok()?;
    let guard = field("guard")?.to_owned();
    let boot = BootId(field("boot")?.parse::<Uuid>().ok()?);
    let durable = Txn(field("durable")?.parse().ok()?);
    let kernel = match field("kernel")? {
        UNKNOWN => None,
        named => Some(named.parse::<Uuid>().ok()?),
    };
    let is_sealed = match field("end")? {
        OPEN => false,
        SEALED => true,
        _ => return None,
    };
    Some((EpochRecord { epoch, boot, durable, kernel, is_sealed }, guard))
}

/// The boot of the kernel, where the system names it.
fn kernel() -> Option<Uuid> {
    fs::read_to_string(KERNEL_BOOT).ok()?.trim().parse().ok()
}

/// The marks of the system, as one hash.
fn marks(dir: &Path) -> Option<String> {
    let guard: Metadata = fs::metadata(dir.join(GUARD)).ok()?;
    let log = fs::metadata(dir.join(LOG_DIR)).ok()?;
    // A container may have none, and no other system than Linux has.
    let machine = fs::read_to_string(MACHINE_ID).unwrap_or_default();
    let mut hasher = Sha256::new();
    hasher.update((machine.len() as u64).to_le_bytes());
    hasher.update(machine.as_bytes());
    for number in [guard.dev(), guard.ino(), log.ino()] {
        hasher.update(number.to_le_bytes());
    }
    hasher.update(guard.ctime().to_le_bytes());
    hasher.update(guard.ctime_nsec().to_le_bytes());
    Some(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Scratch;

    /// The epochs that a first start draws, and every later one.
    const FIRST: u64 = 1;
    const DRAWN: u64 = 2;

    fn boots(count: u8) -> Vec<BootEntry> {
        let entry = |n| BootEntry { boot: BootId(Uuid([n; 16])), first: Txn(u64::from(n)) };
        (1..=count).map(entry).collect()
    }

    /// A directory after its first start, which ended at position 100.
    fn started(name: &str) -> Scratch {
        let scratch = Scratch::new(name);
        fs::create_dir(scratch.path().join(LOG_DIR)).expect("temporary");
        let mut guard = ForkGuard::open(scratch.path(), &boots(1), Txn(0), FIRST);
        assert_eq!(guard.epoch(), FIRST);
        guard.seal(Txn(100));
        scratch
    }

    fn epoch_at(dir: &Path, boot: u8, durable: u64) -> u64 {
        ForkGuard::open(dir, &boots(boot), Txn(durable), DRAWN).epoch()
    }

    #[test]
    fn a_directory_that_nobody_touched_goes_on_with_its_epoch() {
        let scratch = started("guard");
        for boot in 2..10 {
            assert_eq!(epoch_at(scratch.path(), boot, 100), FIRST);
        }
    }

    #[test]
    fn a_copy_draws_another_epoch_and_the_first_goes_on() {
        let (first, copy) = (started("guard"), Scratch::new("guard-copy"));
        fs::create_dir(copy.path().join(LOG_DIR)).expect("temporary");
        for name in [GUARD, ACTOR] {
            fs::copy(first.path().join(name), copy.path().join(name)).expect("temporary");
        }
        assert_eq!(epoch_at(copy.path(), 2, 100), DRAWN);
        assert_eq!(epoch_at(first.path(), 2, 100), FIRST);
        // From then on each has its own.
        assert_eq!(ForkGuard::open(copy.path(), &boots(3), Txn(100), 9).epoch(), DRAWN);
    }

    #[test]
    fn a_directory_that_was_put_back_over_itself_draws_another_epoch() {
        let scratch = started("guard");
        let guard = scratch.path().join(GUARD);
        let bytes = fs::read(&guard).expect("it is there");
        // The inode is the same, its last change is not.
        fs::write(&guard, bytes).expect("temporary");
        assert_eq!(epoch_at(scratch.path(), 2, 100), DRAWN);

        let scratch = started("guard");
        let log = scratch.path().join(LOG_DIR);
        fs::rename(&log, scratch.path().join("aside")).expect("temporary");
        fs::create_dir(&log).expect("temporary");
        assert_eq!(epoch_at(scratch.path(), 2, 100), DRAWN);
    }

    #[test]
    fn a_log_that_was_put_back_beside_its_guard_draws_another_epoch() {
        assert_eq!(epoch_at(started("shorter").path(), 2, 99), DRAWN);
        let scratch = started("forgotten");
        assert_eq!(epoch_at(scratch.path(), 2, 100), FIRST);
        // The log knows nothing of the second start.
        let other = [boots(1), boots(9)[8..].to_vec()].concat();
        assert_eq!(ForkGuard::open(scratch.path(), &other, Txn(100), DRAWN).epoch(), DRAWN);
    }

    #[test]
    fn a_store_whose_kernel_has_gone_draws_another_epoch_sealed_or_not() {
        let kernels = [Some(Uuid([1; 16])), Some(Uuid([2; 16])), None];
        for (sealed, later) in [(false, 0), (false, 1), (false, 2), (true, 0), (true, 1), (true, 2)]
        {
            let scratch = started("kernel");
            let open = |kernel: Option<Uuid>, boot, drawn| {
                ForkGuard::open_under(kernel, scratch.path(), &boots(boot), Txn(100), drawn)
            };
            let mut guard = open(kernels[0], 2, FIRST);
            if sealed {
                guard.seal(Txn(100));
            }
            let expected = if later == 0 { FIRST } else { DRAWN };
            assert_eq!(open(kernels[later], 3, DRAWN).epoch(), expected, "{sealed} {later}");
        }
    }

    #[test]
    fn the_system_names_the_boot_of_its_kernel() {
        assert_eq!(kernel().is_some(), cfg!(target_os = "linux"));
    }

    #[test]
    fn a_new_epoch_is_the_one_of_the_next_start() {
        let scratch = started("guard");
        let mut guard = ForkGuard::open(scratch.path(), &boots(2), Txn(100), DRAWN);
        guard.renew(7).expect("temporary");
        drop(guard);
        assert_eq!(epoch_at(scratch.path(), 3, 100), 7);
    }

    #[test]
    fn a_new_epoch_that_cannot_be_recorded_takes_the_former_record_away() {
        let scratch = started("guard");
        let mut guard = ForkGuard::open(scratch.path(), &boots(2), Txn(100), DRAWN);
        // In the place of the file that would be renamed.
        fs::create_dir(scratch.path().join("actor.new")).expect("temporary");
        guard.renew(7).expect("it is forgotten");
        guard.seal(Txn(200));
        assert!(!scratch.path().join(ACTOR).exists());
        fs::remove_dir(scratch.path().join("actor.new")).expect("temporary");
        assert_eq!(epoch_at(scratch.path(), 3, 200), DRAWN);
    }

    #[test]
    fn a_directory_that_takes_no_files_has_another_epoch_at_each_start() {
        let scratch = started("guard");
        fs::create_dir(scratch.path().join("actor.new")).expect("temporary");
        assert_eq!(epoch_at(scratch.path(), 2, 100), FIRST);
        assert_eq!(epoch_at(scratch.path(), 3, 100), DRAWN, "nobody recorded the second start");
    }
}
