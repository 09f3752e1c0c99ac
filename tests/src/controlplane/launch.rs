//! Starts the processes of a control plane, repeatedly if needed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use rcgen::KeyPair;
use serde_json::json;

use super::{Audit, ControlPlaneOptions};
use crate::{
    locate,
    processes::{Process, free_port, logs, scratch},
    tls::Serving,
};

/// The predefined users: name, token and groups.
const USERS: &[(&str, &str, &str)] = &[
    ("admin", "admin-token", "system:masters"),
    ("manager", "manager-token", "system:masters"),
    ("unprivileged", "unprivileged-token", "unprivileged"),
];

/// The options of the processes.
pub(super) struct Launch {
    name: String,
    users: Vec<String>,
    arguments: Vec<String>,
    audit: Audit,
    binaries: PathBuf,
    etcd_port: u16,
    port: u16,
    pub(super) serving: Serving,
    pub(super) data: PathBuf,
    pub(super) logs: PathBuf,
}

impl Launch {
    pub(super) async fn prepare(options: ControlPlaneOptions) -> Result<Self> {
        let data = scratch()?;
        let logs = match options.logs {
            Some(logs) => logs,
            None => logs()?,
        };
        let launch = Self {
            name: options.name,
            users: options.users,
            arguments: options.arguments,
            audit: options.audit,
            binaries: locate::binaries().await?.to_owned(),
            etcd_port: free_port()?,
            port: free_port()?,
            serving: Serving::create("kube-apiserver", &data)?,
            data,
            logs,
        };
        launch.write_files()?;
        Ok(launch)
    }

    pub(super) fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    pub(super) fn audit_log(&self) -> PathBuf {
        self.logs.join(format!("{}.json", self.process("audit")))
    }

    /// The name of a process of this plane.
    fn process(&self, program: &str) -> String {
        if self.name.is_empty() { program.to_owned() } else { format!("{program}-{}", self.name) }
    }

    pub(super) fn etcd_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.etcd_port)
    }

    fn write_files(&self) -> Result<()> {
        let usual = USERS
            .iter()
            .map(|(user, token, groups)| format!("{token},{user},{user},\"{groups}\"\n"));
        let further = self.users.iter().map(|user| format!("{},{user},{user}\n", token(user)));
        fs::write(self.data.join("tokens.csv"), usual.chain(further).collect::<String>())?;
        // Version 1.34 requires a key for ServiceAccount tokens, although they are not used here.
        let key = KeyPair::generate()?;
        fs::write(self.data.join("tokens-key.pem"), key.serialize_pem())?;
        fs::write(self.data.join("tokens-public.pem"), key.public_key_pem())?;
        if let Some(policy) = self.audit.policy() {
            fs::write(self.data.join("audit.json"), policy.to_string())?;
        }
        Ok(())
    }

    pub(super) fn spawn_etcd(&self) -> Result<Process> {
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
        Process::spawn(&self.process("etcd"), &mut command, &self.logs)
    }

    pub(super) fn spawn_apiserver(&self) -> Result<Process> {
        let mut command = Command::new(self.binaries.join("kube-apiserver"));
        command
            .args(["--etcd-servers", &self.etcd_url()])
            .args(["--bind-address", "127.0.0.1", "--secure-port", &self.port.to_string()])
            .args(["--service-cluster-ip-range", "10.0.0.0/24"])
            .args(["--authorization-mode", "RBAC"])
            .args(["--disable-admission-plugins", "ServiceAccount"])
            .args(["--service-account-issuer", "https://kubernetes.default.svc"])
            .arg("--tls-cert-file")
            .arg(&self.serving.certificate)
            .arg("--tls-private-key-file")
            .arg(&self.serving.key)
            .arg("--token-auth-file")
            .arg(self.data.join("tokens.csv"))
            .arg("--service-account-key-file")
            .arg(self.data.join("tokens-public.pem"))
            .arg("--service-account-signing-key-file")
            .arg(self.data.join("tokens-key.pem"));
        command.args(&self.arguments);
        if self.audit.policy().is_some() {
            // The default of 100 MB would start another file.
            command
                .args(["--audit-log-maxsize", "10000"])
                .arg("--audit-policy-file")
                .arg(self.data.join("audit.json"))
                .arg("--audit-log-path")
                .arg(self.audit_log());
        }
        Process::spawn(&self.process("kube-apiserver"), &mut command, &self.logs)
    }

    /// A garbage collector, which real clusters have: deletes objects without an owner and the
    /// content of deleted namespaces.
    pub(super) fn spawn_garbage_collector(&self) -> Result<Process> {
        let mut command = Command::new(locate::tool("kube-controller-manager")?);
        command
            .arg("--kubeconfig")
            .arg(self.kubeconfig("admin")?)
            .args(["--controllers", "garbage-collector-controller,namespace-controller"])
            .args(["--leader-elect=false", "--secure-port=0"]);
        Process::spawn(&self.process("kube-controller-manager"), &mut command, &self.logs)
    }

    pub(super) fn kubeconfig(&self, user: &str) -> Result<PathBuf> {
        let known = USERS.iter().map(|(name, _, _)| *name);
        let known = known.chain(self.users.iter().map(String::as_str)).any(|name| name == user);
        ensure!(known, "there is no user {user}");
        let file = self.data.join(format!("kubeconfig-{user}.yaml"));
        let authority = fs::read_to_string(&self.serving.authority)?;
        write_kubeconfig(&file, &self.url(), &authority, user)?;
        Ok(file)
    }
}

/// Colons, as in the names of service accounts, are not allowed in a token (RFC 6750 section 2.1).
fn token(user: &str) -> String {
    format!("{}-token", user.replace(':', "-"))
}

impl Audit {
    /// The policy of the API server; `None` where nothing is recorded.
    fn policy(self) -> Option<serde_json::Value> {
        let reads = json!({"level": "None", "verbs": ["get", "list", "watch"]});
        let all = json!({"level": "Metadata"});
        let rules = match self {
            Self::Off => return None,
            Self::Writes => json!([reads, all]),
            Self::All => json!([all]),
        };
        Some(json!({
            "apiVersion": "audit.k8s.io/v1",
            "kind": "Policy",
            "omitStages": ["RequestReceived"],
            "rules": rules,
        }))
    }
}

/// The certificate of the authority is embedded, so that a Secret can hold the file.
fn write_kubeconfig(file: &Path, server: &str, authority: &str, user: &str) -> Result<()> {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    let authority = BASE64_STANDARD.encode(authority);
    let cluster = json!({"server": server, "certificate-authority-data": authority});
    // JSON is YAML.
    let text = serde_json::to_string_pretty(&json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "tests", "cluster": cluster}],
        "users": [{"name": user, "user": {"token": token(user)}}],
        "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": user}}],
        "current-context": "tests",
    }))?;
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}
