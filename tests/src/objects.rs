//! Kubernetes objects as plain JSON, as users write and read them.

use std::time::Duration;

use anyhow::{Context as _, Result};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{Look, eventually};

/// Kind, group, version, plural, and whether it is namespaced.
const KINDS: &[(&str, &str, &str, &str, bool)] = &[
    ("Certificate", "cert.gardener.cloud", "v1alpha1", "certificates", true),
    ("Issuer", "cert.gardener.cloud", "v1alpha1", "issuers", true),
    ("CertificateRevocation", "cert.gardener.cloud", "v1alpha1", "certificaterevocations", true),
    ("DNSEntry", "dns.gardener.cloud", "v1alpha1", "dnsentries", true),
    ("Secret", "", "v1", "secrets", true),
    ("Event", "events.k8s.io", "v1", "events", true),
    ("Namespace", "", "v1", "namespaces", false),
    ("CustomResourceDefinition", "apiextensions.k8s.io", "v1", "customresourcedefinitions", false),
    ("ConfigMap", "", "v1", "configmaps", true),
    ("Service", "", "v1", "services", true),
    ("ServiceAccount", "", "v1", "serviceaccounts", true),
    ("Deployment", "apps", "v1", "deployments", true),
    ("PodDisruptionBudget", "policy", "v1", "poddisruptionbudgets", true),
    ("Lease", "coordination.k8s.io", "v1", "leases", true),
    ("Ingress", "networking.k8s.io", "v1", "ingresses", true),
    ("Role", "rbac.authorization.k8s.io", "v1", "roles", true),
    ("RoleBinding", "rbac.authorization.k8s.io", "v1", "rolebindings", true),
    ("ClusterRole", "rbac.authorization.k8s.io", "v1", "clusterroles", false),
    ("ClusterRoleBinding", "rbac.authorization.k8s.io", "v1", "clusterrolebindings", false),
    ("Gateway", "gateway.networking.k8s.io", "v1", "gateways", true),
    ("GatewayClass", "gateway.networking.k8s.io", "v1", "gatewayclasses", false),
    ("HTTPRoute", "gateway.networking.k8s.io", "v1", "httproutes", true),
    ("GRPCRoute", "gateway.networking.k8s.io", "v1", "grpcroutes", true),
    ("TLSRoute", "gateway.networking.k8s.io", "v1alpha2", "tlsroutes", true),
    ("XListenerSet", "gateway.networking.x-k8s.io", "v1alpha1", "xlistenersets", true),
    ("Gateway", "networking.istio.io", "v1", "gateways", true),
    ("VirtualService", "networking.istio.io", "v1", "virtualservices", true),
];

/// The resources that we define, plural.
pub const OURS: [&str; 3] = ["issuers", "certificates", "certificaterevocations"];

/// The objects of one kind in one namespace, `""` for all namespaces. If two groups have a kind of
/// this name, `<kind>.<group>` selects one; the kind alone selects the first of the list.
///
/// # Errors
/// The kind is not one that the tests use.
pub fn api(client: &Client, kind: &str, namespace: &str) -> Result<Api<DynamicObject>> {
    let (name, wanted) = kind.split_once('.').map_or((kind, None), |(a, b)| (a, Some(b)));
    let (kind, group, version, plural, namespaced) = KINDS
        .iter()
        .find(|known| known.0 == name && wanted.is_none_or(|group| known.1 == group))
        .with_context(|| format!("no kind {kind}"))?;
    let kind = GroupVersionKind::gvk(group, version, kind);
    let resource = ApiResource::from_gvk_with_plural(&kind, plural);
    Ok(if *namespaced && !namespace.is_empty() {
        Api::namespaced_with(client.clone(), namespace, &resource)
    } else {
        Api::all_with(client.clone(), &resource)
    })
}

/// The documents of a YAML text.
///
/// # Errors
/// It is not YAML.
pub fn documents(yaml: &str) -> Result<Vec<Value>> {
    let documents: Vec<Value> = serde_yaml::from_multiple(yaml)?;
    Ok(documents.into_iter().filter(|document| !document.is_null()).collect())
}

/// Applies an object as `kubectl apply --server-side` does.
///
/// # Errors
/// The API server refuses it.
pub async fn apply(client: &Client, namespace: &str, object: &Value) -> Result<DynamicObject> {
    let kind = object["kind"].as_str().context("the object has no kind")?;
    let name = object["metadata"]["name"].as_str().context("the object has no name")?;
    let params = PatchParams::apply("tests").force();
    let group = object["apiVersion"].as_str().and_then(|version| version.split_once('/'));
    let kind = group.map_or(kind.to_owned(), |(group, _)| format!("{kind}.{group}"));
    Ok(api(client, &kind, namespace)?.patch(name, &params, &Patch::Apply(object)).await?)
}

/// All objects of one kind in one namespace, `""` for all namespaces.
///
/// # Errors
/// The API server does not answer.
pub async fn list(client: &Client, kind: &str, namespace: &str) -> Result<Vec<DynamicObject>> {
    Ok(api(client, kind, namespace)?.list(&ListParams::default()).await?.items)
}

/// The Secrets with orders in progress, in the issuer namespace.
///
/// # Errors
/// The API server does not answer.
pub async fn progress(client: &Client) -> Result<Vec<DynamicObject>> {
    let params = ListParams::default().labels("cert.gardener.cloud/progress=true");
    Ok(api(client, "Secret", "default")?.list(&params).await?.items)
}

/// Waits until no challenge record in the cluster `dns` and no order in progress in the cluster
/// `default` is left.
///
/// # Errors
/// Some are left.
pub async fn until_nothing_is_left(
    dns: &Client,
    default: &Client,
    deadline: Duration,
) -> Result<()> {
    eventually(deadline, "no DNSEntry and no Progress is left", || async {
        let (entries, progress) = (list(dns, "DNSEntry", "").await?, progress(default).await?);
        Ok(if entries.is_empty() && progress.is_empty() {
            Look::Done(())
        } else {
            let (entries, progress) = (names(&entries), names(&progress));
            Look::NotYet(format!("DNSEntries: {entries}; Progress: {progress}"))
        })
    })
    .await
}

/// Applies our own definitions, as `kubectl apply -f` does with those of the chart.
///
/// # Errors
/// They are not accepted.
pub async fn define_ours(client: &Client) -> Result<()> {
    define_changed(client, |_| {}).await
}

/// Applies our own definitions, each after a change.
///
/// # Errors
/// They are not accepted.
pub async fn define_changed(client: &Client, change: impl Fn(&mut Value)) -> Result<()> {
    for plural in OURS {
        let name = format!("charts/cert-controller-manager/crds/cert.gardener.cloud_{plural}.yaml");
        for mut definition in documents(&crate::locate::read(&name)?)? {
            change(&mut definition);
            apply(client, "", &definition).await?;
        }
        until_established(client, &format!("{plural}.cert.gardener.cloud")).await?;
    }
    Ok(())
}

/// Applies the definitions of Gateway API and of Istio.
///
/// # Errors
/// They are not accepted.
pub async fn define_gateways(client: &Client) -> Result<()> {
    for text in crate::locate::gateway_definitions()? {
        for definition in documents(&text)? {
            if definition["kind"] == "CustomResourceDefinition" {
                apply(client, "", &definition).await?;
            }
        }
    }
    for name in ["gateways.gateway.networking.k8s.io", "gateways.networking.istio.io"] {
        until_established(client, name).await?;
    }
    Ok(())
}

/// Waits until a custom resource definition can be used.
///
/// # Errors
/// It is not before the deadline.
pub async fn until_established(client: &Client, definition: &str) -> Result<()> {
    let what = format!("the definition {definition} is established");
    eventually(Duration::from_secs(60), &what, || is_established(client, definition)).await
}

/// Whether a custom resource definition can be used.
///
/// # Errors
/// It does not exist.
pub async fn is_established(client: &Client, definition: &str) -> Result<Look<()>> {
    let found = api(client, "CustomResourceDefinition", "")?.get(definition).await?;
    Ok(match condition(&found, "Established") {
        Some(condition) if condition["status"] == "True" => Look::Done(()),
        other => Look::NotYet(format!("{other:?}")),
    })
}

/// A condition of an object's status.
#[must_use]
pub fn condition<'a>(object: &'a DynamicObject, kind: &str) -> Option<&'a Value> {
    let conditions = object.data["status"]["conditions"].as_array()?;
    conditions.iter().find(|condition| condition["type"] == kind)
}

/// `status.state` and `status.message`.
#[must_use]
pub fn state(object: &DynamicObject) -> (String, String) {
    let status = &object.data["status"];
    let text = |field: &str| status[field].as_str().unwrap_or_default().to_owned();
    (text("state"), text("message"))
}

/// Checks the state of an object.
#[must_use]
pub fn has_state(object: DynamicObject, wanted: &str) -> Look<DynamicObject> {
    let (state, message) = state(&object);
    if state == wanted {
        Look::Done(object)
    } else {
        Look::NotYet(format!("'{state}' ({message})"))
    }
}

/// Names of objects, for messages.
#[must_use]
pub fn names(objects: &[DynamicObject]) -> String {
    let names: Vec<&str> =
        objects.iter().filter_map(|object| object.metadata.name.as_deref()).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// An ACME issuer as in `examples/20-issuer.yaml`, with another name and server.
///
/// # Errors
/// The example is missing.
pub fn acme_issuer(name: &str, server: &str) -> Result<Value> {
    let mut issuer = example("20-issuer.yaml")?;
    issuer["metadata"]["name"] = json!(name);
    issuer["spec"]["acme"]["server"] = json!(server);
    issuer["spec"]["acme"]["privateKeySecretRef"]["name"] = json!(format!("{name}-account"));
    Ok(issuer)
}

/// The first object of a file in `examples/`.
///
/// # Errors
/// It is missing.
pub fn example(file: &str) -> Result<Value> {
    let text = crate::locate::read(&format!("examples/{file}"))?;
    documents(&text)?.into_iter().next().with_context(|| format!("{file} is empty"))
}
