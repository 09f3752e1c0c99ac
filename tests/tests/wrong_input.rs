//! Invalid input leads to a clear state: refused by the API server, or Error with a message that
//! tells a user what to do. Never to a crash, a loop or an order at the CA.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use kube::api::PostParams;
use rcgen::KeyPair;
use serde_json::{Value, json};
use tests::{
    Look,
    acme::signing_request,
    eventually,
    namespace::{Namespace, Outcome, certificate},
    objects::{acme_issuer, api, apply, list},
    run,
    test_env::TestEnv,
};

const SOON: Duration = Duration::from_secs(20);

/// Applies the spec and expects a refusal or an Error whose message contains one of `wanted`, no
/// Secret, and a running manager.
async fn is_refused(namespace: &Namespace, name: &str, spec: Value, wanted: &[&str]) -> Result<()> {
    let env = TestEnv::shared().await?;
    let object = certificate(name, spec);
    let message = match namespace.outcome(&object, SOON).await? {
        Outcome::Refused(message) => message,
        Outcome::Settled { state, message } => {
            ensure!(state == "Error", "{name} is {state}: {message}");
            message
        }
    };
    ensure!(
        wanted.iter().any(|part| message.to_lowercase().contains(&part.to_lowercase())),
        "{name}: the message has none of {wanted:?}: {message}"
    );
    ensure!(namespace.secret(&format!("{name}-tls")).await?.is_none(), "{name} got a Secret");
    ensure!(namespace.dns_entries().await?.is_empty(), "{name} got a DNSEntry");
    env.check_manager().await
}

/// While another certificate is issued, none of the refused ones is written again.
async fn none_is_written_again(namespace: &Namespace) -> Result<()> {
    let client = TestEnv::shared().await?.control_plane.client();
    let versions = || async {
        let all = list(&client, "Certificate", &namespace.name).await?;
        let refused = all.into_iter().filter(|one| one.metadata.name.as_deref() != Some("good"));
        let version = refused.map(|one| (one.metadata.name, one.metadata.resource_version));
        anyhow::Ok(version.collect::<Vec<_>>())
    };
    let before = versions().await?;
    namespace.simple("good").await?;
    namespace.until("good", "Ready", SOON).await?;
    ensure!(versions().await? == before, "written again: {:?} were {before:?}", versions().await?);
    Ok(())
}

fn named(name: &str, common_name: &str, dns_names: &[String]) -> Value {
    json!({
        "commonName": common_name, "dnsNames": dns_names, "secretName": format!("{name}-tls"),
    })
}

fn request(host: &str) -> Result<String> {
    Ok(signing_request(&[host.to_owned()], &KeyPair::generate()?)?.pem()?)
}

#[test]
fn invalid_names_are_refused() {
    run(async {
        let env = TestEnv::shared().await?;
        let space = Namespace::new(env, "wrong-names").await?;
        let domain = &space.domain;
        let host = format!("a.{domain}");
        let many: Vec<String> = (0..100).map(|number| format!("n{number}.{domain}")).collect();
        let long = format!("{}.{domain}", ["a".repeat(60).as_str(); 4].join("."));
        let one = |name: &str| vec![name.to_owned()];

        let spec = json!({"secretName": "empty-tls"});
        is_refused(&space, "empty", spec, &["either domains or csr must be specified"]).await?;
        let spec = json!({});
        is_refused(&space, "nothing", spec, &["either domains or csr must be specified"]).await?;
        let mut spec = named("both", &host, &[]);
        spec["csr"] = json!(BASE64_STANDARD.encode(request(&host)?));
        is_refused(&space, "both", spec, &["cannot specify both commonName and csr"]).await?;
        let wanted = ["invalid number of DNS names: 100 (max 99)"];
        is_refused(&space, "many", named("many", &host, &many), &wanted).await?;
        let spec = named("long", &host, &[long]);
        is_refused(&space, "long", spec, &["253", "too long"]).await?;
        let spec = named("stars", &host, &one(&format!("*.*.{domain}")));
        is_refused(&space, "stars", spec, &["wildcard", "*"]).await?;
        // The API server accepts this date, which is after the last one that we can represent.
        let mut spec = named("never", &host, &[]);
        spec["ensureRenewedAfter"] = json!("9999-12-31T23:59:59Z");
        is_refused(&space, "never", spec, &["ensureRenewedAfter"]).await?;
        let mut spec = named("injected", &host, &[]);
        spec["secretName"] = json!("x?dryRun=All&a=");
        is_refused(&space, "injected", spec, &["not a valid Secret name"]).await?;
        let mut spec = named("labelled", &host, &[]);
        spec["secretLabels"] = json!({"cert.gardener.cloud/hash": "mine"});
        is_refused(&space, "labelled", spec, &["is set by the manager"]).await?;
        let spec = json!({"ipAddresses": ["192.0.2.1"], "secretName": "bare-tls"});
        is_refused(&space, "bare", spec, &["either domains or csr must be specified"]).await?;
        // The API server accepts it; the name cannot be proved.
        let spec =
            json!({"ipAddresses": ["192.0.2.1"], "profile": "default", "secretName": "ip-tls"});
        is_refused(&space, "ip", spec, &["an IP address is proved by HTTP01"]).await?;
        let spec = named("address", &host, &one("192.0.2.1"));
        is_refused(&space, "address", spec, &["IP address"]).await?;
        none_is_written_again(&space).await
    })
    .unwrap();
}

#[test]
fn unusable_signing_requests_are_refused() {
    run(async {
        let env = TestEnv::shared().await?;
        let space = Namespace::new(env, "wrong-csr").await?;
        let host = format!("csr.{}", space.domain);
        let good = request(&host)?;
        let spec = |name: &str, csr: &str| json!({"csr": csr, "secretName": format!("{name}-tls")});
        let encoded = |text: &str| BASE64_STANDARD.encode(text);

        let csr = encoded("certainly not a request");
        is_refused(&space, "not-pem", spec("not-pem", &csr), &["PEM"]).await?;
        let wanted = ["base64", "must be of type byte"];
        is_refused(&space, "not-base64", spec("not-base64", "%%%%"), &wanted).await?;
        let lines: Vec<&str> = good.lines().collect();
        let cut = [&lines[..2], &lines[lines.len() - 1..]].concat().join("\n");
        let csr = encoded(&cut);
        is_refused(&space, "truncated", spec("truncated", &csr), &["csr", "request"]).await?;
        let csr = encoded(&good[..good.len() / 2]);
        is_refused(&space, "half", spec("half", &csr), &["csr", "request", "PEM"]).await?;
        let csr = encoded(include_str!("weak.csr"));
        is_refused(&space, "weak", spec("weak", &csr), &["1024", "weak", "2048", "key"]).await?;
        none_is_written_again(&space).await
    })
    .unwrap();
}

#[test]
fn unusable_issuers_are_reported() {
    run(async {
        let env = TestEnv::shared().await?;
        let space = Namespace::new(env, "wrong-issuer").await?;
        let client = env.control_plane.client();
        let dead = format!("https://127.0.0.1:{}/dir", tests::processes::free_port()?);
        // The API server: a TLS server with an untrusted CA.
        let untrusted = format!("{}/dir", env.control_plane.url());
        let absent = env.pebble.directory().replace("/dir", "/no-such-directory");
        let issuers = [
            ("issuer-dead", dead.as_str(), "connect"),
            ("issuer-untrusted", &untrusted, "certificate"),
            ("issuer-absent", &absent, "404"),
            ("issuer-nonsense", "certainly not a URL", "URL"),
        ];
        for (name, server, _) in issuers {
            apply(&client, "default", &acme_issuer(name, server)?).await?;
        }
        for (name, _, wanted) in issuers {
            let message = env.until_issuer(name, "Error", SOON).await?;
            let found = message.to_lowercase().contains(&wanted.to_lowercase());
            ensure!(found, "{name}: no '{wanted}' in: {message}");
        }
        refers_to(&space, "missing", "issuer-missing").await?;
        for (name, _, _) in issuers {
            refers_to(&space, &format!("with-{name}"), name).await?;
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn an_invalid_account_key_is_reported() {
    run(async {
        let env = TestEnv::shared().await?;
        let space = Namespace::new(env, "wrong-account").await?;
        let client = env.control_plane.client();
        let secret = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "issuer-garbage-account"},
            "stringData": {"privateKey": "certainly not a key"},
        });
        apply(&client, "default", &secret).await?;
        let issuer = acme_issuer("issuer-garbage", &env.pebble.directory())?;
        apply(&client, "default", &issuer).await?;
        let message = env.until_issuer("issuer-garbage", "Error", SOON).await?;
        ensure!(message.contains("issuer-garbage-account"), "{message}");
        ensure!(!message.contains("certainly not a key"), "the key is in the message: {message}");
        refers_to(&space, "garbage", "issuer-garbage").await
    })
    .unwrap();
}

/// The Certificate reports that its issuer is not ready. That is not an error of its own, so it has
/// no time for a retry: it continues when the issuer is Ready.
async fn refers_to(space: &Namespace, name: &str, issuer: &str) -> Result<()> {
    let spec = json!({
        "commonName": format!("{name}.{}", space.domain),
        "secretName": format!("{name}-tls"),
        "issuerRef": {"name": issuer},
    });
    space.apply(&certificate(name, spec)).await?;
    space
        .until_some("Certificate", name, "names its issuer", SOON, |object| {
            tests::objects::state(object).1.contains(issuer)
                && object.data["status"]["state"] != "Ready"
        })
        .await?;
    ensure!(space.secret(&format!("{name}-tls")).await?.is_none());
    TestEnv::shared().await?.check_manager().await
}

#[test]
fn an_issuer_that_becomes_ready_resumes_its_certificates() {
    run(async {
        let env = TestEnv::shared().await?;
        let space = Namespace::new(env, "late-issuer").await?;
        refers_to(&space, "early", "issuer-late").await?;
        env.issuer("issuer-late", &env.pebble.directory()).await?;
        space.until("early", "Ready", SOON).await?;
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_secret_of_another_owner_is_not_overwritten() {
    run(async {
        let env = TestEnv::shared().await?;
        let space = Namespace::new(env, "wrong-secret").await?;
        let secret = |name: &str| {
            json!({
                "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name},
                "type": "kubernetes.io/tls", "stringData": {"tls.crt": "", "tls.key": ""},
            })
        };
        let mut fixed = secret("fixed-tls");
        fixed["immutable"] = json!(true);
        space.apply(&fixed).await?;
        space.simple("fixed").await?;
        space.simple("owner").await?;
        space.until("owner", "Ready", SOON).await?;
        let owned = space.leaf("owner-tls").await?;
        let host = format!("thief.{}", space.domain);
        space.certificate("thief", json!({"commonName": host, "secretName": "owner-tls"})).await?;
        for (name, wanted) in [("fixed", "immutable"), ("thief", "wrong-secret/owner")] {
            let object = space.until(name, "Error", SOON).await?;
            let (_, message) = tests::objects::state(&object);
            ensure!(message.contains(wanted), "{name}: no '{wanted}' in: {message}");
        }
        ensure!(space.leaf("owner-tls").await?.serial == owned.serial, "it was overwritten");
        env.check_manager().await
    })
    .unwrap();
}

#[test]
fn an_opaque_secret_is_filled_and_keeps_its_type_or_is_reported() {
    run(async {
        let env = TestEnv::shared().await?;
        let space = Namespace::new(env, "opaque-secret").await?;
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "opaque-tls"},
            "type": "Opaque",
        });
        space.apply(&secret).await?;
        let host = format!("opaque.{}", space.domain);
        let object = certificate("opaque", json!({"commonName": host, "secretName": "opaque-tls"}));
        match space.outcome(&object, SOON).await? {
            Outcome::Settled { state, .. } if state == "Ready" => {
                let secret = space.secret("opaque-tls").await?.context("it is gone")?;
                ensure!(secret.type_.as_deref() == Some("Opaque"));
                space.leaf("opaque-tls").await?;
            }
            Outcome::Settled { message, .. } => {
                ensure!(message.contains("opaque-tls"), "{message}");
            }
            Outcome::Refused(message) => bail!("refused: {message}"),
        }
        env.check_manager().await
    })
    .unwrap();
}

#[test]
fn a_namespace_may_be_deleted_during_issuance() {
    run(async {
        let env = TestEnv::shared().await?;
        let space = Namespace::new(env, "going-away").await?;
        for number in 0..5 {
            space.simple(&format!("leaving-{number}")).await?;
        }
        let client = env.control_plane.client();
        eventually(SOON, "a certificate is under way", || async {
            let entries = space.dns_entries().await?;
            Ok(if entries.is_empty() { Look::NotYet("no DNSEntry".into()) } else { Look::Done(()) })
        })
        .await?;
        // From here on nothing can be created in the namespace. Without a controller manager, the
        // test deletes its content.
        let namespaces = api(&client, "Namespace", "")?;
        namespaces.delete("going-away", &Default::default()).await?;
        for kind in ["Certificate", "DNSEntry", "Secret"] {
            api(&client, kind, "going-away")?
                .delete_collection(&Default::default(), &Default::default())
                .await?;
        }
        let mut last = namespaces.get("going-away").await?;
        last.data["spec"]["finalizers"] = json!([]);
        namespaces
            .replace_subresource("finalize", "going-away", &PostParams::default(), &last)
            .await?;
        // The manager survives and serves others.
        let other = Namespace::new(env, "staying").await?;
        other.simple("stays").await?;
        other.until("stays", "Ready", SOON).await?;
        env.until_nothing_is_left(Duration::from_secs(60)).await?;
        env.check_manager().await
    })
    .unwrap();
}
