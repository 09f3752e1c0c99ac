//! Keys of objects, clusters and tenants.

use std::{fmt, sync::Arc};

use cert_lib::solve::Owner;
use kube::{Resource, ResourceExt};

/// Namespace and name of an object.
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

    /// Parses `namespace/name`.
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

/// A valid object name `stem-tail`. A long `stem` is truncated, not at a dot. `tail` must make the name
/// unique.
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

/// Maximum length of an object name (RFC 1123 section 2.1).
const MAX_NAME: usize = 253;

/// The cluster of a Certificate.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum CertificateCluster {
    /// The source cluster.
    Source,
    /// The target cluster, if it differs from the source cluster. Upstream creates Certificates there.
    Target,
}

/// Identifies a Certificate. Clones share memory, because several indexes have each key.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CertificateKey {
    /// Cluster
    pub cluster: CertificateCluster,
    /// Namespace and name
    pub object: Arc<ObjectKey>,
}

impl CertificateKey {
    /// The key of the Certificate `object` in `cluster`.
    #[must_use]
    pub fn new(cluster: CertificateCluster, object: ObjectKey) -> Self {
        Self { cluster, object: Arc::new(object) }
    }

    /// The tenant of the Certificate.
    #[must_use]
    pub fn tenant(&self) -> Tenant {
        Tenant { cluster: self.cluster, namespace: self.object.namespace.clone() }
    }

    /// The Certificate as owner in the engine.
    #[must_use]
    pub fn owner(&self) -> Owner {
        Owner(self.to_string())
    }

    /// The Certificate of an owner; `None` if the text has another format.
    #[must_use]
    pub fn from_owner(owner: &Owner) -> Option<Self> {
        Self::parse(&owner.0)
    }

    /// Parses the format of [`Display`](fmt::Display).
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (cluster, object) = match text.strip_prefix(AT_TARGET) {
            Some(object) => (CertificateCluster::Target, object),
            None => (CertificateCluster::Source, text),
        };
        ObjectKey::parse(object).map(|object| Self::new(cluster, object))
    }
}

/// The unit of fairness for quotas, limits and order slots: a namespace of one cluster. A namespace of
/// the same name in another cluster is another tenant.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Tenant {
    /// Cluster
    pub cluster: CertificateCluster,
    /// Namespace
    pub namespace: String,
}

impl Tenant {
    /// Whether the Certificate belongs to this tenant.
    #[must_use]
    pub fn has(&self, key: &CertificateKey) -> bool {
        self.cluster == key.cluster && self.namespace == key.object.namespace
    }
}

/// Prefix of the target cluster. Namespaces cannot contain a colon.
const AT_TARGET: &str = "target:";

impl fmt::Display for CertificateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cluster {
            CertificateCluster::Source => write!(f, "{}", self.object),
            CertificateCluster::Target => write!(f, "{AT_TARGET}{}", self.object),
        }
    }
}

/// Identifies an Issuer.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum IssuerKey {
    /// In the issuer namespace of the default cluster.
    Default(String),
    /// In any namespace of the target cluster (`--allow-target-issuers`).
    Target(ObjectKey),
}

impl IssuerKey {
    /// The namespace of a tenant's issuer; `None` for an issuer of the operator.
    #[must_use]
    pub fn tenant(&self) -> Option<&str> {
        match self {
            Self::Default(_) => None,
            Self::Target(object) => Some(&object.namespace),
        }
    }

    /// Parses the format of [`Display`](fmt::Display).
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        let target = text.strip_prefix("target:").and_then(|rest| rest.split_once('/'));
        match target {
            Some((namespace, name)) => Self::Target(ObjectKey::new(namespace, name)),
            None => Self::Default(text.to_owned()),
        }
    }
}

/// The format of upstream in fingerprints and metric labels: `name` or `target:<namespace>/<name>`.
impl fmt::Display for IssuerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default(name) => f.write_str(name),
            Self::Target(object) => write!(f, "target:{object}"),
        }
    }
}

/// The id of a cluster in owner annotations.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClusterId {
    /// The current id.
    pub id: String,
    /// Former ids: `--<cluster>.migration-ids` and the fallback of upstream,
    /// `<cluster>/gardener.cloud`.
    pub former: Vec<String>,
}

impl ClusterId {
    /// Whether `text` is a current or former id of this cluster.
    #[must_use]
    pub fn is(&self, text: &str) -> bool {
        self.id == text || self.former.iter().any(|former| former == text)
    }
}

/// Identifies the objects of one manager if several managers share a cluster. A manager ignores objects
/// of other realms.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Realm {
    text: String,
    /// The realms with former ids of the cluster.
    former: Vec<String>,
}

impl Realm {
    /// The realm of the manager that serves `class` for the cluster `source`.
    #[must_use]
    pub fn new(class: &str, source: &ClusterId) -> Self {
        let of = |id: &String| format!("{class}@{id}");
        // The fallback of upstream does not identify a cluster.
        let former = source.former.iter().filter(|id| !id.ends_with("/gardener.cloud"));
        Self { text: of(&source.id), former: former.map(of).collect() }
    }

    /// The text in annotations.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether `text` is a current or former realm of this manager.
    #[must_use]
    pub fn is(&self, text: &str) -> bool {
        self.text == text || self.former.iter().any(|former| former == text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_derived_name_is_truncated_but_not_at_a_dot() {
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
    fn a_certificate_key_is_parsed_from_its_text() {
        let key = |cluster| CertificateKey::new(cluster, ObjectKey::new("ns", "a"));
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
