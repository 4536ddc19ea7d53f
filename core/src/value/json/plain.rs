//! How far a string goes on without anything special: shared by the parser and the writer.

/// How many bytes at the front stand for themselves inside a JSON string: up to a quote, a backslash, a control
/// character or the end. Looks at eight at a time.
pub(super) fn plain_len(bytes: &[u8]) -> usize {
    let mut length = 0;
    while let Some(chunk) = bytes[length..].first_chunk::<8>() {
        let special = special_bytes(u64::from_le_bytes(*chunk));
        if special != 0 {
            return length + special.trailing_zeros() as usize / 8;
        }
        length += 8;
    }
    // The last eight overlap what was found plain.
    if length < bytes.len()
        && let Some(chunk) = bytes.last_chunk::<8>()
    {
        let special = special_bytes(u64::from_le_bytes(*chunk));
        let found = bytes.len() - 8 + special.trailing_zeros() as usize / 8;
        return if special == 0 { bytes.len() } else { found };
    }
    let tail = bytes[length..].iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20));
    tail.map_or(bytes.len(), |position| length + position)
}

/// Marks, by their high bits, the bytes that end a plain run. A borrow can mark a byte falsely, but only above a
/// true mark, and the caller looks at the lowest.
fn special_bytes(chunk: u64) -> u64 {
    const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
    const HIGHS: u64 = u64::from_ne_bytes([0x80; 8]);
    let quotes = chunk ^ (ONES * b'"' as u64);
    let backslashes = chunk ^ (ONES * b'\\' as u64);
    let below = |bytes: u64, limit: u64| bytes.wrapping_sub(ONES * limit) & !bytes;
    (below(quotes, 1) | below(backslashes, 1) | below(chunk, 0x20)) & HIGHS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_judged_alike_at_every_place() {
        for byte in 0..=u8::MAX {
            let is_special = matches!(byte, b'"' | b'\\' | 0..0x20);
            for (length, at) in (0..20).flat_map(|length| (0..length).map(move |at| (length, at))) {
                let mut bytes = vec![b'!'; length];
                bytes[at] = byte;
                assert_eq!(plain_len(&bytes), if is_special { at } else { length }, "{byte}");
            }
        }
    }
}
