//! The controller of all source kinds: reads an object and its Certificates from the caches, calls
//! [`decide`], and executes the changes.

use std::{
    collections::{BTreeSet, HashMap},
    convert::Infallible,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use kube::Client;
use tokio::time::{Instant, sleep};

use super::{
    SourceSettings,
    act::{Act, Failure},
    decide::{Decision, SourceState, decide},
    entry::Entries,
    extract::{Extracted, extract},
    feedback::Feedback,
    index::{Index, Known},
    key::{Kind, SourceKey},
    owned_certificates::{
        OwnedCertificate, OwnedCertificates, OwnedCertificatesHandler, OwnerScope,
    },
    watches::{Watch, Watches},
};
use crate::{
    api::{CertificateCluster, ClusterId},
    runtime::{
        events::EventRecorder,
        heavy::heavy,
        queue::{Queue, Shared},
        watch::Relist,
    },
};

/// How long an object must be missing before its Certificates are deleted. Normal deletions do
/// not wait for this: owner references or finalizers delete the Certificates. The delay protects
/// against kinds that disappear for a short time.
const DELETE_AFTER: Duration = Duration::from_secs(10);
/// Changes within this time cause one reconciliation.
const BATCH_DELAY: Duration = Duration::from_millis(500);
/// Maximum number of entries, routes and Certificates that are processed on the async workers, which
/// takes a few milliseconds. Larger objects use a blocking thread, which costs memory.
const MAX_INLINE: usize = 50;
const MIN_RETRY_DELAY: Duration = Duration::from_secs(2);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(300);

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
    queue: Shared<SourceKey>,
    index: Arc<Index>,
    owned: Arc<OwnedCertificates>,
    watches: Watches,
    settings: SourceSettings,
    clusters: Clusters,
    feedback: Feedback,
    retry_states: Mutex<HashMap<SourceKey, RetryState>>,
    /// The relist request of the current leader term.
    since: AtomicU64,
}

/// State of an object that is missing or failed.
#[derive(Default)]
struct RetryState {
    missing_since: Option<Instant>,
    failures: u32,
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

    /// Enqueues objects when the lists of their kinds become complete. Never returns.
    pub async fn enqueue_on_changes(&self) -> Infallible {
        let mut changes = self.watches.changes();
        let mut clusters = self.owned.completed();
        let every = Kind::all();
        self.enqueue_kinds(&every);
        loop {
            let cluster_completed = tokio::select! {
                () = changes.wait() => false,
                _ = clusters.changed() => true,
            };
            // When a cluster comes back, all kinds become complete at about the same time.
            sleep(BATCH_DELAY).await;
            let kinds = changes.take();
            let all = cluster_completed || clusters.has_changed().unwrap_or_default();
            clusters.mark_unchanged();
            self.enqueue_kinds(if all { &every } else { &kinds });
        }
    }

    /// Enqueues all objects of these kinds, and missing objects that still own Certificates.
    fn enqueue_kinds(&self, kinds: &[Kind]) {
        let mut all: BTreeSet<SourceKey> = self.owned.owners().into_iter().collect();
        all.retain(|key| kinds.contains(&key.kind));
        all.extend(kinds.iter().flat_map(|kind| self.index.of_kind(*kind)));
        all.into_iter().for_each(|key| self.queue.push(key));
    }

    fn since(&self) -> u64 {
        self.since.load(Ordering::Relaxed)
    }

    /// Reconciles one object. Returns the delay until the next attempt, if one is necessary.
    pub async fn reconcile(&self, key: SourceKey) -> Option<Duration> {
        // The object is enqueued again when the missing lists are complete.
        if !self.watches.known(key.kind, self.since())
            || !self.owned.complete(self.certificate_clusters())
        {
            return None;
        }
        let known = self.index.find(&key);
        let owned = self.owned.of(&key);
        if let Some(wait) = self.missing(&key, &known, &owned) {
            return wait;
        }
        let mut extracted = known.object.as_ref().map_or_else(Extracted::default, |object| {
            let classes = &self.settings.classes;
            let parent = known.parent.as_ref().map(|gateway| (gateway, known.labels.as_deref()));
            let extract = || extract(&key, object, parent, &known.routes, classes);
            let entries = match &object.entries {
                Entries::All(entries) => entries.len(),
                Entries::TooMany | Entries::NoRoom => 0,
            };
            if entries + known.routes.len() > MAX_INLINE { heavy(extract) } else { extract() }
        });
        let (failures, left_out) = self.sync(&key, &known, &extracted, &owned).await;
        extracted.problems.extend(left_out);
        self.report(&key, &known, &extracted, &owned, &failures);
        self.retry_delay(key, &failures)
    }

    /// For a missing object, the result with which the reconciliation ends; `None` to continue.
    fn missing(
        &self,
        key: &SourceKey,
        known: &Known,
        owned: &[OwnedCertificate],
    ) -> Option<Option<Duration>> {
        let mut retry_states = self.retry_states();
        if known.object.is_some() {
            if let Some(retry_states) = retry_states.get_mut(key) {
                retry_states.missing_since = None;
            }
            return None;
        }
        if owned.is_empty() {
            retry_states.remove(key);
            drop(retry_states);
            self.feedback.forget(key);
            return Some(None);
        }
        let now = Instant::now();
        let since = *retry_states.entry(key.clone()).or_default().missing_since.get_or_insert(now);
        let left = DELETE_AFTER.saturating_sub(now.duration_since(since));
        (!left.is_zero()).then_some(Some(left))
    }

    async fn sync(
        &self,
        key: &SourceKey,
        known: &Known,
        extracted: &Extracted,
        owned: &[OwnedCertificate],
    ) -> (Vec<Failure>, Option<String>) {
        let object = known.object.as_ref();
        let has_target = self.clusters.target.is_some();
        let settings = &self.settings;
        let state = SourceState { key, object, extracted, owned, has_target, settings };
        let act = Act { clusters: &self.clusters, state: &state, feedback: &self.feedback };
        let mut failures = Vec::new();
        let is_quick = extracted.certificates.len() + owned.len() <= MAX_INLINE;
        let Decision { changes, problem } =
            if is_quick { decide(&state) } else { heavy(|| decide(&state)) };
        for change in changes {
            if let Err(failure) = act.run(&change).await {
                tracing::info!(source = %key, "{key}: {failure}");
                failures.push(failure);
            }
        }
        (failures, problem)
    }

    fn report(
        &self,
        key: &SourceKey,
        known: &Known,
        extracted: &Extracted,
        owned: &[OwnedCertificate],
        failures: &[Failure],
    ) {
        let Some(object) = &known.object else { return };
        let refused = failures.iter().filter(|failure| failure.is_refusal).map(ToString::to_string);
        let problems: Vec<String> = extracted.problems.iter().cloned().chain(refused).collect();
        self.feedback.report_problems(key, object, &problems);
        if !extracted.certificates.is_empty() {
            self.feedback.report_states(key, object, owned);
        }
        // Even without certificates: invalid routes may be the reason.
        if extracted.responsible {
            self.feedback.report_route_problems(self.index.problems(key));
        }
    }

    fn retry_delay(&self, key: SourceKey, failures: &[Failure]) -> Option<Duration> {
        let mut retry_states = self.retry_states();
        if failures.is_empty() {
            retry_states.remove(&key);
            return None;
        }
        let retry_states = retry_states.entry(key).or_default();
        retry_states.failures = retry_states.failures.saturating_add(1);
        let factor = 1 << retry_states.failures.saturating_sub(1).min(10);
        Some((MIN_RETRY_DELAY * factor).min(MAX_RETRY_DELAY))
    }

    fn certificate_clusters(&self) -> &'static [CertificateCluster] {
        match self.clusters.target {
            Some(_) => &[CertificateCluster::Source, CertificateCluster::Target],
            None => &[CertificateCluster::Source],
        }
    }

    fn retry_states(&self) -> MutexGuard<'_, HashMap<SourceKey, RetryState>> {
        self.retry_states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
