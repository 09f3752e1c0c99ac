//! How a request gets to an API server: address, credentials, fence, connection.

use std::time::Duration;

use anyhow::Context;
use futures::{TryFutureExt, future::Either};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::connect::HttpConnector,
    rt::{TokioExecutor, TokioTimer},
};
use kube::{
    Config,
    client::{Body, ConfigExt},
};
use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn, util::BoxCloneSyncService};

use crate::runtime::fence::{Fence, socket::Guarded};

/// Everything between a client and the socket.
pub(super) type Stack = BoxCloneSyncService<Request<Body>, Response<Incoming>, BoxError>;

/// What a stack is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Purpose {
    /// All calls, over one HTTP/2 connection: kube's own stack speaks HTTP/1.1 and keeps a
    /// connection per concurrent call; it also repeats writes on its own, which we do not want to
    /// happen unseen.
    Calls,
    /// The Lease. Not fenced, for it opens the fence. HTTP/1.1: a call that is given up closes its
    /// connection, so that the next one does not wait on the same dead one.
    Lease,
}

/// For a connection to be there.
const CONNECT: Duration = Duration::from_secs(5);

/// Makes a stack. Connects to nothing yet.
///
/// # Errors
/// When the credentials cannot be used.
pub(super) fn build(config: &Config, purpose: Purpose, fence: &Fence) -> anyhow::Result<Stack> {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT));
    connector.set_keepalive(Some(Duration::from_secs(30)));
    let guard = fence.clone();
    let connector = connector.map_response(move |socket| Guarded::new(socket, guard.clone()));
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
    let https = match purpose {
        Purpose::Calls => tls.enable_all_versions().wrap_connector(connector),
        Purpose::Lease => tls.enable_http1().wrap_connector(connector),
    };
    let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .http2_keep_alive_interval(Duration::from_secs(15))
        .http2_keep_alive_timeout(Duration::from_secs(10))
        .http2_keep_alive_while_idle(true)
        .build::<_, Body>(https);
    let fence = match purpose {
        Purpose::Calls => fence.clone(),
        Purpose::Lease => Fence::always(),
    };
    // The last thing before the connection: fetching a token may have taken its time.
    let send = service_fn(move |request: Request<Body>| match fence.check(request.method()) {
        Ok(()) => Either::Left(http.request(request).map_err(BoxError::from)),
        Err(refused) => Either::Right(std::future::ready(Err(BoxError::from(refused)))),
    });
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer().context("credentials of the kubeconfig")?)
        .layer(config.extra_headers_layer().context("headers of the kubeconfig")?)
        .map_err(BoxError::from)
        .service(send);
    Ok(BoxCloneSyncService::new(service))
}
