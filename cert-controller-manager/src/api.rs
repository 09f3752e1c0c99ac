//! Our custom resources, and the shapes of foreign ones as far as we read or write them.

pub mod certificate;
pub mod dnsentry;
pub mod issuer;
pub mod marks;

pub use certificate::Certificate;
pub use issuer::Issuer;

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

impl std::fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Whether an object of this class annotation is ours. Empty means the default class.
#[must_use]
pub fn responsible<K: Resource>(object: &K, class: &str) -> bool {
    let annotated = object.annotations().get(marks::CLASS).map(String::as_str).unwrap_or_default();
    let effective = if annotated.is_empty() { marks::DEFAULT_CLASS } else { annotated };
    effective == class
}
