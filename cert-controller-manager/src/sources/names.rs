//! A bounded list of DNS names without duplicates.

use std::{borrow::Cow, collections::HashSet};

use cert_lib::model::request::MAX_DNS_NAMES;

/// Maximum length of the list. It exceeds the limit for certificates, so that a longer list is
/// refused instead of truncated.
pub const MAX_NAMES: usize = MAX_DNS_NAMES + 2;

/// See the [module](self).
#[derive(Clone, Debug, Default)]
pub struct NameList {
    names: Vec<String>,
    /// Normalized names.
    seen: HashSet<String>,
}

impl NameList {
    /// Adds a name unless it is in the list or the list is full.
    pub fn add(&mut self, name: &str) {
        if self.is_full() {
            return;
        }
        let normalized = normalize(name);
        if !self.seen.contains(normalized.as_ref()) {
            self.seen.insert(normalized.into_owned());
            self.names.push(name.to_owned());
        }
    }

    /// Whether the list has [`MAX_NAMES`] names.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.names.len() >= MAX_NAMES
    }

    /// Whether the list is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The names as written, in the order of insertion.
    #[must_use]
    pub fn as_slice(&self) -> &[String] {
        &self.names
    }

    /// Whether a certificate for these names is valid for `host`. A wildcard matches one label
    /// (RFC 6125 section 6.4.3).
    #[must_use]
    pub fn covers(&self, host: &str) -> bool {
        let host = normalize(host);
        let by_wildcard = |(label, rest): (&str, &str)| {
            label != "*" && self.seen.contains(format!("*.{rest}").as_str())
        };
        self.seen.contains(host.as_ref()) || host.split_once('.').is_some_and(by_wildcard)
    }
}

impl PartialEq for NameList {
    fn eq(&self, other: &Self) -> bool {
        self.names == other.names
    }
}

impl<'a> FromIterator<&'a str> for NameList {
    fn from_iter<I: IntoIterator<Item = &'a str>>(names: I) -> Self {
        let mut list = Self::default();
        for name in names {
            // The input may be much longer.
            if list.is_full() {
                break;
            }
            list.add(name);
        }
        list
    }
}

/// Normalizes a name for comparison: lower case, without trailing dot.
#[must_use]
pub fn normalize(name: &str) -> Cow<'_, str> {
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equivalent_names_are_added_once() {
        let list: NameList = ["b.x", "B.X", "b.x.", "a.x", "b.x"].into_iter().collect();
        assert_eq!(list.as_slice(), ["b.x", "a.x"]);
    }

    #[test]
    fn the_list_is_bounded_above_the_limit_of_certificates() {
        let all: Vec<String> = (0..100_000).map(|number| format!("h{number}.x")).collect();
        let list: NameList = all.iter().map(String::as_str).collect();
        assert_eq!(list.as_slice().len(), MAX_DNS_NAMES + 2);
    }
}
