//! Cached summaries of Secrets in the target cluster, and the API calls for them.
//!
//! Each version is read once. The watch delivers metadata only and invalidates old summaries. The
//! response to a call is cached unless the watch has reported another version in the meantime.

mod known;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    ResourceExt,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
    core::PartialObjectMeta,
};
use parking_lot::{Mutex, MutexGuard};
use serde_json::Value;

use self::known::Known;
use super::{
    facts::{Facts, facts},
    keystores::{KeystoreChecks, KeystoreState},
    metadata::{SecretMetadata, hash},
    options::SecretOptions,
};
use crate::{
    api::{ObjectKey, Realm, backup, well_known},
    runtime::{
        heavy::reading,
        pages,
        store::{Store, Stores},
    },
};

/// Summaries of Secrets, each read once per version.
pub struct Secrets {
    cluster: Stores<Secret>,
    realm: Realm,
    known: Mutex<Known>,
    /// Checks of keystores.
    pub keystores: KeystoreChecks,
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
    pub fn new(cluster: Stores<Secret>, realm: Realm) -> Self {
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
    pub(in crate::certificates) async fn keystore_state(
        &self,
        key: &ObjectKey,
        facts: &Facts,
        options: &SecretOptions,
        now: Timestamp,
    ) -> KeystoreState {
        self.keystores.check(self.api(key).as_ref(), key, facts, &options.stores, now).await
    }

    /// Writes a Secret and caches the response.
    ///
    /// # Errors
    /// When it could not be written.
    pub async fn write(
        &self,
        key: &ObjectKey,
        params: &PatchParams,
        patch: &Patch<Value>,
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
        if secret.is_none() {
            self.keystores.forget(key);
        }
        let metadata = secret.map(|secret| SecretMetadata::of(secret, &self.realm));
        let version = secret.and_then(|secret| secret.metadata.resource_version.as_deref());
        self.lock().update(key, metadata, version)
    }

    /// Forgets the summary of a Secret with which there is no work for a long time. The next pass reads
    /// it again.
    pub fn evict(&self, key: &ObjectKey) {
        self.lock().evict(key);
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
        let api = self.cluster.at(backup::NAMESPACE);
        let same = format!("{}=true,{}={serial}", well_known::BACKUP, well_known::SERIAL);
        let is_of =
            |noted: &String| noted.split(',').any(|it| tenants.iter().any(|own| own == it.trim()));
        let pick = |it: PartialObjectMeta<Secret>| {
            it.annotations()
                .get(well_known::BACKUP_OF)
                .is_none_or(is_of)
                .then(|| ObjectKey::of(&it))
        };
        pages::select(api.as_ref(), &same, limit, pick).await
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
    pub fn api(&self, key: &ObjectKey) -> Arc<dyn Store<Secret>> {
        self.cluster.at(&key.namespace)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock()
    }
}

/// Summarizes a Secret. Parsing a large one must not block other tasks.
fn read_facts(secret: &Secret) -> Facts {
    reading(secret, || facts(secret))
}
