//! Accounts at a CA that requires an external account binding: registration, changes and loss.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use cert_lib::{
    acme::{
        account::{
            self, RegisteredAccount,
            rollover::{Rollover, roll_over},
        },
        client::Client,
        jws::AccountKey,
    },
    clock::System,
    net::http::{HttpsClient, Roots},
};
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};
use tests::{
    Look, eventually, locate,
    namespace::Namespace,
    objects::{api, apply, documents, state},
    pebble::PebbleOptions,
    run,
    test_env::{TestEnv, TestEnvOptions},
};
use tokio::sync::OnceCell;

const SOON: Duration = Duration::from_secs(20);
const EXAMPLE: &str = "examples/21-issuer-eab.yaml";
const KEY_ID: &str = "kid-1";
const OTHER_KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
/// Upstream's annotation.
const OPERATION: &str = "gardener.cloud/operation";

/// The Secret and the Issuer of the example, for a CA that requires exactly this key.
fn example(env: &TestEnv, name: &str) -> Result<(Value, Value)> {
    let [mut secret, mut issuer]: [Value; 2] = documents(&locate::read(EXAMPLE)?)?
        .try_into()
        .map_err(|_| anyhow::anyhow!("{EXAMPLE} is a Secret and an Issuer"))?;
    secret["metadata"]["name"] = json!(format!("{name}-key"));
    issuer["metadata"]["name"] = json!(name);
    let acme = &mut issuer["spec"]["acme"];
    acme["server"] = json!(env.pebble.directory());
    acme["privateKeySecretRef"]["name"] = json!(format!("{name}-account"));
    acme["externalAccountBinding"]["keySecretRef"]["name"] = json!(format!("{name}-key"));
    Ok((secret, issuer))
}

/// A CA that requires accounts to be bound with the key of the example.
async fn start() -> Result<TestEnv> {
    let secret = documents(&locate::read(EXAMPLE)?)?.swap_remove(0);
    let key = secret["stringData"]["hmacKey"].as_str().context("there is no key")?.to_owned();
    // The test counts requests, so no nonce may be refused.
    let eab = Some((KEY_ID.to_owned(), key));
    let pebble = PebbleOptions { nonce_reject: 0, eab, ..PebbleOptions::default() };
    TestEnv::start(TestEnvOptions { pebble, ..TestEnvOptions::default() }).await
}

/// For the tests that do not change the CA and the manager.
async fn shared() -> Result<&'static TestEnv> {
    static SHARED: OnceCell<TestEnv> = OnceCell::const_new();
    SHARED.get_or_try_init(start).await
}

async fn apply_in_default(env: &TestEnv, object: &Value) -> Result<DynamicObject> {
    apply(&env.control_plane.client(), "default", object).await
}

async fn patch(env: &TestEnv, kind: &str, name: &str, patch: Value) -> Result<DynamicObject> {
    let objects = api(&env.control_plane.client(), kind, "default")?;
    Ok(objects.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?)
}

/// Waits until the status of an Issuer, for its current generation, meets `wanted`.
async fn until(
    env: &TestEnv,
    name: &str,
    what: &str,
    wanted: impl Fn(&Value, &str) -> bool,
) -> Result<Value> {
    until_within(SOON, env, name, what, wanted).await
}

async fn until_within(
    time: Duration,
    env: &TestEnv,
    name: &str,
    what: &str,
    wanted: impl Fn(&Value, &str) -> bool,
) -> Result<Value> {
    let issuers = api(&env.control_plane.client(), "Issuer", "default")?;
    eventually(time, &format!("Issuer {name} {what}"), || async {
        env.check_manager().await?;
        let issuer = issuers.get(name).await?;
        let status = &issuer.data["status"];
        let current = status["observedGeneration"].as_i64() == issuer.metadata.generation;
        let (_, message) = state(&issuer);
        Ok(if current && wanted(status, &message) {
            Look::Done(status.clone())
        } else {
            Look::NotYet(status.to_string())
        })
    })
    .await
}

async fn until_ready(env: &TestEnv, name: &str) -> Result<Value> {
    until(env, name, "is Ready", |status, _| status["state"] == "Ready").await
}

async fn until_message(env: &TestEnv, name: &str, text: &str) -> Result<Value> {
    until(env, name, &format!("says {text:?}"), |status, message| {
        status["state"] == "Error" && message.contains(text)
    })
    .await
}

/// An entry of a Secret, if it exists.
async fn entry(env: &TestEnv, secret: &str, name: &str) -> Result<Option<String>> {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    let secrets = api(&env.control_plane.client(), "Secret", "default")?;
    let Some(secret) = secrets.get_opt(secret).await? else { return Ok(None) };
    let Some(text) = secret.data["data"][name].as_str() else { return Ok(None) };
    Ok(Some(String::from_utf8(BASE64_STANDARD.decode(text)?)?))
}

/// The account of a key at the CA.
async fn find_account(env: &TestEnv, key: &AccountKey) -> Result<RegisteredAccount> {
    Ok(account::find(&client(env)?, key).await?)
}

fn client(env: &TestEnv) -> Result<Arc<Client>> {
    let roots = Roots::only_pem(&std::fs::read(env.pebble.trust())?)?;
    let http = Arc::new(HttpsClient::new(&roots)?);
    Ok(Arc::new(Client::new(http, Arc::new(System), env.pebble.directory())))
}

/// The certificate `name` is issued by `issuer`.
async fn issues(namespace: &Namespace, issuer: &str, name: &str) -> Result<()> {
    namespace.certificate(name, spec(namespace, issuer, name)).await?;
    namespace.until(name, "Ready", Duration::from_secs(30)).await.map(drop)
}

fn spec(namespace: &Namespace, issuer: &str, name: &str) -> Value {
    json!({
        "commonName": format!("{name}.{}", namespace.domain),
        "secretName": format!("{name}-tls"),
        "issuerRef": { "name": issuer },
    })
}

/// faults.md 28
#[test]
fn an_account_is_bound_with_the_right_key_only_and_wrong_ones_are_reported() {
    run(async {
        let env = shared().await?;
        let namespace = Namespace::new(env, "bound").await?;
        let (secret, issuer) = example(env, "bound")?;
        let mut unbound = issuer.clone();
        let spec = unbound["spec"]["acme"].as_object_mut().context("it is no ACME issuer")?;
        spec.remove("externalAccountBinding");
        apply_in_default(env, &unbound).await?;
        until_message(env, "bound", "set externalAccountBinding to the key identifier").await?;
        apply_in_default(env, &issuer).await?;
        let missing = "loading EAB secret failed: fetching issuer EAB secret failed: Secret \
                       default/bound-key does not exist";
        until_message(env, "bound", missing).await?;
        for (data, text) in [
            (json!({}), "key hmacKey not found in EAB secret default/bound-key"),
            (json!({ "hmacKey": "" }), "key hmacKey in EAB secret default/bound-key is empty"),
            (
                json!({ "hmacKey": OTHER_KEY, "b": "", "a": "" }),
                "EAB secret default/bound-key contains unexpected keys: a, b",
            ),
            (
                json!({ "hmacKey": "%" }),
                "creating registration user failed: acme: could not decode hmac key: illegal \
                 base64 data at input byte 0",
            ),
            (json!({ "hmacKey": "AAAA" }), "invalid key size for algorithm"),
            // The CA refuses it.
            (json!({ "hmacKey": OTHER_KEY }), "(HTTP 4"),
        ] {
            let mut wrong = secret.clone();
            wrong["stringData"] = data;
            replace(env, &wrong).await?;
            let status = until_message(env, "bound", text).await?;
            ensure!(!status.to_string().contains(OTHER_KEY), "{status}");
        }
        replace(env, &secret).await?;
        let status = until_ready(env, "bound").await?;
        ensure!(status["acme"]["accountURL"].is_string(), "{status}");
        issues(&namespace, "bound", "a").await?;

        // The account exists, so the binding may be deleted.
        api(&env.control_plane.client(), "Secret", "default")?
            .delete("bound-key", &DeleteParams::default())
            .await?;
        let email = json!({ "spec": { "acme": { "email": "other@my-company.test" } } });
        patch(env, "Issuer", "bound", email).await?;
        until_ready(env, "bound").await?;
        env.check_manager().await
    })
    .unwrap();
}

/// Entries that are not in `secret` are removed.
async fn replace(env: &TestEnv, secret: &Value) -> Result<()> {
    let name = secret["metadata"]["name"].as_str().context("it has no name")?;
    let secrets = api(&env.control_plane.client(), "Secret", "default")?;
    if secrets.get_opt(name).await?.is_some() {
        secrets.delete(name, &DeleteParams::default()).await?;
    }
    apply_in_default(env, secret).await.map(drop)
}

/// faults.md 27
#[test]
fn a_changed_account_secret_is_used_and_a_deleted_one_is_replaced_by_a_new_account() {
    run(async {
        let env = shared().await?;
        let (secret, issuer) = example(env, "keys")?;
        apply_in_default(env, &secret).await?;
        apply_in_default(env, &issuer).await?;
        let first = until_ready(env, "keys").await?["acme"]["accountURL"].clone();
        let good = entry(env, "keys-account", "privateKey").await?.context("there is no key")?;
        let ed25519 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519)?.serialize_pem();
        for (value, text) in [
            ("garbage", "value for key `privateKey` is invalid: "),
            ("", "there is no privateKey"),
            (ed25519.as_str(), "it must be P-256, P-384, or RSA with 2048 to 4096 bits"),
        ] {
            let data = json!({ "stringData": { "privateKey": value } });
            patch(env, "Secret", "keys-account", data).await?;
            until_message(env, "keys", text).await?;
        }
        let data = json!({ "stringData": { "privateKey": good } });
        patch(env, "Secret", "keys-account", data).await?;
        let status = until_ready(env, "keys").await?;
        ensure!(status["acme"]["accountURL"] == first, "{status}");

        api(&env.control_plane.client(), "Secret", "default")?
            .delete("keys-account", &DeleteParams::default())
            .await?;
        until(env, "keys", "has another account", |status, _| {
            status["state"] == "Ready" && status["acme"]["accountURL"] != first
        })
        .await?;
        env.check_manager().await
    })
    .unwrap();
}

/// faults.md 34, 12
#[test]
fn an_unknown_profile_and_an_untrusted_server_are_reported() {
    run(async {
        let env = shared().await?;
        let (secret, mut issuer) = example(env, "profiled")?;
        issuer["spec"]["acme"]["profile"] = json!("fast");
        apply_in_default(env, &secret).await?;
        apply_in_default(env, &issuer).await?;
        until_message(env, "profiled", "the CA has no profile \"fast\": it offers default").await?;
        issuer["spec"]["acme"]["profile"] = json!("default");
        apply_in_default(env, &issuer).await?;
        until_ready(env, "profiled").await?;

        // The API server, whose certificate is not trusted.
        let server = format!("{}/dir", env.control_plane.url());
        issuer["spec"]["acme"]["server"] = json!(server);
        apply_in_default(env, &issuer).await?;
        until_message(env, "profiled", "add the certificate of its CA with --ca-certificates")
            .await?;
        env.check_manager().await
    })
    .unwrap();
}

/// All changes of one account, in sequence: each step needs the manager or the CA for itself.
/// faults.md 11, 26, 36
#[test]
fn an_account_survives_changed_emails_and_keys_crashes_and_a_ca_without_its_state() {
    run(async {
        let env = start().await?;
        let namespace = Namespace::new(&env, "lives").await?;
        let (secret, issuer) = example(&env, "lives")?;
        apply_in_default(&env, &secret).await?;
        apply_in_default(&env, &issuer).await?;
        let url = until_ready(&env, "lives").await?["acme"]["accountURL"].clone();
        issues(&namespace, "lives", "one").await?;

        the_email_reaches_the_ca(&env).await?;
        the_key_changes_by_annotation(&env, &namespace, &url).await?;
        issues(&namespace, "lives", "two").await?;
        for done in [false, true] {
            an_interrupted_key_change_is_completed(&env, &url, done).await?;
            issues(&namespace, "lives", if done { "four" } else { "three" }).await?;
        }

        // 26: the CA has lost its state, and the account is registered again, once.
        env.pebble.stop().await?;
        env.pebble.resume().await?;
        issues(&namespace, "lives", "five").await?;
        let key = current_key(&env).await?;
        let enrolled = find_account(&env, &key).await?;
        let status = until_ready(&env, "lives").await?;
        ensure!(status["acme"]["accountURL"] == json!(enrolled.account.url()), "{status}");
        let asked = env.pebble.requests()?;
        let registrations = asked.get("POST /sign-me-up").copied().unwrap_or_default();
        // Not found, registered, and found again: by the manager twice at most, by this test once.
        ensure!(registrations <= 6, "{asked:?}");
        ensure!(env.pebble.signed_count()? == 1, "{asked:?}");

        // 11: the CA is down at the start. An issuer with a stored account stays Ready, a new one
        // waits.
        env.pebble.stop().await?;
        env.replace_manager().await?;
        let (secret, issuer) = example(&env, "late")?;
        apply_in_default(&env, &secret).await?;
        apply_in_default(&env, &issuer).await?;
        until_message(&env, "late", "cannot reach 127.0.0.1").await?;
        until_ready(&env, "lives").await?;
        env.pebble.resume().await?;
        until_ready(&env, "late").await?;
        issues(&namespace, "late", "six").await?;
        issues(&namespace, "lives", "seven").await
    })
    .unwrap();
}

async fn current_key(env: &TestEnv) -> Result<AccountKey> {
    let text = entry(env, "lives-account", "privateKey").await?.context("there is no key")?;
    Ok(AccountKey::from_pem(&text)?)
}

async fn the_email_reaches_the_ca(env: &TestEnv) -> Result<()> {
    let email = "new@my-company.test";
    let change = json!({ "spec": { "acme": { "email": email } } });
    patch(env, "Issuer", "lives", change).await?;
    until(env, "lives", "has the email", |status, _| status["acme"]["email"] == email).await?;
    let enrolled = find_account(env, &current_key(env).await?).await?;
    let contact = &enrolled.registration.contact;
    ensure!(*contact == [format!("mailto:{email}")], "{contact:?}");

    // Another reconciliation sends no request to the CA.
    let before = env.pebble.requests()?;
    let again = json!({ "metadata": { "annotations": { OPERATION: "reconcile" } } });
    patch(env, "Issuer", "lives", again).await?;
    until_annotation_is_gone(env).await?;
    let change = json!({ "spec": { "requestsPerDayQuota": 4711 } });
    patch(env, "Issuer", "lives", change).await?;
    until(env, "lives", "has the quota", |it, _| it["requestsPerDayQuota"] == 4711).await?;
    ensure!(env.pebble.requests()? == before, "{:?}, before {before:?}", env.pebble.requests()?);
    Ok(())
}

async fn until_annotation_is_gone(env: &TestEnv) -> Result<()> {
    let issuers = api(&env.control_plane.client(), "Issuer", "default")?;
    eventually(SOON, "the annotation is gone", || async {
        let annotations = issuers.get("lives").await?.metadata.annotations.unwrap_or_default();
        Ok(match annotations.get(OPERATION) {
            None => Look::Done(()),
            Some(operation) => Look::NotYet(operation.clone()),
        })
    })
    .await
}

/// Waits until the current key differs from `old` and no other key is stored.
async fn until_the_key_is_not(env: &TestEnv, old: &AccountKey, url: &Value) -> Result<AccountKey> {
    let key = eventually(SOON, "the key has changed", || async {
        env.check_manager().await?;
        if entry(env, "lives-account", "nextPrivateKey").await?.is_some() {
            return Ok(Look::NotYet("the next one is still there".to_owned()));
        }
        let key = current_key(env).await?;
        let changed = key.thumbprint() != old.thumbprint();
        Ok(if changed { Look::Done(key) } else { Look::NotYet("it is the old one".to_owned()) })
    })
    .await?;
    let enrolled = find_account(env, &key).await?;
    ensure!(json!(enrolled.account.url()) == *url, "{}", enrolled.account.url());
    ensure!(find_account(env, old).await.is_err(), "the old key is still good");
    let status = until_ready(env, "lives").await?;
    ensure!(status["acme"]["accountURL"] == *url, "{status}");
    Ok(key)
}

async fn the_key_changes_by_annotation(
    env: &TestEnv,
    namespace: &Namespace,
    url: &Value,
) -> Result<()> {
    let old = current_key(env).await?;
    // These orders run during the change.
    let during: Vec<String> = (0..12).map(|number| format!("during-{number}")).collect();
    for name in &during {
        namespace.certificate(name, spec(namespace, "lives", name)).await?;
    }
    let rotate = json!({ "metadata": { "annotations": { OPERATION: "rotate-account-key" } } });
    patch(env, "Issuer", "lives", rotate).await?;
    let new = until_the_key_is_not(env, &old, url).await?;
    until_annotation_is_gone(env).await?;
    // One annotation causes one change.
    let again = json!({ "metadata": { "annotations": { OPERATION: "reconcile" } } });
    patch(env, "Issuer", "lives", again).await?;
    until_annotation_is_gone(env).await?;
    ensure!(current_key(env).await?.thumbprint() == new.thumbprint(), "it has changed twice");
    // An order that the CA was validating at that moment is refused, and retried after a minute.
    for name in &during {
        namespace.until(name, "Ready", Duration::from_secs(100)).await?;
    }
    let signed = env.pebble.signed_by_names().await?;
    ensure!(signed.values().all(|count| *count == 1), "{signed:?}");
    Ok(())
}

/// The state after a manager was killed before or after the CA had acted.
async fn an_interrupted_key_change_is_completed(
    env: &TestEnv,
    url: &Value,
    done: bool,
) -> Result<()> {
    env.stop_manager().await?;
    let (old, next) = (current_key(env).await?, AccountKey::generate()?);
    let data = json!({ "stringData": { "nextPrivateKey": next.to_pem()?.as_str() } });
    patch(env, "Secret", "lives-account", data).await?;
    if done {
        let outcome = roll_over(&client(env)?, &old, &next, url.as_str()).await?;
        let Rollover::Changed(_) = outcome else { bail!("{outcome:?}") };
    }
    env.start_manager().await?;
    let key = until_the_key_is_not(env, &old, url).await?;
    ensure!(key.thumbprint() == next.thumbprint(), "it is neither key");
    Ok(())
}

/// faults.md 26
#[test]
fn a_deactivated_account_is_replaced_by_one_with_another_key() {
    run(async {
        let env = shared().await?;
        let namespace = Namespace::new(env, "closed").await?;
        let (secret, issuer) = example(env, "closed")?;
        apply_in_default(env, &secret).await?;
        apply_in_default(env, &issuer).await?;
        let closed = close(env, "closed").await?;
        namespace.certificate("a", spec(&namespace, "closed", "a")).await?;
        namespace.until("a", "Ready", Duration::from_secs(30)).await?;
        let now = entry(env, "closed-account", "privateKey").await?;
        ensure!(now.is_some() && now != Some(closed), "it is the same key");
        env.check_manager().await
    })
    .unwrap();
}

/// faults.md 26
#[test]
fn a_users_account_key_is_kept_when_its_account_is_deactivated() {
    run(async {
        let env = shared().await?;
        let namespace = Namespace::new(env, "brought").await?;
        let (secret, issuer) = example(env, "brought")?;
        apply_in_default(env, &secret).await?;
        let key = AccountKey::generate()?.to_pem()?;
        let account = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": { "name": "brought-account", "namespace": "default" },
            "stringData": { "privateKey": key.as_str() },
        });
        apply_in_default(env, &account).await?;
        apply_in_default(env, &issuer).await?;
        let closed = close(env, "brought").await?;
        namespace.certificate("a", spec(&namespace, "brought", "a")).await?;
        until_message(env, "brought", "use another account key").await?;
        let kept = entry(env, "brought-account", "privateKey").await?;
        ensure!(kept == Some(closed), "the key was replaced");

        api(&env.control_plane.client(), "Secret", "default")?
            .delete("brought-account", &DeleteParams::default())
            .await?;
        until_ready(env, "brought").await?;
        namespace.until("a", "Ready", Duration::from_secs(30)).await?;
        env.check_manager().await
    })
    .unwrap();
}

/// Waits until an issuer is Ready, and deactivates its account without the manager. Returns the
/// key.
async fn close(env: &TestEnv, issuer: &str) -> Result<String> {
    until_ready(env, issuer).await?;
    let key = entry(env, &format!("{issuer}-account"), "privateKey").await?;
    let key = key.context("there is no key")?;
    find_account(env, &AccountKey::from_pem(&key)?).await?.account.deactivate().await?;
    Ok(key)
}

/// Upstream always shows the first CA.
#[test]
fn a_replaced_ca_secret_is_shown_in_the_issuer_status() {
    run(async {
        let env = shared().await?;
        // The Secret of the second one is not watched.
        let vault = Namespace::new(env, "vault").await?.name;
        for (namespace, name) in [
            ("default", "first root"),
            ("default", "second root"),
            (vault.as_str(), "third root"),
            (vault.as_str(), "fourth root"),
        ] {
            let key = rcgen::KeyPair::generate()?;
            let mut params = rcgen::CertificateParams::default();
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            params.distinguished_name.push(rcgen::DnType::CommonName, name);
            let secret = json!({
                "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
                "metadata": { "name": "replaced-ca", "namespace": namespace },
                "stringData": {
                    "tls.crt": params.self_signed(&key)?.pem(), "tls.key": key.serialize_pem(),
                },
            });
            apply(&env.control_plane.client(), namespace, &secret).await?;
            let issuer = json!({
                "apiVersion": "cert.gardener.cloud/v1alpha1", "kind": "Issuer",
                "metadata": { "name": "replaced-ca", "namespace": "default" },
                "spec": { "ca": { "privateKeySecretRef": {
                    "name": "replaced-ca", "namespace": namespace,
                } } },
            });
            apply_in_default(env, &issuer).await?;
            // A Secret that is not watched is read every 15 seconds.
            let time = if namespace == "default" { SOON } else { 3 * SOON };
            until_within(time, env, "replaced-ca", &format!("shows {name}"), |status, _| {
                status["ca"]["Subject"]["CommonName"] == name
            })
            .await?;
        }
        env.check_manager().await
    })
    .unwrap();
}
