//! The manager: starts, leads when it is its turn, and stops.
//!
//! All watches run from the start, so that a standby is as well informed as the leader; only the
//! leader has passes. [`parts`] puts the controllers together, [`watches`] feeds them, [`lead`] starts
//! both, and in our [`turn`] they work.

mod leadership;
mod startup;
mod watches;
mod wiring;

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
        lease_thread::{Candidate, Duties, LeaseThread},
        metrics::{Limits, Metrics},
        profile,
        tasks::Tasks,
        watch::Relist,
    },
};

/// How long a worker that is stuck may hold up the end of the process.
const PATIENCE: Duration = Duration::from_secs(5);

/// What everything here is made from.
struct Context {
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
    let runtime = super::runtime()?;
    let ended = runtime.block_on(run(settings));
    runtime.shutdown_timeout(PATIENCE);
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
    let proxies = Arc::new(super::proxies());
    let fence = if settings.lease.is_some() { Fence::closed() } else { Fence::always() };
    let clusters = Clusters::connect(&settings.clusters, &fence).await?;
    let limits = Limits { certificates: settings.metrics_per_certificate, ..Limits::default() };
    let metrics = Metrics::new(limits)?;
    clusters.count(&metrics);
    let admin = Admin {
        heartbeats: admin::HeartbeatState::default(),
        readiness: admin::Readiness::default(),
        metrics: metrics.clone(),
        authorizer: None,
    };
    let port = match settings.server {
        Some(address) => Some(admin::listen(address).await?.into_std()?),
        None => None,
    };
    let mut lease_thread = LeaseThread::start(Duties {
        lease: settings.lease.clone(),
        fence: fence.clone(),
        clusters: clusters.clone(),
        admin: admin.clone(),
        metrics_authorization: settings.metrics_authorization,
        port,
    })?;
    let ground = Context {
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
        ended = manage(ground, lease_thread.candidate()) => ended.map(|never| match never {}),
        failed = lease_thread.failed() => failed.map(|never| match never {}),
        asked = super::asked_to_stop() => asked,
    };
    fence.close();
    lease_thread.stop().await;
    ended
}

async fn manage(ground: Context, candidate: Option<Candidate>) -> anyhow::Result<Infallible> {
    let (mut tasks, mut deaths) = Tasks::new();
    tasks.try_run("look at kubeconfigs and clusters", ground.clusters.clone().run());
    report_reachability(&ground);
    let led = startup::start(ground, candidate, &mut tasks);
    // Whatever ends, ends the process: also while it waits for its turn, or for a cluster.
    tokio::select! {
        led = led => led,
        died = deaths.wait() => died,
    }
}

/// Who is away is said by a metric and by the readiness.
fn report_reachability(ground: &Context) {
    for role in Role::ALL {
        ground.admin.readiness.require_cluster(role, ground.clusters.reachability(role));
        ground.metrics.watch_cluster(role, ground.clusters.reachability(role));
    }
}
