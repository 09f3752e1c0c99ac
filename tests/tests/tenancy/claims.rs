//! Secrets, labels and serial numbers that a tenant writes are untrusted claims. They do not revoke
//! certificates of other tenants, create nothing in the operator's namespaces and do not use much
//! memory.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use cert_controller_manager::access::Cluster;
use cert_lib::model::request::{Fingerprint, RequestInputs};
use kube::{Client, ResourceExt as _};
use rcgen::{CertificateParams, KeyPair, SerialNumber};
use serde_json::{Value, json};
use tests::{
    Look, eventually,
    fleet::{
        Fleet,
        options::{FleetOptions, Layout},
    },
    health_watch::{Bounds, HealthWatch},
    namespace::Namespace,
    objects::{self, apply, state},
    run,
};

use super::*;

const CERTIFICATE: &str = "cert.gardener.cloud/certificate";
const HASH: &str = "cert.gardener.cloud/hash";
const DIGEST: &str = "cert.gardener.cloud/certificate-digest";
const REALM: &str = "cert.gardener.cloud/realm";
const REVOKED: &str = "cert.gardener.cloud/revoked";
/// For a debug build on a shared machine.
pub(super) const QUIET: Bounds =
    Bounds { memory: 64 << 20, cpu: Duration::from_secs(60), silence: Duration::from_secs(5) };

/// A self-signed certificate that is valid from 2020 on, with the serial number of another one.
fn self_made(names: &[String], serial: &str, end: Option<i64>) -> Result<(String, String)> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(names.to_vec())?;
    let digits = format!("{}{serial}", if serial.len().is_multiple_of(2) { "" } else { "0" });
    let digits: Vec<u8> = (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16))
        .collect::<Result<_, _>>()?;
    params.serial_number = Some(SerialNumber::from(digits));
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = match end {
        Some(days) => {
            let end = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * days);
            let end = end.to_zoned(jiff::tz::TimeZone::UTC).date();
            let (month, day) = (u8::try_from(end.month())?, u8::try_from(end.day())?);
            rcgen::date_time_ymd(end.year().into(), month, day)
        }
        None => rcgen::date_time_ymd(9998, 1, 1),
    };
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

/// A certificate Secret of a tenant, with the labels of real ones.
fn secret(name: &str, hash: &str, chain: &str, key: &str, more: &[(&str, &str)]) -> Value {
    let entries = [("tls.crt", chain), ("tls.key", key)];
    let data: BTreeMap<&str, String> =
        entries.iter().chain(more).map(|(name, text)| (*name, STANDARD.encode(text))).collect();
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "data": data,
        "metadata": {
            "name": name, "labels": {CERTIFICATE: "true", HASH: hash},
            "annotations": {"cert.gardener.cloud/requestedAt": "2020-01-01T00:00:00Z"},
        },
    })
}

fn revocation(name: &str, of: &str, namespace: &str, renew: bool) -> Value {
    json!({
        "apiVersion": "cert.gardener.cloud/v1alpha1", "kind": "CertificateRevocation",
        "metadata": {"name": name},
        "spec": {"certificateRef": {"name": of, "namespace": namespace}, "renew": renew},
    })
}

/// A Certificate that carries the hash of another owner's request.
async fn claim(tenant: &Namespace, name: &str, spec: Value, hash: &str) -> Result<()> {
    let mut claim = tests::namespace::certificate(name, spec);
    claim["metadata"]["labels"] = json!({HASH: hash});
    tenant.apply(&claim).await?;
    Ok(())
}

/// Waits until a CertificateRevocation is in Error, and returns the message.
async fn fails(tenant: &Namespace, object: &Value) -> Result<String> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    tenant.apply(object).await?;
    let is = |found: &kube::api::DynamicObject| state(found).0 == "Error";
    let kind = "CertificateRevocation";
    Ok(state(&tenant.until_some(kind, name, "is refused", LATER, is).await?).1)
}

async fn in_kube_system(target: &Client) -> Result<Vec<String>> {
    let all = objects::list(target, "Secret", "kube-system").await?;
    Ok(all.iter().map(kube::ResourceExt::name_any).collect())
}

/// The tenant has the victim's certificate except its key: serial number, names, hash, and the
/// certificate itself.
#[test]
fn copied_labels_do_not_revoke_the_certificate_of_another_tenant() {
    run(async {
        let options = FleetOptions { http: true, ..FleetOptions::least_rights(Layout::TWO) };
        let fleet = Fleet::with_issuer(options).await?;
        let target = fleet.client(Cluster::Target);
        let victim = Namespace::in_fleet(&fleet, "victim").await?;
        let thief = Namespace::in_fleet(&fleet, "thief").await?;
        victim.simple("a").await?;
        victim.until("a", "Ready", SOON).await?;
        let leaf = victim.leaf("a-tls").await?;
        let theirs = victim.secret("a-tls").await?.context("no Secret")?;
        let before = theirs.resource_version();
        let hash = victim.read("Certificate", "a").await?.labels()[HASH].clone();
        let digest = theirs.labels()[DIGEST].clone();
        let public = theirs.data.unwrap_or_default().remove("tls.crt").context("no tls.crt")?;
        let public = String::from_utf8(public.0)?;
        let records = in_kube_system(&target).await?;
        let health = HealthWatch::watch(&fleet, 0).await?;

        let (same, key) = self_made(&leaf.names, &leaf.serial, None)?;
        let (unknown, other_key) = self_made(&leaf.names, "abc123", None)?;
        let junk = "x".repeat(500_000);
        let junk = [("ca.crt", junk.as_str())];
        for (name, issuer, chain, key, more) in [
            ("same-number", "issuer-acme", &same, key.as_str(), &junk[..]),
            ("same-number-no-issuer", "none", &same, key.as_str(), &junk),
            ("unknown", "issuer-acme", &unknown, other_key.as_str(), &junk),
            ("stolen-other-key", "none", &public, key.as_str(), &[]),
            ("stolen-no-key", "none", &public, "", &[]),
        ] {
            let mut own = secret(&format!("{name}-tls"), &hash, chain, key, more);
            own["metadata"]["labels"][DIGEST] = json!(digest);
            apply(&target, "thief", &own).await?;
            let spec = json!({
                "commonName": format!("a.{}", victim.domain), "secretName": format!("{name}-tls"),
                "issuerRef": {"name": issuer},
            });
            claim(&thief, name, spec, &hash).await?;
            for renew in [true, false] {
                let claimed = revocation(&format!("{name}-{renew}"), name, "thief", renew);
                let why = fails(&thief, &claimed).await?;
                ensure!(why.contains("failed") || why.contains("no backup"), "{name}: {why}");
            }
            // The next revocation would include all of them, because they have the same hash.
            thief.delete("Certificate", name).await?;
        }

        ensure!(fleet.pebble.status(&leaf.serial).await? == "Valid", "it was revoked at the CA");
        let now = victim.secret("a-tls").await?.context("no Secret")?;
        ensure!(now.resource_version() == before, "the victim's Secret was written");
        ensure!(!now.annotations().contains_key(REVOKED), "the victim's Secret is marked");
        victim.until("a", "Ready", SOON).await?;
        ensure!(in_kube_system(&target).await? == records, "a tenant wrote to kube-system");
        health.check("claims of a tenant", QUIET).await?;
        nothing_forbidden(&fleet)
    })
    .unwrap();
}

/// 200 Secrets of 700 KB with the same hash and one CertificateRevocation. At the start of
/// leadership, 150 Secrets with our label and the realm of this manager.
#[test]
fn junk_in_secrets_needs_little_memory_and_creates_nothing_in_kube_system() {
    run(async {
        let options = FleetOptions { http: true, ..FleetOptions::least_rights(Layout::TWO) };
        let fleet = Fleet::with_issuer(options).await?;
        let target = fleet.client(Cluster::Target);
        let victim = Namespace::in_fleet(&fleet, "victim").await?;
        let hoarder = Namespace::in_fleet(&fleet, "hoarder").await?;
        hoarder.simple("a").await?;
        hoarder.until("a", "Ready", SOON).await?;
        let hash = hoarder.read("Certificate", "a").await?.labels()[HASH].clone();
        let own = hoarder.secret("a-tls").await?.context("no Secret")?;
        let realm = own.annotations().get(REALM).context("it says not whose it is")?.clone();
        let records = in_kube_system(&target).await?;

        let junk = "x".repeat(500_000);
        for number in 0..200 {
            let chain = format!("-----BEGIN CERTIFICATE-----\n{number}");
            let mut object =
                secret(&format!("junk-{number}"), &hash, &chain, "", &[("ca.crt", &junk)]);
            // The realms of another manager, of this one, and none.
            object["metadata"]["annotations"][REALM] = match number % 3 {
                0 => json!(realm),
                1 => json!("another@manager"),
                _ => json!(null),
            };
            apply(&target, "hoarder", &object).await?;
        }
        let health = HealthWatch::watch(&fleet, 0).await?;
        hoarder.apply(&revocation("all", "a", "hoarder", false)).await?;
        let is = |found: &kube::api::DynamicObject| state(found).0 == "Applied";
        hoarder.until_some("CertificateRevocation", "all", "is Applied", LATER, is).await?;
        hoarder.until("a", "Revoked", SOON).await?;
        health.check("200 junk Secrets and a revocation", QUIET).await?;

        fleet.stop(0).await?;
        fleet.restart(0).await?;
        eventually(LATER, "it serves again", || async {
            let serves = fleet.metrics(0).await.is_ok();
            Ok(if serves { Look::Done(()) } else { Look::NotYet("not yet".to_owned()) })
        })
        .await?;
        let health = HealthWatch::watch(&fleet, 0).await?;
        victim.simple("b").await?;
        victim.until("b", "Ready", SOON).await?;
        health.check("the collection among 200 junk Secrets", QUIET).await?;
        let peak = fleet.usage(0).await?.peak_memory >> 20;
        ensure!(peak <= 160, "{peak} MiB since the start");
        let left = objects::list(&target, "Secret", "hoarder").await?;
        ensure!(left.len() == 201, "{} are left", left.len());
        ensure!(in_kube_system(&target).await?.len() == records.len() + 1, "junk in kube-system");
        nothing_forbidden(&fleet)
    })
    .unwrap();
}

/// Secrets with self-made certificates near their end are not urgent, except for two a day. A
/// certificate with a record of its issuance is, although it looks the same.
#[test]
fn a_self_made_certificate_does_not_bypass_the_quota() {
    const MANY: usize = 6;
    const BUDGET: usize = 2;
    run(async {
        let options = FleetOptions { http: true, ..FleetOptions::least_rights(SOURCE_APART) };
        let fleet = Fleet::start(options).await?;
        let target = fleet.client(Cluster::Target);
        let mut issuer = objects::acme_issuer("scarce", &fleet.pebble.directory())?;
        issuer["spec"]["requestsPerDayQuota"] = json!(1);
        until_issuer(&fleet.client(Cluster::Default), &issuer, "Ready").await?;
        let victim = Namespace::in_fleet(&fleet, "victim").await?;
        let greedy = Namespace::in_fleet(&fleet, "greedy").await?;
        let spec = |tenant: &Namespace, name: &str| {
            json!({
                "commonName": format!("{name}.{}", tenant.domain),
                "secretName": format!("{name}-tls"), "issuerRef": {"name": "scarce"},
            })
        };
        victim.certificate("first", spec(&victim, "first")).await?;
        victim.until("first", "Ready", SOON).await?;
        ensure!(fleet.pebble.signed_count()? == 1);
        let health = HealthWatch::watch(&fleet, 0).await?;

        // Near its end, in a Secret with the label of this request.
        let about_to_end = |tenant: &Namespace, name: &str, serial: &str| {
            let host = format!("{name}.{}", tenant.domain);
            let request = RequestInputs {
                common_name: Some(&host),
                dns_names: &[],
                other_names: [&[], &[], &[]],
                csr: None,
                issuer: "scarce",
                key: None,
            };
            let hash = Fingerprint::of(&request).as_str().to_owned();
            let (chain, key) = self_made(&[host], serial, Some(2))?;
            anyhow::Ok(secret(&format!("{name}-tls"), &hash, &chain, &key, &[]))
        };
        let all = objects::list(&target, "Secret", "kube-system").await?;
        let backup = all.first().context("no backup")?;
        let mut record = about_to_end(&victim, "late", "abc1")?;
        apply(&target, "victim", &record).await?;
        record["metadata"]["name"] = json!("cert-backup-scarce-abc1-x1y2z");
        record["metadata"]["labels"]["cert.gardener.cloud/backup"] = json!("true");
        record["metadata"]["labels"]["cert.gardener.cloud/certificate-serialnumber"] =
            json!("abc1");
        record["metadata"]["annotations"] = json!(backup.annotations());
        apply(&target, "kube-system", &record).await?;
        victim.certificate("late", spec(&victim, "late")).await?;
        eventually(SOON, "what is recorded is renewed in spite of the quota", || async {
            let serial = victim.leaf("late-tls").await?.serial;
            Ok(if serial == "abc1" { Look::NotYet(serial) } else { Look::Done(()) })
        })
        .await?;

        for number in 0..MANY {
            let name = format!("c{number}");
            let made = about_to_end(&greedy, &name, &format!("abd{number}"))?;
            apply(&target, "greedy", &made).await?;
            greedy.certificate(&name, spec(&greedy, &name)).await?;
        }
        eventually(SOON, "all but the budget wait for the quota", || async {
            let all =
                objects::list(&fleet.client(Cluster::Source), "Certificate", "greedy").await?;
            let waiting = all.iter().map(state).filter(|(state, why)| {
                state == "Waiting" && why.starts_with("request quota exhausted")
            });
            let waiting = waiting.count();
            let signed = fleet.pebble.signed_count()?;
            let is_done = waiting == MANY - BUDGET && signed == 2 + BUDGET;
            let found = format!("{waiting} wait, {signed} signed: {:?}", all.first().map(state));
            Ok(if is_done { Look::Done(()) } else { Look::NotYet(found) })
        })
        .await?;
        health.check("certificates that were never issued", QUIET).await?;
        nothing_forbidden(&fleet)
    })
    .unwrap();
}
