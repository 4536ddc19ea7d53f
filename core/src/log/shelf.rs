//! The segments that are not written: sealed ones until they are trimmed, and the spare one, made ahead of need.
//!
//! One step is out at a time and every change of names is synced before the next, so that a crash leaves a run
//! of numbers without holes.

use std::collections::VecDeque;

use super::recovery::Segment;
use super::segment::{LOG_DIR, SPARE_TMP, segment_file};
use super::{AGAIN_RETRY, FULL_RETRY, Io, Lack, LogConfig, LogError, disk_error};
use crate::disk::{DiskCommand, DiskError, DiskOp, DiskReply, FileName};
use crate::ident::Txn;
use crate::plant::{Plant, is_planted};
use crate::time::Instant;

/// Sealed segments and the spare one.
#[derive(Debug)]
pub(crate) struct Shelf {
    segment_bytes: u64,
    retain_bytes: u64,
    /// Room that the next checkpoint, which will let segments go, needs of the volume: see [`Need::keep_free_bytes`].
    keep_free_bytes: u64,
    /// Oldest first.
    sealed: VecDeque<Segment>,
    spare: Option<Segment>,
    /// The spare segment must be at least this long.
    wanted_bytes: u64,
    need: Need,
    trim_below: Txn,
    step: Step,
    full_until: Option<Instant>,
    /// The step at hand could not be begun, and is begun again at this moment.
    again_at: Option<Instant>,
    /// That was since the volume takes no writes.
    is_read_only: bool,
    /// A spare segment is wanted, the disk has no space for it, and no sealed one can go.
    is_stuck: bool,
}

/// A usual segment leaves space for so many more beside the room of a checkpoint. What comes into it and into the one
/// before it makes the next checkpoint larger, by 2.5 of them at most, and then takes the place of one that is
/// deleted; one is for what makes room. The rest is for documents that take more room there than in the log.
const SEGMENTS_FREE: u64 = 6;

/// Segments that stay for their records, whatever was trimmed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keep {
    /// Positions from here on are still read, or are needed to recover the boot table.
    pub(crate) from: Txn,
    /// That ends by itself, without another segment.
    pub(crate) is_brief: bool,
}

/// The records that a spare segment is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Need {
    /// Records of any kind.
    Usual,
    /// Records that remove something, and with the next checkpoint make room.
    Freeing,
    /// The boot table, without which nothing is appended.
    Boot,
}

impl Need {
    /// Space that a segment leaves free beside itself, where a checkpoint may take `room_bytes`. A usual one
    /// leaves the room of the checkpoint that follows when it and the one before it are full, and space for one
    /// freeing segment; that one leaves the room of a checkpoint.
    const fn keep_free_bytes(self, room_bytes: u64, segment_bytes: u64) -> u64 {
        match self {
            Self::Usual => room_bytes.saturating_add(SEGMENTS_FREE * segment_bytes),
            Self::Freeing => room_bytes,
            Self::Boot => 0,
        }
    }
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
    /// Giving it the next number.
    Renaming {
        len_bytes: u64,
    },
    /// Giving the oldest sealed segment the next number.
    Recycling {
        oldest: Segment,
    },
    SyncingSpare {
        len_bytes: u64,
    },
    Deleting {
        number: u64,
    },
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
            need: Need::Usual,
            trim_below: Txn(0),
            step: Step::Idle,
            full_until: None,
            again_at: None,
            is_read_only: false,
            is_stuck: false,
        }
    }

    /// The spare segment, when it is ready and no step is changing it.
    pub(crate) fn spare(&self) -> Option<Segment> {
        match self.step {
            Step::Idle | Step::Deleting { .. } | Step::SyncingDelete | Step::Clearing => self.spare,
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

    /// Asks for a spare segment of at least this length for more than the usual. The disk is looked at again, since
    /// it need not keep as much free for that.
    pub(crate) fn want_for(&mut self, need: Need, len_bytes: u64) {
        self.want(len_bytes);
        if need > self.need {
            self.need = need;
            self.look_again();
        }
    }

    /// There may be more space than at the last try: the next one need not wait.
    pub(crate) fn look_again(&mut self) {
        self.full_until = self.full_until.map(|_| Instant::default());
    }

    /// Gives up the wish for a long segment: nobody waits for it.
    pub(crate) fn want_usual(&mut self) {
        self.wanted_bytes = self.segment_bytes.min(super::SEGMENT_BYTES_MIN);
        self.need = Need::Usual;
    }

    /// New segments leave so much of the volume free from now on.
    pub(crate) fn keep_free(&mut self, bytes: u64) {
        self.keep_free_bytes = bytes;
    }

    /// Space that a usual segment leaves free.
    pub(crate) fn reserve_bytes(&self) -> u64 {
        Need::Usual.keep_free_bytes(self.keep_free_bytes, self.segment_bytes)
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

    /// True while the volume takes no writes.
    pub(crate) fn is_read_only(&self) -> bool {
        self.is_read_only
    }

    pub(crate) fn retry_at(&self) -> Option<Instant> {
        let full = (self.step == Step::Idle && self.needs_spare()).then_some(self.full_until);
        full.flatten().or(self.again_at)
    }

    pub(crate) fn trim(&mut self, below: Txn) {
        self.trim_below = self.trim_below.max(below);
    }

    /// Starts the next step, if none is out.
    pub(crate) fn work(
        &mut self,
        current: &Segment,
        keep: Keep,
        now: Instant,
        io: &mut Io,
    ) -> Option<DiskOp> {
        if self.step != Step::Idle {
            let is_time = self.again_at.is_some_and(|at| now >= at);
            return is_time.then(|| self.begin(self.step, current, io));
        }
        self.is_stuck = false;
        let trimmable = self.trimmable(current, keep.from);
        if self.needs_spare() {
            if let Some(oldest) = trimmable.filter(|oldest| self.is_reusable(oldest)) {
                self.sealed.pop_front();
                return Some(self.begin(Step::Recycling { oldest }, current, io));
            }
            if self.full_until.is_none_or(|until| now >= until) {
                let len_bytes = self.wanted_bytes.max(self.segment_bytes);
                return Some(self.begin(Step::Creating { len_bytes }, current, io));
            }
        }
        let Some(oldest) = trimmable else {
            // A segment that is kept for a moment only makes room then: nobody is refused meanwhile.
            let waits = keep.is_brief && self.trimmable(current, Txn::MAX).is_some();
            self.is_stuck = self.needs_spare() && !waits;
            return None;
        };
        self.sealed.pop_front();
        Some(self.begin(Step::Deleting { number: oldest.number }, current, io))
    }

    fn begin(&mut self, step: Step, current: &Segment, io: &mut Io) -> DiskOp {
        self.step = step;
        self.again_at = None;
        let tmp: FileName = SPARE_TMP.into();
        let next = segment_file(current.number + 1);
        io.disk(match step {
            Step::Idle => unreachable!("a step is begun"),
            Step::Creating { len_bytes } => {
                let keep_free_bytes =
                    self.need.keep_free_bytes(self.keep_free_bytes, self.segment_bytes);
                DiskCommand::Create { file: tmp, len_bytes, keep_free_bytes }
            }
            Step::SyncingFile { .. } => DiskCommand::Sync { file: tmp },
            Step::Renaming { .. } => DiskCommand::Rename { from: tmp, to: next },
            Step::Recycling { oldest } => {
                DiskCommand::Rename { from: segment_file(oldest.number), to: next }
            }
            Step::SyncingSpare { .. } if is_planted(Plant::SegmentNameNotSynced) => {
                DiskCommand::Sync { file: next }
            }
            Step::Deleting { number } => DiskCommand::Delete { file: segment_file(number) },
            Step::Clearing => DiskCommand::Delete { file: tmp },
            Step::SyncingSpare { .. } | Step::SyncingDelete => {
                DiskCommand::SyncDir { dir: LOG_DIR.into() }
            }
        })
    }

    /// Takes the completion of the step that is out and starts what follows from it.
    pub(crate) fn on_done(
        &mut self,
        result: Result<DiskReply, DiskError>,
        current: &Segment,
        now: Instant,
        io: &mut Io,
    ) -> Result<Option<DiskOp>, LogError> {
        self.is_read_only &= result.is_err();
        let next = match (self.step, result) {
            (Step::Creating { .. } | Step::SyncingFile { .. }, Err(DiskError::Full)) => {
                self.full_until = Some(now.after(FULL_RETRY));
                Step::Clearing
            }
            (Step::Clearing, Ok(_) | Err(DiskError::NotFound)) => Step::Idle,
            (_, Err(error)) if error.is_passing() && !is_planted(Plant::PassingErrorFatal) => {
                return Ok(self.put_off(&error, now));
            }
            (_, Err(error)) => return Err(disk_error(&LOG_DIR.into(), error)),
            (Step::Creating { len_bytes }, Ok(_)) => Step::SyncingFile { len_bytes },
            (Step::SyncingFile { len_bytes }, Ok(_)) => Step::Renaming { len_bytes },
            (Step::Renaming { len_bytes }, Ok(_)) => Step::SyncingSpare { len_bytes },
            (Step::Recycling { oldest }, Ok(_)) => {
                Step::SyncingSpare { len_bytes: oldest.len_bytes }
            }
            (Step::SyncingSpare { len_bytes }, Ok(_)) => {
                self.full_until = None;
                let number = current.number + 1;
                self.spare = Some(Segment { number, len_bytes, first: Txn(0) });
                Step::Idle
            }
            (Step::Deleting { .. }, Ok(_)) => Step::SyncingDelete,
            (Step::SyncingDelete, Ok(_)) => {
                self.look_again();
                Step::Idle
            }
            (Step::Idle, Ok(_)) => unreachable!("a completion belongs to a step"),
        };
        self.step = next;
        Ok((next != Step::Idle).then(|| self.begin(next, current, io)))
    }

    /// Nothing of the step at hand was done: it is begun again later.
    fn put_off(&mut self, error: &DiskError, now: Instant) -> Option<DiskOp> {
        let lack = Lack::of(error);
        self.is_read_only = lack == Some(Lack::Leave);
        self.again_at = Some(now.after(if lack.is_some() { FULL_RETRY } else { AGAIN_RETRY }));
        None
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

    /// A file is used again when it has the usual length and there is no spare segment to replace. On a full disk it is
    /// not: whether another segment leaves enough free is asked when it is made.
    fn is_reusable(&self, oldest: &Segment) -> bool {
        let fits = self.wanted_bytes <= self.segment_bytes;
        self.spare.is_none() && !self.is_short() && fits && oldest.len_bytes == self.segment_bytes
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
