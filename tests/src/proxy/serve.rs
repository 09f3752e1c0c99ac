//! The connections of a [`Proxy`](super::Proxy).

use std::{convert::Infallible, path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use jiff::Timestamp;
use rustls::{ServerConfig, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use serde_json::Value;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use super::{Answer, Fault, Kind, Seen, State};
use crate::{
    http::{tcp, trusting},
    tls::Serving,
};

pub(super) type Upstream = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;
type Body = UnsyncBoxBody<Bytes, anyhow::Error>;

/// Longer than the deadlines of our clients.
const UPSTREAM_TIMEOUT: Duration = Duration::from_secs(60);

/// A client of the server behind the proxy. HTTP/1.1, because it keeps the given Host header.
pub(super) fn upstream(authority: &Path) -> Result<Upstream> {
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(trusting(authority)?)
        .https_or_http()
        .enable_http1()
        .wrap_connector(tcp());
    Ok(Client::builder(TokioExecutor::new()).build(connector))
}

pub(super) fn acceptor(serving: &Serving) -> Result<TlsAcceptor> {
    let chain = CertificateDer::pem_file_iter(&serving.certificate)?.collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_file(&serving.key)?;
    let mut tls = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(tls)))
}

/// Serves until it is aborted, which also ends its connections.
pub(super) async fn accept(listener: TcpListener, tls: TlsAcceptor, state: Arc<State>) {
    let mut connections = JoinSet::new();
    while let Ok((tcp, _)) = listener.accept().await {
        let (tls, state) = (tls.clone(), Arc::clone(&state));
        connections.spawn(async move {
            // Disconnecting clients, or ones that do not trust the certificate, are no error.
            let _ = connection(tcp, &tls, state).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(tcp: TcpStream, tls: &TlsAcceptor, state: Arc<State>) -> Result<()> {
    tcp.set_nodelay(true)?;
    let peer = tcp.peer_addr()?.port();
    let stream = tls.accept(tcp).await?;
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2".as_slice());
    // A "cut" ends the connection at once, with all its requests.
    let (cut, mut cuts) = watch::channel(false);
    let cut = Arc::new(cut);
    let service = service_fn(move |request| {
        let (state, cut) = (Arc::clone(&state), Arc::clone(&cut));
        async move {
            match exchange(&state, request, peer).await {
                Some(response) => Ok::<_, Infallible>(response),
                None => {
                    cut.send_replace(true);
                    cut.closed().await;
                    Ok(nothing())
                }
            }
        }
    });
    let io = TokioIo::new(stream);
    let cut = async { cuts.wait_for(|cut| *cut).await.map(drop).context("the connection ended") };
    if is_http2 {
        let http2 = http2::Builder::new(TokioExecutor::new()).serve_connection(io, service);
        tokio::select! { done = http2 => Ok(done?), _ = cut => Ok(()) }
    } else {
        let http1 = http1::Builder::new().serve_connection(io, service);
        tokio::select! { done = http1 => Ok(done?), _ = cut => Ok(()) }
    }
}

/// The response to a request; `None` closes the connection.
async fn exchange(state: &State, request: Request<Incoming>, peer: u16) -> Option<Response<Body>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.ok()?.to_bytes();
    let is_head = head.method == Method::HEAD;
    let path = head.uri.path();
    let seen = Seen {
        kind: Kind::of(path),
        line: format!("{} {path}", head.method),
        payload: payload(&body),
        at: now(),
        faulted: false,
        peer,
    };
    let fault = state.fault_for(seen);
    let request = Request::from_parts(head, body);
    let answered_with = |mut answer: Answer| {
        if is_head {
            answer.body = Bytes::new();
        }
        response(answer)
    };
    match fault {
        None => forward_unchanged(state, request).await,
        Some(Fault::Answer(answer)) => Some(answered_with(answer)),
        Some(Fault::ResetBefore) => None,
        Some(Fault::ResetAfter) => {
            answered(state, request).await?;
            None
        }
        Some(Fault::BreakOff) => Some(truncated_response(answered(state, request).await?)),
        Some(Fault::Delay(time)) => {
            tokio::time::sleep(time).await;
            forward_unchanged(state, request).await
        }
        Some(Fault::Alter(change)) => {
            let mut answer = answered(state, request).await?;
            change(&mut answer);
            Some(answered_with(answer))
        }
    }
}

/// The streamed response of the server, for watches.
async fn forward_unchanged(state: &State, request: Request<Bytes>) -> Option<Response<Body>> {
    let (mut head, body) = forward(state, request).await?.into_parts();
    per_hop(&mut head.headers);
    Some(Response::from_parts(head, body.map_err(anyhow::Error::from).boxed_unsync()))
}

/// The complete response of the server.
async fn answered(state: &State, request: Request<Bytes>) -> Option<Answer> {
    let (head, body) = forward(state, request).await?.into_parts();
    let body = body.collect().await.ok()?.to_bytes();
    Some(Answer { status: head.status, headers: head.headers, body })
}

async fn forward(state: &State, request: Request<Bytes>) -> Option<Response<Incoming>> {
    let (mut head, body) = request.into_parts();
    // HTTP/2 has the host in the URI.
    if let Some(host) = head.uri.authority().and_then(|host| host.as_str().parse().ok()) {
        head.headers.insert(header::HOST, host);
    }
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let uri: Uri = format!("{}{path}", state.upstream).parse().ok()?;
    per_hop(&mut head.headers);
    let mut request = Request::builder().method(head.method).uri(uri).body(Full::new(body)).ok()?;
    *request.headers_mut() = head.headers;
    tokio::time::timeout(UPSTREAM_TIMEOUT, state.client.request(request)).await.ok()?.ok()
}

fn per_hop(headers: &mut HeaderMap) {
    for name in [header::CONNECTION, header::TRANSFER_ENCODING] {
        headers.remove(name);
    }
}

fn response(answer: Answer) -> Response<Body> {
    let body = Full::new(answer.body).map_err(|never: Infallible| match never {});
    finished(answer.status, answer.headers, body.boxed_unsync())
}

/// Half of the body, followed by an error.
fn truncated_response(mut answer: Answer) -> Response<Body> {
    answer.body.truncate(answer.body.len() / 2);
    let half = Ok(Frame::data(answer.body));
    let frames = futures::stream::iter([half, Err(anyhow::anyhow!("it broke off"))]);
    finished(answer.status, answer.headers, StreamBody::new(frames).boxed_unsync())
}

fn finished(status: StatusCode, mut headers: HeaderMap, body: Body) -> Response<Body> {
    per_hop(&mut headers);
    headers.remove(header::CONTENT_LENGTH);
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

fn nothing() -> Response<Body> {
    response(Answer::default())
}

/// The payload of a signed request (RFC 7515). The signature is not verified.
fn payload(body: &[u8]) -> Value {
    let decoded = || {
        let jws: Value = serde_json::from_slice(body).ok()?;
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(jws.get("payload")?.as_str()?).ok()?;
        serde_json::from_slice(&bytes).ok()
    };
    decoded().unwrap_or_default()
}

/// The clock of the machine, which the manager uses.
fn now() -> Timestamp {
    Timestamp::now()
}
