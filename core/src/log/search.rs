//! Looks behind the end of the log for headers: those that state that more was durable make it damage, the
//! others are the tail that must be overwritten.

use bytes::Bytes;

use super::group::{BLOCK_BYTES, GroupHeader, LogIdentity};
use super::reader::READ_BYTES;
use crate::ident::Txn;

/// What a search of one segment found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// A header states that something at or behind the searched offset of this segment was durable.
    pub(crate) durable_offset: bool,
    /// A header states that the next position, or a later one, was durable.
    pub(crate) durable_position: bool,
    /// The end of the last block that holds a header of this segment.
    pub(crate) headers_end_bytes: Option<u64>,
}

/// The search of one segment, block by block.
#[derive(Debug)]
pub(crate) struct TailSearch {
    log: LogIdentity,
    number: u64,
    from_bytes: u64,
    offset_bytes: u64,
    len_bytes: u64,
    next: Txn,
    found: Found,
}

impl TailSearch {
    /// Searches segment `number` from `from_bytes` on; `next` is the position that would come there.
    pub(crate) fn new(
        log: LogIdentity,
        number: u64,
        from_bytes: u64,
        len_bytes: u64,
        next: Txn,
    ) -> Self {
        let found = Found::default();
        Self { log, number, from_bytes, offset_bytes: from_bytes, len_bytes, next, found }
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn start_bytes(&self) -> u64 {
        self.from_bytes
    }

    /// What to read next, or nothing when the whole segment was searched.
    pub(crate) fn need(&self) -> Option<(u64, u32)> {
        let rest_bytes = self.len_bytes.saturating_sub(self.offset_bytes);
        (rest_bytes > 0).then_some((self.offset_bytes, rest_bytes.min(READ_BYTES) as u32))
    }

    /// Takes what was read; fewer bytes than asked for end the search.
    pub(crate) fn fill(&mut self, bytes: &Bytes) {
        for (index, block) in bytes.chunks(BLOCK_BYTES as usize).enumerate() {
            let offset_bytes = self.offset_bytes + index as u64 * BLOCK_BYTES;
            if let Some(header) = GroupHeader::decode(&self.log, self.number, offset_bytes, block) {
                self.on_header(&header);
            }
        }
        let asked_bytes = self.need().map_or(0, |(_, len_bytes)| u64::from(len_bytes));
        let is_short = (bytes.len() as u64) < asked_bytes;
        self.offset_bytes = if is_short { self.len_bytes } else { self.offset_bytes + asked_bytes };
    }

    pub(crate) fn found(&self) -> Found {
        self.found
    }

    fn on_header(&mut self, header: &GroupHeader) {
        self.found.durable_offset |= header.durable_offset_bytes > self.from_bytes;
        self.found.durable_position |= header.durable_end >= self.next;
        self.found.headers_end_bytes = Some(header.offset_bytes + BLOCK_BYTES);
    }
}
