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

    /// The Certificate as the engine names it.
    #[must_use]
    pub fn owner(&self) -> Owner {
        Owner(self.to_string())
    }

    /// The Certificate that the engine names so; `None` where somebody else wrote the text.
    #[must_use]
    pub fn from_owner(owner: &Owner) -> Option<Self> {
        let (namespace, name) = owner.0.split_once('/')?;
        (!namespace.is_empty() && !name.is_empty()).then(|| Self::new(namespace, name))
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Which cluster an object lives in, where it may live in either.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Home {
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
    pub home: Home,
    /// Its name there.
    pub object: ObjectKey,
}

impl fmt::Display for CertificateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.home {
            Home::Source => write!(f, "{}", self.object),
            Home::Target => write!(f, "target:{}", self.object),
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
