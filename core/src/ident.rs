//! Identities: newtypes that keep two numbers of one width from being swapped.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use smallvec::SmallVec;

use crate::time::Hlc;

/// Sixteen bytes written as a lower-case hyphenated UUID.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Uuid(pub [u8; 16]);

/// The order of the bytes, as two registers compare it: every look-up of a document begins with its app.
impl Ord for Uuid {
    fn cmp(&self, other: &Self) -> Ordering {
        u128::from_be_bytes(self.0).cmp(&u128::from_be_bytes(other.0))
    }
}

impl PartialOrd for Uuid {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not a UUID of the form `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a UUID: expected 32 hexadecimal digits as 8-4-4-4-12")]
pub struct UuidError;

impl FromStr for Uuid {
    type Err = UuidError;

    fn from_str(text: &str) -> Result<Self, UuidError> {
        let text = text.as_bytes();
        if text.len() != 36 {
            return Err(UuidError);
        }
        if [8, 13, 18, 23].iter().any(|&dash| text[dash] != b'-') {
            return Err(UuidError);
        }
        let mut out = [0_u8; 16];
        for (byte, at) in out.iter_mut().zip(UUID_DIGITS_AT) {
            *byte = hex_digit(text[at])? << 4 | hex_digit(text[at + 1])?;
        }
        Ok(Self(out))
    }
}

/// Where each byte's two digits stand in the text of a UUID.
const UUID_DIGITS_AT: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];

fn hex_digit(digit: u8) -> Result<u8, UuidError> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(UuidError),
    }
}

/// An app: the boundary that no query, subscription, key or transaction crosses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AppId(pub Uuid);

impl fmt::Display for AppId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The author of an edit: 8 bytes of site (from the peer key), then 8 bytes of epoch. The last two bytes of a
/// server's epoch are the lane: the partition that authored. Ties between equal clocks fall by these bytes.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Actor(pub [u8; 16]);

impl Actor {
    /// Joins a site, an epoch and a lane; the low two bytes of `epoch` are replaced by the lane.
    #[must_use]
    pub fn new(site: u64, epoch: u64, lane: u16) -> Self {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&site.to_be_bytes());
        bytes[8..].copy_from_slice(&epoch.to_be_bytes());
        bytes[14..].copy_from_slice(&lane.to_be_bytes());
        Self(bytes)
    }

    /// The store that writes under it: [`PeerKey::site`].
    #[must_use]
    pub fn site(&self) -> u64 {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.0[..8]);
        u64::from_be_bytes(bytes)
    }
}

impl fmt::Debug for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in &self.0[..] {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// One edit event: the clock value and its author. Ordered by clock, ties by actor bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dot {
    /// The commit's clock value.
    pub hlc: Hlc,
    /// Who committed.
    pub actor: Actor,
}

/// A position in the transaction log, and the id of the transaction there. Zero is the empty database; rises
/// with holes; stays below 2^53 so that every JSON reader keeps it exact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Txn(pub u64);

impl Txn {
    /// The largest position: JavaScript's last exact integer.
    pub const MAX: Self = Self((1 << 53) - 1);

    /// The next position.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Txn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

macro_rules! random_identity {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

random_identity! {
    /// One log, for its whole life; a restore keeps it.
    LogId
}
random_identity! {
    /// One start of a process on a log. The log's boot table says which positions each boot wrote.
    BootId
}
random_identity! {
    /// One store directory; a re-created directory is another store.
    StoreId
}
random_identity! {
    /// One transaction, wherever it travels: a retry carries the same id and takes effect once.
    TxnId
}

/// A peer's public identity: the SHA-256 of its P-256 public key. The first eight bytes are its site.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerKey(pub [u8; 32]);

impl PeerKey {
    /// The site number of this peer's actors.
    #[must_use]
    pub fn site(&self) -> u64 {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.0[..8]);
        u64::from_be_bytes(bytes)
    }
}

impl fmt::Display for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..6].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A partition of one data directory: fixed in number when the directory is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId(pub u16);

/// The hashed position of a document in the key space. The hash is frozen: XXH3-64, seed 0, over the app's
/// sixteen bytes, the length of the collection's name as two little-endian bytes, the name, and the canonical
/// id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u64);

impl Slot {
    /// The slot of a document.
    #[must_use]
    pub fn of(app: AppId, collection: &str, id: &DocId) -> Self {
        // Hashing pieces one after the other gives the same and costs several times as much.
        let mut key = SmallVec::<[u8; 128]>::from_slice(&app.0.0);
        let collection_bytes = u16::try_from(collection.len()).unwrap_or(u16::MAX);
        key.extend_from_slice(&collection_bytes.to_le_bytes());
        key.extend_from_slice(collection.as_bytes());
        key.extend_from_slice(id.as_bytes());
        Self(xxhash_rust::xxh3::xxh3_64(&key))
    }

    /// The partition that owns this slot when the key space is cut into `partitions` equal slices.
    #[must_use]
    pub fn partition(self, partitions: u16) -> PartitionId {
        PartitionId(((u128::from(self.0) * u128::from(partitions)) >> 64) as u16)
    }
}

/// A document's `_id` in its canonical encoding (deterministic CBOR, at most 2 KiB): storage key, ordering key
/// and identity in one. Made by [`crate::value::canonical`].
///
/// An id as long as a UUID's text lies in place: a search among many compares them without going elsewhere.
#[derive(PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DocId(SmallVec<[u8; 40]>);

impl DocId {
    /// The id with this canonical encoding.
    pub(crate) fn from_canonical(bytes: &[u8]) -> Self {
        Self(SmallVec::from_slice(bytes))
    }

    /// The canonical bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Clone for DocId {
    fn clone(&self) -> Self {
        // The derived one goes byte by byte.
        Self::from_canonical(&self.0)
    }
}

impl fmt::Debug for DocId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "id:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_reads_back_what_it_prints() {
        let uuid = Uuid(*b"0123456789abcdef");
        assert_eq!(uuid.to_string().parse(), Ok(uuid));
        assert_eq!("30313233-3435-3637-3839-61626364656".parse::<Uuid>(), Err(UuidError));
        assert_eq!("30313233x3435-3637-3839-616263646566".parse::<Uuid>(), Err(UuidError));
    }

    #[test]
    fn slots_are_frozen() {
        let app = AppId(Uuid([7; 16]));
        let id = DocId::from_canonical(b"\x63abc");
        assert_eq!(Slot::of(app, "cars", &id), Slot(0x5321_fff0_edf8_1328));
    }

    #[test]
    fn partitions_cover_the_key_space_evenly() {
        assert_eq!(Slot(0).partition(16), PartitionId(0));
        assert_eq!(Slot(u64::MAX).partition(16), PartitionId(15));
        assert_eq!(Slot(1 << 60).partition(16), PartitionId(1));
    }
}
