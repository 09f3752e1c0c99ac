//! A kind that cannot be listed does not delay other kinds.

use anyhow::{Context as _, Result, ensure};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use tests::{
    fleet::options::FleetOptions,
    namespace::Namespace,
    objects::{define_gateways, example, list},
    run,
};

use super::*;

const GATEWAYS: &str = "gateways.gateway.networking.k8s.io";

#[test]
fn a_kind_with_a_failed_conversion_is_reported_and_delays_no_other_kind() {
    run(async {
        let fleet =
            Fleet::with_issuer(FleetOptions { http: true, ..FleetOptions::default() }).await?;
        let client = fleet.client(Cluster::Source);
        define_gateways(&client).await?;
        let namespace = Namespace::in_fleet(&fleet, "kinds").await?;
        namespace.apply(&gateway("gateway", &namespace.domain)).await?;
        namespace.apply(&ingress("before", &namespace.domain)?).await?;
        namespace.until_all_ready(2, SOON).await?;
        let before = certificates(&fleet).await?;
        until_ready(&fleet, 0).await?;

        // Gateways are stored in a version without a working conversion.
        fleet.stop(0).await?;
        store_in(&fleet, "v1beta1").await?;
        namespace.apply(&gateway("gateway2", &namespace.domain)).await?;
        convert(&fleet, json!({"strategy": "Webhook", "webhook": {
            "clientConfig": {"url": "https://127.0.0.1:1/convert"}, "conversionReviewVersions": ["v1"],
        }}))
        .await?;
        fleet.restart(0).await?;
        namespace.apply(&ingress("after", &namespace.domain)?).await?;
        namespace.until_all_ready(3, SOON).await?;
        let port = fleet.http_port(0)?;
        let (status, text) = page(port, "/readyz").await?;
        ensure!(status == StatusCode::SERVICE_UNAVAILABLE, "{text}");
        let missing: Vec<_> =
            text.lines().skip(1).filter(|line| !line.ends_with(": ok")).collect();
        ensure!(missing == [format!("list of {GATEWAYS}: not complete yet")], "{text}");
        ensure!(page(port, "/healthz").await?.0 == StatusCode::OK, "a restart would not help");

        // Only the deleted objects are removed.
        namespace.delete("Ingress", "before").await?;
        eventually(SOON, "the Certificate of the Ingress is gone", || async {
            let left = certificates(&fleet).await?;
            Ok(if left.len() == 2 { Look::Done(()) } else { Look::NotYet(format!("{left:?}")) })
        })
        .await?;
        let kept = |all: &[(String, String)]| all.iter().find(|it| it.0 == "gateway-tls").cloned();
        ensure!(kept(&before).is_some() && kept(&certificates(&fleet).await?) == kept(&before));

        // The conversion works again, and the kind is served.
        convert(&fleet, json!({"strategy": "None", "webhook": null})).await?;
        until_ready(&fleet, 0).await?;
        let host = format!("gateway2.{}", namespace.domain);
        eventually(SOON, "the other name is certified", || async {
            let all = list(&client, "Certificate", "kinds").await?;
            let is_there = all.iter().any(|it| it.data["spec"]["commonName"] == host.as_str());
            Ok(if is_there { Look::Done(()) } else { Look::NotYet(objects::names(&all)) })
        })
        .await?;
        namespace.until_all_ready(2, SOON).await?;
        fleet.check().await
    })
    .unwrap();
}

/// Secrets and uids of all Certificates.
async fn certificates(fleet: &Fleet) -> Result<Vec<(String, String)>> {
    let all = list(&fleet.client(Cluster::Source), "Certificate", "kinds").await?;
    let one = |it: &kube::api::DynamicObject| {
        let secret = it.data["spec"]["secretRef"]["name"].as_str().unwrap_or_default();
        (secret.to_owned(), it.metadata.uid.clone().unwrap_or_default())
    };
    Ok(all.iter().map(one).collect())
}

fn ingress(name: &str, domain: &str) -> Result<Value> {
    let mut ingress = example("40-ingress.yaml")?;
    let host = format!("{name}.{domain}");
    ingress["metadata"]["name"] = json!(name);
    ingress["spec"]["tls"] = json!([{"hosts": [host], "secretName": format!("{name}-tls")}]);
    ingress["spec"]["rules"][0]["host"] = json!(host);
    Ok(ingress)
}

fn gateway(name: &str, domain: &str) -> Value {
    let listener = json!({
        "name": "https", "port": 443, "protocol": "HTTPS", "hostname": format!("{name}.{domain}"),
        "tls": {"certificateRefs": [{"name": "gateway-tls"}]},
    });
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
        "metadata": {"name": "web", "annotations": {"cert.gardener.cloud/purpose": "managed"}},
        "spec": {"gatewayClassName": "any", "listeners": [listener]},
    })
}

/// Changes the storage version of Gateways.
async fn store_in(fleet: &Fleet, version: &str) -> Result<()> {
    let definitions = objects::api(&fleet.client(Cluster::Source), "CustomResourceDefinition", "")?;
    let mut versions = definitions.get(GATEWAYS).await?.data["spec"]["versions"].clone();
    for one in versions.as_array_mut().context("no versions")? {
        one["storage"] = json!(one["name"] == version);
    }
    let patch = Patch::Merge(json!({"spec": {"versions": versions}}));
    definitions.patch(GATEWAYS, &PatchParams::default(), &patch).await?;
    Ok(())
}

/// Changes the conversion of Gateways.
async fn convert(fleet: &Fleet, conversion: Value) -> Result<()> {
    let definitions = objects::api(&fleet.client(Cluster::Source), "CustomResourceDefinition", "")?;
    let patch = Patch::Merge(json!({"spec": {"conversion": conversion}}));
    definitions.patch(GATEWAYS, &PatchParams::default(), &patch).await?;
    Ok(())
}
