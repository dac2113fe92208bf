//! The resources of one kind in one project and region, newest first. Later inserts do not shift pages of a list.

use std::collections::{BTreeMap, HashMap};

/// Resources by name and by age.
#[derive(Debug)]
pub(crate) struct Collection<T> {
    by_age: BTreeMap<u64, (String, T)>,
    by_name: HashMap<String, u64>,
}

impl<T> Default for Collection<T> {
    fn default() -> Self {
        Self { by_age: BTreeMap::new(), by_name: HashMap::new() }
    }
}

impl<T> Collection<T> {
    /// Adds a resource as the newest. `serial` must be higher than all earlier ones, and the name must be free.
    pub(crate) fn insert(&mut self, serial: u64, name: String, item: T) {
        self.by_name.insert(name.clone(), serial);
        self.by_age.insert(serial, (name, item));
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&T> {
        self.by_age.get(self.by_name.get(name)?).map(|(_, item)| item)
    }

    pub(crate) fn get_mut(&mut self, name: &str) -> Option<&mut T> {
        self.by_age.get_mut(self.by_name.get(name)?).map(|(_, item)| item)
    }

    pub(crate) fn remove(&mut self, name: &str) -> Option<T> {
        let serial = self.by_name.remove(name)?;
        self.by_age.remove(&serial).map(|(_, item)| item)
    }

    /// A collection with the same names and ages, whose items are `change` of the items of this one.
    pub(crate) fn map<U>(&self, change: impl Fn(&T) -> U) -> Collection<U> {
        let changed = |(serial, (name, item)): (&u64, &(String, T))| (*serial, (name.clone(), change(item)));
        Collection { by_age: self.by_age.iter().map(changed).collect(), by_name: self.by_name.clone() }
    }

    /// The number of resources.
    pub(crate) fn len(&self) -> usize {
        self.by_age.len()
    }

    /// All resources, newest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.by_age.values().rev().map(|(_, item)| item)
    }

    /// All resources, mutable, oldest first.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.by_age.values_mut().map(|(_, item)| item)
    }

    /// Up to `size` resources that are older than the serial `before` and that `wanted` selects, newest first. When
    /// there are more, also the serial to pass as `before` for the next page.
    pub(crate) fn page<'a>(
        &'a self,
        before: Option<u64>,
        size: usize,
        wanted: impl Fn(&'a T) -> bool,
    ) -> (Vec<&'a T>, Option<u64>) {
        let mut items = Vec::new();
        let mut last = None;
        for (serial, (_, item)) in self.by_age.range(..before.unwrap_or(u64::MAX)).rev() {
            if !wanted(item) {
                continue;
            }
            if items.len() == size {
                return (items, last);
            }
            items.push(item);
            last = Some(*serial);
        }
        (items, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_newest_first_and_stable_under_inserts() {
        let mut collection = Collection::default();
        for serial in 1..=5 {
            collection.insert(serial, format!("n{serial}"), serial);
        }
        let (first, next) = collection.page(None, 2, |_| true);
        assert_eq!((first, next), (vec![&5, &4], Some(4)));
        collection.insert(6, "n6".to_owned(), 6);
        let (second, next) = collection.page(next, 2, |_| true);
        assert_eq!((second, next), (vec![&3, &2], Some(2)));
        let (third, next) = collection.page(next, 2, |_| true);
        assert_eq!((third, next), (vec![&1], None));
    }

    #[test]
    fn the_last_page_has_no_next_page_even_when_it_is_full() {
        let mut collection = Collection::default();
        for serial in 1..=4 {
            collection.insert(serial, format!("n{serial}"), serial);
        }
        assert_eq!(collection.page(None, 2, |item| item % 2 == 0).1, None);
    }

    #[test]
    fn removing_a_resource_frees_its_name() {
        let mut collection = Collection::default();
        collection.insert(1, "a".to_owned(), 1);
        collection.insert(2, "b".to_owned(), 2);
        assert_eq!(collection.remove("a"), Some(1));
        assert!(!collection.contains("a"));
        assert_eq!(collection.remove("b"), Some(2));
        assert_eq!(collection.iter().count(), 0);
    }
}
