//! The four logical clusters. Each is a type of its own, so that nothing meant for one can be sent
//! to another; equal kubeconfigs share one client, and with it one connection.

use std::{collections::HashMap, path::PathBuf, time::Duration};

use anyhow::Context;
use hyper_util::{
    client::legacy::connect::HttpConnector,
    rt::{TokioExecutor, TokioTimer},
};
use kube::{
    Client, Config,
    client::{Body, ConfigExt},
    config::{KubeConfigOptions, Kubeconfig},
};
use tower::{BoxError, ServiceBuilder};

/// Issuers, account keys and the progress of orders live here. Trusted.
#[derive(Clone)]
pub struct DefaultCluster(pub Client);
/// Certificates live here. Not trusted.
#[derive(Clone)]
pub struct SourceCluster(pub Client);
/// Challenge DNSEntries live here.
#[derive(Clone)]
pub struct DnsCluster(pub Client);
/// Certificate Secrets live here.
#[derive(Clone)]
pub struct TargetCluster(pub Client);

/// The four of them.
#[derive(Clone)]
pub struct Clusters {
    /// See [`DefaultCluster`].
    pub default: DefaultCluster,
    /// See [`SourceCluster`].
    pub source: SourceCluster,
    /// See [`DnsCluster`].
    pub dns: DnsCluster,
    /// See [`TargetCluster`].
    pub target: TargetCluster,
}

/// Where the kubeconfigs are. What is not set falls back: default to `KUBECONFIG` and then to the
/// cluster that we run in, source and dns to default, target to source.
#[derive(Clone, Debug, Default)]
pub struct Kubeconfigs {
    /// `--kubeconfig`
    pub default: Option<PathBuf>,
    /// `--source`
    pub source: Option<PathBuf>,
    /// `--dns`
    pub dns: Option<PathBuf>,
    /// `--target`
    pub target: Option<PathBuf>,
}

/// How long a server may take until it begins to answer. Watches begin at once, too.
const ANSWER: Duration = Duration::from_secs(20);
const CONNECT: Duration = Duration::from_secs(5);

impl Clusters {
    /// Reads the kubeconfigs and makes the clients. Connects to nothing yet.
    ///
    /// # Errors
    /// When a kubeconfig is missing or wrong; the message names the file.
    pub async fn connect(paths: &Kubeconfigs) -> anyhow::Result<Self> {
        let source = paths.source.as_ref().or(paths.default.as_ref());
        let dns = paths.dns.as_ref().or(paths.default.as_ref());
        let target = paths.target.as_ref().or(source);
        let mut clients: HashMap<Option<&PathBuf>, Client> = HashMap::new();
        for path in [paths.default.as_ref(), source, dns, target] {
            if let std::collections::hash_map::Entry::Vacant(place) = clients.entry(path) {
                place.insert(client(configuration(path).await?)?);
            }
        }
        let of = |path: Option<&PathBuf>| {
            clients.get(&path).cloned().context("every path was connected above")
        };
        Ok(Self {
            default: DefaultCluster(of(paths.default.as_ref())?),
            source: SourceCluster(of(source)?),
            dns: DnsCluster(of(dns)?),
            target: TargetCluster(of(target)?),
        })
    }
}

async fn configuration(path: Option<&PathBuf>) -> anyhow::Result<Config> {
    let Some(path) = path else {
        return Config::infer().await.context(
            "no cluster: give --kubeconfig, set KUBECONFIG, or run inside a cluster with a service account",
        );
    };
    let what = || format!("kubeconfig {}", path.display());
    let file = Kubeconfig::read_from(path).with_context(what)?;
    Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.with_context(what)
}

/// A client over one HTTP/2 connection. kube's own speaks HTTP/1.1 and keeps a connection per
/// concurrent call; it also repeats writes on its own, which we do not want to happen unseen.
fn client(config: Config) -> anyhow::Result<Client> {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT));
    connector.set_keepalive(Some(Duration::from_secs(30)));
    let tls = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(config.rustls_client_config().context("TLS of the kubeconfig")?)
        .https_or_http();
    let tls = match &config.tls_server_name {
        Some(name) => {
            let name = rustls::pki_types::ServerName::try_from(name.clone())
                .context("tls-server-name of the kubeconfig")?;
            tls.with_server_name_resolver(hyper_rustls::FixedServerNameResolver::new(name))
        }
        None => tls,
    };
    let https = tls.enable_all_versions().wrap_connector(connector);
    let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .http2_keep_alive_interval(Duration::from_secs(15))
        .http2_keep_alive_timeout(Duration::from_secs(10))
        .http2_keep_alive_while_idle(true)
        .build::<_, Body>(https);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer().context("credentials of the kubeconfig")?)
        .layer(config.extra_headers_layer().context("headers of the kubeconfig")?)
        .map_err(BoxError::from)
        .timeout(ANSWER)
        .service(http);
    Ok(Client::new(service, config.default_namespace))
}
