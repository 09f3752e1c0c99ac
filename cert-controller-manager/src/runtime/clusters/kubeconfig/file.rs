//! Parses kubeconfig files and merges them like client-go.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use zeroize::Zeroizing;

use super::node::Node;

/// One kubeconfig, or several merged ones. Empty and missing fields are the same.
#[derive(Default)]
pub(super) struct File {
    pub(super) clusters: BTreeMap<String, Cluster>,
    pub(super) users: BTreeMap<String, User>,
    pub(super) contexts: BTreeMap<String, KubeContext>,
    pub(super) current_context: String,
}

#[derive(Clone, Default)]
pub(super) struct Cluster {
    pub(super) server: String,
    pub(super) tls_server_name: String,
    pub(super) insecure: bool,
    pub(super) authority_file: Option<PathBuf>,
    pub(super) authority: Vec<u8>,
    pub(super) proxy_url: String,
    pub(super) disable_compression: bool,
    /// Cluster configuration for exec plugins.
    pub(super) for_plugins: Option<Value>,
}

/// Has no `Debug`, because it contains secrets.
#[derive(Clone, Default)]
pub(super) struct User {
    pub(super) certificate_file: Option<PathBuf>,
    pub(super) certificate: Vec<u8>,
    pub(super) key_file: Option<PathBuf>,
    pub(super) key: Zeroizing<Vec<u8>>,
    pub(super) token: Zeroizing<String>,
    pub(super) token_file: Option<PathBuf>,
    pub(super) username: String,
    pub(super) password: Zeroizing<String>,
    pub(super) impersonate: String,
    pub(super) impersonate_uid: String,
    pub(super) impersonate_groups: Vec<String>,
    pub(super) impersonate_extra: Vec<(String, Vec<String>)>,
    pub(super) exec: Option<Exec>,
    pub(super) auth_provider: Option<AuthProvider>,
}

#[derive(Clone)]
pub(super) struct AuthProvider {
    pub(super) name: String,
    pub(super) id_token: Zeroizing<String>,
}

#[derive(Clone, Default)]
pub(super) struct Exec {
    pub(super) command: String,
    pub(super) arguments: Vec<String>,
    pub(super) environment: Vec<(String, Zeroizing<String>)>,
    pub(super) api_version: String,
    pub(super) install_hint: String,
    pub(super) provide_cluster_info: bool,
    pub(super) interactive_mode: String,
}

#[derive(Clone, Default)]
pub(super) struct KubeContext {
    pub(super) cluster: String,
    pub(super) user: String,
    pub(super) namespace: String,
}

impl File {
    /// Parses one file. Relative paths in it begin at `directory`.
    ///
    /// # Errors
    /// When a field is invalid; the message names it.
    pub(super) fn parse(text: &str, directory: &Path) -> anyhow::Result<Self> {
        let value = value(text)?;
        let root = Node::root(&value);
        let api_version = root.field("apiVersion")?.text()?;
        ensure!(matches!(&*api_version, "" | "v1"), "apiVersion is {api_version:?} and not v1");
        let kind = root.field("kind")?.text()?;
        ensure!(matches!(&*kind, "" | "Config"), "kind is {kind:?} and not Config");
        let cluster = |node: &Node<'_>| cluster(node, directory);
        let user = |node: &Node<'_>| user(node, directory);
        Ok(Self {
            clusters: named(&root, "clusters", "cluster", cluster)?,
            users: named(&root, "users", "user", user)?,
            contexts: named(&root, "contexts", "context", context)?,
            current_context: root.field("current-context")?.text()?,
        })
    }

    /// Adds the entries of `next`. If both have an entry of the same name, the first one wins.
    #[must_use]
    pub(super) fn merge(mut self, next: Self) -> Self {
        for (name, cluster) in next.clusters {
            self.clusters.entry(name).or_insert(cluster);
        }
        for (name, user) in next.users {
            self.users.entry(name).or_insert(user);
        }
        for (name, context) in next.contexts {
            self.contexts.entry(name).or_insert(context);
        }
        if self.current_context.is_empty() {
            self.current_context = next.current_context;
        }
        self
    }
}

/// Parses JSON or the first YAML document, like kubectl. JSON comes first, because YAML allows no
/// tabs.
fn value(text: &str) -> anyhow::Result<Value> {
    if text.trim().is_empty() {
        return Ok(Value::Null);
    }
    if let Ok(value) = serde_json::from_str(text) {
        return Ok(value);
    }
    let options =
        serde_yaml::options! { duplicate_keys: serde_yaml::options::DuplicateKeyPolicy::LastWins };
    // Lazy: kubectl ignores invalid text after the first document.
    let mut bytes = text.as_bytes();
    let first = serde_yaml::read_with_options(&mut bytes, options).next();
    // The message of the parser quotes the line, which may contain a key.
    first.unwrap_or(Ok(Value::Null)).map_err(|error| {
        let what = match error.without_snippet() {
            serde_yaml::Error::NonFiniteFloat { .. } => {
                "a number that is too large; a text that looks like one needs quotes,"
            }
            _ => "not YAML",
        };
        anyhow::anyhow!("{what}{}", line(&error))
    })
}

fn line(error: &serde_yaml::Error) -> String {
    error.location().map_or_else(String::new, |at| format!(" in line {}", at.line()))
}

fn named<T>(
    root: &Node<'_>,
    list: &str,
    content: &str,
    read: impl Fn(&Node<'_>) -> anyhow::Result<T>,
) -> anyhow::Result<BTreeMap<String, T>> {
    let mut all = BTreeMap::new();
    for node in root.field(list)?.list()? {
        let name = node.field("name")?.text()?;
        let value = read(&node.field(content)?)?;
        if all.insert(name.clone(), value).is_some() {
            bail!("{list} has the name {name:?} twice");
        }
    }
    Ok(all)
}

fn cluster(node: &Node<'_>, directory: &Path) -> anyhow::Result<Cluster> {
    let mut for_plugins = None;
    for extension in node.field("extensions")?.list()? {
        if extension.field("name")?.text()? == "client.authentication.k8s.io/exec" {
            for_plugins = extension.field("extension")?.any();
        }
    }
    Ok(Cluster {
        server: node.field("server")?.text()?,
        tls_server_name: node.field("tls-server-name")?.text()?,
        insecure: node.field("insecure-skip-tls-verify")?.flag()?,
        authority_file: path(&node.field("certificate-authority")?, directory)?,
        authority: node.field("certificate-authority-data")?.bytes()?,
        proxy_url: node.field("proxy-url")?.text()?,
        disable_compression: node.field("disable-compression")?.flag()?,
        for_plugins,
    })
}

fn user(node: &Node<'_>, directory: &Path) -> anyhow::Result<User> {
    let exec = node.field("exec")?;
    let provider = node.field("auth-provider")?;
    Ok(User {
        certificate_file: path(&node.field("client-certificate")?, directory)?,
        certificate: node.field("client-certificate-data")?.bytes()?,
        key_file: path(&node.field("client-key")?, directory)?,
        key: node.field("client-key-data")?.bytes()?.into(),
        token: node.field("token")?.text()?.into(),
        token_file: path(&node.field("tokenFile")?, directory)?,
        username: node.field("username")?.text()?,
        password: node.field("password")?.text()?.into(),
        impersonate: node.field("as")?.text()?,
        impersonate_uid: node.field("as-uid")?.text()?,
        impersonate_groups: node.field("as-groups")?.texts()?,
        impersonate_extra: node.field("as-user-extra")?.lists_of_texts()?,
        exec: if exec.is_unset() { None } else { Some(plugin(&exec, directory)?) },
        auth_provider: if provider.is_unset() {
            None
        } else {
            let id_token = provider.field("config")?.field("id-token")?.text()?.into();
            Some(AuthProvider { name: provider.field("name")?.text()?, id_token })
        },
    })
}

fn plugin(node: &Node<'_>, directory: &Path) -> anyhow::Result<Exec> {
    let command = node.field("command")?.text()?;
    // A name without a slash is searched in PATH.
    let command = if command.contains('/') {
        let path = directory.join(&command);
        path.to_str().context("the path of a plugin is not UTF-8")?.to_owned()
    } else {
        command
    };
    let pair = |node: &Node<'_>| {
        Ok((node.field("name")?.text()?, Zeroizing::new(node.field("value")?.text()?)))
    };
    let environment = node.field("env")?.list()?.iter().map(pair).collect::<anyhow::Result<_>>()?;
    Ok(Exec {
        command,
        arguments: node.field("args")?.texts()?,
        environment,
        api_version: node.field("apiVersion")?.text()?,
        install_hint: node.field("installHint")?.text()?,
        provide_cluster_info: node.field("provideClusterInfo")?.flag()?,
        interactive_mode: node.field("interactiveMode")?.text()?,
    })
}

fn context(node: &Node<'_>) -> anyhow::Result<KubeContext> {
    Ok(KubeContext {
        cluster: node.field("cluster")?.text()?,
        user: node.field("user")?.text()?,
        namespace: node.field("namespace")?.text()?,
    })
}

fn path(node: &Node<'_>, directory: &Path) -> anyhow::Result<Option<PathBuf>> {
    let text = node.text()?;
    Ok((!text.is_empty()).then(|| directory.join(text)))
}
