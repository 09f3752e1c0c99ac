//! Whose certificate and key a Certificate may take.
//!
//! Taken is only what a Certificate in the index has in a Secret that it may write, as both say that it was
//! issued for what that Certificate asks the same issuer for. All of this can be written by a user with edit
//! rights in the namespace, so it counts only where the Secret is in that namespace, too: there he reads it
//! anyway. A certificate of another namespace, or in a Secret of one, takes a record.
//!
//! Who asks for the same names in another order has another hash. He takes only from a Secret with the label
//! that names the certificate, so that a revocation finds all who have it from each of them.

use cert_lib::{
    model::request::{Fingerprint, Request},
    plan::{SecretState, Stored},
};
use kube::ResourceExt;

use crate::{
    api::{
        Certificate, CertificateKey, IssuerKey, ObjectKey, certificate::RotationPolicy, is_served,
        issuer::IssuerKind, well_known,
    },
    certificates::{
        index::EqualRequests, observe::Observed, reconcile::Controller, records::RecordOwner,
        secret, secret_grant::SecretGrant,
    },
    issuers::{query::fingerprint, selection::Selection},
};

/// A Secret that may hold the certificate.
pub(super) struct Candidate {
    pub(super) secret: ObjectKey,
    /// The label that it must have.
    label: Fingerprint,
    /// Whether its certificate must be named in a label, too.
    needs_digest_label: bool,
    /// Whether it is in the namespace of the Certificate that takes it.
    is_same_namespace: bool,
    /// For whom there must be a record of the certificate.
    recorded_for: Option<CertificateKey>,
}

/// What shows that a Secret may be read for a Certificate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Proof {
    /// Where it is.
    Namespace,
    /// A record that the certificate was issued for the namespace of the other Certificate.
    Record,
}

/// What shows that a Secret of another Certificate may be read for a Certificate; each is given by its own
/// namespace and that of its Secret. A namespace that may be written is not one that may be read: its
/// Secret could be of another tenant.
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
    /// What a candidate holds, where it is what it must be.
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
            let Selection { key: issuer, kind, .. } = &observed.issuer;
            let leaf = &found.leaf;
            let is_recorded = *kind == Some(IssuerKind::Acme)
                && self.is_recorded(other, leaf, issuer, RecordOwner::Named).await.unwrap_or(false);
            return is_recorded.then_some(found);
        }
        if let SecretState::Holds(own) = own
            && own.leaf.digest == found.leaf.digest
        {
            found.suggested.clone_from(&own.suggested);
        }
        Some(found)
    }

    /// Secrets that may hold the certificate: the one that the Certificate had before its `secretName` was
    /// changed, and those of others that ask for the same.
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

    /// The hash of what the Certificate `other` has, where it is what it asks `issuer` for, and in a Secret
    /// that it may write.
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

/// Whether a Certificate whose key stays may take this one: it has none yet, or the same.
fn may_take_key(certificate: &Certificate, own: &SecretState, found: &Stored) -> bool {
    let policy = certificate.spec.private_key.as_ref().and_then(|key| key.rotation_policy);
    match own {
        SecretState::Holds(own) if policy == Some(RotationPolicy::Never) => {
            own.leaf.public_key == found.leaf.public_key
        }
        _ => true,
    }
}

/// The Secrets of how many of them are read.
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
            // The key of a victim would come out of `gw`.
            (("evil", "evil"), ("evil", "gw"), false, None, record),
            (("evil", "evil"), ("evil", "gw"), true, None, record),
            (("evil", "gw"), ("evil", "gw"), false, None, record),
            // It stays where the operator has all of them put.
            (("ns", "gw"), ("ns", "gw"), true, namespace, namespace),
            (("ns", "gw"), ("other", "gw"), true, None, record),
            (("ns", "ns"), ("other", "other"), false, None, record),
            // Somebody else writes into the own namespace.
            (("ns", "ns"), ("other", "ns"), false, None, record),
        ] {
            assert_eq!(proof(own, other, is_open, false), proven, "{own:?} {other:?}");
            assert_eq!(proof(own, other, is_open, true), across, "{own:?} {other:?}");
        }
    }
}
