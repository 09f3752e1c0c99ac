//! A Kubernetes control plane: etcd and kube-apiserver on free ports.
//!
//! There is no controller manager: no garbage collection, no cleanup of namespaces, no
//! ServiceAccount tokens. [`ControlPlane::collect_garbage`] starts one for the first two.

mod launch;
mod service;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use cert_controller_manager::access::{self, Cluster, Scope};
use http::StatusCode;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::{
    Look,
    audit::{self, Request},
    eventually,
    http::Https,
    metrics::Writes,
    objects::apply,
    processes::Process,
    tls::Serving,
};
use launch::Launch;
pub use service::UID as SERVICE_UID;

/// Eight tests that start two control planes each have taken 42 seconds on two cores.
const START_DEADLINE: Duration = Duration::from_secs(180);

/// Options of a control plane.
#[derive(Clone, Debug, Default)]
pub struct ControlPlaneOptions {
    /// Suffix of the names of the logs, for several control planes; empty for one.
    pub name: String,
    /// Where the logs go; a new directory when `None`.
    pub logs: Option<PathBuf>,
    /// Additional users without rights until [`ControlPlane::grant`].
    pub users: Vec<String>,
    /// Further arguments of the API server.
    pub arguments: Vec<String>,
    /// The requests in [`ControlPlane::audit`].
    pub audit: Audit,
}

/// Which requests are recorded.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Audit {
    /// None.
    #[default]
    Off,
    /// All requests except reads.
    Writes,
    /// All.
    All,
}

/// A running control plane. It ends when dropped.
pub struct ControlPlane {
    client: Client,
    https: Https,
    /// `None` while it is stopped.
    apiserver: Mutex<Option<Process>>,
    _etcd: Process,
    launch: Launch,
}

impl ControlPlane {
    /// Starts both processes and waits until the API server is ready.
    ///
    /// # Errors
    /// One of them does not start; the message has the end of its log.
    pub async fn start() -> Result<Self> {
        Self::start_with(ControlPlaneOptions::default()).await
    }

    /// The same with options.
    ///
    /// # Errors
    /// As [`ControlPlane::start`].
    pub async fn start_with(options: ControlPlaneOptions) -> Result<Self> {
        let launch = Launch::prepare(options).await?;
        let mut etcd = launch.spawn_etcd()?;
        service::store(&mut etcd, &launch.etcd_url()).await?;
        let apiserver = launch.spawn_apiserver()?;
        let plane = Self {
            client: connect(&launch.kubeconfig("admin")?).await?,
            https: Https::trusting(&launch.serving.authority)?,
            apiserver: Mutex::new(Some(apiserver)),
            _etcd: etcd,
            launch,
        };
        plane.wait_until_ready().await?;
        Ok(plane)
    }

    /// The administrator's client.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The address of the API server.
    #[must_use]
    pub fn url(&self) -> String {
        self.launch.url()
    }

    /// How the API server serves.
    #[must_use]
    pub fn serving(&self) -> &Serving {
        &self.launch.serving
    }

    /// Directory of the logs of this test environment.
    #[must_use]
    pub fn logs(&self) -> &Path {
        &self.launch.logs
    }

    /// Directory of the data of this test environment; removed when this process ends.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.launch.data
    }

    /// Writes a kubeconfig for one of the users: `admin`, `manager` (both have all rights),
    /// `unprivileged` (has none) or one of the options.
    ///
    /// # Errors
    /// There is no such user or the file cannot be written.
    pub fn kubeconfig(&self, user: &str) -> Result<PathBuf> {
        self.launch.kubeconfig(user)
    }

    /// A client of one of the users of [`ControlPlane::kubeconfig`].
    ///
    /// # Errors
    /// There is no such user.
    pub async fn client_of(&self, user: &str) -> Result<Client> {
        connect(&self.kubeconfig(user)?).await
    }

    /// Grants Roles and ClusterRoles to a user. Namespaces of Roles must exist.
    ///
    /// # Errors
    /// The API server refuses one.
    pub async fn grant(&self, user: &str, roles: &[Value]) -> Result<()> {
        for role in roles {
            let namespace = role["metadata"]["namespace"].as_str().unwrap_or_default();
            apply(&self.client, namespace, role).await?;
            apply(&self.client, namespace, &binding(user, role)).await?;
        }
        Ok(())
    }

    /// Grants a user the rights of the access table for these logical clusters. The issuer
    /// namespace is `default`, the lease is in `kube-system`.
    ///
    /// # Errors
    /// The API server refuses a role.
    pub async fn grant_access(&self, user: &str, clusters: &[Cluster]) -> Result<()> {
        for cluster in clusters {
            let roles = access::roles(*cluster, &Scope::default());
            let roles: Vec<Value> = roles.iter().map(|role| json!(role)).collect();
            self.grant(user, &roles).await?;
        }
        Ok(())
    }

    /// Grants a user all rights.
    ///
    /// # Errors
    /// The API server does not answer.
    pub async fn grant_everything(&self, user: &str) -> Result<()> {
        let all = json!({"kind": "ClusterRole", "metadata": {"name": "cluster-admin"}});
        apply(&self.client, "", &binding(user, &all)).await?;
        Ok(())
    }

    /// The requests since the start, in the order of the responses, as far as
    /// [`ControlPlaneOptions::audit`] selects them. Watches that have not ended are missing.
    ///
    /// # Errors
    /// Nothing is recorded.
    pub fn audit(&self) -> Result<Vec<Request>> {
        audit::read(&self.launch.audit_log())
    }

    /// How many writes the API server has done since it started, by verb and resource.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn writes(&self) -> Result<Writes> {
        let request = http::Request::get("/metrics").body(Vec::new())?;
        Ok(Writes::parse(&self.client.request_text(request).await?))
    }

    /// Kills the API server and starts it again: same port, same etcd.
    ///
    /// # Errors
    /// It does not come back.
    pub async fn restart_apiserver(&self) -> Result<()> {
        self.stop_apiserver().await?;
        self.start_apiserver().await
    }

    /// Kills the API server. Its port refuses connections then.
    ///
    /// # Errors
    /// It cannot be killed.
    pub async fn stop_apiserver(&self) -> Result<()> {
        match self.apiserver.lock().await.take() {
            Some(mut process) => process.kill(),
            None => Ok(()),
        }
    }

    /// Starts the API server after [`ControlPlane::stop_apiserver`], same port, same etcd, and waits
    /// until it is ready.
    ///
    /// # Errors
    /// It does not come back.
    pub async fn start_apiserver(&self) -> Result<()> {
        *self.apiserver.lock().await = Some(self.launch.spawn_apiserver()?);
        self.wait_until_ready().await
    }

    /// Starts the garbage collector, which also cleans up namespaces. It ends when dropped. It is
    /// built on the first use, which takes minutes.
    ///
    /// # Errors
    /// It could not be built.
    pub fn collect_garbage(&self) -> Result<Process> {
        self.launch.spawn_garbage_collector()
    }

    async fn wait_until_ready(&self) -> Result<()> {
        let url = format!("{}/readyz", self.url());
        let began = Instant::now();
        eventually(START_DEADLINE, "kube-apiserver is ready", || async {
            match self.https.get(&url).await {
                Ok((StatusCode::OK, _)) => Ok(Look::Done(())),
                Ok((status, _)) => Ok(Look::NotYet(format!("/readyz says {status}"))),
                Err(error) => {
                    if let Some(process) = self.apiserver.lock().await.as_mut() {
                        process.check()?;
                    }
                    Ok(Look::NotYet(format!("{error:#}")))
                }
            }
        })
        .await
        .with_context(|| format!("after {:?}, see {}", began.elapsed(), self.logs().display()))
    }
}

/// Binds a role to a user, under a unique name.
fn binding(user: &str, role: &Value) -> Value {
    let kind = role["kind"].as_str().unwrap_or_default();
    let name = role["metadata"]["name"].as_str().unwrap_or_default();
    let group = "rbac.authorization.k8s.io";
    let mut binding = json!({
        "apiVersion": format!("{group}/v1"),
        "kind": format!("{kind}Binding"),
        "metadata": {"name": format!("{name}:{user}")},
        "roleRef": {"apiGroup": group, "kind": kind, "name": name},
        "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
    });
    if let Some(namespace) = role["metadata"].get("namespace") {
        binding["metadata"]["namespace"] = namespace.clone();
    }
    binding
}

async fn connect(kubeconfig: &Path) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
    let options = KubeConfigOptions::default();
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &options).await?;
    config.default_retry = false;
    Ok(Client::try_from(config)?)
}
