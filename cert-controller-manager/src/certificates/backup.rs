//! Copies of certificate Secrets in `kube-system` of the target cluster: a revocation needs the
//! certificate that a renewal has replaced.

use cert_lib::model::bundle::Leaf;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, api::PostParams};

use super::reconcile::Controller;
use crate::{
    api::{CertificateKey, IssuerKey, ObjectKey, backup},
    runtime::errors::brief,
};

impl Controller {
    /// Keeps a copy of a certificate Secret that was just written. There is one for each serial
    /// number and request, so that a crash does not make a second one. A failure costs a revocation
    /// later, not the certificate now, so it is only told.
    pub(super) async fn back_up(
        &self,
        of: &CertificateKey,
        issuer: &IssuerKey,
        leaf: &Leaf,
        secret: &Secret,
    ) {
        let tenants = self.places.tenants(of.home, &of.object.namespace);
        let copy = backup::render(tenants.first().map_or("", String::as_str), issuer, leaf, secret);
        let key = ObjectKey::new(backup::NAMESPACE, copy.metadata.name.clone().unwrap_or_default());
        let api: Api<Secret> = self.secrets.api(&key);
        match api.create(&PostParams::default(), &copy).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => {
                tracing::warn!(secret = %key, "no backup of certificate {leaf} for a later revocation: {}", brief(&error));
            }
        }
    }
}
