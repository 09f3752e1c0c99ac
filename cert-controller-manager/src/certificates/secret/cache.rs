//! Cached summaries of Secrets in the target cluster, and the API calls for them.
//!
//! Each version is read once. The watch delivers metadata only and invalidates old summaries. The
//! response to a call is cached unless the watch has reported another version in the meantime.

use std::{
    collections::HashMap,
    fmt::Debug,
    sync::{Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
    core::PartialObjectMeta,
};
use serde::Serialize;

use super::{
    Facts, facts,
    keystores::{KeystoreChecks, KeystoreState},
    metadata::{SecretMetadata, hash},
    options::SecretOptions,
};
use crate::{
    api::{ObjectKey, Realm, backup, well_known},
    runtime::{clusters::TargetCluster, heavy::reading, pages},
};

/// Summaries of Secrets, each read once per version.
pub struct Secrets {
    cluster: TargetCluster,
    realm: Realm,
    known: Mutex<Known>,
    /// Checks of keystores.
    pub keystores: KeystoreChecks,
}

#[derive(Default)]
struct Known {
    facts: HashMap<ObjectKey, Facts>,
    /// Metadata of all Secrets with our label.
    metadata: HashMap<ObjectKey, SecretMetadata>,
    /// Whether the first list is complete.
    is_complete: bool,
    /// Number of backups by the hash of their tenant.
    backups: HashMap<u64, u32>,
    /// Secrets with API calls in progress.
    pending_calls: HashMap<ObjectKey, PendingCalls>,
}

/// API calls in progress for one Secret.
#[derive(Clone, Copy, Debug, Default)]
struct PendingCalls {
    calls: usize,
    /// Whether the response may be outdated: the watch has reported a change, or several calls are
    /// in progress and their order is unknown.
    is_stale: bool,
}

/// Numbers of Secrets with our label.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SecretCount {
    /// All Secrets.
    pub total: usize,
    /// Backups.
    pub backup: usize,
    /// Secrets with a revoked certificate.
    pub revoked: usize,
}

impl Secrets {
    /// An empty cache.
    #[must_use]
    pub fn new(cluster: TargetCluster, realm: Realm) -> Self {
        Self { cluster, realm, known: Mutex::default(), keystores: KeystoreChecks::default() }
    }

    /// The summary of a Secret; `None` if it does not exist. Reads it only if the cache has none;
    /// [`update_metadata`](Self::update_metadata) invalidates the cache.
    ///
    /// # Errors
    /// When it could not be read.
    pub async fn get(&self, key: &ObjectKey) -> kube::Result<Option<Facts>> {
        if let Some(facts) = self.lock().facts.get(key) {
            return Ok(Some(facts.clone()));
        }
        let api = self.api(key);
        self.remember(key, async { api.get_opt(&key.name).await }).await
    }

    /// The state of the keystores in a Secret.
    pub(in crate::certificates) async fn stores(
        &self,
        key: &ObjectKey,
        facts: &Facts,
        options: &SecretOptions,
        now: Timestamp,
    ) -> KeystoreState {
        self.keystores.check(&self.api(key), key, facts, &options.stores, now).await
    }

    /// Writes a Secret and caches the response.
    ///
    /// # Errors
    /// When it could not be written.
    pub async fn write<P: Serialize + Debug>(
        &self,
        key: &ObjectKey,
        params: &PatchParams,
        patch: &Patch<P>,
    ) -> kube::Result<Option<Facts>> {
        let api = self.api(key);
        let call = async { api.patch(&key.name, params, patch).await.map(Some) };
        self.remember(key, call).await
    }

    /// Caches the response of `call`, unless it may be outdated.
    async fn remember(
        &self,
        key: &ObjectKey,
        call: impl Future<Output = kube::Result<Option<Secret>>>,
    ) -> kube::Result<Option<Facts>> {
        self.lock().begin(key);
        let facts = call.await.map(|secret| secret.as_ref().map(read_facts));
        let mut known = self.lock();
        let is_stale = known.end(key);
        let facts = facts?;
        // Only Secrets with our label are watched, so only these can be cached.
        if let Some(facts) = &facts
            && !is_stale
            && facts.label(well_known::CERTIFICATE).is_some()
        {
            known.facts.insert(key.clone(), facts.clone());
        }
        Ok(facts)
    }

    /// Stores watched metadata, or removes them if the Secret was deleted. Returns whether the
    /// version is new.
    pub fn update_metadata(
        &self,
        key: &ObjectKey,
        secret: Option<&PartialObjectMeta<Secret>>,
    ) -> bool {
        let mut known = self.lock();
        if secret.is_none() {
            self.keystores.forget(key);
        }
        known.note(key, secret.map(|secret| SecretMetadata::of(secret, &self.realm)));
        let version = secret.and_then(|secret| secret.metadata.resource_version.as_deref());
        let facts = known.facts.get(key);
        let is_known = facts.is_some_and(|it| Some(it.resource_version.as_str()) == version);
        if !is_known {
            known.facts.remove(key);
            if let Some(pending_calls) = known.pending_calls.get_mut(key) {
                pending_calls.is_stale = true;
            }
        }
        !is_known
    }

    /// All Secrets that the watch has reported.
    #[must_use]
    pub fn keys(&self) -> Vec<ObjectKey> {
        self.lock().metadata.keys().cloned().collect()
    }

    /// Numbers of Secrets.
    #[must_use]
    pub fn count(&self) -> SecretCount {
        let known = self.lock();
        known.metadata.values().fold(SecretCount::default(), |count, metadata| SecretCount {
            total: count.total + 1,
            backup: count.backup + usize::from(metadata.is_backup),
            revoked: count.revoked + usize::from(metadata.revoked),
        })
    }

    /// Number of backups of a tenant.
    #[must_use]
    pub fn backups_of(&self, tenant: &str) -> u32 {
        self.lock().backups.get(&hash(tenant)).copied().unwrap_or_default()
    }

    /// Deletes the oldest backup of a tenant, among those of tenant issuers or those of other
    /// issuers. Returns false if this manager has written none.
    ///
    /// # Errors
    /// When it could not be deleted.
    pub async fn delete_oldest_backup(
        &self,
        tenant: &str,
        is_tenant_issued: bool,
    ) -> kube::Result<bool> {
        let oldest = self.lock().oldest(hash(tenant), is_tenant_issued).cloned();
        let Some(key) = oldest else { return Ok(false) };
        let api = self.api(&key);
        let Some(found) = api.get_metadata_opt(&key.name).await? else { return Ok(true) };
        let metadata = SecretMetadata::of(&found, &self.realm);
        if !metadata.is_ours || metadata.backup.is_none() {
            return Ok(false);
        }
        let same = Preconditions { uid: found.uid(), resource_version: found.resource_version() };
        let params = DeleteParams { preconditions: Some(same), ..DeleteParams::default() };
        match api.delete(&key.name, &params).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// The first list of Secrets with our label is complete.
    pub fn complete_listing(&self) {
        self.lock().is_complete = true;
    }

    /// Up to `limit` backups with this serial number that may belong to these tenants. Backups of
    /// other tenants sort last: a tenant can choose serial numbers at a CA of their own.
    ///
    /// # Errors
    /// When the cache is incomplete and the backups could not be listed.
    pub async fn backups_with(
        &self,
        serial: &str,
        tenants: &[String],
        limit: usize,
    ) -> kube::Result<Vec<ObjectKey>> {
        if self.lock().is_complete {
            return Ok(self.lock().backups_with(serial, tenants, limit));
        }
        let api: Api<Secret> = Api::namespaced(self.cluster.0.clone(), backup::NAMESPACE);
        let same = format!("{}=true,{}={serial}", well_known::BACKUP, well_known::SERIAL);
        let is_of =
            |noted: &String| noted.split(',').any(|it| tenants.iter().any(|own| own == it.trim()));
        let pick = |it: PartialObjectMeta<Secret>| {
            it.annotations()
                .get(well_known::BACKUP_OF)
                .is_none_or(is_of)
                .then(|| ObjectKey::of(&it))
        };
        pages::select(&api, &same, limit, pick).await
    }

    /// The Secrets for which `filter` holds.
    #[must_use]
    pub fn matching(&self, filter: impl Fn(&ObjectKey, &SecretMetadata) -> bool) -> Vec<ObjectKey> {
        let known = self.lock();
        known
            .metadata
            .iter()
            .filter(|(key, metadata)| filter(key, metadata))
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// The oldest backups of tenants that have more than `limit`.
    #[must_use]
    pub fn surplus(&self, limit: u32) -> Vec<ObjectKey> {
        self.lock().surplus(limit)
    }

    /// Deletes a Secret if its annotation names one of `owners` or an owner reference has `uid`.
    /// *Idempotent*.
    ///
    /// # Errors
    /// When it could not be read or deleted.
    pub async fn delete_if_owned(
        &self,
        key: &ObjectKey,
        owners: &[String],
        uid: Option<&str>,
    ) -> kube::Result<()> {
        let api = self.api(key);
        let Some(found) = api.get_metadata_opt(&key.name).await? else { return Ok(()) };
        let noted = found.annotations().get(well_known::OWNERS);
        let is_ours = |it: &str| owners.iter().any(|owner| owner == it.trim());
        let is_owned =
            uid.is_some_and(|uid| found.owner_references().iter().any(|it| it.uid == uid));
        if !is_owned && !noted.is_some_and(|noted| noted.split(',').any(is_ours)) {
            return Ok(());
        }
        let same = Preconditions { uid: found.uid(), resource_version: None };
        let params = DeleteParams { preconditions: Some(same), ..DeleteParams::default() };
        match api.delete(&key.name, &params).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The API of the Secret's namespace.
    #[must_use]
    pub fn api(&self, key: &ObjectKey) -> Api<Secret> {
        Api::namespaced(self.cluster.0.clone(), &key.namespace)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Replaces the metadata of a Secret and updates the numbers of backups.
    fn note(&mut self, key: &ObjectKey, now: Option<SecretMetadata>) {
        let tenant =
            |metadata: &SecretMetadata| metadata.backup.as_ref().map(|record| record.tenant);
        if let Some(tenant) = now.as_ref().and_then(tenant) {
            *self.backups.entry(tenant).or_default() += 1;
        }
        let before = match now {
            Some(now) => self.metadata.insert(key.clone(), now),
            None => self.metadata.remove(key),
        };
        let Some(tenant) = before.as_ref().and_then(tenant) else { return };
        if let Some(count) = self.backups.get_mut(&tenant) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.backups.remove(&tenant);
            }
        }
    }

    fn surplus(&self, limit: u32) -> Vec<ObjectKey> {
        let too_many = self.backups.iter().filter(|(_, count)| **count > limit);
        let mut surplus = Vec::new();
        for (tenant, count) in too_many {
            let of_tenant = self.metadata.iter().filter_map(|(key, metadata)| {
                let record = metadata.backup.as_ref().filter(|record| record.tenant == *tenant)?;
                metadata.is_ours.then_some((record.made, key))
            });
            let mut of_tenant: Vec<_> = of_tenant.collect();
            of_tenant.sort_unstable();
            let over = usize::try_from(count - limit).unwrap_or(usize::MAX);
            surplus.extend(of_tenant.into_iter().take(over).map(|(_, key)| key.clone()));
        }
        surplus
    }

    fn backups_with(&self, serial: &str, tenants: &[String], limit: usize) -> Vec<ObjectKey> {
        let serial = hash(serial);
        let tenants: Vec<u64> = tenants.iter().map(|tenant| hash(tenant)).collect();
        let ranked = self.metadata.iter().filter_map(|(key, metadata)| {
            let record = metadata.backup.as_ref().filter(|record| record.serial == serial)?;
            Some((record.rank(&tenants)?, key))
        });
        let mut ranked: Vec<_> = ranked.collect();
        ranked.sort_unstable();
        ranked.into_iter().take(limit).map(|(_, key)| key.clone()).collect()
    }

    /// The oldest backup that this manager has written for a tenant, among those of tenant issuers
    /// or those of other issuers.
    fn oldest(&self, tenant: u64, is_tenant_issued: bool) -> Option<&ObjectKey> {
        let of_tenant = self.metadata.iter().filter_map(|(key, metadata)| {
            let record = metadata.backup.as_ref().filter(|_| metadata.is_ours)?;
            let is_like = record.tenant == tenant && record.is_tenant_issued == is_tenant_issued;
            is_like.then_some((record.made, key))
        });
        of_tenant.min().map(|(_, key)| key)
    }

    fn begin(&mut self, key: &ObjectKey) {
        let pending_calls = self.pending_calls.entry(key.clone()).or_default();
        pending_calls.calls += 1;
        pending_calls.is_stale |= pending_calls.calls > 1;
    }

    /// Ends a call. Returns whether its response may be outdated.
    fn end(&mut self, key: &ObjectKey) -> bool {
        let Some(pending_calls) = self.pending_calls.get_mut(key) else { return true };
        pending_calls.calls -= 1;
        let PendingCalls { calls, is_stale } = *pending_calls;
        if calls == 0 {
            self.pending_calls.remove(key);
        }
        is_stale
    }
}

/// Summarizes a Secret. Parsing a large one must not block other tasks.
fn read_facts(secret: &Secret) -> Facts {
    reading(secret, || facts(secret))
}

#[cfg(test)]
mod tests {
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
        SecretMetadata {
            is_ours: true,
            backup: Some(Box::new(record)),
            ..SecretMetadata::default()
        }
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
}
