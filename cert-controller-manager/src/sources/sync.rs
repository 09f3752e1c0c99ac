//! The one controller of all sources: looks at an object and its Certificates, has it decided what
//! to do, and does it.

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
    extract::{Extracted, extract},
    feedback::Feedback,
    index::{Index, Known},
    kind::{Kind, SourceKey},
    object::Entries,
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

/// How long an object must be missing before its Certificates are deleted. An object that is deleted
/// takes them along by its owner references or its finalizer, so nothing waits for this; and a kind
/// that is missed by mistake is there again by then.
const MISSING: Duration = Duration::from_secs(10);
/// What changes within this is looked at together.
const TOGETHER: Duration = Duration::from_millis(500);
/// So many entries, routes and Certificates take a few milliseconds. More of them leave the workers; each
/// time that anything does, the process may get a thread more, with memory of its own.
const QUICK: usize = 50;
const FIRST_RETRY: Duration = Duration::from_secs(2);
const LONGEST_RETRY: Duration = Duration::from_secs(300);

/// The clusters that objects and Certificates are in.
#[derive(Clone)]
pub struct Clusters {
    /// Where the objects are, and their Certificates.
    pub source: Client,
    /// The name of the source cluster in owner annotations.
    pub source_id: ClusterId,
    /// Where Certificates are, too; `None` where that is the source cluster.
    pub target: Option<Client>,
}

/// See the [module](self).
pub struct Sources {
    queue: Shared<SourceKey>,
    index: Arc<Index>,
    slaves: Arc<OwnedCertificates>,
    watches: Watches,
    settings: SourceSettings,
    clusters: Clusters,
    feedback: Feedback,
    trouble: Mutex<HashMap<SourceKey, SyncError>>,
    /// The wish for lists of the leader that we are.
    since: AtomicU64,
}

/// What is remembered of an object that is not as it should be.
#[derive(Default)]
struct SyncError {
    missing_since: Option<Instant>,
    failures: u32,
}

impl Sources {
    /// Serves objects of `kinds`, whose watches `relist` can ask for new lists. Events go to
    /// `reports`, which posts on the source cluster.
    #[must_use]
    pub fn new(
        kinds: &[Kind],
        settings: SourceSettings,
        clusters: Clusters,
        reports: EventRecorder,
        relist: &Relist,
    ) -> Self {
        let queue = Arc::new(Queue::default());
        let collected_in = settings.target_namespace.clone().filter(|_| clusters.target.is_some());
        let masters = OwnerScope { cluster: clusters.source_id.clone(), collected_in };
        Self {
            index: Arc::new(Index::new(queue.clone())),
            slaves: Arc::new(OwnedCertificates::new(masters, queue.clone())),
            watches: Watches::new(kinds, relist),
            since: AtomicU64::new(0),
            settings,
            feedback: Feedback::new(reports),
            trouble: Mutex::default(),
            clusters,
            queue,
        }
    }

    /// The objects to look at, for [`drain`](crate::runtime::queue::drain).
    #[must_use]
    pub fn queue(&self) -> Shared<SourceKey> {
        self.queue.clone()
    }

    /// Whom to tell of the Certificates of a cluster.
    #[must_use]
    pub fn owned_certificates_handler(&self, home: CertificateCluster) -> OwnedCertificatesHandler {
        OwnedCertificatesHandler { slaves: self.slaves.clone(), home }
    }

    /// The watches of objects and routes. Run all of them.
    #[must_use]
    pub fn watches(&self) -> Vec<Watch> {
        self.watches.run(&self.clusters.source, &self.index)
    }

    /// For probes: every kind that is followed, and what is missing of it.
    pub fn checks(
        self: &Arc<Self>,
    ) -> impl Iterator<Item = (String, impl Fn() -> Result<(), String> + use<>)> {
        self.watches.checks().map(|(kind, check)| {
            let this = self.clone();
            (kind, move || check(this.since()))
        })
    }

    /// From now on decisions rest on lists that were made after the wish of this number.
    pub fn require_lists(&self, since: u64) {
        self.since.store(since, Ordering::Relaxed);
    }

    /// Has everything looked at again when more is known than before. Never ends.
    pub async fn wake(&self) -> Infallible {
        let mut news = self.watches.changes();
        let mut homes = self.slaves.completed();
        self.enqueue_kinds(&Kind::ALL);
        loop {
            let new_home = tokio::select! {
                () = news.wait() => false,
                _ = homes.changed() => true,
            };
            // When a cluster comes back, all kinds do at about the same time: one look is enough.
            sleep(TOGETHER).await;
            let kinds = news.take();
            let all = new_home || homes.has_changed().unwrap_or_default();
            homes.mark_unchanged();
            self.enqueue_kinds(if all { &Kind::ALL } else { &kinds });
        }
    }

    /// Has all objects of these kinds looked at, and those that are gone and left Certificates.
    fn enqueue_kinds(&self, kinds: &[Kind]) {
        let mut all: BTreeSet<SourceKey> = self.slaves.owners().into_iter().collect();
        all.retain(|key| kinds.contains(&key.kind));
        all.extend(kinds.iter().flat_map(|kind| self.index.of_kind(*kind)));
        all.into_iter().for_each(|key| self.queue.push(key));
    }

    fn since(&self) -> u64 {
        self.since.load(Ordering::Relaxed)
    }

    /// One pass over an object. Returns after how long it wants another.
    pub async fn reconcile(&self, key: SourceKey) -> Option<Duration> {
        // Who is woken too early is woken again when the rest is known.
        if !self.watches.known(key.kind, self.since()) || !self.slaves.complete(self.homes()) {
            return None;
        }
        let known = self.index.find(&key);
        let slaves = self.slaves.of(&key);
        if let Some(wait) = self.missing(&key, &known, &slaves) {
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
            if entries + known.routes.len() > QUICK { heavy(extract) } else { extract() }
        });
        let (failures, left_out) = self.sync(&key, &known, &extracted, &slaves).await;
        extracted.complaints.extend(left_out);
        self.report(&key, &known, &extracted, &slaves, &failures);
        self.next_look(key, &failures)
    }

    /// What to return at once for an object that is not there; `None` where the pass goes on.
    fn missing(
        &self,
        key: &SourceKey,
        known: &Known,
        slaves: &[OwnedCertificate],
    ) -> Option<Option<Duration>> {
        let mut trouble = self.sync_error();
        if known.object.is_some() {
            if let Some(trouble) = trouble.get_mut(key) {
                trouble.missing_since = None;
            }
            return None;
        }
        if slaves.is_empty() {
            trouble.remove(key);
            drop(trouble);
            self.feedback.forget(key);
            return Some(None);
        }
        let now = Instant::now();
        let since = *trouble.entry(key.clone()).or_default().missing_since.get_or_insert(now);
        let left = MISSING.saturating_sub(now.duration_since(since));
        (!left.is_zero()).then_some(Some(left))
    }

    async fn sync(
        &self,
        key: &SourceKey,
        known: &Known,
        extracted: &Extracted,
        slaves: &[OwnedCertificate],
    ) -> (Vec<Failure>, Option<String>) {
        let object = known.object.as_ref();
        let apart = self.clusters.target.is_some();
        let settings = &self.settings;
        let situation = SourceState { key, object, extracted, slaves, apart, settings };
        let act = Act { clusters: &self.clusters, situation: &situation, feedback: &self.feedback };
        let mut failures = Vec::new();
        let is_quick = extracted.certificates.len() + slaves.len() <= QUICK;
        let Decision { changes, complaint } =
            if is_quick { decide(&situation) } else { heavy(|| decide(&situation)) };
        for change in changes {
            if let Err(failure) = act.run(&change).await {
                tracing::info!(source = %key, "{key}: {failure}");
                failures.push(failure);
            }
        }
        (failures, complaint)
    }

    fn report(
        &self,
        key: &SourceKey,
        known: &Known,
        extracted: &Extracted,
        slaves: &[OwnedCertificate],
        failures: &[Failure],
    ) {
        let Some(object) = &known.object else { return };
        let refused = failures.iter().filter(|failure| failure.is_refusal).map(ToString::to_string);
        let complaints: Vec<String> = extracted.complaints.iter().cloned().chain(refused).collect();
        self.feedback.report_problems(key, object, &complaints);
        if !extracted.certificates.is_empty() {
            self.feedback.states(key, object, slaves);
        }
        // Also where no name is left: its routes may be why.
        if extracted.responsible {
            self.feedback.routes(self.index.problems(key));
        }
    }

    fn next_look(&self, key: SourceKey, failures: &[Failure]) -> Option<Duration> {
        let mut trouble = self.sync_error();
        if failures.is_empty() {
            trouble.remove(&key);
            return None;
        }
        let trouble = trouble.entry(key).or_default();
        trouble.failures = trouble.failures.saturating_add(1);
        let factor = 1 << trouble.failures.saturating_sub(1).min(10);
        Some((FIRST_RETRY * factor).min(LONGEST_RETRY))
    }

    fn homes(&self) -> &'static [CertificateCluster] {
        match self.clusters.target {
            Some(_) => &[CertificateCluster::Source, CertificateCluster::Target],
            None => &[CertificateCluster::Source],
        }
    }

    fn sync_error(&self) -> MutexGuard<'_, HashMap<SourceKey, SyncError>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
