//! A source cluster that is restored from a backup has new uids, and its objects return in any
//! order. Certificates and their Secrets on the target cluster stay.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use cert_controller_manager::access::Cluster;
use kube::{
    ResourceExt as _,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
};
use serde_json::json;
use tests::{
    fleet::{Fleet, options::FleetOptions},
    namespace::Namespace,
    objects::{self, api},
    run,
};

use super::*;

/// Uid and certificate of each Secret.
async fn secrets(namespace: &Namespace) -> Result<BTreeMap<String, (String, String)>> {
    let mut all = BTreeMap::new();
    for name in ["whole", "bare", "going"] {
        let secret = namespace.secret(&format!("{name}-tls")).await?.context("no Secret")?;
        let leaf = namespace.leaf(&format!("{name}-tls")).await?;
        all.insert(name.to_owned(), (secret.uid().unwrap_or_default(), leaf.serial));
    }
    Ok(all)
}

#[test]
fn a_restored_source_cluster_causes_no_issuance_and_loses_no_secret() {
    run(async {
        let fleet = Fleet::with_issuer(FleetOptions {
            arguments: arguments(&["--cascade-delete"]),
            ..FleetOptions::least_rights(SOURCE_APART)
        })
        .await?;
        let source = fleet.client(Cluster::Source);
        let web = Namespace::in_fleet(&fleet, "web").await?;
        let host = |name: &str| format!("{name}.{}", web.domain);
        for name in ["whole", "bare", "going"] {
            web.apply(&ingress(name, &host(name), &format!("{name}-tls"))).await?;
        }
        web.until_all_ready(3, LATER).await?;
        // With cascading deletion a Secret is deleted when its Certificate uses another one.
        web.simple("moved").await?;
        web.until_all_ready(4, LATER).await?;
        web.patch("moved", json!({"spec": {"secretName": "new-tls"}})).await?;
        let all = ["bare-tls", "going-tls", "new-tls", "whole-tls"];
        until_only(&fleet.client(Cluster::Target), "Secret", "web", &all).await?;
        web.delete("Certificate", "moved").await?;
        until_only(
            &fleet.client(Cluster::Target),
            "Secret",
            "web",
            &["bare-tls", "going-tls", "whole-tls"],
        )
        .await?;
        let before = secrets(&web).await?;
        let signed = fleet.pebble.signed_by_names().await?;

        fleet.stop(0).await?;
        let certificates = api(&source, "Certificate", "web")?;
        let saved = objects::list(&source, "Certificate", "web").await?;
        for object in &saved {
            let name = object.name_any();
            let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
            certificates.patch(&name, &PatchParams::default(), &free).await?;
            certificates.delete(&name, &DeleteParams::default()).await?;
        }
        for name in ["whole", "bare", "going"] {
            web.delete("Ingress", name).await?;
            web.apply(&ingress(name, &host(name), &format!("{name}-tls"))).await?;
        }
        // The backup of one has the Ingress only. For another, Kubernetes has started to delete the
        // objects of the previous uid.
        let mut kept = String::new();
        for object in saved.into_iter().filter(|it| !it.name_any().starts_with("bare")) {
            let name = object.name_any();
            let back = DynamicObject {
                metadata: kube::api::ObjectMeta {
                    uid: None,
                    resource_version: None,
                    creation_timestamp: None,
                    managed_fields: None,
                    ..object.metadata.clone()
                },
                ..object
            };
            certificates.create(&PostParams::default(), &back).await?;
            if name.starts_with("going") {
                certificates.delete(&name, &DeleteParams::default()).await?;
            } else {
                kept = name;
            }
        }
        fleet.restart(0).await?;
        let all = ["bare", "going", "whole"];
        eventually(LATER, "each Ingress has its Certificate", || async {
            fleet.check().await?;
            let mut served = Vec::new();
            let found = objects::list(&source, "Certificate", "web").await?;
            for name in all {
                let uid = web.read("Ingress", name).await?.uid().unwrap_or_default();
                let is_its = |it: &&DynamicObject| {
                    it.owner_references().iter().any(|owner| owner.uid == uid)
                };
                let ready = found.iter().filter(is_its).filter(|it| state(it).0 == "Ready");
                served.extend(ready.map(|_| name));
            }
            let is_so = served == all && found.len() == 3;
            Ok(if is_so {
                Look::Done(())
            } else {
                Look::NotYet(format!("{served:?}; {}", names(&found)))
            })
        })
        .await?;
        certificates.get(&kept).await.context("it was created again")?;
        let after = secrets(&web).await?;
        ensure!(after == before, "{before:?}, then {after:?}");
        ensure!(fleet.pebble.signed_by_names().await? == signed, "the CA signed again");

        // A permanent deletion still deletes the Secret.
        for name in all {
            let found = objects::list(&source, "Certificate", "web").await?;
            let its = found.iter().filter(|it| it.name_any().starts_with(name));
            for object in its {
                let api = api(&source, "Certificate", "web")?;
                web.delete("Ingress", name).await?;
                api.delete(&object.name_any(), &DeleteParams::default()).await?;
            }
        }
        until_only(&source, "Certificate", "web", &[]).await?;
        until_only(&fleet.client(Cluster::Target), "Secret", "web", &[]).await?;
        nothing_forbidden(&fleet)
    })
    .unwrap();
}
