//! The fleet harness itself, and a manager with exactly the roles of the access table.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use cert_controller_manager::access::Cluster;
use kube::api::{DeleteParams, DynamicObject};
use serde_json::json;
use tests::{
    Look,
    audit::Request,
    eventually,
    fleet::{
        Fleet,
        options::{FleetOptions, Layout},
    },
    namespace::Namespace,
    objects::{api, apply, define_gateways},
    run,
};

const SOON: Duration = Duration::from_secs(30);

#[test]
fn a_certificate_is_issued_across_three_clusters_with_the_rights_of_the_table_only() {
    run(async {
        let fleet = Fleet::with_issuer(FleetOptions::least_rights(Layout::THREE)).await?;
        let namespace = Namespace::in_fleet(&fleet, "across").await?;
        namespace.simple("host").await?;
        namespace.until("host", "Ready", SOON).await?;
        ensure!(namespace.leaf("host-tls").await?.names == [format!("host.{}", namespace.domain)]);
        namespace.until_event("host", SOON, |_| true).await?;
        fleet.until_nothing_is_left(SOON).await?;
        let (source, target) =
            (fleet.plane(Cluster::Source).audit()?, fleet.plane(Cluster::Target).audit()?);
        let by = Fleet::user(0);
        let secrets = |requests: &[Request]| {
            requests.iter().filter(|one| one.user == by && one.resource == "secrets").count()
        };
        ensure!(secrets(&source) == 0 && secrets(&target) > 0, "Secrets in the wrong cluster");
        let forbidden = fleet.forbidden()?;
        ensure!(forbidden.is_empty(), "{forbidden:#?}");
        fleet.check().await
    })
    .unwrap();
}

#[test]
fn a_frozen_manager_writes_nothing_and_issues_after_it_resumes() {
    run(async {
        // Without a lease: it would be written, and lost, at the wrong time.
        let arguments = vec!["--omit-lease".to_owned()];
        let fleet = Fleet::with_issuer(FleetOptions { arguments, ..Default::default() }).await?;
        let namespace = Namespace::in_fleet(&fleet, "frozen").await?;
        fleet.freeze(0).await?;
        namespace.simple("host").await?;
        let written = |user: &str| -> anyhow::Result<usize> {
            let requests = fleet.plane(Cluster::Source).audit()?;
            Ok(requests.iter().filter(|one| one.user == user && one.is_write()).count())
        };
        let before = written(&Fleet::user(0))?;
        // Not a wait for a condition: nothing may be written in this time.
        tokio::time::sleep(Duration::from_secs(2)).await;
        ensure!(written(&Fleet::user(0))? == before, "it wrote");
        fleet.resume(0).await?;
        namespace.until("host", "Ready", SOON).await?;
        ensure!(written(&Fleet::user(0))? > before, "the log does not have what it wrote");
        fleet.stop(0).await?;
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_cluster_can_be_down_at_the_start_and_recover() {
    run(async {
        let options = FleetOptions {
            layout: Layout::TWO,
            managers: 0,
            away: vec![1],
            ..FleetOptions::default()
        };
        let fleet = Fleet::start(options).await?;
        let away = fleet.plane(Cluster::Source);
        ensure!(away.client().apiserver_version().await.is_err(), "it answers");
        away.start_apiserver().await?;
        away.client().apiserver_version().await?;
        Namespace::in_fleet(&fleet, "back").await?;
        Ok(())
    })
    .unwrap();
}

#[test]
fn gateway_definitions_can_be_installed() {
    run(async {
        let fleet = Fleet::start(FleetOptions { managers: 0, ..FleetOptions::default() }).await?;
        let client = fleet.client(Cluster::Source);
        define_gateways(&client).await?;
        let gateway = json!({
            "apiVersion": "networking.istio.io/v1", "kind": "Gateway",
            "metadata": {"name": "istio"}, "spec": {},
        });
        apply(&client, "default", &gateway).await?;
        ensure!(
            api(&client, "Gateway.networking.istio.io", "default")?
                .get_opt("istio")
                .await?
                .is_some()
        );
        ensure!(api(&client, "Gateway", "default")?.get_opt("istio").await?.is_none());
        Ok(())
    })
    .unwrap();
}

/// Without it, an API server keeps objects that have lost their owner.
#[test]
fn garbage_collection_runs_on_request() {
    run(async {
        let fleet =
            Fleet::start(FleetOptions { managers: 0, ..FleetOptions::default() }).await?;
        let plane = fleet.plane(Cluster::Default);
        let _collector = plane.collect_garbage()?;
        let client = plane.client();
        let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "owner"}});
        let owner: DynamicObject = apply(&client, "default", &owner).await?;
        let uid = owner.metadata.uid.context("it has no uid")?;
        let owned = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {
            "name": "owned",
            "ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid}],
        }});
        apply(&client, "default", &owned).await?;
        let all = api(&client, "ConfigMap", "default")?;
        all.delete("owner", &DeleteParams::default()).await?;
        eventually(Duration::from_secs(60), "what has lost its owner is gone", || async {
            let left = all.get_opt("owned").await?;
            Ok(left.map_or(Look::Done(()), |_| Look::NotYet("it is there".to_owned())))
        })
        .await
    })
    .unwrap();
}
