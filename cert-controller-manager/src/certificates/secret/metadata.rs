//! What is kept of the metadata of each Secret with our label. Pure.

use std::hash::{DefaultHasher, Hash, Hasher};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{Resource, ResourceExt, core::PartialObjectMeta};

use crate::api::{IssuerKey, Realm, backup, well_known};

/// Summary of a Secret's metadata. See the [module](self).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SecretMetadata {
    /// Whether the Secret has the backup label, in any namespace.
    pub is_backup: bool,
    /// Whether the certificate was revoked.
    pub revoked: bool,
    /// Whether the realm annotation is that of this manager. Outside `kube-system`, tenants can
    /// write it to their own Secrets.
    pub is_ours: bool,
    /// The backup, if the Secret is in `kube-system`, where tenants cannot write.
    pub backup: Option<Box<BackupMetadata>>,
    /// Hash of the version whose summary was read and is forgotten.
    pub read_version: Option<u64>,
}

/// Metadata of a backup.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BackupMetadata {
    /// Hash of the serial number.
    pub serial: u64,
    /// Hash of the first tenant.
    pub tenant: u64,
    /// Whether several tenants share the certificate.
    pub is_shared: bool,
    /// Whether an Issuer of the target cluster issued it. Their number is limited separately.
    pub is_tenant_issued: bool,
    /// notAfter of the certificate, if noted.
    pub ends: Option<Timestamp>,
    /// Creation time.
    pub made: Option<Timestamp>,
}

impl SecretMetadata {
    /// Summarizes the metadata of a Secret for the manager of `realm`.
    #[must_use]
    pub fn of(secret: &PartialObjectMeta<Secret>, realm: &Realm) -> Self {
        let is_true = |text: Option<&String>| text.is_some_and(|text| text == "true");
        let (labels, annotations) = (secret.labels(), secret.annotations());
        let is_backup = is_true(labels.get(well_known::BACKUP));
        let is_record = is_backup && secret.namespace().as_deref() == Some(backup::NAMESPACE);
        Self {
            is_backup,
            revoked: is_true(annotations.get(well_known::REVOKED)),
            is_ours: annotations.get(well_known::REALM).is_some_and(|text| realm.is(text)),
            backup: is_record.then(|| Box::new(BackupMetadata::of(secret))),
            read_version: None,
        }
    }
}

impl BackupMetadata {
    /// Sort key for backups that may belong to `tenants`: first backups that name one of them, then
    /// backups without a tenant, as upstream writes them, then backups with several tenants. `None`
    /// if the backup belongs to another tenant.
    #[must_use]
    pub fn rank(&self, tenants: &[u64]) -> Option<u8> {
        match self {
            it if tenants.contains(&it.tenant) => Some(0),
            it if it.tenant == hash("") => Some(1),
            it if it.is_shared => Some(2),
            _ => None,
        }
    }

    fn of(secret: &PartialObjectMeta<Secret>) -> Self {
        let annotations = secret.annotations();
        let tenants = annotations.get(well_known::BACKUP_OF).map_or("", String::as_str);
        let issuer = annotations.get(well_known::BACKUP_ISSUER);
        let serial = secret.labels().get(well_known::SERIAL).map_or("", String::as_str);
        Self {
            serial: hash(serial),
            tenant: hash(tenants.split(',').next().unwrap_or_default().trim()),
            is_shared: tenants.contains(','),
            is_tenant_issued: issuer
                .is_some_and(|text| IssuerKey::from_text(text).tenant().is_some()),
            ends: annotations.get(well_known::NOT_AFTER).and_then(|text| text.parse().ok()),
            made: secret.meta().creation_timestamp.as_ref().map(|time| time.0),
        }
    }
}

/// Hash of a text. Collisions are harmless: candidates are read and compared before use.
#[must_use]
pub fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::ClusterId;

    fn secret(namespace: &str, realm: &str) -> PartialObjectMeta<Secret> {
        serde_json::from_value(json!({
            "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
            "metadata": {
                "namespace": namespace, "name": "a", "creationTimestamp": "2026-11-22T10:00:00Z",
                "labels": { well_known::BACKUP: "true", well_known::SERIAL: "abc" },
                "annotations": {
                    well_known::BACKUP_OF: "s:ns, s:other", well_known::NOT_AFTER: "2027-02-20T10:00:00Z",
                    well_known::REALM: realm, well_known::BACKUP_ISSUER: "target:ns/le",
                },
            },
        }))
        .unwrap()
    }

    #[test]
    fn only_a_backup_in_kube_system_is_a_record() {
        let realm = Realm::new("c", &ClusterId { id: "s".into(), former: vec!["old".into()] });
        let metadata = SecretMetadata::of(&secret("kube-system", "c@s"), &realm);
        let record = BackupMetadata {
            serial: hash("abc"),
            tenant: hash("s:ns"),
            is_shared: true,
            is_tenant_issued: true,
            ends: "2027-02-20T10:00:00Z".parse().ok(),
            made: "2026-11-22T10:00:00Z".parse().ok(),
        };
        assert_eq!(
            (metadata.is_ours, metadata.is_backup, metadata.backup.as_deref()),
            (true, true, Some(&record))
        );
        let claimed = SecretMetadata::of(&secret("ns", "c@old"), &realm);
        assert_eq!((claimed.is_ours, claimed.is_backup, claimed.backup), (true, true, None));
        for other in ["c@t", "d@s", ""] {
            assert!(!SecretMetadata::of(&secret("ns", other), &realm).is_ours, "{other}");
        }
    }
}
