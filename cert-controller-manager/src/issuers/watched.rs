//! Maps watch events of Issuers and their Secrets to Issuers that need a reconcile pass, for the
//! default and the target cluster.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use kube::{Resource, ResourceExt, core::PartialObjectMeta};

use super::{account, controller::Controller, private_ca, selection::Candidate, solvers};
use crate::{
    api::{Issuer, IssuerKey, ObjectKey, is_served, issuer::IssuerStatus},
    runtime::watch::EventHandler,
};

/// The cluster of an Issuer and its Secrets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum IssuerCluster {
    /// The issuer namespace of the default cluster.
    Default,
    /// All namespaces of the target cluster.
    Target,
}

/// Handles the watch events of one cluster.
#[derive(Clone)]
pub struct Watched {
    /// The controller.
    pub controller: Arc<Controller>,
    /// The cluster of the watched objects.
    pub cluster: IssuerCluster,
}

impl Watched {
    fn key(&self, object: &ObjectKey) -> IssuerKey {
        match self.cluster {
            IssuerCluster::Default => IssuerKey::Default(object.name.clone()),
            IssuerCluster::Target => IssuerKey::Target(object.clone()),
        }
    }

    fn is_here(&self, key: &IssuerKey) -> bool {
        match key {
            IssuerKey::Default(_) => self.cluster == IssuerCluster::Default,
            IssuerKey::Target(_) => self.cluster == IssuerCluster::Target,
        }
    }

    fn wake_users(&self, secret: &ObjectKey) {
        let records = self.controller.records.lock();
        let uses = |issuer: &Arc<Issuer>| secrets(issuer).any(|used| used == *secret);
        let users = records
            .iter()
            .filter(|(key, record)| self.is_here(key) && record.issuer.as_ref().is_some_and(uses));
        users.for_each(|(key, _)| self.controller.queue.push(key.clone()));
    }
}

/// The Secrets that an Issuer refers to.
pub(super) fn secrets(issuer: &Issuer) -> impl Iterator<Item = ObjectKey> {
    let acme = issuer.spec.acme.as_ref();
    let account = acme.map(|spec| account::key_secret(issuer, spec));
    let binding = acme.and_then(|spec| spec.external_account_binding.as_ref());
    let binding = binding.map(|binding| account::binding::secret_of(issuer, binding));
    let ca = issuer.spec.ca.as_ref().and_then(|spec| private_ca::key_secret(issuer, spec));
    let solvers = acme.map(|spec| solvers::secrets(issuer, spec)).unwrap_or_default();
    [account, binding, ca].into_iter().flatten().chain(solvers)
}

impl EventHandler<Issuer> for Watched {
    fn applied(&self, issuer: Issuer) {
        let controller = &self.controller;
        let key = self.key(&ObjectKey::of(&issuer));
        if is_served(&issuer, &controller.classes) {
            controller.registry.add_candidate(Candidate::new(key.clone(), &issuer.spec));
        }
        let issuer = Arc::new(issuer);
        let known = controller.records.put(&key, issuer.clone());
        if known.is_none_or(|known| !is_echo(&known, &issuer)) {
            controller.queue.push(key);
        }
    }

    fn gone(&self, object: &ObjectKey) {
        let key = self.key(object);
        self.controller.records.change(&key, |record| record.issuer = None);
        self.controller.queue.push(key);
    }

    fn keys(&self) -> Vec<ObjectKey> {
        let records = self.controller.records.lock();
        let here = records.iter().filter(|(key, _)| self.is_here(key));
        let issuers = here.filter_map(|(_, record)| record.issuer.as_ref());
        issuers.map(|issuer| ObjectKey::of(issuer.as_ref())).collect()
    }
}

/// Whether the only change is our own update of quota and limits.
fn is_echo(known: &Issuer, now: &Issuer) -> bool {
    let without_limits = |issuer: &Issuer| {
        issuer.status.clone().map(|status| IssuerStatus { requests: None, limits: None, ..status })
    };
    let meta = |issuer: &Issuer| {
        let meta = issuer.meta();
        (meta.uid.clone(), meta.generation, meta.deletion_timestamp.clone())
    };
    known.resource_version() == now.resource_version()
        || (meta(known) == meta(now)
            && known.spec == now.spec
            && known.annotations() == now.annotations()
            && without_limits(known) == without_limits(now))
}

/// Only metadata of Secrets is watched: a changed Secret causes a pass.
impl EventHandler<PartialObjectMeta<Secret>> for Watched {
    fn applied(&self, secret: PartialObjectMeta<Secret>) {
        self.wake_users(&ObjectKey::of(&secret));
    }

    fn gone(&self, secret: &ObjectKey) {
        self.wake_users(secret);
    }

    /// Secrets are not stored.
    fn keys(&self) -> Vec<ObjectKey> {
        Vec::new()
    }
}
