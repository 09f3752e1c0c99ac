//! What is kept of an object that may get certificates: all kinds look the same from here on.

use std::{collections::BTreeMap, sync::Arc};

use kube::{
    ResourceExt,
    core::{Selector, SelectorExt as _},
};

use super::{
    annotations::{self, Annotations, PURPOSE, PURPOSE_LABEL},
    kind::{Kind, SourceKey},
};
use crate::api::{
    ObjectKey,
    source::{Foreign, Shape},
    well_known,
};

/// Most entries of an object. A list is read a little further, so that more are noticed.
pub const MAX_ENTRIES: usize = 1_000;
/// Most names in all entries of an object together: two hundred certificates are full then.
pub const MAX_HOSTS: usize = 20_000;
/// Most bytes that are kept of one object: so many names as are allowed have a hundred characters each.
const MAX_BYTES: usize = 4 << 20;
/// So many finalizers that may be ours are kept: as many managers as share a cluster.
const MAX_FINALIZERS: usize = 8;
/// Longest name that is kept: no name of DNS or Kubernetes is as long, so that it is refused.
pub const MAX_NAME: usize = 255;
/// Longest part of an object that is repeated to people.
const MAX_QUOTE: usize = 200;

/// A kind of objects that get certificates.
pub trait Source: Shape {
    /// Which kind.
    const KIND: Kind;

    /// What asks for a certificate in an object, and the object that it belongs to, if any.
    fn entries(object: &Foreign<Self>) -> (Entries, Option<Parent>);

    /// Whose ListenerSets belong to it.
    fn listeners_from(_: &Foreign<Self>) -> NamespaceFilter {
        NamespaceFilter::Nowhere
    }
}

/// What is kept of an object.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Object {
    /// The version of the API that it came in.
    pub version: &'static str,
    /// Its uid.
    pub uid: String,
    /// The annotations that are read.
    pub annotations: BTreeMap<String, String>,
    /// Whether the label that asked for certificates in former times is there.
    pub labelled: bool,
    /// Finalizers that may be ours.
    pub finalizers: Vec<String>,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// What asks for a certificate.
    pub entries: Entries,
    /// What it belongs to.
    pub parent: Option<Parent>,
    /// Whose ListenerSets belong to it.
    pub listeners_from: NamespaceFilter,
}

impl Object {
    /// Whether labels of namespaces decide what belongs to it.
    #[must_use]
    pub fn selects(&self) -> bool {
        let selects = |from: &NamespaceFilter| matches!(from, NamespaceFilter::Selected(_));
        let mut hosts = self.entries.as_slice().iter().flat_map(|entry| &entry.hosts);
        selects(&self.listeners_from) || hosts.any(|host| selects(&host.from))
    }
}

/// The Gateway of a ListenerSet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Parent(pub ObjectKey);

/// The parts of an object that ask for certificates. Who looks at them shares them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Entries {
    /// All of them.
    All(Arc<[Entry]>),
    /// More than are looked at, or more names in them: none is kept.
    TooMany,
    /// Other objects of the namespace take all the room: none is kept.
    NoRoom,
}

impl Default for Entries {
    fn default() -> Self {
        Self::All(Arc::default())
    }
}

impl Entries {
    /// Those that are kept.
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

/// A part of an object that asks for a certificate.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Entry {
    /// How routes and people name it.
    pub place: PublicHost,
    /// Where the certificate goes to, or why that is not clear.
    pub secret: SecretName,
    /// What is served.
    pub hosts: Vec<Host>,
}

impl Entry {
    /// Cuts what is too long to be anything.
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
            let why = format!("{} is too long for a name of a Secret", quote(name));
            self.secret = SecretName::Unclear(why);
        }
    }
}

/// The beginning of a text of others, for messages.
#[must_use]
pub fn quote(text: &str) -> String {
    let head = head(text, MAX_QUOTE);
    if head.len() == text.len() { head.to_owned() } else { format!("{head}…") }
}

/// The first `length` bytes, or a few more where a letter would be cut.
fn head(text: &str, length: usize) -> &str {
    let mut end = text.len().min(length);
    while !text.is_char_boundary(end) {
        end += 1;
    }
    text.get(..end).unwrap_or_default()
}

/// How an entry is named.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PublicHost {
    /// Name of the listener.
    pub section: String,
    /// Port of the listener.
    pub port: Option<i64>,
}

/// Where a certificate goes to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SecretName {
    /// A Secret; in the namespace of the object where none is named.
    Named {
        /// Namespace
        namespace: Option<String>,
        /// Name
        name: String,
    },
    /// Not clear: what to tell people.
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

/// A name that is served, and whose routes may add to it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Host {
    /// Name or wildcard; `None` is every name.
    pub name: Option<String>,
    /// Whose routes are served here.
    pub from: NamespaceFilter,
}

/// Labels of a namespace.
pub type Labels = BTreeMap<String, String>;

/// From which namespaces something is taken.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum NamespaceFilter {
    /// None
    Nowhere,
    /// The namespace of the object
    Here,
    /// This one
    Namespace(String),
    /// Those with such labels; only that of the object where the labels are not known.
    Selected(Arc<Selector>),
    /// All
    Everywhere,
}

impl NamespaceFilter {
    /// Whether it is taken from `namespace`, which has these labels, by an object in `here`.
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

/// Whether an object of this kind asks for certificates.
#[must_use]
pub fn requests_certificate(kind: Kind, labelled: bool, annotations: &Annotations) -> bool {
    let managed = annotations.get(PURPOSE).is_some_and(|value| value == "managed");
    // A Service asks by naming a Secret: without, it has no entry.
    kind == Kind::Service || managed || labelled
}

/// What is kept of `object`, which came in `version` of the API.
#[must_use]
pub fn keep<S: Source>(object: &Foreign<S>, version: &'static str) -> (SourceKey, Object) {
    let key = SourceKey { kind: S::KIND, object: ObjectKey::of(object) };
    let is_ours = |name: &&String| name.ends_with(S::KIND.finalizer());
    let mut annotations = annotations::keep(object.annotations());
    let labelled = object.labels().get(PURPOSE_LABEL).is_some_and(|value| value == "managed-cert");
    // Most objects of a cluster ask for nothing, and nothing is what is kept of them: their owners
    // may write as much as they like. Only what has a parent may be asked for by that, and a parent
    // gives its annotations even where it asks for nothing itself.
    let (entries, parent) = S::entries(object);
    let is_for_nothing = S::KIND == Kind::Service && entries == Entries::default();
    let asks = parent.is_some()
        || (requests_certificate(S::KIND, labelled, &annotations) && !is_for_nothing);
    if !asks && S::KIND != Kind::Gateway {
        annotations.retain(|name, _| name == well_known::CLASS);
    }
    let kept = Object {
        version,
        uid: object.uid().unwrap_or_default(),
        annotations,
        labelled,
        finalizers: object
            .finalizers()
            .iter()
            .filter(is_ours)
            .take(MAX_FINALIZERS)
            .cloned()
            .collect(),
        deleting: object.metadata.deletion_timestamp.is_some(),
        entries: if asks { entries } else { Entries::default() },
        parent,
        listeners_from: S::listeners_from(object),
    };
    (key, kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::source::IngressSpec;

    fn entry(secret: &str, hosts: usize) -> Entry {
        let host =
            |number| Host { name: Some(format!("h{number}")), from: NamespaceFilter::Nowhere };
        let hosts = (0..hosts).map(host).collect();
        Entry { secret: SecretName::here(secret), hosts, ..Entry::default() }
    }

    #[test]
    fn an_object_with_more_than_is_looked_at_is_not_kept() {
        for (entries, hosts, all) in
            [(1_000, 20, true), (1_000, 21, false), (1_001, 0, false), (143, 140, false)]
        {
            let kept: Entries = (0..entries).map(|_| entry("s", hosts)).collect();
            assert_eq!(kept != Entries::TooMany, all, "{entries} entries with {hosts} hosts");
        }
    }

    #[test]
    fn what_is_too_long_is_cut_and_still_too_long() {
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

    #[test]
    fn of_an_object_that_does_not_ask_nothing_is_kept_but_its_class() {
        let hosts: Vec<String> = (0..1_000).map(|number| format!("h{number}.test")).collect();
        let of = |purpose: &str| {
            let object = serde_json::json!({
                "metadata": {"namespace": "ns", "name": "o", "uid": "u", "annotations": {
                    "cert.gardener.cloud/purpose": purpose, "cert.gardener.cloud/class": "mine",
                    "cert.gardener.cloud/dnsnames": "a.test",
                }},
                "spec": {"tls": [{"hosts": hosts, "secretName": "s"}]},
            });
            let object: Foreign<IngressSpec> = serde_json::from_value(object).unwrap();
            let kept = keep(&object, "v1").1;
            (kept.entries.as_slice().len(), kept.annotations.into_keys().collect::<Vec<_>>())
        };
        let class = "cert.gardener.cloud/class".to_owned();
        assert_eq!(of("x"), (0, vec![class]));
        assert_eq!((of("managed").0, of("managed").1.len()), (1, 3));
    }
}
