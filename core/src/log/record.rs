//! One record of the log: bytes, flags and their checksum.

use bytes::Bytes;

/// One transaction as the log sees it. The checksum is made here, so a shard that builds its records spares the
/// log's owner the pass over the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    bytes: Bytes,
    checksum: u32,
    flags: u8,
}

impl LogRecord {
    /// Flag: who does not know this record's kind must refuse the log instead of skipping it.
    pub const CRITICAL: u8 = 1;

    /// A record with the given flags, which the log stores and hands back.
    #[must_use]
    pub fn new(flags: u8, bytes: Bytes) -> Self {
        let checksum = crc32c::crc32c(&bytes);
        Self { bytes, checksum, flags }
    }

    /// A record that must not be skipped.
    #[must_use]
    pub fn critical(bytes: Bytes) -> Self {
        Self::new(Self::CRITICAL, bytes)
    }

    /// The payload.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The flags.
    #[must_use]
    pub fn flags(&self) -> u8 {
        self.flags
    }

    /// The payload, without its frame.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// The crc32c of the payload.
    pub(crate) fn checksum(&self) -> u32 {
        self.checksum
    }
}
