//! Applying a delta: the one merge rule.

use std::borrow::Cow;

use super::delta::{Base, Increment};
use super::leaf::insert_entry;
use super::listing::Component;
use super::recall::Memory;
use super::{Content, Delta, Document, Entries, Entry, Kind, Leaf, Number, Vector};
use crate::ident::{Actor, Dot};
use crate::plant::{Plant, is_planted};
use crate::time::Hlc;

/// Why a delta cannot be applied. The document is as before.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ApplyError {
    /// The document has not seen the delta's base: it was evicted, wiped or restored since. An authored delta is
    /// void, as if the eviction came after it; of a peer, full state is asked for.
    #[error("the document has not seen the base of the delta")]
    NeedBase,
    /// The base is named by a digest, and the document has seen something else.
    #[error("the document has not seen exactly the base of the delta")]
    BaseMismatch,
    /// No document of ours produces such a delta.
    #[error("the delta contradicts itself: {what}")]
    Malformed {
        /// What is wrong.
        what: &'static str,
    },
}

/// What applying a delta did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// The vector entries that rose, by actor, with their former values (zero: none). Empty if nothing changed:
    /// the delta was known already.
    pub raised: Vec<(Actor, Hlc)>,
    /// Whether readers saw the document before.
    pub was_visible: bool,
    /// Whether readers see it now.
    pub is_visible: bool,
}

impl Applied {
    /// Whether anything changed.
    #[must_use]
    pub fn changed(&self) -> bool {
        !self.raised.is_empty()
    }
}

impl Document {
    /// Incorporates a delta. Total, deterministic and idempotent; the order of deltas does not matter, as far as
    /// their bases are met.
    ///
    /// # Errors
    ///
    /// If the base is not met, or the delta contradicts itself. The document is then as before.
    pub fn apply(&mut self, delta: &Delta) -> Result<Applied, ApplyError> {
        let visible = self.is_visible();
        let mut applied =
            Applied { was_visible: visible, is_visible: visible, ..Applied::default() };
        if delta.author.is_some_and(|author| self.vector.seen(author)) {
            return Ok(applied);
        }
        self.check_base(delta)?;
        if delta.raised.iter().all(|&dot| self.vector.seen(dot)) {
            return Ok(applied);
        }
        let sender = Sender { base: delta.base_vector(&self.vector), raised: &delta.raised };
        self.check_listed(delta, &sender)?;

        let deleted_before = self.was_deleted();
        if self.is_blank() {
            self.leaves = delta.listed.to_leaves();
        } else {
            if !is_planted(Plant::UnlistedKept) {
                self.drop_unlisted(delta, &sender);
            }
            for listed in delta.listed.iter() {
                self.merge_listed(listed, &sender);
            }
        }
        self.absorb_trimmed(delta, &sender);
        for &dot in &delta.raised {
            if let Some(former) = self.vector.raise(dot) {
                applied.raised.push((dot.actor, former));
            }
        }
        for increment in &delta.increments {
            let author = delta.author.expect("only authored deltas hold increments");
            self.add(increment, author);
            if is_planted(Plant::IncrementTwice) {
                self.add(increment, author);
            }
        }
        if self.was_deleted() && (!deleted_before || delta.holds_initial()) {
            self.drop_initial_if_deleted();
        }
        applied.is_visible = self.is_visible();
        Ok(applied)
    }

    /// The vector entries that applying an authored delta would raise, as [`Applied::raised`] has them, if `ahead`
    /// is the document that this leads to: documents that have seen the same are the same. Nothing is said of a
    /// delta with increments: those that were made one by one might round differently from their sum.
    #[must_use]
    pub fn raised_towards(&self, delta: &Delta, ahead: &Self) -> Option<Vec<(Actor, Hlc)>> {
        let author = delta.author.filter(|&author| !self.vector.seen(author))?;
        if delta.has_increments() {
            return None;
        }
        self.check_base(delta).ok()?;
        let mut vector = self.vector.clone();
        let raise = |&dot: &Dot| Some((dot.actor, vector.raise(dot)?));
        let raised: Vec<_> = delta.raised.iter().filter_map(raise).collect();
        debug_assert!(vector.seen(author), "a delta raises the dot of its author");
        if vector != ahead.vector {
            return None;
        }
        debug_assert!(self.is_ahead(delta, ahead), "equal vectors, equal documents");
        Some(raised)
    }

    /// Whether applying the delta really leads there.
    fn is_ahead(&self, delta: &Delta, ahead: &Self) -> bool {
        let mut applied = self.clone();
        applied.apply(delta).is_ok()
            && applied.trimmed == ahead.trimmed
            && applied.leaves.iter().eq(ahead.leaves.iter())
    }

    fn check_base(&self, delta: &Delta) -> Result<(), ApplyError> {
        match &delta.base {
            Base::Vector(base) if !base.leq(&self.vector) => Err(ApplyError::NeedBase),
            Base::Digest { .. } if delta.recalled(&Memory::of(&self.vector)).is_none() => {
                Err(ApplyError::BaseMismatch)
            }
            // Of what has seen exactly the base nothing more is asked.
            Base::Part { digest, .. } if *digest == self.vector.digest() => Ok(()),
            Base::Part { part, .. } if self.is_blank() || !part.leq(&self.vector) => {
                Err(ApplyError::NeedBase)
            }
            _ => Ok(()),
        }
    }

    /// What a peer could get wrong, before anything is changed.
    fn check_listed(&self, delta: &Delta, sender: &Sender<'_>) -> Result<(), ApplyError> {
        for (dot, content) in delta.listed.iter().flat_map(Component::entries) {
            if !sender.seen(dot) {
                return Err(ApplyError::Malformed {
                    what: "a listed dot that its vector has not seen",
                });
            }
            if content.is_none() && !self.vector.seen(dot) {
                return Err(ApplyError::Malformed { what: "an unseen dot without its content" });
            }
        }
        if !delta.trimmed.iter().all(|dot| sender.seen(dot)) {
            return Err(ApplyError::Malformed {
                what: "a trimmed mark that its vector has not seen",
            });
        }
        let listed_too =
            |increment: &Increment| delta.listed.contains(&increment.path, increment.kind);
        if delta.increments.iter().any(listed_too) {
            return Err(ApplyError::Malformed { what: "a counter both listed and incremented" });
        }
        let pure_state = delta.author.is_none_or(|author| !sender.seen(author));
        if pure_state && delta.has_increments() {
            return Err(ApplyError::Malformed { what: "increments without an author" });
        }
        Ok(())
    }

    /// Within the regions, drops what the sender has seen and does not list at all. Components that are listed,
    /// or that the delta counts on, are left to the steps that follow.
    fn drop_unlisted(&mut self, delta: &Delta, sender: &Sender<'_>) {
        for region in &delta.regions {
            let unlisted = |leaf: &&Leaf| {
                !delta.lists(leaf) && leaf.entries.iter().any(|entry| sender.seen(entry.dot))
            };
            let stale: Vec<Leaf> = self.leaves.subtree(region).filter(unlisted).cloned().collect();
            for Leaf { path, kind, entries } in stale {
                let kept = entries.into_iter().filter(|entry| !sender.seen(entry.dot)).collect();
                self.leaves.set(&path, kind, kept);
            }
        }
    }

    /// The rule, for one component: own entries stay if listed or unknown to the sender, listed ones are taken if
    /// unseen here.
    fn merge_listed(&mut self, listed: Component<'_>, sender: &Sender<'_>) {
        let own = self.leaves.get(listed.path, listed.kind).map_or(&[][..], |leaf| &leaf.entries);
        let mut merged = Entries::new();
        for entry in own {
            match listed.find(entry.dot) {
                Some(theirs) => merged.push(joined(entry, theirs)),
                None if !sender.seen(entry.dot) => merged.push(entry.clone()),
                None => {}
            }
        }
        for (dot, content) in listed.entries().filter(|(dot, _)| !self.vector.seen(*dot)) {
            let content = content.cloned().expect("checked: unseen dots come with their content");
            merged.push(Entry::new(dot, content));
        }
        merged.sort_by_key(|entry| entry.dot);
        if is_planted(Plant::SingleRegisterEntry)
            && listed.kind == Kind::REGISTER
            && merged.len() > 1
        {
            merged.drain(..merged.len() - 1);
        }
        if merged[..] != *own {
            self.leaves.set(listed.path, listed.kind, merged);
        }
    }

    /// Marks that the sender lost are lost here too, unless this document has its own trace of those events.
    fn absorb_trimmed(&mut self, delta: &Delta, sender: &Sender<'_>) {
        let cleared = delta.author.is_some_and(|author| {
            self.root_marks().iter().any(|mark| mark.dot == author)
                && self.trimmed.leq(&sender.base)
        });
        if cleared {
            self.trimmed = Vector::new();
        }
        if !delta.trimmed.leq(&self.vector) {
            self.trimmed.join(&delta.trimmed);
        }
    }

    /// Turns an authored increment into its author's state.
    pub(super) fn add(&mut self, increment: &Increment, author: Dot) {
        let own = self.leaves.get(&increment.path, increment.kind).map(|leaf| leaf.entries.clone());
        let mut entries = own.unwrap_or_default();
        match increment.kind {
            Kind::COUNTER => add_to_counter(&mut entries, author, increment.by),
            _ => add_to_pn_counter(&mut entries, author, increment.by),
        }
        self.leaves.set(&increment.path, increment.kind, entries);
    }
}

/// What the sender of a delta has seen.
struct Sender<'a> {
    base: Cow<'a, Vector>,
    raised: &'a [Dot],
}

impl Sender<'_> {
    fn seen(&self, dot: Dot) -> bool {
        let raised = self.raised.binary_search_by(|have| have.actor.cmp(&dot.actor));
        raised.is_ok_and(|index| self.raised[index].hlc >= dot.hlc) || self.base.seen(dot)
    }
}

impl Delta {
    /// The base as a vector, or what matters of it; `own` is the receiver's, from which a digest was recalled.
    fn base_vector(&self, own: &Vector) -> Cow<'_, Vector> {
        match &self.base {
            Base::Vector(base) | Base::Part { part: base, .. } => Cow::Borrowed(base),
            Base::Digest { .. } => {
                Cow::Owned(self.recalled(&Memory::of(own)).expect("checked: the base is met"))
            }
        }
    }

    /// Whether the component of `leaf` is listed, or counted on.
    fn lists(&self, leaf: &Leaf) -> bool {
        self.listed.contains(&leaf.path, leaf.kind) || self.counts_on(leaf)
    }

    /// Whether the component of `leaf` is a counter that gets an increment.
    pub(super) fn counts_on(&self, leaf: &Leaf) -> bool {
        let counted =
            |increment: &Increment| (increment.path.as_bytes(), increment.kind).cmp(&leaf.key());
        self.increments.binary_search_by(counted).is_ok()
    }

    /// Whether it brings `INITIAL` content. Looked for in what is listed: only an honest peer's vector tells.
    fn holds_initial(&self) -> bool {
        self.listed.iter().flat_map(Component::entries).any(|(dot, _)| dot.hlc == Hlc::INITIAL)
    }
}

/// One entry known on both sides.
fn joined(own: &Entry, theirs: Option<&Content>) -> Entry {
    let mut joined = own.clone();
    if let Some(content) = theirs {
        Document::join_strictness(&mut joined.content, content);
    }
    joined
}

/// Adds to the author's entry of the setting in force. What the author added to a setting that was superseded is
/// dropped with it; without any setting in force all counts.
fn add_to_counter(entries: &mut Entries, author: Dot, by: Number) {
    let by = by.as_int().expect("an increment of a counter is an integer, as decoded and authored");
    let set = |entry: &&Entry| matches!(entry.content, Content::Base(_));
    let generation = entries.iter().rev().find(set).map(|entry| entry.dot);
    if let Some(Entry { content: Content::Base(base), .. }) =
        entries.iter_mut().find(|entry| entry.dot == author)
    {
        *base = base.saturating_add(by);
        return;
    }
    let mut sum = by;
    entries.retain(|entry| match &entry.content {
        Content::Sum { generation: counted, amount } if entry.dot.actor == author.actor => {
            if generation.is_none() || counted.as_deref() == generation.as_ref() {
                sum = sum.saturating_add(*amount);
            }
            false
        }
        _ => true,
    });
    let generation = generation.map(Box::new);
    insert_entry(entries, Entry::new(author, Content::Sum { generation, amount: sum }));
}

fn add_to_pn_counter(entries: &mut Entries, author: Dot, by: Number) {
    let mut total = by;
    entries.retain(|entry| match entry.content {
        Content::Total(former) if entry.dot.actor == author.actor => {
            total = former.plus(total);
            false
        }
        _ => true,
    });
    insert_entry(entries, Entry::new(author, Content::Total(total)));
}
