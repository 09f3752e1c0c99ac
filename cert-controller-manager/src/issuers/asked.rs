//! What a Certificate says about its issuer, and what tells its request from others. Pure.

use cert_lib::model::{
    key::KeyType,
    request::{Csr, Fingerprint, Ingredients, MAX_DNS_NAMES},
};
use kube::ResourceExt;

use super::choice::Asked;
use crate::{
    api::{
        Certificate, IssuerKey, ObjectKey,
        certificate::{CertificateSpec, KeyAlgorithm, PrivateKeySpec},
        marks,
    },
    config::CertificateSettings,
};

/// What the Certificate says about its issuer.
#[must_use]
pub fn asked(certificate: &Certificate, settings: &CertificateSettings) -> Asked {
    let spec = &certificate.spec;
    let reference = spec.issuer_ref.as_ref().filter(|it| !it.name.is_empty());
    let names = match (common_name(spec), spec.dns_names.as_deref(), &spec.csr) {
        (None, None | Some([]), Some(csr)) => Csr::for_own_issuer(&csr.0)
            .map(|csr| csr.names.iter().map(ToString::to_string).collect())
            .unwrap_or_default(),
        (common_name, dns_names, _) => {
            let dns_names = dns_names.unwrap_or_default().iter().map(String::as_str);
            // A certificate has no more of them: the rest is refused, and need not be looked at.
            let names = common_name.into_iter().chain(dns_names).take(MAX_DNS_NAMES + 2);
            names.map(str::to_owned).collect()
        }
    };
    Asked {
        namespace: certificate.namespace().unwrap_or_default(),
        reference: reference.map(|it| (it.name.clone(), it.namespace.clone())),
        names,
        current: current(certificate, settings),
    }
}

/// The issuer that issued what the Certificate asks for now, whatever else has changed since: with
/// it, the request has the fingerprint that is noted on the Certificate.
fn current(certificate: &Certificate, settings: &CertificateSettings) -> Option<IssuerKey> {
    let used = certificate.status.as_ref()?.issuer_ref.as_ref()?;
    let key = if used.cluster.as_deref() == Some("target") {
        IssuerKey::Target(ObjectKey::new(&used.namespace, &used.name))
    } else if used.namespace == settings.issuer_namespace {
        IssuerKey::Default(used.name.clone())
    } else {
        return None;
    };
    let noted = certificate.labels().get(marks::HASH)?;
    (fingerprint(&certificate.spec, settings, &key).as_str() == noted).then_some(key)
}

/// The common name, where there is one.
#[must_use]
pub fn common_name(spec: &CertificateSpec) -> Option<&str> {
    spec.common_name.as_deref().filter(|name| !name.is_empty())
}

/// What tells one request from another, as upstream computes it.
#[must_use]
pub fn fingerprint(
    spec: &CertificateSpec,
    settings: &CertificateSettings,
    issuer: &IssuerKey,
) -> Fingerprint {
    // Upstream leaves out the key that it would take anyway.
    let anyway = settings.default_key.unwrap_or(KeyType::Rsa2048);
    let key = spec.private_key.as_ref().and_then(|key| key_type(key, settings));
    Fingerprint::of(&Ingredients {
        common_name: common_name(spec),
        dns_names: spec.dns_names.as_deref().unwrap_or_default(),
        other_names: [&spec.email_addresses, &spec.ip_addresses, &spec.uris]
            .map(|names| names.as_deref().unwrap_or_default()),
        csr: spec.csr.as_ref().map(|csr| csr.0.as_slice()),
        issuer: &issuer.to_string(),
        key: key.filter(|key| *key != anyway),
    })
}

/// The key that is asked for, where one is.
#[must_use]
pub fn key_type(spec: &PrivateKeySpec, settings: &CertificateSettings) -> Option<KeyType> {
    Some(match (spec.algorithm?, spec.size) {
        (KeyAlgorithm::Rsa, Some(2048)) => KeyType::Rsa2048,
        (KeyAlgorithm::Rsa, Some(3072)) => KeyType::Rsa3072,
        (KeyAlgorithm::Rsa, Some(4096)) => KeyType::Rsa4096,
        (KeyAlgorithm::Rsa, _) => settings.default_rsa,
        (KeyAlgorithm::Ecdsa, Some(256)) => KeyType::P256,
        (KeyAlgorithm::Ecdsa, Some(384)) => KeyType::P384,
        (KeyAlgorithm::Ecdsa, _) => settings.default_ecdsa,
    })
}
