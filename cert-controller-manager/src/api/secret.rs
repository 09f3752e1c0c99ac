//! The Secret of a Certificate, and the interpretation of its labels, annotations and entries.

use cert_lib::model::{
    bundle::{Leaf, LeafDigest, certificates},
    request::digest,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;

use super::{
    Certificate, ObjectKey, certificate::CertificateSpec, names, time::whole_up, well_known,
};

/// Assumed time from `notBefore` to the request, for certificates without a recorded time. CAs may
/// back-date certificates; Let's Encrypt does so by an hour.
const BACKDATING: SignedDuration = SignedDuration::from_secs(3_630);

impl Certificate {
    /// The Secret of the Certificate. If the specification names none, the name is derived from the name
    /// and uid of the Certificate: it is unique, and the same after a crash.
    ///
    /// `secretName` takes precedence over another name in `secretRef`. Users set the former and the
    /// manager sets the latter, which is outdated after a change of `secretName`.
    #[must_use]
    pub fn secret_key(&self) -> ObjectKey {
        let own = self.namespace().unwrap_or_default();
        named_secret(&self.spec, &own).unwrap_or_else(|| {
            let uid: String = self.uid().unwrap_or_default().chars().take(8).collect();
            let head: String = self.name_any().chars().take(240).collect();
            ObjectKey { namespace: own, name: names::derived(&head, &uid) }
        })
    }

    /// The Secret before a change of `secretName`: the one in `secretRef`. `None` without a change, or if
    /// it is in another namespace than the Certificate.
    #[must_use]
    pub fn former_secret(&self) -> Option<ObjectKey> {
        let own = self.namespace().unwrap_or_default();
        let reference = self.spec.secret_ref.as_ref()?;
        let name = non_empty(&reference.name)?;
        let is_here = non_empty(&reference.namespace).is_none_or(|namespace| namespace == own);
        let is_other = non_empty(&self.spec.secret_name).is_some_and(|current| current != name);
        (is_here && is_other).then(|| ObjectKey::new(&own, name))
    }

    /// The keys of certificates that were requested before this time must not be reused.
    #[must_use]
    pub fn new_key_after(&self) -> Option<Timestamp> {
        self.annotations().get(well_known::NEW_KEY_AFTER)?.parse().ok().map(whole_up)
    }
}

/// The Secret in `spec`, for a Certificate in the namespace `own`. Empty fields are unset.
#[must_use]
pub fn named_secret(spec: &CertificateSpec, own: &str) -> Option<ObjectKey> {
    let reference = spec.secret_ref.as_ref();
    let referenced = reference.and_then(|reference| non_empty(&reference.name));
    let elsewhere = reference.and_then(|reference| non_empty(&reference.namespace));
    match (non_empty(&spec.secret_name), referenced) {
        (Some(name), Some(other)) if name != other => Some(ObjectKey::new(own, name)),
        (Some(name), _) | (None, Some(name)) => {
            Some(ObjectKey::new(elsewhere.unwrap_or(own), name))
        }
        (None, None) => None,
    }
}

fn non_empty(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.is_empty())
}

/// An entry of a Secret; empty if it is missing.
#[must_use]
pub fn entry<'a>(secret: &'a Secret, name: &str) -> &'a [u8] {
    secret.data.as_ref().and_then(|data| data.get(name)).map_or(&[], |value| &value.0)
}

/// The recorded time of the request for the certificate in a Secret.
#[must_use]
pub fn noted_request(secret: &Secret) -> Option<Timestamp> {
    secret.annotations().get(well_known::REQUESTED_AT)?.parse().ok()
}

/// The assumed time of the request for a certificate without a recorded time.
#[must_use]
pub fn assumed_request(leaf: &Leaf) -> Timestamp {
    leaf.not_before.saturating_add(BACKDATING).unwrap_or(leaf.not_before)
}

/// Whether the certificate in a Secret was revoked.
#[must_use]
pub fn is_revoked(secret: &Secret) -> bool {
    is_marked_revoked(secret) && !has_void_mark(secret)
}

/// Whether a Secret has the annotation of a revocation of another certificate. This happens after a crash
/// between the write of a new certificate and the removal of the annotation.
#[must_use]
pub fn has_void_mark(secret: &Secret) -> bool {
    let about = secret.annotations().get(well_known::REVOKED_CERTIFICATE);
    is_marked_revoked(secret) && about.is_some_and(|about| *about != leaf_digest(secret))
}

fn is_marked_revoked(secret: &Secret) -> bool {
    secret.annotations().get(well_known::REVOKED).is_some_and(|text| text == "true")
}

/// The value of the label [`well_known::DIGEST`]. Labels have at most 63 characters, a digest has 64.
#[must_use]
pub fn digest_label(leaf: &LeafDigest) -> String {
    leaf.to_string().chars().take(56).collect()
}

/// The digest of the leaf certificate in a Secret.
#[must_use]
pub fn leaf_digest(secret: &Secret) -> String {
    let chain = certificates(entry(secret, "tls.crt")).unwrap_or_default();
    chain.first().map(|leaf| digest(leaf)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_truncated_secret_name_is_valid() {
        let long = format!("{}.{}", "a".repeat(239), "b".repeat(13));
        let mut certificate = Certificate::new(&long, serde_json::from_value(json!({})).unwrap());
        certificate.metadata.uid = Some("0123456789".to_owned());
        assert_eq!(certificate.secret_key().name, format!("{}-01234567", "a".repeat(239)));
    }

    #[test]
    fn a_revocation_annotation_is_void_for_another_certificate() {
        let secret = |base64: &str, annotations: serde_json::Value| {
            let pem = format!("-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n");
            let data = [("tls.crt".to_owned(), ByteString(pem.into_bytes()))].into();
            let metadata = json!({ "annotations": annotations });
            let metadata = serde_json::from_value(metadata).unwrap();
            Secret { metadata, data: Some(data), ..Secret::default() }
        };
        let (old, new) = ("b2xk", "bmV3");
        let about = leaf_digest(&secret(old, json!({})));
        let of =
            |it: &str| json!({ well_known::REVOKED: "true", well_known::REVOKED_CERTIFICATE: it });
        for (der, annotations, revoked, void) in [
            (old, json!({}), false, false),
            // Upstream sets no other annotation.
            (old, json!({ well_known::REVOKED: "true" }), true, false),
            (old, json!({ well_known::REVOKED: "false" }), false, false),
            (old, of(&about), true, false),
            (new, of(&about), false, true),
            (new, of(well_known::REPLACED), false, true),
            (new, json!({ well_known::REVOKED_CERTIFICATE: about }), false, false),
        ] {
            let secret = secret(der, annotations.clone());
            assert_eq!(
                (is_revoked(&secret), has_void_mark(&secret)),
                (revoked, void),
                "{annotations}"
            );
        }
    }

    #[test]
    fn the_secret_is_named_in_the_spec_or_derived() {
        for (spec, key) in [
            (json!({}), "ns/cert-01234567"),
            (json!({ "secretName": "tls" }), "ns/tls"),
            (json!({ "secretName": "", "secretRef": {} }), "ns/cert-01234567"),
            (json!({ "secretRef": { "name": "tls", "namespace": "other" } }), "other/tls"),
            (json!({ "secretName": "tls", "secretRef": { "namespace": "other" } }), "other/tls"),
            // `secretRef` is from before the change of `secretName`.
            (
                json!({ "secretName": "new", "secretRef": { "name": "old", "namespace": "ns" } }),
                "ns/new",
            ),
            (
                json!({ "secretName": "new", "secretRef": { "name": "old", "namespace": "other" } }),
                "ns/new",
            ),
            (
                json!({ "secretName": "", "secretRef": { "name": "old", "namespace": "ns" } }),
                "ns/old",
            ),
        ] {
            let certificate: Certificate = serde_json::from_value(json!({
                "apiVersion": "cert.gardener.cloud/v1alpha1", "kind": "Certificate",
                "metadata": { "namespace": "ns", "name": "cert", "uid": "0123456789" },
                "spec": spec,
            }))
            .unwrap();
            assert_eq!(certificate.secret_key().to_string(), key, "{spec}");
        }
    }

    #[test]
    fn the_former_secret_is_the_one_in_secret_ref() {
        for (spec, former) in [
            (json!({ "secretName": "new", "secretRef": { "name": "old" } }), Some("ns/old")),
            (
                json!({ "secretName": "new", "secretRef": { "name": "old", "namespace": "ns" } }),
                Some("ns/old"),
            ),
            (
                json!({ "secretName": "new", "secretRef": { "name": "old", "namespace": "x" } }),
                None,
            ),
            (json!({ "secretName": "same", "secretRef": { "name": "same" } }), None),
            (json!({ "secretName": "", "secretRef": { "name": "old" } }), None),
            (json!({ "secretName": "new" }), None),
        ] {
            let certificate: Certificate = serde_json::from_value(json!({
                "apiVersion": "cert.gardener.cloud/v1alpha1", "kind": "Certificate",
                "metadata": { "namespace": "ns", "name": "cert" }, "spec": spec,
            }))
            .unwrap();
            let found = certificate.former_secret().map(|key| key.to_string());
            assert_eq!(found.as_deref(), former, "{spec}");
        }
    }
}
