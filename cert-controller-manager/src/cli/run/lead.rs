//! Leading: wait for one's turn, learn what the leader before has written, and let the controllers
//! work.

use std::{convert::Infallible, sync::Arc, time::Duration};

use futures::future::join_all;
use tokio::{
    sync::{Notify, mpsc},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{
    Ground,
    parts::{self, Identity, Issuing},
    watches::{self, IssuerLists, IssuingLists},
};
use crate::{
    answer,
    api::{CertificateKey, Home, IssuerKey},
    certificates::{gate::Standing, reconcile::Controller as Certificates},
    issuers::reconcile::Controller as Issuers,
    runtime::{
        clusters::{Clusters, Role},
        crds,
        errors::brief,
        follow::Listing,
        identity::identify,
        leader::Election,
        metrics::QueueSize,
        queue::{Queue, drain},
        tasks::Tasks,
    },
    solvers::late::Late,
    sources::sync::Sources,
};

/// How many Certificates have a pass at the same time. A pass does nothing but wait for answers, and
/// the ones that wait for a CA that does not answer must leave room for the others: the gate admits
/// fewer of each issuer.
const CERTIFICATES_AT_ONCE: usize = 512;
const ISSUERS_AT_ONCE: usize = 8;
const SOURCES_AT_ONCE: usize = 16;
/// Few, as each asks the CA for all that it revokes.
const REVOCATIONS_AT_ONCE: usize = 4;
/// How long a leader waits for definitions and for lists that it can do without.
const PATIENCE: Duration = Duration::from_secs(5);
/// A controller whose task has not been polled for so long is stuck.
const STUCK: Duration = Duration::from_secs(60);

/// Puts everything together, follows everything, and leads when it is our turn.
pub(super) async fn lead(
    ground: Ground,
    election: Option<Arc<Election>>,
    tasks: &mut Tasks,
) -> anyhow::Result<Infallible> {
    let late = Arc::new(Late::new(ground.settings.dns.nameservers.clone()));
    let (changed, changed_issuers) = mpsc::unbounded_channel();
    let issuers = ground.settings.controllers.issuer;
    let issuers = match issuers.then(|| parts::issuers(&ground, late.clone(), changed, tasks)) {
        Some(issuers) => Some(Arc::new(issuers?)),
        None => None,
    };
    let issuer_lists = match &issuers {
        Some(issuers) => watches::issuers(&ground, issuers, tasks),
        None => IssuerLists::default(),
    };
    let mut turn = Turn { ground: &ground, election, holds: false, wish: None };
    // Issuers need the default cluster only; for all else it must be known which cluster is which.
    let identity = {
        let identify = identify_both(&ground);
        tokio::pin!(identify);
        tokio::select! {
            identity = &mut identify => identity,
            led = turn.take(tasks) => {
                led?;
                if let Some(issuers) = &issuers {
                    turn.issuers(issuers, &issuer_lists, tasks);
                }
                identify.await
            }
        }
    };
    check(&identity, &ground.clusters)?;
    let mut issuing = match &issuers {
        Some(issuers) => Some(parts::issuing(&ground, &identity, issuers, &late, tasks).await?),
        None => None,
    };
    let sources = parts::sources(&ground, &identity, tasks);
    let lists = follow(&ground, issuing.as_ref(), &sources, tasks);
    let source_lists = follow_sources(&ground, &sources, tasks);
    let revocation_lists = follow_revocations(&ground, issuing.as_ref(), tasks);
    ground.admin.readiness.complete();
    answer(&ground, tasks);
    if let Some(issuing) = &mut issuing {
        ground.metrics.count_with(issuing.certificates.clone());
        wake(issuing, changed_issuers, tasks);
    }

    turn.take(tasks).await?;
    if let Some(issuers) = &issuers {
        turn.issuers(issuers, &issuer_lists, tasks);
    }
    turn.sources(&sources, &lists, source_lists, tasks);
    if let Some(issuing) = &issuing {
        turn.certificates(issuing, lists, &issuer_lists, tasks).await;
        turn.revocations(issuing, revocation_lists, tasks);
    }
    // From here on everything happens in tasks.
    std::future::pending().await
}

async fn identify_both(ground: &Ground) -> Identity {
    let (clusters, settings) = (&ground.clusters, &ground.settings.clusters);
    let source = identify(clusters, settings, Role::Source).await;
    let target = if clusters.target_is_source() {
        source.clone()
    } else {
        identify(clusters, settings, Role::Target).await
    };
    Identity { source, target }
}

/// One cluster under two addresses would have two of everything.
fn check(identity: &Identity, clusters: &Clusters) -> anyhow::Result<()> {
    anyhow::ensure!(
        clusters.target_is_source() || identity.source.id != identity.target.id,
        "--source and --target are the same cluster ({}) under two addresses: give both the same \
         kubeconfig, or tell them apart by --source.id and --target.id",
        identity.source.id
    );
    Ok(())
}

fn follow(
    ground: &Ground,
    issuing: Option<&Issuing>,
    sources: &[Arc<Sources>],
    tasks: &mut Tasks,
) -> IssuingLists {
    let certificates =
        |home, tasks: &mut Tasks| watches::certificates(ground, issuing, sources, home, tasks);
    IssuingLists {
        source: certificates(Home::Source, tasks),
        target: (!ground.clusters.target_is_source()).then(|| certificates(Home::Target, tasks)),
        others: issuing.map_or_else(Vec::new, |it| watches::surroundings(ground, it, tasks)),
    }
}

fn follow_revocations(
    ground: &Ground,
    issuing: Option<&Issuing>,
    tasks: &mut Tasks,
) -> Vec<Listing> {
    let Some(issuing) = issuing else { return Vec::new() };
    let target = (!ground.clusters.target_is_source()).then_some(Home::Target);
    let homes = [Home::Source].into_iter().chain(target);
    homes.map(|home| watches::revocations(ground, issuing, home, tasks)).collect()
}

fn follow_sources(
    ground: &Ground,
    sources: &[Arc<Sources>],
    tasks: &mut Tasks,
) -> Vec<Vec<Listing>> {
    let all = sources.iter().map(|sources| {
        let start = |watch: crate::sources::watches::Watch| {
            tasks.run(watch.kind, watch.run);
            watch.listing
        };
        sources.watches(&ground.relist).into_iter().filter_map(start).collect()
    });
    all.collect()
}

/// The responder in this process. Where it cannot run, the manager does not.
fn answer(ground: &Ground, tasks: &mut Tasks) {
    let Some(answer) = ground.settings.answer.clone() else { return };
    let options = answer::Options {
        listen: answer.listen,
        zones: answer.zones,
        class: ground.settings.dns.class.clone().unwrap_or_default(),
        namespace: ground.settings.dns.namespace.clone(),
        addresses: answer.addresses,
    };
    let client = ground.clusters.dns.0.clone();
    tasks.try_run("DNS responder", async move {
        Ok(answer::run(options, client, CancellationToken::new()).await?)
    });
}

/// Brings together what controllers tell each other.
fn wake(
    issuing: &mut Issuing,
    mut changed_issuers: mpsc::UnboundedReceiver<IssuerKey>,
    tasks: &mut Tasks,
) {
    let (_, none) = mpsc::unbounded_channel();
    let mut owners = std::mem::replace(&mut issuing.owners, none);
    let mut availability = issuing.entries.availability();
    let certificates = issuing.certificates.clone();
    let revocations = issuing.revocations.clone();
    tasks.try_run("waking of Certificates", async move {
        loop {
            tokio::select! {
                Some(owner) = owners.recv() => {
                    let key = CertificateKey::from_owner(&owner);
                    key.into_iter().for_each(|key| certificates.queue.push(key));
                }
                Some(key) = changed_issuers.recv() => {
                    certificates.issuer_changed(&key);
                    revocations.issuer_changed();
                }
                changed = availability.changed() => {
                    changed?;
                    certificates.challenges_changed();
                }
            }
        }
    });
}

/// Our turn to lead.
struct Turn<'a> {
    ground: &'a Ground,
    election: Option<Arc<Election>>,
    /// Whether the lease is ours and kept. [`take`](Self::take) may be given up and called again.
    holds: bool,
    /// Once we lead: the number of the lists that show all that others wrote before.
    wish: Option<Wish>,
}

struct Wish {
    number: u64,
    issuers_run: bool,
}

impl Turn<'_> {
    /// Waits until we lead, and asks for new lists of everything: what we know from watches may be
    /// older than what the leader before has written.
    async fn take(&mut self, tasks: &mut Tasks) -> anyhow::Result<()> {
        if self.wish.is_some() {
            return Ok(());
        }
        if let Some(election) = self.election.clone().filter(|_| !self.holds) {
            election.acquire().await;
            self.holds = true;
            tasks.try_run("keeping the lease", async move {
                let lost = election.keep().await;
                anyhow::bail!("{lost}; whoever restarts this process gives it another turn")
            });
        }
        self.ground.metrics.leads(true);
        tracing::info!("this process leads");
        self.deploy(tasks).await?;
        let number = self.ground.relist.signal();
        self.wish = Some(Wish { number, issuers_run: false });
        Ok(())
    }

    /// Applies our definitions. Clusters that are away get them later.
    async fn deploy(&self, tasks: &mut Tasks) -> anyhow::Result<()> {
        let (clusters, settings) = (self.ground.clusters.clone(), &self.ground.settings);
        let (options, rules) = (settings.clusters.clone(), settings.crds.clone());
        let target_issuers = settings.issuers.allow_target_issuers;
        let relist = self.ground.relist.clone();
        let mut deploying =
            Box::pin(
                async move { crds::deploy(&clusters, &options, &rules, target_issuers).await },
            );
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

    fn number(&self) -> u64 {
        self.wish.as_ref().map_or(0, |wish| wish.number)
    }

    /// Lets the issuers' controller work.
    fn issuers(&mut self, issuers: &Arc<Issuers>, lists: &IssuerLists, tasks: &mut Tasks) {
        let number = self.number();
        let Some(wish) = self.wish.as_mut().filter(|wish| !wish.issuers_run) else { return };
        wish.issuers_run = true;
        let controller = issuers.clone();
        let reconcile = move |key| {
            let controller = controller.clone();
            async move { controller.reconcile(key).await }
        };
        let beat = self.ground.admin.heartbeats.register("issuers", STUCK);
        self.measure("issuers", &issuers.queue);
        let (queue, own) = (issuers.queue.clone(), lists.default.clone());
        tasks.run("issuers", async move {
            beat.during(async {
                listed(&own, number).await;
                drain(&queue, ISSUERS_AT_ONCE, reconcile).await
            })
            .await
        });
    }

    /// Lets the sources' controllers work, once everything that they look at is listed.
    fn sources(
        &self,
        sources: &[Arc<Sources>],
        lists: &IssuingLists,
        source_lists: Vec<Vec<Listing>>,
        tasks: &mut Tasks,
    ) {
        let number = self.number();
        for (sources, mut own) in sources.iter().zip(source_lists) {
            own.push(lists.source.listing.clone());
            own.extend(lists.target.as_ref().map(|list| list.listing.clone()));
            let controller = sources.clone();
            let reconcile = move |key| {
                let controller = controller.clone();
                async move { controller.reconcile(key).await }
            };
            let queue = sources.queue();
            let beat = self.ground.admin.heartbeats.register("sources", STUCK);
            self.measure("sources", &queue);
            let waking = sources.clone();
            tasks.run("waking of sources", async move { waking.wake().await });
            tasks.run("passes over sources", async move {
                beat.during(async {
                    listed(&own, number).await;
                    drain(&queue, SOURCES_AT_ONCE, reconcile).await
                })
                .await
            });
        }
    }

    /// Lets the Certificates' controller work.
    async fn certificates(
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
        let target = issuers.target.iter().chain(&lists.others).cloned().collect::<Vec<_>>();
        let _ = timeout(PATIENCE, listed(&target, number)).await;
        let mut complete = Vec::new();
        for (home, list) in [(Home::Source, Some(lists.source)), (Home::Target, lists.target)] {
            let Some(list) = list else { continue };
            let (controller, done) = (certificates.clone(), Arc::new(Notify::new()));
            complete.push(done.clone());
            tasks.once("first list of Certificates", async move {
                // One that we may not see is not gone.
                list.of_all_since(number).await;
                controller.all_are_known(home);
                done.notify_one();
                Ok(())
            });
        }
        let (controller, others) = (certificates.clone(), lists.others);
        tasks.run("garbage collection", async move {
            for home in complete {
                home.notified().await;
            }
            listed(&others, number).await;
            controller.collect_garbage().await
        });
        let controller = certificates.clone();
        self.run("certificates", &certificates.queue, CERTIFICATES_AT_ONCE, tasks, move |key| {
            let controller = controller.clone();
            async move { controller.reconcile(key).await }
        });
    }

    /// Lets the CertificateRevocations' controller work, once they are listed: what the leader before
    /// has finished is not begun again.
    fn revocations(&self, issuing: &Issuing, lists: Vec<Listing>, tasks: &mut Tasks) {
        let number = self.number();
        let revocations = &issuing.revocations;
        let beat = self.ground.admin.heartbeats.register("revocations", STUCK);
        self.measure("revocations", &revocations.queue);
        let (controller, queue) = (revocations.clone(), revocations.queue.clone());
        tasks.run("revocations", async move {
            beat.during(async {
                listed(&lists, number).await;
                let reconcile = move |key| {
                    let controller = controller.clone();
                    async move { controller.reconcile(key).await }
                };
                drain(&queue, REVOCATIONS_AT_ONCE, reconcile).await
            })
            .await
        });
    }

    fn run<K, F>(
        &self,
        name: &'static str,
        queue: &Arc<Queue<K>>,
        at_once: usize,
        tasks: &mut Tasks,
        reconcile: impl Fn(K) -> F + Send + 'static,
    ) where
        K: Clone + Eq + std::hash::Hash + Ord + std::fmt::Debug + Send + 'static,
        F: Future<Output = Option<Duration>> + Send + 'static,
    {
        let beat = self.ground.admin.heartbeats.register(name, STUCK);
        self.measure(name, queue);
        let queue = queue.clone();
        tasks.run(name, async move { beat.during(drain(&queue, at_once, reconcile)).await });
    }

    fn measure<K>(&self, name: &'static str, queue: &Arc<Queue<K>>)
    where
        K: Clone + Eq + std::hash::Hash + Ord + Send + 'static,
    {
        let queue = queue.clone();
        self.ground.metrics.watch_queue(name, move || {
            let (ready, running) = queue.size();
            QueueSize { ready, running }
        });
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
                    certificates.gate.enter(&issuer, &key, Standing::Hopeful);
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
