//! CertificateRevocations, with a real CA that reports revoked certificates.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, Result, ensure};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, ResourceExt,
    api::{DynamicObject, ListParams, Patch, PatchParams, PostParams},
};
use rcgen::{CertificateParams, KeyPair, SerialNumber};
use serde_json::{Value, json};
use tests::{
    Look, eventually,
    namespace::{Namespace, certificate},
    objects::{acme_issuer, api, apply, example, state},
    run,
    test_env::TestEnv,
};

const SOON: Duration = Duration::from_secs(30);
const REVOKED: &str = "cert.gardener.cloud/revoked";
const HASH: &str = "cert.gardener.cloud/hash";

/// A CertificateRevocation of the Certificate `of`.
fn revocation(name: &str, namespace: &str, of: &str, renew: Option<bool>) -> Value {
    let mut object = json!({
        "apiVersion": "cert.gardener.cloud/v1alpha1",
        "kind": "CertificateRevocation",
        "metadata": {"name": name},
        "spec": {"certificateRef": {"name": of, "namespace": namespace}},
    });
    if let Some(renew) = renew {
        object["spec"]["renew"] = json!(renew);
    }
    object
}

/// Waits for a state of a CertificateRevocation.
async fn until(namespace: &Namespace, name: &str, wanted: &str) -> Result<DynamicObject> {
    let is = |object: &DynamicObject| state(object).0 == wanted;
    let what = format!("is {wanted}");
    namespace.until_some("CertificateRevocation", name, &what, SOON, is).await
}

/// Applies a revocation without renewal and waits for a state. Returns its message.
async fn revoked(namespace: &Namespace, name: &str, of: &str, wanted: &str) -> Result<String> {
    namespace.apply(&revocation(name, &namespace.name, of, None)).await?;
    Ok(state(&until(namespace, name, wanted).await?).1)
}

/// Waits until a Certificate is Ready, and returns its serial number.
async fn ready(namespace: &Namespace, name: &str) -> Result<String> {
    namespace.simple(name).await?;
    namespace.until(name, "Ready", SOON).await?;
    // A certificate counts as old if it was requested in an earlier second.
    Ok(namespace.leaf(&format!("{name}-tls")).await?.serial)
}

async fn is_revoked(env: &TestEnv, serial: &str) -> Result<bool> {
    Ok(env.pebble.status(serial).await? == "Revoked")
}

fn secrets(env: &TestEnv, namespace: &str) -> Api<Secret> {
    Api::namespaced(env.control_plane.client(), namespace)
}

/// The backup of a certificate.
async fn backup(env: &TestEnv, serial: &str) -> Result<Secret> {
    let number = serial.trim_start_matches('0');
    let selector = format!("cert.gardener.cloud/certificate-serialnumber={number}");
    let params = ListParams::default().labels(&selector);
    let found = secrets(env, "kube-system").list(&params).await?;
    found.items.into_iter().next().context("no backup")
}

async fn annotate(env: &TestEnv, secret: &Secret, annotations: Value) -> Result<()> {
    let patch = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
    let namespace = secret.namespace().unwrap_or_default();
    let api = secrets(env, &namespace);
    api.patch(&secret.name_any(), &PatchParams::default(), &patch).await?;
    Ok(())
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(|one| one["name"].as_str()).collect()
}

#[test]
fn without_renewal_the_certificate_is_revoked_at_the_ca_and_stays_so_until_it_is_renewed() {
    run(async {
        let env = TestEnv::shared().await?;
        let namespace = Namespace::new(env, "revoke").await?;
        let serial = ready(&namespace, "a").await?;
        namespace.apply(&revocation("now", "revoke", "a", None)).await?;
        let object = until(&namespace, "now", "Applied").await?;
        assert_eq!(state(&object).1, "certificate(s) revoked");
        ensure!(is_revoked(env, &serial).await?);
        let status = &object.data["status"];
        assert_eq!(status["objects"], json!({"revoked": [{"name": "a", "namespace": "revoke"}]}));
        let secret = &status["secrets"]["revoked"][0];
        let text = secret["serialNumber"].as_str().context("no serial number")?;
        assert_eq!(text.replace(':', "").trim_start_matches('0'), serial.trim_start_matches('0'));
        ensure!(text.split(':').all(|pair| pair.len() == 2), "{text}");
        assert_eq!(secret["name"], backup(env, &serial).await?.name_any());
        for field in [&status["revocationApplied"], &object.data["spec"]["qualifyingDate"]] {
            field.as_str().context("no date")?.parse::<Timestamp>()?;
        }

        let certificate = namespace.until("a", "Revoked", SOON).await?;
        assert_eq!(state(&certificate).1, "certificate has been revoked");
        ensure!(namespace.secret("a-tls").await?.context("gone")?.annotations()[REVOKED] == "true");
        ensure!(backup(env, &serial).await?.annotations()[REVOKED] == "true");
        namespace.until_event("now", SOON, |it| it.starts_with("Normal Applied ")).await?;

        // A second one has nothing to do.
        let why = revoked(&namespace, "again", "a", "Error").await?;
        assert_eq!(why, "certficate already revoked");

        namespace.patch("a", json!({"spec": {"renew": true}})).await?;
        namespace.until("a", "Ready", SOON).await?;
        let newer = namespace.leaf("a-tls").await?.serial;
        ensure!(newer != serial && !is_revoked(env, &newer).await?);
        let secret = namespace.secret("a-tls").await?.context("gone")?;
        ensure!(!secret.annotations().contains_key(REVOKED));
        Ok(())
    })
    .unwrap();
}

/// faults.md 72: with renewal, the old certificate is in use until there is a new one.
#[test]
fn the_example_renews_and_then_revokes_the_old_certificate() {
    run(async {
        let env = TestEnv::shared().await?;
        let namespace = Namespace::new(env, "renew").await?;
        let serial = ready(&namespace, "cert-simple").await?;
        let text = example("50-revocation.yaml")?.to_string();
        let object = serde_json::from_str(&text.replace("\"default\"", "\"renew\""))?;
        namespace.apply(&object).await?;
        let object = until(&namespace, "revocation", "Applied").await?;
        assert_eq!(state(&object).1, "certificate renewed and old certificate(s) revoked");
        assert_eq!(names(&object.data["status"]["objects"]["renewed"]), ["cert-simple"]);
        let newer = namespace.leaf("cert-simple-tls").await?.serial;
        ensure!(newer != serial, "it was not renewed");
        ensure!(is_revoked(env, &serial).await? && !is_revoked(env, &newer).await?);
        let secret = namespace.secret("cert-simple-tls").await?.context("gone")?;
        ensure!(!secret.annotations().contains_key(REVOKED));
        namespace.until("cert-simple", "Ready", SOON).await?;
        Ok(())
    })
    .unwrap();
}

/// The key may be the reason for the revocation. A renewal that was scheduled for later happens
/// now.
#[test]
fn a_revocation_with_renewal_generates_another_key() {
    run(async {
        let env = TestEnv::shared().await?;
        let namespace = Namespace::new(env, "leaked").await?;
        let next_week = (Timestamp::now() + SignedDuration::from_hours(7 * 24)).to_string();
        let spec = json!({
            "commonName": format!("a.{}", namespace.domain),
            "secretName": "a-tls",
            "privateKey": {"rotationPolicy": "Never"},
            "ensureRenewedAfter": next_week,
        });
        namespace.certificate("a", spec).await?;
        namespace.until("a", "Ready", SOON).await?;
        let first = namespace.leaf("a-tls").await?;
        namespace.apply(&revocation("renewing", "leaked", "a", Some(true))).await?;
        until(&namespace, "renewing", "Applied").await?;
        let second = namespace.leaf("a-tls").await?;
        ensure!(is_revoked(env, &first.serial).await?);
        ensure!(!is_revoked(env, &second.serial).await?);
        ensure!(second.public_key != first.public_key, "the key is certified again");

        // Afterwards the key is kept, as requested.
        namespace.patch("a", json!({"spec": {"renew": true}})).await?;
        let third = eventually(SOON, "there is a third certificate", || async {
            let leaf = namespace.leaf("a-tls").await?;
            let is_new = leaf.serial != second.serial;
            Ok(if is_new { Look::Done(leaf) } else { Look::NotYet(leaf.serial) })
        })
        .await?;
        ensure!(third.public_key == second.public_key, "another key");
        Ok(())
    })
    .unwrap();
}

#[test]
fn only_certificates_with_the_same_request_in_the_namespace_are_revoked() {
    run(async {
        let env = TestEnv::shared().await?;
        let (here, there) =
            (Namespace::new(env, "same").await?, Namespace::new(env, "others").await?);
        let host = format!("same.{}", here.domain);
        let mut serials = Vec::new();
        for (namespace, name) in [(&here, "a"), (&here, "b"), (&there, "c")] {
            let spec = json!({"commonName": host, "secretName": format!("{name}-tls")});
            namespace.certificate(name, spec).await?;
            namespace.until(name, "Ready", SOON).await?;
            serials.push(namespace.leaf(&format!("{name}-tls")).await?.serial);
        }
        here.apply(&revocation("both", "same", "a", None)).await?;
        let object = until(&here, "both", "Applied").await?;
        assert_eq!(names(&object.data["status"]["objects"]["revoked"]), ["a", "b"]);
        for name in ["a", "b"] {
            here.until(name, "Revoked", SOON).await?;
        }
        ensure!(is_revoked(env, &serials[0]).await? && is_revoked(env, &serials[1]).await?);
        ensure!(!is_revoked(env, &serials[2]).await?, "another tenant's was revoked");
        there.until("c", "Ready", SOON).await?;
        Ok(())
    })
    .unwrap();
}

/// Their hashes differ, so the certificate itself identifies them.
#[test]
fn all_owners_of_a_shared_certificate_are_revoked_in_any_order_of_names() {
    run(async {
        let env = TestEnv::shared().await?;
        let namespace = Namespace::new(env, "orders").await?;
        let host = |name: &str| format!("{name}.{}", namespace.domain);
        let orders = [("a", ["x", "y"]), ("b", ["y", "x"]), ("c", ["Y", "x"])];
        let mut hashes = BTreeSet::new();
        for (name, names) in orders {
            let spec = json!({"dnsNames": names.map(host), "secretName": format!("{name}-tls")});
            namespace.certificate(name, spec).await?;
            let object = namespace.until(name, "Ready", SOON).await?;
            hashes.insert(object.labels()[HASH].clone());
        }
        // The same request with another certificate.
        let spec = json!({"dnsNames": [host("y"), host("x")], "secretName": "own-tls"});
        let mut own = certificate("own", spec);
        own["metadata"]["annotations"] = json!({"cert.gardener.cloud/reuse": "false"});
        namespace.apply(&own).await?;
        namespace.until("own", "Ready", SOON).await?;
        let serial =
            async |name: &str| anyhow::Ok(namespace.leaf(&format!("{name}-tls")).await?.serial);
        let (first, kept) = (serial("a").await?, serial("own").await?);
        ensure!(hashes.len() == 3 && kept != first, "{hashes:?}");
        for name in ["b", "c"] {
            ensure!(serial(name).await? == first, "{name} has another certificate");
        }

        // The CertificateRevocation names a Certificate that did not order it.
        namespace.apply(&revocation("renewing", "orders", "c", Some(true))).await?;
        let object = until(&namespace, "renewing", "Applied").await?;
        assert_eq!(names(&object.data["status"]["objects"]["renewed"]), ["a", "b", "c"]);
        let second = serial("a").await?;
        ensure!(second != first && is_revoked(env, &first).await?);
        for name in ["a", "b", "c"] {
            namespace.until(name, "Ready", SOON).await?;
            ensure!(serial(name).await? == second, "{name} has another certificate");
        }

        namespace.apply(&revocation("end", "orders", "b", None)).await?;
        let object = until(&namespace, "end", "Applied").await?;
        ensure!(is_revoked(env, &second).await?);
        // Certificates with exactly the same request are included.
        let revoked = names(&object.data["status"]["objects"]["revoked"]);
        assert_eq!(revoked, ["a", "b", "c", "own"]);
        for name in revoked {
            namespace.until(name, "Revoked", SOON).await?;
        }
        Ok(())
    })
    .unwrap();
}

/// The authors of CertificateRevocations, their status and Certificates are untrusted.
#[test]
fn a_certificate_of_another_namespace_cannot_be_revoked() {
    run(async {
        let env = TestEnv::shared().await?;
        let (victim, thief) =
            (Namespace::new(env, "victim").await?, Namespace::new(env, "thief").await?);
        let serial = ready(&victim, "a").await?;
        let hash = victim.read("Certificate", "a").await?.labels()[HASH].clone();

        thief.apply(&revocation("plain", "victim", "a", None)).await?;
        let (_, why) = state(&until(&thief, "plain", "Error").await?);
        ensure!(why.contains("--allow-cross-namespace-secrets"), "{why}");

        // A Certificate that claims the same request and the same Secret.
        let spec = json!({
            "commonName": format!("a.{}", victim.domain),
            "secretRef": {"name": "a-tls", "namespace": "victim"},
        });
        let mut claim = tests::namespace::certificate("claim", spec);
        claim["metadata"]["labels"] = json!({HASH: hash});
        thief.apply(&claim).await?;
        thief.until("claim", "Error", SOON).await?;
        let why = revoked(&thief, "claimed", "claim", "Error").await?;
        ensure!(why.starts_with("find all old secrets failed: no valid secrets found"), "{why}");

        // A status that claims to have started with the backup of the other namespace.
        let own = ready(&thief, "own").await?;
        let mut forged = revocation("forged", "thief", "own", None);
        forged["metadata"]["annotations"] = json!({"cert.gardener.cloud/class": "other"});
        thief.apply(&forged).await?;
        let name = backup(env, &serial).await?.name_any();
        let begun = json!({"status": {"state": "Pending", "secrets": {"processing": [
            {"name": name, "namespace": "kube-system", "serialNumber": serial},
        ]}}});
        let revocations = api(&env.control_plane.client(), "CertificateRevocation", "thief")?;
        revocations.patch_status("forged", &PatchParams::default(), &Patch::Merge(begun)).await?;
        forged["metadata"]["annotations"] = json!({});
        thief.apply(&forged).await?;
        let (_, why) = state(&until(&thief, "forged", "Error").await?);
        ensure!(why.starts_with("revocation of certificate failed"), "{why}");

        ensure!(!is_revoked(env, &serial).await? && !is_revoked(env, &own).await?);
        victim.until("a", "Ready", SOON).await?;
        Ok(())
    })
    .unwrap();
}

#[test]
fn only_acme_issuers_revoke_and_a_missing_certificate_is_awaited() {
    run(async {
        let env = TestEnv::shared().await?;
        let namespace = Namespace::new(env, "kinds").await?;
        let issuer = json!({
            "apiVersion": "cert.gardener.cloud/v1alpha1", "kind": "Issuer",
            "metadata": {"name": "kinds-self", "namespace": "default"}, "spec": {"selfSigned": {}},
        });
        apply(&env.control_plane.client(), "default", &issuer).await?;
        env.until_issuer("kinds-self", "Ready", SOON).await?;
        let why = revoked(&namespace, "early", "own", "Error").await?;
        assert_eq!(why, "the Certificate does not exist");
        let spec = json!({
            "commonName": "own.example", "secretName": "own-tls", "isCA": true,
            "issuerRef": {"name": "kinds-self"},
        });
        namespace.certificate("own", spec).await?;
        namespace.until("own", "Ready", SOON).await?;
        let wanted = "certificate revocation only supported for issuers of type ACME";
        let says = |object: &DynamicObject| state(object).1 == wanted;
        namespace.until_some("CertificateRevocation", "early", "says why", SOON, says).await?;
        Ok(())
    })
    .unwrap();
}

/// faults.md 72: already revoked, of another account, unknown to the CA.
#[test]
fn a_refused_revocation_is_final_and_a_repeated_one_succeeds() {
    run(async {
        let env = TestEnv::shared().await?;
        let client = env.control_plane.client();
        let namespace = Namespace::new(env, "refused").await?;

        // Already revoked, but not recorded: a crash in between.
        let serial = ready(&namespace, "twice").await?;
        revoked(&namespace, "twice-1", "twice", "Applied").await?;
        namespace.until("twice", "Revoked", SOON).await?;
        let secret = namespace.secret("twice-tls").await?.context("gone")?;
        for marked in [secret, backup(env, &serial).await?] {
            annotate(env, &marked, json!({REVOKED: null})).await?;
        }
        namespace.until("twice", "Ready", SOON).await?;
        let message = revoked(&namespace, "twice-2", "twice", "Applied").await?;
        assert_eq!(message, "certificate(s) revoked");
        namespace.until("twice", "Revoked", SOON).await?;

        // Issued to another account.
        let other = acme_issuer("refused-other", &env.pebble.directory())?;
        apply(&client, "default", &other).await?;
        env.until_issuer("refused-other", "Ready", SOON).await?;
        let serial = ready(&namespace, "alien").await?;
        let issuer = json!({"cert.gardener.cloud/backup-issuer": "refused-other"});
        annotate(env, &backup(env, &serial).await?, issuer).await?;
        let why = revoked(&namespace, "alien", "alien", "Error").await?;
        ensure!(why.starts_with("revocation of certificate failed: errors during revocation: "));
        ensure!(why.contains("unauthorized"), "{why}");
        let object = namespace.read("CertificateRevocation", "alien").await?;
        ensure!(object.data["status"]["revocationApplied"].is_string(), "it is not finished");
        assert_eq!(names(&object.data["status"]["objects"]["failed"]), ["alien"]);
        ensure!(!is_revoked(env, &serial).await?);

        // A valid one and one that is unknown to the CA.
        let serial = ready(&namespace, "part").await?;
        let good = backup(env, &serial).await?;
        secrets(env, "kube-system").create(&PostParams::default(), &unknown(&good)?).await?;
        let message = revoked(&namespace, "part", "part", "PartialApplied").await?;
        assert_eq!(message, "certificate(s) revoked (ony partially successful)");
        ensure!(is_revoked(env, &serial).await?);
        Ok(())
    })
    .unwrap();
}

/// A backup like this one with a self-signed certificate.
fn unknown(like: &Secret) -> Result<Secret> {
    let mut params = CertificateParams::new(vec!["unknown.example".to_owned()])?;
    params.serial_number = Some(SerialNumber::from(vec![0x0a, 0xbc]));
    params.not_after = rcgen::date_time_ymd(2100, 1, 1);
    let pem = params.self_signed(&KeyPair::generate()?)?.pem();
    let mut secret = Secret {
        metadata: kube::api::ObjectMeta {
            name: Some("cert-backup-unknown".to_owned()),
            namespace: Some("kube-system".to_owned()),
            labels: like.metadata.labels.clone(),
            annotations: like.metadata.annotations.clone(),
            ..Default::default()
        },
        type_: like.type_.clone(),
        data: like.data.clone(),
        ..Default::default()
    };
    let serial = "cert.gardener.cloud/certificate-serialnumber".to_owned();
    secret.labels_mut().insert(serial, "abc".to_owned());
    let data = secret.data.get_or_insert_default();
    data.insert("tls.crt".to_owned(), k8s_openapi::ByteString(pem.into_bytes()));
    Ok(secret)
}

#[test]
fn a_revocation_waits_for_its_issuer_and_creates_a_missing_backup() {
    run(async {
        let env = TestEnv::shared().await?;
        let client = env.control_plane.client();
        let namespace = Namespace::new(env, "patient").await?;
        let issuer = acme_issuer("patient", &env.pebble.directory())?;
        apply(&client, "default", &issuer).await?;
        env.until_issuer("patient", "Ready", SOON).await?;
        let spec = json!({
            "commonName": format!("a.{}", namespace.domain), "secretName": "a-tls",
            "issuerRef": {"name": "patient"},
        });
        namespace.certificate("a", spec).await?;
        namespace.until("a", "Ready", SOON).await?;
        let serial = namespace.leaf("a-tls").await?.serial;
        let lost = backup(env, &serial).await?.name_any();
        secrets(env, "kube-system").delete(&lost, &Default::default()).await?;

        // The CA is down: no process listens there.
        let mut away = issuer.clone();
        away["spec"]["acme"]["server"] = json!("https://127.0.0.1:1/dir");
        apply(&client, "default", &away).await?;
        env.until_issuer("patient", "Error", SOON).await?;
        namespace.apply(&revocation("later", "patient", "a", None)).await?;
        let waits = |object: &DynamicObject| state(object).1.contains("issuer patient not ready");
        namespace.until_some("CertificateRevocation", "later", "waits", SOON, waits).await?;
        let object = until(&namespace, "later", "Pending").await?;
        ensure!(object.data["status"]["revocationApplied"].is_null(), "it was given up");
        ensure!(!is_revoked(env, &serial).await?);

        apply(&client, "default", &issuer).await?;
        until(&namespace, "later", "Applied").await?;
        ensure!(is_revoked(env, &serial).await?);
        namespace.until("a", "Revoked", SOON).await?;
        // A tenant can put a self-made certificate into a Secret: only issued ones are backed up.
        ensure!(backup(env, &serial).await.is_err(), "a backup was made of a tenant's Secret");
        Ok(())
    })
    .unwrap();
}
