//! Copies of certificate Secrets in `kube-system` of the target cluster: a revocation needs the
//! certificate that a renewal has replaced.

use cert_lib::model::bundle::Leaf;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, api::PostParams};

use super::reconcile::Controller;
use crate::{
    api::{CertificateKey, IssuerKey, ObjectKey, backup},
    runtime::errors::{brief, is_refusal},
};

impl Controller {
    /// Keeps a copy of a certificate Secret that was just written: the record that we issued it. There is
    /// one for each tenant, certificate and request, so that a repetition makes no second one. A cluster
    /// that refuses it costs a revocation later, not the certificate now, so that is only told.
    ///
    /// # Errors
    /// When the cluster is away: the order must be kept, and all of this repeated.
    pub(super) async fn back_up(
        &self,
        of: &CertificateKey,
        issuer: &IssuerKey,
        leaf: &Leaf,
        secret: &Secret,
    ) -> kube::Result<()> {
        let tenants = self.places.tenants(of.home, &of.object.namespace);
        let tenant = tenants.first().map_or("", String::as_str);
        let most = backup::most(issuer);
        if self.secrets.backups_of(tenant) >= most {
            tracing::warn!(certificate = %of, "no backup of certificate {leaf} for a later revocation: namespace {} has {most} already", of.object.namespace);
            return Ok(());
        }
        let copy = backup::render(tenant, &self.realm, issuer, leaf, secret);
        let key = ObjectKey::new(backup::NAMESPACE, copy.metadata.name.clone().unwrap_or_default());
        let api: Api<Secret> = self.secrets.api(&key);
        match api.create(&PostParams::default(), &copy).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            Err(error) if is_refusal(&error) || is_missing(&error) => {
                tracing::warn!(secret = %key, "no backup of certificate {leaf} for a later revocation: {}", brief(&error));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

/// There is no `kube-system` there.
fn is_missing(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}
