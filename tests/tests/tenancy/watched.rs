//! Objects of maximal number and size. They are read in pages that are bounded in bytes. Objects
//! without a request are not kept, and those with one only up to the bound of their namespace.
//! Other tenants are served.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use cert_controller_manager::access::Cluster;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::api::PostParams;
use serde_json::{Value, json};
use tests::{
    fleet::{Fleet, options::FleetOptions},
    health_watch::{Bounds, HealthWatch},
    namespace::Namespace,
    objects::api,
    run,
};

use super::*;

/// Of 0.93 MB each.
const LARGE: usize = 100;
/// Ten thousand take a minute to create: `SMALL=9900` creates that many.
const SMALL: usize = 1_000;
/// The memory limit of the chart.
const MEMORY: u64 = 256 << 20;

fn large_ingress(number: usize) -> Value {
    let mut ingress = ingress(&format!("large-{number}"), "large.my-company.test", "large-tls");
    ingress["metadata"]["annotations"] = json!({});
    let backend = json!({"service": {"name": "web", "port": {"number": 80}}});
    let path = |it: usize| {
        let text = format!("/{it}/{}", "x".repeat(1_700));
        json!({"path": text, "pathType": "Prefix", "backend": backend})
    };
    let paths: Vec<Value> = (0..500).map(path).collect();
    ingress["spec"]["rules"] = json!([{"host": "hostile.test", "http": {"paths": paths}}]);
    ingress
}

fn small(number: usize) -> Value {
    let name = format!("small-{number}");
    if number.is_multiple_of(2) {
        let mut ingress = ingress(&name, "small.my-company.test", "small-tls");
        ingress["metadata"]["annotations"] = json!({"example.org/text": "x".repeat(1_000)});
        return ingress;
    }
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"clusterIP": "None", "ports": [{"port": 80}]},
    })
}

/// Creates all of them in the hostile namespace, several at a time.
async fn create(fleet: &Fleet, objects: impl Iterator<Item = Value>) -> Result<()> {
    let client = fleet.client(Cluster::Source);
    let one = |object: Value| {
        let client = client.clone();
        async move {
            let kind = object["kind"].as_str().unwrap_or_default().to_owned();
            let object = serde_json::from_value(object)?;
            api(&client, &kind, "hostile")?.create(&PostParams::default(), &object).await?;
            anyhow::Ok(())
        }
    };
    stream::iter(objects).map(one).buffer_unordered(8).try_collect().await
}

#[test]
fn large_and_many_objects_of_a_tenant_are_bounded_and_others_are_served() {
    run(async {
        let fleet =
            Fleet::with_issuer(FleetOptions { http: true, ..FleetOptions::default() }).await?;
        Namespace::in_fleet(&fleet, "hostile").await?;
        let victim = Namespace::in_fleet(&fleet, "victim").await?;
        let small_ones = std::env::var("SMALL").map_or(Ok(SMALL), |text| text.parse())?;

        let health = HealthWatch::watch(&fleet, 0).await?;
        create(&fleet, (0..LARGE).map(large_ingress)).await?;
        create(&fleet, (0..small_ones).map(small)).await?;
        victim.apply(&ingress("web", &format!("web.{}", victim.domain), "web-tls")).await?;
        victim.until_all_ready(1, SOON).await?;
        // A debug build, beside an API server that uses 100 MB.
        let bounds = Bounds {
            memory: 100 << 20,
            cpu: Duration::from_secs(60),
            silence: Duration::from_secs(5),
        };
        health.check("large objects are made", bounds).await?;

        // After a restart all of them are listed, twice by a new leader.
        fleet.stop(0).await?;
        fleet.restart(0).await?;
        victim.simple("second").await?;
        victim.until_all_ready(2, LATER).await?;
        eventually(LATER, "the manager is ready", || async {
            let (status, text) = tests::scrape::page(fleet.http_port(0)?, "/readyz").await?;
            Ok(if status.is_success() { Look::Done(()) } else { Look::NotYet(text) })
        })
        .await?;
        let usage = fleet.usage(0).await?;
        println!("{LARGE} large and {small_ones} small objects: {} MiB", usage.peak_memory >> 20);
        ensure!(usage.peak_memory < MEMORY, "{usage:?}");
        fleet.check().await
    })
    .unwrap();
}

/// Of 300 KB each, with the maximal number of hosts. `GREEDY=1000` creates that many.
const GREEDY: usize = 160;
/// With names of 250 hosts and 32 gateways each: ten times the bound of a namespace.
const ROUTES: usize = 1_000;

/// An Ingress with 20,000 hosts in 1,000 entries, all for one Secret. Its issuer does not exist.
fn greedy(number: usize) -> Value {
    let name = format!("greedy-{number}");
    let mut ingress = ingress(&name, "unused.my-company.test", "unused");
    ingress["metadata"]["annotations"]["cert.gardener.cloud/issuer"] = json!("missing");
    let entry = |entry: usize| {
        let hosts: Vec<String> = (0..20).map(|it| format!("h{:x}.x", 20 * entry + it)).collect();
        json!({"hosts": hosts, "secretName": format!("{name}-tls")})
    };
    ingress["spec"]["tls"] = (0..1_000).map(entry).collect();
    ingress
}

fn route(number: usize) -> Value {
    let hosts: Vec<String> = (0..250).map(|it| format!("h{it}.r{number}.test")).collect();
    let gateways: Vec<String> = (0..32).map(|it| format!("gateway-{number}-{it}")).collect();
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
        "metadata": {"name": format!("route-{number}")},
        "spec": {"hosts": hosts, "gateways": gateways},
    })
}

/// The Certificates of the hostile namespace, by uid.
async fn certificates(fleet: &Fleet) -> Result<BTreeSet<String>> {
    let found = objects::list(&fleet.client(Cluster::Source), "Certificate", "hostile").await?;
    Ok(found.into_iter().filter_map(|it| it.metadata.uid).collect())
}

/// Waits until some greedy Ingresses have Certificates, and the earlier ones still exist.
async fn until_more(fleet: &Fleet, before: &BTreeSet<String>) -> Result<BTreeSet<String>> {
    eventually(LATER, "there are more Certificates, and those that there were", || async {
        let found = certificates(fleet).await?;
        ensure!(before.is_subset(&found), "{before:?} were there, {found:?} are");
        let is_more = found.len() > before.len();
        Ok(if is_more { Look::Done(found) } else { Look::NotYet(format!("{} are", found.len())) })
    })
    .await
}

/// The hostile namespace exceeds its bound. Ingresses beyond it keep their Certificates, and get
/// new ones when the others are deleted.
#[test]
fn certificates_of_a_tenant_beyond_the_bound_wait() {
    run(async {
        let options =
            FleetOptions { http: true, definitions: true, idle: true, ..FleetOptions::default() };
        let fleet = Fleet::start(options).await?;
        objects::define_gateways(&fleet.client(Cluster::Source)).await?;
        fleet.restart(0).await?;
        fleet.issuer("issuer-acme", &fleet.pebble.directory()).await?;
        let hostile = Namespace::in_fleet(&fleet, "hostile").await?;
        let victim = Namespace::in_fleet(&fleet, "victim").await?;
        let greedy_ones = std::env::var("GREEDY").map_or(Ok(GREEDY), |text| text.parse())?;

        let health = HealthWatch::watch(&fleet, 0).await?;
        create(&fleet, (0..greedy_ones).map(greedy)).await?;
        create(&fleet, (0..ROUTES).map(route)).await?;
        victim.apply(&ingress("web", &format!("web.{}", victim.domain), "web-tls")).await?;
        victim.until_all_ready(1, SOON).await?;
        // The last one exceeds the bound.
        let no_room = |text: &str| text.contains("its namespace takes more than 32 MiB");
        hostile.until_event(&format!("greedy-{}", greedy_ones - 1), LATER, no_room).await?;
        let made = until_more(&fleet, &BTreeSet::new()).await?;
        ensure!(made.len() < 20, "{} greedy Ingresses have room", made.len());
        // For a debug build.
        let bounds = Bounds {
            memory: 128 << 20,
            cpu: Duration::from_secs(120),
            silence: Duration::from_secs(5),
        };
        health.check("greedy objects are made", bounds).await?;

        // After a restart other Ingresses may be within the bound.
        fleet.stop(0).await?;
        fleet.restart(0).await?;
        victim.simple("second").await?;
        victim.until_all_ready(2, LATER).await?;
        let made = until_more(&fleet, &made).await?;
        let usage = fleet.usage(0).await?;
        println!("{greedy_ones} greedy and {ROUTES} routes: {} MiB", usage.peak_memory >> 20);
        ensure!(usage.peak_memory < MEMORY, "{usage:?}");

        let ingresses = api(&fleet.client(Cluster::Source), "Ingress", "hostile")?;
        for number in (0..greedy_ones).filter(|number| *number != 42) {
            ingresses.delete(&format!("greedy-{number}"), &Default::default()).await?;
        }
        eventually(LATER, "the last one has room", || async {
            let source = fleet.client(Cluster::Source);
            let found = names(&objects::list(&source, "Certificate", "hostile").await?);
            let is_there = found.contains("greedy-42-");
            Ok(if is_there { Look::Done(()) } else { Look::NotYet(found) })
        })
        .await?;
        ensure!(victim.secret("web-tls").await?.is_some(), "{} were made", made.len());
        fleet.check().await
    })
    .unwrap();
}
