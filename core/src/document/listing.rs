//! The components that a delta lists.

use super::delta::{Listed, ListedEntry};
use super::leaf::Entry;
use super::leaves::Leaves;
use super::{Content, Entries, Kind, Leaf, Path};
use crate::ident::Dot;

/// Components with all their live dots, ascending by (path, kind).
#[derive(Clone, Debug)]
pub(super) enum Listing {
    /// One by one.
    Single(Vec<Listed>),
    /// All leaves of a document that one commit made, with their content: shared with that document, not copied.
    Whole(Leaves),
}

/// One component of a listing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Component<'a> {
    pub(super) path: &'a Path,
    pub(super) kind: Kind,
    entries: ComponentEntries<'a>,
}

#[derive(Clone, Copy, Debug)]
enum ComponentEntries<'a> {
    Listed(&'a [ListedEntry]),
    Leaf(&'a [Entry]),
}

impl Listing {
    pub(super) const fn new() -> Self {
        Self::Single(Vec::new())
    }

    /// Adds a component that sorts behind all others.
    pub(super) fn push(&mut self, listed: Listed) {
        match self {
            Self::Single(all) => all.push(listed),
            Self::Whole(_) => unreachable!("a shared listing is made whole"),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Single(all) => all.len(),
            Self::Whole(leaves) => leaves.len(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All components in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = Component<'_>> {
        let (listed, leaves) = match self {
            Self::Single(all) => (&all[..], None),
            Self::Whole(leaves) => (&[][..], Some(leaves.iter())),
        };
        let listed = listed.iter().map(|listed| Component {
            path: &listed.path,
            kind: listed.kind,
            entries: ComponentEntries::Listed(&listed.entries),
        });
        let leaves = leaves.into_iter().flatten().map(|leaf| Component {
            path: &leaf.path,
            kind: leaf.kind,
            entries: ComponentEntries::Leaf(&leaf.entries),
        });
        listed.chain(leaves)
    }

    pub(super) fn contains(&self, path: &Path, kind: Kind) -> bool {
        match self {
            Self::Single(all) => {
                let key = |listed: &Listed| (&listed.path, listed.kind).cmp(&(path, kind));
                all.binary_search_by(key).is_ok()
            }
            Self::Whole(leaves) => leaves.get(path, kind).is_some(),
        }
    }

    /// What a document that nothing has happened to takes of it: all. Building the leaves at once spares a search
    /// for each.
    pub(super) fn to_leaves(&self) -> Leaves {
        let all = match self {
            Self::Whole(leaves) => return leaves.clone(),
            Self::Single(all) => all,
        };
        let leaf = |listed: &Listed| {
            let content =
                |content: &Option<Content>| content.clone().expect("checked: the base is empty");
            let entries = listed.entries.iter();
            let mut entries: Entries =
                entries.map(|entry| Entry::new(entry.dot, content(&entry.content))).collect();
            entries.sort_by_key(|entry| entry.dot);
            Leaf::new(listed.path.clone(), listed.kind, entries)
        };
        let filled = all.iter().filter(|listed| !listed.entries.is_empty());
        Leaves::from_sorted(filled.map(leaf).collect())
    }
}

impl PartialEq for Listing {
    fn eq(&self, other: &Self) -> bool {
        let same = |(a, b): (Component<'_>, Component<'_>)| {
            (a.path, a.kind) == (b.path, b.kind) && a.entries().eq(b.entries())
        };
        self.len() == other.len() && self.iter().zip(other.iter()).all(same)
    }
}

impl<'a> Component<'a> {
    /// The dots, each with its content unless the base has seen it.
    pub(super) fn entries(
        self,
    ) -> impl ExactSizeIterator<Item = (Dot, Option<&'a Content>)> + Clone {
        let count = match self.entries {
            ComponentEntries::Listed(entries) => entries.len(),
            ComponentEntries::Leaf(entries) => entries.len(),
        };
        (0..count).map(move |index| match self.entries {
            ComponentEntries::Listed(entries) => {
                (entries[index].dot, entries[index].content.as_ref())
            }
            ComponentEntries::Leaf(entries) => (entries[index].dot, Some(&entries[index].content)),
        })
    }

    /// The content of a dot, if that is listed at all.
    pub(super) fn find(self, dot: Dot) -> Option<Option<&'a Content>> {
        match self.entries {
            ComponentEntries::Listed(entries) => {
                let index = entries.binary_search_by(|entry| entry.dot.cmp(&dot)).ok()?;
                Some(entries[index].content.as_ref())
            }
            ComponentEntries::Leaf(entries) => {
                let index = entries.binary_search_by(|entry| entry.dot.cmp(&dot)).ok()?;
                Some(Some(&entries[index].content))
            }
        }
    }
}
