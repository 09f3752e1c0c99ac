//! Reads what a Certificate says about its issuer, and computes the fingerprint of its request.
//! Pure.

use std::collections::BTreeSet;

use cert_lib::model::{
    key::KeyType,
    name::DnsName,
    request::{Csr, Fingerprint, MAX_DNS_NAMES, RequestInputs},
};
use kube::ResourceExt;

use super::selection::IssuerQuery;
use crate::{
    api::{
        Certificate, IssuerKey, ObjectKey,
        certificate::{CertificateSpec, CertificateStatus, KeyAlgorithm, PrivateKeySpec},
        well_known,
    },
    config::CertificateSettings,
};

/// Collects the fields of a Certificate that determine its issuer.
#[must_use]
pub fn issuer_query(certificate: &Certificate, settings: &CertificateSettings) -> IssuerQuery {
    let spec = &certificate.spec;
    let reference = spec.issuer_ref.as_ref().filter(|it| !it.name.is_empty());
    let names = match (common_name(spec), spec.dns_names.as_deref(), &spec.csr) {
        (None, None | Some([]), Some(csr)) => Csr::for_own_issuer(&csr.0)
            .map(|csr| csr.names.iter().map(ToString::to_string).collect())
            .unwrap_or_default(),
        (common_name, dns_names, _) => {
            let dns_names = dns_names.unwrap_or_default().iter().map(String::as_str);
            // Requests with more names are refused, so the others do not matter.
            let names = common_name.into_iter().chain(dns_names).take(MAX_DNS_NAMES + 2);
            names.map(str::to_owned).collect()
        }
    };
    IssuerQuery {
        namespace: certificate.namespace().unwrap_or_default(),
        reference: reference.map(|it| (it.name.clone(), it.namespace.clone())),
        names,
        current: current(certificate, settings),
    }
}

/// The issuer of the current certificate, if the request is still the same.
fn current(certificate: &Certificate, settings: &CertificateSettings) -> Option<IssuerKey> {
    let used = certificate.status.as_ref()?.issuer_ref.as_ref()?;
    let key = if used.cluster.as_deref() == Some("target") {
        IssuerKey::Target(ObjectKey::new(&used.namespace, &used.name))
    } else if used.namespace == settings.issuer_namespace {
        IssuerKey::Default(used.name.clone())
    } else {
        return None;
    };
    recorded_fingerprint(certificate, settings, &key).map(|_| key)
}

/// The fingerprint in the hash label, if it is for the current request to `issuer`: as written in
/// the specification, or with the order and spelling of names in the status.
#[must_use]
pub fn recorded_fingerprint(
    certificate: &Certificate,
    settings: &CertificateSettings,
    issuer: &IssuerKey,
) -> Option<Fingerprint> {
    let recorded = certificate.labels().get(well_known::HASH)?;
    let spec = &certificate.spec;
    let is_recorded =
        |spec: &CertificateSpec| fingerprint(spec, settings, issuer).as_str() == recorded.as_str();
    if is_recorded(spec) {
        return Some(Fingerprint::stored(recorded));
    }
    let status = certificate.status.as_ref().filter(|status| has_same_names(spec, status))?;
    let before = CertificateSpec {
        common_name: status.common_name.clone(),
        dns_names: status.dns_names.clone(),
        ..spec.clone()
    };
    is_recorded(&before).then(|| Fingerprint::stored(recorded))
}

/// Whether specification and status have the same names. Order and spelling do not matter, and
/// neither does a repetition of the common name.
#[must_use]
pub fn has_same_names(spec: &CertificateSpec, status: &CertificateStatus) -> bool {
    let is_short =
        |list: &Option<Vec<String>>| list.as_ref().is_none_or(|list| list.len() <= MAX_DNS_NAMES);
    if !is_short(&spec.dns_names) || !is_short(&status.dns_names) {
        return false;
    }
    let before = (status.common_name.as_deref(), status.dns_names.as_deref());
    names(spec.common_name.as_deref(), spec.dns_names.as_deref()) == names(before.0, before.1)
}

/// The common name and the set of all names, in normalized spelling.
pub(crate) fn names(
    common_name: Option<&str>,
    dns_names: Option<&[String]>,
) -> (Option<String>, BTreeSet<String>) {
    let spelled = |text: &str| match text.parse::<DnsName>() {
        Ok(name) => name.into(),
        Err(_) => text.to_owned(),
    };
    let common_name = common_name.filter(|name| !name.is_empty()).map(spelled);
    let others = dns_names.unwrap_or_default().iter().map(|name| spelled(name));
    let all = others.chain(common_name.clone()).collect();
    (common_name, all)
}

/// The common name, if it is not empty.
#[must_use]
pub fn common_name(spec: &CertificateSpec) -> Option<&str> {
    spec.common_name.as_deref().filter(|name| !name.is_empty())
}

/// The fingerprint of a request, as computed by upstream.
#[must_use]
pub fn fingerprint(
    spec: &CertificateSpec,
    settings: &CertificateSettings,
    issuer: &IssuerKey,
) -> Fingerprint {
    // Upstream leaves out a key type that equals the default.
    let default_key = settings.default_key.unwrap_or(KeyType::Rsa2048);
    let key = spec.private_key.as_ref().and_then(|key| key_type(key, settings));
    Fingerprint::of(&RequestInputs {
        common_name: common_name(spec),
        dns_names: spec.dns_names.as_deref().unwrap_or_default(),
        other_names: [&spec.email_addresses, &spec.ip_addresses, &spec.uris]
            .map(|names| names.as_deref().unwrap_or_default()),
        csr: spec.csr.as_ref().map(|csr| csr.0.as_slice()),
        issuer: &issuer.to_string(),
        key: key.filter(|key| *key != default_key),
    })
}

/// The requested key type, if there is one.
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn spec(value: Value) -> CertificateSpec {
        serde_json::from_value(value).unwrap()
    }

    /// A Certificate that was issued for `before` and has the specification `now`.
    fn certificate(before: &Value, now: &Value) -> Certificate {
        let settings = CertificateSettings::default();
        let before_spec = spec(before.clone());
        let issued = fingerprint(&before_spec, &settings, &IssuerKey::Default("acme".into()));
        serde_json::from_value(json!({
            "apiVersion": "cert.gardener.cloud/v1alpha1", "kind": "Certificate",
            "metadata": {
                "namespace": "ns", "name": "a", "labels": { well_known::HASH: issued.as_str() },
            },
            "spec": now,
            "status": {
                "state": "Ready", "commonName": before["commonName"],
                "dnsNames": before["dnsNames"],
            },
        }))
        .unwrap()
    }

    #[test]
    fn names_are_compared_as_a_set_regardless_of_order_and_spelling() {
        let before = json!({ "commonName": "a.example", "dnsNames": ["b.example", "c.example"] });
        for (now, same) in [
            (before.clone(), true),
            (json!({ "commonName": "a.example", "dnsNames": ["c.example", "b.example"] }), true),
            (json!({ "commonName": "A.Example.", "dnsNames": ["C.example.", "b.EXAMPLE"] }), true),
            (
                json!({
                    "commonName": "a.example", "dnsNames": ["a.example", "b.example", "c.example"],
                }),
                true,
            ),
            (
                json!({
                    "commonName": "a.example", "dnsNames": ["c.example", "b.example"],
                    "secretName": "other", "renewBefore": "24h",
                }),
                true,
            ),
            (json!({ "commonName": "a.example", "dnsNames": ["b.example"] }), false),
            (json!({ "commonName": "b.example", "dnsNames": ["a.example", "c.example"] }), false),
            // Upstream's fingerprint is the same for both.
            (json!({ "dnsNames": ["a.example", "b.example", "c.example"] }), true),
            (json!({ "dnsNames": ["b.example", "a.example", "c.example"] }), false),
            (
                json!({
                    "commonName": "a.example", "dnsNames": ["c.example", "b.example"],
                    "privateKey": { "algorithm": "RSA", "size": 4096 },
                }),
                false,
            ),
        ] {
            let certificate = certificate(&before, &now);
            let settings = CertificateSettings::default();
            let of = |issuer: &str| {
                recorded_fingerprint(
                    &certificate,
                    &settings,
                    &IssuerKey::Default(issuer.to_owned()),
                )
                .is_some()
            };
            assert_eq!(of("acme"), same, "{now}");
            assert!(!of("another"), "{now}");
        }
    }
}
