//! Backups of certificate Secrets in `kube-system` of the target cluster. A revocation needs
//! certificates that a renewal has replaced.

use cert_lib::model::bundle::Leaf;
use k8s_openapi::api::core::v1::Secret;

use super::controller::Controller;
use crate::{
    api::{CertificateKey, IssuerKey, ObjectKey, backup},
    runtime::errors::{brief, is_refusal},
};

impl Controller {
    /// Creates a backup of a certificate Secret that was just written. It also records that this
    /// manager issued the certificate.
    ///
    /// The name is unique for tenant, certificate and request, so that a retry creates no second
    /// backup. If the cluster refuses the write, the method only logs it: the certificate is
    /// usable, but cannot be revoked later.
    ///
    /// # Errors
    /// When the cluster is unavailable. The caller keeps the order and repeats all steps.
    pub(super) async fn back_up(
        &self,
        of: &CertificateKey,
        issuer: &IssuerKey,
        leaf: &Leaf,
        secret: &Secret,
    ) -> kube::Result<()> {
        let tenants = self.cluster_identities.tenants(of.cluster, &of.object.namespace);
        let tenant = tenants.first().map_or("", String::as_str);
        let limit = backup::max_backups(issuer);
        let is_full = self.secrets.backups_of(tenant) >= limit;
        if is_full && !self.delete_oldest(tenant, issuer).await? {
            tracing::warn!(certificate = %of, "cannot back up certificate {leaf} for a later revocation: namespace {} has {limit} backups, and none of them can be replaced", of.object.namespace);
            return Ok(());
        }
        let copy = backup::render(tenant, &self.realm, issuer, leaf, secret);
        let key = ObjectKey::new(backup::NAMESPACE, copy.metadata.name.clone().unwrap_or_default());
        let api = self.secrets.api(&key);
        match api.create(&copy).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            Err(error) if is_refusal(&error) || is_missing(&error) => {
                tracing::warn!(secret = %key, "cannot back up certificate {leaf} for a later revocation: {}", brief(&error));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Deletes the oldest backup: its certificate is the least likely to need a revocation. A
    /// backup of an Issuer in a tenant namespace never replaces one of an operator's Issuer.
    async fn delete_oldest(&self, tenant: &str, issuer: &IssuerKey) -> kube::Result<bool> {
        match self.secrets.delete_oldest_backup(tenant, issuer.tenant().is_some()).await {
            Err(error) if is_refusal(&error) => {
                tracing::warn!("cannot delete the oldest backup of {tenant}: {}", brief(&error));
                Ok(false)
            }
            dropped => dropped,
        }
    }
}

/// Whether the namespace `kube-system` does not exist.
fn is_missing(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}
