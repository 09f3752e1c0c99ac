//! A tenant who may write Secrets into a namespace does not get the private keys in it.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use cert_controller_manager::access::Cluster;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use tests::{
    fleet::{
        Fleet,
        options::{FleetOptions, Layout},
    },
    health_watch::HealthWatch,
    namespace::{Namespace, certificate},
    objects::{self, api, state},
    run,
    x509::Leaf,
};

use super::{claims::QUIET, *};

const SECRET_GRANT: &str = "cert.gardener.cloud/allow-secrets-from";
const HASH: &str = "cert.gardener.cloud/hash";

#[test]
fn a_secret_grant_gives_no_private_key() {
    run(gateway_grants_expose_no_key(&[])).unwrap();
}

/// Sharing across namespaces requires a record of the certificate, which a tenant cannot write.
#[test]
fn a_secret_grant_gives_no_private_key_even_if_all_namespaces_share() {
    run(gateway_grants_expose_no_key(&["--reuse-across-namespaces"])).unwrap();
}

/// The Certificates of `gw` opt out of sharing, so none of theirs is shared under either setting.
/// Of the two Secrets, one belongs to a Certificate. The Certificate of the other is deleted, but
/// the Secret is still in use, so no other Certificate claims it.
async fn gateway_grants_expose_no_key(more: &[&str]) -> Result<()> {
    let options = FleetOptions {
        http: true,
        arguments: arguments(more),
        ..FleetOptions::least_rights(Layout::TWO)
    };
    let fleet = Fleet::with_issuer(options).await?;
    let gateway = Namespace::in_fleet(&fleet, "gw").await?;
    let evil = Namespace::in_fleet(&fleet, "evil").await?;
    let namespaces = api(&fleet.client(Cluster::Target), "Namespace", "")?;
    for (name, granted) in [("gw", "evil"), ("evil", "*")] {
        let patch = json!({"metadata": {"annotations": {SECRET_GRANT: granted}}});
        namespaces.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
    }
    for name in ["victim", "left"] {
        let mut object = certificate(name, spec(&gateway, name, ["a", "b"], &json!({})));
        object["metadata"]["annotations"] = json!({"cert.gardener.cloud/reuse": "false"});
        gateway.apply(&object).await?;
    }
    gateway.until_all_ready(2, SOON).await?;
    let served = gateway.read("Certificate", "left").await?;
    gateway.delete("Certificate", "left").await?;
    let before = contents(&fleet, &["gw", "kube-system"]).await?;
    let health = HealthWatch::watch(&fleet, 0).await?;

    // They name the Secrets of other owners. One claims to have been served before.
    for name in ["victim", "left"] {
        let there = json!({"secretRef": {"name": format!("{name}-tls"), "namespace": "gw"}});
        let mut spec = spec(&gateway, name, ["a", "b"], &there);
        spec.as_object_mut().context("no specification")?.remove("secretName");
        let mut decoy = certificate(&format!("{name}-decoy"), spec);
        if name == "left" {
            decoy["metadata"]["labels"] = json!({HASH: served.labels()[HASH]});
        }
        evil.apply(&decoy).await?;
    }
    let is_refused =
        |it: &DynamicObject| state(it).0 == "Error" && state(it).1.contains("gw/victim");
    evil.until_some("Certificate", "victim-decoy", "is refused", SOON, is_refused).await?;
    // It adopts the existing Secret: its key could leak from there.
    evil.until("left-decoy", "Ready", SOON).await?;

    for (target, names) in
        [("victim", ["a", "b"]), ("left", ["a", "b"]), ("left", ["b", "a"]), ("victim", ["b", "a"])]
    {
        let name = format!("{target}-{}", names.concat());
        evil.certificate(
            &format!("stolen-{name}"),
            attacker_certificate(&gateway, target, &name, names),
        )
        .await?;
        evil.until(&format!("stolen-{name}"), "Ready", SOON).await?;
    }
    // They claim Secrets in another namespace from before `secretName` was changed.
    let moved = json!({"secretRef": {"name": "left-tls", "namespace": "gw"}});
    evil.patch("stolen-left-ab", json!({"spec": moved})).await?;
    evil.patch("left-decoy", json!({"spec": {"secretName": "moved-tls"}})).await?;
    for (name, secret) in [("stolen-left-ab", "stolen-left-ab-tls"), ("left-decoy", "moved-tls")] {
        let has_own = |it: &DynamicObject| {
            let reference = json!({"name": secret, "namespace": "evil"});
            state(it).0 == "Ready" && it.data["spec"]["secretRef"] == reference
        };
        evil.until_some("Certificate", name, "has its own Secret", SOON, has_own).await?;
    }

    health.check("claims to the keys of a gateway", QUIET).await?;
    let after = contents(&fleet, &["gw", "kube-system"]).await?;
    for (name, secret) in &before {
        let now = after.get(name).with_context(|| format!("{name} is gone"))?;
        ensure!(now.resource_version() == secret.resource_version(), "{name} was changed");
    }
    let stolen = contents(&fleet, &["evil"]).await?;
    ensure!(stolen.len() >= 4, "{:?}", stolen.keys());
    for (name, secret) in &stolen {
        for (whose, victim) in before.iter().filter(|(whose, _)| whose.starts_with("gw/")) {
            let (own, theirs) = (pair(secret)?, pair(victim)?);
            ensure!(own.0.serial != theirs.0.serial, "{name} has the certificate of {whose}");
            ensure!(own.0.public_key != theirs.0.public_key, "{name} has a key of {whose}");
            ensure!(own.1 != theirs.1, "{name} has the private key of {whose}");
        }
    }
    gateway.until("victim", "Ready", SOON).await?;
    nothing_forbidden(&fleet)
}

fn spec(namespace: &Namespace, name: &str, names: [&str; 2], more: &Value) -> Value {
    let host = |it: &str| format!("{it}.{name}.{}", namespace.domain);
    let mut spec = json!({"dnsNames": names.map(host), "secretName": format!("{name}-tls")});
    for (field, value) in more.as_object().into_iter().flatten() {
        spec[field] = value.clone();
    }
    spec
}

/// The same names for a Secret of the tenant itself.
fn attacker_certificate(gateway: &Namespace, target: &str, name: &str, names: [&str; 2]) -> Value {
    spec(gateway, target, names, &json!({"secretName": format!("stolen-{name}-tls")}))
}

/// The Secrets of these namespaces of the target cluster.
async fn contents(fleet: &Fleet, namespaces: &[&str]) -> Result<BTreeMap<String, Secret>> {
    let mut all = BTreeMap::new();
    for namespace in namespaces {
        for object in objects::list(&fleet.client(Cluster::Target), "Secret", namespace).await? {
            let secret: Secret = object.try_parse()?;
            all.insert(format!("{namespace}/{}", secret.name_any()), secret);
        }
    }
    Ok(all)
}

/// The leaf and the private key.
fn pair(secret: &Secret) -> Result<(Leaf, Vec<u8>)> {
    let data = secret.data.as_ref().context("an empty Secret")?;
    let leaf = Leaf::parse(&data.get("tls.crt").context("no tls.crt")?.0)?;
    Ok((leaf, data.get("tls.key").context("no tls.key")?.0.clone()))
}
