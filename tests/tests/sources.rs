//! Certificates of Ingresses, Services and Gateways, on a real API server with the real definitions
//! of Istio and the Gateway API.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use kube::{
    Api,
    api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams},
};
use serde_json::{Value, json};
use tests::{
    Look, eventually, locate,
    namespace::Namespace,
    objects::{self, apply, documents, names, until_established},
    run,
    test_env::{TestEnv, TestEnvOptions},
};

const SOON: Duration = Duration::from_secs(20);
/// For up to a minute the manager looks for missing kinds at least every 15 seconds. It also waits
/// before it accepts that a kind is gone.
const LATER: Duration = Duration::from_secs(40);

/// The objects of an example, with their names in the domain of the test.
fn example_in(namespace: &Namespace, file: &str) -> Result<Vec<Value>> {
    let text = locate::read(&format!("examples/{file}"))?;
    documents(&text.replace("my-company.test", &namespace.domain))
}

async fn apply_example(namespace: &Namespace, file: &str) -> Result<()> {
    for object in example_in(namespace, file)? {
        namespace.apply(&object).await?;
    }
    Ok(())
}

fn client(env: &TestEnv) -> kube::Client {
    env.control_plane.client()
}

/// The Certificates of a namespace by the name of their Secret, with their names.
async fn certificates(env: &TestEnv, namespace: &Namespace) -> Result<Vec<(String, Vec<String>)>> {
    let all = objects::list(&client(env), "Certificate", &namespace.name).await?;
    let mut found: Vec<_> = all.iter().map(summary).collect();
    found.sort();
    Ok(found)
}

fn summary(certificate: &DynamicObject) -> (String, Vec<String>) {
    let spec = &certificate.data["spec"];
    let first = spec["commonName"].as_str().map(str::to_owned);
    let rest = spec["dnsNames"].as_array().into_iter().flatten();
    let rest = rest.filter_map(|name| name.as_str().map(str::to_owned));
    let secret = spec["secretRef"]["name"].as_str().unwrap_or_default().to_owned();
    (secret, first.into_iter().chain(rest).collect())
}

/// Waits until exactly these Certificates exist. Names are relative to the namespace's domain.
async fn until_certificates(
    env: &TestEnv,
    namespace: &Namespace,
    wanted: &[(&str, &[&str])],
    deadline: Duration,
) -> Result<()> {
    let full = |name: &&str| format!("{name}.{}", namespace.domain);
    let wanted: Vec<(String, Vec<String>)> = wanted
        .iter()
        .map(|(secret, names)| ((*secret).to_owned(), names.iter().map(full).collect()))
        .collect();
    let what = format!("{} has the Certificates {wanted:?}", namespace.name);
    eventually(deadline, &what, || async {
        env.check_manager().await?;
        let found = certificates(env, namespace).await?;
        Ok(if found == wanted { Look::Done(()) } else { Look::NotYet(format!("{found:?}")) })
    })
    .await
}

async fn until_event(namespace: &Namespace, object: &str, wanted: &str) -> Result<()> {
    namespace.until_event(object, SOON, |it| it.contains(wanted)).await
}

async fn until_secret(namespace: &Namespace, secret: &str) -> Result<()> {
    eventually(SOON, &format!("Secret {secret}"), || async {
        let found = namespace.secret(secret).await?;
        Ok(found.map_or_else(|| Look::NotYet("not there".to_owned()), |_| Look::Done(())))
    })
    .await
}

#[test]
fn an_ingress_yields_secrets_that_follow_its_changes() {
    run(async {
        let env = TestEnv::shared().await?;
        let namespace = Namespace::new(env, "ingress").await?;
        apply_example(&namespace, "40-ingress.yaml").await?;
        let both: &[&str] = &["ingress", "ingress-foo"];
        until_certificates(env, &namespace, &[("web-ingress-tls", both)], SOON).await?;
        until_secret(&namespace, "web-ingress-tls").await?;
        let all = objects::list(&client(env), "Certificate", &namespace.name).await?;
        let made = all.first().context("no Certificate")?;
        let owner = &made.metadata.owner_references.as_deref().unwrap_or_default()[0];
        assert_eq!((owner.kind.as_str(), owner.controller), ("Ingress", Some(true)));
        let annotations = made.metadata.annotations.clone().unwrap_or_default();
        assert_eq!(annotations["cert.gardener.cloud/forward-owner-refs"], "true");
        assert_eq!(made.data["spec"]["issuerRef"]["name"], "issuer-acme");
        until_event(&namespace, "web-ingress", "Normal reconcile created certificate object")
            .await?;
        until_event(&namespace, "web-ingress", "Normal cert-annotation ingress/web-ingress-tls: ")
            .await?;

        // Another entry, and one without a Secret.
        let mut ingress = example_in(&namespace, "40-ingress.yaml")?.remove(0);
        ingress["spec"]["tls"] = json!([
            {"hosts": [format!("a.{}", namespace.domain)], "secretName": "web-ingress-tls"},
            {"hosts": [format!("b.{}", namespace.domain)], "secretName": "b-tls"},
            {"hosts": ["nowhere"]},
        ]);
        namespace.apply(&ingress).await?;
        until_certificates(
            env,
            &namespace,
            &[("b-tls", &["b"]), ("web-ingress-tls", &["a"])],
            SOON,
        )
        .await?;
        until_event(
            &namespace,
            "web-ingress",
            "Warning reconcile tls entry for hosts nowhere has no secretName",
        )
        .await?;

        // One entry less, then no request at all.
        ingress["spec"]["tls"] =
            json!([{"hosts": [format!("b.{}", namespace.domain)], "secretName": "b-tls"}]);
        namespace.apply(&ingress).await?;
        until_certificates(env, &namespace, &[("b-tls", &["b"])], SOON).await?;
        until_event(&namespace, "web-ingress", "Normal reconcile deleted certificate object")
            .await?;
        ingress["metadata"]["annotations"] = json!({});
        namespace.apply(&ingress).await?;
        until_certificates(env, &namespace, &[], SOON).await
    })
    .unwrap();
}

#[test]
fn an_ingress_with_the_old_label_yields_a_secret() {
    run(async {
        let env = TestEnv::shared().await?;
        let namespace = Namespace::new(env, "labelled").await?;
        apply_example(&namespace, "40-ingress-label.yaml").await?;
        let wanted: &[(&str, &[&str])] = &[("labelled-ingress-tls", &["labelled"])];
        until_certificates(env, &namespace, wanted, SOON).await?;
        until_secret(&namespace, "labelled-ingress-tls").await
    })
    .unwrap();
}

#[test]
fn istio_is_served_where_v1alpha3_is_the_only_version() {
    run(async {
        let env = TestEnv::shared().await?;
        let namespace = Namespace::new(env, "v1alpha3").await?;
        for text in locate::gateway_definitions()? {
            for mut definition in documents(&text)? {
                let name = definition["metadata"]["name"].as_str().unwrap_or_default();
                if ISTIO.contains(&name) {
                    only_version(&mut definition, "v1alpha3")?;
                    apply(&client(env), "", &definition).await?;
                }
            }
        }
        for name in ISTIO {
            until_established(&client(env), name).await?;
        }
        for mut object in example_in(&namespace, "41-gateways.yaml")? {
            if object["apiVersion"] == "networking.istio.io/v1" {
                object["apiVersion"] = json!("networking.istio.io/v1alpha3");
                object["metadata"]["namespace"] = json!(namespace.name);
                apply_as_v1alpha3(&client(env), &namespace, &object).await?;
            }
        }
        let wanted: &[(&str, &[&str])] = &[("web-istio-tls", &["istio"])];
        until_certificates(env, &namespace, wanted, LATER).await?;
        until_secret(&namespace, "web-istio-tls").await
    })
    .unwrap();
}

const ISTIO: [&str; 2] = ["gateways.networking.istio.io", "virtualservices.networking.istio.io"];

/// Applies an object of Istio in the only served version.
async fn apply_as_v1alpha3(
    client: &kube::Client,
    namespace: &Namespace,
    object: &Value,
) -> Result<()> {
    let [kind, name] = [&object["kind"], &object["metadata"]["name"]].map(Value::as_str);
    let (kind, name) = (kind.context("no kind")?, name.context("no name")?);
    let kind = GroupVersionKind::gvk("networking.istio.io", "v1alpha3", kind);
    let resource = ApiResource::from_gvk(&kind);
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &namespace.name, &resource);
    api.patch(name, &PatchParams::apply("test"), &Patch::Apply(object)).await?;
    Ok(())
}

/// Removes all other versions from a definition.
fn only_version(definition: &mut Value, version: &str) -> Result<()> {
    let versions = definition["spec"]["versions"].as_array_mut().context("no versions")?;
    versions.retain(|one| one["name"] == version);
    let only = versions.first_mut().with_context(|| format!("no version {version}"))?;
    only["served"] = json!(true);
    only["storage"] = json!(true);
    Ok(())
}

#[test]
fn a_service_yields_a_secret_while_it_is_a_load_balancer() {
    run(async {
        let env = TestEnv::shared().await?;
        let namespace = Namespace::new(env, "service").await?;
        apply_example(&namespace, "40-service.yaml").await?;
        let wanted: &[(&str, &[&str])] = &[("web-service-tls", &["service", "service-foo"])];
        until_certificates(env, &namespace, wanted, SOON).await?;
        until_secret(&namespace, "web-service-tls").await?;

        // Changes by other clients are reverted; fields of other owners are left alone.
        let all = objects::list(&client(env), "Certificate", &namespace.name).await?;
        let name = all[0].metadata.name.clone().context("no name")?;
        let spec = json!({"dnsNames": ["other.test"], "keystores": null, "renewBefore": "1h"});
        namespace.patch(&name, json!({ "spec": spec })).await?;
        until_certificates(env, &namespace, wanted, SOON).await?;

        let mut service = example_in(&namespace, "40-service.yaml")?.remove(0);
        service["spec"]["type"] = json!("ClusterIP");
        namespace.apply(&service).await?;
        until_certificates(env, &namespace, &[], SOON).await?;
        service["spec"]["type"] = json!("LoadBalancer");
        namespace.apply(&service).await?;
        until_certificates(env, &namespace, wanted, SOON).await?;

        // Without a garbage collector, the manager deletes objects without an owner.
        namespace.delete("Service", "web-service").await?;
        until_certificates(env, &namespace, &[], LATER).await
    })
    .unwrap();
}

#[test]
fn gateways_are_served_as_soon_as_their_definitions_exist() {
    run(async {
        let env = TestEnv::with_issuer(TestEnvOptions::default()).await?;
        let namespace = Namespace::new(&env, "gateways").await?;
        define_gateways(&env).await?;
        apply_example(&namespace, "41-gateways.yaml").await?;
        let gateway: &[&str] = &["gateway"];
        let istio: &[&str] = &["istio"];
        let both = [("web-gateway-tls", gateway), ("web-istio-tls", istio)];
        until_certificates(&env, &namespace, &both, LATER).await?;
        until_secret(&namespace, "web-gateway-tls").await?;
        until_secret(&namespace, "web-istio-tls").await?;

        // Another route and another VirtualService.
        let of_test = example_in(&namespace, "41-gateways.yaml")?;
        let more = |index: usize, field: &str, name: &str| {
            let mut object: Value = of_test[index].clone();
            object["metadata"]["name"] = json!(format!("more-{name}"));
            object["spec"][field] = json!([format!("{name}.{}", namespace.domain)]);
            object
        };
        namespace.apply(&more(1, "hostnames", "more")).await?;
        namespace.apply(&more(3, "hosts", "extra")).await?;
        let both: [(&str, &[&str]); 2] =
            [("web-gateway-tls", &["more", "gateway"]), ("web-istio-tls", &["extra", "istio"])];
        until_certificates(&env, &namespace, &both, SOON).await?;

        // Invalid names of another tenant, or ones in another spelling, have no effect.
        let mut bad = more(3, "hosts", "EXTRA");
        bad["metadata"]["name"] = json!("bad");
        bad["spec"]["hosts"].as_array_mut().context("no hosts")?.extend([json!("10.0.0.9"), json!("a..b")]);
        namespace.apply(&bad).await?;
        let warning = "Warning reconcile left out of the certificates of its gateways: 10.0.0.9 is an IP address";
        until_event(&namespace, "bad", warning).await?;
        until_certificates(&env, &namespace, &both, SOON).await?;
        namespace.until_all_ready(2, SOON).await?;
        namespace.delete("VirtualService", "bad").await?;

        // Routes of the namespaces that a selector matches.
        let selected = Namespace::new(&env, "selected").await?;
        let mut selecting = of_test[0].clone();
        let names = json!(["gateways", "selected"]);
        selecting["spec"]["listeners"][0]["allowedRoutes"]["namespaces"] = json!({
            "from": "Selector",
            "selector": {"matchExpressions": [
                {"key": "kubernetes.io/metadata.name", "operator": "In", "values": names},
            ]},
        });
        let mut route = more(1, "hostnames", "deep.team");
        route["spec"]["parentRefs"] = json!([{"name": "web-gateway", "namespace": "gateways"}]);
        selected.apply(&route).await?;
        namespace.apply(&selecting).await?;
        let names: &[&str] = &["more", "gateway", "deep.team"];
        until_certificates(&env, &namespace, &[("web-gateway-tls", names), both[1]], SOON).await?;
        namespace.apply(&of_test[0]).await?;
        until_certificates(&env, &namespace, &both, SOON).await?;

        // A ListenerSet, with its own Secret and the Gateway's annotations.
        let mut open = of_test[0].clone();
        open["spec"]["allowedListeners"] = json!({"namespaces": {"from": "Same"}});
        namespace.apply(&open).await?;
        namespace
            .apply(&json!({
                "apiVersion": "gateway.networking.x-k8s.io/v1alpha1", "kind": "XListenerSet",
                "metadata": {"name": "set"},
                "spec": {
                    "parentRef": {"name": "web-gateway"},
                    "listeners": [{
                        "name": "set", "port": 8443, "protocol": "HTTPS",
                        "hostname": format!("set.{}", namespace.domain),
                        "tls": {"certificateRefs": [{"name": "set-tls"}]},
                    }],
                },
            }))
            .await?;
        let all: [(&str, &[&str]); 3] = [("set-tls", &["set"]), both[0], both[1]];
        until_certificates(&env, &namespace, &all, SOON).await?;

        // After a restart no Certificate is lost or created twice.
        env.replace_manager().await?;
        namespace.delete("VirtualService", "more-extra").await?;
        let all = [all[0], all[1], ("web-istio-tls", istio)];
        until_certificates(&env, &namespace, &all, LATER).await?;

        // Deleting the definition deletes all Gateways of Istio.
        let definitions = objects::api(&client(&env), "CustomResourceDefinition", "")?;
        definitions.delete("gateways.networking.istio.io", &Default::default()).await?;
        until_certificates(&env, &namespace, &all[..2], LATER).await?;
        env.check_manager().await
    })
    .unwrap();
}

#[test]
fn after_a_restart_only_certificates_without_their_source_are_deleted() {
    run(async {
        let env = TestEnv::with_issuer(TestEnvOptions::default()).await?;
        let namespace = Namespace::new(&env, "away").await?;
        apply_example(&namespace, "40-ingress.yaml").await?;
        apply_example(&namespace, "40-service.yaml").await?;
        namespace.simple("mine").await?;
        namespace.until_all_ready(3, SOON).await?;
        let all = certificates(&env, &namespace).await?;
        env.stop_manager().await?;
        namespace.delete("Service", "web-service").await?;
        env.start_manager().await?;
        eventually(LATER, "the Service's Certificate is gone", || async {
            let found = objects::list(&client(&env), "Certificate", &namespace.name).await?;
            Ok(if found.len() == 2 { Look::Done(()) } else { Look::NotYet(names(&found)) })
        })
        .await?;
        let left = certificates(&env, &namespace).await?;
        ensure!(all.len() == 3 && left.iter().all(|one| one.0 != "web-service-tls"), "{left:?}");
        env.check_manager().await
    })
    .unwrap();
}

async fn define_gateways(env: &TestEnv) -> Result<()> {
    let wanted = [
        "gateways.gateway.networking.k8s.io",
        "httproutes.gateway.networking.k8s.io",
        "xlistenersets.gateway.networking.x-k8s.io",
        "gateways.networking.istio.io",
        "virtualservices.networking.istio.io",
    ];
    for text in locate::gateway_definitions()? {
        for definition in documents(&text)? {
            let name = definition["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            if wanted.contains(&name.as_str()) {
                apply(&client(env), "", &definition).await?;
                until_established(&client(env), &name).await?;
            }
        }
    }
    Ok(())
}
