//! Which cluster is which, in the words of owners and tenants.

use super::{CertificateCluster, CertificateKey, ClusterId};

/// Where the clusters are, as far as ownership goes.
#[derive(Clone, Debug)]
pub struct ClusterIdentities {
    /// The cluster of [`Home::Source`].
    pub source: ClusterId,
    /// The cluster of [`Home::Target`] and of all Secrets.
    pub target: ClusterId,
    /// Whether they are one.
    pub one_cluster: bool,
}

impl ClusterIdentities {
    fn id(&self, home: CertificateCluster) -> &ClusterId {
        match home {
            CertificateCluster::Source => &self.source,
            CertificateCluster::Target => &self.target,
        }
    }

    /// What the annotation of a Secret says that belongs to the Certificate `key`.
    #[must_use]
    pub fn owner(&self, key: &CertificateKey) -> String {
        owner(&self.id(key.cluster).id, key)
    }

    /// The same, and what it may say besides: the cluster may have had other names before.
    #[must_use]
    pub fn owners(&self, key: &CertificateKey) -> Vec<String> {
        let id = self.id(key.cluster);
        let ids = std::iter::once(&id.id).chain(&id.former);
        ids.map(|id| owner(id, key)).collect()
    }

    /// Who the Certificates of a namespace belong to, in the words of a backup Secret; first as it is
    /// written now, then as it may have been written before.
    #[must_use]
    pub fn tenants(&self, home: CertificateCluster, namespace: &str) -> Vec<String> {
        let id = self.id(home);
        let ids = std::iter::once(&id.id).chain(&id.former);
        ids.map(|id| format!("{id}:{namespace}")).collect()
    }

    /// The namespace that `tenant` names, where it is one of our clusters': the reverse of
    /// [`tenants`](Self::tenants). A source and its target have Secrets in namespaces of the same name.
    #[must_use]
    pub fn namespace_of<'a>(&self, tenant: &'a str) -> Option<&'a str> {
        // Ids may hold colons, namespaces none.
        let (cluster, namespace) = tenant.rsplit_once(':')?;
        (self.source.is(cluster) || self.target.is(cluster)).then_some(namespace)
    }

    /// Whether owner references work between a Certificate at home there and its Secret.
    #[must_use]
    pub fn share_cluster(&self, home: CertificateCluster) -> bool {
        self.one_cluster || home == CertificateCluster::Target
    }
}

fn owner(cluster: &str, key: &CertificateKey) -> String {
    format!("{cluster}:cert.gardener.cloud/Certificate/{}", key.object)
}
