//! `answer`: the responder alone.

use tokio_util::sync::CancellationToken;

use crate::{
    answer::{self, Options},
    config::AnswerArgs,
    runtime::{
        clusters::{ClusterOptions, ClusterSettings, Clusters, Kubeconfig},
        fence::Fence,
    },
};

pub(super) fn main(args: AnswerArgs) -> anyhow::Result<()> {
    super::log(&args.log)?;
    super::runtime()?.block_on(async {
        let kubeconfig = args.kubeconfig.map(Kubeconfig::Path);
        let default = ClusterOptions { kubeconfig, ..ClusterOptions::default() };
        let settings = ClusterSettings { default, ..ClusterSettings::default() };
        // Several responders write the same: where they are.
        let clusters = Clusters::connect(&settings, &Fence::always()).await?;
        let options = Options {
            listen: args.dns,
            zones: args.zone,
            class: args.dns_class,
            namespace: Some(args.dns_namespace).filter(|namespace| !namespace.is_empty()),
            addresses: args.answer_address,
        };
        let stop = CancellationToken::new();
        let served = answer::run(options, clusters.dns.0.clone(), stop.clone());
        tokio::select! {
            ended = served => Ok(ended?),
            failed = clusters.run() => failed,
            asked = super::asked_to_stop() => asked,
        }
    })
}
