//! The manager: puts everything together, in the order in which it depends on each other.

use std::{convert::Infallible, sync::Arc, time::Duration};

use anyhow::Context;
use cert_lib::{
    clock::{Clock, System},
    issue::acme::Timing,
    net::{Resolver, dns::Udp, http::HttpsClient},
    plan::Policy,
    solve::dns01::{Nameserver, Propagation},
};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, core::PartialObjectMeta, runtime::watcher};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    answer,
    api::{Certificate, ClusterId, Home, Issuer, ObjectKey, marks},
    certificates::{
        gate::Gate, index::Index, observe::Secrets, progress::Store,
        reconcile::Controller as Certificates,
    },
    config::{DnsSettings, RunArgs, Settings},
    issuers::{
        reconcile::{Controller as Issuers, Known},
        registry::Registry,
    },
    runtime::{
        clusters::Clusters,
        crds,
        errors::brief,
        follow::{Availability, follow},
        keys::Pool,
        queue::{Queue, drain},
        report::Reports,
        tasks::Tasks,
    },
    solvers::{
        Challenges,
        dnsentry::{self, DnsEntrySolver, Entries},
    },
    sources::{SourceSettings, kind::Kind, sync::Sources},
};

/// How many Certificates have a pass at the same time. A pass does nothing but wait for answers, and
/// the ones that wait for a CA that does not answer must leave room for the others: the gate admits
/// fewer of each issuer.
const CERTIFICATES_AT_ONCE: usize = 512;
const ISSUERS_AT_ONCE: usize = 8;
const SOURCES_AT_ONCE: usize = 16;

pub(super) fn main(args: RunArgs) -> anyhow::Result<()> {
    super::log(&args.log)?;
    let settings = args.settings()?;
    super::runtime()?.block_on(async {
        tokio::select! {
            ended = run(settings) => match ended? {},
            asked = super::asked_to_stop() => asked,
        }
    })
}

async fn run(settings: Settings) -> anyhow::Result<Infallible> {
    let clusters = Clusters::connect(&settings.kubeconfigs).await?;
    tracing::info!("cert-controller-manager {} starts", env!("CARGO_PKG_VERSION"));
    crds::deploy(&clusters, &settings).await?;
    let mut tasks = Tasks::default();

    let clock: Arc<dyn Clock> = Arc::new(System);
    let (wake_owner, mut owners) = mpsc::unbounded_channel();
    let entries = Arc::new(Entries::new(
        settings.dns.namespace.clone(),
        settings.dns.class.clone(),
        wake_owner,
    ));
    let solver = Arc::new(solver(&clusters, &settings.dns, entries.clone(), clock.clone()).await?);
    let (issuer_changed, mut changed_issuers) = mpsc::unbounded_channel();
    let issuers =
        Arc::new(issuers(&clusters, &settings, &solver, &clock, issuer_changed, &mut tasks)?);
    let certificates = Arc::new(certificates(
        &clusters,
        &settings,
        issuers.registry.clone(),
        Arc::new(Challenges::new(entries.clone(), solver)),
        clock,
        &mut tasks,
    ));

    let sources = sources(&clusters, &settings, &mut tasks);
    answer(&clusters, &settings, &mut tasks);
    {
        let (entries, client) = (entries.clone(), clusters.dns.0.clone());
        tasks.run("watch of DNSEntries", async move { entries.run(client).await });
    }
    let lists = [
        watch_issuers(&clusters, &issuers, &mut tasks),
        watch_certificates(&clusters, &certificates, &mut tasks),
        watch_secrets(&clusters, &certificates, &mut tasks),
    ];
    load_orders(&certificates).await;
    for mut list in lists {
        list.wait_for(|known| *known == Availability::Present).await?;
    }
    entries.wait_listed().await;

    // Everything is known: from here on what is not there is gone.
    {
        let certificates = certificates.clone();
        tasks.run("passes over Certificates", async move {
            let reconcile = |key| {
                let certificates = certificates.clone();
                async move { certificates.reconcile(key).await }
            };
            drain(&certificates.queue, CERTIFICATES_AT_ONCE, reconcile).await
        });
    }
    tasks.run("passes over Issuers", async move {
        let reconcile = |name| {
            let issuers = issuers.clone();
            async move { issuers.reconcile(name).await }
        };
        drain(&issuers.queue, ISSUERS_AT_ONCE, reconcile).await
    });
    tasks.run("passes over sources", async move {
        let reconcile = |key| {
            let sources = sources.clone();
            async move { sources.reconcile(key).await }
        };
        drain(&sources.queue(), SOURCES_AT_ONCE, reconcile).await
    });
    let mut availability = entries.availability();
    tasks.try_run("waking of Certificates", async move {
        loop {
            tokio::select! {
                Some(owner) = owners.recv() => {
                    ObjectKey::from_owner(&owner).into_iter().for_each(|key| certificates.queue.push(key));
                }
                Some(name) = changed_issuers.recv() => certificates.issuer_changed(&name),
                changed = availability.changed() => {
                    changed?;
                    certificates.challenges_changed();
                }
            }
        }
    });
    tasks.watch().await
}

async fn solver(
    clusters: &Clusters,
    settings: &DnsSettings,
    entries: Arc<Entries>,
    clock: Arc<dyn Clock>,
) -> anyhow::Result<DnsEntrySolver> {
    let resolver: Arc<dyn Resolver> = Arc::new(Udp::of_this_machine());
    let mut nameservers = Vec::new();
    for server in &settings.nameservers {
        match server {
            Nameserver::Address(address) => nameservers.push(*address),
            Nameserver::Host { name, port } => {
                let found = tokio::net::lookup_host((name.as_str(), *port)).await;
                nameservers
                    .extend(found.with_context(|| format!("--precheck-nameservers {name}"))?);
            }
        }
    }
    let ttl = settings.propagation_timeout.as_secs().max(1);
    Ok(DnsEntrySolver::new(
        clusters.dns.0.clone(),
        entries,
        resolver,
        Arc::new(Propagation::new(nameservers, clock.clone())),
        clock,
        dnsentry::Settings {
            namespace: settings.namespace.clone(),
            class: settings.class.clone(),
            ttl,
            additional_wait: settings.additional_wait,
        },
    ))
}

fn issuers(
    clusters: &Clusters,
    settings: &Settings,
    solver: &Arc<DnsEntrySolver>,
    clock: &Arc<dyn Clock>,
    changed: mpsc::UnboundedSender<String>,
    tasks: &mut Tasks,
) -> anyhow::Result<Issuers> {
    let queue = Arc::new(Queue::default());
    let (reports, post) = Reports::new(clusters.default.0.clone());
    tasks.run("events on Issuers", post);
    Ok(Issuers {
        cluster: clusters.default.clone(),
        namespace: settings.issuer_namespace.clone(),
        class: settings.certificates.class.clone(),
        registry: Arc::new(Registry::new(queue.clone())),
        http: Arc::new(HttpsClient::new(&settings.roots)?),
        clock: clock.clone(),
        keys: Arc::new(Pool::default()),
        solver: solver.clone(),
        timing: Timing {
            propagation_timeout: settings.dns.propagation_timeout,
            ..Timing::default()
        },
        reports,
        queue,
        changed,
        known: Known::default(),
    })
}

fn certificates(
    clusters: &Clusters,
    settings: &Settings,
    registry: Arc<Registry>,
    challenges: Arc<Challenges>,
    clock: Arc<dyn Clock>,
    tasks: &mut Tasks,
) -> Certificates {
    let (reports, post) = Reports::new(clusters.source.0.clone());
    tasks.run("events on Certificates", post);
    Certificates {
        source: clusters.source.clone(),
        index: Index::default(),
        secrets: Secrets::new(clusters.target.clone()),
        orders: Store::new(&clusters.default, &settings.issuer_namespace),
        gate: Gate::new(settings.certificates.orders_at_once),
        issuers: registry,
        challenges,
        policy: Policy { renewal_window: settings.certificates.renewal_window },
        settings: settings.certificates.clone(),
        clock,
        reports,
        queue: Arc::new(Queue::default()),
    }
}

/// Ingresses and other objects that get Certificates.
fn sources(clusters: &Clusters, settings: &Settings, tasks: &mut Tasks) -> Arc<Sources> {
    let (reports, post) = Reports::new(clusters.source.0.clone());
    tasks.run("events on sources", post);
    let id = "source/gardener.cloud".to_owned();
    let ours = SourceSettings {
        classes: vec![settings.certificates.class.clone()],
        ..SourceSettings::default()
    };
    let clusters = crate::sources::sync::Clusters {
        source: clusters.source.0.clone(),
        source_id: ClusterId { id, former: Vec::new() },
        target: None,
    };
    let client = clusters.source.clone();
    let sources = Arc::new(Sources::new(&Kind::ALL, ours, clusters, reports));
    for (kind, watch) in sources.watches() {
        tasks.run(kind, watch);
    }
    let slaves = sources.slaves_at(Home::Source);
    tasks.run("watch of sources' Certificates", async move {
        let (sender, _) = watch::channel(Availability::Unknown);
        let api: Api<Certificate> = Api::all(client);
        follow(api, watcher::Config::default(), &slaves, &sender).await
    });
    let waking = sources.clone();
    tasks.run("waking of sources", async move { waking.wake().await });
    sources
}

/// The responder in this process. Where it cannot run, the manager does not.
fn answer(clusters: &Clusters, settings: &Settings, tasks: &mut Tasks) {
    let Some(answer) = settings.answer.clone() else { return };
    let options = answer::Options {
        listen: answer.listen,
        zones: answer.zones,
        class: settings.dns.class.clone().unwrap_or_default(),
        namespace: settings.dns.namespace.clone(),
        addresses: answer.addresses,
    };
    let client = clusters.dns.0.clone();
    tasks.try_run("DNS responder", async move {
        Ok(answer::run(options, client, CancellationToken::new()).await?)
    });
}

type Listing = watch::Receiver<Availability>;

fn watch_issuers(clusters: &Clusters, issuers: &Arc<Issuers>, tasks: &mut Tasks) -> Listing {
    let (sender, listing) = watch::channel(Availability::Unknown);
    let client = clusters.default.0.clone();
    let api: Api<Issuer> = Api::namespaced(client.clone(), &issuers.namespace);
    let follower = issuers.clone();
    tasks.run("watch of Issuers", async move {
        follow(api, watcher::Config::default(), follower.as_ref(), &sender).await
    });
    let (sender, _) = watch::channel(Availability::Unknown);
    let api: Api<PartialObjectMeta<Secret>> = Api::namespaced(client, &issuers.namespace);
    let follower = issuers.clone();
    let keys = format!("!{},!{}", marks::PROGRESS, marks::CERTIFICATE);
    tasks.run("watch of Issuers' Secrets", async move {
        let config = watcher::Config::default().labels(&keys);
        follow(api, config, follower.as_ref(), &sender).await
    });
    listing
}

fn watch_certificates(
    clusters: &Clusters,
    certificates: &Arc<Certificates>,
    tasks: &mut Tasks,
) -> Listing {
    let (sender, listing) = watch::channel(Availability::Unknown);
    let api: Api<Certificate> = Api::all(clusters.source.0.clone());
    let follower = certificates.clone();
    tasks.run("watch of Certificates", async move {
        follow(api, watcher::Config::default(), follower.as_ref(), &sender).await
    });
    listing
}

fn watch_secrets(
    clusters: &Clusters,
    certificates: &Arc<Certificates>,
    tasks: &mut Tasks,
) -> Listing {
    let (sender, listing) = watch::channel(Availability::Unknown);
    let api: Api<PartialObjectMeta<Secret>> = Api::all(clusters.target.0.clone());
    let follower = certificates.clone();
    tasks.run("watch of Secrets", async move {
        let config = watcher::Config::default().labels(&format!("{}=true", marks::CERTIFICATE));
        follow(api, config, follower.as_ref(), &sender).await
    });
    listing
}

/// Takes over the orders of the process before. Without them they would be placed again, so nothing
/// starts before they are read.
async fn load_orders(certificates: &Certificates) {
    let mut wait = Duration::from_millis(200);
    loop {
        match certificates.orders.load().await {
            Ok(found) => {
                for (key, issuer) in found {
                    certificates.gate.enter(&issuer, &key);
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
