//! `answer`: the responder alone.

use tokio_util::sync::CancellationToken;

use crate::{
    answer::{self, Options},
    config::AnswerArgs,
    runtime::clusters::{Clusters, Kubeconfigs},
};

pub(super) fn main(args: AnswerArgs) -> anyhow::Result<()> {
    super::log(&args.log)?;
    super::runtime()?.block_on(async {
        let paths = Kubeconfigs { default: args.kubeconfig, ..Kubeconfigs::default() };
        let clusters = Clusters::connect(&paths).await?;
        let options = Options {
            listen: args.dns,
            zones: args.zone,
            class: args.dns_class,
            namespace: Some(args.dns_namespace).filter(|namespace| !namespace.is_empty()),
            addresses: args.answer_address,
        };
        let stop = CancellationToken::new();
        let served = answer::run(options, clusters.dns.0, stop.clone());
        tokio::select! {
            ended = served => Ok(ended?),
            asked = super::asked_to_stop() => asked,
        }
    })
}
