//! Tests of backups, versions and their eviction.

use jiff::Timestamp;

use super::*;
use crate::certificates::secret::metadata::BackupMetadata;

fn backup(tenant: u64, made: i64) -> SecretMetadata {
    let at = Timestamp::from_second(made).ok();
    let record = BackupMetadata {
        serial: 1,
        tenant,
        is_shared: false,
        is_tenant_issued: made > 6,
        ends: None,
        made: at,
    };
    SecretMetadata { is_ours: true, backup: Some(Box::new(record)), ..SecretMetadata::default() }
}

#[test]
fn backups_are_counted_per_tenant_and_the_oldest_are_surplus() {
    let key = |number: i64| ObjectKey::new("kube-system", number.to_string());
    let mut known = Known::default();
    for number in 0..5 {
        known.note(&key(number), Some(backup(1, number)));
        known.note(&key(number), Some(backup(1, number)));
    }
    known.note(&key(9), Some(backup(2, 9)));
    known.note(
        &ObjectKey::new("ns", "tls"),
        Some(SecretMetadata { is_ours: true, ..SecretMetadata::default() }),
    );
    assert_eq!((known.backups[&1], known.backups[&2]), (5, 1));
    assert_eq!(known.surplus(3), [key(0), key(1)]);
    assert_eq!(known.surplus(5), []);
    assert_eq!(known.oldest(1, false), Some(&key(0)));
    assert_eq!((known.oldest(1, true), known.oldest(2, true)), (None, Some(&key(9))));
    for number in 0..5 {
        known.note(&key(number), None);
    }
    assert_eq!(known.backups.get(&1), None);
}

#[test]
fn backups_of_other_tenants_with_the_same_serial_number_hide_none() {
    let key = |number: u32| ObjectKey::new("kube-system", number.to_string());
    let note = |known: &mut Known, number: u32, tenant: &str, is_shared: bool| {
        let record = BackupMetadata {
            serial: hash("abc"),
            tenant: hash(tenant),
            is_shared,
            is_tenant_issued: false,
            ends: None,
            made: None,
        };
        let metadata =
            SecretMetadata { backup: Some(Box::new(record)), ..SecretMetadata::default() };
        known.note(&key(number), Some(metadata));
    };
    let mut known = Known::default();
    (100..400).for_each(|number| note(&mut known, number, "s:hostile", false));
    (400..700).for_each(|number| note(&mut known, number, "s:hostile", true));
    note(&mut known, 1, "", false);
    note(&mut known, 2, "s:ns", false);
    let tenants = ["s:ns".to_owned(), "old:ns".to_owned()];
    let found = known.backups_with("abc", &tenants, 3);
    assert_eq!((&found[..2], found.len()), (&[key(2), key(1)][..], 3));
    assert_eq!(known.backups_with("abd", &tenants, 3), []);
}

#[test]
fn the_version_of_a_secret_stays_known_after_its_summary_is_forgotten() {
    let key = ObjectKey::new("ns", "tls");
    let mut known = Known::default();
    let facts = |version: &str| {
        let mut secret = k8s_openapi::api::core::v1::Secret::default();
        secret.metadata.resource_version = Some(version.to_owned());
        crate::certificates::secret::facts(&secret)
    };
    let update = |known: &mut Known, version: &str| {
        known.update(&key, Some(SecretMetadata::default()), Some(version))
    };
    known.facts.insert(key.clone(), facts("5"));
    known.evict(&key);
    assert!(known.facts.contains_key(&key), "the watch has not reported it yet");
    assert!(!update(&mut known, "5"), "this manager wrote it");
    known.evict(&key);
    assert!(known.facts.is_empty());
    assert!(!update(&mut known, "5"), "a new list");
    assert!(update(&mut known, "6"));
    assert!(update(&mut known, "6"), "it was not read yet");
    known.facts.insert(key.clone(), facts("6"));
    assert!(!update(&mut known, "6"));
    known.update(&key, None, None);
    assert!(known.facts.is_empty() && known.metadata.is_empty());
}
