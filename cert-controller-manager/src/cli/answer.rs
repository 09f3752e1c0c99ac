//! The command `answer`: the responder without the manager.

use std::convert::Infallible;

use tokio_util::sync::CancellationToken;

use super::process;
use crate::{
    answer::{self, Options},
    config::AnswerArgs,
    runtime::{
        clusters::{ClusterOptions, ClusterSettings, Clusters},
        crds,
        fence::Fence,
    },
};

pub(super) fn main(args: AnswerArgs) -> anyhow::Result<()> {
    process::log(&args.log)?;
    process::runtime()?.block_on(async {
        let default = ClusterOptions { kubeconfig: args.kubeconfig, ..ClusterOptions::default() };
        let settings = ClusterSettings { default, ..ClusterSettings::default() };
        // Responders need no leader, because all of them write the same status.
        let clusters = Clusters::connect(&settings, &Fence::always()).await?;
        let options = Options {
            listen: args.answer.listen,
            zones: args.answer.zones,
            class: args.dns_class,
            namespace: args.dns_namespace,
            addresses: args.answer.addresses,
        };
        let stop = CancellationToken::new();
        let served = answer::run(options, clusters.dns.0.clone(), stop.clone());
        let client = clusters.dns.0.clone();
        let deployed = async {
            if args.deploy_crds {
                crds::deploy_dns_entry(client).await;
            }
            std::future::pending::<Infallible>().await
        };
        tokio::select! {
            never = deployed => match never {},
            result = served => Ok(result?),
            failed = clusters.run() => failed,
            stopped = process::termination_signal() => stopped,
        }
    })
}
