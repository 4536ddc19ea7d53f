//! The sorted, chunked store of a document's leaves.

use std::ops::Range;
use std::sync::Arc;

use smallvec::SmallVec;

use super::leaf::{Entries, Kind, Leaf};
use super::path::Path;

/// All leaves of a document by (path, kind), in chunks that clones share: a copy of a large document with one
/// field edited shares all chunks but one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Leaves {
    /// None empty, none above [`CHUNK_LEAVES_MAX`]. Most documents have one.
    chunks: SmallVec<[Arc<Vec<Leaf>>; 1]>,
    /// How many leaves are not marks.
    live_count: usize,
    /// The sum of the leaves' sizes.
    size_bytes: usize,
}

impl Leaves {
    /// Takes leaves that are strictly ascending by key.
    pub(crate) fn from_sorted(leaves: Vec<Leaf>) -> Self {
        let mut all = Self::default();
        let mut leaves = leaves.into_iter().peekable();
        while leaves.peek().is_some() {
            let chunk: Vec<Leaf> = leaves.by_ref().take(CHUNK_LEAVES_FILLED).collect();
            chunk.iter().for_each(|leaf| all.count_in(leaf));
            all.chunks.push(Arc::new(chunk));
        }
        all
    }

    pub(crate) fn live_count(&self) -> usize {
        self.live_count
    }

    /// How many leaves there are, marks included.
    pub(crate) fn len(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.len()).sum()
    }

    pub(crate) fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    pub(crate) fn get(&self, path: &Path, kind: Kind) -> Option<&Leaf> {
        let (chunk, index) = self.find((path.as_bytes(), kind)).ok()?;
        Some(&self.chunks[chunk][index])
    }

    /// Whether there is a leaf under a key.
    pub(crate) fn has(&self, (path, kind): &(Path, Kind)) -> bool {
        self.find((path.as_bytes(), *kind)).is_ok()
    }

    /// Whether all leaves sort before `path`: none is at or below it.
    pub(crate) fn ends_before(&self, path: &Path) -> bool {
        self.chunks.last().is_none_or(|last| last[last.len() - 1].path < *path)
    }

    /// Makes room for so many more leaves behind all others.
    pub(crate) fn reserve(&mut self, count: usize) {
        if let Some(last) = self.chunks.last_mut().and_then(Arc::get_mut) {
            last.reserve_exact(count.min(CHUNK_LEAVES_MAX.saturating_sub(last.len())));
        }
    }

    /// The first leaf.
    pub(crate) fn first(&self) -> Option<&Leaf> {
        self.chunks.first().map(|chunk| &chunk[0])
    }

    /// All leaves in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Leaf> {
        self.chunks.iter().flat_map(|chunk| chunk.iter())
    }

    /// The leaves at and below `path`, in order.
    pub(crate) fn subtree<'a, 'p>(
        &'a self,
        path: &'p Path,
    ) -> impl Iterator<Item = &'a Leaf> + use<'a, 'p> {
        self.starting_at(path).take_while(move |leaf| leaf.path.starts_with(path))
    }

    /// The leaves at `path` itself, by kind.
    pub(crate) fn node<'a, 'p>(
        &'a self,
        path: &'p Path,
    ) -> impl Iterator<Item = &'a Leaf> + use<'a, 'p> {
        self.starting_at(path).take_while(move |leaf| leaf.path == *path)
    }

    /// Replaces the entries under a key; none at all removes the leaf.
    pub(crate) fn set(&mut self, path: &Path, kind: Kind, entries: Entries) {
        match self.find((path.as_bytes(), kind)) {
            Ok((chunk, index)) if entries.is_empty() => self.remove_at(chunk, index),
            Ok((chunk, index)) => {
                let leaf = &mut Arc::make_mut(&mut self.chunks[chunk])[index];
                self.size_bytes -= leaf.size_bytes();
                leaf.entries = entries;
                self.size_bytes += leaf.size_bytes();
            }
            Err(_) if entries.is_empty() => {}
            Err(at) => self.insert_at(at, Leaf::new(path.clone(), kind, entries)),
        }
    }

    /// Adds a leaf behind all others: see [`Self::ends_before`].
    pub(crate) fn push(&mut self, leaf: Leaf) {
        debug_assert!(self.ends_before(&leaf.path), "leaves are in order");
        let at = self.chunks.last().map_or((0, 0), |last| (self.chunks.len() - 1, last.len()));
        self.insert_at(at, leaf);
    }

    /// Removes the leaves at and below `path` that `keep` refuses.
    pub(crate) fn retain_subtree(&mut self, path: &Path, mut keep: impl FnMut(&Leaf) -> bool) {
        let range = self.chunk_range(path);
        let mut removed = false;
        for chunk in &mut self.chunks[range.clone()] {
            let doomed = |leaf: &Leaf, keep: &mut dyn FnMut(&Leaf) -> bool| {
                leaf.path.starts_with(path) && !keep(leaf)
            };
            let verdicts: Vec<bool> = chunk.iter().map(|leaf| doomed(leaf, &mut keep)).collect();
            if !verdicts.contains(&true) {
                continue;
            }
            removed = true;
            for (leaf, _) in chunk.iter().zip(&verdicts).filter(|(_, doomed)| **doomed) {
                self.size_bytes -= leaf.size_bytes();
                self.live_count -= usize::from(leaf.kind != Kind::MARK);
            }
            let mut verdict = verdicts.iter();
            Arc::make_mut(chunk).retain(|_| !verdict.next().expect("one verdict a leaf"));
        }
        if removed {
            self.chunks.retain(|chunk| !chunk.is_empty());
        }
    }

    /// Walks everything that is too slow for the hot path.
    pub(crate) fn check_invariants(&self) {
        let all: Vec<&Leaf> = self.iter().collect();
        assert!(all.is_sorted_by(|a, b| a.key() < b.key()), "leaves ascend by key");
        assert!(all.iter().all(|leaf| !leaf.entries.is_empty()), "no leaf is empty");
        let by_dot = |leaf: &&Leaf| leaf.entries.is_sorted_by(|a, b| a.dot < b.dot);
        assert!(all.iter().all(by_dot), "entries ascend by dot");
        let filled = |chunk: &Arc<Vec<Leaf>>| (1..=CHUNK_LEAVES_MAX).contains(&chunk.len());
        assert!(self.chunks.iter().all(filled), "chunks are neither empty nor too full");
        let live_count = all.iter().filter(|leaf| leaf.kind != Kind::MARK).count();
        assert_eq!(self.live_count, live_count, "the count of live leaves is kept");
        let size_bytes: usize = all.iter().map(|leaf| leaf.size_bytes()).sum();
        assert_eq!(self.size_bytes, size_bytes, "the size is kept");
    }

    /// The leaves from the first one at or after `path` on.
    fn starting_at<'a>(&'a self, path: &Path) -> impl Iterator<Item = &'a Leaf> + use<'a> {
        let (chunk, index) = match self.find((path.as_bytes(), Kind::MARK)) {
            Ok(at) | Err(at) => at,
        };
        let (first, later) = match self.chunks.get(chunk..) {
            Some([first, later @ ..]) => (&first[index.min(first.len())..], later),
            _ => (&[][..], &[][..]),
        };
        first.iter().chain(later.iter().flat_map(|chunk| chunk.iter()))
    }

    /// Where a key is, or the (chunk, index) where it would be inserted. Without chunks that is (0, 0).
    fn find(&self, key: (&[u8], Kind)) -> Result<(usize, usize), (usize, usize)> {
        // A document is mostly written in the order of its keys, each behind all others.
        if let Some(last) = self.chunks.last()
            && last[last.len() - 1].key() < key
        {
            return Err((self.chunks.len() - 1, last.len()));
        }
        let chunk = self.chunks.partition_point(|chunk| chunk[0].key() <= key).saturating_sub(1);
        let leaves = self.chunks.get(chunk).map_or(&[][..], |chunk| &chunk[..]);
        match leaves.binary_search_by(|leaf| leaf.key().cmp(&key)) {
            Ok(index) => Ok((chunk, index)),
            Err(index) => Err((chunk, index)),
        }
    }

    /// The chunks that may hold leaves at or below `path`.
    fn chunk_range(&self, path: &Path) -> Range<usize> {
        let (start, _) = match self.find((path.as_bytes(), Kind::MARK)) {
            Ok(at) | Err(at) => at,
        };
        let past = |chunk: &Arc<Vec<Leaf>>| {
            let first = &chunk[0].path;
            first < path || first.starts_with(path)
        };
        start..self.chunks.partition_point(past).max(start)
    }

    fn insert_at(&mut self, (chunk, index): (usize, usize), leaf: Leaf) {
        self.count_in(&leaf);
        let Some(shared) = self.chunks.get_mut(chunk) else {
            self.chunks.push(Arc::new(vec![leaf]));
            return;
        };
        let leaves = Arc::make_mut(shared);
        leaves.insert(index, leaf);
        if leaves.len() > CHUNK_LEAVES_MAX {
            // Documents mostly grow at their end, where a split in the middle would leave half-empty chunks.
            let at_end = index + 1 == leaves.len();
            let upper = leaves.split_off(if at_end { CHUNK_LEAVES_MAX } else { leaves.len() / 2 });
            self.chunks.insert(chunk + 1, Arc::new(upper));
        }
    }

    fn remove_at(&mut self, chunk: usize, index: usize) {
        let leaves = Arc::make_mut(&mut self.chunks[chunk]);
        let leaf = leaves.remove(index);
        if leaves.is_empty() {
            self.chunks.remove(chunk);
        }
        self.size_bytes -= leaf.size_bytes();
        self.live_count -= usize::from(leaf.kind != Kind::MARK);
    }

    fn count_in(&mut self, leaf: &Leaf) {
        self.size_bytes += leaf.size_bytes();
        self.live_count += usize::from(leaf.kind != Kind::MARK);
    }
}

/// How many leaves one chunk may hold: what an edit of one field copies at most.
const CHUNK_LEAVES_MAX: usize = 64;
/// How many leaves a chunk gets when it is built at once: some room for later ones.
const CHUNK_LEAVES_FILLED: usize = 48;

const _: () = assert!(CHUNK_LEAVES_FILLED <= CHUNK_LEAVES_MAX, "a built chunk is a valid one");

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::leaf::{Content, Entry, only};
    use super::*;
    use crate::ident::{Actor, Dot};
    use crate::time::Hlc;

    fn entries(hlc: u64) -> Entries {
        let dot = Dot { hlc: Hlc(hlc), actor: Actor([1; 16]) };
        only(Entry::new(dot, Content::Present))
    }

    fn path(number: u16) -> Path {
        let steps = [number >> 8, (number >> 4) & 15, number & 15].map(|step| step.to_string());
        Path::from_steps(&steps[..1 + usize::from(number % 3)]).expect("short enough")
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn leaves_agree_with_a_sorted_map(ops in prop::collection::vec((0_u16..600, 0_u8..3, 0_u8..20), 0..900)) {
            let mut leaves = Leaves::default();
            let mut model = BTreeMap::new();
            for (number, kind, what) in ops {
                let (path, kind) = (path(number), Kind(kind));
                match what {
                    0 => {
                        leaves.retain_subtree(&path, |_| false);
                        model.retain(|(have, _): &(Path, Kind), _| !have.starts_with(&path));
                    }
                    1..3 => {
                        leaves.set(&path, kind, Entries::new());
                        model.remove(&(path, kind));
                    }
                    _ => {
                        leaves.set(&path, kind, entries(u64::from(what)));
                        model.insert((path, kind), entries(u64::from(what)));
                    }
                }
            }
            leaves.check_invariants();
            let pairs = |leaf: &Leaf| ((leaf.path.clone(), leaf.kind), leaf.entries.clone());
            prop_assert_eq!(leaves.iter().map(pairs).collect::<BTreeMap<_, _>>(), model.clone());
            let rebuilt = Leaves::from_sorted(leaves.iter().cloned().collect());
            rebuilt.check_invariants();
            for number in (0..600).step_by(7) {
                let path = path(number);
                let under: Vec<_> = leaves.subtree(&path).map(pairs).collect();
                let expected: Vec<_> =
                    model.clone().into_iter().filter(|((have, _), _)| have.starts_with(&path)).collect();
                prop_assert_eq!(under, expected);
                prop_assert_eq!(leaves.node(&path).count(), rebuilt.node(&path).count());
            }
        }
    }

    #[test]
    fn an_edit_of_a_clone_copies_one_chunk() {
        let mut leaves = Leaves::default();
        (0..600).for_each(|number| leaves.set(&path(number), Kind::MAP, entries(1)));
        let mut edited = leaves.clone();
        edited.set(&path(77), Kind::MAP, entries(2));
        let shared = |(a, b): &(&Arc<Vec<Leaf>>, &Arc<Vec<Leaf>>)| Arc::ptr_eq(a, b);
        let copied = leaves.chunks.iter().zip(&edited.chunks).filter(|pair| !shared(pair)).count();
        assert_eq!(copied, 1);
    }
}
