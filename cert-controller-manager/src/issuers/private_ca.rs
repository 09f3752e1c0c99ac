//! Prepares issuers that sign certificates themselves: CA issuers with a key in a Secret, and
//! self-signed issuers.

use std::sync::Arc;

use cert_lib::issue::{
    Disposition, RetrySchedule,
    ca::{Authority, CaIssuer},
    self_signed::SelfSignedIssuer,
};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt};

use super::{
    acme::require_own_namespace, controller::Controller, error::IssuerError, outcome::Facts,
    registry::Lookup, status,
};
use crate::{
    api::{Issuer, IssuerKey, ObjectKey, issuer::CaSpec},
    runtime::errors::brief,
};

const TLS: &str = "kubernetes.io/tls";

impl Controller {
    pub(super) async fn prepare_ca(
        &self,
        key: &IssuerKey,
        issuer: &Issuer,
        spec: &CaSpec,
    ) -> Result<Facts, IssuerError> {
        let name = key_secret(issuer, spec).ok_or_else(|| {
            IssuerError::InvalidConfig(
                "missing SecretRef in CA spec: set privateKeySecretRef to a Secret of type \
                 kubernetes.io/tls with the CA's certificate and key"
                    .to_owned(),
            )
        })?;
        require_own_namespace(key, &name)?;
        let api: Api<Secret> = Api::namespaced(self.client(key).clone(), &name.namespace);
        let found = api.get_opt(&name.name).await.map_err(|error| IssuerError::Failed {
            message: format!("loading issuer secret failed: {}", brief(&error)),
            disposition: Disposition::Retry(RetrySchedule::Transport),
        })?;
        let secret = found.ok_or_else(|| {
            IssuerError::InvalidConfig(format!(
                "loading issuer secret failed: Secret {name} does not exist"
            ))
        })?;
        let authority = read(&secret, self.clock.now())
            .map_err(|why| IssuerError::InvalidConfig(format!("Secret {name}: {why}")))?;
        let ca = status::authority(authority.describe());
        let facts = Facts::Ca { ca, warning: authority.warning() };
        let issuer = CaIssuer::new(authority, self.clock.clone(), self.keys.clone());
        let issuer: Arc<dyn cert_lib::issue::Issuer> = Arc::new(issuer);
        self.registry.put(key, Lookup::Ready { issuer, quota: None });
        Ok(facts)
    }

    pub(super) fn prepare_self_signed(&self, key: &IssuerKey) -> Facts {
        let issuer = Arc::new(SelfSignedIssuer::new(self.clock.clone(), self.keys.clone()));
        self.registry.put(key, Lookup::Ready { issuer, quota: None });
        Facts::NoDetails
    }
}

/// The Secret with the CA's key, if the Issuer names one. The default namespace is that of the
/// Issuer.
#[must_use]
pub fn key_secret(issuer: &Issuer, spec: &CaSpec) -> Option<ObjectKey> {
    let some = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let reference = spec.private_key_secret_ref.as_ref()?;
    let namespace =
        some(&reference.namespace).unwrap_or_else(|| issuer.namespace().unwrap_or_default());
    Some(ObjectKey::new(namespace, some(&reference.name)?))
}

/// Reads a CA from its Secret. Order and messages of the checks are upstream's.
fn read(secret: &Secret, now: jiff::Timestamp) -> Result<Authority, String> {
    if secret.type_.as_deref() != Some(TLS) {
        return Err(format!("secret is not of type {TLS}"));
    }
    let entry = |name: &str| {
        let data = secret.data.as_ref().and_then(|data| data.get(name));
        data.map_or(&[][..], |value| value.0.as_slice())
    };
    Authority::from_pem(entry("tls.crt"), entry("tls.key"), now).map_err(|error| error.to_string())
}
