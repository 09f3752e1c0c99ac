//! The Helm chart: the effect of its values, and an installation on an API server.

use std::{collections::BTreeSet, path::Path, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use cert_controller_manager::access::{self, Cluster, Scope};
use kube::api::DeleteParams;
use serde_json::{Value, json};
use tests::{
    eventually,
    fleet::{
        Fleet,
        options::{Access, FleetOptions},
    },
    helm::Helm,
    locate,
    namespace::Namespace,
    objects::{self, acme_issuer, api, apply, example, is_established},
    processes, run,
    scrape::{page, page_as},
    test_env::ISSUER,
};

const NAME: &str = "cert-controller-manager";
const SPACE: &str = "certificates";
/// The issuer namespace of the chart.
const ISSUERS: &str = "cert-controller-manager-issuers";
const SOON: Duration = Duration::from_secs(30);

/// The only object with this kind and name.
fn find<'a>(objects: &'a [Value], kind: &str, name: &str) -> Result<&'a Value> {
    objects
        .iter()
        .find(|object| object["kind"] == kind && object["metadata"]["name"] == name)
        .with_context(|| format!("there is no {kind} {name}"))
}

/// The configuration file of the manager.
fn config(objects: &[Value]) -> Result<Value> {
    let text = find(objects, "ConfigMap", NAME)?["data"]["config.yaml"].as_str();
    Ok(serde_yaml::from_str(text.context("there is no config.yaml")?)?)
}

/// The roles without the manager's name, prefixed with the namespace.
fn roles(objects: &[Value]) -> BTreeSet<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    objects
        .iter()
        .filter(|object| matches!(object["kind"].as_str(), Some("Role" | "ClusterRole")))
        .map(|role| {
            let name = text(&role["metadata"]["name"]).replace(&format!("{NAME}-"), "");
            format!("{}/{name}", text(&role["metadata"]["namespace"]))
        })
        .collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

const USUAL_ROLES: &[&str] = &[
    "/default-definitions",
    "/dns-entries",
    "/source-definitions",
    "/source-objects",
    "/target-definitions",
    "/target-secrets",
    "certificates/default-lease",
    "cert-controller-manager-issuers/default-issuers",
    "kube-system/default-identity",
    "kube-system/dns-identity",
    "kube-system/source-identity",
    "kube-system/target-identity",
];

#[test]
fn by_default_two_replicas_run_without_privileges_on_their_node() -> Result<()> {
    let helm = Helm::find()?;
    helm.lint(&json!({}))?;
    let objects = helm.template(SPACE, &json!({}))?;
    let deployment = find(&objects, "Deployment", NAME)?;
    ensure!(deployment["spec"]["replicas"] == 2);
    ensure!(deployment["spec"]["strategy"]["type"] == "RollingUpdate");
    let pod = &deployment["spec"]["template"]["spec"];
    ensure!(pod["automountServiceAccountToken"] == true && pod["serviceAccountName"] == NAME);
    ensure!(pod["securityContext"]["runAsNonRoot"] == true);
    ensure!(pod["securityContext"]["seccompProfile"] == json!({"type": "RuntimeDefault"}));
    let container = &pod["containers"][0];
    let confined = json!({
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": {"drop": ["ALL"]},
    });
    ensure!(container["securityContext"] == confined);
    ensure!(
        container["args"] == json!(["--config=/etc/cert-controller-manager/config/config.yaml"])
    );
    ensure!(container["ports"] == json!([{"name": "http", "containerPort": 8080}]));
    for (probe, path) in [("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")] {
        ensure!(container[probe]["httpGet"] == json!({"path": path, "port": "http"}));
    }
    ensure!(container["resources"]["requests"]["memory"] == "64Mi");
    let spread = &pod["affinity"]["podAntiAffinity"];
    ensure!(spread["preferredDuringSchedulingIgnoredDuringExecution"][0]["weight"] == 100);
    let written = json!({
        "name": NAME, "namespace": SPACE, "server-port-http": 8080, "issuer-namespace": ISSUERS,
    });
    ensure!(config(&objects)? == written);
    let space = find(&objects, "Namespace", ISSUERS)?;
    ensure!(space["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep");
    ensure!(find(&objects, "NetworkPolicy", NAME).is_err());
    ensure!(find(&objects, "PodDisruptionBudget", NAME)?["spec"]["maxUnavailable"] == 1);
    ensure!(find(&objects, "ServiceAccount", NAME)?["automountServiceAccountToken"] == false);
    find(&objects, "Service", &format!("{NAME}-metrics"))?;
    ensure!(roles(&objects) == set(USUAL_ROLES), "{:#?}", roles(&objects));
    ensure!(!objects.iter().any(|object| object["kind"] == "Secret"));
    Ok(())
}

#[test]
fn configuration_is_passed_unchanged_including_falsy_values() -> Result<()> {
    let helm = Helm::find()?;
    let values = json!({
        "configuration": {
            "precheck-nameservers": "",
            "cascade-delete": false,
            "issuer": {"default-requests-per-day-quota": 10_000_000, "issuer-namespace": "issuers"},
            "default.pool.size": 0,
            "source": {"id": "customer"},
            "server-port-http": 9090,
            "lease-name": "mine",
            "controllers": ["issuer", "certsources"],
        },
        "clusters": {"source": {"kubeconfigSecret": "customer"}},
        "caCertificates": "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n",
        "createCRDs": {"issuers": false},
    });
    helm.lint(&values)?;
    let objects = helm.template(SPACE, &values)?;
    let written = json!({
        "name": NAME,
        "namespace": SPACE,
        "precheck-nameservers": "",
        "cascade-delete": false,
        "issuer": {"default-requests-per-day-quota": 10_000_000, "issuer-namespace": "issuers"},
        "default.pool.size": 0,
        "source": {"_": "/etc/cert-controller-manager/source/kubeconfig", "id": "customer"},
        "server-port-http": 9090,
        "lease-name": "mine",
        "controllers": ["issuer", "certsources"],
        "ca-certificates": "/etc/cert-controller-manager/ca/certs.pem",
        "ca-system-cert-pool": true,
        "kubeconfig.disable-deploy-crds": true,
    });
    ensure!(config(&objects)? == written, "{:#}", config(&objects)?);
    let pod = &find(&objects, "Deployment", NAME)?["spec"]["template"]["spec"];
    ensure!(pod["containers"][0]["ports"][0]["containerPort"] == 9090);
    let secret = json!({
        "secretName": "customer", "defaultMode": 0o440,
        "items": [{"key": "kubeconfig", "path": "kubeconfig"}],
    });
    let volumes = pod["volumes"].as_array().context("no volumes")?;
    ensure!(volumes.iter().any(|volume| volume["secret"] == secret), "{volumes:#?}");
    find(&objects, "ConfigMap", &format!("{NAME}-ca"))?;
    let lease = find(&objects, "Role", &format!("{NAME}-default-lease"))?;
    ensure!(lease["rules"][1]["resourceNames"] == json!(["mine"]));
    Ok(())
}

#[test]
fn roles_match_clusters_and_flags() -> Result<()> {
    let helm = Helm::find()?;
    let elsewhere = json!({"kubeconfigSecret": "elsewhere"});
    let issuers = format!("{ISSUERS}/default-issuers");
    let in_default_cluster = &["certificates/default-lease", &issuers];
    let identity = "kube-system/default-identity";
    let cases: &[(&str, Value, BTreeSet<String>)] = &[
        (
            "source, and with it target, is elsewhere",
            json!({"clusters": {"source": elsewhere}}),
            &set(&["/default-definitions", "/dns-entries", identity, "kube-system/dns-identity"])
                | &set(in_default_cluster),
        ),
        (
            "only source is here",
            json!({"clusters": {
                "default": elsewhere, "source": {"inCluster": true}, "target": elsewhere,
            }}),
            set(&["/source-definitions", "/source-objects", "kube-system/source-identity"]),
        ),
        ("nothing is here", json!({"clusters": {"default": elsewhere}}), set(&[])),
        (
            "flags name namespaces and switch on more",
            json!({"configuration": {
                "issuer": {"issuer-namespace": "issuers", "dns-namespace": "entries"},
                "allow-target-issuers": true,
                "answer-dns": ["0.0.0.0:5353"],
                "metrics-authorization": true,
            }}),
            USUAL_ROLES
                .iter()
                .map(|role| match *role {
                    "/dns-entries" => "entries/dns-entries".to_owned(),
                    role if role == issuers => "issuers/default-issuers".to_owned(),
                    role => role.to_owned(),
                })
                .chain(["/target-target-issuers".to_owned(), "entries/dns-answer".to_owned()])
                .chain(["/dns-definitions".to_owned(), "/metrics-reader".to_owned()])
                .chain(["/default-metrics-authorization".to_owned()])
                .collect(),
        ),
        (
            "no lease, no definitions",
            json!({
                "replicaCount": 1,
                "configuration": {"omit-lease": true},
                "createCRDs": {"issuers": false, "certificates": false},
            }),
            USUAL_ROLES
                .iter()
                .filter(|role| !role.ends_with("lease") && !role.ends_with("definitions"))
                .map(|role| (*role).to_owned())
                .collect(),
        ),
        ("none are wanted", json!({"rbac": {"create": false}}), set(&[])),
    ];
    for (name, values, wanted) in cases {
        helm.lint(values).context(*name)?;
        let objects = helm.template(SPACE, values).context(*name)?;
        ensure!(roles(&objects) == *wanted, "{name}: {:#?}", roles(&objects));
        let pod = &find(&objects, "Deployment", NAME)?["spec"]["template"]["spec"];
        let here = *name != "nothing is here";
        ensure!(pod["automountServiceAccountToken"] == here, "{name}");
        let bindings = objects.iter().filter(|object| object["roleRef"].is_object());
        // The operator binds the role for metrics.
        let ours = wanted.iter().filter(|role| *role != "/metrics-reader");
        ensure!(bindings.count() == ours.count(), "{name}: not every role is bound");
    }
    Ok(())
}

#[test]
fn the_issuer_namespace_is_created_if_the_chart_chooses_it() -> Result<()> {
    let helm = Helm::find()?;
    let elsewhere = json!({"default": {"kubeconfigSecret": "elsewhere"}});
    for (values, name, created) in [
        (json!({}), ISSUERS, true),
        (json!({"issuerNamespace": {"name": "mine"}}), "mine", true),
        (json!({"issuerNamespace": {"create": false}}), ISSUERS, false),
        // The previous default: upgrades keep the namespace with its Issuers.
        (json!({"issuerNamespace": {"name": "default"}}), "default", false),
        (json!({"configuration": {"issuer-namespace": "theirs"}}), "theirs", false),
        (json!({"clusters": elsewhere}), ISSUERS, false),
    ] {
        let objects = helm.template(SPACE, &values)?;
        ensure!(config(&objects)?["issuer-namespace"] == name, "{values}");
        ensure!(objects.iter().any(|object| object["kind"] == "Namespace") == created, "{values}");
    }
    Ok(())
}

#[test]
fn a_network_policy_permits_the_connections_of_the_manager() -> Result<()> {
    let helm = Helm::find()?;
    let values = json!({
        "networkPolicy": {
            "enabled": true, "acmePorts": [443, 14000],
            "httpFrom": [{"namespaceSelector": {"matchLabels": {"scrapes": "yes"}}}],
            "extraEgress": [{"ports": [{"port": 8443}]}],
        },
        "configuration": {"answer-dns": ["0.0.0.0:5353", "[::]:54"]},
    });
    helm.lint(&values)?;
    let objects = helm.template(SPACE, &values)?;
    let spec = &find(&objects, "NetworkPolicy", NAME)?["spec"];
    let selector = &find(&objects, "Deployment", NAME)?["spec"]["selector"];
    ensure!(
        spec["podSelector"] == *selector && spec["policyTypes"] == json!(["Ingress", "Egress"])
    );
    let ports = |direction: &str| -> Vec<Vec<String>> {
        let rules = spec[direction].as_array().into_iter().flatten();
        let port =
            |it: &Value| format!("{}/{}", it["protocol"].as_str().unwrap_or("any"), it["port"]);
        rules
            .map(|rule| rule["ports"].as_array().into_iter().flatten().map(port).collect())
            .collect()
    };
    ensure!(
        ports("ingress") == [vec!["TCP/8080"], vec!["UDP/5353", "TCP/5353", "UDP/54", "TCP/54"]]
    );
    ensure!(spec["ingress"][0]["from"][0]["namespaceSelector"]["matchLabels"]["scrapes"] == "yes");
    ensure!(
        ports("egress")
            == [
                vec!["UDP/53", "TCP/53"],
                vec!["TCP/443", "TCP/6443", "TCP/14000"],
                vec!["any/8443"],
            ]
    );
    let metadata = &spec["egress"][1]["to"][0]["ipBlock"]["except"];
    ensure!(*metadata == json!(["169.254.0.0/16"]));
    Ok(())
}

/// The values after `helm upgrade --reuse-values` from chart 0.1.
#[test]
fn missing_values_of_an_older_chart_use_the_defaults() -> Result<()> {
    let helm = Helm::find()?;
    let usual = helm.template(SPACE, &json!({}))?;
    let old = json!({
        "issuerNamespace": null, "metricsAuthorization": null, "networkPolicy": null,
        "createCRDs": {"dnsEntries": null},
    });
    ensure!(helm.template(SPACE, &old)? == usual);
    let ports = json!({"apiServerPorts": null, "acmePorts": null, "enabled": true});
    let partial = helm.template(SPACE, &json!({"networkPolicy": ports}))?;
    let whole = helm.template(SPACE, &json!({"networkPolicy": {"enabled": true}}))?;
    ensure!(partial == whole);
    Ok(())
}

#[test]
fn one_replica_has_no_disruption_budget_and_needs_recreate_without_a_lease() -> Result<()> {
    let values = json!({"replicaCount": 1, "configuration": {"omit-lease": true}});
    let objects = Helm::find()?.template(SPACE, &values)?;
    ensure!(find(&objects, "PodDisruptionBudget", NAME).is_err());
    ensure!(find(&objects, "Deployment", NAME)?["spec"]["strategy"] == json!({"type": "Recreate"}));
    Ok(())
}

#[test]
fn wrong_values_are_refused_by_name() -> Result<()> {
    let helm = Helm::find()?;
    for (values, wanted) in [
        (json!({"replicas": 3}), "replicas"),
        (json!({"clusters": {"default": {"inCluster": true}}}), "inCluster"),
        (json!({"configuration": {"source": "/some/file"}}), "/configuration/source"),
        (json!({"configuration": {"--issuer-namespace": "x"}}), "--issuer-namespace"),
        (json!({"configuration": {"omit-lease": true}}), "replicaCount must be 1"),
    ] {
        let refused = helm.template(SPACE, &values).err().context("it is accepted")?;
        ensure!(format!("{refused:#}").contains(wanted), "{values}: {refused:#}");
    }
    Ok(())
}

/// Whether this manager reads a configuration file.
fn reads_a_file() -> Result<bool> {
    let output = processes::output(Command::new(locate::manager()?).arg("--help"))?;
    Ok(String::from_utf8(output.stdout)?.contains("--config "))
}

#[test]
fn an_installed_release_lets_the_manager_issue_and_leaves_certificates_behind() {
    run(async {
        let helm = Helm::find()?;
        let fleet = Fleet::start(FleetOptions {
            access: Access::Nothing,
            idle: true,
            // The API server maps the token's user to the ServiceAccount, and so to its bindings.
            user: Some(format!("system:serviceaccount:{SPACE}:{NAME}")),
            audit: tests::controlplane::Audit::All,
            http: reads_a_file()?,
            arguments: configured(&helm)?,
            ..FleetOptions::default()
        })
        .await?;
        let plane = fleet.plane(Cluster::Default);
        let (client, admin) = (plane.client(), plane.kubeconfig("admin")?);
        install_by_upgrade(&helm, &admin, &client, &fleet.pebble.directory()).await?;
        let deployment = api(&client, "Deployment", SPACE)?.get(NAME).await?;
        let container = &deployment.data["spec"]["template"]["spec"]["containers"][0];
        ensure!(container["securityContext"]["readOnlyRootFilesystem"] == true);
        generated_roles_are_granted(&client).await?;

        fleet.restart(0).await?;
        fleet.until_defined().await?;
        let mut issuer = acme_issuer(ISSUER, &fleet.pebble.directory())?;
        issuer["metadata"]["namespace"] = json!(ISSUERS);
        issuer["spec"]["acme"]["privateKeySecretRef"]["namespace"] = json!(ISSUERS);
        apply(&client, ISSUERS, &issuer).await?;
        let issuers = api(&client, "Issuer", ISSUERS)?;
        eventually(SOON, "the Issuer is Ready", || async {
            fleet.check().await?;
            Ok(objects::has_state(issuers.get(ISSUER).await?, "Ready"))
        })
        .await?;
        only_readers_get_metrics(&fleet).await?;
        let namespace = Namespace::in_fleet(&fleet, "installed").await?;
        let text = example("30-cert-simple.yaml")?.to_string();
        let certificate: Value =
            serde_json::from_str(&text.replace("my-company.test", &namespace.domain))?;
        namespace.apply(&certificate).await?;
        namespace.until("cert-simple", "Ready", SOON).await?;
        namespace.until_event("cert-simple", SOON, |_| true).await?;
        fleet.until_nothing_is_left(SOON).await?;
        fleet.stop(0).await?;
        let requests = plane.audit()?;
        let refused: Vec<String> =
            requests.iter().filter(|one| one.is_forbidden()).map(ToString::to_string).collect();
        ensure!(refused.is_empty(), "{refused:#?}");

        helm.uninstall(&admin, SPACE)?;
        ensure!(api(&client, "Deployment", SPACE)?.get_opt(NAME).await?.is_none());
        namespace.read("Certificate", "cert-simple").await?;
        namespace.leaf("cert-simple-tls").await?;
        issuers.get(ISSUER).await?;
        Ok(())
    })
    .unwrap();
}

/// Installs the chart with the issuer namespace of earlier versions, and upgrades it to the
/// default. The upgrade is refused while an Issuer would not be served any more.
async fn install_by_upgrade(
    helm: &Helm,
    admin: &Path,
    client: &kube::Client,
    server: &str,
) -> Result<()> {
    helm.install(admin, SPACE, &json!({"issuerNamespace": {"name": "default"}}))?;
    for kind in ["certificates", "issuers"] {
        is_established(client, &format!("{kind}.cert.gardener.cloud")).await?;
    }
    apply(client, "default", &acme_issuer("from-before", server)?).await?;
    let refused = helm.upgrade(admin, SPACE, &values()).err().context("Issuers are left behind")?;
    let refused = format!("{refused:#}");
    for part in ["1 Issuers are in namespace default", "issuerNamespace.name=default", ISSUERS] {
        ensure!(refused.contains(part), "{refused}");
    }
    api(client, "Issuer", "default")?.delete("from-before", &DeleteParams::default()).await?;
    helm.upgrade(admin, SPACE, &values())?;
    Ok(())
}

/// The values of the installation.
fn values() -> Value {
    json!({"metricsAuthorization": {"enabled": true}})
}

/// Only subjects with the chart's role may read metrics; all may read health.
async fn only_readers_get_metrics(fleet: &Fleet) -> Result<()> {
    let (plane, port) = (fleet.plane(Cluster::Default), fleet.http_port(0)?);
    let name = format!("{NAME}-metrics-reader");
    let role = api(&plane.client(), "ClusterRole", "")?.get(&name).await?;
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": name}, "rules": role.data["rules"],
    });
    plane.grant("unprivileged", &[role]).await?;
    let token = |user: &str| -> Result<String> {
        let text = std::fs::read_to_string(plane.kubeconfig(user)?)?;
        let kubeconfig: Value = serde_yaml::from_str(&text)?;
        let token = kubeconfig["users"][0]["user"]["token"].as_str();
        Ok(token.with_context(|| format!("{user} has no token"))?.to_owned())
    };
    let manager = format!("system:serviceaccount:{SPACE}:{NAME}");
    for (token, status) in [
        (None, 401),
        (Some("unknown".to_owned()), 401),
        (Some(token(&manager)?), 403),
        (Some(token("unprivileged")?), 200),
    ] {
        let (answer, text) = page_as(port, "/metrics", token.as_deref()).await?;
        ensure!(answer == status, "{token:?}: {answer}, not {status}: {text}");
        ensure!(text.contains("cert_management") == (status == 200), "{text}");
    }
    ensure!(page(port, "/healthz").await?.0 == 200);
    Ok(())
}

/// The arguments of the pod, with the configuration file from default values.
fn configured(helm: &Helm) -> Result<Vec<String>> {
    if !reads_a_file()? {
        return Ok(Vec::new());
    }
    let objects = helm.template(SPACE, &values())?;
    let text = find(&objects, "ConfigMap", NAME)?["data"]["config.yaml"].as_str();
    let file = tests::processes::scratch()?.join("config.yaml");
    std::fs::write(&file, text.context("there is no config.yaml")?)?;
    // The harness sets another issuer namespace on the command line, which takes precedence.
    let namespace = ["--issuer-namespace".to_owned(), ISSUERS.to_owned()];
    Ok(["--config".to_owned(), file.display().to_string()].into_iter().chain(namespace).collect())
}

/// The roles in the cluster equal the generated ones.
async fn generated_roles_are_granted(client: &kube::Client) -> Result<()> {
    let scope = Scope {
        lease_namespace: SPACE.to_owned(),
        issuer_namespace: ISSUERS.to_owned(),
        ..Scope::default()
    };
    let mut seen = 0;
    for role in Cluster::ALL.into_iter().flat_map(|cluster| access::roles(cluster, &scope)) {
        let role = json!(role);
        let text = |field: &str| role["metadata"][field].as_str().unwrap_or_default();
        let kind = role["kind"].as_str().context("no kind")?;
        let found = api(client, kind, text("namespace"))?.get_opt(text("name")).await?;
        if let Some(found) = found {
            ensure!(found.data["rules"] == role["rules"], "{role:#} is not {found:#?}");
            seen += 1;
        }
    }
    // The role for metrics.
    ensure!(seen == USUAL_ROLES.len() + 1, "{seen} roles are there");
    Ok(())
}
