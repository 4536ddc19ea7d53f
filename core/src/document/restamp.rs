//! Giving new dots to edits that were written while a clock was wrong.
//!
//! An edit that nobody else has taken may as well have been written later, by another actor: then no other document
//! and no delta mentions its dot. So its dot is replaced wherever it stands, and taken out of the vector.

use std::collections::BTreeMap;

use super::leaf::Entry;
use super::{Content, Document, Entries, Kind, Leaf, Vector};
use crate::ident::{Actor, Dot};
use crate::time::Hlc;

impl Document {
    /// The actors of which something from ahead was seen, each with its greatest dot.
    pub fn ahead(&self, is_ahead: impl Fn(Hlc) -> bool) -> impl Iterator<Item = Dot> {
        self.vector.iter().filter(move |dot| is_ahead(dot.hlc))
    }

    /// The greatest clock value of an actor that is live here and not from ahead; zero if there is none.
    pub(crate) fn newest_of(&self, actor: Actor, is_ahead: impl Fn(Hlc) -> bool) -> Hlc {
        let dots = self.leaves.iter().flat_map(|leaf| &leaf.entries).map(|entry| entry.dot);
        let of_actor = dots.filter(|dot| dot.actor == actor && !is_ahead(dot.hlc));
        of_actor.map(|dot| dot.hlc).max().unwrap_or_default()
    }

    /// The same content with new dots in place of those from ahead, in the same order: `next` gives them, rising. `floors`
    /// has what each of their actors did last before it was ahead.
    ///
    /// None if that cannot be said of every dot: of a counter to which the same actor has added before, where nobody
    /// knows how much of the sum is new; of kinds that this version does not know; of marks that were trimmed; and
    /// when `next` has nothing left to give.
    #[must_use]
    pub fn restamped(
        &self,
        is_ahead: impl Fn(Hlc) -> bool,
        floors: &Vector,
        mut next: impl FnMut() -> Option<Dot>,
    ) -> Option<Self> {
        if self.trimmed.iter().any(|dot| is_ahead(dot.hlc)) {
            return None;
        }
        let live =
            self.leaves.iter().flat_map(|leaf| leaf.entries.iter().map(move |it| (leaf, it)));
        let mut dots: BTreeMap<Dot, Dot> = BTreeMap::new();
        for (leaf, entry) in live.filter(|(_, entry)| is_ahead(entry.dot.hlc)) {
            let adds = matches!(entry.content, Content::Sum { .. } | Content::Total(_));
            let is_known = leaf.kind.0 < Kind::UNKNOWN_LEAST;
            if !is_known || (adds && floors.get(entry.dot.actor) > Hlc(0)) {
                return None;
            }
            dots.insert(entry.dot, entry.dot);
        }
        for new in dots.values_mut() {
            *new = next()?;
        }
        let mut restamped = Self { trimmed: self.trimmed.clone(), ..Self::default() };
        let kept = |dot: Dot| if is_ahead(dot.hlc) { floors.dot_of(dot.actor) } else { dot };
        restamped.vector = self.vector.iter().map(kept).chain(dots.values().copied()).collect();
        for Leaf { path, kind, entries } in self.leaves.iter() {
            let mut entries: Entries = entries.iter().map(|it| with_dots(it, &dots)).collect();
            entries.sort_by_key(|entry| entry.dot);
            restamped.leaves.set(path, *kind, entries);
        }
        Some(restamped)
    }
}

fn with_dots(entry: &Entry, dots: &BTreeMap<Dot, Dot>) -> Entry {
    let new = |dot: Dot| *dots.get(&dot).unwrap_or(&dot);
    let content = match &entry.content {
        Content::Sum { generation, amount } => {
            let generation = generation.as_ref().map(|dot| Box::new(new(**dot)));
            Content::Sum { generation, amount: *amount }
        }
        content => content.clone(),
    };
    Entry::new(new(entry.dot), content)
}
