//! Connects through the proxies of [`ProxySettings`]: with CONNECT where the server speaks TLS, and
//! to the proxy itself for plain HTTP, which then sends the absolute form of the URL. Opens sockets
//! only by the connector that it wraps.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use ::http::{Uri, uri::Scheme};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use rustls::ClientConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower_service::Service;

use super::{
    proxy::{Proxy, ProxySettings},
    reach::{Lookup, TcpConnector, host_and_port},
};

/// A connector that takes the way through a proxy where [`ProxySettings`] say so, and the wrapped
/// connector's way where not.
#[derive(Clone, Debug)]
pub struct ProxyConnector<C> {
    settings: Arc<ProxySettings>,
    connector: HttpsConnector<C>,
    direct: C,
    /// Looks a server up before a proxy is asked for it; `None` leaves that to the proxy.
    lookup: Option<Lookup>,
}

/// A connection to a server, perhaps by way of a proxy.
#[derive(Debug)]
pub struct Tunnel<S> {
    stream: MaybeHttpsStream<S>,
    /// The other side is a proxy that wants the absolute form.
    absolute_form: bool,
}

/// Why a proxy did not let us through.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TunnelError {
    /// An answer other than success.
    #[error("proxy {proxy} refuses to connect to {server}: HTTP {status}{hint}")]
    Refused {
        /// The proxy without credentials.
        proxy: String,
        /// Host and port that were asked for.
        server: String,
        /// Its status.
        status: u16,
        /// What to do.
        hint: &'static str,
    },
    /// An answer that is none.
    #[error("proxy {proxy} does not answer CONNECT to {server} as an HTTP proxy")]
    NoProxy {
        /// The proxy without credentials.
        proxy: String,
        /// Host and port that were asked for.
        server: String,
    },
    /// No answer in time.
    #[error("proxy {proxy} does not connect to {server} within {} s", DEADLINE.as_secs())]
    TimedOut {
        /// The proxy without credentials.
        proxy: String,
        /// Host and port that were asked for.
        server: String,
    },
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl<C: Clone> ProxyConnector<C> {
    /// Connects by `connector`, to proxies too. `tls` is for proxies with an https:// URL; it must
    /// name no protocols (ALPN).
    #[must_use]
    pub fn new(settings: Arc<ProxySettings>, connector: C, tls: ClientConfig) -> Self {
        let direct = connector.clone();
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        Self { settings, connector, direct, lookup: None }
    }
}

impl ProxyConnector<TcpConnector> {
    /// Connects to proxies wherever they are, and to servers by `direct`. Where that one checks
    /// addresses, a proxy is asked for an address that was checked and never for a name, so that it
    /// is not the way around the check.
    #[must_use]
    pub(super) fn within(
        settings: Arc<ProxySettings>,
        direct: TcpConnector,
        tls: ClientConfig,
    ) -> Self {
        let lookup = direct.lookup();
        Self { direct, lookup, ..Self::new(settings, TcpConnector::new(None), tls) }
    }
}

impl<C> Service<Uri> for ProxyConnector<C>
where
    C: Service<Uri> + Send,
    C::Response: Connection + Read + Write + Send + Unpin + 'static,
    C::Future: Send + 'static,
    C::Error: Into<BoxError>,
{
    type Response = Tunnel<C::Response>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        // Either may be used; a connector that is not ready says so when it is called.
        match self.direct.poll_ready(cx) {
            Poll::Ready(Ok(())) => self.connector.poll_ready(cx),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
            Poll::Pending => Poll::Pending,
        }
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let Some(proxy) = self.settings.proxy_for(&uri).cloned() else {
            let connecting = self.direct.call(uri);
            return Box::pin(async move {
                let stream = MaybeHttpsStream::Http(connecting.await.map_err(Into::into)?);
                Ok(Tunnel { stream, absolute_form: false })
            });
        };
        let connecting = self.connector.call(proxy.uri().clone());
        let lookup = self.lookup.clone();
        Box::pin(async move { through(&proxy, &uri, lookup, connecting).await })
    }
}

/// Connects to `proxy`, and by CONNECT (RFC 9110 section 9.3.6) to the server of `uri`.
async fn through<S>(
    proxy: &Proxy,
    uri: &Uri,
    lookup: Option<Lookup>,
    connecting: impl Future<Output = Result<MaybeHttpsStream<S>, BoxError>>,
) -> Result<Tunnel<S>, BoxError>
where
    S: Connection + Read + Write + Send + Unpin + 'static,
{
    let (host, port) = host_and_port(uri);
    let server = format!("{host}:{port}");
    let opened = tokio::time::timeout(DEADLINE, async {
        let asked_for = match &lookup {
            Some(lookup) => lookup.first(host, port).await?.to_string(),
            None => server.clone(),
        };
        let stream = connecting.await?;
        if lookup.is_none() && uri.scheme() == Some(&Scheme::HTTP) {
            return Ok(Tunnel { stream, absolute_form: true });
        }
        let mut stream = TokioIo::new(stream);
        ask(&mut stream, proxy, &asked_for).await?;
        Ok(Tunnel { stream: stream.into_inner(), absolute_form: false })
    });
    let late = TunnelError::TimedOut { proxy: proxy.to_string(), server: server.clone() };
    opened.await.unwrap_or_else(|_| Err(late.into()))
}

async fn ask<S>(stream: &mut S, proxy: &Proxy, server: &str) -> Result<(), BoxError>
where
    S: AsyncReadExt + AsyncWriteExt + Unpin,
{
    let mut request = format!("CONNECT {server} HTTP/1.1\r\nHost: {server}\r\n").into_bytes();
    if let Some(value) = proxy.authorization() {
        request.extend_from_slice(b"Proxy-Authorization: ");
        request.extend_from_slice(value.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    stream.write_all(&request).await?;
    stream.flush().await?;

    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    while !is_complete(&head) && head.len() < MAX_HEAD {
        match stream.read(&mut buffer).await? {
            0 => break,
            length => head.extend_from_slice(buffer.get(..length).unwrap_or_default()),
        }
    }
    let proxy = proxy.to_string();
    match status(&head) {
        // The server says nothing before we do, so nothing follows the head.
        Some(200..=299) if head.ends_with(b"\r\n\r\n") => Ok(()),
        None | Some(..200 | 200..=299) => {
            Err(TunnelError::NoProxy { proxy, server: server.to_owned() }.into())
        }
        Some(status) => {
            let hint = match status {
                407 => ", put the right user and password into its URL",
                _ => "",
            };
            Err(TunnelError::Refused { proxy, server: server.to_owned(), status, hint }.into())
        }
    }
}

fn is_complete(head: &[u8]) -> bool {
    head.windows(4).any(|four| four == b"\r\n\r\n")
}

/// The status of an answer that begins with `HTTP/1.1 200 …`.
fn status(head: &[u8]) -> Option<u16> {
    let line = head.split(|byte| *byte == b'\r').next()?;
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    words.next().filter(|version| version.starts_with("HTTP/1."))?;
    words.next().filter(|code| code.len() == 3)?.parse().ok()
}

impl<S: Connection + Read + Write + Unpin> Connection for Tunnel<S> {
    fn connected(&self) -> Connected {
        self.stream.connected().proxy(self.absolute_form)
    }
}

impl<S: Read + Write + Unpin> Read for Tunnel<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: Read + Write + Unpin> Write for Tunnel<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }
}

/// From the first packet to the proxy to its answer: it has to reach the server meanwhile.
const DEADLINE: Duration = Duration::from_secs(15);
/// More than proxies say before the body of an answer.
const MAX_HEAD: usize = 8 * 1024;

#[cfg(test)]
mod tests;
