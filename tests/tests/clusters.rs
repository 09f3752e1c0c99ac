//! Clients of clusters whose kubeconfig changes or that are unreachable for a while, and the
//! deployment of CRDs.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use cert_controller_manager::runtime::{
    clusters::{ClusterOptions, ClusterSettings, Clusters, Kubeconfig},
    crds::{self, CrdSettings, MAINTAINER},
    fence::Fence,
    identity::identify,
    role::{Reachability, Role},
};
use k8s_openapi::{
    api::core::v1::{ConfigMap, Namespace},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tests::{
    Look,
    controlplane::{ControlPlane, ControlPlaneOptions},
    eventually,
    processes::{free_port, scratch},
    run,
    tls::Clients,
};
use tokio::sync::OnceCell;

const SOON: Duration = Duration::from_secs(15);
/// For the restart of an API server and its detection.
const RESTART: Duration = Duration::from_secs(60);

/// The control plane that most tests here share, and the manager's kubeconfig. It is written once,
/// because a reader must not see a partial file.
async fn plane() -> Result<&'static (ControlPlane, PathBuf)> {
    static PLANE: OnceCell<(ControlPlane, PathBuf)> = OnceCell::const_new();
    let start = || async {
        let plane = ControlPlane::start().await?;
        let kubeconfig = plane.kubeconfig("manager")?;
        Ok((plane, kubeconfig))
    };
    PLANE.get_or_try_init(start).await
}

fn cluster(path: &Path) -> ClusterOptions {
    let kubeconfig = Some(Kubeconfig::Path(path.to_owned()));
    ClusterOptions { kubeconfig, ..ClusterOptions::default() }
}

/// A kubeconfig with this name: the manager's after `edit`.
async fn kubeconfig(name: &str, edit: impl Fn(String) -> String) -> Result<PathBuf> {
    let (plane, manager) = plane().await?;
    let file = plane.data().join(name);
    fs::write(&file, edit(fs::read_to_string(manager)?))?;
    Ok(file)
}

async fn code(client: &Client) -> u16 {
    match Api::<ConfigMap>::namespaced(client.clone(), "default").get_opt("none").await {
        Ok(_) => 200,
        Err(kube::Error::Api(status)) => status.code,
        Err(_) => 0,
    }
}

#[test]
fn a_changed_kubeconfig_is_used_unless_it_is_invalid() {
    run(async {
        let file = kubeconfig("changing.yaml", |text| text).await?;
        let default = cluster(&file);
        let settings = ClusterSettings { default, ..ClusterSettings::default() };
        let clusters = Clusters::connect(&settings, &Fence::always()).await?;
        let client = clusters.default.0.clone();
        ensure!(code(&client).await == 200);
        let good = fs::read_to_string(&file)?;
        for (text, expected) in [
            (good.replace("manager-token", "unprivileged-token"), 403),
            ("not: [a kubeconfig".to_owned(), 403),
            (good.clone(), 200),
            (String::new(), 200),
        ] {
            fs::write(&file, &text)?;
            clusters.check_kubeconfigs().await?;
            ensure!(code(&client).await == expected, "{expected}");
        }
        fs::remove_file(&file)?;
        clusters.check_kubeconfigs().await?;
        ensure!(code(&client).await == 200);
        fs::write(&file, good.replace(&plane().await?.0.url(), "https://127.0.0.1:1"))?;
        let error = clusters.check_kubeconfigs().await.unwrap_err().to_string();
        ensure!(error.contains("changing.yaml") && error.contains("127.0.0.1:1"), "{error}");
        Ok(())
    })
    .unwrap();
}

#[test]
fn equal_kubeconfigs_share_a_client() {
    run(async {
        let copy = kubeconfig("copy.yaml", |text| text).await?;
        let other =
            kubeconfig("other.yaml", |text| text.replace("manager-token", "admin-token")).await?;
        let settings = ClusterSettings {
            default: cluster(&plane().await?.1),
            source: cluster(&copy),
            target: cluster(&other),
            ..ClusterSettings::default()
        };
        let clusters = Clusters::connect(&settings, &Fence::always()).await?;
        for (one, other, same) in [
            (Role::Default, Role::Source, true),
            (Role::Default, Role::Dns, true),
            (Role::Source, Role::Target, false),
        ] {
            ensure!(clusters.same(one, other) == same, "{one:?} {other:?}");
        }
        ensure!(clusters.target_is_source(), "it is the same server with other credentials");
        let ids = [
            identify(&clusters, &settings, Role::Source).await,
            identify(&clusters, &settings, Role::Target).await,
        ];
        let namespaces: Api<Namespace> = Api::all(plane().await?.0.client());
        let uid = namespaces.get("kube-system").await?.metadata.uid.unwrap_or_default();
        ensure!(ids[0].id == uid && ids[0] == ids[1], "{ids:?}");
        ensure!(ids[0].is("source/gardener.cloud") && ids[0].is("target/gardener.cloud"));
        Ok(())
    })
    .unwrap();
}

#[test]
fn an_unreachable_cluster_and_its_return_are_reported() {
    run(async {
        let plane = ControlPlane::start().await?;
        let away = kubeconfig("away.yaml", |text| text).await?;
        let text = fs::read_to_string(&away)?;
        let closed = format!("https://127.0.0.1:{}", free_port()?);
        fs::write(&away, text.replace(&self::plane().await?.0.url(), &closed))?;
        let settings = ClusterSettings {
            default: cluster(&plane.kubeconfig("manager")?),
            source: cluster(&away),
            ..ClusterSettings::default()
        };
        let clusters = Clusters::connect(&settings, &Fence::always()).await?;
        let unknown = clusters.health().iter().all(|(_, known)| *known == Reachability::Unknown);
        ensure!(unknown, "nothing was asked yet");
        let looking = tokio::spawn(clusters.clone().run());
        let mut default = clusters.reachability(Role::Default);
        let mut source = clusters.reachability(Role::Target);
        let is_away = |known: &Reachability| matches!(known, Reachability::Away { .. });
        tokio::time::timeout(RESTART, async {
            default.wait_for(|known| *known == Reachability::Reachable).await?;
            source.wait_for(is_away).await?;
            let client = clusters.default.0.clone();
            let restarted = plane.restart_apiserver();
            let noticed = async {
                while code(&client).await != 0 {}
                ensure!(is_away(&default.borrow_and_update()), "it was not noticed");
                default.wait_for(|known| *known == Reachability::Reachable).await?;
                Ok(())
            };
            tokio::try_join!(restarted, noticed)?;
            anyhow::Ok(())
        })
        .await??;
        ensure!(!looking.is_finished());
        looking.abort();
        Ok(())
    })
    .unwrap();
}

/// A plugin that prints a file of the test.
fn plugin(plane: &ControlPlane, directory: &Path) -> Result<PathBuf> {
    let mut config: Value = serde_json::from_slice(&fs::read(plane.kubeconfig("manager")?)?)?;
    config["users"][0]["user"] = json!({"exec": {
        "apiVersion": "client.authentication.k8s.io/v1", "interactiveMode": "Never",
        "command": "cat", "args": [directory.join("credential.json")],
    }});
    let file = directory.join("plugin.yaml");
    fs::write(&file, config.to_string())?;
    Ok(file)
}

/// Makes the plugin return a client certificate with this lifetime.
fn write_credentials(clients: &Clients, directory: &Path, seconds: i64) -> Result<()> {
    let pair = clients.issue("manager", "system:masters", seconds)?;
    let expires = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(seconds);
    let credential = json!({
        "kind": "ExecCredential", "apiVersion": "client.authentication.k8s.io/v1",
        "status": {
            "clientCertificateData": pair.certificate, "clientKeyData": pair.key,
            "expirationTimestamp": expires.to_string(),
        },
    });
    let new = directory.join("credential.new");
    fs::write(&new, credential.to_string())?;
    Ok(fs::rename(new, directory.join("credential.json"))?)
}

#[test]
fn a_client_certificate_of_a_plugin_is_replaced_before_it_expires_and_a_refusal_is_reported() {
    const LIFETIME: i64 = 8;
    run(async {
        let directory = scratch()?;
        let clients = Clients::create(&directory)?;
        let arguments = vec![format!("--client-ca-file={}", clients.authority().display())];
        let options = ControlPlaneOptions { arguments, ..ControlPlaneOptions::default() };
        let plane = ControlPlane::start_with(options).await?;
        write_credentials(&clients, &directory, LIFETIME)?;
        let default = cluster(&plugin(&plane, &directory)?);
        let settings = ClusterSettings { default, ..ClusterSettings::default() };
        let clusters = Clusters::connect(&settings, &Fence::always()).await?;
        let looking = tokio::spawn(clusters.clone().run());
        let client = clusters.default.0.clone();
        // For three lifetimes of a certificate, no request is refused.
        let (began, mut handed) = (Instant::now(), Instant::now());
        while began.elapsed() < Duration::from_secs(3 * LIFETIME.unsigned_abs()) {
            ensure!(code(&client).await == 200, "refused after {:?}", began.elapsed());
            if handed.elapsed() > Duration::from_secs(1) {
                write_credentials(&clients, &directory, LIFETIME)?;
                handed = Instant::now();
            }
        }
        // The plugin returns its last certificate repeatedly, until it expires.
        let mut known = clusters.reachability(Role::Source);
        let refused = |known: &Reachability| matches!(known, Reachability::Refused { .. });
        let until_refused = async {
            while !refused(&known.borrow_and_update()) {
                code(&client).await;
            }
        };
        tokio::time::timeout(RESTART, until_refused).await?;
        let Reachability::Refused { why, .. } = known.borrow().clone() else {
            anyhow::bail!("it was accepted again")
        };
        ensure!(why.contains("401"), "{why}");
        write_credentials(&clients, &directory, 3_600)?;
        let accepted = known.wait_for(|known| *known == Reachability::Reachable);
        tokio::time::timeout(RESTART, accepted).await??;
        ensure!(code(&client).await == 200);
        looking.abort();
        Ok(())
    })
    .unwrap();
}

/// The number of writes of definitions, those without a change included.
async fn written(client: &Client) -> Result<usize> {
    let request = http::Request::get("/metrics").body(Vec::new())?;
    let page = client.request_text(request).await?;
    let labels = ["resource=\"customresourcedefinitions\"", "subresource=\"\""];
    let verbs = ["verb=\"POST\"", "verb=\"PUT\"", "verb=\"APPLY\"", "verb=\"PATCH\""];
    let ours = page.lines().filter(|line| {
        line.starts_with("apiserver_request_total{")
            && labels.iter().all(|label| line.contains(label))
            && verbs.iter().any(|verb| line.contains(verb))
    });
    let counts = ours.filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok());
    Ok(counts.sum())
}

#[test]
fn definitions_are_created_kept_updated_or_left_alone() {
    run(async {
        let plane = ControlPlane::start().await?;
        let settings = ClusterSettings {
            default: cluster(&plane.kubeconfig("manager")?),
            dns: cluster(&kubeconfig("elsewhere.yaml", |text| text).await?),
            ..ClusterSettings::default()
        };
        let clusters = Clusters::connect(&settings, &Fence::always()).await?;
        let rules = CrdSettings::default();
        let client = plane.client();
        let before = written(&client).await?;
        crds::deploy(&clusters, &settings, &rules, crds::Scope::default()).await?;
        let api: Api<CustomResourceDefinition> = Api::all(client.clone());
        let name = "certificates.cert.gardener.cloud";
        ensure!(api.get(name).await?.annotations()[MAINTAINER] == "cert-controller-manager");
        ensure!(written(&client).await? - before == 3, "not three creations");

        let version = |found: &CustomResourceDefinition| found.resource_version();
        let first = eventually(SOON, "it settles", || async {
            let found = api.get(name).await?;
            let settled = found.status.as_ref().is_some_and(|it| it.stored_versions.is_some());
            Ok(if settled { Look::Done(found) } else { Look::NotYet("no status".to_owned()) })
        })
        .await?;
        let before = written(&client).await?;
        crds::deploy(&clusters, &settings, &rules, crds::Scope::default()).await?;
        ensure!(version(&api.get(name).await?) == version(&first));
        ensure!(written(&client).await? == before, "a steady state writes");

        let theirs = json!({
            "metadata": {"annotations": {MAINTAINER: "them"}},
            "spec": {"names": {"shortNames": ["theirs"]}},
        });
        api.patch(name, &PatchParams::default(), &Patch::Merge(&theirs)).await?;
        crds::deploy(&clusters, &settings, &rules, crds::Scope::default()).await?;
        let short = |found: CustomResourceDefinition| found.spec.names.short_names;
        ensure!(short(api.get(name).await?) == Some(vec!["theirs".to_owned()]), "not left");
        let accepting =
            CrdSettings { accepted_maintainers: vec!["them".to_owned()], ..rules.clone() };
        crds::deploy(&clusters, &settings, &accepting, crds::Scope::default()).await?;
        ensure!(short(api.get(name).await?) != Some(vec!["theirs".to_owned()]), "not updated");
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_forbidden_crd_deployment_is_reported_with_its_flag_unless_the_crd_exists() {
    run(async {
        let plane = ControlPlane::start().await?;
        let settings = ClusterSettings {
            default: cluster(&plane.kubeconfig("unprivileged")?),
            ..ClusterSettings::default()
        };
        let clusters = Clusters::connect(&settings, &Fence::always()).await?;
        // Without the right to read it, the state is unknown.
        crds::deploy(&clusters, &settings, &CrdSettings::default(), crds::Scope::default()).await?;
        let may_look = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": "look"},
            "rules": [{
                "apiGroups": ["apiextensions.k8s.io"], "verbs": ["get"],
                "resources": ["customresourcedefinitions"],
            }],
        });
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": "look"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "look"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "unprivileged"}],
        });
        let client = plane.client();
        let roles: Api<k8s_openapi::api::rbac::v1::ClusterRole> = Api::all(client.clone());
        let bindings: Api<k8s_openapi::api::rbac::v1::ClusterRoleBinding> = Api::all(client);
        roles.create(&PostParams::default(), &serde_json::from_value(may_look)?).await?;
        bindings.create(&PostParams::default(), &serde_json::from_value(binding)?).await?;
        eventually(SOON, "the refusal names the flag", || async {
            match crds::deploy(&clusters, &settings, &CrdSettings::default(), crds::Scope::default()).await {
                Ok(()) => Ok(Look::NotYet("no refusal".to_owned())),
                Err(error) => {
                    let error = error.to_string();
                    ensure!(error.contains(".disable-deploy-crds"), "{error}");
                    Ok(Look::Done(()))
                }
            }
        })
        .await
    })
    .unwrap();
}
