//! The compact lists inside frames: offers, needs, outcomes, and the payload of an update.
//!
//! Integers are LEB128 of at most ten bytes, strings and byte strings carry their length first. A document key is
//! its collection (length 0: the same as in the entry before) and its canonical id.
//!
//! ```text
//! offer    key | digest 16 | flags (bit 0: tombstone)
//! need     index | 0, or length of the vector + 1 | vector
//! outcome  index | kind | by kind: 1 rejected: reason   2 need base: as in need, without index
//!                                  3 evicted: -         4 deleted: length | tombstone
//! update   key | kind | by kind:   1 full: length | delta            2 delta: base digest 16 | length | delta
//!                                  3 tombstone: length | tombstone   4 left: digest 16      5 evicted: -
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::sync::error::ProtocolError;
use crate::sync::host::{Digest, DocKey, ItemBody, Offered, Outcome, RejectReason, UpdateItem};
use crate::value::canonical::decode_id;

use super::{COLLECTION_BYTES_MAX, ID_BYTES_MAX, VECTOR_BYTES_MAX};

/// Writes one list.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    out: BytesMut,
    collection: String,
}

impl Writer {
    pub(crate) fn finish(self) -> Bytes {
        self.out.freeze()
    }

    pub(crate) fn offered(&mut self, offered: &Offered) {
        self.key(&offered.key);
        self.out.put_slice(&offered.digest.0);
        self.out.put_u8(u8::from(offered.tombstone));
    }

    pub(crate) fn need(&mut self, index: u32, vector: Option<&Bytes>) {
        self.number(u64::from(index));
        self.vector(vector);
    }

    pub(crate) fn outcome(&mut self, index: u32, outcome: &Outcome) {
        self.number(u64::from(index));
        match outcome {
            Outcome::Accepted => unreachable!("an accepted item is not listed"),
            Outcome::Rejected(reason) => {
                self.out.put_u8(1);
                self.out.put_u8(reason_code(*reason));
            }
            Outcome::NeedBase { vector } => {
                self.out.put_u8(2);
                self.vector(vector.as_ref());
            }
            Outcome::Evicted => self.out.put_u8(3),
            Outcome::Deleted { tombstone } => {
                self.out.put_u8(4);
                self.bytes(tombstone);
            }
        }
    }

    pub(crate) fn update(&mut self, item: &UpdateItem) {
        self.key(&item.key);
        match &item.body {
            ItemBody::Delta { base: None, bytes } => {
                self.out.put_u8(1);
                self.bytes(bytes);
            }
            ItemBody::Delta { base: Some(base), bytes } => {
                self.out.put_u8(2);
                self.out.put_slice(&base.0);
                self.bytes(bytes);
            }
            ItemBody::Tombstone { bytes } => {
                self.out.put_u8(3);
                self.bytes(bytes);
            }
            ItemBody::Left { digest } => {
                self.out.put_u8(4);
                self.out.put_slice(&digest.0);
            }
            ItemBody::Evicted => self.out.put_u8(5),
        }
    }

    fn key(&mut self, key: &DocKey) {
        if self.collection == key.collection {
            self.number(0);
        } else {
            self.collection.clone_from(&key.collection);
            self.bytes(key.collection.as_bytes());
        }
        self.bytes(key.id.as_bytes());
    }

    fn vector(&mut self, vector: Option<&Bytes>) {
        match vector {
            None => self.number(0),
            Some(vector) => {
                self.number(vector.len() as u64 + 1);
                self.out.put_slice(vector);
            }
        }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.out.put_slice(bytes);
    }

    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.out.put_u8(number as u8 | 0x80);
            number >>= 7;
        }
        self.out.put_u8(number as u8);
    }
}

/// Reads one list; the bodies are slices of the input.
#[derive(Debug)]
pub(crate) struct Reader {
    input: Bytes,
    frame: &'static str,
    collection: String,
}

impl Reader {
    pub(crate) fn new(input: Bytes, frame: &'static str) -> Self {
        Self { input, frame, collection: String::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.input.is_empty()
    }

    pub(crate) fn offered(&mut self) -> Result<Offered, ProtocolError> {
        let key = self.key()?;
        let digest = Digest(self.fixed("digest")?);
        let [flags] = self.fixed("flags")?;
        Ok(Offered { key, digest, tombstone: flags & 1 != 0 })
    }

    pub(crate) fn need(&mut self) -> Result<(u32, Option<Bytes>), ProtocolError> {
        Ok((self.index()?, self.vector()?))
    }

    pub(crate) fn outcome(&mut self) -> Result<(u32, Outcome), ProtocolError> {
        let index = self.index()?;
        let [kind] = self.fixed("outcome")?;
        let outcome = match kind {
            1 => {
                let [code] = self.fixed("reason")?;
                Outcome::Rejected(reason_from(code).ok_or(self.malformed("reason"))?)
            }
            2 => Outcome::NeedBase { vector: self.vector()? },
            3 => Outcome::Evicted,
            4 => Outcome::Deleted { tombstone: self.bytes("tombstone", VECTOR_BYTES_MAX)? },
            _ => return Err(self.malformed("outcome")),
        };
        Ok((index, outcome))
    }

    pub(crate) fn update(&mut self) -> Result<UpdateItem, ProtocolError> {
        let key = self.key()?;
        let [kind] = self.fixed("kind")?;
        let body = match kind {
            1 => ItemBody::Delta { base: None, bytes: self.bytes("delta", usize::MAX)? },
            2 => {
                let base = Some(Digest(self.fixed("base")?));
                ItemBody::Delta { base, bytes: self.bytes("delta", usize::MAX)? }
            }
            3 => ItemBody::Tombstone { bytes: self.bytes("tombstone", usize::MAX)? },
            4 => ItemBody::Left { digest: Digest(self.fixed("digest")?) },
            5 => ItemBody::Evicted,
            _ => return Err(self.malformed("kind")),
        };
        Ok(UpdateItem { key, body })
    }

    fn key(&mut self) -> Result<DocKey, ProtocolError> {
        let collection = self.bytes("collection", COLLECTION_BYTES_MAX)?;
        if !collection.is_empty() {
            let text =
                std::str::from_utf8(&collection).map_err(|_| self.malformed("collection"))?;
            text.clone_into(&mut self.collection);
        }
        if self.collection.is_empty() {
            return Err(self.malformed("collection"));
        }
        let id = self.bytes("id", ID_BYTES_MAX)?;
        let id = decode_id(&id).map_err(|_| self.malformed("id"))?;
        Ok(DocKey { collection: self.collection.clone(), id })
    }

    fn index(&mut self) -> Result<u32, ProtocolError> {
        u32::try_from(self.number("index")?).map_err(|_| self.malformed("index"))
    }

    fn vector(&mut self) -> Result<Option<Bytes>, ProtocolError> {
        match self.number("vector")? {
            0 => Ok(None),
            length => self.take("vector", length - 1, VECTOR_BYTES_MAX).map(Some),
        }
    }

    fn bytes(&mut self, field: &'static str, limit: usize) -> Result<Bytes, ProtocolError> {
        let length = self.number(field)?;
        self.take(field, length, limit)
    }

    fn take(
        &mut self,
        field: &'static str,
        length: u64,
        limit: usize,
    ) -> Result<Bytes, ProtocolError> {
        if length > limit as u64 {
            let (frame, limit) = (self.frame, limit as u64);
            return Err(ProtocolError::TooMany { frame, field, found: length, limit });
        }
        if length > self.input.len() as u64 {
            return Err(self.malformed(field));
        }
        Ok(self.input.split_to(length as usize))
    }

    fn fixed<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], ProtocolError> {
        let mut out = [0; N];
        if self.input.len() < N {
            return Err(self.malformed(field));
        }
        self.input.copy_to_slice(&mut out);
        Ok(out)
    }

    fn number(&mut self, field: &'static str) -> Result<u64, ProtocolError> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.fixed(field)?;
            let bits = u64::from(byte & 0x7F);
            if shift == 63 && bits > 1 {
                break;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(self.malformed(field))
    }

    fn malformed(&self, field: &'static str) -> ProtocolError {
        ProtocolError::Malformed { frame: self.frame, field }
    }
}

const fn reason_code(reason: RejectReason) -> u8 {
    match reason {
        RejectReason::Forbidden => 1,
        RejectReason::ClockSkew => 2,
        RejectReason::TooLarge => 3,
        RejectReason::Malformed => 4,
    }
}

const fn reason_from(code: u8) -> Option<RejectReason> {
    Some(match code {
        1 => RejectReason::Forbidden,
        2 => RejectReason::ClockSkew,
        3 => RejectReason::TooLarge,
        4 => RejectReason::Malformed,
        _ => return None,
    })
}
