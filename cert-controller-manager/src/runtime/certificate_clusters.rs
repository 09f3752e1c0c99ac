//! The clusters that hold Certificates and CertificateRevocations.

use kube::Client;

use super::events::EventRecorder;
use crate::api::CertificateCluster;

/// The clusters that hold Certificates.
pub struct CertificateClusters {
    /// [`Home::Source`]
    pub source: ClusterHandle,
    /// [`Home::Target`]; the same where the clusters are one, and then never asked for.
    pub target: ClusterHandle,
}

/// A cluster that holds Certificates.
pub struct ClusterHandle {
    /// To read and write them.
    pub client: Client,
    /// Events on them.
    pub events: EventRecorder,
}

impl CertificateClusters {
    /// The cluster of `home`.
    #[must_use]
    pub fn at(&self, home: CertificateCluster) -> &ClusterHandle {
        match home {
            CertificateCluster::Source => &self.source,
            CertificateCluster::Target => &self.target,
        }
    }
}
