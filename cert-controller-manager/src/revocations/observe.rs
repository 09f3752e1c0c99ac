//! Collects the current state for one pass: Certificates, their Secrets and backups. Decides only
//! who owns a certificate.
//!
//! Labels, names and serial numbers select what is read. Certificates are compared by digest
//! ([`LeafDigest`]). A private key or the annotation of a backup proves ownership. Lists return
//! metadata in small pages; data is read for one Secret at a time.

use std::collections::BTreeSet;

use cert_lib::model::bundle::{Bundle, Leaf, LeafDigest};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{ResourceExt, core::PartialObjectMeta};

use super::{
    controller::Controller,
    index::RevocationKey,
    observed::{Backup, HeldCertificate, Lists, MAX_REVOKED, Observed, SecretHolder, Subject},
};
use crate::{
    api::{
        Certificate, CertificateRevocation, IssuerKey, ObjectKey, backup,
        certificate::State,
        revocation::CertificateName,
        secret::{assumed_request, entry, is_revoked, noted_request},
        well_known,
    },
    issuers::query::issuer_query,
    runtime::{heavy::reading, pages},
};

impl Controller {
    /// Collects the state that a revocation depends on.
    ///
    /// # Errors
    /// When an object could not be read.
    pub(super) async fn observe(
        &self,
        key: &RevocationKey,
        revocation: &CertificateRevocation,
        begun: Option<&Lists>,
    ) -> kube::Result<Observed> {
        let name = &revocation.spec.certificate_ref;
        match begun {
            None => self.observe_first(key, name).await,
            Some(lists) => self.observe_again(key, name, lists).await,
        }
    }

    /// Collects the objects in the status. Tenants can write the status, so ownership is checked
    /// again.
    async fn observe_again(
        &self,
        key: &RevocationKey,
        name: &CertificateName,
        lists: &Lists,
    ) -> kube::Result<Observed> {
        let mut observed = Observed::default();
        for name in &lists.processing {
            if let Some(certificate) = self.listed(key, name).await? {
                observed.holders.push(self.holder(&certificate).await?);
            }
        }
        let owners = self.owners(key, name, &observed.holders);
        let listed =
            lists.secrets.iter().chain(&lists.revoked_secrets).chain(&lists.failed_secrets);
        let issuer = match listed.clone().any(|it| it.namespace != backup::NAMESPACE) {
            true => self.issuer_of(key, name).await?,
            false => None,
        };
        for listed in listed {
            let secret = ObjectKey::new(&listed.namespace, &listed.name);
            if secret.namespace == backup::NAMESPACE {
                observed.backups.extend(self.record(&secret, &owners).await?);
            } else if let Some(issuer) = &issuer
                && let Some(holder) = observed.holders.iter().find(|holder| holder.secret == secret)
            {
                observed.backups.extend(self.unrecorded(holder, issuer).await?);
            }
        }
        Ok(observed)
    }

    /// The issuer of the Certificate, if that exists.
    async fn issuer_of(
        &self,
        key: &RevocationKey,
        name: &CertificateName,
    ) -> kube::Result<Option<IssuerKey>> {
        let found = self.certificates(key, &name.namespace).get_opt(&name.name).await?;
        Ok(found.map(|found| self.issuers.select(&issuer_query(&found, &self.settings)).key))
    }

    async fn observe_first(
        &self,
        key: &RevocationKey,
        name: &CertificateName,
    ) -> kube::Result<Observed> {
        let certificates = self.certificates(key, &name.namespace);
        let Some(certificate) = certificates.get_opt(&name.name).await? else {
            return Ok(Observed::default());
        };
        let issuer = self.issuers.select(&issuer_query(&certificate, &self.settings));
        let subject = Subject {
            hash: hash(&certificate).map(str::to_owned),
            revoked: certificate
                .status
                .as_ref()
                .is_some_and(|status| status.state == State::Revoked.word()),
            issuer: issuer.clone(),
        };
        let mut observed = Observed { subject: Some(subject), ..Observed::default() };
        let Some(hash) = hash(&certificate) else { return Ok(observed) };
        (observed.holders, observed.too_many) = self.holders(key, &name.namespace, hash).await?;
        let owners = self.owners(key, name, &observed.holders);
        for secret in self.records(hash, &owners).await? {
            observed.backups.extend(self.record(&secret, &owners).await?);
        }
        for holder in &observed.holders {
            if let Some(held) = &holder.held
                && observed.backups.iter().all(|backup| backup.leaf != held.leaf)
            {
                let backup = self.backup_of_holder((holder, held), &owners, &issuer.key).await?;
                observed.backups.extend(backup);
            }
        }
        Ok(observed)
    }

    /// The backups of a request that may belong to these owners, according to their metadata.
    async fn records(&self, hash: &str, owners: &Owners) -> kube::Result<Vec<ObjectKey>> {
        let same = format!("{}=true,{}={hash}", well_known::BACKUP, well_known::HASH);
        let pick = |it: PartialObjectMeta<Secret>| {
            let is_open =
                it.annotations().get(well_known::REVOKED).is_none_or(|text| text != "true");
            (is_open && (owners.across_namespaces || owners.are_named_in(&it)))
                .then(|| ObjectKey::of(&it))
        };
        pages::select(&self.secrets(backup::NAMESPACE), &same, MAX_REVOKED, pick).await
    }

    async fn record(&self, secret: &ObjectKey, owners: &Owners) -> kube::Result<Option<Backup>> {
        let secret = self.secrets(&secret.namespace).get_opt(&secret.name).await?;
        Ok(secret.and_then(|secret| reading(&secret, || owners.backup(&secret))))
    }

    /// The backup of the certificate that a Certificate has.
    ///
    /// If the Certificate owns it, any backup counts; without one, the Secret itself. If a backup
    /// of another certificate has the serial number, the number is forged. In a shared namespace,
    /// the backup must name the namespace of the Certificate.
    async fn backup_of_holder(
        &self,
        (holder, held): (&SecretHolder, &HeldCertificate),
        owners: &Owners,
        issuer: &IssuerKey,
    ) -> kube::Result<Option<Backup>> {
        let same = format!("{}=true,{}={}", well_known::BACKUP, well_known::SERIAL, held.serial);
        let api = self.secrets(backup::NAMESPACE);
        let is_first = |it: &PartialObjectMeta<Secret>| match held.is_own {
            true => owners.may_own(it),
            false => owners.are_named_in(it),
        };
        let pick = |it: PartialObjectMeta<Secret>| is_first(&it).then(|| ObjectKey::of(&it));
        let mut records = pages::select(&api, &same, MAX_REVOKED, pick).await?;
        if held.is_own {
            // Tenants can choose serial numbers at a CA of their own, so backups of others come
            // last.
            let others =
                pages::select(&api, &same, MAX_REVOKED, |it| Some(ObjectKey::of(&it))).await?;
            let others: Vec<_> = others.into_iter().filter(|it| !records.contains(it)).collect();
            records.extend(others);
        }
        let is_taken = !records.is_empty();
        for secret in records {
            let record = self.record(&secret, owners).await?;
            if let Some(record) = record.filter(|record| record.leaf == held.leaf) {
                return Ok(Some(record));
            }
        }
        if is_taken { Ok(None) } else { self.unrecorded(holder, issuer).await }
    }

    /// The certificate in the Secret, if the Certificate owns it.
    async fn unrecorded(
        &self,
        holder: &SecretHolder,
        issuer: &IssuerKey,
    ) -> kube::Result<Option<Backup>> {
        let Some(held) = holder.held.as_ref().filter(|held| held.is_own) else { return Ok(None) };
        let secret = self.secrets(&holder.secret.namespace).get_opt(&holder.secret.name).await?;
        let Some(secret) = secret else { return Ok(None) };
        let Some((leaf, requested_at)) = read(&secret) else { return Ok(None) };
        // The Secret may have another certificate by now.
        Ok((leaf.digest == held.leaf).then(|| Backup {
            secret: holder.secret.clone(),
            leaf: leaf.digest,
            serial: backup::label(&leaf.serial),
            text: leaf.serial_with_colons(),
            requested_at,
            not_after: leaf.not_after,
            revoked: reading(&secret, || is_revoked(&secret)),
            issuer: Some(issuer.clone()),
            is_marked: true,
            is_recorded: false,
        }))
    }

    fn owners(
        &self,
        key: &RevocationKey,
        name: &CertificateName,
        holders: &[SecretHolder],
    ) -> Owners {
        let held = holders.iter().filter_map(|holder| holder.held.as_ref());
        Owners {
            across_namespaces: self.settings.cross_namespace_secrets,
            tenants: self.cluster_identities.tenants(key.cluster, &name.namespace),
            leafs: held.filter(|held| held.is_own).map(|held| held.leaf).collect(),
        }
    }
}

/// Determines which backups belong to the revocation; see the [module](super).
struct Owners {
    across_namespaces: bool,
    tenants: Vec<String>,
    /// Certificates in their own Secrets, with the private key.
    leafs: BTreeSet<LeafDigest>,
}

impl Owners {
    /// Whether a backup names one of the tenants.
    fn are_named_in<K: ResourceExt>(&self, backup: &K) -> bool {
        let noted = backup.annotations().get(well_known::BACKUP_OF).map_or("", String::as_str);
        noted.split(',').any(|one| self.tenants.iter().any(|own| own == one.trim()))
    }

    /// Whether a backup names one of the tenants, or none, as in upstream.
    fn may_own<K: ResourceExt>(&self, backup: &K) -> bool {
        self.are_named_in(backup) || !backup.annotations().contains_key(well_known::BACKUP_OF)
    }

    /// The backup in `secret`; `None` if it is no backup or belongs to another tenant.
    fn backup(&self, secret: &Secret) -> Option<Backup> {
        secret.labels().get(well_known::BACKUP).filter(|text| *text == "true")?;
        let (leaf, requested_at) = read(secret)?;
        let names_owner = self.are_named_in(secret);
        if !names_owner && !self.across_namespaces && !self.leafs.contains(&leaf.digest) {
            return None;
        }
        let annotations = secret.annotations();
        Some(Backup {
            secret: ObjectKey::of(secret),
            leaf: leaf.digest,
            serial: backup::label(&leaf.serial),
            text: leaf.serial_with_colons(),
            requested_at,
            not_after: leaf.not_after,
            revoked: is_revoked(secret),
            is_marked: names_owner && annotations.contains_key(well_known::BACKUP_ISSUER),
            issuer: annotations
                .get(well_known::BACKUP_ISSUER)
                .map(|text| IssuerKey::from_text(text)),
            is_recorded: true,
        })
    }
}

/// The leaf certificate of a Secret, and when it was requested.
pub(super) fn read(secret: &Secret) -> Option<(Leaf, Timestamp)> {
    let leaf = bundle(secret)?.leaf;
    let requested_at = noted_request(secret).unwrap_or_else(|| assumed_request(&leaf));
    Some((leaf, requested_at))
}

/// Whether a Secret has the private key of its certificate.
pub(super) fn has_key(secret: &Secret) -> bool {
    let key = entry(secret, "tls.key");
    let fits = || Bundle::from_pem(entry(secret, "tls.crt"), Some(key)).is_ok();
    !key.is_empty() && reading(secret, fits)
}

/// The certificate of a Secret, without its key.
pub(super) fn bundle(secret: &Secret) -> Option<Bundle> {
    reading(secret, || Bundle::from_pem(entry(secret, "tls.crt"), None)).ok()
}

pub(super) fn hash(certificate: &Certificate) -> Option<&str> {
    certificate.labels().get(well_known::HASH).map(String::as_str).filter(|hash| !hash.is_empty())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::ByteString;
    use kube::api::ObjectMeta;

    use super::*;

    /// A backup with the serial number 0abc.
    fn secret(annotations: &[(&str, &str)]) -> Secret {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        params.serial_number = Some(rcgen::SerialNumber::from(vec![0x0a, 0xbc]));
        params.not_before = rcgen::date_time_ymd(2026, 11, 22);
        let pem = params.self_signed(&key).unwrap().pem();
        let text = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Secret {
            metadata: ObjectMeta {
                labels: Some([(well_known::BACKUP.to_owned(), "true".to_owned())].into()),
                annotations: Some(annotations.iter().map(text).collect()),
                ..ObjectMeta::default()
            },
            data: Some(BTreeMap::from([("tls.crt".to_owned(), ByteString(pem.into_bytes()))])),
            ..Secret::default()
        }
    }

    #[test]
    fn a_certificate_without_its_private_key_gives_no_right_to_revoke_it() {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        let chain = params.self_signed(&key).unwrap().pem();
        let other = rcgen::KeyPair::generate().unwrap().serialize_pem();
        for (text, owns) in [
            (key.serialize_pem(), true),
            (other, false),
            (String::new(), false),
            ("?".into(), false),
        ] {
            let entry = |name: &str, text: &str| (name.to_owned(), ByteString(text.into()));
            let data = [entry("tls.crt", &chain), entry("tls.key", &text)];
            let secret = Secret { data: Some(data.into()), ..Secret::default() };
            assert_eq!(has_key(&secret), owns, "{text}");
        }
    }

    fn owners(across_namespaces: bool, leafs: &[LeafDigest]) -> Owners {
        Owners {
            across_namespaces,
            tenants: vec!["now:ns".to_owned(), "before:ns".to_owned()],
            leafs: leafs.iter().copied().collect(),
        }
    }

    #[test]
    fn a_backup_belongs_to_the_named_tenants_or_the_holder_of_its_certificate() {
        let of = |text| [(well_known::BACKUP_OF, text)];
        let noted = secret(&[]);
        let one = read(&noted).unwrap().0;
        // A copy with the same serial number, names and dates.
        let copy = read(&secret(&[])).unwrap().0;
        assert_eq!((&one.serial, one.not_before), (&copy.serial, copy.not_before));
        for (annotations, across_namespaces, leafs, is_ours) in [
            (&of("now:ns")[..], false, &[][..], true),
            (&of("x:ns, before:ns"), false, &[], true),
            (&of("now:other"), false, &[], false),
            (&of("now:other"), false, &[one.digest], true),
            (&of("now:other"), false, &[copy.digest], false),
            (&of("now:other"), true, &[], true),
            (&[], false, &[one.digest], true),
            (&[], false, &[copy.digest], false),
            (&[], true, &[], true),
        ] {
            let mut noted = noted.clone();
            let text = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
            noted.metadata.annotations = Some(annotations.iter().map(text).collect());
            let found = owners(across_namespaces, leafs).backup(&noted);
            assert_eq!(found.is_some(), is_ours, "{annotations:?} {across_namespaces} {leafs:?}");
        }
        for (annotations, first) in
            [(&of("x:ns,now:ns")[..], true), (&of("now:other"), false), (&[], true)]
        {
            assert_eq!(owners(false, &[]).may_own(&secret(annotations)), first);
        }
        let mut plain = secret(&of("now:ns"));
        plain.metadata.labels = None;
        assert_eq!(owners(true, &[]).backup(&plain), None, "it is no backup");
    }

    #[test]
    fn a_backup_has_all_data_for_a_revocation() {
        let whose = (well_known::BACKUP_OF, "now:ns");
        let bare = owners(false, &[]).backup(&secret(&[whose])).unwrap();
        assert_eq!((bare.serial.as_str(), bare.text.as_str()), ("abc", "0a:bc"));
        assert_eq!(bare.requested_at, "2026-11-22T01:00:30Z".parse().unwrap());
        assert_eq!((bare.revoked, bare.is_marked), (false, false));
        let noted = [
            whose,
            (well_known::BACKUP_ISSUER, "target:ns/le"),
            (well_known::REQUESTED_AT, "2026-11-22T08:00:00Z"),
            (well_known::REVOKED, "true"),
        ];
        let noted = owners(false, &[]).backup(&secret(&noted)).unwrap();
        assert_eq!(noted.issuer, Some(IssuerKey::Target(ObjectKey::new("ns", "le"))));
        assert_eq!(noted.requested_at, "2026-11-22T08:00:00Z".parse().unwrap());
        assert_eq!((noted.revoked, noted.is_marked), (true, true));
    }
}
