//! Issuers of tenants (`--allow-target-issuers`): served from their own cluster and for their own
//! namespace, and never with a Secret of another owner.

use anyhow::ensure;
use cert_controller_manager::access::Cluster;
use serde_json::{Value, json};
use tests::{
    fleet::{
        Fleet,
        options::{FleetOptions, Layout},
    },
    namespace::Namespace,
    objects::{self, acme_issuer, api, state},
    run,
};

use super::*;

fn issuer(namespace: &Namespace, name: &str, kind: &Value) -> Value {
    json!({
        "apiVersion": "cert.gardener.cloud/v1alpha1", "kind": "Issuer",
        "metadata": {"name": name, "namespace": namespace.name}, "spec": kind,
    })
}

fn of(name: &str, namespace: &Namespace, issuer: &str, of: &Namespace) -> Value {
    json!({
        "commonName": format!("{name}.{}", namespace.domain), "secretName": format!("{name}-tls"),
        "issuerRef": {"name": issuer, "namespace": of.name},
    })
}

#[test]
fn issuers_of_the_target_cluster_issue_with_their_own_accounts_and_keys() {
    run(async {
        let fleet = Fleet::with_issuer(FleetOptions {
            arguments: arguments(&TENANTS_ISSUERS),
            ..FleetOptions::least_rights(Layout::TWO)
        })
        .await?;
        let target = fleet.client(Cluster::Target);
        let tenant = Namespace::in_fleet(&fleet, "tenant").await?;
        let other = Namespace::in_fleet(&fleet, "other").await?;

        // An ACME issuer: the Secret of its account key is created in its namespace.
        let mut acme = acme_issuer("issuer-acme", &fleet.pebble.directory())?;
        acme["metadata"]["namespace"] = json!("tenant");
        acme["spec"]["acme"]["privateKeySecretRef"] =
            json!({"name": "account", "namespace": "tenant"});
        until_issuer(&target, &acme, "Ready").await?;
        ensure!(tenant.secret("account").await?.is_some(), "its key is elsewhere");
        tenant.certificate("acme", of("acme", &tenant, "issuer-acme", &tenant)).await?;
        let ready = tenant.until("acme", "Ready", SOON).await?;
        let used = &ready.data["status"]["issuerRef"];
        ensure!(used["cluster"] == "target" && used["namespace"] == "tenant", "{used}");
        tenant.simple("operators").await?;
        let ready = tenant.until("operators", "Ready", SOON).await?;
        ensure!(ready.data["status"]["issuerRef"]["namespace"] == "default");

        // A CA that the tenant has created.
        let root = issuer(&tenant, "root", &json!({"selfSigned": {}}));
        until_issuer(&target, &root, "Ready").await?;
        let mut spec = of("root", &tenant, "root", &tenant);
        spec["isCA"] = json!(true);
        spec["duration"] = json!("8760h");
        tenant.certificate("root", spec).await?;
        tenant.until("root", "Ready", SOON).await?;
        let own =
            json!({"ca": {"privateKeySecretRef": {"name": "root-tls", "namespace": "tenant"}}});
        until_issuer(&target, &issuer(&tenant, "ca", &own), "Ready").await?;
        tenant.certificate("signed", of("signed", &tenant, "ca", &tenant)).await?;
        tenant.until("signed", "Ready", SOON).await?;
        ensure!(tenant.leaf("signed-tls").await?.issuer.contains("root.tenant"));

        // It only uses Secrets and Certificates of its own namespace.
        let why = until_issuer(&target, &issuer(&other, "ca", &own), "Error").await?;
        ensure!(why.contains("tenant/root-tls is in another namespace"), "{why}");
        acme["metadata"]["namespace"] = json!("other");
        acme["metadata"]["name"] = json!("thief");
        let why = until_issuer(&target, &acme, "Error").await?;
        ensure!(why.contains("tenant/account is in another namespace"), "{why}");
        acme["metadata"]["name"] = json!("greedy");
        acme["spec"]["acme"]["privateKeySecretRef"] = json!({"name": "greedy"});
        acme["spec"]["acme"]["domains"] = json!({"include": [tenant.domain]});
        until_issuer(&target, &acme, "Ready").await?;
        tenant.simple("drawn").await?;
        let ready = tenant.until("drawn", "Ready", SOON).await?;
        ensure!(
            ready.data["status"]["issuerRef"]["name"] == "issuer-acme",
            "another issuer was used"
        );

        // A deleted issuer is reported.
        api(&target, "Issuer", "tenant")?.delete("ca", &Default::default()).await?;
        let why = refused(&tenant, "late", of("late", &tenant, "ca", &tenant)).await?;
        ensure!(why.contains("tenant/ca does not exist"), "{why}");

        // After a restart all are unchanged, and no certificate is issued again.
        let before = objects::list(&target, "Secret", "tenant").await?;
        fleet.stop(0).await?;
        fleet.restart(0).await?;
        tenant.simple("after").await?;
        tenant.until("after", "Ready", SOON).await?;
        for name in ["acme", "signed", "root", "drawn"] {
            let (state, why) = state(&tenant.read("Certificate", name).await?);
            ensure!(state == "Ready", "{name}: {state} {why}");
        }
        for secret in before {
            let name = secret.metadata.name.unwrap_or_default();
            let now = api(&target, "Secret", "tenant")?.get(&name).await?;
            ensure!(now.metadata.resource_version == secret.metadata.resource_version, "{name}");
        }
        nothing_forbidden(&fleet)
    })
    .unwrap();
}
