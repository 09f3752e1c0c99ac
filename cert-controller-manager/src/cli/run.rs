//! The command `run`: the manager, from its start to its end.
//!
//! All watches run from the start, so that a standby has complete caches; only the leader reconciles
//! objects. [`wiring`] creates the controllers, [`watches`] fills their caches, [`startup`] starts both,
//! and [`leadership`] starts the workers.

mod concurrency;
mod context;
mod leadership;
mod startup;
mod watches;
mod wiring;

use std::{convert::Infallible, net::TcpListener, sync::Arc, time::Duration};

use cert_lib::clock::System;

use self::context::Context;
use super::process;
use crate::{
    config::{self, Settings},
    runtime::{
        admin::{self, Admin},
        clusters::Clusters,
        fence::Fence,
        lease_thread::{Candidate, LeaseThread, LeaseThreadConfig},
        metrics::{Limits, Metrics},
        profile,
        role::Role,
        tasks::Tasks,
        watch::Relist,
    },
};

/// How long a blocked thread may delay the end of the process.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) fn main(settings: Settings) -> anyhow::Result<()> {
    process::log(&settings.log)?;
    let profile = settings.cpu_profile.as_deref().map(profile::start).transpose()?;
    let runtime = process::runtime()?;
    let result = runtime.block_on(run(settings));
    runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
    if let Some(profile) = profile {
        profile.finish()?;
    }
    result
}

async fn run(settings: Settings) -> anyhow::Result<()> {
    log_start(&settings);
    let proxies = Arc::new(process::proxies());
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
    let port = listen(&settings).await?;
    let mut lease_thread = LeaseThread::start(LeaseThreadConfig {
        lease: settings.lease.clone(),
        fence: fence.clone(),
        clusters: clusters.clone(),
        admin: admin.clone(),
        metrics_authorization: settings.metrics_authorization,
        port,
    })?;
    let context = Context {
        settings,
        clusters,
        fence: fence.clone(),
        metrics,
        admin,
        relist: Relist::default(),
        clock: Arc::new(System),
        proxies,
    };
    // The end of this cancels all tasks, so that nothing is written afterwards.
    let result = tokio::select! {
        result = manage(context, lease_thread.candidate()) => result.map(|never| match never {}),
        failed = lease_thread.failed() => failed.map(|never| match never {}),
        stopped = process::termination_signal() => stopped,
    };
    fence.close();
    lease_thread.stop().await;
    result
}

fn log_start(settings: &Settings) {
    tracing::info!("cert-controller-manager {} starts", config::version());
    if !settings.without_effect.is_empty() {
        let flags = settings.without_effect.join(", ");
        tracing::info!("these flags have no effect: {flags}");
    }
}

/// Opens the administration port, if it is enabled.
async fn listen(settings: &Settings) -> anyhow::Result<Option<TcpListener>> {
    match settings.server {
        Some(address) => Ok(Some(admin::listen(address).await?.into_std()?)),
        None => Ok(None),
    }
}

async fn manage(context: Context, candidate: Option<Candidate>) -> anyhow::Result<Infallible> {
    let (mut tasks, mut failures) = Tasks::new();
    tasks.try_run("kubeconfigs and probes", context.clusters.clone().run());
    report_reachability(&context);
    let led = startup::start(context, candidate, &mut tasks);
    // The end of a task ends the process, even while it waits for the lease or a cluster.
    tokio::select! {
        led = led => led,
        failed = failures.wait() => failed,
    }
}

/// Reports the reachability of clusters in metrics and readiness.
fn report_reachability(context: &Context) {
    for role in Role::ALL {
        context.admin.readiness.require_cluster(role, context.clusters.reachability(role));
        context.metrics.watch_cluster(role, context.clusters.reachability(role));
    }
}
