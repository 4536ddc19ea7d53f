//! Authoring: operations on a document, collected into one delta.

mod assign;
mod initial;

use std::collections::{BTreeMap, BTreeSet};

use super::delta::{Base, Increment};
use super::leaf::Held;
use super::leaves::Leaves;
use super::listing::Listing;
use super::{
    Content, Delta, Document, Entries, Entry, Kind, Leaf, Number, Path, PathError, Vector, only,
};
use crate::ident::Dot;
use crate::time::Hlc;
use crate::value::Value;

pub use assign::{Declared, Fields, Objects};

/// One commit's operations on one document.
///
/// Every operation shows in [`Self::document`] at once, so later statements of a transaction read it. An operation
/// that fails may have done part of its work: whoever carries on after an error keeps a clone from before (it is
/// cheap) and goes on with that.
#[derive(Clone, Debug)]
pub struct Edit {
    document: Document,
    before: Document,
    dot: Dot,
    objects: Objects,
    touched: bool,
    /// Nothing had happened to the document: all it holds is of this commit.
    is_first: bool,
    /// Components with an entry of this commit, as state; of a first commit only those that were removed again.
    written: BTreeSet<(Path, Kind)>,
    /// Where this commit left marks.
    marked: BTreeSet<Path>,
    /// What this commit adds to counters that it did not write as state.
    increments: BTreeMap<(Path, Kind), Number>,
}

/// Why an operation was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EditError {
    /// The path is too deep or too long.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The document itself can only be assigned an object, deleted or inserted.
    #[error("the document itself is a map: it cannot become anything else")]
    RootIsMap,
    /// The counter would leave 64 bits.
    #[error("the counter at {path:?} would overflow a 64-bit integer")]
    CounterOverflow {
        /// Which counter.
        path: Path,
    },
    /// The value assigned does not fit the declared type.
    #[error("the field {path:?} is declared as {declared}: {found} cannot be assigned to it")]
    TypeMismatch {
        /// Which field.
        path: Path,
        /// The declared type.
        declared: &'static str,
        /// The type of the value.
        found: &'static str,
    },
}

impl Edit {
    /// Begins a commit of `dot` on `document`: the newest state there is, edits in flight included.
    ///
    /// # Panics
    ///
    /// If the document has seen `dot`: a clock that does not rise would lose the edit.
    #[must_use]
    pub fn new(document: &Document, dot: Dot) -> Self {
        assert!(!document.vector.seen(dot), "each commit has a dot that nothing has seen");
        Self {
            document: document.clone(),
            before: document.clone(),
            dot,
            objects: Objects::AsMaps,
            touched: false,
            is_first: document.is_blank(),
            written: BTreeSet::new(),
            marked: BTreeSet::new(),
            increments: BTreeMap::new(),
        }
    }

    /// Chooses how undeclared objects are written from here on: maps unless told.
    pub fn set_objects(&mut self, objects: Objects) {
        self.objects = objects;
    }

    /// The document as this commit leaves it.
    #[must_use]
    pub const fn document(&self) -> &Document {
        &self.document
    }

    /// The commit's dot.
    #[must_use]
    pub const fn dot(&self) -> Dot {
        self.dot
    }

    /// Whether any operation has written.
    #[must_use]
    pub const fn is_touched(&self) -> bool {
        self.touched
    }

    /// Marks the document as inserted, which is what brings a deleted one back. Comes before the content of an
    /// INSERT: what a deletion hides goes for good.
    pub fn insert(&mut self) {
        let root = Path::root();
        let deleted = self.document.is_deleted();
        if deleted {
            self.clear(&root);
        }
        if deleted || self.document.is_strictly_deleted() {
            // This mark stands for all deletions seen, and it is not strict: they are answered.
            self.mark(&root, false);
        }
        self.write(&root, Kind::MAP, Content::Present);
    }

    /// Sets the register at `path`, whatever the value is.
    ///
    /// # Errors
    ///
    /// If `path` is the root, or too deep with what must be written on the way.
    pub fn set_register(&mut self, path: &Path, value: Value) -> Result<(), EditError> {
        self.put(path, Kind::REGISTER, Content::Held(Held::new(value)))
    }

    /// Sets the attachment at `path`.
    ///
    /// # Errors
    ///
    /// As [`Self::set_register`].
    pub fn set_attachment(&mut self, path: &Path, token: Value) -> Result<(), EditError> {
        self.put(path, Kind::ATTACHMENT, Content::Held(Held::new(token)))
    }

    /// Sets the counter at `path`: increments that this document has not seen will not count.
    ///
    /// # Errors
    ///
    /// As [`Self::set_register`].
    pub fn restart(&mut self, path: &Path, to: i64) -> Result<(), EditError> {
        self.put(path, Kind::COUNTER, Content::Base(to))
    }

    /// Adds to the counter at `path`, which begins at zero.
    ///
    /// # Errors
    ///
    /// As [`Self::set_register`], and `CounterOverflow`.
    pub fn increment(&mut self, path: &Path, by: i64) -> Result<(), EditError> {
        if let Some(leaf) = self.document.leaves.get(path, Kind::COUNTER) {
            // Both what readers see and what this actor has added must stay within 64 bits.
            let fits = |sum: i128| i64::try_from(sum + i128::from(by)).is_ok();
            if !fits(leaf.counter_sum()) || !fits(leaf.added_by(self.dot.actor)) {
                return Err(EditError::CounterOverflow { path: path.clone() });
            }
        }
        self.add(path, Kind::COUNTER, Number::Int(by))
    }

    /// Adds to the legacy counter at `path`, which begins at zero.
    ///
    /// # Errors
    ///
    /// As [`Self::increment`].
    pub fn pn_increment(&mut self, path: &Path, by: Number) -> Result<(), EditError> {
        let total = self.document.leaves.get(path, Kind::PN_COUNTER).map(Leaf::pn_total);
        if let (Number::Int(by), Some(Number::Int(total))) = (by, total)
            && total.checked_add(by).is_none()
        {
            return Err(EditError::CounterOverflow { path: path.clone() });
        }
        self.add(path, Kind::PN_COUNTER, by)
    }

    /// Removes whatever is at and below `path`. Absent paths are ignored.
    ///
    /// # Errors
    ///
    /// If `path` is the root, or the object register it leads into cannot become a map.
    pub fn unset(&mut self, path: &Path) -> Result<(), EditError> {
        if path.is_root() {
            return Err(EditError::RootIsMap);
        }
        let live = |leaf: &Leaf| leaf.kind != Kind::MARK;
        if self.document.get(path).is_some() {
            self.open_ancestors(path)?;
        }
        if self.document.leaves.subtree(path).any(live) {
            self.clear(path);
        }
        Ok(())
    }

    /// Deletes the document. `strict` hides it even if others update it meanwhile; so does any strict deletion
    /// that was seen and not answered by an INSERT.
    pub fn delete(&mut self, strict: bool) {
        let strict = strict || self.document.is_strictly_deleted();
        self.clear(&Path::root());
        self.mark(&Path::root(), strict);
    }

    /// The commit as a delta; none if no operation wrote anything.
    #[must_use]
    pub fn finish(self) -> Option<Delta> {
        self.finish_with_document().map(|(delta, _)| delta)
    }

    /// The commit as a delta, with the document that it leads to.
    #[must_use]
    pub fn finish_with_document(self) -> Option<(Delta, Document)> {
        if !self.touched {
            return None;
        }
        let increments = self.increments.into_iter();
        let mut delta = Delta {
            author: Some(self.dot),
            base: Base::Vector(self.before.vector.clone()),
            raised: vec![self.dot],
            trimmed: Vector::new(),
            regions: Vec::new(),
            listed: Listing::new(),
            increments: increments.map(|((path, kind), by)| Increment { path, kind, by }).collect(),
        };
        self.marked.iter().for_each(|path| delta.add_region(path));
        let all = &self.document.leaves;
        if self.is_first && delta.increments.is_empty() {
            delta.listed = Listing::Whole(all.clone());
            return Some((delta, self.document));
        }
        let mut leaves =
            if self.is_first { all.iter().collect() } else { leaves_under(all, &self.written) };
        if !self.is_first && !delta.regions.is_empty() {
            let regions = delta.regions.iter();
            leaves.extend(regions.flat_map(|region| all.subtree(region)));
            leaves.sort_unstable_by_key(|leaf| leaf.key());
            leaves.dedup_by_key(|leaf| leaf.key());
        }
        for leaf in leaves {
            if !delta.counts_on(leaf) {
                delta.list(leaf, |dot| dot == self.dot);
            }
        }
        delta.shorten_base(&self.before);
        Some((delta, self.document))
    }

    /// Makes `content` the only thing that this document knows at `path`.
    fn put(&mut self, path: &Path, kind: Kind, content: Content) -> Result<(), EditError> {
        if path.is_root() {
            return Err(EditError::RootIsMap);
        }
        // A field of the document behind all others: nothing is above it or in its place.
        if self.document.leaves.ends_before(path) && path.depth() == 1 {
            self.touch();
            let entries = only(Entry::new(self.dot, content));
            self.document.leaves.push(Leaf::new(path.clone(), kind, entries));
            self.note_written(path, kind);
            return Ok(());
        }
        self.open_ancestors(path)?;
        self.clear_other_kinds(path, kind);
        self.write(path, kind, content);
        Ok(())
    }

    fn add(&mut self, path: &Path, kind: Kind, by: Number) -> Result<(), EditError> {
        self.open_ancestors(path)?;
        self.clear_other_kinds(path, kind);
        self.touch();
        let key = (path.clone(), kind);
        if !self.has_written(&key) {
            let sum = self.increments.entry(key).or_insert(Number::Int(0));
            *sum = sum.plus(by);
        }
        self.document.add(&Increment { path: path.clone(), kind, by }, self.dot);
        Ok(())
    }

    /// Makes every node above `path` a map.
    fn open_ancestors(&mut self, path: &Path) -> Result<(), EditError> {
        if path.is_root() {
            return Err(EditError::RootIsMap);
        }
        let mut at = Path::root();
        for step in path.steps().take(path.depth() - 1) {
            at.push(&step)?;
            self.open(&at)?;
        }
        Ok(())
    }

    /// Makes the node at `path` a map. An object that is visible there as one register becomes a map of the
    /// same content; anything else that is visible goes.
    fn open(&mut self, path: &Path) -> Result<(), EditError> {
        let content = match self.document.visible_entry(path) {
            Some(leaf) => leaf.latest().held().cloned(),
            None => None,
        };
        self.become_map(path);
        match content {
            Some(Value::Object(object)) => self.assign_fields(path, &object, None),
            _ => Ok(()),
        }
    }

    /// Makes the node at `path` a map without content of its own; its fields stay if it was visible as a map.
    fn become_map(&mut self, path: &Path) {
        if self.document.visible_entry(path).is_some() {
            self.clear(path);
        } else {
            self.clear_other_kinds(path, Kind::MAP);
        }
        if !self.document.has_content(path) {
            self.write(path, Kind::MAP, Content::Present);
        }
    }

    /// Removes what this document knows at `path` in other kinds than `kind`. The fields of a map are part of it.
    fn clear_other_kinds(&mut self, path: &Path, kind: Kind) {
        if kind == Kind::MAP {
            // Looks at this node alone: a dotted write passes many a large map on its way.
            let own = |leaf: &&Leaf| leaf.kind.is_own_content();
            let gone = self.document.leaves.node(path).filter(own).map(key_of).collect();
            self.remove(path, gone);
        } else {
            self.clear_unless(path, |leaf| leaf.path == *path && leaf.kind == kind);
        }
    }

    /// Removes everything at and below `path`.
    fn clear(&mut self, path: &Path) {
        self.clear_unless(path, |_| false);
    }

    fn clear_unless(&mut self, path: &Path, stays: impl Fn(&Leaf) -> bool) {
        let gone = |leaf: &&Leaf| leaf.kind != Kind::MARK && !stays(leaf);
        let gone = self.document.leaves.subtree(path).filter(gone).map(key_of).collect();
        self.remove(path, gone);
    }

    /// Removes these components at or below `path`, under a mark there if there are any.
    fn remove(&mut self, path: &Path, gone: Vec<(Path, Kind)>) {
        if gone.is_empty() {
            return;
        }
        for key in gone {
            self.document.leaves.set(&key.0, key.1, Entries::new());
            // From here on a counter begins anew: its state is written, nothing is added to what was.
            self.increments.remove(&key);
            self.written.insert(key);
        }
        self.mark(path, false);
    }

    fn mark(&mut self, path: &Path, strict: bool) {
        self.touch();
        self.document.mark(path, self.dot, strict);
        self.marked.insert(path.clone());
    }

    fn write(&mut self, path: &Path, kind: Kind, content: Content) {
        self.touch();
        self.document.leaves.set(path, kind, only(Entry::new(self.dot, content)));
        self.note_written(path, kind);
    }

    /// A component is state of this commit from here on. Of a first commit everything is that no increment made.
    fn note_written(&mut self, path: &Path, kind: Kind) {
        if self.increments.is_empty() && self.is_first {
            return;
        }
        let key = (path.clone(), kind);
        self.increments.remove(&key);
        self.written.insert(key);
    }

    /// Whether this commit has a component's entry as state, or has removed it.
    fn has_written(&self, key: &(Path, Kind)) -> bool {
        let is_state = || !self.increments.contains_key(key) && self.document.leaves.has(key);
        self.written.contains(key) || (self.is_first && is_state())
    }

    fn touch(&mut self) {
        if self.touched {
            return;
        }
        self.touched = true;
        self.document.vector.raise(self.dot);
        debug_assert!(self.dot.hlc > Hlc(0), "the zero clock is before every event");
    }
}

/// What is there under the keys that were written, in order.
fn leaves_under<'a>(leaves: &'a Leaves, written: &BTreeSet<(Path, Kind)>) -> Vec<&'a Leaf> {
    let mut written = written.iter().peekable();
    if written.len() < leaves.len() / WALK_FRACTION {
        return written.filter_map(|(path, kind)| leaves.get(path, *kind)).collect();
    }
    let is_written = |leaf: &&Leaf| {
        while written.next_if(|(path, kind)| (path.as_bytes(), *kind) < leaf.key()).is_some() {}
        written.next_if(|(path, kind)| (path.as_bytes(), *kind) == leaf.key()).is_some()
    };
    leaves.iter().filter(is_written).collect()
}

/// A walk over all leaves costs less than a search for each that was written, if those are more than one in so many.
const WALK_FRACTION: usize = 4;

fn key_of(leaf: &Leaf) -> (Path, Kind) {
    (leaf.path.clone(), leaf.kind)
}
