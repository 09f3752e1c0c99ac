//! Which namespaces of the target cluster accept Secrets of Certificates in other namespaces.
//!
//! A tenant can name any Secret in a Certificate. The manager writes a Secret to another namespace
//! only if an annotation of that namespace permits it. Upstream writes to all namespaces.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use crate::{api::ObjectKey, runtime::watch::Availability};

/// The permissions of all namespaces. See the [module](self).
pub struct SecretGrants {
    /// Values of the annotation, by namespace.
    annotations: Mutex<HashMap<String, String>>,
    /// Namespaces that accept Secrets of all namespaces: the operator configured them as target
    /// namespaces.
    open: Vec<String>,
    /// Whether the Namespaces can be watched.
    pub availability: Arc<watch::Sender<Availability>>,
}

/// Whether a Certificate may write a Secret.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SecretGrant {
    /// The Secret may be written.
    Given,
    /// The namespace of the Secret does not permit it.
    Missing,
    /// The Namespaces are not listed yet.
    Unknown,
}

impl SecretGrants {
    /// Permissions before the first list. The namespaces in `open` accept Secrets of all
    /// namespaces.
    #[must_use]
    pub fn new(open: Vec<String>) -> Self {
        let availability = Arc::new(watch::Sender::new(Availability::Unknown));
        Self { annotations: Mutex::default(), open, availability }
    }

    /// Whether a Certificate in `namespace` may write `secret`.
    #[must_use]
    pub fn of(&self, namespace: &str, secret: &ObjectKey) -> SecretGrant {
        let given = secret.namespace == namespace
            || self.open.contains(&secret.namespace)
            || self.lock().get(&secret.namespace).is_some_and(|text| allows(text, namespace));
        match *self.availability.borrow() {
            _ if given => SecretGrant::Given,
            Availability::Unknown => SecretGrant::Unknown,
            Availability::Present | Availability::Absent | Availability::Denied => {
                SecretGrant::Missing
            }
        }
    }

    /// Whether the operator configured this namespace as a target namespace.
    #[must_use]
    pub fn is_open(&self, namespace: &str) -> bool {
        self.open.iter().any(|open| open == namespace)
    }

    /// Stores the annotation of a namespace. Returns whether it has changed.
    pub(super) fn update(&self, namespace: &str, annotation: Option<&String>) -> bool {
        let mut annotations = self.lock();
        match annotation {
            Some(text) => {
                annotations.insert(namespace.to_owned(), text.clone()).as_ref() != Some(text)
            }
            None => annotations.remove(namespace).is_some(),
        }
    }

    /// The namespaces with the annotation.
    pub(super) fn namespaces(&self) -> Vec<ObjectKey> {
        self.lock().keys().map(|name| ObjectKey::new("", name)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, String>> {
        self.annotations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The annotation is `*` or a comma-separated list of namespaces.
fn allows(annotation: &str, namespace: &str) -> bool {
    annotation.split(',').map(str::trim).any(|one| one == "*" || one == namespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_accepts_its_own_secrets_and_those_of_listed_namespaces() {
        let secret_grants = SecretGrants::new(vec!["shared".to_owned()]);
        assert_eq!(secret_grants.of("a", &ObjectKey::new("b", "tls")), SecretGrant::Unknown);
        secret_grants.availability.send_replace(Availability::Present);
        secret_grants.update("listed", Some(&"a, b".to_owned()));
        secret_grants.update("open", Some(&"*".to_owned()));
        secret_grants.update("closed", Some(&String::new()));
        for (namespace, of_secret, permitted) in [
            ("a", "a", true),
            ("a", "listed", true),
            ("b", "listed", true),
            ("ab", "listed", false),
            ("x", "open", true),
            ("x", "closed", false),
            ("x", "unknown", false),
            ("x", "shared", true),
        ] {
            let secret = ObjectKey::new(of_secret, "tls");
            let given = secret_grants.of(namespace, &secret) == SecretGrant::Given;
            assert_eq!(given, permitted, "{namespace} {of_secret}");
        }
        assert!(secret_grants.update("open", None));
        assert_eq!(secret_grants.of("x", &ObjectKey::new("open", "tls")), SecretGrant::Missing);
    }
}
