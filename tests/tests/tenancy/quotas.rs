//! The quota of an issuer is shared fairly: a tenant cannot use up the share of another, a restart
//! does not refill it, and the status shows until when a Certificate waits.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use cert_controller_manager::access::Cluster;
use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tests::{
    Look, eventually,
    fleet::{Fleet, options::FleetOptions},
    namespace::Namespace,
    objects::{self, acme_issuer, api, state},
    pebble::Signed,
    run,
};

use super::*;

/// One request in two seconds.
const PER_DAY: i64 = 43_200;
const CERTIFICATES: usize = 30;

/// The number of Certificates of a tenant that are Ready or have an order, and the state of the
/// others. Slow orders count, because they have used the quota.
async fn served(fleet: &Fleet, tenant: &Namespace) -> Result<(usize, Vec<String>)> {
    let all = objects::list(&fleet.client(Cluster::Source), "Certificate", &tenant.name).await?;
    let (served, others): (Vec<_>, Vec<_>) =
        all.iter().map(state).partition(|(state, _)| state == "Ready" || state == "Pending");
    Ok((served.len(), others.into_iter().map(|(state, why)| format!("{state}: {why}")).collect()))
}

/// The number of requests that the quota has regained since then.
fn came_back(since: Instant) -> usize {
    usize::try_from(since.elapsed().as_secs() / 2).unwrap_or(usize::MAX)
}

#[test]
fn a_tenant_cannot_use_up_the_quota_of_another_and_a_restart_does_not_refill_it() {
    run(async {
        // A killed manager does not release its lease, which is not part of this test.
        let arguments = arguments(&["--omit-lease"]);
        let fleet =
            Fleet::start(FleetOptions { layout: SOURCE_APART, arguments, ..Default::default() })
                .await?;
        let default_cluster = fleet.client(Cluster::Default);
        let mut issuer = acme_issuer("issuer-acme", &fleet.pebble.directory())?;
        issuer["spec"]["requestsPerDayQuota"] = json!(PER_DAY);
        until_issuer(&default_cluster, &issuer, "Ready").await?;
        let greedy = Namespace::in_fleet(&fleet, "greedy").await?;
        let modest = Namespace::in_fleet(&fleet, "modest").await?;

        // Simulates that an earlier process used up the quota.
        fleet.stop(0).await?;
        let spent =
            json!({"status": {"requests": {"available": 0, "at": Timestamp::now().to_string()}}});
        let issuers = api(&default_cluster, "Issuer", "default")?;
        issuers.patch_status("issuer-acme", &PatchParams::default(), &Patch::Merge(spent)).await?;
        for number in 0..CERTIFICATES {
            greedy.simple(&format!("c{number}")).await?;
        }
        fleet.restart(0).await?;
        eventually(SOON, "all Certificates wait", || async {
            let (done, waiting) = served(&fleet, &greedy).await?;
            let with_time = waiting.iter().filter(|it| it.starts_with("Waiting: "));
            let with_time =
                with_time.filter(|it| it.contains("43200") && it.contains("20")).count();
            Ok(if with_time + done >= CERTIFICATES - 1 {
                Look::Done(())
            } else {
                Look::NotYet(format!("{waiting:?}"))
            })
        })
        .await?;

        // A later tenant does not wait for all Certificates of the first: the quota is shared in
        // turn.
        let before = fleet.pebble.signed_count()?;
        let running = served(&fleet, &greedy).await?.0.saturating_sub(before);
        let placing = Instant::now();
        for number in 0..3 {
            modest.simple(&format!("c{number}")).await?;
        }
        let late = came_back(placing);
        modest.until_all_ready(3, LATER).await?;
        let signed = fleet.pebble.signed().await?.split_off(before);
        let is_of = |it: &Signed, tenant: &Namespace| it.names[0].ends_with(&tenant.domain);
        let third = signed.iter().rposition(|it| is_of(it, &modest)).context("none was signed")?;
        let others = signed[..third].iter().filter(|it| is_of(it, &greedy)).count();
        // One each in turn, and orders that were running or placed before.
        ensure!(
            others <= 4 + running + late,
            "{others} of the greedy came before, {running} ran already, {late} more could"
        );

        // The usage is stored: a restart does not return any of it.
        let began = Instant::now();
        fleet.kill(0).await?;
        let (done, _) = served(&fleet, &greedy).await?;
        fleet.restart(0).await?;
        modest.simple("after").await?;
        modest.until("after", "Ready", LATER).await?;
        let (now, waiting) = served(&fleet, &greedy).await?;
        let most = 2 + came_back(began);
        let more = now.saturating_sub(done);
        ensure!(more <= most, "{more} at once after a restart, not {most}");
        let time = waiting.first().context("no Certificate waits")?;
        println!("{now} of {CERTIFICATES} when all 4 of the other are Ready; another: {time}");
        Ok(())
    })
    .unwrap();
}
