//! Groups: the unit of writing. Each starts on a 512-byte boundary and names its own address.
//!
//! ```text
//!   0  magic           4  "BPLG"
//!   4  version         1  1
//!   5  kind            1  1 data, 2 boot table, 3 seal, 4 end of segment
//!   6  flags           1  bit 0 critical: who does not know the kind must refuse; bit 1: its records take positions
//!   7  zero            1
//!   8  log id         16
//!  24  boot id        16  who wrote it
//!  40  segment         8  number of the segment
//!  48  offset          8  of this header in the segment
//!  56  first           8  position of the first record, or of the next one when there is none
//!  64  durable end     8  last position known synced when this was written
//!  72  durable offset  8  bytes of this segment known synced when this was written
//!  80  record count    4
//!  84  group bytes     4  header, table and records, without the padding to 512
//!  88  table checksum  4  crc32c of the table
//!  92  checksum        4  crc32c of the log's salt and of bytes 0..92
//!  96  table              12 per record: length 4, crc32c of the record 4, flags 1 (bit 0 critical), zero 3
//!      records            back to back, then zeros to the next multiple of 512
//! ```
//!
//! Integers are little-endian. The first 96 bytes lie in one sector, so what a header states can be trusted even
//! where the rest of its group is torn. The salt is random, kept in segment headers and never leaves the
//! directory: nobody outside can write a record that looks like a header.

use bytes::{Bytes, BytesMut};

use super::LogRecord;
use super::boots::BootTable;
use crate::ident::{BootId, LogId, Txn, Uuid};
use crate::plant::{Plant, is_planted};

/// Groups start at multiples of this: the sector that a disk writes whole or not at all.
pub(crate) const BLOCK_BYTES: u64 = 512;

/// Bytes of a group's header before its table.
pub(crate) const GROUP_HEADER_BYTES: usize = 96;

/// Bytes of the table per record.
pub(crate) const TABLE_ENTRY_BYTES: usize = 12;

/// At most this many records in one group.
pub(crate) const GROUP_RECORDS_MAX: usize = 1_024;

const MAGIC: [u8; 4] = *b"BPLG";
const VERSION: u8 = 1;
const FLAG_CRITICAL: u8 = 1;
const FLAG_POSITIONS: u8 = 2;

const _: () = assert!(GROUP_HEADER_BYTES < BLOCK_BYTES as usize, "a header lies in one sector");

/// What every group of one log has in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogIdentity {
    pub(crate) id: LogId,
    /// Random, and known to this directory alone.
    pub(crate) salt: u64,
}

/// What a group is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GroupKind {
    /// Records, each at its own position.
    Data,
    /// The boot table: first group of every boot and of every segment.
    Boot,
    /// Nothing: states that everything before it is durable.
    Seal,
    /// Last group of its segment; the log goes on in the next one.
    SegmentEnd,
    /// Written by a later version.
    Unknown(u8),
}

impl GroupKind {
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Data => 1,
            Self::Boot => 2,
            Self::Seal => 3,
            Self::SegmentEnd => 4,
            Self::Unknown(code) => code,
        }
    }

    const fn from_code(code: u8) -> Self {
        match code {
            1 => Self::Data,
            2 => Self::Boot,
            3 => Self::Seal,
            4 => Self::SegmentEnd,
            code => Self::Unknown(code),
        }
    }
}

/// The fixed part of a group's header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GroupHeader {
    pub(crate) kind: GroupKind,
    pub(crate) version: u8,
    pub(crate) flags: u8,
    pub(crate) boot: BootId,
    pub(crate) segment: u64,
    pub(crate) offset_bytes: u64,
    pub(crate) first: Txn,
    pub(crate) durable_end: Txn,
    pub(crate) durable_offset_bytes: u64,
    pub(crate) record_count: u32,
    pub(crate) group_bytes: u32,
    table_checksum: u32,
}

/// Where a group goes and what it states.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GroupPlace {
    pub(crate) boot: BootId,
    pub(crate) segment: u64,
    pub(crate) offset_bytes: u64,
    pub(crate) first: Txn,
    pub(crate) durable_end: Txn,
    pub(crate) durable_offset_bytes: u64,
}

/// Encodes a group, padded to whole blocks.
pub(crate) fn encode(
    log: &LogIdentity,
    kind: GroupKind,
    place: &GroupPlace,
    records: &[LogRecord],
) -> Bytes {
    assert!(records.len() <= GROUP_RECORDS_MAX, "the writer bounds its groups");
    assert!(place.offset_bytes.is_multiple_of(BLOCK_BYTES), "groups start on a block");
    let payload_bytes: usize = records.iter().map(|record| record.bytes().len()).sum();
    let group_bytes = GROUP_HEADER_BYTES + records.len() * TABLE_ENTRY_BYTES + payload_bytes;
    let mut out = BytesMut::with_capacity(padded(group_bytes as u64) as usize);
    out.resize(GROUP_HEADER_BYTES, 0);
    for record in records {
        let length = u32::try_from(record.bytes().len()).expect("a record is at most 64 MiB");
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&record.checksum().to_le_bytes());
        out.extend_from_slice(&[record.flags(), 0, 0, 0]);
    }
    let header = GroupHeader {
        kind,
        version: VERSION,
        flags: FLAG_CRITICAL | if kind == GroupKind::Data { FLAG_POSITIONS } else { 0 },
        boot: place.boot,
        segment: place.segment,
        offset_bytes: place.offset_bytes,
        first: place.first,
        durable_end: place.durable_end,
        durable_offset_bytes: place.durable_offset_bytes,
        record_count: records.len() as u32,
        group_bytes: u32::try_from(group_bytes).expect("a group is at most one append"),
        table_checksum: crc32c::crc32c(&out[GROUP_HEADER_BYTES..]),
    };
    header.write(log, &mut out);
    for record in records {
        out.extend_from_slice(record.bytes());
    }
    out.resize(padded(group_bytes as u64) as usize, 0);
    out.freeze()
}

impl GroupHeader {
    fn write(&self, log: &LogIdentity, out: &mut [u8]) {
        out[..4].copy_from_slice(&MAGIC);
        out[4] = self.version;
        out[5] = self.kind.code();
        out[6] = self.flags;
        out[8..24].copy_from_slice(&log.id.0.0);
        out[24..40].copy_from_slice(&self.boot.0.0);
        out[40..48].copy_from_slice(&self.segment.to_le_bytes());
        out[48..56].copy_from_slice(&self.offset_bytes.to_le_bytes());
        out[56..64].copy_from_slice(&self.first.0.to_le_bytes());
        out[64..72].copy_from_slice(&self.durable_end.0.to_le_bytes());
        out[72..80].copy_from_slice(&self.durable_offset_bytes.to_le_bytes());
        out[80..84].copy_from_slice(&self.record_count.to_le_bytes());
        out[84..88].copy_from_slice(&self.group_bytes.to_le_bytes());
        out[88..92].copy_from_slice(&self.table_checksum.to_le_bytes());
        let checksum = header_checksum(log, &out[..92]);
        out[92..96].copy_from_slice(&checksum.to_le_bytes());
    }

    /// The header at the start of `bytes`, when there is one of this log that names this very address.
    pub(crate) fn decode(
        log: &LogIdentity,
        segment: u64,
        offset_bytes: u64,
        bytes: &[u8],
    ) -> Option<Self> {
        let bytes = bytes.get(..GROUP_HEADER_BYTES)?;
        if bytes[..4] != MAGIC || bytes[8..24] != log.id.0.0 {
            return None;
        }
        let header = Self {
            kind: GroupKind::from_code(bytes[5]),
            version: bytes[4],
            flags: bytes[6],
            boot: BootId(Uuid(bytes[24..40].try_into().expect("sixteen bytes were sliced"))),
            segment: u64_at(bytes, 40),
            offset_bytes: u64_at(bytes, 48),
            first: Txn(u64_at(bytes, 56)),
            durable_end: Txn(u64_at(bytes, 64)),
            durable_offset_bytes: u64_at(bytes, 72),
            record_count: u32_at(bytes, 80),
            group_bytes: u32_at(bytes, 84),
            table_checksum: u32_at(bytes, 88),
        };
        let here = header.segment == segment && header.offset_bytes == offset_bytes;
        (here && header_checksum(log, &bytes[..92]) == u32_at(bytes, 92)).then_some(header)
    }

    /// Bytes of the whole group on disk, with padding.
    pub(crate) fn padded_bytes(&self) -> u64 {
        padded(u64::from(self.group_bytes))
    }

    /// True when a build that does not know this kind or version must refuse the log.
    pub(crate) const fn is_refused(&self) -> bool {
        let unknown = self.version != VERSION || matches!(self.kind, GroupKind::Unknown(_));
        unknown && (self.flags & FLAG_CRITICAL != 0 || self.version != VERSION)
    }

    /// How many positions this group takes.
    pub(crate) const fn positions(&self) -> u64 {
        if self.flags & FLAG_POSITIONS == 0 { 0 } else { self.record_count as u64 }
    }

    /// The records behind this header; nothing when anything in the group does not check.
    pub(crate) fn records(&self, group: &Bytes) -> Option<Vec<LogRecord>> {
        let count = self.record_count as usize;
        let table_end = count.checked_mul(TABLE_ENTRY_BYTES)?.checked_add(GROUP_HEADER_BYTES)?;
        if count > GROUP_RECORDS_MAX || group.len() < self.group_bytes as usize {
            return None;
        }
        let table = group.get(GROUP_HEADER_BYTES..table_end)?;
        if crc32c::crc32c(table) != self.table_checksum {
            return None;
        }
        let mut records = Vec::with_capacity(count);
        let mut start = table_end;
        for entry in table.chunks_exact(TABLE_ENTRY_BYTES) {
            let end = start.checked_add(u32_at(entry, 0) as usize)?;
            if end > self.group_bytes as usize {
                return None;
            }
            let record = LogRecord::new(entry[8], group.slice(start..end));
            let is_last = records.len() + 1 == count;
            if record.checksum() != u32_at(entry, 4)
                && !is_planted(Plant::RecordChecksumIgnored)
                && !(is_last && is_planted(Plant::TornRecordAccepted))
            {
                return None;
            }
            records.push(record);
            start = end;
        }
        (start == self.group_bytes as usize).then_some(records)
    }
}

/// The one record of a boot group.
pub(crate) fn boot_record(boots: &BootTable) -> LogRecord {
    LogRecord::critical(boots.encode())
}

/// Bytes on disk of a group that holds one record of `len_bytes`. No grouping of records takes more than the sum.
pub(crate) const fn record_cost(len_bytes: usize) -> u64 {
    padded((GROUP_HEADER_BYTES + TABLE_ENTRY_BYTES + len_bytes) as u64)
}

/// The next multiple of a block.
pub(crate) const fn padded(bytes: u64) -> u64 {
    bytes.next_multiple_of(BLOCK_BYTES)
}

fn header_checksum(log: &LogIdentity, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&log.salt.to_le_bytes()), bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes were sliced"))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes were sliced"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: LogIdentity = LogIdentity { id: LogId(Uuid([7; 16])), salt: 42 };

    fn place() -> GroupPlace {
        GroupPlace {
            boot: BootId(Uuid([9; 16])),
            segment: 3,
            offset_bytes: 1_024,
            first: Txn(77),
            durable_end: Txn(70),
            durable_offset_bytes: 512,
        }
    }

    fn group() -> Bytes {
        let records =
            [LogRecord::critical(Bytes::from_static(b"abc")), LogRecord::new(0, Bytes::new())];
        encode(&LOG, GroupKind::Data, &place(), &records)
    }

    #[test]
    fn a_group_reads_back() {
        let bytes = group();
        assert_eq!(bytes.len(), 512);
        let header = GroupHeader::decode(&LOG, 3, 1_024, &bytes).expect("it was just encoded");
        assert_eq!((header.first, header.durable_end), (Txn(77), Txn(70)));
        assert_eq!(header.positions(), 2);
        let records = header.records(&bytes).expect("it was just encoded");
        assert_eq!(records[0].bytes(), &b"abc"[..]);
        assert_eq!((records[0].flags(), records[1].flags()), (LogRecord::CRITICAL, 0));
    }

    #[test]
    fn the_bytes_of_version_1_are_frozen() {
        let hex: String = group()[..123].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, GOLDEN);
    }

    const GOLDEN: &str = concat!(
        "42504c47010103000707070707070707070707070707070709090909090909090909090909090909",
        "030000000000000000040000000000004d0000000000000046000000000000000002000000000000",
        "020000007b000000123a410b89c5142703000000b73f4b3601000000000000000000000000000000",
        "616263",
    );

    #[test]
    fn no_flipped_bit_of_a_group_passes() {
        let bytes = group();
        for bit in 0..123 * 8 {
            let mut bad = bytes.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            let bad = Bytes::from(bad);
            let read =
                GroupHeader::decode(&LOG, 3, 1_024, &bad).and_then(|head| head.records(&bad));
            let padding_in_table = (96..120).contains(&(bit / 8));
            assert!(read.is_none(), "bit {bit}, in the table: {padding_in_table}");
        }
    }

    #[test]
    fn a_group_is_not_believed_anywhere_else() {
        let bytes = group();
        assert!(GroupHeader::decode(&LOG, 4, 1_024, &bytes).is_none());
        assert!(GroupHeader::decode(&LOG, 3, 512, &bytes).is_none());
        let other = LogIdentity { salt: 43, ..LOG };
        assert!(GroupHeader::decode(&other, 3, 1_024, &bytes).is_none());
    }
}
