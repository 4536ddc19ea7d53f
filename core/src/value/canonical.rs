//! Document ids: one value, one string of bytes.
//!
//! The encoding is CBOR under the core deterministic rules of RFC 8949, section 4.2.1: shortest integers,
//! definite lengths, map keys sorted by their encoded bytes. So the order of names in a composite id never
//! matters, and equal ids are equal bytes: storage key, ordering key and hash input in one. Floats and null have
//! no place in an id.

use super::{Object, Value};
use crate::ident::DocId;

/// The longest canonical id.
pub const ID_BYTES_MAX: usize = 2048;

/// How deeply arrays and objects may nest in an id.
pub const ID_DEPTH_MAX: usize = 32;

/// Why a value, or some bytes, cannot be a document id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdError {
    /// There is a float somewhere in the value.
    #[error("Floats are not supported in document IDs")]
    Float,
    /// There is a null somewhere in the value.
    #[error("Null document ID not allowed")]
    Null,
    /// The canonical form would be longer than [`ID_BYTES_MAX`].
    #[error("the document ID takes more than {limit_bytes} bytes: use a shorter one")]
    TooLong {
        /// The limit.
        limit_bytes: usize,
    },
    /// Arrays and objects nest deeper than [`ID_DEPTH_MAX`].
    #[error("the document ID nests deeper than {limit_depth} levels: use a flatter one")]
    TooDeep {
        /// The limit.
        limit_depth: usize,
    },
    /// The bytes end inside an item.
    #[error("the encoded document ID ends early, after {offset_bytes} bytes")]
    Truncated {
        /// Where more was expected.
        offset_bytes: usize,
    },
    /// There are bytes after the item.
    #[error("the encoded document ID ends at byte {offset_bytes}, but more bytes follow")]
    Trailing {
        /// Where the item ended.
        offset_bytes: usize,
    },
    /// The item at this place is not the one canonical encoding of its value: a longer integer than needed, names
    /// out of order or double, an indefinite length.
    #[error("the encoded document ID is not canonical at byte {offset_bytes}")]
    NotCanonical {
        /// Where the item starts.
        offset_bytes: usize,
    },
    /// The item at this place is of a kind that no id holds: a tag, an integer below `i64::MIN`, a name that is
    /// not text, text that is not UTF-8.
    #[error("the encoded document ID has an item of an unknown kind at byte {offset_bytes}")]
    Unsupported {
        /// Where the item starts.
        offset_bytes: usize,
    },
}

/// The canonical form of a value as a document id.
///
/// # Errors
///
/// `Float`, `Null`, `TooLong` or `TooDeep`.
pub fn encode_id(value: &Value) -> Result<DocId, IdError> {
    let mut out = Encoder { bytes: Vec::new() };
    out.item(value, 0)?;
    Ok(DocId::from_canonical(&out.bytes))
}

/// The canonical form of a text id: what most documents have.
///
/// # Errors
///
/// `TooLong`.
pub fn encode_text_id(text: &str) -> Result<DocId, IdError> {
    let mut out = Encoder { bytes: Vec::with_capacity(text.len().min(ID_BYTES_MAX) + 3) };
    out.string(TEXT, text.as_bytes())?;
    Ok(DocId::from_canonical(&out.bytes))
}

/// Takes bytes from a peer or a disk for an id if they are exactly what [`encode_id`] would have made.
///
/// # Errors
///
/// If they are anything else; see [`IdError`].
pub fn decode_id(bytes: &[u8]) -> Result<DocId, IdError> {
    if bytes.len() > ID_BYTES_MAX {
        return Err(IdError::TooLong { limit_bytes: ID_BYTES_MAX });
    }
    let mut reader = Reader { bytes, offset: 0 };
    reader.check_item(0)?;
    if reader.offset != bytes.len() {
        return Err(IdError::Trailing { offset_bytes: reader.offset });
    }
    Ok(DocId::from_canonical(bytes))
}

impl DocId {
    /// The value this id was made from, the names in its objects sorted.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let mut reader = Reader { bytes: self.as_bytes(), offset: 0 };
        reader.build_item().expect("a DocId holds the canonical bytes of a value")
    }
}

// Major types of RFC 8949, section 3.1, in place in the initial byte.
const UNSIGNED: u8 = 0 << 5;
const NEGATIVE: u8 = 1 << 5;
const BYTES: u8 = 2 << 5;
const TEXT: u8 = 3 << 5;
const ARRAY: u8 = 4 << 5;
const MAP: u8 = 5 << 5;
const SIMPLE: u8 = 7 << 5;

// Simple values and the additional information that announces a float.
const FALSE: u64 = 20;
const TRUE: u64 = 21;
const NULL: u64 = 22;
const FLOAT_INFO: std::ops::RangeInclusive<u8> = 25..=27;

struct Encoder {
    bytes: Vec<u8>,
}

impl Encoder {
    fn item(&mut self, value: &Value, depth: usize) -> Result<(), IdError> {
        match value {
            Value::Null => Err(IdError::Null),
            Value::Float(_) => Err(IdError::Float),
            Value::Bool(value) => self.head(SIMPLE, if *value { TRUE } else { FALSE }),
            Value::Int(value) if *value < 0 => self.head(NEGATIVE, !*value as u64),
            Value::Int(value) => self.head(UNSIGNED, *value as u64),
            Value::UInt(value) => self.head(UNSIGNED, *value),
            Value::Bytes(bytes) => self.string(BYTES, bytes),
            Value::String(text) => self.string(TEXT, text.as_bytes()),
            Value::Array(elements) => {
                let depth = deeper(depth)?;
                self.head(ARRAY, elements.len() as u64)?;
                elements.iter().try_for_each(|element| self.item(element, depth))
            }
            Value::Object(object) => self.map(object, deeper(depth)?),
        }
    }

    /// Encoded names start with their length, so shorter names come first and equally long ones by bytes.
    fn map(&mut self, object: &Object, depth: usize) -> Result<(), IdError> {
        self.head(MAP, object.len() as u64)?;
        // Every name takes a byte at least: what cannot fit is not sorted.
        self.check_room(object.len())?;
        let mut entries: Vec<(&str, &Value)> = object.iter().collect();
        entries.sort_by_key(|(name, _)| (name.len(), *name));
        for (name, value) in entries {
            self.string(TEXT, name.as_bytes())?;
            self.item(value, depth)?;
        }
        Ok(())
    }

    fn string(&mut self, major: u8, content: &[u8]) -> Result<(), IdError> {
        self.head(major, content.len() as u64)?;
        self.check_room(content.len())?;
        self.bytes.extend_from_slice(content);
        Ok(())
    }

    /// The initial byte and the shortest form of its argument.
    fn head(&mut self, major: u8, argument: u64) -> Result<(), IdError> {
        let big_endian = argument.to_be_bytes();
        let (info, from) = match argument {
            0..24 => (argument as u8, 8),
            24..0x100 => (24, 7),
            0x100..0x1_0000 => (25, 6),
            0x1_0000..0x1_0000_0000 => (26, 4),
            _ => (27, 0),
        };
        self.check_room(1 + 8 - from)?;
        self.bytes.push(major | info);
        self.bytes.extend_from_slice(&big_endian[from..]);
        Ok(())
    }

    fn check_room(&self, more_bytes: usize) -> Result<(), IdError> {
        if more_bytes > ID_BYTES_MAX - self.bytes.len() {
            return Err(IdError::TooLong { limit_bytes: ID_BYTES_MAX });
        }
        Ok(())
    }
}

/// The depth inside one more array or object.
fn deeper(depth: usize) -> Result<usize, IdError> {
    if depth == ID_DEPTH_MAX {
        return Err(IdError::TooDeep { limit_depth: ID_DEPTH_MAX });
    }
    Ok(depth + 1)
}

/// Reads items off the front. `check_item` trusts nothing; `build_item` runs over bytes that were checked.
struct Reader<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    fn check_item(&mut self, depth: usize) -> Result<(), IdError> {
        let offset_bytes = self.offset;
        let (major, argument) = self.head()?;
        match major {
            UNSIGNED => Ok(()),
            NEGATIVE if argument <= i64::MAX as u64 => Ok(()),
            BYTES => self.take(argument).map(drop),
            TEXT => match std::str::from_utf8(self.take(argument)?) {
                Ok(_) => Ok(()),
                Err(_) => Err(IdError::Unsupported { offset_bytes }),
            },
            // A count beyond the bytes at hand ends in `Truncated`: nothing is allocated by it.
            ARRAY => {
                let depth = deeper(depth)?;
                (0..argument).try_for_each(|_| self.check_item(depth))
            }
            MAP => self.check_map(argument, deeper(depth)?),
            SIMPLE if matches!(argument, FALSE | TRUE) => Ok(()),
            SIMPLE if argument == NULL => Err(IdError::Null),
            _ => Err(IdError::Unsupported { offset_bytes }),
        }
    }

    fn check_map(&mut self, count: u64, depth: usize) -> Result<(), IdError> {
        let mut previous: &[u8] = &[];
        for _ in 0..count {
            let offset_bytes = self.offset;
            if self.bytes.get(offset_bytes).is_some_and(|initial| initial & MAJOR_MASK != TEXT) {
                return Err(IdError::Unsupported { offset_bytes });
            }
            self.check_item(depth)?;
            let name = &self.bytes[offset_bytes..self.offset];
            if name <= previous {
                return Err(IdError::NotCanonical { offset_bytes });
            }
            previous = name;
            self.check_item(depth)?;
        }
        Ok(())
    }

    /// The value of the next item, or `None` if the bytes were never checked.
    fn build_item(&mut self) -> Option<Value> {
        let (major, argument) = self.head().ok()?;
        Some(match major {
            UNSIGNED => Value::from(argument),
            NEGATIVE => Value::Int(!i64::try_from(argument).ok()?),
            BYTES => Value::Bytes(self.take(argument).ok()?.into()),
            TEXT => Value::String(self.text(argument)?.into()),
            ARRAY => {
                let elements: Option<Vec<_>> = (0..argument).map(|_| self.build_item()).collect();
                Value::Array(elements?)
            }
            MAP => {
                let entry = |_| {
                    let (_, length) = self.head().ok()?;
                    let name = Box::from(self.text(length)?);
                    Some((name, self.build_item()?))
                };
                let entries: Option<Vec<_>> = (0..argument).map(entry).collect();
                Value::Object(Object::from_entries(entries?).ok()?)
            }
            _ => Value::Bool(argument == TRUE),
        })
    }

    /// The major type and its argument, only in its shortest form.
    fn head(&mut self) -> Result<(u8, u64), IdError> {
        let offset_bytes = self.offset;
        let initial = self.take(1)?[0];
        let (major, info) = (initial & MAJOR_MASK, initial & !MAJOR_MASK);
        if major == SIMPLE && FLOAT_INFO.contains(&info) {
            return Err(IdError::Float);
        }
        let (width, least) = match info {
            0..24 => return Ok((major, info.into())),
            24 => (1, 24),
            25 => (2, 0x100),
            26 => (4, 0x1_0000),
            27 => (8, 0x1_0000_0000),
            _ => return Err(IdError::NotCanonical { offset_bytes }),
        };
        let argument =
            self.take(width)?.iter().fold(0, |number, &byte| number << 8 | u64::from(byte));
        // The simple values of two bytes include no boolean.
        if argument < least || major == SIMPLE {
            return Err(IdError::NotCanonical { offset_bytes });
        }
        Ok((major, argument))
    }

    fn text(&mut self, length_bytes: u64) -> Option<&'a str> {
        std::str::from_utf8(self.take(length_bytes).ok()?).ok()
    }

    fn take(&mut self, count: u64) -> Result<&'a [u8], IdError> {
        let rest = &self.bytes[self.offset..];
        let taken = usize::try_from(count).ok().and_then(|count| rest.get(..count));
        let taken = taken.ok_or(IdError::Truncated { offset_bytes: self.bytes.len() })?;
        self.offset += taken.len();
        Ok(taken)
    }
}

const MAJOR_MASK: u8 = 7 << 5;

#[cfg(test)]
mod tests;
