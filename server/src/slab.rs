//! A table whose keys are never confused: a key names a place and the generation of what lies there.

/// A table with `u64` keys. The low half of a key is its place, the high half counts what the place has held.
#[derive(Debug)]
pub struct Slab<T> {
    places: Vec<Place<T>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Place<T> {
    generation: u32,
    value: Option<T>,
}

/// The place that a key names.
#[must_use]
pub fn place(key: u64) -> usize {
    (key & u64::from(u32::MAX)) as usize
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { places: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    /// Keeps `value` and returns its key.
    pub fn insert(&mut self, value: T) -> u64 {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place { generation: 0, value: None });
            u32::try_from(self.places.len() - 1).expect("fewer than four billion values")
        });
        let place = &mut self.places[index as usize];
        place.value = Some(value);
        u64::from(place.generation) << 32 | u64::from(index)
    }

    /// The value of a key, unless it was removed.
    #[must_use]
    #[inline]
    pub fn get(&self, key: u64) -> Option<&T> {
        let found = self.places.get(place(key))?;
        (u64::from(found.generation) == key >> 32).then_some(found.value.as_ref())?
    }

    /// The value of a key, to be changed.
    #[inline]
    pub fn get_mut(&mut self, key: u64) -> Option<&mut T> {
        let found = self.places.get_mut(place(key))?;
        (u64::from(found.generation) == key >> 32).then_some(found.value.as_mut())?
    }

    /// Takes out the value of a key; the key names nothing from here on.
    pub fn remove(&mut self, key: u64) -> Option<T> {
        let found = self.places.get_mut(place(key))?;
        if u64::from(found.generation) != key >> 32 {
            return None;
        }
        let value = found.value.take()?;
        found.generation = found.generation.wrapping_add(1);
        self.free.push(place(key) as u32);
        Some(value)
    }

    /// How many values there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// True when there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All keys, in the order of their places.
    pub fn keys(&self) -> impl Iterator<Item = u64> {
        self.places
            .iter()
            .enumerate()
            .filter(|(_, place)| place.value.is_some())
            .map(|(index, place)| u64::from(place.generation) << 32 | index as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_names_nothing_once_its_value_is_gone() {
        let mut slab = Slab::default();
        let (first, second) = (slab.insert('a'), slab.insert('b'));
        assert_eq!(slab.remove(first), Some('a'));
        let third = slab.insert('c');
        assert_eq!(place(third), place(first));
        assert_eq!(slab.get(first), None);
        assert_eq!(slab.remove(first), None);
        assert_eq!((slab.get(second), slab.get(third)), (Some(&'b'), Some(&'c')));
        assert_eq!(slab.keys().collect::<Vec<_>>(), [third, second]);
        assert_eq!(slab.len(), 2);
    }
}
