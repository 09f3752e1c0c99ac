//! Which namespaces of the target cluster take Secrets for Certificates of other namespaces.
//!
//! A tenant may name any Secret in a Certificate. It is written only where the namespace says so by
//! an annotation that its own administrator sets (upstream writes everywhere).

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use k8s_openapi::api::core::v1::Namespace;
use kube::{ResourceExt, core::PartialObjectMeta};

use crate::{
    api::{ObjectKey, well_known},
    runtime::watch::{Availability, EventHandler},
};

/// See the [module](self).
pub struct SecretGrants {
    /// The annotation of every namespace that has one.
    annotations: Mutex<HashMap<String, String>>,
    /// Namespaces that take everybody's: those that the operator named himself.
    open: Vec<String>,
    /// Whether the namespaces can be known.
    pub availability: Arc<watch::Sender<Availability>>,
}

/// What is known of a consent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SecretGrant {
    /// It is given.
    Given,
    /// It is not given.
    Missing,
    /// The namespaces are not known yet.
    Unknown,
}

impl SecretGrants {
    /// Nothing known yet but that the namespaces `open` take everybody's Secrets.
    #[must_use]
    pub fn new(open: Vec<String>) -> Self {
        let availability = Arc::new(watch::Sender::new(Availability::Unknown));
        Self { annotations: Mutex::default(), open, availability }
    }

    /// Whether `secret` may be written for somebody in `namespace`.
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

    /// Whether the operator himself named the namespace for everybody's Secrets.
    #[must_use]
    pub fn is_open(&self, namespace: &str) -> bool {
        self.open.iter().any(|open| open == namespace)
    }

    /// A namespace says something. Returns whether it is news.
    fn update(&self, namespace: &str, annotation: Option<&String>) -> bool {
        let mut annotations = self.lock();
        match annotation {
            Some(text) => {
                annotations.insert(namespace.to_owned(), text.clone()).as_ref() != Some(text)
            }
            None => annotations.remove(namespace).is_some(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, String>> {
        self.annotations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `*` or a comma list of namespaces.
fn allows(annotation: &str, namespace: &str) -> bool {
    annotation.split(',').map(str::trim).any(|one| one == "*" || one == namespace)
}

/// Namespaces are followed as metadata.
impl EventHandler<PartialObjectMeta<Namespace>> for super::reconcile::Controller {
    fn applied(&self, namespace: PartialObjectMeta<Namespace>) {
        let annotation = namespace.annotations().get(well_known::ALLOW_SECRETS_FROM);
        if self.secret_grants.update(&namespace.name_any(), annotation) {
            self.grant_changed(&namespace.name_any());
        }
    }

    fn gone(&self, key: &ObjectKey) {
        if self.secret_grants.update(&key.name, None) {
            self.grant_changed(&key.name);
        }
    }

    fn keys(&self) -> Vec<ObjectKey> {
        self.secret_grants.lock().keys().map(|name| ObjectKey::new("", name)).collect()
    }
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
