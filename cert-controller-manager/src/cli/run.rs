//! The manager: starts, leads when it is its turn, and stops.
//!
//! All watches run from the start, so that a standby is as well informed as the leader; only the
//! leader has passes. [`parts`] puts the controllers together, [`watches`] feeds them, [`lead`] starts
//! both, and in our [`turn`] they work.

mod lead;
mod parts;
mod turn;
mod watches;

use std::{convert::Infallible, sync::Arc, time::Duration};

use cert_lib::{
    clock::{Clock, System},
    net::proxy::ProxySettings,
};

use crate::{
    config::{self, Settings},
    runtime::{
        admin::{self, Admin},
        clusters::{Clusters, Role},
        fence::Fence,
        follow::Relist,
        leader::{self, Election},
        metrics::{Limits, Metrics},
        profile,
        tasks::Tasks,
    },
};

/// The Lease is given back within this, or it runs out by itself.
const FAREWELL: Duration = Duration::from_secs(5);

/// What everything here is made from.
struct Ground {
    settings: Settings,
    clusters: Clusters,
    fence: Fence,
    metrics: Metrics,
    admin: Admin,
    relist: Relist,
    clock: Arc<dyn Clock>,
    proxies: Arc<ProxySettings>,
}

pub(super) fn main(settings: Settings) -> anyhow::Result<()> {
    super::log(&settings.log)?;
    let profile = settings.cpu_profile.as_deref().map(profile::start).transpose()?;
    let ended = super::runtime()?.block_on(run(settings));
    if let Some(profile) = profile {
        profile.finish()?;
    }
    ended
}

async fn run(settings: Settings) -> anyhow::Result<()> {
    tracing::info!("cert-controller-manager {} starts", config::version());
    if !settings.without_effect.is_empty() {
        let flags = settings.without_effect.join(", ");
        tracing::info!("these flags are accepted and have no effect: {flags}");
    }
    let proxies = Arc::new(super::proxies()?);
    let fence = if settings.lease.is_some() { Fence::closed() } else { Fence::always() };
    let clusters = Clusters::connect(&settings.clusters, &fence).await?;
    let election = match settings.lease.clone() {
        Some(lease) => {
            let (client, identity) = (clusters.lease_client(), leader::identity()?);
            Some(Arc::new(Election::new(client, lease, identity, fence.clone())))
        }
        None => None,
    };
    let limits = Limits { certificates: settings.metrics_per_certificate, ..Limits::default() };
    let metrics = Metrics::new(limits)?;
    clusters.count(&metrics);
    let admin = Admin {
        heartbeats: admin::Heartbeats::default(),
        readiness: admin::Readiness::default(),
        metrics: metrics.clone(),
    };
    let ground = Ground {
        settings,
        clusters,
        fence: fence.clone(),
        metrics,
        admin,
        relist: Relist::default(),
        clock: Arc::new(System),
        proxies,
    };
    // Whatever ends this ends all tasks with it, so that nobody writes any more below.
    let ended = tokio::select! {
        ended = manage(ground, election.clone()) => ended.map(|never| match never {}),
        asked = super::asked_to_stop() => asked,
    };
    fence.close();
    if let Some(election) = election
        && tokio::time::timeout(FAREWELL, election.release()).await.is_err()
    {
        tracing::warn!("the lease was not given back in time, it runs out by itself");
    }
    ended
}

async fn manage(ground: Ground, election: Option<Arc<Election>>) -> anyhow::Result<Infallible> {
    let (mut tasks, mut deaths) = Tasks::new();
    if let Some(address) = ground.settings.server {
        let listener = admin::listen(address).await?;
        tasks.run("administration port", ground.admin.clone().serve(listener));
    }
    tasks.try_run("look at kubeconfigs and clusters", ground.clusters.clone().run());
    tell_reachability(&ground);
    let led = lead::lead(ground, election, &mut tasks);
    // Whatever ends, ends the process: also while it waits for its turn, or for a cluster.
    tokio::select! {
        led = led => led,
        died = deaths.wait() => died,
    }
}

/// Who is away is said by a metric and by the readiness.
fn tell_reachability(ground: &Ground) {
    for role in Role::ALL {
        ground.admin.readiness.require_cluster(role, ground.clusters.reachability(role));
        ground.metrics.watch_cluster(role, ground.clusters.reachability(role));
    }
}
