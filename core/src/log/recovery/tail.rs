//! The end of the log: tells a torn tail from damage, overwrites what is cut, and makes the rest durable before
//! anyone may rely on it.

use bytes::Bytes;

use super::{Outcome, Recovery, Stage};
use crate::disk::DiskCommand;
use crate::log::group::{BLOCK_BYTES, GroupKind};
use crate::log::reader::READ_BYTES;
use crate::log::search::TailSearch;
use crate::log::segment::segment_file;
use crate::log::{DamageKind, Io, LogError, TailCut, damaged};

/// A cut tail is overwritten in writes of at most this size.
const ZERO_BYTES_MAX: u64 = 1 << 20;

impl Recovery {
    /// The last group that belongs to the log has been read.
    pub(super) fn on_end(&mut self, number: u64, offset_bytes: u64, io: &mut Io) -> Outcome {
        self.end = (number, offset_bytes);
        let (log, next) = (self.walked().log, self.walked().next);
        let search = TailSearch::new(log, number, offset_bytes, self.files[&number], next);
        self.stage = Stage::Searching(search);
        self.search_on(io)
    }

    pub(super) fn search_on(&mut self, io: &mut Io) -> Outcome {
        let Stage::Searching(search) = &self.stage else {
            unreachable!("only a search goes on searching")
        };
        let number = search.number();
        if let Some((offset_bytes, len_bytes)) = search.need() {
            return self.read(number, offset_bytes, len_bytes, io);
        }
        let (end_number, end_bytes) = self.end;
        let found = search.found();
        let from_bytes = search.start_bytes();
        if found.durable_position || (found.durable_offset && number == end_number) {
            // An end of segment lies between: what is durable in the next one starts with its header.
            if number != end_number && self.is_ended() {
                return Err(damaged(number, 0, DamageKind::SegmentHeader));
            }
            return Err(damaged(end_number, end_bytes, DamageKind::Group));
        }
        if found.durable_offset {
            return Err(damaged(number, 0, DamageKind::SegmentHeader));
        }
        if let Some(to_bytes) = found.headers_end_bytes {
            self.cuts.push((number, from_bytes, to_bytes));
            self.cut.get_or_insert(TailCut {
                file: segment_file(number),
                offset_bytes: from_bytes,
                len_bytes: to_bytes - from_bytes,
            });
        }
        let spare = number + 1;
        let search_spare = number == end_number
            && self.files.contains_key(&spare)
            && self.last_kind != Some(GroupKind::Seal);
        if search_spare {
            let (log, next) = (self.walked().log, self.walked().next);
            self.stage = Stage::Searching(TailSearch::new(log, spare, 0, self.files[&spare], next));
            return self.search_on(io);
        }
        self.check_end()?;
        self.overwrite(0, self.cuts.first().map_or(0, |cut| cut.1), io)
    }

    pub(super) fn check_end(&self) -> Result<(), LogError> {
        let (wanted, last) = (self.config.replay_from, self.walked().last);
        if last < wanted {
            let (number, offset_bytes) = self.end;
            return Err(damaged(number, offset_bytes, DamageKind::EndsBefore { wanted, last }));
        }
        self.check_unwritten(last)
    }

    /// What is cut must never come back: not after another crash, and not between groups written later.
    pub(super) fn overwrite(&mut self, index: usize, offset_bytes: u64, io: &mut Io) -> Outcome {
        let Some(&(number, _, to_bytes)) = self.cuts.get(index) else {
            return self.sync_cuts(0, io);
        };
        if offset_bytes >= to_bytes {
            let next_bytes = self.cuts.get(index + 1).map_or(0, |cut| cut.1);
            return self.overwrite(index + 1, next_bytes, io);
        }
        let len_bytes = (to_bytes - offset_bytes).min(ZERO_BYTES_MAX);
        self.stage = Stage::Overwriting { index, offset_bytes: offset_bytes + len_bytes };
        let file = segment_file(number);
        let data = Bytes::from(vec![0; len_bytes as usize]);
        self.issue(DiskCommand::Write { file: file.clone(), offset_bytes, data }, file, io)
    }

    pub(super) fn sync_cuts(&mut self, index: usize, io: &mut Io) -> Outcome {
        let Some(&(number, ..)) = self.cuts.get(index) else {
            return self.delete_extras(io);
        };
        self.stage = Stage::SyncingCuts { index };
        self.sync(number, io)
    }

    /// A spare segment behind the spare one was made by a process whose switch did not survive.
    pub(super) fn delete_extras(&mut self, io: &mut Io) -> Outcome {
        let (number, _) = self.end;
        if let Some((&extra, _)) = self.files.range(number + 2..).next_back() {
            self.files.remove(&extra);
            self.stage = Stage::DeletingExtras;
            let file = segment_file(extra);
            return self.issue(DiskCommand::Delete { file: file.clone() }, file, io);
        }
        self.reread(self.proven_bytes, io)
    }

    /// What no header states to be durable is written once more. If a sync failed and only the process was
    /// started again, the system may hold these bytes as clean without having written them, and no later sync
    /// would.
    pub(super) fn reread(&mut self, offset_bytes: u64, io: &mut Io) -> Outcome {
        let (number, end_bytes) = self.end;
        if offset_bytes >= end_bytes {
            self.stage = Stage::SyncingCurrent;
            return self.sync(number, io);
        }
        self.stage = Stage::Rereading { offset_bytes };
        let len_bytes = (end_bytes - offset_bytes).min(READ_BYTES) as u32;
        self.read(number, offset_bytes, len_bytes, io)
    }

    pub(super) fn rewrite(&mut self, offset_bytes: u64, data: Bytes, io: &mut Io) -> Outcome {
        if data.is_empty() || !(data.len() as u64).is_multiple_of(BLOCK_BYTES) {
            return Err(damaged(self.end.0, offset_bytes, DamageKind::Group));
        }
        self.stage = Stage::Rewriting { offset_bytes: offset_bytes + data.len() as u64 };
        let file = segment_file(self.end.0);
        self.issue(DiskCommand::Write { file: file.clone(), offset_bytes, data }, file, io)
    }
}

const _: () = assert!(ZERO_BYTES_MAX.is_multiple_of(BLOCK_BYTES), "writes are whole blocks");
