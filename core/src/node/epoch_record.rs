//! The epoch of a device over its starts: whether a store may go on as the actor under which it authored before.

use crate::ident::{BootId, Txn, Uuid};
use crate::log::BootEntry;
use crate::plant::{Plant, is_planted};

/// The record that the driver of a device keeps beside the log about the epoch that the store authors under. It is
/// durable before anything is authored under that epoch, and it is written anew at every start.
///
/// A start can read more of its log than is on the disk: groups that were written, whose sync was refused or never
/// answered, and which the kernel still held when another process asked. They count as there, go to peers and into
/// copies of the directory, and are gone once the kernel is. A store that lost them must not author as the same actor:
/// its next dots are above those, so that whoever has them would take them for seen and removed.
///
/// Hence no epoch outlives its kernel. Not even if the log was sealed, after which everything in it is on the disk: an
/// image of a machine that was switched off is such a store, and once it is put back, or started twice, two histories
/// author as one actor. Of all that a start can look at, the boot of the kernel alone shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochRecord {
    /// The epoch that the store authors under.
    pub epoch: u64,
    /// The boot of the log in which this was written.
    pub boot: BootId,
    /// The last position that this boot had called durable.
    pub durable: Txn,
    /// The boot of the kernel. `None` where the system does not tell one from another.
    pub kernel: Option<Uuid>,
    /// The log was sealed at `durable`, and all of it was on the disk.
    pub is_sealed: bool,
}

impl EpochRecord {
    /// Whether a start under `kernel` goes on with this epoch. Its log has just been opened, with these boots, that of
    /// this start last, and ends at `durable`.
    ///
    /// # Panics
    ///
    /// When `boots` lacks the boot of this start.
    #[must_use]
    pub fn holds(&self, boots: &[BootEntry], durable: Txn, kernel: Option<Uuid>) -> bool {
        let (_this, before) = boots.split_last().expect("the boot of this start is in the table");
        let is_last = before.last().is_some_and(|last| last.boot == self.boot);
        // A log that ends earlier was put back. One that was sealed got nothing more in that boot.
        let is_whole = match self.is_sealed {
            true => durable == self.durable,
            false => durable >= self.durable,
        };
        let is_same_kernel = kernel.is_some() && kernel == self.kernel;
        is_last && is_whole && (is_same_kernel || is_planted(Plant::LostKernelIgnored))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KERNEL: Option<Uuid> = Some(Uuid([7; 16]));
    const OTHER_KERNEL: Option<Uuid> = Some(Uuid([8; 16]));

    fn boots(count: u8) -> Vec<BootEntry> {
        let entry = |n| BootEntry { boot: BootId(Uuid([n; 16])), first: Txn(u64::from(n)) };
        (1..=count).map(entry).collect()
    }

    /// The record of the first boot, which had the log up to position 100.
    fn record(kernel: Option<Uuid>, is_sealed: bool) -> EpochRecord {
        EpochRecord { epoch: 5, boot: boots(1)[0].boot, durable: Txn(100), kernel, is_sealed }
    }

    #[test]
    fn an_epoch_outlives_a_killed_process_and_not_its_kernel() {
        let record = record(KERNEL, false);
        assert!(record.holds(&boots(2), Txn(100), KERNEL));
        assert!(record.holds(&boots(2), Txn(120), KERNEL), "it went on after the record");
        assert!(!record.holds(&boots(2), Txn(100), OTHER_KERNEL));
        assert!(!record.holds(&boots(2), Txn(120), OTHER_KERNEL));
    }

    #[test]
    fn a_sealed_log_carries_no_epoch_over_its_kernel() {
        let record = record(KERNEL, true);
        assert!(record.holds(&boots(2), Txn(100), KERNEL));
        assert!(!record.holds(&boots(2), Txn(100), OTHER_KERNEL), "an image that was put back");
    }

    #[test]
    fn where_kernels_cannot_be_told_apart_nothing_carries_an_epoch() {
        for is_sealed in [false, true] {
            assert!(!record(None, is_sealed).holds(&boots(2), Txn(100), None));
            assert!(!record(KERNEL, is_sealed).holds(&boots(2), Txn(100), None));
            assert!(!record(None, is_sealed).holds(&boots(2), Txn(100), KERNEL));
        }
    }

    #[test]
    fn an_epoch_does_not_outlive_a_log_that_was_put_back() {
        for is_sealed in [false, true] {
            let record = record(KERNEL, is_sealed);
            assert!(!record.holds(&boots(2), Txn(99), KERNEL), "it ends earlier");
            assert!(!record.holds(&boots(3), Txn(100), KERNEL), "another boot came since");
            assert!(!record.holds(&boots(1), Txn(100), KERNEL), "it knows nothing of that boot");
        }
        assert!(!record(KERNEL, true).holds(&boots(2), Txn(101), KERNEL), "it went on elsewhere");
    }
}
