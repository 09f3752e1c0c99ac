//! Source objects of maximal cost: the bound for one of them, while other tenants are served.

use anyhow::{Result, ensure};
use cert_controller_manager::access::Cluster;
use serde_json::{Value, json};
use tests::{
    Look, eventually,
    fleet::{Fleet, options::FleetOptions},
    health_watch::{Bounds, HealthWatch},
    namespace::Namespace,
    objects, run,
};

use super::*;

/// Most Certificates of one object.
const MOST: usize = 200;

/// An Ingress with 1,000 tls entries, each with a Secret and hosts of its own. Its issuer does not
/// exist: the test measures the cost of the object itself.
fn crowd(name: &str, annotation: &str, value: &str, tls: impl Fn(usize) -> Value) -> Value {
    let mut object = ingress(name, "unused.my-company.test", "unused");
    object["metadata"]["annotations"]["cert.gardener.cloud/issuer"] = json!("missing");
    object["metadata"]["annotations"][format!("cert.gardener.cloud/{annotation}")] = json!(value);
    object["spec"]["tls"] = (0..1_000).map(tls).collect();
    object
}

fn own_secret(number: usize, prefix: &str) -> Value {
    json!({"hosts": ["a.my-company.test"], "secretName": format!("{prefix}{number}")})
}

/// 51,000 different labels in the maximal size of annotations.
fn labels() -> String {
    let letters: Vec<char> = ('a'..='z').chain('A'..='Z').chain('0'..='9').collect();
    let letter = |number: usize| letters[number % letters.len()];
    (0..51_000)
        .map(|n| [letter(n), letter(n / 62), letter(n / 3_844), '=', ','])
        .flat_map(IntoIterator::into_iter)
        .collect()
}

/// 140 hosts for each of 1,000 entries, all different, and one Secret for all.
fn many_hosts(number: usize) -> Value {
    let hosts: Vec<_> = (0..140).map(|host| format!("h{:x}", 140 * number + host)).collect();
    json!({"hosts": hosts, "secretName": "one-tls"})
}

/// A Gateway of Istio with 1,000 servers, each with a Secret and hosts of its own.
fn gateway() -> Value {
    let server = |number: usize| {
        let host = |it| format!("./h{:x}.my-company.test", 20 * number + it);
        let hosts: Vec<_> = (0..20).map(host).collect();
        json!({
            "port": {"number": 443, "name": format!("https-{number}"), "protocol": "HTTPS"},
            "tls": {"mode": "SIMPLE", "credentialName": format!("g{number}")},
            "hosts": hosts,
        })
    };
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "Gateway",
        "metadata": {"name": "gateway", "annotations": {
            "cert.gardener.cloud/purpose": "managed", "cert.gardener.cloud/issuer": "missing",
        }},
        "spec": {"servers": (0..1_000).map(server).collect::<Vec<_>>()},
    })
}

async fn certificates(fleet: &Fleet, namespace: &str) -> Result<usize> {
    Ok(objects::list(&fleet.client(Cluster::Source), "Certificate", namespace).await?.len())
}

#[test]
fn a_large_object_needs_little_memory_and_others_are_served() {
    run(async {
        let fleet = Fleet::start(FleetOptions {
            layout: SOURCE_APART,
            http: true,
            definitions: true,
            idle: true,
            ..FleetOptions::default()
        })
        .await?;
        objects::define_gateways(&fleet.client(Cluster::Source)).await?;
        fleet.restart(0).await?;
        fleet.issuer("issuer-acme", &fleet.pebble.directory()).await?;
        let hostile = Namespace::in_fleet(&fleet, "hostile").await?;
        let victim = Namespace::in_fleet(&fleet, "victim").await?;
        victim.simple("before").await?;
        victim.until("before", "Ready", SOON).await?;

        let health = HealthWatch::watch(&fleet, 0).await?;
        let all = [
            crowd("labels", "secret-labels", &labels(), |number| own_secret(number, "l")),
            crowd("chain", "preferred-chain", &"x".repeat(255_000), |it| own_secret(it, "c")),
            crowd("hosts-1", "profile", "", many_hosts),
            crowd("hosts-2", "profile", "", many_hosts),
            gateway(),
        ];
        for object in &all {
            hostile.apply(object).await?;
        }
        victim.simple("meanwhile").await?;
        victim.until("meanwhile", "Ready", SOON).await?;
        for (name, annotation) in [("labels", "secret-labels"), ("chain", "preferred-chain")] {
            let ignored = format!("annotation cert.gardener.cloud/{annotation} is longer than");
            hostile.until_event(name, 2 * LATER, |it| it.contains(&ignored)).await?;
        }
        let left_out = "800 of 1000 certificates are left out";
        for name in ["labels", "chain", "gateway"] {
            hostile.until_event(name, 2 * LATER, |it| it.contains(left_out)).await?;
        }
        for name in ["hosts-1", "hosts-2"] {
            let held = "its Certificates are neither created nor changed";
            hostile.until_event(name, 2 * LATER, |it| it.contains(held)).await?;
        }
        eventually(LATER, "no more than allowed is made", || async {
            let made = certificates(&fleet, "hostile").await?;
            ensure!(made <= 3 * MOST, "{made} Certificates");
            Ok(if made == 3 * MOST { Look::Done(()) } else { Look::NotYet(made.to_string()) })
        })
        .await?;
        // A release build needs a tenth of this time; one page of such objects is in memory at a
        // time.
        let bounds = Bounds {
            memory: 80 << 20,
            cpu: Duration::from_secs(20),
            silence: Duration::from_secs(2),
        };
        health.check("large objects", bounds).await?;

        // Also after a restart, and without further growth.
        fleet.stop(0).await?;
        fleet.restart(0).await?;
        victim.simple("after").await?;
        victim.until("after", "Ready", SOON).await?;
        let usage = fleet.usage(0).await?;
        ensure!(usage.peak_memory < 128 << 20, "{} MiB", usage.peak_memory >> 20);
        ensure!(certificates(&fleet, "hostile").await? == 3 * MOST);
        for object in &all {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let group = text(&object["apiVersion"]).replace("/v1", "");
            let kind = format!("{}.{group}", text(&object["kind"]));
            hostile.delete(&kind, &text(&object["metadata"]["name"])).await?;
        }
        until_only(&fleet.client(Cluster::Source), "Certificate", "hostile", &[]).await?;
        victim.until("before", "Ready", SOON).await?;
        fleet.check().await
    })
    .unwrap();
}
