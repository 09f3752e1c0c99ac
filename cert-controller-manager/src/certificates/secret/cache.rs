//! The Secrets of the target cluster: what is known of them, and the calls that tell it.
//!
//! Each is read once per version. The watch has metadata only and says which version there is; what
//! a call says is remembered unless the watch has said something meanwhile.

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
    keystores::{Keystores, Stores},
    wishes::Wishes,
};
use crate::{
    api::{ObjectKey, marks},
    runtime::clusters::TargetCluster,
};

/// Facts of the target's Secrets, each read once per version.
pub struct Secrets {
    cluster: TargetCluster,
    known: Mutex<Known>,
    /// Their keystores.
    pub keystores: Keystores,
}

#[derive(Default)]
struct Known {
    facts: HashMap<ObjectKey, Facts>,
    /// All Secrets with our label.
    seen: HashMap<ObjectKey, Kind>,
    /// Secrets that are being read or written.
    under_way: HashMap<ObjectKey, UnderWay>,
}

/// Calls about one Secret.
#[derive(Clone, Copy, Debug, Default)]
struct UnderWay {
    calls: usize,
    /// The watch saw news meanwhile, or there were several calls: then nobody knows which answer is
    /// the oldest, and none is remembered.
    overtaken: bool,
}

/// What a Secret with our label is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Kind {
    backup: bool,
    revoked: bool,
}

/// How many Secrets there are with our label.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Count {
    /// All of them.
    pub total: usize,
    /// Copies for a revocation.
    pub backup: usize,
    /// Those whose certificate was revoked.
    pub revoked: usize,
}

impl Secrets {
    /// Nothing known yet.
    #[must_use]
    pub fn new(cluster: TargetCluster) -> Self {
        Self { cluster, known: Mutex::default(), keystores: Keystores::default() }
    }

    /// The facts of a Secret; `None` where there is no Secret. What is known is not read again:
    /// [`seen`](Self::seen) says when it has changed.
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

    /// How the keystores of a Secret are.
    pub(in crate::certificates) async fn stores(
        &self,
        key: &ObjectKey,
        facts: &Facts,
        wishes: &Wishes,
        now: Timestamp,
    ) -> Stores {
        self.keystores.look(&self.api(key), key, facts, &wishes.stores, now).await
    }

    /// Writes a Secret, and knows it afterwards.
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

    /// Takes what a call says of a Secret, unless the watch said something meanwhile.
    async fn remember(
        &self,
        key: &ObjectKey,
        call: impl Future<Output = kube::Result<Option<Secret>>>,
    ) -> kube::Result<Option<Facts>> {
        self.lock().begin(key);
        let answer = call.await;
        let mut known = self.lock();
        let overtaken = known.end(key);
        let facts = answer?.as_ref().map(facts);
        // Only what carries our label is watched, and only what is watched may be remembered.
        if let Some(facts) = &facts
            && !overtaken
            && facts.label(marks::CERTIFICATE).is_some()
        {
            known.facts.insert(key.clone(), facts.clone());
        }
        Ok(facts)
    }

    /// The watch saw a version of a Secret, or that it is gone. Returns whether it is news.
    pub fn seen(&self, key: &ObjectKey, secret: Option<&PartialObjectMeta<Secret>>) -> bool {
        let mut known = self.lock();
        match secret {
            Some(secret) => known.seen.insert(key.clone(), kind(secret)),
            None => {
                self.keystores.forget(key);
                known.seen.remove(key)
            }
        };
        let version = secret.and_then(|secret| secret.metadata.resource_version.as_deref());
        let facts = known.facts.get(key);
        let is_known = facts.is_some_and(|it| Some(it.resource_version.as_str()) == version);
        if !is_known {
            known.facts.remove(key);
            if let Some(under_way) = known.under_way.get_mut(key) {
                under_way.overtaken = true;
            }
        }
        !is_known
    }

    /// All Secrets that the watch saw.
    #[must_use]
    pub fn keys(&self) -> Vec<ObjectKey> {
        self.lock().seen.keys().cloned().collect()
    }

    /// How many Secrets there are.
    #[must_use]
    pub fn count(&self) -> Count {
        let known = self.lock();
        known.seen.values().fold(Count::default(), |count, kind| Count {
            total: count.total + 1,
            backup: count.backup + usize::from(kind.backup),
            revoked: count.revoked + usize::from(kind.revoked),
        })
    }

    /// Deletes a Secret whose annotation names one of `owners`; leaves any other. *Idempotent*.
    ///
    /// # Errors
    /// When it could not be read or deleted.
    pub async fn delete_if_owned(&self, key: &ObjectKey, owners: &[String]) -> kube::Result<()> {
        let api = self.api(key);
        let Some(found) = api.get_metadata_opt(&key.name).await? else { return Ok(()) };
        let noted = found.annotations().get(marks::OWNERS);
        let is_ours = |it: &str| owners.iter().any(|owner| owner == it.trim());
        if !noted.is_some_and(|noted| noted.split(',').any(is_ours)) {
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

    /// The API of all namespaces.
    #[must_use]
    pub fn all(&self) -> Api<Secret> {
        Api::all(self.cluster.0.clone())
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
    fn begin(&mut self, key: &ObjectKey) {
        let under_way = self.under_way.entry(key.clone()).or_default();
        under_way.calls += 1;
        under_way.overtaken |= under_way.calls > 1;
    }

    /// A call has its answer. Returns whether that may be outdated.
    fn end(&mut self, key: &ObjectKey) -> bool {
        let Some(under_way) = self.under_way.get_mut(key) else { return true };
        under_way.calls -= 1;
        let UnderWay { calls, overtaken } = *under_way;
        if calls == 0 {
            self.under_way.remove(key);
        }
        overtaken
    }
}

fn kind(secret: &PartialObjectMeta<Secret>) -> Kind {
    let is_true = |text: Option<&String>| text.is_some_and(|text| text == "true");
    Kind {
        backup: is_true(secret.labels().get(marks::BACKUP)),
        revoked: is_true(secret.annotations().get(marks::REVOKED)),
    }
}
