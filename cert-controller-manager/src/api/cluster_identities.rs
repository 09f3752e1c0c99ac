//! The ids of the source and target clusters, for annotations about owners and tenants.

use super::{CertificateCluster, CertificateKey, ClusterId};

/// The ids of the clusters.
#[derive(Clone, Debug)]
pub struct ClusterIdentities {
    /// The cluster of [`CertificateCluster::Source`].
    pub source: ClusterId,
    /// The cluster of [`CertificateCluster::Target`] and of all Secrets.
    pub target: ClusterId,
    /// Whether both are the same cluster.
    pub one_cluster: bool,
}

impl ClusterIdentities {
    fn id(&self, cluster: CertificateCluster) -> &ClusterId {
        match cluster {
            CertificateCluster::Source => &self.source,
            CertificateCluster::Target => &self.target,
        }
    }

    /// The owner annotation of a Secret that belongs to the Certificate `key`.
    #[must_use]
    pub fn owner(&self, key: &CertificateKey) -> String {
        owner(&self.id(key.cluster).id, key)
    }

    /// The current and former values of that annotation: the id of the cluster may have changed.
    #[must_use]
    pub fn owners(&self, key: &CertificateKey) -> Vec<String> {
        let id = self.id(key.cluster);
        let ids = std::iter::once(&id.id).chain(&id.former);
        ids.map(|id| owner(id, key)).collect()
    }

    /// The current and former annotation values of backups for the tenant of a namespace.
    #[must_use]
    pub fn tenants(&self, cluster: CertificateCluster, namespace: &str) -> Vec<String> {
        let id = self.id(cluster);
        let ids = std::iter::once(&id.id).chain(&id.former);
        ids.map(|id| format!("{id}:{namespace}")).collect()
    }

    /// The namespace in `tenant`, if it belongs to one of our clusters. The reverse of
    /// [`tenants`](Self::tenants).
    #[must_use]
    pub fn namespace_of<'a>(&self, tenant: &'a str) -> Option<&'a str> {
        // Ids may contain colons, namespaces cannot.
        let (cluster, namespace) = tenant.rsplit_once(':')?;
        (self.source.is(cluster) || self.target.is(cluster)).then_some(namespace)
    }

    /// Whether Certificates of this cluster and their Secrets are in the same cluster, so that owner
    /// references work.
    #[must_use]
    pub fn share_cluster(&self, cluster: CertificateCluster) -> bool {
        self.one_cluster || cluster == CertificateCluster::Target
    }
}

fn owner(cluster: &str, key: &CertificateKey) -> String {
    format!("{cluster}:cert.gardener.cloud/Certificate/{}", key.object)
}
