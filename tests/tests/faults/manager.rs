//! The manager itself behind the proxy: what a CA said must survive it.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use tests::{
    Look, eventually,
    namespace::Namespace,
    pebble::PebbleOptions,
    proxy::{Answer, Fault, Kind, Rule},
    rig::{Rig, RigOptions},
    run,
};

/// Long enough for a manager to be killed and to start again.
const RETRY_AFTER: i64 = 8;

#[test]
fn a_time_that_the_ca_named_is_kept_by_the_next_manager() {
    run(async {
        // A nonce that is refused would be one more order to count.
        let pebble = PebbleOptions { nonce_reject: 0, ..Default::default() };
        let options = RigOptions { pebble, proxy: true, ..Default::default() };
        let rig = Rig::with_issuer(options).await?;
        let proxy = rig.proxy.as_ref().context("there is no proxy")?;
        let namespace = Namespace::new(&rig, "overloaded").await?;
        proxy.forget();
        let busy = Answer::html(503, "busy").retry_after(&RETRY_AFTER.to_string());
        proxy.misbehave([Rule::on(Kind::NewOrder, Fault::Answer(busy)).once()]);
        namespace.simple("patient").await?;
        eventually(Duration::from_secs(20), "the failure is in the status", || async {
            let found = namespace.read("Certificate", "patient").await?;
            let status = &found.data["status"];
            let message = status["message"].as_str().unwrap_or_default();
            Ok(match message.contains("busy") && status["state"] == "Error" {
                true => Look::Done(()),
                false => Look::NotYet(status.to_string()),
            })
        })
        .await?;
        rig.replace_manager().await?;
        namespace.until_all_ready(1, Duration::from_secs(40)).await?;
        let orders: Vec<_> = proxy.seen_of(Kind::NewOrder).iter().map(|seen| seen.at).collect();
        let [refused, taken] = orders[..] else { anyhow::bail!("{} orders", orders.len()) };
        let waited = taken.duration_since(refused);
        ensure!(waited.as_secs() >= RETRY_AFTER, "only {waited:#}");
        ensure!(waited.as_secs() < RETRY_AFTER + 5, "{waited:#}");
        assert_eq!(rig.pebble.signed_count()?, 1);
        Ok(())
    })
    .unwrap();
}
