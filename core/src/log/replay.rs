//! Hands out what was found in the log, group by group, as far as there is leave.

use super::group::GroupKind;
use super::reader::{READ_BYTES, ReadStep, SegmentReader, Walk};
use super::recovery::{ReplayStart, Segment};
use super::segment::segment_file;
use super::{AGAIN_RETRY, DamageKind, Io, LogError, LogOutput, damaged};
use crate::disk::{DiskCommand, DiskOp};
use crate::ident::Txn;
use crate::time::Instant;

/// The replay of one opening. Everything it reads was walked before and is synced.
#[derive(Debug)]
pub(crate) struct Replay {
    reader: SegmentReader,
    walk: Walk,
    /// Records up to here are left out: the checkpoint has them.
    from: Txn,
    /// The last position to hand out.
    to: Txn,
    credit_bytes: u64,
    asked: Option<(u64, u32)>,
    /// The read at hand could not be begun, and is asked again at this moment.
    again_at: Option<Instant>,
}

/// What replay waits for.
pub(crate) enum ReplayStep {
    /// A read is out.
    Reading(DiskOp),
    /// More leave, or the read that is out.
    Waiting,
    /// The reader goes on in the segment of this number.
    Segment(u64),
    /// Everything was handed out.
    Done,
}

impl Replay {
    pub(crate) fn new(start: ReplayStart, segment: Segment, from: Txn, to: Txn) -> Self {
        let reader = SegmentReader::at(segment.number, segment.len_bytes, start.offset_bytes);
        Self { reader, walk: start.walk, from, to, credit_bytes: 0, asked: None, again_at: None }
    }

    /// The segment that is being read.
    pub(crate) fn segment(&self) -> u64 {
        self.reader.number()
    }

    pub(crate) fn grant(&mut self, bytes: u64) {
        self.credit_bytes = self.credit_bytes.saturating_add(bytes);
    }

    /// Segments with positions from here on are still to be read.
    pub(crate) fn keep_from(&self) -> Txn {
        self.walk.last
    }

    pub(crate) fn on_read(&mut self, bytes: bytes::Bytes) {
        let (offset_bytes, len_bytes) = self.asked.take().expect("a read was out");
        self.reader.fill(offset_bytes, len_bytes, bytes);
    }

    /// The disk could not begin to read.
    pub(crate) fn on_read_refused(&mut self, now: Instant) {
        self.asked = None;
        self.again_at = Some(now.after(AGAIN_RETRY));
    }

    /// When to ask the disk again.
    pub(crate) fn again_at(&self) -> Option<Instant> {
        self.again_at
    }

    /// Goes on in the next segment.
    pub(crate) fn enter(&mut self, segment: Segment) {
        self.reader = SegmentReader::new(segment.number, segment.len_bytes);
        self.walk.next = self.walk.next.max(segment.first);
    }

    /// Hands out groups until it needs a read, leave, or the next segment.
    pub(crate) fn step(&mut self, now: Instant, io: &mut Io) -> Result<ReplayStep, LogError> {
        if self.asked.is_some() || self.again_at.is_some_and(|at| now < at) {
            return Ok(ReplayStep::Waiting);
        }
        self.again_at = None;
        while self.walk.last < self.to {
            if self.credit_bytes == 0 {
                return Ok(ReplayStep::Waiting);
            }
            let number = self.reader.number();
            let group = match self.reader.step(&mut self.walk) {
                ReadStep::Need { offset_bytes, len_bytes } => {
                    self.asked = Some((offset_bytes, len_bytes));
                    let file = segment_file(number);
                    let read = DiskCommand::Read { file, offset_bytes, len_bytes };
                    return Ok(ReplayStep::Reading(io.disk(read)));
                }
                ReadStep::Group(group) => group,
                ReadStep::Stop | ReadStep::Unknown { .. } => {
                    return Err(damaged(number, self.reader.offset_bytes(), DamageKind::Group));
                }
            };
            match group.header.kind {
                GroupKind::SegmentEnd => return Ok(ReplayStep::Segment(number + 1)),
                GroupKind::Data => {
                    self.hand_out(group.header.first, group.records, io);
                }
                _ => {}
            }
        }
        Ok(ReplayStep::Done)
    }

    fn hand_out(&mut self, first: Txn, mut records: Vec<super::LogRecord>, io: &mut Io) {
        let skipped = (self.from.next().0.saturating_sub(first.0)).min(records.len() as u64);
        records.drain(..skipped as usize);
        if records.is_empty() {
            return;
        }
        let bytes: u64 = records.iter().map(|record| record.bytes().len() as u64).sum();
        self.credit_bytes = self.credit_bytes.saturating_sub(bytes.max(1));
        let first = Txn(first.0 + skipped);
        io.outputs.push_back(LogOutput::Committed { first, records });
    }
}

const _: () = assert!(READ_BYTES <= u32::MAX as u64, "one read has a 32-bit length");
