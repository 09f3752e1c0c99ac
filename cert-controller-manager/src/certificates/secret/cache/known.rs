//! What is known of the Secrets in the target cluster: their metadata, and summaries of those that were
//! read. Pure.

use std::collections::HashMap;

use super::super::{
    Facts,
    metadata::{SecretMetadata, hash},
};
use crate::api::ObjectKey;

/// See the [module](self).
#[derive(Default)]
pub(super) struct Known {
    pub(super) facts: HashMap<ObjectKey, Facts>,
    /// Metadata of all Secrets with our label.
    pub(super) metadata: HashMap<ObjectKey, SecretMetadata>,
    /// Whether the first list is complete.
    pub(super) is_complete: bool,
    /// Number of backups by the hash of their tenant.
    pub(super) backups: HashMap<u64, u32>,
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

impl Known {
    /// Replaces the metadata of a Secret by those of this version. Returns whether the version is new:
    /// neither was it read, nor written by this manager.
    pub(super) fn update(
        &mut self,
        key: &ObjectKey,
        metadata: Option<SecretMetadata>,
        version: Option<&str>,
    ) -> bool {
        let read = self.facts.get(key).map(|facts| hash(&facts.resource_version));
        let read = read.or_else(|| self.metadata.get(key)?.read_version);
        let is_known = version.is_some_and(|version| read == Some(hash(version)));
        let read_version = read.filter(|_| is_known);
        self.note(key, metadata.map(|metadata| SecretMetadata { read_version, ..metadata }));
        if !is_known {
            self.facts.remove(key);
            if let Some(pending_calls) = self.pending_calls.get_mut(key) {
                pending_calls.is_stale = true;
            }
        }
        !is_known
    }

    /// Forgets the summary of a Secret. Its version stays known, once the watch has reported the Secret.
    pub(super) fn evict(&mut self, key: &ObjectKey) {
        if let Some(metadata) = self.metadata.get_mut(key)
            && let Some(facts) = self.facts.remove(key)
        {
            metadata.read_version = Some(hash(&facts.resource_version));
        }
    }

    /// Replaces the metadata of a Secret and updates the numbers of backups.
    pub(super) fn note(&mut self, key: &ObjectKey, now: Option<SecretMetadata>) {
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

    pub(super) fn surplus(&self, limit: u32) -> Vec<ObjectKey> {
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

    pub(super) fn backups_with(
        &self,
        serial: &str,
        tenants: &[String],
        limit: usize,
    ) -> Vec<ObjectKey> {
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
    pub(super) fn oldest(&self, tenant: u64, is_tenant_issued: bool) -> Option<&ObjectKey> {
        let of_tenant = self.metadata.iter().filter_map(|(key, metadata)| {
            let record = metadata.backup.as_ref().filter(|_| metadata.is_ours)?;
            let is_like = record.tenant == tenant && record.is_tenant_issued == is_tenant_issued;
            is_like.then_some((record.made, key))
        });
        of_tenant.min().map(|(_, key)| key)
    }

    pub(super) fn begin(&mut self, key: &ObjectKey) {
        let pending_calls = self.pending_calls.entry(key.clone()).or_default();
        pending_calls.calls += 1;
        pending_calls.is_stale |= pending_calls.calls > 1;
    }

    /// Ends a call. Returns whether its response may be outdated.
    pub(super) fn end(&mut self, key: &ObjectKey) -> bool {
        let Some(pending_calls) = self.pending_calls.get_mut(key) else { return true };
        pending_calls.calls -= 1;
        let PendingCalls { calls, is_stale } = *pending_calls;
        if calls == 0 {
            self.pending_calls.remove(key);
        }
        is_stale
    }
}

#[cfg(test)]
mod tests;
