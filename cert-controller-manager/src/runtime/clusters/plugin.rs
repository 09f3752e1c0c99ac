//! Runs a credential plugin (`exec` in a kubeconfig; KEP-541) and parses its output.

use std::{process::Stdio, sync::Arc, time::Duration};

use anyhow::{Context, bail, ensure};
use cert_lib::net::identity::client_identity;
use http::HeaderValue;
use jiff::Timestamp;
use rustls::sign::CertifiedKey;
use serde::Deserialize;
use serde_json::json;
use tokio::{io::AsyncReadExt, process::Command, time::timeout};
use zeroize::Zeroizing;

use super::{connection::Plugin, kubeconfig::header};

/// Deadline for a plugin, which may send requests.
const TIMEOUT: Duration = Duration::from_secs(60);
const MAX_OUTPUT: u64 = 1 << 20;

/// The output of a plugin.
pub(super) struct PluginCredential {
    pub(super) authorization: Option<HeaderValue>,
    pub(super) certificate: Option<Arc<CertifiedKey>>,
    pub(super) expires: Option<Timestamp>,
}

/// Has no `Debug`, because it contains secrets.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExecCredential {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    status: Option<Status>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    expiration_timestamp: Option<Timestamp>,
    token: Option<Zeroizing<String>>,
    client_certificate_data: Option<String>,
    client_key_data: Option<Zeroizing<String>>,
}

/// Runs the plugin. Blocks, so it needs its own thread.
///
/// # Errors
/// When the plugin fails. Its standard error is ours.
pub(super) fn run(plugin: &Plugin) -> anyhow::Result<PluginCredential> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let output = runtime
        .block_on(async { timeout(TIMEOUT, output(plugin)).await })
        .unwrap_or_else(|_| bail!("no answer within {TIMEOUT:?}"))
        .with_context(|| format!("plugin {}", plugin.command))?;
    read(&output, plugin).with_context(|| format!("answer of the plugin {}", plugin.command))
}

async fn output(plugin: &Plugin) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let mut spec = json!({"interactive": false});
    if let Some(cluster) = &plugin.cluster {
        spec["cluster"] = cluster.clone();
    }
    let info = json!({"kind": "ExecCredential", "apiVersion": plugin.api_version, "spec": spec});
    let environment = plugin.environment.iter().map(|(name, value)| (name, value.as_str()));
    let mut child = Command::new(&plugin.command)
        .args(&plugin.arguments)
        .envs(environment)
        .env("KUBERNETES_EXEC_INFO", info.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| match &*plugin.install_hint {
            "" => "cannot be started".to_owned(),
            hint => format!("cannot be started ({})", hint.escape_debug()),
        })?;
    let mut output = Zeroizing::new(Vec::new());
    let stdout = child.stdout.take().context("no standard output")?;
    stdout.take(MAX_OUTPUT + 1).read_to_end(&mut output).await?;
    ensure!(output.len() as u64 <= MAX_OUTPUT, "it wrote more than {MAX_OUTPUT} bytes");
    let status = child.wait().await?;
    ensure!(status.success(), "it failed with {status}");
    Ok(output)
}

fn read(output: &[u8], plugin: &Plugin) -> anyhow::Result<PluginCredential> {
    // The message of the parser may quote a secret.
    let answer: ExecCredential = serde_json::from_slice(output).map_err(|error| {
        anyhow::anyhow!(
            "not an ExecCredential in JSON (line {}, column {})",
            error.line(),
            error.column()
        )
    })?;
    ensure!(answer.kind == "ExecCredential", "kind is {:?} and not ExecCredential", answer.kind);
    ensure!(
        answer.api_version == plugin.api_version,
        "apiVersion is {:?}, and the kubeconfig says {:?}",
        answer.api_version,
        plugin.api_version
    );
    let status = answer.status.context("it has no status")?;
    let token = status.token.filter(|token| !token.is_empty());
    let certificate = status.client_certificate_data.filter(|it| !it.is_empty());
    let key = status.client_key_data.filter(|it| !it.is_empty());
    let identity = match (certificate, key) {
        (Some(certificate), Some(key)) => {
            let identity = client_identity(certificate.as_bytes(), key.as_bytes());
            Some(identity.context("client certificate and key")?)
        }
        (None, None) => None,
        _ => bail!("it has only one of client certificate and key"),
    };
    ensure!(token.is_some() || identity.is_some(), "it has neither token nor client certificate");
    let authorization = token.map(|token| header("Bearer", &token).context("token")).transpose()?;
    // The certificate has its own expiry.
    let not_after = identity.as_ref().map(|it| it.not_after);
    let expires = [status.expiration_timestamp, not_after].into_iter().flatten().min();
    let certificate = identity.map(|it| it.key);
    Ok(PluginCredential { authorization, certificate, expires })
}
