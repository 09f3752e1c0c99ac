//! Orders of Certificates in a target cluster that was removed from the configuration.

use anyhow::ensure;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use cert_controller_manager::{access::Cluster, api::well_known};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, ResourceExt};
use serde_json::json;
use tests::{
    fleet::{Fleet, options::FleetOptions},
    objects::{apply, until_nothing_is_left},
    run,
};

use crate::SOON;

#[test]
fn an_order_is_ended_after_its_target_cluster_was_removed() {
    run(async {
        let fleet = Fleet::start(FleetOptions { idle: true, ..FleetOptions::default() }).await?;
        let client = fleet.client(Cluster::Default);
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let source = namespaces.get("kube-system").await?.uid().unwrap_or_default();
        let realm = format!("{}@{source}", well_known::DEFAULT_CLASS);
        let progress = json!({
            "version": 1, "fingerprint": "f", "order": "https://ca.test/order/1",
            "account": "https://ca.test/account/1", "started": "2026-11-22T10:00:00Z", "names": [], "key": null,
        });
        let order = json!({
            "apiVersion": "v1", "kind": "Secret", "type": well_known::PROGRESS,
            "metadata": {
                "name": "of-a-former-target",
                "labels": {well_known::PROGRESS: "true"},
                "annotations": {
                    well_known::PROGRESS_REALM: realm, well_known::PROGRESS_OF: "target:shop/web",
                    well_known::PROGRESS_ISSUER: "gone", well_known::PROGRESS_REASON: "SecretMissing",
                },
            },
            "data": {"progress": BASE64_STANDARD.encode(progress.to_string())},
        });
        apply(&client, "default", &order).await?;
        fleet.restart(0).await?;
        until_nothing_is_left(&client, &client, SOON).await?;
        let log = fleet.log(0)?;
        ensure!(log.contains("deleting the order of target:shop/web"), "{log}");
        Ok(())
    })
    .unwrap();
}
