//! Randomness of the operating system, read once for each thing that must be unpredictable or unique.

use crate::error::PeerError;

/// `N` bytes that nobody can foresee.
pub(crate) fn bytes<const N: usize>() -> Result<[u8; N], PeerError> {
    let mut bytes = [0; N];
    let filled = getrandom::fill(&mut bytes).map_err(std::io::Error::other);
    filled.map_err(PeerError::io("read randomness from the system"))?;
    Ok(bytes)
}
