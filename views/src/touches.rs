//! What a batch touches, by key: read once, and found again.
//!
//! Records of one batch are mostly about what the record before was about, so the last that was
//! found is looked at before anything is hashed. Invariant: there is one value for a key, and it
//! stays where it is.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;

use foldhash::fast::RandomState;

/// Values by key, in the order in which they were first touched.
pub(crate) struct Touches<K, V> {
    places: HashMap<K, usize, RandomState>,
    touched: Vec<(K, V)>,
    last: usize,
}

impl<K: Copy + Eq + Hash, V> Touches<K, V> {
    pub(crate) fn new() -> Self {
        Self {
            places: HashMap::default(),
            touched: Vec::new(),
            last: 0,
        }
    }

    /// The value of a key; `read` gives it the first time.
    ///
    /// # Errors
    /// What `read` fails with; nothing is touched then.
    pub(crate) fn find<E>(
        &mut self,
        key: K,
        read: impl FnOnce() -> Result<V, E>,
    ) -> Result<&mut V, E> {
        let is_last = self.touched.get(self.last).is_some_and(|(k, _)| *k == key);
        if !is_last {
            self.last = match self.places.entry(key) {
                Entry::Occupied(place) => *place.get(),
                Entry::Vacant(vacant) => {
                    self.touched.push((key, read()?));
                    *vacant.insert(self.touched.len() - 1)
                }
            };
        }
        Ok(&mut self.touched[self.last].1)
    }

    pub(crate) fn len(&self) -> usize {
        self.touched.len()
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.touched.iter().map(|(_, value)| value)
    }

    pub(crate) fn into_pairs(self) -> Vec<(K, V)> {
        self.touched
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    #[test]
    fn a_value_is_read_once_and_a_failed_read_touches_nothing() {
        let mut touches: Touches<u8, u8> = Touches::new();
        assert_eq!(touches.find(1, || Err("unreadable")), Err("unreadable"));
        assert_eq!(touches.len(), 0);
        for key in [1, 2, 1, 1, 3, 2] {
            let value = touches.find(key, || Ok::<_, Infallible>(10 * key));
            let Ok(value) = value;
            assert_eq!(*value / 10, key);
            *value += 1;
        }
        let values: Vec<u8> = touches.values().copied().collect();
        assert_eq!(values, [13, 22, 31]);
        assert_eq!(touches.into_pairs(), [(1, 13), (2, 22), (3, 31)]);
    }
}
