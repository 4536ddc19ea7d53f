//! Changes on the disk that come before anything is built on a log that was read: leftovers go, names become durable,
//! a torn tail is overwritten, and what no header proves durable is written once more.
//!
//! All of it may be put off: a volume that is full, or takes no writes, can be read all the same. Until it is done
//! nothing is appended, not even this boot's table. One command is out at a time.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::disk::{DiskCommand, DiskError, DiskOp, DiskReply, FileName};
use crate::log::group::BLOCK_BYTES;
use crate::log::reader::READ_BYTES;
use crate::log::segment::segment_file;
use crate::log::{AGAIN_RETRY, DamageKind, FULL_RETRY, Io, Lack, LogError, damaged, disk_error};
use crate::plant::{Plant, is_planted};
use crate::time::Instant;

/// A cut tail is overwritten in writes of at most this size.
const ZERO_BYTES_MAX: u64 = 1 << 20;

/// One change, or what is left of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// A file goes, if it is still there.
    Delete(FileName),
    /// Names in a directory become durable.
    SyncDir(FileName),
    /// Cut bytes are overwritten, and never come back: not after another crash, and not between groups written later.
    Overwrite { segment: u64, from_bytes: u64, to_bytes: u64 },
    /// Written once more as it is. If a sync failed and only the process was started again, the system may hold these
    /// bytes as clean without having written them, and no later sync would.
    Rewrite { segment: u64, from_bytes: u64, to_bytes: u64 },
    /// The first piece of a rewrite, which was read.
    Write { segment: u64, offset_bytes: u64, data: Bytes },
    /// A segment's writes become durable.
    Sync(u64),
}

/// The changes that are left, in order.
#[derive(Debug, Default)]
pub(crate) struct Mend {
    changes: VecDeque<Change>,
    /// Writes that are not synced, by segment. They are made again when the sync is refused.
    unsynced: Vec<(u64, Change)>,
    is_out: bool,
    retry_at: Option<Instant>,
    lack: Option<Lack>,
}

impl Mend {
    pub(crate) fn new(changes: impl IntoIterator<Item = Change>) -> Self {
        Self { changes: changes.into_iter().collect(), ..Self::default() }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.changes.is_empty()
    }

    /// The lack that the last try met, if it was that.
    pub(crate) fn lack(&self) -> Option<Lack> {
        self.lack
    }

    pub(crate) fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Begins the next change, unless one is under way or the time for another try has not come.
    pub(crate) fn work(&mut self, now: Instant, io: &mut Io) -> Option<DiskOp> {
        if self.is_out || self.retry_at.is_some_and(|at| now < at) {
            return None;
        }
        self.retry_at = None;
        let command = command(self.changes.front()?);
        self.is_out = true;
        Some(io.disk(command))
    }

    /// Takes the answer to the command that is out.
    ///
    /// # Errors
    ///
    /// Errors that do not pass by waiting.
    pub(crate) fn on_done(
        &mut self,
        result: Result<DiskReply, DiskError>,
        now: Instant,
    ) -> Result<(), LogError> {
        self.is_out = false;
        let change = self.changes.front().expect("a change is under way").clone();
        match (change, result) {
            (Change::Delete(_), Err(DiskError::NotFound)) => self.advance(None),
            (change, Err(error)) => return self.put_off(&change, error, now),
            (Change::Overwrite { segment, from_bytes, to_bytes }, Ok(_)) => {
                let end_bytes = from_bytes + (to_bytes - from_bytes).min(ZERO_BYTES_MAX);
                let done = Change::Overwrite { segment, from_bytes, to_bytes: end_bytes };
                self.unsynced.push((segment, done));
                let from_bytes = end_bytes;
                let rest = Change::Overwrite { segment, from_bytes, to_bytes };
                self.advance((from_bytes < to_bytes).then_some(rest));
            }
            (Change::Rewrite { segment, from_bytes, to_bytes }, Ok(DiskReply::Read(data))) => {
                if data.is_empty() || !(data.len() as u64).is_multiple_of(BLOCK_BYTES) {
                    return Err(damaged(segment, from_bytes, DamageKind::Group));
                }
                let offset_bytes = from_bytes;
                let from_bytes = offset_bytes + data.len() as u64;
                let rest = Change::Rewrite { segment, from_bytes, to_bytes };
                self.advance((from_bytes < to_bytes).then_some(rest));
                self.changes.push_front(Change::Write { segment, offset_bytes, data });
            }
            (Change::Rewrite { segment, .. }, Ok(_)) => {
                let error = DiskError::Io("the reply does not fit the command".into());
                return Err(disk_error(&segment_file(segment), error));
            }
            (change @ Change::Write { segment, .. }, Ok(_)) => {
                self.unsynced.push((segment, change));
                self.advance(None);
            }
            (Change::Sync(segment), Ok(_)) => {
                self.unsynced.retain(|(of, _)| *of != segment);
                self.advance(None);
            }
            (_, Ok(_)) => self.advance(None),
        }
        self.lack = None;
        Ok(())
    }

    fn advance(&mut self, rest: Option<Change>) {
        self.changes.pop_front();
        if let Some(rest) = rest {
            self.changes.push_front(rest);
        }
    }

    fn put_off(&mut self, change: &Change, error: DiskError, now: Instant) -> Result<(), LogError> {
        if !error.is_passing() {
            return Err(disk_error(&command(change).file().clone(), error));
        }
        // What a refused sync had covered may be taken for clean by the system without having been written.
        if let Change::Sync(segment) = change
            && !is_planted(Plant::RefusedSyncTrusted)
        {
            let again: Vec<_> = self.unsynced.extract_if(.., |(of, _)| of == segment).collect();
            again.into_iter().rev().for_each(|(_, change)| self.changes.push_front(change));
        }
        self.lack = Lack::of(&error).or(self.lack);
        let pause = if self.lack.is_some() { FULL_RETRY } else { AGAIN_RETRY };
        self.retry_at = Some(now.after(pause));
        Ok(())
    }
}

fn command(change: &Change) -> DiskCommand {
    match change.clone() {
        Change::Delete(file) => DiskCommand::Delete { file },
        Change::SyncDir(dir) => DiskCommand::SyncDir { dir },
        Change::Sync(segment) => DiskCommand::Sync { file: segment_file(segment) },
        Change::Overwrite { segment, from_bytes, to_bytes } => {
            let len_bytes = (to_bytes - from_bytes).min(ZERO_BYTES_MAX);
            let data = Bytes::from(vec![0; len_bytes as usize]);
            DiskCommand::Write { file: segment_file(segment), offset_bytes: from_bytes, data }
        }
        Change::Rewrite { segment, from_bytes, to_bytes } => {
            let len_bytes = (to_bytes - from_bytes).min(READ_BYTES) as u32;
            DiskCommand::Read { file: segment_file(segment), offset_bytes: from_bytes, len_bytes }
        }
        Change::Write { segment, offset_bytes, data } => {
            DiskCommand::Write { file: segment_file(segment), offset_bytes, data }
        }
    }
}

const _: () = assert!(ZERO_BYTES_MAX.is_multiple_of(BLOCK_BYTES), "writes are whole blocks");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_refused_sync_had_covered_is_written_again() {
        let (segment, from_bytes) = (3, 512);
        let to_bytes = from_bytes + BLOCK_BYTES;
        let tail_bytes = to_bytes + ZERO_BYTES_MAX + BLOCK_BYTES;
        let mut mend = Mend::new([
            Change::Overwrite { segment, from_bytes: to_bytes, to_bytes: tail_bytes },
            Change::Rewrite { segment, from_bytes, to_bytes },
            Change::Sync(segment),
        ]);
        let group = Bytes::from(vec![7; BLOCK_BYTES as usize]);
        let zeros = |from_bytes| Change::Overwrite { segment, from_bytes, to_bytes: tail_bytes };
        let written = Change::Write { segment, offset_bytes: from_bytes, data: group.clone() };
        let done = |mend: &mut Mend, expected: Change, result| {
            assert_eq!(mend.changes.front(), Some(&expected));
            mend.is_out = true;
            mend.on_done(result, Instant::default()).expect("this passes");
        };
        let ok = || Ok(DiskReply::Done);
        done(&mut mend, zeros(to_bytes), ok());
        done(&mut mend, zeros(to_bytes + ZERO_BYTES_MAX), ok());
        let rewrite = Change::Rewrite { segment, from_bytes, to_bytes };
        done(&mut mend, rewrite, Ok(DiskReply::Read(group)));
        done(&mut mend, written.clone(), ok());
        done(&mut mend, Change::Sync(segment), Err(DiskError::Full));
        let first = to_bytes + ZERO_BYTES_MAX;
        let first = Change::Overwrite { segment, from_bytes: to_bytes, to_bytes: first };
        done(&mut mend, first, ok());
        done(&mut mend, zeros(to_bytes + ZERO_BYTES_MAX), ok());
        done(&mut mend, written, ok());
        done(&mut mend, Change::Sync(segment), ok());
        assert!(mend.is_done());
    }
}
