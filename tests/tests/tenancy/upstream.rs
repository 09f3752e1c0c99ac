//! Upstream stores the Certificates of source objects on the target cluster. They stay there, and
//! are treated like our own.

use anyhow::ensure;
use cert_controller_manager::access::Cluster;
use kube::ResourceExt as _;
use serde_json::{Value, json};
use tests::{
    Look, eventually,
    fleet::{Fleet, options::FleetOptions},
    namespace::{Namespace, certificate},
    objects::{self, api, apply},
    run,
};

use super::*;

const OWNERS: &str = "resources.gardener.cloud/owners";
const FINALIZER: &str = "cert.gardener.cloud/ingress-cert";

/// The Certificate of upstream for the Ingress `name`: on target, with the cluster of its owner.
fn left(name: &str, cluster: &str, namespace: &Namespace) -> Value {
    let spec = json!({
        "commonName": format!("{name}.{}", namespace.domain),
        "secretRef": {"name": format!("{name}-tls"), "namespace": namespace.name},
    });
    let mut object = certificate(&format!("{name}-ingress-x7kd2"), spec);
    let owner = format!("{cluster}:networking.k8s.io/Ingress/{}/{name}", namespace.name);
    object["metadata"]["annotations"] = json!({
        OWNERS: owner,
        "cert.gardener.cloud/forward-owner-refs": "true",
    });
    object["metadata"]["namespace"] = json!(namespace.name);
    object
}

#[test]
fn certificates_of_upstream_on_target_are_served_and_deleted_with_their_ingress() {
    run(async {
        let fleet = Fleet::start(FleetOptions {
            arguments: arguments(&["--source.migration-ids=landscape-7", "--cascade-delete"]),
            definitions: true,
            idle: true,
            ..FleetOptions::least_rights(SOURCE_APART)
        })
        .await?;
        let (source, target) = (fleet.client(Cluster::Source), fleet.client(Cluster::Target));
        let web = Namespace::in_fleet(&fleet, "web").await?;
        let all = [("fallback", "source/gardener.cloud"), ("migrated", "landscape-7")];
        for (name, cluster) in all {
            let host = format!("{name}.{}", web.domain);
            let mut object = ingress(name, &host, &format!("{name}-tls"));
            object["metadata"]["finalizers"] = json!([FINALIZER]);
            web.apply(&object).await?;
            apply(&target, "web", &left(name, cluster, &web)).await?;
        }
        // A Certificate with an owner in an unknown cluster.
        apply(&target, "web", &left("foreign", "another-landscape", &web)).await?;
        fleet.restart(0).await?;
        fleet.issuer("issuer-acme", &fleet.pebble.directory()).await?;
        for name in ["fallback", "migrated", "foreign"] {
            until_secret(&fleet, "web", &format!("{name}-tls")).await?;
        }

        // They stay on target, are not created twice, and get the current form of the owner annotation.
        let id = api(&source, "Namespace", "")?.get("kube-system").await?.uid().unwrap_or_default();
        let certificates = api(&target, "Certificate", "web")?;
        for (name, _) in all {
            let wanted = format!("{id}:networking.k8s.io/Ingress/web/{name}");
            eventually(SOON, "the owner annotation has the current form", || async {
                let found = certificates.get(&format!("{name}-ingress-x7kd2")).await?;
                let owner = found.annotations().get(OWNERS).cloned().unwrap_or_default();
                Ok(if owner == wanted { Look::Done(()) } else { Look::NotYet(owner) })
            })
            .await?;
        }
        let found = objects::list(&source, "Certificate", "").await?;
        ensure!(found.is_empty(), "{}", objects::names(&found));

        // One Ingress is deleted while the manager runs, one while it does not.
        web.delete("Ingress", "fallback").await?;
        until_only(&source, "Ingress", "web", &["migrated"]).await?;
        let left = ["foreign-ingress-x7kd2", "migrated-ingress-x7kd2"];
        until_only(&target, "Certificate", "web", &left).await?;
        fleet.stop(0).await?;
        web.delete("Ingress", "migrated").await?;
        fleet.restart(0).await?;
        until_only(&source, "Ingress", "web", &[]).await?;
        until_only(&target, "Certificate", "web", &left[..1]).await?;
        nothing_forbidden(&fleet)
    })
    .unwrap();
}

/// An owner in another namespace only counts if the operator has permitted the namespace.
#[test]
fn an_annotation_does_not_assign_a_certificate_to_another_tenants_ingress() {
    run(async {
        let fleet = untrusted::fleet().await?;
        let tenant = Namespace::in_fleet(fleet, "claimant").await?;
        let victim = Namespace::in_fleet(fleet, "claimed").await?;
        let spec = json!({
            "commonName": format!("claim.{}", tenant.domain),
            "secretRef": {"name": "web-tls", "namespace": "claimed"},
        });
        let mut claim = certificate("claim", spec.clone());
        let owner = "networking.k8s.io/Ingress/claimed/web";
        claim["metadata"]["annotations"] = json!({OWNERS: owner});
        tenant.apply(&claim).await?;
        tenant.until("claim", "Error", SOON).await?;
        victim.apply(&ingress("web", &format!("web.{}", victim.domain), "web-tls")).await?;
        until_secret(fleet, "claimed", "web-tls").await?;
        victim.until_all_ready(1, SOON).await?;
        ensure!(tenant.read("Certificate", "claim").await?.data["spec"] == spec, "it was changed");
        let events = victim.events("web").await?.join("\n");
        ensure!(!events.contains("another namespace"), "{events}");
        Ok(())
    })
    .unwrap();
}
