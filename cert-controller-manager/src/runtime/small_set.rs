//! A set that mostly has one element.

/// An ordered set in one piece of memory. A tree has room for eleven elements in its smallest node,
/// which is most of what an index over many objects would take.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SmallSet<T>(Vec<T>);

impl<T> Default for SmallSet<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Ord> SmallSet<T> {
    /// Adds an element, unless it is there.
    pub fn insert(&mut self, element: T) {
        if let Err(place) = self.0.binary_search(&element) {
            if self.0.is_empty() {
                self.0.reserve_exact(1);
            }
            self.0.insert(place, element);
        }
    }

    /// Removes an element, if it is there.
    pub fn remove(&mut self, element: &T) {
        if let Ok(place) = self.0.binary_search(element) {
            self.0.remove(place);
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All elements, in order.
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
    fn elements_are_there_once_and_in_order() {
        let mut few = SmallSet::default();
        for element in [3, 1, 3, 2] {
            few.insert(element);
        }
        few.remove(&1);
        few.remove(&7);
        assert_eq!(few.iter().copied().collect::<Vec<_>>(), [2, 3]);
        assert!(!few.is_empty() && SmallSet::<u8>::default().is_empty());
    }
}
