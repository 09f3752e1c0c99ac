//! The selection of issuers, their quotas, and issuers whose CA key we hold.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tests::{
    namespace::Namespace,
    objects::{acme_issuer, api, apply, state},
    run,
    test_env::{TestEnv, TestEnvOptions},
    x509::Leaf,
};
use x509_parser::pem::Pem;

const SOON: Duration = Duration::from_secs(20);

fn issuer(name: &str, spec: Value) -> Value {
    let mut issuer = json!({
        "apiVersion": "cert.gardener.cloud/v1alpha1",
        "kind": "Issuer",
        "metadata": { "name": name, "namespace": "default" },
    });
    issuer["spec"] = spec;
    issuer
}

async fn apply_issuer(env: &TestEnv, object: &Value) -> Result<()> {
    apply(&env.control_plane.client(), "default", object).await?;
    let name = object["metadata"]["name"].as_str().context("an issuer has a name")?;
    env.until_issuer(name, "Ready", SOON).await.map(drop)
}

/// An ACME issuer for these domains, with at most this many requests per day.
fn acme(env: &TestEnv, name: &str, domains: Option<Value>, quota: Option<i64>) -> Result<Value> {
    let mut object = acme_issuer(name, &env.pebble.directory())?;
    if let Some(domains) = domains {
        object["spec"]["acme"]["domains"] = domains;
    }
    if let Some(quota) = quota {
        object["spec"]["requestsPerDayQuota"] = json!(quota);
    }
    Ok(object)
}

async fn entry(namespace: &Namespace, secret: &str, entry: &str) -> Result<Vec<u8>> {
    let secret = namespace.secret(secret).await?.context("there is no Secret")?;
    let data = secret.data.unwrap_or_default();
    Ok(data.get(entry).with_context(|| format!("the Secret has no {entry}"))?.0.clone())
}

/// Each certificate of a chain is signed by the next one.
fn chains(pem: &[u8], roots: &[u8]) -> Result<()> {
    let mut blocks: Vec<Pem> = Pem::iter_from_buffer(pem).collect::<Result<_, _>>()?;
    blocks.extend(Pem::iter_from_buffer(roots).collect::<Result<Vec<_>, _>>()?);
    for pair in blocks.windows(2) {
        let (below, above) = (pair[0].parse_x509()?, pair[1].parse_x509()?);
        if below.tbs_certificate.as_ref() != above.tbs_certificate.as_ref() {
            below.verify_signature(Some(above.public_key()))?;
        }
    }
    Ok(())
}

/// Lists in annotations, as users write them: no issuer certifies fewer names than requested.
async fn lists_of_names_are_certified_or_refused(namespace: &Namespace) -> Result<()> {
    let domain = &namespace.domain;
    let service = |name: &str, names: String| {
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": name, "annotations": {
                "cert.gardener.cloud/secretname": format!("{name}-tls"),
                "cert.gardener.cloud/issuer": "own-ca",
                "cert.gardener.cloud/dnsnames": names,
            }},
            "spec": {"type": "LoadBalancer", "ports": [{"port": 443}]},
        })
    };
    namespace.apply(&service("lines", format!("a.{domain}\nb.{domain} c.{domain}\n"))).await?;
    namespace.apply(&service("quotes", format!("\"d.{domain}\ne.{domain}\""))).await?;
    namespace.until_some("Secret", "lines-tls", "is there", SOON, |_| true).await?;
    let names = ["a", "b", "c"].map(|name| format!("{name}.{domain}"));
    assert_eq!(namespace.leaf("lines-tls").await?.names, names);
    let refused = format!("invalid domain: \"d.{domain} has a character");
    namespace.until_event("quotes", SOON, |it| it.contains(&refused)).await?;
    ensure!(namespace.secret("quotes-tls").await?.is_none(), "it was issued");
    Ok(())
}

#[test]
fn a_self_signed_ca_signs_a_certificate_and_shows_itself() {
    run(async {
        let env = TestEnv::shared().await?;
        let namespace = Namespace::new(env, "own-issuers").await?;
        let domain = &namespace.domain;
        apply_issuer(env, &issuer("own-self", json!({ "selfSigned": {} }))).await?;
        namespace
            .certificate(
                "root",
                json!({
                    "commonName": "a root of ours", "isCA": true, "duration": "43800h",
                    "issuerRef": { "name": "own-self" }, "secretName": "root-tls",
                }),
            )
            .await?;
        namespace.until("root", "Ready", SOON).await?;
        let root = entry(&namespace, "root-tls", "tls.crt").await?;
        assert_eq!(root, entry(&namespace, "root-tls", "ca.crt").await?);

        let reference = json!({ "name": "root-tls", "namespace": namespace.name });
        let spec = json!({ "ca": { "privateKeySecretRef": reference } });
        apply_issuer(env, &issuer("own-ca", spec)).await?;
        let issuers = api(&env.control_plane.client(), "Issuer", "default")?;
        let status = issuers.get("own-ca").await?.data["status"].clone();
        assert_eq!(status["type"], "ca");
        assert_eq!(status["requestsPerDayQuota"], 2_147_483_647);
        assert_eq!(status["ca"]["Subject"]["CommonName"], "a root of ours");

        namespace
            .certificate(
                "leaf",
                json!({
                    "commonName": format!("leaf.{domain}"), "ipAddresses": ["10.0.0.1"],
                    "issuerRef": { "name": "own-ca" }, "secretName": "leaf-tls",
                }),
            )
            .await?;
        namespace.until("leaf", "Ready", SOON).await?;
        let chain = entry(&namespace, "leaf-tls", "tls.crt").await?;
        let leaf = Leaf::parse(&chain)?;
        assert_eq!(leaf.chain, 2);
        assert_eq!(leaf.issuer, "CN=a root of ours");
        assert_eq!(leaf.names, [format!("leaf.{domain}")]);
        chains(&chain, &root)?;
        assert_eq!(entry(&namespace, "leaf-tls", "ca.crt").await?, root);

        lists_of_names_are_certified_or_refused(&namespace).await?;

        // Both stay unchanged.
        let wrong = json!({
            "commonName": "x", "issuerRef": { "name": "own-self" }, "secretName": "x-tls",
        });
        namespace.certificate("x", wrong).await?;
        let refused = namespace.until("x", "Error", SOON).await?;
        assert_eq!(state(&refused).1, "self signed certificates must set 'spec.isCA: true'");
        assert_eq!(entry(&namespace, "leaf-tls", "tls.crt").await?, chain);
        env.check_manager().await
    })
    .unwrap();
}

#[test]
fn the_issuer_with_the_best_domain_match_issues_and_a_new_one_reissues_nothing() {
    run(async {
        let env = TestEnv::shared().await?;
        let namespace = Namespace::new(env, "by-domains").await?;
        let domain = &namespace.domain;
        let outer = json!({ "include": [format!("*.{}", domain.to_uppercase())] });
        apply_issuer(env, &acme(env, "outer", Some(outer), None)?).await?;
        namespace.simple("early").await?;
        let early = namespace.until("early", "Ready", SOON).await?;
        assert_eq!(early.data["status"]["issuerRef"]["name"], "outer");
        let serial = namespace.leaf("early-tls").await?.serial;

        let inner = json!({ "include": [format!("early.{domain}"), format!("late.{domain}")] });
        apply_issuer(env, &acme(env, "inner", Some(inner), None)?).await?;
        namespace.simple("late").await?;
        let late = namespace.until("late", "Ready", SOON).await?;
        assert_eq!(late.data["status"]["issuerRef"]["name"], "inner");
        // Changes the labels to cause a reconciliation of the other one.
        namespace.patch("early", json!({ "spec": { "secretLabels": { "a": "b" } } })).await?;
        namespace
            .until_some("Secret", "early-tls", "has the label", SOON, |secret| {
                secret.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key("a"))
            })
            .await?;
        assert_eq!(namespace.leaf("early-tls").await?.serial, serial);

        let spec = json!({
            "commonName": format!("other.{domain}"), "issuerRef": { "name": "inner" },
        });
        namespace.certificate("other", spec).await?;
        let (_, message) = state(&namespace.until("other", "Error", SOON).await?);
        assert_eq!(
            message,
            format!("domain other.{domain} is not an included domain of issuer inner")
        );
        env.check_manager().await
    })
    .unwrap();
}

#[test]
fn an_issuer_in_a_foreign_namespace_is_refused() {
    run(async {
        let env = TestEnv::shared().await?;
        let namespace = Namespace::new(env, "foreign-issuer").await?;
        let spec = json!({
            "commonName": format!("a.{}", namespace.domain),
            "issuerRef": { "name": "issuer-acme", "namespace": namespace.name },
        });
        namespace.certificate("a", spec).await?;
        let (_, message) = state(&namespace.until("a", "Error", SOON).await?);
        ensure!(message.contains("target issuers not allowed"), "{message}");
        env.check_manager().await
    })
    .unwrap();
}

#[test]
fn with_a_quota_of_one_the_second_certificate_waits_even_after_a_restart() {
    run(async {
        let env = TestEnv::start(TestEnvOptions::default()).await?;
        let namespace = Namespace::new(&env, "quota").await?;
        apply_issuer(&env, &acme(&env, "issuer-acme", None, Some(1))?).await?;
        namespace.simple("first").await?;
        namespace.until("first", "Ready", SOON).await?;
        namespace.simple("second").await?;
        let waiting = namespace.until("second", "Waiting", SOON).await?;
        let (_, message) = state(&waiting);
        ensure!(
            message.starts_with("request quota exhausted. The next request is possible at 20"),
            "{message}"
        );

        env.replace_manager().await?;
        // After the third one has a state, the new manager has reconciled the others.
        namespace.simple("third").await?;
        namespace.until("third", "Waiting", SOON).await?;
        namespace.until("second", "Waiting", SOON).await?;
        ensure!(namespace.secret("second-tls").await?.is_none(), "more than one was issued");

        // With a higher quota, the first waiting Certificate continues early.
        apply_issuer(&env, &acme(&env, "issuer-acme", None, Some(100_000))?).await?;
        namespace.until("second", "Ready", SOON).await?;
        env.check_manager().await
    })
    .unwrap();
}
