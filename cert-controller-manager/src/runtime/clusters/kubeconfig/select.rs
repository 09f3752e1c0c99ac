//! Converts the current context of a kubeconfig to a [`Connection`], with the checks of client-go.

use std::path::Path;

use anyhow::{Context, bail, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use cert_lib::net::{
    identity::client_identity,
    proxy::{Proxy, basic},
};
use http::{HeaderName, HeaderValue, Uri};
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{
    file::{AuthProvider, Cluster, Exec, File, User},
    read::Reader,
};
use crate::runtime::clusters::connection::{Connection, Credential, Identity, Plugin, Trust};

/// The connection of the current context. `reader` reads the files that it refers to.
///
/// # Errors
/// When a field is invalid for kubectl, too; the message names it.
pub(super) fn select(file: &File, reader: &mut Reader) -> anyhow::Result<Connection> {
    let current = &file.current_context;
    let context = file.contexts.get(current).cloned();
    ensure!(
        context.is_some() || current.is_empty(),
        "current-context is {current:?}, and there is no such context"
    );
    let context = context.unwrap_or_default();
    let cluster = file.clusters.get(&context.cluster).cloned().unwrap_or_default();
    let user = file.users.get(&context.user).cloned().unwrap_or_default();
    let of_user = || format!("user {:?}", context.user);
    check_user(&user).with_context(of_user)?;
    let of_cluster = || format!("cluster {:?}", context.cluster);
    let mut connection = server(&cluster, current, reader).with_context(of_cluster)?;
    if !context.namespace.is_empty() {
        connection.namespace = context.namespace;
    }
    connection.impersonation = impersonation(&user).with_context(of_user)?;
    // Like client-go, send no credentials over plain HTTP.
    if connection.server.scheme_str() == Some("https") {
        connection.identity = identity(&user, &cluster, reader).with_context(of_user)?;
    }
    // Like Go, where user and password in the URL take precedence.
    if let Some(header) = of_url(&cluster.server).with_context(of_cluster)? {
        connection.identity.credential = Credential::Fixed(header);
    }
    Ok(connection)
}

fn server(cluster: &Cluster, context: &str, reader: &mut Reader) -> anyhow::Result<Connection> {
    ensure!(
        !cluster.server.is_empty(),
        "server is not set; context {context:?} needs a cluster with one"
    );
    ensure!(
        cluster.authority_file.is_none() || cluster.authority.is_empty(),
        "certificate-authority and certificate-authority-data are both set; keep one"
    );
    let server = url(&cluster.server).context("server")?;
    let authority = authority(cluster, reader)?;
    let trust = match (cluster.insecure, authority.is_empty()) {
        (true, true) => Trust::Anything,
        (false, true) => Trust::System,
        (false, false) => Trust::Only(authority),
        (true, false) if server.scheme_str() == Some("http") => Trust::System,
        (true, false) => {
            bail!("insecure-skip-tls-verify is true, and an authority is set; keep one of the two")
        }
    };
    let server_name = match &*cluster.tls_server_name {
        "" => None,
        name => Some(ServerName::try_from(name.to_owned()).context("tls-server-name")?),
    };
    Ok(Connection {
        server,
        namespace: "default".to_owned(),
        trust,
        server_name,
        proxy: proxy(&cluster.proxy_url).context("proxy-url")?,
        identity: Identity { certificate: None, credential: Credential::None },
        impersonation: Vec::new(),
    })
}

/// Parses `proxy-url`. Like kubectl, it requires a scheme.
fn proxy(url: &str) -> anyhow::Result<Option<Proxy>> {
    if url.is_empty() {
        return Ok(None);
    }
    ensure!(url.contains("://"), "it has no scheme; write http://host:port");
    Ok(Some(url.parse()?))
}

fn authority(cluster: &Cluster, reader: &mut Reader) -> anyhow::Result<Vec<u8>> {
    match &cluster.authority_file {
        Some(path) => Ok(reader.read(path).context("certificate-authority")?.to_vec()),
        None => Ok(cluster.authority.clone()),
    }
}

/// Parses a URL, or host and port for plain HTTP. Removes user and password, because it is logged.
fn url(text: &str) -> anyhow::Result<Uri> {
    let text = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let uri: Uri = text.parse()?;
    let scheme = uri.scheme_str().unwrap_or_default();
    ensure!(matches!(scheme, "https" | "http"), "the scheme {scheme:?} is not https or http");
    ensure!(uri.host().is_some_and(|host| !host.is_empty()), "it names no host");
    Ok(Uri::builder()
        .scheme(scheme)
        .authority(uri.authority().map_or("", |it| split_authority(it.as_str()).1))
        .path_and_query(uri.path())
        .build()?)
}

/// The header for user and password in the URL of the server.
fn of_url(text: &str) -> anyhow::Result<Option<HeaderValue>> {
    let after_scheme = text.split_once("://").map_or(text, |(_, rest)| rest);
    let authority = after_scheme.split(['/', '?', '#']).next().unwrap_or_default();
    let Some(user) = split_authority(authority).0 else { return Ok(None) };
    let (user, password) = user.split_once(':').unwrap_or((user, ""));
    basic(user, password).context("user and password of server").map(Some)
}

/// Splits user and password from the rest.
fn split_authority(authority: &str) -> (Option<&str>, &str) {
    match authority.rsplit_once('@') {
        Some((user, rest)) => (Some(user), rest),
        None => (None, authority),
    }
}

fn check_user(user: &User) -> anyhow::Result<()> {
    let certificate = user.certificate_file.is_some() || !user.certificate.is_empty();
    let basic = !user.username.is_empty() || !user.password.is_empty();
    ensure!(
        !basic || user.token.is_empty(),
        "token and username or password are both set; keep one"
    );
    ensure!(
        !basic || user.token_file.is_none(),
        "tokenFile and username or password are both set; keep one"
    );
    if certificate {
        ensure!(
            user.certificate_file.is_none() || user.certificate.is_empty(),
            "client-certificate and client-certificate-data are both set; keep one"
        );
        ensure!(
            user.key_file.is_none() || user.key.is_empty(),
            "client-key and client-key-data are both set; keep one"
        );
        ensure!(
            user.key_file.is_some() || !user.key.is_empty(),
            "a client certificate is set without client-key or client-key-data"
        );
    }
    if let Some(exec) = &user.exec {
        ensure!(user.auth_provider.is_none(), "exec and auth-provider are both set; keep one");
        check_plugin(exec).context("exec")?;
    }
    let further = !user.impersonate_uid.is_empty()
        || !user.impersonate_groups.is_empty()
        || !user.impersonate_extra.is_empty();
    ensure!(
        !further || !user.impersonate.is_empty(),
        "as-uid, as-groups or as-user-extra is set without as"
    );
    Ok(())
}

fn check_plugin(exec: &Exec) -> anyhow::Result<()> {
    ensure!(!exec.command.is_empty(), "command is not set");
    ensure!(
        exec.environment.iter().all(|(name, _)| !name.is_empty()),
        "env has an entry without a name"
    );
    let version = exec.api_version.strip_prefix("client.authentication.k8s.io/");
    ensure!(
        matches!(version, Some("v1" | "v1beta1")),
        "apiVersion is {:?}; client.authentication.k8s.io/v1 and v1beta1 are supported",
        exec.api_version
    );
    match &*exec.interactive_mode {
        "" if version == Some("v1") => {
            bail!("interactiveMode is not set; v1 needs Never or IfAvailable")
        }
        "" | "Never" | "IfAvailable" => Ok(()),
        "Always" => bail!("interactiveMode is Always, and this process has no terminal"),
        other => bail!("interactiveMode is {other:?} and not Never, IfAvailable or Always"),
    }
}

fn identity(user: &User, cluster: &Cluster, reader: &mut Reader) -> anyhow::Result<Identity> {
    let certificate = match (&user.certificate_file, user.certificate.is_empty()) {
        (None, true) => None,
        (file, _) => {
            let chain = match file {
                Some(path) => reader.read(path).context("client-certificate")?,
                None => user.certificate.clone().into(),
            };
            let key = match &user.key_file {
                Some(path) => reader.read(path).context("client-key")?,
                None => user.key.clone(),
            };
            let identity = client_identity(&chain, &key).context("client certificate and key")?;
            Some(identity.key)
        }
    };
    let has_certificate = certificate.is_some();
    Ok(Identity { certificate, credential: credential(user, cluster, has_certificate, reader)? })
}

fn credential(
    user: &User,
    cluster: &Cluster,
    has_certificate: bool,
    reader: &mut Reader,
) -> anyhow::Result<Credential> {
    if !user.username.is_empty() || !user.password.is_empty() {
        let pair = Zeroizing::new(format!("{}:{}", user.username, user.password.as_str()));
        let basic = Zeroizing::new(BASE64_STANDARD.encode(pair.as_bytes()));
        return Ok(Credential::Fixed(header("Basic", &basic).context("username and password")?));
    }
    let fixed = (!user.token.is_empty()).then(|| header("Bearer", &user.token).context("token"));
    let fixed = fixed.transpose()?;
    if let Some(path) = &user.token_file {
        if fixed.is_none() {
            token_in(path).context("tokenFile")?;
        }
        reader.add_path(path);
        return Ok(Credential::TokenFile { path: path.clone(), fallback: fixed });
    }
    if let Some(fixed) = fixed {
        return Ok(Credential::Fixed(fixed));
    }
    if let Some(provider) = &user.auth_provider {
        return provided(provider).context("auth-provider");
    }
    // Like client-go, run no plugin if there is a client certificate.
    match &user.exec {
        Some(exec) if !has_certificate => {
            reader.add_path(Path::new(&exec.command));
            Ok(Credential::Plugin(plugin(exec, cluster, reader)?.into()))
        }
        _ => Ok(Credential::None),
    }
}

/// The credential of a legacy auth provider. Only the ID token of OpenID Connect is supported.
fn provided(provider: &AuthProvider) -> anyhow::Result<Credential> {
    match &*provider.name {
        "oidc" if provider.id_token.is_empty() => bail!("oidc has no id-token"),
        "oidc" => Ok(Credential::Fixed(header("Bearer", &provider.id_token).context("id-token")?)),
        other => bail!("{other:?} is not supported; use an exec plugin"),
    }
}

fn plugin(exec: &Exec, cluster: &Cluster, reader: &mut Reader) -> anyhow::Result<Plugin> {
    let cluster =
        if exec.provide_cluster_info { Some(cluster_info(cluster, reader)?) } else { None };
    Ok(Plugin {
        command: exec.command.clone(),
        arguments: exec.arguments.clone(),
        environment: exec.environment.clone(),
        api_version: exec.api_version.clone(),
        install_hint: exec.install_hint.clone(),
        cluster,
    })
}

/// Cluster information passed to the plugin.
fn cluster_info(cluster: &Cluster, reader: &mut Reader) -> anyhow::Result<Value> {
    let mut info = json!({"server": cluster.server, "config": cluster.for_plugins});
    let authority = authority(cluster, reader)?;
    for (field, value) in [
        (
            "tls-server-name",
            (!cluster.tls_server_name.is_empty()).then(|| json!(cluster.tls_server_name)),
        ),
        ("insecure-skip-tls-verify", cluster.insecure.then(|| json!(true))),
        (
            "certificate-authority-data",
            (!authority.is_empty()).then(|| json!(BASE64_STANDARD.encode(&authority))),
        ),
        ("proxy-url", (!cluster.proxy_url.is_empty()).then(|| json!(cluster.proxy_url))),
        ("disable-compression", cluster.disable_compression.then(|| json!(true))),
    ] {
        if let Some(value) = value {
            info[field] = value;
        }
    }
    Ok(info)
}

fn impersonation(user: &User) -> anyhow::Result<Vec<(HeaderName, HeaderValue)>> {
    let mut headers = Vec::new();
    let mut add = |name: &str, value: &str| -> anyhow::Result<()> {
        headers.push((HeaderName::try_from(name)?, HeaderValue::try_from(value)?));
        Ok(())
    };
    if user.impersonate.is_empty() {
        return Ok(headers);
    }
    add("impersonate-user", &user.impersonate).context("as")?;
    if !user.impersonate_uid.is_empty() {
        add("impersonate-uid", &user.impersonate_uid).context("as-uid")?;
    }
    for group in &user.impersonate_groups {
        add("impersonate-group", group).context("as-groups")?;
    }
    for (name, values) in &user.impersonate_extra {
        let name = format!("impersonate-extra-{}", escaped(name));
        for value in values {
            add(&name, value).context("as-user-extra")?;
        }
    }
    Ok(headers)
}

/// Percent-encodes characters that RFC 7230 does not allow in the name of a header.
fn escaped(name: &str) -> String {
    let plain = |it: u8| it.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&it);
    let byte = |it: u8| if plain(it) { char::from(it).to_string() } else { format!("%{it:02X}") };
    name.to_lowercase().bytes().map(byte).collect()
}

/// A sensitive header.
pub(in crate::runtime::clusters) fn header(
    scheme: &str,
    secret: &str,
) -> anyhow::Result<HeaderValue> {
    let text = Zeroizing::new(format!("{scheme} {secret}"));
    let mut value = HeaderValue::from_str(&text)
        .map_err(|_| anyhow::anyhow!("it has characters that a header cannot have"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Reads the token of a file, without surrounding white space.
pub(in crate::runtime::clusters) fn token_in(path: &Path) -> anyhow::Result<HeaderValue> {
    let bytes = super::read::bounded(path)?;
    let what = || path.display().to_string();
    let text = std::str::from_utf8(&bytes).with_context(what)?.trim();
    ensure!(!text.is_empty(), "{} is empty", path.display());
    header("Bearer", text).with_context(what)
}

#[cfg(test)]
mod tests;
