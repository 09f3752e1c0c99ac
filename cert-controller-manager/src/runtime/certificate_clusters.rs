//! The clusters with Certificates and CertificateRevocations.

use kube::Client;

use super::events::EventRecorder;
use crate::api::CertificateCluster;

/// The clusters with Certificates.
pub struct CertificateClusters {
    /// [`CertificateCluster::Source`]
    pub source: ClusterHandle,
    /// [`CertificateCluster::Target`]. Not used if the clusters are the same.
    pub target: ClusterHandle,
}

/// A cluster with Certificates.
pub struct ClusterHandle {
    /// Reads and writes Certificates.
    pub client: Client,
    /// Publishes events on Certificates.
    pub events: EventRecorder,
}

impl CertificateClusters {
    /// The handle of a cluster.
    #[must_use]
    pub fn at(&self, cluster: CertificateCluster) -> &ClusterHandle {
        match cluster {
            CertificateCluster::Source => &self.source,
            CertificateCluster::Target => &self.target,
        }
    }
}
