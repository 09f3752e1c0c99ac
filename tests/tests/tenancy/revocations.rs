//! A revocation across clusters, with the least rights, and across namespaces that trust each other.

use anyhow::{Result, ensure};
use cert_controller_manager::access::Cluster;
use kube::ResourceExt;
use serde_json::{Value, json};
use tests::{
    fleet::{Fleet, options::FleetOptions},
    namespace::Namespace,
    objects::{self, state},
    run,
};

use super::{HOME, SOON, arguments, nothing_forbidden};

fn revocation(name: &str, of: &str, namespace: &str, renew: bool) -> Value {
    json!({
        "apiVersion": "cert.gardener.cloud/v1alpha1", "kind": "CertificateRevocation",
        "metadata": {"name": name},
        "spec": {"certificateRef": {"name": of, "namespace": namespace}, "renew": renew},
    })
}

async fn applied(namespace: &Namespace, object: &Value) -> Result<()> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    namespace.apply(object).await?;
    let is = |found: &kube::api::DynamicObject| state(found).0 == "Applied";
    let kind = "CertificateRevocation";
    namespace.until_some(kind, name, "is Applied", SOON, is).await?;
    Ok(())
}

#[test]
fn a_revocation_on_source_needs_no_more_than_its_rights_and_reaches_all_with_the_flag() {
    run(async {
        let fleet = Fleet::with_issuer(FleetOptions {
            arguments: arguments(&["--allow-cross-namespace-secrets"]),
            ..FleetOptions::least_rights(HOME)
        })
        .await?;
        let here = Namespace::in_fleet(&fleet, "here").await?;
        let there = Namespace::in_fleet(&fleet, "there").await?;
        let mut serials = Vec::new();
        for (namespace, name) in [(&here, "a"), (&there, "b")] {
            let host = format!("same.{}", here.domain);
            let spec = json!({"commonName": host, "secretName": "tls"});
            namespace.certificate(name, spec).await?;
            namespace.until(name, "Ready", SOON).await?;
            serials.push(namespace.leaf("tls").await?.serial);
        }
        applied(&here, &revocation("renew", "a", "here", true)).await?;
        for (namespace, serial) in [(&here, &serials[0]), (&there, &serials[1])] {
            ensure!(fleet.pebble.status(serial).await? == "Revoked", "{serial}");
            ensure!(namespace.leaf("tls").await?.serial != *serial, "it was not renewed");
        }
        applied(&there, &revocation("end", "a", "here", false)).await?;
        here.until("a", "Revoked", SOON).await?;
        there.until("b", "Revoked", SOON).await?;
        let backups =
            objects::list(&fleet.client(Cluster::Target), "Secret", "kube-system").await?;
        let marked = backups.iter().filter(|it| {
            it.annotations().get("cert.gardener.cloud/revoked").is_some_and(|it| it == "true")
        });
        ensure!(marked.count() == 4, "not all backups are marked");
        nothing_forbidden(&fleet)
    })
    .unwrap();
}
