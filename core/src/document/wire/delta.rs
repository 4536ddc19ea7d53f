//! Deltas as logged and sent.

use super::component::{self, Contents};
use super::{Paths, decode_dots, encode_dots, note_vector, with_room_for};
use crate::codec::{DecodeError, Reader, Table, TableBuilder, Writer};
use crate::document::delta::{Base, Increment, Listed};
use crate::document::listing::{Component, Listing};
use crate::document::{Delta, Digest, Kind, Path, Vector};
use crate::ident::Dot;
use crate::time::Hlc;

impl Delta {
    /// This delta as bytes that stand for themselves: its own table, then the delta.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut builder = TableBuilder::default();
        self.note_dots(&mut builder);
        let table = builder.finish();
        let mut to = Writer::new();
        table.encode(&mut to);
        self.encode(&table, &mut to);
        to.into_bytes()
    }

    /// Reads what [`Self::to_bytes`] wrote.
    ///
    /// # Errors
    ///
    /// If the bytes are not that.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut from = Reader::new(bytes);
        let table = Table::decode(&mut from)?;
        let delta = Self::decode(&table, &mut from)?;
        from.finish()?;
        Ok(delta)
    }

    /// Shows every dot to the builder of the table that this delta will be encoded against.
    pub fn note_dots(&self, table: &mut TableBuilder) {
        self.author.iter().for_each(|&dot| table.note(dot));
        let (Base::Vector(base)
        | Base::Digest { listed: base, .. }
        | Base::Part { part: base, .. }) = &self.base;
        note_vector(base, table);
        self.raised.iter().for_each(|&dot| table.note(dot));
        note_vector(&self.trimmed, table);
        for (dot, content) in self.listed.iter().flat_map(Component::entries) {
            component::note_entry(dot, content, table);
        }
    }

    /// Appends this delta. `table` was built with its dots.
    pub fn encode(&self, table: &Table, to: &mut Writer) {
        to.byte(VERSION);
        let digest = matches!(self.base, Base::Digest { .. });
        let part = matches!(self.base, Base::Part { .. });
        let flag = |holds: bool, flag: u8| if holds { flag } else { 0 };
        to.byte(
            flag(self.author.is_some(), AUTHORED)
                | flag(digest, BY_DIGEST)
                | flag(part, BY_PART)
                | flag(!self.trimmed.is_empty(), TRIMMED),
        );
        self.author.iter().for_each(|&dot| table.encode_dot(dot, to));
        self.encode_base(table, to);
        if !self.trimmed.is_empty() {
            encode_dots(self.trimmed.len(), self.trimmed.iter(), table, to);
        }
        let mut paths = Paths::new(to.len());
        to.varint(self.regions.len() as u64);
        self.regions.iter().for_each(|path| paths.encode(path, to));
        to.varint(self.listed.len() as u64);
        for listed in self.listed.iter() {
            let (key, context) = ((listed.path, listed.kind), (table, &mut paths));
            component::encode(key, listed.entries(), Contents::Optional, context, to);
        }
        to.varint(self.increments.len() as u64);
        for Increment { path, kind, by } in &self.increments {
            to.byte(kind.0);
            paths.encode(path, to);
            component::encode_number(*by, to);
        }
    }

    /// Reads a delta.
    ///
    /// # Errors
    ///
    /// If the bytes run out, or are not what [`Self::encode`] writes.
    pub fn decode(table: &Table, from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        from.version("delta", VERSION)?;
        let flags = from.byte("delta flags")?;
        let is_named_twice = flags & BY_DIGEST != 0 && flags & BY_PART != 0;
        if flags & !(AUTHORED | BY_DIGEST | TRIMMED | BY_PART) != 0 || is_named_twice {
            return Err(from.invalid("delta flags"));
        }
        let author = if flags & AUTHORED != 0 { Some(table.decode_dot(from)?) } else { None };
        let digest = match flags & (BY_DIGEST | BY_PART) {
            0 => None,
            _ => Some(decode_digest(from)?),
        };
        let (vector, raised) = decode_base_vector(table, from)?;
        let base = match digest {
            None => Base::Vector(vector),
            Some(digest) if flags & BY_PART != 0 => Base::Part { digest, part: vector },
            Some(digest) => Base::Digest { digest, listed: vector },
        };
        let trimmed: Vector = match flags & TRIMMED {
            0 => Vector::new(),
            _ => decode_dots("trimmed marks", table, from)?.into_iter().collect(),
        };
        let mut paths = Paths::new(from.offset_bytes());
        let regions = decode_regions(&mut paths, from)?;
        let says_trimmed = flags & TRIMMED != 0;
        let root_only = matches!(&regions[..], [region] if region.is_root());
        if says_trimmed && (trimmed.is_empty() || !root_only) {
            return Err(from.invalid("trimmed marks"));
        }
        let listed = Listing::Single(decode_listed(table, &mut paths, from)?);
        let increments = decode_increments(&mut paths, from)?;
        if author.is_none() && !increments.is_empty() {
            return Err(from.invalid("increments"));
        }
        Ok(Self { author, base, raised, trimmed, regions, listed, increments })
    }

    fn encode_base(&self, table: &Table, to: &mut Writer) {
        let base = match &self.base {
            Base::Vector(base) => base,
            Base::Part { digest, part: listed } | Base::Digest { digest, listed } => {
                encode_digest(*digest, to);
                listed
            }
        };
        let mut sender = base.clone();
        self.raised.iter().for_each(|&dot| {
            sender.raise(dot);
        });
        to.varint(sender.len() as u64);
        for dot in &sender {
            table.encode_dot(dot, to);
            match base.get(dot.actor) {
                Hlc(0) => to.varint(BASE_NONE),
                Hlc(hlc) if hlc == dot.hlc.0 => to.varint(BASE_SAME),
                Hlc(hlc) => to.varint(dot.hlc.0 - hlc + BASE_NONE),
            }
        }
    }
}

fn encode_digest(digest: Digest, to: &mut Writer) {
    to.byte(Digest::VERSION);
    to.raw(&digest.0.to_le_bytes());
}

fn decode_digest(from: &mut Reader<'_>) -> Result<Digest, DecodeError> {
    from.version("base digest", Digest::VERSION)?;
    Ok(Digest(u128::from_le_bytes(from.array("base digest")?)))
}

fn decode_base_vector(
    table: &Table,
    from: &mut Reader<'_>,
) -> Result<(Vector, Vec<Dot>), DecodeError> {
    const FIELD: &str = "base vector";
    let count = from.count(FIELD, 2)?;
    let mut base = Vector::new();
    let mut raised: Vec<Dot> = Vec::new();
    let mut last = None;
    for _ in 0..count {
        let dot = table.decode_dot(from)?;
        if last.replace(dot.actor).is_some_and(|last| last >= dot.actor) {
            return Err(from.invalid(FIELD));
        }
        match from.varint(FIELD)? {
            BASE_SAME => {
                base.raise(dot);
            }
            BASE_NONE => raised.push(dot),
            behind => {
                let below = dot.hlc.0.checked_sub(behind - BASE_NONE).filter(|&hlc| hlc > 0);
                let hlc = Hlc(below.ok_or_else(|| from.invalid(FIELD))?);
                base.raise(Dot { hlc, ..dot });
                raised.push(dot);
            }
        }
    }
    Ok((base, raised))
}

fn decode_regions(paths: &mut Paths, from: &mut Reader<'_>) -> Result<Vec<Path>, DecodeError> {
    let count = from.count("regions", 2)?;
    let mut regions: Vec<Path> = with_room_for(count);
    for _ in 0..count {
        let path = paths.decode(from)?;
        if regions.last().is_some_and(|last| *last >= path || path.starts_with(last)) {
            return Err(from.invalid("regions"));
        }
        regions.push(path);
    }
    Ok(regions)
}

fn decode_listed(
    table: &Table,
    paths: &mut Paths,
    from: &mut Reader<'_>,
) -> Result<Vec<Listed>, DecodeError> {
    let count = from.count("listed components", 3)?;
    let mut listed: Vec<Listed> = with_room_for(count);
    for _ in 0..count {
        let next = component::decode(Contents::Optional, (table, paths), from)?;
        let key = (&next.path, next.kind);
        if listed.last().is_some_and(|last| (&last.path, last.kind) >= key) {
            return Err(from.invalid("listed components"));
        }
        listed.push(next);
    }
    Ok(listed)
}

fn decode_increments(
    paths: &mut Paths,
    from: &mut Reader<'_>,
) -> Result<Vec<Increment>, DecodeError> {
    const FIELD: &str = "increments";
    let count = from.count(FIELD, 4)?;
    let mut increments: Vec<Increment> = with_room_for(count);
    for _ in 0..count {
        let kind = Kind(from.byte(FIELD)?);
        let path = paths.decode(from)?;
        let by = component::decode_number(from)?;
        let fits = match kind {
            Kind::COUNTER => by.as_int().is_some(),
            Kind::PN_COUNTER => true,
            _ => false,
        };
        let key = (&path, kind);
        let ascends = increments.last().is_none_or(|last| (&last.path, last.kind) < key);
        if !fits || !ascends || path.is_root() {
            return Err(from.invalid(FIELD));
        }
        increments.push(Increment { path, kind, by });
    }
    Ok(increments)
}

const VERSION: u8 = 1;
const AUTHORED: u8 = 1;
const BY_DIGEST: u8 = 16;
const TRIMMED: u8 = 4;
const BY_PART: u8 = 8;
const BASE_SAME: u64 = 0;
const BASE_NONE: u64 = 1;
