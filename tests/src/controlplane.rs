//! A Kubernetes control plane of its own: etcd and kube-apiserver on free ports.
//!
//! There is no controller manager, so nothing collects garbage, removes the content of a namespace or
//! hands out ServiceAccount tokens.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use http::StatusCode;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use rcgen::KeyPair;
use serde_json::json;
use tokio::sync::Mutex;

use crate::{
    Look, eventually,
    http::Https,
    locate,
    metrics::Writes,
    processes::{Process, free_port, logs, scratch},
    tls::Serving,
};

/// Who may ask: the name, the token and the groups of each user.
const USERS: &[(&str, &str, &str)] = &[
    ("admin", "admin-token", "system:masters"),
    ("manager", "manager-token", "system:masters"),
    ("stranger", "stranger-token", "strangers"),
];

const START_DEADLINE: Duration = Duration::from_secs(60);

/// A running control plane. It ends when dropped.
pub struct ControlPlane {
    client: Client,
    https: Https,
    serving: Serving,
    apiserver: Mutex<Process>,
    _etcd: Process,
    settings: Settings,
}

/// What the processes are started with, again and again.
struct Settings {
    binaries: PathBuf,
    data: PathBuf,
    logs: PathBuf,
    etcd_port: u16,
    port: u16,
}

impl ControlPlane {
    /// Starts both processes and waits until the API server is ready.
    ///
    /// # Errors
    /// One of them does not start; the message has the end of its log.
    pub async fn start() -> Result<Self> {
        let settings = Settings {
            binaries: locate::binaries().await?.to_owned(),
            data: scratch()?,
            logs: logs()?,
            etcd_port: free_port()?,
            port: free_port()?,
        };
        let serving = Serving::create("kube-apiserver", &settings.data)?;
        settings.write_files()?;
        let etcd = settings.spawn_etcd()?;
        let apiserver = settings.spawn_apiserver(&serving)?;
        let https = Https::trusting(&serving.authority)?;
        let kubeconfig = write_kubeconfig(&settings, &serving, "admin")?;
        let plane = Self {
            client: connect(&kubeconfig).await?,
            https,
            serving,
            apiserver: Mutex::new(apiserver),
            _etcd: etcd,
            settings,
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
        self.settings.url()
    }

    /// Where the logs of this rig are.
    #[must_use]
    pub fn logs(&self) -> &Path {
        &self.settings.logs
    }

    /// Where the data of this rig is; gone when this process ends.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.settings.data
    }

    /// Writes a kubeconfig for one of the users: `admin`, `manager` (both may do everything) or
    /// `stranger` (may do nothing).
    ///
    /// # Errors
    /// There is no such user or the file cannot be written.
    pub fn kubeconfig(&self, user: &str) -> Result<PathBuf> {
        write_kubeconfig(&self.settings, &self.serving, user)
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
        let mut process = self.apiserver.lock().await;
        process.kill()?;
        *process = self.settings.spawn_apiserver(&self.serving)?;
        drop(process);
        self.wait_until_ready().await
    }

    async fn wait_until_ready(&self) -> Result<()> {
        let url = format!("{}/readyz", self.url());
        let began = Instant::now();
        eventually(START_DEADLINE, "kube-apiserver is ready", || async {
            match self.https.get(&url).await {
                Ok((StatusCode::OK, _)) => Ok(Look::Done(())),
                Ok((status, _)) => Ok(Look::NotYet(format!("/readyz says {status}"))),
                Err(error) => {
                    self.apiserver.lock().await.check()?;
                    Ok(Look::NotYet(format!("{error:#}")))
                }
            }
        })
        .await
        .with_context(|| format!("after {:?}, see {}", began.elapsed(), self.logs().display()))
    }
}

impl Settings {
    fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    fn etcd_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.etcd_port)
    }

    fn write_files(&self) -> Result<()> {
        let lines: String = USERS
            .iter()
            .map(|(user, token, groups)| format!("{token},{user},{user},\"{groups}\"\n"))
            .collect();
        fs::write(self.data.join("tokens.csv"), lines)?;
        // Version 1.34 wants a key for ServiceAccount tokens, although nobody asks for one here.
        let key = KeyPair::generate()?;
        fs::write(self.data.join("tokens-key.pem"), key.serialize_pem())?;
        fs::write(self.data.join("tokens-public.pem"), key.public_key_pem())?;
        Ok(())
    }

    fn spawn_etcd(&self) -> Result<Process> {
        let peer = format!("http://127.0.0.1:{}", free_port()?);
        let client = self.etcd_url();
        let mut command = Command::new(self.binaries.join("etcd"));
        command
            .arg("--unsafe-no-fsync")
            .args(["--log-level", "warn"])
            .arg("--data-dir")
            .arg(self.data.join("etcd"))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}")]);
        Process::spawn("etcd", &mut command, &self.logs)
    }

    fn spawn_apiserver(&self, serving: &Serving) -> Result<Process> {
        let mut command = Command::new(self.binaries.join("kube-apiserver"));
        command
            .args(["--etcd-servers", &self.etcd_url()])
            .args(["--bind-address", "127.0.0.1", "--secure-port", &self.port.to_string()])
            .args(["--service-cluster-ip-range", "10.0.0.0/24"])
            .args(["--authorization-mode", "RBAC"])
            .args(["--disable-admission-plugins", "ServiceAccount"])
            .args(["--service-account-issuer", "https://kubernetes.default.svc"])
            .arg("--tls-cert-file")
            .arg(&serving.certificate)
            .arg("--tls-private-key-file")
            .arg(&serving.key)
            .arg("--token-auth-file")
            .arg(self.data.join("tokens.csv"))
            .arg("--service-account-key-file")
            .arg(self.data.join("tokens-public.pem"))
            .arg("--service-account-signing-key-file")
            .arg(self.data.join("tokens-key.pem"));
        Process::spawn("kube-apiserver", &mut command, &self.logs)
    }
}

fn write_kubeconfig(settings: &Settings, serving: &Serving, user: &str) -> Result<PathBuf> {
    let (_, token, _) = USERS
        .iter()
        .find(|(name, _, _)| *name == user)
        .with_context(|| format!("there is no user {user}"))?;
    let file = settings.data.join(format!("kubeconfig-{user}.yaml"));
    let cluster = json!({"server": settings.url(), "certificate-authority": serving.authority});
    // JSON is YAML.
    let text = serde_json::to_string_pretty(&json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "rig", "cluster": cluster}],
        "users": [{"name": user, "user": {"token": token}}],
        "contexts": [{"name": "rig", "context": {"cluster": "rig", "user": user}}],
        "current-context": "rig",
    }))?;
    fs::write(&file, text)?;
    Ok(file)
}

async fn connect(kubeconfig: &Path) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
    let options = KubeConfigOptions::default();
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &options).await?;
    config.default_retry = false;
    Ok(Client::try_from(config)?)
}
