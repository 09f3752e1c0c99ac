//! Finds the Certificates that a revocation affects, and reads their Secrets.

use std::collections::BTreeSet;

use cert_lib::model::bundle::LeafDigest;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt, core::PartialObjectMeta};

use super::{
    controller::Controller,
    index::RevocationKey,
    observe::{has_key, hash, read},
    observed::{HeldCertificate, MAX_REVOKED, SecretHolder},
};
use crate::{
    api::{
        Certificate, ObjectKey, backup, is_served,
        revocation::CertificateName,
        secret::{digest_label, is_revoked},
        well_known,
    },
    runtime::{heavy::reading, pages},
};

impl Controller {
    /// The Certificates with this hash, and those that have the same certificate under another
    /// hash, as the names are in another order. Labels select what is read; the whole certificate
    /// is compared.
    ///
    /// Also returns whether there are more than [`MAX_REVOKED`].
    pub(super) async fn holders(
        &self,
        key: &RevocationKey,
        namespace: &str,
        hash: &str,
    ) -> kube::Result<(Vec<SecretHolder>, bool)> {
        let same = format!("{}={hash}", well_known::HASH);
        let mut names = self.labelled(key, namespace, &same).await?;
        let mut holders = Vec::new();
        for name in names.iter().take(MAX_REVOKED) {
            if let Some(certificate) = self.listed(key, name).await? {
                holders.push(self.holder(&certificate).await?);
            }
        }
        if names.len() > MAX_REVOKED {
            return Ok((holders, true));
        }
        let Some(others) = self.other_hashes(&holders, hash).await? else {
            return Ok((holders, true));
        };
        if others.is_empty() {
            return Ok((holders, false));
        }
        let leafs: BTreeSet<LeafDigest> = leafs(&holders).map(|(_, leaf)| leaf).collect();
        let same = format!("{} in ({})", well_known::HASH, Vec::from_iter(others).join(","));
        let candidates = self.labelled(key, namespace, &same).await?;
        let are_too_many = candidates.len() > MAX_REVOKED;
        for name in candidates.into_iter().take(MAX_REVOKED) {
            let Some(certificate) = self.listed(key, &name).await? else { continue };
            let holder = self.holder(&certificate).await?;
            if holder.held.as_ref().is_some_and(|held| leafs.contains(&held.leaf)) {
                holders.push(holder);
                names.push(name);
            }
        }
        Ok((holders, are_too_many || names.len() > MAX_REVOKED))
    }

    /// The hash labels of other Secrets that may have the same certificate; `None` if there are
    /// more than [`MAX_REVOKED`].
    async fn other_hashes(
        &self,
        holders: &[SecretHolder],
        hash: &str,
    ) -> kube::Result<Option<BTreeSet<String>>> {
        let mut hashes = BTreeSet::new();
        for (namespace, leaf) in BTreeSet::from_iter(leafs(holders)) {
            let label = digest_label(&leaf);
            let (is_one, is_same) = (well_known::CERTIFICATE, well_known::DIGEST);
            let labels = format!("{is_one}=true,{is_same}={label},{}!={hash}", well_known::HASH);
            let api = match self.settings.cross_namespace_secrets {
                true => Api::all(self.target.0.clone()),
                false => self.secrets(namespace),
            };
            let noted = |it: PartialObjectMeta<Secret>| {
                it.labels().get(well_known::HASH).filter(|hash| !hash.is_empty()).cloned()
            };
            let found = pages::select(&api, &labels, MAX_REVOKED + 1, noted).await?;
            let are_too_many = found.len() > MAX_REVOKED;
            hashes.extend(found);
            if are_too_many || hashes.len() > MAX_REVOKED {
                return Ok(None);
            }
        }
        Ok(Some(hashes))
    }

    /// Certificates with these labels: in this namespace, or in all if namespaces trust each other.
    async fn labelled(
        &self,
        key: &RevocationKey,
        namespace: &str,
        labels: &str,
    ) -> kube::Result<Vec<CertificateName>> {
        let scope = match self.settings.cross_namespace_secrets {
            true => Api::all(self.clusters.at(key.cluster).client.clone()),
            false => self.certificates(key, namespace),
        };
        let name = |ObjectKey { namespace, name }| CertificateName { name, namespace };
        pages::select(&scope, labels, MAX_REVOKED + 1, |it| Some(name(ObjectKey::of(&it)))).await
    }

    /// The Certificate, if it exists, is served, and is in a permitted namespace.
    pub(super) async fn listed(
        &self,
        key: &RevocationKey,
        name: &CertificateName,
    ) -> kube::Result<Option<Certificate>> {
        let is_near = name.namespace == key.object.namespace;
        if !is_near && !self.settings.cross_namespace_secrets {
            return Ok(None);
        }
        let found = self.certificates(key, &name.namespace).get_opt(&name.name).await?;
        let is_ours = |it: &Certificate| {
            it.metadata.deletion_timestamp.is_none() && is_served(it, &self.settings.classes)
        };
        Ok(found.filter(is_ours))
    }

    pub(super) async fn holder(&self, certificate: &Certificate) -> kube::Result<SecretHolder> {
        let object = ObjectKey::of(certificate);
        let key = certificate.secret_key();
        let secret = self.secrets(&key.namespace).get_opt(&key.name).await?;
        let is_near = key.namespace == object.namespace;
        let held = |secret: &Secret| {
            let (leaf, requested_at) = read(secret)?;
            // Only the holder of the private key may revoke a certificate (RFC 8555 section 7.6):
            // tenants can write certificates of others and any labels to their Secrets. Without the
            // key, only the annotation of a backup proves ownership.
            let is_same =
                secret.labels().get(well_known::HASH).map(String::as_str) == hash(certificate);
            Some(HeldCertificate {
                leaf: leaf.digest,
                serial: backup::label(&leaf.serial),
                requested_at,
                revoked: is_revoked(secret),
                is_own: is_same
                    && has_key(secret)
                    && (is_near || self.settings.cross_namespace_secrets),
            })
        };
        let held = secret.as_ref().and_then(|secret| reading(secret, || held(secret)));
        Ok(SecretHolder {
            name: CertificateName { name: object.name, namespace: object.namespace },
            secret: key,
            renewed_after: certificate
                .spec
                .ensure_renewed_after
                .as_deref()
                .and_then(|text| text.parse().ok()),
            new_key_after: certificate.new_key_after(),
            held,
        })
    }
}

/// Namespace and certificate of each Secret.
fn leafs(holders: &[SecretHolder]) -> impl Iterator<Item = (&str, LeafDigest)> {
    let held = |holder: &SecretHolder| holder.held.as_ref().map(|held| held.leaf);
    holders.iter().filter_map(move |it| Some((it.secret.namespace.as_str(), held(it)?)))
}
