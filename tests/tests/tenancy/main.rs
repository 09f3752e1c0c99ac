//! Several clusters and several tenants: ownership of objects, restrictions of an untrusted source
//! cluster, and the maintenance of Secrets over time.

mod claims;
mod hostile;
mod large_sources;
mod network;
mod ownership;
mod quotas;
mod restored;
mod revocations;
mod sharing;
mod target_issuers;
mod untrusted;
mod upkeep;
mod upstream;
mod watched;

use std::time::Duration;

use anyhow::{Result, ensure};
use cert_controller_manager::access::Cluster;
use kube::{Client, api::DynamicObject};
use serde_json::{Value, json};
use tests::{
    Look, eventually,
    fleet::{Fleet, options::Layout},
    namespace::Namespace,
    objects::{self, api, apply, has_state, names, state},
};

/// For reactions without a delay.
const SOON: Duration = Duration::from_secs(30);
/// The manager waits ten seconds before it accepts that an object is gone.
const LATER: Duration = Duration::from_secs(60);
/// All logical clusters except source are in the operator's cluster.
const SOURCE_APART: Layout = Layout { default: 0, source: 1, dns: 0, target: 0 };

/// Tenants bring issuers, whose servers may be on this machine.
const TENANTS_ISSUERS: [&str; 2] =
    ["--allow-target-issuers", "--allowed-private-ranges=127.0.0.0/8,::1"];

fn arguments(all: &[&str]) -> Vec<String> {
    all.iter().map(|one| (*one).to_owned()).collect()
}

/// An Ingress that requests one certificate.
fn ingress(name: &str, host: &str, secret: &str) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {"name": name, "annotations": {"cert.gardener.cloud/purpose": "managed"}},
        "spec": {
            "defaultBackend": {"service": {"name": "web", "port": {"number": 80}}},
            "tls": [{"hosts": [host], "secretName": secret}],
        },
    })
}

/// Waits until exactly these objects exist, by name.
async fn until_only(client: &Client, kind: &str, namespace: &str, wanted: &[&str]) -> Result<()> {
    let what = format!("every {kind} of {namespace} but {wanted:?} is gone");
    eventually(LATER, &what, || async {
        let found = objects::list(client, kind, namespace).await?;
        let mut left: Vec<_> = found.iter().filter_map(|it| it.metadata.name.as_deref()).collect();
        left.sort_unstable();
        Ok(if left == wanted { Look::Done(()) } else { Look::NotYet(names(&found)) })
    })
    .await
}

/// Waits until a Secret of the target cluster has content.
async fn until_secret(fleet: &Fleet, namespace: &str, name: &str) -> Result<DynamicObject> {
    let secrets = api(&fleet.client(Cluster::Target), "Secret", namespace)?;
    eventually(SOON, &format!("Secret {namespace}/{name}"), || async {
        fleet.check().await?;
        let found = secrets.get_opt(name).await?;
        Ok(found.map_or_else(|| Look::NotYet("it is not there".to_owned()), Look::Done))
    })
    .await
}

/// Applies an Issuer and waits for a state. Returns its message.
async fn until_issuer(client: &Client, issuer: &Value, wanted: &str) -> Result<String> {
    let text = |field: &str| issuer["metadata"][field].as_str().unwrap_or_default();
    apply(client, text("namespace"), issuer).await?;
    let issuers = api(client, "Issuer", text("namespace"))?;
    let issuer = eventually(SOON, &format!("Issuer {} is {wanted}", text("name")), || async {
        Ok(has_state(issuers.get(text("name")).await?, wanted))
    })
    .await?;
    Ok(state(&issuer).1)
}

/// Waits for the next second: creation times have a resolution of seconds, and objects of the same
/// second are ordered by their uid.
async fn next_second() {
    tokio::time::sleep(Duration::from_secs(1)).await;
}

/// Applies a Certificate that is refused, and returns the message.
async fn refused(namespace: &Namespace, name: &str, spec: Value) -> Result<String> {
    namespace.certificate(name, spec).await?;
    Ok(state(&namespace.until(name, "Error", SOON).await?).1)
}

/// RBAC refused no request.
fn nothing_forbidden(fleet: &Fleet) -> Result<()> {
    let forbidden = fleet.forbidden()?;
    ensure!(forbidden.is_empty(), "{forbidden:#?}");
    Ok(())
}
