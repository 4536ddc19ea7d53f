//! Reading and writing bytes: varints, lengths, values and the actor table that records share.
//!
//! Everything here is bounded and total: bytes from a peer or a disk answer with a [`DecodeError`], never with a
//! panic, never with an allocation of a size that the bytes only claim.

mod table;
mod value;

pub use table::{Table, TableBuilder};
pub use value::{decode_value, encode_value, value_size_bytes};

/// Why bytes could not be read. Always the writer's doing, or damage: never a bug of the reader.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes ran out inside `field`.
    #[error("bytes ran out inside {field}, {offset_bytes} bytes in")]
    Truncated {
        /// What was being read.
        field: &'static str,
        /// Where.
        offset_bytes: usize,
    },
    /// `field` claims more than is accepted. Nothing was allocated for it.
    #[error("{field} claims {claimed}, the limit is {limit}")]
    TooLarge {
        /// What was being read.
        field: &'static str,
        /// The size or count found.
        claimed: u64,
        /// The size or count allowed.
        limit: u64,
    },
    /// `field` holds something that no writer of this version produces.
    #[error("{field} is not valid, {offset_bytes} bytes in")]
    Invalid {
        /// What was being read.
        field: &'static str,
        /// Where the reader stood after it.
        offset_bytes: usize,
    },
    /// The version is not one that this build reads.
    #[error("{field} has version {found}, this build reads up to {newest}")]
    Version {
        /// What was being read.
        field: &'static str,
        /// The version found.
        found: u8,
        /// The newest version known.
        newest: u8,
    },
    /// Bytes remain after the end.
    #[error("{remaining_bytes} bytes remain after the end")]
    Trailing {
        /// How many.
        remaining_bytes: usize,
    },
}

/// Reads a byte slice from front to back.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Reads `bytes` from their start.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// How many bytes have been read.
    #[must_use]
    pub const fn offset_bytes(&self) -> usize {
        self.at
    }

    /// How many bytes are left.
    #[must_use]
    pub const fn remaining_bytes(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// Claims that everything has been read.
    ///
    /// # Errors
    ///
    /// `Trailing` if not.
    pub fn finish(&self) -> Result<(), DecodeError> {
        match self.remaining_bytes() {
            0 => Ok(()),
            remaining_bytes => Err(DecodeError::Trailing { remaining_bytes }),
        }
    }

    /// The error that says `field`, just read, makes no sense.
    #[must_use]
    pub fn invalid(&self, field: &'static str) -> DecodeError {
        DecodeError::Invalid { field, offset_bytes: self.at }
    }

    /// One byte.
    ///
    /// # Errors
    ///
    /// `Truncated`.
    pub fn byte(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        Ok(self.take(field, 1)?[0])
    }

    /// The next `count` bytes, not copied.
    ///
    /// # Errors
    ///
    /// `Truncated`.
    pub fn take(&mut self, field: &'static str, count: usize) -> Result<&'a [u8], DecodeError> {
        if count > self.remaining_bytes() {
            return Err(DecodeError::Truncated { field, offset_bytes: self.at });
        }
        let taken = &self.bytes[self.at..self.at + count];
        self.at += count;
        Ok(taken)
    }

    /// The next `N` bytes as an array.
    ///
    /// # Errors
    ///
    /// `Truncated`.
    pub fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(field, N)?);
        Ok(out)
    }

    /// An unsigned integer: seven bits a byte, low bits first, in as few bytes as it needs.
    ///
    /// # Errors
    ///
    /// `Truncated`, or `Invalid` if it is longer than needed or above 64 bits: equal numbers have equal bytes.
    pub fn varint(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        let mut out = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte(field)?;
            if (shift == 63 && byte > 1) || (shift > 0 && byte == 0) {
                return Err(self.invalid(field));
            }
            out |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Ok(out);
            }
        }
        Err(self.invalid(field))
    }

    /// A signed integer, zigzag.
    ///
    /// # Errors
    ///
    /// As [`Self::varint`].
    pub fn signed(&mut self, field: &'static str) -> Result<i64, DecodeError> {
        let raw = self.varint(field)?;
        Ok((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed())
    }

    /// A count of things that take at least `least_bytes` each, so that a claim can be checked before anything
    /// is allocated for it.
    ///
    /// # Errors
    ///
    /// As [`Self::varint`], and `TooLarge` if the bytes that are left cannot hold so many.
    pub fn count(&mut self, field: &'static str, least_bytes: usize) -> Result<usize, DecodeError> {
        let claimed = self.varint(field)?;
        let limit = (self.remaining_bytes() / least_bytes.max(1)) as u64;
        if claimed > limit {
            return Err(DecodeError::TooLarge { field, claimed, limit });
        }
        Ok(claimed as usize)
    }

    /// A length, then so many bytes, not copied.
    ///
    /// # Errors
    ///
    /// As [`Self::count`].
    pub fn bytes(&mut self, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let count = self.count(field, 1)?;
        self.take(field, count)
    }

    /// A length, then so many bytes of UTF-8, not copied.
    ///
    /// # Errors
    ///
    /// As [`Self::bytes`], and `Invalid` if it is not UTF-8.
    pub fn text(&mut self, field: &'static str) -> Result<&'a str, DecodeError> {
        let bytes = self.bytes(field)?;
        std::str::from_utf8(bytes).map_err(|_| self.invalid(field))
    }

    /// A version byte, between 1 and `newest`.
    ///
    /// # Errors
    ///
    /// `Truncated` or `Version`.
    pub fn version(&mut self, field: &'static str, newest: u8) -> Result<u8, DecodeError> {
        let found = self.byte(field)?;
        if found == 0 || found > newest {
            return Err(DecodeError::Version { field, found, newest });
        }
        Ok(found)
    }
}

/// Builds a byte string that a [`Reader`] reads.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// Starts empty.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: Vec::new() }
    }

    /// Starts empty, with room for so many bytes.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes) }
    }

    /// What has been written.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What has been written, taken out.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// How many bytes have been written.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// True before the first byte.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// One byte.
    pub fn byte(&mut self, byte: u8) {
        self.bytes.push(byte);
    }

    /// Bytes as they are, without a length.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// An unsigned integer; see [`Reader::varint`].
    pub fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.bytes.push((number as u8) | 0x80);
            number >>= 7;
        }
        self.bytes.push(number as u8);
    }

    /// A signed integer; see [`Reader::signed`].
    pub fn signed(&mut self, number: i64) {
        self.varint(((number << 1) ^ (number >> 63)).cast_unsigned());
    }

    /// A length, then the bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.varint(bytes.len() as u64);
        self.raw(bytes);
    }
}

/// How many bytes [`Writer::varint`] takes for `number`.
#[must_use]
pub const fn varint_size_bytes(number: u64) -> usize {
    (64 - (number | 1).leading_zeros() as usize).div_ceil(7)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn integers_read_back_and_take_the_stated_size(number: u64, signed: i64) {
            let mut writer = Writer::new();
            writer.varint(number);
            prop_assert_eq!(writer.len(), varint_size_bytes(number));
            writer.signed(signed);
            let mut reader = Reader::new(writer.as_bytes());
            prop_assert_eq!(reader.varint("number"), Ok(number));
            prop_assert_eq!(reader.signed("signed"), Ok(signed));
            prop_assert_eq!(reader.finish(), Ok(()));
        }

        #[test]
        fn whatever_reads_as_a_varint_writes_the_same_bytes(bytes in prop::collection::vec(any::<u8>(), 0..12)) {
            let mut reader = Reader::new(&bytes);
            if let Ok(number) = reader.varint("number") {
                let mut writer = Writer::new();
                writer.varint(number);
                prop_assert_eq!(writer.as_bytes(), &bytes[..reader.offset_bytes()]);
            }
        }
    }

    #[test]
    fn a_claimed_count_is_checked_against_the_bytes_that_are_left() {
        let mut reader = Reader::new(&[0x05, 1, 2]);
        assert_eq!(
            reader.bytes("name"),
            Err(DecodeError::TooLarge { field: "name", claimed: 5, limit: 2 })
        );
    }

    #[test]
    fn golden_varints() {
        let mut writer = Writer::new();
        writer.varint(300);
        writer.signed(-1);
        writer.varint(u64::MAX);
        assert_eq!(writer.as_bytes(), b"\xAC\x02\x01\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01");
    }
}
