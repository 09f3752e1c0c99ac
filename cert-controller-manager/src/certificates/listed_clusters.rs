//! The clusters whose Certificates are all listed.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::api::CertificateCluster;

/// Clusters whose Certificates are listed completely. Before that, a Certificate that is missing in
/// the index may exist.
#[derive(Debug, Default)]
pub struct ListedClusters {
    source: AtomicBool,
    target: AtomicBool,
}

impl ListedClusters {
    /// Whether all Certificates in `cluster` are listed.
    #[must_use]
    pub fn has(&self, cluster: CertificateCluster) -> bool {
        self.of(cluster).load(Ordering::Acquire)
    }

    pub(super) fn complete(&self, cluster: CertificateCluster) {
        self.of(cluster).store(true, Ordering::Release);
    }

    fn of(&self, cluster: CertificateCluster) -> &AtomicBool {
        match cluster {
            CertificateCluster::Source => &self.source,
            CertificateCluster::Target => &self.target,
        }
    }
}
