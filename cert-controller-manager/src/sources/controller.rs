//! The state of the controller of source objects.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use kube::Client;
use tokio::time::Instant;

use super::{
    feedback::Feedback,
    index::Index,
    key::{Kind, SourceKey},
    owned_certificates::{OwnedCertificates, OwnedCertificatesHandler, OwnerScope},
    watches::{Watch, Watches},
};
use crate::{
    api::{CertificateCluster, ClusterId},
    config::SourceSettings,
    runtime::{
        events::EventRecorder,
        queue::{Queue, Shared},
        watch::Relist,
    },
};

/// The clusters of source objects and Certificates.
#[derive(Clone)]
pub struct Clusters {
    /// The cluster of source objects and their Certificates.
    pub source: Client,
    /// The id of the source cluster in owner annotations.
    pub source_id: ClusterId,
    /// The target cluster, if it differs: it may contain Certificates of upstream.
    pub target: Option<Client>,
}

/// See the [module](self).
pub struct Sources {
    pub(super) queue: Shared<SourceKey>,
    pub(super) index: Arc<Index>,
    pub(super) owned: Arc<OwnedCertificates>,
    pub(super) watches: Watches,
    pub(super) settings: SourceSettings,
    pub(super) clusters: Clusters,
    pub(super) feedback: Feedback,
    retry_states: Mutex<HashMap<SourceKey, RetryState>>,
    /// The relist request of the current leader term.
    since: AtomicU64,
}

/// State of an object that is missing or failed.
#[derive(Default)]
pub(super) struct RetryState {
    pub(super) missing_since: Option<Instant>,
    pub(super) failures: u32,
}

impl Sources {
    /// Serves objects of `kinds`. `relist` requests new lists from the watches; `events` publishes on
    /// the source cluster.
    #[must_use]
    pub fn new(
        kinds: &[Kind],
        settings: SourceSettings,
        clusters: Clusters,
        events: EventRecorder,
        relist: &Relist,
    ) -> Self {
        let queue = Arc::new(Queue::default());
        let collected_in = settings.target_namespace.clone().filter(|_| clusters.target.is_some());
        let scope = OwnerScope { cluster: clusters.source_id.clone(), collected_in };
        Self {
            index: Arc::new(Index::new(queue.clone())),
            owned: Arc::new(OwnedCertificates::new(scope, queue.clone())),
            watches: Watches::new(kinds, relist),
            since: AtomicU64::new(0),
            settings,
            feedback: Feedback::new(events),
            retry_states: Mutex::default(),
            clusters,
            queue,
        }
    }

    /// The queue of objects, for [`drain`](crate::runtime::queue::drain).
    #[must_use]
    pub fn queue(&self) -> Shared<SourceKey> {
        self.queue.clone()
    }

    /// The event handler for the Certificates of a cluster.
    #[must_use]
    pub fn owned_certificates_handler(
        &self,
        cluster: CertificateCluster,
    ) -> OwnedCertificatesHandler {
        OwnedCertificatesHandler { owned: self.owned.clone(), cluster }
    }

    /// The watches of objects and routes; the caller runs all of them.
    #[must_use]
    pub fn watches(&self) -> Vec<Watch> {
        self.watches.run(&self.clusters.source, &self.index)
    }

    /// Readiness checks: one for each watched kind.
    pub fn checks(
        self: &Arc<Self>,
    ) -> impl Iterator<Item = (String, impl Fn() -> Result<(), String> + use<>)> {
        self.watches.checks().map(|(kind, check)| {
            let this = self.clone();
            (kind, move || check(this.since()))
        })
    }

    /// Requires lists that were made after this relist request.
    pub fn require_lists(&self, since: u64) {
        self.since.store(since, Ordering::Relaxed);
    }

    /// The relist request of the current leader term.
    pub(super) fn since(&self) -> u64 {
        self.since.load(Ordering::Relaxed)
    }

    /// The clusters with Certificates of source objects.
    pub(super) fn certificate_clusters(&self) -> &'static [CertificateCluster] {
        match self.clusters.target {
            Some(_) => &[CertificateCluster::Source, CertificateCluster::Target],
            None => &[CertificateCluster::Source],
        }
    }

    /// The objects that are missing or failed.
    pub(super) fn retry_states(&self) -> MutexGuard<'_, HashMap<SourceKey, RetryState>> {
        self.retry_states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
