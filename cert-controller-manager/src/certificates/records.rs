//! Decides whether a certificate in a Secret was issued by its issuer.
//!
//! The record of an issuance is the backup in `kube-system` of the target cluster, where tenants
//! cannot write. It is read only if needed: for an urgent renewal that passes quota and limits, and
//! for an order that names its predecessor. That is one read per renewal, and no write.

use cert_lib::{
    model::bundle::Leaf,
    plan::{Record, SecretState},
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;

use super::{
    controller::Controller, known_record::KnownRecord, pass::Observed, record::CertificateRecord,
    secret,
};
use crate::{
    api::{CertificateKey, IssuerKey, ObjectKey, backup, well_known},
    runtime::heavy::reading,
};

/// Which backups count as a record for a tenant.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum RecordOwner {
    /// Only backups that name the tenant.
    Named,
    /// Also backups without a tenant, as upstream writes them.
    NamedOrMissing,
}

impl Controller {
    /// Finds out whether the issuer issued the certificate in the Secret.
    ///
    /// # Errors
    /// When a backup could not be read.
    pub(super) async fn find_issuance_record(
        &self,
        key: &CertificateKey,
        observed: &mut Observed,
        now: Timestamp,
    ) -> kube::Result<()> {
        let SecretState::Holds(stored) = &mut observed.have.secret else { return Ok(()) };
        if !observed.issuer.capabilities().needs_record() {
            stored.record = Record::Found;
            return Ok(());
        }
        let leaf = &stored.leaf;
        let known = |record: &mut CertificateRecord| record.issuance.as_ref()?.of(leaf.digest, now);
        stored.record = match self.records.with(key, known) {
            Some(record) => record,
            None => {
                let record = self.find_record(key, leaf, &observed.issuer.key).await?;
                let known = KnownRecord { leaf: leaf.digest, record, at: now };
                self.records.change(key, |it| it.issuance = Some(Box::new(known)));
                record
            }
        };
        Ok(())
    }

    async fn find_record(
        &self,
        key: &CertificateKey,
        leaf: &Leaf,
        issuer: &IssuerKey,
    ) -> kube::Result<Record> {
        let found = self.is_recorded(key, leaf, issuer, RecordOwner::NamedOrMissing).await?;
        Ok(if found { Record::Found } else { Record::Missing })
    }

    /// Whether a backup records that `issuer` issued this certificate for the tenant of `key`.
    ///
    /// # Errors
    /// When a backup could not be read.
    pub(super) async fn is_recorded(
        &self,
        key: &CertificateKey,
        leaf: &Leaf,
        issuer: &IssuerKey,
        owner: RecordOwner,
    ) -> kube::Result<bool> {
        let tenants = self.cluster_identities.tenants(key.cluster, &key.object.namespace);
        let serial = backup::label(&leaf.serial);
        for key in self.secrets.backups_with(&serial, &tenants, MAX_BACKUPS).await? {
            let Some(secret) = self.secrets.api(&key).get_opt(&key.name).await? else { continue };
            if records(&key, &secret, leaf, issuer, (&tenants, owner)) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Whether a backup records that `issuer` issued exactly this certificate for one of these tenants.
/// Backups of upstream have no tenant, and only their name contains the issuer.
fn records(
    key: &ObjectKey,
    secret: &Secret,
    leaf: &Leaf,
    issuer: &IssuerKey,
    (tenants, owner): (&[String], RecordOwner),
) -> bool {
    let noted = |name: &str| secret.annotations().get(name).map(String::as_str);
    let is_for = noted(well_known::BACKUP_OF).map_or(owner == RecordOwner::NamedOrMissing, |of| {
        of.split(',').any(|one| tenants.iter().any(|own| own == one.trim()))
    });
    let is_by = match (noted(well_known::BACKUP_ISSUER), issuer) {
        (Some(by), issuer) => by == issuer.to_string(),
        (None, IssuerKey::Default(name)) => key.name.starts_with(&format!("cert-backup-{name}-")),
        (None, IssuerKey::Target(_)) => false,
    };
    let is_backup = secret.labels().get(well_known::BACKUP).is_some_and(|text| text == "true");
    is_backup
        && is_for
        && is_by
        && reading(secret, || secret::leaf(secret)).is_some_and(|found| found.digest == leaf.digest)
}

/// Maximum number of backups with one serial number that are read.
const MAX_BACKUPS: usize = 10;

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;
    #[test]
    fn a_record_matches_the_whole_certificate_its_issuer_and_its_tenant() {
        let certificate = || {
            let key = rcgen::KeyPair::generate().unwrap();
            let mut params = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
            params.serial_number = Some(rcgen::SerialNumber::from(vec![0x0a, 0xbc]));
            params.self_signed(&key).unwrap().pem()
        };
        let (issued, copy) = (certificate(), certificate());
        let secret = |of: &str, by: &str| {
            let data = [("tls.crt".to_owned(), ByteString(issued.clone().into_bytes()))];
            let mut secret = Secret { data: Some(data.into()), ..Secret::default() };
            secret.labels_mut().insert(well_known::BACKUP.to_owned(), "true".to_owned());
            for (name, text) in [(well_known::BACKUP_OF, of), (well_known::BACKUP_ISSUER, by)] {
                if !text.is_empty() {
                    secret.annotations_mut().insert(name.to_owned(), text.to_owned());
                }
            }
            secret
        };
        let leaf = |pem: &str| {
            cert_lib::model::bundle::Bundle::from_pem(pem.as_bytes(), None).unwrap().leaf
        };
        let le = IssuerKey::Default("le".to_owned());
        let theirs = IssuerKey::Target(ObjectKey::new("ns", "le"));
        for (of, by, pem, issuer, found) in [
            ("s:ns", "le", &issued, &le, true),
            ("s:x, s:ns", "le", &issued, &le, true),
            ("s:ns", "le", &copy, &le, false),
            ("s:other", "le", &issued, &le, false),
            ("s:ns", "target:ns/le", &issued, &le, false),
            ("s:ns", "target:ns/le", &issued, &theirs, true),
            ("", "", &issued, &le, true),
            ("", "", &issued, &IssuerKey::Default("other".to_owned()), false),
            ("", "", &issued, &theirs, false),
        ] {
            let key = ObjectKey::new(backup::NAMESPACE, "cert-backup-le-abc-x1y2z");
            let tenants = ["s:ns".to_owned()];
            for (owner, found) in [
                (RecordOwner::NamedOrMissing, found),
                (RecordOwner::Named, found && !of.is_empty()),
            ] {
                let owner = (&tenants[..], owner);
                let is = records(&key, &secret(of, by), &leaf(pem), issuer, owner);
                assert_eq!(is, found, "{of} {by} {issuer} {owner:?}");
            }
        }
    }
}
