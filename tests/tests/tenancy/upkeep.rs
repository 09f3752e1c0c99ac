//! Maintenance of Secrets: old ones are deleted, every certificate is backed up for a later
//! revocation, and labels follow the Certificate.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use cert_controller_manager::access::Cluster;
use kube::{ResourceExt as _, api::DynamicObject};
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use tests::{
    Look, eventually,
    fleet::{Fleet, options::FleetOptions},
    namespace::Namespace,
    objects::{self, api, apply},
    run,
};

use super::*;

const DAY: i64 = 86_400;
const BACKUP: &str = "cert.gardener.cloud/backup";
const REALM: &str = "cert.gardener.cloud/realm";
const REVOKED: &str = "cert.gardener.cloud/revoked";

/// A Secret with a certificate that expired this number of days ago.
fn ended(name: &str, days: i64, labels: &Value) -> Result<Value> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec![format!("{name}.my-company.test")])?;
    // rcgen uses whole days, counted here from an instant in the past.
    let end = jiff::Timestamp::now().as_second() - days * DAY;
    let day = jiff::Timestamp::from_second(end)?.to_zoned(jiff::tz::TimeZone::UTC).date();
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(
        day.year().into(),
        u8::try_from(day.month())?,
        u8::try_from(day.day())?,
    );
    let pem = params.self_signed(&key)?.pem();
    Ok(json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": name, "labels": labels},
        "data": {"tls.crt": STANDARD.encode(pem), "tls.key": STANDARD.encode(key.serialize_pem())},
    }))
}

/// With several managers for one target: Secrets of another manager or an older version stay.
#[test]
fn only_own_unreferenced_secrets_that_expired_two_weeks_ago_are_collected() {
    run(async {
        let fleet = Fleet::start(FleetOptions {
            definitions: true,
            ..FleetOptions::least_rights(SOURCE_APART)
        })
        .await?;
        let target = fleet.client(Cluster::Target);
        let old = Namespace::in_fleet(&fleet, "old").await?;
        let issuer = json!({
            "apiVersion": "cert.gardener.cloud/v1alpha1", "kind": "Issuer",
            "metadata": {"name": "self", "namespace": "default"}, "spec": {"selfSigned": {}},
        });
        until_issuer(&fleet.client(Cluster::Default), &issuer, "Ready").await?;
        let spec = json!({
            "commonName": "own.my-company.test", "secretName": "own", "isCA": true,
            "issuerRef": {"name": "self"},
        });
        old.certificate("own", spec).await?;
        old.until("own", "Ready", SOON).await?;
        let own = old.secret("own").await?.context("no Secret")?;
        let realm = own.annotations().get(REALM).context("it says not whose it is")?.clone();
        fleet.stop(0).await?;

        let ours = json!({"cert.gardener.cloud/certificate": "true"});
        let backup = json!({"cert.gardener.cloud/certificate": "true", BACKUP: "true"});
        let (wanted_here, wanted_there) = ("wanted-from-source", "wanted-from-target");
        let (here, other) = (realm.as_str(), "gardencert@another-cluster");
        for (name, days, labels, realm) in [
            ("long-over", 40, &ours, here),
            ("just-over", 16, &ours, here),
            ("over", 12, &ours, here),
            ("valid", -30, &ours, here),
            (wanted_here, 40, &ours, here),
            (wanted_there, 40, &ours, here),
            ("of-another-client", 40, &json!({}), here),
            ("of-another-manager", 40, &ours, other),
            ("of-another-class", 40, &ours, &realm.replace("gardencert@", "other@")),
            ("of-an-older-version", 40, &ours, ""),
            ("backup-over", 40, &backup, here),
            ("backup-over-of-another", 40, &backup, other),
            ("backup", -30, &backup, here),
        ] {
            let mut object = ended(name, days, labels)?;
            if !realm.is_empty() {
                object["metadata"]["annotations"] = json!({REALM: realm});
            }
            apply(&target, "old", &object).await?;
        }
        // Its issuer does not exist, so the Secret that it refers to stays unchanged.
        let spec = |secret: &str| {
            let issuer = json!({"name": "none"});
            json!({"commonName": "a.my-company.test", "secretName": secret, "issuerRef": issuer})
        };
        old.certificate("from-source", spec(wanted_here)).await?;
        let there = tests::namespace::certificate("from-target", spec(wanted_there));
        apply(&target, "old", &there).await?;
        fleet.restart(0).await?;
        let left = [
            "backup",
            "backup-over-of-another",
            "of-an-older-version",
            "of-another-class",
            "of-another-client",
            "of-another-manager",
            "over",
            "own",
            "valid",
            "wanted-from-source",
            "wanted-from-target",
        ];
        until_only(&target, "Secret", "old", &left).await?;
        fleet.check().await?;
        nothing_forbidden(&fleet)
    })
    .unwrap();
}

/// The backups, by serial number.
async fn backups(fleet: &Fleet) -> Result<BTreeMap<String, DynamicObject>> {
    let all = objects::list(&fleet.client(Cluster::Target), "Secret", "kube-system").await?;
    let ours = all.into_iter().filter(|it| it.labels().get(BACKUP).is_some_and(|it| it == "true"));
    let serial =
        |it: &DynamicObject| it.labels()["cert.gardener.cloud/certificate-serialnumber"].clone();
    Ok(ours.map(|it| (serial(&it), it)).collect())
}

#[test]
fn every_certificate_has_one_backup_for_revocations_with_current_labels() {
    run(async {
        let fleet = Fleet::with_issuer(FleetOptions {
            arguments: arguments(&["--cascade-delete"]),
            ..FleetOptions::least_rights(SOURCE_APART)
        })
        .await?;
        let target = fleet.client(Cluster::Target);
        let kept = Namespace::in_fleet(&fleet, "kept").await?;
        let spec = json!({
            "commonName": format!("a.{}", kept.domain), "secretName": "a-tls",
            "secretLabels": {"team": "blue", "tier": "web"},
        });
        kept.certificate("a", spec).await?;
        kept.until("a", "Ready", SOON).await?;
        let first = kept.leaf("a-tls").await?;
        let secret = kept.secret("a-tls").await?.context("no Secret")?;
        ensure!(secret.labels()["team"] == "blue" && secret.labels()["tier"] == "web");

        // A backup has exactly its labels, the data, and no owner.
        let found = backups(&fleet).await?;
        let backup = found.get(&first.serial).context("no backup")?;
        let labels: Vec<&str> = backup.labels().keys().map(String::as_str).collect();
        let wanted = ["backup", "certificate", "certificate-serialnumber", "hash"];
        ensure!(labels == wanted.map(|name| format!("cert.gardener.cloud/{name}")), "{labels:?}");
        ensure!(
            backup.labels()["cert.gardener.cloud/hash"]
                == secret.labels()["cert.gardener.cloud/hash"]
        );
        ensure!(backup.name_any().starts_with("cert-backup-issuer-acme-"), "{}", backup.name_any());
        ensure!(backup.owner_references().is_empty() && backup.data["type"] == "kubernetes.io/tls");
        let pem = secret.data.unwrap_or_default().remove("tls.crt").context("no tls.crt")?;
        ensure!(backup.data["data"]["tls.crt"] == STANDARD.encode(pem.0));

        // A change of labels does not issue a certificate; labels of other clients stay.
        let theirs = json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
            "metadata": {"name": "a-tls", "labels": {"by": "another"}}});
        apply(&target, "kept", &theirs).await?;
        kept.patch("a", json!({"spec": {"secretLabels": {"team": "green"}}})).await?;
        eventually(SOON, "the label follows", || async {
            let secret = kept.secret("a-tls").await?.context("no Secret")?;
            let is = secret.labels()["team"] == "green" && secret.labels().contains_key("by");
            Ok(if is { Look::Done(()) } else { Look::NotYet(format!("{:?}", secret.labels())) })
        })
        .await?;
        ensure!(kept.leaf("a-tls").await?.serial == first.serial, "it was issued again");

        // A renewal creates a second backup, and a restart none.
        kept.patch("a", json!({"spec": {"renew": true}})).await?;
        eventually(SOON, "it is renewed", || async {
            let serial = kept.leaf("a-tls").await?.serial;
            Ok(if serial == first.serial { Look::NotYet(serial) } else { Look::Done(()) })
        })
        .await?;
        kept.until("a", "Ready", SOON).await?;
        let second = kept.leaf("a-tls").await?;
        let two = backups(&fleet).await?;
        ensure!(two.len() == 2 && two.contains_key(&second.serial), "{:?}", two.keys());

        // A Secret that an operator marked as revoked is left alone, also after a restart.
        let secrets = api(&target, "Secret", "kept")?;
        let mark = json!({"metadata": {"annotations": {REVOKED: "true"}}});
        let patch = kube::api::Patch::Merge(mark);
        let marked = secrets.patch("a-tls", &Default::default(), &patch).await?;
        kept.until("a", "Revoked", SOON).await?;
        fleet.stop(0).await?;
        fleet.restart(0).await?;
        kept.simple("b").await?;
        kept.until("b", "Ready", SOON).await?;
        kept.until("a", "Revoked", SOON).await?;
        let now = secrets.get("a-tls").await?;
        ensure!(now.resource_version() == marked.resource_version(), "it was written");

        // Its backups outlive the Certificate.
        kept.delete("Certificate", "a").await?;
        until_only(&target, "Secret", "kept", &["b-tls"]).await?;
        let all = backups(&fleet).await?;
        ensure!(all.len() == 3 && two.keys().all(|it| all.contains_key(it)), "{:?}", all.keys());
        nothing_forbidden(&fleet)
    })
    .unwrap();
}
