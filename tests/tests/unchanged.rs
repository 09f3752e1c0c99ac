//! No certificate is issued without a change: names in another order, Secrets that are moved or
//! restored, several Certificates with the same request. The CA counts.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::{
    ByteString,
    api::{
        admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding},
        core::v1::Secret,
    },
};
use kube::{
    Api,
    api::{DeleteParams, DynamicObject, ObjectMeta, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tests::{
    Look, eventually,
    namespace::{Namespace, certificate},
    objects::{api, apply, state},
    run,
    test_env::{TestEnv, TestEnvOptions},
    x509::Leaf,
};

const SOON: Duration = Duration::from_secs(60);
const HASH: &str = "cert.gardener.cloud/hash";
const CERTIFICATE: &str = "cert.gardener.cloud/certificate";

/// The number of certificates that the CA signed for names of this namespace.
async fn signed(env: &TestEnv, namespace: &Namespace) -> Result<usize> {
    let counts = env.pebble.signed_by_names().await?;
    let of_this = |names: &Vec<String>| names.iter().any(|it| it.ends_with(&namespace.domain));
    Ok(counts.iter().filter(|(names, _)| of_this(names)).map(|(_, count)| count).sum())
}

/// Waits until the manager has reconciled the current specification, and the Certificate is Ready.
async fn until_looked_at(namespace: &Namespace, name: &str) -> Result<DynamicObject> {
    let is_done = |object: &DynamicObject| {
        let observed = object.data["status"]["observedGeneration"].as_i64();
        state(object).0 == "Ready" && observed == object.metadata.generation
    };
    namespace.until_some("Certificate", name, "was looked at", SOON, is_done).await
}

async fn pair(namespace: &Namespace, secret: &str) -> Result<(Leaf, ByteString)> {
    let found = namespace.secret(secret).await?.context("there is no Secret")?;
    let data = found.data.unwrap_or_default();
    let leaf = Leaf::parse(&data.get("tls.crt").context("no tls.crt")?.0)?;
    Ok((leaf, data.get("tls.key").context("no tls.key")?.clone()))
}

#[test]
fn names_in_another_order_or_spelling_or_listed_twice_cause_no_issuance() {
    run(async {
        let env = TestEnv::shared().await?;
        let namespace = Namespace::new(env, "ordered").await?;
        let host = |name: &str| format!("{name}.{}", namespace.domain);
        let spec = json!({
            "commonName": host("a"), "dnsNames": [host("b"), host("c")], "secretName": "tls",
        });
        namespace.certificate("web", spec).await?;
        namespace.until("web", "Ready", SOON).await?;
        let (first, _) = pair(&namespace, "tls").await?;
        for names in [
            json!([host("c"), host("b")]),
            json!([host("c"), host("B").to_uppercase()]),
            json!([format!("{}.", host("b")), host("c")]),
            json!([host("c"), host("a"), host("b")]),
        ] {
            namespace.patch("web", json!({"spec": {"dnsNames": names}})).await?;
            let object = until_looked_at(&namespace, "web").await?;
            let secret = namespace.secret("tls").await?.context("no Secret")?;
            let labels = secret.metadata.labels.unwrap_or_default();
            ensure!(labels.get(HASH) == object.metadata.labels.context("no labels")?.get(HASH));
        }
        let (last, _) = pair(&namespace, "tls").await?;
        ensure!(last.serial == first.serial && signed(env, &namespace).await? == 1);

        // One name less is another request.
        namespace.patch("web", json!({"spec": {"dnsNames": [host("b")]}})).await?;
        until_looked_at(&namespace, "web").await?;
        ensure!(signed(env, &namespace).await? == 2);
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_secret_restored_from_a_backup_while_the_manager_was_down_is_adopted() {
    run(async {
        let env = TestEnv::with_issuer(TestEnvOptions::default()).await?;
        let namespace = Namespace::new(&env, "files").await?;
        for name in ["kept", "foreign"] {
            namespace.simple(name).await?;
        }
        namespace.until_all_ready(2, SOON).await?;
        let (first, _) = pair(&namespace, "kept-tls").await?;
        env.stop_manager().await?;
        let secrets: Api<Secret> = Api::namespaced(env.control_plane.client(), &namespace.name);
        for name in ["kept", "foreign"] {
            let secret = secrets.get(&format!("{name}-tls")).await?;
            secrets.delete(&format!("{name}-tls"), &DeleteParams::default()).await?;
            let data = match name {
                "kept" => secret.data.unwrap_or_default(),
                // A certificate that a user creates with openssl.
                _ => {
                    let key = rcgen::KeyPair::generate()?;
                    let names = vec![format!("{name}.{}", namespace.domain)];
                    let pem = rcgen::CertificateParams::new(names)?.self_signed(&key)?.pem();
                    let entry =
                        |name: &str, text: String| (name.to_owned(), ByteString(text.into_bytes()));
                    BTreeMap::from([entry("tls.crt", pem), entry("tls.key", key.serialize_pem())])
                }
            };
            // As `kubectl create secret tls` does.
            let data = data.into_iter().filter(|(name, _)| name != "ca.crt").collect();
            let back = Secret {
                metadata: ObjectMeta { name: Some(format!("{name}-tls")), ..ObjectMeta::default() },
                type_: Some("kubernetes.io/tls".to_owned()),
                data: Some(data),
                ..Secret::default()
            };
            secrets.create(&PostParams::default(), &back).await?;
        }
        env.start_manager().await?;
        for name in ["kept-tls", "foreign-tls"] {
            eventually(SOON, &format!("Secret {name} is marked"), || async {
                env.check_manager().await?;
                let secret = secrets.get(name).await?;
                let labels = secret.metadata.labels.clone().unwrap_or_default();
                let is_ours = labels.get(CERTIFICATE).is_some_and(|it| it == "true");
                let has_ca = secret.data.unwrap_or_default().contains_key("ca.crt");
                Ok(match is_ours && has_ca {
                    true => Look::Done(()),
                    false => Look::NotYet(format!("{labels:?}")),
                })
            })
            .await?;
        }
        ensure!(pair(&namespace, "kept-tls").await?.0.serial == first.serial);
        // The self-signed one was replaced.
        ensure!(signed(&env, &namespace).await? == 3, "the CA signed again");
        env.check_manager().await
    })
    .unwrap();
}

#[test]
fn a_changed_secret_name_moves_the_certificate_without_an_order() {
    run(async {
        let env = TestEnv::shared().await?;
        let namespace = Namespace::new(env, "renamed").await?;
        namespace.simple("web").await?;
        let object = namespace.until("web", "Ready", SOON).await?;
        ensure!(object.data["spec"]["secretRef"]["name"] == "web-tls");
        let first = pair(&namespace, "web-tls").await?;
        // The request of `kubectl apply` after the name was changed in the file.
        namespace.patch("web", json!({"spec": {"secretName": "other-tls"}})).await?;
        let what = "has the other Secret";
        let moved = |object: &DynamicObject| {
            let reference = json!({"name": "other-tls", "namespace": "renamed"});
            state(object).0 == "Ready" && object.data["spec"]["secretRef"] == reference
        };
        namespace.until_some("Certificate", "web", what, SOON, moved).await?;
        let second = pair(&namespace, "other-tls").await?;
        ensure!(second.0.serial == first.0.serial && second.1 == first.1, "another pair");
        // Without --cascade-delete the previous Secret stays, as after a deletion.
        ensure!(pair(&namespace, "web-tls").await?.0.serial == first.0.serial);
        ensure!(signed(env, &namespace).await? == 1);
        // Several times.
        namespace.patch("web", json!({"spec": {"secretName": "web-tls"}})).await?;
        until_looked_at(&namespace, "web").await?;
        ensure!(signed(env, &namespace).await? == 1);
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_blank_secret_name_counts_as_unset() {
    run(async {
        let env = TestEnv::shared().await?;
        let namespace = Namespace::new(env, "blank").await?;
        let spec = json!({"commonName": format!("a.{}", namespace.domain), "secretName": ""});
        namespace.certificate("web", spec.clone()).await?;
        let object = namespace.until("web", "Ready", SOON).await?;
        let name = object.data["spec"]["secretRef"]["name"].as_str().context("no secretRef")?;
        ensure!(name.starts_with("web-"), "{name}");
        namespace.leaf(name).await?;
        // The next sync of the chart.
        namespace.certificate("web", spec).await?;
        until_looked_at(&namespace, "web").await?;
        ensure!(signed(env, &namespace).await? == 1);
        Ok(())
    })
    .unwrap();
}

/// A policy that denies annotations on Certificates of `namespace`.
async fn refuse_probe_writes(env: &TestEnv, namespace: &Namespace) -> Result<()> {
    let client = env.control_plane.client();
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(client.clone());
    let policy = json!({
        "metadata": {"name": namespace.name},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace.name}},
                "resourceRules": [{
                    "apiGroups": ["cert.gardener.cloud"], "apiVersions": ["*"],
                    "operations": ["UPDATE"], "resources": ["certificates"],
                }],
            },
            "validations": [{
                "expression": "!has(object.metadata.annotations) || \
                    !('cert.gardener.cloud/not-before' in object.metadata.annotations)",
                "message": "marks are refused here",
            }],
        },
    });
    policies.create(&PostParams::default(), &serde_json::from_value(policy)?).await?;
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(client.clone());
    let binding = json!({
        "metadata": {"name": namespace.name},
        "spec": {"policyName": namespace.name, "validationActions": ["Deny"]},
    });
    bindings.create(&PostParams::default(), &serde_json::from_value(binding)?).await?;
    // The policy takes effect after a moment; a Certificate of another class shows when.
    let mut probe = certificate("probe", json!({"commonName": "probe.example"}));
    probe["metadata"]["annotations"] = json!({"cert.gardener.cloud/class": "other"});
    apply(&client, &namespace.name, &probe).await?;
    let certificates = api(&client, "Certificate", &namespace.name)?;
    let mark = json!({"metadata": {"annotations": {"cert.gardener.cloud/not-before": "x"}}});
    eventually(SOON, "the policy is in force", || async {
        let params = PatchParams { dry_run: true, ..PatchParams::default() };
        Ok(match certificates.patch("probe", &params, &Patch::Merge(&mark)).await {
            Err(kube::Error::Api(status)) if status.code == 422 => Look::Done(()),
            other => Look::NotYet(format!("{other:?}")),
        })
    })
    .await
}

#[test]
fn a_write_that_the_api_server_refuses_is_in_the_status_and_causes_one_issuance() {
    run(async {
        let env = TestEnv::shared().await?;
        let namespace = Namespace::new(env, "refused").await?;
        refuse_probe_writes(env, &namespace).await?;
        namespace.simple("web").await?;
        let object = namespace.until("web", "Error", SOON).await?;
        let message = state(&object).1;
        ensure!(message.contains("marks are refused here") && message.contains("web"), "{message}");
        ensure!(object.data["status"]["conditions"][0]["reason"] == "ClusterRefused");
        ensure!(signed(env, &namespace).await? == 1);
        let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(env.control_plane.client());
        bindings.delete(&namespace.name, &DeleteParams::default()).await?;
        // The wait grows with each refusal; a change of the Certificate is processed at once.
        let certificates = api(&env.control_plane.client(), "Certificate", &namespace.name)?;
        let mut hours = 100;
        eventually(SOON, "it is well", || {
            hours += 1;
            let patch = json!({"spec": {"renewBefore": format!("{hours}h")}});
            let (certificates, namespace) = (certificates.clone(), &namespace);
            async move {
                let params = PatchParams::default();
                certificates.patch("web", &params, &Patch::Merge(&patch)).await?;
                Ok(match namespace.until("web", "Ready", Duration::from_secs(3)).await {
                    Ok(_) => Look::Done(()),
                    Err(error) => Look::NotYet(format!("{error:#}")),
                })
            }
        })
        .await?;
        ensure!(signed(env, &namespace).await? == 1);
        Ok(())
    })
    .unwrap();
}

/// A Certificate for `a` and `b`, in this order or another, with further fields.
fn certificate_with_names(
    namespace: &Namespace,
    name: &str,
    names: [&str; 2],
    more: &Value,
) -> Value {
    let host = |name: &str| format!("{name}.{}", namespace.domain);
    let mut spec = json!({"dnsNames": names.map(host), "secretName": format!("{name}-tls")});
    for (field, value) in more.as_object().into_iter().flatten() {
        spec[field] = value.clone();
    }
    certificate(name, spec)
}

#[test]
fn certificates_of_a_namespace_with_the_same_request_share_one_and_its_renewals() {
    run(async {
        let env = TestEnv::shared().await?;
        let namespace = Namespace::new(env, "same").await?;
        let ready = |name: &'static str| {
            let namespace = &namespace;
            async move { until_looked_at(namespace, name).await.map(drop) }
        };
        // Two that are created at the same time are ordered once.
        namespace.apply(&certificate_with_names(&namespace, "one", ["a", "b"], &json!({}))).await?;
        let labels = json!({"secretLabels": {"layout": "differs"}});
        namespace.apply(&certificate_with_names(&namespace, "two", ["b", "a"], &labels)).await?;
        ready("one").await?;
        ready("two").await?;
        ensure!(signed(env, &namespace).await? == 1, "two orders");
        // A later one gets it at once.
        let host = |name: &str| format!("{name}.{}", namespace.domain);
        let other_spelling =
            json!({"dnsNames": [host("B").to_uppercase(), format!("{}.", host("a"))]});
        namespace
            .apply(&certificate_with_names(&namespace, "three", ["a", "b"], &other_spelling))
            .await?;
        ready("three").await?;
        let first = pair(&namespace, "one-tls").await?;
        for secret in ["two-tls", "three-tls"] {
            let other = pair(&namespace, secret).await?;
            ensure!(other.0.serial == first.0.serial && other.1 == first.1, "{secret}");
        }
        let requests = env.pebble.requests()?;
        ensure!(signed(env, &namespace).await? == 1, "{requests:?}");

        // Another kind of key, or `reuse: false`, leads to another certificate.
        let rsa = json!({"privateKey": {"algorithm": "RSA", "size": 2048}});
        namespace.apply(&certificate_with_names(&namespace, "rsa", ["a", "b"], &rsa)).await?;
        ready("rsa").await?;
        let mut own = certificate_with_names(&namespace, "own", ["a", "b"], &json!({}));
        own["metadata"]["annotations"] = json!({"cert.gardener.cloud/reuse": "false"});
        namespace.apply(&own).await?;
        ready("own").await?;
        ensure!(signed(env, &namespace).await? == 3);

        // A renewal that all request is one order, and all get its certificate.
        let second = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second())?;
        for name in ["one", "two", "three"] {
            let demand = json!({"spec": {"ensureRenewedAfter": second.to_string()}});
            namespace.patch(name, demand).await?;
        }
        let mut renewed = Vec::new();
        for name in ["one", "two", "three"] {
            ready(name).await?;
            renewed.push(pair(&namespace, &format!("{name}-tls")).await?);
        }
        ensure!(
            renewed.iter().all(|it| it.0.serial == renewed[0].0.serial && it.1 == renewed[0].1)
        );
        ensure!(renewed[0].0.serial != first.0.serial && renewed[0].1 != first.1);
        ensure!(signed(env, &namespace).await? == 4);

        // Another namespace has another certificate.
        let other_namespace = Namespace::new(env, "other").await?;
        let mut same = certificate_with_names(&namespace, "one", ["a", "b"], &json!({}));
        same["metadata"]["namespace"] = json!("other");
        other_namespace.apply(&same).await?;
        until_looked_at(&other_namespace, "one").await?;
        ensure!(pair(&other_namespace, "one-tls").await?.0.serial != renewed[0].0.serial);
        ensure!(signed(env, &namespace).await? == 5);
        Ok(())
    })
    .unwrap();
}
