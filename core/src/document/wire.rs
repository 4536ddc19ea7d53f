//! The one encoding of documents and deltas: the same in the log, in the store and between peers.
//!
//! Several of them in one record share a [`Table`]: show each to a [`TableBuilder`], write the table, then encode
//! each against it.
//!
//! ```text
//! document:  version (1), vector, trimmed vector, component count, components
//! vector:    count, dots by actor
//! component: kind (with 80 if it has one entry, of the default dot, with content), path,
//!            unless 80: entry count, entries
//! entry:     dot, [delta: 1 if content follows, else 0], content
//! path:      bytes shared with the previous path here, further bytes (length first)
//! content:   mark: strict 0/1     map: nothing     register, attachment: value
//!            counter: 00 setting (signed) | 01 sum (signed) | 02 sum of a setting (dot, signed)
//!            pn counter: value (a number)     kinds not known: length, bytes
//! delta:     version (1), flags (1 author, 2 base by digest, 4 trimmed, 8 base by digest and part), [author: dot],
//!            by vector: count, (dot of the sender, 0 base has it | 1 base has none | base is n − 1 behind)
//!            by digest: digest version, digest (16, little-endian), raised (count, dots by actor)
//!            by digest and part: digest version, digest, then as by vector, of the actors that matter
//!            [trimmed vector], region count, paths, component count, components,
//!            increment count, (kind, path, number)
//! ```

mod component;
mod delta;
mod state;

use super::{Path, Vector};
use crate::codec::{DecodeError, Reader, Table, TableBuilder, Writer};
use crate::ident::Dot;

fn note_vector(vector: &Vector, table: &mut TableBuilder) {
    vector.iter().for_each(|dot| table.note(dot));
}

fn encode_dots(count: usize, dots: impl Iterator<Item = Dot>, table: &Table, to: &mut Writer) {
    to.varint(count as u64);
    dots.for_each(|dot| table.encode_dot(dot, to));
}

/// Dots of different actors, by actor.
fn decode_dots(
    field: &'static str,
    table: &Table,
    from: &mut Reader<'_>,
) -> Result<Vec<Dot>, DecodeError> {
    let count = from.count(field, 1)?;
    let mut dots: Vec<Dot> = with_room_for(count);
    for _ in 0..count {
        let dot = table.decode_dot(from)?;
        if dots.last().is_some_and(|last| last.actor >= dot.actor) {
            return Err(from.invalid(field));
        }
        dots.push(dot);
    }
    Ok(dots)
}

/// Memory for as many items as bytes claim to hold, but for few before any of them has been read: a claim is free to
/// whoever sends it.
fn with_room_for<T>(count: usize) -> Vec<T> {
    Vec::with_capacity(count.min(RESERVE_COUNT_MAX))
}

/// Shortens a sequence of paths by what each shares with the one before.
///
/// Sharing lets few bytes stand for long paths. So that foreign bytes cannot blow up memory, both sides hold the
/// sum of all paths to [`PATHS_RATIO_MAX`] times what was written so far; beyond that a path is written whole.
#[derive(Default)]
struct Paths {
    previous: Vec<u8>,
    start_bytes: usize,
    total_bytes: usize,
}

impl Paths {
    fn new(start_bytes: usize) -> Self {
        Self { start_bytes, ..Self::default() }
    }

    fn encode(&mut self, path: &Path, to: &mut Writer) {
        let path = path.as_bytes();
        self.total_bytes += path.len();
        let shared = self.previous.iter().zip(path).take_while(|(a, b)| a == b).count();
        let shared = if self.is_over(to.len()) { 0 } else { shared };
        to.varint(shared as u64);
        to.bytes(&path[shared..]);
        self.previous.clear();
        self.previous.extend_from_slice(path);
    }

    fn decode(&mut self, from: &mut Reader<'_>) -> Result<Path, DecodeError> {
        let shared = from.varint("path")?;
        let limit = self.previous.len() as u64;
        if shared > limit {
            return Err(DecodeError::TooLarge { field: "shared path", claimed: shared, limit });
        }
        let rest = from.bytes("path")?;
        self.previous.truncate(shared as usize);
        self.previous.extend_from_slice(rest);
        let path = Path::from_bytes(&self.previous).map_err(|_| from.invalid("path"))?;
        self.total_bytes += self.previous.len();
        if self.is_over(from.offset_bytes()) {
            return Err(from.invalid("path"));
        }
        Ok(path)
    }

    fn is_over(&self, at_bytes: usize) -> bool {
        self.total_bytes > PATHS_ALLOWANCE_BYTES + PATHS_RATIO_MAX * (at_bytes - self.start_bytes)
    }
}

/// How many bytes of paths come free, before the ratio counts.
const PATHS_ALLOWANCE_BYTES: usize = 64 << 10;
/// How many bytes of paths a byte written may stand for.
const PATHS_RATIO_MAX: usize = 64;
/// How many items memory is reserved for before any of them has been read.
const RESERVE_COUNT_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_of_many_items_reserves_little() {
        assert!((3..RESERVE_COUNT_MAX).contains(&with_room_for::<Dot>(3).capacity()));
        let claimed = with_room_for::<Dot>(1 << 30).capacity();
        assert!(claimed < 2 * RESERVE_COUNT_MAX, "{claimed}");
    }
}
