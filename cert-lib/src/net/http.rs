//! [`Http`] over hyper and rustls: one connection pool and one TLS configuration, with HTTP/2 where
//! the server supports it, so that one connection per CA is enough.
//!
//! Not here: redirects, cookies, retries. CAs rarely redirect, and their URLs are absolute.
//! [`Route`] selects proxies and permitted addresses.

mod roots;

use std::{error::Error as StdError, io, net::IpAddr, sync::Arc, time::Duration};

use ::http::{HeaderValue, Request, Response, Uri, header::USER_AGENT, uri::Scheme};
use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, Client},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::CertificateError;

pub use self::roots::{Roots, RootsError};
use crate::net::{
    Http, HttpError,
    proxy::ProxySettings,
    reach::{AddressPolicy, TcpConnector},
    tunnel::ProxyConnector,
};

/// How servers are reached. The default is a direct connection to any address.
#[derive(Clone, Debug, Default)]
pub struct Route {
    /// The proxies.
    pub proxies: Arc<ProxySettings>,
    /// The addresses that may be connected to, where tenants choose the servers; `None` permits
    /// all.
    pub policy: Option<Arc<AddressPolicy>>,
}

/// The real [`Http`]. Cheap to clone: clones share their connections.
#[derive(Clone, Debug)]
pub struct HttpsClient {
    client: Client<HttpsConnector<ProxyConnector<TcpConnector>>, Full<Bytes>>,
    plain_http: PlainHttp,
}

/// The servers that may be reached without TLS.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum PlainHttp {
    /// Those on this machine.
    Loopback,
    /// All.
    Everywhere,
}

impl HttpsClient {
    /// A client that trusts `roots` and reaches servers directly.
    ///
    /// # Errors
    /// When the system's roots cannot be loaded, or an extra one cannot be used.
    pub fn new(roots: &Roots) -> Result<Self, RootsError> {
        Self::with_route(&Route::default(), roots)
    }

    /// A client that trusts `roots`, for proxies too, and connects by `route`.
    ///
    /// # Errors
    /// When the system's roots cannot be loaded, or an extra one cannot be used.
    pub fn with_route(route: &Route, roots: &Roots) -> Result<Self, RootsError> {
        let tls = roots::tls(roots)?;
        let tcp = TcpConnector::new(route.policy.clone());
        let tcp = ProxyConnector::within(route.proxies.clone(), tcp, tls.clone());
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(MAX_IDLE)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .http2_keep_alive_timeout(PING_TIMEOUT)
            .build(connector);
        Ok(Self { client, plain_http: PlainHttp::Loopback })
    }

    /// Also sends requests without TLS to other machines, for servers that are often inside the
    /// cluster, such as the API of PowerDNS. Never for a CA.
    #[must_use]
    pub fn permit_plain_http(self) -> Self {
        Self { plain_http: PlainHttp::Everywhere, ..self }
    }

    async fn exchange(
        &self,
        host: &str,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Bytes>, HttpError> {
        let response =
            self.client.request(request).await.map_err(|error| unreachable(host, &error))?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_BODY).collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() {
                HttpError::TooLarge { host: host.to_owned(), limit: MAX_BODY }
            } else {
                broken(host, error.as_ref())
            }
        })?;
        Ok(Response::from_parts(head, body.to_bytes()))
    }
}

#[async_trait]
impl Http for HttpsClient {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (mut head, body) = request.into_parts();
        let host = host_of(&head.uri);
        check_scheme(&head.uri, &host, self.plain_http)?;
        head.headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        let request = Request::from_parts(head, Full::new(body));
        match tokio::time::timeout(TOTAL_TIMEOUT, self.exchange(&host, request)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(HttpError::TimedOut { host, seconds: TOTAL_TIMEOUT.as_secs() }),
        }
    }
}

/// RFC 8555 section 6.1 requires HTTPS; plain HTTP is allowed for a test server on this machine.
fn check_scheme(uri: &Uri, host: &str, plain_http: PlainHttp) -> Result<(), HttpError> {
    let loopback = || {
        let bare = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    };
    let is_permitted = || plain_http == PlainHttp::Everywhere || loopback();
    match uri.scheme() {
        Some(scheme) if *scheme == Scheme::HTTPS => Ok(()),
        Some(scheme) if *scheme == Scheme::HTTP && is_permitted() => Ok(()),
        _ => Err(HttpError::Unreachable {
            host: host.to_owned(),
            reason: "its URL does not start with https://".to_owned(),
        }),
    }
}

fn host_of(uri: &Uri) -> String {
    // Without the userinfo of the authority: this goes into messages.
    let host = uri.host().unwrap_or("(no host)");
    uri.port_u16().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn unreachable(host: &str, error: &legacy::Error) -> HttpError {
    match innermost(error).downcast_ref::<rustls::Error>() {
        Some(rustls::Error::InvalidCertificate(why)) => {
            HttpError::Untrusted { host: host.to_owned(), reason: untrusted(why) }
        }
        _ if error.is_connect() => {
            HttpError::Unreachable { host: host.to_owned(), reason: innermost(error).to_string() }
        }
        _ => broken(host, error),
    }
}

fn broken(host: &str, error: &(dyn StdError + 'static)) -> HttpError {
    HttpError::Broken { host: host.to_owned(), reason: innermost(error).to_string() }
}

/// The innermost cause: the outer errors of hyper are generic.
fn innermost<'a>(error: &'a (dyn StdError + 'static)) -> &'a (dyn StdError + 'static) {
    let mut innermost = error;
    while let Some(cause) = cause(innermost) {
        innermost = cause;
    }
    innermost
}

/// `io::Error` does not return its inner error from `source`.
fn cause<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(carried) => Some(carried),
        // `untrusted` describes errors of rustls; their own causes are less readable.
        None if error.is::<rustls::Error>() => None,
        None => error.source(),
    }
}

fn untrusted(why: &CertificateError) -> String {
    match why {
        CertificateError::UnknownIssuer => "it is signed by an unknown authority".to_owned(),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "it has expired".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "it is for another name".to_owned()
        }
        other => other.to_string(),
    }
}

const AGENT: &str = concat!("cert-controller-manager/", env!("CARGO_PKG_VERSION"));
/// Timeout for the answer to an HTTP/2 ping.
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// From name resolution to the last byte.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(30);
/// Shorter than the idle timeout of load balancers before CAs.
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);
/// Idle connections of HTTP/1.1; HTTP/2 uses one.
const MAX_IDLE: usize = 8;
/// How soon a dead connection is detected while a request waits for it.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// The largest body of a CA is a chain of some kilobytes.
const MAX_BODY: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate() -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.self_signed(&key).unwrap().pem()
    }

    #[test]
    fn a_bundle_is_read_whole_or_refused_with_the_reason() {
        let good = certificate();
        assert_eq!(Roots::only_pem(format!("{good}{good}").as_bytes()).unwrap().extra.len(), 2);
        // The format of `openssl pkcs12`: a name in Latin-1 before the block, and a key beside it.
        let broken = "-----BEGIN PRIVATE KEY-----\n§\n-----END PRIVATE KEY-----\n";
        let exported = [b"friendlyName: M\xfcller\n", good.as_bytes(), broken.as_bytes()].concat();
        assert_eq!(Roots::only_pem(&exported).unwrap().extra.len(), 1);
        let junk = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for (bundle, want) in [
            (String::new(), "holds no certificate"),
            ("garbage".to_owned(), "holds no certificate"),
            ("-----BEGIN CERTIFICATE-----\n§\n".to_owned(), "no certificate"),
            (format!("{good}{junk}"), "certificate 2 of the CA bundle cannot be used"),
        ] {
            let error = Roots::only_pem(bundle.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(want), "{bundle:?}: {error}");
        }
    }

    /// Serves one connection on this machine with `answer`. Returns the result of the client and
    /// the request.
    async fn served(answer: Vec<u8>) -> (Result<Response<Bytes>, HttpError>, String) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/x", listener.local_addr().unwrap());
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = vec![0; 4096];
            let length = stream.read(&mut asked).await.unwrap();
            // A client that has read enough closes the connection.
            let _ = stream.write_all(&answer).await;
            String::from_utf8_lossy(&asked[..length]).into_owned()
        };
        let client = HttpsClient::new(&Roots::only_pem(certificate().as_bytes()).unwrap()).unwrap();
        let request = Request::get(url).body(Bytes::new()).unwrap();
        futures::future::join(client.send(request), server).await
    }

    #[tokio::test]
    async fn a_redirect_is_a_response_and_the_user_agent_is_sent() {
        let answer =
            "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
        let (response, asked) = served(answer.as_bytes().to_vec()).await;
        assert_eq!(response.unwrap().status(), 302);
        assert!(asked.contains(&format!("user-agent: {AGENT}\r\n")), "{asked}");
    }

    #[tokio::test]
    async fn a_too_large_response_is_refused() {
        let mut answer = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".to_vec();
        answer.resize(MAX_BODY + 1000, b'x');
        let (response, _) = served(answer).await;
        let error = response.unwrap_err().to_string();
        assert!(error.ends_with("is larger than 1048576 bytes"), "{error}");
    }

    #[tokio::test]
    async fn a_body_that_never_arrives_times_out() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            assert_ne!(stream.read(&mut [0; 4096]).await.unwrap(), 0);
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nslow").await.unwrap();
            // From here on only time passes.
            tokio::time::pause();
            stream.read(&mut [0; 16]).await
        };
        let client = HttpsClient::new(&Roots::only_pem(certificate().as_bytes()).unwrap()).unwrap();
        let request = Request::get(format!("http://{host}/x")).body(Bytes::new()).unwrap();
        let answer = client.send(request);
        tokio::pin!(server, answer);
        let outcome = futures::future::select(answer, server).await;
        let futures::future::Either::Left((answer, _)) = outcome else { panic!("no answer") };
        let error = answer.unwrap_err().to_string();
        assert_eq!(error, format!("no answer from {host} within 30 s"));
    }

    #[tokio::test]
    async fn plain_http_is_for_this_machine_only_unless_it_is_permitted() {
        let client = HttpsClient::new(&Roots::only_pem(certificate().as_bytes()).unwrap()).unwrap();
        for (url, refused) in [
            ("http://ca.example.org/dir", true),
            ("http://10.0.0.1/dir", true),
            ("ftp://localhost/dir", true),
            ("http://localhost/dir", false),
            ("http://127.0.0.1:1/dir", false),
            ("http://[::1]:1/dir", false),
            ("https://ca.example.org/dir", false),
        ] {
            let uri: Uri = url.parse().unwrap();
            let outcome = check_scheme(&uri, "x", PlainHttp::Loopback);
            assert_eq!(outcome.is_err(), refused, "{url}");
            let outcome = check_scheme(&uri, "x", client.clone().permit_plain_http().plain_http);
            assert_eq!(outcome.is_err(), url.starts_with("ftp"), "{url}");
        }
        let request = Request::get("http://127.0.0.1:1/").body(Bytes::new()).unwrap();
        let error = client.send(request).await.unwrap_err();
        assert!(error.to_string().starts_with("cannot reach 127.0.0.1:1: "), "{error}");
        assert!(error.is_unsent());
    }

    #[tokio::test]
    async fn a_broken_connection_may_have_sent_the_request() {
        for answer in ["", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort"] {
            let error = served(answer.as_bytes().to_vec()).await.0.unwrap_err();
            assert!(matches!(error, HttpError::Broken { .. }), "{answer}: {error:?}");
            assert!(!error.is_unsent());
        }
    }
}
