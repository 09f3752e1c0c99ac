//! Outages of each logical cluster, which all have separate API servers. The tests use one fleet in
//! turn; its second manager has another class.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use cert_controller_manager::access::Cluster;
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use kube::api::DeleteParams;
use serde_json::{Value, json};
use tests::{
    Look,
    controlplane::Audit,
    eventually,
    fleet::{
        Fleet,
        options::{FleetOptions, Layout},
    },
    namespace::Namespace,
    objects::{self, apply, example},
    run,
    scrape::page,
    stall_detector::StallDetector,
    test_env::ISSUER,
};
use tokio::sync::{Mutex, MutexGuard, OnceCell};

use crate::{SOON, print_measurement, requests_of, signed, until_orders_run, until_ready};

const OUTAGE: Duration = Duration::from_secs(60);
/// The time until everything has converged, on a machine that is not busy.
const AFTERWARDS: Duration = Duration::from_secs(10);
/// A restarted API server refuses all requests for a while, and each refusal delays a
/// reconciliation by five seconds.
const CONVERGED: Duration = Duration::from_secs(20);
/// Most requests after an outage that are not a burst; most are lists of missing kinds.
const BURST: usize = 200;
/// A namespace with a DNSEntry of another owner.
const SOURCE_DOWN: &str = "source-down";
const OTHERS: &str = "others";
/// The class of the second manager.
pub(super) const OTHER_CLASS: &str = "other";

/// The fleet with all clusters up, the first manager running and its issuer Ready.
pub(super) async fn fleet() -> Result<MutexGuard<'static, Fleet>> {
    static FLEET: OnceCell<Mutex<Fleet>> = OnceCell::const_new();
    let start = || async {
        let other = ["--cert-class", OTHER_CLASS, "--lease-name", OTHER_CLASS];
        let options = FleetOptions {
            layout: Layout::FOUR,
            managers: 2,
            audit: Audit::All,
            arguments_of: vec![vec![], other.map(str::to_owned).to_vec()],
            http: true,
            idle: true,
            ..FleetOptions::default()
        };
        anyhow::Ok(Mutex::new(Fleet::start(options).await?))
    };
    let fleet = FLEET.get_or_try_init(start).await?.lock().await;
    // Cleans up after a failed test.
    fleet.resume_dns()?;
    for plane in &fleet.planes {
        if plane.client().apiserver_version().await.is_err() {
            plane.start_apiserver().await?;
        }
    }
    let left = objects::api(&fleet.client(Cluster::Dns), "DNSEntry", SOURCE_DOWN)?;
    match left.delete(OTHERS, &DeleteParams::default()).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        Err(error) => return Err(error.into()),
    }
    fleet.restart(0).await?;
    fleet.until_defined().await?;
    fleet.issuer(ISSUER, &fleet.pebble.directory()).await?;
    until_ready(&fleet, 0).await?;
    Ok(fleet)
}

/// Waits until the first manager reports an outage of exactly this cluster.
async fn until_missed(fleet: &Fleet, away: Cluster) -> Result<()> {
    let port = fleet.http_port(0)?;
    eventually(SOON, &format!("the {away} cluster is missed"), || async {
        fleet.check().await?;
        let (status, text) = page(port, "/readyz").await?;
        let metrics = fleet.metrics(0).await?;
        let says = |cluster: Cluster| {
            let name = cluster.to_string();
            let labels = [("cluster", name.as_str())];
            let reachable = metrics.value("cert_management_cluster_reachable", &labels);
            let line = format!("{name} cluster: does not answer since ");
            let (named, there) = (text.contains(&line), cluster != away);
            named != there && reachable == Some(f64::from(u8::from(there)))
        };
        let all = status == StatusCode::SERVICE_UNAVAILABLE && Cluster::ALL.into_iter().all(says);
        Ok(if all { Look::Done(()) } else { Look::NotYet(format!("{status} {text}")) })
    })
    .await?;
    ensure!(page(port, "/healthz").await?.0 == StatusCode::OK, "a restart would not help");
    Ok(())
}

fn ingress(name: &str, domain: &str) -> Result<Value> {
    let mut ingress = example("40-ingress.yaml")?;
    let host = format!("{name}.{domain}");
    ingress["metadata"] = json!({
        "name": name, "annotations": {"cert.gardener.cloud/purpose": "managed"},
    });
    ingress["spec"]["tls"] = json!([{"hosts": [host], "secretName": format!("{name}-tls")}]);
    ingress["spec"]["rules"][0]["host"] = json!(host);
    Ok(ingress)
}

fn dns_entry(name: &str, namespace: &Namespace) -> Value {
    json!({
        "apiVersion": "dns.gardener.cloud/v1alpha1", "kind": "DNSEntry",
        "metadata": {"name": name, "namespace": namespace.name},
        "spec": {"dnsName": format!("{name}.{}", namespace.domain), "targets": ["192.0.2.1"]},
    })
}

/// Waits until no order runs and only the DNSEntry of the other owner exists.
async fn until_clean(fleet: &Fleet, namespace: &Namespace) -> Result<()> {
    until_orders_run(fleet, 0).await?;
    eventually(SOON, "only the DNSEntry of others is there", || async {
        let left = objects::names(&namespace.dns_entries().await?);
        Ok(if left == OTHERS { Look::Done(()) } else { Look::NotYet(left) })
    })
    .await
}

/// The names of all objects of a kind in a namespace.
async fn names(fleet: &Fleet, cluster: Cluster, kind: &str, namespace: &str) -> Result<String> {
    Ok(objects::names(&objects::list(&fleet.client(cluster), kind, namespace).await?))
}

#[test]
fn renewals_continue_while_the_source_cluster_is_down_and_everything_converges_afterwards() {
    run(async {
        let fleet = fleet().await?;
        let namespace = Namespace::in_fleet(&fleet, SOURCE_DOWN).await?;
        let source = fleet.plane(Cluster::Source);
        let others = dns_entry(OTHERS, &namespace);
        apply(&fleet.client(Cluster::Dns), &namespace.name, &others).await?;
        for name in ["known", "due-0", "due-1"] {
            namespace.simple(name).await?;
        }
        namespace.apply(&ingress("web", &namespace.domain)?).await?;
        namespace.until_all_ready(4, SOON).await?;
        let before = [
            names(&fleet, Cluster::Target, "Secret", &namespace.name).await?,
            names(&fleet, Cluster::Source, "Certificate", &namespace.name).await?,
        ];
        let first = [namespace.leaf("due-0-tls").await?, namespace.leaf("due-1-tls").await?];

        // Some fall due during the outage, others have an order that cannot progress before.
        let due = Timestamp::now() + Duration::from_secs(30);
        for name in ["due-0", "due-1"] {
            let patch = json!({"spec": {"ensureRenewedAfter": format!("{due:.0}")}});
            let wanted = namespace.patch(name, patch).await?.metadata.generation;
            let seen = |generation: &Value| generation.as_i64() == wanted;
            namespace
                .until_some("Certificate", name, "was looked at", SOON, |object| {
                    seen(&object.data["status"]["observedGeneration"])
                })
                .await?;
        }
        until_clean(&fleet, &namespace).await?;
        fleet.hold_dns()?;
        namespace.simple("running-0").await?;
        namespace.simple("running-1").await?;
        until_orders_run(&fleet, 2).await?;
        source.stop_apiserver().await?;
        let down = Instant::now();
        ensure!(Timestamp::now() < due, "this machine is too slow for this test");
        fleet.resume_dns()?;
        for name in ["running-0-tls", "running-1-tls"] {
            eventually(OUTAGE - down.elapsed(), "a running order gets its Secret", || async {
                namespace.leaf(name).await.map(Look::Done)
            })
            .await?;
        }
        print_measurement("source down until running orders have their Secrets", down.elapsed())?;
        until_missed(&fleet, Cluster::Source).await?;
        for (number, first) in first.iter().enumerate() {
            eventually(OUTAGE - down.elapsed(), "what falls due is renewed", || async {
                let leaf = namespace.leaf(&format!("due-{number}-tls")).await?;
                let renewed = leaf.serial != first.serial;
                Ok(if renewed { Look::Done(()) } else { Look::NotYet(leaf.serial) })
            })
            .await?;
        }
        print_measurement(
            "source down until renewals due after 30 s have their Secrets",
            down.elapsed(),
        )?;
        // The outage, whose duration is part of the requirement.
        tokio::time::sleep(OUTAGE.saturating_sub(down.elapsed())).await;
        until_missed(&fleet, Cluster::Source).await?;
        let back = Timestamp::now();
        source.start_apiserver().await?;
        let (began, stalls) = (Instant::now(), StallDetector::watch());
        namespace.apply(&ingress("late", &namespace.domain)?).await?;
        namespace.until_all_ready(7, SOON).await?;
        for name in ["due-0", "due-1"] {
            let leaf = namespace.leaf(&format!("{name}-tls")).await?;
            let end = json!(leaf.not_after.to_string());
            namespace
                .until_some("Certificate", name, "says that it was renewed", SOON, |object| {
                    object.data["status"]["expirationDate"] == end
                })
                .await?;
        }
        until_ready(&fleet, 0).await?;
        let took = began.elapsed();
        print_measurement("source back until all has converged", took)?;
        ensure!(took < CONVERGED + stalls.total(), "it took {took:?}");

        until_clean(&fleet, &namespace).await?;
        let entries = objects::api(&fleet.client(Cluster::Dns), "DNSEntry", &namespace.name)?;
        entries.delete(OTHERS, &DeleteParams::default()).await?;
        let after = [
            names(&fleet, Cluster::Target, "Secret", &namespace.name).await?,
            names(&fleet, Cluster::Source, "Certificate", &namespace.name).await?,
        ];
        for (before, after) in before.iter().zip(&after) {
            let kept = before.split(", ").all(|name| after.split(", ").any(|it| it == name));
            ensure!(kept, "{before} became {after}");
        }
        // Not a wait for a condition: there may be no burst in this time.
        tokio::time::sleep(AFTERWARDS.saturating_sub(began.elapsed())).await;
        let end = back.saturating_add(SignedDuration::try_from(AFTERWARDS)?)?;
        let requests = requests_of(&fleet, 0, back)?.iter().filter(|it| it.began < end).count();
        print_measurement(
            "requests until ten seconds after the return, of all clusters",
            requests,
        )?;
        ensure!(requests < BURST, "{requests} requests");
        let all = fleet.pebble.signed_by_names().await?;
        for (names, count) in all.iter().filter(|(names, _)| names[0].ends_with(&namespace.domain))
        {
            let wanted = if names[0].starts_with("due-") { 2 } else { 1 };
            ensure!(*count == wanted, "{names:?} were signed {count} times");
        }
        fleet.stop(0).await?;
        Ok(())
    })
    .unwrap();
}

/// The functions that do not need the stopped cluster.
async fn continues_without(fleet: &Fleet, away: Cluster, namespace: &Namespace) -> Result<()> {
    if matches!(away, Cluster::Source | Cluster::Target) {
        fleet.issuer(&format!("without-{away}"), &fleet.pebble.directory()).await?;
    }
    if away == Cluster::Dns {
        let own = json!({
            "apiVersion": "cert.gardener.cloud/v1alpha1", "kind": "Issuer",
            "metadata": {"name": "own", "namespace": "default"}, "spec": {"selfSigned": {}},
        });
        apply(&fleet.client(Cluster::Default), "default", &own).await?;
        let spec = json!({
            "commonName": "a root of ours", "isCA": true, "duration": "43800h",
            "issuerRef": {"name": "own"}, "secretName": "root-tls",
        });
        namespace.certificate("root", spec).await?;
        namespace.until("root", "Ready", SOON).await?;
    }
    Ok(())
}

#[test]
fn each_cluster_may_be_down_at_the_start_without_stopping_the_others() {
    run(async {
        let fleet = fleet().await?;
        let namespace = Namespace::in_fleet(&fleet, "away").await?;
        let clusters = [Cluster::Source, Cluster::Dns, Cluster::Target, Cluster::Default];
        for away in clusters {
            namespace.simple(&format!("keeps-{away}")).await?;
            namespace.until(&format!("keeps-{away}"), "Ready", SOON).await?;
            fleet.stop(0).await?;
            namespace.simple(&format!("waits-{away}")).await?;
            fleet.plane(away).stop_apiserver().await?;
            fleet.restart(0).await?;
            until_missed(&fleet, away).await?;
            continues_without(&fleet, away, &namespace).await?;
            fleet.plane(away).start_apiserver().await?;
            let began = Instant::now();
            namespace.until(&format!("waits-{away}"), "Ready", SOON).await?;
            print_measurement(&format!("{away} back until what waited is Ready"), began.elapsed())?;
            until_ready(&fleet, 0).await?;
        }
        fleet.until_nothing_is_left(SOON).await?;
        signed(&fleet, &namespace.domain, 2 * clusters.len(), 1).await?;
        fleet.stop(0).await?;
        Ok(())
    })
    .unwrap();
}
