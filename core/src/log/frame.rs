//! The frame around every local archive: segment headers and the blocks of a checkpoint.
//!
//! ```text
//!  0  magic     4  "BPAR"
//!  4  kind      2  little-endian, see the `KIND_*` constants
//!  6  schema    2  version of the archived type
//!  8  length    4  bytes of payload
//! 12  checksum  4  crc32c of the address, of bytes 0..12 and of the payload
//! 16  payload      an rkyv archive, or raw bytes where the kind says so
//! ```
//!
//! The address (a number that names the file, and the offset in it) is not stored: it is only summed, so that a
//! block that landed in the wrong place does not check.

use rkyv::util::AlignedVec;

/// Bytes before the payload.
pub(crate) const FRAME_HEADER_BYTES: usize = 16;

/// A segment's header.
pub(crate) const KIND_SEGMENT: u16 = 1;
/// The first block of a checkpoint.
pub(crate) const KIND_CHECKPOINT_HEADER: u16 = 2;
/// A chunk of a checkpoint: raw bytes.
pub(crate) const KIND_CHECKPOINT_CHUNK: u16 = 3;
/// The last block of a checkpoint.
pub(crate) const KIND_CHECKPOINT_FOOTER: u16 = 4;

const MAGIC: [u8; 4] = *b"BPAR";

/// Where a frame lies: part of its checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameAddress {
    /// The number that names the file.
    pub(crate) file: u64,
    /// Bytes from the start of the file.
    pub(crate) offset_bytes: u64,
}

/// What a frame's header says, once it is known to be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHead {
    pub(crate) kind: u16,
    pub(crate) schema: u16,
    pub(crate) payload_bytes: usize,
    checksum: u32,
}

/// Why bytes are not the frame that was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("the bytes end inside the frame")]
    Truncated,
    #[error("there is no frame here")]
    Magic,
    #[error("the frame is of kind {found}, not {expected}")]
    Kind { found: u16, expected: u16 },
    #[error("the frame has schema version {found}; this build reads {expected}")]
    Schema { found: u16, expected: u16 },
    #[error("the checksum does not match")]
    Checksum,
    #[error("the archive inside the frame is malformed")]
    Archive,
}

/// Frames `payload` for the given address.
pub(crate) fn encode(kind: u16, schema: u16, address: FrameAddress, payload: &[u8]) -> Vec<u8> {
    encode_pieces(kind, schema, address, &[payload], 0)
}

/// Frames a payload that lies in several pieces, with room for `spare_bytes` behind it.
pub(crate) fn encode_pieces(
    kind: u16,
    schema: u16,
    address: FrameAddress,
    pieces: &[&[u8]],
    spare_bytes: usize,
) -> Vec<u8> {
    let payload_bytes = pieces.iter().map(|piece| piece.len()).sum::<usize>();
    let length = u32::try_from(payload_bytes).expect("a framed payload is far below 4 GiB");
    let mut out = Vec::with_capacity(FRAME_HEADER_BYTES + payload_bytes + spare_bytes);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&schema.to_le_bytes());
    out.extend_from_slice(&length.to_le_bytes());
    let checksum = checksum(address, &out, pieces);
    out.extend_from_slice(&checksum.to_le_bytes());
    pieces.iter().for_each(|piece| out.extend_from_slice(piece));
    out
}

/// Reads a frame's header. The length is what the header claims: it is not yet checked.
pub(crate) fn decode_head(bytes: &[u8]) -> Result<FrameHead, FrameError> {
    let head = bytes.get(..FRAME_HEADER_BYTES).ok_or(FrameError::Truncated)?;
    if head[..4] != MAGIC {
        return Err(FrameError::Magic);
    }
    Ok(FrameHead {
        kind: u16::from_le_bytes([head[4], head[5]]),
        schema: u16::from_le_bytes([head[6], head[7]]),
        payload_bytes: u32::from_le_bytes([head[8], head[9], head[10], head[11]]) as usize,
        checksum: u32::from_le_bytes([head[12], head[13], head[14], head[15]]),
    })
}

/// The payload of the frame at the start of `bytes`, checked.
pub(crate) fn decode(
    kind: u16,
    schema: u16,
    address: FrameAddress,
    bytes: &[u8],
) -> Result<&[u8], FrameError> {
    let head = decode_head(bytes)?;
    let payload = bytes
        .get(FRAME_HEADER_BYTES..)
        .and_then(|rest| rest.get(..head.payload_bytes))
        .ok_or(FrameError::Truncated)?;
    if checksum(address, &bytes[..12], &[payload]) != head.checksum {
        return Err(FrameError::Checksum);
    }
    if head.kind != kind {
        return Err(FrameError::Kind { found: head.kind, expected: kind });
    }
    if head.schema != schema {
        return Err(FrameError::Schema { found: head.schema, expected: schema });
    }
    Ok(payload)
}

/// The same bytes at an address that rkyv accepts: archives are read in place, frames lie anywhere.
pub(crate) fn aligned(payload: &[u8]) -> AlignedVec {
    let mut out = AlignedVec::with_capacity(payload.len());
    out.extend_from_slice(payload);
    out
}

fn checksum(address: FrameAddress, head: &[u8], payload: &[&[u8]]) -> u32 {
    let mut sum = crc32c::crc32c(&address.file.to_le_bytes());
    sum = crc32c::crc32c_append(sum, &address.offset_bytes.to_le_bytes());
    sum = crc32c::crc32c_append(sum, head);
    payload.iter().fold(sum, |sum, piece| crc32c::crc32c_append(sum, piece))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: FrameAddress = FrameAddress { file: 7, offset_bytes: 512 };

    #[test]
    fn a_frame_opens_only_at_its_own_address_and_as_its_own_kind() {
        let frame = encode(KIND_SEGMENT, 1, HERE, b"payload");
        assert_eq!(decode(KIND_SEGMENT, 1, HERE, &frame), Ok(&b"payload"[..]));
        let elsewhere = FrameAddress { offset_bytes: 1_024, ..HERE };
        assert_eq!(decode(KIND_SEGMENT, 1, elsewhere, &frame), Err(FrameError::Checksum));
        assert!(matches!(decode(9, 1, HERE, &frame), Err(FrameError::Kind { .. })));
        assert!(matches!(decode(KIND_SEGMENT, 2, HERE, &frame), Err(FrameError::Schema { .. })));
    }

    #[test]
    fn no_flipped_bit_and_no_cut_passes() {
        let frame = encode(KIND_SEGMENT, 1, HERE, b"payload");
        for bit in 0..frame.len() * 8 {
            let mut bad = frame.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(KIND_SEGMENT, 1, HERE, &bad).is_err(), "bit {bit}");
        }
        for cut in 0..frame.len() {
            assert!(decode(KIND_SEGMENT, 1, HERE, &frame[..cut]).is_err(), "cut {cut}");
        }
    }
}
