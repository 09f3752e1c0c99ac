//! The command `answer`: the responder without the manager.

use std::{convert::Infallible, sync::Arc};

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::process;
use crate::{
    answer::{self, Options, Origin, Shared},
    config::AnswerArgs,
    runtime::{
        admin::{self, Admin},
        clusters::{ClusterOptions, ClusterSettings, Clusters},
        crds,
        fence::Fence,
        metrics::{Limits, Metrics},
        role::Role,
    },
};

pub(super) fn main(args: AnswerArgs) -> anyhow::Result<()> {
    process::log(&args.log)?;
    process::runtime()?.block_on(answer(args))
}

async fn answer(args: AnswerArgs) -> anyhow::Result<()> {
    let default = ClusterOptions { kubeconfig: args.kubeconfig, ..ClusterOptions::default() };
    let settings = ClusterSettings { default, ..ClusterSettings::default() };
    // Responders need no leader, because all of them write the same status.
    let clusters = Clusters::connect(&settings, &Fence::always()).await?;
    let metrics = Metrics::new(Limits::default())?;
    clusters.count(&metrics);
    let port = match args.server {
        Some(address) => Some(admin::listen(address).await?),
        None => None,
    };
    let table = answer::table(&args.answer.zones, &[Origin::Entries]);
    let admin = admin(&clusters, &metrics, table.clone());
    let options =
        Options { server: args.answer, class: args.dns_class, namespace: args.dns_namespace };
    let client = clusters.dns.0.clone();
    let stop = CancellationToken::new();
    let served = answer::run(options, table, client.clone(), metrics, stop);
    let deployed = async {
        if args.deploy_crds {
            crds::deploy_dns_entry(client).await;
        }
        std::future::pending::<Infallible>().await
    };
    tokio::select! {
        never = deployed => match never {},
        never = serve(admin, port) => match never {},
        result = served => Ok(result?),
        failed = clusters.run() => failed,
        stopped = process::termination_signal() => stopped,
    }
}

/// The administration port. The responder is ready when it has read all entries; an unreachable cluster
/// does not change what it answers.
fn admin(clusters: &Clusters, metrics: &Metrics, table: Arc<Shared>) -> Admin {
    metrics.watch_cluster(Role::Dns, clusters.reachability(Role::Dns));
    let readiness = admin::Readiness::default();
    readiness.require("list of DNSEntries", move || {
        let complete = table.read().is_complete();
        complete.then_some(()).ok_or_else(|| "not complete yet".to_owned())
    });
    readiness.complete();
    let heartbeats = admin::HeartbeatState::default();
    Admin { heartbeats, readiness, metrics: metrics.clone(), authorizer: None }
}

async fn serve(admin: Admin, port: Option<TcpListener>) -> Infallible {
    match port {
        Some(listener) => admin.serve(listener).await,
        None => std::future::pending().await,
    }
}
