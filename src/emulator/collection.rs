//! Resources of one kind in one place, newest first, with pages that later inserts don't shift.

use std::collections::{BTreeMap, HashMap};

/// Resources by name and by age.
#[derive(Debug)]
pub(super) struct Collection<T> {
    by_age: BTreeMap<u64, (String, T)>,
    by_name: HashMap<String, u64>,
}

impl<T> Default for Collection<T> {
    fn default() -> Self {
        Self { by_age: BTreeMap::new(), by_name: HashMap::new() }
    }
}

impl<T> Collection<T> {
    /// Adds a resource as the newest. `serial` must be higher than all before, and the name not be taken.
    pub(super) fn insert(&mut self, serial: u64, name: String, item: T) {
        self.by_name.insert(name.clone(), serial);
        self.by_age.insert(serial, (name, item));
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    pub(super) fn get(&self, name: &str) -> Option<&T> {
        self.by_age.get(self.by_name.get(name)?).map(|(_, item)| item)
    }

    pub(super) fn get_mut(&mut self, name: &str) -> Option<&mut T> {
        self.by_age.get_mut(self.by_name.get(name)?).map(|(_, item)| item)
    }

    pub(super) fn remove(&mut self, name: &str) -> Option<T> {
        let serial = self.by_name.remove(name)?;
        self.by_age.remove(&serial).map(|(_, item)| item)
    }

    /// The same with something else in the place of each resource.
    pub(super) fn map<U>(&self, change: impl Fn(&T) -> U) -> Collection<U> {
        let changed = |(serial, (name, item)): (&u64, &(String, T))| (*serial, (name.clone(), change(item)));
        Collection { by_age: self.by_age.iter().map(changed).collect(), by_name: self.by_name.clone() }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.by_age.len()
    }

    /// Removes the resources for which `gone` holds.
    pub(super) fn remove_if(&mut self, mut gone: impl FnMut(&T) -> bool) {
        let by_name = &mut self.by_name;
        self.by_age.retain(|_, (name, item)| {
            let stays = !gone(item);
            if !stays {
                by_name.remove(name);
            }
            stays
        });
    }

    /// All resources, newest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.by_age.values().rev().map(|(_, item)| item)
    }

    /// All resources, for changes.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.by_age.values_mut().map(|(_, item)| item)
    }

    /// At most `size` resources that `wanted` selects, newest first, of those older than `before`; and the serial to
    /// go on before when there are more.
    pub(super) fn page(&self, before: Option<u64>, size: usize, wanted: impl Fn(&T) -> bool) -> (Vec<&T>, Option<u64>) {
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

/// The `continue` token that stands for a serial. Opaque to callers.
pub(super) fn token(before: u64) -> String {
    format!("{:016x}", before ^ TOKEN_MASK)
}

/// The serial behind a `continue` token.
pub(super) fn read_token(token: &str) -> Option<u64> {
    (token.len() == 16).then(|| u64::from_str_radix(token, 16).ok()).flatten().map(|serial| serial ^ TOKEN_MASK)
}

/// So that nobody takes the token for a number.
const TOKEN_MASK: u64 = 0x9e37_79b9_7f4a_7c15;

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
    fn the_last_page_has_no_next_one_even_when_it_is_full() {
        let mut collection = Collection::default();
        for serial in 1..=4 {
            collection.insert(serial, format!("n{serial}"), serial);
        }
        assert_eq!(collection.page(None, 2, |item| item % 2 == 0).1, None);
    }

    #[test]
    fn tokens_survive_the_round_trip_and_others_are_refused() {
        assert_eq!(read_token(&token(42)), Some(42));
        for text in ["", "42", "zzzzzzzzzzzzzzzz", "00000000000000000"] {
            assert_eq!(read_token(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_removed_frees_its_name() {
        let mut collection = Collection::default();
        collection.insert(1, "a".to_owned(), 1);
        collection.insert(2, "b".to_owned(), 2);
        collection.remove_if(|item| *item == 1);
        assert!(!collection.contains("a"));
        assert_eq!(collection.remove("b"), Some(2));
        assert_eq!(collection.iter().count(), 0);
    }
}
