//! State and dependencies of the controller, and what its steps share.

use std::sync::Arc;

use cert_lib::{clock::Clock, plan::Policy};

use super::{
    admission::Admission, index::Index, listed_clusters::ListedClusters, order_claims::OrderClaims,
    progress::ProgressStore, record::CertificateRecords, renewals::Renewals,
    secret::cache::Secrets, secret_grant::SecretGrants,
};
use crate::{
    api::{Certificate, CertificateKey, ClusterIdentities, IssuerKey, ObjectKey, Realm},
    config::CertificateSettings,
    issuers::{query::issuer_query, registry::Registry, selection::Selection},
    runtime::{
        certificate_clusters::CertificateClusters, metrics::Metrics, queue::Shared, store::Store,
    },
    solvers::registry::SolverRegistry,
};

/// State and dependencies of the controller. All passes share it, and a pass holds no lock while it
/// waits.
pub struct Controller {
    /// Clusters with Certificates.
    pub clusters: CertificateClusters,
    /// Clusters whose Certificates are all listed.
    pub lists: ListedClusters,
    /// Identities of the clusters, for ownership annotations.
    pub cluster_identities: ClusterIdentities,
    /// Distinguishes our Secrets from those of other managers.
    pub realm: Realm,
    /// All Certificates.
    pub index: Index,
    /// Which Certificate places the order for several equal requests.
    pub claims: OrderClaims,
    /// Secrets of the target cluster.
    pub secrets: Secrets,
    /// Which namespaces accept Secrets of other namespaces.
    pub secret_grants: SecretGrants,
    /// Renewal information from CAs.
    pub renewals: Renewals,
    /// What this process remembers of each Certificate.
    pub records: CertificateRecords,
    /// Running orders.
    pub orders: ProgressStore,
    /// Decides when an order may be placed.
    pub admission: Admission,
    /// All issuers.
    pub issuers: Arc<Registry>,
    /// Solvers of all issuers.
    pub solvers: Arc<SolverRegistry>,
    /// Configuration.
    pub settings: CertificateSettings,
    /// Configuration of the plan.
    pub policy: Policy,
    /// Source of the current time.
    pub clock: Arc<dyn Clock>,
    /// Metrics.
    pub metrics: Metrics,
    /// Certificates that need a pass.
    pub queue: Shared<CertificateKey>,
}

impl Controller {
    /// The Certificates in the namespace of `key`.
    pub(super) fn api(&self, key: &CertificateKey) -> Arc<dyn Store<Certificate>> {
        self.clusters.at(key.cluster).certificates.at(&key.object.namespace)
    }

    /// The issuer for a Certificate.
    pub(super) fn select_issuer(&self, certificate: &Certificate) -> Selection {
        self.issuers.select(&issuer_query(certificate, &self.settings))
    }

    /// The tenant whose server a pass may wait for: that of the issuer, or of the running order.
    pub fn tenant_of(&self, key: &CertificateKey) -> Option<String> {
        let tenant = |issuer: &IssuerKey| issuer.tenant().map(str::to_owned);
        let of_order = self.orders.issuer(key).and_then(|issuer| tenant(&issuer));
        of_order.or_else(|| tenant(&self.select_issuer(self.index.get(key)?.as_ref()).key))
    }

    /// Namespace and name of an Issuer.
    pub(super) fn object(&self, issuer: &IssuerKey) -> ObjectKey {
        match issuer {
            IssuerKey::Default(name) => ObjectKey::new(&self.issuers.rules().namespace, name),
            IssuerKey::Target(object) => object.clone(),
        }
    }

    pub(super) fn order_runs(&self, key: &CertificateKey) -> bool {
        self.orders.running(key).is_some()
    }
}
