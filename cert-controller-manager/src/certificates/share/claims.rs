//! Decides which certificates and keys a Certificate may copy from another Secret.
//!
//! The source must be the Secret of a Certificate in the index that may write it. Label and request
//! must show that it was issued for the same request by the same issuer. Tenants can write all of
//! these fields. So they count only for Secrets in the same namespace, where the tenant can read
//! the key anyway. A certificate of another namespace, or in a Secret of another namespace, needs
//! an issuance record.
//!
//! The same names in another order have another hash. Then the source Secret must have the label
//! with the digest of its certificate, so that a revocation finds all copies.

use cert_lib::{
    model::request::{Fingerprint, Request},
    plan::{SecretState, Stored},
};
use kube::ResourceExt;

use crate::{
    api::{
        Certificate, CertificateKey, IssuerKey, ObjectKey, certificate::RotationPolicy, is_served,
        well_known,
    },
    certificates::{
        controller::Controller, index::EqualRequests, pass::Observed, records::RecordOwner, secret,
        secret_grant::SecretGrant,
    },
    issuers::query::fingerprint,
};

/// A Secret that may contain a certificate to share.
pub(super) struct Candidate {
    pub(super) secret: ObjectKey,
    /// Required value of the hash label.
    label: Fingerprint,
    /// Whether the Secret must have the label with the digest of its certificate.
    needs_digest_label: bool,
    /// Whether the Secret is in the namespace of the Certificate that wants a copy.
    is_same_namespace: bool,
    /// The Certificate that must have an issuance record for this certificate.
    recorded_for: Option<CertificateKey>,
}

/// Why a Secret of another Certificate may be copied.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Proof {
    /// It is in the namespace of both Certificates, or stays in a shared namespace.
    Namespace,
    /// There is an issuance record for the namespace of the other Certificate.
    Record,
}

/// Why a Certificate may copy the Secret of another one; `None` if it may not. Each is given as its
/// own namespace and the namespace of its Secret. Permission to write to a namespace is not
/// permission to read: its Secrets can belong to other tenants.
fn proof(
    (own, own_secret): (&str, &str),
    (other, secret): (&str, &str),
    is_open: bool,
    across: bool,
) -> Option<Proof> {
    let stays = is_open && secret == own_secret;
    match own == other && (secret == own || stays) {
        true => Some(Proof::Namespace),
        false => across.then_some(Proof::Record),
    }
}

impl Controller {
    /// The certificate of a candidate, if it satisfies all conditions.
    pub(super) async fn check_candidate(
        &self,
        certificate: &Certificate,
        candidate: &Candidate,
        observed: &Observed,
    ) -> Option<Stored> {
        let facts = self.secrets.get(&candidate.secret).await.ok()??;
        let mut found = secret::shareable(&facts, &self.realm, candidate.is_same_namespace)?;
        let own = &observed.have.secret;
        if found.fingerprint.as_ref() != Some(&candidate.label)
            || candidate.needs_digest_label && !facts.has_digest_label
            || !may_take_key(certificate, own, &found)
        {
            return None;
        }
        if let Some(other) = &candidate.recorded_for {
            let issuer = &observed.issuer;
            let leaf = &found.leaf;
            let is_recorded = issuer.capabilities().needs_record()
                && self
                    .is_recorded(other, leaf, &issuer.key, RecordOwner::Named)
                    .await
                    .unwrap_or(false);
            return is_recorded.then_some(found);
        }
        if let SecretState::Holds(own) = own
            && own.leaf.digest == found.leaf.digest
        {
            found.suggested.clone_from(&own.suggested);
        }
        Some(found)
    }

    /// Secrets that may contain a matching certificate: the previous Secret of this Certificate,
    /// and the Secrets of equal requests.
    pub(super) fn candidates(
        &self,
        (key, certificate): (&CertificateKey, &Certificate),
        request: &Request,
        observed: &Observed,
        equal: &EqualRequests,
    ) -> Vec<Candidate> {
        let mut all = Vec::new();
        if let Some(former) = certificate.former_secret() {
            let labels = [Some(&request.fingerprint), observed.have.recorded_fingerprint.as_ref()];
            all.extend(labels.into_iter().flatten().map(|label| Candidate {
                secret: former.clone(),
                label: label.clone(),
                needs_digest_label: false,
                is_same_namespace: true,
                recorded_for: None,
            }));
        }
        let issuer = &observed.issuer.key;
        let mut others: Vec<_> = equal
            .others
            .iter()
            .filter_map(|(other, it)| {
                let label = self.shareable_fingerprint(other, it, issuer)?;
                let secret = it.secret_key();
                let proof = self.proof((key, &observed.secret), (other, &secret))?;
                Some((
                    it,
                    Candidate {
                        is_same_namespace: secret.namespace == key.object.namespace,
                        recorded_for: (proof == Proof::Record).then(|| other.clone()),
                        needs_digest_label: label != request.fingerprint,
                        label,
                        secret,
                    },
                ))
            })
            .collect();
        others.sort_by_key(|(it, _)| it.status.as_ref().and_then(|it| it.expiration_date.clone()));
        all.extend(others.into_iter().rev().take(MAX_READ).map(|(_, candidate)| candidate));
        all.retain(|candidate| candidate.secret != observed.secret);
        all
    }

    fn proof(
        &self,
        (key, own): (&CertificateKey, &ObjectKey),
        (other, secret): (&CertificateKey, &ObjectKey),
    ) -> Option<Proof> {
        let is_open = self.secret_grants.is_open(&secret.namespace);
        let namespaces = (key.object.namespace.as_str(), own.namespace.as_str());
        let theirs = (other.object.namespace.as_str(), secret.namespace.as_str());
        proof(namespaces, theirs, is_open, self.settings.reuse_across_namespaces)
    }

    /// The fingerprint of the Certificate `other`, if its Secret is up to date for `issuer` and it
    /// may write that Secret.
    fn shareable_fingerprint(
        &self,
        key: &CertificateKey,
        other: &Certificate,
        issuer: &IssuerKey,
    ) -> Option<Fingerprint> {
        let secret = other.secret_key();
        let may_write = self.settings.cross_namespace_secrets
            || self.secret_grants.of(&key.object.namespace, &secret) == SecretGrant::Given;
        let recorded = other.labels().get(well_known::HASH);
        let requested = fingerprint(&other.spec, &self.settings, issuer);
        let may_share = may_write
            && is_served(other, &self.settings.classes)
            && other.metadata.deletion_timestamp.is_none()
            && recorded.is_some_and(|recorded| recorded == requested.as_str())
            && self.rival(other, &secret).is_none();
        may_share.then_some(requested)
    }
}

/// Whether a Certificate that keeps its key may use this certificate: it has no key yet, or the
/// same one.
fn may_take_key(certificate: &Certificate, own: &SecretState, found: &Stored) -> bool {
    let policy = certificate.spec.private_key.as_ref().and_then(|key| key.rotation_policy);
    match own {
        SecretState::Holds(own) if policy == Some(RotationPolicy::Never) => {
            own.leaf.public_key == found.leaf.public_key
        }
        _ => true,
    }
}

/// Maximum number of Secrets of equal requests that are read.
const MAX_READ: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permission_to_write_into_a_namespace_does_not_permit_reading_from_it() {
        let (namespace, record) = (Some(Proof::Namespace), Some(Proof::Record));
        for (own, other, is_open, proven, across) in [
            (("ns", "ns"), ("ns", "ns"), false, namespace, namespace),
            (("ns", "gw"), ("ns", "ns"), false, namespace, namespace),
            // Otherwise the key of another tenant would be copied out of `gw`.
            (("evil", "evil"), ("evil", "gw"), false, None, record),
            (("evil", "evil"), ("evil", "gw"), true, None, record),
            (("evil", "gw"), ("evil", "gw"), false, None, record),
            // The copy stays in the shared namespace.
            (("ns", "gw"), ("ns", "gw"), true, namespace, namespace),
            (("ns", "gw"), ("other", "gw"), true, None, record),
            (("ns", "ns"), ("other", "other"), false, None, record),
            // Another tenant may have written this Secret.
            (("ns", "ns"), ("other", "ns"), false, None, record),
        ] {
            assert_eq!(proof(own, other, is_open, false), proven, "{own:?} {other:?}");
            assert_eq!(proof(own, other, is_open, true), across, "{own:?} {other:?}");
        }
    }
}
