//! What is remembered of every Secret with our label: what its metadata say. Pure.

use std::hash::{DefaultHasher, Hash, Hasher};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{Resource, ResourceExt, core::PartialObjectMeta};

use crate::api::{IssuerKey, Realm, backup, well_known};

/// See the [module](self).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SecretMetadata {
    /// Whether it calls itself a backup, wherever it is.
    pub is_backup: bool,
    /// Whether its certificate was revoked.
    pub revoked: bool,
    /// Whether it says that this manager wrote it. In a namespace of a tenant that is a claim, about a
    /// Secret that is the tenant's in any case.
    pub is_ours: bool,
    /// Where only we and operators write: the record of a certificate that was issued.
    pub backup: Option<Box<BackupMetadata>>,
}

/// A backup, without its certificate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BackupMetadata {
    /// Stands for the serial number.
    pub serial: u64,
    /// Stands for whom it was issued.
    pub tenant: u64,
    /// Whether it was issued for others, too.
    pub is_shared: bool,
    /// Whether an issuer of the target cluster issued it: the number of those is bounded besides.
    pub is_tenant_issued: bool,
    /// When the certificate ends, where that is noted.
    pub ends: Option<Timestamp>,
    /// When it was made.
    pub made: Option<Timestamp>,
}

impl SecretMetadata {
    /// What the metadata of a Secret say to the manager of `realm`.
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
        }
    }
}

impl BackupMetadata {
    /// How likely it is one of `tenants`: those that say so come first, then those that say nothing, as
    /// upstream's do, then those of several. `None` where it is of others.
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

/// Stands for a text: equal texts have equal numbers, and the others hardly ever.
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
