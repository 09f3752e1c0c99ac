//! The entries of a source object: the parts that request certificates, the same for all kinds.

use std::{collections::BTreeMap, sync::Arc};

use kube::core::{Selector, SelectorExt as _};

/// Maximum number of entries of an object.
pub const MAX_ENTRIES: usize = 1_000;
/// Maximum number of names in all entries of an object: enough for 200 full certificates.
pub const MAX_HOSTS: usize = 20_000;
/// Maximum size of all entries of an object in bytes.
const MAX_BYTES: usize = 4 << 20;
/// Maximum length of a name. DNS and Kubernetes allow less, so a truncated name is refused.
pub const MAX_NAME: usize = 255;
/// Maximum length of a text in messages.
const MAX_QUOTE: usize = 200;
/// Overhead of a text: its header and the allocator.
const TEXT: usize = 40;
/// A parsed selector takes several times the size of its text.
const SELECTOR: usize = 4;

/// The entries of an object, shared by clones.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Entries {
    /// The complete list.
    All(Arc<[Entry]>),
    /// Not kept: too many entries or names.
    TooMany,
    /// Not kept: the namespace exceeds its memory limit.
    NoRoom,
}

impl Default for Entries {
    fn default() -> Self {
        Self::All(Arc::default())
    }
}

impl Entries {
    /// The entries that are kept.
    #[must_use]
    pub fn as_slice(&self) -> &[Entry] {
        match self {
            Self::All(entries) => entries,
            Self::TooMany | Self::NoRoom => &[],
        }
    }
}

impl FromIterator<Entry> for Entries {
    fn from_iter<I: IntoIterator<Item = Entry>>(entries: I) -> Self {
        let mut kept = Vec::new();
        let (mut hosts, mut bytes) = (0_usize, 0_usize);
        for mut entry in entries {
            hosts = hosts.saturating_add(entry.hosts.len());
            if kept.len() == MAX_ENTRIES || hosts > MAX_HOSTS {
                return Self::TooMany;
            }
            entry.bound();
            bytes = bytes.saturating_add(entry.size());
            if bytes > MAX_BYTES {
                return Self::TooMany;
            }
            kept.push(entry);
        }
        Self::All(kept.into())
    }
}

/// A part of an object that requests a certificate: a TLS section, a server or a listener.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Entry {
    /// The listener that routes refer to.
    pub place: ListenerRef,
    /// The Secret of the certificate.
    pub secret: SecretName,
    /// The served hosts.
    pub hosts: Vec<Host>,
}

impl Entry {
    /// Size in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        let secret = match &self.secret {
            SecretName::Named { namespace, name } => {
                namespace.as_ref().map_or(0, |text| text_size(text)) + text_size(name)
            }
            SecretName::Unclear(why) => text_size(why),
        };
        let hosts: usize = self.hosts.iter().map(Host::size).sum();
        size_of::<Self>() + text_size(&self.place.section) + secret + hosts
    }

    /// Truncates names that are too long to be valid.
    fn bound(&mut self) {
        self.hosts.shrink_to_fit();
        for name in self.hosts.iter_mut().filter_map(|host| host.name.as_mut()) {
            if name.len() > MAX_NAME {
                *name = head(name, MAX_NAME).to_owned();
            }
        }
        let is_long = |name: &str| name.len() > MAX_NAME;
        if let SecretName::Named { namespace, name } = &self.secret
            && (is_long(name) || namespace.as_deref().is_some_and(is_long))
        {
            let why = format!("{} is too long for the name of a Secret", quote(name));
            self.secret = SecretName::Unclear(why);
        }
    }
}

/// The beginning of a text, for messages.
#[must_use]
pub fn quote(text: &str) -> String {
    let head = head(text, MAX_QUOTE);
    if head.len() == text.len() { head.to_owned() } else { format!("{head}…") }
}

/// The first `length` bytes, extended to a character boundary.
fn head(text: &str, length: usize) -> &str {
    let mut end = text.len().min(length);
    while !text.is_char_boundary(end) {
        end += 1;
    }
    text.get(..end).unwrap_or_default()
}

/// Identifies a listener in the references of routes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ListenerRef {
    /// `sectionName`
    pub section: String,
    /// `port`
    pub port: Option<i64>,
}

/// The Secret of a certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SecretName {
    /// A Secret; the namespace defaults to that of the object.
    Named {
        /// Namespace
        namespace: Option<String>,
        /// Name
        name: String,
    },
    /// Missing or ambiguous, with the message to report.
    Unclear(String),
}

impl Default for SecretName {
    fn default() -> Self {
        Self::Unclear(String::new())
    }
}

impl SecretName {
    /// A Secret in the namespace of the object.
    #[must_use]
    pub fn here(name: &str) -> Self {
        Self::Named { namespace: None, name: name.to_owned() }
    }
}

/// A served host, and the namespaces whose routes may add names to it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Host {
    /// Name or wildcard; `None` matches every name.
    pub name: Option<String>,
    /// Namespaces of the routes.
    pub from: NamespaceFilter,
}

impl Host {
    fn size(&self) -> usize {
        let name = self.name.as_ref().map_or(0, |text| text_size(text));
        size_of::<Self>() + name + self.from.size()
    }
}

/// Labels of a namespace.
pub type Labels = BTreeMap<String, String>;

/// A filter for namespaces.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum NamespaceFilter {
    /// No namespace
    Nowhere,
    /// The namespace of the object
    Here,
    /// This namespace
    Namespace(String),
    /// Namespaces with matching labels; only the object's namespace if the labels are not known.
    Selected(Arc<Selector>),
    /// All namespaces
    Everywhere,
}

impl NamespaceFilter {
    /// Size in bytes of the referenced data.
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Self::Nowhere | Self::Here | Self::Everywhere => 0,
            Self::Namespace(name) => text_size(name),
            Self::Selected(selector) => SELECTOR * text_size(&selector.to_string()),
        }
    }

    /// Whether an object in `here` accepts `namespace`, which has these labels.
    #[must_use]
    pub fn admits(&self, namespace: &str, labels: Option<&Labels>, here: &str) -> bool {
        match self {
            Self::Selected(selector) => {
                labels.map_or(namespace == here, |labels| selector.matches(labels))
            }
            Self::Nowhere => false,
            Self::Here => namespace == here,
            Self::Namespace(name) => namespace == name,
            Self::Everywhere => true,
        }
    }
}

/// Size in bytes of a text in memory, with its header and the allocator.
#[must_use]
pub fn text_size(text: &str) -> usize {
    TEXT + text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(secret: &str, hosts: usize) -> Entry {
        let host =
            |number| Host { name: Some(format!("h{number}")), from: NamespaceFilter::Nowhere };
        let hosts = (0..hosts).map(host).collect();
        Entry { secret: SecretName::here(secret), hosts, ..Entry::default() }
    }

    #[test]
    fn an_object_with_too_many_entries_is_not_kept() {
        for (entries, hosts, all) in
            [(1_000, 20, true), (1_000, 21, false), (1_001, 0, false), (143, 140, false)]
        {
            let kept: Entries = (0..entries).map(|_| entry("s", hosts)).collect();
            assert_eq!(kept != Entries::TooMany, all, "{entries} entries with {hosts} hosts");
        }
    }

    #[test]
    fn names_that_are_too_long_are_truncated_and_stay_invalid() {
        let long = "ä".repeat(1_000_000);
        let mut host = entry("s", 1);
        host.hosts[0].name = Some(long.clone());
        let Entries::All(kept) = [host, entry(&long, 0)].into_iter().collect() else {
            panic!("two entries are too many");
        };
        let name = kept[0].hosts[0].name.as_ref().unwrap();
        assert!((254..260).contains(&name.len()), "{}", name.len());
        let SecretName::Unclear(why) = &kept[1].secret else { panic!("{:?}", kept[1].secret) };
        assert!(why.len() < 300 && why.contains("too long"), "{why}");
    }
}
