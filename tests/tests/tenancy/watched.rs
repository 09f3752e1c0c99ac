//! Objects that ask for nothing, in numbers and sizes that an API server takes: they are read in
//! pages that are bounded in bytes, nothing of them is kept, and others are served.

use anyhow::{Result, ensure};
use cert_controller_manager::access::Cluster;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::api::PostParams;
use serde_json::{Value, json};
use tests::{
    fleet::{Fleet, options::FleetOptions},
    namespace::Namespace,
    objects::api,
    run,
    vitals::{Bounds, Vitals},
};

use super::*;

/// Of 0.93 MB each.
const LARGE: usize = 100;
/// Ten thousand take a minute to make: `SMALL=9900` makes as many.
const SMALL: usize = 1_000;
/// What the chart gives to the process.
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

/// Makes all of them in the hostile namespace, several at once.
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
fn large_and_many_objects_of_a_tenant_cost_others_neither_memory_nor_service() {
    run(async {
        let fleet =
            Fleet::with_issuer(FleetOptions { http: true, ..FleetOptions::default() }).await?;
        Namespace::in_fleet(&fleet, "hostile").await?;
        let victim = Namespace::in_fleet(&fleet, "victim").await?;
        let small_ones = std::env::var("SMALL").map_or(Ok(SMALL), |text| text.parse())?;

        let vitals = Vitals::watch(&fleet, 0).await?;
        create(&fleet, (0..LARGE).map(large_ingress)).await?;
        create(&fleet, (0..small_ones).map(small)).await?;
        victim.apply(&ingress("web", &format!("web.{}", victim.domain), "web-tls")).await?;
        victim.until_all_ready(1, SOON).await?;
        // A debug build, beside an API server that takes a hundred megabytes.
        let bounds = Bounds {
            memory: 100 << 20,
            cpu: Duration::from_secs(60),
            silence: Duration::from_secs(5),
        };
        vitals.check("large objects are made", bounds).await?;

        // From the beginning: all of them are listed, twice by one that begins to lead.
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
