//! The actor table and default dot that everything inside one record shares.
//!
//! ```text
//! table: count, actors (16 bytes each, ascending), default dot: index + 1 (0: none), HLC
//! dot:   0: the default dot    n: actor n − 1, then zigzag(default HLC − HLC)
//! ```
//! A record mostly speaks of one commit, so most dots take one byte.

use std::collections::{BTreeMap, BTreeSet};

use super::{DecodeError, Reader, Writer};
use crate::ident::{Actor, Dot};
use crate::time::Hlc;

/// The actors that a record mentions, each once, and the dot it mentions most.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    actors: Vec<Actor>,
    default: Dot,
}

impl Table {
    /// The dot that takes one byte. The zero dot when the record mentions none.
    #[must_use]
    pub const fn default_dot(&self) -> Dot {
        self.default
    }

    /// Appends the table itself.
    pub fn encode(&self, to: &mut Writer) {
        to.varint(self.actors.len() as u64);
        self.actors.iter().for_each(|actor| to.raw(&actor.0));
        match self.index(self.default.actor) {
            Some(index) if self.default.hlc != Hlc(0) => {
                to.varint(index + 1);
                to.varint(self.default.hlc.0);
            }
            _ => to.varint(0),
        }
    }

    /// Reads a table.
    ///
    /// # Errors
    ///
    /// If the bytes run out, or the actors do not ascend, or the default names none of them.
    pub fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = from.count(FIELD, 16)?;
        let mut table = Self { actors: Vec::with_capacity(count), default: Dot::default() };
        for _ in 0..count {
            let actor = Actor(from.array(FIELD)?);
            if table.actors.last().is_some_and(|last| *last >= actor) {
                return Err(from.invalid(FIELD));
            }
            table.actors.push(actor);
        }
        let index = from.varint(FIELD)?;
        if index != 0 {
            table.default.actor = table.actor(index - 1).ok_or_else(|| from.invalid(FIELD))?;
            table.default.hlc = Hlc(from.varint(FIELD)?);
            if table.default.hlc == Hlc(0) {
                return Err(from.invalid(FIELD));
            }
        }
        Ok(table)
    }

    /// Appends a dot. Its actor was noted in the builder of this table.
    pub fn encode_dot(&self, dot: Dot, to: &mut Writer) {
        if dot == self.default {
            return to.varint(0);
        }
        let index =
            self.index(dot.actor).expect("the builder was shown every actor of this record");
        to.varint(index + 1);
        to.signed(self.default.hlc.0.wrapping_sub(dot.hlc.0).cast_signed());
    }

    /// Reads a dot.
    ///
    /// # Errors
    ///
    /// If the bytes run out, it names an actor outside the table, is the zero clock, or is the default dot
    /// written the long way.
    pub fn decode_dot(&self, from: &mut Reader<'_>) -> Result<Dot, DecodeError> {
        let index = from.varint("dot")?;
        let dot = match index.checked_sub(1) {
            None => self.default,
            Some(index) => {
                let actor = self.actor(index).ok_or_else(|| from.invalid("dot"))?;
                let behind = from.signed("dot")?.cast_unsigned();
                let dot = Dot { hlc: Hlc(self.default.hlc.0.wrapping_sub(behind)), actor };
                if dot == self.default {
                    return Err(from.invalid("dot"));
                }
                dot
            }
        };
        if dot.hlc == Hlc(0) {
            return Err(from.invalid("dot"));
        }
        Ok(dot)
    }

    fn index(&self, actor: Actor) -> Option<u64> {
        self.actors.binary_search(&actor).ok().map(|index| index as u64)
    }

    fn actor(&self, index: u64) -> Option<Actor> {
        self.actors.get(usize::try_from(index).ok()?).copied()
    }
}

/// Collects the dots of a record, then makes its [`Table`].
#[derive(Clone, Debug, Default)]
pub struct TableBuilder {
    actors: BTreeSet<Actor>,
    counts: BTreeMap<Dot, usize>,
    /// The dot noted last and how often in a row, which the others have not heard of: most documents were
    /// written by one commit, and all of their dots are the same.
    run: (Dot, usize),
}

impl TableBuilder {
    /// Notes one occurrence of a dot.
    pub fn note(&mut self, dot: Dot) {
        if self.run.0 != dot {
            self.end_run();
            self.run = (dot, 0);
        }
        self.run.1 += 1;
    }

    fn end_run(&mut self) {
        let (dot, count) = self.run;
        if count == 0 {
            return;
        }
        self.actors.insert(dot.actor);
        if let Some(counted) = self.counts.get_mut(&dot) {
            *counted += count;
        } else if self.counts.len() < COUNTED_DOTS_MAX {
            self.counts.insert(dot, count);
        }
    }

    /// The table: every actor noted, and the commonest dot (of equals, the greatest).
    #[must_use]
    pub fn finish(mut self) -> Table {
        self.end_run();
        let commonest = self.counts.into_iter().max_by_key(|&(dot, count)| (count, dot));
        Table {
            actors: self.actors.into_iter().collect(),
            default: commonest.map_or_else(Dot::default, |(dot, _)| dot),
        }
    }
}

const FIELD: &str = "actor table";
/// Beyond so many different dots a further one is not counted: it costs bytes, never correctness.
const COUNTED_DOTS_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn dot(actor: u8, hlc: u64) -> Dot {
        Dot { hlc: Hlc(hlc), actor: Actor([actor; 16]) }
    }

    #[test]
    fn dots_read_back_and_the_commonest_takes_one_byte() {
        let dots = [dot(1, 500), dot(2, 7), dot(1, 500), dot(1, u64::MAX)];
        let mut builder = TableBuilder::default();
        dots.iter().for_each(|&dot| builder.note(dot));
        let table = builder.finish();
        assert_eq!(table.default_dot(), dot(1, 500));
        let mut to = Writer::new();
        table.encode(&mut to);
        dots.iter().for_each(|&dot| table.encode_dot(dot, &mut to));
        let mut golden = vec![2];
        golden.extend([1; 16]);
        golden.extend([2; 16]);
        golden.extend(b"\x01\xF4\x03\x00\x02\xDA\x07\x00\x01\xEA\x07");
        assert_eq!(to.as_bytes(), golden);
        let mut from = Reader::new(to.as_bytes());
        let read = Table::decode(&mut from).expect("a table");
        assert_eq!(read, table);
        assert!(dots.iter().all(|&dot| read.decode_dot(&mut from) == Ok(dot)));
        assert_eq!(from.finish(), Ok(()));
    }

    #[test]
    fn an_empty_table_has_no_dot_to_give() {
        let table = TableBuilder::default().finish();
        let mut to = Writer::new();
        table.encode(&mut to);
        assert_eq!(to.as_bytes(), b"\x00\x00");
        assert!(table.decode_dot(&mut Reader::new(&[0])).is_err());
    }
}
