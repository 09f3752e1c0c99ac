//! How objects are named, across clusters.

use std::fmt;

use cert_lib::solve::Owner;
use kube::{Resource, ResourceExt};

/// Names an object of a kind that the context tells.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ObjectKey {
    /// Namespace
    pub namespace: String,
    /// Name
    pub name: String,
}

impl ObjectKey {
    /// The key of `namespace/name`.
    #[must_use]
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// The key of an object.
    #[must_use]
    pub fn of<K: Resource>(object: &K) -> Self {
        Self::new(object.namespace().unwrap_or_default(), object.name_any())
    }

    /// Reads `namespace/name`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (namespace, name) = text.split_once('/')?;
        (!namespace.is_empty() && !name.is_empty()).then(|| Self::new(namespace, name))
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// The name of an object that is made from another one, `stem-tail`: cut to what Kubernetes takes,
/// without a dot at the cut, which no label ends with. `tail` keeps apart what is cut alike.
#[must_use]
pub fn derived(stem: &str, tail: &str) -> String {
    let mut end = stem.len().min(MAX_NAME.saturating_sub(1 + tail.len()));
    while !stem.is_char_boundary(end) {
        end -= 1;
    }
    let stem = stem.get(..end).unwrap_or_default();
    let stem = if stem.ends_with('.') { stem.trim_end_matches(['.', '-']) } else { stem };
    format!("{stem}-{tail}")
}

/// Longest name of an object (RFC 1123 section 2.1).
const MAX_NAME: usize = 253;

/// Which cluster an object lives in, where it may live in either.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum CertificateCluster {
    /// The source cluster.
    Source,
    /// The target cluster, where it differs from the source cluster: upstream keeps Certificates
    /// there.
    Target,
}

/// Names a Certificate.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CertificateKey {
    /// Where it lives.
    pub cluster: CertificateCluster,
    /// Its name there.
    pub object: ObjectKey,
}

impl CertificateKey {
    /// The key of the Certificate `object` in `home`.
    #[must_use]
    pub fn new(home: CertificateCluster, object: ObjectKey) -> Self {
        Self { cluster: home, object }
    }

    /// Who shares what there is with others.
    #[must_use]
    pub fn tenant(&self) -> Tenant {
        Tenant { home: self.cluster, namespace: self.object.namespace.clone() }
    }

    /// The Certificate as the engine names it.
    #[must_use]
    pub fn owner(&self) -> Owner {
        Owner(self.to_string())
    }

    /// The Certificate that the engine names so; `None` where somebody else wrote the text.
    #[must_use]
    pub fn from_owner(owner: &Owner) -> Option<Self> {
        Self::parse(&owner.0)
    }

    /// Reads what [`Display`](fmt::Display) writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (home, object) = match text.strip_prefix(AT_TARGET) {
            Some(object) => (CertificateCluster::Target, object),
            None => (CertificateCluster::Source, text),
        };
        ObjectKey::parse(object).map(|object| Self { cluster: home, object })
    }
}

/// Who shares quotas, limits and slots with others: a namespace of one cluster. One of the same name
/// in another cluster is somebody else.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Tenant {
    /// Which cluster.
    pub home: CertificateCluster,
    /// The namespace there.
    pub namespace: String,
}

impl Tenant {
    /// Whether the Certificate is one of its own.
    #[must_use]
    pub fn has(&self, key: &CertificateKey) -> bool {
        self.home == key.cluster && self.namespace == key.object.namespace
    }
}

/// No namespace has a colon in it.
const AT_TARGET: &str = "target:";

impl fmt::Display for CertificateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cluster {
            CertificateCluster::Source => write!(f, "{}", self.object),
            CertificateCluster::Target => write!(f, "{AT_TARGET}{}", self.object),
        }
    }
}

/// Names an Issuer.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum IssuerKey {
    /// In the issuer namespace of the default cluster.
    Default(String),
    /// In any namespace of the target cluster (`--allow-target-issuers`).
    Target(ObjectKey),
}

impl IssuerKey {
    /// The namespace of the tenant who brought it; `None` for one of ours.
    #[must_use]
    pub fn tenant(&self) -> Option<&str> {
        match self {
            Self::Default(_) => None,
            Self::Target(object) => Some(&object.namespace),
        }
    }

    /// The issuer that is named so, as [`Display`](fmt::Display) does it.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        let target = text.strip_prefix("target:").and_then(|rest| rest.split_once('/'));
        match target {
            Some((namespace, name)) => Self::Target(ObjectKey::new(namespace, name)),
            None => Self::Default(text.to_owned()),
        }
    }
}

/// Upstream's issuer key, as it is in fingerprints and metric labels: `name` or
/// `target:<namespace>/<name>`.
impl fmt::Display for IssuerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default(name) => f.write_str(name),
            Self::Target(object) => write!(f, "target:{object}"),
        }
    }
}

/// Identifies a cluster among all that managers write owner annotations about.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClusterId {
    /// What we write.
    pub id: String,
    /// What was written of the same cluster before: `--<cluster>.migration-ids` and upstream's
    /// fallback, `<cluster>/gardener.cloud`.
    pub former: Vec<String>,
}

impl ClusterId {
    /// Whether `text` names this cluster.
    #[must_use]
    pub fn is(&self, text: &str) -> bool {
        self.id == text || self.former.iter().any(|former| former == text)
    }
}

/// Tells the objects of one manager from those of another where several share a cluster: what they
/// write about orders carries it, and they leave alone what carries another one.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Realm {
    text: String,
    /// With the ids that the cluster had before.
    former: Vec<String>,
}

impl Realm {
    /// The realm of the manager that serves `class` for the cluster `source`.
    #[must_use]
    pub fn new(class: &str, source: &ClusterId) -> Self {
        let of = |id: &String| format!("{class}@{id}");
        // Upstream's fallback is the same for every cluster.
        let former = source.former.iter().filter(|id| !id.ends_with("/gardener.cloud"));
        Self { text: of(&source.id), former: former.map(of).collect() }
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether what carries `text` is of this manager: the id of its cluster may have been another
    /// one then.
    #[must_use]
    pub fn is(&self, text: &str) -> bool {
        self.text == text || self.former.iter().any(|former| former == text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_derived_name_has_no_dot_at_its_cut_and_fits() {
        let long = "a".repeat(300);
        for (stem, name) in [
            ("web", "web-t".to_owned()),
            ("web-", "web--t".to_owned()),
            ("web.", "web-t".to_owned()),
            ("web-.", "web-t".to_owned()),
            (&long, format!("{}-t", "a".repeat(251))),
            (&format!("{}.b", "a".repeat(250)), format!("{}-t", "a".repeat(250))),
        ] {
            assert_eq!(derived(stem, "t"), name);
        }
    }

    #[test]
    fn a_certificate_is_found_again_by_what_the_engine_calls_it() {
        let key = |home| CertificateKey::new(home, ObjectKey::new("ns", "a"));
        for (text, parsed) in [
            ("ns/a", Some(key(CertificateCluster::Source))),
            ("target:ns/a", Some(key(CertificateCluster::Target))),
            ("a", None),
            ("/a", None),
            ("target:ns/", None),
        ] {
            assert_eq!(CertificateKey::parse(text), parsed, "{text}");
            if let Some(key) = parsed {
                assert_eq!(key.to_string(), text);
            }
        }
    }
}
