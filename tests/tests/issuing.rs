//! From a Certificate to its Secret, with a real API server, a real CA and real DNS.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use cert_lib::model::bundle::{LeafDigest, certificates};
use k8s_openapi::api::core::v1::Secret;
use kube::api::DynamicObject;
use rcgen::{KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use serde_json::{Value, json};
use tests::{
    Look,
    acme::signing_request,
    eventually,
    namespace::{Namespace, certificate},
    objects::{acme_issuer, apply, example},
    run,
    table::{Table, Width},
    test_env::{ISSUER, TestEnv},
    x509::Leaf,
};

const SOON: Duration = Duration::from_secs(60);

fn data<'a>(secret: &'a Secret, key: &str) -> Result<&'a [u8]> {
    let value = secret.data.as_ref().and_then(|data| data.get(key));
    Ok(&value.with_context(|| format!("the Secret has no {key}"))?.0)
}

/// The example with its names in the domain of the test.
fn example_in(namespace: &Namespace, file: &str) -> Result<Value> {
    let text = example(file)?.to_string();
    Ok(serde_json::from_str(&text.replace("my-company.test", &namespace.domain))?)
}

fn hash_label(object: &DynamicObject) -> String {
    object.metadata.labels.clone().unwrap_or_default()["cert.gardener.cloud/hash"].clone()
}

#[test]
fn the_simple_example_becomes_a_secret_within_two_seconds() {
    run(async {
        let env = TestEnv::shared().await?;
        let namespace = Namespace::new(env, "simple").await?;
        let example = example_in(&namespace, "30-cert-simple.yaml")?;
        // The fastest of three: all tests of this file start at the same time as the manager.
        let mut fastest = Duration::MAX;
        for number in 0..3 {
            let mut one = example.clone();
            if number > 0 {
                let name = format!("cert-again-{number}");
                one["metadata"]["name"] = json!(name);
                one["spec"]["commonName"] = json!(format!("{name}.{}", namespace.domain));
                one["spec"]["dnsNames"] = json!([]);
                one["spec"]["secretName"] = json!(format!("{name}-tls"));
            }
            let secret = one["spec"]["secretName"].as_str().unwrap_or_default().to_owned();
            let began = Instant::now();
            namespace.apply(&one).await?;
            eventually(SOON, "the Secret is there", || async {
                let there = namespace.secret(&secret).await?.is_some();
                Ok(if there { Look::Done(()) } else { Look::NotYet("no Secret".to_owned()) })
            })
            .await?;
            fastest = fastest.min(began.elapsed());
        }
        assert!(fastest < Duration::from_secs(2), "took {fastest:?}");
        let secret = namespace.secret("cert-simple-tls").await?.context("it is gone")?;

        let object = namespace.until("cert-simple", "Ready", SOON).await?;
        assert_eq!(secret.type_.as_deref(), Some("kubernetes.io/tls"));
        let leaf = certificates(data(&secret, "tls.crt")?)?;
        let digest = LeafDigest::of(leaf.first().context("no certificate")?).to_string();
        let labels = json!({
            "cert.gardener.cloud/certificate": "true",
            "cert.gardener.cloud/certificate-digest": digest[..56],
            "cert.gardener.cloud/hash": hash_label(&object),
        });
        assert_eq!(json!(secret.metadata.labels), labels);
        let annotations = secret.metadata.annotations.clone().unwrap_or_default();
        let keys: Vec<&str> = annotations.keys().map(String::as_str).collect();
        assert_eq!(keys, ["cert.gardener.cloud/realm", "cert.gardener.cloud/requestedAt"]);
        annotations["cert.gardener.cloud/requestedAt"].parse::<jiff::Timestamp>()?;
        let keys: Vec<&String> = secret.data.as_ref().unwrap().keys().collect();
        assert_eq!(keys, ["ca.crt", "tls.crt", "tls.key"]);

        let leaf = Leaf::parse(data(&secret, "tls.crt")?)?;
        let host = |name: &str| format!("{name}.{}", namespace.domain);
        let mut names = leaf.names.clone();
        names.sort();
        assert_eq!(names, [host("cert1-foo"), host("cert1")]);
        assert_eq!((leaf.key.as_str(), leaf.chain), ("EC 256 bit", 2));
        let key = KeyPair::from_pem(std::str::from_utf8(data(&secret, "tls.key")?)?)?;
        assert!(key.public_key_raw().len() > 60 && leaf.public_key.ends_with(key.public_key_raw()));
        let chain = Leaf::parse(data(&secret, "ca.crt")?)?;
        assert_eq!(chain.subject, leaf.issuer);

        let status = &object.data["status"];
        assert_eq!(status["commonName"], host("cert1"));
        assert_eq!(status["dnsNames"], json!([host("cert1-foo")]));
        let issuer = json!({"cluster": "default", "name": ISSUER, "namespace": "default"});
        assert_eq!(status["issuerRef"], issuer);
        let expiration: jiff::Timestamp = status["expirationDate"].as_str().unwrap().parse()?;
        assert_eq!(expiration, leaf.not_after);
        let condition = tests::objects::condition(&object, "Ready").unwrap();
        assert_eq!((&condition["status"], &condition["reason"]), (&json!("True"), &json!("Ready")));
        let reference = json!({"name": "cert-simple-tls", "namespace": "simple"});
        assert_eq!(object.data["spec"]["secretRef"], reference);
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_wildcard_and_its_apex_share_one_certificate() {
    run(async {
        let env = TestEnv::shared().await?;
        let namespace = Namespace::new(env, "wildcard").await?;
        namespace.apply(&example_in(&namespace, "30-cert-wildcard.yaml")?).await?;
        namespace.until("cert-wildcard", "Ready", SOON).await?;
        let mut names = namespace.leaf("cert-wildcard-tls").await?.names;
        names.sort();
        let apex = format!("wild.{}", namespace.domain);
        assert_eq!(names, [format!("*.{apex}"), apex]);
        namespace.until_no_dns_entry(SOON).await
    })
    .unwrap();
}

#[test]
fn a_signing_request_gets_a_certificate_for_its_own_key() {
    run(async {
        let env = TestEnv::shared().await?;
        let namespace = Namespace::new(env, "csr").await?;
        let key = KeyPair::generate()?;
        let host = format!("own.{}", namespace.domain);
        let request = signing_request(std::slice::from_ref(&host), &key)?.pem()?;
        let csr = BASE64_STANDARD.encode(request);
        namespace.certificate("own", json!({"csr": csr, "secretName": "own-tls"})).await?;
        let object = namespace.until("own", "Ready", SOON).await?;
        let secret = namespace.secret("own-tls").await?.context("no Secret")?;
        assert_eq!(data(&secret, "tls.key")?, b"");
        let leaf = Leaf::parse(data(&secret, "tls.crt")?)?;
        assert!(leaf.public_key.ends_with(key.public_key_raw()));
        assert_eq!(leaf.names, std::slice::from_ref(&host));
        assert_eq!(object.data["status"]["dnsNames"], json!([host]));
        Ok(())
    })
    .unwrap();
}

#[test]
fn the_committed_signing_request_is_issued() {
    run(async {
        let env = TestEnv::shared().await?;
        let namespace = Namespace::new(env, "csr-example").await?;
        namespace.apply(&example("30-cert-csr.yaml")?).await?;
        namespace.until("cert-csr", "Ready", SOON).await?;
        let mut names = namespace.leaf("cert-csr-tls").await?.names;
        names.sort();
        assert_eq!(names, ["csr.my-company.test", "www.csr.my-company.test"]);
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_certificate_without_an_issuer_uses_the_default_one() {
    run(async {
        let env = TestEnv::shared().await?;
        let namespace = Namespace::new(env, "default-issuer").await?;
        namespace.simple("plain").await?;
        let object = namespace.until("plain", "Ready", SOON).await?;
        assert_eq!(object.data["status"]["issuerRef"]["name"], ISSUER);
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_certificate_without_a_secret_name_gets_one() {
    run(async {
        let env = TestEnv::shared().await?;
        let namespace = Namespace::new(env, "no-secret-name").await?;
        let spec = json!({"commonName": format!("nameless.{}", namespace.domain)});
        namespace.certificate("nameless", spec).await?;
        let object = namespace.until("nameless", "Ready", SOON).await?;
        let name = object.data["spec"]["secretRef"]["name"].as_str().context("no secretRef")?;
        assert!(name.starts_with("nameless-"), "{name}");
        namespace.leaf(name).await?;
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_requested_renewal_issues_one_new_certificate() {
    run(async {
        let env = TestEnv::shared().await?;
        let namespace = Namespace::new(env, "renew").await?;
        namespace.simple("again").await?;
        namespace.until("again", "Ready", SOON).await?;
        let first = namespace.leaf("again-tls").await?;
        namespace.patch("again", json!({"spec": {"renew": true}})).await?;
        let second = eventually(SOON, "the serial number changes", || async {
            let leaf = namespace.leaf("again-tls").await?;
            Ok(if leaf.serial == first.serial {
                Look::NotYet(leaf.serial)
            } else {
                Look::Done(leaf)
            })
        })
        .await?;
        namespace
            .until_some("Certificate", "again", "has spec.renew removed", SOON, |object| {
                let spec = &object.data["spec"];
                spec["renew"].is_null() && !spec["ensureRenewedAfter"].is_null()
            })
            .await?;
        namespace.until("again", "Ready", SOON).await?;
        assert_eq!(namespace.leaf("again-tls").await?.serial, second.serial);
        let signed = env.pebble.signed().await?;
        assert_eq!(signed.iter().filter(|signed| signed.names == second.names).count(), 2);
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_changed_request_is_issued_again_and_an_unchanged_one_is_not() {
    run(async {
        let env = TestEnv::shared().await?;
        let namespace = Namespace::new(env, "change").await?;
        let host = |name: &str| format!("{name}.{}", namespace.domain);
        let spec = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| host(name)).collect();
            json!({"commonName": host("one"), "dnsNames": names, "secretName": "change-tls"})
        };
        namespace.certificate("change", spec(&["two"])).await?;
        namespace.until("change", "Ready", SOON).await?;
        let first = namespace.leaf("change-tls").await?;
        namespace.certificate("change", spec(&["two", "three"])).await?;
        eventually(SOON, "the new name is in the Secret", || async {
            let leaf = namespace.leaf("change-tls").await?;
            let found = leaf.names.contains(&host("three")) && leaf.serial != first.serial;
            Ok(if found { Look::Done(()) } else { Look::NotYet(leaf.names.join(" ")) })
        })
        .await?;
        namespace.until("change", "Ready", SOON).await?;
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_certificate_deleted_in_any_phase_leaves_no_objects_behind() {
    run(async {
        let env = TestEnv::shared().await?;
        let namespace = Namespace::new(env, "deleted").await?;
        // Each is deleted one check later than the one before: at once, while its record is
        // created, during the validation, …, until one becomes Ready first.
        for looks in 0..40 {
            let name = format!("gone-{looks}");
            namespace.simple(&name).await?;
            let mut ready = false;
            for _ in 0..looks {
                let object = namespace.read("Certificate", &name).await?;
                ready = tests::objects::state(&object).0 == "Ready";
            }
            namespace.delete("Certificate", &name).await?;
            if ready {
                break;
            }
        }
        namespace.until_no_dns_entry(SOON).await?;
        // The orders of other tests end in the meantime, so this checks all orders.
        env.until_nothing_is_left(Duration::from_secs(60)).await
    })
    .unwrap();
}

#[test]
fn an_account_with_an_rsa_key_is_used() {
    run(async {
        let env = TestEnv::shared().await?;
        let namespace = Namespace::new(env, "rsa-account").await?;
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?;
        let secret = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "issuer-rsa-account"},
            "stringData": {"privateKey": key.serialize_pem()},
        });
        let client = env.control_plane.client();
        apply(&client, "default", &secret).await?;
        let mut issuer = acme_issuer("issuer-rsa", &env.pebble.directory())?;
        issuer["spec"]["acme"]["autoRegistration"] = json!(false);
        apply(&client, "default", &issuer).await?;
        env.until_issuer("issuer-rsa", "Ready", SOON).await?;
        let host = format!("rsa.{}", namespace.domain);
        let spec = json!({
            "commonName": host, "secretName": "rsa-tls", "issuerRef": {"name": "issuer-rsa"},
        });
        namespace.apply(&certificate("rsa", spec)).await?;
        namespace.until("rsa", "Ready", SOON).await?;
        Ok(())
    })
    .unwrap();
}

#[test]
fn kubectl_prints_the_documented_columns() {
    run(async {
        let env = TestEnv::shared().await?;
        let client = env.control_plane.client();
        let issuers = Table::read(&client, "issuers", "default").await?;
        let narrow = ["NAME", "SERVER", "EMAIL", "STATUS", "TYPE", "AGE"];
        assert_eq!(issuers.headings(Width::Narrow), narrow);
        let certificates = Table::read(&client, "certificates", "default").await?;
        let wide =
            ["NAME", "COMMON NAME", "ISSUER", "STATUS", "EXPIRATION_DATE", "DNS_NAMES", "AGE"];
        assert_eq!(certificates.headings(Width::Wide), wide);
        Ok(())
    })
    .unwrap();
}

#[test]
fn the_lifecycle_of_a_certificate_is_reported_as_events() {
    run(async {
        let env = TestEnv::shared().await?;
        let namespace = Namespace::new(env, "events").await?;
        namespace.simple("lifecycle").await?;
        namespace.until("lifecycle", "Ready", SOON).await?;
        eventually(SOON, "there is an event and no warning", || async {
            let events = namespace.events("lifecycle").await?;
            let normal = events.iter().any(|event| event.starts_with("Normal"));
            let warned = events.iter().any(|event| event.starts_with("Warning"));
            let seen = events.join("; ");
            Ok(if normal && !warned { Look::Done(()) } else { Look::NotYet(seen) })
        })
        .await
    })
    .unwrap();
}
