//! Objects: named values, kept sorted.

use super::Value;

/// Named values, sorted by the bytes of their names, each name once.
///
/// One sorted vector: documents are read far more often than a name is added, most have a dozen names, and the
/// order is what output and canonical forms need.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Object {
    entries: Vec<(Box<str>, Value)>,
}

/// One name stood twice among entries that were to become an object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the name {name:?} occurs more than once in one object")]
pub struct DuplicateName {
    /// The name.
    pub name: Box<str>,
}

impl Object {
    /// The empty object.
    #[must_use]
    pub const fn new() -> Self {
        Self { entries: Vec::new() }
    }

    /// Makes an object of entries in any order; costs nothing beyond one comparison each if they are sorted.
    ///
    /// # Errors
    ///
    /// If two entries have one name.
    pub fn from_entries(mut entries: Vec<(Box<str>, Value)>) -> Result<Self, DuplicateName> {
        if !entries.is_sorted_by(|(a, _), (b, _)| a < b) {
            entries.sort_by(|(a, _), (b, _)| a.cmp(b));
            if let Some(pair) = entries.windows(2).find(|pair| pair[0].0 == pair[1].0) {
                return Err(DuplicateName { name: pair[0].0.clone() });
            }
        }
        Ok(Self { entries })
    }

    /// The value under `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.position(name).ok().map(|index| &self.entries[index].1)
    }

    /// The value under `name`, for changing.
    #[must_use]
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Value> {
        self.position(name).ok().map(|index| &mut self.entries[index].1)
    }

    /// Whether there is a value under `name`.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.position(name).is_ok()
    }

    /// Puts `value` under `name` and returns what was there.
    pub fn insert(&mut self, name: impl Into<Box<str>>, value: Value) -> Option<Value> {
        let name = name.into();
        match self.position(&name) {
            Ok(index) => Some(std::mem::replace(&mut self.entries[index].1, value)),
            Err(index) => {
                self.entries.insert(index, (name, value));
                None
            }
        }
    }

    /// Takes out the value under `name`.
    pub fn remove(&mut self, name: &str) -> Option<Value> {
        self.position(name).ok().map(|index| self.entries.remove(index).1)
    }

    /// The entries, by the bytes of their names.
    pub fn iter(&self) -> Iter<'_> {
        self.entries.iter().map(borrow_entry)
    }

    /// How many names there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no names.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Where `name` is, or where it would go. Names mostly arrive in order, so the end is tried first.
    fn position(&self, name: &str) -> Result<usize, usize> {
        match self.entries.last() {
            Some((last, _)) if **last < *name => Err(self.entries.len()),
            _ => self.entries.binary_search_by(|(have, _)| (**have).cmp(name)),
        }
    }
}

/// The entries of an [`Object`], by the bytes of their names.
pub type Iter<'a> = std::iter::Map<
    std::slice::Iter<'a, (Box<str>, Value)>,
    fn(&'a (Box<str>, Value)) -> (&'a str, &'a Value),
>;

fn borrow_entry((name, value): &(Box<str>, Value)) -> (&str, &Value) {
    (name, value)
}

impl<'a> IntoIterator for &'a Object {
    type Item = (&'a str, &'a Value);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl IntoIterator for Object {
    type Item = (Box<str>, Value);
    type IntoIter = std::vec::IntoIter<(Box<str>, Value)>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.into_iter()
    }
}

impl<N: Into<Box<str>>, V: Into<Value>> FromIterator<(N, V)> for Object {
    /// Of several entries with one name the last counts.
    fn from_iter<I: IntoIterator<Item = (N, V)>>(entries: I) -> Self {
        let mut entries: Vec<(Box<str>, Value)> =
            entries.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        // The sort is stable, so the last of several comes last; `dedup_by` keeps the first of a run and hands
        // over the later one for removal.
        entries.sort_by(|(a, _), (b, _)| a.cmp(b));
        entries.dedup_by(|later, kept| {
            let same = later.0 == kept.0;
            if same {
                std::mem::swap(later, kept);
            }
            same
        });
        Self { entries }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn names_come_out_sorted_by_bytes() {
        let object: Object = [("b", 1), ("é", 2), ("B", 3), ("", 4)].into_iter().collect();
        let names: Vec<&str> = object.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["", "B", "b", "é"]);
    }

    #[test]
    fn duplicates_are_refused_or_the_last_counts() {
        let entries = vec![("b".into(), 1.into()), ("a".into(), 2.into()), ("b".into(), 3.into())];
        let collected: Object = entries.clone().into_iter().collect();
        assert_eq!(collected.get("b"), Some(&Value::Int(3)));
        assert_eq!(collected.len(), 2);
        assert_eq!(Object::from_entries(entries), Err(DuplicateName { name: "b".into() }));
    }

    proptest! {
        #[test]
        fn an_object_agrees_with_a_map(
            steps in prop::collection::vec(("[a-d]{0,2}", any::<Option<i64>>()), 0..60),
        ) {
            let mut object = Object::new();
            let mut model = BTreeMap::new();
            for (name, step) in steps {
                match step {
                    Some(number) => prop_assert_eq!(
                        object.insert(name.as_str(), number.into()),
                        model.insert(name, Value::from(number))
                    ),
                    None => prop_assert_eq!(object.remove(&name), model.remove(&name)),
                }
                let modelled = model.iter().map(|(name, value)| (name.as_str(), value));
                prop_assert!(object.iter().eq(modelled));
            }
        }
    }
}
