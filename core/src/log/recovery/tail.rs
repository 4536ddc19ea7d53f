//! The end of the log: tells a torn tail from damage, and says what of it must be overwritten or made durable before
//! anyone may build on it.

use super::mend::{Change, Mend};
use super::{Outcome, Recovery, RecoveryStep, Stage, root_dir};
use crate::log::group::GroupKind;
use crate::log::search::TailSearch;
use crate::log::segment::{LOG_DIR, segment_file};
use crate::log::{DamageKind, Io, LogError, TailCut, damaged};

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
        self.end_reading()
    }

    pub(super) fn check_end(&self) -> Result<(), LogError> {
        let (wanted, last) = (self.config.replay_from, self.walked().last);
        if last < wanted {
            let (number, offset_bytes) = self.end;
            return Err(damaged(number, offset_bytes, DamageKind::EndsBefore { wanted, last }));
        }
        self.check_unwritten(last)
    }

    /// Everything was read: what is left to do changes the disk.
    fn end_reading(&mut self) -> Outcome {
        let log = self.finish();
        Ok(RecoveryStep::Done(Box::new(log)))
    }

    /// Plans the changes that come before this log is written, in order. A process that was killed may have left
    /// names that are visible and not durable. That goes for the directories too: the log's was made by the listing if
    /// it was missing, and the checkpoints' before, since a checkpoint is looked for first.
    pub(super) fn plan_mend(&mut self) -> Mend {
        let mut changes: Vec<_> = self.leftovers.drain(..).map(Change::Delete).collect();
        changes.push(Change::SyncDir(root_dir()));
        changes.push(Change::SyncDir(LOG_DIR.into()));
        for &(segment, from_bytes, to_bytes) in &self.cuts {
            changes.push(Change::Overwrite { segment, from_bytes, to_bytes });
        }
        changes.extend(self.cuts.iter().map(|&(segment, ..)| Change::Sync(segment)));
        let (segment, to_bytes) = self.end;
        // A spare segment behind the spare one was made by a process whose switch did not survive.
        let extras = self.files.split_off(&(segment + 2));
        changes.extend(extras.into_keys().rev().map(|extra| Change::Delete(segment_file(extra))));
        let from_bytes = self.proven_bytes;
        if from_bytes < to_bytes {
            changes.push(Change::Rewrite { segment, from_bytes, to_bytes });
        }
        changes.push(Change::Sync(segment));
        Mend::new(changes)
    }
}
