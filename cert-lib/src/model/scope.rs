//! Domain ranges: the names that an issuer may issue for. Pure.

use std::fmt;

/// A domain and all names below it, or, with a leading dot, only the names below it. Empty or `*`
/// matches all names.
///
/// Upper case, a leading `*.` and a trailing dot are ignored. Upstream ignores them for the default
/// issuer only: `*.example.com` in an Issuer never matches there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Range(String);

impl Range {
    /// Parses a range as users write it.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let lower = text.trim().to_ascii_lowercase();
        let text = lower.strip_suffix('.').unwrap_or(&lower);
        Self(match text {
            "*" => String::new(),
            _ => text.strip_prefix('*').filter(|it| it.starts_with('.')).unwrap_or(text).to_owned(),
        })
    }

    /// The length of the range if it matches `name`.
    #[must_use]
    pub fn matches(&self, name: &str) -> Option<usize> {
        let lower = name.to_ascii_lowercase();
        let name = lower.strip_suffix('.').unwrap_or(&lower);
        let head = name.strip_suffix(&self.0)?;
        let on_border = self.0.is_empty()
            || self.0.starts_with('.') && !head.is_empty()
            || head.is_empty()
            || head.ends_with('.');
        on_border.then_some(self.0.len())
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "*" } else { &self.0 })
    }
}

/// A list of ranges; the empty list matches all names.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Ranges(Vec<Range>);

impl Ranges {
    /// Parses ranges as users write them.
    #[must_use]
    pub fn new<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> Self {
        Self(texts.into_iter().map(|text| Range::new(text.as_ref())).collect())
    }

    /// Whether the list is empty, which matches all names.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The length of the longest match, `None` where no range matches.
    #[must_use]
    pub fn best(&self, name: &str) -> Option<usize> {
        if self.0.is_empty() {
            return Some(0);
        }
        self.0.iter().filter_map(|range| range.matches(name)).max()
    }
}

impl fmt::Display for Ranges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&texts.join(","))
    }
}

/// The names that an issuer may issue for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct NameSelector {
    /// The allowed ranges. An empty list allows all names: upstream drops empty lists when it
    /// writes, so an empty list cannot mean none.
    pub include: Ranges,
    /// The excluded ranges. They take precedence over `include`.
    pub exclude: Ranges,
}

/// Why a name is not selected.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outside {
    /// It is in `exclude`.
    Excluded,
    /// It is not in `include`.
    NotIncluded,
}

impl NameSelector {
    /// The length of the longest match of `name`.
    ///
    /// # Errors
    /// Why it is not selected.
    pub fn best(&self, name: &str) -> Result<usize, Outside> {
        if !self.exclude.is_empty() && self.exclude.best(name).is_some() {
            return Err(Outside::Excluded);
        }
        self.include.best(name).ok_or(Outside::NotIncluded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_in_a_range_on_label_boundaries_only() {
        for (name, range, inside) in [
            ("a.b", "b", true),
            ("a.b", ".b", true),
            ("a.b", "*.B", true),
            ("a.b", "a.b", true),
            ("a.b", "b.", true),
            ("A.B", "b", true),
            ("a.b.", "b", true),
            ("*.a.b", "a.b", true),
            ("*.a.b", ".a.b", true),
            ("a.b", "*", true),
            ("a.b", "", true),
            ("b", ".b", false),
            ("b", "*.b", false),
            ("c.b", "a.b", false),
            ("a.b", "c.b", false),
            ("a.b.c", "a.b", false),
            ("a.xb.c", "b.c", false),
            ("a.xb.c", ".b.c", false),
            ("a.b", "*b", false),
        ] {
            assert_eq!(Range::new(range).matches(name).is_some(), inside, "{name} in {range:?}");
        }
    }

    #[test]
    fn the_longest_match_counts_and_an_empty_list_matches_all() {
        let ranges = Ranges::new(["c", "b.c", "x"]);
        assert_eq!(ranges.best("a.b.c"), Some(3));
        assert_eq!(ranges.best("a.c"), Some(1));
        assert_eq!(ranges.best("a.y"), None);
        assert_eq!(Ranges::default().best("a.y"), Some(0));
    }

    #[test]
    fn exclusion_takes_precedence_over_inclusion() {
        let selection = NameSelector {
            include: Ranges::new(["*.Example.COM"]),
            exclude: Ranges::new(["secret.example.com."]),
        };
        for (name, wanted) in [
            ("a.example.com", Ok(12)),
            ("example.com", Err(Outside::NotIncluded)),
            ("a.example.org", Err(Outside::NotIncluded)),
            ("a.secret.example.com", Err(Outside::Excluded)),
            ("secret.example.com", Err(Outside::Excluded)),
        ] {
            assert_eq!(selection.best(name), wanted, "{name}");
        }
        assert_eq!(NameSelector::default().best("any.where"), Ok(0));
    }
}
