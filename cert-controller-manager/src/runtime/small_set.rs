//! A set for mostly one element.

/// An ordered set in one allocation. The smallest node of a `BTreeSet` has room for eleven elements,
/// which would dominate the memory of an index.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SmallSet<T>(Vec<T>);

impl<T> Default for SmallSet<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Ord> SmallSet<T> {
    /// Inserts an element.
    pub fn insert(&mut self, element: T) {
        if let Err(place) = self.0.binary_search(&element) {
            if self.0.is_empty() {
                self.0.reserve_exact(1);
            }
            self.0.insert(place, element);
        }
    }

    /// Removes an element.
    pub fn remove(&mut self, element: &T) {
        if let Ok(place) = self.0.binary_search(element) {
            self.0.remove(place);
        }
    }

    /// Whether the set is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The elements, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, T> {
        self.0.iter()
    }
}

impl<'a, T> IntoIterator for &'a SmallSet<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_unique_and_ordered() {
        let mut set = SmallSet::default();
        for element in [3, 1, 3, 2] {
            set.insert(element);
        }
        set.remove(&1);
        set.remove(&7);
        assert_eq!(set.iter().copied().collect::<Vec<_>>(), [2, 3]);
        assert!(!set.is_empty() && SmallSet::<u8>::default().is_empty());
    }
}
