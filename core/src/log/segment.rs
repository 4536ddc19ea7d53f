//! Segment files: their names and the header in their first block.

use bytes::Bytes;

use super::frame::{self, FrameAddress, FrameError};
use super::group::{BLOCK_BYTES, LogIdentity};
use crate::disk::FileName;
use crate::ident::{BootId, LogId, Txn, Uuid};
use crate::time::WallMs;

/// The directory of the log, below the data directory.
pub const LOG_DIR: &str = "log";

/// A new segment is made under this name and renamed when it is whole, so that a `.seg` file is never short.
pub(crate) const SPARE_TMP: &str = "log/spare.tmp";

/// The header's frame fills the first block of a segment; groups begin behind it.
pub(crate) const SEGMENT_HEADER_BYTES: u64 = BLOCK_BYTES;

/// Numbers start at one and stay far below this, so that counting them never wraps.
const SEGMENT_NUMBER_END: u64 = 1 << 53;

const SCHEMA: u16 = 1;

/// What the first block of a segment says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) log: LogIdentity,
    /// Rises by one from segment to segment; also the file's name.
    pub(crate) number: u64,
    pub(crate) len_bytes: u64,
    /// The position that the first record here takes, or a later one after a restore.
    pub(crate) first: Txn,
    /// The last position before this segment that holds a record.
    pub(crate) previous_last: Txn,
    /// Where the previous segment was sealed; zero for the first segment of a log.
    pub(crate) previous_end_bytes: u64,
    pub(crate) boot: BootId,
    pub(crate) created: WallMs,
}

/// The archived form, frozen: a new field makes a `SegmentHeaderV2`.
#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct SegmentHeaderV1 {
    log_id: [u8; 16],
    salt: u64,
    number: u64,
    len_bytes: u64,
    first: u64,
    previous_last: u64,
    previous_end_bytes: u64,
    boot: [u8; 16],
    created_ms: u64,
}

impl SegmentHeader {
    /// The whole first block.
    pub(crate) fn encode(&self) -> Bytes {
        let archived = rkyv::to_bytes::<rkyv::rancor::Error>(&SegmentHeaderV1 {
            log_id: self.log.id.0.0,
            salt: self.log.salt,
            number: self.number,
            len_bytes: self.len_bytes,
            first: self.first.0,
            previous_last: self.previous_last.0,
            previous_end_bytes: self.previous_end_bytes,
            boot: self.boot.0.0,
            created_ms: self.created.0,
        })
        .expect("a struct of integers archives without fail");
        let mut block = frame::encode(frame::KIND_SEGMENT, SCHEMA, address(self.number), &archived);
        assert!(block.len() as u64 <= SEGMENT_HEADER_BYTES, "a segment header fits its block");
        block.resize(SEGMENT_HEADER_BYTES as usize, 0);
        block.into()
    }

    /// Reads the first block of segment `number`.
    ///
    /// # Errors
    ///
    /// A header of another number (a recycled file) fails the checksum, which covers the number.
    pub(crate) fn decode(number: u64, block: &[u8]) -> Result<Self, FrameError> {
        let payload = frame::decode(frame::KIND_SEGMENT, SCHEMA, address(number), block)?;
        let archive = frame::aligned(payload);
        let header = rkyv::from_bytes::<SegmentHeaderV1, rkyv::rancor::Error>(&archive)
            .map_err(|_| FrameError::Archive)?;
        if header.number != number {
            return Err(FrameError::Archive);
        }
        Ok(Self {
            log: LogIdentity { id: LogId(Uuid(header.log_id)), salt: header.salt },
            number,
            len_bytes: header.len_bytes,
            first: Txn(header.first),
            previous_last: Txn(header.previous_last),
            previous_end_bytes: header.previous_end_bytes,
            boot: BootId(Uuid(header.boot)),
            created: WallMs(header.created_ms),
        })
    }
}

/// The file of segment `number`.
pub(crate) fn segment_file(number: u64) -> FileName {
    format!("{LOG_DIR}/{number:016x}.seg").into()
}

/// The number in a segment's name (without directory), or nothing when the name is not a segment's.
pub(crate) fn segment_number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg")?;
    let canonical = digits.len() == 16
        && digits.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    let number = u64::from_str_radix(digits, 16).ok()?;
    (canonical && (1..SEGMENT_NUMBER_END).contains(&number)).then_some(number)
}

const fn address(number: u64) -> FrameAddress {
    FrameAddress { file: number, offset_bytes: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> SegmentHeader {
        SegmentHeader {
            log: LogIdentity { id: LogId(Uuid([1; 16])), salt: 0x0203_0405_0607_0809 },
            number: 0x11,
            len_bytes: 1 << 20,
            first: Txn(100),
            previous_last: Txn(99),
            previous_end_bytes: 0x8000,
            boot: BootId(Uuid([2; 16])),
            created: WallMs(1_700_000_000_000),
        }
    }

    #[test]
    fn a_header_reads_back_and_only_in_its_own_segment() {
        let block = header().encode();
        assert_eq!(SegmentHeader::decode(0x11, &block), Ok(header()));
        assert_eq!(SegmentHeader::decode(0x12, &block), Err(FrameError::Checksum));
    }

    #[test]
    fn the_bytes_of_version_1_are_frozen() {
        let block = header().encode();
        let hex: String = block[..104].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, GOLDEN);
        assert!(block[104..].iter().all(|&byte| byte == 0));
    }

    const GOLDEN: &str = concat!(
        "42504152010001005800000062366e59010101010101010101010101010101010908070605040302",
        "11000000000000000000100000000000640000000000000063000000000000000080000000000000",
        "020202020202020202020202020202020068e5cf8b010000",
    );

    #[test]
    fn only_canonical_names_are_segments() {
        assert_eq!(&*segment_file(0xAB), "log/00000000000000ab.seg");
        assert_eq!(segment_number("00000000000000ab.seg"), Some(0xAB));
        assert_eq!(segment_number("0000000000000000.seg"), None);
        assert_eq!(segment_number("ffffffffffffffff.seg"), None);
        for name in ["spare.tmp", "00000000000000AB.seg", "ab.seg", "+0000000000000ab.seg", ".seg"]
        {
            assert_eq!(segment_number(name), None, "{name}");
        }
    }
}
