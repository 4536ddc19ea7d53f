//! The content of one file: what is durable, and what was written since.

use std::collections::BTreeMap;

use super::{SECTOR_BYTES, Sector};
use crate::rng::Rng;

#[derive(Clone, Debug, Default)]
pub(super) struct File {
    pub(super) content: Vec<u8>,
    /// Sectors with versions that are not durable.
    pub(super) unsynced: BTreeMap<usize, Versions>,
    /// False until the first sync: the length is not durable either.
    pub(super) is_len_durable: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Versions {
    pub(super) durable: Sector,
    /// Oldest first; the last is what reads see.
    pub(super) written: Vec<Version>,
}

#[derive(Clone, Debug)]
pub(super) struct Version {
    pub(super) data: Sector,
    pub(super) done: u64,
    pub(super) is_lost: bool,
}

impl File {
    pub(super) fn grow(&mut self, len: usize) {
        self.content.resize(len, 0);
        self.is_len_durable = false;
    }

    pub(super) fn write_sector(&mut self, index: usize, data: Sector, done: u64) {
        let start = index * SECTOR_BYTES;
        let current = &mut self.content[start..start + SECTOR_BYTES];
        let durable: Sector = (&*current).try_into().expect("files are whole sectors");
        let versions =
            self.unsynced.entry(index).or_insert(Versions { durable, written: Vec::new() });
        versions.written.push(Version { data, done, is_lost: false });
        current.copy_from_slice(&data);
    }

    pub(super) fn sync(&mut self, issued: u64) -> u64 {
        self.is_len_durable = true;
        let mut synced_bytes = 0;
        self.unsynced.retain(|_, versions| {
            let covered = versions
                .written
                .iter()
                .rposition(|version| version.done <= issued && !version.is_lost);
            if let Some(index) = covered {
                versions.durable = versions.written[index].data;
                versions.written.drain(..=index);
                synced_bytes += SECTOR_BYTES as u64;
            }
            !versions.written.is_empty()
        });
        synced_bytes
    }

    pub(super) fn lose_sync(&mut self, issued: u64) {
        for version in self.unsynced.values_mut().flat_map(|versions| &mut versions.written) {
            version.is_lost |= version.done <= issued;
        }
    }

    pub(super) fn settle(&mut self, clock: u64) {
        for version in self.unsynced.values_mut().flat_map(|versions| &mut versions.written) {
            version.done = version.done.min(clock);
        }
    }

    /// Each sector falls to one of its versions: all to the oldest, all to the newest, or each by itself.
    pub(super) fn lose_power(&mut self, mood: u64, rng: &mut Rng) {
        for (index, versions) in std::mem::take(&mut self.unsynced) {
            let count = versions.written.len() as u64;
            let kept = match mood {
                0 => 0,
                1 => count,
                _ => rng.below(count + 1),
            };
            let data = match kept {
                0 => versions.durable,
                kept => versions.written[kept as usize - 1].data,
            };
            let start = index * SECTOR_BYTES;
            self.content[start..start + SECTOR_BYTES].copy_from_slice(&data);
        }
        if !self.is_len_durable {
            let sectors = (self.content.len() / SECTOR_BYTES) as u64;
            self.content.truncate(rng.below(sectors + 1) as usize * SECTOR_BYTES);
            self.is_len_durable = true;
        }
    }
}
