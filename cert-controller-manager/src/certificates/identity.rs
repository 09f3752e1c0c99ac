//! Decides whether two Certificates request the same certificate. Pure.

use std::collections::BTreeSet;

use cert_lib::model::request::MAX_DNS_NAMES;
use kube::ResourceExt;

use crate::{
    api::{
        Certificate, CertificateCluster, CertificateKey,
        certificate::{KeyAlgorithm, RotationPolicy},
        well_known,
    },
    issuers::query,
};

/// The fields of a Certificate that determine its certificate, without the issuer. Secret name,
/// layout and renewal settings are not among them.
///
/// Names are sets: their order and spelling do not matter here, although they change
/// [`well_known::HASH`].
#[derive(Debug, Eq, Hash, PartialEq)]
pub struct RequestIdentity {
    cluster: CertificateCluster,
    /// `None` if Certificates of different namespaces can share.
    namespace: Option<String>,
    common_name: Option<String>,
    names: BTreeSet<String>,
    other_names: [BTreeSet<String>; 3],
    algorithm: Option<KeyAlgorithm>,
    size: Option<i32>,
    keeps_key: bool,
    is_ca: bool,
    duration: Option<String>,
    profile: Option<String>,
    preferred_chain: Option<String>,
}

impl RequestIdentity {
    /// The identity of a Certificate. `None` if it cannot share: it has a signing request, opts out
    /// of reuse, or has too many names.
    #[must_use]
    pub fn of(key: &CertificateKey, certificate: &Certificate, across: bool) -> Option<Self> {
        let spec = &certificate.spec;
        let reuse_is_disabled =
            certificate.annotations().get(well_known::REUSE).is_some_and(|it| it == "false");
        let lists = [&spec.dns_names, &spec.email_addresses, &spec.ip_addresses, &spec.uris];
        let has_too_many_names =
            lists.iter().any(|list| list.as_ref().is_some_and(|it| it.len() > MAX_DNS_NAMES));
        if reuse_is_disabled || spec.csr.is_some() || has_too_many_names {
            return None;
        }
        let non_empty = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let private_key = spec.private_key.clone().unwrap_or_default();
        let set = |list: &Option<Vec<String>>| list.iter().flatten().cloned().collect();
        let (common_name, names) =
            query::names(spec.common_name.as_deref(), spec.dns_names.as_deref());
        Some(Self {
            cluster: key.cluster,
            namespace: (!across).then(|| key.object.namespace.clone()),
            names,
            common_name,
            other_names: [&spec.email_addresses, &spec.ip_addresses, &spec.uris].map(set),
            algorithm: private_key.algorithm,
            size: private_key.size,
            keeps_key: private_key.rotation_policy == Some(RotationPolicy::Never),
            is_ca: spec.is_ca == Some(true),
            duration: non_empty(&spec.duration),
            profile: non_empty(&spec.profile),
            preferred_chain: non_empty(&spec.preferred_chain),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api::ObjectKey;

    fn identity(spec: &Value, reuse: Option<&str>) -> Option<RequestIdentity> {
        let mut certificate: Certificate = serde_json::from_value(json!({
            "apiVersion": "cert.gardener.cloud/v1alpha1", "kind": "Certificate",
            "metadata": { "namespace": "ns", "name": "a" }, "spec": spec,
        }))
        .unwrap();
        if let Some(text) = reuse {
            certificate.annotations_mut().insert(well_known::REUSE.to_owned(), text.to_owned());
        }
        let key = CertificateKey::new(CertificateCluster::Source, ObjectKey::new("ns", "a"));
        RequestIdentity::of(&key, &certificate, false)
    }

    #[test]
    fn only_the_content_of_the_certificate_is_part_of_the_identity() {
        let base = json!({ "commonName": "a.example", "dnsNames": ["b.example", "c.example"] });
        let with = |name: &str, value: Value| {
            let mut spec = base.clone();
            spec[name] = value;
            spec
        };
        let wanted = identity(&base, None);
        assert!(wanted.is_some());
        for (spec, same) in [
            (with("dnsNames", json!(["b.example", "C.example."])), true),
            (with("dnsNames", json!(["c.example", "b.example"])), true),
            (with("dnsNames", json!(["a.example", "b.example", "c.example"])), true),
            (with("dnsNames", json!(["b.example", "c.example", "b.example"])), true),
            (with("commonName", json!("A.Example.")), true),
            (json!({ "dnsNames": ["a.example", "b.example", "c.example"] }), false),
            (with("secretName", json!("other")), true),
            (with("secretLabels", json!({ "a": "b" })), true),
            (with("privateKey", json!({ "encoding": "PKCS8" })), true),
            (with("privateKey", json!({ "rotationPolicy": "Always" })), true),
            (with("renewBefore", json!("24h")), true),
            (with("followCNAME", json!(true)), true),
            (with("isCA", json!(false)), true),
            (with("dnsNames", json!(["b.example"])), false),
            (with("commonName", json!("b.example")), false),
            (with("commonName", json!("")), false),
            (with("ipAddresses", json!(["10.0.0.1"])), false),
            (with("uris", json!(["spiffe://a"])), false),
            (with("privateKey", json!({ "algorithm": "RSA" })), false),
            (with("privateKey", json!({ "rotationPolicy": "Never" })), false),
            (with("isCA", json!(true)), false),
            (with("duration", json!("2160h")), false),
            (with("profile", json!("short")), false),
            (with("preferredChain", json!("Root")), false),
        ] {
            assert_eq!(identity(&spec, None) == wanted, same, "{spec}");
        }
        assert_eq!(identity(&json!({ "csr": "eA==" }), None), None);
        assert_eq!(identity(&with("dnsNames", json!(vec!["x.example"; 100])), None), None);
    }

    #[test]
    fn a_certificate_without_reuse_has_no_identity() {
        let spec = json!({ "commonName": "a.example" });
        assert_eq!(identity(&spec, Some("false")), None);
        assert_eq!(identity(&spec, Some("true")), identity(&spec, None));
    }
}
