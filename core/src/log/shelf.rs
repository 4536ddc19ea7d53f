//! The segments that are not written: sealed ones until they are trimmed, and the spare one, made ahead of need.
//!
//! One step is out at a time and every change of names is synced before the next, so that a crash leaves a run
//! of numbers without holes.

use std::collections::VecDeque;
use std::time::Duration;

use super::recovery::Segment;
use super::segment::{LOG_DIR, SPARE_TMP, segment_file};
use super::{Io, LogConfig, LogError, disk_error};
use crate::disk::{DiskCommand, DiskError, DiskOp, DiskReply, FileName};
use crate::ident::Txn;
use crate::plant::{Plant, is_planted};
use crate::time::Instant;

/// After the disk was full, another segment is tried this much later.
const FULL_RETRY: Duration = Duration::from_secs(1);

/// Sealed segments and the spare one.
#[derive(Debug)]
pub(crate) struct Shelf {
    segment_bytes: u64,
    retain_bytes: u64,
    /// A new segment leaves so much of the volume free: the next checkpoint, which will let segments go, needs it.
    keep_free_bytes: u64,
    /// Oldest first.
    sealed: VecDeque<Segment>,
    spare: Option<Segment>,
    /// The spare segment must be at least this long.
    wanted_bytes: u64,
    /// The spare segment may take the last of the volume: without it the log cannot even be opened.
    is_urgent: bool,
    trim_below: Txn,
    step: Step,
    full_until: Option<Instant>,
    /// A spare segment is wanted, the disk has no space for it, and no sealed one can go.
    is_stuck: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Idle,
    /// Making a spare segment of this length under its temporary name.
    Creating {
        len_bytes: u64,
    },
    SyncingFile {
        len_bytes: u64,
    },
    /// Giving a file the next number: a new one, or the oldest sealed one.
    Renaming {
        len_bytes: u64,
    },
    SyncingSpare {
        len_bytes: u64,
    },
    Deleting,
    SyncingDelete,
    /// A full disk leaves a part of the file behind.
    Clearing,
}

impl Shelf {
    pub(crate) fn new(config: &LogConfig, sealed: Vec<Segment>, spare: Option<Segment>) -> Self {
        Self {
            segment_bytes: config.segment_bytes,
            retain_bytes: config.retain_bytes,
            keep_free_bytes: config.keep_free_bytes,
            sealed: sealed.into(),
            spare,
            wanted_bytes: config.segment_bytes.min(super::SEGMENT_BYTES_MIN),
            is_urgent: false,
            trim_below: Txn(0),
            step: Step::Idle,
            full_until: None,
            is_stuck: false,
        }
    }

    /// The spare segment, when it is ready and no step is changing it.
    pub(crate) fn spare(&self) -> Option<Segment> {
        match self.step {
            Step::Idle | Step::Deleting | Step::SyncingDelete | Step::Clearing => self.spare,
            _ => None,
        }
    }

    /// Hands out the spare segment and takes the one that was written until now.
    pub(crate) fn exchange(&mut self, written: Segment) -> Segment {
        assert!(self.spare().is_some(), "the caller saw that a spare segment is ready");
        let spare = self.spare.take().expect("a spare segment is ready");
        assert_eq!(spare.number, written.number + 1, "segments follow each other by number");
        self.want_usual();
        self.sealed.push_back(written);
        spare
    }

    /// Asks for a spare segment of at least this length.
    pub(crate) fn want(&mut self, len_bytes: u64) {
        self.wanted_bytes = self.wanted_bytes.max(len_bytes);
    }

    /// Asks for a spare segment of at least this length, even if it is the last thing that the volume can hold.
    pub(crate) fn want_urgently(&mut self, len_bytes: u64) {
        self.want(len_bytes);
        self.is_urgent = true;
    }

    /// Gives up the wish for a long segment: nobody waits for it.
    pub(crate) fn want_usual(&mut self) {
        self.wanted_bytes = self.segment_bytes.min(super::SEGMENT_BYTES_MIN);
        self.is_urgent = false;
    }

    /// New segments leave so much of the volume free from now on.
    pub(crate) fn keep_free(&mut self, bytes: u64) {
        self.keep_free_bytes = bytes;
    }

    /// True when a spare segment is wanted, the disk had no space for it at the last try, and nothing that the log
    /// holds can make room.
    pub(crate) fn is_stuck(&self) -> bool {
        self.is_stuck && self.is_short()
    }

    /// True until the disk is looked at again after it was full.
    pub(crate) fn is_paused(&self, now: Instant) -> bool {
        self.full_until.is_some_and(|until| now < until)
    }

    /// True when the disk had no space for a spare segment at the last try.
    pub(crate) fn is_short(&self) -> bool {
        self.full_until.is_some() && self.needs_spare()
    }

    pub(crate) fn retry_at(&self) -> Option<Instant> {
        (self.step == Step::Idle && self.needs_spare()).then_some(self.full_until).flatten()
    }

    pub(crate) fn trim(&mut self, below: Txn) {
        self.trim_below = self.trim_below.max(below);
    }

    /// Starts the next step, if none is out. `keep_from`: positions from here on are still read or are needed to
    /// recover the boot table.
    pub(crate) fn work(
        &mut self,
        current: &Segment,
        keep_from: Txn,
        now: Instant,
        io: &mut Io,
    ) -> Option<DiskOp> {
        if self.step != Step::Idle {
            return None;
        }
        self.is_stuck = false;
        let trimmable = self.trimmable(current, keep_from);
        if self.needs_spare() {
            if let Some(oldest) = trimmable.filter(|oldest| self.is_reusable(oldest)) {
                self.sealed.pop_front();
                self.step = Step::Renaming { len_bytes: oldest.len_bytes };
                let from = segment_file(oldest.number);
                let to = segment_file(current.number + 1);
                return Some(io.disk(DiskCommand::Rename { from, to }));
            }
            if self.full_until.is_none_or(|until| now >= until) {
                return Some(self.create(io));
            }
        }
        let Some(oldest) = trimmable else {
            self.is_stuck = self.needs_spare();
            return None;
        };
        self.sealed.pop_front();
        self.step = Step::Deleting;
        Some(io.disk(DiskCommand::Delete { file: segment_file(oldest.number) }))
    }

    fn create(&mut self, io: &mut Io) -> DiskOp {
        let len_bytes = self.wanted_bytes.max(self.segment_bytes);
        let keep_free_bytes = if self.is_urgent { 0 } else { self.keep_free_bytes };
        self.step = Step::Creating { len_bytes };
        io.disk(DiskCommand::Create { file: SPARE_TMP.into(), len_bytes, keep_free_bytes })
    }

    /// Takes the completion of the step that is out and starts what follows from it.
    pub(crate) fn on_done(
        &mut self,
        result: Result<DiskReply, DiskError>,
        current: &Segment,
        now: Instant,
        io: &mut Io,
    ) -> Result<Option<DiskOp>, LogError> {
        let tmp: FileName = SPARE_TMP.into();
        match (self.step, result) {
            (Step::Creating { .. }, Err(DiskError::Full)) => {
                self.full_until = Some(now.after(FULL_RETRY));
                self.step = Step::Clearing;
                Ok(Some(io.disk(DiskCommand::Delete { file: tmp })))
            }
            (Step::Clearing, Ok(_) | Err(DiskError::NotFound)) => {
                self.step = Step::Idle;
                Ok(None)
            }
            (_, Err(error)) => Err(disk_error(&LOG_DIR.into(), error)),
            (Step::Creating { len_bytes }, Ok(_)) => {
                self.step = Step::SyncingFile { len_bytes };
                Ok(Some(io.disk(DiskCommand::Sync { file: tmp })))
            }
            (Step::SyncingFile { len_bytes }, Ok(_)) => {
                self.step = Step::Renaming { len_bytes };
                let to = segment_file(current.number + 1);
                Ok(Some(io.disk(DiskCommand::Rename { from: tmp, to })))
            }
            (Step::Renaming { len_bytes }, Ok(_)) => {
                self.step = Step::SyncingSpare { len_bytes };
                if is_planted(Plant::SegmentNameNotSynced) {
                    let file = segment_file(current.number + 1);
                    return Ok(Some(io.disk(DiskCommand::Sync { file })));
                }
                Ok(Some(io.disk(DiskCommand::SyncDir { dir: LOG_DIR.into() })))
            }
            (Step::SyncingSpare { len_bytes }, Ok(_)) => {
                self.step = Step::Idle;
                self.full_until = None;
                let number = current.number + 1;
                self.spare = Some(Segment { number, len_bytes, first: Txn(0) });
                Ok(None)
            }
            (Step::Deleting, Ok(_)) => {
                self.step = Step::SyncingDelete;
                Ok(Some(io.disk(DiskCommand::SyncDir { dir: LOG_DIR.into() })))
            }
            (Step::SyncingDelete, Ok(_)) => {
                self.step = Step::Idle;
                // There is more space than at the last try: the next one need not wait.
                self.full_until = self.full_until.map(|_| now);
                Ok(None)
            }
            (Step::Idle, Ok(_)) => unreachable!("a completion belongs to a step"),
        }
    }

    /// Segment files, without the current one: how many, and their bytes.
    pub(crate) fn size(&self) -> (u64, u64) {
        let spare = self.spare.iter();
        let bytes = self.sealed.iter().chain(spare).map(|segment| segment.len_bytes).sum();
        (self.sealed.len() as u64 + u64::from(self.spare.is_some()), bytes)
    }

    pub(crate) fn segment(&self, number: u64) -> Option<Segment> {
        self.sealed.iter().find(|segment| segment.number == number).copied()
    }

    fn needs_spare(&self) -> bool {
        self.spare.is_none_or(|spare| spare.len_bytes < self.wanted_bytes)
    }

    /// A file is used again when it has the usual length and there is no spare segment to replace.
    fn is_reusable(&self, oldest: &Segment) -> bool {
        let fits = self.wanted_bytes <= self.segment_bytes;
        self.spare.is_none() && fits && oldest.len_bytes == self.segment_bytes
    }

    /// The oldest segment, when nothing in it is needed and the others are enough to keep. On a full disk none is
    /// kept for its own sake.
    fn trimmable(&self, current: &Segment, keep_from: Txn) -> Option<Segment> {
        let oldest = *self.sealed.front()?;
        let after = self.sealed.get(1).unwrap_or(current);
        let below = self.trim_below.min(keep_from);
        let is_below = after.first <= below;
        let others: u64 = self.sealed.iter().skip(1).map(|segment| segment.len_bytes).sum();
        let may_all_go = self.is_short() && !is_planted(Plant::RetainedWhenFull);
        let retain_bytes = if may_all_go { 0 } else { self.retain_bytes };
        (is_below && others + current.len_bytes >= retain_bytes).then_some(oldest)
    }
}
