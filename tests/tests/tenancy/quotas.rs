//! The quota of an issuer is everybody's: no tenant spends what is another's, a restart does not fill
//! it again, and who waits is told until when.

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

/// One in two seconds.
const PER_DAY: i64 = 43_200;
const MANY: usize = 30;

/// How many Certificates of a tenant have had their turn, and what the others say. An order that runs
/// has had it, and takes as long as the machine is slow.
async fn served(fleet: &Fleet, tenant: &Namespace) -> Result<(usize, Vec<String>)> {
    let all = objects::list(&fleet.client(Cluster::Source), "Certificate", &tenant.name).await?;
    let (served, others): (Vec<_>, Vec<_>) =
        all.iter().map(state).partition(|(state, _)| state == "Ready" || state == "Pending");
    Ok((served.len(), others.into_iter().map(|(state, why)| format!("{state}: {why}")).collect()))
}

/// How many more may be asked for since then.
fn came_back(since: Instant) -> usize {
    usize::try_from(since.elapsed().as_secs() / 2).unwrap_or(usize::MAX)
}

#[test]
fn a_source_cannot_spend_the_quota_of_another_tenant_and_a_restart_does_not_fill_it() {
    run(async {
        // Whoever is killed gives no lease back; that is not what is tested here.
        let arguments = arguments(&["--omit-lease"]);
        let fleet =
            Fleet::start(FleetOptions { layout: HOME, arguments, ..Default::default() }).await?;
        let home = fleet.client(Cluster::Default);
        let mut issuer = acme_issuer("issuer-acme", &fleet.pebble.directory())?;
        issuer["spec"]["requestsPerDayQuota"] = json!(PER_DAY);
        until_issuer(&home, &issuer, "Ready").await?;
        let greedy = Namespace::in_fleet(&fleet, "greedy").await?;
        let modest = Namespace::in_fleet(&fleet, "modest").await?;

        // As if today's had been spent by the process before.
        fleet.stop(0).await?;
        let spent =
            json!({"status": {"requests": {"available": 0, "at": Timestamp::now().to_string()}}});
        let issuers = api(&home, "Issuer", "default")?;
        issuers.patch_status("issuer-acme", &PatchParams::default(), &Patch::Merge(spent)).await?;
        for number in 0..MANY {
            greedy.simple(&format!("c{number}")).await?;
        }
        fleet.restart(0).await?;
        eventually(SOON, "everybody waits in line", || async {
            let (done, waiting) = served(&fleet, &greedy).await?;
            let told = waiting.iter().filter(|it| it.starts_with("Waiting: "));
            let told = told.filter(|it| it.contains("43200") && it.contains("20")).count();
            Ok(if told + done >= MANY - 1 {
                Look::Done(())
            } else {
                Look::NotYet(format!("{waiting:?}"))
            })
        })
        .await?;

        // Whoever comes later and has had less does not wait for all of them: they take turns.
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
        // A turn each, and orders that ran already or were placed before.
        ensure!(
            others <= 4 + running + late,
            "{others} of the greedy came before, {running} ran already, {late} more could"
        );

        // What was used is noted: a restart does not give any of it back.
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
        let time = waiting.first().context("nobody waits")?;
        println!("{now} of {MANY} when all 4 of the other are Ready; another: {time}");
        Ok(())
    })
    .unwrap();
}
