//! Revocations across clusters with the least rights, and across namespaces with a flag.

use std::time::Duration;

use anyhow::{Result, ensure};
use cert_controller_manager::access::Cluster;
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use serde_json::{Value, json};
use tests::{
    Look, eventually,
    fleet::{
        Fleet,
        options::{FleetOptions, Layout},
    },
    namespace::Namespace,
    objects::{self, state},
    proxy::{Fault, Kind, Proxy, Rule},
    run,
};

use super::{SOON, SOURCE_APART, arguments, nothing_forbidden, until_issuer};

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
fn a_revocation_on_source_is_limited_to_its_namespace_unless_the_flag_is_set() {
    run(async {
        let fleet = Fleet::with_issuer(FleetOptions {
            arguments: arguments(&["--allow-cross-namespace-secrets"]),
            ..FleetOptions::least_rights(SOURCE_APART)
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

/// A revocation only depends on the server of its own issuer.
#[test]
fn a_slow_acme_server_of_a_tenant_does_not_delay_revocations_of_others() {
    const DELAY: Duration = Duration::from_secs(25);
    const MIN_DELAY: SignedDuration = SignedDuration::from_secs(24);
    run(async {
        let fleet = Fleet::with_issuer(FleetOptions {
            arguments: arguments(&super::TENANTS_ISSUERS),
            ..FleetOptions::least_rights(Layout::TWO)
        })
        .await?;
        let proxy = Proxy::for_pebble(&fleet.pebble).await?;
        let slow = Namespace::in_fleet(&fleet, "slow").await?;
        let other = Namespace::in_fleet(&fleet, "other").await?;
        let mut issuer = objects::acme_issuer("own", &proxy.directory())?;
        issuer["metadata"]["namespace"] = json!("slow");
        issuer["spec"]["acme"]["privateKeySecretRef"] =
            json!({"name": "account", "namespace": "slow"});
        until_issuer(&fleet.client(Cluster::Target), &issuer, "Ready").await?;
        // More than the number of workers.
        let names: Vec<String> = (0..5).map(|number| format!("host-{number}")).collect();
        for name in &names {
            let spec = json!({
                "commonName": format!("{name}.{}", slow.domain), "secretName": format!("{name}-tls"),
                "issuerRef": {"name": "own", "namespace": "slow"},
            });
            slow.certificate(name, spec).await?;
        }
        other.simple("host").await?;
        slow.until_all_ready(names.len(), SOON).await?;
        other.until("host", "Ready", SOON).await?;

        proxy.set_rules([Rule::on(Kind::Revoke, Fault::Delay(DELAY))]);
        for name in &names {
            slow.apply(&revocation(name, name, "slow", false)).await?;
        }
        eventually(SOON, "the slow server is asked", || async {
            let seen = proxy.seen_of(Kind::Revoke).len();
            Ok(if seen > 0 { Look::Done(()) } else { Look::NotYet("not yet".to_owned()) })
        })
        .await?;
        applied(&other, &revocation("quick", "host", "other", false)).await?;
        // Only one worker waits for it at a time.
        let seen: Vec<_> = proxy.seen_of(Kind::Revoke).iter().map(|seen| seen.at).collect();
        let is_held = |pair: &[Timestamp]| pair[1].duration_since(pair[0]) >= MIN_DELAY;
        ensure!(seen.windows(2).all(is_held), "at the same time: {seen:?}");
        nothing_forbidden(&fleet)
    })
    .unwrap();
}
