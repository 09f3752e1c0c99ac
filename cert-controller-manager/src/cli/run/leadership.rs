//! A term of leadership: acquires the lease, requests new lists, and starts the workers of the controllers
//! when their caches are complete.

use std::{fmt::Debug, hash::Hash, sync::Arc, time::Duration};

use futures::future::join_all;
use tokio::{sync::Notify, time::timeout};

use super::{
    concurrency,
    context::Context,
    watches::{IssuerLists, IssuingLists, ListedKind},
    wiring::Issuing,
};
use crate::{
    api::{CertificateCluster, CertificateKey, IssuerKey},
    certificates::reconcile::Controller as Certificates,
    issuers::controller::Controller as Issuers,
    runtime::{
        crds,
        errors::brief,
        lease_thread::Candidate,
        metrics::QueueSize,
        queue::{PoolSizes, Queue, drain},
        tasks::Tasks,
        watch::Listing,
    },
    sources::controller::Sources,
};

/// How long a leader waits for CustomResourceDefinitions and optional lists.
const OPTIONAL_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum age of the heartbeat of a controller.
const MAX_HEARTBEAT_AGE: Duration = Duration::from_secs(60);

/// A term of leadership of this process.
pub(super) struct LeaderTerm<'a> {
    context: &'a Context,
    candidate: Option<Candidate>,
    /// Whether we hold the lease. [`begin`](Self::begin) may be cancelled and called again.
    holds: bool,
    /// The relist request of this term, after it has begun.
    ticket: Option<RelistTicket>,
}

struct RelistTicket {
    number: u64,
    issuers_run: bool,
}

/// The worker pool of a controller.
struct Worker<K> {
    name: &'static str,
    queue: Arc<Queue<K>>,
    pools: PoolSizes,
    /// Lists that must be complete before it starts.
    after: Vec<Listing>,
}

impl<'a> LeaderTerm<'a> {
    /// A term that has not begun yet. Without election, it begins at once.
    pub(super) fn new(context: &'a Context, candidate: Option<Candidate>) -> Self {
        Self { context, candidate, holds: false, ticket: None }
    }

    /// Waits until this process leads, and requests new lists: caches may be older than the last writes of
    /// the previous leader.
    pub(super) async fn begin(&mut self, tasks: &mut Tasks) -> anyhow::Result<()> {
        if self.ticket.is_some() {
            return Ok(());
        }
        if let Some(candidate) = self.candidate.clone().filter(|_| !self.holds) {
            candidate.acquire().await;
            self.holds = true;
            tasks.try_run("lease", candidate.lost());
        }
        self.context.metrics.set_leader(true);
        tracing::info!("this process leads");
        self.deploy(tasks).await?;
        let number = self.context.relist.request();
        self.ticket = Some(RelistTicket { number, issuers_run: false });
        Ok(())
    }

    /// Deploys our CustomResourceDefinitions. Unreachable clusters get them later.
    async fn deploy(&self, tasks: &mut Tasks) -> anyhow::Result<()> {
        let (clusters, settings) = (self.context.clusters.clone(), &self.context.settings);
        let (options, rules) = (settings.clusters.clone(), settings.crds.clone());
        let scope = crds::Scope {
            target_issuers: settings.issuers.allow_target_issuers,
            responder: settings.answer.is_some(),
        };
        let relist = self.context.relist.clone();
        let mut deployment =
            Box::pin(async move { crds::deploy(&clusters, &options, &rules, scope).await });
        match timeout(OPTIONAL_TIMEOUT, &mut deployment).await {
            Ok(deployed) => deployed,
            Err(_) => {
                tasks.once("definitions", async move {
                    deployment.await?;
                    relist.request();
                    Ok(())
                });
                Ok(())
            }
        }
    }

    /// Starts the worker of the issuer controller, once.
    pub(super) fn issuers(
        &mut self,
        issuers: &Arc<Issuers>,
        lists: &IssuerLists,
        tasks: &mut Tasks,
    ) {
        let Some(ticket) = self.ticket.as_mut().filter(|ticket| !ticket.issuers_run) else {
            return;
        };
        ticket.issuers_run = true;
        let worker = Worker {
            name: "issuers",
            queue: issuers.queue.clone(),
            pools: concurrency::ISSUERS,
            after: lists.default.clone(),
        };
        let controller = issuers.clone();
        let tenant_of = |key: &IssuerKey| key.tenant().map(str::to_owned);
        self.run(worker, tasks, tenant_of, move |key| {
            let controller = controller.clone();
            async move { controller.reconcile(key).await }
        });
    }

    /// Starts the workers of the source controllers. They wait for the lists of each kind separately, so
    /// that a kind that cannot be listed does not delay the others.
    pub(super) fn sources(
        &self,
        sources: &[Arc<Sources>],
        lists: &IssuingLists,
        tasks: &mut Tasks,
    ) {
        let number = self.number();
        for sources in sources {
            let mut after = vec![lists.source.listing.clone()];
            after.extend(lists.target.as_ref().map(|list| list.listing.clone()));
            sources.require_lists(number);
            let watcher = sources.clone();
            tasks.run("changes of source kinds", async move { watcher.enqueue_on_changes().await });
            let pools = concurrency::SOURCES;
            let worker = Worker { name: "sources", queue: sources.queue(), pools, after };
            let controller = sources.clone();
            self.run(
                worker,
                tasks,
                |_| None,
                move |key| {
                    let controller = controller.clone();
                    async move { controller.reconcile(key).await }
                },
            );
        }
    }

    /// Starts the worker of the Certificate controller.
    pub(super) async fn certificates(
        &self,
        issuing: &Issuing,
        lists: IssuingLists,
        issuers: &IssuerLists,
        tasks: &mut Tasks,
    ) {
        let number = self.number();
        let certificates = &issuing.certificates;
        // An order that is not loaded would be placed again.
        load_orders(certificates).await;
        // An issuer that is not in the cache would not be selected.
        listed(&issuers.default, number).await;
        let IssuingLists { source, target, others } = lists;
        let related = issuers.target.iter().chain(&others).cloned().collect::<Vec<_>>();
        let _ = timeout(OPTIONAL_TIMEOUT, listed(&related, number)).await;
        let clusters =
            [(CertificateCluster::Source, Some(source)), (CertificateCluster::Target, target)];
        self.collect_garbage(certificates, clusters, others, tasks);
        let worker = Worker {
            name: "certificates",
            queue: certificates.queue.clone(),
            pools: concurrency::CERTIFICATES,
            after: Vec::new(),
        };
        let (selector, controller) = (certificates.clone(), certificates.clone());
        self.run(
            worker,
            tasks,
            move |key| selector.tenant_of(key),
            move |key| {
                let controller = controller.clone();
                async move { controller.reconcile(key).await }
            },
        );
    }

    /// Marks clusters as listed, and starts garbage collection when the Certificates of all clusters are
    /// known.
    fn collect_garbage(
        &self,
        certificates: &Arc<Certificates>,
        clusters: [(CertificateCluster, Option<ListedKind>); 2],
        others: Vec<Listing>,
        tasks: &mut Tasks,
    ) {
        let number = self.number();
        let mut complete = Vec::new();
        for (cluster, list) in clusters {
            let Some(list) = list else {
                certificates.cluster_has_none(cluster);
                continue;
            };
            let (controller, done) = (certificates.clone(), Arc::new(Notify::new()));
            complete.push(done.clone());
            tasks.once("first list of Certificates", async move {
                // Without the right to list Certificates, they are not deleted.
                list.wait_complete_since(number).await;
                controller.all_listed(cluster);
                done.notify_one();
                Ok(())
            });
        }
        let controller = certificates.clone();
        tasks.run("garbage collection", async move {
            for cluster in complete {
                cluster.notified().await;
            }
            listed(&others, number).await;
            controller.collect_garbage().await
        });
    }

    /// Starts the worker of the CertificateRevocation controller after they are listed, so that finished
    /// revocations are not repeated.
    pub(super) fn revocations(&self, issuing: &Issuing, after: Vec<Listing>, tasks: &mut Tasks) {
        let worker = Worker {
            name: "revocations",
            queue: issuing.revocations.queue.clone(),
            pools: concurrency::REVOCATIONS,
            after,
        };
        let (selector, controller) = (issuing.revocations.clone(), issuing.revocations.clone());
        self.run(
            worker,
            tasks,
            move |key| selector.index.tenant_of(key),
            move |key| {
                let controller = controller.clone();
                async move { controller.reconcile(key).await }
            },
        );
    }

    fn run<K, F>(
        &self,
        worker: Worker<K>,
        tasks: &mut Tasks,
        tenant_of: impl Fn(&K) -> Option<String> + Send + 'static,
        reconcile: impl Fn(K) -> F + Send + 'static,
    ) where
        K: Clone + Eq + Hash + Ord + Debug + Send + 'static,
        F: Future<Output = Option<Duration>> + Send + 'static,
    {
        let Worker { name, queue, pools, after } = worker;
        let measured = queue.clone();
        self.context.metrics.watch_queue(name, move || {
            let (ready, running) = measured.size();
            QueueSize { ready, running }
        });
        let (heartbeat, number) =
            (self.context.admin.heartbeats.register(name, MAX_HEARTBEAT_AGE), self.number());
        tasks.run(name, async move {
            heartbeat
                .during(async {
                    listed(&after, number).await;
                    drain(&queue, pools, tenant_of, reconcile).await
                })
                .await
        });
    }

    fn number(&self) -> u64 {
        self.ticket.as_ref().map_or(0, |ticket| ticket.number)
    }
}

/// Waits until all lists are complete since this relist request.
async fn listed(lists: &[Listing], number: u64) {
    let mut lists = lists.to_vec();
    join_all(lists.iter_mut().map(|list| list.wait_since(number))).await;
}

/// Loads the running orders of the previous leader.
async fn load_orders(certificates: &Certificates) {
    let mut wait = Duration::from_millis(200);
    loop {
        let admit =
            |issuer: &IssuerKey, key: &CertificateKey| certificates.admission.resume(issuer, key);
        match certificates.orders.load(admit).await {
            Ok(found) => {
                found.into_iter().for_each(|key| certificates.queue.push(key));
                return;
            }
            Err(error) => tracing::warn!("cannot load running orders yet: {}", brief(&error)),
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(Duration::from_secs(5));
    }
}
