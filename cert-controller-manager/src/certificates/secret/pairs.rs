//! Compact form of the labels or annotations of a Secret, for comparison with a specification.

use std::hash::{DefaultHasher, Hash, Hasher};

/// Hashes of up to [`MAX_PAIRS`] pairs of name and value. Tenants can write a megabyte of labels
/// and annotations to each Secret.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Pairs(Box<[u64]>);

/// More pairs than the specification of a Certificate can have.
const MAX_PAIRS: usize = 2_048;

impl Pairs {
    /// Hashes of the first [`MAX_PAIRS`] pairs.
    #[must_use]
    pub fn of<'a>(pairs: impl IntoIterator<Item = (&'a String, &'a String)>) -> Self {
        let mut hashes: Vec<u64> =
            pairs.into_iter().take(MAX_PAIRS).map(|(name, value)| hash(name, value)).collect();
        hashes.sort_unstable();
        Self(hashes.into())
    }

    /// Whether the pair is present. A hash collision only means that the requested label is not
    /// written.
    #[must_use]
    pub fn has(&self, name: &str, value: &str) -> bool {
        self.0.binary_search(&hash(name, value)).is_ok()
    }
}

fn hash(name: &str, value: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (name, value).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_pair_is_found_by_name_and_value_and_the_number_of_pairs_is_bounded() {
        let pair = |number: usize| (format!("l{number:06}"), "x".repeat(number % 60));
        let all: BTreeMap<String, String> = (0..51_000).map(pair).collect();
        let pairs = Pairs::of(&all);
        assert!(pairs.has("l000003", "xxx") && !pairs.has("l000003", "xx") && !pairs.has("", ""));
        assert_eq!(pairs.0.len(), MAX_PAIRS);
        assert!(!Pairs::default().has("l000003", "xxx"));
    }
}
