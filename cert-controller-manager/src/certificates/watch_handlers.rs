//! Maps watch events to the Certificates that need a reconcile pass.
//!
//! A pass follows changes of the Certificate, its Secret, its issuer, the grants of its namespace,
//! the solvers, and Certificates with the same Secret.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{ResourceExt, core::PartialObjectMeta};

use super::controller::Controller;
use crate::{
    api::{
        Certificate, CertificateCluster, CertificateKey, IssuerKey, ObjectKey, is_served,
        well_known,
    },
    runtime::watch::EventHandler,
};

impl Controller {
    /// An issuer has changed. Queues Certificates that are not ready and use it or have no issuer
    /// reference.
    pub fn issuer_changed(&self, key: &IssuerKey) {
        self.orders.end_waits(key);
        self.wake_unready(|_, certificate| {
            let reference = certificate.spec.issuer_ref.as_ref().filter(|it| !it.name.is_empty());
            reference.is_none() || self.select_issuer(certificate).key == *key
        });
    }

    /// The availability of a solver has changed. Queues Certificates that are not
    /// ready.
    pub fn solvers_changed(&self) {
        self.wake_unready(|_, certificate| is_served(certificate, &self.settings.classes));
    }

    /// The annotation that permits Secrets from other namespaces has changed on `namespace`.
    pub(super) fn grant_changed(&self, namespace: &str) {
        self.index.foreign_users(namespace).into_iter().for_each(|key| self.queue.push(key));
    }

    /// The first list of Certificates in `cluster` is complete. Queues these Certificates and the
    /// owners of their orders.
    pub fn all_listed(&self, cluster: CertificateCluster) {
        self.lists.complete(cluster);
        let known =
            self.index.keys(cluster).into_iter().map(|object| CertificateKey::new(cluster, object));
        let ordered = self.orders.issuers().into_iter().map(|(key, _)| key);
        let ordered = ordered.filter(|key| key.cluster == cluster);
        known.chain(ordered).for_each(|key| self.queue.push(key));
    }

    /// This manager has no client for `cluster`: `--target` was removed, or now names the source
    /// cluster. The next passes delete the orders of its Certificates, as they do for deleted
    /// Certificates.
    pub fn cluster_has_none(&self, cluster: CertificateCluster) {
        for (key, _) in self.orders.issuers().into_iter().filter(|(key, _)| key.cluster == cluster)
        {
            tracing::warn!(certificate = %key, "deleting the order of {key}: this manager has no client for the cluster of its Certificate; --target was removed or names the source cluster");
        }
        self.all_listed(cluster);
    }

    fn wake_unready(&self, filter: impl Fn(&CertificateKey, &Certificate) -> bool) {
        self.index.unready(filter).into_iter().for_each(|key| self.queue.push(key));
    }

    fn wake_users(&self, secret: &ObjectKey) {
        self.index.of_secret(secret).into_iter().for_each(|key| self.queue.push(key));
    }
}

/// Passes watch events of the Certificates in one cluster to the index and the queue.
pub struct CertificateHandler {
    cluster: CertificateCluster,
    controller: Arc<Controller>,
}

impl CertificateHandler {
    /// A handler for the Certificates in `cluster`.
    #[must_use]
    pub fn new(cluster: CertificateCluster, controller: Arc<Controller>) -> Self {
        Self { cluster, controller }
    }
}

impl EventHandler<Arc<Certificate>> for CertificateHandler {
    fn applied(&self, certificate: Arc<Certificate>) {
        let Controller { index, queue, .. } = self.controller.as_ref();
        index.put(self.cluster, certificate).into_iter().for_each(|key| queue.push(key));
    }

    fn gone(&self, key: &ObjectKey) {
        let Controller { index, queue, .. } = self.controller.as_ref();
        let key = CertificateKey::new(self.cluster, key.clone());
        index.remove(&key).into_iter().for_each(|key| queue.push(key));
        queue.push(key);
    }

    fn keys(&self) -> Vec<ObjectKey> {
        self.controller.index.keys(self.cluster)
    }
}

/// Only metadata of Secrets is watched. A pass reads the data when it needs it.
impl EventHandler<PartialObjectMeta<Secret>> for Controller {
    fn applied(&self, secret: PartialObjectMeta<Secret>) {
        let key = ObjectKey::of(&secret);
        if self.secrets.update_metadata(&key, Some(&secret)) {
            self.wake_users(&key);
        }
    }

    fn gone(&self, key: &ObjectKey) {
        self.secrets.update_metadata(key, None);
        self.wake_users(key);
    }

    fn keys(&self) -> Vec<ObjectKey> {
        self.secrets.keys()
    }

    fn complete(&self) {
        self.secrets.complete_listing();
    }
}

/// Only metadata of Namespaces is watched.
impl EventHandler<PartialObjectMeta<Namespace>> for Controller {
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
        self.secret_grants.namespaces()
    }
}
