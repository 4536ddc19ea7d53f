//! Frames on the wire.
//!
//! ```text
//! byte 0   FIN (1 bit), reserved (3 bits, zero), opcode (4 bits)
//! byte 1   MASK (1 bit), length (7 bits: 0..=125, 126 = u16 follows, 127 = u64 follows)
//!          length, big-endian, in its shortest form
//!          masking key (4 bytes), only from client to server
//!          payload
//! ```

use crate::error::WebSocketError;

/// The longest header: two bytes, eight of length, four of mask.
pub(crate) const HEADER_BYTES_MAX: usize = 14;

/// The longest payload of a control frame.
pub(crate) const CONTROL_BYTES_MAX: u64 = 125;

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Opcode {
    fn parse(opcode: u8) -> Result<Self, WebSocketError> {
        Ok(match opcode {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xA => Self::Pong,
            _ => return Err(WebSocketError::UnknownOpcode { opcode }),
        })
    }

    const fn code(self) -> u8 {
        match self {
            Self::Continuation => 0x0,
            Self::Text => 0x1,
            Self::Binary => 0x2,
            Self::Close => 0x8,
            Self::Ping => 0x9,
            Self::Pong => 0xA,
        }
    }

    pub(crate) const fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub(crate) is_final: bool,
    pub(crate) opcode: Opcode,
    pub(crate) mask: Option<[u8; 4]>,
    pub(crate) payload_bytes: u64,
}

/// How long the header is that starts with these two bytes.
pub(crate) const fn header_len(second_byte: u8) -> usize {
    let length = match second_byte & 0x7F {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let mask = if second_byte & 0x80 == 0 { 0 } else { 4 };
    2 + length + mask
}

impl FrameHeader {
    /// Checks what the first two bytes already show.
    pub(crate) fn check_start(first: u8, second: u8) -> Result<Opcode, WebSocketError> {
        if first & 0x70 != 0 {
            return Err(WebSocketError::ReservedBit);
        }
        let opcode = Opcode::parse(first & 0x0F)?;
        let is_final = first & 0x80 != 0;
        if opcode.is_control() && (!is_final || u64::from(second & 0x7F) > CONTROL_BYTES_MAX) {
            return Err(WebSocketError::BadControlFrame);
        }
        Ok(opcode)
    }

    /// Reads a whole header: `bytes` has the length that [`header_len`] gives.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, WebSocketError> {
        let (first, second) = (bytes[0], bytes[1]);
        let opcode = Self::check_start(first, second)?;
        let (payload_bytes, mask_start) = match second & 0x7F {
            126 => (u64::from(u16::from_be_bytes([bytes[2], bytes[3]])), 4),
            127 => {
                let length = bytes[2..10].try_into().expect("eight bytes are eight bytes");
                (u64::from_be_bytes(length), 10)
            }
            length => (u64::from(length), 2),
        };
        let is_minimal = match second & 0x7F {
            126 => payload_bytes > CONTROL_BYTES_MAX,
            127 => payload_bytes > u64::from(u16::MAX) && payload_bytes >> 63 == 0,
            _ => true,
        };
        if !is_minimal {
            return Err(WebSocketError::LengthNotMinimal);
        }
        let mask = (second & 0x80 != 0)
            .then(|| bytes[mask_start..mask_start + 4].try_into().expect("four bytes are four"));
        Ok(Self { is_final: first & 0x80 != 0, opcode, mask, payload_bytes })
    }

    /// Writes the header to the end of `out`.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.is_final) << 7 | self.opcode.code());
        let mask_bit = u8::from(self.mask.is_some()) << 7;
        match self.payload_bytes {
            length @ 0..=CONTROL_BYTES_MAX => out.push(mask_bit | length as u8),
            length => match u16::try_from(length) {
                Ok(length) => {
                    out.push(mask_bit | 126);
                    out.extend_from_slice(&length.to_be_bytes());
                }
                Err(_) => {
                    out.push(mask_bit | 127);
                    out.extend_from_slice(&length.to_be_bytes());
                }
            },
        }
        out.extend_from_slice(self.mask.as_ref().map_or(&[], |mask| &mask[..]));
    }
}

/// Masks or unmasks `payload`, which starts `offset` bytes into its frame.
pub(crate) fn apply_mask(payload: &mut [u8], mask: [u8; 4], offset: usize) {
    let mut rotated = mask;
    rotated.rotate_left(offset % 4);
    let word = u64::from(u32::from_ne_bytes(rotated));
    let word = word | word << 32;
    let mut words = payload.chunks_exact_mut(8);
    for chunk in &mut words {
        let value = u64::from_ne_bytes((&*chunk).try_into().expect("a chunk of eight is eight"));
        chunk.copy_from_slice(&(value ^ word).to_ne_bytes());
    }
    for (index, byte) in words.into_remainder().iter_mut().enumerate() {
        *byte ^= rotated[index % 4];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_reads_as_it_was_written() {
        for payload_bytes in [0, 1, 125, 126, 65_535, 65_536, 1 << 40] {
            for mask in [None, Some([1, 2, 3, 4])] {
                let header =
                    FrameHeader { is_final: true, opcode: Opcode::Binary, mask, payload_bytes };
                let mut out = Vec::new();
                header.write(&mut out);
                assert_eq!(header_len(out[1]), out.len());
                assert_eq!(FrameHeader::parse(&out), Ok(header));
            }
        }
    }

    #[test]
    fn lengths_have_one_form() {
        for bytes in [
            &[0x82, 126, 0, 125][..],
            &[0x82, 127, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF],
            &[0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0],
        ] {
            assert_eq!(FrameHeader::parse(bytes), Err(WebSocketError::LengthNotMinimal));
        }
    }

    #[test]
    fn a_mask_is_its_own_inverse_wherever_the_payload_is_split() {
        let payload: Vec<u8> = (0..100).collect();
        let mask = [0x12, 0x34, 0x56, 0x78];
        let expected: Vec<u8> = payload.iter().zip(0..).map(|(b, i)| b ^ mask[i % 4]).collect();
        for split in 0..payload.len() {
            let mut masked = payload.clone();
            let (left, right) = masked.split_at_mut(split);
            apply_mask(left, mask, 0);
            apply_mask(right, mask, split);
            assert_eq!(masked, expected);
        }
    }

    #[test]
    fn the_masked_hello_of_the_rfc_is_understood() {
        // RFC 6455, section 5.7: a single-frame masked text message that contains "Hello".
        let frame = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        let header = FrameHeader::parse(&frame[..6]).unwrap();
        let mut payload = frame[6..].to_vec();
        apply_mask(&mut payload, header.mask.unwrap(), 0);
        assert_eq!(payload, b"Hello");
    }
}
