//! The published values: which source of records publishes which values at which name. Pure.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
};

use cert_lib::model::name::DnsName;

use crate::api::ObjectKey;

/// Where records come from. Each origin is listed separately, and names are absent only when all origins of
/// a table are listed.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Origin {
    /// `DNSEntry` objects.
    Entries,
    /// Running orders of this manager.
    Orders,
}

/// The object that publishes records.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RecordKey {
    /// The kind of object.
    pub origin: Origin,
    /// The object.
    pub object: ObjectKey,
}

/// The values of one name.
#[derive(Clone, Eq, PartialEq)]
pub struct Source {
    /// Name of the records.
    pub name: DnsName,
    /// TXT values, each a record.
    pub values: Vec<String>,
    /// TTL in seconds; the configured one if it is smaller.
    pub ttl: u32,
}

/// Does not print the values, which are secret while the order runs.
impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source({}, {} values)", self.name, self.values.len())
    }
}

/// The values by name, and by the object that publishes them.
#[derive(Default)]
pub(super) struct Records {
    sources: HashMap<RecordKey, Vec<Source>>,
    /// The objects of each name, in lower case.
    names: HashMap<String, BTreeSet<RecordKey>>,
    /// The number of names with values below each name.
    above: HashMap<String, usize>,
}

impl Records {
    /// Adds or replaces all values of an object. Returns whether this is a change.
    pub(super) fn put(&mut self, key: &RecordKey, sources: Vec<Source>) -> bool {
        if self.sources.get(key) == Some(&sources) {
            return false;
        }
        let removed = self.remove(key);
        if sources.is_empty() {
            return removed;
        }
        for source in &sources {
            let keys = self.names.entry(source.name.as_str().to_owned()).or_default();
            if keys.is_empty() {
                for parent in parents(&source.name) {
                    *self.above.entry(parent).or_default() += 1;
                }
            }
            keys.insert(key.clone());
        }
        self.sources.insert(key.clone(), sources);
        true
    }

    /// Removes all values of an object. Returns whether this is a change.
    pub(super) fn remove(&mut self, key: &RecordKey) -> bool {
        let Some(sources) = self.sources.remove(key) else { return false };
        for source in &sources {
            let Some(keys) = self.names.get_mut(source.name.as_str()) else { continue };
            keys.remove(key);
            if !keys.is_empty() {
                continue;
            }
            self.names.remove(source.name.as_str());
            for parent in parents(&source.name) {
                if let Some(count) = self.above.get_mut(&parent) {
                    *count -= 1;
                    if *count == 0 {
                        self.above.remove(&parent);
                    }
                }
            }
        }
        true
    }

    /// The objects of an origin that publish values.
    pub(super) fn keys(&self, origin: Origin) -> Vec<ObjectKey> {
        let keys = self.sources.keys().filter(|key| key.origin == origin);
        keys.map(|key| key.object.clone()).collect()
    }

    /// Whether the name, or a name below it, has values (RFC 8020).
    pub(super) fn exists(&self, name: &str) -> bool {
        self.names.contains_key(name) || self.above.contains_key(name)
    }

    /// The values of a name without duplicates, with the lowest TTL: all records of a name have one TTL
    /// (RFC 2181 section 5.2).
    pub(super) fn at(&self, name: &str) -> Option<(BTreeSet<&str>, u32)> {
        let keys = self.names.get(name)?;
        let all = keys.iter().filter_map(|key| self.sources.get(key)).flatten();
        let sources: Vec<&Source> = all.filter(|source| source.name.as_str() == name).collect();
        let ttl = sources.iter().map(|source| source.ttl).min()?;
        let values = sources.iter().flat_map(|source| &source.values).map(String::as_str);
        Some((values.collect(), ttl))
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty() && self.above.is_empty() && self.sources.is_empty()
    }
}

fn parents(name: &DnsName) -> impl Iterator<Item = String> {
    std::iter::successors(name.parent(), DnsName::parent).map(String::from)
}
