//! The clusters with Certificates and CertificateRevocations.

use kube::Client;

use super::{events::EventRecorder, store::Stores};
use crate::api::{Certificate, CertificateCluster};

/// The clusters with Certificates.
pub struct CertificateClusters {
    /// [`CertificateCluster::Source`]
    pub source: ClusterHandle,
    /// [`CertificateCluster::Target`]. Not used if the clusters are the same.
    pub target: ClusterHandle,
}

/// A cluster with Certificates.
pub struct ClusterHandle {
    /// Its API server.
    pub client: Client,
    /// Its Certificates.
    pub certificates: Stores<Certificate>,
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
