//! Objects of upstream's binary are adopted without changes: recorded objects, no CA.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, Result, ensure};
use cert_controller_manager::access::Cluster;
use kube::{
    Client,
    api::{DynamicObject, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tests::{
    Look, eventually,
    fleet::{Fleet, options::FleetOptions},
    locate,
    objects::{self, api},
    run,
};
use tokio::net::TcpListener;

const SOON: Duration = Duration::from_secs(30);
/// Address of the CA when the objects were recorded.
const RECORDED_CA: &str = "127.0.0.1:41373";
/// Owners before the objects that refer to them.
const ORDER: [&str; 6] =
    ["Ingress", "Service", "Issuer", "Secret", "Certificate", "CertificateRevocation"];

#[test]
fn objects_of_upstream_are_adopted_without_ca_requests_and_secret_writes() {
    run(async {
        let fleet = Fleet::start(FleetOptions {
            arguments: [
                "--default-issuer=pebble".to_owned(),
                // Otherwise the manager would ask the CA for renewal information.
                "--acme-renewal-info=false".to_owned(),
            ]
            .into(),
            ..FleetOptions::default()
        })
        .await?;
        fleet.stop(0).await?;
        // A listener at the address of the CA shows whether the manager connects.
        let ca = TcpListener::bind("127.0.0.1:0").await?;
        let client = fleet.client(Cluster::Source);
        let recorded = recorded(&ca.local_addr()?.to_string())?;
        load(&client, &recorded).await?;
        let secrets = versions(&client).await?;

        fleet.restart(0).await?;
        let states = |kind: &'static str| {
            let wanted: BTreeMap<String, Value> = recorded
                .iter()
                .filter(|object| object["kind"] == kind)
                .map(|object| (name(object), object["status"]["state"].clone()))
                .collect();
            wanted
        };
        for kind in ["Issuer", "Certificate"] {
            let wanted = states(kind);
            ensure!(!wanted.is_empty());
            eventually(SOON, &format!("every {kind} was looked at"), || async {
                let found = objects::list(&client, kind, "").await?;
                let old = found.iter().filter(|object| {
                    object.data["status"]["observedGeneration"].as_i64()
                        != object.metadata.generation
                });
                let old: Vec<_> = old.filter_map(|object| object.metadata.name.clone()).collect();
                Ok(if old.is_empty() { Look::Done(()) } else { Look::NotYet(old.join(", ")) })
            })
            .await?;
            let found = objects::list(&client, kind, "").await?;
            let found: BTreeMap<String, Value> = found
                .iter()
                .map(|object| {
                    let name = object.metadata.name.clone().unwrap_or_default();
                    (name, object.data["status"]["state"].clone())
                })
                .collect();
            ensure!(found == wanted, "{kind}: {found:?}, recorded {wanted:?}");
        }
        let now = versions(&client).await?;
        let written: Vec<_> =
            now.iter().filter(|(name, version)| secrets.get(*name) != Some(version)).collect();
        ensure!(now == secrets, "Secrets were written: {written:?}");
        let called = tokio::time::timeout(Duration::from_millis(10), ca.accept()).await;
        ensure!(called.is_err(), "the manager connected to the CA");
        fleet.check().await
    })
    .unwrap();
}

fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}

/// The recorded objects, with their CA moved to `ca`.
fn recorded(ca: &str) -> Result<Vec<Value>> {
    let text = locate::read("tests/fixtures/adoption/objects.json")?;
    ensure!(text.contains(RECORDED_CA), "no object names the CA");
    let list: Value = serde_json::from_str(&text.replace(RECORDED_CA, ca))?;
    Ok(list["items"].as_array().context("it is no list")?.clone())
}

/// Creates the objects with their status and with the uids that their owners have now.
async fn load(client: &Client, recorded: &[Value]) -> Result<()> {
    let mut uids: Vec<(String, String)> = Vec::new();
    for kind in ORDER {
        for object in recorded.iter().filter(|object| object["kind"] == kind) {
            let mut text = object.to_string();
            for (old, new) in &uids {
                text = text.replace(old, new);
            }
            let created = create(client, kind, serde_json::from_str(&text)?).await?;
            let old = object["metadata"]["uid"].as_str().context("no uid was recorded")?;
            uids.push((old.to_owned(), created.metadata.uid.context("it has no uid")?));
        }
    }
    Ok(())
}

async fn create(client: &Client, kind: &str, mut object: Value) -> Result<DynamicObject> {
    let mut status = object["status"].take();
    // The manager sets it when it has reconciled the object.
    status["observedGeneration"] = json!(0);
    for field in ["uid", "resourceVersion", "creationTimestamp", "generation", "managedFields"] {
        object["metadata"][field].take();
    }
    if kind == "Service" {
        // This API server has another address and port.
        for field in ["clusterIP", "clusterIPs"] {
            object["spec"][field].take();
        }
        for port in object["spec"]["ports"].as_array_mut().context("no ports")? {
            port["nodePort"].take();
        }
    }
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
    let name = name(&object);
    let objects = api(client, kind, &namespace)?;
    let created = objects.create(&PostParams::default(), &serde_json::from_value(object)?).await;
    let created = created.with_context(|| format!("{kind} {name}"))?;
    if ["Issuer", "Certificate", "CertificateRevocation"].contains(&kind) {
        let patch = Patch::Merge(json!({ "status": status }));
        objects.patch_status(&name, &PatchParams::default(), &patch).await?;
    }
    Ok(created)
}

/// The resourceVersion of each certificate Secret.
async fn versions(client: &Client) -> Result<BTreeMap<String, String>> {
    let params = ListParams::default().labels("cert.gardener.cloud/certificate=true");
    let secrets = api(client, "Secret", "")?.list(&params).await?.items;
    let version = |secret: DynamicObject| {
        let metadata = secret.metadata;
        let name = metadata.name.unwrap_or_default();
        (name, metadata.resource_version.unwrap_or_default())
    };
    Ok(secrets.into_iter().map(version).collect())
}
