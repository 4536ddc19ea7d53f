//! The boot table: which boot of the process wrote which positions.

use bytes::{BufMut, Bytes, BytesMut};

use super::RESTORE_GAP;
use crate::ident::{BootId, Txn, Uuid};

/// The table keeps this many boots, the newest. A cursor of an older one is answered by reconciliation.
pub const BOOTS_MAX: usize = 1_024;

/// Bytes of one entry: boot id 16, first position 8 (little-endian).
const ENTRY_BYTES: usize = 24;

/// One boot of a process on this log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootEntry {
    /// The boot.
    pub boot: BootId,
    /// The position that its first record takes. Its last follows from the next entry: see [`BootTable::spans`].
    pub first: Txn,
}

/// The boots of a log in order, newest last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BootTable {
    entries: Vec<BootEntry>,
}

impl BootTable {
    /// The entries, oldest first.
    #[must_use]
    pub fn entries(&self) -> &[BootEntry] {
        &self.entries
    }

    /// The newest boot.
    #[must_use]
    pub fn newest(&self) -> Option<BootEntry> {
        self.entries.last().copied()
    }

    /// The entries, oldest first, each with the last position that its boot wrote: none for the running one.
    ///
    /// A boot on a restored directory begins [`RESTORE_GAP`] behind the end of the one before it. What lies
    /// between was written by nobody, or by a history that is lost.
    pub fn spans(&self) -> impl Iterator<Item = (BootEntry, Option<Txn>)> + '_ {
        self.entries.iter().enumerate().map(|(index, entry)| {
            let end = self.entries.get(index + 1).map(|next| {
                let is_restored = next.first.0 - entry.first.0 >= RESTORE_GAP;
                Txn(next.first.0.saturating_sub(if is_restored { RESTORE_GAP + 1 } else { 1 }))
            });
            (*entry, end)
        })
    }

    /// The boot that wrote `position`, if one did. The running boot may yet write whatever lies behind its first.
    #[must_use]
    pub fn boot_of(&self, position: Txn) -> Option<BootId> {
        let after = self.entries.partition_point(|entry| entry.first <= position);
        let (entry, end) = self.spans().nth(after.checked_sub(1)?)?;
        end.is_none_or(|end| position <= end).then_some(entry.boot)
    }

    /// True when `boot` wrote `position`: the test of a cursor.
    #[must_use]
    pub fn contains(&self, boot: BootId, position: Txn) -> bool {
        self.boot_of(position) == Some(boot)
    }

    /// Adds a boot, forgetting the oldest beyond [`BOOTS_MAX`].
    pub(crate) fn push(&mut self, entry: BootEntry) {
        assert!(
            self.newest().is_none_or(|newest| newest.first <= entry.first),
            "positions rise from boot to boot"
        );
        if self.entries.len() == BOOTS_MAX {
            self.entries.remove(0);
        }
        self.entries.push(entry);
    }

    /// True when this table is `earlier` restated, or `earlier` with one boot more.
    pub(crate) fn follows(&self, earlier: &Self) -> bool {
        let mut extended = earlier.clone();
        match self.newest() {
            Some(newest) if earlier.newest() != Some(newest) => {
                if earlier.newest().is_some_and(|last| last.first > newest.first) {
                    return false;
                }
                extended.push(newest);
            }
            _ => {}
        }
        *self == extended
    }

    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.entries.len() * ENTRY_BYTES);
        for entry in &self.entries {
            out.put_slice(&entry.boot.0.0);
            out.put_u64_le(entry.first.0);
        }
        out.freeze()
    }

    /// Reads a table; nothing when the bytes are none.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (entries, rest) = bytes.as_chunks::<ENTRY_BYTES>();
        if !rest.is_empty() || entries.len() > BOOTS_MAX {
            return None;
        }
        let entries: Vec<BootEntry> = entries
            .iter()
            .map(|entry| BootEntry {
                boot: BootId(Uuid(entry[..16].try_into().expect("sixteen bytes were sliced"))),
                first: Txn(u64::from_le_bytes(
                    entry[16..].try_into().expect("eight bytes were sliced"),
                )),
            })
            .collect();
        entries.is_sorted_by_key(|entry| entry.first).then_some(Self { entries })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(firsts: &[u64]) -> BootTable {
        let mut table = BootTable::default();
        for (index, &first) in firsts.iter().enumerate() {
            table.push(BootEntry { boot: BootId(Uuid([index as u8; 16])), first: Txn(first) });
        }
        table
    }

    #[test]
    fn a_position_belongs_to_the_last_boot_that_starts_at_or_before_it() {
        let table = table(&[1, 10, 10, 20]);
        assert_eq!(table.boot_of(Txn(0)), None);
        assert_eq!(table.boot_of(Txn(9)), Some(BootId(Uuid([0; 16]))));
        assert!(table.contains(BootId(Uuid([2; 16])), Txn(10)), "boot 1 wrote nothing");
        assert!(!table.contains(BootId(Uuid([1; 16])), Txn(10)));
        assert!(table.contains(BootId(Uuid([3; 16])), Txn(1 << 40)));
    }

    #[test]
    fn a_boot_on_a_restored_directory_does_not_lengthen_the_one_before_it() {
        let table = table(&[1, 10, 30 + RESTORE_GAP, 30 + RESTORE_GAP, 41 + RESTORE_GAP]);
        let ends: Vec<_> = table.spans().map(|(_, end)| end.map(|end| end.0)).collect();
        let (idle, last) = (29 + RESTORE_GAP, 40 + RESTORE_GAP);
        assert_eq!(ends, [Some(9), Some(29), Some(idle), Some(last), None]);
        assert!(table.contains(BootId(Uuid([1; 16])), Txn(29)));
        assert_eq!(table.boot_of(Txn(30)), None, "lost with the directory that was restored");
    }

    #[test]
    fn a_table_reads_back_and_follows_only_what_it_extends() {
        let old = table(&[1, 10]);
        let new = table(&[1, 10, 12]);
        assert_eq!(BootTable::decode(&new.encode()), Some(new.clone()));
        assert!(new.follows(&old) && new.follows(&new) && !old.follows(&new));
        assert!(!table(&[1, 11, 12]).follows(&old));
        assert_eq!(BootTable::decode(&[0; 23]), None);
    }

    #[test]
    fn a_full_table_forgets_its_oldest_boot() {
        let full = table(&(0..BOOTS_MAX as u64).collect::<Vec<_>>());
        let mut next = full.clone();
        next.push(BootEntry { boot: BootId(Uuid([255; 16])), first: Txn(5_000) });
        assert_eq!(next.entries().len(), BOOTS_MAX);
        assert_eq!(next.entries()[0].first, Txn(1));
        assert!(next.follows(&full));
    }
}
