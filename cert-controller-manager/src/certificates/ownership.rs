//! How a Secret is deleted together with its Certificate (`--cascade-delete`). Pure.
//!
//! Within one cluster and namespace, owner references are enough. Elsewhere the Kubernetes garbage
//! collector would delete an object with such a reference. There the Certificate has a finalizer,
//! and an annotation of the Secret names its owner.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource, ResourceExt};

use crate::api::{Certificate, CertificateKey, ClusterIdentities, ObjectKey, well_known};

/// How a Secret belongs to its Certificate.
#[derive(Clone, Debug, PartialEq)]
pub enum SecretOwnership {
    /// The Secret stays after the deletion of the Certificate. This is upstream's default.
    None,
    /// The Secret has these owner references.
    OwnerReferences(Vec<OwnerReference>),
    /// The Certificate has our finalizer, and the Secret has this annotation.
    Finalizer(String),
}

/// How `secret` must belong to `certificate`.
#[must_use]
pub fn of(
    key: &CertificateKey,
    certificate: &Certificate,
    secret: &ObjectKey,
    identities: &ClusterIdentities,
    cascade: bool,
) -> SecretOwnership {
    if !cascade {
        return SecretOwnership::None;
    }
    if !identities.share_cluster(key.cluster) || key.object.namespace != secret.namespace {
        return SecretOwnership::Finalizer(identities.owner(key));
    }
    let mut owners: Vec<_> = certificate.owner_ref(&()).into_iter().collect();
    let forwards = certificate
        .annotations()
        .get(well_known::FORWARD_OWNERS)
        .is_some_and(|text| text == "true");
    if forwards {
        // An object has at most one controller reference, and the Certificate's owner is not the
        // controller of the Secret.
        let of_certificate = certificate.owner_references().iter().cloned();
        owners.extend(of_certificate.map(|owner| OwnerReference {
            controller: None,
            block_owner_deletion: None,
            ..owner
        }));
    }
    SecretOwnership::OwnerReferences(owners)
}

/// Whether the Certificate has our finalizer.
#[must_use]
pub fn has_finalizer(certificate: &Certificate) -> bool {
    certificate.finalizers().iter().any(|it| it == well_known::SECRET_FINALIZER)
}

/// The finalizers with ours added or removed.
#[must_use]
pub fn finalizers(all: &[String], ours: bool) -> Vec<String> {
    let others = all.iter().filter(|it| *it != well_known::SECRET_FINALIZER);
    let ours = ours.then(|| well_known::SECRET_FINALIZER.to_owned());
    others.cloned().chain(ours).collect()
}

/// Whether a Secret with these owner references and this annotation satisfies `ownership`.
#[must_use]
pub fn is_owned(
    ownership: &SecretOwnership,
    owners: &[OwnerReference],
    annotation: Option<&str>,
) -> bool {
    match ownership {
        SecretOwnership::None => true,
        SecretOwnership::OwnerReferences(wanted) => wanted.iter().all(|wanted| {
            owners.iter().any(|it| it.uid == wanted.uid && it.api_version == wanted.api_version)
        }),
        SecretOwnership::Finalizer(text) => annotation == Some(text.as_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    use crate::api::{CertificateCluster, ClusterId};

    fn certificate(forward: bool) -> Certificate {
        serde_json::from_value(json!({
            "apiVersion": "cert.gardener.cloud/v1alpha1", "kind": "Certificate",
            "metadata": {
                "namespace": "ns", "name": "web", "uid": "u1",
                "annotations": { well_known::FORWARD_OWNERS: forward.to_string() },
                "finalizers": ["other"],
                "ownerReferences": [{
                    "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": "web",
                    "uid": "u2", "controller": true,
                }],
            },
            "spec": { "commonName": "a.example" },
        }))
        .unwrap()
    }

    fn identities(one_cluster: bool) -> ClusterIdentities {
        let id = |id: &str| ClusterId { id: id.to_owned(), former: vec![] };
        ClusterIdentities { source: id("s"), target: id("t"), one_cluster }
    }

    fn key(cluster: CertificateCluster) -> CertificateKey {
        CertificateKey::new(cluster, ObjectKey::new("ns", "web"))
    }

    #[test]
    fn owner_references_are_used_in_one_namespace_and_a_finalizer_everywhere_else() {
        let owners = |ownership: SecretOwnership| match ownership {
            SecretOwnership::OwnerReferences(owners) => owners
                .iter()
                .map(|owner| format!("{}/{} {:?}", owner.api_version, owner.kind, owner.controller))
                .collect::<Vec<_>>()
                .join(", "),
            SecretOwnership::Finalizer(text) => text,
            SecretOwnership::None => "loose".to_owned(),
        };
        let ours = "cert.gardener.cloud/v1alpha1/Certificate None";
        for (cluster, one_cluster, namespace, forward, cascade, expected) in [
            (CertificateCluster::Source, true, "ns", false, false, "loose"),
            (CertificateCluster::Source, true, "ns", false, true, ours),
            (CertificateCluster::Target, false, "ns", false, true, ours),
            (
                CertificateCluster::Source,
                true,
                "ns",
                true,
                true,
                &format!("{ours}, networking.k8s.io/v1/Ingress None"),
            ),
            (
                CertificateCluster::Source,
                true,
                "x",
                true,
                true,
                "s:cert.gardener.cloud/Certificate/ns/web",
            ),
            (
                CertificateCluster::Source,
                false,
                "ns",
                true,
                true,
                "s:cert.gardener.cloud/Certificate/ns/web",
            ),
            (
                CertificateCluster::Target,
                false,
                "x",
                true,
                true,
                "t:cert.gardener.cloud/Certificate/ns/web",
            ),
        ] {
            let secret = ObjectKey::new(namespace, "tls");
            let certificate = certificate(forward);
            let ownership =
                of(&key(cluster), &certificate, &secret, &identities(one_cluster), cascade);
            assert_eq!(
                owners(ownership),
                expected,
                "{cluster:?} {one_cluster} {namespace} {forward}"
            );
        }
    }

    #[test]
    fn owner_references_with_the_api_version_of_upstream_are_not_enough() {
        let certificate = certificate(false);
        let secret = ObjectKey::new("ns", "tls");
        let ownership =
            of(&key(CertificateCluster::Source), &certificate, &secret, &identities(true), true);
        let SecretOwnership::OwnerReferences(owners) = &ownership else { panic!("{ownership:?}") };
        assert!(is_owned(&ownership, owners, None));
        let upstream = OwnerReference { api_version: "v1alpha1".to_owned(), ..owners[0].clone() };
        assert!(!is_owned(&ownership, &[upstream], None));
    }

    #[test]
    fn adding_and_removing_our_finalizer_keeps_the_others() {
        let certificate = certificate(false);
        let with = finalizers(certificate.finalizers(), true);
        assert_eq!(with, ["other", well_known::SECRET_FINALIZER]);
        assert_eq!(finalizers(&with, false), ["other"]);
        assert!(!has_finalizer(&certificate));
    }
}
