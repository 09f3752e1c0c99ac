//! The real manager behind the proxy: a Retry-After must survive a restart, and a key that the CA
//! refuses must not be used again.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tests::{
    Look, eventually,
    namespace::Namespace,
    objects::{acme_issuer, api, apply},
    pebble::PebbleOptions,
    proxy::{Answer, Fault, Kind, Rule},
    run,
    test_env::{TestEnv, TestEnvOptions},
};

const SOON: Duration = Duration::from_secs(20);

/// Long enough to kill a manager and to start another.
const RETRY_AFTER: i64 = 8;

async fn env() -> Result<TestEnv> {
    // A refused nonce would add a request.
    let pebble = PebbleOptions { nonce_reject: 0, ..Default::default() };
    TestEnv::with_issuer(TestEnvOptions { pebble, proxy: true, ..Default::default() }).await
}

#[test]
fn s03_a_retry_after_is_kept_by_the_next_manager() {
    run(async {
        let env = env().await?;
        let proxy = env.proxy.as_ref().context("there is no proxy")?;
        let namespace = Namespace::new(&env, "overloaded").await?;
        proxy.forget();
        let busy = Answer::html(503, "busy").retry_after(&RETRY_AFTER.to_string());
        proxy.set_rules([Rule::on(Kind::NewOrder, Fault::Answer(busy)).once()]);
        namespace.simple("patient").await?;
        eventually(SOON, "the failure is in the status", || async {
            let found = namespace.read("Certificate", "patient").await?;
            let status = &found.data["status"];
            let message = status["message"].as_str().unwrap_or_default();
            Ok(match message.contains("HTTP 503") && status["state"] == "Error" {
                true => Look::Done(()),
                false => Look::NotYet(status.to_string()),
            })
        })
        .await?;
        env.replace_manager().await?;
        namespace.until_all_ready(1, Duration::from_secs(40)).await?;
        let orders: Vec<_> = proxy.seen_of(Kind::NewOrder).iter().map(|seen| seen.at).collect();
        let [refused, taken] = orders[..] else { anyhow::bail!("{} orders", orders.len()) };
        let waited = taken.duration_since(refused);
        ensure!(waited.as_secs() >= RETRY_AFTER, "only {waited:#}");
        assert_eq!(env.pebble.signed_count()?, 1);
        Ok(())
    })
    .unwrap();
}

#[test]
fn s06_no_manager_registers_an_account_before_the_retry_after() {
    run(async {
        let env = env().await?;
        let proxy = env.proxy.as_ref().context("there is no proxy")?;
        proxy.forget();
        let busy = Answer::html(503, "busy").retry_after(&RETRY_AFTER.to_string());
        proxy.set_rules([Rule::on(Kind::NewAccount, Fault::Answer(busy)).once()]);
        let client = env.control_plane.client();
        let mut issuer = acme_issuer("patient", &proxy.directory())?;
        apply(&client, "default", &issuer).await?;
        let until = |what: &'static str, is_it: fn(&Value) -> bool| {
            let client = client.clone();
            async move {
                let issuers = api(&client, "Issuer", "default")?;
                eventually(Duration::from_secs(40), what, || async {
                    let status = issuers.get("patient").await?.data["status"].clone();
                    let seen = status.to_string();
                    Ok(if is_it(&status) { Look::Done(()) } else { Look::NotYet(seen) })
                })
                .await
            }
        };
        until("says until when", |it| it["state"] == "Error" && it["rest"]["until"].is_string())
            .await?;
        env.replace_manager().await?;
        // A reconciliation before that time changes nothing.
        issuer["spec"]["acme"]["email"] = json!("other@my-company.test");
        apply(&client, "default", &issuer).await?;
        until("is ready", |it| it["state"] == "Ready" && it["rest"].is_null()).await?;
        let asked: Vec<_> = proxy.seen_of(Kind::NewAccount).iter().map(|seen| seen.at).collect();
        let [refused, taken, ..] = asked[..] else { anyhow::bail!("{} requests", asked.len()) };
        let waited = taken.duration_since(refused);
        ensure!(waited.as_secs() >= RETRY_AFTER, "only {waited:#}");
        Ok(())
    })
    .unwrap();
}

/// CAs refuse keys that are known to be compromised.
#[test]
fn a_key_that_the_ca_refuses_is_replaced_under_every_rotation_policy() {
    run(async {
        let env = env().await?;
        let proxy = env.proxy.as_ref().context("there is no proxy")?;
        let namespace = Namespace::new(&env, "leaked").await?;
        let host = format!("web.{}", namespace.domain);
        let spec = json!({
            "commonName": host, "secretName": "web-tls",
            "privateKey": { "rotationPolicy": "Never" },
        });
        namespace.certificate("web", spec).await?;
        namespace.until("web", "Ready", SOON).await?;
        let first = namespace.leaf("web-tls").await?;
        namespace.patch("web", json!({ "spec": { "renew": true } })).await?;
        let renewed = |before: String| {
            let namespace = &namespace;
            async move {
                eventually(SOON, "it is renewed", || async {
                    let leaf = namespace.leaf("web-tls").await?;
                    let is_new = leaf.serial != before;
                    Ok(if is_new { Look::Done(leaf) } else { Look::NotYet(before.clone()) })
                })
                .await
            }
        };
        let second = renewed(first.serial.clone()).await?;
        ensure!(second.public_key == first.public_key, "the key was not kept");

        let refused = Fault::problem(400, "badCSR", "public key is on the list of leaked keys");
        proxy.set_rules([Rule::on(Kind::Finalize, refused).once()]);
        namespace.patch("web", json!({ "spec": { "renew": true } })).await?;
        let says = |object: &kube::api::DynamicObject| {
            object.data["status"]["message"]
                .as_str()
                .is_some_and(|it| it.contains("uses a new key"))
        };
        namespace.until_some("Certificate", "web", "says what comes next", SOON, says).await?;
        // One minute later, without a change.
        let now = json!({"metadata": {"annotations": {"gardener.cloud/operation": "reconcile"}}});
        namespace.patch("web", now).await?;
        let third = renewed(second.serial.clone()).await?;
        ensure!(third.public_key != second.public_key, "the leaked key is still used");
        Ok(())
    })
    .unwrap();
}
