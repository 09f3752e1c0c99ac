//! The HTTP stack of an API server: base URL, credentials, fence and connections.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use cert_lib::net::{proxy::ProxySettings, tunnel::ProxyConnector};
use futures::TryFutureExt;
use http::{
    Request, Response, StatusCode,
    header::{AUTHORIZATION, PROXY_AUTHORIZATION},
};
use hyper::body::Incoming;
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use kube::{
    Config,
    client::{Body, ConfigExt},
};
use rustls::{client::danger::ServerCertVerifier, sign::CertifiedKey};
use tower::{BoxError, ServiceBuilder, service_fn, util::BoxCloneSyncService};

use super::{
    connection::Connection,
    credentials::{Credentials, Issued},
    dial::Dial,
    tls,
};
use crate::runtime::fence::Fence;

/// All layers between a client and the socket.
pub(super) type Stack = BoxCloneSyncService<Request<Body>, Response<Incoming>, BoxError>;

/// The purpose of a stack.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Purpose {
    /// All calls, over one HTTP/2 connection. The stack of kube uses HTTP/1.1 with one connection
    /// for each concurrent call, and repeats writes by itself.
    Calls,
    /// Calls for the Lease, which the fence does not check because they open it. With HTTP/1.1, a
    /// cancelled call closes its connection, so that the next call does not use a dead one.
    Lease,
}

/// Deadline for a TCP connection.
const CONNECT: Duration = Duration::from_secs(5);

/// Builds a stack. Does not connect yet.
///
/// # Errors
/// When TLS cannot be configured.
pub(super) fn build(
    connection: &Connection,
    credentials: &Arc<Credentials>,
    purpose: Purpose,
    fence: &Fence,
) -> anyhow::Result<Stack> {
    let proxies = match &connection.proxy {
        Some(proxy) => ProxySettings::only(proxy.clone()),
        None => ProxySettings::from_env(),
    };
    let sender = Arc::new(Sender {
        proxies: Arc::new(proxies),
        verifier: tls::verifier(&connection.trust)?,
        connection: connection.clone(),
        credentials: credentials.clone(),
        purpose,
        fence: fence.clone(),
        connections: Mutex::default(),
    });
    let send = service_fn(move |request: Request<Body>| sender.clone().send(request));
    let base = Config::new(connection.server.clone()).base_uri_layer();
    Ok(BoxCloneSyncService::new(ServiceBuilder::new().layer(base).service(send)))
}

type Connections = Client<HttpsConnector<ProxyConnector<Dial>>, Body>;

struct Sender {
    connection: Connection,
    credentials: Arc<Credentials>,
    verifier: Arc<dyn ServerCertVerifier>,
    proxies: Arc<ProxySettings>,
    purpose: Purpose,
    fence: Fence,
    /// The connections with this client certificate.
    connections: Mutex<Option<(Option<Arc<CertifiedKey>>, Connections)>>,
}

impl Sender {
    async fn send(
        self: Arc<Self>,
        mut request: Request<Body>,
    ) -> Result<Response<Incoming>, BoxError> {
        let issued = self.credentials.current().await?;
        let headers = request.headers_mut();
        if let Some(value) = &issued.authorization {
            headers.insert(AUTHORIZATION, value.clone());
        }
        if let Some(value) = self.proxies.authorization_for(request.uri()) {
            let value = value.clone();
            request.headers_mut().insert(PROXY_AUTHORIZATION, value);
        }
        let headers = request.headers_mut();
        for (name, value) in &self.connection.impersonation {
            headers.append(name.clone(), value.clone());
        }
        // Check last, because getting the credentials may take time.
        if self.purpose == Purpose::Calls {
            self.fence.check(request.method())?;
        }
        let connections = self.connections(&issued)?;
        let answer = connections.request(request).map_err(BoxError::from).await?;
        if answer.status() == StatusCode::UNAUTHORIZED {
            self.credentials.refused(&issued);
        }
        Ok(answer)
    }

    /// The connections for a client certificate. A new certificate needs new connections and a new TLS
    /// session, because servers associate both with the old certificate.
    fn connections(&self, issued: &Issued) -> anyhow::Result<Connections> {
        let mut known = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |one: &Option<Arc<CertifiedKey>>| match (one, &issued.certificate) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        };
        if let Some((_, connections)) = known.as_ref().filter(|(certificate, _)| same(certificate))
        {
            return Ok(connections.clone());
        }
        let connections = self.connect_with(issued.certificate.clone())?;
        *known = Some((issued.certificate.clone(), connections.clone()));
        Ok(connections)
    }

    fn connect_with(&self, certificate: Option<Arc<CertifiedKey>>) -> anyhow::Result<Connections> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT));
        tcp.set_keepalive(Some(Duration::from_secs(30)));
        let dial = Dial::new(tcp, self.fence.clone());
        // Like Go, verify an HTTPS proxy in the same way as the server.
        let tunnel = tls::config(self.verifier.clone(), None)?;
        let dial = ProxyConnector::new(self.proxies.clone(), dial, tunnel);
        let config = tls::config(self.verifier.clone(), certificate)?;
        let tls = HttpsConnectorBuilder::new().with_tls_config(config).https_or_http();
        let tls = match &self.connection.server_name {
            Some(name) => tls.with_server_name_resolver(FixedServerNameResolver::new(name.clone())),
            None => tls,
        };
        let https = match self.purpose {
            Purpose::Calls => tls.enable_all_versions().wrap_connector(dial),
            Purpose::Lease => tls.enable_http1().wrap_connector(dial),
        };
        Ok(Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .http2_keep_alive_interval(Duration::from_secs(15))
            .http2_keep_alive_timeout(Duration::from_secs(10))
            .http2_keep_alive_while_idle(true)
            .build(https))
    }
}
