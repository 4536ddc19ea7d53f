//! The one hash map of this crate: for look-ups only.
//!
//! It cannot be iterated, because the order of a hash map is not behaviour that we would want to replay.
//! Whoever needs order uses a `BTreeMap` or a sorted `Vec`.

use std::borrow::Borrow;
use std::hash::{BuildHasher, Hash};

use foldhash::fast::FixedState;

#[allow(clippy::disallowed_types, reason = "this module is the one place that wraps it")]
type Inner<K, V> = hashbrown::HashMap<K, V, FixedState>;

/// A hash map with a seeded hasher and no iteration.
#[derive(Clone, Debug)]
pub struct Map<K, V> {
    inner: Inner<K, V>,
}

impl<K, V> Default for Map<K, V> {
    fn default() -> Self {
        Self::with_seed(0)
    }
}

impl<K, V> Map<K, V> {
    /// An empty map whose hasher is keyed by `seed`.
    #[must_use]
    pub fn with_seed(seed: u64) -> Self {
        Self { inner: Inner::with_hasher(FixedState::with_seed(seed)) }
    }

    /// The number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.inner.len()
    }

    /// How many values are such: the one thing that does not depend on their order.
    pub fn count(&self, is_such: impl Fn(&V) -> bool) -> usize {
        self.inner.values().filter(|value| is_such(value)).count()
    }

    /// The keys of all such values, in rising order: it does not depend on theirs either.
    pub fn keys_where(&self, is_such: impl Fn(&V) -> bool) -> Vec<K>
    where
        K: Copy + Ord,
    {
        let such = self.inner.iter().filter(|(_, value)| is_such(value));
        let mut keys: Vec<K> = such.map(|(key, _)| *key).collect();
        keys.sort_unstable();
        keys
    }

    /// True when nothing is stored.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.inner.is_empty()
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.inner.clear();
    }
}

impl<K: Eq + Hash, V> Map<K, V>
where
    FixedState: BuildHasher,
{
    /// The value under `key`.
    pub fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.inner.get(key)
    }

    /// The value under `key`, to change.
    pub fn get_mut<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.inner.get_mut(key)
    }

    /// True when `key` is stored.
    pub fn contains<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.inner.contains_key(key)
    }

    /// Stores a value and returns the one it replaces.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        self.inner.insert(key, value)
    }

    /// Removes and returns the value under `key`.
    pub fn remove<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.inner.remove(key)
    }

    /// The value under `key`, made by `make` when absent.
    pub fn get_or_insert_with(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        self.inner.entry(key).or_insert_with(make)
    }
}
