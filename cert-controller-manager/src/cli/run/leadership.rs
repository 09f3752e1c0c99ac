//! A turn of leadership: takes it, wants to know what the leader before has written, and lets the
//! controllers work, each once it knows what its passes look at.

use std::{fmt::Debug, hash::Hash, sync::Arc, time::Duration};

use futures::future::join_all;
use tokio::{sync::Notify, time::timeout};

use super::{
    Context,
    watches::{IssuerLists, IssuingLists, ListedKind},
    wiring::Issuing,
};
use crate::{
    api::CertificateCluster,
    certificates::{reconcile::Controller as Certificates, scheduler::Priority},
    issuers::reconcile::Controller as Issuers,
    runtime::{
        crds,
        errors::brief,
        lease_thread::Candidate,
        metrics::QueueSize,
        queue::{Queue, drain},
        tasks::Tasks,
        watch::Listing,
    },
    sources::sync::Sources,
};

/// How many Certificates have a pass at the same time. A pass does nothing but wait for answers, and
/// the ones that wait for a CA that does not answer must leave room for the others: the gate admits
/// fewer of each issuer.
pub(super) const CERTIFICATES_AT_ONCE: usize = 512;
pub(super) const ISSUERS_AT_ONCE: usize = 8;
const SOURCES_AT_ONCE: usize = 16;
/// Few, as each asks the CA for all that it revokes.
pub(super) const REVOCATIONS_AT_ONCE: usize = 4;
/// How long a leader waits for definitions and for lists that it can do without.
const PATIENCE: Duration = Duration::from_secs(5);
/// A controller whose task has not been polled for so long is stuck.
const STUCK: Duration = Duration::from_secs(60);

/// Our turn to lead.
pub(super) struct LeaderTerm<'a> {
    ground: &'a Context,
    candidate: Option<Candidate>,
    /// Whether the lease is ours and kept. [`take`](Self::take) may be given up and called again.
    holds: bool,
    /// Once we lead: the number of the lists that show all that others wrote before.
    wish: Option<RelistTicket>,
}

struct RelistTicket {
    number: u64,
    issuers_run: bool,
}

/// The passes of a controller.
struct Worker<K> {
    name: &'static str,
    queue: Arc<Queue<K>>,
    at_once: usize,
    /// What is listed before the first of them.
    after: Vec<Listing>,
}

impl<'a> LeaderTerm<'a> {
    /// One that has not come yet; without an election it comes at once.
    pub(super) fn new(ground: &'a Context, candidate: Option<Candidate>) -> Self {
        Self { ground, candidate, holds: false, wish: None }
    }

    /// Waits until we lead, and asks for new lists of everything: what we know from watches may be
    /// older than what the leader before has written.
    pub(super) async fn take(&mut self, tasks: &mut Tasks) -> anyhow::Result<()> {
        if self.wish.is_some() {
            return Ok(());
        }
        if let Some(candidate) = self.candidate.clone().filter(|_| !self.holds) {
            candidate.acquire().await;
            self.holds = true;
            tasks.try_run("keeping the lease", candidate.lost());
        }
        self.ground.metrics.leads(true);
        tracing::info!("this process leads");
        self.deploy(tasks).await?;
        let number = self.ground.relist.signal();
        self.wish = Some(RelistTicket { number, issuers_run: false });
        Ok(())
    }

    /// Applies our definitions. Clusters that are away get them later.
    async fn deploy(&self, tasks: &mut Tasks) -> anyhow::Result<()> {
        let (clusters, settings) = (self.ground.clusters.clone(), &self.ground.settings);
        let (options, rules) = (settings.clusters.clone(), settings.crds.clone());
        let scope = crds::Scope {
            target_issuers: settings.issuers.allow_target_issuers,
            responder: settings.answer.is_some(),
        };
        let relist = self.ground.relist.clone();
        let mut deploying =
            Box::pin(async move { crds::deploy(&clusters, &options, &rules, scope).await });
        match timeout(PATIENCE, &mut deploying).await {
            Ok(deployed) => deployed,
            Err(_) => {
                tasks.once("definitions", async move {
                    deploying.await?;
                    relist.signal();
                    Ok(())
                });
                Ok(())
            }
        }
    }

    /// Lets the issuers' controller work, unless it does.
    pub(super) fn issuers(
        &mut self,
        issuers: &Arc<Issuers>,
        lists: &IssuerLists,
        tasks: &mut Tasks,
    ) {
        let Some(wish) = self.wish.as_mut().filter(|wish| !wish.issuers_run) else { return };
        wish.issuers_run = true;
        let passes = Worker {
            name: "issuers",
            queue: issuers.queue.clone(),
            at_once: ISSUERS_AT_ONCE,
            after: lists.default.clone(),
        };
        let controller = issuers.clone();
        self.run(passes, tasks, move |key| {
            let controller = controller.clone();
            async move { controller.reconcile(key).await }
        });
    }

    /// Lets the sources' controllers work. Passes over objects of a kind wait for the lists of that
    /// kind by themselves, so that one that cannot be listed delays no other.
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
            let waking = sources.clone();
            tasks.run("waking of sources", async move { waking.wake().await });
            let passes =
                Worker { name: "sources", queue: sources.queue(), at_once: SOURCES_AT_ONCE, after };
            let controller = sources.clone();
            self.run(passes, tasks, move |key| {
                let controller = controller.clone();
                async move { controller.reconcile(key).await }
            });
        }
    }

    /// Lets the Certificates' controller work.
    pub(super) async fn certificates(
        &self,
        issuing: &Issuing,
        lists: IssuingLists,
        issuers: &IssuerLists,
        tasks: &mut Tasks,
    ) {
        let number = self.number();
        let certificates = &issuing.certificates;
        // Without them they would be placed again, so nothing starts before they are read.
        load_orders(certificates).await;
        // Issuers that are not known yet would not be chosen.
        listed(&issuers.default, number).await;
        let IssuingLists { source, target, others } = lists;
        let surroundings = issuers.target.iter().chain(&others).cloned().collect::<Vec<_>>();
        let _ = timeout(PATIENCE, listed(&surroundings, number)).await;
        let homes =
            [(CertificateCluster::Source, Some(source)), (CertificateCluster::Target, target)];
        self.collect_garbage(certificates, homes, others, tasks);
        let passes = Worker {
            name: "certificates",
            queue: certificates.queue.clone(),
            at_once: CERTIFICATES_AT_ONCE,
            after: Vec::new(),
        };
        let controller = certificates.clone();
        self.run(passes, tasks, move |key| {
            let controller = controller.clone();
            async move { controller.reconcile(key).await }
        });
    }

    /// Tells the controller where it knows all Certificates, and lets it delete what belongs to none
    /// when it knows them everywhere.
    fn collect_garbage(
        &self,
        certificates: &Arc<Certificates>,
        homes: [(CertificateCluster, Option<ListedKind>); 2],
        others: Vec<Listing>,
        tasks: &mut Tasks,
    ) {
        let number = self.number();
        let mut complete = Vec::new();
        for (home, list) in homes {
            let Some(list) = list else {
                certificates.cluster_has_none(home);
                continue;
            };
            let (controller, done) = (certificates.clone(), Arc::new(Notify::new()));
            complete.push(done.clone());
            tasks.once("first list of Certificates", async move {
                // One that we may not see is not gone.
                list.of_all_since(number).await;
                controller.all_listed(home);
                done.notify_one();
                Ok(())
            });
        }
        let controller = certificates.clone();
        tasks.run("garbage collection", async move {
            for home in complete {
                home.notified().await;
            }
            listed(&others, number).await;
            controller.collect_garbage().await
        });
    }

    /// Lets the CertificateRevocations' controller work, once they are listed: what the leader before
    /// has finished is not begun again.
    pub(super) fn revocations(&self, issuing: &Issuing, after: Vec<Listing>, tasks: &mut Tasks) {
        let passes = Worker {
            name: "revocations",
            queue: issuing.revocations.queue.clone(),
            at_once: REVOCATIONS_AT_ONCE,
            after,
        };
        let controller = issuing.revocations.clone();
        self.run(passes, tasks, move |key| {
            let controller = controller.clone();
            async move { controller.reconcile(key).await }
        });
    }

    fn run<K, F>(
        &self,
        passes: Worker<K>,
        tasks: &mut Tasks,
        reconcile: impl Fn(K) -> F + Send + 'static,
    ) where
        K: Clone + Eq + Hash + Ord + Debug + Send + 'static,
        F: Future<Output = Option<Duration>> + Send + 'static,
    {
        let Worker { name, queue, at_once, after } = passes;
        let measured = queue.clone();
        self.ground.metrics.watch_queue(name, move || {
            let (ready, running) = measured.size();
            QueueSize { ready, running }
        });
        let (beat, number) = (self.ground.admin.heartbeats.register(name, STUCK), self.number());
        tasks.run(name, async move {
            beat.during(async {
                listed(&after, number).await;
                drain(&queue, at_once, reconcile).await
            })
            .await
        });
    }

    fn number(&self) -> u64 {
        self.wish.as_ref().map_or(0, |wish| wish.number)
    }
}

/// Waits until all lists show what was there at the wish of this number.
async fn listed(lists: &[Listing], number: u64) {
    let mut lists = lists.to_vec();
    join_all(lists.iter_mut().map(|list| list.since(number))).await;
}

/// Takes over the orders of the leader before.
async fn load_orders(certificates: &Certificates) {
    let mut wait = Duration::from_millis(200);
    loop {
        match certificates.orders.load().await {
            Ok(found) => {
                for (key, issuer) in found {
                    certificates.scheduler.enter(&issuer, &key, Priority::Normal);
                    certificates.queue.push(key);
                }
                return;
            }
            Err(error) => tracing::warn!("running orders cannot be read yet: {}", brief(&error)),
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(Duration::from_secs(5));
    }
}
