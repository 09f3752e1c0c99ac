//! Objects are deleted with their owner: within a cluster, across clusters, and also while no
//! manager runs.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use cert_controller_manager::access::Cluster;
use kube::api::DynamicObject;
use serde_json::json;
use tests::{
    Look,
    controlplane::ControlPlane,
    eventually,
    fleet::{
        Fleet,
        options::{Access, FleetOptions, Layout},
    },
    namespace::Namespace,
    objects::{self, apply, state},
    run,
};

use super::*;

const FINALIZER: &str = "cert.gardener.cloud/certificate-secret";

#[test]
fn deleting_an_ingress_deletes_its_objects_in_two_clusters() {
    run(all_objects_are_deleted_with_their_ingress(SOURCE_APART)).unwrap();
}

#[test]
fn deleting_an_ingress_deletes_its_objects_in_three_clusters() {
    run(all_objects_are_deleted_with_their_ingress(Layout::THREE)).unwrap();
}

async fn all_objects_are_deleted_with_their_ingress(layout: Layout) -> Result<()> {
    let fleet = Fleet::with_issuer(FleetOptions {
        arguments: arguments(&["--cascade-delete"]),
        ..FleetOptions::least_rights(layout)
    })
    .await?;
    let (source, target) = (fleet.client(Cluster::Source), fleet.client(Cluster::Target));
    let web = Namespace::in_fleet(&fleet, "web").await?;
    for name in ["now", "later"] {
        let host = format!("{name}.{}", web.domain);
        web.apply(&ingress(name, &host, &format!("{name}-tls"))).await?;
    }
    // No server answers for this zone, so these orders wait and their records stay.
    for name in ["stuck", "stuck-later"] {
        web.apply(&ingress(name, &format!("{name}.elsewhere.test"), &format!("{name}-tls")))
            .await?;
    }
    web.simple("mine").await?;
    for secret in ["now-tls", "later-tls", "mine-tls"] {
        until_secret(&fleet, "web", secret).await?;
    }
    until_records(&web, 2).await?;
    let certificates = objects::list(&source, "Certificate", "web").await?;
    ensure!(certificates.len() == 5, "{}", objects::names(&certificates));
    for certificate in &certificates {
        let held = certificate.metadata.finalizers.iter().flatten().any(|it| it == FINALIZER);
        ensure!(held, "{:?} goes without its Secret", certificate.metadata.name);
    }
    ensure!(objects::list(&target, "Certificate", "").await?.is_empty());
    ensure!(objects::list(&source, "Secret", "").await?.is_empty());

    // The manager runs.
    web.delete("Ingress", "now").await?;
    web.delete("Ingress", "stuck").await?;
    until_certificates(&web, &source, 3).await?;
    until_only(&target, "Secret", "web", &["later-tls", "mine-tls"]).await?;
    until_records(&web, 1).await?;

    // The manager does not run.
    fleet.stop(0).await?;
    web.delete("Ingress", "later").await?;
    web.delete("Ingress", "stuck-later").await?;
    web.delete("Certificate", "mine").await?;
    ensure!(
        web.secret("mine-tls").await?.is_some() && web.read("Certificate", "mine").await.is_ok()
    );
    fleet.restart(0).await?;
    until_certificates(&web, &source, 0).await?;
    until_only(&target, "Secret", "web", &[]).await?;
    fleet.until_nothing_is_left(SOON).await?;
    fleet.check().await?;
    records_came_and_went(fleet.plane(Cluster::Dns))?;
    ensure!(!fleet.plane(Cluster::Source).audit()?.iter().any(|it| it.resource == "dnsentries"));
    nothing_forbidden(&fleet)
}

/// Waits until this number of challenge records exists.
async fn until_records(namespace: &Namespace, count: usize) -> Result<()> {
    eventually(SOON, &format!("{count} DNSEntries"), || async {
        let entries = namespace.dns_entries().await?;
        let names = objects::names(&entries);
        Ok(if entries.len() == count { Look::Done(()) } else { Look::NotYet(names) })
    })
    .await
}

/// Waits until this number of Certificates exists.
async fn until_certificates(namespace: &Namespace, source: &Client, count: usize) -> Result<()> {
    eventually(LATER, &format!("{count} Certificates are left"), || async {
        let found = objects::list(source, "Certificate", &namespace.name).await?;
        let names = objects::names(&found);
        Ok(if found.len() == count { Look::Done(()) } else { Look::NotYet(names) })
    })
    .await
}

/// The manager deleted every DNSEntry that it created; there were five.
fn records_came_and_went(dns: &ControlPlane) -> Result<()> {
    let requests = dns.audit()?;
    let ours = requests.iter().filter(|it| it.user == Fleet::user(0) && it.is_write());
    let ours: Vec<_> = ours.filter(|it| it.resource == "dnsentries").collect();
    let names = |deleted: bool| -> BTreeSet<&str> {
        let some = ours.iter().filter(|it| (it.verb == "delete") == deleted);
        some.map(|it| it.name.as_str()).filter(|name| !name.is_empty()).collect()
    };
    ensure!(names(true).len() == 5 && names(false).is_subset(&names(true)), "{ours:#?}");
    Ok(())
}

#[test]
fn the_garbage_collector_deletes_the_objects_of_an_ingress_in_one_cluster() {
    run(async {
        let fleet = Fleet::with_issuer(FleetOptions {
            access: Access::Granted,
            arguments: arguments(&["--cascade-delete"]),
            ..FleetOptions::default()
        })
        .await?;
        let client = fleet.client(Cluster::Default);
        let web = Namespace::in_fleet(&fleet, "web").await?;
        web.apply(&ingress("web", &format!("web.{}", web.domain), "web-tls")).await?;
        let secret = until_secret(&fleet, "web", "web-tls").await?;
        let owners = secret.metadata.owner_references.context("it has no owner")?;
        let mut owners: Vec<_> =
            owners.iter().map(|it| format!("{}/{}", it.api_version, it.kind)).collect();
        owners.sort();
        ensure!(
            owners == ["cert.gardener.cloud/v1alpha1/Certificate", "networking.k8s.io/v1/Ingress"],
            "{owners:?}"
        );
        web.until_all_ready(1, SOON).await?;
        // From here on only the garbage collector deletes objects.
        fleet.stop(0).await?;
        let _collector = fleet.plane(Cluster::Default).collect_garbage()?;
        let orphan = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {
            "name": "orphan",
            "ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "x"}],
        }});
        apply(&client, "web", &orphan).await?;
        until_only(&client, "ConfigMap", "web", &[]).await?;
        ensure!(web.secret("web-tls").await?.is_some(), "it takes the owners for absent");
        web.delete("Ingress", "web").await?;
        until_only(&client, "Certificate", "web", &[]).await?;
        until_only(&client, "Secret", "web", &[]).await
    })
    .unwrap();
}

#[test]
fn without_cascading_deletion_the_secret_stays() {
    run(async {
        let fleet =
            Fleet::with_issuer(FleetOptions { layout: SOURCE_APART, ..Default::default() }).await?;
        let (source, target) = (fleet.client(Cluster::Source), fleet.client(Cluster::Target));
        let web = Namespace::in_fleet(&fleet, "web").await?;
        web.apply(&ingress("web", &format!("web.{}", web.domain), "web-tls")).await?;
        web.simple("mine").await?;
        until_secret(&fleet, "web", "web-tls").await?;
        web.until_all_ready(2, SOON).await?;
        // A running order whose Certificate is deleted without a finalizer while no manager runs.
        let stuck = json!({"commonName": "stuck.elsewhere.test", "secretName": "stuck-tls"});
        web.certificate("stuck", stuck).await?;
        until_records(&web, 1).await?;
        fleet.stop(0).await?;
        for name in ["mine", "stuck"] {
            web.delete("Certificate", name).await?;
        }
        web.delete("Ingress", "web").await?;
        fleet.restart(0).await?;
        until_only(&source, "Certificate", "web", &[]).await?;
        fleet.until_nothing_is_left(SOON).await?;
        let secrets = objects::list(&target, "Secret", "web").await?;
        ensure!(secrets.len() == 2, "{}", objects::names(&secrets));
        let owned = |secret: &DynamicObject| secret.metadata.owner_references.is_some();
        ensure!(!secrets.iter().any(owned));

        // The next Certificate of that name adopts the Secret unchanged.
        let before = web.leaf("mine-tls").await?.serial;
        web.simple("mine").await?;
        web.until("mine", "Ready", SOON).await?;
        ensure!(web.leaf("mine-tls").await?.serial == before, "it was issued again");
        Ok(())
    })
    .unwrap();
}

#[test]
fn classes_and_a_target_namespace_determine_manager_and_namespace() {
    run(async {
        let fleet = Fleet::start(FleetOptions {
            arguments: arguments(&[
                "--cert-class=Mine,theirs",
                "--cert-target-class=theirs",
                "--target-namespace=vault",
                "--target-name-prefix=shoot1-",
                "--cascade-delete",
            ]),
            ..FleetOptions::least_rights(SOURCE_APART)
        })
        .await?;
        let (source, target) = (fleet.client(Cluster::Source), fleet.client(Cluster::Target));
        let vault = Namespace::in_fleet(&fleet, "vault").await?;
        let web = Namespace::in_fleet(&fleet, "web").await?;
        let other = Namespace::in_fleet(&fleet, "other").await?;
        let class = "cert.gardener.cloud/class";
        let mut issuer = objects::acme_issuer("issuer-acme", &fleet.pebble.directory())?;
        issuer["metadata"]["annotations"][class] = json!("mine");
        until_issuer(&fleet.client(Cluster::Default), &issuer, "Ready").await?;

        // One of another class, and one that is the second for a Secret.
        let of_class = |name: &str, namespace: &Namespace, of: &str| {
            let host = format!("{name}.{}", namespace.domain);
            let mut object = ingress(name, &host, "web-tls");
            object["metadata"]["annotations"][class] = json!(of);
            object
        };
        web.apply(&of_class("default", &web, "gardencert")).await?;
        web.apply(&of_class("ours", &web, "MINE")).await?;
        until_secret(&fleet, "vault", "web-tls").await?;
        web.until_all_ready(1, SOON).await?;
        let found = objects::list(&source, "Certificate", "").await?;
        let [made] = found.as_slice() else { anyhow::bail!(objects::names(&found)) };
        let name = made.metadata.name.clone().unwrap_or_default();
        ensure!(name.starts_with("shoot1-ours-ingress-"), "{name}");
        let annotations = made.metadata.annotations.clone().unwrap_or_default();
        ensure!(annotations[class] == "theirs", "{annotations:?}");
        ensure!(made.data["spec"]["secretRef"] == json!({"name": "web-tls", "namespace": "vault"}));
        let leaf = vault.leaf("web-tls").await?;
        ensure!(leaf.names == [format!("ours.{}", web.domain)], "{leaf}");

        next_second().await;
        other.apply(&of_class("second", &other, "theirs")).await?;
        eventually(SOON, "the second one reports the first", || async {
            let found = objects::list(&source, "Certificate", "other").await?;
            let message: Vec<_> = found.iter().map(state).collect();
            let named = |(state, why): &(String, String)| state == "Error" && why.contains(&name);
            Ok(if message.iter().any(named) {
                Look::Done(())
            } else {
                Look::NotYet(format!("{message:?}"))
            })
        })
        .await?;
        ensure!(vault.leaf("web-tls").await?.serial == leaf.serial);

        // After a change to another class, the created objects are deleted.
        other.delete("Ingress", "second").await?;
        until_only(&source, "Certificate", "other", &[]).await?;
        web.apply(&of_class("ours", &web, "gardencert")).await?;
        until_only(&source, "Certificate", "web", &[]).await?;
        until_only(&target, "Secret", "vault", &[]).await?;
        nothing_forbidden(&fleet)
    })
    .unwrap();
}
