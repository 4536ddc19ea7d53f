//! Walks the groups of one segment in order and judges each: it belongs to the log, or the log ends here.

use std::sync::Arc;

use bytes::Bytes;

use super::LogRecord;
use super::boots::BootTable;
use super::group::{BLOCK_BYTES, GroupHeader, GroupKind, LogIdentity};
use super::segment::SEGMENT_HEADER_BYTES;
use crate::ident::Txn;

/// Read this much at a time; a larger group is read in one piece.
pub(crate) const READ_BYTES: u64 = 1 << 20;

/// What must hold for the next group, carried from segment to segment.
#[derive(Clone, Debug)]
pub(crate) struct Walk {
    pub(crate) log: LogIdentity,
    /// Nothing until the first boot group has been read.
    pub(crate) boots: Option<Arc<BootTable>>,
    /// The position of the next record.
    pub(crate) next: Txn,
    /// The last position that holds a record.
    pub(crate) last: Txn,
}

/// One group that belongs to the log.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) header: GroupHeader,
    pub(crate) records: Vec<LogRecord>,
}

/// What the reader needs or found.
#[derive(Debug)]
pub(crate) enum ReadStep {
    /// Hand in these bytes with [`SegmentReader::fill`].
    Need { offset_bytes: u64, len_bytes: u32 },
    /// The next group.
    Group(Group),
    /// No group of the log starts at [`SegmentReader::offset_bytes`], or none fits there.
    Stop,
    /// A group that this build must not skip.
    Unknown { kind: u8 },
}

/// Reads one segment from a given group on.
#[derive(Debug)]
pub(crate) struct SegmentReader {
    number: u64,
    len_bytes: u64,
    offset_bytes: u64,
    window: Bytes,
    window_offset_bytes: u64,
    /// Set once the file gave fewer bytes than its length promises.
    file_end_bytes: u64,
}

impl SegmentReader {
    pub(crate) fn new(number: u64, len_bytes: u64) -> Self {
        Self::at(number, len_bytes, SEGMENT_HEADER_BYTES)
    }

    pub(crate) fn at(number: u64, len_bytes: u64, offset_bytes: u64) -> Self {
        Self {
            number,
            len_bytes,
            offset_bytes,
            window: Bytes::new(),
            window_offset_bytes: offset_bytes,
            file_end_bytes: len_bytes,
        }
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Where the next group starts.
    pub(crate) fn offset_bytes(&self) -> u64 {
        self.offset_bytes
    }

    /// Takes what a `Need` asked for; fewer bytes mean that the file ends there.
    pub(crate) fn fill(&mut self, offset_bytes: u64, asked_bytes: u32, bytes: Bytes) {
        if (bytes.len() as u64) < u64::from(asked_bytes) {
            self.file_end_bytes = self.file_end_bytes.min(offset_bytes + bytes.len() as u64);
        }
        self.window = bytes;
        self.window_offset_bytes = offset_bytes;
    }

    /// The next group, if `walk` accepts it; `walk` is then moved behind it.
    pub(crate) fn step(&mut self, walk: &mut Walk) -> ReadStep {
        let Some(bytes) = self.available(BLOCK_BYTES) else {
            return self.need(BLOCK_BYTES);
        };
        let Some(header) = GroupHeader::decode(&walk.log, self.number, self.offset_bytes, &bytes)
        else {
            return ReadStep::Stop;
        };
        if header.is_refused() {
            let kind = header.kind.code();
            return ReadStep::Unknown { kind };
        }
        let padded_bytes = header.padded_bytes().max(BLOCK_BYTES);
        if self.offset_bytes + padded_bytes > self.len_bytes {
            return ReadStep::Stop;
        }
        let Some(bytes) = self.available(padded_bytes) else {
            return self.need(padded_bytes);
        };
        let Some(records) = header.records(&bytes) else { return ReadStep::Stop };
        if !walk.accept(&header, &records) {
            return ReadStep::Stop;
        }
        self.offset_bytes += padded_bytes;
        ReadStep::Group(Group { header, records })
    }

    fn available(&self, len_bytes: u64) -> Option<Bytes> {
        let start = self.offset_bytes.checked_sub(self.window_offset_bytes)?;
        let end = start + len_bytes;
        (end <= self.window.len() as u64).then(|| self.window.slice(start as usize..end as usize))
    }

    fn need(&self, len_bytes: u64) -> ReadStep {
        if self.offset_bytes + len_bytes > self.file_end_bytes {
            return ReadStep::Stop;
        }
        let most = self.file_end_bytes - self.offset_bytes;
        let len_bytes = u32::try_from(len_bytes.max(READ_BYTES).min(most))
            .expect("a group is shorter than its segment, which is far below 4 GiB");
        ReadStep::Need { offset_bytes: self.offset_bytes, len_bytes }
    }
}

impl Walk {
    /// Takes one whole group if it can come next. A group of another boot than the newest is left over from a
    /// tail that was cut.
    fn accept(&mut self, header: &GroupHeader, records: &[LogRecord]) -> bool {
        if header.kind == GroupKind::Boot {
            let [record] = records else { return false };
            let Some(boots) = BootTable::decode(record.bytes()) else { return false };
            let follows = self.boots.as_ref().is_none_or(|earlier| boots.follows(earlier));
            let own = boots.newest().is_some_and(|newest| newest.boot == header.boot);
            if !follows || !own || header.first < self.next {
                return false;
            }
            self.next = header.first;
            self.boots = Some(Arc::new(boots));
            return true;
        }
        let newest = self.boots.as_ref().and_then(|boots| boots.newest());
        if newest.is_none_or(|newest| newest.boot != header.boot) {
            return false;
        }
        let positions = header.positions();
        let in_place =
            if positions == 0 { header.first >= self.next } else { header.first == self.next };
        if !in_place || header.first.0.saturating_add(positions) > Txn::MAX.0 {
            return false;
        }
        self.next = Txn(header.first.0 + positions);
        if positions > 0 {
            self.last = Txn(self.next.0 - 1);
        }
        true
    }
}
