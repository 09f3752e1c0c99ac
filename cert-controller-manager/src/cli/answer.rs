//! `answer`: the responder alone.

use tokio_util::sync::CancellationToken;

use crate::{
    answer::{self, Options},
    config::AnswerArgs,
    runtime::clusters::Clusters,
};

pub(super) fn main(args: AnswerArgs) -> anyhow::Result<()> {
    super::log(&args.log)?;
    super::runtime()?.block_on(async {
        let paths = super::paths([args.kubeconfig.as_ref(), None, None, None]);
        let clusters = Clusters::connect(&paths).await?;
        let options = Options {
            listen: args.answer.listen,
            zones: args.answer.zones,
            class: args.dns_class,
            namespace: args.dns_namespace,
            addresses: args.answer.addresses,
        };
        let stop = CancellationToken::new();
        let served = answer::run(options, clusters.dns.0, stop.clone());
        tokio::select! {
            ended = served => Ok(ended?),
            asked = super::asked_to_stop() => asked,
        }
    })
}
