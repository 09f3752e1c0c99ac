//! State and dependencies of the controller, and its clients.

use std::sync::Arc;

use cert_lib::clock::Clock;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;

use super::index::{Index, RevocationKey};
use crate::{
    api::{Certificate, CertificateRevocation, ClusterIdentities},
    config::CertificateSettings,
    issuers::registry::Registry,
    runtime::{certificate_clusters::CertificateClusters, clusters::TargetCluster, queue::Shared},
};

/// State and dependencies of the controller.
pub struct Controller {
    /// Clusters with CertificateRevocations and Certificates.
    pub clusters: CertificateClusters,
    /// Cluster with the Secrets.
    pub target: TargetCluster,
    /// Identities of the clusters.
    pub cluster_identities: ClusterIdentities,
    /// All issuers.
    pub issuers: Arc<Registry>,
    /// Configuration.
    pub settings: CertificateSettings,
    /// Source of the current time.
    pub clock: Arc<dyn Clock>,
    /// All CertificateRevocations.
    pub index: Index,
    /// CertificateRevocations that need a pass.
    pub queue: Shared<RevocationKey>,
}

impl Controller {
    pub(super) fn revocations(&self, key: &RevocationKey) -> Api<CertificateRevocation> {
        Api::namespaced(self.clusters.at(key.cluster).client.clone(), &key.object.namespace)
    }

    pub(super) fn certificates(&self, key: &RevocationKey, namespace: &str) -> Api<Certificate> {
        Api::namespaced(self.clusters.at(key.cluster).client.clone(), namespace)
    }

    pub(super) fn secrets(&self, namespace: &str) -> Api<Secret> {
        Api::namespaced(self.target.0.clone(), namespace)
    }
}
